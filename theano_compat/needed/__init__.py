"""Patches without which Theano cannot be imported, compile or give right results today."""
