"""Exercise 2: the encoder."""

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import Layer, get_output, get_output_shape

from vae.checks.common import (
    Exercise, close, compiled, draw_images, parameters_of, randomise, require,
    same_parameters_afterwards, size_of)


def build(names):
    hidden_dim = size_of(names, "HIDDEN_DIM")
    input_x = T.tensor4("input_x")
    heads = names.vae_encoder_mlp(input_x)
    require(isinstance(heads, (tuple, list)) and len(heads) == 2
            and all(isinstance(head, Layer) for head in heads),
            "кодировщик должен возвращать два слоя Lasagne: l_out_loc, l_out_scale.")
    for name, head in zip(["l_out_loc", "l_out_scale"], heads):
        shape = get_output_shape(head)
        require(len(shape) == 2 and shape[1] == hidden_dim,
                f"форма выхода {name} — {shape}, а нужна (None, {hidden_dim}): "
                "по HIDDEN_DIM чисел на объект.")
    loc, scale = get_output(heads)
    return dict(input_x=input_x, loc=loc, scale=scale, hidden_dim=hidden_dim)


def measure(graph, inputs):
    outputs = [graph["loc"], graph["scale"]]
    require(graph["input_x"] in theano.gof.graph.inputs(outputs),
            "выходы не зависят от input_x: передайте его входному слою (input_var=input_x).")
    compute = compiled([graph["input_x"]], outputs)
    parameters = parameters_of(outputs)
    random = np.random.RandomState(inputs["seed"])
    x, halves, whole = inputs["x"], [], []
    with same_parameters_afterwards(parameters):
        for _ in range(20):  # what holds for all weights is by construction
            randomise(parameters, random)
            whole.append(compute(x))
            halves.append(compute(x[::2]))
    return dict(zip(["loc", "scale"], np.swapaxes(whole, 0, 1)),
                **dict(zip(["half_loc", "half_scale"], np.swapaxes(halves, 0, 1))))


def judge(inputs, measured):
    loc, scale = measured["loc"], measured["scale"]
    require(loc.shape == scale.shape == (20, len(inputs["x"]), inputs["hidden_dim"]),
            f"для {len(inputs['x'])} изображений выходы имеют формы {loc.shape[1:]} "
            f"и {scale.shape[1:]}.")
    require((scale > 0).all(),
            "стандартное отклонение должно быть строго положительным при любых весах: какая "
            f"функция активации это даёт? Сейчас встретилось {scale.min():.3g}. "
            "Не перепутан ли порядок: сначала l_out_loc, потом l_out_scale?")
    require(loc.min() < -1 and loc.max() > 1,
            "среднее не должно быть ограничено ни сверху, ни снизу. Сейчас, при случайных весах, "
            f"оно от {loc.min():.2g} до {loc.max():.2g}: какую функцию активации взять?")
    for name, values in [("среднее", loc), ("стандартное отклонение", scale)]:
        require(np.ptp(values, axis=1).max() > 1e-4, f"{name} не зависит от входного изображения.")
    require(close(measured["half_loc"], loc[:, ::2], 1e-3)
            and close(measured["half_scale"], scale[:, ::2], 1e-3),
            "выход для изображения зависит от того, какие ещё изображения в батче, "
            "или случаен, а должен зависеть только от самого изображения.")


EXERCISE = Exercise("кодировщик", 2, ("vae_encoder_mlp",), build, draw_images, measure, judge)
