"""ELBO, the parameters and the loss."""

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_all_params, get_output

from vae.checks.closed_forms import close
from vae.checks.elbo_diagnosis import diagnose, diagnose_loss
from vae.checks.elbo_draws import DRAWS_PER_ENCODER, N_ENCODERS, Draws, draw_elbo
from vae.checks.elbo_gradients import compare_gradients, compile_gradients, lost_on_average
from vae.checks.exercise import (
    N_HELD_OUT, Exercise, Mistake, input_of, kind_of, require, size_of)
from vae.checks.graph_tools import (
    array_function, is_tensor, parameters_of, same_parameters_afterwards, trained_parameters_of)
from vae.checks.latent_code import judge_code, require_of_the_images
from vae.checks.random_images import binary_images
from vae.checks.trial_training import (
    compare_updates_with_adam, description_of, elbo_without_code, held_out_elbo, train)
from vae.language import N_, _
from vae.progress import expect


def build(names):
    """Return the graph of the ELBO, of the loss and of the updates.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    dict
        ``input_x``: the images, a symbolic tensor of shape (batch, 1, 28, 28).
        ``elbo``, ``loss``: symbolic scalars, in nats.
        ``params``: list of shared variables.
        ``updates``: list of pairs of a shared variable and its new value.
        ``loc``, ``scale``: parameters of q(z | x), symbolic matrices of shape (batch, HIDDEN_DIM).
        ``z``: the decoder's input, a symbolic matrix of shape (K * batch, HIDDEN_DIM).
        ``code``, ``logits``: a symbolic matrix, and the decoder's output with ``code`` for ``z``.
        ``described``: list of pairs of a parameter and its description for the student, a str.
        ``trainable``: list of shared variables, the trainable parameters of the networks' layers.
        ``prior``: list of pairs of a shared variable and the attribute of ``pz`` that depends on
        it, ``loc`` or ``scale``. Parameters of the networks are left out.
        ``batch_size``: int.

    Raises
    ------
    Mistake
    """
    elbo, params, loss = names.elbo, names.params, names.loss
    require(isinstance(elbo, theano.Variable),
            _("elbo сейчас — {kind}, а должна быть символьным числом: выражением из px_z, pz и "
              "qz_x, которое вычислять (.eval()) не нужно.", kind=kind_of(elbo)))
    require(isinstance(loss, theano.Variable),
            _("loss сейчас — {kind}, а должна быть символьным числом, выражением из elbo.",
              kind=kind_of(loss)))
    for name, value in [("elbo", elbo), ("loss", loss)]:
        require(is_tensor(value, ndim=0),
                _("{name} должна быть символьным числом (скаляром), а у неё измерений {ndim}: "
                  "усредните по батчу.", name=name, ndim=value.ndim))
    require(not any(isinstance(value, theano.Constant) and value.ndim == 4 and value.data.size > 1
                    for value in theano.gof.graph.inputs([elbo, loss])),
            _("в elbo или loss подставлены сами изображения (массив NumPy), а нужна символьная "
              "переменная input_x."))
    try:
        params = [] if isinstance(params, str) else list(params)
    except TypeError:
        params = []
    require(params, _("params сейчас — {kind}, а должен быть непустым списком параметров: "
                      "lasagne.layers.get_all_params.", kind=kind_of(names.params)))
    require(not any(isinstance(parameter, Layer) for parameter in params),
            _("в params лежат слои, а нужны их параметры: lasagne.layers.get_all_params(слои)."))
    require(all(isinstance(parameter, theano.compile.SharedVariable) for parameter in params),
            _("params должен быть списком параметров сетей, а в нём есть {kind}: "
              "lasagne.layers.get_all_params.", kind=_kind_of_no_parameter(params)))
    require(isinstance(names.decoder_logits, Layer),
            _("decoder_logits сейчас — {kind}, а должен быть слоем Lasagne: выполните ячейку "
              "упражнения 4 ещё раз.", kind=kind_of(names.decoder_logits)))
    code = T.matrix("code")
    code_layer, = (layer for layer in get_all_layers(names.decoder_logits)
                   if isinstance(layer, InputLayer))
    return dict(input_x=input_of(names), elbo=elbo, loss=loss, params=params,
                updates=_updates(names), loc=names.qz_x.loc, scale=names.qz_x.scale,
                z=code_layer.input_var, code=code, logits=get_output(names.decoder_logits, code),
                described=_described([names.encoder_mean, names.encoder_scale],
                                     names.decoder_logits),
                trainable=get_all_params([names.encoder_mean, names.encoder_scale,
                                          names.decoder_logits], trainable=True),
                prior=_constants_of_prior(names), batch_size=size_of(names, "BATCH_SIZE"))


