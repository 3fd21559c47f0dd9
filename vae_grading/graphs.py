"""Theano's graphs as data: text in which operations are names from one table.

A graph comes from a process that a student's code has run in, so nothing in its text may become
code.  `dump_graph` writes which operations there are, in what order, and their parameters;
`load_graph` builds them anew with the constructors of the `_OPERATIONS` here, after each parameter
has been checked.  A text holds numbers, arrays, names of operations, and words from lists that stand
here; the names of shared variables are kept for hints, and Theano writes them nowhere.

What the table lacks is refused with a hint that names it.  Equal graphs give equal texts.

The text is bounded before it is parsed: `MAX_TEXT` characters, `MAX_PARTS` brackets, braces, commas
and colons.  What is parsed of it takes less than 500 MB, the graph that is built of that, of at
most `MAX_VARIABLES`, less than 500 MB more, and its arrays at most `MAX_ARRAYS` bytes.
"""

import base64
import json
import math
import re
from dataclasses import dataclass
from typing import Callable

import numpy as np
import theano
import theano.tensor as T
from theano import gradient, ifelse
from theano.compile import ops as compile_ops
from theano.compile.builders import OpFromGraph
from theano.sandbox import multinomial, rng_mrg
from theano.scalar import basic as scalar
from theano.scalar import basic_scipy
from theano.scan_module import scan_op
from theano.tensor import (
    blas,
    elemwise,
    extra_ops,
    fft,
    nlinalg,
    opt,
    raw_random,
    slinalg,
    subtensor,
    type_other,
    xlogx,
)
from theano.tensor.nnet import (
    abstract_conv,
    blocksparse,
    bn,
    conv,
    conv3d2d,
    neighbours,
    nnet,
    sigm,
)
from theano.tensor.signal import pool
from theano.tensor.sort import ArgSortOp, SortOp, TopKOp

from vae.checks import Mistake
from vae.language import _

__all__ = ["dump_graph", "load_graph", "check_size", "MAX_TEXT", "MAX_PARTS", "MAX_ARRAYS",
           "MAX_VARIABLES"]

MAX_TEXT = 64 * 2**20
MAX_PARTS = 2 * 10**6
MAX_ARRAYS = 2**28
MAX_VARIABLES = 100_000

_MAX_DEPTH = 20  # of graphs in graphs, and of lists in lists
_NAME = re.compile(r"[\w .,:()\[\]×→-]{1,100}")
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64", "complex64", "complex128")


class _Refused(Exception):
    """Something that is not in the tables; the text is for the student."""


