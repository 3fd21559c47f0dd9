"""JAX: one compiled function is the whole training step, including the optimiser from optax."""

import functools

import jax
import jax.numpy as jnp
import optax

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform, lstm_weights


class _Model:
    """A function that returns the value of a minibatch, and an optimiser of its weights.

    Each step returns the new state of the training. A subclass defines ``_value(weights, key,
    training, *batch)`` and ``_initial_weights(seed)``.
    """

    #: Whether a step makes the value larger.
    maximises = False

    def __init__(self, width, optimizer):
        self._width = width
        self._optimizer = optimizer
        self.restart(0)

    def restart(self, seed):
        weights = [jnp.asarray(value) for value in self._initial_weights(seed)]
        self._state = weights, self._optimizer.init(weights), jax.random.key(seed)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def _train(self, state, *batch):
        weights, moments, key = state
        key, key_of_step = jax.random.split(key)
        sign = -1 if self.maximises else 1
        loss, gradients = jax.value_and_grad(
            lambda weights: sign * self._value(weights, key_of_step, True, *batch))(weights)
        updates, moments = self._optimizer.update(gradients, moments)
        return (optax.apply_updates(weights, updates), moments, key), sign * loss

    @functools.partial(jax.jit, static_argnums=0)
    def _test(self, state, *batch):
        weights, moments, key = state
        key, key_of_step = jax.random.split(key)
        return (weights, moments, key), self._value(weights, key_of_step, False, *batch)

    def train(self, *batch):
        self._state, value = self._train(self._state, *batch)
        return value

    def test(self, *batch):
        self._state, value = self._test(self._state, *batch)
        return value

    def finish(self):
        jax.block_until_ready(self._state)


def _dense(x, matrix, biases):
    return x @ matrix + biases


def _shapes(*layers):
    """Return the shapes of the matrices and biases of dense layers, given as (inputs, outputs)."""
    return [shape for n_in, n_out in layers for shape in ((n_in, n_out), (n_out,))]


class VAE(_Model):
    """The seminar's model."""

    maximises = True

    def __init__(self, width):
        super().__init__(width, optax.adam(LEARNING_RATE))

    def _initial_weights(self, seed):
        width = self._width
        return glorot_uniform(_shapes(
            (N_PIXELS, width), (width, width // 2), (width // 2, CODE_DIM), (width // 2, CODE_DIM),
            (CODE_DIM, width // 2), (width // 2, width), (width, N_PIXELS)), seed)

    def _value(self, weights, key, training, images):
        layers = list(zip(weights[::2], weights[1::2]))
        images = images.reshape(len(images), -1).astype(jnp.float32)
        features = images
        for layer in layers[:2]:
            features = jax.nn.relu(_dense(features, *layer))
        loc, scale = _dense(features, *layers[2]), jax.nn.softplus(_dense(features, *layers[3]))
        eps = jax.random.normal(key, loc.shape)
        z = loc + scale * eps
        features = z
        for layer in layers[4:6]:
            features = jax.nn.relu(_dense(features, *layer))
        logits = _dense(features, *layers[6])
        log_px_z = -optax.sigmoid_binary_cross_entropy(logits, images).sum()
        # The normalising constants of p(z) and q(z | x) cancel, and (z - loc) / scale is eps.
        log_pz_over_qz_x = jnp.sum(jnp.log(scale) + (eps ** 2 - z ** 2) / 2)
        return (log_px_z + log_pz_over_qz_x) / len(images)


def _dropout(x, dropped, key, training):
    if not training:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - dropped, x.shape), x / (1 - dropped), 0)


def _cross_entropy(logits, digits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


class _Classifier(_Model):
    """A network that is trained with Nesterov momentum."""

    classifies = True

    def __init__(self, width):
        super().__init__(width, optax.sgd(0.01, momentum=0.9, nesterov=True))


class MLP(_Classifier):
    """The MLP of `on_theano`."""

    def _initial_weights(self, seed):
        return glorot_uniform(_shapes((N_PIXELS, self._width), (self._width, self._width),
                                      (self._width, 10)), seed)

    def _value(self, weights, key, training, images, digits):
        keys = jax.random.split(key, 3)
        features = _dropout(images.reshape(len(images), -1), 0.2, keys[0], training)
        for number in range(2):
            features = jax.nn.relu(_dense(features, *weights[2 * number:2 * number + 2]))
            features = _dropout(features, 0.5, keys[number + 1], training)
        return _cross_entropy(_dense(features, *weights[4:]), digits)


class CNN(_Classifier):
    """The CNN of `on_theano`."""

    def _initial_weights(self, seed):
        weights = glorot_uniform(
            [(32, 1, 5, 5), (32,), (32, 32, 5, 5), (32,),
             *_shapes((32 * 4 * 4, self._width), (self._width, 10))], seed)
        # Lasagne's layers flip the filters, and JAX does not.
        return [value[:, :, ::-1, ::-1] if value.ndim == 4 else value for value in weights]

    def _value(self, weights, key, training, images, digits):
        keys = jax.random.split(key, 2)
        # Channels last, and pooling without `reduce_window`: three quarters of the time otherwise.
        features = images.reshape(-1, 28, 28, 1)
        for filters, biases in (weights[:2], weights[2:4]):
            features = jax.nn.relu(biases + jax.lax.conv_general_dilated(
                features, filters, (1, 1), "VALID", dimension_numbers=("NHWC", "OIHW", "NHWC")))
            n, height, width, channels = features.shape
            features = features.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
        features = features.transpose(0, 3, 1, 2).reshape(n, -1)
        features = _dropout(features, 0.5, keys[0], training)
        features = _dropout(jax.nn.relu(_dense(features, *weights[4:6])), 0.5, keys[1], training)
        return _cross_entropy(_dense(features, *weights[6:]), digits)


class LSTM(_Model):
    """The LSTM of `on_theano`."""

    classifies = True

    def __init__(self, width):
        super().__init__(width, optax.adam(LEARNING_RATE))

    def _initial_weights(self, seed):
        return lstm_weights(self._width, seed)

    def _value(self, weights, key, training, images, digits):
        w_in, w_hid, biases, *output = weights

        def step(state, gates):
            cell, hidden = state
            gates = jnp.split(gates + hidden @ w_hid, 4, axis=1)
            ingate, forgetgate, outgate = (jax.nn.sigmoid(gates[number]) for number in (0, 1, 3))
            cell = forgetgate * cell + ingate * jnp.tanh(gates[2])
            return (cell, outgate * jnp.tanh(cell)), None

        rows = jnp.swapaxes(images[:, 0], 0, 1)
        start = jnp.zeros((len(images), self._width))
        (_, hidden), _ = jax.lax.scan(step, (start, start), _dense(rows, w_in, biases))
        return _cross_entropy(_dense(hidden, *output), digits)
