"""What each exercise of the seminar must satisfy.

An exercise is checked in four steps, each a function of its own:

``build``
    takes the names that the student's cells have defined and returns the
    symbolic graph to look at;
``draw``
    draws the numbers to try it on;
``measure``
    compiles the graph and evaluates it on them;
``judge``
    compares the results with NumPy and closed forms, never with the package's
    own classes.

In a notebook `check` runs them one after another. Grading runs ``build`` in a
process that the student's code has to itself, ``measure`` in one where it has
never run, and ``judge`` in the grader's own.

Any step may raise `Mistake` with a hint, in Russian, of what to look at.
"""

import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable

import lasagne
import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_output, get_output_shape
from theano.sandbox.rng_mrg import MRG_RandomStreams

__all__ = ["EXERCISES", "Exercise", "Mistake", "Names", "check", "explain", "sizes_of"]

LOG_2PI = np.log(2 * np.pi)

#: Steps of Adam that exercise 5 is trained for, and the held-out images it is then tried on.
TRAINING_STEPS = 300
LEARNING_RATE = 0.003
N_HELD_OUT = 500
#: ELBO after them, nats an image: the reference goes from -544 to -183, other right networks to
#: -200 and better.
LEAST_ELBO = -210.


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
        Besides the names that the exercise asks for, exercise 2 and later
        look up HIDDEN_DIM, 4 and 5 BATCH_SIZE, and 5 X_train, real images of
        shape (n, 1, 28, 28) to train on.

    Raises
    ------
    Mistake
        If the exercise is not done or not right.
    ValueError
        If there is no exercise of this number.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    steps = EXERCISES[exercise]
    title = f"Упражнение {exercise} ({steps.title})"
    try:
        names = Names(names)
        graph = steps.build(names)
        images = _real_images(names.X_train) if steps.trains else None
        inputs = steps.draw(np.random.RandomState(0), images, **sizes_of(graph))
        steps.judge(inputs, steps.measure(graph, inputs))
    except NotImplementedError:
        raise Mistake(f"✗ {title} ещё не выполнено.") from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {explain(error)}") from error
    print(f"✓ {title}: верно.")


def explain(error):
    """Return the first line of an error, and the line of the student's code that it came from."""
    message = f"код не выполняется: {type(error).__name__}: {_first_line(error)}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "ipykernel" in frame.filename or frame.filename.startswith("<ipython")]
    if frames:
        message += f"\nСтрока {frames[-1].lineno} ячейки: {frames[-1].line}"
    if isinstance(error, (TypeError, ValueError)):
        message += "\nПроверьте, какие формы и типы у всех тензоров."
    return message


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), "")


class Names:
    """The student's names as attributes; one that is not there is a mistake.

    Parameters
    ----------
    names : dict
        What the student's cells have defined.
    """

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


def sizes_of(graph):
    """Return the sizes that an exercise's inputs are drawn for: its graph's plain numbers."""
    return {name: value for name, value in graph.items() if isinstance(value, int)}


def _size(names, name):
    size = getattr(names, name)
    _require(type(size) is int and 0 < size <= 1000,
             f"{name} = {size!r}, а должно быть целым числом от 1 до 1000.")
    return size


def _real_images(images):
    shape = np.shape(images)
    _require(shape[1:] == (1, 28, 28) and shape[0] > 2 * N_HELD_OUT,
             f"X_train имеет форму {shape}, а нужны изображения MNIST: (n, 1, 28, 28), "
             f"n > {2 * N_HELD_OUT}.")
    return images


def _is_tensor(value, ndim):
    return isinstance(value, theano.Variable) and getattr(value, "ndim", None) == ndim


def _function(inputs, outputs):
    """Compile the outputs; unused inputs are fine, values are cast to the inputs' types."""
    function = theano.function(inputs, outputs, on_unused_input="ignore")
    return lambda *values: function(*(np.asarray(value, dtype=variable.dtype)
                                      for variable, value in zip(inputs, values)))


def _parameters_of(outputs):
    """The networks' parameters that some variables depend on."""
    return [variable for variable in theano.gof.graph.inputs(outputs)
            if isinstance(variable, theano.tensor.sharedvar.TensorSharedVariable)
            and variable.dtype.startswith("float")]


@contextmanager
def _same_parameters_afterwards(parameters):
    before = [parameter.get_value() for parameter in parameters]
    try:
        yield
    finally:
        for parameter, value in zip(parameters, before):
            parameter.set_value(value)


