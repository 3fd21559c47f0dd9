"""Defaults for ``theano.config``, for settings that the user has not set.

``THEANO_FLAGS`` has priority over ``.theanorc``, then come `DEFAULTS` and Theano's own defaults.
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
except ImportError:  # there is no wheel for this platform
    scipy_openblas32 = None

from theano_compat.hooks import around_import, replace

#: A folder with less free space counts as full. The compiled code of a program takes about 10 MB.
_MIN_FREE_BYTES = 64 * 2**20

_NO_COMPILER = (
    "{what}: training takes three to four times as long; what helps: {remedy}. "
    "{what_ru}: обучение идёт в три-четыре раза дольше; что поможет: {remedy}.")

#: An extension module. A compiler that can build this module can build Theano's modules.
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

#: A script that calls the C++ compiler in the wheel ziglang, because Theano needs a single file
#: named "clang++". By default, zig makes programs stop at undefined behaviour, which Theano's code
#: has.
_LAUNCHER = """\
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}
exec {zig} c++ -fno-sanitize=undefined "$@"
"""


#: The `NoCompilerWarning` that has been given, or None.
no_compiler = None


class NoCompilerWarning(RuntimeWarning):
    """A warning in English and Russian that there is no C++ compiler, with a remedy."""

    def __init__(self, what, what_ru, remedy):
        super().__init__(_NO_COMPILER.format(what=what, what_ru=what_ru, remedy=remedy))
        self.what, self.what_ru, self.remedy = what, what_ru, remedy


class _LeftToTheano(KeyError):
    """An error that a function of `DEFAULTS` raises if Theano should use its own default.

    Theano's own `fetch_val_for_key` also raises a KeyError if there is no value.
    """


def _compiler():
    """Find a C++ compiler for Theano, and warn if it cannot compile.

    No compiler has been tested on Windows. There, a compiler is used only if the user names it.

    Returns
    -------
    str
        The compiler in the wheel ziglang, if there is no other compiler; '' if no compiler works.

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
    """Return whether pip is installed. Environments of uv do not have it.

    This function does not use `find_spec`: if setuptools is installed, a search for pip replaces
    Python's distutils by the distutils of setuptools.
    """
    try:
        return bool(distribution("pip"))
    except PackageNotFoundError:
        return False


def _without_compiler(what, what_ru, remedy):
    """Warn that there is no compiler, and return '', the value of the setting in this case."""
    global no_compiler
    no_compiler = NoCompilerWarning(what, what_ru, remedy)
    warnings.warn(no_compiler, stacklevel=1000)  # beyond all callers, whose lines would not help
    return ""


def _works(compiler):
    """Return a compiler if it can build a module that can be loaded; otherwise warn and return ''.

    A compiler that has worked once is not tested again until the compiler or Python changes.
    """
    if sys.platform == "win32" or not compiler:
        return compiler
    try:
        folder = _folder_of_compiled_code()
    except OSError:
        return compiler  # Theano reports the error of the folder that the user has named
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
    """Return a line of a compiler's error message, or None if it can build a module."""
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
    """Return the path of the program in the wheel ziglang, or None. It is used only on Linux."""
    package = find_spec("ziglang") if sys.platform == "linux" else None
    return package and Path(package.origin).with_name("zig")


def _launcher(zig):
    """Write the script `_LAUNCHER` to a file, and return its path."""
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
    """Return the number of threads that a matrix product may use.

    This function reads the environment variables, because the program may have set them after the
    library was loaded.
    """
    for name in "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS":
        number = re.match(r"\s*[1-9]\d*", os.environ.get(name, ""))
        if number:
            return int(number[0])
    return 1  # on the small matrices of a seminar, several threads are slower than one


def _why_unusable(folder):
    """Make a folder; return the reason why it cannot store compiled code, or None if it can."""
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
    """Return whether libraries in a folder can be loaded. They cannot if it is mounted noexec."""
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
    """Return the user's cache folder. If it cannot be used, warn and return a temporary folder."""
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
    """Make and return the folder of compiled code: the user's setting or the default."""
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
    """Return the features of the processor, because modules are compiled for this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return platform.processor()


def _compiler_version():
    """Return a value that changes with the compiler, or None if there is no compiler."""
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
    """Return the versions on which an optimised graph depends: Python, NumPy, this package.

    The patches that are left out are also part of the result.
    """
    return sys.version, numpy.__version__, _digest_of_this_package(), os.environ.get("THEANO_COMPAT_OFF")


def _name_of_compiled_code():
    """Return a folder name that depends on NumPy, Python, compiler, machine and this package."""
    digest = hashlib.sha256(_digest_of_this_package().encode())
    openblas = scipy_openblas32 and (scipy_openblas32.__file__, scipy_openblas32.__version__)
    for part in (sys.version, sysconfig.get_config_var("EXT_SUFFIX"), platform.machine(),
                 _processor(), _compiler_version(), openblas,
                 os.environ.get("THEANO_COMPAT_OFF")):
        digest.update(repr(part).encode())
    return ("theano%(theano_version)s-numpy%(numpy_version)s-python%(python_version)s-"
            f"{digest.hexdigest()[:16]}")


#: Maps the name of a setting to a function that returns the default or raises `_LeftToTheano`.
DEFAULTS = {
    "floatX": lambda: "float32",
    "cxx": _compiler,
    "blas.ldflags": _blas_flags,
    "base_compiledir": lambda: str(_cache_folder() / "theano"),
    "compiledir_format": _name_of_compiled_code,
}

#: The settings that have their values from `DEFAULTS`.
_set_by_default = set()


def floats_of_old_programs():
    """Set floatX to Theano's default, float64, on which old programs may rely.

    If the user has set floatX, it is not changed.
    """
    import theano
    if "floatX" in _set_by_default:
        theano.config.floatX = "float64"


def _without_gpu(key, value):
    """Return the value of a setting for the CPU; warn if the user has requested a GPU."""
    on_cpu = "cpu" if key == "device" else ""
    if value != on_cpu:
        warnings.warn(f"Theano has no GPU here: {key}={value} is ignored, and the CPU computes",
                      RuntimeWarning, stacklevel=1000)
    return on_cpu


#: Maps values of the setting `linker` to values with the same results that need no compiler.
_LINKERS_WITHOUT_COMPILER = {"cvm": "vm", "c|py": "vm", "c": "vm",
                             "cvm_nogc": "vm_nogc", "c|py_nogc": "vm_nogc"}


@around_import("theano.configparser")
def set_defaults(configparser):
    """Use `DEFAULTS` for settings that the user has not set; replace settings that cannot work.

    Theano's own defaults are float64, the ``g++`` in PATH, and the BLAS that numpy.distutils finds,
    which Python 3.12 does not have. Theano refuses ``device=gpu``, and if there is no compiler, it
    refuses engines that need a compiler.
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
    """Let Theano use the compiler in ``config.cxx``, even if there is no g++.

    Theano 1.0 runs ``g++`` first. If this fails, Theano uses neither C code nor its engine, even if
    `cxx` names another compiler. With this patch, `_compiler` looks for a compiler instead, and
    `cxx` is empty if there is none. Theano's own test runs only on macOS, where ``clang++`` may be
    a program that offers to install a compiler.
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

    They do not name a remedy; the warning of `_without_compiler` does.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*there is no c\\+\\+ compiler")
        yield
        # Without a BLAS, Theano warns that it uses its own code. There is nothing better to use.
        logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
