"""A record of exercises' names that the kernel keeps although their cell no longer defines them.

This happens if a student deletes a line, or if a cell fails before it reaches the line. The kernel
still has the value that an earlier run has defined. A check of this value would not check the code
that the student sees.
"""

import difflib
from dataclasses import dataclass

from vae.checks.cell_history import bound_by
from vae.kernel import ipython_shell

__all__ = ["NameHistory"]

#: If cells have no identifiers, two sources are versions of the same cell if their share of equal
#: lines exceeds this number.
_LIKENESS = 0.5
_MISSING = object()  #: stands for the value of a name that is not defined


@dataclass(frozen=True)
class _Run:
    source: str
    cell_id: str | None
    bound: frozenset  #: the names to which its code assigns

    def is_of_the_same_cell(self, later):
        if self.cell_id and later.cell_id:
            return self.cell_id == later.cell_id
        lines = [run.source.splitlines() for run in (self, later)]
        return difflib.SequenceMatcher(None, *lines).ratio() > _LIKENESS


class NameHistory:
    """The last run that defined each name.

    The history is empty if this process is not a Jupyter kernel.

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
        """Return the names that a cell defined in an earlier run, but not in its last run.

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
            A subset of the names that this history follows.
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
        # These names were assigned by code in which `bound_by` cannot see them.
        self._removed -= {name for name in self._at_begin
                          if self._value(name) is not self._at_begin[name]}

    def _value(self, name):
        return self._shell.user_ns.get(name, _MISSING)
