"""Variational autoencoder for binary images, in Theano and Lasagne.

Import it before Theano: its first import lets Theano 1.0.5 and Lasagne 0.1 run on today's Python.
"""

import theano_compat  # noqa: F401  has to come first
from vae.kernel import warn_if_utils_is_hidden
from vae.language import use_language
from vae.distributions import BinaryVector, MultivariateNormalDiag
from vae.networks import HIDDEN_DIM, vae_decoder_mlp, vae_encoder_mlp
from vae.source import show_source

__all__ = ["BinaryVector", "MultivariateNormalDiag", "HIDDEN_DIM", "vae_encoder_mlp",
           "vae_decoder_mlp", "show_source", "use_language"]

warn_if_utils_is_hidden()
