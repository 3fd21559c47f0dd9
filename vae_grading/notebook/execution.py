"""A student's notebook: its cells, the orders that they may be run in, and running them.

Notebooks come with cells added, split, merged, reordered, run out of order and
copied from one to another.  So an exercise is what its names are in the end, by
whatever means they came there: every cell is run whole, as Jupyter would, but

* a statement that fails does not keep the others of its cell from running, unless
  it is a ``raise``: what the notebook imports may be missing here;
* a statement that defines no exercise may take half of the time that is left for
  all such statements, then it is left out;
* where a name is missing, the cell that defines it, of those not yet run, is run
  first;
* where an exercise is replaced by the reference, the statements that only define
  its names are left out, and what others do to them is undone.

What is slow and changes no exercise is replaced beforehand: see
`vae_grading.notebook.fakes`.
"""

import ast
import builtins
import signal
import sys
import time
from contextlib import contextmanager
from itertools import islice
from types import ModuleType

import theano

from vae.checks import EXERCISES
from vae.language import _
from vae_grading.notebook.cells import Cell, place_of, python_of
from vae_grading.notebook.fakes import Enough, Shell
from vae_grading.notebook.package_stubs import PACKAGE_STUBS

__all__ = ["Overdue", "given_by", "main_module", "run"]

_MAX_PARTS = 1000  # of a value, that are looked at


def given_by(setup):
    """Return the names that a notebook may rely on: what its first cell defines.

    Parameters
    ----------
    setup : str
        The code of that cell.
    """
    names = main_module()
    exec(compile(python_of(setup), "<setup>", "exec"), names)
    return names


def main_module():
    """Return the names of a new module ``__main__``, as a kernel has it."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    names = vars(module)
    shell = Shell(names)
    names.update(get_ipython=lambda: shell, display=lambda *args, **kwargs: None)
    return names


# --- running ---

class Overdue(Enough):
    """A statement that defines no exercise takes too long."""


def _parts(value):
    """A value and what it consists of: if these are the same objects, nothing has changed it."""
    kind = type(value)
    try:
        if kind in (list, tuple, set):
            inner = value
        elif kind is dict:
            inner = [*value, *value.values()]
        elif isinstance(value, type):
            inner = [part for one in value.__mro__ if one is not object
                     for part in vars(one).values()]
        elif isinstance(value, (ModuleType, theano.Variable)):
            inner = []
        else:
            inner = [getattr(value, "__code__", None), *vars(value).values()]
        return [value, *islice(inner, _MAX_PARTS)]
    except Exception:  # a student's object may raise anything
        return [value]


def _snapshot(names, some):
    return [part for name in sorted(some) for part in _parts(names.get(name))]


def _same(one, other):
    return len(one) == len(other) and all(map(lambda a, b: a is b, one, other))


class _Replacement:
    """The reference's code in the place of an exercise."""

    def __init__(self, number, source):
        self.number, self.cell = number, Cell(f"<reference {number}>", source)
        self.binds = set().union(*(one.binds for one in self.cell.statements))
        self.uses = {name for one in self.cell.statements for name in one.uses - self.binds
                     if not hasattr(builtins, name)}
        self.seen = None  #: what it has used and given

    def is_due(self, names):
        """Whether what it needs is there, and anything has changed that or what it has given."""
        return self.uses <= names.keys() and (
            self.seen is None or not _same(self.seen, _snapshot(names, self.binds | self.uses)))

    def run(self, names):
        for statement in self.cell.statements:
            statement.run(names)
        if self.number == 4:
            _give_once(names["qz_x"], names["z"])
        self.seen = _snapshot(names, self.binds | self.uses)


def _give_once(qz_x, z):
    """Let the student's own name for a sample of q(z | x) be the one that the reference decodes."""
    sample, left = qz_x.sample, [z]
    qz_x.sample = lambda: left.pop() if left else sample()


