"""Theano graphs: compiling, the networks' parameters, random weights."""

from contextlib import contextmanager

import numpy as np
import theano
import theano.tensor as T


def is_tensor(value, ndim):
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def compiled(inputs, outputs):
    """Compile the outputs; unused inputs are fine, values are cast to the inputs' types."""
    function = theano.function(inputs, outputs, on_unused_input="ignore")
    return lambda *values: function(*(np.asarray(value, dtype=variable.dtype)
                                      for variable, value in zip(inputs, values)))


def parameters_of(outputs):
    """The networks' parameters that some variables depend on."""
    return [variable for variable in theano.gof.graph.inputs(outputs)
            if isinstance(variable, theano.compile.SharedVariable)
            and isinstance(variable.type, T.TensorType) and variable.dtype.startswith("float")]


@contextmanager
def same_parameters_afterwards(parameters):
    before = [parameter.get_value() for parameter in parameters]
    try:
        yield
    finally:
        for parameter, value in zip(parameters, before):
            parameter.set_value(value)


def randomise(parameters, random):
    """Set other weights, with which ReLU's activations stay moderate in however many layers."""
    for parameter in parameters:
        shape = parameter.get_value(borrow=True).shape
        fan_in = np.prod(shape[:1] if len(shape) == 2 else shape[1:])
        spread = np.sqrt(2 / fan_in) if len(shape) > 1 else 1.
        parameter.set_value(random.normal(0, spread, shape).astype(parameter.dtype))


def is_random_stream(shared):
    """Whether a shared variable is the state of random streams, as a loop's updates have them."""
    return not getattr(shared, "dtype", "").startswith("float")
