"""A comparison of the gradient of the student's loss with the gradient of the bound."""

from dataclasses import dataclass, field

import numpy as np
import theano
import theano.tensor as T

from vae.checks.elbo_draws import decoded_code
from vae.checks.graph_tools import (
    in_both_orders, randomise, reparameterised, replaced, same_parameters_afterwards,
    scale_parameters)
from vae.checks.numpy_functions import function

#: The largest relative error of a gradient that rounding in float32 explains.
_TOLERANCE = 0.01
#: Number of sets of random weights. In the last set, all weights of the decoder are 0, so that the
#: encoder has only the gradient of the KL divergence.
_N_WEIGHTS = 3
#: Fewer numbers than these may be fitted by chance.
_FEWEST_NUMBERS = 10
#: Numbers of gradients over which their mean is taken.
_FEWEST_DRAWS, _MOST_DRAWS = 50, 1000


@dataclass(frozen=True)
class Gradients:
    """The gradients of the loss and of the bound's two parts, for each of `params`.

    Parameters
    ----------
    of_loss : callable
        Maps a batch of images to the gradients of the loss.
    of_all : callable or None
        Maps a batch of images to one list: the gradients of the loss, of -log p(x | z), and of the
        KL divergence. None if elbo equals no known estimate of the bound.
    """

    of_loss: callable
    of_all: callable = None


def compile_gradients(graph, gradients, draws):
    """Compile the functions that compute the gradients.

    Parameters
    ----------
    graph : dict
        The result of ``build`` of the exercise `elbo`.
    gradients : list of Theano variables
        The gradient of the loss with respect to each of ``params``.
    draws : vae.checks.elbo_draws.Draws

    Returns
    -------
    Gradients
    """
    if draws.estimate is None:
        return Gradients(_function(graph, gradients))
    log_px_z, kl = _parts(graph, draws)
    of_all = _function(graph, [*gradients, *_gradients_of(-log_px_z, graph),
                               *_gradients_of(kl, graph)])
    return Gradients(lambda batch: of_all(batch)[:len(gradients)], of_all)


def _function(graph, gradients):
    return function([graph["input_x"]], [theano.Out(gradient, borrow=True) for gradient in gradients])


def _gradients_of(part, graph):
    return T.grad(part, graph["params"], disconnected_inputs="ignore")


def _parts(graph, draws):
    """Return log p(x | z) and the KL divergence, estimated in the same way as in elbo."""
    estimate = draws.estimate
    x, loc, scale = (in_both_orders(graph[name], draws.n_samples)[estimate.order]
                     for name in ["input_x", "loc", "scale"])
    code = reparameterised(decoded_code(graph), loc, scale)
    logits = replaced(graph["logits"], graph["code"], code)
    log_px_z = T.sum(x * logits - T.nnet.softplus(logits), axis=(1, 2, 3))
    prior = code ** 2 if estimate.samples_prior else loc ** 2 + scale ** 2
    log_qz_x = -T.log(scale) - (0.5 * ((code - loc) / scale) ** 2 if estimate.samples_entropy else 0)
    kl = T.sum(log_qz_x + 0.5 * prior, axis=1)
    return T.mean(log_px_z), T.mean(kl)


def compare_gradients(graph, x, encoder, decoder, gradients, factor, random):
    """Compare the gradients of the loss with those of the bound, with random weights.

    Parameters
    ----------
    graph : dict
        The result of ``build`` of the exercise `elbo`.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
    encoder, decoder : list of Theano shared variables
        Parameters of the networks. They have the same values afterwards.
    gradients : Gradients
    factor : float
        The ratio of the loss to -elbo.
    random : numpy.random.RandomState

    Returns
    -------
    dict
        ``gradients_agree``: bool, whether they are equal.
        ``unreached``: list of parameters for which the gradient of the loss is 0, but the gradient
        of the bound is not.
        ``stopped``: two lists of parameters that are not in ``unreached``. The gradient of
        log p(x | z) does not reach those in the first list, and the gradient of the KL divergence
        does not reach those in the second.
    """
    if gradients.of_all is None:
        return dict(gradients_agree=False, unreached=[], stopped=[[], []])
    params, batch = graph["params"], np.asarray(x, graph["input_x"].dtype)
    rows = [[] for _parameter in params]
    with same_parameters_afterwards(list(dict.fromkeys([*encoder, *decoder, *params]))):
        for n_done in range(_N_WEIGHTS):
            randomise([*encoder, *decoder], random)
            if n_done == _N_WEIGHTS - 1:
                scale_parameters(decoder, 0)
            values = [np.array(value, float) for value in gradients.of_all(batch)]
            size = np.sqrt(sum(np.sum(value ** 2) for value in values[len(params):])) + 1e-20
            for index, row in enumerate(rows):
                of_loss, of_likelihood, of_kl = values[index::len(params)]
                row.append(np.stack([of_loss / factor, of_likelihood, of_kl]).reshape(3, -1) / size)
    fits = [_Fit.of(*np.concatenate(row, axis=1)) for row in rows]
    return dict(gradients_agree=all(fit.is_right for fit in fits),
                unreached=[parameter for parameter, fit in zip(params, fits) if fit.is_zero],
                stopped=[[parameter for parameter, fit in zip(params, fits) if part in fit.stopped]
                         for part in range(2)])


