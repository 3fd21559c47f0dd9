"""The bound of the importance weighted autoencoder."""

import numpy as np
import theano.tensor as T
from scipy.special import logsumexp

from vae.checks.closed_forms import close
from vae.checks.exercise import Exercise, require
from vae.checks.graph_tools import array_function, is_tensor
from vae.language import N_, _

K, BATCH = 7, 20  # other sizes than in the notebook


def build(names):
    """Apply the student's function to symbolic weights.

    Parameters
    ----------
    names : Names
        What the student's cells have defined.

    Returns
    -------
    dict
        ``log_w``: the input, a symbolic matrix of shape (K, batch).
        ``bound``: the bound for each image, a symbolic vector of shape (batch,).

    Raises
    ------
    Mistake
    """
    log_w = T.matrix("log_w")
    bound = names.iwae_bound(log_w)
    require(is_tensor(bound, ndim=1),
            _("iwae_bound() должна возвращать вектор формы (batch,): оценку для каждого "
              "изображения."))
    return dict(log_w=log_w, bound=bound)


def draw(random, images):
    """Return the inputs on which the graph is evaluated.

    Parameters
    ----------
    random : numpy.random.RandomState
    images : numpy.ndarray or None
        Not used.

    Returns
    -------
    dict
        ``log_w``: logarithms of weights like those of a trained model, in nats, shape (K, BATCH).
    """
    return dict(log_w=random.normal(-150, 10, size=(K, BATCH)))


def measure(graph, inputs):
    """Evaluate the bound.

    Parameters
    ----------
    graph, inputs : dict
        What `build` and `draw` return.

    Returns
    -------
    dict
        ``bound``: numpy.ndarray, shape (batch,).
    """
    return dict(bound=array_function([graph["log_w"]], graph["bound"])(inputs["log_w"]))


def judge(inputs, measured):
    """Require the logarithm of the weights' mean: Burda et al. (2016), section 3.

    Parameters
    ----------
    inputs, measured : dict
        What `draw` and `measure` return.

    Raises
    ------
    Mistake
    """
    log_w, bound = inputs["log_w"], measured["bound"]
    require(bound.shape == (BATCH,),
            _("для {n} изображений получено {n_bounds} оценок: среднее нужно по сэмплам, "
              "axis=0.", n=BATCH, n_bounds=len(bound)))
    require(np.isfinite(bound).all(),
            _("получены бесконечности или nan: exp(-150) в float32 — это ноль. Вычтите из log_w "
              "максимум по сэмплам, а потом прибавьте его к логарифму."))
    require(not close(bound, np.mean(log_w, axis=0)),
            _("это среднее логарифмов, то есть ELBO, а нужен логарифм среднего."))
    require(not close(bound, logsumexp(log_w, axis=0)),
            _("это логарифм суммы весов, а нужен логарифм их среднего."))
    require(close(bound, logsumexp(log_w, axis=0) - np.log(K)),
            _("это не логарифм среднего весов: для первого изображения получено {got:.2f}, "
              "а должно быть {expected:.2f}.",
              got=bound[0], expected=logsumexp(log_w[:, 0]) - np.log(K)))


EXERCISE = Exercise(
    number=6, label=N_("граница IWAE"), points=2,
    names=("iwae_bound",),
    build=build, draw=draw, measure=measure, judge=judge)
