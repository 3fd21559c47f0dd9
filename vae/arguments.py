"""Check the arguments of the seminar's functions."""

import numbers

import numpy as np

from vae.divergence import check_finite

__all__ = ["check_array", "check_count", "check_images"]


def check_count(name, value, maximum=np.inf):
    """Raise ValueError unless a value is an integer from 1 to `maximum`."""
    if not isinstance(value, numbers.Integral) or not 1 <= value <= maximum:
        raise ValueError(f"Got {name}={value!r}, expected an integer from 1 to {maximum}")


def check_array(name, values, shape):
    """Raise ValueError unless values have this shape, `Diverged` unless all are finite."""
    if np.shape(values) != shape:
        raise ValueError(f"Got {name} of shape {np.shape(values)}, expected {shape}")
    check_finite(name, values)


def check_images(name, images, n_images):
    """Raise ValueError unless images have the shape ``(n_images, 1, 28, 28)``, n_images > 0."""
    check_count(f"number of images in {name}", n_images)
    check_array(name, images, (n_images, 1, 28, 28))
