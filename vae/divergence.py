"""Stop when training has diverged."""

import math

import numpy as np

from vae.checks.exercise import Mistake
from vae.language import _

__all__ = ["Diverged", "check_finite", "stop_if_diverged"]


class Diverged(Mistake, ValueError):
    """Training cannot go on. Jupyter shows this without a traceback."""


def stop_if_diverged(elbo):
    """Raise an error if the ELBO is NaN or infinite.

    Parameters
    ----------
    elbo : float
        Of a batch, or a sum or a mean of several.

    Raises
    ------
    ValueError
        The message names usual causes, and the cells to run again.
    """
    if not math.isfinite(elbo):  # quicker than NumPy's function
        check_finite("ELBO", elbo)


def check_finite(name, values):
    """Raise `Diverged` if some value is NaN or infinite.

    Parameters
    ----------
    name : str
        Of the values, for the message.
    values : float or numpy.ndarray
    """
    if not np.isfinite(values).all():
        raise Diverged(_(
            "✗ Обучение разошлось: среди значений {name} есть nan или бесконечность.\n"
            "Обычные причины: слишком большой шаг обучения в updates; scale без функции активации "
            "с положительными значениями; логарифм или деление, в которых может оказаться ноль.\n"
            "Веса испорчены. Исправьте причину и выполните ячейки заново, начиная с упражнения 3.",
            name=name))
