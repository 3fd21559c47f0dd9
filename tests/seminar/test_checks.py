"""The exercises' checks: right answers pass, each wrong one gets a hint that names it."""

import linecache
import os
import re
from functools import lru_cache

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from lasagne.layers import DenseLayer, get_all_params, get_output
from theano.sandbox.rng_mrg import MRG_RandomStreams

import utils
from vae import BinaryVector, MultivariateNormalDiag, vae_decoder_mlp, vae_encoder_mlp
from conftest import HINTS
from vae.checks import EXERCISES, Mistake, check


@lru_cache(maxsize=None)
def real_images():
    return utils.load_dataset()[0][:10000]


def right_answers(hidden_dim=2):
    def encoder(input_x):
        return vae_encoder_mlp(input_x, hidden_dim)

    names = dict(BATCH_SIZE=20, HIDDEN_DIM=hidden_dim, X_train=real_images(), input_x=T.tensor4(),
                 MultivariateNormalDiag=MultivariateNormalDiag, vae_encoder_mlp=encoder)
    names["encoder_mean"], names["encoder_scale"] = encoder(names["input_x"])
    qz_x = names["qz_x"] = MultivariateNormalDiag(
        *get_output([names["encoder_mean"], names["encoder_scale"]]))
    z = names["z"] = qz_x.sample()
    names["decoder_logits"] = vae_decoder_mlp(z, hidden_dim)
    px_z = names["px_z"] = BinaryVector(get_output(names["decoder_logits"]))
    pz = names["pz"] = MultivariateNormalDiag(T.zeros_like(z), T.ones_like(z))
    names["elbo"] = T.mean(px_z.log_prob(names["input_x"]) + pz.log_prob(z) - qz_x.log_prob(z))
    names["loss"] = -names["elbo"]
    names["params"] = get_all_params(
        [names["encoder_mean"], names["encoder_scale"], names["decoder_logits"]], trainable=True)
    names["updates"] = lasagne.updates.adam(names["loss"], names["params"])
    return names


@pytest.fixture
def names():
    return right_answers()


def hint_of(exercise, names):
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
    assert capsys.readouterr().out == f"✓ Упражнение {exercise} ({title}): верно.\n"


@pytest.mark.parametrize("hidden_dim", [1, 10])
def test_right_answers_for_codes_of_another_dimension(hidden_dim):
    names = right_answers(hidden_dim)
    for exercise in EXERCISES:
        check(exercise, names)


@pytest.mark.parametrize("exercise, name", [
    (1, "MultivariateNormalDiag"), (2, "vae_encoder_mlp"), (3, "qz_x"), (4, "px_z"), (5, "elbo")])
@pytest.mark.parametrize("state", ["missing", "None"])
def test_what_is_not_defined(exercise, name, state, names):
    if state == "None":
        names[name] = None
    else:
        del names[name]
    assert f"не определено имя {name}" in hint_of(exercise, names)


def test_no_such_exercise(names):
    with pytest.raises(ValueError, match="Got exercise 6, expected one of .1, 2, 3, 4, 5."):
        check(6, names)


@pytest.mark.parametrize("size", [0, -1, 2.5, "20", 10**6])
def test_a_size_that_is_none(size, names):
    names["BATCH_SIZE"] = size
    assert f"BATCH_SIZE = {size!r}, а должно быть целым числом" in hint_of(5, names)


@pytest.mark.parametrize("shape", [(2000, 784), (1000, 1, 28, 28)])
def test_images_that_are_none(shape, names):
    names["X_train"] = np.zeros(shape)
    assert f"X_train имеет форму {shape}" in hint_of(5, names)


def test_how_far_training_goes(names, monkeypatch):
    monkeypatch.setattr("vae.checks.trial_training.ENOUGH_ELBO", 0.)
    monkeypatch.setattr("vae.checks.elbo.LEAST_ELBO", -195.)
    check(5, names)
    monkeypatch.setattr("vae.checks.elbo.LEAST_ELBO", -150.)
    assert "модель не обучается: за 300 шагов Adam elbo на отложенных изображениях дошла до -1" \
        in hint_of(5, names)


