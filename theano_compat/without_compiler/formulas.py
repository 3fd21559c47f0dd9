"""Formulas for Theano's scalar operations, made of functions of NumPy and SciPy.

Theano's own Python code computes single numbers; a formula computes whole
arrays. If Theano's Python and C code have different results, the formula has
the result of the C code. The rules of C choose the dtype of a computation
(`_dtype_in_c`), and it may differ from the dtype of the result. If a result is
undefined in C, it is also undefined here: a float or a power that does not fit
its integer dtype; the negative of the smallest number of a dtype; integers
above 2**63 - 512 that are computed in float64, as by `maximum`.

The parameters of a formula are

``do``
    the `Program` of ``expressions.py`` to which the formula adds steps;
``op``
    the operation;
``dtype``
    the dtype of the result;
``*x``
    the arguments, each a `_Value` of ``expressions.py``.

A formula returns the `_Value` of its result.
"""

import math
import sys
from functools import lru_cache
from importlib import import_module

import numpy as np

from theano_compat.needed.removed_names import stand_in

__all__ = ["formula_of", "results_of_unknown_op", "default_dtypes"]

#: SciPy's special functions. They are imported when they are needed, because the import takes time.
special = stand_in("scipy.special",
                   __getattr__=lambda name: getattr(import_module("scipy.special"), name))


def formula_of(op):
    """Return the formula of a scalar operation.

    Parameters
    ----------
    op : theano.scalar.ScalarOp

    Returns
    -------
    callable or None
        None if the operation does not belong to Theano. The docstring of this module describes the
        parameters of a formula.
    """
    return _FORMULAS.get(f"{type(op).__module__}.{type(op).__name__}")


def default_dtypes(op, dtypes, *x):
    """Return the dtypes in which C computes the results of an operation, before converting them.

    Usually these are the dtypes of the results. But if an operation overwrites an argument, its
    result has the dtype of this argument, and C computes in the operation's default dtype.

    Parameters
    ----------
    op : theano.scalar.ScalarOp
    dtypes : list of str
        The dtypes of the results.
    *x : _Value
        The arguments.

    Returns
    -------
    list of str
    """
    from theano import scalar

    default_op = _default_operation(type(op))
    takes_dtypes_of_arguments = isinstance(getattr(op, "output_types_preference", None),
                                           scalar.transfer_type)
    if default_op is None or not takes_dtypes_of_arguments:
        return dtypes
    if "bool" in dtypes and type(op).__name__ in ("Add", "Mul", "OR", "XOR", "AND"):
        return dtypes  # C code has a separate case for bool results of these operations
    try:
        types = default_op.output_types([scalar.get_scalar_type(str(value.dtype)) for value in x])
    except TypeError:  # the default operation refuses such arguments
        return dtypes
    return [scalar_type.dtype for scalar_type in types]


@lru_cache(maxsize=None)
def _default_operation(op_class):
    """Return the object of a class that its module defines, such as `theano.scalar.add`."""
    return next((value for value in vars(sys.modules[op_class.__module__]).values()
                 if type(value) is op_class), None)


def results_of_unknown_op(do, op, nfunc_spec, dtypes, *x):
    """Add the steps of an operation outside Theano, which may have several results.

    The function of NumPy or SciPy in `nfunc_spec` computes the operation. If there is none, the
    Python code of the operation is called for each number.

    Parameters
    ----------
    do : Program
    op : theano.scalar.ScalarOp
    nfunc_spec : tuple of (str, int, int) or None
        See `Expression`.
    dtypes : list of str
        The dtypes of the results.
    *x : _Value
        The arguments.

    Returns
    -------
    list of _Value
        The results.
    """
    if nfunc_spec and nfunc_spec[1] == len(x) and not _has_newer_python(op, nfunc_spec):
        function = _function_named(nfunc_spec[0])
    else:
        function = np.frompyfunc(op.impl, len(x), len(dtypes))
    if len(dtypes) == 1:
        dtype, = dtypes
        return [do.call(lambda *arrays: np.array(function(*arrays), dtype), *x, dtype=dtype)]
    results = do.call(lambda *arrays: function(*arrays), *x, dtype=object)
    return [do.call(lambda results, k=k, dtype=dtype: np.array(results[k], dtype), results,
                    dtype=dtype) for k, dtype in enumerate(dtypes)]


