"""Building the C++ that Theano generates, against NumPy 2, safely for many processes."""

import ctypes
import errno
import hashlib
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from vae.compat.hooks import around_import
from vae.compat.settings import scipy_openblas32

HEADERS = Path(__file__).parent / "include"

#: Generated code that only NumPy 1 compiles or understands, and what to write instead.
_REWRITES = [
    # NumPy 2.0 made the descriptor's fields private.
    (re.compile(r"PyArray_DESCR\(([^()]+)\)->elsize"), r"PyArray_ITEMSIZE(\1)"),
    # NumPy 2.0 has a number of its own for "no axis".
    (re.compile(r"axis (==?) NPY_MAXDIMS"), r"axis \1 NPY_RAVEL_AXIS"),
    # NumPy 2.0's complex numbers are C's own, of which C++ sees no parts.
    (re.compile(r"struct theano_complex(64|128) : public npy_complex\1"), lambda match: f"""
struct complex{match[1]}_parts {{
    npy_float{int(match[1]) // 2} real, imag;
    operator npy_complex{match[1]}() const
    {{ npy_complex{match[1]} c; memcpy(&c, this, sizeof(c)); return c; }}
}};
struct theano_complex{match[1]} : public complex{match[1]}_parts"""),
    # NumPy 2.4's empty arrays have strides of 0, which BLAS does not take.
    (re.compile(r"S([xyz])\[1\] == type_size \|\| N\1\[1\] ?== ?1\b(?=\) \? 0x0)"),
     r"\g<0> || N\1[0] * N\1[1] == 0"),
    (re.compile(r"S([xyz])\[2\] == type_size \|\| N\1\[2\] ?== ?1\b(?=\) \? 0x0)"),
     r"\g<0> || N\1[0] * N\1[1] * N\1[2] == 0"),
    (re.compile(r"(s([xyz])_(\d) = \(N\2\[\3\] > 1)(\) \?)"), r"\1 && S\2[\3] != 0\4"),
    # Scan's loop, written by Cython 0.28: for PyPy it keeps to what Python makes public, ...
    (re.compile(r"#ifdef PYPY_VERSION(?=\n  #define CYTHON_COMPILING_IN_PYPY 1)"), "#if 1"),
    # ... but for these, which Python 3.8 and 3.11 have changed ...
    (re.compile(r"(#define __Pyx_PyCode_New\(.*\)\\\n).*"),
     r"\1 PyCode_NewEmpty(PyUnicode_AsUTF8(fn), PyUnicode_AsUTF8(name), fline)"),
    (re.compile(r"(#define __Pyx_PyFrame_SetLineNumber\(.*?\)).*"), r"\1"),
    # ... and NumPy 2.0.
    (re.compile(r"(__pyx_v_\w+)->(subarray|names|fields|elsize)\b"),
     lambda match: f"PyDataType_{match[2].upper()}({match[1]})"),
]


def flags(config):
    """Return options of the compiler for all generated code."""
    uses_wheel = scipy_openblas32 and scipy_openblas32.get_library() in config.blas.ldflags
    return ["-include", str(HEADERS / "theano_on_numpy2.h"),
            *["-DTHEANO_WITH_SCIPY_OPENBLAS"] * bool(uses_wheel),
            # sqrt need not set errno, nor comparisons raise signals: loops vectorise then.
            "-fno-math-errno", "-fno-trapping-math",
            "-Wno-narrowing",  # of which clang makes an error, and Theano's loops have much
            "-g0"]  # Theano asks for debugging information, which nobody reads


@around_import("theano.gof.cmodule")
def numpy_2_headers(cmodule):
    """Compile generated code against NumPy 2 and the wheel's BLAS, and put it in place whole.

    A module is built in a folder of its own and then renamed into place, so
    that a process that is killed leaves no half of one.
    """
    yield
    compile_whole = cmodule.GCC_compiler.compile_str

    def compile_str(module_name, src_code, location=None, include_dirs=None, lib_dirs=None,
                    libs=None, preargs=None, py_module=True, hide_symbols=True):
        for pattern, replacement in _REWRITES:
            src_code = pattern.sub(replacement, src_code)
        lib_dirs = list(lib_dirs or [])
        if scipy_openblas32 and scipy_openblas32.get_library() in (libs or []):
            lib_dirs.append(scipy_openblas32.get_lib_dir())
        location = Path(location)
        with tempfile.TemporaryDirectory(dir=location) as scratch:
            try:
                compile_whole(module_name, src_code, location=scratch,
                              include_dirs=[str(HEADERS), *(include_dirs or [])],
                              lib_dirs=lib_dirs, libs=libs,
                              preargs=[*(preargs or []), *flags(cmodule.config)],
                              py_module=False, hide_symbols=hide_symbols)
            except Exception as error:
                if shutil.disk_usage(location).free < 2**20:
                    raise OSError(errno.ENOSPC, "no space left for compiled code",
                                  str(location)) from error
                raise
            for built in Path(scratch).iterdir():
                os.replace(built, location / built.name)
        if py_module:
            (location / "__init__.py").touch()
            return cmodule.dlimport(
                str(location / f"{module_name}.{cmodule.get_lib_extension()}"))

    cmodule.GCC_compiler.compile_str = staticmethod(compile_str)


