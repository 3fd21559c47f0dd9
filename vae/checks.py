"""What each exercise of the seminar must satisfy.

An exercise is checked on the names that the student's cells have defined.
What is wrong is said by raising `Mistake` with a hint, in Russian, of what to
look at; nothing is raised when the exercise is right.

The numbers come from the student's own graph, compiled by Theano; what they
must be comes from NumPy and closed forms, not from the package's classes.
"""

import traceback
from contextlib import contextmanager

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import (InputLayer, Layer, get_all_layers, get_all_params, get_output,
                            get_output_shape)
from theano.sandbox.rng_mrg import MRG_RandomStreams

__all__ = ["EXERCISES", "Mistake", "check"]

LOG_2PI = np.log(2 * np.pi)

#: The seminar's exercises, by number.
EXERCISES = {
    1: "сэмплирование из q(z | x)",
    2: "кодировщик",
    3: "апостериорное распределение q(z | x)",
    4: "генеративная модель p(x, z)",
    5: "ELBO, параметры и функция потерь",
}


class Mistake(Exception):
    """An exercise is not right; the message says what to look at."""

    def _render_traceback_(self):
        # Jupyter shows this in place of a traceback, which would only tell of our own code.
        return [str(self)]


def check(exercise, names):
    """Check one exercise and print the verdict.

    Parameters
    ----------
    exercise : int
        Its number, a key of `EXERCISES`.
    names : dict
        What the student's cells have defined: ``globals()`` in a notebook.

    Raises
    ------
    Mistake
        If the exercise is not done or not right.
    ValueError
        If there is no exercise of this number.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    title = f"Упражнение {exercise} ({EXERCISES[exercise]})"
    try:
        _CHECKS[exercise](_Names(names))
    except NotImplementedError:
        raise Mistake(f"✗ {title} ещё не выполнено.") from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {_what_failed(error)}") from error
    print(f"✓ {title}: верно.")


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), "")


def _what_failed(error):
    """The first line of an error, and the line of the student's code that it came from."""
    message = f"код не выполняется: {type(error).__name__}: {_first_line(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "ipykernel" in frame.filename or frame.filename.startswith("<ipython")]
    if frames:
        message += f"\nСтрока {frames[-1].lineno} ячейки: {frames[-1].line}"
    return message + "\nПроверьте, какие формы и типы у всех тензоров."


class _Names:
    """The student's names as attributes; one that is not there is a mistake."""

    def __init__(self, names):
        self._names = names

    def __getattr__(self, name):
        if self._names.get(name) is None:
            raise Mistake(f"не определено {name}. Выполните ячейку с этим упражнением "
                          "и проверьте, как называется переменная.")
        return self._names[name]


def _require(condition, hint):
    if not condition:
        raise Mistake(hint)


def _evaluate(inputs, outputs, values):
    """Compile the outputs and call them once; unused inputs are fine."""
    function = theano.function(inputs, outputs, on_unused_input="ignore")
    return function(*(np.asarray(value, dtype=variable.dtype)
                      for variable, value in zip(inputs, values)))


@contextmanager
def _random_weights(parameters):
    """Give a function that draws other weights for the networks; put theirs back at the end."""
    random = np.random.RandomState(0)
    before = [parameter.get_value() for parameter in parameters]

    def change():
        for parameter, value in zip(parameters, before):
            fan_in = {2: value.shape[:1], 4: value.shape[1:]}.get(value.ndim, (4,))
            parameter.set_value(random.normal(0, 2 / np.sqrt(np.prod(fan_in)), value.shape)
                                .astype(value.dtype))

    try:
        yield change
    finally:
        for parameter, value in zip(parameters, before):
            parameter.set_value(value)


def _images(n):
    """Binary images, shape (n, 1, 28, 28), the same ones each time."""
    return np.random.RandomState(n).uniform(size=(n, 1, 28, 28)) < 0.3


def _is_tensor(value, ndim):
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def _close(value, expected, tolerance=1e-4):
    """Equal up to float32 rounding, relative to the size of what was summed."""
    return np.allclose(value, expected, rtol=tolerance, atol=tolerance)


# --- numbers to compare with, in float64 ---

def _normal_log_prob(z, loc, scale):
    return np.sum(-0.5 * LOG_2PI - np.log(scale) - 0.5 * ((z - loc) / scale) ** 2, axis=1)


def _bernoulli_log_prob(x, logits):
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(1, 2, 3))


def _kl_to_standard_normal(loc, scale):
    """KL(N(loc, scale²) || N(0, 1)), nats: Kingma and Welling (2014), appendix B."""
    return 0.5 * np.sum(loc ** 2 + scale ** 2 - 1 - 2 * np.log(scale), axis=1)


