"""The task of the process for a student's code: build the graphs of exercises."""

import errno
import sys
import traceback

import numpy as np

import vae.checks
from vae.checks import EXERCISES, Mistake, Names, explain
from vae.checks.package_solutions import FROM_PACKAGE
from vae.language import _
from vae_grading.graphs import dump_graph
from vae_grading.hints import parts_of
from vae_grading.messages import (
    BuiltGraph,
    Checked,
    MAX_CODE,
    MAX_LINES,
    Broken,
    Failure,
    NotebookCode,
    OrderCount,
    SourceCode,
    Stage,
    Unreadable,
)
from vae_grading.notebook import fakes
from vae_grading.notebook.cells import cells_of, orders_of, place_of, student_lines
from vae_grading.notebook.execution import Execution, Overdue, main_module
from vae_grading.notebook.package_stubs import fill_package, in_package

__all__ = ["build"]

_EXHAUSTED = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EAGAIN}
_MAX_NOTEBOOK = 2**20  # characters of code; if a notebook is longer, some hints show no lines
_MAX_EARLY = 32 * 2**20  # characters of graphs that are sent before the notebook has run
_PACKAGE = vae.__file__.removesuffix("__init__.py")


def build(task, given, send):
    """Run a student's notebook and send the graphs of its exercises.

    Parameters
    ----------
    task : vae_grading.messages.BuildTask
    given : dict
        Names that the notebook may use without defining them, with their values.
    send : callable
        Takes a message.
    """
    send(Stage(_("чтение ноутбука")))
    try:
        cells = cells_of(task.notebook)
        orders = orders_of(cells)
    except ValueError as error:
        send(Unreadable(str(error)))
        return
    code = tuple(cell.python[:MAX_CODE] for cell in cells)
    if sum(map(len, code)) <= _MAX_NOTEBOOK:
        send(NotebookCode(code))
    send(OrderCount(len(orders)))
    fakes.install()
    fill_package({number: source for number, source in task.package.items()
                  if number in in_package()}, given)
    sys.path.insert(0, "")  # for modules that the notebook writes
    _GraphBuilder(task, orders[task.order], cells, main_module(), send).run(given)


