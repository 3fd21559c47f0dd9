"""Elementwise operations without a compiler: on whole arrays, in blocks that fit into the cache.

Theano's Python code computes a fused expression number by number. Here, each
expression is compiled once to a small Python function, which calls NumPy's
ufuncs and reuses the memory of intermediate results. For ``x - (2 * a) * y``,
with arrays `x` and `y` and a number `a`, this function is::

    def run(blocks, i1):
        n0 = multiply(c1, i1)
        for i0, i2, o0, r0, in blocks:
            r0 = multiply(n0, i2, out=r0)
            subtract(i0, r0, out=o0)

``formulas.py`` defines the formula of each operation.
"""

import _signal as signal  # unlike `signal`, it returns no enumerations, which take time
import math
import re
import threading
from collections import defaultdict
from functools import lru_cache

import numpy as np

from theano_compat.hooks import around_import, replace
from theano_compat.without_compiler.denormals import flushed_to_zero
from theano_compat.without_compiler.formulas import (
    default_dtypes, formula_of, results_of_unknown_op)

#: Number of elements in a block. All steps are computed for a block before the next block. Several
#: blocks fit into the cache.
_BLOCK_SIZE = 2**14
#: Smaller arrays do not benefit from reused registers or from flushing denormals.
_SMALL_SIZE = 2**12
#: Memory of unused registers. Each has the size of a block of the widest dtype.
_spare = []


@around_import("theano.tensor.elemwise")
def compute_elementwise_in_numpy(elemwise):
    """Compute an elementwise operation with NumPy on whole arrays.

    Theano's Python code calls a Python function for each element if the operation is fused or has
    no ufunc.
    """
    yield

    @replace(elemwise.Elemwise)
    def prepare_node(self, node, storage_map, compute_map, impl):
        if impl == "c":
            prepare_node.original(self, node, storage_map, compute_map, impl)

    @replace(elemwise.Elemwise)
    def perform(self, node, inputs, output_storage):
        with np.errstate(all="ignore"):
            results = _expression_of_node(node)(inputs)
        for storage, result in zip(output_storage, results):
            storage[0] = result

    @replace(elemwise.Elemwise)
    def make_py_thunk(self, node, storage_map, compute_map, no_recycling, debug=False):
        expression = _expression_of_node(node)
        inputs = [storage_map[variable] for variable in node.inputs]
        outputs = [storage_map[variable] for variable in node.outputs]
        computed = [compute_map[variable] for variable in node.outputs]

        def thunk():
            results = expression([storage[0] for storage in inputs])
            for storage, is_computed, result in zip(outputs, computed, results):
                storage[0] = result
                is_computed[0] = True

        thunk.inputs, thunk.outputs, thunk.lazy = inputs, outputs, False
        return thunk


@around_import("theano.scalar.basic")
def compute_scalars_in_numpy(scalar):
    """Compute a scalar operation in the same way as an operation on arrays, in Theano's dtypes.

    Theano's Python code passes the dtype to ufuncs by an argument that today's NumPy refuses.
    """
    yield

    @replace(scalar.ScalarOp)
    def perform(self, node, inputs, output_storage):
        expression = _expression(_IdentityKey(self), getattr(self, "nfunc_spec", None),
                                 tuple((x.dtype, ()) for x in node.inputs),
                                 tuple(x.dtype for x in node.outputs), ())
        arrays = [np.asarray(x, variable.dtype) for x, variable in zip(inputs, node.inputs)]
        with np.errstate(all="ignore"):
            results = expression(arrays)
        for storage, result in zip(output_storage, results):
            storage[0] = result[()]


@around_import("theano.gof.vm")
def use_python_engine(vm):
    """Use Theano's Python engine if the C engine, which needs a compiler, is missing.

    Otherwise a function that requests the C engine, such as a pickled function, fails with a
    NameError.
    """
    yield
    if hasattr(vm, "CVM"):
        return

    @replace(vm.VM_Linker)
    def make_vm(self, *args, **kwargs):
        self.use_cloop = False
        return make_vm.original(self, *args, **kwargs)


