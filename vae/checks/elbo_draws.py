"""Exercise 5: ELBO of a student's graph with many weights, and the terms that it is made of."""

import numpy as np
import theano
import theano.tensor as T

from vae.checks.closed_forms import LOG_2PI, bernoulli_log_prob, normal_log_prob
from vae.checks.exercise import require
from vae.checks.graph_tools import is_random_stream, randomise, same_parameters_afterwards
from vae.checks.latent_code import both_orders
from vae.language import _

#: The draws by an encoder of weights near 0, so that KL is small.
SMALL_KL = slice(40, 50)


def draw_elbo(graph, x, encoder, decoder, decode, random):
    """ELBO and what it is made of, by encoders with other weights: KL is large, and known.

    Also by a decoder that gives the same for all codes, when all noise is that of KL's estimate.
    """
    compute = theano.function(
        [graph["input_x"]],
        [graph["elbo"], graph["loss"], graph["loc"], graph["scale"], _codes(graph)],
        updates=[(shared, new) for shared, new in graph["updates"] if is_random_stream(shared)],
        on_unused_input="ignore")
    batch, draws = np.asarray(x, graph["input_x"].dtype), []
    with same_parameters_afterwards(encoder):
        for draw in range(50):
            if draw % 10 == 0:
                randomise(encoder, random)
            if draw == SMALL_KL.start:
                for parameter in encoder:
                    parameter.set_value(0.01 * parameter.get_value())
            elbo, loss, loc, scale, z = compute(batch)
            own = loc + scale * random.normal(size=loc.shape)
            draws.append(dict(
                elbo=elbo, loss=loss, loc=loc, scale=scale, z=z,
                log_px_z=_log_likelihoods(x, z, decode(z)),
                own_log_px_z=np.mean(bernoulli_log_prob(x, decode(own)))))
            with same_parameters_afterwards(decoder):
                for parameter in decoder:
                    parameter.set_value(0 * parameter.get_value())
                draws[-1].update(quiet_elbo=compute(batch)[0])
    return {name: np.array([one[name] for one in draws]) for name in draws[0]}


def _codes(graph):
    """The samples that elbo is an average over: all that the decoder's first weights multiply."""
    first_weights = {node.inputs[1] for node in _products(graph["logits"])
                     if node.inputs[0] is graph["code"]}
    codes = [node.inputs[0] for node in _products(graph["elbo"])
             if node.inputs[1] in first_weights]
    return T.concatenate(codes or [graph["z"]])


def _products(output):
    """The products of matrices in the graph of a variable."""
    nodes = theano.gof.graph.io_toposort(theano.gof.graph.inputs([output]), [output])
    return [node for node in nodes if isinstance(node.op, T.Dot)]


def _log_likelihoods(x, z, logits):
    """Return log p(x | z) of each sample, for either of their orders."""
    require(len(z) > 0 and len(z) % len(x) == 0 and logits.shape == (len(z), *x.shape[1:]),
            _("для батча из {n} изображений в декодировщик подаются коды формы {shape}, а "
              "выходит из него {shape_2}.").format(n=len(x), shape=z.shape, shape_2=logits.shape))
    if len(z) == len(x):
        return [bernoulli_log_prob(x, logits)] * 2
    return [bernoulli_log_prob(images, logits) for images in both_orders(x, len(z), 0)]


def estimates_of_terms(z, loc, scale, log_px_z):
    """The terms of ELBO in each of the ways to estimate them, averaged over the batch.

    Yields E log p(x | z), E log p(z) and the entropy of q(z | x), an array of one number a draw
    each.  The first is always an average over the samples z, the others may be closed forms.
    """
    prior = np.mean(normal_log_prob(0., loc, np.ones_like(loc)) - 0.5 * np.sum(scale ** 2, axis=2),
                    axis=1)
    entropy = np.mean(np.sum(0.5 * (LOG_2PI + 1) + np.log(scale), axis=2), axis=1)
    sampled_prior = np.mean(normal_log_prob(z, 0., np.ones_like(z)), axis=1)
    orders = [both_orders(values, z.shape[1], axis=1) for values in (loc, scale)]
    for index, (some_loc, some_scale) in enumerate(zip(*orders)):
        of_x = np.mean(log_px_z[:, index], axis=1)
        sampled_entropy = -np.mean(normal_log_prob(z, some_loc, some_scale), axis=1)
        for some_prior, some_entropy in [(sampled_prior, sampled_entropy), (prior, entropy),
                                         (prior, sampled_entropy), (sampled_prior, entropy)]:
            yield of_x, some_prior, some_entropy