class _Runner:
    def __init__(self, cells, replacements, given, names, skipped, patience, before, changed):
        self.cells, self.given, self.names, self.skipped = cells, given, names, skipped
        self._patience = patience
        self.replacements = [_Replacement(*one) for one in sorted(replacements.items())]
        self.before, self.changed = before, changed
        self.errors, self._started = [], set()
        bound = set().union(*(one.binds for cell in cells for one in cell.statements),
                            *(one.binds for one in self.replacements))
        names.update((name, value) for name, value in given.items()
                     if name not in bound and name not in names)

    def run(self):
        for cell in self.cells:
            self._run_cell(cell)
        for replacement in self.replacements:
            if replacement.seen is None:
                self._execute(lambda: replacement.run(self.names))

    def _run_cell(self, cell):
        if cell in self._started:
            return
        self._started.add(cell)
        replaced = {one.number for one in self.replacements}
        if cell.error is not None and not replaced.issuperset(cell.exercises or [None]):
            self.errors.append((cell, None, cell.error))
        for statement in cell.statements:
            if place_of(cell, statement) in self.skipped or (
                    statement.exercises and replaced.issuperset(statement.exercises)
                    and not isinstance(statement.node, (ast.Import, ast.ImportFrom))):
                continue
            error = self._run_statement(cell, statement)
            if error is not None:
                self.errors.append((cell, statement, error))
                if isinstance(statement.node, ast.Raise):
                    return

    def _run_statement(self, cell, statement):
        self.before(cell, statement)
        before = self._state()
        error = self._execute(lambda: self._exec(statement))
        self._keep_the_students_own(before)
        for number, state in self._state().items():
            if not _same(before[number], state):
                self.changed(number, cell, statement)
        for replacement in self.replacements:
            if replacement.is_due(self.names):
                self._execute(lambda: replacement.run(self.names))
        return error

    def _exec(self, statement):
        if statement.exercises:
            statement.run(self.names)
        else:
            with self._not_for_ever():
                statement.run(self.names)

    @contextmanager
    def _not_for_ever(self):
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self._patience / 2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._patience -= time.monotonic() - started

    def _state(self):
        return {number: _snapshot(self.names, exercise.names)
                for number, exercise in EXERCISES.items()}

    def _keep_the_students_own(self, before):
        """Undo an import of what the package has in the place of what the student has written."""
        for number, stubs in PACKAGE_STUBS.items():
            for name, stub in stubs.items():
                own = before[number][0]  # such an exercise has one name
                if own is not None and own is not stub and self.names.get(name) is stub:
                    self.names[name] = own

    def _execute(self, code):
        """Run code, and where a name is missing, first what gives it; return what it raised."""
        while True:
            try:
                code()
                return None
            except Enough as error:
                return error if isinstance(error, Overdue) else None
            except NameError as error:
                if not self._provide(error.name):
                    return error
            except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                return error

    def _provide(self, name):
        for cell in self.cells:
            if cell not in self._started and any(name in one.binds for one in cell.statements):
                self._run_cell(cell)
                return True
        for replacement in self.replacements:
            if name in replacement.binds and replacement.seen is None:
                replacement.seen = []  # not again from within
                return self._execute(lambda: replacement.run(self.names)) is None
        if name in self.given and name not in self.names:
            self.names[name] = self.given[name]
            return True
        return False


def run(cells, replacements, given, names, skipped, patience, before, changed):
    """Run a notebook.

    Parameters
    ----------
    cells : list of Cell
        The student's, in order.
    replacements : dict
        The reference's code for some exercises, by number.
    given : dict
        What a notebook may rely on, where it does not define it itself.
    names : dict
        The namespace, changed in place.
    skipped : list of str
        Places of statements not to run.
    patience : float
        Seconds for all statements that define no exercise.
    before : callable
        Told of each statement of the student's, and its cell, before it runs.
    changed : callable
        Told of each exercise, cell and statement that has changed what the exercise defines.

    Returns
    -------
    list of (Cell, exception)
        What was raised.
    """
    signal.signal(signal.SIGALRM, _leave_out)
    runner = _Runner(cells, replacements, given, names, skipped, patience, before, changed)
    runner.run()
    return [(cell, error) for cell, statement, error in runner.errors
            if not _is_left_over(cell, statement, names)]


def _leave_out(*args):
    raise Overdue(_("строка выполнялась слишком долго и была пропущена: "
                    "нет ли в ней бесконечного цикла?"))


def _is_left_over(cell, statement, names):
    """Tell whether a statement is the exercise's own ``raise``, in a cell that solves it."""
    return (statement is not None and isinstance(statement.node, ast.Raise) and cell.exercises
            and all(names.get(name) is not None for number in cell.exercises
                    for name in EXERCISES[number].names))