def lost_on_average(graph, x, encoder, decoder, of_loss, factor, random):
    """Find terms of the KL divergence whose gradient is missing in the mean gradient of the loss.

    The gradient of a sample of log q(z | x) may differ from that of its mean, the closed form, by
    noise. So the gradient of the loss is drawn until its mean is known, with a decoder whose
    weights are all 0. Each draw is fitted to the gradients of the closed forms.

    Parameters
    ----------
    graph : dict
        The result of ``build`` of the exercise `elbo`.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
    encoder, decoder : list of Theano shared variables
        Parameters of the networks. They have the same values afterwards.
    of_loss : callable
        Maps a batch of images to the gradient of the loss with respect to each of `params`.
    factor : float
        The ratio of the loss to -elbo.
    random : numpy.random.RandomState

    Returns
    -------
    dict of bool
        ``prior_lost``, ``entropy_lost``: whether the gradient of E log p(z) is missing, and that of
        the entropy of q(z | x).
    """
    loc, scale = graph["loc"], graph["scale"]
    batch = np.asarray(x, graph["input_x"].dtype)
    parts = [0.5 * T.sum(loc ** 2 + scale ** 2, axis=1), -T.sum(T.log(scale), axis=1)]
    of_parts = [_function(graph, _gradients_of(T.mean(part), graph)) for part in parts]
    places = [graph["params"].index(parameter) for parameter in encoder]

    def of_encoder(gradients):
        return np.concatenate([np.array(gradients[place], float).ravel() for place in places])

    with same_parameters_afterwards(list(dict.fromkeys([*encoder, *decoder]))):
        randomise(encoder, random)
        scale_parameters(encoder, 0.5)  # the noise is large if some standard deviations are small
        scale_parameters(decoder, 0)
        matrix = np.column_stack([of_encoder(compute(batch)) for compute in of_parts])
        solve = np.linalg.pinv(matrix)
        factors = []
        for _draw in range(_MOST_DRAWS):
            factors.append(solve @ of_encoder(of_loss(batch)) / factor)
            mean, error = np.mean(factors, axis=0), np.std(factors, axis=0) / np.sqrt(len(factors))
            if len(factors) >= _FEWEST_DRAWS and (np.abs(mean - 0.5) > 5 * error).all():
                break
    prior_lost, entropy_lost = mean + 5 * error < 0.5
    return dict(prior_lost=bool(prior_lost), entropy_lost=bool(entropy_lost))


@dataclass(frozen=True)
class _Fit:
    """A fit of a gradient of the loss to the gradients of the two parts of the bound.

    Parameters
    ----------
    is_right : bool
        Whether the gradient is the sum of the parts.
    is_zero : bool
        Whether the gradient is 0, although the sum is not.
    stopped : list of int
        The parts, 0 or 1, that are missing in the gradient. Empty if `is_zero`.
    """

    is_right: bool
    is_zero: bool = False
    stopped: list = field(default_factory=list)

    @classmethod
    def of(cls, of_loss, *parts):
        sizes = [np.linalg.norm(part) for part in parts]
        tolerance = _TOLERANCE * sum(sizes) + 1e-9
        if np.linalg.norm(of_loss - sum(parts)) < tolerance:
            return cls(is_right=True)
        if not of_loss.any():
            return cls(is_right=False, is_zero=True)
        present = [part for part, size in enumerate(sizes) if size > _TOLERANCE * sum(sizes)]
        matrix = np.array([parts[part] for part in present]).reshape(-1, of_loss.size).T
        factors = np.linalg.lstsq(matrix, of_loss, rcond=None)[0]
        fits = (of_loss.size >= _FEWEST_NUMBERS
                and np.linalg.norm(matrix @ factors - of_loss) < tolerance)
        return cls(is_right=False, stopped=[part for part, factor in zip(present, factors)
                                            if fits and abs(factor) < 0.05])
