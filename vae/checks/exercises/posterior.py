"""The approximate posterior q(z | x)."""

import numpy as np
import theano
from lasagne.layers import InputLayer, Layer, get_all_layers, get_all_params, get_output

from vae.checks.closed_forms import close
from vae.checks.exercise import (
    Exercise, Mistake, input_of, kind_of, require, size_of)
from vae.checks.graph_tools import (
    array_function, is_tensor, only_through, randomise, same_parameters_afterwards,
    trained_parameters_of)
from vae.checks.latent_code import require_of_the_images, require_own_layers, require_positive
from vae.checks.random_images import draw_images
from vae.language import N_, _


def build(names):
    """Return the graph of q(z | x) and of the encoder's outputs.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    dict
        ``input_x``: the images, a symbolic tensor of shape (batch, 1, 28, 28).
        ``mean``, ``std``: the encoder's outputs, symbolic.
        ``loc``, ``scale``: parameters of q(z | x), symbolic matrices of shape (batch, HIDDEN_DIM).
        ``hidden_dim``: int.
        ``trainable``: list of shared variables, the trainable parameters of the encoder's layers.

    Raises
    ------
    Mistake
    """
    input_x = input_of(names)
    heads = [names.encoder_mean, names.encoder_scale]
    for name, head in zip(["encoder_mean", "encoder_scale"], heads):
        require(isinstance(head, Layer),
                _("{name} сейчас — {kind}, а должен быть слоем Lasagne: это один из двух слоёв, "
                  "которые возвращает vae_encoder_mlp(input_x).",
                  name=name, kind=kind_of(head)))
    for source in get_all_layers(heads):
        if isinstance(source, InputLayer):
            require(isinstance(source.input_var, theano.Variable),
                    _("на вход кодировщика подано не то: {kind}, а нужна символьная переменная: "
                      "vae_encoder_mlp(input_x).", kind=kind_of(source.input_var)))
    qz_x = names.qz_x
    require(all(is_tensor(getattr(qz_x, name, None), ndim=2) for name in ["loc", "scale"]),
            _("qz_x сейчас — {kind}, а должен быть объектом MultivariateNormalDiag с "
              "параметрами-тензорами формы (batch, HIDDEN_DIM): выходы слоёв даёт "
              "lasagne.layers.get_output.", kind=kind_of(qz_x)))
    for name in ["loc", "scale"]:
        require(input_x in theano.gof.graph.inputs([getattr(qz_x, name)]),
                _("{name} у qz_x не зависит от input_x: сети нужна символьная переменная input_x, "
                  "а не сами изображения, и вычислять её выход (.eval()) не нужно. Если ячейка "
                  "с input_x выполнена заново, выполните и все следующие.", name=name))
    mean, std = get_output(heads)
    return dict(input_x=input_x, mean=mean, std=std, loc=qz_x.loc, scale=qz_x.scale,
                hidden_dim=size_of(names, "HIDDEN_DIM"),
                trainable=get_all_params(heads, trainable=True))


def measure(graph, inputs):
    """Evaluate q(z | x) and the encoder, with the current weights and three sets of random weights.

    Parameters
    ----------
    graph, inputs : dict
        The results of `build` and `draw_images`.

    Returns
    -------
    dict
        ``mean``, ``std``, ``loc``, ``scale``: arrays of shape (4, batch, HIDDEN_DIM).
        ``through_loc``: bool, whether the scale depends on the images only through the mean.

    Raises
    ------
    Mistake
        If the graph needs other inputs than ``input_x``.
    """
    outputs = ["mean", "std", "loc", "scale"]
    variables = [graph[name] for name in outputs]
    try:
        compute = array_function([graph["input_x"]], variables)
    except theano.gof.MissingInputError as error:
        raise Mistake(
            _("q(z | x) должно зависеть от input_x и больше ни от каких входов.")) from error
    parameters = trained_parameters_of(
        variables, [graph["mean"], graph["std"]], graph["trainable"])
    random = np.random.RandomState(inputs["seed"])
    values = [compute(inputs["x"])]
    with same_parameters_afterwards(parameters):
        for _weights in range(3):  # what holds before training must hold after it
            randomise(parameters, random)
            values.append(compute(inputs["x"]))
    return dict({name: np.array(arrays) for name, *arrays in zip(outputs, *values)},
                through_loc=only_through(graph["scale"], graph["loc"], graph["input_x"]))


def judge(inputs, measured):
    """Require that loc and scale of q(z | x) are the encoder's outputs.

    Parameters
    ----------
    inputs, measured : dict
        The results of `draw_images` and `measure`.

    Raises
    ------
    Mistake
    """
    mean, std, loc, scale = (measured[name] for name in ["mean", "std", "loc", "scale"])
    shape = (len(inputs["x"]), inputs["hidden_dim"])
    require(loc.shape[1:] == scale.shape[1:] == shape,
            _("loc имеет форму {loc_shape}, scale — {scale_shape}, а нужна {expected_shape}: "
              "изображений в батче {n}.",
              n=len(inputs["x"]), loc_shape=loc.shape[1:],
              scale_shape=scale.shape[1:], expected_shape=shape))
    for name, values in [("loc", loc), ("scale", scale)]:
        require_of_the_images(name, values[1:])
    require(not (close(loc, std) and close(scale, mean)),
            _("loc и scale перепутаны."))
    require(close(loc, mean, 1e-3),
            _("loc у qz_x — не выход слоя encoder_mean. Не построен ли кодировщик дважды? (Если в "
              "нём есть dropout, уберите его: здесь он не нужен.)"))
    require_own_layers(measured["through_loc"], loc[1:], scale[1:])
    if close(scale, std, 1e-3):
        require_positive(scale, loc)
    require((scale > 0).all(),
            _("scale должен быть положительным: передан ли в него выход encoder_scale?"))
    if (std <= 0).any():
        # The encoder's second output is not a standard deviation, which is a mistake in the
        # exercise on the encoder. If qz_x turns it into a standard deviation by an increasing
        # function, such as exp, the solution of this exercise is right.
        order = np.argsort(std, axis=None)
        ordered = scale.ravel()[order]
        require((np.diff(ordered) >= -1e-5 * ordered[1:]).all() and np.ptp(ordered) > 0,
                _("scale у qz_x — не стандартное отклонение, которое следует из выхода "
                  "encoder_scale."))
        return
    require(close(scale, std, 1e-3),
            _("scale у qz_x — не выход слоя encoder_scale. Это должно быть само стандартное "
              "отклонение, без квадратов, корней и логарифмов. Не построен ли кодировщик "
              "дважды?"))


EXERCISE = Exercise(
    number=3, label=N_("апостериорное распределение q(z | x)"), points=1,
    names=("encoder_mean", "encoder_scale", "qz_x"),
    uses=("MultivariateNormalDiag", "vae_encoder_mlp"),
    build=build, draw=draw_images, measure=measure, judge=judge)
