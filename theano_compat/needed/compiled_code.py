"""Building the C++ that Theano generates, against NumPy 2, safely for many processes."""

import errno
import hashlib
import os
import pickle
import re
import shutil
import sys
import tempfile
import types
import warnings
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from theano_compat.hooks import around_import, replace
from theano_compat.needed.settings import scipy_openblas32
from theano_compat.originals import as_imported, digest_of_theano, is_theanos, what_writes_c

HEADERS = Path(__file__).parents[1] / "include"

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
def adapt_c_to_numpy_2(cmodule):
    """Compile generated code against NumPy 2 and the wheel's BLAS, and put it in place whole.

    A module is built in a folder of its own and then renamed into place, so
    that a process that is killed leaves no half of one.
    """
    yield

    @replace(cmodule.GCC_compiler)
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
                compile_str.original(module_name, src_code, location=scratch,
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


@around_import("theano.gof.cmodule")
def link_without_libpython(cmodule):
    """Link with no library of Python's own: the process that loads a module has it.

    Theano looks for it where Python was built, and a Python that was moved, such as uv's, is
    elsewhere.
    """
    yield
    if sys.platform != "win32":
        cmodule.std_lib_dirs_and_libs.data = [], []


def write_whole(path, content):
    """Write bytes to a file that others may be reading: they see the old ones or all the new ones."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


@around_import("theano.gof.cmodule")
def write_keys_atomically(cmodule):
    """Replace a cached module's key at once: other processes read it without a lock.

    It ends with a digest of itself: a damaged one could be another operation's.
    """
    yield

    @replace(cmodule.KeyData)
    def save_pkl(self):
        content = pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL)
        write_whole(self.key_pkl, content + hashlib.sha256(content).digest())

    def load(file):
        content = file.read()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            shutil.rmtree(os.path.dirname(file.name), ignore_errors=True)
            raise pickle.UnpicklingError(f"{file.name} is damaged")
        return pickle.loads(content)

    cmodule.pickle = types.SimpleNamespace(**{**vars(cmodule.pickle), "load": load})


@around_import("theano.gof.cc")
def version_operations_by_code(cc):
    """Keep what is compiled for operations that have no properties, such as Dot22 and Alloc.

    Their empty ``__props__`` are taken for a missing version, and they are compiled anew by every
    process. So are others' still: only of Theano's own is it known that the C is what it was.
    A program's class that writes C, and has inherited Theano's version, would get the C that it
    wrote in an earlier process: its version is made of the C.
    """
    as_imported.start()
    yield

    @replace(cc.CLinker)
    def cmodule_key_(self, fgraph, *args, **kwargs):
        key = cmodule_key_.original(self, fgraph, *args, **kwargs)
        if key is None:
            return key
        nodes = self.schedule(fgraph)
        strangers = [thing for node in nodes for thing in what_writes_c(node)
                     if not is_theanos(thing)]
        if not key[0]:
            return key if strangers else (_version(nodes), key[1])
        if any(not _has_a_version_of_its_own(type(thing)) for thing in strangers):
            return ((*key[0], _digest_of_source(self, nodes)), key[1])
        return key


def _has_a_version_of_its_own(kind):
    """Tell whether a program's class says itself when its C is another."""
    return any(name.startswith("c_code_cache_version") for base in kind.__mro__
               if not as_imported.knows(base) for name in vars(base))


def _version(nodes):
    """The version of operations of Theano's, or () if one of them, or a type, has none."""
    version = [digest_of_theano()]
    for node in nodes:
        if hasattr(node.op, "c_code_cache_version_apply"):  # Scan has none
            version.append(node.op.c_code_cache_version_apply(node))
        if getattr(node.op, "__props__", ()):
            version.append(node.op.__props__)
        version += [variable.type.c_code_cache_version()
                    for variable in [*node.inputs, *node.outputs]]
    return tuple(version) if all(version) else ()


def _digest_of_source(linker, nodes):
    for node in nodes:
        node.op.prepare_node(node, None, None, "c")
    return hashlib.sha256(linker.get_src_code().encode()).hexdigest()


@around_import("theano.gof.op")
def version_cops_by_text(op):
    """Give operations with C code in files a version that the next process knows again.

    It is a hash of the text, which Python 3 randomises.
    """
    yield

    @replace(op.COp)
    def c_code_cache_version(self):
        text = "\0".join(self.func_codes).encode()
        version = (hashlib.sha256(text).hexdigest(),)
        if hasattr(self, "params_type"):
            version += (self.params_type.c_code_cache_version(),)
        return version


@around_import("theano.scan_module.scan_perform_ext")
def ignore_numpy_struct_sizes(module):
    """NumPy 2.0's headers hide the end of structures that Scan's loop knows and does not use.

    Of some of them NumPy itself ignores the warning, but pytest and others begin without filters.
    Another one tells that the module has no package.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@around_import("theano.tensor.subtensor")
def increment_in_numpy(subtensor):
    """``x[indices] += y`` in C needs a structure that NumPy 2.0 has made private.

    NumPy then does the same.
    """
    yield

    from theano.gof.utils import MethodNotDefined

    @replace(subtensor.AdvancedIncSubtensor1)
    def c_code(self, *args):
        raise MethodNotDefined("c_code")

    @replace(subtensor.AdvancedIncSubtensor1)
    def c_support_code(self):
        return ""


#: Digests of libraries that this process has read, by what the system knows each file by: those
#: that were compiled together are one.
_digests = {}


def _digest_of(library):
    return hashlib.sha256(Path(library).read_bytes()).hexdigest().encode()


def write_digest(library):
    """Note beside a library what it is, now that it is whole."""
    write_whole(f"{library}.sha256", _digest_of(library))


def is_sound(library):
    """Tell whether a library is what it was when it was compiled.

    To load one that has been cut short, or has lost a page, may end the process.
    """
    try:
        state = os.stat(library)
        key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
        if key not in _digests:
            _digests[key] = _digest_of(library)
        return Path(f"{library}.sha256").read_bytes() == _digests[key]
    except OSError:
        return False


def _remove_if_damaged(name):
    """Look at one of the modules that Theano does not keep in its table of modules."""
    from theano.configparser import config
    from theano.gof import compilelock
    folder = Path(config.compiledir, name)

    def is_damaged():
        libraries = [path for path in folder.glob("*") if path.suffix in (".so", ".pyd")]
        start = folder / "__init__.py"
        return (not all(map(is_sound, libraries))
                or start.exists() and not re.fullmatch(rb"(_version = [\d.]+\s+)?",
                                                       start.read_bytes()))

    if folder.exists() and is_damaged():
        with compilelock.lock_ctx():  # another process may be writing it
            if is_damaged():
                shutil.rmtree(folder, ignore_errors=True)


@around_import("theano.gof.lazylinker_c")
def rebuild_damaged_engine(lazylinker_c):
    """Theano goes on without its engine where the file does not load, and fails much later."""
    _remove_if_damaged("lazylinker_ext")
    yield


@around_import("theano.gof.cmodule")
def rebuild_damaged_modules(cmodule):
    """Compile a module anew if it is not what it was, or does not load."""
    yield
    for name in "cutils_ext", "scan_perform":
        _remove_if_damaged(name)

    @replace(cmodule.GCC_compiler)
    def compile_str(module_name, src_code, location=None, *args, **kwargs):
        compiled = compile_str.original(module_name, src_code, location, *args, **kwargs)
        library = os.path.join(location, f"{module_name}.{cmodule.get_lib_extension()}")
        if os.path.exists(library):
            write_digest(library)
        return compiled

    @replace(cmodule.ModuleCache)
    def _get_module(self, name):
        try:
            if name not in self.module_from_name and not is_sound(name):
                raise ImportError(f"{name} is damaged")
            return _get_module.original(self, name)
        except ImportError:
            shutil.rmtree(os.path.dirname(name), ignore_errors=True)
            raise

    @replace(cmodule.ModuleCache)
    def _get_from_key(self, key, key_data=None):
        try:
            return _get_from_key.original(self, key, key_data)
        except ImportError:
            forget(self, key_data.get_entry() if key_data else self.entry_from_key[key])
            return None

    @replace(cmodule.ModuleCache)
    def _get_from_hash(self, module_hash, key, keep_lock=False):
        if module_hash in self.module_hash_to_key_data and _get_from_key(
                self, None, self.module_hash_to_key_data[module_hash]) is None:
            return None
        return _get_from_hash.original(self, module_hash, key, keep_lock)

    def forget(self, entry):
        for module_hash, key_data in list(self.module_hash_to_key_data.items()):
            if key_data.get_entry() == entry:
                del self.module_hash_to_key_data[module_hash]
        for key in [key for key, its_entry in self.entry_from_key.items() if its_entry == entry]:
            del self.entry_from_key[key]


def passing_bar(bar_format, **options):
    """A bar that vanishes when done, for who is looking: in a notebook or a terminal."""
    watched = sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")
    return tqdm(bar_format=bar_format, file=sys.stdout, leave=False, disable=not watched, **options)


@around_import("theano.gof.compilelock")
def lock_by_filelock(compilelock):
    """Lock the folder of compiled code through the operating system.

    Theano's own lock outlives a process that was killed, and waits in steps of
    five seconds.
    """
    yield
    locks = {}  # by process: a child that was forked has none of its parent's

    @replace(compilelock)
    def lock(tmp_dir, **kwargs):
        system_lock = locks.setdefault((os.getpid(), tmp_dir),
                                       FileLock(f"{tmp_dir}.lock", thread_local=False))
        try:
            system_lock.acquire(timeout=2)
        except Timeout:
            with passing_bar("Another process is compiling; waiting for it. "
                             "(Другой процесс компилирует код, ждём его.)"):
                system_lock.acquire()

    @replace(compilelock)
    def refresh_lock(lock_file):
        pass

    @replace(compilelock.Unlocker)
    def unlock(self, force=False):
        if (os.getpid(), self.tmp_dir) in locks:
            locks[os.getpid(), self.tmp_dir].release()

    @replace(compilelock)
    @contextmanager
    def lock_ctx(lock_dir=None, keep_lock=False, **kwargs):
        compilelock.get_lock(lock_dir=lock_dir, **kwargs)
        try:
            yield
        finally:
            if not keep_lock:
                compilelock.release_lock()
