"""Exercise 5: ELBO, the parameters and the loss."""

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import InputLayer, Layer, get_all_layers, get_output
from theano.scan_module.scan_op import Scan

from vae.checks.closed_forms import close, kl_to_standard_normal
from vae.checks.elbo_diagnosis import diagnose
from vae.checks.elbo_draws import draw_elbo, estimates_of_terms
from vae.checks.exercise import N_HELD_OUT, Exercise, Mistake, require, size_of
from vae.checks.graph_tools import (
    compiled, is_tensor, parameters_of, same_parameters_afterwards)
from vae.checks.latent_code import judge_code
from vae.checks.random_images import binary_images
from vae.checks.trial_training import compare_updates_with_adam, held_out_elbo, n_steps_of, train
from vae.language import N_, _

#: ELBO after them on held-out images, nats an image: the reference goes from -544 to -183, other
#: right networks to -200 and better.
LEAST_ELBO = -210.


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


def measure(graph, inputs):
    loc, scale, params = (graph[name] for name in ["loc", "scale", "params"])
    x, random = inputs["x"], np.random.RandomState(inputs["seed"])
    encoder, decoder = parameters_of([loc, scale]), parameters_of([graph["logits"]])
    decode = compiled([graph["code"]], graph["logits"])
    measured = draw_elbo(graph, x, encoder, decoder, decode, random)
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
    measured.update(compare_updates_with_adam(graph, x, encoder, decoder, gradients, described, random))
    with same_parameters_afterwards(list(dict.fromkeys([*encoder, *decoder, *params]))):
        measured.update(train(graph, inputs, gradients, random, decode, described))
    return measured


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
    bounds = list(estimates_of_terms(z, loc, scale, log_px_z))
    kl = np.mean(kl_to_standard_normal(loc, scale), axis=1)
    rounding = 1e-4 * np.sum(np.abs(bounds[0]), axis=0)
    judge_code(n, z, loc, scale)

    def equal(bound):
        return (np.abs(values - bound) < rounding).all()

    if not any(equal(sum(terms)) for terms in bounds):
        diagnose(values, own_log_px_z, kl, bounds, rounding, measured, x, loc, scale, z,
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

    elbo = held_out_elbo(held_out, *(measured[f"trained_{name}"]
                                      for name in ["loc", "scale", "logits"]))
    require(elbo > LEAST_ELBO,
            _("модель не обучается: за {n} шагов Adam elbo на отложенных изображениях дошла до "
              "{elbo:.0f}, а должна хотя бы до {LEAST_ELBO:.0f}. Доходит ли градиент от loss "
              "до всех параметров, с каких весов начинают сети?").format(
                n=n_steps_of(n), elbo=elbo, LEAST_ELBO=LEAST_ELBO))


EXERCISE = Exercise(N_("ELBO, параметры и функция потерь"), 3, ("elbo", "params", "loss", "updates"),
                    build, draw, measure, judge, uses=(3, 4), trains=True)
