"""The program ``theano-cache``, which shows, cleans and deletes the cache of compiled code."""

import theano_compat  # noqa: F401  must come before Theano

from bin.theano_cache import main  # part of Theano's distribution

__all__ = ["main"]
