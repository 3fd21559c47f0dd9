"""Patches that restore names and behaviour that Python, NumPy and SciPy have removed.

Theano or Lasagne use them. The names in NumPy are restored for the whole process, because old
notebooks use them, too.
"""

import ast
import math
import pickle
import sys
import warnings
from copy import deepcopy
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from shutil import which
from sysconfig import get_config_h_filename, get_config_var, get_path, get_python_version
from types import ModuleType, SimpleNamespace

import numpy as np
import numpy.version as version_of_numpy

from theano_compat.hooks import around_import, replace, rewrite


class _Cast:
    """``np.cast[dtype](x)``, which NumPy 2.0 removed."""

    def __getitem__(self, dtype):
        dtype = dtype if isinstance(dtype, type) else getattr(dtype, "dtype", dtype)
        return lambda x: np.asarray(x, dtype=dtype)


def _find_common_type(array_types, scalar_types):
    """Apply the rule of NumPy 1: scalars count only if their kind is higher than that of arrays."""
    arrays = np.result_type(*array_types) if array_types else None
    scalars = np.result_type(*scalar_types) if scalar_types else None
    kinds = "buifc"
    if arrays is None or scalars is None:
        return arrays or scalars
    if kinds.index(scalars.kind) <= kinds.index(arrays.kind):
        return arrays
    return np.result_type(arrays, scalars)


def _records(*args, **options):
    return np.genfromtxt(*args, **options).view(np.recarray)


_DROPPED_NUMPY_NAMES = {
    # Aliases of Python's own types, removed by NumPy 1.24.
    "int": int, "float": float, "complex": complex, "object": object, "str": str, "unicode": str,
    # Removed by NumPy 1.23 and 2.0.
    "asscalar": lambda a: a.item(),
    "asfarray": lambda a, dtype=np.float64: np.asarray(a, dtype=dtype),
    "alltrue": np.all, "sometrue": np.any, "cumproduct": np.cumprod, "round_": np.round,
    "mat": np.asmatrix, "trapz": np.trapezoid, "row_stack": np.vstack,
    "msort": lambda a: np.sort(a, axis=0),
    "cast": _Cast(),
    "product": np.prod,
    "sctype2char": lambda dtype: np.dtype(dtype).char,
    "MAXDIMS": np.iinfo(np.intc).min,  # means "no axis"; NPY_RAVEL_AXIS since NumPy 2.0
    "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "string_": np.bytes_,
    "cfloat": np.complex128,
    "Inf": np.inf, "Infinity": np.inf, "infty": np.inf, "PINF": np.inf, "NINF": -np.inf,
    "NaN": np.nan,
    "find_common_type": _find_common_type,
    "ComplexWarning": np.exceptions.ComplexWarning, "AxisError": np.exceptions.AxisError,
    "RankWarning": np.exceptions.RankWarning,
    "VisibleDeprecationWarning": np.exceptions.VisibleDeprecationWarning,
    # Removed by NumPy 1.20 to 2.0, and rarely used.
    "NAN": np.nan, "PZERO": 0., "NZERO": -0.,
    "bool8": np.bool_, "int0": np.intp, "uint0": np.uintp, "object0": np.object_,
    "str0": np.str_, "bytes0": np.bytes_, "void0": np.void, "longfloat": np.longdouble,
    "singlecomplex": np.complex64, "longcomplex": np.clongdouble, "clongfloat": np.clongdouble,
    "typeDict": {**np.sctypeDict, **{char: np.dtype(char).type for char in np.typecodes["All"]}},
    "sctypes": {name: sorted({cls for cls in np.sctypeDict.values() if issubclass(cls, parent)},
                             key=lambda cls: np.dtype(cls).itemsize)
                for name, parent in [("int", np.signedinteger), ("uint", np.unsignedinteger),
                                     ("float", np.floating), ("complex", np.complexfloating)]},
    "nbytes": {cls: np.dtype(cls).itemsize for cls in set(np.sctypeDict.values())},
    "obj2sctype": lambda dtype: np.dtype(dtype).type,
    "issctype": lambda dtype: isinstance(dtype, type) and issubclass(dtype, np.generic),
    "issubclass_": lambda cls, base: isinstance(cls, type) and issubclass(cls, base),
    "issubsctype": lambda dtype, base: issubclass(np.dtype(dtype).type, np.dtype(base).type),
    "MachAr": lambda: np.finfo(float),
    "alen": lambda a: len(np.atleast_1d(a)), "rank": np.ndim,
    "fastCopyAndTranspose": lambda a: np.array(np.transpose(a), order="C"),
    "safe_eval": ast.literal_eval, "loads": pickle.loads,
    "disp": lambda message, device=None, linefeed=True: print(
        message, end="\n" if linefeed else "", file=device),
    "deprecate": lambda *args, **kwargs: args[0] if args else lambda function: function,
    "recfromtxt": lambda *args, **kwargs: _records(*args, **{"dtype": None, **kwargs}),
    "recfromcsv": lambda *args, **kwargs: _records(*args, **{
        "dtype": None, "delimiter": ",", "names": True, "case_sensitive": "lower", **kwargs}),
    "math": math, "sys": sys, "warnings": warnings, "version": version_of_numpy,
    "format_parser": np.rec.format_parser, "byte_bounds": np.lib.array_utils.byte_bounds,
    # Removed by NumPy 2.4.
    "in1d": lambda a, *args, **kwargs: np.isin(np.ravel(a), *args, **kwargs),
}


