"""Whether what is decoded is a sample from q(z | x)."""

import numpy as np

from vae.checks.exercise import require
from vae.language import _


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


def both_orders(values, n, axis):
    """Both orders of K samples an image: those of one image together, or a batch apart."""
    k = n // values.shape[axis]
    return np.repeat(values, k, axis), np.concatenate([values] * k, axis)
