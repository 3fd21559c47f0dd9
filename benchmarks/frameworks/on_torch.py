"""PyTorch: in eager mode, and compiled by ``torch.compile``."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from frameworks import CODE_DIM, LEARNING_RATE, N_PIXELS, glorot_uniform


class _Network(nn.Module):
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


class VAE:
    """The seminar's model. Its fused Adam updates all parameters in one kernel."""

    def __init__(self, width, compiled=False):
        torch.manual_seed(0)
        self._network = _Network(width)
        self._elbo = torch.compile(self._network) if compiled else self._network
        self.restart(0)

    def restart(self, seed):
        parameters = list(self._network.parameters())  # matrices are (out, in) here
        weights = glorot_uniform([tuple(parameter.shape[::-1]) for parameter in parameters], seed)
        with torch.no_grad():
            for parameter, value in zip(parameters, weights):
                parameter.copy_(torch.from_numpy(value.T))
        self._optimizer = torch.optim.Adam(parameters, LEARNING_RATE, maximize=True, fused=True)

    def train(self, images):
        self._optimizer.zero_grad()
        elbo = self._elbo(torch.from_numpy(images))
        elbo.backward()
        self._optimizer.step()
        return elbo.detach()

    def test(self, images):
        with torch.no_grad():
            return self._elbo(torch.from_numpy(images))

    def finish(self):
        """Do nothing: on a CPU, PyTorch's operations return when they are done."""


class CompiledVAE(VAE):
    """The seminar's model, with a compiled forward pass and a compiled backward pass."""

    def __init__(self, width):
        super().__init__(width, compiled=True)
