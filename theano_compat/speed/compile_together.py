"""Patches that compile less code, and several modules at once.

Theano compiles the modules of a function's operations one after another, and each module repeats
the same checks of arrays. These patches compile the modules of a function together on all cores.
Several modules are in the same source file, and their common code is compiled only once.
"""

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.needed import compiled_code
from theano_compat.originals import is_theanos, what_writes_c

_BAR = "Theano: C++: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}]"


@around_import("theano.tensor.type", speed=Speed(
    acts_on="arguments and results that are tensors, of every dtype and shape: how TensorType "
            "extracts and releases them",
    brings="nothing cached 1.21",
    edge="tests/compat/test_compat.py::test_a_type_of_a_programs_own_cleans_up_itself"))
def share_array_checks(module):
    """Check and release arrays in functions that all operations share.

    Theano generates forty lines of code for each array, before and after each operation.
    """
    yield
    from theano.gof import cc
    original_c_cleanup = module.TensorType.c_cleanup

    @replace(module.TensorType)
    def c_headers(self, c_compiler):
        return [*c_headers.original(self, c_compiler), '"tensors.h"']

    @replace(module.TensorType)
    def c_extract(self, name, sub, check_input=True):
        if not check_input:
            return c_extract.original(self, name, sub, check_input)
        type_number = self.dtype_specs()[2]
        return (f'if (tensors::extract(py_{name}, {type_number}, "{type_number}", &{name}) < 0) '
                f"{{ {sub['fail']} }}\n")

    @replace(module.TensorType)
    def c_sync(self, name, sub):
        return f"if (tensors::sync({name}, &py_{name}) < 0) {{ {sub['fail']} }}\n"

    @replace(cc)
    def get_c_cleanup(r, name, sub):
        # A type of the program may have its own c_cleanup.
        if getattr(type(r.type), "c_cleanup", None) is original_c_cleanup:
            return f"tensors::release({name}, py_{name});\n"
        return get_c_cleanup.original(r, name, sub)


@around_import("theano.gof.cmodule", speed=Speed(
    acts_on="g++ and clang++ on Linux, where gcc.cxxflags names no processor",
    brings="all cached 1.36",
    edge="tests/compat/test_compat.py::test_the_users_processor"))
def detect_processor_by_compiler(cmodule):
    """Compile with ``-march=native``.

    Theano runs the compiler three times at every start to find the name of the processor. This is
    not necessary, because the folder of compiled code is used only on this processor.
    """
    yield

    @replace(cmodule.GCC_compiler)
    def compile_args(march_flags=True):
        if (cmodule.GCC_compiler.march_flags is None and sys.platform == "linux"
                and re.match(r"(g|clang)\+\+", os.path.basename(cmodule.config.cxx))
                and not re.search("-m(arch|tune|cpu)", cmodule.config.gcc.cxxflags)):
            cmodule.GCC_compiler.march_flags = ["-march=native"]
        return compile_args.original(march_flags)


# --- many modules at once ---

_INCLUDES = re.compile(r"\A(?:\s*#include .*\n)+")

#: The nodes of the function that is being compiled. It is empty after its missing modules are
#: compiled.
_nodes_to_compile = []


@around_import("theano.gof.vm", "theano.gof.cmodule", speed=Speed(
    acts_on="modules of operations that have a version; in one source file only Theano's own, "
            "without #include in the middle of their C",
    brings="nothing cached 8.59",
    edge="tests/compat/test_compat.py::test_modules_with_names_in_common"))
def compile_modules_together(module):
    """Compile all missing modules of a function when the first of them has to be compiled."""
    yield
    if module.__name__ == "theano.gof.vm":
        _note_nodes_to_compile(module.VM_Linker)
    else:
        _compile_at_once(module)


def _note_nodes_to_compile(linker):
    """Keep the nodes of a function in `_nodes_to_compile` while the function is being compiled."""
    @replace(linker)
    def make_all(self, *args, **kwargs):
        nodes_of_outer_function = _nodes_to_compile[:]
        _nodes_to_compile[:] = [] if self.c_thunks is False else self.fgraph.apply_nodes
        try:
            return make_all.original(self, *args, **kwargs)
        finally:
            _nodes_to_compile[:] = nodes_of_outer_function


def _compile_at_once(cmodule):
    """Compile all missing modules when Theano requests the first of them."""
    @replace(cmodule.ModuleCache)
    def module_from_key(self, key, lnk=None, keep_lock=False):
        if _nodes_to_compile and key not in self.entry_from_key:
            nodes = list(_nodes_to_compile)
            _nodes_to_compile.clear()
            _compile_missing(cmodule, self, nodes)
        return module_from_key.original(self, key, lnk, keep_lock)


