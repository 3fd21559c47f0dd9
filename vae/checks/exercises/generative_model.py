"""The generative model p(x, z)."""

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_all_params, get_output

from vae.checks.closed_forms import close, normal_log_prob
from vae.checks.exercise import (
    Exercise, Mistake, input_of, kind_of, require, size_of)
from vae.checks.graph_tools import (
    array_function, in_both_orders, is_tensor, parameters_of, randomise, reparameterised, replaced,
    same_parameters_afterwards, shared_variables_of)
from vae.checks.latent_code import judge_code
from vae.checks.numpy_functions import function
from vae.checks.random_images import binary_images
from vae.language import N_, _

#: The number of elements of the code that are drawn to judge its distribution.
_N_CODE_NUMBERS = 8000


def build(names):
    """Return the graph of p(x | z) and p(z).

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    dict
        ``input_x``: the images, a symbolic tensor of shape (batch, 1, 28, 28).
        ``code``: the decoder's input, a symbolic matrix of shape (K * batch, HIDDEN_DIM).
        ``loc``, ``scale``: parameters of q(z | x), symbolic matrices of shape (batch, HIDDEN_DIM).
        ``layer_output``, ``logits``: the output of the decoder and the logits of p(x | z), symbolic
        tensors of shape (K * batch, 1, 28, 28).
        ``z``, ``prior``: a symbolic matrix, and log p(z) of its rows, in nats.
        ``batch_size``, ``hidden_dim``: int.

    Raises
    ------
    Mistake
    """
    input_x, decoder_logits = input_of(names), names.decoder_logits
    require(isinstance(decoder_logits, Layer),
            _("decoder_logits сейчас — {kind}, а должен быть слоем Lasagne: его возвращает "
              "vae_decoder_mlp.", kind=kind_of(decoder_logits)))
    sources = [layer for layer in get_all_layers(decoder_logits) if isinstance(layer, InputLayer)]
    require(len(sources) == 1 and is_tensor(sources[0].input_var, ndim=2),
            _("у декодировщика должен быть один вход, код z формы (batch, HIDDEN_DIM), а не: "
              "{kinds}.", kinds="; ".join(kind_of(source.input_var) for source in sources)))
    hidden_dim, width = size_of(names, "HIDDEN_DIM"), sources[0].shape[1]
    require(width in (None, hidden_dim),
            _("декодировщик построен для кодов размерности {width}, а HIDDEN_DIM = {hidden_dim}: "
              "передайте ему hidden_dim=HIDDEN_DIM.", width=width, hidden_dim=hidden_dim))
    z, prior = T.matrix("z"), None
    try:
        prior = names.pz.log_prob(z)
    except (AttributeError, TypeError, ValueError):
        pass
    require(is_tensor(prior, ndim=1),
            _("pz сейчас — {kind}, и pz.log_prob(z) не вычисляется: pz должен быть объектом "
              "MultivariateNormalDiag с параметрами-тензорами формы (batch, HIDDEN_DIM).",
              kind=kind_of(names.pz)))
    px_z = names.px_z
    require(is_tensor(getattr(px_z, "logits", None), ndim=4),
            _("px_z сейчас — {kind}, а должен быть объектом BinaryVector, и его logits — "
              "тензором: lasagne.layers.get_output(decoder_logits).", kind=kind_of(px_z)))
    require(set(get_all_params(decoder_logits)) & set(theano.gof.graph.inputs([px_z.logits])),
            _("logits у px_z вычисляет не decoder_logits, а нужен его выход: "
              "lasagne.layers.get_output(decoder_logits)."))
    return dict(input_x=input_x, z=z, prior=prior, layer_output=get_output(decoder_logits),
                logits=px_z.logits, code=sources[0].input_var,
                loc=names.qz_x.loc, scale=names.qz_x.scale,
                batch_size=size_of(names, "BATCH_SIZE"), hidden_dim=hidden_dim)


def draw(random, images, batch_size, hidden_dim):
    """Return the inputs on which the graph is evaluated.

    Parameters
    ----------
    random : numpy.random.RandomState
    images : numpy.ndarray or None
        Not used.
    batch_size, hidden_dim : int

    Returns
    -------
    dict
        ``x``: random binary images, bool, shape (batch_size, 1, 28, 28).
        ``z``: codes, float64, shape (batch_size, hidden_dim).
        ``seed``: int, seed of the random weights.
    """
    return dict(x=binary_images(random, batch_size), seed=random.randint(2 ** 31 - 1),
                z=random.normal(size=(batch_size, hidden_dim)))


