"""A sample from q(z | x)."""


import numpy as np
import theano
import theano.tensor as T
from theano.sandbox.rng_mrg import MRG_RandomStreams

from vae.checks.closed_forms import close, normal_log_prob
from vae.checks.exercise import (
    Exercise, Mistake, Undefined, first_line, kind_of, require, size_of)
from vae.checks.graph_tools import array_function, is_tensor
from vae.checks.latent_code import autocorrelations
from vae.checks.signatures import signature_of
from vae.language import N_, _

#: The number of columns of the samples if HIDDEN_DIM is not defined.
_DEFAULT_DIM = 2
_DEPENDENT = N_("шум в разных координатах, у разных объектов и в разных вызовах sample() должен быть "
                "независимым.")
#: Between more columns than these, correlations take too long.
_MOST_COLUMNS = 500
#: The largest part of the numbers in two samples whose absolute value may occur before. By chance,
#: it is 0.001 in 60,000 numbers of float32, and 0.02 in two million.
_MOST_REPEATED = 0.05


def build(names):
    """Return the graph of two samples from the student's distribution and of its log-density.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    dict
        ``loc``, ``scale``, ``point``: inputs, symbolic matrices of shape (batch, dim).
        ``z``, ``again``: samples by two calls of ``sample()``, symbolic matrices.
        ``log_prob``: the log-density at ``point``, in nats, a symbolic vector.
        ``kept_loc``, ``kept_scale``: the distribution's attributes ``loc`` and ``scale``.
        ``hidden_dim``: int.

    Raises
    ------
    Mistake
    """
    loc, scale = T.matrix("loc"), T.matrix("scale")
    normal = names.MultivariateNormalDiag
    require(isinstance(normal, type),
            _("MultivariateNormalDiag сейчас — {kind}, а должно быть классом.",
              kind=kind_of(normal)))
    try:
        distribution = _distribution(normal, loc, scale)
    except (AttributeError, NameError, TypeError, ValueError) as error:
        raise Mistake(_("MultivariateNormalDiag(loc, scale, rng=...) не вычисляется ({error}: "
                        "{message}). Верните __init__() этого класса, каким он был: меняется "
                        "только sample().",
                        error=type(error).__name__, message=first_line(error))) from error
    require(callable(getattr(distribution, "sample", None)),
            _("у класса MultivariateNormalDiag нет метода sample(): проверьте его имя и отступ."))
    z, again = distribution.sample(), distribution.sample()
    require(z is not None, _("метод sample() ничего не возвращает: в конце нужен return z."))
    require(is_tensor(z, ndim=2),
            _("метод sample() возвращает не то: {kind}, а нужен тензор формы (batch, dim), как у "
              "loc.", kind=kind_of(z)))
    point = T.matrix("point")
    try:
        log_prob = distribution.log_prob(point)
        kept_loc, kept_scale = distribution.loc, distribution.scale
    except Exception as error:  # whatever the student's class raises
        raise Mistake(_("метод sample() написан, но log_prob() или loc и scale этого класса "
                        "больше не работают ({error}: {message}). Верните их, какими они были: "
                        "меняется только sample().",
                        error=type(error).__name__, message=first_line(error))) from error
    return dict(loc=loc, scale=scale, z=z, again=again, point=point, log_prob=log_prob,
                kept_loc=kept_loc, kept_scale=kept_scale, hidden_dim=_hidden_dim(names))


def _distribution(normal, loc, scale):
    """Return an object of the student's class, whose constructor may lack the argument `rng`."""
    try:
        signature_of(normal).bind(loc, scale, rng=None)
    except (TypeError, ValueError):
        return normal(loc, scale)
    return normal(loc, scale, rng=MRG_RandomStreams(20))


def _hidden_dim(names):
    try:
        return size_of(names, "HIDDEN_DIM")
    except Undefined:  # the class does not need HIDDEN_DIM
        return _DEFAULT_DIM


