"""Notebooks that students might hand in: right notebooks of many forms, and known mistakes.

All of them are made from the code of the solved notebook and of the student's notebook.
"""

import json
import re
import textwrap
from itertools import cycle, islice
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vae.checks import EXERCISES

FOLDER = Path(__file__).parents[2] / "notebooks"


def _sources(name):
    cells = nbformat.read(FOLDER / name, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    return ([cell.source.replace("train_more = True", "train_more = False") for cell in code],
            {number: cell.source for number in EXERCISES for cell in code
             if f"exercise-{number}" in cell.metadata.get("tags", [])})


#: The code cells of the solved notebook, which train no optional model here, its exercises, and
#: those of the student's notebook.
SOURCES, SOLVED = _sources("solution/vae_seminar_solution.ipynb")
_, TODO = _sources("vae_seminar.ipynb")
SETUP = SOURCES[0]
#: The cells that compile the functions and that train the model.
FUNCTIONS, TRAINING = (next(source for source in SOURCES if code in source)
                       for code in ("train = theano.function(", "+= train(batch)"))


def changed(source, *pairs):
    """Return a source with each old part replaced by a new one."""
    for old, new in zip(pairs[::2], pairs[1::2]):
        assert source.count(old) == 1, f"Got {source.count(old)} of {old!r}, expected one"
        source = source.replace(old, new)
    return source


def cells(replacements=None):
    """Return the code cells of the solved notebook, with some exercises replaced.

    Parameters
    ----------
    replacements : dict, optional
        New code by the number of an exercise, and by 0 for the first cell.
    """
    originals = {0: SETUP, **SOLVED}
    new_code = {originals[number]: source for number, source in (replacements or {}).items()}
    return [new_code.get(source, source) for source in SOURCES]


def to_bytes(sources, counts=None, outputs=(), version=None):
    """Return a notebook of code cells, with a cell of text before each.

    Parameters
    ----------
    sources : list of str
    counts : list of int, optional
        Their execution counts.
    outputs : list, optional
        The outputs of each cell.
    version : tuple of int, optional
        The version of the file format.
    """
    all_cells = []
    for number, source in enumerate(sources):
        cell = new_code_cell(source, outputs=list(outputs))
        cell.execution_count = counts[number] if counts else None
        all_cells += [new_markdown_cell("Пояснение к следующей ячейке: *почему* так?"), cell]
    written = new_notebook(cells=all_cells)
    if version is not None and version[0] == 3:
        written = nbformat.convert(written, 3)
    elif version is not None:
        written.nbformat_minor = version[1]
        for cell in written.cells:
            del cell["id"]
    return nbformat.writes(written, version=nbformat.NO_CONVERT).encode()


def notebook(replacements=None, **options):
    """Return the solved notebook with other code in some exercises, as bytes."""
    return to_bytes(cells(replacements), **options)


def unfilled(*numbers):
    """Return the code of some exercises as students get it."""
    return {number: TODO[number] for number in numbers}


# --- other right answers ---

_EPS = "self.rng.normal((self.loc + self.scale).shape)"
_SAMPLE = "z = self.loc + self.scale * eps"
_LOG_VAR = """\
def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):
    layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
    for units in [300, 200, 100]:
        layer = lasagne.layers.DenseLayer(layer, units, nonlinearity=lasagne.nonlinearities.tanh)
    l_out_loc = lasagne.layers.DenseLayer(layer, hidden_dim, nonlinearity=None)
    l_log_var = lasagne.layers.DenseLayer(layer, hidden_dim, nonlinearity=None)
    l_out_scale = lasagne.layers.NonlinearityLayer(l_log_var, lambda log_var: T.exp(0.5 * log_var))
    return l_out_loc, l_out_scale
"""
_CONVOLUTIONAL = """\
def softplus_with_a_floor(x):
    return T.nnet.softplus(x) + 1e-4


def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):
    layer = lasagne.layers.InputLayer((None, 1, 28, 28), input_var=input_x)
    layer = lasagne.layers.Conv2DLayer(layer, 8, 5, stride=2)
    layer = lasagne.layers.MaxPool2DLayer(layer, 2)
    layer = lasagne.layers.DenseLayer(layer, 64)
    return [lasagne.layers.DenseLayer(layer, hidden_dim, nonlinearity=None),
            lasagne.layers.DenseLayer(layer, hidden_dim, nonlinearity=softplus_with_a_floor)]
"""
_CLOSED_FORM = """\
KL = 0.5 * T.sum(qz_x.loc ** 2 + qz_x.scale ** 2 - 1 - 2 * T.log(qz_x.scale), axis=1)
log_p = px_z.log_prob(input_x)
elbo = T.mean(log_p - KL)
loss = T.sum(KL - log_p)  # сумма по батчу
params = (lasagne.layers.get_all_params(decoder_logits)
          + lasagne.layers.get_all_params([encoder_scale, encoder_mean])[::-1])
updates = lasagne.updates.nesterov_momentum(loss, params, learning_rate=1e-4)
"""
_K_SAMPLES_IN_A_LOOP = """\
K = 3
elbo = 0
for k in range(K):
    z_k = qz_x.sample()
    p_k = BinaryVector(lasagne.layers.get_output(decoder_logits, z_k))
    elbo += T.mean(p_k.log_prob(input_x) + pz.log_prob(z_k) - qz_x.log_prob(z_k)) / K
loss = -elbo
params = list(set(lasagne.layers.get_all_params([encoder_mean, encoder_scale, decoder_logits],
                                                trainable=True)))
updates = lasagne.updates.adam(loss, params)
"""
_K_SAMPLES_IN_A_BATCH = {
    4: """\
K = 3
qz_x_K = MultivariateNormalDiag(T.repeat(qz_x.loc, K, axis=0), T.repeat(qz_x.scale, K, axis=0))
z_K = qz_x_K.sample()
decoder_logits = vae_decoder_mlp(z_K, hidden_dim=HIDDEN_DIM)
pz = MultivariateNormalDiag(T.zeros_like(z_K), T.ones_like(z_K))
px_z = BinaryVector(lasagne.layers.get_output(decoder_logits))
""",
    5: """\
elbo = T.mean(px_z.log_prob(T.repeat(input_x, K, axis=0)) + pz.log_prob(z_K)
              - qz_x_K.log_prob(z_K))
params = []
for layer in [decoder_logits, encoder_mean, encoder_scale]:
    params += [p for p in lasagne.layers.get_all_params(layer) if p not in params]
loss = -elbo
updates = list(lasagne.updates.rmsprop(loss, params).items())
"""}

_PRIOR = "pz = MultivariateNormalDiag(loc=T.zeros_like(z), scale=T.ones_like(z))"
_SHARED_PRIOR = """\
zeros, ones = (theano.shared(values((BATCH_SIZE, HIDDEN_DIM), dtype="float32"))
               for values in (np.zeros, np.ones))
pz = MultivariateNormalDiag(loc=zeros, scale=ones)"""

#: An encoder whose second argument has no default, and the student's own call.
WITHOUT_DEFAULT = {2: changed(SOLVED[2], "hidden_dim=HIDDEN_DIM", "hidden_dim"),
                   3: changed(SOLVED[3], "mlp(input_x)", "mlp(input_x, HIDDEN_DIM)")}

#: Right answers unlike the reference's, by what is unusual in them.
RIGHT = {
    "avg and std, deep, exp of half, closed KL, sum as loss": {
        1: changed(SOLVED[1], _EPS, "self.rng.normal(self.loc.shape, avg=0., std=1.)"),
        2: _LOG_VAR, 5: _CLOSED_FORM},
    "convolutional, softplus with a floor, K samples in a loop": {
        2: _CONVOLUTIONAL, 5: _K_SAMPLES_IN_A_LOOP},
    "K samples in a batch, parameters one by one": _K_SAMPLES_IN_A_BATCH,
    "a learning rate that grows from 0": {5: changed(
        SOLVED[5], "updates = lasagne.updates.adam(loss, params)",
        "step = theano.shared(0)\nrate = 0.001 * T.minimum(step / 1000., 1)\n"
        "updates = lasagne.updates.adam(loss, params, rate)\nupdates[step] = step + 1")},
    "the score function left out of the gradient": {5: "fixed = [theano.gradient."
        "disconnected_grad(value) for value in (qz_x.loc, qz_x.scale)]\n" + changed(
            SOLVED[5], "qz_x.log_prob(z)", "MultivariateNormalDiag(*fixed).log_prob(z)")},
    "no default for the size of the code": WITHOUT_DEFAULT,
    "shared constants in the prior": {4: changed(SOLVED[4], _PRIOR, _SHARED_PRIOR)},
}


# --- mistakes ---

_SIGMOID_LAYER = ("decoder_logits = lasagne.layers.NonlinearityLayer("
                  "vae_decoder_mlp(z, hidden_dim=HIDDEN_DIM), lasagne.nonlinearities.sigmoid)")
_DECODER = "decoder_logits = vae_decoder_mlp(z, hidden_dim=HIDDEN_DIM)"
_LOGITS = "BinaryVector(lasagne.layers.get_output(decoder_logits))"
_ELBO = "T.mean(px_z.log_prob(input_x) + pz.log_prob(z) - qz_x.log_prob(z))"
NETWORKS = "[encoder_mean, encoder_scale, decoder_logits]"


#: Mistakes: the exercise, its code, and a pattern that the hint must match.
WRONG = {
    "not reparameterised": (
        1, changed(SOLVED[1], _SAMPLE,
                   "z = self.rng.normal(self.loc.shape, avg=self.loc, std=self.scale)"),
        "градиент не проходит через сэмпл.*репараметризация"),
    "gradient of the sample blocked": (
        1, changed(SOLVED[1], "return z", "return theano.gradient.disconnected_grad(z)"),
        "градиент не проходит через сэмпл"),
    "variance for scale in the sample": (
        1, changed(SOLVED[1], "self.scale * eps", "self.scale ** 2 * eps"),
        r"разброс сэмпла — scale \*\* 2.*не дисперсия"),
    "noise shared by the batch": (
        1, changed(SOLVED[1], _EPS, "self.rng.normal((self.loc.shape[1],))"),
        "шум один на весь батч"),
    "noise that repeats in the second half of the batch": (
        1, changed(SOLVED[1], _EPS, "self.rng.normal((self.loc.shape[0] // 2, self.loc.shape[1]))",
                   _SAMPLE, _SAMPLE.replace("eps", "T.concatenate([eps, eps])")),
        "должен быть независимым"),
    "scale of any sign": (
        2, changed(SOLVED[2], "nonlinearity=T.nnet.softplus", "nonlinearity=None"),
        "строго положительным"),
    "scale that can be zero": (
        2, changed(SOLVED[2], "T.nnet.softplus", "lasagne.nonlinearities.rectify"),
        "строго положительным"),
    "the scale computed from the mean": (
        2, changed(SOLVED[2], "    return l_out_loc, l_out_scale", "    l_out_scale = lasagne.layers."
                   "NonlinearityLayer(l_out_loc, T.exp)\n    return l_out_loc, l_out_scale"),
        "нужно по своему слою"),
    "variance for scale": (
        3, changed(SOLVED[3], "get_output(encoder_scale)", "get_output(encoder_scale) ** 2"),
        "scale у qz_x.*стандартное отклонение, без квадратов"),
    "probabilities for logits": (
        4, changed(SOLVED[4], _LOGITS,
                   "BinaryVector(T.nnet.sigmoid(lasagne.layers.get_output(decoder_logits)))"),
        "вероятности, а нужны логиты"),
    "a decoder of probabilities": (
        4, changed(SOLVED[4], _DECODER, _SIGMOID_LAYER), "вероятности, а нужны логиты"),
    "the mean decoded": (
        4, changed(SOLVED[4], "z = qz_x.sample()", "z = qz_x.loc"), "не сэмпл из q.*а среднее"),
    "gradient to the encoder blocked": (
        4, changed(SOLVED[4], "z = qz_x.sample()",
                   "z = theano.gradient.disconnected_grad(qz_x.sample())"),
        "градиент от p.* не доходит до кодировщика"),
    "loss of the wrong sign": (
        5, changed(SOLVED[5], "loss = -elbo", "loss = elbo"), "какой нужен знак"),
    "decoder's parameters forgotten": (
        5, changed(SOLVED[5], NETWORKS, "[encoder_mean, encoder_scale]"),
        "нет параметров декодировщика: d_hid1.W"),
    "encoder's parameters forgotten": (
        5, changed(SOLVED[5], NETWORKS, "[decoder_logits]"),
        "нет параметров кодировщика: e_hid1.W"),
    "the gradient of the entropy lost": (
        5, changed(SOLVED[5], "qz_x.log_prob(z)",
                   "qz_x.log_prob(theano.gradient.disconnected_grad(z))"),
        r"градиент от log q\(z \| x\) в среднем не доходит"),
    "a prior that is trained": (
        5, f"{_SHARED_PRIOR}\n" + changed(SOLVED[5], "trainable=True)",
                                          "trainable=True) + [zeros, ones]"),
        "params или updates меняют pz.loc, pz.scale"),
    "KL of the wrong sign": (
        5, changed(SOLVED[5], "+ pz.log_prob(z) - qz_x", "- pz.log_prob(z) + qz_x"),
        "KL-дивергенция входит с неверным знаком"),
    "no KL": (
        5, changed(SOLVED[5], _ELBO, "T.mean(px_z.log_prob(input_x))"), "нет KL-дивергенции"),
    "log p summed over the batch": (
        5, changed(SOLVED[5], _ELBO,
                   "T.sum(px_z.log_prob(input_x)) + T.mean(pz.log_prob(z) - qz_x.log_prob(z))"),
        "лишняя сумма по батчу"),
    "z drawn twice": (
        5, "z_new = qz_x.sample()\n" + changed(SOLVED[5], "pz.log_prob(z)", "pz.log_prob(z_new)",
                                              "qz_x.log_prob(z)", "qz_x.log_prob(z_new)"),
        "при одном и том же z.*qz_x.sample\\(\\) второй раз"),
    "gradient of the loss disconnected": (
        5, changed(SOLVED[5], "loss = -elbo", "loss = -theano.gradient.disconnected_grad(elbo)"),
        "[Гг]радиент до параметров не доходит"),
    "gradient of the loss zero": (
        5, changed(SOLVED[5], "loss = -elbo", "loss = -theano.gradient.grad_scale(elbo, 0)"),
        "градиент (до них|от неё) не доходит"),
}


# --- one mistake, and later exercises that are right for the student's own names ---

_SCALE = "scale=lasagne.layers.get_output(encoder_scale)"
_KL = "pz.log_prob(z) - qz_x.log_prob(z)"
_OWN_KL = "0.5 * T.sum({variance} + qz_x.loc ** 2 - 1 - {log_variance}, axis=1)"


def _with_kl(variance, log_variance):
    return changed(SOLVED[5], "+ " + _KL,
                   "- " + _OWN_KL.format(variance=variance, log_variance=log_variance))


def _own_code(source):
    """Return a source with another name for z."""
    return re.sub(r"\bz\b(?=[,)]| = )", "code", source)


_Z_AND_EPS = changed(SOLVED[1], "return z", "return z, eps")
_UNPACKED = changed(SOLVED[4], "z = qz_x", "z, eps = qz_x")
_THREE_LAYERS = changed(SOLVED[2], "return l_out_loc, l_out_scale",
                        "return l_out_loc, l_out_scale, l_hid2")
_OF_THREE = changed(SOLVED[3], "encoder_scale = ", "encoder_scale, encoder_hidden = ")
_OTHER_HEAD = changed(SOLVED[3], "loc=lasagne.layers.get_output(encoder_mean)",
                      "loc=lasagne.layers.get_output(encoder_scale)")
_PROBABILITIES = changed(
    SOLVED[4], _LOGITS, _LOGITS.replace("Vector(", "Vector(T.nnet.sigmoid(") + ")")

#: Answers with mistakes, and the exercises that they cost.
OWN_NAMES = {
    "the second head read as log-variance": (
        {3: changed(SOLVED[3], "qz_x = ", "log_var = lasagne.layers.get_output(encoder_scale)\n"
                    "qz_x = ", _SCALE, "scale=T.exp(0.5 * log_var)"),
         5: _with_kl("T.exp(log_var)", "log_var")}, [3]),
    "the second head squared": (
        {3: changed(SOLVED[3], "qz_x = ", "std = lasagne.layers.get_output(encoder_scale) ** 2\n"
                    "qz_x = ", _SCALE, "scale=std"),
         5: _with_kl("std ** 2", "2 * T.log(std)")}, [3]),
    "the second head squared, a variance": (
        {3: changed(SOLVED[3], "qz_x = ", "var = lasagne.layers.get_output(encoder_scale) ** 2\n"
                    "qz_x = ", _SCALE, "scale=var"),
         5: _with_kl("var", "T.log(var)")}, [3]),
    "the mean decoded under another name": (
        {4: changed(_own_code(SOLVED[4]), "code = qz_x.sample()", "code = qz_x.loc"),
         5: _own_code(SOLVED[5])}, [4]),
    "the sample with its noise": ({1: _Z_AND_EPS, 4: _UNPACKED}, [1]),
    "the sample with its noise, which is used": (
        {1: _Z_AND_EPS, 4: _UNPACKED, 5: changed(
            SOLVED[5], "qz_x.log_prob(z)", "T.sum(-0.5 * eps ** 2 - 0.5 * np.log(2 * np.pi) "
            "- T.log(qz_x.scale), axis=1)")}, [1]),
    "three layers": ({2: _THREE_LAYERS, 3: _OF_THREE}, [2]),
    "three layers, and probabilities for logits": (
        {2: _THREE_LAYERS, 3: _OF_THREE, 4: _PROBABILITIES}, [2, 4]),
    "the sample with its noise, and the wrong head": (
        {1: _Z_AND_EPS, 3: _OTHER_HEAD, 4: _UNPACKED}, [1, 3]),
    "3 and 4 wrong": ({3: _OTHER_HEAD, 4: _PROBABILITIES}, [3, 4]),
    "3 wrong, 4 unfilled": ({3: _OTHER_HEAD, 4: TODO[4]}, [3, 4]),
    **{f"{', '.join(map(str, numbers))} unfilled": ({n: TODO[n] for n in numbers}, list(numbers))
       for numbers in [(3, 4), (1, 3, 4), (1, 2, 3, 4)]},
}


# --- forms of notebooks ---

def _with_outputs():
    outputs = [new_output("stream", name="stdout", text="✓ Упражнение 1: верно.\n"),
               new_output("display_data", {"text/plain": "<Figure>", "image/png": "iVBORw0K" * 99}),
               new_output("error", ename="NameError", evalue="имя", traceback=["\x1b[31mимя"])]
    return notebook(outputs=outputs, counts=list(range(1, len(SOURCES) + 1)))


def _with_magics():
    return notebook({
        0: SETUP + "\nimport matplotlib.pylab as plt\n%load_ext autoreload\n%autoreload 2\n%config InlineBackend.figure_format = 1",
        1: "!pip install --quiet theano lasagne\n" + SOLVED[1],
        2: "%%time\n%%capture\n" + SOLVED[2],
        3: "%%capture printed\n" + changed(SOLVED[3], "qz_x =", "%time qz_x ="),
        4: "?BinaryVector\nfiles = !ls\n%env THEANO_FLAGS\n" + SOLVED[4],
        5: "%matplotlib notebook\n" + SOLVED[5] + "\n!nvidia-smi\nBinaryVector??\nplt.plot([1]);",
    }, version=(4, 0))


def _with_other_cells():
    sources = cells()
    for position, source in [
            (20, "%%bash\npip list | grep -i theano\n"), (18, "assert False, 'сюда не дошли'"),
            (16, "%%writefile заметки.txt\nПочему KL не отрицательна?"), (14, "print(undefined)"),
            (12, "import matplotlib.pyplot as plt\nрисунок = plt.figure(figsize=(10, 10))\nplt.imshow(X_train[0, 0]); plt.show()"),
            (8, "# TODO: разобраться, что возвращает get_output\nhelp(lasagne)"),
            (4, "import seaborn as sns\nsns.set()"), (2, ""), (1, "%%html\n<b>Моё решение</b>")]:
        sources.insert(position, source)
    return to_bytes(sources, version=(3, 0))


def _with_malformed_cells():
    written = json.loads(notebook())
    for place, cell in enumerate([None, "code", 5, [], {"cell_type": "code", "source": None},
                                  {"cell_type": "code", "source": [1]}]):
        written["cells"].insert(3 * place, cell)
    return json.dumps(written).encode()


def _only_the_exercises():
    return to_bytes(list(SOLVED.values()))


def _one_cell():
    return to_bytes(["\n\n".join(cells())])


def _split():
    mine = changed(SOLVED[1], _SAMPLE, "raise NotImplementedError", "return z", "return None")
    heads = SOLVED[3].splitlines()
    elbo, params_and_loss = SOLVED[5].split("params =")
    params, loss = params_and_loss.split("loss =")
    return to_bytes([
        SETUP, mine, "def my_sample(self):\n    return self.loc + self.scale * noise(self)",
        "MultivariateNormalDiag.sample = my_sample",
        changed(SOLVED[2], "T.nnet.softplus", "positive"), "\n".join(heads[:2]),
        "\n".join(heads[2:]), SOLVED[4], elbo, "params =" + params, "loss =" + loss,
        "def noise(distribution):\n    return distribution.rng.normal(distribution.loc.shape)",
        "positive = T.nnet.softplus", *(SOLVED[number] for number in SOLVED if number > 5)])


def _twice(counts=None):
    """The seminar is in the notebook twice; the student has filled in the second copy."""
    sources = [*cells(unfilled(*EXERCISES)), *cells()]
    return to_bytes(sources, counts=counts and list(range(1, len(sources) + 1)))


def _reordered():
    return to_bytes(cells()[::-1])


def _out_of_order():
    """Wrong attempts stand at the end, but were run first."""
    wrong = [WRONG["noise shared by the batch"][1], WRONG["scale of any sign"][1]]
    counts = list(range(1, len(wrong + SOURCES) + 1))
    return to_bytes(SOURCES + wrong, counts=counts[len(wrong):] + counts[:len(wrong)])


def _old_attempts():
    return notebook({
        1: ("'''Первая попытка\n" + SOLVED[1] + "'''\n"
            + WRONG["variance for scale in the sample"][1])
           + "\n\n\n" + SOLVED[1],
        2: WRONG["scale that can be zero"][1] + "\n\n" + SOLVED[2],
        3: SOLVED[3] + "\nraise NotImplementedError('Упражнение 3: определите encoder_mean')\n\n"
           "encoder_mean, encoder_scale = ..., ...\nqz_x = ...  # MultivariateNormalDiag ...",
        4: SOLVED[4] + "\nraise NotImplementedError('Упражнение 4')",
        5: WRONG["z drawn twice"][1] + "\n" + SOLVED[5]})


def _trained_in_exercise_5():
    return notebook({5: "\n\n".join([SOLVED[5], FUNCTIONS, TRAINING])})


def _other_settings():
    return notebook({0: changed(
        SETUP, "import vae  #", "import tensorflow_probability as tfp\nimport vae  #",
        "from vae import BinaryVector, vae_decoder_mlp, show_source", "from vae import *",
        "BATCH_SIZE = 20", "BATCH_SIZE = 100", "HIDDEN_DIM = 2", "HIDDEN_DIM = 10",
        "X_train, y_train, X_val", "images, y_train, X_val")})


#: Right notebooks, by what is unusual in them.
FORMS = {
    "as it is": lambda: (FOLDER / "solution" / "vae_seminar_solution.ipynb").read_bytes(),
    "with outputs": _with_outputs,
    "magics, format 4.0": _with_magics,
    "other cells, format 3": _with_other_cells,
    "malformed cells": _with_malformed_cells,
    "only the exercises": _only_the_exercises,
    "one cell": _one_cell,
    "split over cells": _split,
    "cells reversed": _reordered,
    "the seminar twice": _twice,
    "the seminar twice, executed": lambda: _twice(counts=True),
    "run out of order": _out_of_order,
    "old attempts above, raise below": _old_attempts,
    "training in exercise 5": _trained_in_exercise_5,
    "other settings": _other_settings,
}


# --- other ways in which cells may define an exercise ---

_ADD_TO_CLASS = """\
def add_to_class(Class):
    def wrapper(function):
        setattr(Class, function.__name__, function)
    return wrapper
"""
_UNFILLED_CLASS = TODO[1]
_MINE = changed(SOLVED[1], "class MultivariateNormalDiag", "class Mine")
_METHOD = "def sample(self):\n    " + _SAMPLE.replace("eps", _EPS).replace("z =", "return")
_WRONG_METHOD = _METHOD.replace("self.scale *", "self.scale ** 2 *")
_TRAINED_LATER = FUNCTIONS + "\n" + TRAINING
_PARAMS = """params = lasagne.layers.get_all_params([encoder_mean, encoder_scale, decoder_logits],
                                       trainable=True)"""
_LAYERS = "[encoder_mean, encoder_scale, decoder_logits]"


def _with_params(code):
    return changed(SOLVED[5], _PARAMS, code)


def _indented(code, head):
    return head + "\n" + textwrap.indent(code, "    ")


#: Cells in place of exercises, all right, by how they define the names.
OTHER_WAYS = {
    "a list comprehension that appends": {5: _with_params(
        f"params = []\n[params.append(p) for l in {_LAYERS} "
        "for p in lasagne.layers.get_all_params(l, trainable=True) if p not in params]")},
    "a helper that changes its argument": {5: _with_params(
        "def collect(found, layer):\n    found.extend(p for p in "
        "lasagne.layers.get_all_params(layer) if p not in found)\n\n"
        f"params = []\nfor one in {_LAYERS}:\n    collect(params, one)")},
    "extend under with, if and try": {5: _with_params(
        "import contextlib\nparams = []\nwith contextlib.suppress(KeyError):\n    if True:\n"
        "        try:\n            params.extend(lasagne.layers.get_all_params("
        f"{_LAYERS}))\n        finally:\n            pass")},
    "map, used for what it changes": {5: _with_params(
        f"params = []\nset(map(params.append, lasagne.layers.get_all_params({_LAYERS})))")},
    "items put in place": {5: _with_params(
        f"every = lasagne.layers.get_all_params({_LAYERS})\nparams = [None] * len(every)\n"
        "import operator\noperator.setitem(params, slice(None), every)")},
    "changed in a later cell": {5: _with_params("params = []") .replace(
        "updates = ", f"params.__iadd__(lasagne.layers.get_all_params({_LAYERS}))\nupdates = ")},
    "updates changed": {5: SOLVED[5] + "\nmore = lasagne.updates.adam(loss, params)\n"
                        "updates.clear()\nupdates.update(more)"},
    "global in a function": {
        3: _indented(
            SOLVED[3], "def model():\n    global input_x, encoder_mean, encoder_scale, qz_x")
        + "\n\nmodel()",
        5: _indented(SOLVED[5], "def objective():\n    global elbo, params, loss, updates")
        + "\n\nobjective()"},
    "globals and exec": {
        3: changed(SOLVED[3], "qz_x = ", "globals()['qz_x'] = "),
        4: f"exec({SOLVED[4]!r})", 5: f"eval(compile({SOLVED[5]!r}, 'cell', 'exec'))"},
    "the module __main__ and the shell": {
        3: changed(SOLVED[3], "qz_x = ", "import __main__\n__main__.qz_x = "),
        4: f"get_ipython().run_cell({SOLVED[4]!r})",
        5: SOLVED[5] + "\nget_ipython().push(dict(loss=loss))\n"
           "get_ipython().user_ns['elbo'] = elbo"},
    "a walrus in a comprehension": {
        5: _with_params(f"[params := lasagne.layers.get_all_params({_LAYERS}) for _ in range(1)]")},
    "match and del": {
        4: _indented(_indented(SOLVED[4], "case 2:"), "match HIDDEN_DIM:").replace("\n", "\n")
           + "\nunused = 1\ndel unused"},
    "a method from a decorator": {
        1: f"{_UNFILLED_CLASS}\n\n{_ADD_TO_CLASS}\n\n@add_to_class(MultivariateNormalDiag)\n"
           f"{_METHOD}"},
    "a method set by a helper": {
        1: f"{_UNFILLED_CLASS}\n\ndef give(owner, **methods):\n    for name in methods:\n"
           f"        setattr(owner, name, methods[name])\n\n{_METHOD}\n\n"
           "give(MultivariateNormalDiag, sample=sample)"},
    "a class decorator": {
        1: f"def with_sample(cls):\n    {_METHOD.replace(chr(10), chr(10) + '    ')}\n"
           f"    cls.sample = sample\n    return cls\n\n\n@with_sample\n{_UNFILLED_CLASS}"},
    "a base class that is changed later": {
        1: f"{_MINE}\n\nclass MultivariateNormalDiag(Mine):\n    pass\n\n"
           f"{_METHOD}\nMine.sample = sample"},
    "a class made by type": {
        1: f"{_MINE}\nMultivariateNormalDiag = type('Normal', (Mine,), {{}})"},
    "code changed": {
        2: "def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):\n    pass\n\n"
           + changed(SOLVED[2], "def vae_encoder_mlp", "def encoder")
           + "\nvae_encoder_mlp.__code__ = encoder.__code__"},
    "a partial function": {
        2: "from functools import partial\n" + changed(SOLVED[2], "def vae_encoder_mlp", "def mlp")
           + "\nvae_encoder_mlp = partial(mlp, hidden_dim=HIDDEN_DIM)"},
    "a module written by the notebook": {
        2: "%%writefile encoder.py\nimport lasagne\nimport theano.tensor as T\nHIDDEN_DIM = 2\n"
           + SOLVED[2], 3: "from encoder import *\n" + SOLVED[3]},
    "a script that is run": {
        2: "%%writefile encoder.py\n" + SOLVED[2], 3: "%run encoder.py\n" + SOLVED[3]},
    "under a name of the main program": {
        3: _indented(SOLVED[3], "if __name__ == '__main__':")},
    "the package's names under others": {
        3: changed("from vae.distributions import MultivariateNormalDiag as MND\n" + SOLVED[3],
                   "= MultivariateNormalDiag(", "= MND(")},
    "the package's class where it is allowed": {
        3: changed(SOLVED[3], "= MultivariateNormalDiag(", "= vae.MultivariateNormalDiag(")},
    "the package's encoder where it is allowed": {
        3: changed(SOLVED[3], "= vae_encoder_mlp(", "= vae.vae_encoder_mlp(")},
    "imported again after its exercise": {
        2: SOLVED[2] + "\nfrom vae import *",
        4: "from vae.distributions import MultivariateNormalDiag\n" + SOLVED[4]},
    "await at the top": {
        2: SOLVED[2] + "\nimport asyncio\nawait asyncio.sleep(0)",
        3: "async def make():\n    return T.tensor4()\n\n" + changed(
            SOLVED[3], "T.tensor4('inputs')", "await make()")},
    "a loop until the model is trained": {
        5: f"{SOLVED[5]}\n{FUNCTIONS}\nvalue = -1e9\nwhile value < 1:\n"
           "    value = train(X_train[:20])"},
    "things that are not here": {
        3: f"import seaborn as sns, torch\nsns.set()\n{SOLVED[3]}\nprint(undefined)",
        4: f"import matplotlib.pyplot as plt\nfig, axes = plt.subplots(2, 5)\nfor ax in axes.flat:\n    ax.imshow(X_train[0, 0])\n"
           f"{SOLVED[4]}\nfig.savefig('/nowhere/picture.png')\ninput('Дальше?')"},
    "a helper that hangs": {
        2: SOLVED[2] + "\nfor number in iter(int, 1):\n    pass",
        4: "def wait():\n    while True:\n        pass\n\nwait()\n" + SOLVED[4]},
}


def attack(code, exercise=3):
    """Return a notebook that attacks the grader in one exercise and solves none.

    Parameters
    ----------
    code : str
        The body of a function. All names of the exercise are set to what it returns.
    exercise : int, optional
    """
    names = " = ".join(EXERCISES[exercise].names)
    body = textwrap.indent(textwrap.dedent(code), "    ")
    source = f"def attack():\n{body}\n{names} = attack()\n"
    return notebook({**unfilled(*EXERCISES), exercise: source})


def write_class(folder, n=40):
    """Write the notebooks of a class: right ones of all forms, wrong ones, and other files.

    Parameters
    ----------
    folder : path
    n : int, optional

    Returns
    -------
    dict
        Points, by the file's name.
    """
    total = sum(exercise.points for exercise in EXERCISES.values())
    right = [*FORMS.values(), *(lambda answers=answers: notebook(answers)
                                for answers in RIGHT.values())]
    made = [(make, total) for make in right]
    made += [(lambda number=number, source=source: notebook({number: source}),
              total - EXERCISES[number].points) for number, source, _ in WRONG.values()]
    made += [(lambda: notebook(unfilled(4, 5)), total - EXERCISES[4].points - EXERCISES[5].points),
             (lambda: notebook(unfilled(*EXERCISES)), 0),
             (lambda: b"not a notebook", 0)]
    points = {}
    for number, (make, expected) in enumerate(islice(cycle(made), n), start=1):
        name = f"студент {number:02d}.ipynb"
        (Path(folder) / name).write_bytes(make())
        points[name] = expected
    return points