def test_an_error_in_the_students_code_is_told_with_its_line():
    cell = "def sample(self):\n    z = self.loc\n    return esp\n"
    name = "/ipykernel_1/1.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    defined = {}
    exec(compile(cell, name, "exec"), defined)
    hint = hint_of(1, with_sample(defined["sample"]))
    assert "код не выполняется: NameError: name 'esp' is not defined" in hint
    assert "Строка 3 ячейки: return esp" in hint


def test_an_error_without_a_message(names):
    def sample(self):
        raise AssertionError

    assert "код не выполняется: AssertionError" in hint_of(1, with_sample(sample))


def test_a_mistake_is_shown_in_jupyter_without_a_traceback():
    assert Mistake("подсказка")._render_traceback_() == ["подсказка"]


# --- 1: sample ---

def with_sample(sample):
    return dict(MultivariateNormalDiag=type(
        "MultivariateNormalDiag", (MultivariateNormalDiag,), {"sample": sample}))


@pytest.mark.parametrize("sample", [
    lambda self: self.loc + self.scale * self.rng.normal(self.loc.shape),
    lambda self: self.rng.normal(T.shape(self.scale), avg=0., std=1.) * self.scale + self.loc,
    lambda self: self.loc + T.sqrt(self.scale ** 2) * self.rng.normal(self.scale.shape),
], ids=["loc.shape", "avg and std", "square and root"])
def test_other_right_samples(sample):
    check(1, with_sample(sample))


def todo(self):
    raise NotImplementedError("Упражнение 1")


@pytest.mark.parametrize("sample, hint", [
    (todo, "ещё не выполнено"),
    (lambda self: None, "ничего не возвращает"),
    (lambda self: T.sum(self.loc + self.scale * self.rng.normal(self.loc.shape), axis=1),
     "формы \\(batch, dim\\)"),
    (lambda self: self.rng.normal(self.loc.shape), "градиент не проходит"),
    (lambda self: self.rng.normal(self.loc.shape, avg=self.loc, std=self.scale),
     "градиент не проходит"),
    (lambda self: self.loc + 0 * self.scale, "одно и то же"),
    (lambda self: self.loc + self.scale * self.rng.normal(self.loc.shape[:1])[0],
     "шум один на весь батч"),
    (lambda self: self.loc + self.scale * self.rng.normal((2,)), "шум один на весь батч"),
    (lambda self: self.loc + self.scale * self.rng.normal((self.loc.shape[0], 1)).repeat(2, 1),
     "шум один на все координаты"),
    (lambda self: self.loc + self.scale ** 2 * self.rng.normal(self.loc.shape),
     "scale \\*\\* 2.*не дисперсия"),
    (lambda self: self.loc + T.sqrt(self.scale) * self.rng.normal(self.loc.shape),
     "корень из scale"),
    (lambda self: self.loc + self.scale * (0.2 + self.rng.normal(self.loc.shape)),
     "среднее сэмпла"),
    (lambda self: self.loc + 2 * self.scale * self.rng.normal(self.loc.shape),
     "стандартное отклонение сэмпла — 2.0"),
    (lambda self: (self.loc + self.scale * self.rng.normal(self.loc.shape))[:, :1],
     "форма сэмпла \\(10000, 1\\)"),
    (lambda self: self.loc + self.scale * self.rng.normal((20, 2)), "какой формы шум"),
    (lambda self: self.loc + T.dot(self.scale, self.rng.normal(self.loc.shape)), "поэлементно"),
    (lambda self: self.loc + self.scale * self.rng.normal(), "код не выполняется: TypeError"),
    (lambda self: self.loc + theano.gradient.grad_scale(self.scale, 2) * self.rng.normal(
        self.loc.shape), "градиент сэмпла по loc и scale не тот"),
    (lambda self: self.loc + self.scale * np.sqrt(12) * (self.rng.uniform(self.loc.shape) - 0.5),
     "не нормальное"),
], ids=["todo", "None", "vector", "no parameters", "not reparameterised", "no noise",
        "one number", "one row", "one column", "variance", "root", "biased", "twice",
        "column of the sample", "batch size", "product of matrices", "no shape",
        "wrong gradient", "uniform"])
