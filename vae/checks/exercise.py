"""What an exercise is, and how its check reports mistakes."""

import textwrap
import traceback
from dataclasses import dataclass
from typing import Callable

import numpy as np
import theano

from vae.language import _

#: The largest BATCH_SIZE and HIDDEN_DIM.
MAX_SIZE = 4096
#: The width of a hint's lines, in characters.
WIDTH = 80
#: Real images that only evaluate a model: it is not trained on them.
N_HELD_OUT = 500


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise: its title and how it is checked.

    Parameters
    ----------
    number : int
        Its place among the exercises, from 1. The notebook and the reports call it by this number.
    label : str
        The title in Russian, marked by `N_`.
    points : int or float
    names : tuple of str
        What the student's cell must define.
    uses : tuple of str
        What the student's cell takes from other exercises: some of their names. If no exercise
        defines such a name any more, it has to come from the package `vae`.
    build : callable
        ``(names: Names) -> graph``, a dict of Theano variables, numbers, texts and lists of these.
    draw : callable
        ``(random, images, **sizes) -> inputs``, a dict. `sizes_of` the graph gives the sizes.
    measure : callable
        ``(graph, inputs) -> measured``, a dict of arrays, truth values, numbers and lists of texts.
    judge : callable
        ``(inputs, measured) -> None``.
    trains : bool
        Whether `draw` needs real images.
    """

    number: int
    label: str
    points: float
    names: tuple
    uses: tuple = ()
    build: Callable
    draw: Callable
    measure: Callable
    judge: Callable
    trains: bool = False

    def __post_init__(self):
        for field in ("names", "uses"):
            if not isinstance(getattr(self, field), tuple):
                raise TypeError(f"Got {field}={getattr(self, field)!r}, expected a tuple")

    @property
    def title(self):
        """The title in the reader's language."""
        return _(self.label)


class Mistake(Exception):
    """An exercise is not right; the message says what to look at."""

    def _render_traceback_(self):
        # Jupyter shows this in place of a traceback, which would only show our own code.
        return [textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)
                for line in str(self).splitlines()]


class Interrupted(KeyboardInterrupt):
    """A check was interrupted. Jupyter shows this in one line."""

    _render_traceback_ = Mistake._render_traceback_


def explain(error):
    """Return a hint for an error that the student's code has raised.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
        In the reader's language: the error's first line, the line of the student's cell that raised
        it, and advice for some types of error.
    """
    message = _("код не выполняется: {error}: {message}",
                error=type(error).__name__, message=first_line(error))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "ipykernel" in frame.filename or frame.filename.startswith("<ipython")]
    if frames:
        message += _("\nСтрока {lineno} ячейки: {line}",
                     lineno=frames[-1].lineno, line=frames[-1].line)
    if isinstance(error, theano.gof.MissingInputError):
        message += _("\nГраф зависит не только от input_x. Если ячейки выполнялись не подряд, "
                     "выполните ещё раз ячейку, которая определяет input_x, и все ячейки после неё.")
    elif isinstance(error, theano.gradient.DisconnectedInputError):
        message += _("\nГрадиент до параметров не доходит: какая операция его останавливает?")
    elif isinstance(error, (TypeError, ValueError)):
        message += _("\nПроверьте, какие формы и типы у всех тензоров.")
    return message


def first_line(error):
    """Return the first line of an error's message, "" if it has none."""
    return next(iter(str(error).strip().splitlines()), "")


class Names:
    """What the student's cells have defined, as attributes.

    Parameters
    ----------
    names : dict

    Raises
    ------
    Mistake
        When an attribute is read that is not defined, or None.
    """

    def __init__(self, names):
        self._names = names

    def __getattr__(self, name):
        if self._names.get(name) is None:
            raise Mistake(_("не определено имя {name}. Выполните ячейку с этим упражнением и "
                            "проверьте, так ли оно там написано.", name=name))
        return self._names[name]


def require(condition, hint):
    """Raise a `Mistake` unless a condition holds.

    Parameters
    ----------
    condition : object
        Anything with a truth value.
    hint : str
        What to look at, in the reader's language.

    Raises
    ------
    Mistake
    """
    if not condition:
        raise Mistake(hint)


def sizes_of(graph):
    """Return the sizes for which an exercise's inputs are drawn: the integers of its graph.

    Parameters
    ----------
    graph : dict
        What the exercise's ``build`` returns.

    Returns
    -------
    dict of int
        By name, as keyword arguments of the exercise's ``draw``.
    """
    return {name: value for name, value in graph.items() if type(value) is int}


def size_of(names, name):
    """Return a size that the student has defined, such as BATCH_SIZE.

    Parameters
    ----------
    names : Names
        What the student's cells have defined.
    name : str

    Returns
    -------
    int

    Raises
    ------
    Mistake
        If it is not an integer from 1 to `MAX_SIZE`.
    """
    size = getattr(names, name)
    require(isinstance(size, (int, np.integer)) and 0 < size <= MAX_SIZE,
            _("{name} = {size!r}, а должно быть целым числом от 1 до {MAX_SIZE}.",
              name=name, size=size, MAX_SIZE=MAX_SIZE))
    return int(size)
