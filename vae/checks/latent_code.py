"""Checks of q(z | x), and that the decoder's input is a sample from it."""

import numpy as np

from vae.checks.exercise import require
from vae.language import _


def judge_code(batch_size, code, loc, scale):
    """Require that each code is an independent sample from q(z | x).

    Parameters
    ----------
    batch_size : int
    code : numpy.ndarray, shape (draws, K * batch, dim)
        The decoder's input: K samples for each image, in one of the orders of `both_orders`.
    loc, scale : numpy.ndarray, shape (draws, batch, dim)
        Parameters of q(z | x).

    Raises
    ------
    Mistake
    """
    require_positive(scale, loc)
    n_draws, n_codes, hidden_dim = code.shape
    require(n_codes % batch_size == 0
            and loc.shape == scale.shape == (n_draws, batch_size, hidden_dim),
            _("в декодировщик подаются коды формы {code_shape}, хотя изображений в батче: "
              "{batch_size}.", batch_size=batch_size, code_shape=code.shape[1:]))
    require(np.isfinite(code).all(),
            _("среди чисел, которые подаются в декодировщик, есть nan или inf."))
    eps = _noise_in_better_order(code, loc, scale)
    require(np.nanmax(np.abs(eps)) > 1e-3,
            _("декодируется не сэмпл из q(z | x), а среднее: выход декодировщика не случаен."))
    tolerance = 5 / np.sqrt(eps.size)
    mean, spread = np.nanmean(eps), np.sqrt(np.nanmean(eps ** 2))
    require(abs(mean) < tolerance or abs(spread - 1) >= tolerance,
            _("на вход декодировщика подаётся не сэмпл из q(z | x): от loc он отличается в "
              "среднем на {mean:+.2f} scale, а должен на 0.", mean=mean))
    require(abs(spread - 1) < tolerance,
            _("на вход декодировщика подаётся не сэмпл из q(z | x): его отклонение от loc — в "
              "среднем {spread:.2f} scale, а должно быть 1 scale. (Среднее нескольких сэмплов "
              "— не сэмпл.)", spread=spread))
    require(abs(np.nanmean(eps ** 4) - 3) < 70 / np.sqrt(eps.size),
            _("на вход декодировщика подаётся не сэмпл из q(z | x): его распределение "
              "не нормальное."))
    products = [eps[1:] * eps[:-1], eps[:, 1:] * eps[:, :-1], eps[:, :, 1:] * eps[:, :, :-1]]
    require(all(abs(np.nanmean(product)) < 6 / np.sqrt(product.size)
                for product in products if product.size > 100)
            and (eps.size <= 100
                 or (np.abs(autocorrelations(np.nan_to_num(eps))) < 8 / np.sqrt(eps.size)).all()),
            _("сэмплы кода зависят друг от друга: у каждого объекта, у каждой координаты и при "
              "каждом вычислении шум должен быть свой."))


def autocorrelations(noise):
    """Return the correlations of the numbers of each draw at all distances, averaged over draws.

    Parameters
    ----------
    noise : numpy.ndarray, shape (draws, n, dim)
        Numbers of mean 0 and variance 1.

    Returns
    -------
    numpy.ndarray, shape (n * dim - 1,)
        The numbers of a draw are taken row by row, and its end is followed by its start.
    """
    size = noise[0].size
    powers = np.mean(np.abs(np.fft.rfft(noise.reshape(-1, size))) ** 2, axis=0)
    return np.fft.irfft(powers, size)[1:] / size


def require_of_the_images(name, values):
    """Require that a parameter of q(z | x) differs between images.

    Parameters
    ----------
    name : str
        ``loc`` or ``scale``.
    values : numpy.ndarray, shape (n, batch, dim)
        Values with n sets of random weights.

    Raises
    ------
    Mistake
    """
    require(values.shape[1] == 1 or np.ptp(values, axis=1).max() > 1e-4 * np.abs(values).max(),
            _("{name} у qz_x при любых весах одинаково для всех изображений, а q(z | x) должно "
              "зависеть от x: это выходы кодировщика.", name=name))