def test_wrong_samples(sample, hint):
    assert re.search(hint, hint_of(1, with_sample(sample)))


# --- 2: the encoder ---

def encoder(loc_activation=None, scale_activation=T.nnet.softplus, units=(32,), hidden_dim=2):
    def vae_encoder_mlp(input_x):
        layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
        for n in units:
            layer = DenseLayer(layer, n, nonlinearity=lasagne.nonlinearities.rectify)
        return (DenseLayer(layer, hidden_dim, nonlinearity=loc_activation),
                DenseLayer(layer, hidden_dim, nonlinearity=scale_activation))
    return vae_encoder_mlp


def convolutional_encoder(input_x):
    layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
    layer = lasagne.layers.Conv2DLayer(layer, 4, 5, stride=2)
    layer = lasagne.layers.MaxPool2DLayer(layer, 2)
    layer = DenseLayer(layer, 16)
    return [DenseLayer(layer, 2, nonlinearity=None),
            DenseLayer(layer, 2, nonlinearity=T.exp)]


@pytest.mark.parametrize("function", [
    encoder(scale_activation=T.exp),
    encoder(scale_activation=lambda x: T.exp(0.5 * x)),
    encoder(scale_activation=lambda x: T.nnet.softplus(x) + 1e-4),
    encoder(scale_activation=T.nnet.sigmoid),
    encoder(units=(64, 64, 64, 64)),
    encoder(units=()),
    convolutional_encoder,
], ids=["exp", "exp of half", "softplus with a floor", "sigmoid", "deep", "linear",
        "convolutional"])
def test_other_right_encoders(function):
    check(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=function))


def encoder_of_nothing(input_x):
    return encoder()(T.tensor4())


def encoder_of_a_constant_scale(input_x):
    l_loc, _ = encoder()(input_x)
    return l_loc, lasagne.layers.NonlinearityLayer(l_loc, T.ones_like)


def encoder_of_a_constant_mean(input_x):
    _, l_scale = encoder()(input_x)
    l_nothing = lasagne.layers.NonlinearityLayer(l_scale, T.zeros_like)
    return DenseLayer(l_nothing, 2, nonlinearity=None), l_scale


@pytest.mark.parametrize("function, hint", [
    (lambda input_x: todo(None), "ещё не выполнено"),
    (lambda input_x: None, "два слоя Lasagne"),
    (lambda input_x: encoder()(input_x)[0], "два слоя Lasagne"),
    (lambda input_x: get_output(encoder()(input_x)), "два слоя Lasagne"),
    (encoder(hidden_dim=3), "l_out_loc — \\(None, 3\\), а нужна \\(None, 2\\)"),
    (encoder_of_nothing, "не зависят от input_x"),
    (encoder(scale_activation=None), "строго положительным"),
    (encoder(scale_activation=lasagne.nonlinearities.rectify), "строго положительным"),
    (encoder(scale_activation=T.tanh), "строго положительным"),
    (encoder(loc_activation=T.tanh), "ограничено"),
    (encoder(loc_activation=T.nnet.sigmoid), "ограничено"),
    (encoder(loc_activation=lasagne.nonlinearities.rectify), "ограничено"),
    (encoder_of_a_constant_scale, "стандартное отклонение не зависит"),
    (encoder_of_a_constant_mean, "среднее не зависит"),
    (lambda input_x: encoder()(input_x)[::-1], "порядок"),
], ids=["todo", "None", "one", "tensors", "three", "no input", "linear scale", "relu scale",
        "tanh scale", "tanh loc", "sigmoid loc", "relu loc", "constant scale", "constant mean",
        "swapped"])
