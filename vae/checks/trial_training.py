"""Checks that the student's updates minimise the loss, and that the model learns.

The updates are compared with Adam, and the model is trained by Adam. This module implements Adam in
NumPy.
"""

import time

import numpy as np
import theano.tensor as T
from scipy.special import xlogy

from vae.checks.closed_forms import bernoulli_log_prob, kl_to_standard_normal
from vae.checks.exercise import require
from vae.checks.graph_tools import (
    array_function, randomise, same_parameters_afterwards, scale_parameters, shared_variables_of)
from vae.checks.numpy_functions import function
from vae.language import _
from vae.progress import advance, expect_more

#: Number of steps of Adam in each attempt to train the model, if a batch has 20 images or more.
#: With smaller batches there are more steps. The reference solution needs about 70 steps.
TRAINING_STEPS = [300, 900, 900]
#: No new attempt begins after this time, in seconds.
PATIENCE = 40.
LEARNING_RATE = 0.003
#: The number of steps in which `updates` must have changed each parameter.
_MOST_STEPS = 100
#: Training may end when the ELBO exceeds that of models which ignore their code by this much, in
#: nats.
ENOUGH_GAIN = 1.


def compare_updates_with_adam(graph, x, encoder, decoder, gradients, described, random):
    """Compare the first change that `updates` make with the first step of Adam on the loss.

    A schedule of the learning rate may begin with steps of size 0.

    The comparison is made twice: with the current model, and with a decoder whose output is the
    same for all codes, so that only the KL divergence changes the encoder.

    Parameters
    ----------
    graph : dict
        The result of ``build`` of the exercise `elbo`.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
    encoder, decoder : list of Theano shared variables
        Parameters of the networks. They have the same values afterwards.
    gradients : callable
        Maps a batch of images to the gradient of the loss with respect to each of `params`.
    described : dict
        Maps a parameter to a text that helps the student find it.
    random : numpy.random.RandomState

    Returns
    -------
    dict
        ``unmoved``: list of str, the parameters that Adam changes and `updates` do not.
        ``agreement``: float, positive if the step of `updates` has the direction of Adam's step.
        ``no_gradient_of_kl``: bool, true if the KL divergence does not change the encoder.
    """
    batch = np.asarray(x, graph["input_x"].dtype)
    apply_updates = function([graph["input_x"]], [], updates=[
        (shared, T.cast(new, shared.dtype) if isinstance(shared.type, T.TensorType) else new)
        for shared, new in graph["updates"]])
    # Random streams are restored, too, so that both steps have the same noise.
    everything = list(dict.fromkeys([
        *encoder, *decoder, *graph["params"], *(shared for shared, _new in graph["updates"]),
        *shared_variables_of([graph["loss"]])]))

    updated = {shared for shared, _new in graph["updates"]}

    def compare(parameters):
        adam = Adam(graph["params"], gradients)
        with same_parameters_afterwards(everything):
            by_adam = _first_changes(parameters, adam.step, batch, awaited=[])
        awaited = [parameter in updated and np.any(expected)
                   for parameter, expected in zip(parameters, by_adam)]
        with same_parameters_afterwards(everything):
            by_student = _first_changes(parameters, apply_updates, batch, awaited)
        unmoved = [description_of(parameter, described) for parameter, change, expected
                   in zip(parameters, by_student, by_adam)
                   if np.any(expected) and not np.any(change)]
        agreement = float(sum(np.sum(change * np.sign(expected))
                              for change, expected in zip(by_student, by_adam)))
        return unmoved, agreement, any(map(np.any, by_adam))

    with same_parameters_afterwards(everything):
        unmoved, agreement, _moved = compare(graph["params"])
        scale_parameters(decoder, 0)
        randomise(encoder, random)
        unmoved_by_kl, agreement_of_kl, moved_by_kl = compare(encoder)
    return dict(unmoved=unmoved or unmoved_by_kl, no_gradient_of_kl=not moved_by_kl,
                agreement=min(agreement, agreement_of_kl))


def _first_changes(parameters, step, batch, awaited):
    """Return the change of each parameter by the first step that changes it, in float64.

    `awaited` has a truth value for each parameter. There are more steps on the same batch while an
    awaited parameter has not changed, at most `_MOST_STEPS` in all.
    """
    before = [parameter.get_value() for parameter in parameters]
    changes = [np.zeros(value.shape) for value in before]
    for _step in range(_MOST_STEPS):
        step(batch)
        for index, (parameter, value) in enumerate(zip(parameters, before)):
            if not changes[index].any():
                changes[index] = parameter.get_value().astype(float) - value
        if all(change.any() for change, is_awaited in zip(changes, awaited) if is_awaited):
            break
    return changes


def description_of(parameter, described):
    """Return the description of a parameter, or its name if it is in neither network."""
    return described.get(parameter, str(parameter.name))