def _randomise(parameters, random):
    for parameter in parameters:
        shape = parameter.get_value(borrow=True).shape
        fan_in = {2: shape[:1], 4: shape[1:]}.get(len(shape), (4,))
        parameter.set_value(random.normal(0, 2 / np.sqrt(np.prod(fan_in)), shape)
                            .astype(parameter.dtype))


def _binary_images(random, n):
    return random.uniform(size=(n, 1, 28, 28)) < 0.3


def _close(value, expected, tolerance=1e-4):
    """Equal up to float32 rounding, relative to the size of what was summed."""
    return (np.shape(value) == np.shape(expected)
            and np.allclose(value, expected, rtol=tolerance, atol=tolerance))


# --- numbers to compare with, in float64 ---

def _normal_log_prob(z, loc, scale):
    return np.sum(-0.5 * LOG_2PI - np.log(scale) - 0.5 * ((z - loc) / scale) ** 2, axis=-1)


def _bernoulli_log_prob(x, logits):
    logits = np.asarray(logits, dtype=float)
    return np.sum(x * logits - np.logaddexp(0, logits), axis=(-3, -2, -1))


def _kl_to_standard_normal(loc, scale):
    """KL(N(loc, scale²) || N(0, 1)), nats: Kingma and Welling (2014), appendix B."""
    return 0.5 * np.sum(loc ** 2 + scale ** 2 - 1 - 2 * np.log(scale), axis=-1)


# --- 1: sample ---

def _build_sample(names):
    loc, scale = T.matrix("loc"), T.matrix("scale")
    distribution = names.MultivariateNormalDiag(loc, scale, rng=MRG_RandomStreams(20))
    z, again = distribution.sample(), distribution.sample()
    _require(z is not None, "метод sample() ничего не возвращает: в конце нужен return z.")
    _require(_is_tensor(z, ndim=2),
             "метод sample() должен возвращать тензор формы (batch, dim), как у loc.")
    return dict(loc=loc, scale=scale, z=z, again=again)


def _draw_parameters(random, images):
    shape = (10000, 2)
    return dict(loc=random.normal(0, 3, shape), scale=random.uniform(0.2, 3, shape))


def _measure_sample(graph, inputs):
    loc, scale, z, again = (graph[name] for name in ["loc", "scale", "z", "again"])
    try:
        gradients = T.grad(T.sum(z), [loc, scale])
    except (theano.gradient.DisconnectedInputError, theano.gradient.NullTypeGradError):
        raise Mistake(
            "градиент не проходит через сэмпл к loc и scale. Нужна репараметризация: сначала "
            "шум из N(0, 1), который от параметров не зависит, потом его сдвиг и растяжение "
            "(сам self.rng.normal() градиента к своим avg и std не пропускает).")
    try:
        values = _function([loc, scale], [z, again, *gradients])(inputs["loc"], inputs["scale"])
    except ValueError as error:
        raise Mistake("размеры не сходятся: какой формы шум? Размер батча заранее не известен, "
                      f"а умножать нужно поэлементно.\n{_first_line(error)}")
    return dict(zip(["z", "again", "dz_dloc", "dz_dscale"], values))


def _judge_sample(inputs, measured):
    loc, scale, z = inputs["loc"], inputs["scale"], measured["z"]
    _require(z.shape == loc.shape, f"форма сэмпла {z.shape}, а у loc форма {loc.shape}.")
    eps = (z - loc) / scale
    _require(not np.allclose(z, measured["again"]),
             "два вызова sample() дали одно и то же: шум должен быть каждый раз новым.")
    _require(eps.std(axis=0).min() > 1e-3, "шум один на весь батч, а нужен свой для каждого "
             "объекта: какой формы должен быть шум?")
    _require(eps.std(axis=1).max() > 1e-3, "шум один на все координаты кода, а нужен свой для "
             "каждой: какой формы должен быть шум?")
    for power, name in [(2, "scale ** 2"), (0.5, "корень из scale")]:
        _require(abs(((z - loc) / scale ** power).std() - 1) > 0.03,
                 f"разброс сэмпла — {name}, а должен быть scale: scale здесь — "
                 "стандартное отклонение, а не дисперсия.")
    _require(abs(eps.mean()) < 0.05,
             f"среднее сэмпла отличается от loc (в среднем на {eps.mean():+.2f} scale).")
    _require(abs(eps.std() - 1) < 0.035,
             f"стандартное отклонение сэмпла — {eps.std():.2f} scale, а должно быть 1 scale.")
    _require(abs(np.mean(eps ** 4) - 3) < 0.5,
             "распределение шума не нормальное: возьмите self.rng.normal().")
    _require(_close(measured["dz_dloc"], np.ones_like(loc))
             and _close(measured["dz_dscale"], eps, 1e-2),
             "градиент сэмпла по loc и scale не тот, что у loc + scale * шум.")


