"""Images decoded from a grid of two-dimensional codes."""

import numpy as np
from scipy.special import ndtri

from vae.arguments import check_images
from vae.language import _

__all__ = ["decoded_grid", "print_needs_a_plane"]

#: If a decoder rejects two-dimensional codes, dimensions from 1 to this one are tried.
_MAX_DIMENSION = 256


def decoded_grid(decode, n):
    """Decode a grid of codes whose coordinates are quantiles of the standard normal distribution.

    Parameters
    ----------
    decode : callable
        Maps codes, ``(m, 2)`` float32, to the probabilities of pixels, ``(m, 1, 28, 28)``.
    n : int
        Number of codes along each axis.

    Returns
    -------
    z : numpy.ndarray
        The quantiles, ``(n,)``.
    images : numpy.ndarray
        ``(n * n, 1, 28, 28)``, in rows. The first row has the largest second coordinate.

    If the codes do not have two dimensions, a line that says so is printed, and the result is None.

    Raises
    ------
    ValueError
        If `decode` raises it for codes of all dimensions, or returns something other than images.
    """
    z = ndtri((np.arange(n) + 0.5) / n)
    z_1, z_2 = np.meshgrid(z, z[::-1])  # the top row has the largest z_2
    try:
        images = decode(np.column_stack([z_1.ravel(), z_2.ravel()]).astype(np.float32))
    except ValueError:
        dimension = _dimension_of_codes(decode)
        if dimension is None:
            raise
        print_needs_a_plane(dimension)
        return None
    check_images("decode(z)", images, n * n)
    return z, images


def print_needs_a_plane(dimension):
    """Say that a picture needs codes of two dimensions, and how many dimensions they have."""
    print(_("Этот рисунок возможен только при HIDDEN_DIM = 2, а здесь HIDDEN_DIM = {dimension}.",
            dimension=dimension))


def _dimension_of_codes(decode):
    """Return the smallest dimension of codes that a decoder accepts, or None if it accepts none."""
    for dimension in range(1, _MAX_DIMENSION + 1):
        try:
            decode(np.zeros((1, dimension), np.float32))
        except ValueError:
            continue
        return dimension
    return None