class Adam:
    """Adam as implemented in Lasagne: Kingma and Ba (2015), algorithm 1.

    Parameters
    ----------
    params : list of Theano shared variables
        The parameters that `step` changes.
    gradients : callable
        Maps a batch of images to the gradient of the loss with respect to each parameter.
    """

    def __init__(self, params, gradients):
        self._params, self._gradients, self._n_steps = params, gradients, 0
        self._means, self._squares = (
            [np.zeros_like(param.get_value(borrow=True)) for param in params]
            for _moment in range(2))

    def step(self, batch):
        """Make one step on a batch of images."""
        self._n_steps += 1
        rate = LEARNING_RATE * np.sqrt(1 - 0.999 ** self._n_steps) / (1 - 0.9 ** self._n_steps)
        for param, gradient, mean, square in zip(
                self._params, self._gradients(batch), self._means, self._squares):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            change = np.sqrt(square)  # the next steps are in place, to save memory
            change += 1e-8
            np.divide(mean, change, out=change)
            change *= rate
            value = param.get_value(borrow=True)
            value -= change
            param.set_value(value, borrow=True)


def train(graph, inputs, gradients, random, decode, described):
    """Train the model with Adam until it has learnt to use its code, if necessary several times.

    Each attempt starts with the student's weights, and draws other batches.

    Parameters
    ----------
    graph, inputs : dict
        The results of ``build`` and ``draw`` of the exercise `elbo`. The parameters are changed.
    gradients : callable
        Maps a batch of images to the gradient of the loss with respect to each of `params`.
    random : numpy.random.RandomState
    decode : callable
        Maps codes, shape (n, dim), to logits, shape (n, 1, 28, 28).
    described : dict
        Maps a parameter to a text that helps the student find it.

    Returns
    -------
    dict
        ``trained_loc``, ``trained_scale``, ``trained_logits``: numpy.ndarray, the outputs of the
        trained networks for the held-out images.
        ``irrelevant``: list of str, the parameters that training has not changed.
        ``n_steps``: int, the number of steps in the last attempt.
    """
    params, held_out, x = graph["params"], inputs["held_out"], inputs["x"]
    encode = array_function([graph["input_x"]], [graph["loc"], graph["scale"]])
    enough_elbo = elbo_without_code(held_out) + ENOUGH_GAIN
    before, start = [parameter.get_value() for parameter in params], time.monotonic()

    def trained(n_steps):
        """Train; return the networks' outputs, the number of steps and whether the model learns."""
        adam = Adam(params, gradients)
        for n_done in range(1, n_steps + 1):
            batch = inputs["images"][random.randint(len(inputs["images"]), size=len(x))]
            adam.step((random.uniform(size=batch.shape) < batch).astype(graph["input_x"].dtype))
            advance()
            if n_done % 25 == 0:
                loc, scale = encode(held_out)
                logits = decode(loc + scale * random.normal(size=loc.shape))
                if held_out_elbo(held_out, loc, scale, logits) > enough_elbo:
                    return (loc, scale, logits), n_done, True
        return (loc, scale, logits), n_done, False

    attempts = [n * min(10, max(1, 20 // len(x))) for n in TRAINING_STEPS]
    expect_more(sum(attempts))
    for n_steps in attempts:
        for parameter, value in zip(params, before):
            parameter.set_value(value)
        (loc, scale, logits), n_steps, learns = trained(n_steps)
        if learns or time.monotonic() - start > PATIENCE:
            break
    irrelevant = [description_of(parameter, described)
                  for parameter, value in zip(params, before)
                  if np.array_equal(parameter.get_value(), value)]
    return dict(trained_loc=loc, trained_scale=scale, trained_logits=logits,
                irrelevant=irrelevant, n_steps=n_steps)


def held_out_elbo(x, loc, scale, logits):
    """Estimate the ELBO by one sample per image, with the KL divergence in closed form.

    Parameters
    ----------
    x : numpy.ndarray, shape (n, 1, 28, 28)
    loc, scale : numpy.ndarray, shape (n, dim)
        Parameters of q(z | x).
    logits : numpy.ndarray, shape (n, 1, 28, 28)
        The decoder's output for a sample from q(z | x) for each image.

    Returns
    -------
    float
        The mean over the images, in nats.

    Raises
    ------
    Mistake
        If the shapes do not match.
    """
    loc, scale, logits = (np.asarray(values, dtype=float) for values in (loc, scale, logits))
    require(loc.shape == scale.shape == (len(x), loc.shape[-1]) and logits.shape == x.shape,
            _("logits имеет форму {shape}, хотя изображений: {n}.", n=len(x), shape=logits.shape))
    return np.mean(bernoulli_log_prob(x, logits) - kl_to_standard_normal(loc, scale))


def elbo_without_code(x):
    """Return an upper bound of the ELBO of all models that ignore their code.

    It is the largest possible mean of log p(x) if the pixels are independent of each other and of
    the code.

    Parameters
    ----------
    x : numpy.ndarray of bool, shape (n, 1, 28, 28)

    Returns
    -------
    float
        The mean over the images, in nats.
    """
    p = np.mean(x, axis=0)
    return float(np.sum(xlogy(p, p) + xlogy(1 - p, 1 - p)))
