"""Defaults for ``theano.config``, where the user has not set a value.

``THEANO_FLAGS`` comes first, then ``.theanorc``, then `DEFAULTS`, then Theano's own defaults.
"""

import atexit
import ctypes
import hashlib
import logging
import mmap
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import numpy
import platformdirs

try:
    import scipy_openblas32  # loads the library, so that compiled modules find it
except ImportError:  # no such wheel for this platform
    scipy_openblas32 = None

from theano_compat.hooks import around_import, replace

#: A folder with less free space counts as full; one program compiles to about 10 MB.
_MIN_FREE_BYTES = 64 * 2**20

_NO_COMPILER = (
    "{what}: training takes three to four times as long; what helps: {remedy}. "
    "{what_ru}: обучение идёт в три-четыре раза дольше; что поможет: {remedy}.")

#: An extension module of Python: a compiler that builds it can build Theano's modules.
_SMALLEST_MODULE = """\
#include <Python.h>
#include <cmath>
PyMODINIT_FUNC PyInit_smallest(void) { return PyErr_NoMemory(); }
"""

_BAD_CACHE = """\
Compiled code cannot be kept in {folder} ({reason}): it goes to a temporary folder, and every
start compiles again. Free or unlock that folder, or name another: THEANO_FLAGS=base_compiledir=...
Скомпилированный код нельзя хранить в этой папке: он будет во временной, и при каждом запуске всё
скомпилируется заново. Освободите место, дайте права на запись или укажите другую папку."""

#: Calls the C++ compiler in the wheel ziglang: Theano needs a single file, called "clang++".  By
#: default zig makes programs stop at undefined behaviour, which Theano's code has.
_LAUNCHER = """\
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}
exec {zig} c++ -fno-sanitize=undefined "$@"
"""


#: The warning of no compiler, once it has been given.
no_compiler = None


class NoCompilerWarning(RuntimeWarning):
    """Says in English and Russian that there is no C++ compiler, and what helps."""

    def __init__(self, what, what_ru, remedy):
        super().__init__(_NO_COMPILER.format(what=what, what_ru=what_ru, remedy=remedy))
        self.what, self.what_ru, self.remedy = what, what_ru, remedy


class _LeftToTheano(KeyError):
    """Raised by a function of `DEFAULTS` that leaves a setting to Theano.

    Theano's own `fetch_val_for_key` raises a KeyError if there is no value.
    """


def _compiler():
    """Find a C++ compiler for Theano, and warn if it cannot compile.

    On Windows no compiler has been tried: there a compiler is used only if the user names it.

    Returns
    -------
    str
        The compiler in the wheel ziglang, if there is no other, or '' if none works.

    Raises
    ------
    _LeftToTheano
        If the compiler that Theano would choose is installed and works.
    """
    compiler = "clang++" if sys.platform == "darwin" else "g++"
    found, zig = shutil.which(compiler), _ziglang()
    if sys.platform == "win32":
        return _without_compiler("No C++ compiler (Windows)", "Нет компилятора C++ (Windows)",
                                 "wsl --install")
    if not found and not zig:
        python = shlex.quote(sys.executable)
        remedy = (f"{python} -m pip install ziglang" if _has_pip() else
                  f"uv pip install --python {python} ziglang")
        if sys.platform == "darwin":
            remedy = "xcode-select --install"
        return _without_compiler(f"No C++ compiler ({compiler})",
                                 f"Нет компилятора C++ ({compiler})", remedy)
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return _without_compiler(
            "No C headers of Python (Python.h)", "Нет заголовков Python для C (Python.h)",
            "sudo apt install python3-dev")
    if found and _works(found):
        raise _LeftToTheano("cxx")
    return _works(_launcher(zig)) if zig and not found else ""


def _has_pip():
    """Whether there is pip: uv makes environments without it.

    `find_spec` is not asked: where setuptools is installed, a search for pip puts setuptools'
    distutils in the place of Python's.
    """
    try:
        return bool(distribution("pip"))
    except PackageNotFoundError:
        return False


def _without_compiler(what, what_ru, remedy):
    """Warn, and return '', the setting for no compiler."""
    global no_compiler
    no_compiler = NoCompilerWarning(what, what_ru, remedy)
    warnings.warn(no_compiler, stacklevel=1000)  # beyond all callers: their lines say nothing
    return ""


