"""The encoder."""

import inspect
import re
from collections.abc import Iterator, ValuesView

import numpy as np
import theano
import theano.tensor as T
from lasagne.layers import Layer, get_all_params, get_output, get_output_shape

from vae.checks.closed_forms import close
from vae.checks.exercise import Exercise, kind_of, require, size_of
from vae.checks.first_weights import stays_symmetric
from vae.checks.graph_tools import (
    array_function, only_through, randomise, same_parameters_afterwards, scale_parameters,
    trained_parameters_of)
from vae.checks.latent_code import require_own_layers
from vae.checks.random_images import draw_images
from vae.checks.signatures import signature_of
from vae.language import N_, _

#: Number of sets of random weights. A property that holds for all sets holds for any weights.
N_WEIGHTS = 20
#: A mean that passes these bounds is unbounded.
UNBOUNDED = 1000.
#: The largest number of times that weights are doubled to see whether the mean is bounded.
N_DOUBLINGS = 20
#: A mean within these bounds is also unbounded if it grows by this part of its range in the second
#: half of the doublings. A logarithm grows by the whole of its range.
GROWTH = 0.1
#: Names of arguments that are the size of the code, the likeliest first, and of other sizes.
_CODE_SIZES = ["latent|(?<!en)code|^n?_?z", "^hidden_?(dim|size)|^dims?$"]
_ANY_SIZE = "|".join([*_CODE_SIZES, "dim|hid|size|units|batch|^n_|^num"])
#: The value of an argument without a default that seems to be the size of another layer.
_LAYER_SIZE = 64
#: Number of sets of random weights with which every second image is also encoded separately.
N_HALVES = 3


def build(names):
    """Apply the student's encoder to symbolic images.

    Parameters
    ----------
    names : Names
        The names that the student's cells have defined.

    Returns
    -------
    dict
        ``input_x``: the images, a symbolic tensor of shape (batch, 1, 28, 28).
        ``loc``, ``scale``: the encoder's outputs, symbolic matrices of shape (batch, HIDDEN_DIM).
        ``hidden_dim``: int.
        ``trainable``: list of shared variables, the trainable parameters of the encoder's layers.

    Raises
    ------
    Mistake
    """
    hidden_dim = size_of(names, "HIDDEN_DIM")
    input_x = T.tensor4("input_x")
    require(callable(names.vae_encoder_mlp),
            _("vae_encoder_mlp сейчас — {kind}, а должно быть функцией.",
              kind=kind_of(names.vae_encoder_mlp)))
    heads = _applied(names.vae_encoder_mlp, input_x, hidden_dim)
    if isinstance(heads, (Iterator, ValuesView)):
        heads = list(heads)
    _require_two_layers(heads)
    for name, head in zip(["l_out_loc", "l_out_scale"], heads):
        shape = get_output_shape(head)
        require(len(shape) == 2 and shape[1] == hidden_dim,
                _("форма выхода {name} — {shape}, а нужна (None, {hidden_dim}): по HIDDEN_DIM "
                  "чисел на объект.", name=name, shape=shape, hidden_dim=hidden_dim))
    loc, scale = get_output(heads)
    return dict(input_x=input_x, loc=loc, scale=scale, hidden_dim=hidden_dim,
                trainable=get_all_params(list(heads), trainable=True))


def _applied(encoder, input_x, hidden_dim):
    """Call the student's encoder, whose arguments may have other names, order and defaults.

    The student's own call is in a later cell, so only their names show what the arguments are.
    """
    try:
        signature = signature_of(encoder)
    except (TypeError, ValueError):
        return encoder(input_x)
    arguments = {name: argument.default for name, argument in signature.parameters.items()
                 if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)}
    needed = [name for name, default in arguments.items() if default is inspect.Parameter.empty]
    images = next((name for name in needed if not re.search(_ANY_SIZE, name, re.I)),
                  next(iter(needed or arguments), None))
    if images is None:
        return encoder(input_x)
    values = {name: None if "batch" in name else _LAYER_SIZE for name in needed}
    values[images] = input_x
    sizes = [name for name, default in arguments.items()
             if name != images and (name in needed or type(default) is int)]
    code = next((name for pattern in _CODE_SIZES for name in sizes
                 if re.search(pattern, name, re.I)),
                next((name for name in reversed(needed) if name != images), None))
    if code is not None:
        values[code] = hidden_dim
    call = inspect.BoundArguments(signature, {
        name: values[name] for name in arguments if name in values})
    return encoder(*call.args, **call.kwargs)


