"""A record of the exercises' cells that were run in Jupyter, with their order and their errors.

If a cell fails, or if cells that it depends on are run again, the kernel keeps the values that an
earlier run of the cell has defined. A check of these values would not check the code that the
student sees.
"""

import ast
import numbers
import re
from dataclasses import dataclass, field

import numpy as np

from vae.checks.exercise import Interrupted, Mistake, first_line, kind_of
from vae.kernel import ipython_shell
from vae.language import _

__all__ = ["CellHistory", "bound_by", "why_failed"]

#: Finds the names that a line seems to define, in a cell that cannot be parsed.
_DEFINITION = re.compile(r"^\s*(?:(?:class|def)\s+(?=\w)|(?=[\w, ]+=(?!=)))([\w, ]+)", re.M)
#: The first lines of a cell: magics that run the following lines in the notebook's namespace.
_RUN_BY_MAGIC = re.compile(r"\A(\s*%%(time|capture|prun)\b.*\n)+")
#: Names that later cells of the notebook define, each with the exercises' names it is made from.
_MADE_FROM = {
    "train": ("elbo", "updates"),
    "elbo_at_test": ("elbo",),
    "reconstruct": ("decoder_logits",),
    "encode": ("qz_x",),
    "decode": ("decoder_logits",),
    "networks": ("encoder_mean", "encoder_scale", "decoder_logits"),
    "train_curve": ("encoder_mean", "encoder_scale", "decoder_logits"),
}
#: Sizes that an exercise's cell may use. The check of an exercise with ``trains=True`` also uses
#: batches of BATCH_SIZE.
_SIZES = ("HIDDEN_DIM", "BATCH_SIZE")
#: Types of values that no exercise asks for. So a student's `loss = 0` is not the exercise's loss.
_PLAIN = (numbers.Number, str, bytes, np.ndarray)
_MISSING = ""  #: stands for the value of an undefined name; its type is in `_PLAIN`


@dataclass(eq=False)
class _Run:
    number: int  #: the number of cells that had been run, including this cell
    cell: str = ""
    error: BaseException | None = None
    sizes: dict = field(default_factory=dict)  #: the values of `_SIZES` after this run


