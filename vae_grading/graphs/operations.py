"""The table of operations that a graph may contain, with their parameters."""

from dataclasses import dataclass
from typing import Callable

import theano
import theano.tensor as T
from theano import gradient, ifelse
from theano.compile import ops as compile_ops
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

from vae_grading.graphs.parameters import (
    as_any_of,
    as_axes,
    as_axis,
    as_boolean,
    as_border,
    as_dtype,
    as_index,
    as_int32,
    as_integer,
    as_list,
    as_ndim,
    as_none,
    as_not_inplace,
    as_number,
    as_one_of,
    as_optional_dtype,
    as_scalar_type,
    as_shape,
    as_size,
    as_stride,
    as_tensor_type,
    as_tuple,
    converted,
)

__all__ = ["OPERATIONS", "OPERATION_CLASSES", "OPERATION_NAMES", "SCALARS", "SCALAR_PARAMETERS",
           "SCAN_PARAMETERS", "TRANSPARENT", "build_scan"]

#: Scalar operations without parameters, by name.
SCALARS = {
    name: value for module in [scalar, basic_scipy, sigm, xlogx, nnet]
    for name, value in sorted(vars(module).items()) if isinstance(value, scalar.ScalarOp)
    and not isinstance(value, (scalar.Cast, scalar.InRange, scalar.Composite))}
SCALARS.update({"xlogx": xlogx.xlogx.scalar_op, "xlogy0": xlogx.xlogy0.scalar_op})

#: Classes of scalar operations with parameters, with a converter for each parameter.
SCALAR_PARAMETERS = {
    scalar.Cast: {"o_type": as_scalar_type},
    scalar.InRange: {"openlow": as_boolean, "openhi": as_boolean},
    bn.BNComposite: {"dtype": as_dtype},
}
_SCALAR_CLASSES = {cls.__name__: cls for cls in SCALAR_PARAMETERS}


def as_scalar_op(value):
    if type(value) is str and value in SCALARS:
        return SCALARS[value]
    if type(value) is list and len(value) == 2 and type(value[0]) is str:
        cls = _SCALAR_CLASSES.get(value[0])
        if cls is not None:
            return cls(**converted(SCALAR_PARAMETERS[cls], value[1]))
    raise ValueError(f"Got {str(value)[:50]!r}, expected an operation on numbers")


@dataclass(frozen=True)
class _Operation:
    """The description of a class of operations, from which they are written and built."""

    parameters: dict  #: maps the name of each parameter to its converter
    build: Callable  #: (**parameters) -> operation
    read: Callable | None = None  #: (operation) -> its parameters; by default, attributes are read


_CONVOLUTION_3D = {
    "imshp": as_shape, "kshp": as_shape, "border_mode": as_border,
    "subsample": as_list(as_stride, 3), "filter_flip": as_boolean,
    "filter_dilation": as_list(as_stride, 3), "num_groups": as_integer(1, 10**6)}
_CONVOLUTION_2D = {**_CONVOLUTION_3D, "unshared": as_boolean}
_POOL_MODE = as_one_of("max", "sum", "average_inc_pad", "average_exc_pad")
_POOL = {"ignore_border": as_boolean, "mode": _POOL_MODE, "ndim": as_integer(1, 3)}
_INPLACE = {"inplace": as_not_inplace}
_INCREMENT = {**_INPLACE, "set_instead_of_inc": as_boolean}