def _has_newer_python(op, nfunc_spec):
    """Return whether a class overrides `impl` of the base class that defines its `nfunc_spec`."""
    classes = type(op).__mro__

    def depth_of(attribute):
        return next((depth for depth, base in enumerate(classes) if attribute in vars(base)),
                    len(classes))

    is_of_class = nfunc_spec is getattr(op, "nfunc_spec", None)
    return is_of_class and depth_of("impl") < depth_of("nfunc_spec")


def _function_named(name):
    module, _, function = f"numpy.{name}".replace("numpy.scipy", "scipy").rpartition(".")
    return getattr(import_module(module), function)


def _dtype_in_c(*dtypes):
    """Return the dtype in which C computes with these dtypes, or None if C lacks one of them."""
    if any(dtype.kind not in "biuf" or dtype == np.float16 for dtype in dtypes):
        return None
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    if floats:
        return max(floats, key=lambda dtype: dtype.itemsize)
    size = max(4, *(dtype.itemsize for dtype in dtypes))
    unsigned = any(dtype.kind == "u" and dtype.itemsize == size for dtype in dtypes)
    return np.dtype(f"{'u' if unsigned else 'i'}{size}")


def _mixes_signs(x, y):
    """Return whether C converts negative integers to an unsigned dtype."""
    common = _dtype_in_c(x.dtype, y.dtype)
    return common is not None and common.kind == "u" and "i" in (x.dtype.kind, y.dtype.kind)


def _exact(do, x):
    """Return a float32 constant as a double, as in C code, if rounding has changed it."""
    if x.constant is None or x.dtype != np.float32 or float(x.constant) == x.unrounded:
        return x
    return do.constant(x.unrounded, "float64")


def _choice(do, condition, x, y):
    """Add the steps of C's ``condition ? x : y``."""
    common = x.dtype
    if y.dtype != common:
        common = _dtype_in_c(x.dtype, y.dtype) or np.result_type(x.dtype, y.dtype)
    return do.call(_where, condition, do.cast(x, common), do.cast(y, common), dtype=common)


def _in_dtype_of_result(ufunc):
    return lambda do, op, dtype, *x: do(ufunc, *x, dtype=dtype)


def _special(name):
    return lambda do, op, dtype, *x: do(getattr(special, name), *x, dtype=dtype)


def _in_c(ufunc, of_bools=None):
    """Return a formula that combines arguments one after another by a ufunc, in C's dtypes.

    If `of_bools` is given, this ufunc combines bools.
    """
    def formula(do, op, dtype, first, *operands):
        if of_bools and np.dtype(dtype).kind == "b":
            function, first = of_bools, do.cast(first, dtype)
        else:
            function = ufunc
        for x in operands:
            common = dtype if function is of_bools else _dtype_in_c(first.dtype, x.dtype) or dtype
            first = do(function, first, x, dtype=common)
        return first
    return formula


def _comparison(ufunc):
    def compare(do, op, dtype, x, y):
        x, y = _exact(do, x), _exact(do, y)
        common = _dtype_in_c(x.dtype, y.dtype) or np.result_type(x.dtype, y.dtype)
        return do(ufunc, x, y, dtype=common)
    return compare


_less, _greater = _comparison(np.less), _comparison(np.greater)


def _extremum(ufunc, compare):
    """Return a formula for the maximum or the minimum of two values.

    C may compare the values in one dtype, and then convert the chosen value to float64 and back.
    """
    def formula(do, op, dtype, x, y):
        common = _dtype_in_c(x.dtype, y.dtype) or np.dtype(dtype)
        if common.kind in "iu" and common.itemsize == 8 or _mixes_signs(x, y):
            return _choice(do, compare(do, op, "bool", y, x), do.cast(y, "float64"),
                           do.cast(x, "float64"))
        return do(ufunc, y, x, dtype=common)  # for 0 and -0, C returns the first, NumPy the second
    return formula


def _in_dtype_of_argument(ufunc):
    return lambda do, op, dtype, x: do(ufunc, x, dtype=x.dtype)


