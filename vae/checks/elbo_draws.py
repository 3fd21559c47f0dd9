"""Values of the ELBO of a student's graph, with random weights, and of the terms of the bound."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import theano
import theano.tensor as T
from theano.scan_module.scan_op import Scan

from vae.checks.closed_forms import (
    LOG_2PI, bernoulli_log_prob, kl_to_standard_normal, normal_log_prob)
from vae.checks.exercise import require
from vae.checks.graph_tools import (
    is_random_stream, nodes_of, randomise, same_parameters_afterwards, scale_parameters)
from vae.checks.latent_code import both_orders
from vae.checks.numpy_functions import function
from vae.language import _
from vae.progress import advance, expect_more

#: The ELBO is drawn several times with each of some random encoders. The weights of the last
#: encoder are near 0, so its KL divergence is small.
N_ENCODERS, DRAWS_PER_ENCODER = 5, 10
#: The same if the samples are in a loop. Only the mean of the ELBO then shows whether it is right.
DRAWS_PER_ENCODER_OF_A_LOOP = 20


class Estimate(NamedTuple):
    """A way to estimate the ELBO. The likelihood is always an average over the samples."""

    order: int  #: index of the order of the samples in the result of `both_orders`
    samples_prior: bool  #: whether E log p(z) is an average over the samples, not a closed form
    samples_entropy: bool  #: the same for the entropy of q(z | x)


ESTIMATES = [Estimate(order, *is_sampled) for order in range(2)
             for is_sampled in [(True, True), (False, False), (False, True), (True, False)]]


@dataclass(frozen=True)
class Draws:
    """50 or more draws of the ELBO of one batch, and of the quantities in it, in float64.

    There are K samples of the code for each image. The samples of an image may be next to each
    other, or a batch apart. So `log_px_z` is given for both orders, as in `both_orders`.

    Parameters
    ----------
    elbo, loss : numpy.ndarray, shape (draws,)
        The student's elbo and loss, in nats.
    loc, scale : numpy.ndarray, shape (draws, batch, dim)
        Parameters of q(z | x).
    code : numpy.ndarray, shape (draws, K * batch, dim)
        All samples that elbo decodes.
    log_px_z : numpy.ndarray, shape (draws, 2, K * batch)
        log p(x | z) of each sample, in nats, for both orders.
    own_log_px_z : numpy.ndarray, shape (draws,)
        The mean of log p(x | z) over the batch, in nats, for samples that the check itself draws
        from q(z | x). Empty if elbo equals an estimate of the bound.
    elbo_of_constant_decoder : numpy.ndarray, shape (draws,)
        The student's elbo, in nats, with a decoder whose weights are all 0. Empty if elbo equals an
        estimate of the bound.
    samples_in_a_loop : bool
        Whether elbo contains a loop. Samples drawn inside it are not in `code`.
    """

    elbo: np.ndarray
    loss: np.ndarray
    loc: np.ndarray
    scale: np.ndarray
    code: np.ndarray
    log_px_z: np.ndarray
    own_log_px_z: np.ndarray
    elbo_of_constant_decoder: np.ndarray
    samples_in_a_loop: bool

    @classmethod
    def from_measured(cls, measured):
        """Return the draws in a result of `measure`, a dict."""
        arrays = {name: np.asarray(measured[name], dtype=float) for name in [
            "elbo", "loss", "loc", "scale", "code", "log_px_z", "own_log_px_z",
            "elbo_of_constant_decoder"]}
        return cls(**arrays, samples_in_a_loop=measured["samples_in_a_loop"])

    @property
    def is_consistent(self):
        """Whether the shapes match, and all standard deviations are positive."""
        return (self.scale.shape == self.loc.shape and self.code.shape[2] == self.loc.shape[2]
                and self.code.shape[1] % self.loc.shape[1] == 0 and (self.scale > 0).all())

    @property
    def n_samples(self):
        """K, the number of samples for each image."""
        return self.code.shape[1] // self.loc.shape[1]

    @cached_property
    def kl(self):
        """KL(q(z | x) || p(z)), averaged over the batch, in nats. Shape (draws,)."""
        return np.mean(kl_to_standard_normal(self.loc, self.scale), axis=1)

    @cached_property
    def estimates(self):
        """The terms of the ELBO by each of `ESTIMATES`, averaged over the batch.

        Returns
        -------
        list of tuple of numpy.ndarray, shape (draws,)
            E log p(x | z), E log p(z) and the entropy of q(z | x), in nats. E log p(x | z) is
            always an average over the samples; the last two may be closed forms.
        """
        loc, scale, code = self.loc, self.scale, self.code
        prior = np.mean(normal_log_prob(0., loc, np.ones_like(loc))
                        - 0.5 * np.sum(scale ** 2, axis=2), axis=1)
        entropy = np.mean(np.sum(0.5 * (LOG_2PI + 1) + np.log(scale), axis=2), axis=1)
        sampled_prior = np.mean(normal_log_prob(code, 0., np.ones_like(code)), axis=1)
        repeated = zip(*(both_orders(values, code.shape[1], axis=1) for values in (loc, scale)))
        sampled_entropies = [-np.mean(normal_log_prob(code, *parameters), axis=1)
                             for parameters in repeated]
        log_px_z = np.mean(self.log_px_z, axis=2)
        return [(log_px_z[:, order], sampled_prior if samples_prior else prior,
                 sampled_entropies[order] if samples_entropy else entropy)
                for order, samples_prior, samples_entropy in ESTIMATES]

    @cached_property
    def rounding(self):
        """The largest rounding error of elbo in float32, in nats. Shape (draws,)."""
        return 1e-4 * np.sum(np.abs(self.estimates[0]), axis=0)

    @cached_property
    def estimate(self):
        """The first `Estimate` that elbo equals, or None."""
        return next((estimate for estimate, terms in zip(ESTIMATES, self.estimates)
                     if self.elbo_equals(sum(terms))), None)

    def elbo_equals(self, bound):
        """Return whether elbo equals a bound, an array of shape (draws,), up to rounding."""
        return (np.abs(self.elbo - bound) < self.rounding).all()


def draw_elbo(graph, x, encoder, decoder, decode, random):
    """Evaluate the ELBO with random encoders, whose KL divergence is large and known.

    If elbo equals no estimate of the bound, it is drawn again to measure its mean: with the model's
    decoder, and with a decoder whose output is the same for all codes. With this constant decoder,
    the only noise is that of the KL divergence.

    Parameters
    ----------
    graph : dict
        The result of ``build`` of the exercise `elbo`.
    x : numpy.ndarray, shape (batch, 1, 28, 28)
    encoder, decoder : list of Theano shared variables
        Parameters of the networks. They have the same values afterwards.
    decode : callable
        Maps codes, shape (n, dim), to logits, shape (n, 1, 28, 28).
    random : numpy.random.RandomState

    Returns
    -------
    dict
        Maps the names of the fields of `Draws` to their values.
    """
    evaluate = function(
        [graph["input_x"]],
        [graph["elbo"], graph["loss"], graph["loc"], graph["scale"], decoded_code(graph)],
        updates=[(shared, new) for shared, new in graph["updates"] if is_random_stream(shared)])
    in_a_loop = _decodes_in_a_loop(graph["elbo"], decoder)
    draw = partial(_draw, evaluate, np.asarray(x, graph["input_x"].dtype), encoder, decoder, decode,
                   random)
    measured = dict(draw(DRAWS_PER_ENCODER), samples_in_a_loop=in_a_loop)
    draws = Draws.from_measured(measured)
    if draws.is_consistent and draws.estimate is None:
        n_draws = DRAWS_PER_ENCODER_OF_A_LOOP if in_a_loop else DRAWS_PER_ENCODER
        expect_more(N_ENCODERS * n_draws)
        measured.update(draw(n_draws, for_the_mean=True))
    return measured


def _draw(evaluate, x, encoder, decoder, decode, random, n_draws, for_the_mean=False):
    """Draw n times with each random encoder; return the arrays of `Draws`, a dict by name."""
    draws, own_log_px_z, of_constant_decoder = [], [], []
    with same_parameters_afterwards(encoder):
        for index in range(N_ENCODERS):
            randomise(encoder, random)
            if index == N_ENCODERS - 1:
                scale_parameters(encoder, 0.01)
            for _draw in range(n_draws):
                elbo, loss, loc, scale, code = evaluate(x)
                draws.append(dict(elbo=elbo, loss=loss, loc=loc, scale=scale, code=code,
                                  log_px_z=_log_likelihoods(x, code, decode(code))))
                if for_the_mean:
                    own_code = loc + scale * random.normal(size=loc.shape)
                    own_log_px_z.append(np.mean(bernoulli_log_prob(x, decode(own_code))))
                    with same_parameters_afterwards(decoder):
                        scale_parameters(decoder, 0)
                        of_constant_decoder.append(evaluate(x)[0])
                advance()
    return dict({name: np.array([draw[name] for draw in draws]) for name in draws[0]},
                own_log_px_z=np.array(own_log_px_z),
                elbo_of_constant_decoder=np.array(of_constant_decoder))


def _decodes_in_a_loop(elbo, decoder):
    """Return whether elbo depends on a loop that uses the weights of the decoder."""
    return any(type(node.op) is Scan and set(decoder) & set(theano.gof.graph.inputs(node.inputs))
               for node in nodes_of(elbo))


def decoded_code(graph):
    """Return the samples over which elbo is an average, a symbolic matrix (K * batch, HIDDEN_DIM).

    These are all codes that are multiplied by the first weight matrix of the decoder.
    """
    first_weights = {node.inputs[1] for node in _matrix_products(graph["logits"])
                     if node.inputs[0] is graph["code"]}
    codes = [node.inputs[0] for node in _matrix_products(graph["elbo"])
             if node.inputs[1] in first_weights]
    return T.concatenate(codes or [graph["z"]])


def _matrix_products(output):
    return [node for node in nodes_of(output) if isinstance(node.op, T.Dot)]


def _log_likelihoods(x, code, logits):
    """Return log p(x | z) of each sample, in nats, for both orders of the samples."""
    require(len(code) > 0 and len(code) % len(x) == 0
            and logits.shape == (len(code), *x.shape[1:]),
            _("в декодировщик подаются коды формы {code_shape}, а выходит из него "
              "{logits_shape}, хотя изображений в батче: {n}.",
              n=len(x), code_shape=code.shape, logits_shape=logits.shape))
    if len(code) == len(x):
        return [bernoulli_log_prob(x, logits)] * 2
    return [bernoulli_log_prob(images, logits) for images in both_orders(x, len(code), axis=0)]
