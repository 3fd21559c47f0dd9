"""Theano graphs: evaluation, shared variables, random weights, and what a check puts back."""

from contextlib import contextmanager

import lasagne
import numpy as np
import theano
import theano.tensor as T

from theano_compat.without_compiler.expressions import DelayedInterrupts
from vae.checks.numpy_functions import function


def is_tensor(value, ndim):
    """Return whether a value is a symbolic tensor with this number of dimensions."""
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def compiled(inputs, outputs):
    """Return a function of arrays that evaluates outputs; `numpy_functions.function` makes it.

    Parameters
    ----------
    inputs : list of Theano variables
        Outputs need not depend on all of them.
    outputs : Theano variable, or list of them

    Returns
    -------
    callable
        It casts each array to the dtype of its input.
    """
    evaluate = function(inputs, outputs)
    return lambda *values: evaluate(*(np.asarray(value, dtype=variable.dtype)
                                      for variable, value in zip(inputs, values)))


def variables_in(value):
    """Return the Theano variables in what an exercise's ``build`` returns, or in a part of it."""
    if isinstance(value, theano.Variable):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [variable for part in value for variable in variables_in(part)]


def shared_variables_of(outputs):
    """Return the shared variables on which some variables depend: weights and random streams."""
    return [variable for variable in theano.gof.graph.inputs(outputs)
            if isinstance(variable, theano.compile.SharedVariable)]


def parameters_of(outputs):
    """Return the networks' parameters on which some variables depend: shared float tensors."""
    return [variable for variable in shared_variables_of(outputs)
            if isinstance(variable.type, T.TensorType) and variable.dtype.startswith("float")]


def nodes_of(output):
    """Return the operations from which a variable is computed, as nodes of its graph."""
    return theano.gof.graph.io_toposort(theano.gof.graph.inputs([output]), [output])


def replaced(output, variable, value):
    """Return a variable's graph with another matrix in place of one that it is computed from.

    Parameters
    ----------
    output, variable, value : Theano variables
        `value` becomes a matrix of the type of `variable`.
    """
    value = T.patternbroadcast(T.cast(value, variable.dtype), variable.broadcastable)
    return theano.clone(output, {variable: value})


def in_both_orders(variable, k):
    """Return a batch repeated for K samples of each element, in both orders of the samples.

    These are the orders of `vae.checks.latent_code.both_orders`. If K is 1, there is only one.

    Parameters
    ----------
    variable : Theano variable
        Its first axis is that of the batch.
    k : int

    Returns
    -------
    list of Theano variables
    """
    if k == 1:
        return [variable]
    return [T.repeat(variable, k, axis=0), T.tile(variable, [k] + [1] * (variable.ndim - 1))]


def reparameterised(code, loc, scale):
    """Return a code as loc + scale * eps, where eps has no gradient."""
    return loc + scale * theano.gradient.disconnected_grad((code - loc) / scale)


def is_random_stream(shared):
    """Return whether a shared variable is the state of a random stream, which loops update."""
    return not getattr(shared, "dtype", "").startswith("float")


@contextmanager
def same_random_numbers_afterwards():
    """Give NumPy's global generator, and Lasagne's, their states back."""
    states = [(generator, generator.get_state())
              for generator in (np.random, lasagne.random.get_rng())]
    try:
        yield
    finally:
        with DelayedInterrupts():
            for generator, state in states:
                generator.set_state(state)


@contextmanager
def same_parameters_afterwards(parameters):
    """Give some shared variables their values back at the end of a ``with`` statement."""
    before = [parameter.get_value() for parameter in parameters]
    try:
        yield
    finally:
        with DelayedInterrupts():
            for parameter, value in zip(parameters, before):
                parameter.set_value(value)


def randomise(parameters, random):
    """Draw new values of parameters, with which ReLU networks of any depth have moderate outputs.

    Parameters
    ----------
    parameters : list of Theano shared variables
        Weights and biases. Weights get the variance 2 / fan-in, biases 1.
    random : numpy.random.RandomState
    """
    for parameter in parameters:
        shape = parameter.get_value(borrow=True).shape
        fan_in = np.prod(shape[:1] if len(shape) == 2 else shape[1:])
        spread = np.sqrt(2 / fan_in) if len(shape) > 1 else 1.
        parameter.set_value(random.normal(0, spread, shape).astype(parameter.dtype))


def scale_parameters(parameters, factor):
    """Multiply parameters by a number."""
    for parameter in parameters:
        parameter.set_value(factor * parameter.get_value())
