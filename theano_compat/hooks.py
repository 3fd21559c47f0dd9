"""The table of patches. A patch changes a module of Theano or Lasagne in memory during its import.

A patch is a generator function. The part before its ``yield`` runs before the module's own code,
and the part after its ``yield`` runs after that code::

    @around_import("theano.some.module")
    def what_the_patch_does(module):
        yield
        module.name = something_else

`PATCHES` contains all patches, and `GROUPS` the groups to which they belong. ``python -m
theano_compat --patches`` prints the table, and ``README.md`` in this folder states the reason for
each patch. A patch in the group ``speed`` also has a `Speed`, which states where it acts, how much
faster a program is with it, and which test covers the edge of its domain.

To find the patch that causes a fault, leave patches out. The environment variable
``THEANO_COMPAT_OFF`` takes names of patches, files (without ``.py``) or groups, with commas between
them.
"""

import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NamedTuple

__all__ = ["around_import", "replace", "rewrite", "activate", "Patch", "Speed", "GROUPS", "ORDER",
           "PATCHES"]

#: The groups of patches by purpose. Each group is a folder next to this file.
GROUPS: tuple[str, ...] = ("needed", "speed", "without_compiler", "old_programs")

#: For each module with several patches, the order in which they are entered. The first patch is the
#: outermost one, and its code after the ``yield`` runs last. If no reason is given, the patches
#: change different things, and any order is right.
ORDER: dict[str, tuple[str, ...]] = {
    # `use_found_compiler` acts before the module's own code looks for a compiler.
    "theano.configdefaults": (
        "use_found_compiler", "warn_once_of_no_compiler", "restore_distutils",
        "keep_optimised_graphs"),
    # `rebuild_damaged_modules` writes the digest of a library next to the library. Then
    # `adapt_c_to_numpy_2` moves both files into place.
    "theano.gof.cmodule": (
        "adapt_c_to_numpy_2", "link_without_libpython", "write_keys_atomically",
        "refresh_while_others_delete", "rebuild_damaged_modules", "detect_processor_by_compiler",
        "compile_modules_together", "compare_addresses_in_scan", "restore_distutils",
        "restore_numpy_distutils"),
    "theano.compile.function_module": ("keep_optimised_graphs", "finish_interrupted_calls"),
    "theano.gof.cc": ("version_operations_by_code", "call_thunks_by_ctypes"),
    "theano.scalar.basic": (
        "compare_floats_exactly", "compute_scalars_in_numpy", "fuse_shared_updates"),
    "theano.gof.vm": ("compile_modules_together", "use_python_engine", "ignore_float_warnings"),
    "theano.tensor.blas": (
        "restore_numpy_distutils", "multiply_matrices_in_numpy", "compute_products_once",
        "skip_zeros_in_products", "import_scipy_lazily"),
    "theano.printing": ("restore_tostring", "import_pydot_lazily"),
    "theano.tensor.sort": ("index_by_tuples", "make_topk_consistent"),
    "theano": ("adapt_theano_to_old_programs", "accept_old_spellings"),
    "lasagne": ("restore_pkg_resources", "accept_old_spellings"),
    "theano.tensor.opt": ("wrap_negatives", "fuse_shared_updates"),
    # `vectorise_loops` requests the C code of an operation, which `compute_elementwise_in_numpy`
    # prepares.
    "theano.tensor.elemwise": (
        "compute_elementwise_in_numpy", "vectorise_loops", "vectorise_sums",
        "multiply_nonzeros_in_numpy", "round_extrema_as_c_does", "fold_constants_in_numpy"),
    "theano.sandbox.rng_mrg": ("draw_all_streams_at_once", "seed_streams_in_numpy"),
    "theano.tensor.nnet.abstract_conv": ("import_scipy_lazily", "convolve_by_products"),
    "theano.tensor.nnet.conv": ("import_scipy_lazily", "convolve_old_ops_by_products"),
}


class Speed(NamedTuple):
    """The domain and the gain of a patch in the group ``speed``."""

    #: The operations, dtypes and shapes on which the patch acts. Theano computes all others.
    acts_on: str
    #: The gain, from a row of ``benchmarks/training.py patches``: the program, and its time without
    #: the patch divided by its time with the patch.
    brings: str
    #: The test at the edge of this domain, in pytest's notation.
    edge: str


class Patch(NamedTuple):
    """A row of the table of patches."""
    #: Takes the module, and returns a context manager around the execution of the module's code.
    function: Callable[[ModuleType], AbstractContextManager]
    #: The file that defines the patch, without ``.py``.
    file: str
    group: str
    #: The full names of the modules that the patch changes.
    modules: tuple[str, ...]
    speed: Speed | None
    #: Whether `THEANO_COMPAT_OFF` names it.
    left_out: bool


#: All patches, by name.
PATCHES: dict[str, Patch] = {}