class CellHistory:
    """The last runs of the cells that define the names of the exercises or of `_MADE_FROM`.

    A cell defines a name if it assigns to it, or if the name has another value after the cell. The
    history is empty if this process is not a Jupyter kernel.

    Parameters
    ----------
    exercises : dict of vae.checks.exercise.Exercise
        Maps the number of an exercise to the exercise.
    """

    def __init__(self, exercises):
        self._exercises, self._n_runs = exercises, 0
        # These map a name to a run: the last run that defined the name, the same before the current
        # cell, and the last run that was meant to define it, even if it failed earlier.
        self._last, self._before, self._tried = {}, {}, {}
        self._exercise_of = {name: number for number, exercise in exercises.items()
                             for name in exercise.names}
        self._names = [*self._exercise_of, *_MADE_FROM]
        self._shell = ipython_shell()
        if self._shell is not None:
            self._seen = self._values()
            self._shell.events.register("pre_run_cell", self._begin)
            self._shell.events.register("post_run_cell", self._end)

    def _values(self):
        """Return the current values of the names."""
        return {name: self._shell.user_ns.get(name, _MISSING) for name in self._names}

    def _begin(self, info):
        self._n_runs += 1
        self._before = dict(self._last)
        assigned = bound_by(info.raw_cell).intersection(self._names)
        for runs in (self._last, self._tried):
            runs.update(dict.fromkeys(assigned, _Run(self._n_runs, info.raw_cell)))

    def _end(self, result):
        """Record which names the cell has changed, and the error with which it ended."""
        run = _Run(self._n_runs, result.info.raw_cell,
                   result.error_before_exec or result.error_in_exec,
                   {name: self._shell.user_ns.get(name) for name in _SIZES})
        values = self._values()
        for name, value in values.items():
            changed = value is not self._seen[name]  # by %%time, %run or import, for example
            if changed or self._last.get(name) is not self._before.get(name):
                self._tried[name] = run
                defined = (changed or run.error is None) and not isinstance(value, _PLAIN)
                self._last[name] = run if defined else self._before.get(name)
        self._seen = values

    def _run_of(self, step):
        """Return the last run that defined an exercise or a name, or None."""
        names = self._exercises[step].names if step in self._exercises else [step]
        return _latest(map(self._last.get, names))

    def _try_of(self, number):
        return _latest(map(self._tried.get, self._exercises[number].names))

    def error_of(self, number):
        """Return the exception with which the last run of an exercise's cell ended.

        If the student calls `check` in the same cell, its verdict does not count as an error.

        Parameters
        ----------
        number : int
            Number of the exercise.

        Returns
        -------
        BaseException or None
        """
        run = self._try_of(number)
        is_verdict = (run is not None and run is self._run_of(number)
                      and isinstance(run.error, (Mistake, Interrupted)))
        return None if run is None or is_verdict else run.error

    def why_outdated(self, number):
        """Return the reason why an exercise's cell has to be run again, or cannot be checked yet.

        Parameters
        ----------
        number : int
            Number of the exercise.

        Returns
        -------
        str or None
            A text in the reader's language. None if nothing is outdated.
        """
        tried, used = self._try_of(number), self._used_by(number)
        if tried is None:
            return None
        reason = self._why_unusable(used)
        if reason is None and not self._failed_after(used, tried, self._run_of(number)):
            reason = self._why_stale([number])
        return reason

    def _failed_after(self, exercises, tried, defined):
        """Return whether a cell failed before it defined anything, after all these exercises."""
        return (tried.error is not None and tried is not defined
                and not any(self._is_newer(earlier, tried) for earlier in exercises))

    def why_not_current(self, names):
        """Return the reason why the values of some names are outdated or missing.

        Parameters
        ----------
        names : sequence of str
            Names that the exercises define, or that later cells make from these.

        Returns
        -------
        str or None
            A text in the reader's language. None if all values are current, or if this process is
            not a Jupyter kernel.
        """
        if self._shell is None:
            return None
        own = {self._exercise_of[name] for made in names for name in _MADE_FROM.get(made, [made])
               if name in self._exercise_of}
        used = sorted(own.union(*map(self._used_by, own)))
        # If a failed cell was to define only some of an exercise's names, it is an experiment of
        # the student.
        whole = [number for number in used if len(
            {self._tried.get(name) for name in self._exercises[number].names}) == 1]
        steps = [self._exercise_of.get(name, name) for name in names]
        missing = [name for name in names if name not in self._shell.user_ns]
        reason = self._why_unusable(whole) or self._why_stale(steps) or self._why_plain(names)
        if reason is None and missing:
            reason = _("сначала выполните {cells}.", cells=self._cells(
                [self._exercise_of.get(name, name) for name in missing]))
        return reason

    def _why_plain(self, names):
        """Return which name a student's own variable has overwritten, and how to get it back."""
        for name in names:
            value = self._shell.user_ns.get(name)
            if isinstance(value, _PLAIN) and name != "train_curve":  # a list may become an array
                return _("имя {name} определено заново, его значение — {kind}: выполните ещё раз "
                         "{cells}.", name=name, kind=kind_of(value),
                         cells=self._cells([self._exercise_of.get(name, name)]))
        return None

    def _why_unusable(self, exercises):
        for number in exercises:
            error = self.error_of(number)
            if isinstance(error, NotImplementedError):
                return _("сначала выполните упражнение {earlier}: оно ещё не выполнено.",
                         earlier=number)
            if error is not None:
                return _("сначала исправьте упражнение {earlier}: его ячейка закончилась ошибкой "
                         "{error}", earlier=number, error=_described(error))
        return None

    def _why_stale(self, steps):
        """Return the reason why any of these steps has to be done again, and the cells to run.

        A step is an exercise or a name.
        """
        causes = [cause for step in steps for cause in self._causes(step)]
        if not causes:
            return None
        cause = number, size = min(causes)
        exercises = [later for later in self._exercises if cause in self._causes(later)]
        names = [step for step in steps if step not in self._exercises and self._causes(step)]
        cells = self._cells([*exercises, *names])
        if size:
            return _("значение {name} было {before}, а теперь {now}: выполните ещё раз {cells}.",
                     name=size, before=self._run_of(number).sizes[size],
                     now=self._shell.user_ns.get(size), cells=cells)
        return _("ячейка упражнения {number} выполнена заново: выполните ещё раз {cells}.",
                 number=number, cells=cells)

    def _causes(self, step):
        """Return the causes why a step has to be done again, a set of pairs.

        ``(exercise, "")`` means that this exercise was run again after the step. ``(exercise,
        size)`` means that this size had another value when the exercise was run.
        """
        run = self._run_of(step)
        if run is None:
            return set()
        if step in self._exercises:
            return self._causes_of_exercise(step, run)
        return self._causes_of_name(step, run)

    def _causes_of_exercise(self, number, run):
        causes = set()
        for earlier in self._used_by(number):
            causes |= self._newer([earlier], run) | self._causes(earlier)
        used_sizes = _words(run.cell)
        if self._exercises[number].trains:
            used_sizes.add("BATCH_SIZE")
        for size, value in run.sizes.items():
            if size in used_sizes and repr(value) != repr(self._shell.user_ns.get(size)):
                causes.add((number, size))
        return causes

    def _causes_of_name(self, name, run):
        causes = set()
        for source in filter(self._exercise_of.get, _MADE_FROM.get(name, ())):
            number = self._exercise_of[source]
            if self._is_newer(source, run):
                causes |= self._newer([*self._used_by(number), number], run)
            causes |= self._causes(number)
        return causes

    def _newer(self, exercises, run):
        """Return a cause for each of these exercises that was run again after a run."""
        return {(number, "") for number in exercises if self._is_newer(number, run)}

    def _is_newer(self, step, run):
        last = self._run_of(step)
        return last is not None and last.number > run.number

    def _cells(self, steps):
        """Describe the cells of exercises and the cells that define names, in the accusative."""
        exercises = [str(step) for step in steps if step in self._exercises]
        names = [step for step in steps if step not in self._exercises]
        parts = []
        if len(exercises) == 1:
            parts.append(_("ячейку упражнения {number}", number=exercises[0]))
        elif exercises:
            parts.append(_("ячейки упражнений {numbers}", numbers=_enumerated(exercises)))
        if names:
            n_cells = len({self._last.get(name) for name in names})
            text = (_("ячейки, в которых определяются {names}") if n_cells > 1 else
                    _("ячейку, в которой определяются {names}") if len(names) > 1 else
                    _("ячейку, в которой определяется {names}"))
            parts.append(text.format(names=_enumerated(names)))
        return _(", затем ").join(parts)

    def _used_by(self, number):
        """Return the numbers of the exercises that an exercise uses, also indirectly, in order."""
        uses = {used for used, exercise in self._exercises.items()
                if set(self._exercises[number].uses) & set(exercise.names)}
        indirect = {earlier for used in uses for earlier in self._used_by(used)}
        return sorted({*uses, *indirect})


