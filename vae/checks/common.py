"""What the exercises' checks share: mistakes, names, random weights, closed forms."""

import textwrap
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable

import numpy as np
import theano
import theano.tensor as T

from vae.language import _

LOG_2PI = np.log(2 * np.pi)

#: The largest BATCH_SIZE and HIDDEN_DIM.
MAX_SIZE = 4096
#: Of a hint's lines, in characters.
WIDTH = 80
#: Real images that no exercise trains on, for a model to be tried on.
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


def is_tensor(value, ndim):
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def compiled(inputs, outputs):
    """Compile the outputs; unused inputs are fine, values are cast to the inputs' types."""
    function = theano.function(inputs, outputs, on_unused_input="ignore")
    return lambda *values: function(*(np.asarray(value, dtype=variable.dtype)
                                      for variable, value in zip(inputs, values)))


def parameters_of(outputs):
    """The networks' parameters that some variables depend on."""
    return [variable for variable in theano.gof.graph.inputs(outputs)
            if isinstance(variable, theano.compile.SharedVariable)
            and isinstance(variable.type, T.TensorType) and variable.dtype.startswith("float")]


@contextmanager
def same_parameters_afterwards(parameters):
    before = [parameter.get_value() for parameter in parameters]
    try:
        yield
    finally:
        for parameter, value in zip(parameters, before):
            parameter.set_value(value)


def randomise(parameters, random):
    """Set other weights, with which ReLU's activations stay moderate in however many layers."""
    for parameter in parameters:
        shape = parameter.get_value(borrow=True).shape
        fan_in = np.prod(shape[:1] if len(shape) == 2 else shape[1:])
        spread = np.sqrt(2 / fan_in) if len(shape) > 1 else 1.
        parameter.set_value(random.normal(0, spread, shape).astype(parameter.dtype))


def binary_images(random, n):
    return random.uniform(size=(n, 1, 28, 28)) < 0.3


def draw_images(random, images, hidden_dim):
    """Draw what exercises 2 and 3 are tried on."""
    return dict(x=binary_images(random, 50), seed=random.randint(2 ** 31 - 1),
                hidden_dim=hidden_dim)


def close(value, expected, tolerance=1e-4):
    """Equal up to float32 rounding, relative to the size of what was summed."""
    return (np.shape(value) == np.shape(expected)
            and np.allclose(value, expected, rtol=tolerance, atol=tolerance))


# --- numbers to compare with, in float64 ---

def normal_log_prob(z, loc, scale):
    return np.sum(-0.5 * LOG_2PI - np.log(scale) - 0.5 * ((z - loc) / scale) ** 2, axis=-1)


def bernoulli_log_prob(x, logits):
    logits = np.asarray(logits, dtype=float)
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(-3, -2, -1))


def kl_to_standard_normal(loc, scale):
    """KL(N(loc, scale²) || N(0, 1)), nats: Kingma and Welling (2014), appendix B."""
    return 0.5 * np.sum(loc ** 2 + scale ** 2 - 1 - 2 * np.log(scale), axis=-1)


def judge_code(batch_size, code, loc, scale):
    """What is decoded must be distributed as q(z | x), each sample of it.

    Parameters
    ----------
    batch_size : int
    code : numpy.ndarray, shape (draws, K * batch, dim)
        What the decoder gets, K samples for an image.
    loc, scale : numpy.ndarray, shape (draws, batch, dim)
    """
    n_draws, n, hidden_dim = code.shape
    require(n % batch_size == 0 and loc.shape == scale.shape == (n_draws, batch_size, hidden_dim),
            _("для {batch_size} изображений в декодировщик подаются коды формы {code}.").format(
                batch_size=batch_size, code=code.shape[1:]))
    k = n // batch_size
    eps = min((_noise(code, order(loc), order(scale)) for order in [
        lambda v: np.repeat(v, k, axis=1), lambda v: np.tile(v, (1, k, 1))]),
        key=lambda one: abs(np.nanmean(one ** 2) - 1))
    require(np.nanmax(np.abs(eps)) > 1e-3,
            _("декодируется не сэмпл из q(z | x), а среднее: выход декодировщика не случаен."))
    tolerance = 5 / np.sqrt(eps.size)
    spread = np.sqrt(np.nanmean(eps ** 2))
    require(abs(np.nanmean(eps)) < tolerance and abs(spread - 1) < tolerance,
            _("на вход декодировщика подаётся не сэмпл из q(z | x): его отклонение от loc — в "
              "среднем {spread:.2f} scale, а должно быть 1 scale. (Среднее нескольких сэмплов "
              "— не сэмпл.)").format(spread=spread))
    require(abs(np.nanmean(eps ** 4) - 3) < 70 / np.sqrt(eps.size),
            _("на вход декодировщика подаётся не сэмпл из q(z | x): его распределение "
              "не нормальное."))
    pairs = [eps[1:] * eps[:-1], eps[:, 1:] * eps[:, :-1], eps[:, :, 1:] * eps[:, :, :-1]]
    require(all(abs(np.nanmean(pair)) < 6 / np.sqrt(pair.size) for pair in pairs if pair.size > 100),
            _("сэмплы кода зависят друг от друга: у каждого объекта, у каждой координаты и при "
              "каждом вычислении шум должен быть свой."))


def _noise(code, loc, scale):
    """The noise that a code was made of; nan where float32 has lost it in the sum."""
    with np.errstate(all="ignore"):
        return np.where(scale > 1e-4 * (1 + np.abs(loc)), (code - loc) / scale, np.nan)
