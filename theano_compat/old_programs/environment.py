"""The environment of programs of Theano's time, which Python, NumPy and SciPy have changed since.

It is restored only in processes that run old programs (``python -m theano_compat``, ``pytest -p
theano_compat``, notebooks), because other programs do not expect it. `DROPPED` is a table of
removed names with their replacements; comments state the version that has removed them. Removed
modules and functions of NumPy with a changed meaning follow.
"""

import builtins
import collections.abc
import functools
import html
import importlib
import inspect
import os
import re
import shutil
import sys
import threading
import types
import warnings
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pkgutil import resolve_name

import numpy as np

from theano_compat.hooks import around_import, replace
from theano_compat.needed.removed_names import stand_in
from theano_compat.needed.settings import floats_of_old_programs
from theano_compat.old_programs.children import adapt_children
from theano_compat.old_programs.gpu_layers import modules_of_old_backend
from theano_compat.originals import as_imported

__all__ = ["as_old_program", "DROPPED"]

_is_old_program = False


def as_old_program():
    """Restore the environment of old programs in this process and in processes that it starts."""
    global _is_old_program
    if _is_old_program:
        return
    _is_old_program = True
    adapt_children()
    for name, module in _dropped_modules().items():
        if not _exists(name):
            _add_module(name, module)
    for name in ("sklearn.cross_validation", "sklearn.grid_search"):
        sys.modules.setdefault(name, _moved_to_model_selection(name))
    for name in DROPPED:
        if name in sys.modules or not name.startswith(("scipy", "matplotlib")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                _restore(importlib.import_module(name))
    _restore(np)
    np.set_printoptions(legacy="1.25")  # NumPy 2.0 prints a number with its type
    # Since NumPy 2.0, `from numpy import *` also replaces these functions and types of Python.
    np.__all__ = [name for name in np.__all__
                  if name not in ("abs", "bool", "long", "max", "min", "pow", "round")]
    if "theano" in sys.modules:
        _adapt_theano()
        as_imported.accept_changes()


@around_import("theano")
def adapt_theano_to_old_programs(theano):
    """Restore, for old programs, removed modules of Theano, its results and its default floatX.

    This happens when the program imports Theano, because until then it may set THEANO_FLAGS.
    """
    yield
    if _is_old_program:
        _adapt_theano()


def _adapt_theano():
    for name, module in _dropped_modules_of_theano().items():
        _add_module(name, module)
    _return_numbers(resolve_name("theano.compile.function_module:Function"))
    floats_of_old_programs()


def _add_module(name, module):
    sys.modules[name] = module
    package, _, last_name = name.rpartition(".")
    if package:
        setattr(importlib.import_module(package), last_name, module)


def _exists(module):
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _restore(module):
    """Set names in `DROPPED` that a module does not have, and decorate those in `_OLD_MEANINGS`."""
    for name, value in DROPPED.get(module.__name__, {}).items():
        if name not in vars(module):
            setattr(module, name, resolve_name(value) if isinstance(value, str) else value)
    for name, restore in _OLD_MEANINGS.get(module.__name__, {}).items():
        original = getattr(module, name)
        setattr(module, name, functools.wraps(original)(restore(original)))


@around_import("scipy", "scipy.misc", "scipy.ndimage", "scipy.stats", "scipy.linalg",
               "scipy.signal", "scipy.integrate", "matplotlib.cm", "matplotlib.pyplot",
               "matplotlib.style")
def restore_scipy_names(module):
    """Restore, for old programs, the names in `DROPPED` that SciPy and Matplotlib have removed.

    These versions have removed them: SciPy 1.0 to 2.0, Matplotlib 3.9 and 3.11.
    """
    yield
    if _is_old_program:
        _restore(module)


# --- names ---

_ArgSpec = collections.namedtuple("ArgSpec", "args varargs keywords defaults")


class _Tester:
    """A stand-in for NumPy's test runner. Packages set their attribute ``test`` to it."""

    def test(self, *args, **kwargs):
        raise RuntimeError("nose is gone: run these tests by pytest -p theano_compat")

    bench = test


def _toimage(array, high=255, low=0, cmin=None, cmax=None, mode=None):
    from PIL import Image
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] not in (3, 4):
        array = np.moveaxis(array, 0, 2)
    return Image.fromarray(_bytescale(array, cmin, cmax, high, low), mode)


def _bytescale(data, cmin=None, cmax=None, high=255, low=0):
    """Scale numbers to bytes, so that `cmin` becomes `low` and `cmax` becomes `high`.

    By default, `cmin` and `cmax` are the minimum and the maximum of the numbers.
    """
    data = np.asarray(data)
    if data.dtype == np.uint8:
        return data
    cmin = data.min() if cmin is None else cmin
    cmax = data.max() if cmax is None else cmax
    scaled = (data - cmin) * ((high - low) / ((cmax - cmin) or 1)) + low
    return (scaled.clip(low, high) + 0.5).astype(np.uint8)