@around_import("theano.gof.vm")
def ignore_float_warnings(vm):
    """Suppress NumPy's warnings about NaN and infinity while a function runs, as in C code."""
    yield

    def silent(original_call):
        def __call__(self, *args, **kwargs):
            with np.errstate(all="ignore"):
                return original_call(self, *args, **kwargs)
        return __call__

    for engine in (vm.Loop, vm.LoopGC, vm.Stack):
        engine.__call__ = silent(engine.__call__)


@around_import("theano.compile.function_module")
def finish_interrupted_calls(function_module):
    """Finish a call and its updates before a KeyboardInterrupt is raised, as in C code.

    Otherwise a shared variable could have an arbitrary value, because an operation may already have
    overwritten its memory.
    """
    yield

    @replace(function_module.Function)
    def __call__(self, *args, **kwargs):
        if not getattr(self.fn, "need_update_inputs", True):  # `fn` is the C engine
            return __call__.original(self, *args, **kwargs)
        with DelayedInterrupts():
            return __call__.original(self, *args, **kwargs)


class DelayedInterrupts:
    """A context manager that delays the handler of Ctrl-C in the main thread until its end.

    If such context managers are nested, only the outermost one has an effect.
    """

    def __enter__(self):
        self._handler, self._arguments = None, None
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        is_nested = isinstance(getattr(handler, "__self__", None), DelayedInterrupts)
        if callable(handler) and not is_nested:
            self._handler = handler
            signal.signal(signal.SIGINT, self._note)

    def _note(self, *arguments):
        self._arguments = arguments

    def __exit__(self, *error):
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._arguments:
                self._handler(*self._arguments)


class _IdentityKey:
    """A key that compares objects by identity, because equal operations may have other results."""

    def __init__(self, thing):
        self.thing = thing

    def __hash__(self):
        return id(self.thing)

    def __eq__(self, other):
        return self.thing is other.thing


def _expression_of_node(node):
    return _expression(_IdentityKey(node.op.scalar_op), node.op.nfunc_spec,
                       tuple((x.dtype, tuple(x.broadcastable)) for x in node.inputs),
                       tuple(x.dtype for x in node.outputs),
                       tuple(sorted(node.op.inplace_pattern.items())))


@lru_cache(maxsize=1000)
def _expression(op_key, nfunc_spec, inputs, dtypes, in_place):
    return Expression(op_key.thing, inputs, dtypes, dict(in_place), nfunc_spec)


