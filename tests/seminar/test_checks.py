"""The checks of the exercises: right answers pass, wrong answers get hints on their mistakes."""

import dataclasses
import linecache
import os
import re
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, get_all_params, get_output
from theano.sandbox.rng_mrg import MRG_RandomStreams

import utils
import vae
from vae import BinaryVector, vae_decoder_mlp
from conftest import HINTS
from own_answers import as_in_the_notebook
from test_notebooks import Kernel, code_cells, tagged
from tools import build
from vae.checks import EXERCISES, Mistake, check


MultivariateNormalDiag = as_in_the_notebook(vae.MultivariateNormalDiag)
vae_encoder_mlp = as_in_the_notebook(vae.vae_encoder_mlp)


@lru_cache(maxsize=None)
def real_images():
    return utils.load_dataset()[0][:10000]


@lru_cache(maxsize=None)
def solved_cells():
    """The code of the solved notebook: what its first cell imports, and each exercise."""
    cells = [cell for cell in build.solution().cells if cell.cell_type == "code"]
    imports = re.findall(r"^(?:import|from) .*", cells[0].source, re.M)
    exercises = [cell.source for cell in cells
                 if cell.metadata.get("tags", [""])[0].startswith("exercise")]
    return ["\n".join(imports), *exercises]


def right_answers(hidden_dim=2):
    """What the cells of the solved notebook define, by name."""
    names = dict(BATCH_SIZE=20, HIDDEN_DIM=hidden_dim, X_train=real_images())
    for source in solved_cells():
        exec(source, names)
    return names


@pytest.fixture
def names():
    return right_answers()


def hint_of(exercise, names):
    """The hint of a wrong answer, which is also kept for ``--hints``."""
    with pytest.raises(Mistake) as caught:
        check(exercise, names)
    hint = str(caught.value)
    HINTS.append((os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" (")[0], hint))
    assert hint.startswith(f"✗ Упражнение {exercise} ({EXERCISES[exercise].title})")
    return hint


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_answers(exercise, names, capsys):
    check(exercise, names)
    title = EXERCISES[exercise].title
    shown = capsys.readouterr().out.split("\r")[-1]  # after a bar, if it took over a second
    assert shown == f"✓ Упражнение {exercise} ({title}): верно.\n"


@pytest.mark.parametrize("hidden_dim", [1, 10])
def test_right_answers_with_another_dimension_of_the_code(hidden_dim):
    names = right_answers(hidden_dim)
    for exercise in EXERCISES:
        check(exercise, names)


@pytest.mark.parametrize("exercise, name", [
    (1, "MultivariateNormalDiag"), (2, "vae_encoder_mlp"), (3, "qz_x"), (4, "px_z"), (5, "elbo")])
@pytest.mark.parametrize("state", ["missing", "None", "многоточие (...)"])
def test_undefined_names(exercise, name, state, names):
    if state == "missing":
        del names[name]
        assert f"не определено имя {name}" in hint_of(exercise, names)
    else:
        names[name] = None if state == "None" else ...
        assert f"имя {name} определено, но его значение — {state}: замените его решением" \
            in hint_of(exercise, names)


@pytest.mark.parametrize("exercise, name", [
    (2, "HIDDEN_DIM"), (4, "BATCH_SIZE"), (5, "X_train")])
def test_names_of_the_first_cell_that_are_none(exercise, name, names):
    names[name] = None
    assert "но его значение — None: выполните первую ячейку" in hint_of(exercise, names)


@pytest.mark.parametrize("exercise", [3, 4, 5])
@pytest.mark.parametrize("value, kind", [
    pytest.param(np.zeros((20, 1, 28, 28)), "массив NumPy формы (20, 1, 28, 28)", id="images"),
    pytest.param(T.matrix(), "символьная переменная, измерений: 2", id="matrix"),
    pytest.param("input_x", "'input_x'", id="text"),
])
def test_an_input_that_is_not_symbolic_images(exercise, value, kind, names):
    names["input_x"] = value
    assert f"input_x сейчас — {kind}, а должна быть символьной" in hint_of(exercise, names)


def test_check_without_names_outside_a_notebook():
    with pytest.raises(TypeError, match="Got no names outside a notebook, expected check"):
        check(1)
    with pytest.raises(TypeError, match="Got names of type list, expected a dict"):
        check(1, [])


@pytest.mark.parametrize("exercise, value", [
    pytest.param(1, vae.MultivariateNormalDiag, id="class"),
    pytest.param(1, type("MultivariateNormalDiag", (vae.MultivariateNormalDiag,), {}), id="base"),
    pytest.param(2, vae.vae_encoder_mlp, id="function"),
    pytest.param(2, lambda input_x: vae.vae_encoder_mlp(input_x, 2), id="call"),
])
def test_what_is_taken_from_the_package(exercise, value, names):
    name = EXERCISES[exercise].names[0]
    names[name] = value
    assert f"{name} взято из пакета vae, а его нужно написать самостоятельно" \
        in hint_of(exercise, names)
    assert len(vae.vae_encoder_mlp(T.tensor4())) == 2  # the package has its solutions again
    assert vae.MultivariateNormalDiag(T.matrix(), T.matrix()).sample().ndim == 2


def test_an_error_in_our_own_judging_is_not_shown(names, monkeypatch):
    def judge(inputs, measured):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setitem(EXERCISES, 3, dataclasses.replace(EXERCISES[3], judge=judge))
    hint = hint_of(3, names)
    assert "числа, которые нельзя сравнить с верными" in hint and "SVD" not in hint


def test_unknown_exercise(names):
    unknown = max(EXERCISES) + 1
    with pytest.raises(ValueError, match=f"Got exercise {unknown}, expected one of .1, 2, "):
        check(unknown, names)


@pytest.mark.parametrize("size", [0, -1, 2.5, "20", 10**6])
def test_invalid_batch_sizes(size, names):
    names["BATCH_SIZE"] = size
    assert f"BATCH_SIZE = {size!r}, а должно быть целым числом" in hint_of(5, names)


@pytest.mark.parametrize("images, hint", [
    pytest.param(np.zeros((2000, 784)), "сейчас — массив NumPy формы (2000, 784)", id="flat"),
    pytest.param(np.zeros((1000, 1, 28, 28)), "n > 1000", id="few"),
    pytest.param(T.tensor4(), "сейчас — символьная переменная, измерений: 4", id="symbolic"),
    pytest.param([1, 2], "сейчас — список, элементов: 2", id="list"),
    pytest.param(np.full((2000, 1, 28, 28), 255), "от 255 до 255, а нужны от 0 до 1", id="bytes"),
])
def test_wrong_training_images(images, hint, names):
    names["X_train"] = images
    text = hint_of(5, names)
    assert hint in text and "X_train" in text


def defined_by_a_cell(cell, **names):
    """What a cell of a notebook defines; errors know its lines."""
    file = f"/ipykernel_1/{abs(hash(cell))}.py"
    linecache.cache[file] = (len(cell), None, cell.splitlines(True), file)
    exec(compile(cell, file, "exec"), names)
    return names


def sample_with(line):
    """A student's sample() with a line that makes eps."""
    return defined_by_a_cell(
        f"def sample(self):\n    {line}\n    return self.loc + self.scale * eps\n",
        np=np, T=T)["sample"]


def test_the_hint_for_an_error_shows_the_students_line():
    hint = hint_of(1, with_sample(sample_with("eps = 1 / 0")))
    assert "код не выполняется: ZeroDivisionError: division by zero" in hint
    assert "Строка 2 ячейки: eps = 1 / 0" in hint


#: Lines of a student's sample(), and the advice on the errors that they raise.
ADVICE = {
    "eps = self.rng.normal()": "форма шума: self.rng.normal(self.loc.shape). Символьная форма",
    "eps = self.rng.normal(size)": "форма шума: self.rng.normal(self.loc.shape)",
    "eps = self.rng.normal(self.loc)": "форма шума: self.rng.normal(self.loc.shape)",
    "eps = self.rng.randn(self.loc.shape)": "Шум даёт self.rng.normal(self.loc.shape).",
    "eps = T.randn(self.loc.shape)": "Шум даёт self.rng.normal(self.loc.shape).",
    "eps = np.random.normal(size=self.loc.shape)": "выбираются один раз, при построении графа",
    "eps = np.mean(self.loc)": "Возьмите T.mean вместо np.mean",
    "eps = rng.normal(self.loc.shape)": "Похожие имена, которые есть: self.rng.",
    "eps = self.sigma": "Имена, которые у этого объекта есть: loc, log_prob, rng, sample, scale.",
    "eps = self.rng.normal(self.loc.shape, mean=0)": "у normal: size, avg, std",
    "eps = self.rng.normal(len(self.loc))": "Чему равен символьный тензор, неизвестно",
    "eps = self.scale.eval()": "вычислять его (.eval(), theano.function) не нужно",
    "eps = self.scale ^ 2": "Степень в Python обозначает **",
    "eps = T.dot(self.loc, self.loc, self.loc)": "Аргументы, которые есть у dot: a, b.",
    "eps = T.dot(np.eye(2), self.loc, 3)": "Аргументы, которые есть у dot: a, b.",
    "return self.scale * self.rng.normal": "Не забыты ли скобки",
    "return self.scale * None": "Одно из значений здесь — None",
}


@pytest.mark.parametrize("line", ADVICE)
def test_advice_on_errors(line):
    hint = hint_of(1, with_sample(sample_with(line)))
    assert ADVICE[line] in hint and f"Строка 2 ячейки: {line}" in hint
    assert "формы и типы" not in hint


def test_an_encoder_without_arguments():
    hint = hint_of(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=lambda: None))
    assert "Проверьте имена и число аргументов" in hint


