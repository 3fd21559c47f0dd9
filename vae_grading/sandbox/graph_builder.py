"""What the process of a student's code does: build the graphs of exercises."""

import ast
import errno
import sys
import traceback

import numpy as np

import vae.checks
from vae.checks import EXERCISES, Mistake, Names, explain
from vae.language import N_, _
from vae_grading.graphs import dump_graph
from vae_grading.messages import (
    BuiltGraph,
    Checked,
    Failure,
    OrderCount,
    SourceCode,
    Stage,
    Unreadable,
)
from vae_grading.notebook import fakes
from vae_grading.notebook.cells import cells_of, orders_of, place_of, student_lines
from vae_grading.notebook.execution import Overdue, main_module, run
from vae_grading.notebook.package_stubs import fill_package, in_package

__all__ = ["build"]

_EXHAUSTED = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EAGAIN}
_MAX_EARLY = 32 * 2**20  # characters of graphs, sent before all has been run
_PACKAGE = vae.__file__.removesuffix("__init__.py")
_FROM_PACKAGE = N_("{} взято из пакета vae, а его нужно написать самостоятельно: "
                   "в пакете при проверке решения нет.")


def build(task, given, say):
    """Run a student's notebook and send the graphs of its exercises.

    Parameters
    ----------
    task : vae_grading.messages.BuildTask
    given : dict
        What the notebook may rely on where it does not define it.
    say : callable
        Takes a message.
    """
    wanted = task.wanted
    say(Stage(_("чтение ноутбука")))
    try:
        cells = cells_of(task.notebook)
        orders = orders_of(cells)
    except ValueError as error:
        say(Unreadable(str(error)))
        return
    say(OrderCount(len(orders)))
    fakes.install()
    fill_package({number: source for number, source in task.package.items()
                  if number in in_package()}, given)
    names = main_module()
    sys.path.insert(0, "")  # for modules that the notebook writes
    belong = {number: {one for cell in cells for one in cell.statements
                       if number in one.exercises} for number in EXERCISES}
    for message in _code(cells, belong, wanted):
        say(message)

    def failed(error, exercise):
        text, origin = student_lines(error, cells)
        undone, explained = (isinstance(error, kinds) for kinds in [
            NotImplementedError, (Mistake, Overdue)])
        failure = {"hint": str(error) if explained else
                   _("ещё не выполнено.") if undone else explain(error),
                   "traceback": "" if undone or isinstance(error, Mistake) else text,
                   "undone": origin or exercise if undone else None,
                   "exhausted": isinstance(error, (MemoryError, Overdue))
                   or isinstance(error, OSError) and error.errno in _EXHAUSTED}
        if undone and _is_of_the_package(error):
            own = exercise in in_package()
            failure.update(hint=_(_FROM_PACKAGE).format(_lacking(error)), awaits_package=not own,
                           undone=exercise if own else None)
        return failure

    graphs, sent, to_look_at, left = {}, {}, set(wanted), _MAX_EARLY

    def try_exercise(number):
        say(Stage(_("упражнение {number}").format(number=number), (number,)))
        state = np.random.get_state()  # to look at an exercise changes no later one
        try:
            np.random.seed(number)
            return dump_graph(EXERCISES[number].build(Names(names)))
        finally:
            np.random.set_state(state)

    def send(number):
        if sent.get(number) is not graphs[number]:
            sent[number] = graphs[number]
            say(BuiltGraph(number, graphs[number]))

    def look_at(number):
        nonlocal left
        to_look_at.discard(number)
        try:
            graphs[number] = try_exercise(number)
        except BaseException:
            return  # to be tried again when all has been run
        left -= len(graphs[number])
        if left > 0:
            send(number)

    def before(cell, statement):
        # What an exercise calls of an earlier one is called first for that one: then it is
        # known whose code has ended the process.  What is right before the process ends, or
        # before a training loop puts numbers into its names, stays right.
        first = statement is cell.statements[0]
        for number in sorted(to_look_at):
            if first or any(number < later for later in statement.exercises):
                look_at(number)
        say(Stage(place_of(cell, statement), tuple(statement.exercises)))

    def check(number=None, *args, **kwargs):
        # Where the student has it checked, an exercise is what it is then.
        if type(number) is int and number in wanted:
            if number in to_look_at:
                look_at(number)
            say(Checked(number))

    def changed(number, cell, statement):
        if number in wanted:
            to_look_at.add(number)
        if not isinstance(statement.node, (ast.Import, ast.ImportFrom)):
            belong[number].add(statement)

    vae.checks.check = check
    given = {**given, "check": check}
    raised = {}
    for cell, error in run(orders[task.order], task.replacements, given, names, task.skipped,
                           task.patience, before, changed):
        frames = traceback.extract_tb(error.__traceback__)
        line = next((one.lineno for one in reversed(frames) if one.filename == cell.name), 0)
        raised.setdefault(cell.exercise_at(line), failed(error, cell.exercise_at(line)))
    for message in _code(cells, belong, wanted):
        say(message)
    for number in wanted:
        try:
            if number in to_look_at or number not in graphs:
                graphs[number] = try_exercise(number)
            send(number)
        except BaseException as error:
            if number in graphs and isinstance(error, Mistake):
                send(number)
                continue
            failure = failed(error, number)
            if any(names.get(name) is None for name in EXERCISES[number].names):
                if number in raised:
                    failure = raised[number]
                elif None in raised and isinstance(error, Mistake):
                    failure["traceback"] = raised[None]["traceback"]
            say(Failure(number, **failure))


def _code(cells, belong, wanted):
    """The student's own source of each exercise."""
    def owners(statement):
        return [number for number in EXERCISES if statement in belong[number]]

    return [SourceCode(number, "\n\n".join(filter(None, (
        cell.code_of(number, owners) for cell in cells)))) for number in wanted]


def _is_of_the_package(error):
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_PACKAGE)


def _lacking(error):
    return {"sample": "MultivariateNormalDiag"}.get(
        name := traceback.extract_tb(error.__traceback__)[-1].name, name)
