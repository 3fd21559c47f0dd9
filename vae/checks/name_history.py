"""Which names of the exercises the kernel keeps although their cell no longer defines them.

A student deletes a line, or a cell ends with an error before the line is reached: the kernel still
has what an earlier run has defined, and a verdict on that would not be about the code on the page.
"""

import difflib
from dataclasses import dataclass

from vae.checks.cell_history import bound_by
from vae.kernel import ipython_shell

__all__ = ["NameHistory"]

#: The share of equal lines that makes two sources versions of one cell, where cells have no
#: identifiers.
_LIKENESS = 0.5
_MISSING = object()  #: the value of a name that is not defined


@dataclass(frozen=True)
class _Run:
    source: str
    cell_id: str | None
    bound: frozenset  #: the names that its code assigns

    def is_of_the_same_cell(self, other):
        if self.cell_id and other.cell_id:
            return self.cell_id == other.cell_id
        lines = [run.source.splitlines() for run in (self, other)]
        return difflib.SequenceMatcher(None, *lines).ratio() > _LIKENESS


class NameHistory:
    """The last run that defined each name. It is empty if this process is not a Jupyter kernel.

    Parameters
    ----------
    names : iterable of str
        The names to follow.
    """

    def __init__(self, names):
        self._followed, self._last = frozenset(names), {}
        self._removed, self._before = set(), {}
        self._at_begin = {}
        self._shell = ipython_shell()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self._begin)
            self._shell.events.register("post_run_cell", self._end)

    def removed(self, names):
        """Return those names that their cell defined in an earlier run, but not in its last one.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        list of str
        """
        return [name for name in names if name in self._removed]

    def not_reached(self):
        """Return the names that still have the value from before the last run of their cell.

        Returns
        -------
        list of str
            Of all names that are followed.
        """
        return [name for name, value in self._before.items() if self._value(name) is value]

    def _begin(self, info):
        run = _Run(info.raw_cell, getattr(info, "cell_id", None),
                   frozenset(bound_by(info.raw_cell) & self._followed))
        self._removed -= run.bound
        self._removed |= {name for name, last in self._last.items()
                          if name not in run.bound and last.is_of_the_same_cell(run)}
        self._last.update(dict.fromkeys(run.bound, run))
        self._at_begin = {name: self._value(name) for name in self._followed}
        self._before.update((name, self._at_begin[name]) for name in run.bound)

    def _end(self, result):
        self._removed -= {name for name in self._at_begin  # defined by code that hides its names
                          if self._value(name) is not self._at_begin[name]}

    def _value(self, name):
        return self._shell.user_ns.get(name, _MISSING)
