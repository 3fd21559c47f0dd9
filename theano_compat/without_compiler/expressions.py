"""Elementwise operations without a compiler: on whole arrays, in blocks that stay in the cache.

Theano's Python computes a fused expression number by number.  Here it becomes,
once, a small function in Python that calls NumPy's and lets them put their
results where others are no longer wanted.  That of ``x - (2 * a) * y``, with a
number `a`, is::

    def run(blocks, i1):
        n0 = multiply(c0, i1)
        for i0, i2, o0, r0 in blocks:
            r0 = multiply(n0, i2, out=r0)
            subtract(i0, r0, out=o0)

``formulas.py`` says what each operation computes.
"""

import _signal as signal  # whose functions make no enumerations, at each call, as signal's do
import math
import re
import threading
from functools import lru_cache

import numpy as np

from theano_compat.hooks import around_import, replace
from theano_compat.without_compiler.denormals import flushed_to_zero
from theano_compat.without_compiler.formulas import (
    formula_of, results_of_a_stranger, usual_types)

#: Elements that go through all steps before the next ones: some such blocks fit a cache.
_BLOCK = 2**14
#: Elements below which it does not pay to look for memory that is there already, nor for denormals.
_FEW = 2**12
#: Memory for the results of steps, a block of the widest type each, while nobody uses it.
_spare = []


@around_import("theano.tensor.elemwise")
def compute_elementwise_in_numpy(elemwise):
    """Compute an elementwise operation by NumPy, whole arrays at a time."""
    yield

    @replace(elemwise.Elemwise)
    def prepare_node(self, node, storage_map, compute_map, impl):
        if impl == "c":
            prepare_node.original(self, node, storage_map, compute_map, impl)

    @replace(elemwise.Elemwise)
    def perform(self, node, inputs, output_storage):
        with np.errstate(all="ignore"):
            results = _expression_of(node)(inputs)
        for storage, result in zip(output_storage, results):
            storage[0] = result

    @replace(elemwise.Elemwise)
    def make_py_thunk(self, node, storage_map, compute_map, no_recycling, debug=False):
        expression = _expression_of(node)
        inputs = [storage_map[variable] for variable in node.inputs]
        outputs = [storage_map[variable] for variable in node.outputs]
        computed = [compute_map[variable] for variable in node.outputs]

        def thunk():
            results = expression([storage[0] for storage in inputs])
            for storage, done, result in zip(outputs, computed, results):
                storage[0] = result
                done[0] = True

        thunk.inputs, thunk.outputs, thunk.lazy = inputs, outputs, False
        return thunk


class _Same:
    """A key that is equal to itself alone: some operations are equal that differ."""

    def __init__(self, thing):
        self.thing = thing

    def __hash__(self):
        return id(self.thing)

    def __eq__(self, other):
        return self.thing is other.thing


@around_import("theano.scalar.basic")
def compute_scalars_in_numpy(scalar):
    """Compute an operation on numbers as one on arrays: in the types that Theano says."""
    yield

    @replace(scalar.ScalarOp)
    def perform(self, node, inputs, output_storage):
        expression = _expression(_Same(self), getattr(self, "nfunc_spec", None),
                                 tuple((x.dtype, ()) for x in node.inputs),
                                 tuple(x.dtype for x in node.outputs), ())
        with np.errstate(all="ignore"):
            results = expression([np.asarray(x, of.dtype) for x, of in zip(inputs, node.inputs)])
        for storage, result in zip(output_storage, results):
            storage[0] = result[()]


@around_import("theano.gof.vm")
def use_python_engine(vm):
    """Run by the engine in Python what asks for that in C, which there is only with a compiler."""
    yield
    if hasattr(vm, "CVM"):
        return

    @replace(vm.VM_Linker)
    def make_vm(self, *args, **kwargs):
        self.use_cloop = False
        return make_vm.original(self, *args, **kwargs)


@around_import("theano.gof.vm")
def ignore_float_warnings(vm):
    """Compute without NumPy's warnings of nan and infinity, as C does."""
    yield

    def silent(original_call):
        def __call__(self, *args, **kwargs):
            with np.errstate(all="ignore"):
                return original_call(self, *args, **kwargs)
        return __call__

    for machine in (vm.Loop, vm.LoopGC, vm.Stack):
        machine.__call__ = silent(machine.__call__)