# --- the exercises ---

def _check_sample(names):
    loc, scale = T.matrix("loc"), T.matrix("scale")
    distribution = names.MultivariateNormalDiag(loc, scale, rng=MRG_RandomStreams(20))
    z, again = distribution.sample(), distribution.sample()
    _require(z is not None, "метод sample() ничего не возвращает: в конце нужен return z.")
    _require(_is_tensor(z, ndim=2),
             "метод sample() должен возвращать тензор формы (batch, dim), как у loc.")
    try:
        gradients = T.grad(T.sum(z), [loc, scale])
    except (theano.gradient.DisconnectedInputError, theano.gradient.NullTypeGradError):
        raise Mistake(
            "градиент не проходит через сэмпл к loc и scale. Нужна репараметризация: сначала "
            "шум из N(0, 1), который от параметров не зависит, потом его сдвиг и растяжение "
            "(сам self.rng.normal() градиента к своим avg и std не пропускает).")

    n = 10000
    random = np.random.RandomState(0)
    locs, scales = random.normal(0, 3, (n, 2)), random.uniform(0.2, 3, (n, 2))
    try:
        z, again, dz_dloc, dz_dscale = _evaluate(
            [loc, scale], [z, again, *gradients], [locs, scales])
    except ValueError as error:
        raise Mistake("размеры не сходятся: какой формы шум? Размер батча заранее не известен, "
                      f"а умножать нужно поэлементно.\n{_first_line(error)}")
    _require(z.shape == (n, 2), f"форма сэмпла {z.shape}, а у loc форма {(n, 2)}.")
    eps = (z - locs) / scales
    _require(not np.allclose(z, again),
             "два вызова sample() дали одно и то же: шум должен быть каждый раз новым.")
    _require(eps.std(axis=0).min() > 1e-3, "шум один на весь батч, а нужен свой для каждого "
             "объекта: какой формы должен быть шум?")
    _require(eps.std(axis=1).max() > 1e-3, "шум один на все координаты кода, а нужен свой для "
             "каждой: какой формы должен быть шум?")
    for power, name in [(2, "scale ** 2"), (0.5, "корень из scale")]:
        _require(abs(((z - locs) / scales ** power).std() - 1) > 0.03,
                 f"разброс сэмпла — {name}, а должен быть scale: scale здесь — "
                 "стандартное отклонение, а не дисперсия.")
    _require(abs(eps.mean()) < 0.05,
             f"среднее сэмпла отличается от loc (в среднем на {eps.mean():+.2f} scale).")
    _require(abs(eps.std() - 1) < 0.03,
             f"стандартное отклонение сэмпла — {eps.std():.2f} scale, а должно быть 1 scale.")
    _require(abs(np.mean(eps ** 4) - 3) < 0.3,
             "распределение шума не нормальное: возьмите self.rng.normal().")
    _require(_close(dz_dloc, 1) and _close(dz_dscale, eps, 1e-2),
             "градиент сэмпла по loc и scale не тот, что у loc + scale * шум.")


def _check_encoder(names):
    hidden_dim = names.HIDDEN_DIM
    input_x = T.tensor4("input_x")
    heads = names.vae_encoder_mlp(input_x)
    _require(isinstance(heads, (tuple, list)) and len(heads) == 2
             and all(isinstance(head, Layer) for head in heads),
             "кодировщик должен возвращать два слоя Lasagne: l_out_loc, l_out_scale.")
    for name, head in zip(["l_out_loc", "l_out_scale"], heads):
        shape = get_output_shape(head)
        _require(len(shape) == 2 and shape[1] == hidden_dim,
                 f"форма выхода {name} — {shape}, а нужна (None, {hidden_dim}): "
                 "по HIDDEN_DIM чисел на объект.")

    outputs = get_output(heads)
    _require(input_x in theano.gof.graph.inputs(outputs),
             "выходы не зависят от input_x: передайте его входному слою (input_var=input_x).")
    compute = theano.function([input_x], outputs)
    x = _images(50).astype(input_x.dtype)
    locs, scales = [], []
    with _random_weights(get_all_params(heads, trainable=True)) as change_weights:
        for _ in range(20):  # what holds for all weights is by construction
            change_weights()
            loc, scale = compute(x)
            locs.append(loc)
            scales.append(scale)
    locs, scales = np.array(locs), np.array(scales)
    _require((scales > 0).all(),
             "стандартное отклонение должно быть строго положительным при любых весах: какая "
             f"функция активации это даёт? Сейчас встретилось {scales.min():.3g}. "
             "Не перепутан ли порядок: сначала l_out_loc, потом l_out_scale?")
    _require(locs.min() < -1 and locs.max() > 1,
             "среднее должно принимать любые значения, и положительные, и отрицательные. Сейчас "
             f"оно от {locs.min():.2g} до {locs.max():.2g}: какую функцию активации взять?")
    for name, values in [("среднее", locs), ("стандартное отклонение", scales)]:
        _require(values.std(axis=1).max() > 1e-6, f"{name} не зависит от входного изображения.")


