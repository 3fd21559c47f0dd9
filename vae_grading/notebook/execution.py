"""Running a student's notebook.

Notebooks come with cells added, split, merged, reordered, run out of order, and copied from one to
another. So an exercise is what its names are in the end, however they got there. Every cell is run
whole, as Jupyter would run it, with these exceptions:

* A statement that fails does not stop the rest of its cell, unless it is a ``raise``: a module that
  the notebook imports may be missing here.
* A statement that defines no exercise may take half of the time that all such statements have left,
  then it is interrupted.
* Where a name is missing, the cell that defines it is run first, if it has not been run yet.
* Where the reference replaces an exercise, statements that only define this exercise are left out,
  and changes that others make to its names are undone.

`vae_grading.notebook.fakes` replaces beforehand what is slow and changes no exercise.
"""

import ast
import builtins
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from types import ModuleType
from typing import Callable

import theano

from vae.checks import EXERCISES
from vae.language import _
from vae_grading.notebook.cells import Cell, place_of, python_of
from vae_grading.notebook.fakes import StatementInterrupted, Shell
from vae_grading.notebook.package_stubs import PACKAGE_STUBS

__all__ = ["Execution", "Overdue", "given_by", "main_module"]

_MAX_PARTS = 1000  # of a value that a snapshot holds
_MIN_PATIENCE = 0.1  # seconds: for a statement after others that caught what interrupts them


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


class Overdue(StatementInterrupted):
    """A statement that defines no exercise takes too long."""


# --- which exercises a statement has changed ---

def _parts(value):
    """Return a value and its parts: if these are the same objects later, nothing changed it."""
    value_type = type(value)
    try:
        if value_type in (list, tuple, set):
            inner = value
        elif value_type is dict:
            inner = [*value, *value.values()]
        elif isinstance(value, type):
            inner = [part for base in value.__mro__ if base is not object
                     for part in vars(base).values()]
        elif isinstance(value, (ModuleType, theano.Variable)):
            inner = []
        else:
            inner = [getattr(value, "__code__", None),
                     *(part for part in vars(value).values() if type(part) is not _SampleOnce)]
        return [value, *islice(inner, _MAX_PARTS)]
    except Exception:  # a student's object may raise anything
        return [value]


def _snapshot(names, chosen):
    """Return the parts of the values that the chosen names have."""
    return [part for name in sorted(chosen) for part in _parts(names.get(name))]


def _same(parts, later_parts):
    return len(parts) == len(later_parts) and all(
        part is later_part for part, later_part in zip(parts, later_parts))


def _snapshots(names):
    """Return a snapshot of each exercise."""
    return {number: _snapshot(names, exercise.names) for number, exercise in EXERCISES.items()}


# --- running ---

class _SampleOnce:
    """The method ``sample`` of q(z | x) that first returns the sample that the reference decodes.

    A student who calls the sample by another name then has the same variable. It is no change of
    q(z | x) by the student.
    """

    def __init__(self, sample, z):
        self._sample, self._unused = sample, [z]

    @classmethod
    def put_into(cls, qz_x, z):
        """Let the next sample of q(z | x) be z."""
        sample = qz_x.sample
        with suppress(AttributeError):  # a student's class may allow no new attributes
            qz_x.sample = cls(sample._sample if type(sample) is cls else sample, z)

    def __call__(self):
        return self._unused.pop() if self._unused else self._sample()


class _Replacement:
    """The reference's code in place of an exercise.

    Parameters
    ----------
    number : int
    source : str
    cells : list of Cell
        The student's.
    """

    def __init__(self, number, source, cells):
        self.number, self.cell = number, Cell(f"<reference {number}>", source)
        statements = self.cell.statements
        self.binds = set().union(*(statement.binds for statement in statements))
        self._own_names = _own_names(number, statements, cells, self.binds)
        self.binds |= self._own_names.keys()
        self.uses = {name for statement in statements for name in statement.uses - self.binds
                     if not hasattr(builtins, name)}
        self.is_new = True  #: it has neither run to its end nor been started for a missing name
        self._snapshot = None  #: of what it used and defined when it last ran to its end

    def is_due(self, names):
        """Whether all names that it uses exist, and one has changed since it last ran."""
        return self.uses <= names.keys() and (
            self._snapshot is None
            or not _same(self._snapshot, _snapshot(names, self.binds | self.uses)))

    def run(self, names):
        for statement in self.cell.statements:
            statement.run(names)
        if "z" in self.binds and "qz_x" in self.uses:
            _SampleOnce.put_into(names["qz_x"], names["z"])
        names.update((own, names[name]) for own, name in self._own_names.items())
        self._snapshot = _snapshot(names, self.binds | self.uses)
        self.is_new = False