def _of_function(function):
    """Return a formula that calls a function, which makes an array, in the dtype of the result."""
    return lambda do, op, dtype, *x: do.call(function, *(do.cast(a, dtype) for a in x),
                                             dtype=dtype)


def _in_doubles(function):
    """Return a formula that calls a function, which makes an array, in doubles, as in C code."""
    def formula(do, op, dtype, *x):
        wide = np.result_type(dtype, "float64")
        return do.call(function, *(do.cast(a, wide) for a in x), dtype=wide)
    return formula


# --- formulas of several steps ---

def _where(condition, x, y):
    """Return ``np.where(condition, x, y)`` for x and y of the same dtype.

    If the condition is random, operations on bits take a tenth of the time of `numpy.where`.
    """
    if x.dtype.itemsize > 8 or np.size(condition) < 100:
        return np.where(condition, x, y)
    dtype, bits = x.dtype, f"i{x.dtype.itemsize}"
    mask = np.negative(np.asarray(condition, bool).astype(bits))
    x, y = x.view(bits), y.view(bits)
    return np.bitwise_xor(np.bitwise_and(np.bitwise_xor(x, y), mask), y).view(dtype)


def _switch(do, op, dtype, condition, x, y):
    return _choice(do, condition, x, y)


def _clip(do, op, dtype, x, low, high):
    below_high = _choice(do, _greater(do, op, "bool", x, high), high, x)
    return _choice(do, _less(do, op, "bool", x, low), low, below_high)


def _in_range(do, op, dtype, x, low, high):
    above = _comparison(np.greater if op.openlow else np.greater_equal)(do, op, dtype, x, low)
    below = _comparison(np.less if op.openhi else np.less_equal)(do, op, dtype, x, high)
    return do(np.logical_and, above, below)


def _round_half_to_even(x):
    """Round in the same way as Theano's C code: a negative number is rounded to 0, never to -0."""
    below = np.floor(x)
    fraction = x - below
    is_rounded_up = (fraction > 0.5) | ((fraction == 0.5) & (np.fmod(below, 2) != 0))
    return np.where(is_rounded_up, below + 1, below).astype(x.dtype)


def _round_half_away_from_zero(do, op, dtype, x):
    x = do.cast(x, dtype)
    magnitude = do(np.abs, x)
    below = do(np.floor, magnitude)
    is_rounded_up = do(np.greater_equal, do(np.subtract, magnitude, below), 0.5)
    return do(np.copysign, do(np.add, below, is_rounded_up, dtype=dtype), x)


def _true_divide(do, op, dtype, x, y):
    of_integers = x.dtype.kind in "biu" and y.dtype.kind in "biu"
    common = "float64" if of_integers else _dtype_in_c(x.dtype, y.dtype)
    return do(np.true_divide, x, y, dtype=common or dtype)


def _of_integers_or_floats(of_integers, of_mixed, of_floats):
    """Return a formula for a division or a remainder. Integers must not be divided by zero.

    Parameters
    ----------
    of_integers : callable
        Used for integers of the same dtype.
    of_mixed : callable
        Used for signed and unsigned integers if the result is a float64 in Theano, or if C converts
        the signed integers to uint32.
    of_floats : callable
        Used for floats. Its arguments are `do`, the dtype of the result, and two `_Value`.
    """
    of_integers, of_mixed = _refusing_zeros(of_integers), _refusing_zeros(of_mixed)

    def formula(do, op, dtype, x, y):
        if x.dtype.kind not in "biu" or y.dtype.kind not in "biu":
            return of_floats(do, dtype, _exact(do, x), _exact(do, y))
        common = _dtype_in_c(x.dtype, y.dtype)
        if np.dtype(dtype).kind == "f":
            return do.call(of_mixed, x, y, dtype="float64")
        if _mixes_signs(x, y) and common.itemsize == 4:
            return do.call(of_mixed, x, y, dtype="uint32")
        return do.call(of_integers, do.cast(x, common), do.cast(y, common), dtype=common)
    return formula


def _refusing_zeros(divide):
    """Return a division, or a remainder, that raises an error if a divisor is 0."""
    def checked(x, y):
        if not np.all(y):
            raise ZeroDivisionError("integer division or modulo by zero")
        return divide(x, y)
    return checked