# --- 2: the encoder ---

def _build_encoder(names):
    hidden_dim = _size(names, "HIDDEN_DIM")
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
    loc, scale = get_output(heads)
    return dict(input_x=input_x, loc=loc, scale=scale, hidden_dim=hidden_dim)


def _draw_images(random, images, hidden_dim):
    return dict(x=_binary_images(random, 50), seed=random.randint(2 ** 31 - 1),
                hidden_dim=hidden_dim)


def _measure_encoder(graph, inputs):
    outputs = [graph["loc"], graph["scale"]]
    _require(graph["input_x"] in theano.gof.graph.inputs(outputs),
             "выходы не зависят от input_x: передайте его входному слою (input_var=input_x).")
    compute = _function([graph["input_x"]], outputs)
    parameters = _parameters_of(outputs)
    random = np.random.RandomState(inputs["seed"])
    x, halves, whole = inputs["x"], [], []
    with _same_parameters_afterwards(parameters):
        for _ in range(20):  # what holds for all weights is by construction
            _randomise(parameters, random)
            whole.append(compute(x))
            halves.append(compute(x[::2]))
    return dict(zip(["loc", "scale"], np.swapaxes(whole, 0, 1)),
                **dict(zip(["half_loc", "half_scale"], np.swapaxes(halves, 0, 1))))


def _judge_encoder(inputs, measured):
    loc, scale = measured["loc"], measured["scale"]
    _require(loc.shape == scale.shape == (20, len(inputs["x"]), inputs["hidden_dim"]),
             f"для {len(inputs['x'])} изображений выходы имеют формы {loc.shape[1:]} "
             f"и {scale.shape[1:]}.")
    _require((scale > 0).all(),
             "стандартное отклонение должно быть строго положительным при любых весах: какая "
             f"функция активации это даёт? Сейчас встретилось {scale.min():.3g}. "
             "Не перепутан ли порядок: сначала l_out_loc, потом l_out_scale?")
    _require(loc.min() < -1 and loc.max() > 1,
             "среднее должно принимать любые значения, и положительные, и отрицательные. Сейчас "
             f"оно от {loc.min():.2g} до {loc.max():.2g}: какую функцию активации взять?")
    for name, values in [("среднее", loc), ("стандартное отклонение", scale)]:
        _require(np.ptp(values, axis=1).max() > 1e-4, f"{name} не зависит от входного изображения.")
    _require(_close(measured["half_loc"], loc[:, ::2], 1e-3)
             and _close(measured["half_scale"], scale[:, ::2], 1e-3),
             "выход для изображения зависит от того, какие ещё изображения в батче, "
             "или случаен, а должен зависеть только от самого изображения.")


# --- 3: q(z | x) ---

def _build_posterior(names):
    qz_x = names.qz_x
    heads = [names.encoder_mean, names.encoder_scale]
    for name, head in zip(["encoder_mean", "encoder_scale"], heads):
        _require(isinstance(head, Layer),
                 f"{name} должен быть слоем Lasagne: это один из двух слоёв, которые "
                 "возвращает vae_encoder_mlp(input_x).")
    _require(all(_is_tensor(getattr(qz_x, name, None), ndim=2) for name in ["loc", "scale"]),
             "qz_x должен быть объектом MultivariateNormalDiag с параметрами-тензорами формы "
             "(batch, HIDDEN_DIM): выходы слоёв даёт lasagne.layers.get_output.")
    mean, std = get_output(heads)
    return dict(input_x=names.input_x, mean=mean, std=std, loc=qz_x.loc, scale=qz_x.scale,
                hidden_dim=_size(names, "HIDDEN_DIM"))


def _measure_posterior(graph, inputs):
    outputs = ["mean", "std", "loc", "scale"]
    try:
        compute = _function([graph["input_x"]], [graph[name] for name in outputs])
    except theano.gof.MissingInputError:
        raise Mistake("q(z | x) должно зависеть от input_x и больше ни от каких входов.")
    return dict(zip(outputs, compute(inputs["x"])))


