"""Variational autoencoder for binary images, in Theano and Lasagne.

Import this package before Theano. It first imports `theano_compat`, with which Theano 1.0.5 and
Lasagne 0.1 run on today's Python.
"""
# ruff: noqa: E402  the imports below the call import Theano

import theano_compat  # noqa: F401  must come before everything that imports Theano
from vae.kernel import say_later_that_there_is_no_compiler, warn_if_utils_is_hidden

say_later_that_there_is_no_compiler()

from vae.distributions import BinaryVector, MultivariateNormalDiag
from vae.language import use_language
from vae.networks import HIDDEN_DIM, vae_decoder_mlp, vae_encoder_mlp
from vae.source import show_source

__all__ = ["BinaryVector", "MultivariateNormalDiag", "HIDDEN_DIM", "vae_encoder_mlp",
           "vae_decoder_mlp", "show_source", "use_language"]

warn_if_utils_is_hidden()