def _works(compiler):
    """Return a compiler that builds a module which can be loaded; warn and return '' otherwise.

    A compiler that has worked once is not tried again until it or Python changes.
    """
    if sys.platform == "win32" or not compiler:
        return compiler
    try:
        folder = _folder_of_compiled_code()
    except OSError:
        return compiler  # Theano reports what is wrong with the folder that the user has named
    if not _may_run_code(folder):
        return _without_compiler(
            f"Compiled code may not run in {folder} (noexec)",
            f"Скомпилированный код не может выполняться в папке {folder} (noexec)",
            "THEANO_FLAGS=base_compiledir=...")
    path = shutil.which(compiler.strip('"')) or compiler.strip('"')
    identity = [sys.version, sys.base_prefix, os.path.realpath(path)]
    if os.path.exists(path):
        identity.append(os.stat(path).st_mtime_ns)
    mark = folder / "compilers" / hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    if mark.exists():
        return compiler
    reason = _why_it_does_not_compile(path, folder)
    if reason is None:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        return compiler
    return _without_compiler(
        f"The C++ compiler {compiler} does not work ({reason})",
        f"Компилятор C++ {compiler} не работает ({reason})",
        "xcode-select --install" if sys.platform == "darwin" else
        "sudo apt install g++ python3-dev")


def _why_it_does_not_compile(compiler, folder):
    """Return a line of what a compiler says when it cannot build a module, or None if it can."""
    options = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source, library = Path(scratch, "smallest.cc"), Path(scratch, "smallest.so")
        source.write_text(_SMALLEST_MODULE)
        try:
            built = subprocess.run(
                [compiler, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}",
                 str(source), "-o", str(library), *options],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace")
            if built.returncode == 0:
                ctypes.PyDLL(str(library))
                return None
        except OSError as error:
            return error.strerror or str(error)
    lines = built.stdout.splitlines() or [f"it ended with {built.returncode}"]
    return next((line for line in lines if re.search("error|cannot|not found", line)), lines[-1])


def _ziglang():
    """Return the path of the program in the wheel ziglang, or None; it is used on Linux only."""
    package = find_spec("ziglang") if sys.platform == "linux" else None
    return package and Path(package.origin).with_name("zig")


def _launcher(zig):
    """Write the program that `_LAUNCHER` describes, and return its path."""
    folder = _cache_folder() / "ziglang"
    text = _LAUNCHER.format(zig=shlex.quote(str(zig)), cache=shlex.quote(str(folder)))
    launcher = folder / hashlib.sha256(text.encode()).hexdigest()[:16] / "clang++"
    if not launcher.exists():
        launcher.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=launcher.parent, delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o755)
        os.replace(file.name, launcher)
    return str(launcher)


def _blas_flags():
    """Return link flags for the BLAS in the wheel scipy-openblas32, or '' if there is no wheel."""
    if scipy_openblas32 is None:
        return ""
    if sys.platform != "win32":
        library = os.path.join(scipy_openblas32.get_lib_dir(),
                               scipy_openblas32.get_library(fullname=True))
        ctypes.CDLL(library).scipy_openblas_set_num_threads(number_of_threads())
    return f"-l{scipy_openblas32.get_library()}"


def number_of_threads():
    """Return how many threads a matrix product may use.

    The program may have set the variables after the library was loaded, which has not seen them.
    """
    for name in "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS":
        number = re.match(r"\s*[1-9]\d*", os.environ.get(name, ""))
        if number:
            return int(number[0])
    return 1  # on the small matrices of a seminar, several threads are slower than one