def _restore_numpy_names():
    for name, value in _DROPPED_NUMPY_NAMES.items():
        if name not in vars(np):
            setattr(np, name, value)
    # Modules that NumPy 2.0 has moved.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        np.linalg.linalg = sys.modules["numpy.linalg.linalg"] = np.linalg
        np.core._multiarray_umath = np._core._multiarray_umath


_restore_numpy_names()


def stand_in(name, **contents):
    """Return a new module with this name and these contents, which replaces a missing module."""
    module = ModuleType(name)
    vars(module).update(contents)
    return module


def in_place_of(**modules):
    """Put modules into ``sys.modules`` until the generator is resumed.

    A patch calls it as ``yield from in_place_of(...)``.

    Parameters
    ----------
    **modules : module
        Modules by their full names.
    """
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@around_import("theano.configdefaults", "theano.gof.cmodule")
def restore_distutils(module):
    """Give Theano the few functions of distutils that it uses.

    Python 3.12 has removed distutils. On an older Python, or with the copy in setuptools, importing
    the real distutils takes longer.
    """
    spawn = stand_in("distutils.spawn", find_executable=which)
    config = stand_in(
        "distutils.sysconfig", get_config_var=get_config_var,
        get_config_h_filename=get_config_h_filename, get_python_version=get_python_version,
        get_python_inc=lambda plat_specific=0: get_path("platinclude" if plat_specific
                                                        else "include"),
        get_python_lib=lambda plat_specific=0, standard_lib=0: get_path(
            "stdlib" if standard_lib else "platlib" if plat_specific else "purelib"))
    yield from in_place_of(**{
        "distutils": stand_in("distutils", spawn=spawn, sysconfig=config),
        "distutils.spawn": spawn, "distutils.sysconfig": config})


@around_import("theano.gof.cmodule", "theano.tensor.blas")
def restore_numpy_distutils(module):
    """Give Theano the only function of numpy.distutils that it uses.

    NumPy has no numpy.distutils on Python 3.12 and later, and NumPy 2.5 has it on no Python. In
    other cases it needs setuptools < 74.
    """
    distutils = stand_in(
        "numpy.distutils",
        misc_util=SimpleNamespace(get_numpy_include_dirs=lambda: [np.get_include()]))
    yield from in_place_of(**{
        "numpy.distutils": distutils,
        "numpy.distutils.__config__": stand_in("numpy.distutils.__config__")})
    module.numpy = SimpleNamespace(distutils=distutils)


@around_import("theano.gof.type", "theano.gof.graph")
def accept_dtype_names(module):
    """Let NumPy convert Theano's types and variables to dtypes.

    Their attribute ``dtype`` is a string. NumPy 2.4 requires that this attribute is a dtype.
    """
    yield
    owner = module.PureType if hasattr(module, "PureType") else module.Variable
    owner.__numpy_dtype__ = property(lambda self: np.dtype(self.dtype))