def _imread(name, flatten=False, mode=None):
    from PIL import Image
    image = Image.open(name)
    mode = mode or {"P": "RGB", "1": "L"}.get(image.mode)
    image = image.convert(mode) if mode else image
    return np.array(image.convert("F") if flatten else image)


def _imresize(array, size, interp="bilinear", mode=None):
    from PIL import Image
    image = _toimage(array, mode=mode)
    if isinstance(size, (int, np.integer)):  # per cent
        size = size / 100
    width, height = ((size * side for side in image.size) if np.ndim(size) == 0
                     else (size[1], size[0]))
    method = getattr(Image.Resampling, {"cubic": "BICUBIC"}.get(interp, interp.upper()))
    return np.array(image.resize((int(width), int(height)), method))


def _itemfreq(a):
    return np.column_stack(np.unique(a, return_counts=True))


def _register_cmap(name=None, cmap=None):
    resolve_name("matplotlib:colormaps").register(cmap, name=name)


_WINDOWS = ["barthann", "bartlett", "blackman", "blackmanharris", "bohman", "boxcar", "chebwin",
            "cosine", "exponential", "flattop", "gaussian", "general_gaussian", "hamming", "hann",
            "kaiser", "nuttall", "parzen", "triang", "tukey"]

#: Replacements for names that a module has removed. A text states the place of the replacement.
#: Names of NumPy itself are in ``needed/removed_names.py``.
DROPPED = {
    # SciPy 1.4 to 2.0: aliases of NumPy's functions.
    "scipy": {name: f"numpy:{name}" for name in np.__all__
              if not isinstance(getattr(np, name), types.ModuleType)},
    # Python 3.7 to 3.9.
    "cgi": {"escape": lambda text, quote=False: html.escape(text, quote)},
    "os": {"errno": "errno"},
    "time": {"clock": "time:perf_counter"},
    "platform": {name: lambda *args, **kwargs: ("", "", "")
                 for name in ["dist", "linux_distribution"]},
    "base64": {"encodestring": "base64:encodebytes", "decodestring": "base64:decodebytes"},
    "fractions": {"gcd": "math:gcd"},
    "sys": {"setcheckinterval": lambda n: None, "getcheckinterval": lambda: 100},
    # Python 3.10 and 3.11.
    "collections": {name: f"collections.abc:{name}" for name in collections.abc.__all__},
    "inspect": {"ArgSpec": _ArgSpec,
                "getargspec": lambda function: _ArgSpec(*inspect.getfullargspec(function)[:4])},
    # Python 3.12 and 3.13.
    "configparser": {"SafeConfigParser": "configparser:ConfigParser"},
    "locale": {"format": lambda *args: resolve_name("locale:format_string")(*args)},
    "unittest": {"makeSuite": lambda case, *_: resolve_name(
        "unittest:defaultTestLoader").loadTestsFromTestCase(case)},
    # NumPy 1.25.
    "numpy.testing": {"Tester": _Tester, "rand": "numpy.random:rand"},
    # SciPy 1.0 to 1.3.
    "scipy.misc": {
        **{name: f"scipy.special:{name}"
           for name in ["logsumexp", "comb", "factorial", "factorial2", "factorialk"]},
        "bytescale": _bytescale, "toimage": _toimage, "fromimage": np.array, "imread": _imread,
        "imsave": lambda name, array, format=None: _toimage(array).save(name, format),
        "imresize": _imresize},
    "scipy.ndimage": {"imread": _imread},
    "scipy.stats": {"itemfreq": _itemfreq,
                    # SciPy 1.6 and 1.12.
                    "frechet_r": "scipy.stats:weibull_min", "frechet_l": "scipy.stats:weibull_max",
                    "binom_test": lambda x, n, p=0.5, alternative="two-sided": resolve_name(
                        "scipy.stats:binomtest")(x, n, p, alternative).pvalue},
    # SciPy 1.9 to 1.14.
    "scipy.linalg": {"pinv2": "scipy.linalg:pinv", **{
        name: f"numpy:{name}" for name in ["tri", "tril", "triu", "kron"]}},
    "scipy.signal": {name: f"scipy.signal.windows:{name}" for name in _WINDOWS},
    "scipy.integrate": {"cumtrapz": "scipy.integrate:cumulative_trapezoid",
                        "simps": "scipy.integrate:simpson", "trapz": "numpy:trapezoid"},
    # Matplotlib 3.9 and 3.11.
    "matplotlib.cm": {"get_cmap": lambda *args: resolve_name("matplotlib.pyplot:get_cmap")(*args),
                      "register_cmap": _register_cmap},
    "matplotlib.pyplot": {"register_cmap": _register_cmap},
    "matplotlib.style": {"core": "matplotlib.style"},
}


