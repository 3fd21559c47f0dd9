"""The class `Exercise`, and functions with which checks report mistakes."""

import textwrap
from dataclasses import dataclass
from typing import Callable

import numpy as np
import theano
from lasagne.layers import Layer

from vae.checks.error_advice import advice_on, cell_line, first_line
from vae.language import _

#: The largest BATCH_SIZE and HIDDEN_DIM.
MAX_SIZE = 4096
#: The width of a hint's lines, in characters.
WIDTH = 80
#: Names that exercises read and the notebook's first cell defines.
_NAMES_OF_THE_FIRST_CELL = ("BATCH_SIZE", "HIDDEN_DIM", "X_train")
#: The number of real images that are kept out of training, to evaluate a model.
N_HELD_OUT = 500


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """An exercise: its title, its points and the four steps of its check.

    Parameters
    ----------
    number : int
        Position among the exercises, from 1. The notebook and the reports use this number.
    label : str
        The title in Russian, marked by `N_`.
    points : int or float
        Points for a right solution.
    names : tuple of str
        Names that the student's cell must define.
    uses : tuple of str
        Names that the student's cell takes from other exercises. If no exercise defines such a name
        any more, the package `vae` has to define it.
    build : callable
        ``(names: Names) -> graph``, a dict of Theano variables, numbers, texts and lists of these.
    draw : callable
        ``(random, images, **sizes) -> inputs``, a dict. ``sizes_of(graph)`` returns the sizes.
    measure : callable
        ``(graph, inputs) -> measured``, a dict of arrays, truth values, numbers and lists of texts.
    judge : callable
        ``(inputs, measured) -> None``. It raises `Mistake` if the solution is wrong.
    trains : bool
        Whether `draw` needs real images.

    Raises
    ------
    TypeError
        If `names` or `uses` is not a tuple.
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
    """The solution of an exercise is wrong. The message is a hint for the student."""

    def _render_traceback_(self):
        # Jupyter shows these lines instead of a traceback, which would only show our own code.
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
        A text in the reader's language: the first line of the error, the line of the student's cell
        that raised it, and advice.
    """
    if isinstance(error, theano.gof.MissingInputError) and not cell_line(error)[0]:
        return advice_on(error)
    message = _("код не выполняется: {error}: {message}", error=type(error).__name__,
                message=first_line(error))
    return message.removesuffix(": ") + place_and_advice(error)


def place_and_advice(error):
    """Return the line of the student's cell that raised an error, and advice.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str
        A text in the reader's language. A line break precedes each sentence. "" if there is no
        line and no advice.
    """
    number, line = cell_line(error)
    place = [_("Строка {lineno} ячейки: {line}", lineno=number, line=line)] if number else []
    return "".join(f"\n{text}" for text in [*place, advice_on(error)] if text)


def kind_of(value):
    """Describe a value in terms that students know, in the reader's language.

    Parameters
    ----------
    value : object
        Anything that a student's name may hold.

    Returns
    -------
    str
    """
    if value is None:
        return "None"
    if value is Ellipsis:
        return _("многоточие (...)")
    if isinstance(value, Layer):
        return _("слой Lasagne {name}", name=type(value).__name__)
    if isinstance(value, theano.Variable):
        return _("символьная переменная, измерений: {ndim}", ndim=getattr(value, "ndim", "?"))
    if isinstance(value, (list, tuple)):
        sequence = _("список") if isinstance(value, list) else _("кортеж")
        return _("{kind}, элементов: {n}", kind=sequence, n=len(value))
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return _("массив NumPy формы {shape}", shape=value.shape)
    if isinstance(value, (bool, int, float, str)):
        return repr(value)[:40]
    if isinstance(value, (np.number, np.ndarray)):
        return _("число {value}", value=value)
    if isinstance(value, type):
        return _("класс {name} (а не объект)", name=value.__name__)
    return _("объект типа {name}", name=type(value).__name__)


class Undefined(Mistake):
    """A name is not defined."""


class Names:
    """The values that the student's cells have defined, as attributes.

    Parameters
    ----------
    names : dict
        Maps names to values.

    Raises
    ------
    Mistake
        When an attribute is read, if the name is not defined or its value is None or ``...``.
    """

    def __init__(self, names):
        self._names = names

    def __getattr__(self, name):
        if name not in self._names:
            raise Undefined(_("не определено имя {name}. Выполните ячейку, которая его определяет, "
                              "и проверьте, так ли оно там написано.", name=name))
        value = self._names[name]
        if value is None or value is Ellipsis:
            where = (_("выполните первую ячейку ноутбука ещё раз")
                     if name in _NAMES_OF_THE_FIRST_CELL else _("замените его решением"))
            raise Mistake(_("имя {name} определено, но его значение — {value}: {where}.",
                            name=name, value=kind_of(value), where=where))
        return value


def input_of(names):
    """Return the symbolic images that are the input of a student's model.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    Theano variable, shape (batch, 1, 28, 28)

    Raises
    ------
    Mistake
        If ``input_x`` is not a symbolic input with 4 dimensions.
    """
    input_x = names.input_x
    require(isinstance(input_x, theano.Variable) and getattr(input_x, "ndim", None) == 4
            and input_x.owner is None and not isinstance(
                input_x, (theano.Constant, theano.compile.SharedVariable)),
            _("input_x сейчас — {kind}, а должна быть символьной переменной для изображений: "
              "T.tensor4('inputs').", kind=kind_of(input_x)))
    return input_x


def require(condition, hint):
    """Raise a `Mistake` unless a condition holds.

    Parameters
    ----------
    condition : object
        Anything with a truth value.
    hint : str
        A text in the reader's language.

    Raises
    ------
    Mistake
        If `condition` is false. Its message is the hint.
    """
    if not condition:
        raise Mistake(hint)


def sizes_of(graph):
    """Return the integers in an exercise's graph, which are the sizes of the inputs to draw.

    Parameters
    ----------
    graph : dict
        The result of the exercise's ``build``.

    Returns
    -------
    dict of int
        Keyword arguments of the exercise's ``draw``.
    """
    return {name: value for name, value in graph.items() if type(value) is int}


def size_of(names, name):
    """Return a size that the student has defined, such as BATCH_SIZE.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.
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
