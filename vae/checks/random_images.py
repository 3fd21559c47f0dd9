"""Random binary images on which checks evaluate the graphs of exercises."""


def binary_images(random, n):
    """Return images whose pixels are 1 with probability 0.3: bool, shape (n, 1, 28, 28)."""
    return random.uniform(size=(n, 1, 28, 28)) < 0.3


def draw_images(random, images, hidden_dim):
    """Return the inputs of the exercises `encoder` and `posterior`.

    Parameters
    ----------
    random : numpy.random.RandomState
    images : numpy.ndarray or None
        Not used.
    hidden_dim : int

    Returns
    -------
    dict
        ``x``: random binary images, bool, shape (50, 1, 28, 28).
        ``seed``: int, seed of the random weights.
        ``hidden_dim``: int.
    """
    return dict(x=binary_images(random, 50), seed=random.randint(2 ** 31 - 1),
                hidden_dim=hidden_dim)