_PLAIN = {
    T.ARange: {"dtype": as_dtype},
    T.Alloc: {}, T.Default: {}, T.Dot: {}, T.Nonzero: {}, T.PermuteRowElements: {},
    T.ScalarFromTensor: {}, T.TensorFromScalar: {},
    T.AllocDiag: {"offset": as_int32, "axis1": as_axis, "axis2": as_axis},
    T.AllocEmpty: {"dtype": as_dtype},
    T.Choose: {"mode": as_one_of("raise", "wrap", "clip")},
    T.ExtractDiag: {"offset": as_int32, "axis1": as_axis, "axis2": as_axis, "view": as_boolean},
    T.Eye: {"dtype": as_dtype}, T.Tri: {"dtype": as_dtype},
    T.Flatten: {"outdim": as_ndim}, T.Reshape: {"ndim": as_ndim}, T.Tile: {"ndim": as_ndim},
    T.Join: {"view": as_integer(-1, 64)}, T.Split: {"len_splits": as_integer(0, 10**5)},
    elemwise.All: {"axis": as_axes}, elemwise.Any: {"axis": as_axes},
    elemwise.CAReduce: {"scalar_op": as_scalar_op, "axis": as_axes},
    elemwise.CAReduceDtype: {"scalar_op": as_scalar_op, "axis": as_axes, "dtype": as_optional_dtype,
                             "acc_dtype": as_optional_dtype},
    elemwise.DimShuffle: {"input_broadcastable": as_list(as_boolean, 32),
                          "new_order": as_list(as_any_of(as_integer(0, 31), as_one_of("x")), 32)},
    elemwise.Elemwise: {"scalar_op": as_scalar_op},
    elemwise.Sum: {"axis": as_axes, "dtype": as_optional_dtype, "acc_dtype": as_optional_dtype},
    elemwise.Prod: {"axis": as_axes, "dtype": as_optional_dtype, "acc_dtype": as_optional_dtype,
                    "no_zeros_in_input": as_boolean},
    elemwise.ProdWithoutZeros: {"axis": as_axes, "dtype": as_optional_dtype,
                                "acc_dtype": as_optional_dtype},
    T.Mean: {"axis": as_axes},
    subtensor.Subtensor: {"idx_list": as_list(as_index, 32)},
    subtensor.IncSubtensor: {"idx_list": as_list(as_index, 32), **_INCREMENT},
    subtensor.AdvancedSubtensor1: {}, subtensor.AdvancedSubtensor: {},
    subtensor.AdvancedBooleanSubtensor: {},
    subtensor.AdvancedIncSubtensor1: _INCREMENT, subtensor.AdvancedIncSubtensor: _INCREMENT,
    subtensor.AdvancedBooleanIncSubtensor: _INCREMENT,
    type_other.MakeSlice: {}, opt.MakeVector: {"dtype": as_dtype},
    extra_ops.Bartlett: {}, extra_ops.CpuContiguous: {}, extra_ops.FillDiagonal: {},
    extra_ops.FillDiagonalOffset: {},
    extra_ops.CumOp: {"axis": as_any_of(as_none, as_axis), "mode": as_one_of("add", "mul")},
    extra_ops.DiffOp: {"n": as_integer(0, 100), "axis": as_axis},
    extra_ops.RavelMultiIndex: {"mode": as_one_of("raise", "wrap", "clip"),
                                "order": as_one_of("C", "F")},
    extra_ops.RepeatOp: {"axis": as_any_of(as_none, as_axis)},
    extra_ops.SearchsortedOp: {"side": as_one_of("left", "right")},
    extra_ops.Unique: {"return_index": as_boolean, "return_inverse": as_boolean,
                       "return_counts": as_boolean, "axis": as_any_of(as_none, as_axis)},
    extra_ops.UnravelIndex: {"ndim": as_ndim, "order": as_one_of("C", "F")},
    ArgSortOp: {"kind": as_one_of("quicksort", "mergesort", "heapsort"), "order": as_none},
    SortOp: {"kind": as_one_of("quicksort", "mergesort", "heapsort"), "order": as_none},
    TopKOp: {"axis": as_axis, "sorted": as_boolean, "idx_dtype": as_dtype,
             "return_values": as_boolean, "return_indices": as_boolean},
    nlinalg.AllocDiag: {}, nlinalg.Det: {}, nlinalg.Eig: {}, nlinalg.MatrixInverse: {},
    nlinalg.MatrixPinv: {}, nlinalg.lstsq: {},
    nlinalg.Eigh: {"UPLO": as_one_of("L", "U")}, nlinalg.EighGrad: {"UPLO": as_one_of("L", "U")},
    nlinalg.QRFull: {"mode": as_one_of("reduced", "complete", "r", "raw")},
    nlinalg.QRIncomplete: {"mode": as_one_of("r")},
    nlinalg.SVD: {"full_matrices": as_boolean, "compute_uv": as_boolean},
    nlinalg.TensorInv: {"ind": as_integer(1, 32)},
    nlinalg.TensorSolve: {"axes": as_any_of(as_none, as_list(as_axis))},
    slinalg.Cholesky: {"lower": as_boolean, "on_error": as_one_of("raise", "nan")},
    slinalg.CholeskyGrad: {"lower": as_boolean}, slinalg.Eigvalsh: {"lower": as_boolean},
    slinalg.EigvalshGrad: {"lower": as_boolean}, slinalg.Expm: {}, slinalg.ExpmGrad: {},
    slinalg.Solve: {"A_structure": as_one_of("general", "lower_triangular", "upper_triangular",
                                             "symmetric"),
                    "lower": as_boolean, "overwrite_A": as_not_inplace,
                    "overwrite_b": as_not_inplace},
    blas.BatchedDot: {}, blas.Dot22: {}, blas.Dot22Scalar: {}, blas.Gemm: _INPLACE,
    blas.Gemv: _INPLACE, blas.Ger: {"destructive": as_not_inplace},
    fft.RFFTOp: {}, fft.IRFFTOp: {},
    nnet.CrossentropyCategorical1Hot: {}, nnet.CrossentropyCategorical1HotGrad: {},
    nnet.CrossentropySoftmax1HotWithBiasDx: {}, nnet.CrossentropySoftmaxArgmax1HotWithBias: {},
    nnet.LogSoftmax: {}, nnet.Softmax: {}, nnet.SoftmaxGrad: {}, nnet.SoftmaxWithBias: {},
    nnet.Prepend_scalar_to_each_row: {},
    blocksparse.SparseBlockGemv: _INPLACE, blocksparse.SparseBlockOuter: _INPLACE,
    conv3d2d.DiagonalSubtensor: _INPLACE, conv3d2d.IncDiagonalSubtensor: _INPLACE,
    **{getattr(abstract_conv, f"AbstractConv2d{suffix}"): _CONVOLUTION_2D
       for suffix in ("", "_gradInputs", "_gradWeights")},
    **{getattr(abstract_conv, f"AbstractConv3d{suffix}"): _CONVOLUTION_3D
       for suffix in ("", "_gradInputs", "_gradWeights")},
    bn.AbstractBatchNormInference: {"axes": as_list(as_axis)},
    bn.AbstractBatchNormTrain: {"axes": as_list(as_axis)},
    bn.AbstractBatchNormTrainGrad: {"axes": as_list(as_axis)},
    neighbours.Images2Neibs: {"mode": as_one_of("valid", "ignore_borders", "wrap_centered", "half",
                                              "full")},
    pool.Pool: _POOL, pool.PoolGrad: _POOL, pool.AveragePoolGrad: _POOL, pool.MaxPoolRop: _POOL,
    pool.DownsampleFactorMaxGradGrad: _POOL,
    pool.MaxPoolGrad: {"ignore_border": as_boolean, "ndim": as_integer(1, 3)},
    compile_ops.DeepCopyOp: {}, compile_ops.Shape: {}, compile_ops.Shape_i: {"i": as_ndim},
    compile_ops.SpecifyShape: {}, compile_ops.ViewOp: {},
    gradient.ConsiderConstant: {}, gradient.DisconnectedGrad: {}, gradient.UndefinedGrad: {},
    gradient.ZeroGrad: {}, gradient.GradScale: {"multiplier": as_number},
    gradient.GradClip: {"clip_lower_bound": as_number, "clip_upper_bound": as_number},
    rng_mrg.DotModulo: {}, rng_mrg.mrg_uniform: {"output_type": as_tensor_type},
    multinomial.MultinomialFromUniform: {"odtype": as_any_of(as_dtype, as_one_of("auto"))},
    multinomial.ChoiceFromUniform: {"odtype": as_any_of(as_dtype, as_one_of("auto")),
                                    "replace": as_boolean},
}