def _judge_posterior(inputs, measured):
    mean, std, loc, scale = (measured[name] for name in ["mean", "std", "loc", "scale"])
    shape = (len(inputs["x"]), inputs["hidden_dim"])
    _require(loc.shape == scale.shape == shape,
             f"для {shape[0]} изображений loc имеет форму {loc.shape}, scale — {scale.shape}, "
             f"а нужна {shape}.")
    _require(not (_close(loc, std) and _close(scale, mean)),
             "loc и scale перепутаны местами.")
    _require((scale > 0).all(), "scale должен быть положительным: передан ли в него "
             "выход encoder_scale?")
    _require(_close(loc, mean), "loc у qz_x — не выход слоя encoder_mean. (Если в кодировщике "
             "есть dropout, уберите его: здесь он не нужен.)")
    _require(_close(scale, std), "scale у qz_x — не выход слоя encoder_scale. "
             "Это должно быть стандартное отклонение, без квадратов и логарифмов.")


# --- 4: p(x, z) ---

def _build_generative_model(names):
    input_x, decoder_logits, px_z = names.input_x, names.decoder_logits, names.px_z
    _require(isinstance(decoder_logits, Layer),
             "decoder_logits должен быть слоем Lasagne: его возвращает vae_decoder_mlp.")
    _require(_is_tensor(getattr(px_z, "logits", None), ndim=4),
             "px_z должен быть объектом BinaryVector, а его logits — тензором: "
             "lasagne.layers.get_output(decoder_logits).")
    z = T.matrix("z")
    try:
        prior = names.pz.log_prob(z)
    except (AttributeError, TypeError, ValueError):
        raise Mistake("pz.log_prob(z) не вычисляется: pz должен быть объектом "
                      "MultivariateNormalDiag с параметрами формы (batch, HIDDEN_DIM).")
    return dict(input_x=input_x, z=z, prior=prior, layer_output=get_output(decoder_logits),
                logits=px_z.logits, loc=names.qz_x.loc, scale=names.qz_x.scale,
                batch_size=_size(names, "BATCH_SIZE"), hidden_dim=_size(names, "HIDDEN_DIM"))


def _draw_codes(random, images, batch_size, hidden_dim):
    return dict(x=_binary_images(random, batch_size),
                z=random.normal(size=(batch_size, hidden_dim)))


def _measure_generative_model(graph, inputs):
    input_x, z, layer_output, logits = (
        graph[name] for name in ["input_x", "z", "layer_output", "logits"])
    try:
        compute = _function([input_x], [layer_output, logits])
    except theano.gof.MissingInputError:
        raise Mistake("p(x | z) должно зависеть от input_x и больше ни от каких входов: "
                      "на вход декодера нужен qz_x.sample().")
    try:
        T.grad(T.sum(logits), [graph["loc"], graph["scale"]])
        reparameterised = True
    except (theano.gradient.DisconnectedInputError, theano.gradient.NullTypeGradError):
        reparameterised = False
    layer_output, logits = compute(inputs["x"])
    try:
        log_prior = _function([input_x, z], graph["prior"])
        try:  # of as many codes as are decoded, or of one an image
            codes = np.resize(inputs["z"], (len(logits), graph["hidden_dim"]))
            prior = log_prior(inputs["x"], codes)
        except ValueError:
            prior = log_prior(inputs["x"], inputs["z"])
    except (TypeError, ValueError, theano.gof.MissingInputError):
        raise Mistake("pz.log_prob(z) не вычисляется: pz должен быть объектом "
                      "MultivariateNormalDiag с параметрами формы (batch, HIDDEN_DIM).")
    return dict(prior=prior, layer_output=layer_output, logits=logits,
                again=compute(inputs["x"])[0], reparameterised=reparameterised)