_OFF = set(os.environ.get("THEANO_COMPAT_OFF", "").replace(",", " ").split())


def around_import(*modules: str, speed: Speed | None = None) -> Callable[[Callable], Callable]:
    """Return a decorator that adds a generator function to `PATCHES` as a patch of some modules.

    Parameters
    ----------
    *modules : str
        Full names of the modules.
    speed : Speed, optional
        Required for patches in the group ``speed``, and forbidden for other patches.

    Returns
    -------
    callable
        The decorator. It returns the function unchanged.

    Raises
    ------
    ValueError
        The decorator raises it if there is already a patch with this name, if the function is in no
        group, or if `speed` does not fit the group.
    """
    def register(function: Callable[[ModuleType], Iterator[None]]) -> Callable:
        name = function.__name__
        *_, group, file = function.__module__.split(".")
        if name in PATCHES:
            raise ValueError(f"there are two patches with the name {name}")
        if group not in GROUPS:
            raise ValueError(f"{name} is in {function.__module__}: expected a module of "
                             f"{', '.join(GROUPS)}")
        if (group == "speed") != (speed is not None):
            raise ValueError(f"{name} is in the group {group}, and has "
                             f"{'a' if speed else 'no'} Speed")
        PATCHES[name] = Patch(contextmanager(function), file, group, modules, speed,
                              bool({name, file, group} & _OFF))
        return function
    return register


def replace(owner: object) -> Callable[[Callable], Callable]:
    """Return a decorator for a function that replaces an attribute of `owner` with the same name.

    In a patch, after its ``yield``::

        @replace(module.SomeClass)
        def method(self, x):
            return method.original(self, x + 1)

    Parameters
    ----------
    owner : module, class or object
        The object with the function that is replaced.

    Returns
    -------
    callable
        The decorator. It returns the new function. Its attribute ``original`` is the function that
        was replaced. If that function was a static method, the new function is also one.

    Raises
    ------
    AttributeError
        The decorator raises it if `owner` has no attribute with this name.
    """
    def replace_by(function: Callable) -> Callable:
        name = function.__name__
        function.original = getattr(owner, name)
        is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        setattr(owner, name, staticmethod(function) if is_static else function)
        return function
    return replace_by


def rewrite(owner: object, name: str, pattern: str, replacement: str) -> None:
    """Replace parts of a function's source code when the function is first called.

    Parameters
    ----------
    owner : module or class
        The object with the function.
    name : str
        Name of the function.
    pattern, replacement : str
        See `re.sub`.
    """
    def function(*args, **kwargs):
        return rewritten()(*args, **kwargs)

    function.__name__ = name
    original = replace(owner)(function).original

    @lru_cache(maxsize=None)
    def rewritten() -> Callable:
        lines, first = inspect.getsourcelines(original)
        source = re.sub(pattern, replacement, textwrap.dedent("".join(lines)))
        namespace = {}
        exec(compile("\n" * (first - 1) + source, inspect.getsourcefile(original), "exec"),
             original.__globals__, namespace)
        return namespace[name]


def patches_of(module: str) -> list[str]:
    """Return the names of a module's patches, in the order in which they are entered.

    Raises
    ------
    ValueError
        If the module has several patches, and `ORDER` does not list exactly these.
    """
    names = [name for name, patch in PATCHES.items() if module in patch.modules]
    if len(names) < 2:
        return names
    if sorted(names) != sorted(ORDER.get(module, ())):
        raise ValueError(f"{module} has the patches {', '.join(sorted(names))}: hooks.ORDER must "
                         "name just these")
    return list(ORDER[module])


class _PatchingFinder(MetaPathFinder):
    """A finder that finds a module in the same place as Python, and runs its patches around it."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        patches = [PATCHES[patch] for patch in patches_of(name)]
        functions = [patch.function for patch in patches if not patch.left_out]
        if not functions:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_with_patches(module: ModuleType) -> None:
            with ExitStack() as stack:
                for function in functions:
                    stack.enter_context(function(module))
                exec_module(module)

        spec.loader.exec_module = exec_with_patches
        return spec


def activate() -> None:
    """Apply all patches to all later imports, except those that are left out.

    Raises
    ------
    ValueError
        If `THEANO_COMPAT_OFF` contains a name that is not a patch, a file of patches or a group, or
        if a module has several patches and `ORDER` does not list exactly these.
    """
    unknown = _OFF - set(PATCHES) - {patch.file for patch in PATCHES.values()} - set(GROUPS)
    if unknown:
        raise ValueError(f"THEANO_COMPAT_OFF names {', '.join(sorted(unknown))}: there is no such "
                         "patch, file or group; `python -m theano_compat --patches` prints all")
    for module in {module for patch in PATCHES.values() for module in patch.modules}:
        patches_of(module)
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