def _why_unusable(folder):
    """Make a folder; return why no compiled code can be kept there, or None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return error.strerror
    if shutil.disk_usage(folder).free < _MIN_FREE_BYTES:
        return "no space left on the disk"
    if not _may_run_code(folder):
        return "noexec"
    return None


def _may_run_code(folder):
    """Whether a library in a folder can be loaded, which is not so where it is mounted noexec."""
    if not hasattr(mmap, "PROT_EXEC"):
        return True
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
            mmap.mmap(file.fileno(), 1, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True


@lru_cache(maxsize=None)
def _cache_folder():
    """Return the user's cache folder, or a temporary one, with a warning, if it cannot be used."""
    folder = Path(platformdirs.user_cache_dir("vae-seminar"))
    reason = _why_unusable(folder / "theano")
    if reason is None:
        return folder
    warnings.warn(_BAD_CACHE.format(folder=folder / "theano", reason=reason), RuntimeWarning,
                  stacklevel=3)
    temporary = tempfile.mkdtemp(prefix="theano-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def _folder_of_compiled_code():
    """Return the folder that the user has named, or the default; it is made."""
    from theano import configparser
    for key in "compiledir", "base_compiledir":
        try:
            folder = Path(configparser.fetch_val_for_key(key)).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        except KeyError:
            pass
    raise AssertionError("`DEFAULTS` has no base_compiledir")


def _processor():
    """Return what the processor can do: modules are built for this very processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return platform.processor()


def _compiler_version():
    """Return something that changes with the compiler, or None without a compiler."""
    from theano.configparser import config
    if not config.cxx:
        return None
    try:
        return config.cxx, subprocess.run([config.cxx.strip('"'), "--version"],
                                          stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return config.cxx


@lru_cache(maxsize=None)
def _digest_of_this_package():
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for source in sorted([*package.rglob("*.py"), *package.rglob("*.h")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def versions():
    """Return the versions on which an optimised graph depends: Python, NumPy, this package."""
    return sys.version, numpy.__version__, _digest_of_this_package(), os.environ.get("THEANO_COMPAT_OFF")


def _name_of_compiled_code():
    """Return a folder name of this NumPy, Python, compiler, machine and version of the package."""
    digest = hashlib.sha256(_digest_of_this_package().encode())
    openblas = scipy_openblas32 and (scipy_openblas32.__file__, scipy_openblas32.__version__)
    for part in (sys.version, sysconfig.get_config_var("EXT_SUFFIX"), platform.machine(),
                 _processor(), _compiler_version(), openblas,
                 os.environ.get("THEANO_COMPAT_OFF")):
        digest.update(repr(part).encode())
    return ("theano%(theano_version)s-numpy%(numpy_version)s-python%(python_version)s-"
            f"{digest.hexdigest()[:16]}")


#: By setting: a function that returns the default, or raises `_LeftToTheano`.
DEFAULTS = {
    "floatX": lambda: "float32",
    "cxx": _compiler,
    "blas.ldflags": _blas_flags,
    "base_compiledir": lambda: str(_cache_folder() / "theano"),
    "compiledir_format": _name_of_compiled_code,
}

#: The settings whose values are from `DEFAULTS`.
_set_by_default = set()


def floats_of_old_programs():
    """Set Theano's default floatX, on which old programs may rely, if the user has not set one."""
    import theano
    if "floatX" in _set_by_default:
        theano.config.floatX = "float64"


def _without_gpu(key, value):
    """Return the value with which the CPU computes; warn if the user has asked for a GPU."""
    on_cpu = "cpu" if key == "device" else ""
    if value != on_cpu:
        warnings.warn(f"Theano has no GPU here: {key}={value} is ignored, and the CPU computes",
                      RuntimeWarning, stacklevel=1000)
    return on_cpu


#: The value of the setting `linker` that has the same results without a compiler.
_LINKERS_WITHOUT_COMPILER = {"cvm": "vm", "c|py": "vm", "c": "vm",
                             "cvm_nogc": "vm_nogc", "c|py_nogc": "vm_nogc"}


@around_import("theano.configparser")
def set_defaults(configparser):
    """Look up a setting in `DEFAULTS` if the user has not set it; correct what cannot be had here.

    Theano's own defaults are float64, the ``g++`` in PATH, and a BLAS that it asks numpy.distutils
    for, which Python 3.12 does not have. It refuses ``device=gpu``, and engines that need a compiler
    where there is none.
    """
    yield

    @replace(configparser)
    def fetch_val_for_key(key, delete_key=False):
        try:
            value = fetch_val_for_key.original(key, delete_key)
        except KeyError:
            value = DEFAULTS[key]()
            _set_by_default.add(key)
            return value
        if key == "cxx":
            return _works(value)
        if key in ("device", "init_gpu_device", "contexts"):
            return _without_gpu(key, value)
        if key == "linker" and not configparser.config.cxx:
            return _LINKERS_WITHOUT_COMPILER.get(value, value)
        return value


@around_import("theano.configdefaults")
def use_found_compiler(configdefaults):
    """Let Theano use the compiler in ``config.cxx``, though there is no g++.

    Theano 1.0 runs ``g++`` first.  If that fails it has neither C code nor an engine, whatever `cxx`
    names.  Here `_compiler` has looked for a compiler, and `cxx` is empty if there is none.  Only on
    macOS is Theano's test run: there ``clang++`` may be a program that offers to install one.
    """
    from theano.misc import windows

    @replace(windows)
    def call_subprocess_Popen(command):
        return call_subprocess_Popen.original(command) if sys.platform == "darwin" else 0

    try:
        yield
    finally:
        windows.call_subprocess_Popen = call_subprocess_Popen.original


@around_import("theano.configdefaults")
def warn_once_of_no_compiler(configdefaults):
    """Silence Theano's two warnings about a missing compiler.

    They do not say what to do about it; the warning of `_without_compiler` does.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*there is no c\\+\\+ compiler")
        yield
        # Without a BLAS Theano warns that it uses its own code, but there is nothing better.
        logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