def _floor_divide_floats(do, dtype, x, y):
    common = _dtype_in_c(x.dtype, y.dtype) or dtype
    return do.call(_floor_divide(dtype), do.cast(x, common), do.cast(y, common), dtype=dtype)


def _mod_floats(do, dtype, x, y):
    """Add the steps of a remainder. C's function computes in float32, or else in float64."""
    common = dtype if x.dtype == y.dtype == dtype else np.result_type(dtype, "float64")
    return do.call(_mod, do.cast(x, common), do.cast(y, common), dtype=common)


def _magnitude(x):
    return np.where(x < 0, -x, x).astype("uint64")


def _floor_divide_mixed(x, y):
    """Divide in the same way as C: in uint32, or in uint64, with the quotient as float64."""
    if max(x.itemsize, y.itemsize) < 8:
        return np.floor_divide(x.astype("int64"), y.astype("int64")).astype("uint32")
    quotient = (_magnitude(x) // _magnitude(y)).astype("float64")
    remainder = np.fmod(_magnitude(x).astype("float64"), _magnitude(y).astype("float64"))
    return np.where((x < 0) | (y < 0), -quotient - (remainder != 0), quotient)


def _mod_mixed(x, y):
    """Return the same remainder as C: in uint32, or in float64 if an argument is a uint64."""
    if max(x.itemsize, y.itemsize) < 8:
        return np.mod(x.astype("int64"), y.astype("int64")).astype("uint32")
    return _mod(x.astype("float64"), y.astype("float64"))


def _floor_divide(dtype):
    """Return a function that divides floats in the same way as C.

    It rounds the quotient to the dtype of the result, then takes the floor. So ``1 // 0.1`` is 10.
    """
    def divide(x, y):
        magnitude_x, magnitude_y = np.where(x < 0, -x, x), np.where(y < 0, -y, y)
        quotient = np.floor((magnitude_x / magnitude_y).astype(dtype))
        remainder = np.fmod(magnitude_x.astype(dtype), magnitude_y.astype(dtype))
        result = np.where((x < 0) != (y < 0), -quotient - (remainder != 0), quotient)
        return np.where(y == 0, np.floor((x / y).astype(dtype)), result).astype(dtype)
    return divide


def _mod(x, y):
    """Return the same remainder of floats as C, with the sign of the divisor."""
    remainder = np.fmod(x, y)
    correction = np.where(remainder != 0, y, y.dtype.type(0))
    return np.where((x < 0) != (y < 0), remainder + correction, remainder)


def _power_of_integers(x, y):
    """Return the same power of integers, given as doubles, as the C library.

    It is exact up to 2**53. NumPy's result may differ by some units in the last place.
    """
    x, y = np.broadcast_arrays(x, y)
    result = np.array(np.rint(np.power(x, y)))
    large = (np.abs(result) >= 2.**48) & (np.abs(result) < 2.**65)
    result[large] = [math.pow(*pair) for pair in zip(x[large], y[large])]
    return result


def _power(do, op, dtype, x, y):
    if np.dtype(dtype).kind in "iu":
        return do.call(_power_of_integers, do.cast(x, "float64"), do.cast(y, "float64"),
                       dtype="float64")
    if y.is_number:
        return do.call(_power_of_a_number, do.cast(x, dtype), do.cast(y, dtype), dtype=dtype)
    return do(np.power, x, y, dtype=dtype)


def _power_of_a_number(x, y):
    """Return a power with an exponent that is a number.

    For the exponent 1/2, NumPy computes a square root. Unlike in C, -0 then gives -0, and -inf
    gives NaN.
    """
    if y == 0.5:
        x = np.where(x == -np.inf, np.inf, x) + x.dtype.type(0)
    return np.asarray(np.power(x, y))


def _x_log_y(do, op, dtype, x, y=None):
    x = do.cast(x, dtype)
    product = do(np.multiply, x, do(np.log, x if y is None else y, dtype=dtype), dtype=dtype)
    return do.call(_where, do(np.equal, x, 0), do.constant(0, dtype), product, dtype=dtype)


def _sigmoid(do, op, dtype, x):
    wide = np.result_type(dtype, "float32")
    x = do.cast(x, wide)
    result = do(np.reciprocal, do(np.add, do(np.exp, do(np.negative, x)), 1))
    if wide.kind == "f":  # Theano's shortcuts: log(1 - sigmoid(x)) and log(sigmoid(x)) show them
        low, high = (-88, 15) if wide == np.float32 else (-709, 19)
        result = do.call(_where, do(np.greater, x, high), do.constant(1, wide), result, dtype=wide)
        result = do.call(_where, do(np.less, x, low), do.constant(0, wide), result, dtype=wide)
    return result


def _softplus(do, op, dtype, x):
    wide = np.result_type(dtype, "float32")
    x = do.cast(x, wide)
    if wide.kind == "c":
        return do(np.log1p, do(np.exp, x))
    if wide == np.float64:  # Theano's shortcut
        result = do(np.log1p, do(np.exp, x))
        return do.call(_where, do(np.greater, x, 16), x, result, dtype=wide)
    # softplus(x) = max(x, 0) + log1p(e), with e = exp(-|x|). NumPy's log1p is slow. It is replaced
    # by log(u), with u = 1 + e, and a correction for the rounding error of u.
    e = do(np.exp, do(np.negative, do(np.abs, x)))
    u = do(np.add, e, 1)
    correction = do(np.divide, do(np.subtract, do(np.subtract, u, 1), e), u)
    return do(np.add, do(np.maximum, x, 0), do(np.subtract, do(np.log, u), correction))


def _softsign(do, op, dtype, x):
    x = do.cast(x, dtype)
    return do(np.divide, x, do(np.add, do(np.abs, x), 1))


def _ultra_fast_sigmoid(x):
    half = np.abs(x / 2)
    z = np.where(half < 1.7, 1.5 * half / (1 + half), np.where(
        half < 3, 0.935409070603099 + 0.0458812946797165 * (half - 1.7), 0.99505475368673))
    return ((np.where(x >= 0, z, -z) + 1) / 2).astype(x.dtype)


# --- complex numbers ---

def _real(do, op, dtype, x):
    return do.call(lambda x: np.array(x.real, dtype), x, dtype=dtype)


def _imag(do, op, dtype, x):
    return do.call(lambda x: np.array(x.imag, dtype), x, dtype=dtype)


def _angle(do, op, dtype, x):
    return do(np.arctan2, _imag(do, op, dtype, x), _real(do, op, dtype, x), dtype=dtype)


def _complex_of(parts_of):
    """Return a formula for a complex number. A function computes its real and imaginary parts."""
    def formula(do, op, dtype, x, y):
        part_dtype = np.result_type(np.zeros(0, dtype).real, "float32")

        def compute(x, y):
            result = np.empty(np.broadcast_shapes(np.shape(x), np.shape(y)), dtype)
            result.real, result.imag = parts_of(x, y)
            return result

        return do.call(compute, do.cast(x, part_dtype), do.cast(y, part_dtype), dtype=dtype)
    return formula


def _parts_of_polar(radius, angle):
    if np.any(radius < 0):
        raise ValueError(f"Got a polar radius of {np.min(radius)}, expected none below 0")
    return radius * np.cos(angle), radius * np.sin(angle)


# --- SciPy's special functions, changed where C has other values ---

def _j0(x):
    return np.where(np.isinf(x), 0, special.j0(x))


def _j1(x):
    return np.where(np.isinf(x), 1 / x, special.j1(x))  # 0 with the sign of x


def _gamma(x):
    result = special.gamma(x)
    if result.dtype.kind == "c":
        return result
    return np.where((x < 0) & (x == np.floor(x)), np.nan, result)


def _gammaln(x):
    result = special.gammaln(np.where(x == -np.inf, np.inf, x))
    return np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), result)