@around_import("theano.compile.function_module")
def finish_interrupted_calls(function_module):
    """Finish a call, with its updates, before a KeyboardInterrupt is raised, as C does.

    In between a shared variable may hold anything: an operation in place has taken its memory.
    """
    yield

    @replace(function_module.Function)
    def __call__(self, *args, **kwargs):
        if not getattr(self.fn, "need_update_inputs", True):  # the engine in C
            return __call__.original(self, *args, **kwargs)
        with _InterruptsLater():
            return __call__.original(self, *args, **kwargs)


class _InterruptsLater:
    """Holds back what Ctrl-C raises, in the main thread; one inside another leaves that to it."""

    def __enter__(self):
        self._handler, self._arguments = None, None
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and not isinstance(getattr(handler, "__self__", None), _InterruptsLater):
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def _note(self, *arguments):
        self._arguments = arguments

    def __exit__(self, *error):
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._arguments:
                self._handler(*self._arguments)


def _expression_of(node):
    return _expression(_Same(node.op.scalar_op), node.op.nfunc_spec,
                       tuple((x.dtype, tuple(x.broadcastable)) for x in node.inputs),
                       tuple(x.dtype for x in node.outputs),
                       tuple(sorted(node.op.inplace_pattern.items())))


@lru_cache(maxsize=1000)
def _expression(same, nfunc_spec, inputs, dtypes, in_place):
    return Expression(same.thing, inputs, dtypes, dict(in_place), nfunc_spec)


