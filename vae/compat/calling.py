"""Calling a compiled function sooner: what Python does around its operations."""

from functools import lru_cache

import numpy as np

from vae.compat.hooks import around_import


@around_import("theano.scalar.basic")
def upcast_once(scalar):
    """Find the type that holds others once; Theano adds arrays of these types, at every call."""
    yield
    find = scalar.upcast

    @lru_cache(maxsize=None)
    def found(floatX, cast_policy, *dtypes):
        return find(*dtypes)

    def upcast(*dtypes):
        if not all(isinstance(dtype, (str, np.dtype)) for dtype in dtypes):
            return find(*dtypes)
        return found(scalar.config.floatX, scalar.config.cast_policy, *dtypes)

    scalar.upcast = upcast


@around_import("theano.compile.function_module")
def inputs_that_own_their_memory(function_module):
    """Compare every two inputs only if they could share memory.

    Theano does so at each call, shared variables included: a thousand pairs
    for the parameters of a small network and its optimiser.
    """
    yield

    def may_be_aliased(self):
        owners = set()
        for container in self.input_storage:
            owner = container.storage[0]
            if isinstance(owner, (np.random.RandomState, np.random.Generator)):
                continue
            while type(owner) is np.ndarray and owner.base is not None:
                owner = owner.base
            if type(owner) is not np.ndarray or not owner.flags.owndata or id(owner) in owners:
                return True  # or cannot be told so easily
            owners.add(id(owner))
        return False

    name = "_check_for_aliased_inputs"
    setattr(function_module.Function, name, property(
        lambda self: bool(self.__dict__.get(name, True)) and may_be_aliased(self),
        lambda self, value: self.__dict__.__setitem__(name, value)))


class _Plan:
    """What there is to do at each call of a function whose inputs are all a caller's or shared.

    Attributes
    ----------
    arguments : list of Container
        For the caller's, which come first.
    results : list of list
        The cells, of one element each, that hold what the function computes.
    """

    def __init__(self, function):
        self.arguments = [container for container in function.input_storage if container.required]
        self.results = [container.storage for container, variable in zip(
            function.output_storage, function.maker.fgraph.outputs) if variable.owner is not None]

    @classmethod
    def of(cls, function):
        """The plan, or None if something is to be done that only Theano's own method does."""
        required = [container.required for container in function.input_storage]
        if (type(function.fn).__name__ == "CVM" and not function.fn.need_update_inputs
                and required == sorted(required, reverse=True) and function.output_keys is None
                and not any(refeed for _, refeed, _ in function.defaults)):
            return cls(function)


@around_import("theano.compile.function_module")
def formalities_once(function_module):
    """Find out once, not at each call, which inputs are a caller's.

    Theano goes five times through all of a function's inputs and outputs, in Python.
    """
    yield
    import time
    from theano.compile import profiling
    from theano.gof.link import raise_with_op
    in_full = function_module.Function.__call__

    def __call__(self, *args, **kwargs):
        plan = self.__dict__.get("_plan", False)
        if plan is False:
            plan = self.__dict__["_plan"] = _Plan.of(self)
        if (plan is None or kwargs or len(args) != len(plan.arguments) or self.trust_input
                or self.profile):
            return in_full(self, *args, **kwargs)
        began = time.time()
        try:
            for container, value in zip(plan.arguments, args):
                container.storage[0] = container.type.filter(
                    value, strict=container.strict, allow_downcast=container.allow_downcast)
            as_usual = not self._check_for_aliased_inputs
        except Exception:
            as_usual = False  # Theano's method tells which of them is wrong
        if not as_usual:
            return in_full(self, *args)
        computing = time.time()
        try:
            results = self.fn()
        except Exception:
            failed = self.fn.position_of_error
            raise_with_op(self.fn.nodes[failed], self.fn.thunks[failed],
                          storage_map=self.fn.storage_map)
        computed = time.time()
        for container in plan.arguments:
            container.storage[0] = None
        if self.fn.allow_gc:
            for cell in plan.results:
                cell[0] = None
        ended = time.time()
        self.maker.mode.fn_time += computed - computing
        self.maker.mode.call_time += ended - began
        profiling.total_fct_exec_time += ended - began
        if self.return_none:
            return None
        if self.unpack_single and self.n_returned_outputs == 1:
            return results[0]
        return results[:self.n_returned_outputs]

    function_module.Function.__call__ = __call__