def test_advice_on_shapes_where_theano_rejects_them():
    hint = hint_of(1, with_sample(sample_with("eps = T.sum(self.loc, axis=5)")))
    assert "Проверьте порядок аргументов, формы и типы всех тензоров" in hint


def test_an_error_without_a_message(names):
    def sample(self):
        raise AssertionError

    assert hint_of(1, with_sample(sample)).endswith("код не выполняется: AssertionError")


def test_a_mistake_is_shown_in_jupyter_without_a_traceback():
    assert Mistake("подсказка")._render_traceback_() == ["подсказка"]


# --- 1: sample ---

def with_sample(sample):
    """A student's names: the class with another method sample()."""
    return dict(MultivariateNormalDiag=type(
        "MultivariateNormalDiag", (MultivariateNormalDiag,), {"sample": sample}))


@pytest.mark.parametrize("sample", [
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal(self.loc.shape),
        id="loc.shape"),
    pytest.param(
        lambda self: self.rng.normal(T.shape(self.scale), avg=0., std=1.) * self.scale + self.loc,
        id="avg and std"),
    pytest.param(
        lambda self: self.loc + T.sqrt(self.scale ** 2) * self.rng.normal(self.scale.shape),
        id="square and root"),
])
def test_other_right_samples(sample):
    check(1, with_sample(sample))


class WithoutRng(MultivariateNormalDiag):
    """A student's class that makes its own random numbers."""

    def __init__(self, loc, scale):
        super().__init__(loc, scale)


def test_a_class_without_an_argument_for_random_numbers():
    check(1, dict(MultivariateNormalDiag=WithoutRng))


@pytest.mark.parametrize("hidden_dim", [1, 2, 10, 300])
def test_noise_with_a_column_for_each_coordinate_of_the_code(hidden_dim):
    def sample(self):
        return self.loc + self.scale * self.rng.normal((self.loc.shape[0], hidden_dim))

    check(1, dict(with_sample(sample), HIDDEN_DIM=hidden_dim))


def todo(argument):
    raise NotImplementedError


@pytest.mark.parametrize("sample, hint", [
    pytest.param(todo, "ещё не выполнено", id="todo"),
    pytest.param(lambda self: None, "ничего не возвращает", id="None"),
    pytest.param(
        lambda self: T.sum(self.loc + self.scale * self.rng.normal(self.loc.shape), axis=1),
        "формы \\(batch, dim\\)", id="vector"),
    pytest.param(
        lambda self: self.rng.normal(self.loc.shape),
        "градиент не проходит", id="no parameters"),
    pytest.param(
        lambda self: self.rng.normal(self.loc.shape, avg=self.loc, std=self.scale),
        "градиент не проходит", id="not reparameterised"),
    pytest.param(lambda self: self.loc + 0 * self.scale, "одно и то же", id="no noise"),
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal(self.loc.shape[:1])[0],
        "шум один на весь батч", id="one number"),
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal((2,)),
        "шум один на весь батч", id="one row"),
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal((self.loc.shape[0], 1)).repeat(2, 1),
        "шум один на все координаты", id="one column"),
    pytest.param(
        lambda self: self.loc + self.scale ** 2 * self.rng.normal(self.loc.shape),
        "scale \\*\\* 2.*не дисперсия", id="variance"),
    pytest.param(
        lambda self: self.loc + T.sqrt(self.scale) * self.rng.normal(self.loc.shape),
        "корень из scale", id="root"),
    pytest.param(
        lambda self: self.loc + self.scale * (0.2 + self.rng.normal(self.loc.shape)),
        "среднее сэмпла", id="biased"),
    pytest.param(
        lambda self: self.loc + 2 * self.scale * self.rng.normal(self.loc.shape),
        "стандартное отклонение сэмпла — 2.0", id="twice"),
    pytest.param(
        lambda self: (self.loc + self.scale * self.rng.normal(self.loc.shape))[:, :1],
        "форма сэмпла \\(10000, 1\\)", id="column of the sample"),
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal((20, 2)),
        "какой формы шум", id="batch size"),
    pytest.param(
        lambda self: self.loc + T.dot(self.scale, self.rng.normal(self.loc.shape)),
        "поэлементно", id="product of matrices"),
    pytest.param(
        lambda self: self.loc + self.scale * self.rng.normal(),
        "форма шума", id="no shape"),
    pytest.param(lambda self: self.scale * self.rng.normal(self.scale.shape),
                 "не зависит от loc", id="no loc"),
    pytest.param(lambda self: self.loc + self.rng.normal(self.loc.shape),
                 "не зависит от scale", id="no scale"),
    pytest.param(lambda self: self.loc + self.scale * np.float32(np.random.normal()),
                 "при повторном вычислении", id="NumPy's noise"),
    pytest.param(
        lambda self: self.loc + T.exp(self.scale) * self.rng.normal(self.loc.shape),
        "exp\\(scale\\).*не логарифм", id="log of scale"),
    pytest.param(
        lambda self: self.loc + T.log(self.scale - 1) * self.rng.normal(self.loc.shape),
        "nan или inf", id="nan"),
    pytest.param(lambda self: [self.loc], "не то: список, элементов: 1", id="list"),
    pytest.param(
        lambda self: (self.loc + theano.gradient.grad_scale(self.scale, 2)
                      * self.rng.normal(self.loc.shape)),
        "градиент сэмпла по loc и scale не тот", id="wrong gradient"),
    pytest.param(
        lambda self: self.loc + self.scale * np.sqrt(12) * (self.rng.uniform(self.loc.shape) - 0.5),
        "не нормальное", id="uniform"),
])
def test_wrong_samples(sample, hint):
    assert re.search(hint, hint_of(1, with_sample(sample)))


def normal(self, *shape):
    return self.rng.normal(shape)


