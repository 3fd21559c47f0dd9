"""Random binary images on which exercises are tried."""


def binary_images(random, n):
    return random.uniform(size=(n, 1, 28, 28)) < 0.3


def draw_images(random, images, hidden_dim):
    """Draw what exercises 2 and 3 are tried on."""
    return dict(x=binary_images(random, 50), seed=random.randint(2 ** 31 - 1),
                hidden_dim=hidden_dim)