class _Module:
    """The source of an operation's module, and the options for compiling it.

    Parameters
    ----------
    node : theano.gof.Apply
        The operation with its arguments.
    """

    def __init__(self, node):
        from theano.gof.cc import CLinker
        from theano.gof.cmodule import get_module_hash
        from theano.gof.fg import FunctionGraph
        linker = CLinker().accept(FunctionGraph(node.inputs, node.outputs), no_recycling=[])
        self.key = linker.cmodule_key()
        for inner in linker.node_order:
            inner.op.prepare_node(inner, None, None, "c")
        source = linker.get_src_code()
        self.hash = get_module_hash(source, self.key)
        self.name = linker.get_dynamic_module().code_hash
        self.include_dirs, self.lib_dirs = linker.header_dirs(), linker.lib_dirs()
        self.libs, self.flags = linker.libraries(), tuple(linker.compile_args())
        self.includes = _INCLUDES.match(source).group()
        self.body = source[len(self.includes):]
        self.macros = set(re.findall(r"^\s*#\s*define\s+(\w+)", self.body, re.M))
        self.is_theanos = all(map(is_theanos, what_writes_c(node)))

    def can_share_a_file(self):
        """Return whether this module has no effect on other modules in the same file.

        The C code of the program's own operations may include headers that affect other modules.
        """
        return self.is_theanos and "#include" not in self.body

    def part_of_a_file(self):
        """Return the source in a namespace. Its macros are restored at the end."""
        before = "".join(f'#pragma push_macro("{name}")\n' for name in sorted(self.macros))
        after = before.replace("push", "pop")
        return f"{before}namespace {self.name} {{\n{self.body}\n}}\n{after}"


def _compile_missing(cmodule, cache, nodes):
    """If several modules of these nodes are missing, compile them and add them to the cache."""
    from theano.gof import compilelock
    with compilelock.lock_ctx():
        cache.refresh(cleanup=False)
        modules = _missing_modules(cache, nodes)
        if len(modules) < 2:
            return
        n_cores = _n_cores()
        with compiled_code.passing_bar(_BAR, total=len(modules)) as bar, \
                ThreadPoolExecutor(n_cores) as pool:
            try:
                tasks = {pool.submit(_build, cmodule, group, cache.dirname): group
                         for group in _groups(modules, n_cores)}
                while tasks:
                    done, _ = wait(tasks, timeout=0.2, return_when=FIRST_COMPLETED)
                    bar.refresh()  # updates the elapsed time
                    for task in done:
                        group = tasks.pop(task)
                        # If a group cannot be compiled, Theano compiles its modules one by one, and
                        # reports the error.
                        if task.exception() is None:
                            _install_all(cmodule, cache, group, Path(task.result()))
                        bar.update(len(group))
            finally:
                pool.shutdown(cancel_futures=True)


def _missing_modules(cache, nodes):
    """Return the modules of these nodes that are not in the cache, without repetitions."""
    found = {}
    for node in nodes:
        try:
            module = _Module(node)
        except Exception:
            continue  # this operation has no C code, which Theano will notice itself
        if (module.key and module.key[0] and module.key not in cache.entry_from_key
                and module.hash not in cache.module_hash_to_key_data):
            found.setdefault(module.hash, module)
    return list(found.values())


def _groups(modules, n_groups):
    """Divide modules into source files. From the longest on, each goes to the shortest file so far.

    A file only contains modules with the same compiler options. A module that cannot share a file
    gets its own file.
    """
    shared, single = {}, []
    for module in sorted(modules, key=lambda module: -len(module.body)):
        if not module.can_share_a_file():
            single.append([module])
            continue
        groups = shared.setdefault(module.flags, [[] for _ in range(n_groups)])
        min(groups, key=_length).append(module)
    return [group for groups in shared.values() for group in groups if group] + single


def _length(group):
    return sum(len(module.body) for module in group)


def _build(cmodule, group, folder):
    """Compile modules to one library in a new folder, and return the path of the library."""
    includes = [line for module in group for line in module.includes.splitlines() if line.strip()]
    parts = [module.part_of_a_file() for module in group]
    folder = tempfile.mkdtemp(prefix="group", dir=folder)
    try:
        cmodule.GCC_compiler.compile_str(
            "together", "\n".join([*dict.fromkeys(includes), *parts]), folder,
            include_dirs=_union(group, "include_dirs"), lib_dirs=_union(group, "lib_dirs"),
            libs=_union(group, "libs"), preargs=list(group[0].flags), py_module=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return os.path.join(folder, f"together.{cmodule.get_lib_extension()}")


def _union(group, attribute):
    """Return the union of a list attribute over all modules, without repetitions."""
    return list(dict.fromkeys(value for module in group for value in getattr(module, attribute)))


def _install_all(cmodule, cache, group, library):
    """Put a library where Theano looks for each of its modules, then remove the original."""
    for module in group:
        _install(cmodule, cache, module, library)
    shutil.rmtree(library.parent)


def _install(cmodule, cache, module, library):
    """Put a library in the place where Theano looks for one of its modules."""
    location = Path(cmodule.dlimport_workdir(cache.dirname))
    path = location / f"{module.name}.{cmodule.get_lib_extension()}"
    try:
        os.link(library, path)
    except OSError:  # not every file system has links
        shutil.copy(library, path)
    if os.path.exists(f"{library}.sha256"):  # missing if `rebuild_damaged_modules` is left out
        shutil.copy(f"{library}.sha256", f"{path}.sha256")
    (location / "__init__.py").touch()
    loaded = cmodule.dlimport(str(path))
    cache.module_from_name[str(path)] = loaded
    cache.module_hash_to_key_data[module.hash] = cache._add_to_cache(
        loaded, module.key, module.hash)
    cache.stats[2] += 1


def _n_cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