def _load_source(name, path, file=None):
    module = module_from_spec(spec_from_file_location(name, path))
    sys.modules[name] = module
    module.__spec__.loader.exec_module(module)
    return module


@functools.total_ordering
class _Version:
    """A version as in ``distutils.version``. Numbers in its text are compared as numbers."""

    def __init__(self, text):
        self.vstring = text
        self.version = [int(part) if part.isdigit() else part
                        for part in re.findall(r"\d+|[a-z]+", text)]

    def __str__(self):
        return self.vstring

    def _parts(self):
        return [(isinstance(part, int), part) for part in self.version]

    def __eq__(self, other):
        return self._parts() == type(self)(str(other))._parts()

    def __lt__(self, other):
        return self._parts() < type(self)(str(other))._parts()


def _no_gpu(device, *args, **kwargs):
    warnings.warn(f"There is no GPU for Theano here: in place of {device} the CPU computes",
                  stacklevel=2)


def _moved_to_model_selection(name):
    """Return a stand-in for a module that scikit-learn 0.20 has moved to ``model_selection``.

    It imports scikit-learn when an attribute is accessed.
    """
    def __getattr__(attribute):
        if attribute.startswith("__"):
            raise AttributeError(f"{name} has no {attribute}")
        value = resolve_name(f"sklearn.model_selection:{attribute}")
        return functools.partial(_folds, value) if attribute in _FOLDS else value
    return stand_in(name, __getattr__=__getattr__)


#: Classes with objects that used to be sequences of folds. Their first argument was the number of
#: elements or the label of each element. The functions convert it to an array of elements.
_FOLDS = {"KFold": np.zeros, "StratifiedKFold": np.asarray}


def _folds(fold_class, elements, n_folds=3, indices=None, shuffle=False, random_state=None):
    elements = _FOLDS[fold_class.__name__](elements)
    folds = fold_class(n_folds, shuffle=shuffle, random_state=random_state)
    return list(folds.split(elements, elements))


def _modules(name, **contents):
    """Return a dict of a module with these contents, and of the submodules among the contents."""
    submodules = {f"{name}.{key}": value for key, value in contents.items()
                  if isinstance(value, types.ModuleType)}
    if submodules:
        contents["__path__"] = []
    return {name: stand_in(name, **contents), **submodules}


def _dropped_modules():
    """Return stand-ins for removed modules, with the contents that old programs use."""
    public = {name: getattr(np, name) for name in np.__all__}
    return {
        # Python 3.9.
        "xml.etree.cElementTree": importlib.import_module("xml.etree.ElementTree"),
        "dummy_threading": threading,
        # Python 3.12.
        **_modules("imp", load_source=_load_source, reload=importlib.reload,
                   new_module=types.ModuleType),
        **_modules(
            "distutils",
            version=stand_in("distutils.version", LooseVersion=_Version, StrictVersion=_Version),
            spawn=stand_in("distutils.spawn", find_executable=shutil.which),
            dir_util=stand_in(
                "distutils.dir_util", remove_tree=shutil.rmtree,
                mkpath=lambda name, mode=0o777: os.makedirs(name, mode, exist_ok=True),
                copy_tree=lambda src, dst: shutil.copytree(src, dst, dirs_exist_ok=True))),
        # Python 3.13.
        **_modules("cgi"),
        **_modules("pipes", quote=resolve_name("shlex:quote")),
        # NumPy 2.0.
        **{f"numpy.lib.{name}": stand_in(f"numpy.lib.{name}", **public)
           for name in ["function_base", "index_tricks", "shape_base", "twodim_base",
                        "arraysetops", "type_check", "ufunclike", "nanfunctions"]},
        "numpy.testing.utils": np.testing,
        "numpy.testing.decorators": stand_in("numpy.testing.decorators", **{
            name: lambda *args: lambda function: function
            for name in ["slow", "skipif", "knownfailureif"]}),
    }


def _dropped_modules_of_theano():
    """Return stand-ins for modules that Theano 0.9 and 0.10 have removed."""
    return {
        **_modules("theano.compat.python2x", **{name: getattr(collections, name) for name in [
            "Counter", "OrderedDict", "defaultdict"]}, partial=functools.partial),
        **_modules(
            "theano.sandbox.cuda", cuda_available=False, cuda_enabled=False, use=_no_gpu,
            **modules_of_old_backend()),
    }


# --- functions of NumPy whose meaning has changed ---

