"""Which cells of a notebook were run, in what order, and how that ended.

What a cell has defined stays when a later run of it fails, or when the cells that it builds on are
run again. A verdict on it would not be about what the student sees.
"""

import ast
import re
import sys
from dataclasses import dataclass

from vae.checks.exercise import first_line
from vae.language import _

__all__ = ["Runs", "why_failed"]

#: What a line seems to define, in a cell that can't be parsed.
_DEFINITION = re.compile(r"^\s*(?:(?:class|def)\s+(?=\w)|(?=[\w, ]+=(?!=)))([\w, ]+)", re.M)


@dataclass
class _Run:
    number: int
    error: BaseException | None = None


class Runs:
    """The last run of each exercise's cell, in the Jupyter kernel that this process is, if any.

    Parameters
    ----------
    exercises : dict of vae.checks.exercise.Exercise
        By number.
    """

    def __init__(self, exercises):
        self._exercises, self._last, self._n = exercises, {}, 0
        shell = _shell()
        if shell is not None:
            shell.events.register("pre_run_cell", self._begin)
            shell.events.register("post_run_cell", self._end)

    def _begin(self, info):
        self._n += 1
        bound = _bound_by(info.raw_cell)
        for number, exercise in self._exercises.items():
            if bound & set(exercise.names):
                self._last[number] = _Run(self._n)

    def _end(self, result):
        for run in self._last.values():
            if run.number == self._n:
                run.error = result.error_before_exec or result.error_in_exec

    def error_of(self, number):
        """Return what the last run of an exercise's cell has ended with, None if with nothing."""
        return self._last[number].error if number in self._last else None

    def why_outdated(self, number):
        """Return why what an exercise has defined is not made of what is there now, or None.

        Returns
        -------
        str or None
            In the reader's language.
        """
        if number not in self._last:
            return None
        for earlier in self._used_by(number):
            error = self.error_of(earlier)
            if isinstance(error, NotImplementedError):
                return _("сначала выполните упражнение {earlier}: оно ещё не выполнено.").format(
                    earlier=earlier)
            if error is not None:
                return _("сначала исправьте упражнение {earlier}: его ячейка закончилась ошибкой "
                         "{error}").format(earlier=earlier, error=_described(error))
        for earlier in self._used_by(number):
            if earlier in self._last and self._last[earlier].number > self._last[number].number:
                older = [str(later) for later in self._exercises if later in self._last
                         and earlier in self._used_by(later)
                         and self._last[later].number < self._last[earlier].number]
                said = (_("ячейка упражнения {earlier} выполнена заново: выполните ячейку "
                          "упражнения {older} ещё раз.") if len(older) == 1 else
                        _("ячейка упражнения {earlier} выполнена заново: выполните ячейки "
                          "упражнений {older} ещё раз."))
                older = _(" и ").join(filter(None, [", ".join(older[:-1]), older[-1]]))
                return said.format(earlier=earlier, older=older)
        return None

    def _used_by(self, number):
        """The exercises that one builds on, the first first."""
        uses = self._exercises[number].uses
        return sorted({*uses, *(one for used in uses for one in self._used_by(used))})


def why_failed(error):
    return _("ячейка этого упражнения в последний раз закончилась ошибкой {error}\n"
             "Исправьте её и выполните ещё раз.").format(error=_described(error))


def _described(error):
    text = first_line(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}".rstrip(".") + "."


def _shell():
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def _bound_by(cell):
    """The names that a cell binds, or whose attributes it sets."""
    try:
        nodes = ast.parse(_shell().transform_cell(cell)).body
    except SyntaxError:
        return {name for names in _DEFINITION.findall(cell) for name in re.findall(r"\w+", names)}
    bound = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            nodes += [one for one in ast.walk(node) if isinstance(one, ast.Global)]
        elif isinstance(node, ast.Global):
            bound.update(node.names)
        elif isinstance(node, ast.Name):
            bound |= {node.id} if isinstance(node.ctx, ast.Store) else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            bound |= {node.value.id} if isinstance(node.value, ast.Name) else set()
        elif not isinstance(node, ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return bound