def _latest(runs):
    return max(filter(None, runs), key=lambda run: run.number, default=None)


def _enumerated(words):
    return _(" и ").join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _words(text):
    return set(re.findall(r"\w+", text))


def why_failed(error):
    """Return a hint for an exercise whose cell has failed.

    Parameters
    ----------
    error : Exception
        The error with which the last run of the cell ended.

    Returns
    -------
    str
        A text in the reader's language.
    """
    return _("ячейка этого упражнения в последний раз закончилась ошибкой {error}\n"
             "Исправьте её и выполните ещё раз.", error=_described(error))


def _described(error):
    """Return the type and the first line of an error, as a sentence."""
    text = first_line(error)
    return f"{type(error).__name__}{f': {text}' if text else ''}".rstrip(".") + "."


def bound_by(cell):
    """Return the names to which a cell assigns in its outermost scope.

    These include the names of objects on which it sets an attribute.

    Parameters
    ----------
    cell : str
        Code of the cell, with magics. If it cannot be parsed, the names are guessed from its lines.

    Returns
    -------
    set of str
    """
    cell = _RUN_BY_MAGIC.sub("", cell)
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
            if isinstance(node.value, ast.Name) and node.value.id not in _MADE_FROM:
                bound.add(node.value.id)  # `train.trust_input = True` does not define `train` again
        elif not isinstance(node, ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return bound