def require_own_layers(through_loc, loc, scale):
    """Require that the standard deviations are not computed from the means.

    Parameters
    ----------
    through_loc : bool
        Whether the standard deviations depend on the images only through the means.
    loc, scale : numpy.ndarray, shape (n, batch, dim)
        Values with n sets of random weights.

    Raises
    ------
    Mistake
    """
    require(not through_loc and not _is_function_of(scale, loc),
            _("стандартное отклонение вычисляется из среднего, а не из x: двум изображениям с одним "
              "средним досталось бы одно отклонение. Среднему и отклонению нужно по своему слою, "
              "скрытые слои у них могут быть общими."))


def _is_function_of(values, arguments):
    """Return whether values are a smooth function of arguments, the same for any weights.

    In the order of the arguments, the ranks of neighbouring values then differ little. Only
    neighbours of other weights or coordinates count: with the same weights, both may be functions
    of one hidden unit, or almost equal for all images.

    Parameters
    ----------
    values, arguments : numpy.ndarray, shape (n, batch, dim)
    """
    n, batch, dim = values.shape
    order = np.argsort(arguments, axis=None)
    at_random = np.random.RandomState(0).permutation(values.size)  # ranks of equal values
    ranks = np.argsort(np.lexsort((at_random, values.ravel()[order])))
    origins = np.broadcast_to(np.arange(n * dim).reshape(n, 1, dim), values.shape).ravel()[order]
    differences = np.abs(np.diff(ranks))[origins[1:] != origins[:-1]]
    return differences.size >= 10 and np.median(differences) < 0.03 * ranks.size


def require_positive(scale, loc):
    """Require that the standard deviations of q(z | x) are positive.

    Parameters
    ----------
    scale, loc : numpy.ndarray
        Parameters of q(z | x), of the same shape.

    Raises
    ------
    Mistake
    """
    is_positive = (scale > 0).all()
    require(is_positive or not (loc > 0).all(),
            _("scale у qz_x бывает нулём или отрицательным, а loc всегда положительно: не "
              "перепутаны ли encoder_mean и encoder_scale?"))
    require(is_positive,
            _("scale у qz_x бывает нулём или отрицательным (встретилось {minimum:.3g}), а "
              "стандартное отклонение должно быть строго положительным. Его даёт l_out_scale из "
              "упражнения 2: исправьте там функцию активации и выполните ячейки упражнений 3, 4 "
              "и 5 ещё раз.", minimum=np.min(scale)))


def _noise_in_better_order(code, loc, scale):
    """Return the noise in a code, for the order of samples that makes its variance closer to 1."""
    locs, scales = (both_orders(values, code.shape[1], axis=1) for values in (loc, scale))
    per_image, tiled = (_noise(code, *parameters) for parameters in zip(locs, scales))
    if _error_of_variance(tiled) < _error_of_variance(per_image):
        return tiled
    return per_image


def _error_of_variance(eps):
    return abs(np.nanmean(eps ** 2) - 1)


def _noise(code, loc, scale):
    """Return the noise in a code; nan where the rounding of ``loc + scale * eps`` has lost it."""
    with np.errstate(all="ignore"):
        return np.where(scale > 1e-4 * (1 + np.abs(loc)), (code - loc) / scale, np.nan)


def both_orders(values, n, axis):
    """Repeat a batch for K samples of each element, in both orders of the samples.

    Parameters
    ----------
    values : numpy.ndarray
    n : int
        The number of samples, K times the size of the batch.
    axis : int
        The axis of the batch.

    Returns
    -------
    per_image, tiled : numpy.ndarray
        In `per_image`, the samples of an element are next to each other. In `tiled`, the whole
        batch is repeated K times. The length of `axis` is n.
    """
    k = n // values.shape[axis]
    repetitions = [1] * values.ndim
    repetitions[axis] = k
    return np.repeat(values, k, axis), np.tile(values, repetitions)