class Expression:
    """An elementwise operation on arrays, compiled to a Python function.

    An argument that is broadcast in all dimensions is called a number.

    Parameters
    ----------
    scalar_op : theano.scalar.ScalarOp
        The operation for each element.
    inputs : sequence of (str, tuple of bool)
        The dtype of each argument, and for each dimension whether the argument is broadcast.
    dtypes : sequence of str
        The dtype of each result.
    in_place : dict of int to int
        Maps the index of a result to the index of the argument with the memory that it overwrites.
    nfunc_spec : tuple of (str, int, int), optional
        For an operation outside Theano: the name of a function of NumPy or SciPy that computes it,
        and the numbers of its arguments and results.
    """

    def __init__(self, scalar_op, inputs, dtypes, in_place, nfunc_spec=None):
        self._patterns = [pattern for _, pattern in inputs]
        result_pattern = tuple(map(all, zip(*self._patterns)))
        self._n_dims = len(result_pattern)
        self._numbers = [i for i, pattern in enumerate(self._patterns) if all(pattern)]
        self._arrays = [i for i, pattern in enumerate(self._patterns) if not all(pattern)]
        self._have_equal_shapes = all(self._patterns[i] == result_pattern for i in self._arrays)
        self._dtypes, self._in_place = [np.dtype(dtype) for dtype in dtypes], in_place
        float_dtypes = {dtype for dtype in self._dtypes if dtype.kind in "fc"}
        self._flushes_denormals = float_dtypes == {np.dtype("float32")}
        program = Program(inputs)
        results = program.enter(scalar_op, nfunc_spec, program.inputs, dtypes)
        self._run, self._run_small, self._register_dtypes = program.compiled(
            results, self._dtypes, in_place)
        self._has_several_steps = len(program.steps) > 1

    def __call__(self, inputs):
        """Compute the results.

        Parameters
        ----------
        inputs : list of numpy.ndarray
            The arguments, with the dtypes for which the expression was made.

        Returns
        -------
        list of numpy.ndarray
            The results. Each is a new array, or the argument that it overwrites.

        Raises
        ------
        ValueError
            If the lengths of arguments differ in a dimension that is not broadcast.
        """
        results = self._run_small(*inputs)
        if results is not None:
            return results
        shape = self._shape_of_results(inputs)
        arrays = [inputs[i] for i in self._arrays]
        size = math.prod(shape)
        order = "F" if size > 1 and all(a.flags.fnc for a in arrays) else "C"
        in_place = self._in_place
        if in_place and not _have_separate_memory(inputs):
            in_place = {k: i for k, i in in_place.items() if not any(
                j != i and np.may_share_memory(inputs[i], x) for j, x in enumerate(inputs))}
        results = [inputs[in_place[k]] if k in in_place else np.empty(shape, dtype, order)
                   for k, dtype in enumerate(self._dtypes)]
        if size:
            numbers = [inputs[i].reshape(()) for i in self._numbers]
            self._compute(arrays + results, numbers, shape, size)
        return results

    def _compute(self, arrays, numbers, shape, size):
        """Compute the results, which are the last arrays in the list."""
        memory = [_memory_of_a_register() for _ in self._register_dtypes]
        blocks = [arrays]
        if size > _BLOCK_SIZE and self._has_several_steps:
            blocks = self._blocks(arrays, shape, size)
        with flushed_to_zero(self._flushes_denormals and size >= _SMALL_SIZE):
            self._run((block + self._registers(memory, block) for block in blocks), *numbers)
        _spare.extend(memory)

    def _registers(self, memory, block):
        """Return arrays with the shape of a block, or Nones, which let ufuncs make new arrays."""
        result = block[-1]
        if result.size > _BLOCK_SIZE:
            return [None] * len(memory)
        registers = []
        for block_memory, dtype in zip(memory, self._register_dtypes):
            elements = block_memory.view(dtype)[:result.size]
            registers.append(elements.reshape(result.shape))
        return registers

    def _shape_of_results(self, inputs):
        if self._have_equal_shapes and self._arrays:
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

    def _blocks(self, arrays, shape, size):
        """Yield blocks along the first dimension that is longer than 1.

        A block is a list with a part of each array.
        """
        if self._have_equal_shapes and all(a.flags.c_contiguous for a in arrays):
            arrays, shape = [a.reshape(-1) for a in arrays], (size,)
        elif self._have_equal_shapes and all(a.flags.f_contiguous for a in arrays):
            arrays, shape = [a.T.reshape(-1) for a in arrays], (size,)
        axis = next(dim for dim, length in enumerate(shape) if length > 1)
        step = max(1, _BLOCK_SIZE * shape[axis] // size)
        before = (slice(None),) * axis
        for start in range(0, shape[axis], step):
            part = (*before, slice(start, start + step))
            yield [a[part] if a.shape[axis] > 1 else a for a in arrays]


def _have_separate_memory(arrays):
    """Return whether all arrays are known to have separate memory; False if this is uncertain."""
    owners = {id(x if x.base is None else _owner(x)) for x in arrays}
    return len(owners) == len(arrays) and id(None) not in owners


def _owner(x):
    """Return the array that owns the memory of an array, or None if no array owns it."""
    while x.base is not None:
        x = x.base
        if type(x) is not np.ndarray:
            return None
    return x


def _memory_of_a_register():
    try:
        return _spare.pop()
    except IndexError:
        return np.empty(_BLOCK_SIZE, "complex128")


class _Value:
    """An argument, a constant or the result of a step.

    Attributes
    ----------
    dtype : numpy.dtype
    broadcast : tuple of bool
        For each dimension, whether the value is broadcast.
    name : str or None
        The name in the generated function. The result of a step gets its name when the code is
        generated.
    constant : numpy scalar or None
        The value of a constant.
    unrounded : number or None
        The value of a constant before it was rounded to its dtype.
    """

    def __init__(self, dtype, broadcast, name=None, constant=None, unrounded=None):
        self.dtype, self.broadcast = np.dtype(dtype), broadcast
        self.name, self.constant, self.unrounded = name, constant, unrounded

    @property
    def is_number(self):
        return all(self.broadcast)


class _Step:
    """A call of a function: a ufunc, which can fill a given array, or another function."""

    def __init__(self, function, arguments, options, result):
        self.function, self.arguments = function, arguments
        self.options, self.result = options, result


class Program:
    """Straight-line code for an expression. It consists of steps, each of which computes a value.

    Formulas receive the program as their argument `do`, and add steps to it. If a step equals an
    earlier step, it is not added, and the value of the earlier step is used again.

    Parameters
    ----------
    inputs : sequence of (str, tuple of bool)
        See `Expression`.

    Attributes
    ----------
    inputs : list of _Value
        The arguments.
    steps : list of _Step
    constants : dict
        All constants. The keys contain their dtypes and texts.
    """

    def __init__(self, inputs):
        self.inputs = [_Value(dtype, broadcast, f"i{i}")
                       for i, (dtype, broadcast) in enumerate(inputs)]
        self.steps = []
        self.constants = {}
        self._n_dims = len(inputs[0][1]) if inputs else 0
        self._value_of_step = {}

    def enter(self, scalar_op, nfunc_spec, arguments, dtypes):
        """Add the steps of an operation, or of all operations in a fused operation.

        Parameters
        ----------
        scalar_op, nfunc_spec
            The operation: see `Expression`.
        arguments : list of _Value
            Arguments of the operation.
        dtypes : list of str
            The dtypes of the results.

        Returns
        -------
        list of _Value
            The results.
        """
        if _is_fused(scalar_op):
            return self._enter_fused(scalar_op, arguments)
        formula = formula_of(scalar_op)
        if formula is None:
            return results_of_unknown_op(self, scalar_op, nfunc_spec, dtypes, *arguments)
        dtype, = dtypes
        dtype_in_c, = default_dtypes(scalar_op, dtypes, *arguments)
        result = formula(self, scalar_op, dtype_in_c, *arguments)
        if dtype_in_c != dtype == "bool" and result.dtype.kind == "f":  # C's bool is an integer
            result = self.cast(result, "int64")
        return [self.cast(result, dtype) if dtype_in_c != dtype else result]

    def _enter_fused(self, scalar_op, arguments):
        values = dict(zip(scalar_op.fgraph.inputs, arguments))

        def value_of(variable):
            if variable not in values:
                values[variable] = self.literal(variable.data, variable.dtype)
            return values[variable]

        for node in scalar_op.fgraph.toposort():
            dtypes = [output.dtype for output in node.outputs]
            node_arguments = [value_of(x) for x in node.inputs]
            if "float64" in dtypes:  # in C code, a float32 constant is a double
                node_arguments = [
                    self.constant(x.unrounded, "float64")
                    if x.constant is not None and x.dtype == np.float32 else x
                    for x in node_arguments]
            results = self.enter(node.op, getattr(node.op, "nfunc_spec", None), node_arguments,
                                 dtypes)
            values.update(zip(node.outputs, map(self.cast, results, dtypes)))
        return [value_of(variable) for variable in scalar_op.fgraph.outputs]

    def __call__(self, ufunc, *arguments, dtype=None):
        """Add a call of a ufunc.

        Parameters
        ----------
        ufunc : numpy.ufunc
        *arguments : _Value or number
        dtype : str or numpy.dtype, optional
            The dtype of the computation; by default, the common dtype of the arguments.

        Returns
        -------
        _Value
        """
        arguments = [x if isinstance(x, _Value) else self.constant(x, None) for x in arguments]
        if dtype is None:
            dtype = np.result_type(*(x.dtype for x in arguments if x.dtype != object))
        input_dtype, output_dtype = _loop(ufunc, np.dtype(dtype))
        arguments = [x if x.constant is None else self.constant(x.unrounded, input_dtype)
                     for x in arguments]
        options = {}
        if any(x.dtype != input_dtype for x in arguments):
            signature = (input_dtype,) * len(arguments) + (output_dtype,)
            options = {"signature": signature, "casting": "unsafe"}
        return self._result_of_step(ufunc, arguments, options, output_dtype)

    def call(self, function, *arguments, dtype):
        """Add a call of a function that makes a new array of this dtype; return its `_Value`."""
        return self._result_of_step(function, arguments, {}, dtype)

    def cast(self, value, dtype):
        """Return a `_Value` converted to a dtype. If necessary, add a step for the conversion."""
        if value.dtype == dtype:
            return value
        if value.constant is not None:
            return self.constant(value.unrounded, dtype)
        return self._result_of_step(np.asarray, [value], {"dtype": np.dtype(dtype)}, dtype)

    def constant(self, number, dtype):
        """Return the `_Value` of a constant. If `dtype` is None, the step that uses it decides."""
        dtype = np.dtype(dtype or object)
        constant = np.asarray(number).astype(dtype)[()]
        key = dtype, repr(number), repr(constant)
        if key not in self.constants:
            self.constants[key] = _Value(dtype, (True,) * self._n_dims,
                                         f"c{len(self.constants)}", constant, number)
        return self.constants[key]

    def literal(self, number, dtype):
        """Return the `_Value` of a constant that Theano writes into its C code by ``str(number)``.

        In C, the type of an integer literal is the smallest of int32, int64 and uint64 that can
        represent it. A float literal is a double with the digits of the text, even if these are the
        digits of a float32.
        """
        kind = np.dtype(dtype).kind
        if kind in "biu":
            number = int(number)
            dtype = next(t for t in ("int32", "int64", "uint64") if number <= np.iinfo(t).max
                         and number > np.iinfo(t).min)
        elif kind == "f":
            number = float(str(number))
        return self.constant(number, dtype)

    def _result_of_step(self, function, arguments, options, dtype):
        key = function, tuple(arguments), np.dtype(dtype), tuple(options)
        if key not in self._value_of_step:
            broadcast = tuple(map(all, zip(*(x.broadcast for x in arguments))))
            self._value_of_step[key] = _Value(dtype, broadcast)
            self.steps.append(_Step(function, arguments, options, self._value_of_step[key]))
        return self._value_of_step[key]

    def compiled(self, results, dtypes, in_place):
        """Return a Python function that runs all steps.

        Parameters
        ----------
        results : list of _Value
            The results of the function.
        dtypes : list of numpy.dtype
            The dtypes of the arrays for the results.
        in_place : dict of int to int
            See `Expression`.

        Returns
        -------
        run : callable
            Its first argument is an iterable of blocks: sequences with the parts of array arguments
            and of results, and with registers. The following arguments are the numbers.
        run_small : callable
            Does all that an expression does with its arguments if they are small. It returns the
            results, or None if `run` must compute them, or if the shapes do not match.
        register_dtypes : list of numpy.dtype
            The dtypes of the registers.
        """
        if len(results) > 1:  # a result may overwrite an argument that is also a result
            results = [self._result_of_step(np.copy, [x], {}, x.dtype) if x in self.inputs else x
                       for x in results]
        return _CodeGenerator(self, results, dtypes, in_place).functions()


def _is_fused(scalar_op):
    """Return whether an operation is a Composite, or a derived class that computes its graph."""
    return all(getattr(type(scalar_op), method).__qualname__ == f"Composite.{method}"
               for method in ("impl", "perform"))


@lru_cache(maxsize=None)
def _loop(ufunc, dtype):
    """Return the dtypes of the arguments and of the result with which a ufunc computes.

    If the ufunc has no loop for `dtype`, its first loop for a wider dtype is used.
    """
    loops = []
    for types in ufunc.types:
        inputs, output = types.split("->")
        if len(set(inputs)) == len(output) == 1 and not set(inputs) & set("OMm"):
            loops.append((np.dtype(inputs[0]), np.dtype(output)))
    exact = [loop for loop in loops if loop[0] == dtype]
    wider = [loop for loop in loops if np.can_cast(dtype, loop[0])]
    if not exact + wider:
        raise TypeError(f"{ufunc.__name__} does not compute in {dtype}")
    return (exact + wider)[0]


class _CodeGenerator:
    """Generates a Python function for a program, and allocates memory for its values.

    A value that is a number is computed once, before the loop over blocks. If a ufunc computes a
    value, and the value has the shape of the results, it is stored in one of these places:

    - A value that is a result is stored in the array of the result (`o0`, ...), unless this array
      overwrites an argument that a later step still reads.
    - Other values are stored in registers (`r0`, ...), which are memory for one block. A liveness
      analysis frees registers: a value is dead after its last use as an argument, and its register
      is then available for the next value of the same dtype. It is already available for the result
      of the same step, because a ufunc may overwrite its argument.

    All other values are new arrays (`t0`, ..., with the number of the step).

    For ``exp(2 * a * x) + sin(y) / x``, with arrays `x` and `y`, a number `a`, and a result that
    overwrites `y`, the function is::

        def run(blocks, i2):
            n2 = multiply(c1, i2)
            for i0, i1, o0, r0, r1, in blocks:
                r0 = sin(i1, out=r0)
                r0 = divide(r0, i0, out=r0)
                r1 = multiply(n2, i0, out=r1)
                r1 = exp(r1, out=r1)
                add(r1, r0, out=o0)

    A register may be None. Then the ufunc makes a new array for ``out=r0``, and the name `r0`
    refers to this array from then on.

    A second function is for small arrays, where looking at the arguments takes longer than
    computing. It does everything with the same statements::

        def run_small(i0, i1, i2):
            shape = i0.shape
            if i1.shape != shape or not 0 < prod(shape) < 4096:
                return None
            if not _have_separate_memory([i0, i1, i2]):
                return None
            o0 = i1
            i2 = i2.reshape(())
            r0 = r1 = None
            n2 = multiply(c1, i2)
            ...
            return [o0]
    """

    def __init__(self, program, results, dtypes, in_place):
        self._program, self._results = program, results
        self._dtypes, self._in_place = dtypes, in_place
        self._globals = {}
        self._result_pattern = tuple(map(all, zip(*(x.broadcast for x in program.inputs))))
        self._register_dtypes = []
        self._free_registers = defaultdict(list)  # maps dtypes to names
        self._last_use = {value: number for number, step in enumerate(program.steps)
                          for value in step.arguments}
        self._output_names = {}
        for k, value in enumerate(results):
            has_dtype_of_output = value.dtype == dtypes[k]
            if (has_dtype_of_output and value not in self._output_names
                    and not self._is_live_after(in_place.get(k), value)):
                self._output_names[value] = f"o{k}"

    def _is_live_after(self, i, value):
        """Return whether argument `i` is read after a value has been computed. `i` may be None."""
        if i is None:
            return False
        computed_by = next((number for number, step in enumerate(self._program.steps)
                            if step.result is value), -1)
        argument = self._program.inputs[i]
        return self._last_use.get(argument, -1) > computed_by or argument in self._results

    def functions(self):
        """Return the two functions, and the dtypes of the registers."""
        for constant in self._program.constants.values():
            self._globals[constant.name] = constant.constant
        before_loop, in_loop = [], []
        for number, step in enumerate(self._program.steps):
            if step.result.is_number:
                step.result.name = f"n{number}"
                before_loop.append(f"{step.result.name} = {self._call(step)}")
            else:
                in_loop.append(self._statement(number, step))
        for k, value in enumerate(self._results):
            if value.name != f"o{k}":
                in_loop.append(f"o{k}[...] = {value.name}")
        inputs = self._program.inputs
        outputs = [f"o{k}" for k in range(len(self._results))]
        registers = [f"r{k}" for k in range(len(self._register_dtypes))]
        parameters = ["blocks", *(x.name for x in inputs if x.is_number)]
        parts = [*(x.name for x in inputs if not x.is_number), *outputs, *registers]
        run = self._function(
            "run", parameters, [*before_loop, f"for {', '.join(parts)}, in blocks:",
                                *(f"    {line}" for line in in_loop)])
        run_small = self._function("run_small", [x.name for x in inputs], [
            *self._preparation(),
            *([f"{' = '.join(registers)} = None"] if registers else []),
            *before_loop, *in_loop, f"return [{', '.join(outputs)}]"])
        return run, run_small, self._register_dtypes

    def _function(self, name, parameters, statements):
        source = "\n".join([f"def {name}({', '.join(parameters)}):",
                            *(f"    {line}" for line in statements)])
        exec(compile(source, "<expression>", "exec"), self._globals)
        function = self._globals.pop(name)
        function.source = source
        return function

    def _preparation(self):
        """Return the statements of the second function that look at its arguments."""
        inputs, pattern = self._program.inputs, self._result_pattern
        arrays = [x for x in inputs if not x.is_number]
        first_with_length = [next((x for x in arrays if not x.broadcast[dim]), None)
                             for dim in range(len(pattern))]
        whole = next((x for x in arrays if x.broadcast == pattern), None)
        refusals = []
        for x in arrays:
            if whole and x.broadcast == pattern:
                refusals += [f"{x.name}.shape != shape"] if x is not whole else []
            else:
                refusals += [f"{x.name}.shape[{dim}] != shape[{dim}]"
                             for dim, first in enumerate(first_with_length)
                             if not x.broadcast[dim] and x is not first]
        prod = self._global_name("prod", math.prod)
        refusals.append(f"not 0 < {prod}(shape) < {_SMALL_SIZE}")
        if len(pattern) > 1 and arrays and len(self._in_place) < len(self._results):
            refusals.append(f"{arrays[0].name}.flags.fnc")
        lengths = [f"{first.name}.shape[{dim}], " if first else "1, "
                   for dim, first in enumerate(first_with_length)]
        statements = [f"shape = {whole.name}.shape" if whole else f"shape = ({''.join(lengths)})",
                      f"if {' or '.join(refusals)}:", "    return None"]
        if self._in_place:
            are_separate = self._global_name("_have_separate_memory", _have_separate_memory)
            statements += [f"if not {are_separate}([{', '.join(x.name for x in inputs)}]):",
                           "    return None"]
        for k, dtype in enumerate(self._dtypes):
            if k in self._in_place:
                statements.append(f"o{k} = i{self._in_place[k]}")
            else:
                empty = self._global_name("empty", np.empty)
                statements.append(f"o{k} = {empty}(shape, {self._global_name('dtype', dtype)})")
        if pattern:
            statements += [f"{x.name} = {x.name}.reshape(())" for x in inputs if x.is_number]
        return statements

    def _statement(self, number, step):
        """Allocate memory for the value of a step on arrays, and return the step's statement."""
        self._free_dead_registers(number, step)
        value = step.result
        if not isinstance(step.function, np.ufunc) or value.broadcast != self._result_pattern:
            value.name = f"t{number}"
            return f"{value.name} = {self._call(step)}"
        if value in self._output_names:
            value.name = self._output_names[value]
            return self._call(step, out=value.name)
        value.name = self._allocate_register(value.dtype)
        return f"{value.name} = {self._call(step, out=value.name)}"

    def _free_dead_registers(self, number, step):
        """Free the registers of arguments that no later step uses."""
        for x in dict.fromkeys(step.arguments):
            is_dead = self._last_use[x] == number and x not in self._results
            if is_dead and x.name.startswith("r"):
                self._free_registers[x.dtype].append(x.name)

    def _allocate_register(self, dtype):
        """Return the name of a free register, or of a new register if none is free."""
        if self._free_registers[dtype]:
            return self._free_registers[dtype].pop()
        self._register_dtypes.append(dtype)
        return f"r{len(self._register_dtypes) - 1}"

    def _call(self, step, out=None):
        """Return the source of a step's call. If `out` is given, the call fills the array `out`."""
        arguments = [x.name for x in step.arguments]
        for option, value in step.options.items():
            arguments.append(f"{option}={self._global_name(option, value)}")
        if out:
            arguments.append(f"out={out}")
        function = self._global_name(step.function.__name__, step.function)
        return f"{function}({', '.join(arguments)})"

    def _global_name(self, name, value):
        """Return a name for a value in the function's globals: `name`, with "_" if it is taken."""
        name = name if name.isidentifier() else "function"
        while re.fullmatch(r"[a-z]\d+", name) or self._globals.setdefault(name, value) is not value:
            name += "_"
        return name
