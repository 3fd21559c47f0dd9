"""JAX: one compiled function is the whole training step, including Adam from optax."""

import functools

import jax
import jax.numpy as jnp
import optax

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform


def _shapes(width):
    """Return the shapes of the matrices and biases of all layers, in the order of `_elbo`."""
    layers = [(N_PIXELS, width), (width, width // 2),
              (width // 2, CODE_DIM), (width // 2, CODE_DIM),
              (CODE_DIM, width // 2), (width // 2, width), (width, N_PIXELS)]
    return [shape for n_in, n_out in layers for shape in ((n_in, n_out), (n_out,))]


def _elbo(weights, images, key):
    layers = list(zip(weights[::2], weights[1::2]))

    def dense(x, layer):
        matrix, biases = layer
        return x @ matrix + biases

    images = images.reshape(len(images), -1).astype(jnp.float32)
    features = images
    for layer in layers[:2]:
        features = jax.nn.relu(dense(features, layer))
    loc, scale = dense(features, layers[2]), jax.nn.softplus(dense(features, layers[3]))
    eps = jax.random.normal(key, loc.shape)
    z = loc + scale * eps
    features = z
    for layer in layers[4:6]:
        features = jax.nn.relu(dense(features, layer))
    logits = dense(features, layers[6])
    log_px_z = -optax.sigmoid_binary_cross_entropy(logits, images).sum()
    # The normalising constants of p(z) and q(z | x) cancel, and (z - loc) / scale is eps.
    log_pz_over_qz_x = jnp.sum(jnp.log(scale) + (eps ** 2 - z ** 2) / 2)
    return (log_px_z + log_pz_over_qz_x) / len(images)


class VAE:
    """The seminar's model; each step returns the new state of the training."""

    def __init__(self, width):
        self._width = width
        self._adam = optax.adam(LEARNING_RATE)
        self.restart(0)

    def restart(self, seed):
        weights = [jnp.asarray(value) for value in glorot_uniform(_shapes(self._width), seed)]
        self._state = weights, self._adam.init(weights), jax.random.key(seed)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _train(self, state, images):
        weights, moments, key = state
        key, key_of_step = jax.random.split(key)
        loss, gradients = jax.value_and_grad(lambda *args: -_elbo(*args))(
            weights, images, key_of_step)
        updates, moments = self._adam.update(gradients, moments)
        return (optax.apply_updates(weights, updates), moments, key), -loss

    @functools.partial(jax.jit, static_argnums=0)
    def _test(self, state, images):
        weights, moments, key = state
        key, key_of_step = jax.random.split(key)
        return (weights, moments, key), _elbo(weights, images, key_of_step)

    def train(self, images):
        self._state, elbo = self._train(self._state, images)
        return elbo

    def test(self, images):
        self._state, elbo = self._test(self._state, images)
        return elbo

    def finish(self):
        jax.block_until_ready(self._state)
