"""The program ``theano-cache``, which shows, cleans and deletes the cache of compiled code."""

import theano_compat  # noqa: F401  before Theano

from bin.theano_cache import main  # of Theano's distribution

__all__ = ["main"]