def check_size(text):
    """Raise ValueError if parsing this JSON could take too much memory."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"Got {len(text)} characters, expected at most {MAX_TEXT}")
    parts = sum(map(text.count, "[{,:"))
    if parts > MAX_PARTS:
        raise ValueError(f"Got {parts} parts, expected at most {MAX_PARTS}")


# --- kinds of parameters: what comes as data to what the constructor takes, or ValueError ---

def _integer(low, high):
    def check(value):
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"Got {str(value)[:50]!r}, expected an integer from {low} to {high}")
        return value
    return check


def _number(value):
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"Got {str(value)[:50]!r}, expected a number")
    return float(value)


def _boolean(value):
    if type(value) not in (bool, int) or value not in (0, 1):
        raise ValueError(f"Got {str(value)[:50]!r}, expected true or false")
    return bool(value)


def _one_of(*choices):
    def check(value):
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise ValueError(f"Got {str(value)[:50]!r}, expected one of {choices}")
    return check


def _any_of(*kinds):
    def check(value):
        for kind in kinds:
            try:
                return kind(value)
            except ValueError:
                pass
        raise ValueError(f"Got {str(value)[:50]!r}, expected something else")
    return check


def _many(kind, at_most=64):
    def check(value):
        if type(value) is not list or len(value) > at_most:
            raise ValueError(f"Got {str(value)[:50]!r}, expected a list of at most {at_most}")
        return tuple(map(kind, value))
    return check


def _pairs(kind, other):
    def check(value):
        return {one: other for one, other in _many(_tuple(kind, other))(value)}
    return check


def _tuple(*kinds):
    def check(value):
        if type(value) is not list or len(value) != len(kinds):
            raise ValueError(f"Got {str(value)[:50]!r}, expected {len(kinds)} values")
        return tuple(kind(one) for kind, one in zip(kinds, value))
    return check


_nothing = _one_of(None)
_small = _integer(-2**31, 2**31 - 1)
_size = _integer(0, 2**31 - 1)
_step = _integer(1, 2**31 - 1)  # C divides by it
_axis = _integer(-64, 64)
_axes = _any_of(_nothing, _axis, _many(_axis))
_ndim = _integer(0, 32)
_dtype = _one_of(*_DTYPES)
_any_dtype = _any_of(_nothing, _dtype)
_shape = _any_of(_nothing, _many(_any_of(_nothing, _size)))
_border = _any_of(_one_of("valid", "full", "half"), _size,
                  _many(_any_of(_size, _many(_size, 2)), 3))


def _tensor_type(text):
    match = re.fullmatch(r"(\w+)\(([01]{0,32})\)", text) if type(text) is str else None
    if match is None:
        raise ValueError(f"Got {str(text)[:50]!r}, expected a type")
    return T.TensorType(_dtype(match[1]), [letter == "1" for letter in match[2]])


def _scalar_type(text):
    if type(text) is not str or not text.startswith("scalar "):
        raise ValueError(f"Got {str(text)[:50]!r}, expected a type")
    return scalar.get_scalar_type(_dtype(text[len("scalar "):]))


_OTHER_TYPES = {"random state": raw_random.random_state_type, "none": type_other.NoneTypeT(),
                "slice": type_other.slicetype}


def _type(text):
    if type(text) is str and text in _OTHER_TYPES:
        return _OTHER_TYPES[text]
    return _any_of(_tensor_type, _scalar_type)(text)


def _text_of_type(type_):
    if type(type_) is T.TensorType:
        return f"{type_.dtype}({''.join(str(int(one)) for one in type_.broadcastable)})"
    if type(type_) is scalar.Scalar:
        return f"scalar {type_.dtype}"
    for text, other in _OTHER_TYPES.items():
        if type(type_) is type(other):
            return text
    raise _Refused(_("граф содержит переменную типа {type}, а её не передать").format(type=type_))


_index = _any_of(
    _nothing, _small, _scalar_type,
    lambda value: slice(*_tuple(*[_any_of(_nothing, _small, _scalar_type)] * 3)(value)))


def _left_out(value):
    """Whether it may overwrite its inputs: the value is the same if it does not."""
    _boolean(value)
    return False


# --- the tables ---

#: Operations on numbers that have no parameters.
_SCALARS = {
    name: value for module in [scalar, basic_scipy, sigm, xlogx, nnet]
    for name, value in sorted(vars(module).items()) if isinstance(value, scalar.ScalarOp)
    and not isinstance(value, (scalar.Cast, scalar.InRange, scalar.Composite))}
_SCALARS.update({"xlogx": xlogx.xlogx.scalar_op, "xlogy0": xlogx.xlogy0.scalar_op})

#: Their classes, by name, with a parameter's kind each.
_SCALARS_WITH_PARAMETERS = {
    scalar.Cast: {"o_type": _scalar_type},
    scalar.InRange: {"openlow": _boolean, "openhi": _boolean},
    bn.BNComposite: {"dtype": _dtype},
}
_SCALAR_CLASSES = {cls.__name__: cls for cls in _SCALARS_WITH_PARAMETERS}


def _scalar(value):
    if type(value) is str and value in _SCALARS:
        return _SCALARS[value]
    if type(value) is list and len(value) == 2 and type(value[0]) is str:
        cls = _SCALAR_CLASSES.get(value[0])
        if cls is not None:
            return cls(**_checked(_SCALARS_WITH_PARAMETERS[cls], value[1]))
    raise ValueError(f"Got {str(value)[:50]!r}, expected an operation on numbers")


def _data_of_scalar(op):
    if type(op) in _SCALARS_WITH_PARAMETERS:
        return [type(op).__name__, _parameters(op, _SCALARS_WITH_PARAMETERS[type(op)])]
    alike = [name for name, one in _SCALARS.items() if type(one) is type(op)]
    same = [name for name in alike if _SCALARS[name] == op] or alike
    if not same:
        raise _Refused(_unknown(type(op).__name__))
    return same[0]


@dataclass(frozen=True)
class _Operation:
    """How one class of operations is written and built."""

    parameters: dict  #: the constructor's arguments: their kinds
    build: Callable  #: (**parameters) -> operation
    read: Callable = None  #: (operation) -> its parameters; by default its attributes


def _unknown(name):
    return _("граф содержит операцию {name}, которой проверка не знает. Нельзя ли обойтись "
              "обычными операциями theano.tensor?").format(name=name)


_CONVOLUTION = {
    "imshp": _shape, "kshp": _shape, "border_mode": _border, "subsample": _many(_step, 3),
    "filter_flip": _boolean, "filter_dilation": _many(_step, 3),
    "num_groups": _integer(1, 10**6), "unshared": _boolean}
_CORRELATION = {"border_mode": _border, "subsample": _many(_step, 3),
                "filter_dilation": _many(_step, 3), "num_groups": _integer(1, 10**6),
                "unshared": _boolean}
_POOL_MODE = _one_of("max", "sum", "average_inc_pad", "average_exc_pad")
_POOL = {"ignore_border": _boolean, "mode": _POOL_MODE, "ndim": _integer(1, 3)}
_INPLACE = {"inplace": _left_out}
_INCREMENT = {**_INPLACE, "set_instead_of_inc": _boolean}

_PLAIN = {
    T.ARange: {"dtype": _dtype},
    T.Alloc: {}, T.Default: {}, T.Dot: {}, T.Nonzero: {}, T.PermuteRowElements: {},
    T.ScalarFromTensor: {}, T.TensorFromScalar: {},
    T.AllocDiag: {"offset": _small, "axis1": _axis, "axis2": _axis},
    T.AllocEmpty: {"dtype": _dtype},
    T.Choose: {"mode": _one_of("raise", "wrap", "clip")},
    T.ExtractDiag: {"offset": _small, "axis1": _axis, "axis2": _axis, "view": _boolean},
    T.Eye: {"dtype": _dtype}, T.Tri: {"dtype": _dtype},
    T.Flatten: {"outdim": _ndim}, T.Reshape: {"ndim": _ndim}, T.Tile: {"ndim": _ndim},
    T.Join: {"view": _integer(-1, 64)}, T.Split: {"len_splits": _integer(0, 10**5)},
    elemwise.All: {"axis": _axes}, elemwise.Any: {"axis": _axes},
    elemwise.CAReduce: {"scalar_op": _scalar, "axis": _axes},
    elemwise.CAReduceDtype: {"scalar_op": _scalar, "axis": _axes, "dtype": _any_dtype,
                             "acc_dtype": _any_dtype},
    elemwise.DimShuffle: {"input_broadcastable": _many(_boolean, 32),
                          "new_order": _many(_any_of(_integer(0, 31), _one_of("x")), 32)},
    elemwise.Elemwise: {"scalar_op": _scalar},
    elemwise.Sum: {"axis": _axes, "dtype": _any_dtype, "acc_dtype": _any_dtype},
    elemwise.Prod: {"axis": _axes, "dtype": _any_dtype, "acc_dtype": _any_dtype,
                    "no_zeros_in_input": _boolean},
    elemwise.ProdWithoutZeros: {"axis": _axes, "dtype": _any_dtype, "acc_dtype": _any_dtype},
    T.Mean: {"axis": _axes},
    subtensor.Subtensor: {"idx_list": _many(_index, 32)},
    subtensor.IncSubtensor: {"idx_list": _many(_index, 32), **_INCREMENT},
    subtensor.AdvancedSubtensor1: {}, subtensor.AdvancedSubtensor: {},
    subtensor.AdvancedBooleanSubtensor: {},
    subtensor.AdvancedIncSubtensor1: _INCREMENT, subtensor.AdvancedIncSubtensor: _INCREMENT,
    subtensor.AdvancedBooleanIncSubtensor: _INCREMENT,
    type_other.MakeSlice: {}, opt.MakeVector: {"dtype": _dtype},
    extra_ops.Bartlett: {}, extra_ops.CpuContiguous: {}, extra_ops.FillDiagonal: {},
    extra_ops.FillDiagonalOffset: {},
    extra_ops.CumOp: {"axis": _any_of(_nothing, _axis), "mode": _one_of("add", "mul")},
    extra_ops.DiffOp: {"n": _integer(0, 100), "axis": _axis},
    extra_ops.RavelMultiIndex: {"mode": _one_of("raise", "wrap", "clip"), "order": _one_of("C", "F")},
    extra_ops.RepeatOp: {"axis": _any_of(_nothing, _axis)},
    extra_ops.SearchsortedOp: {"side": _one_of("left", "right")},
    extra_ops.Unique: {"return_index": _boolean, "return_inverse": _boolean,
                       "return_counts": _boolean, "axis": _any_of(_nothing, _axis)},
    extra_ops.UnravelIndex: {"ndim": _ndim, "order": _one_of("C", "F")},
    ArgSortOp: {"kind": _one_of("quicksort", "mergesort", "heapsort"), "order": _nothing},
    SortOp: {"kind": _one_of("quicksort", "mergesort", "heapsort"), "order": _nothing},
    TopKOp: {"axis": _axis, "sorted": _boolean, "idx_dtype": _dtype,
                  "return_values": _boolean, "return_indices": _boolean},
    nlinalg.AllocDiag: {}, nlinalg.Det: {}, nlinalg.Eig: {}, nlinalg.MatrixInverse: {},
    nlinalg.MatrixPinv: {}, nlinalg.lstsq: {},
    nlinalg.Eigh: {"UPLO": _one_of("L", "U")}, nlinalg.EighGrad: {"UPLO": _one_of("L", "U")},
    nlinalg.QRFull: {"mode": _one_of("reduced", "complete", "r", "raw")},
    nlinalg.QRIncomplete: {"mode": _one_of("r")},
    nlinalg.SVD: {"full_matrices": _boolean, "compute_uv": _boolean},
    nlinalg.TensorInv: {"ind": _integer(1, 32)},
    nlinalg.TensorSolve: {"axes": _any_of(_nothing, _many(_axis))},
    slinalg.Cholesky: {"lower": _boolean, "on_error": _one_of("raise", "nan")},
    slinalg.CholeskyGrad: {"lower": _boolean}, slinalg.Eigvalsh: {"lower": _boolean},
    slinalg.EigvalshGrad: {"lower": _boolean}, slinalg.Expm: {}, slinalg.ExpmGrad: {},
    slinalg.Solve: {"A_structure": _one_of("general", "lower_triangular", "upper_triangular",
                                           "symmetric"),
                    "lower": _boolean, "overwrite_A": _left_out, "overwrite_b": _left_out},
    blas.BatchedDot: {}, blas.Dot22: {}, blas.Dot22Scalar: {}, blas.Gemm: _INPLACE,
    blas.Gemv: _INPLACE, blas.Ger: {"destructive": _left_out},
    fft.RFFTOp: {}, fft.IRFFTOp: {},
    nnet.CrossentropyCategorical1Hot: {}, nnet.CrossentropyCategorical1HotGrad: {},
    nnet.CrossentropySoftmax1HotWithBiasDx: {}, nnet.CrossentropySoftmaxArgmax1HotWithBias: {},
    nnet.LogSoftmax: {}, nnet.Softmax: {}, nnet.SoftmaxGrad: {}, nnet.SoftmaxWithBias: {},
    nnet.Prepend_scalar_to_each_row: {},
    blocksparse.SparseBlockGemv: _INPLACE, blocksparse.SparseBlockOuter: _INPLACE,
    conv3d2d.DiagonalSubtensor: _INPLACE, conv3d2d.IncDiagonalSubtensor: _INPLACE,
    **{getattr(abstract_conv, f"AbstractConv{n}d{kind}"): _CONVOLUTION if n == 2 else {
        name: kind_ for name, kind_ in _CONVOLUTION.items() if name != "unshared"}
       for n in (2, 3) for kind in ("", "_gradInputs", "_gradWeights")},
    bn.AbstractBatchNormInference: {"axes": _many(_axis)},
    bn.AbstractBatchNormTrain: {"axes": _many(_axis)},
    bn.AbstractBatchNormTrainGrad: {"axes": _many(_axis)},
    neighbours.Images2Neibs: {"mode": _one_of("valid", "ignore_borders", "wrap_centered", "half",
                                              "full")},
    pool.Pool: _POOL, pool.PoolGrad: _POOL, pool.AveragePoolGrad: _POOL, pool.MaxPoolRop: _POOL,
    pool.DownsampleFactorMaxGradGrad: _POOL,
    pool.MaxPoolGrad: {"ignore_border": _boolean, "ndim": _integer(1, 3)},
    compile_ops.DeepCopyOp: {}, compile_ops.Shape: {}, compile_ops.Shape_i: {"i": _ndim},
    compile_ops.SpecifyShape: {}, compile_ops.ViewOp: {},
    gradient.ConsiderConstant: {}, gradient.DisconnectedGrad: {}, gradient.UndefinedGrad: {},
    gradient.ZeroGrad: {}, gradient.GradScale: {"multiplier": _number},
    gradient.GradClip: {"clip_lower_bound": _number, "clip_upper_bound": _number},
    rng_mrg.DotModulo: {}, rng_mrg.mrg_uniform: {"output_type": _tensor_type},
    multinomial.MultinomialFromUniform: {"odtype": _any_of(_dtype, _one_of("auto"))},
    multinomial.ChoiceFromUniform: {"odtype": _any_of(_dtype, _one_of("auto")),
                                    "replace": _boolean},
}

_FUNCTIONS = {name: getattr(raw_random, f"{name}_helper")
              for name in ["random_integers", "choice", "permutation", "multinomial"]}
_METHODS = ("uniform", "normal", "binomial", "poisson")


def _random_function(fn, outtype, ndim_added):
    return raw_random.RandomFunction(_FUNCTIONS.get(fn, fn), outtype, ndim_added=ndim_added)


def _name_of_random_function(op):
    fn = next((name for name, one in _FUNCTIONS.items() if one is op.fn), op.fn)
    return {"fn": fn if isinstance(fn, str) else str(fn), "outtype": op.outtype,
            "ndim_added": op.ndim_added}


#: How many there are of each kind of inputs and outputs of a loop.
_COUNTS = ("n_seqs", "n_mit_mot", "n_mit_mot_outs", "n_mit_sot", "n_sit_sot", "n_shared_outs",
           "n_nit_sot")
_LOOP = {
    **{name: _integer(0, 1000) for name in _COUNTS},
    "tap_array": _many(_many(_integer(-1000, 1000), 1000), 1000),
    "mit_mot_out_slices": _many(_many(_integer(-1000, 1000), 1000), 1000),
    "truncate_gradient": _small, "as_while": _boolean}


def _loop(inner, **parameters):
    parameters = {name: [list(one) for one in value] if isinstance(value, tuple) else value
                  for name, value in parameters.items()}
    inputs, outputs = inner
    op = scan_op.Scan(inputs, outputs, {
        **parameters, "name": None, "mode": None, "destroy_map": {}, "gpua": False,
        "profile": False, "allow_gc": theano.config.scan.allow_gc, "strict": True})
    op.validate_inner_graph()
    return op


#: Every operation that a graph may have, by its class.
_OPERATIONS = {
    **{cls: _Operation(parameters, cls) for cls, parameters in _PLAIN.items()},
    compile_ops.Rebroadcast: _Operation(
        {"axis": _many(_tuple(_integer(0, 31), _boolean))},
        lambda axis: compile_ops.Rebroadcast(*axis)),
    **{cls: _Operation({"axis": _any_of(_nothing, _many(_axis))},
                       lambda axis, cls=cls: cls(axis if axis is None else list(axis)))
       for cls in [T.Argmax, T.MaxAndArgmax]},
    ifelse.IfElse: _Operation({"n_outs": _integer(1, 1000)}, ifelse.IfElse),
    raw_random.RandomFunction: _Operation(
        {"fn": _one_of(*_METHODS, *_FUNCTIONS), "outtype": _tensor_type, "ndim_added": _ndim},
        _random_function, _name_of_random_function),
    conv.ConvOp: _Operation(
        {"imshp": _shape, "kshp": _shape, "nkern": _any_of(_nothing, _size),
         "bsize": _any_of(_nothing, _size), "dx": _integer(1, 1000), "dy": _integer(1, 1000),
         "output_mode": _one_of("valid", "full")},
        conv.ConvOp, lambda op: {
            **{name: getattr(op, name) for name in ["imshp", "kshp", "nkern", "bsize", "dx", "dy"]},
            "output_mode": op.out_mode}),
}
_NAMES = {cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
          for cls in [*_OPERATIONS, scan_op.Scan]}
_CLASSES = {name: cls for cls, name in _NAMES.items()}
#: Operations whose value is their first input.
_TRANSPARENT = (theano.printing.Print, opt.Assert, compile_ops.OutputGuard)


# --- writing ---

def dump_graph(graph):
    """Return a graph as text.

    Parameters
    ----------
    graph : dict
        Theano variables, numbers, truth values, None, short texts, and lists and dicts of these.

    Raises
    ------
    vae.checks.Mistake
        If something in it is not in the tables, or it is too large.
    """
    try:
        writer = _Writer()
        structure = writer.structure(graph, 0)
        text = json.dumps({"graph": structure, **writer.finished()}, allow_nan=False,
                          separators=(",", ":"))
        check_size(text)
        return text
    except _Refused as refused:
        raise Mistake(f"{refused}.") from None
    except Exception as error:  # a student's object may raise anything
        raise Mistake(_("граф не из операций Theano: {name}: {error}").format(
                          name=type(error).__name__, error=error)) from None


def _plain(value):
    """Parameters as data: numbers, words, lists of these."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, theano.Constant):
        return _plain(value.data)
    if isinstance(value, theano.gof.Type):
        return _text_of_type(value)
    if isinstance(value, scalar.ScalarOp):
        return _data_of_scalar(value)
    if isinstance(value, slice):
        return [_plain(value.start), _plain(value.stop), _plain(value.step)]
    if isinstance(value, dict):
        return [[_plain(one), _plain(other)] for one, other in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    raise ValueError(f"Got {type(value).__name__}, expected numbers and words")


def _parameters(op, kinds, read=None):
    values = read(op) if read else {name: getattr(op, name) for name in kinds}
    try:
        values = {name: _plain(value) for name, value in values.items()}
        checked = _checked(kinds, values)
        return {name: checked[name] if type(checked[name]) is bool else value
                for name, value in values.items()}
    except ValueError as error:
        raise _Refused(_("операция {name} в графе с параметрами, которых проверка не знает "
                         "({error})").format(name=type(op).__name__, error=error)) from None


class _Writer:
    """Numbers variables in the order in which they can be computed."""

    def __init__(self, inputs=(), depth=0):
        self._parts, self._numbers, self._constants, self._written_out = [], {}, {}, {}
        self._depth, self._streams, self._n = depth, [], 0
        for variable in inputs:
            self._add([variable], ["input", _text_of_type(variable.type)])

    def _add(self, variables, part):
        self._parts.append(part)
        for variable in variables:
            self._numbers[variable] = self._n
            self._n += 1

    def structure(self, value, depth):
        if depth > _MAX_DEPTH:
            raise _Refused(_("граф вложен слишком глубоко"))
        if isinstance(value, theano.Variable):
            return {"variable": self.number(value)}
        if isinstance(value, dict):
            return {"names": {str(name): self.structure(one, depth + 1)
                              for name, one in value.items()}}
        if isinstance(value, (list, tuple)):
            return [self.structure(one, depth + 1) for one in value]
        return _plain(value)

    def number(self, variable):
        """Return the number of a variable, after all that it is computed from."""
        waiting = [variable]
        while waiting:
            one = waiting[-1]
            if one in self._numbers:
                waiting.pop()
            elif one.owner is None:
                self._leaf(one)
            elif isinstance(one.owner.op, _TRANSPARENT):
                self._stand_for(one, one.owner.inputs[0], waiting)
            elif type(one.owner.op) is OpFromGraph:
                self._stand_for(one, self._inside(one), waiting)
            elif self._n > MAX_VARIABLES:
                raise _Refused(_("в графе слишком много операций"))
            else:
                missing = [each for each in one.owner.inputs if each not in self._numbers]
                if missing:
                    waiting += reversed(missing)
                else:
                    self._node(one.owner)
        return self._numbers[variable]

    def _stand_for(self, variable, value, waiting):
        if value in self._numbers:
            self._numbers[variable] = self._numbers[value]
        else:
            waiting.append(value)

    def _inside(self, variable):
        """The output of a graph that is used as an operation, as if it were written out."""
        node = variable.owner
        if node not in self._written_out:
            self._written_out[node] = theano.clone(
                node.op.local_outputs, dict(zip(node.op.local_inputs, node.inputs)))
        return self._written_out[node][variable.index]

    def _leaf(self, variable):
        type_ = _text_of_type(variable.type)
        if isinstance(variable, theano.compile.SharedVariable):
            name = variable.name if _NAME.fullmatch(str(variable.name)) else None
            self._add([variable], ["shared", type_, _data(
                variable.get_value(borrow=True)), name])
            if getattr(variable, "default_update", None) is not None:
                self._streams.append(variable)
        elif isinstance(variable, theano.Constant):
            part = ["constant", type_, _data(variable.data)]
            known = self._constants.setdefault(str(part), variable)
            if known is variable:
                self._add([variable], part)
            else:  # whether it is one constant or two with the same value is chance
                self._numbers[variable] = self._numbers[known]
        else:
            self._add([variable], ["input", type_])

    def _node(self, node):
        op, inputs = node.op, [self._numbers[one] for one in node.inputs]
        if type(op) is scan_op.Scan:
            if self._depth > _MAX_DEPTH:
                raise _Refused(_("циклы вложены слишком глубоко"))
            inner = _Writer(op.inputs, self._depth + 1)
            outputs = [inner.number(one) for one in op.outputs]
            data = {**_parameters(op, _LOOP), "parts": inner.finished()["parts"],
                    "n_inputs": len(op.inputs), "outputs": outputs}
        elif type(op) in _OPERATIONS:
            operation = _OPERATIONS[type(op)]
            data = _parameters(op, operation.parameters, operation.read)
        else:
            raise _Refused(_unknown(type(op).__name__))
        self._add(node.outputs, ["apply", _NAMES[type(op)], data, inputs,
                                 [_text_of_type(one.type) for one in node.outputs]])

    def finished(self):
        """Return the parts of the graph, and what shared variables become after each call."""
        updates = []
        for variable in self._streams:  # grows as it is gone through
            updates.append([self._numbers[variable], self.number(variable.default_update)])
        return {"parts": self._parts, "updates": updates}


def _data(value):
    if value is None:
        return None
    if isinstance(value, slice):
        return _plain(value)
    if isinstance(value, np.random.RandomState):
        _, key, position, has_gauss, gauss = value.get_state()
        return [key.tolist(), int(position), int(has_gauss), float(gauss)]
    array = np.asarray(value)
    if array.dtype.name not in _DTYPES:
        raise _Refused(_("граф содержит массив типа {dtype}").format(dtype=array.dtype))
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    content = array.tobytes()
    item = content[:array.dtype.itemsize]
    same = array.size > 1 and content == item * array.size
    return [array.dtype.name, list(array.shape), same,
            base64.b64encode(item if same else content).decode("ascii")]


# --- reading ---

def load_graph(text):
    """Return the graph of a text; raise `vae.checks.Mistake` if anything else is in it."""
    try:
        check_size(text)
        data = json.loads(text, parse_constant=_no_number)
        reader = _Reader(data["parts"])
        reader.give_updates(data["updates"])
        return reader.structure(data["graph"], 0)
    except Exception as error:  # of whatever is wrong with what comes from outside
        first = next(iter(str(error).splitlines()), "")[:300]
        raise Mistake(_("граф не читается: {name}: {first}").format(
                          name=type(error).__name__, first=first)) from None


def _no_number(text):
    raise ValueError(f"Got {text}, expected a number")


def _checked(kinds, values):
    """Return parameters as their constructor takes them."""
    if type(values) is not dict or set(values) != set(kinds):
        raise ValueError(f"Got the parameters {str(values)[:100]}, expected {list(kinds)}")
    return {name: kind(values[name]) for name, kind in kinds.items()}


class _Reader:
    """Builds the variables of a graph, one after another, each from those before it."""

    def __init__(self, parts, depth=0, budget=None):
        if type(parts) is not list or depth > _MAX_DEPTH:
            raise ValueError("Got no list of parts, or too many in one another")
        self._variables, self._depth = [], depth
        self._budget = _Budget() if budget is None else budget
        for kind, *rest in parts:
            variables = {"input": self._input, "constant": self._constant,
                         "shared": self._shared, "apply": self._apply}[kind](*rest)
            self._budget.take(len(variables), "variables")
            self._variables += variables

    def _variable(self, number):
        return self._variables[_integer(0, len(self._variables) - 1)(number)]

    def _input(self, type_):
        return [_type(type_)()]

    def _constant(self, type_, data):
        type_ = _type(type_)
        if type_ == _OTHER_TYPES["none"]:
            return [type_other.NoneConst]
        if type_ == _OTHER_TYPES["slice"]:
            one = _any_of(_nothing, _small)
            return [type_other.SliceConstant(type_, slice(*_tuple(one, one, one)(data)))]
        array = self._array(type_, data)
        if isinstance(type_, scalar.Scalar):
            return [scalar.ScalarConstant(type_, array[()])]
        return [T.TensorConstant(type_, array)]

    def _shared(self, type_, data, name):
        type_ = _type(type_)
        if name is not None and not (type(name) is str and _NAME.fullmatch(name)):
            raise ValueError("Got a name with odd characters")
        if type_ == _OTHER_TYPES["random state"]:
            key, position, has_gauss, gauss = _tuple(
                _many(_integer(0, 2**32 - 1), 624), _integer(0, 624), _integer(0, 1), _number)(data)
            state = np.random.RandomState()
            state.set_state(("MT19937", np.array(key, "uint32"), position, has_gauss, gauss))
            return [theano.shared(state, name=name, borrow=True)]
        if not isinstance(type_, T.TensorType):
            raise ValueError("Got a shared variable that is no array")
        return [theano.shared(self._array(type_, data), name=name, borrow=True,
                              broadcastable=type_.broadcastable)]

    def _array(self, type_, data):
        dtype, shape, same, content = data
        dtype = np.dtype(_dtype(dtype))
        shape = _many(_size, 32)(shape)
        size = math.prod(shape)
        self._budget.take(size * dtype.itemsize, "bytes of arrays")
        content = base64.b64decode(content, validate=True)
        if len(content) != dtype.itemsize * (1 if _boolean(same) else size):
            raise ValueError(f"Got {len(content)} bytes for an array of {shape} {dtype}")
        array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
        array = np.full(shape, array[0]) if same else array.reshape(shape)
        broadcastable = getattr(type_, "broadcastable", ())
        if array.dtype.name != type_.dtype or len(shape) != len(broadcastable) or any(
                one and side != 1 for one, side in zip(broadcastable, shape)):
            raise ValueError(f"Got an array of {shape} {dtype} for {type_}")
        return array

    def _apply(self, name, data, inputs, types):
        cls = _CLASSES[name]
        inputs = [self._variable(number) for number in _many(_size, 10**5)(inputs)]
        if cls is scan_op.Scan:
            data = dict(data)
            inner = _Reader(data.pop("parts"), self._depth + 1, self._budget)
            n_inputs = _integer(0, len(inner._variables))(data.pop("n_inputs"))
            outputs = [inner._variable(number) for number in _many(_size, 10**4)(
                data.pop("outputs"))]
            op = _loop((inner._variables[:n_inputs], outputs), **_checked(_LOOP, data))
        else:
            operation = _OPERATIONS[cls]
            op = operation.build(**_checked(operation.parameters, data))
        node = op.make_node(*inputs)
        outputs = node.outputs
        if [one.type for one in node.inputs] != [one.type for one in inputs]:
            raise ValueError(f"Got inputs of {name} that it would not leave as they are")
        node.inputs = inputs  # it may have taken a constant for true because it is one
        if [_text_of_type(one.type) for one in outputs] != types:
            raise ValueError(f"Got {types} from {name}, expected "
                             f"{[str(one.type) for one in outputs]}")
        return outputs

    def give_updates(self, updates):
        for variable, update in updates:
            variable, update = self._variable(variable), self._variable(update)
            if not isinstance(variable, theano.compile.SharedVariable) \
                    or variable.type != update.type:
                raise ValueError("Got an update of something that is not shared, or of another type")
            variable.default_update = update

    def structure(self, value, depth):
        if depth > _MAX_DEPTH:
            raise ValueError("Got too many lists in lists")
        if type(value) is dict:
            if set(value) == {"variable"}:
                return self._variable(value["variable"])
            return {name: self.structure(one, depth + 1) for name, one in value["names"].items()}
        if type(value) is list:
            return [self.structure(one, depth + 1) for one in value]
        return value


class _Budget:
    """How much a graph may still have, and the graphs in it."""

    def __init__(self):
        self._left = {"variables": MAX_VARIABLES, "bytes of arrays": MAX_ARRAYS}

    def take(self, n, what):
        self._left[what] -= n
        if self._left[what] < 0:
            raise ValueError(f"Got too many {what}")
