"""Exercise 5: whether the student's updates and model train, with Adam in NumPy."""

import numpy as np
import theano
import theano.tensor as T

from vae.checks.closed_forms import bernoulli_log_prob, kl_to_standard_normal
from vae.checks.exercise import require
from vae.checks.graph_tools import (
    compiled, is_random_stream, randomise, same_parameters_afterwards)
from vae.language import _

#: Steps of Adam that the model is trained for, by batches of 20 images; by smaller ones more.
TRAINING_STEPS = 300
LEARNING_RATE = 0.003
#: More than a model can that ignores its code, -206: there training may end. The reference needs
#: about 70 steps to it.
ENOUGH_ELBO = -203.


def compare_updates_with_adam(graph, x, encoder, decoder, gradients, described, random):
    """Whether `updates` take the parameters where Adam's first step on the loss does.

    Once as the model is, once with a decoder that gives the same for all codes: then only KL
    moves the encoder.
    """
    batch = np.asarray(x, graph["input_x"].dtype)
    student = theano.function([graph["input_x"]], [], on_unused_input="ignore", updates=[
        (shared, T.cast(new, shared.dtype) if isinstance(shared.type, T.TensorType) else new)
        for shared, new in graph["updates"]])
    state = [shared for shared, _ in graph["updates"] if not is_random_stream(shared)]
    everything = list(dict.fromkeys([*encoder, *decoder, *graph["params"], *state]))

    def moves(step, which):
        with same_parameters_afterwards(everything):
            before = [one.get_value() for one in which]
            step(batch)
            return [one.get_value().astype(float) - old for one, old in zip(which, before)]

    def compare(which):
        moved = moves(student, which)
        expected = moves(_Adam(graph["params"], gradients).step, which)
        return dict(
            still=[described.get(parameter, str(parameter.name)) for parameter, one, other
                   in zip(which, moved, expected) if np.any(other) and not np.any(one)],
            agreement=float(sum(np.sum(one * np.sign(other))
                                for one, other in zip(moved, expected))),
            flat=not any(map(np.any, expected)))

    with same_parameters_afterwards(everything):
        first = compare(graph["params"])
        for parameter in decoder:
            parameter.set_value(0 * parameter.get_value())
        randomise(encoder, random)
        second = compare(encoder)
    return dict(unmoved=first["still"] or second["still"], no_gradient_of_kl=second["flat"],
                agreement=min(first["agreement"], second["agreement"]))


class _Adam:
    """Parameters that Adam moves: Kingma and Ba (2015), algorithm 1, as Lasagne has it."""

    def __init__(self, params, gradients):
        self._params, self._gradients, self._n_steps = params, gradients, 0
        self._moments = [[np.zeros_like(one.get_value(borrow=True)) for one in params]
                         for _ in range(2)]

    def step(self, batch):
        self._n_steps += 1
        rate = LEARNING_RATE * np.sqrt(1 - 0.999 ** self._n_steps) / (1 - 0.9 ** self._n_steps)
        for param, gradient, mean, square in zip(
                self._params, self._gradients(batch), *self._moments):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            change = np.sqrt(square)
            change += 1e-8
            np.divide(mean, change, out=change)
            change *= rate
            value = param.get_value(borrow=True)
            value -= change
            param.set_value(value, borrow=True)


def train(graph, inputs, gradients, random, decode, described):
    """The model after some steps of Adam, and parameters that these have left as they were."""
    input_x, params = graph["input_x"], graph["params"]
    before = [parameter.get_value() for parameter in params]
    adam, n_steps = _Adam(params, gradients), n_steps_of(len(inputs["x"]))
    encode = compiled([input_x], [graph["loc"], graph["scale"]])
    for done in range(1, n_steps + 1):
        chosen = random.randint(len(inputs["images"]), size=len(inputs["x"]))
        batch = inputs["images"][chosen]
        adam.step((random.uniform(size=batch.shape) < batch).astype(input_x.dtype))
        if done % (n_steps // 12) == 0:
            loc, scale = encode(inputs["held_out"])
            logits = decode(loc + scale * random.normal(size=loc.shape))
            if held_out_elbo(inputs["held_out"], loc, scale, logits) > ENOUGH_ELBO:
                break
    return dict(trained_loc=loc, trained_scale=scale, trained_logits=logits,
                irrelevant=[described.get(one, str(one.name)) for one, value in zip(params, before)
                            if np.array_equal(one.get_value(), value)])


def held_out_elbo(x, loc, scale, logits):
    loc, scale, logits = (np.asarray(one, dtype=float) for one in (loc, scale, logits))
    require(loc.shape == scale.shape == (len(x), loc.shape[-1]) and logits.shape == x.shape,
            _("для {n} изображений logits имеет форму {shape}.").format(
                n=len(x), shape=logits.shape))
    return np.mean(bernoulli_log_prob(x, logits) - kl_to_standard_normal(loc, scale))


def n_steps_of(batch_size):
    return TRAINING_STEPS * min(10, max(1, 20 // batch_size))
