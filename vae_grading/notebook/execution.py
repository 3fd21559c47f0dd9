"""Running a student's notebook.

Students add, split, merge, reorder and copy cells, and run them out of order. So the solution of an
exercise is the final value of its names, no matter which cells have defined them. Cells are run in
the same way as in Jupyter, with these exceptions:

* If a statement fails, the following statements of its cell still run, because the statement may
  import a module that is missing here. After a ``raise``, they do not run.
* A statement that defines no exercise may take half of the remaining time for all such statements.
  Then it is interrupted.
* If a name is missing, the cell that defines it is run first, unless it has been run before.
* If the reference replaces an exercise, statements that define only this exercise do not run.
  Changes that other statements make to its names are undone.

Before that, `vae_grading.notebook.fakes` has replaced slow functions that do not affect the
exercises.
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

_MAX_PARTS = 1000  # parts of a value in a snapshot
_MIN_PATIENCE = 0.1  # seconds for a statement, even if earlier ones have caught the interruption


def given_by(setup):
    """Return the names that the first cell of the seminar's notebook defines.

    Parameters
    ----------
    setup : str
        The code of that cell.

    Returns
    -------
    dict
        Maps names to values.
    """
    names = main_module()
    exec(compile(python_of(setup), "<setup>", "exec"), names)
    return names


def main_module():
    """Make a new module ``__main__`` that resembles the one in a kernel.

    Returns
    -------
    dict
        The namespace of the module.
    """
    module = sys.modules["__main__"] = ModuleType("__main__")
    names = vars(module)
    shell = Shell(names)
    names.update(get_ipython=lambda: shell, display=lambda *args, **kwargs: None)
    return names


class Overdue(StatementInterrupted):
    """A statement that defines no exercise takes too long."""


# --- which exercises a statement has changed ---

def _parts(value):
    """Return a value and its parts. If these are still the same objects later, it is unchanged."""
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
    """Return the parts of the values of the chosen names."""
    return [part for name in sorted(chosen) for part in _parts(names.get(name))]


def _same(parts, later_parts):
    return len(parts) == len(later_parts) and all(
        part is later_part for part, later_part in zip(parts, later_parts))


def _snapshots(names):
    """Return a snapshot of each exercise."""
    return {number: _snapshot(names, exercise.names) for number, exercise in EXERCISES.items()}


# --- running ---

class _SampleOnce:
    """A method ``sample`` of q(z | x) that first returns the sample that the reference decodes.

    If the student's code calls ``sample`` and gives the result another name, this name then refers
    to the same variable. `_parts` ignores this method, because it is not the student's change.
    """

    def __init__(self, sample, z):
        self._sample, self._unused = sample, [z]

    @classmethod
    def put_into(cls, qz_x, z):
        """Make the next call of ``qz_x.sample()`` return z."""
        sample = qz_x.sample
        with suppress(AttributeError):  # a student's class may allow no new attributes
            qz_x.sample = cls(sample._sample if type(sample) is cls else sample, z)

    def __call__(self):
        return self._unused.pop() if self._unused else self._sample()


class _Replacement:
    """The code of the reference that replaces an exercise.

    Parameters
    ----------
    number : int
        Number of the exercise.
    source : str
        The code.
    cells : list of Cell
        The student's cells.
    """

    def __init__(self, number, source, cells):
        self.number, self.cell = number, Cell(f"<reference {number}>", source)
        statements = self.cell.statements
        self.binds = set().union(*(statement.binds for statement in statements))
        self._own_names = _own_names(number, statements, cells, self.binds)
        self.binds |= self._own_names.keys()
        self.uses = {name for statement in statements for name in statement.uses - self.binds
                     if not hasattr(builtins, name)}
        self.is_new = True  #: whether it has neither finished nor been started for a missing name
        self._snapshot = None  #: the values that it had used and defined when it last finished

    def is_due(self, names):
        """Return whether all names that it uses exist, and one has changed since its last run."""
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
    """Find variables for which the student and the reference use different names.

    Suppose that the reference has ``decoder_logits = vae_decoder_mlp(z)`` and the student has
    ``decoder_logits = vae_decoder_mlp(code)``. Then ``code`` is the student's name for ``z``, and
    the student's later exercises use it.

    Parameters
    ----------
    number : int
        Number of the exercise.
    statements : list of Statement
        The statements of the reference.
    cells : list of Cell
        The student's cells.
    binds : set of str
        Names that the statements of the reference define.

    Returns
    -------
    dict of str
        Maps the student's name to the name in the reference.
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
    """Return the names that statements pass to functions.

    The keys are pairs of a function and the position or keyword of the argument.
    """
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

    ``_run_cell(1)`` runs its statement in ``_execute``. The statement raises NameError, so
    ``_execute`` calls ``_provide("mean")``. Cell 2 binds this name and has not been started, so
    ``_provide`` calls ``_run_cell(2)``. If the reference replaces exercise 2, the name
    ``vae_encoder_mlp`` is missing, and ``_provide("vae_encoder_mlp")`` runs the replacement in the
    same way. Then ``_execute`` runs the statement of cell 1 again. The recursion ends, because a
    cell or a replacement is started at most once for a missing name. If a cell was started in this
    way too early, so that it failed to define an exercise, it is run again at its own position.

    Attributes
    ----------
    cells : list of Cell
        The student's cells, in the order in which they are run.
    names : dict
        The namespace, changed in place.
    given : dict
        Names that a notebook may use without defining them, with their values.
    replacements : dict
        Maps the numbers of some exercises to the code of the reference.
    skipped : list of str
        Places of statements that must not run: see `place_of`.
    patience : float
        Seconds for all statements that define no exercise.
    before_statement : callable
        (cell, statement) -> None, called before a statement of the student runs.
    on_change : callable
        (exercise, cell, statement) -> None, called after a statement that has changed a value of a
        name of an exercise.
    failed : set of int
        After `run`, the exercises whose code of the reference has failed.
    """

    cells: list
    names: dict
    given: dict
    replacements: dict
    skipped: list
    patience: float
    before_statement: Callable
    on_change: Callable
    failed: set = field(default_factory=set, init=False)
    _started: set = field(default_factory=set, init=False)
    _too_early: set = field(default_factory=set, init=False)
    _errors: list = field(default_factory=list, init=False)
    _future: int = field(default=0, init=False)  #: compiler flag, see `Statement.future`

    def run(self):
        """Run all cells.

        Returns
        -------
        list of (Cell, BaseException)
            The errors of the cells.
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
        """Return whether the reference replaces all of these exercises; False if there are none."""
        return bool(exercises) and self.replacements.keys() >= set(exercises)

    def _run_statement(self, cell, statement):
        """Run a statement, then the replacements that it makes due; return its error or None."""
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
        """Restore the student's solutions if an import of a package's stub has replaced them.

        Parameters
        ----------
        before : dict
            The values of all names before the statement that may have imported a stub.
        """
        for stubs in PACKAGE_STUBS.values():
            for name, stub in stubs.items():
                own = before.get(name)
                if own is not None and own is not stub and self.names.get(name) is stub:
                    self.names[name] = own

    def _run_replacement(self, replacement):
        """Run the reference's code; return its error or None."""
        error = self._execute(lambda: replacement.run(self.names))
        if error is None:
            self.failed.discard(replacement.number)
        else:
            self.failed.add(replacement.number)
        return error

    def _execute(self, code):
        """Run code, after other code that defines missing names; return its error or None."""
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
        """Run code that defines a name; return whether it is worth trying again."""
        cell = next((cell for cell in self.cells if cell not in self._started and any(
            name in statement.binds for statement in cell.statements)), None)
        if cell is not None:
            self._run_cell(cell)
            if any(failed is cell and statement is not None and statement.exercises
                   for failed, statement, _error in self._errors):
                self._too_early.add(cell)
            return True
        replacement = next((replacement for replacement in self._replacements
                            if name in replacement.binds and replacement.is_new), None)
        if replacement is not None:
            replacement.is_new = False  # avoids endless recursion if it lacks a name, too
            return self._run_replacement(replacement) is None
        if name in self.given and name not in self.names:
            self.names[name] = self.given[name]
            return True
        return False


def _interrupt(*args):
    raise Overdue(_("строка выполнялась слишком долго и была пропущена: "
                    "нет ли в ней бесконечного цикла?"))


def _is_obsolete_raise(cell, statement, names):
    """Return whether a statement is a ``raise`` that was left in a cell with a solved exercise."""
    return (statement is not None and isinstance(statement.node, ast.Raise) and cell.exercises
            and all(names.get(name) is not None for number in cell.exercises
                    for name in EXERCISES[number].names))