def write_whole(path, content):
    """Write bytes to a file that others may be reading: they see the old ones or all the new ones."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


@around_import("theano.gof.cmodule")
def whole_keys(cmodule):
    """Replace a cached module's key at once: other processes read it without a lock."""
    yield

    def save_pkl(self):
        write_whole(self.key_pkl, pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL))

    cmodule.KeyData.save_pkl = save_pkl


@around_import("theano.gof.cc")
def operations_without_properties(cc):
    """Keep what is compiled for operations that have no properties, such as Dot22 and Alloc.

    Their empty ``__props__`` are taken for a missing version, and they are
    compiled anew by every process.
    """
    yield
    whole_key = cc.CLinker.cmodule_key_

    def cmodule_key_(self, fgraph, *args, **kwargs):
        key = whole_key(self, fgraph, *args, **kwargs)
        if key is None or key[0]:
            return key
        version = []
        for node in self.schedule(fgraph):
            if hasattr(node.op, "c_code_cache_version_apply"):
                version.append(node.op.c_code_cache_version_apply(node))
            if getattr(node.op, "__props__", ()):
                version.append(node.op.__props__)
            version += [variable.type.c_code_cache_version()
                        for variable in [*node.inputs, *node.outputs]]
        return (tuple(version), key[1]) if all(version) else key

    cc.CLinker.cmodule_key_ = cmodule_key_


@around_import("theano.gof.op")
def versions_that_last(op):
    """Give operations with C code in files a version that the next process knows again.

    It is a hash of the text, which Python 3 randomises.
    """
    yield

    def c_code_cache_version(self):
        text = "\0".join(self.func_codes).encode()
        version = (hashlib.sha256(text).hexdigest(),)
        if hasattr(self, "params_type"):
            version += (self.params_type.c_code_cache_version(),)
        return version

    op.COp.c_code_cache_version = c_code_cache_version


@around_import("theano.scan_module.scan_perform_ext")
def sizes_of_structures(module):
    """NumPy 2.0's headers hide the end of structures that Scan's loop knows and does not use.

    Of some of them NumPy itself ignores the warning, but pytest and others begin without filters.
    Another one tells that the module has no package.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@around_import("theano.tensor.subtensor")
def increments_by_numpy(subtensor):
    """``x[indices] += y`` in C needs a structure that NumPy 2.0 has made private.

    NumPy then does the same.
    """
    yield

    def c_code(self, *args):
        raise MethodNotDefined("c_code")

    from theano.gof.utils import MethodNotDefined
    subtensor.AdvancedIncSubtensor1.c_code = c_code
    subtensor.AdvancedIncSubtensor1.c_support_code = lambda self: ""


@around_import("theano.gof.lazylinker_c")
def damaged_engine(lazylinker_c):
    """Theano goes on without its engine where the file does not load, and fails much later."""
    from theano.configparser import config
    folder = Path(config.compiledir) / "lazylinker_ext"
    for library in folder.glob("*.so"):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            shutil.rmtree(folder)
    yield


@around_import("theano.gof.cmodule")
def damaged_modules(cmodule):
    """Remove a compiled module that does not load, so that the next run builds it anew."""
    yield
    get_module = cmodule.ModuleCache._get_module

    def _get_module(self, name):
        try:
            return get_module(self, name)
        except ImportError as error:
            shutil.rmtree(os.path.dirname(name), ignore_errors=True)
            raise ImportError(
                f"{error}. This compiled module does not load and has been removed: run again. "
                "(Он не загружается и удалён: запустите ещё раз.)") from None

    cmodule.ModuleCache._get_module = _get_module


def passing_bar(bar_format, **options):
    """A bar that vanishes when done, for who is looking: in a notebook or a terminal."""
    watched = sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")
    return tqdm(bar_format=bar_format, file=sys.stdout, leave=False, disable=not watched, **options)


@around_import("theano.gof.compilelock")
def lock_of_the_system(compilelock):
    """Lock the folder of compiled code through the operating system.

    Theano's own lock outlives a process that was killed, and waits in steps of
    five seconds.
    """
    yield
    locks = {}

    def lock(tmp_dir, **kwargs):
        system_lock = locks.setdefault(tmp_dir, FileLock(f"{tmp_dir}.lock", thread_local=False))
        try:
            system_lock.acquire(timeout=2)
        except Timeout:
            with passing_bar("Another process is compiling; waiting for it. "
                             "(Другой процесс компилирует код, ждём его.)"):
                system_lock.acquire()

    def unlock(self, force=False):
        if self.tmp_dir in locks:
            locks[self.tmp_dir].release()

    @contextmanager
    def lock_ctx(lock_dir=None, keep_lock=False, **kwargs):
        compilelock.get_lock(lock_dir=lock_dir, **kwargs)
        try:
            yield
        finally:
            if not keep_lock:
                compilelock.release_lock()

    compilelock.lock = lock
    compilelock.lock_ctx = lock_ctx
    compilelock.refresh_lock = lambda lock_file: None
    compilelock.Unlocker.unlock = unlock
