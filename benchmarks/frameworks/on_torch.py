"""PyTorch: the seminar's model in eager mode and compiled by ``torch.compile``; other networks."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform, lstm_weights


class _Autoencoder(nn.Module):
    """Encoder and decoder. A call returns the ELBO of a minibatch, in nats."""

    def __init__(self, width):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(N_PIXELS, width), nn.ReLU(),
            nn.Linear(width, width // 2), nn.ReLU())
        self.loc = nn.Linear(width // 2, CODE_DIM)
        self.scale = nn.Linear(width // 2, CODE_DIM)
        self.decoder = nn.Sequential(
            nn.Linear(CODE_DIM, width // 2), nn.ReLU(),
            nn.Linear(width // 2, width), nn.ReLU(),
            nn.Linear(width, N_PIXELS))

    def forward(self, images):
        images = images.float()
        features = self.encoder(images)
        loc, scale = self.loc(features), softplus(self.scale(features))
        eps = torch.randn_like(loc)
        z = loc + scale * eps
        log_px_z = -binary_cross_entropy_with_logits(
            self.decoder(z), images.flatten(1), reduction="sum")
        # The normalising constants of p(z) and q(z | x) cancel, and (z - loc) / scale is eps.
        log_pz_over_qz_x = (scale.log() + (eps ** 2 - z ** 2) / 2).sum()
        return (log_px_z + log_pz_over_qz_x) / len(images)


class _Model:
    """A module that returns a value for each minibatch, and an optimiser of its parameters.

    The fused optimisers update all parameters in one kernel.
    """

    def __init__(self, network, compiled=False):
        torch.manual_seed(0)
        self._network = network
        self._value = torch.compile(network) if compiled else network
        self._parameters = [parameter for parameter in network.parameters()
                            if parameter.requires_grad]
        self.restart(0)

    def restart(self, seed):
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._initial_weights(seed)):
                parameter.copy_(torch.from_numpy(value))
        self._optimizer = self._new_optimizer()

    def _initial_weights(self, seed):
        """Draw the weights of all contestants. Matrices are (out, in) here, and not flipped."""
        shapes = [tuple(parameter.shape) for parameter in self._parameters]
        weights = glorot_uniform([shape[::-1] if len(shape) == 2 else shape for shape in shapes],
                                 seed)
        return [np.flip(value, (2, 3)).copy() if value.ndim == 4 else value.T for value in weights]

    def train(self, *batch):
        self._optimizer.zero_grad()
        value = self._value(*map(torch.from_numpy, batch))
        value.backward()
        self._optimizer.step()
        return value.detach()

    def test(self, *batch):
        self._network.eval()
        with torch.no_grad():
            value = self._value(*map(torch.from_numpy, batch))
        self._network.train()
        return value

    def finish(self):
        """Do nothing: on a CPU, PyTorch's operations return when they are done."""


class VAE(_Model):
    """The seminar's model."""

    def __init__(self, width, compiled=False):
        super().__init__(_Autoencoder(width), compiled)

    def _new_optimizer(self):
        return torch.optim.Adam(self._parameters, LEARNING_RATE, maximize=True, fused=True)


class CompiledVAE(VAE):
    """The seminar's model, with a compiled forward pass and a compiled backward pass."""

    def __init__(self, width):
        super().__init__(width, compiled=True)


class _CrossEntropy(nn.Module):
    """The cross-entropy of a network's ten outputs, in nats, as in `on_theano`."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images, digits):
        return cross_entropy(self.layers(images), digits.long())


class _Classifier(_Model):
    """A network that is trained with Nesterov momentum."""

    classifies = True

    def _new_optimizer(self):
        return torch.optim.SGD(self._parameters, 0.01, momentum=0.9, nesterov=True, fused=True)


class MLP(_Classifier):
    """The MLP of `on_theano`."""

    def __init__(self, width):
        super().__init__(_CrossEntropy(
            nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(N_PIXELS, width), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(width, 10)))


class CNN(_Classifier):
    """The CNN of `on_theano`."""

    def __init__(self, width):
        super().__init__(_CrossEntropy(
            nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5), nn.Linear(32 * 4 * 4, width), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(width, 10),
        ).to(memory_format=torch.channels_last))  # three quarters of the time otherwise


class _LastState(nn.Module):
    """`nn.LSTM` over the rows of images. A call returns the last output.

    It has two biases, which are added. One remains 0, because Lasagne has only one.
    """

    def __init__(self, width):
        super().__init__()
        self.lstm = nn.LSTM(28, width, batch_first=True)
        with torch.no_grad():
            self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_hh_l0.requires_grad = False

    def forward(self, images):
        return self.lstm(images.squeeze(1))[0][:, -1]


class LSTM(_Model):
    """The LSTM of `on_theano`."""

    classifies = True

    def __init__(self, width):
        self._width = width
        super().__init__(_CrossEntropy(_LastState(width), nn.Linear(width, 10)))

    def _initial_weights(self, seed):
        return [value.T for value in lstm_weights(self._width, seed)]

    def _new_optimizer(self):
        return torch.optim.Adam(self._parameters, LEARNING_RATE, fused=True)