def _require_two_layers(heads):
    require(heads is not None,
            _("функция vae_encoder_mlp ничего не возвращает: в конце нужен return l_out_loc, "
              "l_out_scale."))
    found = heads if isinstance(heads, (tuple, list)) else [heads]
    require(len(found) == 2 and all(isinstance(head, Layer) for head in found),
            _("кодировщик должен возвращать два слоя Lasagne, l_out_loc и l_out_scale, а "
              "возвращает: {kinds}.", kinds="; ".join(map(kind_of, found))))


def measure(graph, inputs):
    """Evaluate the encoder with random weights, on all images and on every second image.

    Then double the weights repeatedly, to see whether the means are bounded.

    Parameters
    ----------
    graph, inputs : dict
        The results of `build` and `draw_images`.

    Returns
    -------
    dict
        ``loc``, ``scale``: arrays of shape (20, batch, HIDDEN_DIM), for each of 20 sets of weights.
        ``half_loc``, ``half_scale``: the same for every second image, for the first 3 sets.
        ``least_loc``, ``greatest_loc``: float, bounds of the means with all these and larger
        weights; infinite if there are none.
        ``through_loc``: bool, whether the scale depends on the images only through the mean.
        ``symmetric``: bool, whether the first weights make units that stay the same.

    Raises
    ------
    Mistake
        If the outputs do not depend on the images.
    """
    outputs = [graph["loc"], graph["scale"]]
    require(graph["input_x"] in theano.gof.graph.inputs(outputs),
            _("выходы не зависят от input_x: передайте его входному слою (input_var=input_x)."))
    compute = array_function([graph["input_x"]], outputs)
    parameters = trained_parameters_of(outputs, outputs, graph["trainable"])
    random = np.random.RandomState(inputs["seed"])
    x, whole, halves, means = inputs["x"], [], [], _Means()
    with same_parameters_afterwards(parameters):
        symmetric = stays_symmetric(graph["input_x"], outputs, x, random)
        for index in range(N_WEIGHTS):
            randomise(parameters, random)
            whole.append(compute(x))
            if index < N_HALVES:
                halves.append(compute(x[::2]))
            means.add(whole[-1][0])
            _double_until_large(means, compute, parameters, x[:10])
    loc, scale = np.swapaxes(whole, 0, 1)
    half_loc, half_scale = np.swapaxes(halves, 0, 1)
    least, greatest = means.bounds()
    return dict(loc=loc, scale=scale, half_loc=half_loc, half_scale=half_scale,
                least_loc=least, greatest_loc=greatest, symmetric=symmetric,
                through_loc=only_through(graph["scale"], graph["loc"], graph["input_x"]))