def test_wrong_encoders(function, hint):
    assert re.search(hint, hint_of(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=function)))


# --- 3: q(z | x) ---

def with_posterior(names, loc, scale):
    names["qz_x"] = MultivariateNormalDiag(loc, scale)


@pytest.mark.parametrize("spoil, hint", [
    (lambda names, loc, scale: with_posterior(names, scale, loc), "перепутаны"),
    (lambda names, loc, scale: with_posterior(names, loc, scale ** 2), "scale у qz_x"),
    (lambda names, loc, scale: with_posterior(names, loc, T.log(scale)), "положительным"),
    (lambda names, loc, scale: with_posterior(names, 2 * loc, scale), "loc у qz_x"),
    (lambda names, loc, scale: with_posterior(names, loc[:, :1], scale[:, :1]),
     "форму \\(50, 1\\)"),
    (lambda names, loc, scale: with_posterior(names, loc + T.matrix(), scale), "от input_x"),
    (lambda names, loc, scale: names.update(qz_x=names["encoder_mean"]),
     "qz_x должен быть объектом"),
    (lambda names, loc, scale: names.update(encoder_mean=loc), "encoder_mean должен быть слоем"),
], ids=["swapped", "variance", "logarithm", "doubled", "one coordinate", "another input", "a layer",
        "a tensor"])
def test_wrong_posteriors(spoil, hint, names):
    spoil(names, names["qz_x"].loc, names["qz_x"].scale)
    assert re.search(hint, hint_of(3, names))


# --- 4: p(x, z) ---

def with_code(names, z):
    names["decoder_logits"] = vae_decoder_mlp(z)
    names["px_z"] = BinaryVector(get_output(names["decoder_logits"]))


def with_prior(names, loc, scale):
    z = names["z"]
    names["pz"] = MultivariateNormalDiag(loc + T.zeros_like(z), scale + T.zeros_like(z))


@pytest.mark.parametrize("spoil, hint", [
    (lambda names: with_code(names, names["qz_x"].loc), "не случаен"),
    (lambda names: with_code(names, MRG_RandomStreams(1).normal(names["z"].shape)),
     "не сэмпл из q"),
    (lambda names: with_prior(names, 1., 1.), "стандартным нормальным"),
    (lambda names: with_prior(names, 0., 2.), "стандартным нормальным"),
    (lambda names: names.update(pz=names["qz_x"]), "стандартным нормальным"),
    (lambda names: names.update(pz=3), "pz"),
    (lambda names: names.update(px_z=BinaryVector(T.nnet.sigmoid(names["px_z"].logits))),
     "вероятности, а нужны логиты"),
    (lambda names: names.update(px_z=BinaryVector(2 * names["px_z"].logits)), "logits у px_z"),
    (lambda names: names.update(px_z=BinaryVector(names["px_z"].logits.reshape((-1, 1, 784, 1)))),
     "logits имеет форму \\(20, 1, 784, 1\\)"),
    (lambda names: with_code(names, T.matrix()), "больше ни от каких входов"),
    (lambda names: names.update(decoder_logits=names["px_z"].logits), "должен быть слоем"),
    (lambda names: names.update(px_z=names["px_z"].logits), "px_z должен быть объектом"),
], ids=["mean", "noise", "shifted", "wide", "posterior", "number", "sigmoid", "doubled", "reshaped",
        "another input", "tensor", "logits"])
def test_wrong_generative_models(spoil, hint, names):
    spoil(names)
    assert re.search(hint, hint_of(4, names))


