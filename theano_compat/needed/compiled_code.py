"""Patches that compile Theano's generated C++ against NumPy 2, and keep the modules safely.

Many processes may use the folder of compiled code at the same time.
"""

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
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from theano_compat.hooks import around_import, replace
from theano_compat.needed.settings import scipy_openblas32
from theano_compat.originals import as_imported, digest_of_theano, is_theanos, what_writes_c

HEADERS = Path(__file__).parents[1] / "include"

#: Patterns of generated code that only works with NumPy 1, and their replacements.
_REWRITES = [
    # NumPy 2.0 made the descriptor's fields private.
    (re.compile(r"PyArray_DESCR\(([^()]+)\)->elsize"), r"PyArray_ITEMSIZE(\1)"),
    # NumPy 2.0 has its own constant for "no axis".
    (re.compile(r"axis (==?) NPY_MAXDIMS"), r"axis \1 NPY_RAVEL_AXIS"),
    # NumPy 2.0's complex numbers are complex numbers of C. C++ cannot access their parts.
    (re.compile(r"struct theano_complex(64|128) : public npy_complex\1"), lambda match: f"""
struct complex{match[1]}_parts {{
    npy_float{int(match[1]) // 2} real, imag;
    operator npy_complex{match[1]}() const
    {{ npy_complex{match[1]} c; memcpy(&c, this, sizeof(c)); return c; }}
}};
struct theano_complex{match[1]} : public complex{match[1]}_parts"""),
    # NumPy 2.4's empty arrays have strides of 0, which BLAS does not accept.
    (re.compile(r"S([xyz])\[1\] == type_size \|\| N\1\[1\] ?== ?1\b(?=\) \? 0x0)"),
     r"\g<0> || N\1[0] * N\1[1] == 0"),
    (re.compile(r"S([xyz])\[2\] == type_size \|\| N\1\[2\] ?== ?1\b(?=\) \? 0x0)"),
     r"\g<0> || N\1[0] * N\1[1] * N\1[2] == 0"),
    (re.compile(r"(s([xyz])_(\d) = \(N\2\[\3\] > 1)(\) \?)"), r"\1 && S\2[\3] != 0\4"),
    # Cython 0.28 has generated the loop of Scan. Compiled for PyPy, it uses only Python's public
    # API, ...
    (re.compile(r"#ifdef PYPY_VERSION(?=\n  #define CYTHON_COMPILING_IN_PYPY 1)"), "#if 1"),
    # ... except for names that Python 3.8 and 3.11 have changed ...
    (re.compile(r"(#define __Pyx_PyCode_New\(.*\)\\\n).*"),
     r"\1 PyCode_NewEmpty(PyUnicode_AsUTF8(fn), PyUnicode_AsUTF8(name), fline)"),
    (re.compile(r"(#define __Pyx_PyFrame_SetLineNumber\(.*?\)).*"), r"\1"),
    # ... and NumPy 2.0.
    (re.compile(r"(__pyx_v_\w+)->(subarray|names|fields|elsize)\b"),
     lambda match: f"PyDataType_{match[2].upper()}({match[1]})"),
]


#: The largest number of times that the folder of compiled code is read if it changes each time.
_MAX_REFRESHES = 10

#: C code that casts a number, which may be a fraction, to an integer.
_TO_INTEGER = re.compile(r"= (\(npy_u?int\d+\)|pow\()")


def _options(config, source):
    """Return options of the compiler for generated code."""
    uses_wheel = scipy_openblas32 and scipy_openblas32.get_library() in config.blas.ldflags
    return ["-include", str(HEADERS / "theano_on_numpy2.h"),
            *["-DTHEANO_WITH_SCIPY_OPENBLAS"] * bool(uses_wheel),
            # The compiler can vectorise loops if sqrt need not set errno, and if comparisons need
            # not raise signals. But without signals, if a fraction is cast to an integer and back,
            # g++ returns -0. instead of 0.
            "-fno-math-errno", *["-fno-trapping-math"] * (not _TO_INTEGER.search(source)),
            "-Wno-narrowing",  # narrowing is frequent in Theano's loops, and an error in clang
            "-g0"]  # nobody uses the debugging information that Theano requests


@around_import("theano.gof.cmodule")
def adapt_c_to_numpy_2(cmodule):
    """Compile generated code against NumPy 2 and the wheel's BLAS.

    NumPy 2.0, 2.1 and 2.4 and Python 3.8 and 3.11 have changed names that Theano's C++ uses. These
    are listed in `_REWRITES` and ``include/theano_on_numpy2.h``. A module is built in a new folder
    and then renamed into place, so that a process that is killed leaves no partial file.
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
                                     preargs=[*(preargs or []), *_options(cmodule.config, src_code)],
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
    """Link modules without libpython, because the process that loads them already contains it.

    Theano looks for libpython in the folder in which Python was built. A Python that has been
    moved, such as uv's, is in another folder.
    """
    yield
    if sys.platform != "win32":
        cmodule.std_lib_dirs_and_libs.data = [], []


def write_whole(path, content):
    """Replace a file atomically: other processes read either the old or the new content."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


