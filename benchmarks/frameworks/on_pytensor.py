"""PyTensor, the maintained fork of Theano, with its default compiler, Numba."""

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.random.utils import RandomStream

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform

pytensor.config.floatX = "float32"


class VAE:
    """The seminar's model."""

    def __init__(self, width):
        sizes = [(N_PIXELS, width), (width, width // 2), (width // 2, CODE_DIM),
                 (width // 2, CODE_DIM), (CODE_DIM, width // 2), (width // 2, width),
                 (width, N_PIXELS)]
        self._parameters = [pytensor.shared(np.zeros(shape, "float32"))
                            for size in sizes for shape in (size, size[1:])]
        weights, biases = self._parameters[::2], self._parameters[1::2]

        def dense(number, x):
            return pt.dot(x, weights[number]) + biases[number]

        images = pt.tensor4("images", dtype="bool")
        x = images.reshape((-1, N_PIXELS)).astype("float32")
        features = pt.maximum(dense(1, pt.maximum(dense(0, x), 0)), 0)
        loc, scale = dense(2, features), pt.softplus(dense(3, features))
        eps = RandomStream(0).normal(size=loc.shape, dtype="float32")
        z = loc + scale * eps
        logits = dense(6, pt.maximum(dense(5, pt.maximum(dense(4, z), 0)), 0))
        log_px_z = pt.sum(x * logits - pt.softplus(logits))
        # The normalising constants of p(z) and q(z | x) cancel, and (z - loc) / scale is eps.
        log_pz_over_qz_x = pt.sum(pt.log(scale) + (eps ** 2 - z ** 2) / 2)
        self._elbo = (log_px_z + log_pz_over_qz_x) / x.shape[0]
        self._images = images

        updates = self._adam(pt.grad(-self._elbo, self._parameters))
        self._moments = [shared for shared in updates if shared not in self._parameters]
        self.restart(0)
        self.train = pytensor.function([images], self._elbo, updates=updates)
        self._test = None

    def _adam(self, gradients, decay=0.9, square_decay=0.999, epsilon=1e-8):
        time = pytensor.shared(np.float32(0))
        updates = {time: time + np.float32(1)}
        rate = LEARNING_RATE * pt.sqrt(1 - square_decay ** updates[time]) / (
            1 - decay ** updates[time])
        for parameter, gradient in zip(self._parameters, gradients):
            moment, square = (pytensor.shared(np.zeros_like(parameter.get_value()))
                              for _ in range(2))
            updates[moment] = decay * moment + (1 - decay) * gradient
            updates[square] = square_decay * square + (1 - square_decay) * gradient ** 2
            updates[parameter] = parameter - rate * updates[moment] / (
                pt.sqrt(updates[square]) + epsilon)
        return {shared: new.astype("float32") for shared, new in updates.items()}

    def restart(self, seed):
        shapes = [parameter.get_value().shape for parameter in self._parameters]
        for parameter, value in zip(self._parameters, glorot_uniform(shapes, seed)):
            parameter.set_value(value.astype("float32"))
        for moment in self._moments:
            moment.set_value(np.zeros_like(moment.get_value()))

    def test(self, images):
        if self._test is None:
            self._test = pytensor.function([self._images], self._elbo)
        return self._test(images)

    def finish(self):
        """Do nothing: PyTensor's functions return when they are done."""
