"""Checks of arguments, for the seminar's functions."""

import numbers

import numpy as np

from vae.divergence import check_finite

__all__ = ["check_array", "check_count", "check_images"]


def check_count(name, value, maximum=np.inf):
    """Require that a value is an integer from 1 to `maximum`.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
    maximum : int or float
        May be infinite.

    Raises
    ------
    ValueError
    """
    if not isinstance(value, numbers.Integral) or not 1 <= value <= maximum:
        raise ValueError(f"Got {name}={value!r}, expected an integer from 1 to {maximum}")


def check_array(name, values, shape):
    """Require that an array has a shape, and that all its values are finite.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    values : array_like
    shape : tuple of int

    Raises
    ------
    ValueError
        If the shape differs.
    vae.divergence.Diverged
        If a value is NaN or infinite.
    """
    if np.shape(values) != shape:
        raise ValueError(f"Got {name} of shape {np.shape(values)}, expected {shape}")
    check_finite(name, values)


def check_images(name, images, n_images):
    """Require images of the shape ``(n_images, 1, 28, 28)`` with finite values, at least one image.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    images : array_like
    n_images : int
        The number of images that is expected.

    Raises
    ------
    ValueError
        If the shape differs, or if `n_images` is 0.
    vae.divergence.Diverged
        If a value is NaN or infinite.
    """
    check_count(f"number of images in {name}", n_images)
    check_array(name, images, (n_images, 1, 28, 28))