def _accept_iterators(function):
    """Accept an iterator instead of a sequence of arrays. NumPy 1.16 refuses it."""
    def with_iterators(arrays, *args, **kwargs):
        arrays = list(arrays) if isinstance(arrays, collections.abc.Iterator) else arrays
        return function(arrays, *args, **kwargs)
    return with_iterators


def _accept_generators(function):
    """Accept a generator to sum. NumPy 2.4 refuses it."""
    def with_generators(a, *args, **kwargs):
        if isinstance(a, types.GeneratorType):
            return builtins.sum(a)
        return function(a, *args, **kwargs)
    return with_generators


def _accept_float_number(function):
    """Accept a float as the number of points. NumPy 1.18 refuses it."""
    def with_float(start, stop, num=50, *args, **kwargs):
        return function(start, stop, int(num), *args, **kwargs)
    return with_float


def _accept_float_shape(function):
    """NumPy 1.12 refuses floats as the lengths of a new array's axes."""
    def with_floats(shape, *args, **kwargs):
        try:
            return function(shape, *args, **kwargs)
        except TypeError:
            lengths = shape if isinstance(shape, (list, tuple)) else [shape]
            if not any(isinstance(length, (float, np.floating)) for length in lengths):
                raise
            return function([int(length) for length in lengths], *args, **kwargs)
    return with_floats


def _accept_old_name(old, new):
    """Accept the name `old` for the parameter `new`, if NumPy's function has this parameter."""
    def accept(function):
        if new not in inspect.signature(function).parameters:
            return function

        def with_old_name(*args, **kwargs):
            if old in kwargs:
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)
        return with_old_name
    return accept


def _accept_ragged_rows(function):
    """Accept rows of different lengths, and ``copy=False`` when a copy is necessary.

    NumPy 1.24 refuses the first, and NumPy 2.0 the second.
    """
    def with_objects(object, *args, **kwargs):
        if kwargs.get("copy") is False:
            kwargs["copy"] = None
        try:
            return function(object, *args, **kwargs)
        except ValueError as error:
            if "inhomogeneous" not in str(error) or args or "dtype" in kwargs:
                raise
            return function(object, *args, dtype="object", **kwargs)
    return with_objects


def _accept_binary(function):
    """Accept a string of binary numbers. NumPy 2.3 refuses it."""
    def with_binary(string, dtype=float, count=-1, *, sep="", **kwargs):
        if sep == "":
            string = string.encode("latin1") if isinstance(string, str) else string
            return np.frombuffer(string, dtype, count).copy()
        return function(string, dtype, count, sep=sep, **kwargs)
    return with_binary


def _keep_dimensions(function):
    """Keep the axis over which a function computes, as a dimension of length 1."""
    return functools.partial(function, keepdims=True)


#: Maps the name of a function, by its module, to a decorator that restores its old meaning.
_OLD_MEANINGS = {
    "numpy": {
        **dict.fromkeys(["concatenate", "vstack", "hstack", "dstack", "stack", "column_stack",
                         "row_stack"], _accept_iterators),
        "sum": _accept_generators,
        "reshape": _accept_old_name("newshape", "shape"),  # NumPy 2.4
        **dict.fromkeys(["histogram", "histogram2d", "histogramdd"],  # NumPy 1.24
                        _accept_old_name("normed", "density")),
        **dict.fromkeys(["percentile", "quantile", "nanpercentile", "nanquantile"],  # NumPy 2.4
                        _accept_old_name("interpolation", "method")),
        **dict.fromkeys(["array", "asarray"], _accept_ragged_rows),
        "fromstring": _accept_binary,
        "linspace": _accept_float_number,
        **dict.fromkeys(["empty", "full", "ones", "zeros"], _accept_float_shape),
    },
    "scipy.stats": {"mode": _keep_dimensions},  # SciPy 1.11
}


class _Result(np.ndarray):
    """An array of one element that can be converted to a number, which NumPy 2.4 refuses."""

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __complex__(self):
        return complex(self.item())

    def __index__(self):
        return self.item().__index__()

    def __reduce__(self):
        return self.view(np.ndarray).__reduce__()

    def __repr__(self):
        return repr(self.view(np.ndarray))


def _return_numbers(function_class):
    """Let Theano's functions return arrays of one element as `_Result`.

    For other arrays of one element, NumPy 2.4 refuses float(a), "%f" % a and b[0] = a.
    """
    @replace(function_class)
    def __call__(self, *args, **kwargs):
        results = __call__.original(self, *args, **kwargs)
        if isinstance(results, list):
            return [_as_number(result) for result in results]
        if isinstance(results, dict):
            return {key: _as_number(result) for key, result in results.items()}
        return _as_number(results)


def _as_number(value):
    if type(value) is np.ndarray and value.ndim and value.size == 1:
        return value.view(_Result)
    return value