def draw(random, images, hidden_dim):
    """Return the inputs on which the graph is evaluated.

    Parameters
    ----------
    random : numpy.random.RandomState
    images : numpy.ndarray or None
        Not used.
    hidden_dim : int

    Returns
    -------
    dict of numpy.ndarray, shape (n, hidden_dim), float64
        The keys are ``loc``, ``scale`` and ``point``. Each array has about 20,000 elements, or more
        if that is needed for 211 rows.
    """
    shape = (max(20000 // hidden_dim, 211), hidden_dim)
    return dict(loc=random.normal(0, 3, shape), scale=random.uniform(0.2, 3, shape),
                point=random.normal(0, 3, shape))


def measure(graph, inputs):
    """Evaluate the samples, their gradients and the log-density.

    Parameters
    ----------
    graph, inputs : dict
        The results of `build` and `draw`.

    Returns
    -------
    dict of numpy.ndarray
        ``z``, ``again``, ``later``, ``kept_loc``, ``kept_scale``: shape (n, hidden_dim). The array
        ``later`` is a second evaluation of ``z``.
        ``noise``, ``noise_again``: ``z`` and ``again`` for loc = 0 and scale = 1.
        ``dz_dloc``, ``dz_dscale``: the gradients of the sum of ``z``, shape (n, hidden_dim).
        ``log_prob``: shape (n,), in nats.

    Raises
    ------
    Mistake
        If an array cannot be computed.
    """
    loc, scale, z, again = (graph[name] for name in ["loc", "scale", "z", "again"])
    gradients = [_gradient(z, parameter) for parameter in (loc, scale)]
    lost = [name for name, gradient in zip(["loc", "scale"], gradients) if gradient is None]
    require(len(lost) < 2,
            _("градиент не проходит через сэмпл к loc и scale. Нужна репараметризация: сначала "
              "шум из N(0, 1), который от параметров не зависит, потом его сдвиг и растяжение "
              "(сам self.rng.normal() градиента к своим avg и std не пропускает)."))
    require(not lost, _("сэмпл не зависит от {name}, или градиент до {name} не доходит: в формуле "
                        "нужны и loc, и scale.", name=", ".join(lost)))
    try:
        compute = array_function([loc, scale], [z, again, *gradients])
        values = compute(inputs["loc"], inputs["scale"])
        later = compute(inputs["loc"], inputs["scale"])[0]
    except ValueError as error:
        raise Mistake(_("размеры не сходятся: какой формы шум? Размер батча заранее не "
                        "известен, а умножать нужно поэлементно.\n{message}",
                        message=first_line(error))) from error
    noise, noise_again = compute(np.zeros_like(inputs["loc"]), np.ones_like(inputs["loc"]))[:2]
    measured = dict(zip(["z", "again", "dz_dloc", "dz_dscale"], values), later=later,
                    noise=noise, noise_again=noise_again)
    names = ["log_prob", "kept_loc", "kept_scale"]
    try:
        values = array_function([loc, scale, graph["point"]], [graph[name] for name in names])(
            inputs["loc"], inputs["scale"], inputs["point"])
    except (TypeError, ValueError, theano.gof.MissingInputError) as error:
        raise Mistake(_("sample() написан, но log_prob(z) этого класса больше не вычисляется: "
                        "верните его, каким он был.\n{message}",
                        message=first_line(error))) from error
    return {**measured, **dict(zip(names, values))}


def _gradient(z, parameter):
    """Return the gradient of the sum of z with respect to a parameter, or None."""
    try:
        return T.grad(T.sum(z), parameter)
    except (theano.gradient.DisconnectedInputError, theano.gradient.NullTypeGradError):
        return None


def judge(inputs, measured):
    """Require independent, reparameterised samples, and that nothing else in the class has changed.

    Parameters
    ----------
    inputs, measured : dict
        The results of `draw` and `measure`.

    Raises
    ------
    Mistake
    """
    loc, scale, z = inputs["loc"], inputs["scale"], measured["z"]
    require(z.shape == loc.shape,
            _("форма сэмпла {sample_shape}, а у loc форма {loc_shape}.",
              sample_shape=z.shape, loc_shape=loc.shape))
    require(np.isfinite(z).all(),
            _("среди чисел сэмпла есть nan или inf: нет ли логарифма, корня или деления?"))
    eps = (z - loc) / scale
    require(not np.allclose(z, measured["again"]),
            _("два вызова sample() дали одно и то же: шум должен быть каждый раз новым, его даёт "
              "self.rng."))
    require(not np.allclose(z, measured["later"]),
            _("при повторном вычислении графа получился тот же самый сэмпл. Шум из NumPy — это "
              "числа, выбранные один раз, при построении графа: возьмите self.rng.normal()."))
    again = (measured["again"] - loc) / scale
    require(eps.std(axis=0).min() > 1e-3,
            _("шум один на весь батч, а нужен свой для каждого объекта: какой формы должен быть "
              "шум?"))
    require(eps.shape[1] == 1 or eps.std(axis=1).max() > 1e-3,
            _("шум один на все координаты кода, а нужен свой для каждой: какой формы должен быть "
              "шум?"))
    noise = np.abs([measured["noise"], measured["noise_again"]])
    n_unlike = np.unique(noise).size
    require(n_unlike < 10 or n_unlike > (1 - _MOST_REPEATED) * noise.size, _(_DEPENDENT))
    for power, spread in [(2, "scale ** 2"), (0.5, _("корень из scale"))]:
        require(abs(((z - loc) / scale ** power).std() - 1) > 0.03,
                _("разброс сэмпла — {spread}, а должен быть scale: scale здесь — стандартное "
                  "отклонение, а не дисперсия.", spread=spread))
    for power, spread in [(1, "exp(scale)"), (0.5, "exp(scale / 2)")]:
        require(abs(((z - loc) / np.exp(power * scale)).std() - 1) > 0.03,
                _("разброс сэмпла — {spread}, а должен быть scale: scale здесь — само стандартное "
                  "отклонение, а не логарифм.", spread=spread))
    require(abs(eps.mean()) < 0.05,
            _("среднее сэмпла отличается от loc (в среднем на {mean:+.2f} scale).",
              mean=eps.mean()))
    require(abs(eps.std() - 1) < 0.035,
            _("стандартное отклонение сэмпла — {std:.2f} scale, а должно быть 1 scale.",
              std=eps.std()))
    require(abs(np.mean(eps ** 4) - 3) < 0.5,
            _("распределение шума не нормальное: возьмите self.rng.normal()."))
    require(close(measured["dz_dloc"], np.ones_like(loc))
            and close(measured["dz_dscale"], eps, 1e-2),
            _("градиент сэмпла по loc и scale не тот, что у loc + scale * шум."))
    products = [eps * again, eps[:, 1:] * eps[:, :-1], eps[1:] * eps[:-1]]
    columns = np.atleast_2d(np.corrcoef(eps[:, :_MOST_COLUMNS], rowvar=False))
    require(all(abs(np.mean(product)) < 0.1 for product in products if product.size)
            and np.abs(autocorrelations(eps[np.newaxis])).max() < 0.1
            and np.abs(columns - np.eye(len(columns))).max() < 8 / np.sqrt(len(eps)),
            _(_DEPENDENT))
    require(np.array_equal(measured["kept_loc"], loc.astype(measured["kept_loc"].dtype))
            and np.array_equal(measured["kept_scale"], scale.astype(measured["kept_scale"].dtype)),
            _("loc и scale этого класса — не те, что ему передали: меняется только sample()."))
    require(close(measured["log_prob"], normal_log_prob(inputs["point"], loc, scale), 1e-3),
            _("sample() верен, но log_prob() считает не логарифм плотности N(loc, scale²): верните "
              "его, каким он был, меняется только sample()."))


EXERCISE = Exercise(
    number=1, label=N_("сэмплирование из q(z | x)"), points=2,
    names=("MultivariateNormalDiag",),
    build=build, draw=draw, measure=measure, judge=judge)