def _check_posterior(names):
    hidden_dim = names.HIDDEN_DIM
    input_x, qz_x = names.input_x, names.qz_x
    for name in ["encoder_mean", "encoder_scale"]:
        _require(isinstance(getattr(names, name), Layer),
                 f"{name} должен быть слоем Lasagne: это один из двух слоёв, которые "
                 "возвращает vae_encoder_mlp(input_x).")
    _require(all(_is_tensor(getattr(qz_x, name, None), ndim=2) for name in ["loc", "scale"]),
             "qz_x должен быть объектом MultivariateNormalDiag с параметрами-тензорами формы "
             "(batch, HIDDEN_DIM): выходы слоёв даёт lasagne.layers.get_output.")
    try:
        mean, std, loc, scale = _evaluate(
            [input_x], [*get_output([names.encoder_mean, names.encoder_scale]),
                        qz_x.loc, qz_x.scale], [_images(20)])
    except theano.gof.MissingInputError:
        raise Mistake("q(z | x) должно зависеть от input_x и больше ни от каких входов.")
    _require(loc.shape == scale.shape == (20, hidden_dim),
             f"для 20 изображений loc имеет форму {loc.shape}, scale — {scale.shape}, "
             f"а нужна {(20, hidden_dim)}.")
    _require(not (_close(loc, std) and _close(scale, mean)),
             "loc и scale перепутаны местами.")
    _require((scale > 0).all(), "scale должен быть положительным: передан ли в него "
             "выход encoder_scale?")
    _require(_close(loc, mean), "loc у qz_x — не выход слоя encoder_mean. (Если в кодировщике "
             "есть dropout, уберите его: здесь он не нужен.)")
    _require(_close(scale, std), "scale у qz_x — не выход слоя encoder_scale. "
             "Это должно быть стандартное отклонение, без квадратов и логарифмов.")


def _check_generative_model(names):
    input_x, decoder_logits, pz, px_z = (
        names.input_x, names.decoder_logits, names.pz, names.px_z)
    _require(isinstance(decoder_logits, Layer),
             "decoder_logits должен быть слоем Lasagne: его возвращает vae_decoder_mlp.")
    _require(_is_tensor(getattr(px_z, "logits", None), ndim=4),
             "px_z должен быть объектом BinaryVector, а его logits — тензором: "
             "lasagne.layers.get_output(decoder_logits).")
    z = T.matrix("z")
    batch_size = names.BATCH_SIZE
    points = np.random.RandomState(0).normal(size=(batch_size, names.HIDDEN_DIM))
    try:
        prior = _evaluate([input_x, z], pz.log_prob(z), [_images(batch_size), points])
    except (AttributeError, TypeError, ValueError, theano.gof.MissingInputError):
        raise Mistake("pz.log_prob(z) не вычисляется: pz должен быть объектом "
                      "MultivariateNormalDiag с параметрами формы (batch, HIDDEN_DIM).")
    _require(prior.shape == (batch_size,) and _close(prior, _normal_log_prob(points, 0., 1.)),
             "p(z) должно быть стандартным нормальным распределением N(0, I).")

    layer_output = get_output(decoder_logits)
    try:
        compute = theano.function([input_x], [layer_output, px_z.logits],
                                  on_unused_input="ignore")
    except theano.gof.MissingInputError:
        raise Mistake("p(x | z) должно зависеть от input_x и больше ни от каких входов: "
                      "на вход декодера нужен qz_x.sample().")
    x = _images(batch_size).astype(input_x.dtype)
    expected, logits = compute(x)
    _require(logits.shape == x.shape,
             f"logits имеет форму {logits.shape}, а изображения — {x.shape}.")
    _require(not _close(logits, 1 / (1 + np.exp(-expected))),
             "в BinaryVector переданы вероятности, а нужны логиты: сигмоида здесь лишняя.")
    _require(not np.allclose(expected, compute(x)[0], rtol=1e-6, atol=1e-6),
             "выход декодера не случаен: на вход ему нужен сэмпл из q(z | x), а не среднее.")
    _require(_close(logits, expected),
             "logits у px_z — не выход слоя decoder_logits при том же z.")
    loc_and_scale = [names.qz_x.loc, names.qz_x.scale]
    try:
        T.grad(T.sum(px_z.log_prob(input_x)), loc_and_scale)
    except theano.gradient.DisconnectedInputError:
        raise Mistake("градиент от p(x | z) не доходит до кодировщика: на вход декодера нужен "
                      "qz_x.sample().")


