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
from typing import Callable, NamedTuple

__all__ = ["around_import", "activate", "Patch", "Speed", "GROUPS", "ORDER", "PATCHES"]

#: What patches are there for: the folders here that they stand in.
GROUPS = ("needed", "speed", "without_compiler", "old_programs")

#: The patches of each module that has several, in the order in which they are applied: the first is
#: the outermost, what it does after its ``yield`` comes last.  Where no reason is given, they change
#: different things, and any order would do.
ORDER = {
    # A compiler is looked for before the module's own code looks for one.
    "theano.configdefaults": (
        "compiler_that_was_found", "no_compiler_is_said_once", "distutils",
        "graphs_optimised_once"),
    # `damaged_modules` writes a library's digest beside it, in the folder from which
    # `numpy_2_headers` then moves both into place.
    "theano.gof.cmodule": (
        "numpy_2_headers", "modules_without_libpython", "whole_keys", "damaged_modules",
        "native_code", "modules_at_once", "distutils", "numpy_distutils"),
    "theano.compile.function_module": ("graphs_optimised_once", "whole_calls"),
    "theano.gof.cc": ("operations_without_properties", "thunks_called_by_ctypes"),
    "theano.scalar.basic": (
        "floats_that_differ", "numbers_as_arrays", "updates_in_one_pass"),
    "theano.gof.vm": ("modules_at_once", "engine_in_python", "silence_of_c"),
    "theano.tensor.blas": (
        "numpy_distutils", "products_by_numpy", "products_computed_once", "zeros_left_out",
        "scipy_when_asked_for"),
    "theano.printing": ("tostring", "pydot_when_asked_for"),
    "theano.tensor.sort": ("lists_of_slices", "partitions_in_one_order"),
    "lasagne": ("pkg_resources", "old_spellings"),
    "theano.tensor.opt": ("negatives_that_wrap", "updates_in_one_pass"),
    # `vectorised_loops` asks for the C code of an operation; `expressions_by_numpy` prepares it.
    "theano.tensor.elemwise": (
        "expressions_by_numpy", "vectorised_loops", "vectorised_sums", "products_without_zeros",
        "constants_by_numpy"),
    "theano.sandbox.rng_mrg": ("streams_side_by_side", "streams_by_numpy"),
    "theano.tensor.nnet.abstract_conv": ("scipy_when_asked_for", "convolutions_by_products"),
    "theano.tensor.nnet.conv": ("scipy_when_asked_for", "old_convolutions_by_products"),
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
