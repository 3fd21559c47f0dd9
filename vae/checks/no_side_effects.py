"""What a check uses is afterwards as it was: it changes no later number of the notebook."""

from contextlib import contextmanager

import lasagne
import numpy as np
import theano

__all__ = ["same_random_numbers_afterwards", "same_shared_variables_afterwards",
           "shared_variables_of"]


@contextmanager
def same_random_numbers_afterwards():
    """Give NumPy's global generator, and Lasagne's, their states back."""
    states = [(generator, generator.get_state())
              for generator in (np.random, lasagne.random.get_rng())]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


@contextmanager
def same_shared_variables_afterwards(graph):
    """Give a graph's shared variables, weights and random streams, their values back.

    Parameters
    ----------
    graph : dict
        What an exercise's ``build`` returns.
    """
    values = [(shared, shared.get_value()) for shared in shared_variables_of(graph)]
    try:
        yield
    finally:
        for shared, value in values:
            shared.set_value(value)


def shared_variables_of(graph):
    """Return the shared variables on which the Theano variables of an exercise's graph depend.

    Parameters
    ----------
    graph : dict
        What an exercise's ``build`` returns.

    Returns
    -------
    list of theano.compile.SharedVariable
    """
    return [variable for variable in theano.gof.graph.inputs(_variables_in(graph))
            if isinstance(variable, theano.compile.SharedVariable)]


def _variables_in(value):
    """Return the Theano variables in a value of an exercise's graph."""
    if isinstance(value, theano.Variable):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [variable for part in value for variable in _variables_in(part)]