def _kind_of_no_parameter(params):
    return next((kind_of(value) for value in params
                 if not isinstance(value, theano.compile.SharedVariable)), "")


def _updates(names):
    """Return the student's updates as pairs of a shared variable and its new value."""
    updates = names.updates
    try:
        pairs = [list(pair) for pair in (updates.items() if hasattr(updates, "items") else updates)]
    except TypeError:
        pairs = [[]]
    require(all(len(pair) == 2 and isinstance(pair[0], theano.compile.SharedVariable)
                for pair in pairs),
            _("updates сейчас — {kind}, а нужны правила обновления весов, их даёт "
              "lasagne.updates.adam(loss, params).", kind=kind_of(updates)))
    return [[shared, T.as_tensor_variable(new) if isinstance(shared.type, T.TensorType) else new]
            for shared, new in pairs]


def _constants_of_prior(names):
    """Return pairs of a shared variable and the attribute of pz that depends on it."""
    try:
        pz = names.pz
    except Mistake:  # a mistake in exercise 4: elbo may do without pz
        return []
    of_networks = parameters_of([names.qz_x.loc, names.qz_x.scale, get_output(names.decoder_logits)])
    attributes = [(name, getattr(pz, name, None)) for name in ["loc", "scale"]]
    return [[shared, name] for name, value in attributes
            if isinstance(value, theano.Variable)
            for shared in parameters_of([value]) if shared not in of_networks]


def _described(*networks):
    """Return pairs of a parameter and a description with which the student can find it."""
    return [[parameter, _description(layer, parameter)] for network in networks
            for layer in get_all_layers(network) for parameter in layer.params]


def _description(layer, parameter):
    name = str(parameter.name or "?")
    if layer.name:
        return name
    shape = "×".join(map(str, parameter.get_value(borrow=True).shape))
    return _("{parameter} формы {shape} в слое {layer} без имени",
             parameter=name, shape=shape, layer=type(layer).__name__)


def draw(random, images, batch_size):
    """Return the inputs on which the graph is evaluated.

    Parameters
    ----------
    random : numpy.random.RandomState
    images : numpy.ndarray, shape (n, 1, 28, 28)
        Real images, numbers from 0 to 1.
    batch_size : int

    Returns
    -------
    dict
        ``x``: random binary images, bool, shape (batch_size, 1, 28, 28).
        ``held_out``: real binary images, bool, shape (N_HELD_OUT, 1, 28, 28).
        ``images``: the remaining real images, for training.
        ``seed``: int, seed of the random weights and of the training.
    """
    held_out = images[-N_HELD_OUT:]
    return dict(x=binary_images(random, batch_size),
                held_out=random.uniform(size=held_out.shape) < held_out,
                images=images[:-N_HELD_OUT],
                seed=random.randint(2 ** 31 - 1))