def _own_names(number, statements, cells, binds):
    """Return how the student calls what the reference calls otherwise in an exercise.

    Where the reference has ``decoder_logits = vae_decoder_mlp(z)`` and the student ``decoder_logits
    = vae_decoder_mlp(code)``, ``code`` is the student's name of ``z``, and later exercises use it.

    Parameters
    ----------
    number : int
        Of the exercise.
    statements : list of Statement
        The reference's.
    cells : list of Cell
        The student's.
    binds : set of str
        What the reference's statements define.

    Returns
    -------
    dict of str
        The reference's name, by the student's.
    """
    exercise_names = {name for exercise in EXERCISES.values() for name in exercise.names}
    own_statements = [statement for cell in cells for statement in cell.statements]
    own_binds = set().union(*(statement.binds for statement in own_statements))
    arguments = _arguments(statements)
    return {own: arguments[key]
            for key, own in _arguments(statement for statement in own_statements
                                       if number in statement.exercises).items()
            if arguments.get(key, own) != own and arguments[key] in binds - exercise_names
            and own in own_binds - exercise_names}


def _arguments(statements):
    """Return the names that statements pass to functions, by the function and the place."""
    return {(ast.unparse(node.func), place): argument.id
            for statement in statements for node in ast.walk(statement.node)
            if isinstance(node, ast.Call)
            for place, argument in [*enumerate(node.args),
                                    *((keyword.arg, keyword.value) for keyword in node.keywords)]
            if isinstance(argument, ast.Name)}


