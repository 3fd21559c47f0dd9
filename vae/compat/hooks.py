"""Changing a module of somebody else's at the moment it is imported.

A patch is a context manager over the module: what stands before its ``yield``
runs just before the module's own code, what stands after it just after::

    @around_import("theano.some.module")
    def what_it_mends(module):
        yield
        module.name = something_else

All of them are in one table, `PATCHES`, which ``python -m vae.compat --patches``
prints; ``README.md`` here tells what made each necessary.

To find the patch that is to blame for something, leave some out: the
environment variable ``VAE_COMPAT_OFF`` takes names of patches, or of the files
here that they stand in, separated by commas.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import Callable, NamedTuple

__all__ = ["around_import", "activate", "Patch", "PATCHES"]


class Patch(NamedTuple):
    """A line of the table; the docstring of the function says what it is for."""
    function: Callable
    file: str
    modules: tuple
    left_out: bool


#: Every patch there is, by its name; of those for one module the first is the outermost.
PATCHES = {}

_OFF = set(os.environ.get("VAE_COMPAT_OFF", "").replace(",", " ").split())


def around_import(*modules):
    """Enter the decorated generator function in the table, as a patch for these modules."""
    def register(function):
        name, file = function.__name__, function.__module__.rpartition(".")[2]
        if name in PATCHES:
            raise ValueError(f"there are two patches with the name {name}")
        PATCHES[name] = Patch(contextmanager(function), file, modules, bool({name, file} & _OFF))
        return function
    return register


class _PatchingFinder(MetaPathFinder):
    """Finds a module where Python would, and runs its patches around its code."""

    def find_spec(self, name, path=None, target=None):
        patches = [patch.function for patch in PATCHES.values()
                   if name in patch.modules and not patch.left_out]
        if not patches:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_with_patches(module):
            with ExitStack() as stack:
                for patch in patches:
                    stack.enter_context(patch(module))
                exec_module(module)

        spec.loader.exec_module = exec_with_patches
        return spec


def activate():
    """Put the registered patches into effect for every import from now on.

    Raises
    ------
    ValueError
        If `VAE_COMPAT_OFF` names something that is neither a patch nor a file of patches.
    """
    unknown = _OFF - set(PATCHES) - {patch.file for patch in PATCHES.values()}
    if unknown:
        raise ValueError(f"VAE_COMPAT_OFF names {', '.join(sorted(unknown))}: there is no such "
                         "patch, nor file of patches; `python -m vae.compat --patches` prints all")
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
