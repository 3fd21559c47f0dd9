"""Changing a module of somebody else's at the moment it is imported.

A patch is a context manager over the module: what stands before its ``yield``
runs just before the module's own code, what stands after it just after::

    @around_import("theano.some.module")
    def what_it_mends(module):
        yield
        module.name = something_else

To find the patch that is to blame for something, leave some out: the
environment variable ``VAE_COMPAT_OFF`` takes names of patches, or of the files
here that they stand in, separated by commas.
"""

import os
import sys
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

__all__ = ["around_import", "activate", "PATCHES"]

#: Every patch there is, by the name of the module it is for.
PATCHES = {}

_OFF = set(os.environ.get("VAE_COMPAT_OFF", "").split(","))


def around_import(*module_names):
    """Register the decorated generator function as a patch for these modules."""
    def register(patch):
        if {patch.__name__, patch.__module__.rpartition(".")[2]} & _OFF:
            return patch
        for name in module_names:
            PATCHES.setdefault(name, []).append(contextmanager(patch))
        return patch
    return register


class _PatchingFinder(MetaPathFinder):
    """Finds a module where Python would, and runs its patches around its code."""

    def find_spec(self, name, path=None, target=None):
        if name not in PATCHES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_with_patches(module):
            with ExitStack() as stack:
                for patch in PATCHES[name]:
                    stack.enter_context(patch(module))
                exec_module(module)

        spec.loader.exec_module = exec_with_patches
        return spec


def activate():
    """Put the registered patches into effect for every import from now on."""
    if not any(isinstance(finder, _PatchingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PatchingFinder())
