"""Whether a network can learn from its first weights."""

import numpy as np
import theano
import theano.tensor as T

from vae.checks.graph_tools import compiled, parameters_of

#: Steps after which units with equal first weights differ, if they ever do. Each step reaches at
#: least one layer more, from the outputs on.
_N_STEPS = 5


def stays_symmetric(input_x, outputs, x, random):
    """Return whether the units of some layer have equal weights and keep them when they learn.

    Such weights are all zeros, for example, or another constant. But if only the last layer's
    weights are zeros, they differ after one step.

    Parameters
    ----------
    input_x : Theano variable, shape (batch, 1, 28, 28)
    outputs : list of Theano variables, shape (batch, dim)
        Of the network.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
        Images.
    random : numpy.random.RandomState

    Returns
    -------
    bool

    Notes
    -----
    If some units were equal from the start, this changes the parameters.
    """
    parameters = parameters_of(outputs)
    suspected = [parameter for parameter in parameters if _has_equal_units(parameter)]
    if not suspected:
        return False
    shape = (len(outputs), *compiled([input_x], outputs[0])(x).shape)
    aims = random.normal(size=shape).astype(outputs[0].dtype)
    try:
        gradients = T.grad(
            sum(T.sum(aim * output) for aim, output in zip(aims, outputs)), parameters,
            disconnected_inputs="ignore")
    except theano.gradient.NullTypeGradError:
        return False
    compute_gradients = compiled([input_x], gradients)
    for _step in range(_N_STEPS):
        for parameter, gradient in zip(parameters, compute_gradients(x)):
            step = 0.1 * gradient / (np.abs(gradient).max() + 1e-9)
            parameter.set_value((parameter.get_value() + step).astype(parameter.dtype))
    return any(map(_has_equal_units, suspected))


def _has_equal_units(parameter):
    """Whether this is the weights of a layer, and they are the same for all of its units."""
    value = parameter.get_value(borrow=True)
    if value.ndim < 2:
        return False
    units = value.T if value.ndim == 2 else value  # Lasagne's dense layers have units in columns
    return len(units) > 1 and np.ptp(units, axis=0).max() <= 1e-4 * np.abs(units).max()
