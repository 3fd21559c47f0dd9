"""Tools for Theano graphs: evaluation, shared variables, random weights, and restoring of state."""

from contextlib import contextmanager

import lasagne
import numpy as np
import theano
import theano.tensor as T

from theano_compat.without_compiler.expressions import DelayedInterrupts
from vae.checks.numpy_functions import function


def is_tensor(value, ndim):
    """Return whether a value is a symbolic tensor with `ndim` dimensions."""
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def array_function(inputs, outputs):
    """Return a function of arrays that evaluates outputs, made by `numpy_functions.function`.

    Parameters
    ----------
    inputs : list of Theano variables
        The outputs need not depend on all inputs.
    outputs : Theano variable, or list of them

    Returns
    -------
    callable
        It takes an array for each input, and casts it to the dtype of the input.
    """
    evaluate = function(inputs, outputs)
    return lambda *values: evaluate(*(np.asarray(value, dtype=variable.dtype)
                                      for variable, value in zip(inputs, values)))


def variables_in(value):
    """Return the Theano variables in the result of an exercise's ``build``, or in a part of it."""
    if isinstance(value, theano.Variable):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return []
    return [variable for part in value for variable in variables_in(part)]


def shared_variables_of(outputs):
    """Return the shared variables on which outputs depend: weights and states of random streams."""
    return [variable for variable in theano.gof.graph.inputs(outputs)
            if isinstance(variable, theano.compile.SharedVariable)]


def parameters_of(outputs):
    """Return the parameters of networks on which outputs depend: shared tensors of floats."""
    return [variable for variable in shared_variables_of(outputs)
            if isinstance(variable.type, T.TensorType) and variable.dtype.startswith("float")]


def trained_parameters_of(outputs, networks, trainable):
    """Return the parameters on which outputs depend, without the constants of the networks.

    Shared variables in a network that are not trainable are constants, such as the mean by which it
    normalises its input.

    Parameters
    ----------
    outputs, networks : list of Theano variables
        `networks` are the outputs of the networks.
    trainable : list of Theano shared variables
        The trainable parameters of the networks.

    Returns
    -------
    list of Theano shared variables
        If no parameter would be left, none is taken for a constant.
    """
    parameters = parameters_of(outputs)
    constants = set(parameters_of(networks)).difference(trainable)
    return [parameter for parameter in parameters if parameter not in constants] or parameters


def nodes_of(output):
    """Return the nodes of the graph that computes a variable, in topological order."""
    return theano.gof.graph.io_toposort(theano.gof.graph.inputs([output]), [output])


def replaced(output, variable, value):
    """Return a copy of an output in which a value replaces a variable.

    Parameters
    ----------
    output, variable, value : Theano variables
        `output` is computed from `variable`. `value` is converted to the type of `variable`.

    Returns
    -------
    Theano variable
    """
    value = T.patternbroadcast(T.cast(value, variable.dtype), variable.broadcastable)
    return theano.clone(output, {variable: value})


def only_through(output, variable, source):
    """Return whether an output depends on a source only through a variable.

    Parameters
    ----------
    output, variable, source : Theano variables

    Returns
    -------
    bool
    """
    given = replaced(output, variable, variable.type())
    return source not in theano.gof.graph.inputs([given])


def in_both_orders(variable, k):
    """Repeat a batch for K samples of each element, in both orders of the samples.

    `vae.checks.latent_code.both_orders` defines these orders.

    Parameters
    ----------
    variable : Theano variable
        Its first axis is the axis of the batch.
    k : int

    Returns
    -------
    list of Theano variables
        There is only one if K is 1.
    """
    if k == 1:
        return [variable]
    return [T.repeat(variable, k, axis=0), T.tile(variable, [k] + [1] * (variable.ndim - 1))]


def reparameterised(code, loc, scale):
    """Return a code as loc + scale * eps, where eps has no gradient."""
    return loc + scale * theano.gradient.disconnected_grad((code - loc) / scale)


def is_random_stream(shared):
    """Return whether a shared variable is the state of a random stream: not an array of floats."""
    return not getattr(shared, "dtype", "").startswith("float")


@contextmanager
def same_random_numbers_afterwards():
    """Restore the states of NumPy's and Lasagne's global generators after a ``with`` statement."""
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
    """Restore the values of shared variables after a ``with`` statement."""
    before = [parameter.get_value() for parameter in parameters]
    try:
        yield
    finally:
        with DelayedInterrupts():
            for parameter, value in zip(parameters, before):
                parameter.set_value(value)


def randomise(parameters, random):
    """Draw random values of parameters with which ReLU networks of any depth have moderate outputs.

    Parameters
    ----------
    parameters : list of Theano shared variables
        Weights and biases. The variance is 2 / fan-in for weights, and 1 for biases.
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