def measure(graph, inputs):
    """Evaluate code, logits and prior, with the current weights and three sets of random weights.

    Parameters
    ----------
    graph, inputs : dict
        The results of `build` and `draw`.

    Returns
    -------
    dict
        ``n``: int, the number of codes that are decoded, K * batch.
        ``prior``: list of 3 arrays of shape (n,) or (batch,), log p(z) in nats.
        ``layer_output``, ``logits``: lists of 4 arrays. Each array has about 50 of the n outputs.
        ``again``: a second evaluation of the last ``layer_output``.
        ``code``: tuple of arrays of shape (n, HIDDEN_DIM), one for each draw.
        ``loc``, ``scale``: tuples of arrays of shape (batch, HIDDEN_DIM), one for each draw.
        ``gradient_errors``: array of shape (2,), the relative errors of the encoder's gradients
        through the code and the logits.

    Raises
    ------
    Mistake
        If the graph needs other inputs than ``input_x``, or log p(z) cannot be computed.
    """
    input_x, x, random = graph["input_x"], inputs["x"], np.random.RandomState(inputs["seed"])
    try:
        compute = array_function([input_x], [graph["layer_output"], graph["logits"]])
        sample = _sampler(graph, x)
    except theano.gof.MissingInputError as error:
        raise Mistake(_("p(x | z) должно зависеть от input_x и больше ни от каких входов: "
                        "на вход декодировщика нужен qz_x.sample().")) from error
    codes, locs, scales = zip(*(sample() for _draw in range(_n_draws(sample()[0]))))
    # Shared variables that only the prior has are constants. Exercise 5 refuses to train them.
    parameters = parameters_of([graph["logits"], graph["layer_output"]])
    log_prior = _log_prior(graph)
    outputs, priors = [compute(x)], []
    with same_parameters_afterwards(parameters):
        for _weights in range(3):  # what holds before training must hold after it
            priors.append(log_prior(x, inputs["z"], n=len(outputs[0][1])))
            randomise(parameters, random)
            outputs.append(compute(x))
        gradient_errors = _gradient_errors(graph, x, random, codes[0].shape, outputs[0][1].shape)
    again, n = compute(x)[0], len(outputs[0][1])
    subset = slice(None, None, max(1, n // 50))
    return dict(n=n, prior=priors, layer_output=[output[subset] for output, _logits in outputs],
                logits=[logits[subset] for _output, logits in outputs], again=again[subset],
                code=codes, loc=locs, scale=scales,
                gradient_errors=gradient_errors)


def _sampler(graph, x):
    """Return a function that draws codes of the images x, and returns them with loc and scale.

    If the code depends on the images only through loc and scale, these two are computed once.
    """
    code, parameters = graph["code"], [graph["loc"], graph["scale"]]
    given = [parameter.type() for parameter in parameters]
    streams = [shared for shared in shared_variables_of([code])
               if getattr(shared, "default_update", None) is not None]
    of_given, *states = theano.clone([code, *(stream.default_update for stream in streams)],
                                     dict(zip(parameters, given)))
    if graph["input_x"] in theano.gof.graph.inputs([of_given, *states]):
        sample = array_function([graph["input_x"]], [code, *parameters])
        return lambda: sample(x)
    values = array_function([graph["input_x"]], parameters)(x)
    sample = function(given, of_given, updates=list(zip(streams, states)))
    return lambda: (sample(*values), *values)


def _n_draws(code):
    """Return the number of draws of such a code that is needed to judge its distribution."""
    return int(np.clip(_N_CODE_NUMBERS // max(code.size, 1), 2, 2000))


def _log_prior(graph):
    """Return a function that evaluates log p(z).

    Returns
    -------
    callable
        ``(x, z, n) -> log p(z)`` in nats. The n codes are the rows of `z`, shape (batch,
        HIDDEN_DIM), repeated in their order. If the shape of p(z) does not allow n codes, the
        result is for the rows of `z` without repetition.
    """
    hint = _("pz.log_prob(z) не вычисляется: pz должен быть объектом MultivariateNormalDiag "
             "с параметрами формы (batch, HIDDEN_DIM).")
    try:
        compute = array_function([graph["input_x"], graph["z"]], graph["prior"])
    except theano.gof.MissingInputError as error:
        raise Mistake(hint) from error

    def log_prior(x, z, n):
        for n_codes in [n, len(z)]:
            try:
                return compute(x, np.resize(z, (n_codes, z.shape[1])))
            except ValueError as error:
                failure = error
            except TypeError as error:
                raise Mistake(hint) from error
        raise Mistake(hint) from failure

    return log_prior


def _gradient_errors(graph, x, random, code_shape, logits_shape):
    """Return the relative errors of the encoder's gradients through the code and the logits.

    Each is the gradient of a random linear combination of the elements of the code or of the logits
    with respect to the parameters of the encoder. It is compared with the gradient through the code
    loc + scale * eps. If there are K samples for each image, they may have one of two orders; the
    order with the smaller error counts.
    """
    code, loc, scale = graph["code"], graph["loc"], graph["scale"]
    encoder, k = parameters_of([loc, scale]), code_shape[0] // len(x)
    codes = [reparameterised(code, *parameters)
             for parameters in zip(in_both_orders(loc, k), in_both_orders(scale, k))]
    decoded = code.type()
    logits = theano.clone(graph["layer_output"], {code: decoded})
    return [_gradient_error(graph["input_x"], x, encoder, output, expected,
                            random.normal(size=shape))
            for output, expected, shape in [
                (code, codes, code_shape),
                (graph["logits"], [replaced(logits, decoded, z) for z in codes],
                 logits_shape)]]


def _gradient_error(input_x, x, parameters, output, expected, weights):
    """Return the relative error of the gradient of an output.

    There is an expected gradient for each of several expected outputs. The smallest error counts.
    """
    variable = T.TensorType(theano.config.floatX, [False] * weights.ndim)()

    def gradient_of(values):
        gradients = T.grad(T.sum(variable * values), parameters, disconnected_inputs="ignore")
        return T.concatenate([T.flatten(gradient) for gradient in gradients])

    try:
        gradient = gradient_of(output)
    except (theano.gradient.DisconnectedInputError, theano.gradient.NullTypeGradError):
        return 1.
    errors = [T.sqrt(T.sum((gradient - right) ** 2) / (T.sum(right ** 2) + 1e-20))
              for right in map(gradient_of, expected)]
    return float(min(array_function([input_x, variable], errors)(x, weights)))


def judge(inputs, measured):
    """Require that p(z) is N(0, I), and that p(x | z) decodes a sample from q(z | x).

    Parameters
    ----------
    inputs, measured : dict
        The results of `draw` and `measure`.

    Raises
    ------
    Mistake
    """
    x = inputs["x"]
    prior, logits, expected = (np.array(measured[name]) for name in [
        "prior", "logits", "layer_output"])
    n = int(measured["n"])
    require(prior.shape[1:] in [(n,), (len(x),)]
            and close(prior, _standard_normal_log_prob(inputs["z"], prior.shape)),
            _("p(z) должно быть стандартным нормальным распределением N(0, I), и до обучения, "
              "и после: loc из нулей, scale из единиц."))
    require(logits.shape[2:] == x.shape[1:] and n > 0 and n % len(x) == 0,
            _("logits имеет форму {logits_shape}, а изображения — {images_shape}.",
              logits_shape=logits.shape[1:], images_shape=x.shape))
    require(not (close(logits, 1 / (1 + np.exp(-expected.astype(float))))
                 or logits.min() >= 0 and logits.max() <= 1),
            _("в BinaryVector переданы вероятности, а нужны логиты: сигмоида здесь лишняя."))
    require(logits.min() < 0 < logits.max(),
            _("все логиты одного знака при любых весах, и вероятности пикселей всегда по одну "
              "сторону от 1/2: у последнего слоя декодировщика нужна nonlinearity=None."))
    judge_code(len(x), *(np.array(measured[name], float) for name in ["code", "loc", "scale"]))
    require(not np.allclose(expected[-1], measured["again"], rtol=1e-6, atol=1e-6),
            _("выход декодировщика не случаен: на вход ему нужен сэмпл из q(z | x), а не среднее."))
    require(close(logits, expected, 1e-3),
            _("logits у px_z — не выход слоя decoder_logits при том же z."))
    require((np.array(measured["gradient_errors"]) < 0.01).all(),
            _("градиент от p(x | z) не доходит до кодировщика таким, какой он у сэмпла "
              "qz_x.sample(): ничего не должно его останавливать или менять."))


def _standard_normal_log_prob(z, shape):
    """Return an array of this shape; each row has the log-densities of the codes, in nats.

    If a row is longer than the number of codes, the codes are repeated in their order.
    """
    n_rows, *row_shape = shape
    return np.array([np.resize(normal_log_prob(z, 0., 1.), row_shape)] * n_rows)


EXERCISE = Exercise(
    number=4, label=N_("генеративная модель p(x, z)"), points=2,
    names=("decoder_logits", "pz", "px_z"),
    uses=("MultivariateNormalDiag", "qz_x"),
    build=build, draw=draw, measure=measure, judge=judge)