def _judge_generative_model(inputs, measured):
    x, logits, expected = inputs["x"], measured["logits"], measured["layer_output"]
    prior = measured["prior"]
    _require(prior.shape in [(len(logits),), (len(x),)]
             and _close(prior, np.resize(_normal_log_prob(inputs["z"], 0., 1.), prior.shape)),
             "p(z) должно быть стандартным нормальным распределением N(0, I).")
    _require(logits.shape[1:] == x.shape[1:] and logits.shape[0] in range(len(x), 2 ** 16, len(x)),
             f"logits имеет форму {logits.shape}, а изображения — {x.shape}.")
    _require(not (_close(logits, 1 / (1 + np.exp(-expected)))
                  or logits.min() >= 0 and logits.max() <= 1),
             "в BinaryVector переданы вероятности, а нужны логиты: сигмоида здесь лишняя.")
    _require(not np.allclose(expected, measured["again"], rtol=1e-6, atol=1e-6),
             "выход декодера не случаен: на вход ему нужен сэмпл из q(z | x), а не среднее.")
    _require(_close(logits, expected),
             "logits у px_z — не выход слоя decoder_logits при том же z.")
    _require(measured["reparameterised"],
             "градиент от p(x | z) не доходит до кодировщика: на вход декодера нужен "
             "qz_x.sample().")


# --- 5: ELBO, parameters, loss ---

def _build_elbo(names):
    elbo, params, loss = names.elbo, names.params, names.loss
    for name, value in [("elbo", elbo), ("loss", loss)]:
        _require(_is_tensor(value, ndim=0),
                 f"{name} должна быть символьным числом (скаляром): усредните по батчу.")
    _require(isinstance(params, (list, tuple)) and len(params) > 0,
             "params должен быть списком параметров: lasagne.layers.get_all_params.")
    code = T.matrix("code")
    code_layer, = (layer for layer in get_all_layers(names.decoder_logits)
                   if isinstance(layer, InputLayer))
    return dict(input_x=names.input_x, elbo=elbo, loss=loss, params=list(params),
                loc=names.qz_x.loc, scale=names.qz_x.scale, z=code_layer.input_var,
                code=code, logits=get_output(names.decoder_logits, code),
                batch_size=_size(names, "BATCH_SIZE"))


def _draw_batches(random, images, batch_size):
    held_out = images[-N_HELD_OUT:]
    return dict(x=_binary_images(random, batch_size),
                held_out=random.uniform(size=held_out.shape) < held_out,
                images=images[:-N_HELD_OUT],
                seed=random.randint(2 ** 31 - 1))


def _products(output):
    """The products of matrices in the graph of a variable."""
    nodes = theano.gof.graph.io_toposort(theano.gof.graph.inputs([output]), [output])
    return [node for node in nodes if isinstance(node.op, T.Dot)]


def _codes(graph):
    """The samples that elbo is an average over: all that the decoder's first weights multiply."""
    first_weights = {node.inputs[1] for node in _products(graph["logits"])
                     if node.inputs[0] is graph["code"]}
    codes = [node.inputs[0] for node in _products(graph["elbo"])
             if node.inputs[1] in first_weights]
    return T.concatenate(codes or [graph["z"]])


def _measure_elbo(graph, inputs):
    input_x, loc, scale, params = (graph[name] for name in ["input_x", "loc", "scale", "params"])
    encoder, decoder = _parameters_of([loc, scale]), _parameters_of([graph["logits"]])
    random = np.random.RandomState(inputs["seed"])
    outputs = dict(elbo=graph["elbo"], loss=graph["loss"], loc=loc, scale=scale, z=_codes(graph))
    compute = _function([input_x], list(outputs.values()))
    decode = _function([graph["code"]], graph["logits"])
    draws = []
    with _same_parameters_afterwards(encoder):
        for draw in range(50):  # by encoders with other weights: KL is large, and known
            if draw % 10 == 0:
                _randomise(encoder, random)
            *values, z = compute(inputs["x"])
            draws.append([*values, z, _log_likelihoods(inputs["x"], z, decode(z))])
    measured = dict(zip([*outputs, "log_px_z"], map(np.array, zip(*draws))))

    missing = [[parameter.name for parameter in network if parameter not in params]
               for network in (encoder, decoder)]
    gradients = T.grad(graph["loss"], params, disconnected_inputs="ignore",
                       return_disconnected="None")
    measured.update(missing=[list(map(str, names)) for names in missing],
                    repeated=len(set(params)) < len(params),
                    irrelevant=[str(parameter.name) for parameter, gradient
                                in zip(params, gradients) if gradient is None])
    if any(missing) or measured["repeated"] or measured["irrelevant"]:
        return measured

    with _same_parameters_afterwards(params):
        before = [parameter.get_value() for parameter in params]
        train = theano.function([input_x], [], on_unused_input="ignore",
                                updates=lasagne.updates.adam(
                                    gradients, params, learning_rate=LEARNING_RATE))
        for _ in range(TRAINING_STEPS):
            chosen = random.randint(len(inputs["images"]), size=len(inputs["x"]))
            batch = inputs["images"][chosen]
            train((random.uniform(size=batch.shape) < batch).astype(input_x.dtype))
        loc, scale = _function([input_x], [loc, scale])(inputs["held_out"])
        z = loc + scale * random.normal(size=loc.shape)
        measured.update(trained_loc=loc, trained_scale=scale, trained_logits=decode(z),
                        irrelevant=[str(parameter.name) for parameter, value in zip(params, before)
                                    if np.array_equal(parameter.get_value(), value)])
    return measured


