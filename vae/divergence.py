"""Errors that stop a training which has diverged."""

import math

import numpy as np

from vae.checks.exercise import Mistake
from vae.language import _

__all__ = ["Diverged", "check_finite", "stop_if_diverged"]


class Diverged(Mistake, ValueError):
    """Training has diverged and cannot continue. Jupyter shows this error without a traceback."""


def stop_if_diverged(elbo):
    """Raise an error if the ELBO is NaN or infinite.

    Parameters
    ----------
    elbo : float
        The ELBO of a batch, or the sum or mean over several batches, in nats.

    Raises
    ------
    Diverged
        If it is NaN or infinite. The message names common causes, and the cells to run again.
    """
    if not math.isfinite(elbo):  # faster than NumPy's function
        check_finite("ELBO", elbo)


def check_finite(name, values):
    """Require that all values are finite.

    Parameters
    ----------
    name : str
        Name of the values, for the message.
    values : float or numpy.ndarray

    Raises
    ------
    Diverged
        If a value is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise Diverged(_(
            "✗ Обучение разошлось: среди значений {name} есть nan или бесконечность.\n"
            "Обычные причины: слишком большой шаг обучения в updates; scale без функции активации "
            "с положительными значениями; логарифм или деление, в которых может оказаться ноль.\n"
            "Веса испорчены. Исправьте причину и выполните ячейки заново, начиная с упражнения 3.",
            name=name))
