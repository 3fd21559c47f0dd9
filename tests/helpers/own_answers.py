"""Right answers in the form that students write: copies of the package's own code."""

import sys

from vae.source import source_of

__all__ = ["as_in_the_notebook"]


def as_in_the_notebook(obj):
    """Return a class or function of the package, defined anew from its source."""
    names = dict(vars(sys.modules[obj.__module__]))
    exec(source_of(obj), names)
    return names[obj.__name__]
