"""Calling a compiled function sooner: what Python does around its operations."""

from functools import lru_cache

import numpy as np

from vae.compat.hooks import Speed, around_import


@around_import("theano.scalar.basic", speed=Speed(
    acts_on="dtypes by name or of NumPy's; floatX and cast_policy as they are at the call",
    brings="",
    edge="tests/test_compat.py::test_types_follow_the_settings"))
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


@around_import("theano.compile.function_module", speed=Speed(
    acts_on="arguments that are NumPy's arrays, or views of them, each with memory of its own",
    brings="",
    edge="tests/test_compat.py::test_inputs_that_share_memory"))
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
