"""Graphs as data: a loaded graph has the same results, and nothing else is built or run."""

import base64
import json
import pickle
import resource
import subprocess
import sys

import numpy as np
import pytest
import theano
import theano.tensor as T
from fuzz_graphs import fuzz
from lasagne import layers, nonlinearities, objectives, regularization, updates
from theano import sparse
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor import nnet
from theano.tensor.nnet import conv3d2d
from theano.tensor.shared_randomstreams import RandomStreams
from theano.tensor.signal import conv, pool

import vae
from vae.checks import Mistake
from vae_grading.grader import _why
from vae_grading.graphs import dump_graph, load_graph
from vae_grading.graphs.bounds import MAX_PARTS
from vae_grading.json_lines import from_json, lines_of_json, to_json
from vae_grading.sandbox.process import Limits

PYTHON = theano.Mode(linker="py", optimizer=None)


def compute(graph, values):
    """Compute a graph's outputs twice, because random ones change with each call."""
    function = theano.function(graph["inputs"], graph["outputs"], mode=PYTHON,
                               on_unused_input="ignore")
    return [np.asarray(output) for _ in range(2) for output in function(*values)]


def assert_the_same_after(outputs, inputs=(), values=()):
    """A graph computes the same after dump and load, and its text is the same every time."""
    graph = dict(inputs=list(inputs), outputs=list(outputs))
    text = dump_graph(graph)
    loaded = load_graph(text)
    assert dump_graph(graph) == dump_graph(loaded) == text
    for before, after in zip(compute(graph, values), compute(loaded, values), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def images(*shape):
    return np.random.RandomState(0).uniform(size=shape).astype(theano.config.floatX)


# --- Lasagne ---

FLAT = layers.InputLayer((4, 6), T.matrix())
LINE = layers.InputLayer((2, 3, 8), T.tensor3())
IMAGE = layers.InputLayer((2, 3, 8, 8), T.tensor4())
LAYERS = {
    "dense": lambda: layers.DenseLayer(FLAT, 5),
    "NIN": lambda: layers.NINLayer(IMAGE, 4),
    "nonlinearity": lambda: layers.NonlinearityLayer(FLAT, nonlinearities.softmax),
    "conv 1D": lambda: layers.Conv1DLayer(LINE, 2, 3, stride=2, pad="full"),
    "conv 2D": lambda: layers.Conv2DLayer(IMAGE, 2, 3, pad="same", untie_biases=True),
    "conv 2D, strided": lambda: layers.Conv2DLayer(IMAGE, 2, (3, 2), stride=(1, 2), pad=1),
    "max pool 1D": lambda: layers.MaxPool1DLayer(LINE, 2, stride=1),
    "max pool 2D": lambda: layers.MaxPool2DLayer(IMAGE, 3, stride=2, ignore_border=False),
    "pool 2D": lambda: layers.Pool2DLayer(IMAGE, 2, mode="average_exc_pad"),
    "feature pool": lambda: layers.FeaturePoolLayer(FLAT, 3),
    "feature WTA": lambda: layers.FeatureWTALayer(FLAT, 2),
    "global pool": lambda: layers.GlobalPoolLayer(IMAGE),
    "concat": lambda: layers.ConcatLayer([FLAT, FLAT]),
    "elementwise sum": lambda: layers.ElemwiseSumLayer([FLAT, FLAT], coeffs=[1, -2]),
    "elementwise merge": lambda: layers.ElemwiseMergeLayer([FLAT, FLAT], T.maximum),
    "dropout": lambda: layers.DropoutLayer(FLAT, 0.5),
    "Gaussian noise": lambda: layers.GaussianNoiseLayer(FLAT),
    "local response": lambda: layers.LocalResponseNormalization2DLayer(IMAGE),
    "flatten": lambda: layers.FlattenLayer(IMAGE),
    "reshape": lambda: layers.ReshapeLayer(IMAGE, ([0], -1)),
    "dimshuffle": lambda: layers.DimshuffleLayer(FLAT, (1, "x", 0)),
    "pad": lambda: layers.PadLayer(IMAGE, 2, val=0.5),
    "slice": lambda: layers.SliceLayer(IMAGE, slice(1, None, 2), axis=2),
    "recurrent": lambda: layers.RecurrentLayer(LINE, 4, backwards=True),
    "LSTM": lambda: layers.LSTMLayer(LINE, 4, peepholes=True),
    "GRU": lambda: layers.GRULayer(LINE, 4, unroll_scan=True),
    "custom recurrent": lambda: layers.CustomRecurrentLayer(
        LINE, layers.DenseLayer(layers.InputLayer((None, 8)), 4),
        layers.DenseLayer(layers.InputLayer((None, 4)), 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, monkeypatch):
    """Their outputs and the gradients of their parameters."""
    monkeypatch.setattr("lasagne.random._rng", np.random.RandomState(1))
    layer = LAYERS[name]()
    output = layers.get_output(layer)
    params = layers.get_all_params(layer, trainable=True)
    source = layers.get_all_layers(layer)[0]
    gradients = T.grad(T.sum(output ** 2), params, disconnected_inputs="ignore") if params else []
    assert_the_same_after([output, *gradients], [source.input_var], [images(*source.shape)])


def test_embeddings():
    indices = T.imatrix()
    layer = layers.EmbeddingLayer(layers.InputLayer((2, 3), indices), 5, 4)
    output = layers.get_output(layer)
    assert_the_same_after([output, T.grad(T.sum(output ** 2), layer.W)], [indices],
                          [np.array([[0, 1, 4], [1, 1, 3]], "int32")])


@pytest.mark.parametrize("name", [
    "sigmoid", "softmax", "tanh", "rectify", "leaky_rectify", "very_leaky_rectify", "linear"])
def test_nonlinearities(name):
    x = T.matrix()
    y = getattr(nonlinearities, name)(x)
    assert_the_same_after([y, T.grad(T.sum(y ** 2), x)], [x], [images(3, 4) - 0.5])


@pytest.mark.parametrize("objective", [
    objectives.binary_crossentropy, objectives.squared_error, objectives.categorical_crossentropy])
def test_objectives(objective):
    x = T.matrix()
    p = nnet.softmax(x)
    losses = objective(p, 1 - p)
    total = objectives.aggregate(losses, weights=losses, mode="normalized_sum")
    assert_the_same_after([losses, total, T.grad(total, x)], [x], [images(3, 4)])


def test_categories_by_number():
    x, y = T.matrix(), T.ivector()
    loss = objectives.categorical_crossentropy(nnet.softmax(x), y).mean()
    assert_the_same_after([loss, T.grad(loss, x), T.argmax(x, axis=1)], [x, y],
                          [images(3, 4), np.array([0, 3, 1], "int32")])


@pytest.mark.parametrize("penalty", [regularization.l1, regularization.l2])
def test_regularisation(penalty):
    layer = layers.DenseLayer(FLAT, 3)
    assert_the_same_after([regularization.regularize_network_params(layer, penalty),
                           regularization.regularize_layer_params_weighted({layer: .5}, penalty)])


@pytest.mark.parametrize("rule", [
    updates.sgd, updates.momentum, updates.nesterov_momentum, updates.adagrad, updates.rmsprop,
    updates.adadelta, updates.adam], ids=lambda rule: rule.__name__)
def test_updates(rule):
    """A step with the loaded graph and a step with the original give the same parameters."""
    w, x = theano.shared(images(3, 2), "w"), T.matrix()
    loss = T.sum(T.dot(x, w) ** 2)
    gradients = updates.total_norm_constraint(T.grad(loss, [w]), 1.)
    steps = rule(gradients, [w], 0.1)
    steps_as_data = [[variable, new] for variable, new in steps.items()]
    loaded = load_graph(dump_graph(dict(x=x, steps=steps_as_data)))
    before, after = (theano.function([x], [new for _, new in steps], updates=list(steps),
                                     mode=PYTHON)
                     for x, steps in [(x, list(steps.items())),
                                      (loaded["x"], [tuple(step) for step in loaded["steps"]])])
    for _ in range(2):
        np.testing.assert_array_equal(before(images(4, 3))[0], after(images(4, 3))[0])


# --- Theano ---

def _scalars(module):
    return sorted(name for name, value in vars(module).items() if isinstance(
        value, theano.tensor.elemwise.Elemwise))


@pytest.mark.parametrize("name", [name for name in _scalars(T.basic) if "inplace" not in name])
def test_elementwise_operations(name):
    operation = getattr(T.basic, name)
    n = operation.scalar_op.nin
    x, y, z = T.matrix(), T.matrix(), T.matrix()
    arguments, values = [x, y, z], [images(2, 3) + .1, images(1, 3) + .1, images(2, 3)]
    if name in ("and_", "or_", "xor", "invert", "bitwise_and", "bitwise_or", "bitwise_xor",
                "bitwise_not"):
        arguments, values = [T.lmatrix(), T.lmatrix()], [np.arange(6).reshape(2, 3)] * 2
    n = n if n > 0 else 3
    if name == "switch":
        arguments = [T.gt(x, 0.5), y, z]
        values = [images(2, 3)] * 3
        assert_the_same_after([operation(*arguments)], [x, y, z], values)
        return
    assert_the_same_after([operation(*arguments[:n])], arguments[:n],
                          [np.broadcast_to(value, (2, 3)) for value in values[:n]])


X = T.matrix("x")
INDEX = T.lvector("i")
EXPRESSIONS = {
    "reductions": lambda: [X.sum(), X.sum(axis=0, dtype="float64"), X.prod(axis=1), X.max(axis=0),
                           X.min(), X.mean(axis=(0, 1)), X.std(), X.var(axis=0), T.any(X > .5),
                           T.all(X > .5, axis=1), T.argmin(X), *T.max_and_argmax(X, axis=1)],
    "subtensors": lambda: [X[0], X[:, 1:], X[::-1, -1], X[INDEX[0]:], X[INDEX], X[INDEX, INDEX], X[X > .5],
                           T.set_subtensor(X[1:, INDEX[0]], 0), T.inc_subtensor(X[INDEX], X[INDEX]),
                           T.inc_subtensor(X[INDEX, INDEX], 1), X[None, ..., 0], X.T[0, 1]],
    "shapes": lambda: [X.reshape((4, 3)), X.flatten(), X.dimshuffle(1, "x", 0), T.tile(X, (2, 1)),
                       T.repeat(X, 2, axis=1), T.concatenate([X, X]), T.stack([X, X], axis=1),
                       T.shape_padright(X), X.shape, T.zeros_like(X), T.ones((X.shape[0], 2)),
                       T.alloc(X[0, 0], 2, 3), T.addbroadcast(X[:1], 0), *T.split(X, [1, 2], 2),
                       T.swapaxes(X, 0, 1), T.roll(X, 1, axis=0), T.unbroadcast(X[:1], 0)],
    "ranges": lambda: [T.arange(4), T.arange(0., INDEX[1], .5), T.eye(3), T.tri(3), T.diag(X[0]),
                       T.triu(X), T.identity_like(X[:3, :3]), T.extra_ops.to_one_hot(INDEX, 3),
                       *T.mgrid[0:2, 0:3]],
    "order": lambda: [T.sort(X), T.argsort(X, axis=0), T.topk(X, 2, axis=1, sorted=False),
                      T.extra_ops.searchsorted(T.sort(X[0]), X[0]), T.extra_ops.Unique()(X),
                      T.extra_ops.cumsum(X, axis=1), T.extra_ops.cumprod(X), T.extra_ops.diff(X),
                      T.extra_ops.bincount(INDEX), T.extra_ops.fill_diagonal(X, 1.),
                      T.extra_ops.squeeze(X[:1]), T.choose(INDEX, X[:2, :2])],
    "products": lambda: [T.dot(X, X.T), T.dot(X[0], X[1]), T.tensordot(X, X, axes=[[0], [0]]),
                         T.batched_dot(X.reshape((3, 2, 2)), X.reshape((3, 2, 2))), T.outer(X[0], X[0]),
                         T.nlinalg.matrix_inverse(T.dot(X.T, X) + T.eye(4)),
                         T.nlinalg.det(X[:3, :3]), T.nlinalg.trace(X[:3, :3]),
                         *T.nlinalg.svd(X), T.slinalg.cholesky(T.dot(X, X.T) + T.eye(3)),
                         T.slinalg.solve(X[:3, :3] + 3 * T.eye(3), X[:3, 0])],
    "nnet": lambda: [nnet.softmax(X), nnet.logsoftmax(X), nnet.sigmoid(X), nnet.softplus(X),
                     nnet.ultra_fast_sigmoid(X), nnet.hard_sigmoid(X), nnet.relu(X, .1),
                     nnet.elu(X), nnet.selu(X), nnet.binary_crossentropy(nnet.sigmoid(X), X),
                     nnet.batch_normalization(X, X[0], X[0], X[0], X[0] + 1, mode="high_mem"),
                     *nnet.bn.batch_normalization_train(X, X[:1], X[:1])[:3],
                     T.xlogx.xlogx(X), T.nnet.softsign(X),
                     *[nnet.h_softmax(X[:2], 2, 4, 3, 2, T.ones((4, 3)), T.zeros(3),
                                      T.ones((3, 4, 2)), T.zeros((3, 2)), target)
                       for target in (None, T.constant([0, 3]))]],
    "types": lambda: [X.astype("int8"), T.cast(X, "float64"), T.isnan(X), T.isinf(X),
                      T.switch(X > .5, X, 0), T.clip(X, .2, .8), T.isclose(X, X), X // .3, X % .3,
                      T.real(X), abs(X), X ** 2, T.constant(3), T.as_tensor_variable([1., 2.])],
    "gradients": lambda: [T.grad(T.sum(g(X) ** 2), X, disconnected_inputs="ignore") for g in [
        theano.gradient.disconnected_grad, theano.gradient.zero_grad,
        theano.gradient.consider_constant, lambda x: theano.gradient.grad_scale(x, .5),
        lambda x: theano.gradient.grad_clip(x, -.1, .1), T.exp, T.sort, lambda x: T.max(x, axis=0),
        lambda x: x[INDEX], lambda x: nnet.softmax(x), lambda x: T.prod(x, axis=1)]],
    "conditions": lambda: [theano.ifelse.ifelse(T.gt(X[0, 0], .5), X, -X),
                           theano.printing.Print("x")(X), T.opt.assert_(X, T.gt(X[0, 0], -1)),
                           T.specify_shape(X, (3, 4))],
    "loops": lambda: [theano.scan(lambda row, total: total + row, X, T.zeros_like(X[0]))[0],
                      theano.map(lambda row: T.sum(row ** 2), X)[0],
                      theano.reduce(lambda row, s: s + row, X, T.zeros_like(X[0]))[0],
                      theano.foldl(lambda row, s: s * row, X, T.ones_like(X[0]))[0],
                      theano.scan(lambda a, b: a + b, outputs_info=[dict(
                          initial=T.ones(2), taps=[-2, -1])], n_steps=5)[0],
                      theano.scan(lambda a: (2 * a, theano.scan_module.until(a > 9)),
                                  outputs_info=T.ones(()), n_steps=50)[0],
                      theano.scan(lambda row: theano.scan(lambda x: x ** 2, row)[0], X)[0],
                      T.grad(T.sum(theano.scan(lambda row, s: T.tanh(s + row), X,
                                               T.zeros_like(X[0]))[0]), X)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions(name):
    outputs = []
    for expression in EXPRESSIONS[name]():
        outputs += expression if isinstance(expression, (list, tuple)) else [expression]
    assert_the_same_after(outputs, [X, INDEX], [images(3, 4), np.array([0, 1])])


def test_a_graph_that_is_used_as_an_operation():
    loss = nnet.sigmoid_binary_crossentropy(X, T.round(X)).sum()
    loaded = load_graph(dump_graph(dict(X=X, loss=loss)))
    gradient, loaded_gradient = T.grad(loss, X), T.grad(loaded["loss"], loaded["X"])
    for before, after in [(loss, loaded["loss"]), (gradient, loaded_gradient)]:
        np.testing.assert_allclose(before.eval({X: images(3, 4)}),
                                   after.eval({loaded["X"]: images(3, 4)}), rtol=1e-5)


@pytest.mark.parametrize("border_mode", ["valid", "full", "half", 1, (1, 2)])
def test_convolutions(border_mode):
    x, w = T.tensor4(), T.tensor4()
    y = nnet.conv2d(x, w, border_mode=border_mode, subsample=(1, 2), filter_flip=False)
    assert_the_same_after([y, *T.grad(T.sum(y ** 2), [x, w])], [x, w],
                          [images(2, 3, 6, 6), images(2, 3, 3, 3)])


def test_other_convolutions():
    x, w, v = T.tensor4(), T.tensor4(), T.TensorType(theano.config.floatX, [False] * 5)()
    outputs = [nnet.conv2d(x, w, input_shape=(2, 3, 6, 6), filter_shape=(3, 3, 2, 2)),
               conv.conv2d(x[0, 0], w[0, 0]), nnet.conv2d_transpose(
                   x, w, (2, 3, 7, 7)), nnet.neighbours.images2neibs(x, (2, 2)),
               nnet.conv3d(v, v[:, :, :2, :2, :2]), conv3d2d.conv3d(v, v[:, :2, :, :2, :2])]
    assert_the_same_after(outputs, [x, w, v], [images(2, 3, 6, 6), images(3, 3, 2, 2),
                                               images(2, 2, 4, 4, 4)])


@pytest.mark.parametrize("mode", ["max", "sum", "average_inc_pad", "average_exc_pad"])
def test_pooling(mode):
    x = T.tensor4()
    y = pool.pool_2d(x, (2, 2), ignore_border=True, stride=(1, 2), mode=mode)
    assert_the_same_after([y, T.grad(T.sum(y ** 2), x)], [x], [images(1, 2, 6, 6)])


@pytest.mark.parametrize("streams", [MRG_RandomStreams, RandomStreams])
def test_random_streams(streams):
    """The loaded graph draws the same numbers, new ones at each call, also inside a loop."""
    random = streams(3)
    outputs = [random.normal((3, 2)), random.uniform(X.shape), random.binomial((4,), p=.3),
               random.multinomial(pvals=T.ones((2, 4)) / 4)]
    if streams is RandomStreams:
        outputs += [random.permutation(n=5), random.random_integers((3,), 0, 9),
                    random.poisson((2,), lam=2.), random.shuffle_row_elements(X)]
    assert_the_same_after(outputs, [X], [images(2, 3)])
    values, _ = theano.scan(lambda: random.normal((2,)), n_steps=3)
    (graph, loaded) = (dict(y=values), load_graph(dump_graph(dict(y=values))))
    first, second = (theano.function([], which["y"], mode=PYTHON)() for which in (graph, loaded))
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(second)) == 6


def test_gradients_reach_the_parameters_of_a_sample():
    loc, scale = T.matrix(), T.matrix()
    z = vae.MultivariateNormalDiag(loc, scale, rng=MRG_RandomStreams(1)).sample()
    loaded = load_graph(dump_graph(dict(loc=loc, scale=scale, z=z)))
    gradients = T.grad(T.sum(loaded["z"]), [loaded["loc"], loaded["scale"]])
    d_loc, d_scale, value = theano.function(
        [loaded["loc"], loaded["scale"]], [*gradients, loaded["z"]], mode=PYTHON)(
            images(4, 2), images(4, 2) + 1)
    assert (d_loc == 1).all()
    np.testing.assert_allclose(images(4, 2) + (images(4, 2) + 1) * d_scale, value, rtol=1e-5)


def test_what_else_a_graph_holds():
    w = theano.shared(np.float32([1, 2]), "w")
    graph = dict(n=3, yes=True, none=None, text="DenseLayer 64→128", nested=dict(a=[w, [w * 2]]),
                 w=w)
    loaded = load_graph(dump_graph(graph))
    assert [loaded[name] for name in ["n", "yes", "none", "text"]] == [
        3, True, None, "DenseLayer 64→128"]
    assert loaded["nested"]["a"][0] is loaded["w"] and loaded["w"].name == "w"
    loaded["w"].set_value(np.float32([5, 6]))
    assert loaded["nested"]["a"][1][0].eval().tolist() == [10, 12]


# --- what is refused ---

GRAPH = json.loads(dump_graph(dict(
    x=X, w=theano.shared(np.float32([[1, 2]]), "w"), y=T.exp(X).sum(axis=0)[1:],
    z=MRG_RandomStreams(3).normal((2, 2)), s=theano.scan(lambda row: row ** 2, X)[0])))


class Evil(theano.Op):
    """An operation that is not in the table."""
    __props__ = ()

    def make_node(self, x):
        return theano.gof.Apply(self, [x], [x.type()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0]


@pytest.mark.parametrize("make, name", [
    (lambda: Evil()(X), "Evil"),
    (lambda: theano.compile.ops.as_op([T.fmatrix], [T.fmatrix])(lambda x: x)(X), "FromFunctionOp"),
    (lambda: theano.tensor.io.load("weights.npy", "float32", (False,)), "LoadFromDisk|Generic"),
    (lambda: sparse.csr_matrix(), "(?i)sparse"),
], ids=["a new operation", "as_op", "a file", "sparse"])
def test_what_is_not_in_the_table_is_named(make, name):
    with pytest.raises(Mistake, match=name):
        dump_graph(dict(y=make()))


def test_changes_in_an_operation_are_not_exported():
    """The text contains neither code nor anything else that a student puts into an operation."""
    y = T.exp(X)
    y.owner.op.scalar_op.c_code = lambda *args: 'system("touch evil");'
    try:
        y.tag.evil = Evil()
        y.name = 'system("touch evil")'
        text = dump_graph(dict(y=y))
    finally:
        del y.owner.op.scalar_op.c_code
    assert "evil" not in text.lower()


CONVOLUTION = json.loads(dump_graph(dict(y=nnet.conv2d(T.tensor4(), T.tensor4()))))


def changed(*path, value):
    """Return the text of a graph with the value at one path replaced."""
    data = json.loads(json.dumps(GRAPH))
    *folders, last = path
    container = data
    for key in folders:
        container = container[key]
    container[last] = value
    return json.dumps(data)


def place_of(name):
    return next(number for number, part in enumerate(GRAPH["parts"])
                if part[0] == "apply" and part[1] == name)


EXP, SUM = place_of("elemwise.Elemwise"), place_of("elemwise.Sum")
HOSTILE = {
    "not JSON": "graph", "nothing": "", "a number": "3", "a list": "[]",
    "no parts": changed("parts", value=None),
    "an unknown kind": changed("parts", 0, 0, value="__class__"),
    "an unknown operation": changed("parts", EXP, 1, value="os.system"),
    "an operation that reads files": changed("parts", EXP, 1, value="io.LoadFromDisk"),
    "an unknown scalar": changed("parts", EXP, 2, "scalar_op", value="Composite"),
    "C for a scalar": changed("parts", EXP, 2, "scalar_op", value='system("touch evil")'),
    "an attribute": changed("parts", EXP, 2, value={"scalar_op": "exp", "c_code": "evil"}),
    "a list for an operation": changed("parts", EXP, 1, value=["exp"]),
    "C for a type": changed("parts", 0, 1, value='float32(00)"; evil'),
    "a type of objects": changed("parts", 0, 1, value="object(00)"),
    "too many dimensions": changed("parts", 0, 1, value=f"float32({'0' * 33})"),
    "an axis that is not a number": changed("parts", SUM, 2, "axis", value="0; evil()"),
    "a huge axis": changed("parts", SUM, 2, "axis", value=[10**400]),
    "a float for an axis": changed("parts", SUM, 2, "axis", value=[0.5]),
    "a step of 0": json.dumps(CONVOLUTION).replace('"subsample": [1, 1]', '"subsample": [0, 1]'),
    "a later variable": changed("parts", EXP, 3, value=[10**6]),
    "a negative variable": changed("parts", EXP, 3, value=[-1]),
    "too many inputs": changed("parts", EXP, 3, value=[0, 0, 0]),
    "another type of output": changed("parts", EXP, 4, value=["float64(00)"]),
    "deep lists": "[" * 10**5 + "]" * 10**5,
    "deep structure": changed("graph", value=json.loads("[" * 30 + "]" * 30)),
    "not a number": json.dumps(GRAPH).replace('"axis": [0]', '"axis": [NaN]'),
    "a long integer": json.dumps(GRAPH).replace('"axis": [0]', f'"axis": [{"9" * 5000}]'),
    "a pickle": base64.b64encode(pickle.dumps(GRAPH)).decode(),
    "an update of an input": changed("updates", value=[[0, 0]]),
    "an update of another type": changed("updates", 0, 1, value=0),
    "odd characters in a name": changed("parts", 1, value=["shared", "float32()", [
        "float32", [], False, "AACAPw=="], "*/ evil(); /*"]),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_that_is_not_a_graph_is_refused(text):
    assert load_graph(json.dumps(GRAPH))
    with pytest.raises(Mistake, match="граф"):
        load_graph(text)


@pytest.mark.parametrize("array", [
    ["float32", [2**31, 2**31], True, "AAAAAA=="], ["float32", [2**31], True, "AAAAAA=="],
    ["float32", [-1], False, ""], ["float32", [2], False, "AAAA"], ["float32", [1.5], True, "AAAA"],
    ["object", [1], False, "AAAAAAAAAAA="], ["float32", [1], False, "?"], ["float32", [1], 2, ""],
    ["float32", [1] * 40, True, "AAAAAA=="], None, {"a": 1}, "AAAA", [[[[]]]],
])
def test_data_that_is_not_an_array_is_refused(array):
    text = json.dumps({"parts": [["shared", "float32(00)", array, None]], "updates": [],
                       "graph": {"names": {"x": {"variable": 0}}}})
    with pytest.raises(Mistake, match="граф не читается"):
        load_graph(text)


def test_a_loop_is_checked_too():
    number = place_of("scan_op.Scan")
    for name, value in [("n_seqs", -1), ("n_seqs", 2), ("tap_array", [[10**9]]), ("as_while", "x"),
                        ("n_inputs", 99), ("outputs", [99]), ("outputs", [[]]), ("parts", []),
                        ("truncate_gradient", None), ("n_mit_mot_outs", 7), ("n_sit_sot", 3)]:
        with pytest.raises(Mistake, match="граф не читается"):
            load_graph(changed("parts", number, 2, name, value=value))


@pytest.mark.slow
def test_changed_graphs_are_graphs_or_refused():
    """A short run of `fuzz_graphs.py`."""
    tried, loaded, _ = fuzz(examples=400)
    assert tried == 400 and 0 < loaded < 200


# --- bounds of graphs and lines ---

def added(n, variable):
    for _ in range(n):
        variable += 1
    return variable


def test_the_number_of_variables_is_bounded(monkeypatch):
    graph = dict(y=added(50, X))
    text = dump_graph(graph)
    monkeypatch.setattr("vae_grading.graphs.bounds.MAX_VARIABLES", 45)
    with pytest.raises(Mistake, match="слишком много"):
        dump_graph(graph)
    with pytest.raises(Mistake, match="too many variables"):
        load_graph(text)


def test_variables_of_loops_count(monkeypatch):
    text = dump_graph(dict(y=theano.map(lambda row: added(20, row), X)[0]))
    parts = json.loads(text)["parts"]
    inner = next(part[2]["parts"] for part in parts if part[1] == "scan_op.Scan")
    monkeypatch.setattr("vae_grading.graphs.bounds.MAX_VARIABLES", len(parts) + len(inner))
    load_graph(text)
    monkeypatch.setattr("vae_grading.graphs.bounds.MAX_VARIABLES", max(len(parts), len(inner)))
    with pytest.raises(Mistake, match="too many variables"):
        load_graph(text)


def test_values_survive_a_line():
    numbers = dict(a=np.arange(6.).reshape(2, 3), b=[np.bool_(True), np.float32(0.5)], c=["d"])
    again = from_json(to_json(numbers))
    np.testing.assert_array_equal(again["a"], numbers["a"])
    assert again["b"][0].dtype == bool and again["b"][1] == 0.5 and again["c"] == ["d"]


@pytest.mark.parametrize("array", [
    *({"dtype": dtype, "shape": [2], "data": "AAAAAAAAAAA="} for dtype in [
        "f4,(2,", "(1,", "9" * 5000, f"(1{'0' * 5000},)f4", "O", "V8", "<f4,<f4", "U2", "M8[s]",
        "float32", 5, None, ["<f4"], {"a": 1}]),
    *({"dtype": "<f4", "shape": shape, "data": "AAAAAAAAAAA="} for shape in [
        [-1], None, 2, [10**12], [1.5], ["2"], [[2]], {}, [True, 2], [1] * 100]),
    {"dtype": "<f4", "shape": [2], "data": "AAAA"}, {"dtype": "<f4", "shape": [2], "data": 3}])
def test_a_line_with_an_invalid_array_is_refused(array):
    """A line raises ValueError and nothing else, however odd it is."""
    with pytest.raises(ValueError):
        from_json(json.dumps(array))
    assert lines_of_json(b'{"a": 1}\n' + json.dumps(array).encode() + b"\n") == [{"a": 1}]


BOMBS = {
    "lists": b"[" + b"[]," * (20 * 2**20) + b"[]]", "braces": b"[" + b"{}," * (20 * 2**20) + b"{}]",
    "numbers": b"[" + b"1," * (30 * 2**20) + b"1]", "names": b'{"":1,' * (10 * 2**20),
    "texts": b"[" + b'"",' * (20 * 2**20) + b'""]', "one text": b'"' + b"x" * (60 * 2**20) + b'"',
    "escapes": b'"' + b"\\n" * (30 * 2**20) + b'"', "lines": b"\n" * (60 * 2**20),
    "many lines": (b"[" + b"[]," * 1000 + b"[]]\n") * 20000, "an integer": b"9" * (60 * 2**20),
    "surrogates": b'"' + b"\\ud83d\\ude00" * (5 * 2**20) + b'"',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_the_memory_for_lines_is_bounded(name):
    """Ten times the largest output of a process. Without the bound on parts, lists take thirty."""
    program = """
import resource, sys, vae
from vae_grading.json_lines import lines_of_json
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lines_of_json(sys.stdin.buffer.read())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    used = subprocess.run([sys.executable, "-c", program], input=BOMBS[name], check=True,
                          stdout=subprocess.PIPE).stdout
    assert float(used) < 640


@pytest.mark.slow
def test_as_many_parts_as_are_allowed():
    """They take less than 500 MB."""
    for unit in ("[],", '"%d":{},'):
        n = MAX_PARTS // (unit.count(",") + unit.count("[") + unit.count("{") + unit.count(":"))
        body = "".join(unit % i if "%" in unit else unit for i in range(n - 2))[:-1]
        text = f"[{body}]" if unit == "[]," else "{" + body + "}"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        from_json(text)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024
    with pytest.raises(ValueError, match="parts"):
        from_json("[" + "[]," * MAX_PARTS + "[]]")


def test_a_graph_that_takes_too_long_is_no_endless_loop():
    looping, waiting = (_why("time", Limits(timeout=7.), is_measuring) for is_measuring in (0, 1))
    assert "за 7 с: нет ли бесконечного цикла" in looping
    assert "7 с, но граф ещё вычислялся. Дело не в бесконечном цикле" in waiting