def _repeated(values, n, axis):
    """Both orders of K samples an image: those of one image together, or a batch apart."""
    k = n // values.shape[axis]
    return np.repeat(values, k, axis), np.concatenate([values] * k, axis)


def _log_likelihoods(x, z, logits):
    """Return log p(x | z), averaged over the samples, for either of their orders."""
    _require(len(z) > 0 and len(z) % len(x) == 0 and logits.shape == (len(z), *x.shape[1:]),
             f"для батча из {len(x)} изображений в декодер подаются коды формы {z.shape}, "
             f"а выходит из него {logits.shape}.")
    return [np.mean(_bernoulli_log_prob(images, logits)) for images in _repeated(x, len(z), 0)]


def _bounds(z, loc, scale, log_px_z):
    """The terms of ELBO in each of the ways to estimate them, averaged over the batch.

    Yields E log p(x | z), E log p(z) and the entropy of q(z | x), an array of one number a draw
    each.  The first is always an average over the samples z, the others may be closed forms.
    """
    prior = np.mean(_normal_log_prob(0., loc, np.ones_like(loc)) - 0.5 * np.sum(scale ** 2, axis=2),
                    axis=1)
    entropy = np.mean(np.sum(0.5 * (LOG_2PI + 1) + np.log(scale), axis=2), axis=1)
    sampled_prior = np.mean(_normal_log_prob(z, 0., np.ones_like(z)), axis=1)
    orders = [_repeated(values, z.shape[1], axis=1) for values in (loc, scale)]
    for log_px_z, some_loc, some_scale in zip(log_px_z.T, *orders):
        sampled_entropy = -np.mean(_normal_log_prob(z, some_loc, some_scale), axis=1)
        for some_prior in (prior, sampled_prior):
            for some_entropy in (entropy, sampled_entropy):
                yield log_px_z, some_prior, some_entropy


_WRONG_BOUNDS = [
    (lambda n, log_px_z, prior, entropy: -(log_px_z + prior + entropy),
     "у elbo неверный знак: это оценка, которую максимизируют, около -100."),
    (lambda n, log_px_z, prior, entropy: log_px_z - prior - entropy,
     "KL-дивергенция входит с неверным знаком: её вычитают."),
    (lambda n, log_px_z, prior, entropy: log_px_z,
     "нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo."),
    (lambda n, log_px_z, prior, entropy: prior + entropy, "нет слагаемого log p(x | z)."),
    (lambda n, log_px_z, prior, entropy: log_px_z + prior, "нет слагаемого -log q(z | x)."),
    (lambda n, log_px_z, prior, entropy: log_px_z + entropy, "нет слагаемого log p(z)."),
    (lambda n, log_px_z, prior, entropy: n * (log_px_z + prior + entropy),
     "elbo просуммирована по батчу, а нужна средняя."),
    (lambda n, log_px_z, prior, entropy: n * log_px_z + prior + entropy,
     "log p(x | z) просуммирован по батчу, а остальные слагаемые усреднены."),
]