def measure(graph, inputs):
    """Evaluate the ELBO and the gradients with random weights, and compare the updates with Adam.

    If the gradient of the loss differs from that of the bound, train the model to see whether it
    learns nevertheless. Return early after a mistake that `judge` is going to find.

    Parameters
    ----------
    graph, inputs : dict
        The results of `build` and `draw`.

    Returns
    -------
    dict
        All fields of `Draws`.
        ``missing``: two lists of str, the parameters of the encoder and of the decoder that are not
        in params.
        ``trained_prior``: list of str, the attributes of pz that `params` or `updates` change.
        ``repeated``: bool, whether a parameter is in params twice.
        ``irrelevant``: list of str, the parameters in params on which the loss does not depend.
        ``gradients_agree``: bool, whether the gradient of the loss equals that of the bound.
        ``stopped``: two lists of str, the parameters that the gradient of log p(x | z) does not
        reach, and the parameters that the gradient of the KL divergence does not reach.
        The results of `compare_updates_with_adam`.
        If the gradients differ, also the results of `lost_on_average` and, if none is lost, of
        `train`.

    Raises
    ------
    Mistake
        If the loss has no gradient.
    """
    loc, scale, params = (graph[name] for name in ["loc", "scale", "params"])
    x, random = inputs["x"], np.random.RandomState(inputs["seed"])
    trained = [*graph["trainable"], *params]
    encoder, decoder = (trained_parameters_of(outputs, outputs, trained)
                        for outputs in ([loc, scale], [graph["logits"]]))
    expect(N_ENCODERS * DRAWS_PER_ENCODER)
    decode = array_function([graph["code"]], graph["logits"])
    measured = draw_elbo(graph, x, encoder, decoder, decode, random)
    try:
        _judge_bound(inputs, measured)
    except Mistake:
        return measured

    described = {parameter: text for parameter, text in graph["described"]}

    def descriptions(parameters):
        return [description_of(parameter, described) for parameter in parameters]

    missing = [descriptions(parameter for parameter in network if parameter not in params)
               for network in (encoder, decoder)]
    try:
        gradients = T.grad(graph["loss"], params, disconnected_inputs="ignore",
                           return_disconnected="None")
    except theano.gradient.NullTypeGradError as error:
        raise Mistake(_("градиент loss по параметрам не вычисляется: на пути к ним есть операция "
                        "без градиента.")) from error
    irrelevant = descriptions(parameter for parameter, gradient in zip(params, gradients)
                              if gradient is None)
    changed = {*params, *(shared for shared, _new in graph["updates"])}
    trained_prior = sorted({name for shared, name in graph["prior"] if shared in changed})
    measured.update(missing=missing, repeated=len(set(params)) < len(params),
                    irrelevant=irrelevant, trained_prior=trained_prior)
    if any(missing) or measured["repeated"] or irrelevant or trained_prior:
        return measured

    draws = Draws.from_measured(measured)
    gradients = compile_gradients(graph, gradients, draws)
    factor = -np.mean(draws.loss / draws.elbo)
    compared = compare_gradients(graph, x, encoder, decoder, gradients, factor, random)
    measured.update(gradients_agree=compared["gradients_agree"],
                    irrelevant=descriptions(compared["unreached"]),
                    stopped=list(map(descriptions, compared["stopped"])))
    if measured["irrelevant"]:
        return measured
    measured.update(compare_updates_with_adam(
        graph, x, encoder, decoder, gradients.of_loss, described, random))
    try:
        _judge_updates(measured)
    except Mistake:
        return measured
    if not measured["gradients_agree"]:
        measured.update(lost_on_average(
            graph, x, encoder, decoder, gradients.of_loss, factor, random))
        if measured["prior_lost"] or measured["entropy_lost"]:
            return measured
        with same_parameters_afterwards(list(dict.fromkeys([*encoder, *decoder, *params]))):
            measured.update(train(graph, inputs, gradients.of_loss, random, decode, described))
    return measured


def judge(inputs, measured):
    """Require that elbo, params, loss and updates are right, and that the model learns.

    Parameters
    ----------
    inputs, measured : dict
        The results of `draw` and `measure`.

    Raises
    ------
    Mistake
    """
    _judge_bound(inputs, measured)
    _judge_params(measured)
    _judge_updates(measured)
    if not measured["gradients_agree"]:
        lost = [term for term, name in [("log p(z)", "prior"), ("log q(z | x)", "entropy")]
                if measured[f"{name}_lost"]]
        require(not lost,
                _("значение elbo верно, но градиент от {terms} в среднем не доходит до кодировщика: "
                  "не остановлен ли он в z? (Останавливать его в loc и scale у q(z | x) можно: "
                  "среднее градиента от этого не меняется.)", terms=", ".join(lost)))
        _judge_training(inputs["held_out"], measured)