def _check_elbo(names):
    input_x, qz_x, px_z = names.input_x, names.qz_x, names.px_z
    elbo, params, loss = names.elbo, names.params, names.loss
    for name, value in [("elbo", elbo), ("loss", loss)]:
        _require(isinstance(value, theano.Variable) and value.ndim == 0,
                 f"{name} должна быть символьным числом (скаляром): усредните по батчу.")
    heads = [names.encoder_mean, names.encoder_scale]
    code_layer, = (layer for layer in get_all_layers(names.decoder_logits)
                   if isinstance(layer, InputLayer))

    # Several draws of z by encoders with other weights: KL is large, and known in closed form.
    compute = theano.function(
        [input_x], [elbo, loss, code_layer.input_var, qz_x.loc, qz_x.scale, px_z.logits])
    x = _images(names.BATCH_SIZE).astype(input_x.dtype)
    draws = []
    with _random_weights(get_all_params(heads, trainable=True)) as change_weights:
        for draw in range(200):
            if draw % 20 == 0:
                change_weights()
            value, loss_value, z, loc, scale, logits = (
                np.asarray(result, dtype=float) for result in compute(x))
            draws.append((value, loss_value, _bernoulli_log_prob(x, logits).mean(),
                          _kl_to_standard_normal(loc, scale).mean(),
                          np.mean(_normal_log_prob(z, loc, scale) - _normal_log_prob(z, 0., 1.))))
    values, losses, log_px_z, kl, sampled_kl = np.array(draws).T.reshape(5, 10, 20)
    rounding = 1e-4 * (np.abs(log_px_z) + np.abs(kl) + np.abs(sampled_kl))

    def equal(expected_with):
        return any((np.abs(values - expected_with(some_kl)) < rounding).all()
                   for some_kl in (kl, sampled_kl))

    for mistaken, hint in [
        (lambda kl: -(log_px_z - kl),
         "у elbo неверный знак: это оценка, которую максимизируют, около -100."),
        (lambda kl: log_px_z + kl, "KL-дивергенция входит с неверным знаком: её вычитают."),
        (lambda kl: log_px_z,
         "нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo."),
        (lambda kl: -kl, "нет слагаемого log p(x | z)."),
        (lambda kl: len(x) * (log_px_z - kl), "elbo просуммирована по батчу, а нужна средняя."),
    ]:
        _require(not equal(mistaken), hint)
    if not equal(lambda kl: log_px_z - kl):
        error = values - (log_px_z - kl)
        unbiased = np.abs(error.mean(axis=1)) < 5 * error.std(axis=1) / np.sqrt(20)
        _require(not unbiased.all(),
                 "все слагаемые elbo нужно вычислять при одном и том же z (K = 1): том, что подан "
                 "на вход декодера. Не вызван ли qz_x.sample() второй раз?")
        raise Mistake(
            f"в задаче с известным ответом elbo = {values[0, 0]:.2f}, а должна быть "
            f"{log_px_z[0, 0] - kl[0, 0]:.2f}: log p(x | z) = {log_px_z[0, 0]:.2f}, "
            f"KL-дивергенция = {kl[0, 0]:.2f}. Проверьте оба слагаемых.")

    ratio = losses / values
    _require((ratio < 0).all(), "loss растёт вместе с elbo, а оптимизатор loss уменьшает: "
             "какой нужен знак?")
    _require(_close(ratio, -1) or _close(ratio, -len(x)),
             "loss должна быть равна -elbo (средней по батчу или просуммированной).")

    _require(isinstance(params, (list, tuple)) and len(params) > 0,
             "params должен быть списком параметров: lasagne.layers.get_all_params.")
    for network, layers in [("кодировщика", heads), ("декодера", [names.decoder_logits])]:
        missing = [parameter.name for parameter in get_all_params(layers, trainable=True)
                   if parameter not in params]
        _require(not missing, f"в params нет параметров {network}: {', '.join(map(str, missing))}.")
    _require(len(set(params)) == len(params), "некоторые параметры попали в params дважды.")
    try:
        T.grad(loss, list(params))
    except theano.gradient.DisconnectedInputError:
        raise Mistake("в params есть то, от чего loss не зависит.")


_CHECKS = {1: _check_sample, 2: _check_encoder, 3: _check_posterior,
           4: _check_generative_model, 5: _check_elbo}
