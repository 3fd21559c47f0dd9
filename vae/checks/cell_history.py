"""Which exercises' cells were run in Jupyter, in which order, and which errors they ended with.

If a cell fails, or if the cells that it uses are run again, the kernel keeps what an earlier run of
the cell has defined. A verdict on that would not be about the code that the student sees.
"""

import ast
import re
from dataclasses import dataclass

from vae.checks.exercise import first_line
from vae.kernel import ipython_shell
from vae.language import _

__all__ = ["CellHistory", "why_failed"]

#: The names that a line seems to define, for a cell that cannot be parsed.
_DEFINITION = re.compile(r"^\s*(?:(?:class|def)\s+(?=\w)|(?=[\w, ]+=(?!=)))([\w, ]+)", re.M)


@dataclass
class _Run:
    number: int  #: how many cells had been run by then, this one included
    error: BaseException | None = None


class CellHistory:
    """The last run of each exercise's cell. It is empty if this process is not a Jupyter kernel.

    Parameters
    ----------
    exercises : dict of vae.checks.exercise.Exercise
        By number.
    """

    def __init__(self, exercises):
        self._exercises, self._last, self._n_runs = exercises, {}, 0
        shell = self._shell = ipython_shell()
        if shell is not None:
            self._before = self._values()
            shell.events.register("pre_run_cell", self._begin)
            shell.events.register("post_run_cell", self._end)

    def _begin(self, info):
        self._n_runs += 1
        self._before = self._values()
        bound = _bound_by(info.raw_cell)
        for number, exercise in self._exercises.items():
            if bound & set(exercise.names):
                self._last[number] = _Run(self._n_runs)

    def _values(self):
        """What the names of the exercises hold."""
        return {name: self._shell.user_ns.get(name)
                for exercise in self._exercises.values() for name in exercise.names}

    def _end(self, result):
        values = self._values()
        for number, exercise in self._exercises.items():
            if any(values[name] is not self._before[name] for name in exercise.names):
                self._last[number] = _Run(self._n_runs)  # also by import, exec or a magic
        for run in self._last.values():
            if run.number == self._n_runs:
                run.error = result.error_before_exec or result.error_in_exec

    def error_of(self, number):
        """Return the exception with which the last run of an exercise's cell ended, or None."""
        return self._last[number].error if number in self._last else None

    def why_outdated(self, number):
        """Return why an exercise's cell has to be run again, or cannot be checked yet.

        Parameters
        ----------
        number : int
            Of the exercise.

        Returns
        -------
        str or None
            In the reader's language. None if nothing is outdated.
        """
        if number not in self._last:
            return None
        for earlier in self._used_by(number):
            error = self.error_of(earlier)
            if isinstance(error, NotImplementedError):
                return _("сначала выполните упражнение {earlier}: оно ещё не выполнено.",
                         earlier=earlier)
            if error is not None:
                return _("сначала исправьте упражнение {earlier}: его ячейка закончилась ошибкой "
                         "{error}", earlier=earlier, error=_described(error))
        for earlier in self._used_by(number):
            if earlier in self._last and self._last[earlier].number > self._last[number].number:
                return self._rerun_hint(earlier)
        return None

    def _rerun_hint(self, earlier):
        """Tell the student to run all cells again that have used an older run of an exercise."""
        older = [str(later) for later in self._exercises if later in self._last
                 and earlier in self._used_by(later)
                 and self._last[later].number < self._last[earlier].number]
        if len(older) == 1:
            message = _("ячейка упражнения {earlier} выполнена заново: выполните ячейку "
                        "упражнения {older} ещё раз.")
        else:
            message = _("ячейка упражнения {earlier} выполнена заново: выполните ячейки "
                        "упражнений {older} ещё раз.")
        enumeration = _(" и ").join(filter(None, [", ".join(older[:-1]), older[-1]]))
        return message.format(earlier=earlier, older=enumeration)

    def _used_by(self, number):
        """The numbers of the exercises that an exercise uses, also indirectly, in order."""
        uses = self._exercises[number].uses
        indirect = {earlier for used in uses for earlier in self._used_by(used)}
        return sorted({*uses, *indirect})


def why_failed(error):
    """Return a hint for an exercise whose cell has failed.

    Parameters
    ----------
    error : Exception
        With which the last run of the cell ended.

    Returns
    -------
    str
        In the reader's language.
    """
    return _("ячейка этого упражнения в последний раз закончилась ошибкой {error}\n"
             "Исправьте её и выполните ещё раз.", error=_described(error))


def _described(error):
    """The type and the first line of an error, as a sentence."""
    text = first_line(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}".rstrip(".") + "."


def _bound_by(cell):
    """The names that a cell assigns in its outermost scope, or whose attributes it sets."""
    cell = re.sub(r"\A\s*%%.*\n", "", cell)  # the rest of such a cell is code, as a rule
    try:
        nodes = ast.parse(ipython_shell().transform_cell(cell)).body
    except SyntaxError:
        return {name for names in _DEFINITION.findall(cell) for name in re.findall(r"\w+", names)}
    bound = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            nodes += [inner for inner in ast.walk(node) if isinstance(inner, ast.Global)]
        elif isinstance(node, ast.Global):
            bound.update(node.names)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name):
                bound.add(node.value.id)
        elif not isinstance(node, ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return bound