#: Noise of variance 1 whose numbers depend on each other: a function of the student's object and of
#: the numbers of rows and columns.
DEPENDENT = {
    "the batch's second half repeats the first": lambda self, n, dim: T.tile(
        normal(self, n // 2, dim), (2, 1)),
    "the second half is the first with the other sign": lambda self, n, dim: (
        lambda eps: T.concatenate([eps, -eps]))(normal(self, n // 2, dim)),
    "the second half is the first in reverse": lambda self, n, dim: (
        lambda eps: T.concatenate([eps, eps[::-1]]))(normal(self, n // 2, dim)),
    "ten rows again and again": lambda self, n, dim: T.tile(normal(self, 10, dim), (n // 10, 1)),
    "each row twice": lambda self, n, dim: T.repeat(normal(self, n // 2, dim), 2, axis=0),
    "the last tenth repeats the first": lambda self, n, dim: (
        lambda eps: T.concatenate([eps, eps[:n - 9 * (n // 10)]]))(normal(self, 9 * (n // 10), dim)),
    "a part that rows share": lambda self, n, dim: (
        normal(self, n, dim) + normal(self, 1, dim).repeat(n, 0)) / np.sqrt(2),
    "a part that distant rows share": lambda self, n, dim: (
        normal(self, n, dim) + T.tile(normal(self, n // 2, dim), (2, 1))) / np.sqrt(2),
    "a part that columns share": lambda self, n, dim: (
        normal(self, n, dim) + normal(self, n, 1).repeat(dim, 1)) / np.sqrt(2),
    "the last column repeats the first": lambda self, n, dim: (
        lambda eps: T.concatenate([eps, eps[:, :1]], axis=1))(normal(self, n, dim - 1)),
    "columns that are shifted": lambda self, n, dim: (
        lambda eps: T.concatenate([T.roll(eps, 3 * k, 0) for k in range(4)], axis=1))(
            normal(self, n, 1)),
}


@pytest.mark.parametrize("noise", DEPENDENT)
def test_noise_whose_numbers_depend_on_each_other(noise):
    def sample(self):
        n, dim = self.loc.shape[0], 4
        eps = T.cast(DEPENDENT[noise](self, n, dim), "float32")
        return self.loc + self.scale * eps

    hint = hint_of(1, dict(with_sample(sample), HIDDEN_DIM=4))
    assert "должен быть независимым" in hint or noise == "a part that rows share"


# --- 2: the encoder ---

RANDOM = lasagne.init.GlorotUniform()
ZERO, CONSTANT = lasagne.init.Constant(0.), lasagne.init.Constant(0.01)


def encoder(loc_activation=None, scale_activation=T.nnet.softplus, units=(32,), hidden_dim=2,
            activation=lasagne.nonlinearities.rectify, hidden_weights=(), head_weights=RANDOM):
    """A student's vae_encoder_mlp."""
    def vae_encoder_mlp(input_x):
        layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
        for n, weights in zip_longest(units, hidden_weights, fillvalue=RANDOM):
            layer = DenseLayer(layer, n, W=weights, nonlinearity=activation)
        return (DenseLayer(layer, hidden_dim, W=head_weights, nonlinearity=loc_activation),
                DenseLayer(layer, hidden_dim, W=head_weights, nonlinearity=scale_activation))
    return vae_encoder_mlp


def convolutional_encoder(input_x):
    layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
    layer = lasagne.layers.Conv2DLayer(layer, 4, 5, stride=2)
    layer = lasagne.layers.MaxPool2DLayer(layer, 2)
    layer = DenseLayer(layer, 16)
    return [DenseLayer(layer, 2, nonlinearity=None),
            DenseLayer(layer, 2, nonlinearity=T.exp)]


@pytest.mark.parametrize("function", [
    pytest.param(encoder(scale_activation=T.exp), id="exp"),
    pytest.param(encoder(scale_activation=lambda x: T.exp(0.5 * x)), id="exp of half"),
    pytest.param(
        encoder(scale_activation=lambda x: T.nnet.softplus(x) + 1e-4),
        id="softplus with a floor"),
    pytest.param(encoder(scale_activation=T.nnet.sigmoid), id="sigmoid"),
    pytest.param(encoder(units=(64, 64, 64, 64)), id="deep"),
    pytest.param(encoder(units=()), id="linear"),
    pytest.param(encoder(units=(64,) * 12, activation=T.tanh), id="twelve layers of tanh"),
    pytest.param(encoder(hidden_dim=1, units=(4,)), id="one coordinate"),
    pytest.param(encoder(loc_activation=T.arcsinh), id="a mean that grows slowly"),
    pytest.param(encoder(loc_activation=lambda v: T.sgn(v) * T.log1p(abs(v))),
                 id="a mean on a logarithmic scale"),
    pytest.param(encoder(head_weights=ZERO), id="zeros in the last layer"),
    pytest.param(encoder(hidden_weights=[ZERO]), id="zeros in the first layer"),
    pytest.param(lambda input_x: iter(encoder()(input_x)), id="generator"),
    pytest.param(lambda input_x: dict(enumerate(encoder()(input_x))).values(), id="dict"),
    pytest.param(convolutional_encoder, id="convolutional"),
])
def test_other_right_encoders(function):
    layers = list(function(T.tensor4()))
    check(2, dict(HIDDEN_DIM=layers[0].output_shape[1], vae_encoder_mlp=function))


@pytest.mark.parametrize("head", [T.exp, lambda x: T.nnet.elu(x) + 1.0001, T.nnet.softplus])
def test_right_deep_encoders(head):
    deep_encoder = encoder(scale_activation=head, units=(256, 256, 128, 128, 64, 64, 32, 32))
    check(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=deep_encoder))


@pytest.mark.parametrize("signature", [
    "input_x, hidden_dim", "x, latent_dim", "images, n", "hidden_dim, input_x", "x, *, hidden_dim",
    "x, hidden_dim, /", "input_x, units, hidden_dim", "input_x, code_size, num_units",
    "encoder_input, z_dim, hidden_dim", "batch_size, input_x, dim", "input_x, hidden_dim=10",
    "input_x, units=32, latent_dim=20", "input_x, hidden_dim=2, activation=None",
    "input_x=None, hidden_dim=2", "*arguments", "x, *more, **options"])
def test_signatures_of_encoders(signature):
    """The student's own call, in a later cell, gives the arguments that have no default."""
    names = re.findall(r"\w+", signature)
    images = next((name for name in names if name.endswith(("input_x", "input", "x", "images"))),
                  "arguments[0]")
    size = next((name for name in ["latent_dim", "code_size", "z_dim", "hidden_dim", "dim", "n"]
                 if name in names), "2")
    units = next((name for name in ["num_units", "units"] if name in names), "32")
    cell = (f"def vae_encoder_mlp({signature}):\n"
            f"    assert not isinstance({images}, int)\n"
            f"    return encoder(units=({units},), hidden_dim={size})({images})\n")
    check(2, dict(defined_by_a_cell(cell, encoder=encoder), HIDDEN_DIM=2))


def encoder_with_one_head(scale_of):
    """An encoder whose second output is computed from the layer of the first, l_loc."""
    def vae_encoder_mlp(input_x):
        l_loc, _ = encoder()(input_x)
        return l_loc, scale_of(l_loc)
    return vae_encoder_mlp


ONE_HEAD = {
    "exp": encoder_with_one_head(lambda l_loc: lasagne.layers.NonlinearityLayer(l_loc, T.exp)),
    "exp of half": encoder_with_one_head(
        lambda l_loc: lasagne.layers.NonlinearityLayer(l_loc, lambda v: T.exp(v / 2))),
    "softplus": encoder_with_one_head(
        lambda l_loc: lasagne.layers.NonlinearityLayer(l_loc, T.nnet.softplus)),
    "square": encoder_with_one_head(
        lambda l_loc: lasagne.layers.NonlinearityLayer(l_loc, lambda v: v ** 2 + 1e-3)),
    "another layer after it": encoder_with_one_head(
        lambda l_loc: DenseLayer(l_loc, 2, nonlinearity=T.nnet.softplus)),
    "the same weights": encoder_with_one_head(
        lambda l_loc: DenseLayer(l_loc.input_layer, 2, W=l_loc.W, b=l_loc.b, nonlinearity=T.exp)),
}


@pytest.mark.parametrize("function", ONE_HEAD.values(), ids=ONE_HEAD)
def test_a_scale_that_is_computed_from_the_mean(function, names):
    assert "нужно по своему слою" in hint_of(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=function))
    names["encoder_mean"], names["encoder_scale"] = function(names["input_x"])
    names["qz_x"] = MultivariateNormalDiag(
        *get_output([names["encoder_mean"], names["encoder_scale"]]))
    assert "нужно по своему слою" in hint_of(3, names)


def halves_of_one_layer(input_x):
    layer = DenseLayer(lasagne.layers.InputLayer((None, 1, 28, 28), input_x), 32)
    both = DenseLayer(layer, 4, nonlinearity=None)
    return (lasagne.layers.SliceLayer(both, slice(0, 2), 1),
            lasagne.layers.NonlinearityLayer(
                lasagne.layers.SliceLayer(both, slice(2, 4), 1), T.exp))


def from_mean_and_hidden_layer(input_x):
    l_loc, l_scale = encoder()(input_x)
    return l_loc, DenseLayer(lasagne.layers.ConcatLayer([l_loc, l_scale.input_layer]), 2,
                             nonlinearity=T.nnet.softplus)


@pytest.mark.parametrize("function", [
    halves_of_one_layer, from_mean_and_hidden_layer, encoder(units=(2,)), encoder(units=(1,)),
    encoder(units=(8, 1), activation=T.tanh), encoder(units=(16,) * 12, hidden_dim=1),
    encoder(scale_activation=lambda x: T.maximum(T.nnet.sigmoid(x), 0.6))],
    ids=["halves", "mean and hidden", "two units", "one unit", "one tanh", "images almost equal",
         "most scales equal"])
def test_a_mean_and_a_scale_of_shared_layers(function):
    check(2, dict(HIDDEN_DIM=function(T.tensor4())[0].output_shape[1], vae_encoder_mlp=function))


class Scaled(lasagne.layers.Layer):
    """A layer with a parameter that is not trained."""

    def __init__(self, incoming):
        super().__init__(incoming)
        self.factor = self.add_param(lasagne.init.Constant(3.), (), name="factor", trainable=False)

    def get_output_for(self, input, **kwargs):
        return input * self.factor


def encoder_with_constants(input_x):
    mean, std = (theano.shared(np.full((28, 28), value, "float32")) for value in (0.13, 0.3))
    floor = theano.shared(np.float32(1e-3))
    layer = Scaled(lasagne.layers.InputLayer((None, 1, 28, 28), input_var=(input_x - mean) / std))
    layer = DenseLayer(layer, 32)
    return (DenseLayer(layer, 2, nonlinearity=None),
            DenseLayer(layer, 2, nonlinearity=lambda x: T.nnet.softplus(x) + floor))


def test_shared_variables_that_are_constants():
    imports, sample, _encoder, *others = solved_cells()
    names = dict(BATCH_SIZE=20, HIDDEN_DIM=2, X_train=real_images(),
                 vae_encoder_mlp=encoder_with_constants)
    for source in [imports, sample, *others]:
        exec(source, names)
    names["params"] = lasagne.layers.get_all_params(
        [names["encoder_mean"], names["encoder_scale"], names["decoder_logits"]], trainable=True)
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    for exercise in EXERCISES:
        check(exercise, names)
    del names["params"][0]
    assert "params нет параметров кодировщика: W формы 784×32" in hint_of(5, names)


def encoder_of_another_input(input_x):
    return encoder()(T.tensor4())


def encoder_with_constant_scale(input_x):
    l_loc, _ = encoder()(input_x)
    return l_loc, lasagne.layers.NonlinearityLayer(l_loc, T.ones_like)


def encoder_with_constant_mean(input_x):
    _, l_scale = encoder()(input_x)
    l_nothing = lasagne.layers.NonlinearityLayer(l_scale, T.zeros_like)
    return DenseLayer(l_nothing, 2, nonlinearity=None), l_scale


@pytest.mark.parametrize("function, hint", [
    pytest.param(todo, "ещё не выполнено", id="todo"),
    pytest.param(lambda input_x: None, "ничего не возвращает", id="None"),
    pytest.param((1, 2), "vae_encoder_mlp сейчас — кортеж", id="a tuple"),
    pytest.param(encoder(scale_activation=T.log), "на выходе l_out_scale бывает nan", id="log"),
    pytest.param(encoder(scale_activation="relu"), "а не её название в кавычках", id="a text"),
    pytest.param(lambda input_x: encoder()(input_x)[0], "два слоя Lasagne", id="one"),
    pytest.param(lambda input_x: get_output(encoder()(input_x)), "два слоя Lasagne", id="tensors"),
    pytest.param(
        encoder(hidden_dim=3),
        "l_out_loc — \\(None, 3\\), а нужна \\(None, 2\\)", id="three"),
    pytest.param(encoder_of_another_input, "не зависят от input_x", id="no input"),
    pytest.param(encoder(scale_activation=None), "строго положительным", id="linear scale"),
    pytest.param(
        encoder(scale_activation=lasagne.nonlinearities.rectify),
        "строго положительным", id="relu scale"),
    pytest.param(encoder(scale_activation=T.tanh), "строго положительным", id="tanh scale"),
    pytest.param(encoder(loc_activation=T.tanh), "ограничено", id="tanh loc"),
    pytest.param(encoder(loc_activation=T.nnet.sigmoid), "ограничено", id="sigmoid loc"),
    pytest.param(
        encoder(loc_activation=lasagne.nonlinearities.rectify),
        "ограничено", id="relu loc"),
    pytest.param(encoder(loc_activation=lambda v: 3 * T.tanh(v)), "оно от -3 до 3 при любых весах",
                 id="3 tanh"),
    pytest.param(encoder(loc_activation=lambda v: 100 * T.tanh(v / 100)), "оно от -100 до 100",
                 id="100 tanh"),
    pytest.param(encoder(loc_activation=lambda v: T.clip(v, -3, 3)), "оно от -3 до 3", id="clip"),
    pytest.param(encoder(loc_activation=lambda v: 2 * v / (1 + abs(v))), "оно от -2 до 2",
                 id="2 softsign"),
    pytest.param(encoder(loc_activation=lambda v: 4 - T.log1p(T.nnet.relu(v))), "оно не больше 4",
                 id="4 - logarithm"),
    pytest.param(encoder(loc_activation=lambda v: T.nnet.relu(v) - 2), "оно не меньше -2",
                 id="relu loc - 2"),
    pytest.param(encoder(loc_activation=lambda v: 5 - T.nnet.softplus(v)), "оно не больше 5",
                 id="5 - softplus loc"),
    pytest.param(encoder(hidden_weights=[ZERO], head_weights=ZERO), "Веса должны быть случайными",
                 id="zeros"),
    pytest.param(encoder(hidden_weights=[CONSTANT], head_weights=CONSTANT),
                 "Веса должны быть случайными", id="constants"),
    pytest.param(encoder(hidden_weights=[CONSTANT, CONSTANT], units=(32, 32)),
                 "Веса должны быть случайными", id="constants in hidden layers"),
    pytest.param(encoder(hidden_weights=[ZERO, ZERO], units=(32, 32), activation=T.tanh),
                 "Веса должны быть случайными", id="zeros with tanh"),
    pytest.param(
        encoder_with_constant_scale,
        "стандартное отклонение не зависит", id="constant scale"),
    pytest.param(encoder_with_constant_mean, "среднее не зависит", id="constant mean"),
    pytest.param(lambda input_x: encoder()(input_x)[::-1], "порядок", id="swapped"),
])
def test_wrong_encoders(function, hint):
    assert re.search(hint, hint_of(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=function)))


# --- 3: q(z | x) ---

def with_posterior(names, loc, scale):
    names["qz_x"] = MultivariateNormalDiag(loc, scale)


def with_outputs(names, mean, scale):
    """The student's names with q(z | x) and the later exercises made from two layers."""
    names["encoder_mean"], names["encoder_scale"] = names[mean], names[scale]
    names["qz_x"] = MultivariateNormalDiag(
        *get_output([names["encoder_mean"], names["encoder_scale"]]))
    names["z"] = names["qz_x"].sample()
    with_code(names, names["z"])
    with_elbo(names, right_bound(names))


def with_relu_scale(names):
    names["relu"] = DenseLayer(names["encoder_scale"].input_layer, 2)
    with_outputs(names, "encoder_mean", "relu")


@pytest.mark.parametrize("exercise", [4, 5])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_scale_of_zero_comes_from_exercise_2(exercise, names):
    with_relu_scale(names)
    assert re.search("нулём или отрицательным .* из упражнения 2", hint_of(exercise, names))


class NoSignal(lasagne.layers.Layer):
    """Zeros that have a gradient with respect to a weight, plus a constant: x does not matter."""

    def __init__(self, incoming, constant):
        super().__init__(incoming)
        self.constant = constant
        self.weight = self.add_param(ZERO, (2,), name="weight")

    def get_output_for(self, values, **options):
        zero = self.weight - theano.gradient.disconnected_grad(self.weight)
        return 0 * values[:, :2] + self.constant + zero


def with_a_posterior_that_ignores_x(names):
    """The answers to exercises 3 to 5, where q(z | x) is N(0, I)."""
    names["signal"], names["noise"] = (
        NoSignal(names["encoder_mean"], constant) for constant in (0., 1.))
    with_outputs(names, "signal", "noise")
    zero = sum(T.sum(get_output(names[name]))  - 40 * names[name].constant
               for name in ("signal", "noise"))
    with_elbo(names, T.mean(log_probs(names).px_z) + zero)
    names["params"] = get_all_params([names["signal"], names["noise"], names["decoder_logits"]])


@pytest.mark.parametrize("exercise", [3, 5])
def test_a_posterior_that_ignores_the_images(exercise, names):
    with_a_posterior_that_ignores_x(names)
    assert "loc у qz_x при любых весах одинаково для всех изображений" in hint_of(exercise, names)


@pytest.mark.parametrize("spoil, hint", [
    pytest.param(
        lambda names, loc, scale: with_posterior(names, scale, loc),
        "перепутаны", id="swapped"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, loc, scale ** 2),
        "scale у qz_x", id="variance"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, loc, T.log(scale)),
        "положительным", id="logarithm"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, 2 * loc, scale),
        "loc у qz_x", id="doubled"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, loc[:, :1], scale[:, :1]),
        "форму \\(50, 1\\)", id="one coordinate"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, loc + T.matrix(), scale),
        "от input_x", id="another input"),
    pytest.param(
        lambda names, loc, scale: names.update(qz_x=names["encoder_mean"]),
        "qz_x сейчас — слой Lasagne DenseLayer, а должен быть объектом", id="a layer"),
    pytest.param(
        lambda names, loc, scale: names.update(encoder_mean=loc),
        "encoder_mean сейчас — символьная .* а должен быть слоем", id="a tensor"),
    pytest.param(
        lambda names, loc, scale: with_posterior(names, T.zeros((50, 2)), scale),
        "loc у qz_x не зависит от input_x", id="a constant"),
    pytest.param(
        lambda names, loc, scale: names.update(zip(
            ["encoder_mean", "encoder_scale"], vae_encoder_mlp(real_images()[:20]))),
        "подано не то: массив NumPy формы \\(20, 1, 28, 28\\)", id="real images"),
    pytest.param(
        lambda names, loc, scale: with_outputs(names, "encoder_scale", "encoder_mean"),
        "не перепутаны ли encoder_mean и encoder_scale", id="swapped layers"),
    pytest.param(
        lambda names, loc, scale: with_relu_scale(names),
        "нулём или отрицательным .* из упражнения 2", id="relu scale"),
])
def test_wrong_posteriors(spoil, hint, names):
    spoil(names, names["qz_x"].loc, names["qz_x"].scale)
    assert re.search(hint, hint_of(3, names))


# --- 4: p(x, z) ---

def with_code(names, z):
    names["decoder_logits"] = vae_decoder_mlp(z)
    names["px_z"] = BinaryVector(get_output(names["decoder_logits"]))


def without_gradient(names):
    """p(x | z) whose gradient does not reach the code."""
    return BinaryVector(get_output(names["decoder_logits"],
                                   theano.gradient.disconnected_grad(names["z"])))


def with_nonlinearity(names, nonlinearity):
    logits = lasagne.layers.NonlinearityLayer(names["decoder_logits"], nonlinearity)
    names.update(decoder_logits=logits, px_z=BinaryVector(lasagne.layers.get_output(logits)))


def with_prior(names, loc, scale):
    z = names["z"]
    names["pz"] = MultivariateNormalDiag(loc + T.zeros_like(z), scale + T.zeros_like(z))


@pytest.mark.parametrize("spoil, hint", [
    pytest.param(lambda names: with_code(names, names["qz_x"].loc), "не случаен", id="mean"),
    pytest.param(
        lambda names: with_code(names, MRG_RandomStreams(1).normal(names["z"].shape)),
        "не сэмпл из q", id="noise"),
    pytest.param(lambda names: with_prior(names, 1., 1.), "стандартным нормальным", id="shifted"),
    pytest.param(lambda names: with_prior(names, 0., 2.), "стандартным нормальным", id="wide"),
    pytest.param(
        lambda names: names.update(pz=names["qz_x"]),
        "стандартным нормальным", id="posterior"),
    pytest.param(lambda names: names.update(pz=3), "pz сейчас — 3, и", id="number"),
    pytest.param(lambda names: names.update(pz=T.zeros_like(names["z"])),
                 "pz сейчас — символьная", id="tensor"),
    pytest.param(lambda names: names.update(pz=names["px_z"]),
                 "pz сейчас — объект типа BinaryVector", id="BinaryVector"),
    pytest.param(lambda names: names.update(pz=MultivariateNormalDiag),
                 "pz сейчас — класс MultivariateNormalDiag", id="class"),
    pytest.param(lambda names: names.update(px_z=BinaryVector(real_images()[:20])),
                 "вычисляет не decoder_logits", id="images"),
    pytest.param(lambda names: names.update(decoder_logits=vae_decoder_mlp(names["z"], 5)),
                 "для кодов размерности 5, а HIDDEN_DIM = 2", id="dimension"),
    pytest.param(lambda names: with_code(names, np.zeros((20, 2))),
                 "а не: массив NumPy", id="array"),
    pytest.param(lambda names: with_code(names, names["qz_x"].loc + names["qz_x"].scale),
                 "в среднем на \\+1.00 scale", id="loc + scale"),
    pytest.param(
        lambda names: names.update(px_z=BinaryVector(T.nnet.sigmoid(names["px_z"].logits))),
        "вероятности, а нужны логиты", id="sigmoid"),
    pytest.param(
        lambda names: with_nonlinearity(names, lasagne.nonlinearities.rectify),
        "все логиты одного знака", id="logits that are not negative"),
    pytest.param(
        lambda names: names.update(px_z=BinaryVector(2 * names["px_z"].logits)),
        "logits у px_z", id="doubled"),
    pytest.param(
        lambda names: names.update(
            px_z=BinaryVector(names["px_z"].logits.reshape((-1, 1, 784, 1)))),
        "logits имеет форму \\(20, 1, 784, 1\\)", id="reshaped"),
    pytest.param(
        lambda names: with_code(names, T.matrix()),
        "больше ни от каких входов", id="another input"),
    pytest.param(
        lambda names: names.update(decoder_logits=names["px_z"].logits),
        "должен быть слоем", id="tensor"),
    pytest.param(
        lambda names: names.update(px_z=without_gradient(names)),
        "градиент от p\\(x \\| z\\) не доходит", id="no gradient of logits"),
    pytest.param(
        lambda names: names.update(px_z=names["px_z"].logits),
        "px_z сейчас — символьная .* а должен быть объектом", id="logits"),
])
def test_wrong_generative_models(spoil, hint, names):
    spoil(names)
    assert re.search(hint, hint_of(4, names))


@pytest.mark.parametrize("rows", [1, 20])
def test_right_priors_of_one_row_and_of_a_batch(rows, names):
    names["pz"] = MultivariateNormalDiag(np.zeros((rows, 2)), np.ones((rows, 2)))
    check(4, names)
    with_elbo(names, right_bound(names))
    check(5, names)


def with_shared_prior(names):
    """Return the shared zeros and ones that are the parameters of p(z)."""
    zeros, ones = (theano.shared(values((20, 2), "float32")) for values in (np.zeros, np.ones))
    names["pz"] = MultivariateNormalDiag(zeros, ones)
    with_elbo(names, right_bound(names))
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    return zeros, ones


def test_a_prior_of_shared_constants(names):
    with_shared_prior(names)
    check(4, names)
    check(5, names)


@pytest.mark.parametrize("value", [0.1, 2.])
def test_a_prior_of_wrong_shared_constants(value, names):
    zeros, _ones = with_shared_prior(names)
    zeros.set_value(np.full((20, 2), value, "float32"))
    assert "стандартным нормальным" in hint_of(4, names)


@pytest.mark.parametrize("by", ["params", "updates"])
def test_a_prior_that_is_trained(by, names):
    zeros, ones = with_shared_prior(names)
    both = names["params"] + [zeros, ones]
    if by == "params":
        names["params"] = both
    names["updates"] = lasagne.updates.adam(names["loss"], both)
    check(4, names)
    assert "меняют pz.loc, pz.scale, а p(z)" in hint_of(5, names)


# --- 4: the decoder's input ---

@pytest.mark.parametrize("spoil", [
    pytest.param(lambda z, q: (z + q.sample() + q.sample()) / 3, id="mean of samples"),
    pytest.param(lambda z, q: q.loc + 0.9 * (z - q.loc), id="cooled"),
    pytest.param(lambda z, q: T.repeat(z[:1], 20, axis=0), id="one for the batch"),
    pytest.param(lambda z, q: q.loc + q.scale * T.tile(((z - q.loc) / q.scale)[:10], (2, 1)),
                 id="noise that repeats in the second half"),
    pytest.param(lambda z, q: q.loc + q.scale * T.sgn(z - q.loc), id="signs"),
    pytest.param(
        lambda z, q: q.loc + q.scale * T.repeat(((z - q.loc) / q.scale)[:, :1], 2, axis=1),
        id="one for all coordinates"),
    pytest.param(
        lambda z, q: q.loc + q.scale * MRG_RandomStreams(1).uniform(z.shape, -3 ** .5, 3 ** .5),
        id="uniform"),
])
def test_codes_from_other_distributions(spoil, names):
    with_code(names, spoil(names["z"], names["qz_x"]))
    assert re.search("не сэмпл|зависят", hint_of(4, names))


def test_a_code_of_float64(names):
    names["z"] = T.cast(names["z"], "float64")
    with_code(names, names["z"])
    check(4, names)
    with_elbo(names, right_bound(names))
    names["params"] = get_all_params(
        [names["encoder_mean"], names["encoder_scale"], names["decoder_logits"]])
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    check(5, names)


@pytest.mark.parametrize("block", [
    pytest.param(theano.gradient.zero_grad, id="zero"),
    pytest.param(theano.gradient.disconnected_grad, id="disconnected"),
    pytest.param(lambda z: theano.gradient.grad_scale(z, 0.5), id="half"),
    pytest.param(lambda z: T.concatenate([z[:, :1], theano.gradient.zero_grad(z[:, 1:])], axis=1),
                 id="a part"),
])
def test_codes_with_a_wrong_gradient(block, names):
    with_code(names, block(names["z"]))
    assert "градиент от p(x | z) не доходит" in hint_of(4, names)


@pytest.mark.parametrize("size", [1, 1024])
def test_batches_of_any_size(size, names):
    names["BATCH_SIZE"] = size
    check(4, names)


# --- 5: ELBO ---

class LogProbs(NamedTuple):
    """The terms of ELBO, vectors of shape (batch,)."""

    px_z: T.TensorVariable
    pz: T.TensorVariable
    qz_x: T.TensorVariable


def log_probs(names):
    z = names["z"]
    return LogProbs(px_z=names["px_z"].log_prob(names["input_x"]), pz=names["pz"].log_prob(z),
                    qz_x=names["qz_x"].log_prob(z))


def right_bound(names):
    log = log_probs(names)
    return T.mean(log.px_z + log.pz - log.qz_x)


def with_elbo(names, elbo):
    names["elbo"], names["loss"] = elbo, -elbo


def closed_form_kl(names, loc=None, log_weight=1., power=2):
    loc, scale = loc or names["qz_x"].loc, names["qz_x"].scale
    return T.sum(0.5 * (loc ** 2 + scale ** power - 1) - log_weight * T.log(scale), axis=1)


def reverse_kl(names):
    loc, scale = names["qz_x"].loc, names["qz_x"].scale
    return 0.5 * T.sum((1 + loc ** 2) / scale ** 2 - 1 + 2 * T.log(scale), axis=1)


def resampled_kl(names):
    z = names["qz_x"].sample()
    return names["qz_x"].log_prob(z) - names["pz"].log_prob(z)


def noise_of(names):
    return (names["z"] - names["qz_x"].loc) / names["qz_x"].scale


def log_prob_with_code(names, z):
    """log p(x | z) of the student's decoder for another code."""
    return BinaryVector(get_output(names["decoder_logits"], z)).log_prob(names["input_x"])


def test_elbo_with_the_kl_in_closed_form(names):
    with_elbo(names, T.mean(log_probs(names).px_z - closed_form_kl(names)))
    check(5, names)


def test_elbo_of_another_output_of_the_same_layer(names):
    loc = get_output(names["encoder_mean"])
    with_elbo(names, T.mean(log_probs(names).px_z - closed_form_kl(names, loc)))
    check(5, names)


def with_encoder(names, function):
    """The student's names with the model of another encoder."""
    names["vae_encoder_mlp"] = function
    for source in solved_cells()[3:]:
        exec(source, names)


@pytest.mark.slow
@pytest.mark.parametrize("function", [
    pytest.param(encoder(units=(256, 256, 128, 64, 32), activation=T.tanh), id="five tanh"),
    pytest.param(encoder(units=(64,) * 12, activation=T.tanh), id="twelve tanh"),
    pytest.param(encoder(units=(32, 32), hidden_weights=[ZERO] * 2, head_weights=ZERO),
                 id="zeros, which are a mistake in exercise 2 only"),
    pytest.param(encoder(loc_activation=lambda v: 3 * T.tanh(v)), id="bounded means"),
])
def test_exercise_5_with_encoders_that_learn_slowly(function, names):
    with_encoder(names, function)
    check(5, names)


def fixed(value):
    """Return a value without a gradient."""
    return theano.gradient.disconnected_grad(value)


def with_q(names, log_qz_x):
    """Put another expression for log q(z | x) into elbo, loss and updates."""
    log = log_probs(names)
    with_elbo(names, T.mean(log.px_z + log.pz - log_qz_x))
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])


def log_q(names, loc, scale):
    return MultivariateNormalDiag(loc, scale).log_prob(names["z"])


@pytest.mark.parametrize("hidden_dim, batch_size", [(2, 20), (1, 20), (10, 20), (2, 1), (2, 100)])
def test_a_gradient_with_less_noise(hidden_dim, batch_size):
    """Roeder, Wu and Duvenaud (2017): the score function of q is left out."""
    names = {**right_answers(hidden_dim), "BATCH_SIZE": batch_size}
    with_q(names, log_q(names, fixed(names["qz_x"].loc), fixed(names["qz_x"].scale)))
    check(5, names)
    with_q(names, log_q(names, names["qz_x"].loc, fixed(names["qz_x"].scale)))
    check(5, names)


@pytest.mark.parametrize("hidden_dim, batch_size", [(2, 20), (1, 20), (10, 20), (2, 1), (2, 100)])
def test_a_score_function_for_the_gradient_of_the_entropy(hidden_dim, batch_size):
    """The mean of the score function is 0, so the gradient of the entropy is lost."""
    names = {**right_answers(hidden_dim), "BATCH_SIZE": batch_size}
    with_q(names, names["qz_x"].log_prob(fixed(names["z"])))
    assert "градиент от log q(z | x) в среднем не доходит до кодировщика" in hint_of(5, names)


@pytest.mark.parametrize("log_qz_x", [
    pytest.param(lambda names: fixed(log_probs(names).qz_x), id="all of it"),
    pytest.param(lambda names: log_probs(names).qz_x + T.sum(
        T.log(names["qz_x"].scale) - T.log(fixed(names["qz_x"].scale)), axis=1), id="log scale"),
])
def test_an_entropy_without_a_gradient(log_qz_x, names):
    with_q(names, log_qz_x(names))
    assert "градиент от log q(z | x) в среднем не доходит до кодировщика" in hint_of(5, names)


def test_a_log_p_of_z_without_a_gradient(names):
    log = log_probs(names)
    with_elbo(names, T.mean(log.px_z + names["pz"].log_prob(fixed(names["z"])) - log.qz_x))
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    assert "не доходит до кодировщика" in hint_of(5, names)


@pytest.mark.slow
def test_a_model_that_does_not_learn(names, monkeypatch):
    """The loss is -elbo, but its gradient is mainly that of a penalty which is always 0."""
    monkeypatch.setattr("vae.checks.trial_training.TRAINING_STEPS", [25, 50])
    squares = 100 * sum(T.sum(parameter ** 2) for parameter in names["params"])
    penalty = squares - theano.gradient.disconnected_grad(squares)
    names["loss"] = penalty - names["elbo"]
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    assert re.search("модель не обучается: за 50 шагов Adam elbo .* дошла до -.*без кода z .* -20",
                     hint_of(5, names))


def test_elbo_as_a_sum_over_the_batch_size(names):
    log = log_probs(names)
    with_elbo(names, T.sum(log.px_z + log.pz - log.qz_x) / 20)
    check(5, names)


@pytest.mark.slow
@pytest.mark.parametrize("bound, hint", [
    pytest.param(lambda names, log: -T.mean(log.px_z + log.pz - log.qz_x), "неверный знак",
                 id="negative"),
    pytest.param(lambda names, log: T.mean(log.px_z - log.pz + log.qz_x),
                 "KL-дивергенция входит с неверным", id="KL added"),
    pytest.param(lambda names, log: T.mean(log.px_z + closed_form_kl(names)),
                 "KL-дивергенция входит с неверным", id="closed KL added"),
    pytest.param(lambda names, log: T.mean(log.px_z - closed_form_kl(names, log_weight=0.5)),
                 "KL-дивергенция = ", id="half of log"),
    pytest.param(lambda names, log: T.mean(log.px_z - closed_form_kl(names, log_weight=0)),
                 "нет слагаемого -log q", id="no log"),
    pytest.param(lambda names, log: T.mean(log.px_z - closed_form_kl(names, power=1)),
                 "KL-дивергенция = ", id="variance for scale"),
    pytest.param(
        lambda names, log: T.mean(log.px_z - closed_form_kl(names, power=1, log_weight=0.5)),
        "KL-дивергенция = ", id="log of variance for scale"),
    pytest.param(lambda names, log: T.mean(log.px_z - closed_form_kl(names) / 2),
                 "множитель при KL-дивергенции — 0.5", id="half of KL"),
    pytest.param(lambda names, log: T.mean(log.px_z), "нет KL", id="no KL"),
    pytest.param(lambda names, log: T.mean(log.pz - log.qz_x), "нет слагаемого log p\\(x",
                 id="no likelihood"),
    pytest.param(lambda names, log: T.sum(log.px_z + log.pz - log.qz_x),
                 "elbo умножена на 20, .*сумма по батчу", id="sum"),
    pytest.param(lambda names, log: log.px_z + log.pz - log.qz_x, "скаляр", id="vector"),
    pytest.param(lambda names, log: T.mean(log.px_z + log.pz), "нет слагаемого -log q", id="no q"),
    pytest.param(lambda names, log: T.sum(log.px_z) + T.mean(log.pz - log.qz_x),
                 "множитель при log p.* — 20, .*сумма по батчу", id="likelihood summed"),
    pytest.param(
        lambda names, log: T.mean(
            log.px_z + names["pz"].log_prob(names["qz_x"].sample()) - log.qz_x),
        "одном и том же z", id="two samples"),
    pytest.param(lambda names, log: T.mean(log.px_z - resampled_kl(names)), "одном и том же z",
                 id="another sample for KL"),
    pytest.param(lambda names, log: T.mean(log.px_z + 1.1 * (log.pz - log.qz_x)),
                 "при KL-дивергенции — 1.1", id="KL's weight"),
    pytest.param(lambda names, log: T.mean(log.px_z + 1.015 * (log.pz - log.qz_x)),
                 ": множитель при KL-дивергенции — 1.01\\d*, ", id="KL's weight of about 1"),
    pytest.param(lambda names, log: T.mean(names["px_z"].log_prob(real_images()[:20])
                                           + log.pz - log.qz_x),
                 "подставлены сами изображения", id="real images"),
    pytest.param(lambda names, log: T.mean(log.pz - log.qz_x + T.log(log.px_z)),
                 "elbo бывает nan или inf", id="logarithm of log p"),
    pytest.param(lambda names, log: T.mean(0.985 * log.px_z + 1.015 * (log.pz - log.qz_x)),
                 "log p.* — 0.985, .*KL-дивергенции — 1.0", id="factors of about 1"),
    pytest.param(lambda names, log: T.mean(log.px_z - 2 * closed_form_kl(names)),
                 "в её формуле потерян множитель 1/2 или лишняя сумма по координатам кода",
                 id="KL without one half"),
    pytest.param(lambda names, log: T.mean(log.px_z - 0.5 * closed_form_kl(names)),
                 "1/2 в её формуле взят дважды или лишнее среднее по координатам кода",
                 id="KL with one half twice"),
    pytest.param(
        lambda names, log: T.mean(
            log.px_z + log.pz - names["qz_x"].log_prob(names["qz_x"].loc)),
        "вошло qz_x.log_prob\\(qz_x.loc\\), а", id="q at the mean"),
    pytest.param(
        lambda names, log: T.mean(
            log.px_z + names["pz"].log_prob(names["qz_x"].loc) - log.qz_x),
        "вошло pz.log_prob\\(qz_x.loc\\), а", id="p at the mean"),
    pytest.param(
        lambda names, log: T.mean(log.px_z + names["pz"].log_prob(noise_of(names)) - log.qz_x),
        "вошло pz.log_prob\\(eps\\), а", id="p at the noise"),
    pytest.param(
        lambda names, log: T.mean(log.px_z + names["pz"].log_prob(noise_of(names))
                                  - names["qz_x"].log_prob(noise_of(names))),
        "вошло pz.log_prob\\(eps\\), qz_x.log_prob\\(eps\\), а", id="both at the noise"),
    pytest.param(
        lambda names, log: T.mean(
            without_gradient(names).log_prob(names["input_x"]) + log.pz - log.qz_x),
        "градиент от него не доходит до параметров e_hid1.W", id="likelihood without a gradient"),
    pytest.param(
        lambda names, log: (T.mean(log.px_z + 2 * (log.pz - log.qz_x))
                            + 1e6 * MRG_RandomStreams(1).normal((1,))[0]),
        "elbo = ", id="2 KL under noise"),
    pytest.param(lambda names, log: T.mean(log.px_z / 784 + log.pz - log.qz_x),
                 "среднее по пикселям", id="mean over the pixels"),
    pytest.param(lambda names, log: T.mean(log.px_z + T.sum(log.pz - log.qz_x)),
                 "KL-дивергенции — 20, .*сумма по батчу", id="KL summed"),
    pytest.param(lambda names, log: T.mean(-log.px_z + log.pz - log.qz_x),
                 r"\): log p\(x \| z\) входит с неверным знаком", id="sign of the likelihood"),
    pytest.param(lambda names, log: T.mean(log.px_z - closed_form_kl(names)) - 1,
                 "на постоянную -1.0", id="KL without the constant"),
    pytest.param(
        lambda names, log: T.mean(log.px_z - closed_form_kl(names)
                                  + T.sum(names["qz_x"].scale ** 2, axis=1) / 2),
        "elbo = ", id="KL without the variance"),
    pytest.param(
        lambda names, log: (T.mean(log.px_z) + T.mean(
            names["pz"].log_prob(names["qz_x"].loc) - names["qz_x"].log_prob(names["qz_x"].loc))),
        "вошло pz.log_prob\\(qz_x.loc\\), qz_x.log_prob\\(qz_x.loc\\)", id="both at the mean"),
    pytest.param(lambda names, log: T.mean(log.px_z) - T.mean(reverse_kl(names)),
                 "в обратную сторону", id="the other KL"),
    pytest.param(lambda names, log: T.mean(log.px_z + log.pz - log.qz_x) + 2,
                 "на постоянную 2.0", id="a constant"),
    pytest.param(lambda names, log: T.mean(log.px_z + log.pz + log.qz_x), "с одним знаком",
                 id="signs"),
    pytest.param(
        lambda names, log: (T.mean(log_prob_with_code(names, names["qz_x"].loc))
                            - T.mean(closed_form_kl(names))),
        "а среднее: выход декодировщика", id="means decoded"),
    pytest.param(lambda names, log: T.mean(log.px_z - T.maximum(closed_form_kl(names), 2.)),
                 "ограничивать её снизу", id="free bits an image"),
    pytest.param(lambda names, log: T.mean(log.px_z) - T.maximum(T.mean(log.qz_x - log.pz), 2.),
                 "KL-дивергенция = |ограничивать", id="free bits a batch"),
    pytest.param(
        lambda names, log: (T.mean(log.px_z)
                            + theano.gradient.zero_grad(T.mean(log.pz - log.qz_x))),
        "градиент от неё не доходит", id="KL without a gradient"),
    pytest.param(lambda names, log: T.mean(names["px_z"].logits + log.pz),
                 "mis-match.*Проверьте порядок аргументов, формы и типы", id="shapes that differ"),
])
def test_wrong_bounds(bound, hint, names):
    with_elbo(names, bound(names, log_probs(names)))
    assert re.search(hint, hint_of(5, names), re.S)


# --- 5: several samples for an image ---

def log_weights(names, k):
    """log p(x, z) - log q(z | x) of k samples for each image, shape (k, batch)."""
    weights = []
    for _sample in range(k):
        z = names["qz_x"].sample()
        weights.append(log_prob_with_code(names, z) + names["pz"].log_prob(z)
                       - names["qz_x"].log_prob(z))
    return T.stack(weights)


def test_several_samples_for_the_entropy_without_a_gradient(names):
    elbo = 0
    for _sample in range(3):
        z = names["qz_x"].sample()
        elbo += T.mean(log_prob_with_code(names, z) + names["pz"].log_prob(z)
                       - names["qz_x"].log_prob(fixed(z))) / 3
    with_elbo(names, elbo)
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    assert "градиент от log q(z | x) в среднем не доходит" in hint_of(5, names)


def importance_weighted(weights):
    top = T.max(weights, axis=0)
    return T.mean(top + T.log(T.mean(T.exp(weights - top), axis=0)))


def test_several_samples(names):
    with_elbo(names, T.mean(log_weights(names, 3)))
    check(5, names)


@pytest.mark.slow
@pytest.mark.parametrize("bound, hint", [
    pytest.param(importance_weighted, "это IWAE", id="IWAE"),
    pytest.param(lambda weights: T.mean(T.sum(weights, axis=0)),
                 "умножена на 3, .*сумма по сэмплам", id="K not divided"),
    pytest.param(lambda weights: T.sum(T.mean(weights, axis=0)),
                 "умножена на 20, .*сумма по батчу", id="summed over the batch"),
])
def test_wrong_bounds_of_several_samples(bound, hint, names):
    with_elbo(names, bound(log_weights(names, 3)))
    assert re.search(hint, hint_of(5, names), re.S)


@pytest.mark.slow
@pytest.mark.parametrize("in_loop", [
    pytest.param(lambda names: T.mean(names["input_x"]), id="a loop"),
    pytest.param(lambda names: T.sum(names["px_z"].logits), id="a loop with the decoder"),
])
@pytest.mark.parametrize("width", [30, 1e6])
def test_a_wrong_bound_under_noise_beside_a_loop(width, in_loop, names):
    log, noise = log_probs(names), MRG_RandomStreams(1).normal((1,))[0]
    values, _updates = theano.scan(lambda: in_loop(names), n_steps=1)
    with_elbo(names, T.mean(log.px_z + 2 * (log.pz - log.qz_x)) + width * noise + 0 * values[-1])
    assert "elbo = " in hint_of(5, names)


@pytest.mark.slow
def test_several_samples_in_a_loop(names):
    means, streams = theano.scan(lambda: T.mean(log_weights(names, 1)), n_steps=4)
    with_elbo(names, T.mean(means))
    names["updates"].update(streams)
    check(5, names)
    with_elbo(names, T.sum(means))
    names["updates"].update(streams)
    assert "elbo = " in hint_of(5, names)


# --- 5: loss, params and updates ---

def test_the_check_restores_the_weights(names):
    before = [parameter.get_value() for parameter in names["params"]]
    check(5, names)
    names["elbo"] = names["elbo"] * T.vector()[0]
    assert "Граф зависит не только от input_x" in hint_of(5, names)
    for parameter, value in zip(names["params"], before):
        np.testing.assert_array_equal(parameter.get_value(), value)


@pytest.mark.parametrize("exercise", [3, 4, 5])
def test_weights_after_training_that_diverged(exercise, names):
    for network in ("encoder_mean", "decoder_logits"):
        bias = lasagne.layers.get_all_params(names[network])[-1]
        bias.set_value(np.full_like(bias.get_value(), np.nan))
    assert "веса сетей испорчены, среди них есть nan" in hint_of(exercise, names)


def test_loss_summed_over_the_batch(names):
    log = log_probs(names)
    names["loss"] = -T.sum(log.px_z + log.pz - log.qz_x)
    check(5, names)


def test_loss_with_the_wrong_sign(names):
    names["loss"] = names["elbo"]
    assert "какой нужен знак" in hint_of(5, names)


@pytest.mark.parametrize("loss, hint", [
    pytest.param(lambda names: 1 / names["elbo"], "равна -elbo", id="1 / elbo"),
    pytest.param(lambda names: names["elbo"] ** 2, "равна -elbo", id="square"),
    pytest.param(lambda names: T.mean(closed_form_kl(names)),
                 "равна -elbo.*\\nЧем -loss отличается от elbo: нет слагаемого log p\\(x \\| z",
                 id="KL"),
    pytest.param(lambda names: T.mean(log_probs(names).qz_x - log_probs(names).pz),
                 "равна -elbo.*\\nЧем -loss отличается от elbo: нет слагаемого log p\\(x \\| z",
                 id="KL by a sample"),
    pytest.param(lambda names: -T.mean(log_probs(names).px_z),
                 "равна -elbo.*\\nЧем -loss отличается от elbo: нет KL", id="likelihood"),
    pytest.param(lambda names: -names["elbo"] / 784,
                 "равна -elbo.*\\nЧем -loss отличается от elbo: множителем 0.00128",
                 id="mean over the pixels"),
])
def test_losses_that_are_no_multiple_of_elbo(loss, hint, names):
    names["loss"] = loss(names)
    text = hint_of(5, names)
    assert re.search(hint, text) and ("Чем" in hint) == ("Чем" in text)


def test_loss_multiplied_by_a_number(names):
    names["loss"] = -3 * names["elbo"]
    assert "равна -elbo" in hint_of(5, names)


def test_parameters_in_another_order(names):
    names["params"] = tuple(reversed(names["params"]))
    check(5, names)


@pytest.mark.parametrize("network, layers", [
    ("кодировщика", ["decoder_logits"]), ("кодировщика", ["encoder_mean", "decoder_logits"]),
    ("декодировщика", ["encoder_mean", "encoder_scale"])])
def test_forgotten_parameters(network, layers, names):
    names["params"] = get_all_params([names[name] for name in layers], trainable=True)
    assert f"нет параметров {network}" in hint_of(5, names)


def test_an_unnamed_layer_is_described_by_its_shape(names):
    layer = DenseLayer(names["encoder_mean"].input_layer, 2, nonlinearity=None)
    names["qz_x"] = MultivariateNormalDiag(get_output(layer), names["qz_x"].scale)
    names["encoder_mean"] = layer
    z = names["z"] = names["qz_x"].sample()
    names["decoder_logits"] = vae_decoder_mlp(z, 2)
    names["px_z"] = BinaryVector(get_output(names["decoder_logits"]))
    with_elbo(names, right_bound(names))
    assert "W формы 128×2 в слое DenseLayer без имени" in hint_of(5, names)


def test_parameters_given_twice(names):
    names["params"] = names["params"] + names["params"][:1]
    assert "дважды" in hint_of(5, names)


def test_parameters_on_which_the_loss_does_not_depend(names):
    names["params"] = names["params"] + [theano.shared(np.float32(0))]
    assert "loss не зависит" in hint_of(5, names)


def test_params_is_one_parameter(names):
    names["params"] = names["params"][0]
    assert "params сейчас — символьная переменная, измерений: 2, а должен" in hint_of(5, names)


@pytest.mark.parametrize("params, kind", [
    ([], "список, элементов: 0"), ("all", "'all'"), (3, "3"), ([[1]], "список, элементов: 1")])
def test_params_that_are_no_parameters(params, kind, names):
    names["params"] = params
    assert kind in hint_of(5, names)


@pytest.mark.parametrize("name", ["elbo", "loss"])
def test_a_number_in_place_of_a_graph(name, names):
    names[name] = np.float32(-500)
    assert f"{name} сейчас — число -500.0, а должна быть символьным" in hint_of(5, names)


def test_params_are_layers(names):
    names["params"] = [names["encoder_mean"], names["decoder_logits"]]
    assert "в params лежат слои" in hint_of(5, names)


@pytest.mark.parametrize("rule", [
    pytest.param(lambda loss, params: lasagne.updates.nesterov_momentum(loss, params, 1e-4),
                 id="momentum"),
    pytest.param(lambda loss, params: list(lasagne.updates.rmsprop(loss, params).items()),
                 id="list"),
    pytest.param(
        lambda loss, params: [(p, p - 0.01 * g) for p, g in zip(params, T.grad(loss, params))],
        id="the student's"),
])
def test_other_optimisers(rule, names):
    names["updates"] = rule(names["loss"], names["params"])
    check(5, names)


def warm_up(names, rule, n_steps=100, first=0, loss=None):
    """Return updates with a rate that grows from 0."""
    step = theano.shared(np.float32(first))
    rate = 0.001 * T.minimum(1., T.maximum(step, 0) / n_steps)
    updates = rule(names["loss"] if loss is None else loss, names["params"], rate)
    updates[step] = step + 1
    return updates


@pytest.mark.parametrize("updates", [
    pytest.param(lambda names: warm_up(names, lasagne.updates.adam), id="adam"),
    pytest.param(lambda names: warm_up(names, lasagne.updates.sgd, 1000), id="sgd"),
    pytest.param(lambda names: warm_up(names, lasagne.updates.nesterov_momentum, 1, first=-50),
                 id="50 steps of size 0"),
])
def test_updates_whose_first_step_is_zero(updates, names):
    names["updates"] = updates(names)
    check(5, names)


@pytest.mark.parametrize("updates, hint", [
    pytest.param(lambda names: warm_up(names, lasagne.updates.adam, loss=names["elbo"]),
                 "updates увеличивают loss", id="warm-up on elbo"),
    pytest.param(lambda names: lasagne.updates.sgd(names["loss"], names["params"], 0.),
                 "updates не меняют параметров", id="a rate of 0"),
    pytest.param(lambda names: lasagne.updates.adam(names["elbo"], names["params"]),
                 "updates увеличивают loss", id="updates of elbo"),
    pytest.param(lambda names: lasagne.updates.sgd(names["loss"], names["params"][:3], .1),
                 "updates не меняют параметров", id="updates of some parameters"),
    pytest.param(lambda names: {}, "updates не меняют параметров", id="no updates"),
    pytest.param(
        lambda names: lasagne.updates.adam(-T.mean(log_probs(names).px_z), names["params"]),
        "updates", id="updates without KL"),
    pytest.param(lambda names: None, "имя updates определено, но его значение — None", id="updates missing"),
    pytest.param(lambda names: 3, "updates сейчас — 3, а нужны правила", id="updates a number"),
])
def test_wrong_updates(updates, hint, names):
    names["updates"] = updates(names)
    assert re.search(hint, hint_of(5, names), re.S)


# --- several exercises ---

def test_mistakes_that_only_training_would_show(names):
    shift = theano.shared(np.float32(0), "shift")
    z, px_z = names["z"], names["px_z"]
    shifted_prior = MultivariateNormalDiag(T.zeros_like(z) + shift, T.ones_like(z))
    assert "меняют pz.loc, а p(z)" in hint_of(
        5, {**names, "pz": shifted_prior, "params": [*names["params"], shift]})
    trained = MultivariateNormalDiag(T.zeros_like(z) + names["params"][1][0], T.ones_like(z))
    assert "N(0, I), и до обучения" in hint_of(4, {**names, "pz": trained})
    assert "не выход слоя" in hint_of(4, {**names, "px_z": BinaryVector(px_z.logits + shift)})
    names["qz_x"] = MultivariateNormalDiag(names["qz_x"].loc + shift, names["qz_x"].scale)
    assert "loc у qz_x — не выход слоя" in hint_of(3, names)


@pytest.mark.parametrize("spoil", [
    lambda log_prob: log_prob / 2, lambda log_prob: log_prob + 1,
    lambda log_prob: T.mean(log_prob) + 0 * log_prob, lambda log_prob: log_prob[:1]])
def test_a_changed_log_prob_is_a_mistake_in_exercise_1(spoil, names):
    class Spoiled(MultivariateNormalDiag):
        def log_prob(self, z):
            return spoil(super().log_prob(z))

    names["MultivariateNormalDiag"] = Spoiled
    assert "log_prob" in hint_of(1, names)


@pytest.mark.parametrize("undo", [
    pytest.param(T.exp, id="exp"),
    pytest.param(lambda log_variance: T.exp(log_variance / 2), id="half"),
    pytest.param(T.nnet.softplus, id="softplus"),
])
def test_an_encoder_of_log_scale_costs_exercise_2_only(undo, names):
    """Exercise 3 is right if it turns the encoder's output into a standard deviation."""
    names["encoder_scale"] = DenseLayer(names["encoder_scale"].input_layer, 2, nonlinearity=None)
    mean, log_scale = get_output([names["encoder_mean"], names["encoder_scale"]])
    names["qz_x"] = MultivariateNormalDiag(mean, undo(log_scale))
    check(3, names)
    names["qz_x"] = MultivariateNormalDiag(mean, T.exp(-log_scale))
    assert "стандартное отклонение" in hint_of(3, names)
    names["qz_x"] = MultivariateNormalDiag(mean, log_scale)
    assert "положительным" in hint_of(3, names)


# --- in a kernel ---

@pytest.fixture(scope="module")
def kernel():
    """A kernel in which the cells of the solved notebook have been run up to exercise 5."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THEANO_FLAGS", "cxx=")
        kernel = Kernel()
    kernel.run_cells(code_cells(build.solution())[:1])
    for number in EXERCISES:
        kernel.run(source_of_exercise(number))
    yield kernel
    kernel.shut_down()


def source_of_exercise(number):
    return tagged(build.solution(), f"exercise-{number}").source


def verdict_of(kernel, exercise):
    output, error = kernel.run(f"check({exercise})")
    return error.removeprefix("Mistake: ") if error else output.rpartition("\r")[2]  # without a bar


def without_line(source, start):
    lines = source.splitlines()
    assert any(line.startswith(start) for line in lines)
    return "\n".join(line for line in lines if not line.startswith(start))


@pytest.mark.process
def test_check_finds_the_names_of_the_notebook(kernel):
    assert verdict_of(kernel, 3) == f"✓ Упражнение 3 ({EXERCISES[3].title}): верно.\n"


@pytest.mark.process
def test_a_name_whose_line_is_deleted(kernel):
    source = source_of_exercise(5)
    kernel.run(source)
    kernel.run(without_line(source, "updates ="))
    assert "больше не определяется: updates. Верните" in verdict_of(kernel, 5)
    kernel.run("updates = lasagne.updates.adam(loss, params)")  # in a cell of its own
    assert "больше не определяется" not in verdict_of(kernel, 5)


@pytest.mark.process
def test_an_error_is_forgotten_when_other_code_defines_the_names(kernel):
    kernel.run(source_of_exercise(3).replace("qz_x = ", "qz_x = 1 / 0 + "))
    assert "ZeroDivisionError" in verdict_of(kernel, 3)
    kernel.run(f"exec({source_of_exercise(3)!r})")
    assert "верно" in verdict_of(kernel, 3)
    kernel.run(source_of_exercise(3) + "\n1 / 0")
    kernel.run("%%time\n%%capture\n" + source_of_exercise(3))
    assert "верно" in verdict_of(kernel, 3)


@pytest.mark.process
def test_the_line_that_failed_is_in_the_cell_of_the_exercise(kernel):
    source = source_of_exercise(4)
    kernel.run(source)
    line = "pz = MultivariateNormalDiag(0, 1)"
    kernel.run("\n".join(line if old.startswith("pz =") else old
                         for old in source.splitlines()))
    hint = verdict_of(kernel, 4)
    assert "loc: у переданного тензора измерений 0" in hint and "px_z" not in hint
    assert re.search(rf"Строка \d ячейки: {re.escape(line)}", hint)


@pytest.mark.process
def test_a_name_that_a_failed_cell_has_not_reached_is_not_judged(kernel):
    kernel.run(source_of_exercise(4))
    kernel.run("px_z = 3")
    kernel.run("1 / 0\n" + source_of_exercise(4))
    hint = verdict_of(kernel, 4)
    assert "ZeroDivisionError" in hint and "px_z" not in hint


@pytest.mark.process
def test_a_placeholder_that_is_left_is_named(kernel):
    kernel.run(source_of_exercise(4))
    kernel.run("del elbo")
    kernel.run(re.sub(r"elbo = (.*)", "elbo = None", source_of_exercise(5)))
    hint = verdict_of(kernel, 5)
    assert "имя elbo определено, но его значение — None: замените его решением." in hint


@pytest.mark.process
def test_hints_about_syntax_name_the_line_and_no_file(kernel):
    kernel.run(source_of_exercise(3) + "\n)")
    hint = verdict_of(kernel, 3)
    n_lines = len(source_of_exercise(3).splitlines())
    assert "SyntaxError: unmatched ')'." in hint and f"Строка {n_lines + 1} ячейки: )" in hint
    assert ".py" not in hint


@pytest.mark.process
def test_a_check_in_the_same_cell_is_no_error_of_the_cell(kernel):
    wrong = source_of_exercise(3).replace("loc=", "loc=2 * ")
    assert "не выход слоя" in kernel.run(wrong + "\ncheck(3)")[1]
    assert "не выход слоя" in verdict_of(kernel, 3)
    assert "закончилась ошибкой" not in verdict_of(kernel, 3)
    assert kernel.run("check_current('qz_x')")[1] is None
    kernel.run("qz_x = None")
    assert kernel.run("check(3)\n" + source_of_exercise(4))[1] is not None  # nothing is defined
    assert "исправьте упражнение 4" in kernel.run("check_current('px_z')")[1]
    kernel.run(source_of_exercise(3))
    kernel.run(source_of_exercise(4))


@pytest.mark.process
def test_an_exercise_that_fails_because_of_an_earlier_one(kernel):
    source = source_of_exercise(2)
    kernel.run(source.replace("DenseLayer", "DensLayer"))
    assert "DensLayer" in kernel.run(source_of_exercise(3))[1]
    assert "ячейка этого упражнения" in verdict_of(kernel, 3)
    kernel.run(source)
    assert "ячейка упражнения 2 выполнена заново" in verdict_of(kernel, 3)
    kernel.run(source_of_exercise(3))
    assert "верно" in verdict_of(kernel, 3)
    kernel.run(source_of_exercise(4))


@pytest.mark.parametrize("magic", ["%%timeit -n 1 -r 1", "%%writefile exercise.py", "%%html"])
@pytest.mark.process
def test_a_magic_that_defines_nothing_runs_no_exercise(magic, kernel, tmp_path):
    kernel.run(f"%cd -q {tmp_path}")
    kernel.run(source_of_exercise(5))
    kernel.run(magic + "\n" + source_of_exercise(4))
    assert kernel.run("check_current('elbo')")[1] is None


@pytest.mark.process
def test_a_students_own_variable_in_place_of_what_a_later_cell_needs(kernel):
    kernel.run(source_of_exercise(5))
    kernel.run("for elbo in [-1.5]: pass")
    assert ("Имя elbo определено заново, его значение — -1.5: выполните ещё раз ячейку упражнения 5."
            in kernel.run("check_current('elbo')")[1])
    kernel.run(source_of_exercise(5))
    assert kernel.run("check_current('elbo')")[1] is None