@pytest.mark.parametrize("rows", [1, 20])
def test_a_prior_for_all_or_for_one_batch_is_right(rows, names):
    names["pz"] = MultivariateNormalDiag(np.zeros((rows, 2)), np.ones((rows, 2)))
    check(4, names)
    names["elbo"] = T.mean(names["px_z"].log_prob(names["input_x"])
                           + names["pz"].log_prob(names["z"]) - names["qz_x"].log_prob(names["z"]))
    names["loss"] = -names["elbo"]
    check(5, names)


# --- 5: ELBO ---

def terms(names):
    z = names["z"]
    return (names["px_z"].log_prob(names["input_x"]), names["pz"].log_prob(z),
            names["qz_x"].log_prob(z))


def closed_form_kl(names, loc=None, log_weight=1., power=2):
    loc, scale = loc or names["qz_x"].loc, names["qz_x"].scale
    return T.sum(0.5 * (loc ** 2 + scale ** power - 1) - log_weight * T.log(scale), axis=1)


def resampled_kl(names):
    z = names["qz_x"].sample()
    return names["qz_x"].log_prob(z) - names["pz"].log_prob(z)


def with_elbo(names, elbo):
    names["elbo"], names["loss"] = elbo, -elbo


def test_elbo_with_the_kl_in_closed_form(names):
    with_elbo(names, T.mean(terms(names)[0] - closed_form_kl(names)))
    check(5, names)


def test_elbo_of_another_output_of_the_same_layer(names):
    loc = get_output(names["encoder_mean"])
    with_elbo(names, T.mean(terms(names)[0] - closed_form_kl(names, loc)))
    check(5, names)


def test_elbo_as_a_sum_over_the_batch_size(names):
    with_elbo(names, T.sum(terms(names)[0] + terms(names)[1] - terms(names)[2]) / 20)
    check(5, names)


def test_the_check_gives_the_weights_back(names):
    before = [parameter.get_value() for parameter in names["params"]]
    check(5, names)
    names["elbo"] = names["elbo"] * T.vector()[0]
    assert "MissingInputError" in hint_of(5, names)
    for parameter, value in zip(names["params"], before):
        np.testing.assert_array_equal(parameter.get_value(), value)


def test_loss_summed_over_the_batch(names):
    names["loss"] = -T.sum(terms(names)[0] + terms(names)[1] - terms(names)[2])
    check(5, names)


def test_parameters_in_another_order(names):
    names["params"] = tuple(reversed(names["params"]))
    check(5, names)


@pytest.mark.parametrize("elbo, hint", [
    (lambda names, px_z, pz, qz_x: -T.mean(px_z + pz - qz_x), "неверный знак"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - pz + qz_x), "KL-дивергенция входит с неверным"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z + closed_form_kl(names)),
     "KL-дивергенция входит с неверным"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - closed_form_kl(names, log_weight=0.5)),
     "KL-дивергенция = "),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - closed_form_kl(names, log_weight=0)),
     "нет слагаемого -log q"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - closed_form_kl(names, power=1)),
     "KL-дивергенция = "),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - closed_form_kl(names, power=1, log_weight=0.5)),
     "KL-дивергенция = "),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - closed_form_kl(names) / 2),
     "множитель при KL-дивергенции — 0.5"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z), "нет KL"),
    (lambda names, px_z, pz, qz_x: T.mean(pz - qz_x), "нет слагаемого log p\\(x"),
    (lambda names, px_z, pz, qz_x: T.sum(px_z + pz - qz_x), "elbo умножена на 20, .*сумма по батчу"),
    (lambda names, px_z, pz, qz_x: px_z + pz - qz_x, "скаляр"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z + pz), "нет слагаемого -log q"),
    (lambda names, px_z, pz, qz_x: T.sum(px_z) + T.mean(pz - qz_x),
     "множитель при log p.* — 20, .*сумма по батчу"),
    (lambda names, px_z, pz, qz_x: T.mean(
        px_z + names["pz"].log_prob(names["qz_x"].sample()) - qz_x), "одном и том же z"),
    (lambda names, px_z, pz, qz_x: T.mean(px_z - resampled_kl(names)), "одном и том же z"),
], ids=["negative", "KL added", "closed KL added", "half of log", "no log", "variance for scale",
        "log of variance for scale", "half of KL", "no KL", "no likelihood", "sum", "vector",
        "no q", "likelihood summed", "two samples", "another sample for KL"])