def _judge_bound(inputs, measured):
    """Require that elbo is a right estimate of the bound, and that loss is -elbo."""
    draws, batch_size = Draws.from_measured(measured), len(inputs["x"])
    n_draws, n_posteriors, hidden_dim = draws.loc.shape
    require(n_posteriors == batch_size and draws.scale.shape == draws.loc.shape
            and draws.code.shape[2] == hidden_dim,
            _("изображений в батче: {n}, а коды, которые подаются в декодировщик, имеют форму "
              "{code_shape}, и строк в параметрах q(z | x): {n_posteriors}.",
              n=batch_size, code_shape=draws.code.shape[1:], n_posteriors=n_posteriors))
    for name, values in [("loc", draws.loc), ("scale", draws.scale)]:
        require_of_the_images(name, values)
    judge_code(batch_size, draws.code, draws.loc, draws.scale)
    for name, values in [("elbo", draws.elbo), ("loss", draws.loss)]:
        require(np.isfinite(values).all(),
                _("{name} бывает nan или inf: не взяты ли в ней лишний логарифм или экспонента?",
                  name=name))
    if draws.estimate is None:
        hint = diagnose(draws)
        require(hint is None, hint)

    ratio, n_codes = draws.loss / draws.elbo, draws.code.shape[1]
    factors = (1., batch_size, n_codes)
    require(not any(close(ratio, np.full(n_draws, factor)) for factor in factors),
            _("loss растёт вместе с elbo, а оптимизатор loss уменьшает: какой нужен знак?"))
    if not any(close(ratio, np.full(n_draws, -factor)) for factor in factors):
        hint = _("loss должна быть равна -elbo (средней по батчу или просуммированной).")
        difference = diagnose_loss(draws)
        if difference is not None:
            hint += "\n" + _("Чем -loss отличается от elbo: {difference}", difference=difference)
        raise Mistake(hint)


def _judge_params(measured):
    networks = [_("кодировщика"), _("декодировщика")]
    for network, missing in zip(networks, measured["missing"]):
        require(not missing, _("в params нет параметров {network}: {names}.",
                               network=network, names=", ".join(missing)))
    of_prior = ", ".join(f"pz.{name}" for name in measured["trained_prior"])
    require(not of_prior,
            _("params или updates меняют {names}, а p(z) = N(0, I) не обучается: уберите из них "
              "параметры априорного распределения.", names=of_prior))
    require(not measured["repeated"], _("некоторые параметры попали в params дважды."))
    require(not measured["irrelevant"],
            _("loss не зависит от параметров {names} из params, или градиент до них не "
              "доходит.", names=", ".join(measured["irrelevant"])))


def _judge_updates(measured):
    of_likelihood, of_kl = measured["stopped"]
    require(not of_kl and not measured["no_gradient_of_kl"],
            _("KL-дивергенция в elbo есть, но градиент от неё не доходит до кодировщика."))
    require(not of_likelihood,
            _("log p(x | z) в elbo есть, но градиент от него не доходит до параметров {names}: "
              "ничто не должно останавливать его ни в декодировщике, ни на пути через z к "
              "кодировщику.", names=", ".join(of_likelihood)))
    require(not measured["unmoved"],
            _("updates не меняют параметров {names}: верните строку updates = "
              "lasagne.updates.adam(loss, params).", names=", ".join(measured["unmoved"])))
    require(measured["agreement"] > 0,
            _("updates увеличивают loss или уменьшают лишь часть её: верните "
              "строку updates = lasagne.updates.adam(loss, params)."))


def _judge_training(held_out, measured):
    elbo = held_out_elbo(held_out, measured["trained_loc"], measured["trained_scale"],
                         measured["trained_logits"])
    least_elbo = elbo_without_code(held_out)
    require(elbo > least_elbo,
            _("градиент loss — не градиент -elbo, и модель не обучается: за {n} шагов Adam elbo на "
              "отложенных изображениях дошла до {elbo:.0f}, а без кода z можно дойти до "
              "{least_elbo:.0f}. Доходит ли градиент от loss до всех параметров?",
              n=measured["n_steps"], elbo=elbo, least_elbo=least_elbo))


EXERCISE = Exercise(
    number=5, label=N_("ELBO, параметры и функция потерь"), points=3,
    names=("elbo", "params", "loss", "updates"),
    uses=("encoder_mean", "encoder_scale", "qz_x", "decoder_logits", "pz", "px_z"),
    build=build, draw=draw, measure=measure, judge=judge, trains=True)