@dataclass(eq=False)
class Execution:
    """One execution of a notebook in a namespace.

    If a name is missing, the cell that defines it runs in the middle of the cell that uses it::

        cell 1    qz_x = MultivariateNormalDiag(mean, scale)
        cell 2    mean, scale = vae_encoder_mlp(input_x)

    ``_run_cell(1)`` runs its statement in ``_execute``. That raises NameError, so ``_execute``
    calls ``_provide("mean")``. Cell 2 binds this name and has not been started, so ``_provide``
    calls ``_run_cell(2)``. If the reference replaces exercise 2, that calls
    ``_provide("vae_encoder_mlp")`` in the same way, which runs the replacement. Then ``_execute``
    runs the statement of cell 1 again. A cell is started once for a missing name, and so is a
    replacement, so this ends. A cell that was started in this way before what it needs was there,
    and so failed to define an exercise, is run again in its place.

    Attributes
    ----------
    cells : list of Cell
        The student's, in the order to run them in.
    names : dict
        The namespace, changed in place.
    given : dict
        Names that a notebook may use without defining them, with their values.
    replacements : dict
        The reference's code for some exercises, by number.
    skipped : list of str
        Places of statements not to run, see `place_of`.
    patience : float
        Seconds for all statements that define no exercise.
    before_statement : callable
        (cell, statement) -> None, called before the student's statement runs.
    on_change : callable
        (exercise, cell, statement) -> None, called after a statement that has changed what an
        exercise defines.
    """

    cells: list
    names: dict
    given: dict
    replacements: dict
    skipped: list
    patience: float
    before_statement: Callable
    on_change: Callable
    _started: set = field(default_factory=set, init=False)
    _too_early: set = field(default_factory=set, init=False)
    _errors: list = field(default_factory=list, init=False)
    _future: int = field(default=0, init=False)  #: as `Statement.future`, kept as by a kernel

    def run(self):
        """Run all cells.

        Returns
        -------
        list of (Cell, exception)
            What they raised.
        """
        signal.signal(signal.SIGALRM, _interrupt)
        self._replacements = [_Replacement(number, source, self.cells)
                              for number, source in sorted(self.replacements.items())]
        bound = set().union(
            *(statement.binds for cell in self.cells for statement in cell.statements),
            *(replacement.binds for replacement in self._replacements))
        self.names.update((name, value) for name, value in self.given.items()
                          if name not in bound and name not in self.names)
        for cell in self.cells:
            if cell in self._too_early:
                self._errors = [error for error in self._errors if error[0] is not cell]
            if cell in self._too_early or cell not in self._started:
                self._run_cell(cell)
        for replacement in self._replacements:
            if replacement.is_new:
                self._run_replacement(replacement)
        return [(cell, error) for cell, statement, error in self._errors
                if not _is_obsolete_raise(cell, statement, self.names)]

    def _run_cell(self, cell):
        self._started.add(cell)
        if cell.error is not None and not self._all_replaced(cell.exercises):
            self._errors.append((cell, None, cell.error))
        for statement in cell.statements:
            if place_of(cell, statement) in self.skipped or (
                    self._all_replaced(statement.exercises) and not statement.is_import):
                continue
            error = self._run_statement(cell, statement)
            if error is not None:
                self._errors.append((cell, statement, error))
                if isinstance(statement.node, ast.Raise):
                    return

    def _all_replaced(self, exercises):
        """Whether there are exercises, and the reference replaces all of them."""
        return bool(exercises) and self.replacements.keys() >= set(exercises)

    def _run_statement(self, cell, statement):
        """Run a statement and the replacements that it makes due; return what it raised."""
        self.before_statement(cell, statement)
        before = _snapshots(self.names)
        values = dict(self.names)
        error = self._execute(lambda: self._run_in_time(statement))
        self._restore_solutions(values)
        for number, after in _snapshots(self.names).items():
            if not _same(before[number], after):
                self.on_change(number, cell, statement)
        for replacement in self._replacements:
            if replacement.is_due(self.names):
                self._run_replacement(replacement)
        return error

    def _run_in_time(self, statement):
        if statement.exercises:
            statement.run(self.names, self._future)
        else:
            with self._half_of_the_patience():
                statement.run(self.names, self._future)
        self._future |= statement.future

    @contextmanager
    def _half_of_the_patience(self):
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(self.patience / 2, _MIN_PATIENCE))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.patience -= time.monotonic() - started

    def _restore_solutions(self, before):
        """Undo an import of the package's stub over what the student has written.

        Parameters
        ----------
        before : dict
            The values of all names, before the statement that may have imported it.
        """
        for stubs in PACKAGE_STUBS.values():
            for name, stub in stubs.items():
                own = before.get(name)
                if own is not None and own is not stub and self.names.get(name) is stub:
                    self.names[name] = own

    def _run_replacement(self, replacement):
        """Run the reference's code; return what it raised."""
        return self._execute(lambda: replacement.run(self.names))

    def _execute(self, code):
        """Run code, and where a name is missing, first what defines it; return what it raised."""
        while True:
            try:
                code()
                return None
            except StatementInterrupted as error:
                return error if isinstance(error, Overdue) else None
            except NameError as error:
                if not self._provide(error.name):
                    return error
            except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                return error

    def _provide(self, name):
        """Run what defines a name; return whether it is worth trying again."""
        for cell in self.cells:
            if cell not in self._started and any(
                    name in statement.binds for statement in cell.statements):
                self._run_cell(cell)
                if any(failed is cell and statement is not None and statement.exercises
                       for failed, statement, _error in self._errors):
                    self._too_early.add(cell)
                return True
        for replacement in self._replacements:
            if name in replacement.binds and replacement.is_new:
                replacement.is_new = False  # it may lack a name that leads back here
                return self._run_replacement(replacement) is None
        if name in self.given and name not in self.names:
            self.names[name] = self.given[name]
            return True
        return False


def _interrupt(*args):
    raise Overdue(_("строка выполнялась слишком долго и была пропущена: "
                    "нет ли в ней бесконечного цикла?"))


def _is_obsolete_raise(cell, statement, names):
    """Whether a statement is the exercise's own ``raise``, left in a cell that solves it."""
    return (statement is not None and isinstance(statement.node, ast.Raise) and cell.exercises
            and all(names.get(name) is not None for number in cell.exercises
                    for name in EXERCISES[number].names))
