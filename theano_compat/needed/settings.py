"""Defaults for ``theano.config`` where the user has not said otherwise.

``THEANO_FLAGS`` comes first, then ``.theanorc``, then what stands here, then
Theano's own defaults.
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

#: Free space below which a folder counts as full, in bytes; one program compiles to about 10 MB.
_LEAST_FREE_SPACE = 64 * 2**20

_NO_COMPILER = (
    "{what}: training takes three to four times as long; the remedy: {remedy}. "
    "{what_ru}: обучение идёт в три-четыре раза дольше; что поможет: {remedy}.")

#: The smallest module of Python's: to build it takes what Theano's modules take.
_SMALLEST_MODULE = """\
#include <Python.h>
#include <cmath>
PyMODINIT_FUNC PyInit_smallest(void) { return PyErr_NoMemory(); }
"""

_BAD_CACHE = """\
Compiled code cannot be kept in {folder} ({reason}): it goes to a temporary folder, and every
start compiles anew. Free or unlock that folder, or name another: THEANO_FLAGS=base_compiledir=...
Скомпилированный код нельзя хранить в этой папке: он будет во временной, и при каждом запуске всё
скомпилируется заново. Освободите место, дайте права на запись или укажите другую папку."""


#: Calls the C++ compiler in the wheel ziglang: Theano wants it to be a single file, "clang++".  By
#: default zig makes programs stop at what C leaves undefined, which Theano's code has.
_LAUNCHER = """\
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}
exec {zig} c++ -fno-sanitize=undefined "$@"
"""


def _compiler():
    """Name ziglang's where there is no other compiler; where there is, leave the choice to Theano.

    Warn and return '' where Theano could not compile. On Windows, where no compiler has been tried,
    only the user names one; a Linux in Windows can have one.
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
        raise KeyError("cxx")
    return _works(_launcher(zig)) if zig and not found else ""


def _has_pip():
    """Whether there is pip: uv makes environments without.

    It is not imported, nor looked for as a module, of which setuptools makes a change of distutils.
    """
    try:
        return bool(distribution("pip"))
    except PackageNotFoundError:
        return False


def _without_compiler(what, what_ru, remedy):
    """Warn, and return what says to Theano that there is no compiler."""
    warnings.warn(_NO_COMPILER.format(what=what, what_ru=what_ru, remedy=remedy),
                  RuntimeWarning, stacklevel=1000)  # beyond all callers: their lines say nothing
    return ""


def _works(compiler):
    """Return a compiler that builds a module which can be loaded; warn and return '' otherwise.

    What has worked once is not tried again, until the compiler or Python is another.
    """
    if sys.platform == "win32" or not compiler:
        return compiler
    try:
        folder = _folder_of_compiled_code()
    except OSError:
        return compiler  # Theano says what is wrong with the folder that the user has named
    if not _may_run_code(folder):
        return _without_compiler(
            f"Compiled code may not run in {folder} (noexec)",
            f"Скомпилированный код не может выполняться в папке {folder} (noexec)",
            "THEANO_FLAGS=base_compiledir=...")
    path = shutil.which(compiler.strip('"')) or compiler.strip('"')
    known = [sys.version, sys.base_prefix, os.path.realpath(path)]
    known += [os.stat(path).st_mtime_ns] if os.path.exists(path) else []
    mark = folder / "compilers" / hashlib.sha256(repr(known).encode()).hexdigest()[:16]
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
    """What a compiler says when it can't build and link a module, in one line, or None."""
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
    """The path of the program in the wheel ziglang, or None; other platforms are not tried yet."""
    package = find_spec("ziglang") if sys.platform == "linux" else None
    return package and Path(package.origin).with_name("zig")


def _launcher(zig):
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
    """Link flags for the BLAS of the wheel scipy-openblas32."""
    if scipy_openblas32 is None:
        return ""
    if not {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"} & set(os.environ):
        # Threads cost more than they bring on the small matrices of a seminar.
        library = os.path.join(scipy_openblas32.get_lib_dir(),
                               scipy_openblas32.get_library(fullname=True))
        if sys.platform != "win32":
            ctypes.CDLL(library).scipy_openblas_set_num_threads(1)
    return f"-l{scipy_openblas32.get_library()}"


def _why_unusable(folder):
    """The reason why no code can be kept in this folder, or None; makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return error.strerror
    if shutil.disk_usage(folder).free < _LEAST_FREE_SPACE:
        return "no space left on the disk"
    if not _may_run_code(folder):
        return "noexec"
    return None


def _may_run_code(folder):
    """Whether a library that lies in a folder can be loaded: not where it is mounted noexec."""
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
    """The folder that the user has named, or ours; it is there."""
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
    """What the machine's processor can do: modules are built for just that."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        return platform.processor()


def _compiler_version():
    from theano.configparser import config
    if not config.cxx:
        return None
    try:
        return config.cxx, subprocess.run([config.cxx.strip('"'), "--version"],
                                          stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return config.cxx


@lru_cache(maxsize=None)
def _digest_of_ours():
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for source in sorted([*package.rglob("*.py"), *package.rglob("*.h")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def versions():
    """What a graph depends on besides itself, in whatever folder the user has it kept."""
    return sys.version, numpy.__version__, _digest_of_ours(), os.environ.get("THEANO_COMPAT_OFF")


def _name_of_compiled_code():
    """A folder name that no other NumPy, Python, compiler, machine or version of ours shares."""
    digest = hashlib.sha256(_digest_of_ours().encode())
    openblas = scipy_openblas32 and (scipy_openblas32.__file__, scipy_openblas32.__version__)
    for part in (sys.version, sysconfig.get_config_var("EXT_SUFFIX"), platform.machine(),
                 _processor(), _compiler_version(), openblas,
                 os.environ.get("THEANO_COMPAT_OFF")):
        digest.update(repr(part).encode())
    return ("theano%(theano_version)s-numpy%(numpy_version)s-python%(python_version)s-"
            f"{digest.hexdigest()[:16]}")


#: Functions that give the default, or raise KeyError to leave it to Theano.
DEFAULTS = {
    "floatX": lambda: "float32",
    "cxx": _compiler,
    "blas.ldflags": _blas_flags,
    "base_compiledir": lambda: str(_cache_folder() / "theano"),
    "compiledir_format": _name_of_compiled_code,
}

#: The settings that have been taken from there.
_taken = set()


def floats_of_old_programs():
    """Set floatX as Theano does, which old programs may count on, where the user has not set it."""
    import theano
    if "floatX" in _taken:
        theano.config.floatX = "float64"


@around_import("theano.configparser")
def set_defaults(configparser):
    """Look a setting up in `DEFAULTS` when the user has not set it."""
    yield

    @replace(configparser)
    def fetch_val_for_key(key, delete_key=False):
        try:
            value = fetch_val_for_key.original(key, delete_key)
        except KeyError:
            value = DEFAULTS[key]()
            _taken.add(key)
            return value
        return _works(value) if key == "cxx" else value


@around_import("theano.configdefaults")
def use_found_compiler(configdefaults):
    """Theano runs g++, and without it has neither C code nor an engine, whatever `cxx` says.

    Here `_compiler` looks for one; `cxx` is empty if there is none. Only macOS has to be asked: its
    clang++ may be a program that offers to install one.
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
    """Theano's own two messages about a missing compiler name no remedy; ours does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*there is no c\\+\\+ compiler")
        yield
        # Theano's own code in place of a BLAS, of which it warns, is as good as it gets.
        logging.getLogger("theano.tensor.blas").setLevel(logging.ERROR)
