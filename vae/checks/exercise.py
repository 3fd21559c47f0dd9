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
#: Of a hint's lines, in characters.
WIDTH = 80
#: Real images on which no model is trained, only evaluated.
N_HELD_OUT = 500


@dataclass(frozen=True)
class Exercise:
    """One exercise: what it is called and how it is checked."""

    label: str  #: in Russian
    points: int
    names: tuple  #: what the student's cells must define
    build: Callable  #: (names: Names) -> the graph, a dict
    draw: Callable  #: (random, images, **sizes of the graph) -> inputs, a dict
    measure: Callable  #: (graph, inputs) -> a dict of arrays, truth values and lists of texts
    judge: Callable  #: (inputs, measured) -> None
    uses: tuple = ()  #: the exercises whose results its cell takes, by number
    trains: bool = False  #: whether it draws from real images

    @property
    def title(self):
        """What it is called, as the student reads it."""
        return _(self.label)


class Mistake(Exception):
    """An exercise is not right; the message says what to look at."""

    def _render_traceback_(self):
        # Jupyter shows this in place of a traceback, which would only tell of our own code.
        return [textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)
                for line in str(self).splitlines()]


class Interrupted(KeyboardInterrupt):
    """Jupyter shows a check that was interrupted in one line."""

    _render_traceback_ = Mistake._render_traceback_


def explain(error):
    """Return the first line of an error, and the line of the student's code that it came from."""
    message = _("код не выполняется: {name}: {what}").format(
                  name=type(error).__name__, what=first_line(error))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "ipykernel" in frame.filename or frame.filename.startswith("<ipython")]
    if frames:
        message += _("\nСтрока {lineno} ячейки: {line}").format(
                       lineno=frames[-1].lineno, line=frames[-1].line)
    if isinstance(error, theano.gof.MissingInputError):
        message += _("\nГраф зависит не только от input_x. Если ячейки выполнялись не подряд, "
                     "выполните ячейки упражнений 3, 4 и 5 ещё раз.")
    elif isinstance(error, theano.gradient.DisconnectedInputError):
        message += _("\nГрадиент до параметров не доходит: какая операция его останавливает?")
    elif isinstance(error, (TypeError, ValueError)):
        message += _("\nПроверьте, какие формы и типы у всех тензоров.")
    return message


def first_line(error):
    return next(iter(str(error).strip().splitlines()), "")


class Names:
    """The student's names as attributes; one that is not there is a mistake.

    Parameters
    ----------
    names : dict
        What the student's cells have defined.
    """

    def __init__(self, names):
        self._names = names

    def __getattr__(self, name):
        if self._names.get(name) is None:
            raise Mistake(_("не определено имя {name}. Выполните ячейку с этим упражнением и "
                            "проверьте, так ли оно там написано.").format(name=name))
        return self._names[name]


def require(condition, hint):
    if not condition:
        raise Mistake(hint)


def sizes_of(graph):
    """Return the sizes that an exercise's inputs are drawn for: its graph's plain numbers."""
    return {name: value for name, value in graph.items() if type(value) is int}


def size_of(names, name):
    size = getattr(names, name)
    require(isinstance(size, (int, np.integer)) and 0 < size <= MAX_SIZE,
            _("{name} = {size!r}, а должно быть целым числом от 1 до {MAX_SIZE}.").format(
                name=name, size=size, MAX_SIZE=MAX_SIZE))
    return int(size)