def _psi(x):
    result = special.psi(x)
    return result if result.dtype.kind == "c" else np.where(x <= 0, 0, result)


def _tri_gamma(x):
    return np.where(x <= 0, 0, special.zeta(2, np.where(x <= 0, 1, x)))


_BASIC = {
    "Add": _in_c(np.add, of_bools=np.logical_or),
    "Mul": _in_c(np.multiply, of_bools=np.logical_and),
    "Sub": _in_c(np.subtract),
    "OR": _in_c(np.bitwise_or, of_bools=np.logical_or),
    "XOR": _in_c(np.bitwise_xor, of_bools=np.logical_xor),
    "AND": _in_c(np.bitwise_and, of_bools=np.logical_and),
    "LT": _less,
    "GT": _greater,
    "LE": _comparison(np.less_equal),
    "GE": _comparison(np.greater_equal),
    "EQ": _comparison(np.equal),
    "NEQ": _comparison(np.not_equal),
    "Maximum": _extremum(np.maximum, _greater),
    "Minimum": _extremum(np.minimum, _less),
    **{name: _in_dtype_of_result(ufunc) for name, ufunc in {
        "Invert": np.invert, "Sgn": np.sign, "Ceil": np.ceil, "Floor": np.floor,
        "Trunc": np.trunc, "Neg": np.negative, "Inv": np.reciprocal,
        "Log": np.log, "Log2": np.log2, "Log10": np.log10, "Log1p": np.log1p, "Exp": np.exp,
        "Exp2": np.exp2, "Expm1": np.expm1, "Sqr": np.square, "Sqrt": np.sqrt,
        "Deg2Rad": np.deg2rad, "Rad2Deg": np.rad2deg, "Cos": np.cos, "ArcCos": np.arccos,
        "Sin": np.sin, "ArcSin": np.arcsin, "Tan": np.tan, "ArcTan": np.arctan,
        "ArcTan2": np.arctan2, "Cosh": np.cosh, "ArcCosh": np.arccosh, "Sinh": np.sinh,
        "ArcSinh": np.arcsinh, "Tanh": np.tanh, "ArcTanh": np.arctanh, "Conj": np.conj}.items()},
    **{name: _in_dtype_of_argument(ufunc) for name, ufunc in {
        "IsNan": np.isnan, "IsInf": np.isinf, "Abs": np.absolute}.items()},
    "Cast": lambda do, op, dtype, x: do.cast(x, dtype),
    "Identity": lambda do, op, dtype, x: x,
    "Second": lambda do, op, dtype, x, y: y,
    "Switch": _switch,
    "Clip": _clip,
    "InRange": _in_range,
    "RoundHalfToEven": _of_function(_round_half_to_even),
    "RoundHalfAwayFromZero": _round_half_away_from_zero,
    "TrueDiv": _true_divide,
    "IntDiv": _of_integers_or_floats(np.floor_divide, _floor_divide_mixed, _floor_divide_floats),
    "Mod": _of_integers_or_floats(np.mod, _mod_mixed, _mod_floats),
    "Pow": _power,
    "Real": _real,
    "Imag": _imag,
    "Angle": _angle,
    "Complex": _complex_of(lambda x, y: (x, y)),
    "ComplexFromPolar": _complex_of(_parts_of_polar),
}
_SCIPY = {
    **{name: _special(name.lower()) for name in (
        "Erf", "Erfc", "Erfcx", "Erfinv", "Erfcinv", "GammaInc", "GammaIncC", "Jv", "Iv", "I1",
        "I0")},
    **{name: _in_doubles(function) for name, function in {
        "J0": _j0, "J1": _j1, "Gamma": _gamma, "GammaLn": _gammaln, "Psi": _psi,
        "TriGamma": _tri_gamma,
        "Chi2SF": lambda x, k: special.chdtrc(k, x),
        "GammaU": lambda k, x: special.gammaincc(k, x) * special.gamma(k),
        "GammaL": lambda k, x: special.gammainc(k, x) * special.gamma(k)}.items()},
}
_FORMULAS = {
    **{f"theano.scalar.basic.{name}": formula for name, formula in _BASIC.items()},
    **{f"theano.scalar.basic_scipy.{name}": formula for name, formula in _SCIPY.items()},
    "theano.tensor.nnet.sigm.ScalarSigmoid": _sigmoid,
    "theano.tensor.nnet.sigm.ScalarSoftplus": _softplus,
    "theano.tensor.nnet.sigm.UltraFastScalarSigmoid": _of_function(_ultra_fast_sigmoid),
    "theano.tensor.nnet.nnet.ScalarSoftsign": _softsign,
    "theano.tensor.xlogx.XlogX": _x_log_y,
    "theano.tensor.xlogx.XlogY0": _x_log_y,
}
