"""Changing a module of somebody else's at the moment it is imported.

A patch is a context manager over the module: what stands before its ``yield``
runs just before the module's own code, what stands after it just after::

    @around_import("theano.some.module")
    def what_it_mends(module):
        yield
        module.name = something_else

All of them are in one table, `PATCHES`, in the groups that `GROUPS` names;
``python -m theano_compat --patches`` prints it, and ``README.md`` here tells what made each necessary.
A patch that is there for speed alone also says, in a `Speed`, where it acts, what that brings, and
which test stands at the edge of its domain.

To find the patch that is to blame for something, leave some out: the
environment variable ``THEANO_COMPAT_OFF`` takes names of patches, of the files
here that they stand in, or of groups, separated by commas.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from inspect import getattr_static
from typing import Callable, NamedTuple

__all__ = ["around_import", "replace", "activate", "Patch", "Speed", "GROUPS", "ORDER", "PATCHES"]

#: What patches are there for: the folders here that they stand in.
GROUPS = ("needed", "speed", "without_compiler", "old_programs")

#: The patches of each module that has several, in the order in which they are applied: the first is
#: the outermost, what it does after its ``yield`` comes last.  Where no reason is given, they change
#: different things, and any order would do.
ORDER = {
    # A compiler is looked for before the module's own code looks for one.
    "theano.configdefaults": (
        "use_found_compiler", "warn_once_of_no_compiler", "restore_distutils",
        "keep_optimised_graphs"),
    # `rebuild_damaged_modules` writes a library's digest beside it, in the folder from which
    # `adapt_c_to_numpy_2` then moves both into place.
    "theano.gof.cmodule": (
        "adapt_c_to_numpy_2", "link_without_libpython", "write_keys_atomically", "rebuild_damaged_modules",
        "detect_processor_by_compiler", "compile_modules_together", "restore_distutils", "restore_numpy_distutils"),
    "theano.compile.function_module": ("keep_optimised_graphs", "finish_interrupted_calls"),
    "theano.gof.cc": ("version_operations_by_code", "call_thunks_by_ctypes"),
    "theano.scalar.basic": (
        "compare_floats_exactly", "compute_scalars_in_numpy", "fuse_shared_updates"),
    "theano.gof.vm": ("compile_modules_together", "use_python_engine", "ignore_float_warnings"),
    "theano.tensor.blas": (
        "restore_numpy_distutils", "multiply_matrices_in_numpy", "compute_products_once", "skip_zeros_in_products",
        "import_scipy_lazily"),
    "theano.printing": ("restore_tostring", "import_pydot_lazily"),
    "theano.tensor.sort": ("index_by_tuples", "make_topk_consistent"),
    "lasagne": ("restore_pkg_resources", "accept_old_spellings"),
    "theano.tensor.opt": ("wrap_negatives", "fuse_shared_updates"),
    # `vectorise_loops` asks for the C code of an operation; `compute_elementwise_in_numpy` prepares it.
    "theano.tensor.elemwise": (
        "compute_elementwise_in_numpy", "vectorise_loops", "vectorise_sums", "multiply_nonzeros_in_numpy",
        "fold_constants_in_numpy"),
    "theano.sandbox.rng_mrg": ("draw_all_streams_at_once", "seed_streams_in_numpy"),
    "theano.tensor.nnet.abstract_conv": ("import_scipy_lazily", "convolve_by_products"),
    "theano.tensor.nnet.conv": ("import_scipy_lazily", "convolve_old_ops_by_products"),
}


class Speed(NamedTuple):
    """What a patch that is there for speed alone states beside its code."""

    #: On which operations, dtypes and shapes it acts: all else is as Theano has it.
    acts_on: str
    #: A row of ``benchmarks/training.py patches``, and by what the time without it is divided.
    brings: str
    #: The test at the edge of the domain, as pytest names it.
    edge: str


class Patch(NamedTuple):
    """A line of the table; the docstring of the function says what it is for."""
    function: Callable
    file: str
    group: str
    modules: tuple
    speed: Speed
    left_out: bool


#: Every patch there is, by its name.
PATCHES = {}

_OFF = set(os.environ.get("THEANO_COMPAT_OFF", "").replace(",", " ").split())


def around_import(*modules, speed=None):
    """Enter the decorated generator function in the table, as a patch for these modules.

    Parameters
    ----------
    *modules : str
        Their names.
    speed : Speed, optional
        Of a patch in the group ``speed``, which must have it.

    Raises
    ------
    ValueError
        If there is a patch of that name already, or it is in no group, or `speed` is missing.
    """
    def register(function):
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


def replace(owner, name=None):
    """Decorate a function that takes the place of another one, which it can call.

    In a patch, after its ``yield``::

        @replace(module.SomeClass)
        def method(self, x):
            return method.original(self, x + 1)

    Parameters
    ----------
    owner : module or type
        Where the function is found.
    name : str, optional
        Its name there; by default, that of the decorated function.

    Returns
    -------
    callable
        A decorator.  The function's attribute ``original`` is what it has replaced; that of a static
        method is the function itself, and so the new one is a static method, too.
    """
    def put(function):
        place = name or function.__name__
        function.original = getattr(owner, place)
        is_static = isinstance(getattr_static(owner, place), staticmethod)
        setattr(owner, place, staticmethod(function) if is_static else function)
        return function
    return put


def patches_of(module):
    """Return the names of a module's patches, in the order in which they are applied."""
    names = [name for name, patch in PATCHES.items() if module in patch.modules]
    if len(names) < 2:
        return names
    if sorted(names) != sorted(ORDER.get(module, ())):
        raise ValueError(f"{module} has the patches {', '.join(sorted(names))}: hooks.ORDER must "
                         "name just these")
    return list(ORDER[module])


class _PatchingFinder(MetaPathFinder):
    """Finds a module where Python would, and runs its patches around its code."""

    def find_spec(self, name, path=None, target=None):
        patches = [PATCHES[patch] for patch in patches_of(name)]
        functions = [patch.function for patch in patches if not patch.left_out]
        if not functions:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_with_patches(module):
            with ExitStack() as stack:
                for function in functions:
                    stack.enter_context(function(module))
                exec_module(module)

        spec.loader.exec_module = exec_with_patches
        return spec


def activate():
    """Put the registered patches into effect for every import from now on.

    Raises
    ------
    ValueError
        If `THEANO_COMPAT_OFF` names something that is no patch, file of patches or group; or if the
        order of a module's patches is not told.
    """
    unknown = (_OFF - set(PATCHES) - {patch.file for patch in PATCHES.values()} - set(GROUPS))
    if unknown:
        raise ValueError(f"THEANO_COMPAT_OFF names {', '.join(sorted(unknown))}: there is no such "
                         "patch, file or group; `python -m theano_compat --patches` prints all")
    for module in {module for patch in PATCHES.values() for module in patch.modules}:
        patches_of(module)
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