def test_wrong_bounds(elbo, hint, names):
    with_elbo(names, elbo(names, *terms(names)))
    assert re.search(hint, hint_of(5, names))


# --- mistakes that were taken for right answers, or were not named ---

def several(names, k, combine):
    """A bound of k samples, each with its own term of log p(x, z) - log q(z | x)."""
    weights = []
    for _ in range(k):
        z = names["qz_x"].sample()
        p = BinaryVector(get_output(names["decoder_logits"], z))
        weights.append(p.log_prob(names["input_x"]) + names["pz"].log_prob(z)
                       - names["qz_x"].log_prob(z))
    with_elbo(names, combine(T.stack(weights)))


def importance_weighted(w):
    top = T.max(w, axis=0)
    return T.mean(top + T.log(T.mean(T.exp(w - top), axis=0)))


@pytest.mark.parametrize("spoil, hint", [
    (lambda names: several(names, 3, importance_weighted), "это IWAE"),
    (lambda names: several(names, 3, lambda w: T.mean(T.sum(w, axis=0))),
     "умножена на 3, .*сумма по сэмплам"),
    (lambda names: several(names, 3, lambda w: T.sum(T.mean(w, axis=0))),
     "умножена на 20, .*сумма по батчу"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] + 1.1 * (
        terms(names)[1] - terms(names)[2]))), "при KL-дивергенции — 1.1"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] / 784 + terms(names)[1]
                                           - terms(names)[2])), "среднее по пикселям"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] + T.sum(
        terms(names)[1] - terms(names)[2]))), "KL-дивергенции — 20, .*сумма по батчу"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0]) - T.mean(0.5 * T.sum(
        (1 + names["qz_x"].loc ** 2) / names["qz_x"].scale ** 2 - 1
        + 2 * T.log(names["qz_x"].scale), axis=1))), "в обратную сторону"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] + terms(names)[1]
                                           - terms(names)[2]) + 2), "на постоянную 2.0"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] + terms(names)[1]
                                           + terms(names)[2])), "с одним знаком"),
    (lambda names: with_elbo(names, T.mean(BinaryVector(get_output(
        names["decoder_logits"], names["qz_x"].loc)).log_prob(names["input_x"]))
        - T.mean(closed_form_kl(names))), "а среднее: выход декодировщика"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0] - T.maximum(
        closed_form_kl(names), 2.))), "ограничивать её снизу"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0]) - T.maximum(
        T.mean(terms(names)[2] - terms(names)[1]), 2.)), "KL-дивергенция = |ограничивать"),
    (lambda names: names.update(updates=lasagne.updates.adam(names["elbo"], names["params"])),
     "updates увеличивают loss"),
    (lambda names: names.update(updates=lasagne.updates.sgd(names["loss"], names["params"][:3], .1)),
     "updates не меняют параметров"),
    (lambda names: names.update(updates={}), "updates не меняют параметров"),
    (lambda names: names.update(updates=lasagne.updates.adam(
        -T.mean(terms(names)[0]), names["params"])), "updates"),
    (lambda names: with_elbo(names, T.mean(terms(names)[0]) + theano.gradient.zero_grad(T.mean(
        terms(names)[1] - terms(names)[2]))), "градиент от неё не доходит"),
    (lambda names: names.pop("updates"), "не определено имя updates"),
    (lambda names: names.update(updates=3), "updates — это правила"),
    (lambda names: names.update(params=[names["encoder_mean"], names["decoder_logits"]]),
     "в params лежат слои"),
], ids=["IWAE", "K not divided", "summed over the batch", "KL's weight", "mean over the pixels",
        "KL summed", "the other KL", "a constant", "signs", "means decoded", "free bits an image",
        "free bits a batch", "updates turned round", "updates of others", "no updates", "updates without KL",
        "KL without a gradient", "updates missing", "updates a number", "layers"])