def _judge_elbo(inputs, measured):
    x, held_out = inputs["x"], inputs["held_out"]
    values, losses, loc, scale, z, log_px_z = (
        np.asarray(measured[name], dtype=float)
        for name in ["elbo", "loss", "loc", "scale", "z", "log_px_z"])
    n_draws, n, hidden_dim = loc.shape
    _require(n == len(x) and scale.shape == loc.shape and z.shape[2] == hidden_dim,
             f"для батча из {len(x)} изображений в декодер подаются коды формы {z.shape[1:]}, "
             f"а распределение q(z | x) — для {n} изображений.")
    bounds = list(_bounds(z, loc, scale, log_px_z))
    rounding = 1e-4 * np.sum(np.abs(bounds[0]), axis=0)

    def equal(bound):
        return any((np.abs(values - bound(n, *terms)) < rounding).all() for terms in bounds)

    for wrong_bound, hint in _WRONG_BOUNDS:
        _require(not equal(wrong_bound), hint)
    if not equal(lambda n, *terms: sum(terms)):
        log_px_z, kl = bounds[0][0], -bounds[0][1] - bounds[0][2]
        error = (values - (log_px_z - kl)).reshape(5, 10)
        unbiased = np.abs(error.mean(axis=1)) < 5 * error.std(axis=1) / np.sqrt(10)
        _require(not unbiased.all(),
                 "все слагаемые elbo нужно вычислять при одном и том же z: том, что подан "
                 "на вход декодера. Не вызван ли qz_x.sample() второй раз?")
        raise Mistake(
            f"в задаче с известным ответом elbo = {values[0]:.2f}, а должна быть "
            f"{log_px_z[0] - kl[0]:.2f}: log p(x | z) = {log_px_z[0]:.2f}, "
            f"KL-дивергенция = {kl[0]:.2f}. Проверьте оба слагаемых.")

    ratio = losses / values
    _require((ratio < 0).all(), "loss растёт вместе с elbo, а оптимизатор loss уменьшает: "
             "какой нужен знак?")
    _require(any(_close(ratio, np.full(n_draws, -factor)) for factor in (1., n, z.shape[1])),
             "loss должна быть равна -elbo (средней по батчу или просуммированной).")

    for network, missing in zip(["кодировщика", "декодера"], measured["missing"]):
        _require(not missing, f"в params нет параметров {network}: {', '.join(missing)}.")
    _require(not measured["repeated"], "некоторые параметры попали в params дважды.")
    _require(not measured["irrelevant"], "loss не зависит от параметров "
             f"{', '.join(measured['irrelevant'])} из params, или градиент до них не доходит.")

    loc, scale, logits = (np.asarray(measured[f"trained_{name}"], dtype=float)
                          for name in ["loc", "scale", "logits"])
    _require(loc.shape == scale.shape == (len(held_out), hidden_dim)
             and logits.shape == held_out.shape,
             f"для {len(held_out)} изображений logits имеет форму {logits.shape}.")
    elbo = np.mean(_bernoulli_log_prob(held_out, logits) - _kl_to_standard_normal(loc, scale))
    _require(elbo > LEAST_ELBO,
             f"модель не обучается: за {TRAINING_STEPS} шагов Adam elbo на отложенных изображениях "
             f"дошла до {elbo:.0f}, а должна хотя бы до {LEAST_ELBO:.0f}. Доходит ли градиент "
             "от loss до всех параметров, с каких весов начинают сети?")


@dataclass(frozen=True)
class Exercise:
    """One exercise: what it is called and how it is checked."""

    title: str  #: in Russian, as the student reads it
    points: int
    names: tuple  #: what the student's cells must define
    build: Callable  #: (names: Names) -> the graph, a dict of Theano variables and sizes
    draw: Callable  #: (random, images, **sizes of the graph) -> inputs, a dict
    measure: Callable  #: (graph, inputs) -> a dict of arrays, truth values and lists of names
    judge: Callable  #: (inputs, measured) -> None
    trains: bool = False  #: whether it draws from real images


#: The seminar's exercises, by number.
EXERCISES = {
    1: Exercise("сэмплирование из q(z | x)", 2, ("MultivariateNormalDiag",),
                _build_sample, _draw_parameters, _measure_sample, _judge_sample),
    2: Exercise("кодировщик", 2, ("vae_encoder_mlp",),
                _build_encoder, _draw_images, _measure_encoder, _judge_encoder),
    3: Exercise("апостериорное распределение q(z | x)", 1,
                ("encoder_mean", "encoder_scale", "qz_x"),
                _build_posterior, _draw_images, _measure_posterior, _judge_posterior),
    4: Exercise("генеративная модель p(x, z)", 2, ("decoder_logits", "pz", "px_z"),
                _build_generative_model, _draw_codes, _measure_generative_model,
                _judge_generative_model),
    5: Exercise("ELBO, параметры и функция потерь", 3, ("elbo", "params", "loss"),
                _build_elbo, _draw_batches, _measure_elbo, _judge_elbo, trains=True),
}