@around_import("theano.tests.breakpoint")
def restore_imp(module):
    """Give Theano ``imp.find_module``, which Python 3.12 has removed.

    Theano uses it to look for a debugger whenever `theano.scan` builds a loop.
    """
    def find_module(name):
        if find_spec(name) is None:
            raise ImportError(name)

    yield from in_place_of(imp=stand_in("imp", find_module=find_module))


@around_import("theano.printing")
def restore_tostring(printing):
    """Print arrays without ``ndarray.tostring``, which NumPy 2.3 has removed."""
    yield

    class Array(np.ndarray):
        def tostring(self):
            return self.tobytes()

    @replace(printing)
    def hex_digest(x):
        return hex_digest.original(x.view(Array))


@around_import("theano.printing")
def import_pydot_lazily(module):
    """Import pydot only when a graph is drawn; if it is missing, say what to install.

    Without this patch, the import of Theano also imports pydot and starts Graphviz.
    """
    def look_up(name):
        try:
            return getattr(import_module("pydot"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: pip install pydot, and install Graphviz") from None

    yield from in_place_of(pydot=stand_in(
        "pydot", find_graphviz=lambda: True, __getattr__=look_up))


@around_import("theano.tensor.raw_random")
def copy_random_states_fully(raw_random):
    """Copy random states together with their streams.

    Since NumPy 1.24, ``copy.copy`` of a RandomState draws from the same stream as the original. So
    a function without updates would change its random stream.
    """
    yield
    raw_random.copy = deepcopy


@around_import("theano.misc.pkl_utils")
def allow_pickler_attributes(pkl_utils):
    """Let `theano.misc.pkl_utils` set ``persistent_id`` and ``persistent_load`` of picklers.

    Only in Python 3.13, this is impossible unless the picklers are instances of derived classes.
    """
    yield

    class Pickler(pickle.Pickler):
        pass

    class Unpickler(pickle.Unpickler):
        pass

    pkl_utils.pickle = SimpleNamespace(
        **{**vars(pickle), "Pickler": Pickler, "Unpickler": Unpickler})


@around_import("theano.compile.debugmode")
def restore_itemset(debugmode):
    """Let DebugMode overwrite scalars without ``ndarray.itemset``, which NumPy 2.0 has removed."""
    yield
    rewrite(debugmode._Linker, "make_all", r"\.itemset\(", ".fill(")


@around_import("theano.tensor.sort")
def index_by_tuples(sort):
    """Index by a tuple of slices in topk: since NumPy 1.23, a list means an array of indices."""
    yield
    rewrite(sort, "_topk_py_impl", r"\[idx\]", "[tuple(idx)]")


@around_import("theano.tensor.sort")
def make_topk_consistent(sort):
    """Return the values of topk in the order of its indices, because its gradient relies on this.

    Since NumPy 1.25, ``partition`` and ``argpartition`` may return different orders.
    """
    yield

    @replace(sort.TopKOp)
    def perform(self, node, inputs, output_storage):
        if self.return_indices:
            return perform.original(self, node, inputs, output_storage)
        (x, k), (values,) = inputs, output_storage
        only_indices = SimpleNamespace(return_values=False, return_indices=True)
        indices = sort._topk_py_impl(only_indices, x, k, self.axis, "int64")
        values[0] = np.take_along_axis(x, indices, self.axis)


@around_import("theano.sparse.sandbox.sp")
def use_integer_indices(sp):
    """Use integers as indices of sparse matrices: SciPy 1.9 does not accept floats."""
    yield

    class Matrix(sp.scipy_sparse.lil_matrix):
        def __setitem__(self, indices, value):
            super().__setitem__(tuple(int(index) for index in indices), value)

    sp.scipy_sparse = SimpleNamespace(lil_matrix=Matrix)


@around_import("theano.tensor.signal")
def restore_downsample(module):
    """Restore ``theano.tensor.signal.downsample``: Lasagne 0.1 needs it, Theano 0.9 removed it."""
    yield

    def max_pool_2d(input, ds, ignore_border=None, st=None, padding=(0, 0), mode="max"):
        """Pool with the parameter names of Theano 0.8: `ds` is ws, `st` stride, `padding` pad."""
        from theano.tensor.signal.pool import pool_2d
        return pool_2d(input, ws=ds, ignore_border=ignore_border, stride=st, pad=padding,
                       mode=mode)

    class DownsampleFactorMax:
        """A replacement for the operation of this name, which is not an operation itself."""

        def __init__(self, ds, ignore_border=False, st=None, padding=(0, 0), mode="max"):
            self._options = ds, ignore_border, st, padding, mode

        def __call__(self, input):
            return max_pool_2d(input, *self._options)

    module.downsample = stand_in("theano.tensor.signal.downsample", max_pool_2d=max_pool_2d,
                                 DownsampleFactorMax=DownsampleFactorMax)
    sys.modules["theano.tensor.signal.downsample"] = module.downsample


@around_import("lasagne", "theano.gpuarray.linalg")
def restore_pkg_resources(module):
    """Let Lasagne read its own version without ``pkg_resources``, which setuptools 82 removed."""
    import theano  # noqa: F401  may import setuptools, which needs the real pkg_resources
    yield from in_place_of(pkg_resources=stand_in(
        "pkg_resources", DistributionNotFound=PackageNotFoundError,
        get_distribution=lambda name: SimpleNamespace(version=version(name))))


@around_import("theano", "theano.gpuarray", "lasagne")
def accept_old_spellings(module):
    """Silence warnings about Theano's and Lasagne's own sources, which a user cannot change.

    Theano 0.8 has renamed an argument that Lasagne uses. Python 3.12 warns about ``"\\."`` in
    strings.
    """
    warnings.filterwarnings("ignore", "The `(image|filter)_shape` keyword argument")
    # A traceback may parse the sources again.
    warnings.filterwarnings("ignore", category=SyntaxWarning,
                            module=r".*[\\/](theano|lasagne)[\\/]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", SyntaxWarning)
        yield


@around_import("theano.misc.safe_asarray")
def wrap_integers(safe_asarray):
    """Convert an integer that does not fit a type modulo the type's range, as NumPy 1 did.

    NumPy 2.0 raises an exception. To find the smallest type for an integer, Theano converts it to
    each type and compares the results.
    """
    yield

    @replace(safe_asarray)
    def _asarray(a, dtype, order=None):
        try:
            return _asarray.original(a, dtype, order)
        except OverflowError:
            return np.asarray(a, dtype="int64").astype(dtype, order=order or "K")


@around_import("theano.tensor.opt")
def wrap_negatives(opt):
    """Convert -1 to unsigned types modulo their range when Theano replaces -x by -1 * x.

    NumPy 2.0 raises an exception.
    """
    yield

    @replace(opt.local_neg_to_mul)
    def transform(node):
        if node.op == opt.T.neg:
            x, = node.inputs
            return [opt.T.mul(np.array(-1).astype(x.dtype), x)]


@around_import("theano.scalar.basic")
def compare_floats_exactly(scalar):
    """Compare Python floats with float32 in double precision, as NumPy 1 did.

    Theano looks for the smallest type that represents a constant exactly. NumPy 2.0 compares in
    float32. There, 0.1 equals 0.1 rounded to float32, so Theano would use float32 for all
    constants.
    """
    yield

    @replace(scalar.NumpyAutocaster)
    def __call__(self, x):
        chosen = __call__.original(self, x)
        if hasattr(x, "dtype") or not isinstance(x, float) or float(chosen) == x:
            return chosen
        if scalar.config.cast_policy == "custom" and scalar.config.floatX == "float64":
            return np.asarray(x, dtype=self.dtypes[-1])
        return chosen


@around_import("theano.tensor.extra_ops")
def flatten_unique_inverse(extra_ops):
    """Return the inverse of `Unique` as a vector; since NumPy 2.0 it has the shape of the array."""
    yield

    @replace(extra_ops.Unique)
    def perform(self, node, inputs, output_storage):
        perform.original(self, node, inputs, output_storage)
        for storage in output_storage[1:]:
            storage[0] = np.ravel(storage[0])