_FUNCTIONS = {name: getattr(raw_random, f"{name}_helper")
              for name in ["random_integers", "choice", "permutation", "multinomial"]}
_METHODS = ("uniform", "normal", "binomial", "poisson")


def _random_function(fn, outtype, ndim_added):
    return raw_random.RandomFunction(_FUNCTIONS.get(fn, fn), outtype, ndim_added=ndim_added)


def _name_of_random_function(op):
    fn = next((name for name, function in _FUNCTIONS.items() if function is op.fn), op.fn)
    return {"fn": fn if isinstance(fn, str) else str(fn), "outtype": op.outtype,
            "ndim_added": op.ndim_added}


#: Parameters with the numbers of inputs and outputs of a loop, one for each role.
_COUNTS = ("n_seqs", "n_mit_mot", "n_mit_mot_outs", "n_mit_sot", "n_sit_sot", "n_shared_outs",
           "n_nit_sot")
SCAN_PARAMETERS = {
    **{name: as_integer(0, 1000) for name in _COUNTS},
    "tap_array": as_list(as_list(as_integer(-1000, 1000), 1000), 1000),
    "mit_mot_out_slices": as_list(as_list(as_integer(-1000, 1000), 1000), 1000),
    "truncate_gradient": as_int32, "as_while": as_boolean}


