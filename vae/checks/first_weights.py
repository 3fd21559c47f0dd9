"""A check that a network can learn from its initial weights."""

import numpy as np
import theano
import theano.tensor as T

from vae.checks.graph_tools import array_function, parameters_of

#: After this number of steps, units with equal initial weights differ, or never will. Each step
#: reaches at least one more layer, starting from the outputs.
_N_STEPS = 5


def stays_symmetric(input_x, outputs, x, random):
    """Return whether the units of a layer have equal weights and keep them equal during training.

    This happens if all weights are zeros, for example, or another constant. But if only the weights
    of the last layer are zeros, they differ after one step.

    Parameters
    ----------
    input_x : Theano variable, shape (batch, 1, 28, 28)
    outputs : list of Theano variables, shape (batch, dim)
        Outputs of the network.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
        Images.
    random : numpy.random.RandomState

    Returns
    -------
    bool

    Notes
    -----
    If some units are equal at the start, this function changes the parameters.
    """
    parameters = parameters_of(outputs)
    suspected = [parameter for parameter in parameters if _has_equal_units(parameter)]
    if not suspected:
        return False
    shape = (len(outputs), *array_function([input_x], outputs[0])(x).shape)
    aims = random.normal(size=shape).astype(outputs[0].dtype)
    try:
        gradients = T.grad(
            sum(T.sum(aim * output) for aim, output in zip(aims, outputs)), parameters,
            disconnected_inputs="ignore")
    except theano.gradient.NullTypeGradError:
        return False
    compute_gradients = array_function([input_x], gradients)
    for _step in range(_N_STEPS):
        for parameter, gradient in zip(parameters, compute_gradients(x)):
            step = 0.1 * gradient / (np.abs(gradient).max() + 1e-9)
            parameter.set_value((parameter.get_value() + step).astype(parameter.dtype))
    return any(map(_has_equal_units, suspected))


def _has_equal_units(parameter):
    """Return whether a parameter is a weight matrix or filters that are equal for all units."""
    value = parameter.get_value(borrow=True)
    if value.ndim < 2:
        return False
    units = value.T if value.ndim == 2 else value  # Lasagne's dense layers have units in columns
    return len(units) > 1 and np.ptp(units, axis=0).max() <= 1e-4 * np.abs(units).max()
