"""Exercise 5: ELBO, the parameters and the loss."""

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_output
from scipy.special import logsumexp
from theano.scan_module.scan_op import Scan

from vae.checks.common import (
    LOG_2PI, N_HELD_OUT, Exercise, Mistake, bernoulli_log_prob, binary_images, close, compiled,
    is_tensor, judge_code, kl_to_standard_normal, normal_log_prob, parameters_of, randomise, require,
    same_parameters_afterwards, size_of)
from vae.language import N_, _

#: Steps of Adam that the model is trained for, by batches of 20 images; by smaller ones more.
TRAINING_STEPS = 300
LEARNING_RATE = 0.003
#: ELBO after them on held-out images, nats an image: the reference goes from -544 to -183, other
#: right networks to -200 and better.
LEAST_ELBO = -210.
#: More than a model can that ignores its code, -206: there training may end. The reference needs
#: about 70 steps to it.
ENOUGH_ELBO = -203.


def build(names):
    elbo, params, loss = names.elbo, names.params, names.loss
    for name, value in [("elbo", elbo), ("loss", loss)]:
        require(is_tensor(value, ndim=0),
                _("{name} должна быть символьным числом (скаляром): усредните по батчу.").format(
                    name=name))
    try:
        params = list(params)
    except TypeError:
        params = []
    require(params, _("params должен быть списком параметров: lasagne.layers.get_all_params."))
    require(not any(isinstance(one, Layer) for one in params),
            _("в params лежат слои, а нужны их параметры: lasagne.layers.get_all_params(слои)."))
    require(all(isinstance(one, theano.compile.SharedVariable) for one in params),
            _("params должен быть списком параметров сетей: lasagne.layers.get_all_params."))
    code = T.matrix("code")
    code_layer, = (layer for layer in get_all_layers(names.decoder_logits)
                   if isinstance(layer, InputLayer))
    return dict(input_x=names.input_x, elbo=elbo, loss=loss, params=params,
                updates=_updates(names), loc=names.qz_x.loc, scale=names.qz_x.scale,
                z=code_layer.input_var, code=code, logits=get_output(names.decoder_logits, code),
                described=_described([names.encoder_mean, names.encoder_scale],
                                     names.decoder_logits),
                batch_size=size_of(names, "BATCH_SIZE"))


def _updates(names):
    updates = names.updates
    try:
        pairs = [list(pair) for pair in (updates.items() if hasattr(updates, "items") else updates)]
    except TypeError:
        pairs = [[]]
    require(all(len(pair) == 2 and isinstance(pair[0], theano.compile.SharedVariable)
                for pair in pairs),
            _("updates — это правила обновления весов, их даёт lasagne.updates.adam(loss, params)."))
    return [[shared, T.as_tensor_variable(new) if isinstance(shared.type, T.TensorType) else new]
            for shared, new in pairs]


def _described(*networks):
    """Pairs of a parameter and what the student can find it by."""
    return [[parameter, _description(layer, parameter)] for network in networks
            for layer in get_all_layers(network) for parameter in layer.params]


def _description(layer, parameter):
    name = str(parameter.name or "?")
    if layer.name:
        return name
    shape = "×".join(map(str, parameter.get_value(borrow=True).shape))
    return _("{name} формы {shape} в слое {name_2} без имени").format(
               name=name, shape=shape, name_2=type(layer).__name__)