@around_import("theano.gof.cmodule")
def write_keys_atomically(cmodule):
    """Replace the key file of a cached module atomically, and add a digest of its content.

    Other processes read the file without a lock. A damaged key could equal the key of another
    operation.
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


@around_import("theano.gof.cmodule")
def refresh_while_others_delete(cmodule):
    """Read the folder of compiled code again if another process has deleted a part of it meanwhile.

    Theano lists empty folders, waits for the lock, and then fails if one of these folders is gone.
    """
    yield

    @replace(cmodule.ModuleCache)
    def refresh(self, *args, **kwargs):
        for _ in range(_MAX_REFRESHES - 1):
            with suppress(FileNotFoundError):
                return refresh.original(self, *args, **kwargs)
        return refresh.original(self, *args, **kwargs)


@around_import("theano.gof.cc")
def version_operations_by_code(cc):
    """Give each operation a version that changes with its C code.

    Theano's operations without properties, such as Dot22 and Alloc, get a version. Theano treats an
    empty ``__props__`` as a missing version, and compiles these operations in every process. The
    program's own operations without a version are still compiled in every process. If such an
    operation inherits its version from a class of Theano, a digest of its C code is added to the
    version. Otherwise Theano would load the module of an earlier process, even if the C code in the
    program has been edited since.
    """
    yield

    @replace(cc.CLinker)
    def cmodule_key_(self, fgraph, *args, **kwargs):
        key = cmodule_key_.original(self, fgraph, *args, **kwargs)
        if key is None:
            return key
        nodes = self.schedule(fgraph)
        version, signature = key
        of_the_program = [thing for node in nodes for thing in what_writes_c(node)
                          if not is_theanos(thing)]
        if not version:
            return key if of_the_program else (_version(nodes), signature)
        if any(not _defines_a_version(type(thing)) for thing in of_the_program):
            return (*version, _digest_of_source(self, nodes)), signature
        return key


def _defines_a_version(cls):
    """Return whether a class, or a base outside Theano, defines a version of its C code."""
    return any(name.startswith("c_code_cache_version") for base in cls.__mro__
               if not as_imported.knows(base) for name in vars(base))


def _version(nodes):
    """Return the version of Theano's operations, or () if an operation or a type has none."""
    version = [digest_of_theano()]
    for node in nodes:
        if hasattr(node.op, "c_code_cache_version_apply"):  # Scan does not have this method
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
    """Give operations with C code in files a version that is the same in the next process.

    Theano's version is a hash of the text, and Python randomises hashes since 3.3.
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
    """Ignore the warnings at the import of Scan's loop.

    The loop declares structures of NumPy with their last fields, which it does not use. NumPy 2.0's
    headers hide these fields, so the sizes of the structures seem to have changed. NumPy itself
    ignores some of these warnings, but pytest removes NumPy's filters. Another warning says that
    the module has no package.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@around_import("theano.tensor.subtensor")
def increment_in_numpy(subtensor):
    """Compute ``x[indices] += y`` in NumPy: its C code needs a structure that NumPy 2.0 hides."""
    yield

    from theano.gof.utils import MethodNotDefined

    @replace(subtensor.AdvancedIncSubtensor1)
    def c_code(self, *args):
        raise MethodNotDefined("c_code")

    @replace(subtensor.AdvancedIncSubtensor1)
    def c_support_code(self):
        return ""


#: Digests of libraries that this process has read. The keys are the device, number, size and time
#: of the file, because modules that were compiled together are links to the same file.
_digests = {}


def _digest_of(library):
    return hashlib.sha256(Path(library).read_bytes()).hexdigest().encode()


def write_digest(library):
    """Write the digest of a complete library to a file next to it."""
    write_whole(f"{library}.sha256", _digest_of(library))


def is_sound(library):
    """Return whether a library is unchanged since it was compiled.

    Loading a damaged library may crash the process.
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
    """Remove a module if it is damaged. It is a module that is not in Theano's table of modules."""
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
        with compilelock.lock_ctx():  # another process may be writing the module
            if is_damaged():
                shutil.rmtree(folder, ignore_errors=True)


@around_import("theano.gof.lazylinker_c")
def rebuild_damaged_engine(lazylinker_c):
    """Remove a damaged library of Theano's engine, so that Theano builds it again.

    A process that is killed, or a full disk, may leave a damaged library. Theano would continue
    without the engine, and fail much later.
    """
    _remove_if_damaged("lazylinker_ext")
    yield


@around_import("theano.gof.cmodule")
def rebuild_damaged_modules(cmodule):
    """Compile a module again if its library is damaged or cannot be loaded.

    A process that is killed, or a full disk, may leave such a library.
    """
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
        for key, entry_of_key in list(self.entry_from_key.items()):
            if entry_of_key == entry:
                del self.entry_from_key[key]


def passing_bar(bar_format, **options):
    """Return a progress bar that disappears at the end. Only notebooks and terminals show it."""
    is_watched = sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")
    return tqdm(bar_format=bar_format, file=sys.stdout, leave=False, disable=not is_watched,
                **options)


@around_import("theano.gof.compilelock")
def lock_by_filelock(compilelock):
    """Lock the folder of compiled code through the operating system.

    Theano's own lock remains when a process is killed, and Theano waits in steps of five seconds.
    """
    yield
    locks = {}  # keys include the process, because a fork does not hold the locks of its parent

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