def test_hints_of_exercise_5_name_the_mistake(spoil, hint, names):
    spoil(names)
    assert re.search(hint, hint_of(5, names), re.S)


@pytest.mark.parametrize("rule", [
    lambda loss, params: lasagne.updates.nesterov_momentum(loss, params, 1e-4),
    lambda loss, params: list(lasagne.updates.rmsprop(loss, params).items()),
    lambda loss, params: [(p, p - 0.01 * g) for p, g in zip(params, T.grad(loss, params))],
], ids=["momentum", "list", "one's own"])
def test_other_optimisers(rule, names):
    names["updates"] = rule(names["loss"], names["params"])
    check(5, names)


def test_several_samples(names):
    several(names, 3, T.mean)
    check(5, names)


def test_several_samples_in_a_loop(names):
    def one():
        z = names["qz_x"].sample()
        p = BinaryVector(get_output(names["decoder_logits"], z))
        return T.mean(p.log_prob(names["input_x"]) + names["pz"].log_prob(z)
                      - names["qz_x"].log_prob(z))

    values, streams = theano.scan(one, n_steps=4)
    with_elbo(names, T.mean(values))
    names["updates"].update(streams)
    check(5, names)
    with_elbo(names, T.sum(values))
    names["updates"].update(streams)
    assert "elbo = " in hint_of(5, names)


@pytest.mark.parametrize("spoil", [
    lambda z, q: (z + q.sample() + q.sample()) / 3, lambda z, q: q.loc + 0.9 * (z - q.loc),
    lambda z, q: T.repeat(z[:1], 20, axis=0), lambda z, q: q.loc + q.scale * T.sgn(z - q.loc),
    lambda z, q: q.loc + q.scale * T.repeat(((z - q.loc) / q.scale)[:, :1], 2, axis=1),
    lambda z, q: q.loc + q.scale * MRG_RandomStreams(1).uniform(z.shape, -3 ** .5, 3 ** .5),
], ids=["mean of samples", "cooled", "one for the batch", "signs", "one for all coordinates",
        "uniform"])
def test_codes_that_are_no_samples(spoil, names):
    with_code(names, spoil(names["z"], names["qz_x"]))
    assert re.search("не сэмпл|зависят", hint_of(4, names))


@pytest.mark.parametrize("block", [
    theano.gradient.zero_grad, theano.gradient.disconnected_grad,
    lambda z: theano.gradient.grad_scale(z, 0.5), lambda z: T.concatenate(
        [z[:, :1], theano.gradient.zero_grad(z[:, 1:])], axis=1)],
    ids=["zero", "disconnected", "half", "a part"])
def test_gradients_that_are_changed_on_their_way(block, names):
    with_code(names, block(names["z"]))
    assert "градиент от p(x | z) не доходит" in hint_of(4, names)


def test_what_changes_with_training(names):
    shift = theano.shared(np.float32(0), "shift")
    for change in [
            lambda: names.update(pz=MultivariateNormalDiag(T.zeros_like(names["z"]) + shift,
                                                           T.ones_like(names["z"]))),
            lambda: names.update(px_z=BinaryVector(names["px_z"].logits + shift))]:
        before = dict(names)
        change()
        assert re.search("N\\(0, I\\), и до обучения|не выход слоя", hint_of(4, names))
        names.update(before)
    names["qz_x"] = MultivariateNormalDiag(names["qz_x"].loc + shift, names["qz_x"].scale)
    assert "loc у qz_x — не выход слоя" in hint_of(3, names)


@pytest.mark.parametrize("spoil", [
    lambda x: x / 2, lambda x: x + 1, lambda x: T.mean(x) + 0 * x, lambda x: x[:1]])