def build_scan(inputs, outputs, **parameters):
    """Return a loop.

    Parameters
    ----------
    inputs, outputs : list of Theano variable
        Inputs and outputs of the graph that is computed in each step.
    **parameters
        The parameters in `SCAN_PARAMETERS`.

    Returns
    -------
    theano.scan_module.scan_op.Scan

    Raises
    ------
    Exception
        Theano raises errors of various classes if the loop is inconsistent.
    """
    parameters = {name: list(map(list, value)) if isinstance(value, tuple) else value
                  for name, value in parameters.items()}
    op = scan_op.Scan(inputs, outputs, {
        **parameters, "name": None, "mode": None, "destroy_map": {}, "gpua": False,
        "profile": False, "allow_gc": theano.config.scan.allow_gc, "strict": True})
    op.validate_inner_graph()
    return op


#: The classes of all operations that a graph may have, except loops, each with its description.
OPERATIONS = {
    **{cls: _Operation(parameters, cls) for cls, parameters in _PLAIN.items()},
    compile_ops.Rebroadcast: _Operation(
        {"axis": as_list(as_tuple(as_integer(0, 31), as_boolean))},
        lambda axis: compile_ops.Rebroadcast(*axis)),
    **{cls: _Operation({"axis": as_any_of(as_none, as_list(as_axis))},
                       lambda axis, cls=cls: cls(axis if axis is None else list(axis)))
       for cls in [T.Argmax, T.MaxAndArgmax]},
    ifelse.IfElse: _Operation({"n_outs": as_integer(1, 1000)}, ifelse.IfElse),
    raw_random.RandomFunction: _Operation(
        {"fn": as_one_of(*_METHODS, *_FUNCTIONS), "outtype": as_tensor_type, "ndim_added": as_ndim},
        _random_function, _name_of_random_function),
    conv.ConvOp: _Operation(
        {"imshp": as_shape, "kshp": as_shape, "nkern": as_any_of(as_none, as_size),
         "bsize": as_any_of(as_none, as_size), "dx": as_integer(1, 1000), "dy": as_integer(1, 1000),
         "output_mode": as_one_of("valid", "full")},
        conv.ConvOp, lambda op: {
            **{name: getattr(op, name) for name in ["imshp", "kshp", "nkern", "bsize", "dx", "dy"]},
            "output_mode": op.out_mode}),
}
#: Maps each class of operations to its name in texts.
OPERATION_NAMES = {cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
                   for cls in [*OPERATIONS, scan_op.Scan]}
OPERATION_CLASSES = {name: cls for cls, name in OPERATION_NAMES.items()}
#: Operations that return their first input. The writer leaves them out.
TRANSPARENT = (theano.printing.Print, opt.Assert, compile_ops.OutputGuard)