class _GraphBuilder:
    """Builds the graphs of exercises while the notebook runs, and afterwards.

    The graph of an exercise is built early: before the statements of later exercises, and when the
    notebook calls `check`. This has two advantages. If the process ends, it is known which
    exercise's code has ended it. And a right exercise stays right if the process ends, or if a
    training loop assigns numbers to its names. If the names of an exercise change later, its graph
    is built again.

    Parameters
    ----------
    task : vae_grading.messages.BuildTask
    order : list of Cell
        The cells in the order in which they are run.
    cells : list of Cell
        The same cells from top to bottom.
    names : dict
        The namespace in which they are run.
    send : callable
        Takes a message.
    """

    def __init__(self, task, order, cells, names, send):
        self._task, self._order, self._cells, self._names = task, order, cells, names
        self._send = send
        #: Maps exercises to the statements that define or change them.
        self._statements = {
            number: {statement for cell in cells for statement in cell.statements
                     if number in statement.exercises} for number in EXERCISES}
        self._outdated = set(task.wanted)  #: exercises that have changed since they were built
        self._graphs = {}  #: the latest graph of each exercise, as text
        self._sent = {}  #: the graphs that were sent last
        self._early_budget = _MAX_EARLY
        self._raised = {}  #: the first error in each exercise's code; other code has the key None

    def run(self, given):
        """Run the notebook, and send the graphs or the failures of the wanted exercises."""
        self._send_sources()
        vae.checks.check = self._on_check
        execution = Execution(
            self._order, self._names, {**given, "check": self._on_check}, self._task.replacements,
            self._task.skipped, self._task.patience, self._before_statement, self._on_change)
        for cell, error in execution.run():
            self._raised.setdefault(cell.exercise_at(_line_in(cell, error)), error)
        self._send_sources()
        for number in EXERCISES.keys() - {*self._task.wanted, *self._task.replacements}:
            if any(set(EXERCISES[number].names) & set(EXERCISES[failed].uses)
                   for failed in execution.failed):
                self._send(Broken(number))  # the reference's later code does not run with it
            else:
                self._send_if_broken(number)
        for number in self._task.wanted:
            self._finish(number)

    # --- while the notebook runs ---

    def _before_statement(self, cell, statement):
        is_first = statement is cell.statements[0]
        for number in sorted(self._outdated):
            if is_first or any(number < later for later in statement.exercises):
                self._build_early(number)
        self._send(Stage(place_of(cell, statement), tuple(statement.exercises)))

    def _on_change(self, number, cell, statement):
        if number in self._task.wanted:
            self._outdated.add(number)
        if not statement.is_import:
            self._statements[number].add(statement)

    def _on_check(self, number=None, *args, **kwargs):
        """Replace `vae.checks.check` in the notebook."""
        if type(number) is int and number in self._task.wanted:
            if number in self._outdated:
                self._build_early(number)
            self._send(Checked(number))

    def _build_early(self, number):
        self._outdated.discard(number)
        try:
            self._graphs[number] = self._build(number)
        except BaseException:
            return  # `_finish` tries again
        self._early_budget -= len(self._graphs[number])
        if self._early_budget > 0:
            self._send_graph(number)

    # --- afterwards ---

    def _finish(self, number):
        """Send the graph or the failure of an exercise."""
        try:
            if number in self._outdated or number not in self._graphs:
                self._graphs[number] = self._build(number)
            self._send_graph(number)
        except BaseException as error:
            if number in self._graphs and isinstance(error, Mistake):
                self._send_graph(number)  # later cells have assigned other values to its names
            else:
                self._send(self._explained(number, error))

    def _send_if_broken(self, number):
        """Send a message if the code of an exercise that passed earlier fails in this run."""
        if number in self._raised:
            try:
                self._build(number)
            except BaseException:
                self._send(Broken(number))

    def _build(self, number):
        """Return the graph of an exercise as text."""
        self._send(Stage(_("упражнение {number}", number=number), (number,)))
        state = np.random.get_state()  # building an exercise must not change later ones
        try:
            np.random.seed(number)
            return dump_graph(EXERCISES[number].build(Names(self._names)))
        finally:
            np.random.set_state(state)

    def _send_graph(self, number):
        if self._sent.get(number) is not self._graphs[number]:
            self._sent[number] = self._graphs[number]
            self._send(BuiltGraph(number, self._graphs[number]))

    def _send_sources(self):
        """Send the student's own source of each exercise."""
        def owners(statement):
            return [number for number in EXERCISES if statement in self._statements[number]]

        for number in self._task.wanted:
            sources = [cell.code_of(number, owners) for cell in self._cells]
            self._send(SourceCode(number, "\n\n".join(filter(None, sources))))

    # --- what went wrong ---

    def _explained(self, number, error):
        """Return the failure of an exercise.

        If a name is missing and the exercise's code has failed, that error is the cause.
        """
        if all(self._names.get(name) is not None for name in EXERCISES[number].names):
            return self._failure(number, error)
        if number in self._raised:
            return self._failure(number, self._raised[number])
        return self._failure(number, error)

    def _failure(self, number, error):
        exhausted = isinstance(error, (MemoryError, Overdue)) or (
            isinstance(error, OSError) and error.errno in _EXHAUSTED)
        if not isinstance(error, NotImplementedError):
            is_explained = isinstance(error, (Mistake, Overdue))
            traceback, lines, _exercise = (
                ("", [], None) if isinstance(error, Mistake)
                else student_lines(error, self._cells, number))
            return Failure(number, str(error) if is_explained else explain(error), traceback,
                           exhausted=exhausted, parts=tuple(parts_of(error)),
                           lines=tuple(lines[-MAX_LINES:]))
        if _is_of_the_package(error):
            is_own = number in in_package()
            hint = _(FROM_PACKAGE, name=_missing_from_package(error))
            return Failure(number, hint, undone=number if is_own else None,
                           awaits_package=not is_own)
        _text, _lines, exercise = student_lines(error, self._cells, number)
        return Failure(number, _("ещё не выполнено."), undone=exercise or number)


def _line_in(cell, error):
    """Return the innermost line of a cell that an error went through, or 0."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == cell.name), 0)


def _is_of_the_package(error):
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_PACKAGE)


def _missing_from_package(error):
    """Return the name of the class or function that has no solution in the package."""
    function = traceback.extract_tb(error.__traceback__)[-1].name
    return "MultivariateNormalDiag" if function == "sample" else function
