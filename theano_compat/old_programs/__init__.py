"""Runs programs of Theano's time in the environment that they expect."""