class Expression:
    """An elementwise operation on arrays.

    Parameters
    ----------
    scalar_op : theano.scalar.ScalarOp
        What is computed for each element.
    inputs : sequence of (str, tuple of bool)
        The type of each argument, and its dimensions that are broadcast.
    dtypes : sequence of str
        The type of each result.
    in_place : dict of int to int
        The results that take the place of an argument.
    nfunc_spec : tuple of (str, int, int), optional
        Theano's description of a function of NumPy's or SciPy's that computes
        an operation of the user's.
    """

    def __init__(self, scalar_op, inputs, dtypes, in_place, nfunc_spec=None):
        self._patterns = [broadcast for _, broadcast in inputs]
        pattern = tuple(map(all, zip(*self._patterns)))
        self._n_dims = len(pattern)
        self._numbers = [i for i, one in enumerate(self._patterns) if all(one)]
        self._arrays = [i for i, one in enumerate(self._patterns) if not all(one)]
        self._whole = all(self._patterns[i] == pattern for i in self._arrays)
        self._dtypes, self._in_place = [np.dtype(dtype) for dtype in dtypes], in_place
        self._float32 = {d for d in self._dtypes if d.kind in "fc"} == {np.dtype("float32")}
        program = Program(inputs)
        results = program.enter(scalar_op, nfunc_spec, program.inputs, dtypes)
        self._run, self._registers = program.compiled(results, self._dtypes, in_place)
        self._has_steps = len(program.steps) > 1

    def __call__(self, inputs):
        """Compute the results.

        Parameters
        ----------
        inputs : list of numpy.ndarray
            The arguments, of the types that were said.

        Returns
        -------
        list of numpy.ndarray
            Each result: a new array, or the argument whose place it takes.

        Raises
        ------
        ValueError
            If shapes differ in a dimension that is not broadcast.
        """
        shape = self._shape(inputs)
        arrays = [inputs[i] for i in self._arrays]
        n = math.prod(shape)
        fortran = n > 1 and all(a.flags.fnc for a in arrays)
        in_place = self._in_place
        if in_place and not _are_apart(inputs):
            in_place = {k: i for k, i in in_place.items() if not any(
                j != i and np.may_share_memory(inputs[i], x) for j, x in enumerate(inputs))}
        results = [inputs[in_place[k]] if k in in_place
                   else np.empty(shape, dtype, "F" if fortran else "C")
                   for k, dtype in enumerate(self._dtypes)]
        if n:
            numbers = [inputs[i].reshape(()) for i in self._numbers]
            self._compute(arrays + results, numbers, shape, n)
        return results

    def _compute(self, arrays, numbers, shape, n):
        if n < _FEW:
            self._run([(*arrays, *[None] * len(self._registers))], *numbers)
            return
        memory = [_memory_of_a_block() for _ in self._registers]
        blocks = [arrays]
        if n > _BLOCK:
            blocks = self._blocks(arrays, shape, n) if self._has_steps else [arrays]
        with flushed_to_zero(self._float32):
            self._run((block + self._views(memory, block) for block in blocks), *numbers)
        _spare.extend(memory)

    def _views(self, memory, block):
        """Registers for a block; None is for a ufunc to make them."""
        *_, result = block
        if result.size > _BLOCK:
            return [None] * len(memory)
        return [one.view(dtype)[:result.size].reshape(result.shape)
                for one, dtype in zip(memory, self._registers)]

    def _shape(self, inputs):
        if self._whole and self._arrays:
            shape = inputs[self._arrays[0]].shape
            if all(inputs[i].shape == shape for i in self._arrays):
                return shape
        shape = []
        for dim in range(self._n_dims):
            first = None
            for i in self._arrays:
                if self._patterns[i][dim]:
                    continue
                length = inputs[i].shape[dim]
                if first is None:
                    first = i
                elif length != inputs[first].shape[dim]:
                    raise ValueError(
                        f"Input dimension mis-match. (input[{first}].shape[{dim}] = "
                        f"{inputs[first].shape[dim]}, input[{i}].shape[{dim}] = {length})")
            shape.append(1 if first is None else inputs[first].shape[dim])
        return tuple(shape)

    def _blocks(self, arrays, shape, n):
        """Generator of the parts of all arrays that are computed with at once."""
        if self._whole and all(a.flags.c_contiguous for a in arrays):
            arrays, shape = [a.reshape(-1) for a in arrays], (n,)
        elif self._whole and all(a.flags.f_contiguous for a in arrays):
            arrays, shape = [a.T.reshape(-1) for a in arrays], (n,)
        axis = next(dim for dim, length in enumerate(shape) if length > 1)
        step = max(1, _BLOCK * shape[axis] // n)
        before = (slice(None),) * axis
        for start in range(0, shape[axis], step):
            part = (*before, slice(start, start + step))
            yield [a[part] if a.shape[axis] > 1 else a for a in arrays]


def _are_apart(arrays):
    """Whether each array is in memory that has another owner: quickly told, and enough."""
    owners = set()
    for x in arrays:
        while x.base is not None:
            x = x.base
            if type(x) is not np.ndarray:
                return False
        owners.add(id(x))
    return len(owners) == len(arrays)


def _memory_of_a_block():
    try:
        return _spare.pop()
    except IndexError:
        return np.empty(_BLOCK, "complex128")


class _Value:
    """An argument, a constant or what a step computes.

    A constant has the number that was written, too, before it was rounded to the constant's type.
    """

    def __init__(self, dtype, broadcast, name=None, constant=None, written=None):
        self.dtype, self.broadcast = np.dtype(dtype), broadcast
        self.name, self.constant, self.written = name, constant, written

    @property
    def is_number(self):
        return all(self.broadcast)


class _Step:
    """A call of a function, which makes an array, or is a ufunc and can fill another."""

    def __init__(self, function, arguments, options, result):
        self.function, self.arguments = function, arguments
        self.options, self.result = options, result


class Program:
    """Steps that compute an expression; formulas call it `do` and enter theirs.

    Parameters
    ----------
    inputs : sequence of (str, tuple of bool)
        As of `Expression`.
    """

    def __init__(self, inputs):
        self.inputs = [_Value(dtype, broadcast, f"i{i}")
                       for i, (dtype, broadcast) in enumerate(inputs)]
        self.steps = []
        self._n_dims = len(inputs[0][1]) if inputs else 0
        self._constants = {}
        self._known = {}

    def enter(self, scalar_op, nfunc_spec, arguments, dtypes):
        """Enter an operation, or those that it is made of, and return what computes its results.

        Parameters
        ----------
        scalar_op, nfunc_spec
            The operation, as of `Expression`.
        arguments : list of _Value
            Its arguments.
        dtypes : list of str
            The types of its results.
        """
        if not _is_fused(scalar_op):
            formula = formula_of(scalar_op)
            if formula is None:
                return results_of_a_stranger(self, scalar_op, nfunc_spec, dtypes, *arguments)
            dtype, = dtypes
            usual, = usual_types(scalar_op, dtypes, *arguments)
            result = formula(self, scalar_op, usual, *arguments)
            if usual != dtype == "bool" and result.dtype.kind == "f":  # in C a kind of integer
                result = self.cast(result, "int64")
            return [self.cast(result, dtype) if usual != dtype else result]
        values = dict(zip(scalar_op.fgraph.inputs, arguments))

        def value(variable):
            if variable not in values:
                values[variable] = self.literal(variable.data, variable.dtype)
            return values[variable]

        for node in scalar_op.fgraph.toposort():
            inner = [output.dtype for output in node.outputs]
            taken = [value(x) for x in node.inputs]
            if "float64" in inner:  # in C a float32 that is a constant is a double
                taken = [self.constant(x.written, "float64")
                         if x.constant is not None and x.dtype == np.float32 else x for x in taken]
            results = self.enter(node.op, getattr(node.op, "nfunc_spec", None), taken, inner)
            values.update(zip(node.outputs, map(self.cast, results, inner)))
        return [value(variable) for variable in scalar_op.fgraph.outputs]

    def __call__(self, ufunc, *arguments, dtype=None):
        """Enter a call of a ufunc.

        Parameters
        ----------
        ufunc : numpy.ufunc
            The function.
        *arguments : _Value or number
            Its arguments.
        dtype : str or numpy.dtype, optional
            The type in which it computes; that of the arguments by default.
        """
        arguments = [x if isinstance(x, _Value) else self.constant(x, None) for x in arguments]
        if dtype is None:
            dtype = np.result_type(*(x.dtype for x in arguments if x.dtype != object))
        taken, given = _loop(ufunc, np.dtype(dtype))
        arguments = [x if x.constant is None else self.constant(x.written, taken)
                     for x in arguments]
        options = {}
        if any(x.dtype != taken for x in arguments):
            options = {"signature": (taken,) * len(arguments) + (given,), "casting": "unsafe"}
        return self._entered(ufunc, arguments, options, given)

    def call(self, function, *arguments, dtype):
        """Enter a call of a function that makes an array of its own, of this type."""
        return self._entered(function, arguments, {}, dtype)

    def cast(self, value, dtype):
        """Enter a conversion, if need be."""
        if value.dtype == dtype:
            return value
        if value.constant is not None:
            return self.constant(value.written, dtype)
        return self._entered(np.asarray, [value], {"dtype": np.dtype(dtype)}, dtype)

    def constant(self, number, dtype):
        """Return what stands for a constant; a number without a type gets one when it is used."""
        dtype = np.dtype(dtype or object)
        constant = np.asarray(number).astype(dtype)[()]
        key = dtype, repr(number), repr(constant)
        if key not in self._constants:
            self._constants[key] = _Value(dtype, (True,) * self._n_dims,
                                          f"c{len(self._constants)}", constant, number)
        return self._constants[key]

    def literal(self, number, dtype):
        """Return what stands for a constant that Theano writes into its C, by ``str(number)``.

        There an integer has the least type from int32 on, and a float is a double, of which the
        digits are those of a float32.
        """
        kind = np.dtype(dtype).kind
        if kind in "biu":
            number = int(number)
            dtype = next(t for t in ("int32", "int64", "uint64") if number <= np.iinfo(t).max
                         and number > np.iinfo(t).min)
        elif kind == "f":
            number = float(str(number))
        return self.constant(number, dtype)

    def _entered(self, function, arguments, options, dtype):
        key = function, tuple(arguments), np.dtype(dtype), tuple(options)
        if key not in self._known:
            broadcast = tuple(map(all, zip(*(x.broadcast for x in arguments))))
            self._known[key] = _Value(dtype, broadcast)
            self.steps.append(_Step(function, arguments, options, self._known[key]))
        return self._known[key]

    def compiled(self, results, dtypes, in_place):
        """Return a Python function that takes all steps.

        Parameters
        ----------
        results : list of _Value
            What it computes.
        dtypes : list of numpy.dtype
            The types of the arrays for them.
        in_place : dict of int to int
            As of `Expression`.

        Returns
        -------
        callable
            Of tuples with parts of the arrays, of results and of registers, and of the numbers.
        list of numpy.dtype
            The types of the registers.
        """
        if len(results) > 1:  # one may be written over an argument that is another
            results = [self._entered(np.copy, [x], {}, x.dtype) if x in self.inputs else x
                       for x in results]
        return _Writer(self, results, dtypes, in_place).function()


def _is_fused(scalar_op):
    """Whether it computes what its graph says: Theano's Composite, or a class derived from it."""
    return all(getattr(type(scalar_op), method).__qualname__ == f"Composite.{method}"
               for method in ("impl", "perform"))


@lru_cache(maxsize=None)
def _loop(ufunc, dtype):
    """The types that a ufunc takes and gives when it computes in this type, or in a wider one."""
    loops = []
    for types in ufunc.types:
        taken, given = types.split("->")
        if len(set(taken)) == len(given) == 1 and not set(taken) & set("OMm"):
            loops.append((np.dtype(taken[0]), np.dtype(given)))
    exact = [loop for loop in loops if loop[0] == dtype]
    wider = [loop for loop in loops if np.can_cast(dtype, loop[0])]
    if not exact + wider:
        raise TypeError(f"{ufunc.__name__} does not compute in {dtype}")
    return (exact + wider)[0]


class _Writer:
    """Writes a program's steps as a function in Python."""

    def __init__(self, program, results, dtypes, in_place):
        self._program, self._results = program, results
        self._names = {}  # of everything but arrays that the function knows
        self._whole = tuple(map(all, zip(*(x.broadcast for x in program.inputs))))
        self._registers = []  # their types: arrays of the results' shape
        self._free = {}  # names of those whose values are no longer wanted, by type
        self._last_use = {x: i for i, step in enumerate(program.steps) for x in step.arguments}
        self._targets = {}
        for k, value in enumerate(results):
            if (value.dtype == dtypes[k] and value not in self._targets
                    and not self._is_read_later(program.inputs, in_place.get(k), value)):
                self._targets[value] = f"o{k}"

    def _is_read_later(self, inputs, i, value):
        """Whether a result that is written over an argument would be too early."""
        if i is None:
            return False
        computed = next((n for n, step in enumerate(self._program.steps) if step.result is value),
                        -1)
        return self._last_use.get(inputs[i], -1) > computed or inputs[i] in self._results

    def function(self):
        for constant in self._program._constants.values():
            self._names[constant.name] = constant.constant
        numbers, lines = [], []
        for n, step in enumerate(self._program.steps):
            if step.result.is_number:
                step.result.name = f"n{n}"
                numbers.append(f"{step.result.name} = {self._call(step)}")
            else:
                lines.append(self._line(n, step))
        for k, value in enumerate(self._results):
            if value.name != f"o{k}":
                lines.append(f"o{k}[...] = {value.name}")
        inputs = self._program.inputs
        arrays = [x.name for x in inputs if not x.is_number]
        arrays += [f"o{k}" for k in range(len(self._results))]
        arrays += [f"r{k}" for k in range(len(self._registers))]
        arguments = ["blocks", *(x.name for x in inputs if x.is_number)]
        source = "\n".join([f"def run({', '.join(arguments)}):",
                            *(f"    {line}" for line in numbers),
                            f"    for {', '.join(arrays)}, in blocks:",
                            *(f"        {line}" for line in lines)])
        exec(compile(source, "<expression>", "exec"), self._names)
        self._names["run"].source = source
        return self._names["run"], self._registers

    def _line(self, n, step):
        """The line for a step on arrays; it decides where the result goes."""
        for x in {*step.arguments}:
            if self._last_use[x] == n and x not in self._results and x.name.startswith("r"):
                self._free.setdefault(x.dtype, []).append(x.name)
        result = step.result
        if not isinstance(step.function, np.ufunc) or result.broadcast != self._whole:
            result.name = f"t{n}"
            return f"{result.name} = {self._call(step)}"
        if result in self._targets:
            result.name = self._targets[result]
            return self._call(step, result.name)
        free = self._free.setdefault(result.dtype, [])
        if not free:
            free.append(f"r{len(self._registers)}")
            self._registers.append(result.dtype)
        result.name = free.pop()
        return f"{result.name} = {self._call(step, result.name)}"

    def _call(self, step, out=None):
        arguments = [x.name for x in step.arguments]
        for option, value in step.options.items():
            arguments.append(f"{option}={self._named(option, value)}")
        if out:
            arguments.append(f"out={out}")
        return f"{self._named(step.function.__name__, step.function)}({', '.join(arguments)})"

    def _named(self, name, thing):
        """The name in the function's globals of a thing that would like to be called so."""
        name = name if name.isidentifier() else "function"
        while re.fullmatch(r"[a-z]\d+", name) or self._names.setdefault(name, thing) is not thing:
            name += "_"
        return name