def test_another_log_prob_is_exercise_1s_mistake(spoil, names):
    class Spoiled(MultivariateNormalDiag):
        def log_prob(self, z):
            return spoil(super().log_prob(z))

    names["MultivariateNormalDiag"] = Spoiled
    assert "log_prob" in hint_of(1, names)


@pytest.mark.parametrize("undo", [T.exp, lambda x: T.exp(x / 2), T.nnet.softplus],
                         ids=["exp", "half", "softplus"])
def test_a_mistake_that_is_made_consistently_costs_once(undo, names):
    """An encoder of log scale is exercise 2's mistake; exercise 3 does the right thing with it."""
    names["encoder_scale"] = DenseLayer(names["encoder_scale"].input_layer, 2, nonlinearity=None)
    mean, log_scale = get_output([names["encoder_mean"], names["encoder_scale"]])
    names["qz_x"] = MultivariateNormalDiag(mean, undo(log_scale))
    check(3, names)
    names["qz_x"] = MultivariateNormalDiag(mean, T.exp(-log_scale))
    assert "стандартное отклонение" in hint_of(3, names)
    names["qz_x"] = MultivariateNormalDiag(mean, log_scale)
    assert "положительным" in hint_of(3, names)


@pytest.mark.parametrize("head", [T.exp, lambda x: T.nnet.elu(x) + 1.0001, T.nnet.softplus])
def test_a_deep_encoder(head, names):
    def encoder(input_x):
        layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_x)
        for n_units in [256, 256, 128, 128, 64, 64, 32, 32]:
            layer = DenseLayer(layer, n_units)
        return (DenseLayer(layer, 2, nonlinearity=None), DenseLayer(layer, 2, nonlinearity=head))

    names["vae_encoder_mlp"] = encoder
    check(2, names)


@pytest.mark.parametrize("size", [1, 1024])
def test_batches_of_any_size(size, names):
    names["BATCH_SIZE"] = size
    check(4, names)


def test_an_unnamed_layer_is_found_by_its_shape(names):
    layer = DenseLayer(names["encoder_mean"].input_layer, 2, nonlinearity=None)
    names["qz_x"] = MultivariateNormalDiag(get_output(layer), names["qz_x"].scale)
    names["encoder_mean"] = layer
    z = names["z"] = names["qz_x"].sample()
    names["decoder_logits"] = vae_decoder_mlp(z, 2)
    names["px_z"] = BinaryVector(get_output(names["decoder_logits"]))
    with_elbo(names, T.mean(sum(terms(names)[:2]) - terms(names)[2]))
    assert "W формы 128×2 в слое DenseLayer без имени" in hint_of(5, names)


def test_loss_with_the_wrong_sign(names):
    names["loss"] = names["elbo"]
    assert "какой нужен знак" in hint_of(5, names)


def test_loss_that_is_something_else(names):
    names["loss"] = -3 * names["elbo"]
    assert "равна -elbo" in hint_of(5, names)


@pytest.mark.parametrize("network, layers", [
    ("кодировщика", ["decoder_logits"]), ("кодировщика", ["encoder_mean", "decoder_logits"]),
    ("декодировщика", ["encoder_mean", "encoder_scale"])])
def test_forgotten_parameters(network, layers, names):
    names["params"] = get_all_params([names[name] for name in layers], trainable=True)
    assert f"нет параметров {network}" in hint_of(5, names)


def test_parameters_given_twice(names):
    names["params"] = names["params"] + names["params"][:1]
    assert "дважды" in hint_of(5, names)


def test_parameters_that_do_not_matter(names):
    names["params"] = names["params"] + [theano.shared(np.float32(0))]
    assert "loss не зависит" in hint_of(5, names)


def test_no_list_of_parameters(names):
    names["params"] = names["params"][0]
    assert "params должен быть списком" in hint_of(5, names)