def draw(random, images, batch_size):
    held_out = images[-N_HELD_OUT:]
    return dict(x=binary_images(random, batch_size),
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


def measure(graph, inputs):
    loc, scale, params = (graph[name] for name in ["loc", "scale", "params"])
    x, random = inputs["x"], np.random.RandomState(inputs["seed"])
    encoder, decoder = parameters_of([loc, scale]), parameters_of([graph["logits"]])
    decode = compiled([graph["code"]], graph["logits"])
    measured = _draws(graph, x, encoder, decoder, decode, random)
    measured.update(in_a_loop=any(type(node.op) is Scan for node in theano.gof.graph.io_toposort(
        theano.gof.graph.inputs([graph["elbo"]]), [graph["elbo"]])))
    try:
        _judge_bound(inputs, measured)
    except Mistake:
        return measured  # that is enough for a verdict

    described = {parameter: text for parameter, text in graph["described"]}
    missing = [[described.get(one, str(one.name)) for one in network if one not in params]
               for network in (encoder, decoder)]
    try:
        gradients = T.grad(graph["loss"], params, disconnected_inputs="ignore",
                           return_disconnected="None")
    except theano.gradient.NullTypeGradError:
        raise Mistake(_("градиент loss по параметрам не вычисляется: на пути к ним есть операция "
                        "без градиента."))
    measured.update(missing=missing, repeated=len(set(params)) < len(params),
                    irrelevant=[described.get(one, str(one.name)) for one, gradient
                                in zip(params, gradients) if gradient is None])
    if any(missing) or measured["repeated"] or measured["irrelevant"]:
        return measured

    gradients = theano.function([graph["input_x"]], [theano.Out(one, borrow=True)
                                                     for one in gradients],
                                on_unused_input="ignore")
    measured.update(_steps(graph, x, encoder, decoder, gradients, described, random))
    with same_parameters_afterwards(list(dict.fromkeys([*encoder, *decoder, *params]))):
        measured.update(_trained(graph, inputs, gradients, random, decode, described))
    return measured


#: The draws by an encoder of weights near 0, so that KL is small.
_SMALL_KL = slice(40, 50)


def _draws(graph, x, encoder, decoder, decode, random):
    """ELBO and what it is made of, by encoders with other weights: KL is large, and known.

    Also by a decoder that gives the same for all codes, when all noise is that of KL's estimate.
    """
    compute = theano.function(
        [graph["input_x"]],
        [graph["elbo"], graph["loss"], graph["loc"], graph["scale"], _codes(graph)],
        updates=[(shared, new) for shared, new in graph["updates"] if _is_stream(shared)],
        on_unused_input="ignore")
    batch, draws = np.asarray(x, graph["input_x"].dtype), []
    with same_parameters_afterwards(encoder):
        for draw in range(50):
            if draw % 10 == 0:
                randomise(encoder, random)
            if draw == _SMALL_KL.start:
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


def _is_stream(shared):
    """Whether a shared variable is the state of random streams, as a loop's updates have them."""
    return not getattr(shared, "dtype", "").startswith("float")


def _steps(graph, x, encoder, decoder, gradients, described, random):
    """Whether `updates` take the parameters where Adam's first step on the loss does.

    Once as the model is, once with a decoder that gives the same for all codes: then only KL
    moves the encoder.
    """
    batch = np.asarray(x, graph["input_x"].dtype)
    student = theano.function([graph["input_x"]], [], on_unused_input="ignore", updates=[
        (shared, T.cast(new, shared.dtype) if isinstance(shared.type, T.TensorType) else new)
        for shared, new in graph["updates"]])
    state = [shared for shared, _ in graph["updates"] if not _is_stream(shared)]
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


def _trained(graph, inputs, gradients, random, decode, described):
    """The model after some steps of Adam, and parameters that these have left as they were."""
    input_x, params = graph["input_x"], graph["params"]
    before = [parameter.get_value() for parameter in params]
    adam, n_steps = _Adam(params, gradients), _n_steps(len(inputs["x"]))
    encode = compiled([input_x], [graph["loc"], graph["scale"]])
    for done in range(1, n_steps + 1):
        chosen = random.randint(len(inputs["images"]), size=len(inputs["x"]))
        batch = inputs["images"][chosen]
        adam.step((random.uniform(size=batch.shape) < batch).astype(input_x.dtype))
        if done % (n_steps // 12) == 0:
            loc, scale = encode(inputs["held_out"])
            logits = decode(loc + scale * random.normal(size=loc.shape))
            if _held_out_elbo(inputs["held_out"], loc, scale, logits) > ENOUGH_ELBO:
                break
    return dict(trained_loc=loc, trained_scale=scale, trained_logits=logits,
                irrelevant=[described.get(one, str(one.name)) for one, value in zip(params, before)
                            if np.array_equal(one.get_value(), value)])


def _held_out_elbo(x, loc, scale, logits):
    loc, scale, logits = (np.asarray(one, dtype=float) for one in (loc, scale, logits))
    require(loc.shape == scale.shape == (len(x), loc.shape[-1]) and logits.shape == x.shape,
            _("для {n} изображений logits имеет форму {shape}.").format(
                n=len(x), shape=logits.shape))
    return np.mean(bernoulli_log_prob(x, logits) - kl_to_standard_normal(loc, scale))


def _n_steps(batch_size):
    return TRAINING_STEPS * min(10, max(1, 20 // batch_size))


def _repeated(values, n, axis):
    """Both orders of K samples an image: those of one image together, or a batch apart."""
    k = n // values.shape[axis]
    return np.repeat(values, k, axis), np.concatenate([values] * k, axis)


def _log_likelihoods(x, z, logits):
    """Return log p(x | z) of each sample, for either of their orders."""
    require(len(z) > 0 and len(z) % len(x) == 0 and logits.shape == (len(z), *x.shape[1:]),
            _("для батча из {n} изображений в декодировщик подаются коды формы {shape}, а "
              "выходит из него {shape_2}.").format(n=len(x), shape=z.shape, shape_2=logits.shape))
    if len(z) == len(x):
        return [bernoulli_log_prob(x, logits)] * 2
    return [bernoulli_log_prob(images, logits) for images in _repeated(x, len(z), 0)]


def _bounds(z, loc, scale, log_px_z):
    """The terms of ELBO in each of the ways to estimate them, averaged over the batch.

    Yields E log p(x | z), E log p(z) and the entropy of q(z | x), an array of one number a draw
    each.  The first is always an average over the samples z, the others may be closed forms.
    """
    prior = np.mean(normal_log_prob(0., loc, np.ones_like(loc)) - 0.5 * np.sum(scale ** 2, axis=2),
                    axis=1)
    entropy = np.mean(np.sum(0.5 * (LOG_2PI + 1) + np.log(scale), axis=2), axis=1)
    sampled_prior = np.mean(normal_log_prob(z, 0., np.ones_like(z)), axis=1)
    orders = [_repeated(values, z.shape[1], axis=1) for values in (loc, scale)]
    for index, (some_loc, some_scale) in enumerate(zip(*orders)):
        of_x = np.mean(log_px_z[:, index], axis=1)
        sampled_entropy = -np.mean(normal_log_prob(z, some_loc, some_scale), axis=1)
        for some_prior, some_entropy in [(sampled_prior, sampled_entropy), (prior, entropy),
                                         (prior, sampled_entropy), (sampled_prior, entropy)]:
            yield of_x, some_prior, some_entropy


def _what_is_wrong(values, bounds, rounding, sizes):
    """Name the mistake of a sum of the same terms with other factors, or return None.

    The factors are found by least squares over the draws.
    """
    for terms in bounds:
        matrix = np.column_stack([*terms, np.ones(len(values))])
        scaling = np.abs(matrix).max(axis=0)
        factors = np.linalg.lstsq(matrix / scaling, values, rcond=1e-9)[0] / scaling
        if (np.abs(matrix @ factors - values) < rounding * max(1, *np.abs(factors[:3]))).all():
            hint = _name_of(*factors, sizes)
            if hint is not None:
                return hint
    return None


def _is(value, expected):
    return abs(value - expected) < 0.02 * max(abs(expected), 1e-4)


def _name_of(of_x, prior, entropy, constant, sizes):
    def zero(value):
        return abs(value) < 1e-3

    def guess(factor):
        """What may have been done to a term to get this factor."""
        for size, of_what in sizes:
            if size > 1 and _is(factor, size):
                return _(" (похоже, лишняя сумма по {of_what})").format(of_what=of_what)
            if size > 1 and _is(factor, 1 / size):
                return _(" (похоже, лишнее среднее по {of_what})").format(of_what=of_what)
        return ""

    if all(_is(one, of_x) for one in (prior, entropy)) and not zero(of_x):
        if _is(of_x, 1):
            return _("elbo отличается от нужной на постоянную {constant:.1f}.").format(
                       constant=constant)
        if _is(of_x, -1):
            return _("у elbo неверный знак: это оценка, которую максимизируют, около -100.")
        return _("elbo умножена на {of_x:.3g}, а должна быть средней по батчу{guess}.").format(
                   of_x=of_x, guess=guess(abs(of_x)))
    if zero(of_x):
        return _("нет слагаемого log p(x | z).") if not zero(prior) or not zero(entropy) else None
    if zero(prior) and zero(entropy):
        return _("нет KL-дивергенции: log p(z) и log q(z | x) тоже входят в elbo.")
    if zero(entropy):
        return _("нет слагаемого -log q(z | x).")
    if zero(prior):
        return _("нет слагаемого log p(z).")
    if _is(prior, entropy):
        if prior / of_x < 0:
            return _("KL-дивергенция входит с неверным знаком: её вычитают.")
        parts = [_("множитель при {name} — {factor:.3g}, а должен быть 1{guess}").format(
                     name=name, factor=factor, guess=guess(factor))
                 for name, factor in [("log p(x | z)", of_x), (_("KL-дивергенции"), prior)]
                 if not _is(factor, 1)]
        return "; ".join(parts) + "."
    if _is(prior, -entropy):
        return _("log p(z) и log q(z | x) входят с одним знаком, а должны с разными.")
    return None


def _is_noise(error):
    """Whether the mean of the errors is 0 for each encoder, and for all of them together."""
    error = error.reshape(5, 10)
    spread = error.std(axis=1, ddof=1) + 1e-4 * np.abs(error).max() + 1e-3
    return ((np.abs(error.mean(axis=1)) < 8 * spread / np.sqrt(10)).all()
            and abs(np.mean(error.mean(axis=1) / spread)) < 5 / np.sqrt(50))


def _importance_weighted(z, loc, scale, log_px_z):
    """The bound of Burda, Grosse and Salakhutdinov (2016), eq. 8, for either order of samples."""
    n_draws, n = loc.shape[:2]
    k = z.shape[1] // n
    for index, (some_loc, some_scale) in enumerate(
            zip(*[_repeated(values, z.shape[1], axis=1) for values in (loc, scale)])):
        weights = (log_px_z[:, index] + normal_log_prob(z, 0., np.ones_like(z))
                   - normal_log_prob(z, some_loc, some_scale))
        shape, axis = ((n_draws, n, k), 2) if index == 0 else ((n_draws, k, n), 1)
        yield np.mean(logsumexp(weights.reshape(shape), axis=axis) - np.log(k), axis=1)


def _judge_bound(inputs, measured):
    x = inputs["x"]
    values, losses, loc, scale, z, log_px_z, own_log_px_z = (
        np.asarray(measured[name], dtype=float)
        for name in ["elbo", "loss", "loc", "scale", "z", "log_px_z", "own_log_px_z"])
    n_draws, n, hidden_dim = loc.shape
    require(n == len(x) and scale.shape == loc.shape and z.shape[2] == hidden_dim,
            _("для батча из {n} изображений в декодировщик подаются коды формы {z}, а "
              "распределение q(z | x) — для {n_2} изображений.").format(
                n=len(x), z=z.shape[1:], n_2=n))
    bounds = list(_bounds(z, loc, scale, log_px_z))
    kl = np.mean(kl_to_standard_normal(loc, scale), axis=1)
    rounding = 1e-4 * np.sum(np.abs(bounds[0]), axis=0)
    judge_code(n, z, loc, scale)

    def equal(bound):
        return (np.abs(values - bound) < rounding).all()

    if not any(equal(sum(terms)) for terms in bounds):
        _judge_another_bound(values, own_log_px_z, kl, bounds, rounding, measured, x, loc, scale, z,
                             log_px_z)

    ratio = losses / values
    require((ratio < 0).all(), _("loss растёт вместе с elbo, а оптимизатор loss уменьшает: "
              "какой нужен знак?"))
    require(any(close(ratio, np.full(n_draws, -factor)) for factor in (1., n, z.shape[1])),
            _("loss должна быть равна -elbo (средней по батчу или просуммированной)."))


def judge(inputs, measured):
    _judge_bound(inputs, measured)
    held_out, n = inputs["held_out"], len(inputs["x"])
    for network, missing in zip([_("кодировщика"), _("декодировщика")], measured["missing"]):
        require(not missing, _("в params нет параметров {network}: {names}.").format(
                                 network=network, names=', '.join(missing)))
    require(not measured["repeated"], _("некоторые параметры попали в params дважды."))
    require(not measured["irrelevant"], _("loss не зависит от параметров {names} из params, "
                                          "или градиент до них не доходит.").format(
                                            names=', '.join(measured['irrelevant'])))
    require(not measured["no_gradient_of_kl"], _("KL-дивергенция в elbo есть, но градиент от неё не "
              "доходит до кодировщика."))
    require(not measured["unmoved"], _("updates не меняют параметров {names}: верните строку "
                                       "updates = lasagne.updates.adam(loss, params).").format(
                                         names=', '.join(measured['unmoved'])))
    require(measured["agreement"] > 0,
            _("updates увеличивают loss, или не всю её уменьшают: верните "
              "строку updates = lasagne.updates.adam(loss, params)."))

    elbo = _held_out_elbo(held_out, *(measured[f"trained_{name}"]
                                      for name in ["loc", "scale", "logits"]))
    require(elbo > LEAST_ELBO,
            _("модель не обучается: за {n} шагов Adam elbo на отложенных изображениях дошла до "
              "{elbo:.0f}, а должна хотя бы до {LEAST_ELBO:.0f}. Доходит ли градиент от loss "
              "до всех параметров, с каких весов начинают сети?").format(
                n=_n_steps(n), elbo=elbo, LEAST_ELBO=LEAST_ELBO))


def _judge_another_bound(values, own_log_px_z, kl, bounds, rounding, measured, x, loc, scale, z,
                         log_px_z):
    """elbo is not made of the samples that were seen: what is it, then?"""
    off = [np.abs(values - sum(terms)) >= rounding for terms in bounds]
    require(not any(one[_SMALL_KL].any() and not one[:_SMALL_KL.start].any() for one in off),
            _("elbo верна, пока KL-дивергенция велика, но не когда она мала: ограничивать её снизу "
              "(T.maximum, T.clip, free bits) не нужно."))
    n, hidden_dim = loc.shape[1:]
    k = z.shape[1] // n
    sizes = [(n, _("батчу")), (hidden_dim, _("координатам кода")), (28 * 28, _("пикселям")),
             (k, _("сэмплам")), (n * k, _("батчу и сэмплам")),
             (n * hidden_dim, _("батчу и координатам кода")),
             (n * 28 * 28, _("батчу и пикселям"))]
    hint = _what_is_wrong(values, bounds, rounding, sizes)
    require(hint is None, hint)
    if k > 1:
        require(not any((np.abs(values - one) < rounding).all()
                        for one in _importance_weighted(z, loc, scale, log_px_z)),
                _("это IWAE: логарифм среднего по сэмплам. Здесь нужно среднее логарифмов."))
    reverse = np.mean(0.5 * np.sum((1 + loc ** 2) / scale ** 2 - 1 + 2 * np.log(scale), axis=2),
                      axis=1)
    require(not any((np.abs(values - (terms[0] - reverse)) < rounding + 1e-4 * np.abs(reverse)).all()
                    for terms in bounds),
            _("KL-дивергенция взята в обратную сторону: KL(p || q), а нужна KL(q || p)."))

    quiet = np.asarray(measured["quiet_elbo"], dtype=float) - 28 * 28 * np.log(0.5)
    unbiased = all(_is_noise(error) for error in [values - (own_log_px_z - kl), quiet + kl])
    if unbiased and measured["in_a_loop"]:
        return  # samples that are drawn inside a loop can't be seen, only their average
    require(not unbiased,
            _("все слагаемые elbo нужно вычислять при одном и том же z: том, что подан на вход "
              "декодировщика. Не вызван ли qz_x.sample() второй раз? (Такая оценка тоже не смещена, "
              "но её дисперсия больше.)"))
    log_px, divergence = own_log_px_z[0], kl[0]
    raise Mistake(
        _("в задаче с известным ответом elbo = {values:.2f}, а должна быть около {log_px:.2f}: "
          "log p(x | z) = {log_px_2:.2f}, KL-дивергенция = {divergence:.2f}. Проверьте оба "
          "слагаемых: по пикселям и координатам кода — суммы, по батчу — среднее.").format(
            values=values[0], log_px=log_px - divergence, log_px_2=log_px, divergence=divergence))


EXERCISE = Exercise(N_("ELBO, параметры и функция потерь"), 3, ("elbo", "params", "loss", "updates"),
                    build, draw, measure, judge, uses=(3, 4), trains=True)