class _Means:
    """How far means go while the weights are doubled."""

    def __init__(self):
        self._least = np.full(N_DOUBLINGS + 1, np.inf)  #: by the number of doublings
        self._greatest = np.full(N_DOUBLINGS + 1, -np.inf)

    def add(self, loc, n_doublings=0):
        self._least[n_doublings] = min(self._least[n_doublings], loc.min())
        self._greatest[n_doublings] = max(self._greatest[n_doublings], loc.max())

    def are_large(self):
        return self._least.min() < -UNBOUNDED and self._greatest.max() > UNBOUNDED

    def bounds(self):
        """Return the least and the greatest mean, infinite if there is no such bound."""
        least, greatest = self._least.min(), self._greatest.max()
        early = slice(N_DOUBLINGS // 2 + 1)
        early_least, early_greatest = self._least[early].min(), self._greatest[early].max()
        growth = GROWTH * (early_greatest - early_least)
        if least < -UNBOUNDED or early_least - least > growth:
            least = -np.inf
        if greatest > UNBOUNDED or greatest - early_greatest > growth:
            greatest = np.inf
        return float(least), float(greatest)


def _double_until_large(means, compute, parameters, x):
    """Double the weights until the means are large on some side."""
    for n_doublings in range(1, N_DOUBLINGS + 1):
        if means.are_large():
            return
        scale_parameters(parameters, 2)
        loc, _scale = compute(x)
        if not np.isfinite(loc).all():
            return
        means.add(loc, n_doublings)
        if np.abs(loc).max() > UNBOUNDED:
            return


def judge(inputs, measured):
    """Require that the outputs are a mean and a standard deviation for any weights.

    Parameters
    ----------
    inputs, measured : dict
        The results of `draw_images` and `measure`.

    Raises
    ------
    Mistake
    """
    loc, scale = measured["loc"], measured["scale"]
    require(loc.shape == scale.shape == (N_WEIGHTS, len(inputs["x"]), inputs["hidden_dim"]),
            _("выходы имеют формы {loc_shape} и {scale_shape}, хотя изображений в батче: {n}.",
              n=len(inputs["x"]), loc_shape=loc.shape[1:], scale_shape=scale.shape[1:]))
    for name, values in [("l_out_loc", loc), ("l_out_scale", scale)]:
        require(not np.isnan(values).any(),
                _("на выходе {name} бывает nan: его функция активации определена не при всех "
                  "числах.", name=name))
    require((scale > 0).all(),
            _("стандартное отклонение должно быть строго положительным при любых весах: какая "
              "функция активации это даёт? Сейчас встретилось {minimum:.3g}. Не перепутан ли "
              "порядок: сначала l_out_loc, потом l_out_scale?", minimum=scale.min()))
    bounds = _bounds(measured["least_loc"], measured["greatest_loc"])
    require(bounds is None,
            bounds and _("среднее не должно быть ограничено ни сверху, ни снизу, а сейчас оно "
                         "{bounds} при любых весах: какую функцию активации взять? Если у "
                         "DenseLayer её не указать, это ReLU.", bounds=bounds))
    for name, values in [(_("среднее"), loc), (_("стандартное отклонение"), scale)]:
        require(np.ptp(values, axis=1).max() > 1e-4,
                _("{name} не зависит от входного изображения.", name=name))
    require_own_layers(measured["through_loc"], loc, scale)
    require(close(measured["half_loc"], loc[:N_HALVES, ::2], 1e-3)
            and close(measured["half_scale"], scale[:N_HALVES, ::2], 1e-3),
            _("выход для изображения зависит от того, какие ещё изображения в батче, "
              "или случаен (dropout?), а должен зависеть только от самого изображения."))
    require(not measured["symmetric"],
            _("начальные веса слоя одинаковы, и все его нейроны всегда будут вычислять одно и то "
              "же: такая сеть почти ничему не научится. Веса должны быть случайными, как "
              "W=lasagne.init.GlorotUniform(), или не указывайте их вовсе."))


def _bounds(least, greatest):
    """Return the bounds of the means as text, or None if the means are unbounded."""
    if np.isfinite([least, greatest]).all():
        return _("от {least:.3g} до {greatest:.3g}", least=least, greatest=greatest)
    if np.isfinite(least):
        return _("не меньше {least:.3g}", least=least)
    if np.isfinite(greatest):
        return _("не больше {greatest:.3g}", greatest=greatest)
    return None


EXERCISE = Exercise(
    number=2, label=N_("кодировщик"), points=2,
    names=("vae_encoder_mlp",),
    build=build, draw=draw_images, measure=measure, judge=judge)
