"""Theano where there is no C++ compiler: on whole arrays, and the same results.

Run as a program, this file saves the results of all `graphs`, as Theano is
configured then.
"""

import os
import subprocess
import sys
from pathlib import Path

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import pytest
import scipy.sparse
import theano
import theano.sparse
import theano.tensor as T
from programs import TRAINING_STEP, Session
from theano import scalar, shared
from theano.sandbox.multinomial import ChoiceFromUniform
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.nnet.blocksparse import sparse_block_dot
from theano.tensor.nnet.neighbours import images2neibs
from theano.tensor.signal.pool import pool_2d, pool_3d

from vae.compat import expressions, formulas

HERE = Path(__file__).parent


# --- operations whose Python goes number by number, and others that a network needs ---

def numbers(*shape, seed=0, low=-1., high=1.):
    values = np.random.RandomState(seed).uniform(low, high, size=shape)
    return shared(values.astype("float32"))


def indices(*shape, high, seed=0):
    return shared(np.random.RandomState(seed).randint(high, size=shape))


def with_gradients(result, *variables):
    """A result, and the gradient of a function that no symmetry makes simple."""
    weights = T.cos(T.arange(result.size, dtype="float32")).reshape(result.shape, result.ndim)
    return [result, *theano.grad(T.sum(weights * result), variables)]


def convolutions():
    images, filters = numbers(3, 4, 9, 8), numbers(6, 4, 3, 2, seed=1)
    for name, options in {
            "": {}, ", full": {"border_mode": "full"}, ", half": {"border_mode": "half"},
            ", padded": {"border_mode": (2, 1)}, ", strided": {"subsample": (2, 3)},
            ", dilated": {"filter_dilation": (2, 3)}, ", not flipped": {"filter_flip": False},
            ", all of it": {"border_mode": (1, 2), "subsample": (2, 1), "filter_dilation": (1, 2),
                            "filter_flip": False}}.items():
        yield f"conv2d{name}", with_gradients(
            T.nnet.conv2d(images, filters, **options), images, filters)
    grouped = numbers(6, 2, 3, 2, seed=1)
    yield "conv2d in groups", with_gradients(
        T.nnet.conv2d(images, grouped, num_groups=2), images, grouped)
    own = numbers(6, 7, 7, 4, 3, 2, seed=1)
    yield "conv2d, unshared", with_gradients(
        T.nnet.conv2d(images, own, unshared=True, filter_shape=(6, 7, 7, 4, 3, 2)), images, own)
    volumes, cubes = numbers(2, 3, 6, 7, 5), numbers(4, 3, 3, 2, 2, seed=1)
    yield "conv3d", with_gradients(
        T.nnet.conv3d(volumes, cubes, border_mode=(1, 0, 1), subsample=(1, 2, 1)), volumes, cubes)
    for mode in ("valid", "full"):
        yield f"old conv2d, {mode}", with_gradients(theano.tensor.nnet.conv.conv2d(
            images, filters, border_mode=mode), images, filters)
    yield "old conv2d, strided", [theano.tensor.nnet.conv.conv2d(
        images, filters, subsample=(2, 1))]


def poolings():
    images = numbers(2, 3, 9, 10)
    for mode in ("max", "sum", "average_inc_pad", "average_exc_pad"):
        for name, options in {
                "": {"ws": (2, 3), "ignore_border": True},
                ", with its border": {"ws": (2, 3), "ignore_border": False},
                ", strided": {"ws": (3, 2), "stride": (2, 1), "ignore_border": True},
                ", padded": {"ws": (3, 3), "stride": (2, 2), "pad": (1, 2),
                             "ignore_border": True}}.items():
            pooled = pool_2d(images, mode=mode, **options)
            has_gradient = mode != "average_exc_pad" or "pad" not in options
            yield f"{mode}{name}", with_gradients(pooled, images) if has_gradient else [pooled]
    volumes = numbers(2, 6, 7, 5)
    yield "max of volumes", with_gradients(pool_3d(volumes, ws=(2, 3, 2), ignore_border=True),
                                           volumes)
    yield "sum of integers", [pool_2d(T.cast(10 * images, "int32"), ws=(2, 2), mode="sum",
                                      ignore_border=True)]
    gradient = theano.grad(T.sum(pool_2d(images, ws=(2, 2), ignore_border=True) ** 3), images)
    yield "second gradient of max", [theano.grad(T.sum(gradient ** 2), images)]
    yield "directional derivative of max", [theano.tensor.Rop(
        pool_2d(images, ws=(2, 2), ignore_border=True), images, T.cos(images))]


def classifications():
    x, bias, target = numbers(7, 5, low=-20, high=20), numbers(5, seed=1), indices(7, high=5)
    yield "softmax", with_gradients(T.nnet.softmax(x), x)
    yield "softmax with a bias", with_gradients(T.nnet.softmax(x + bias), x, bias)
    yield "log softmax", with_gradients(T.nnet.logsoftmax(x), x)
    probabilities = T.nnet.softmax(x + bias)
    yield "cross-entropy of softmax", with_gradients(
        T.nnet.categorical_crossentropy(probabilities, target), x, bias)
    yield "mean cross-entropy of softmax", [theano.grad(
        T.mean(T.nnet.categorical_crossentropy(probabilities, target)), x)]
    some = numbers(7, 5, low=0.1, high=1)
    yield "cross-entropy", with_gradients(T.nnet.categorical_crossentropy(some, target), some)
    yield "most likely", [T.argmax(probabilities, axis=1), T.max(x, axis=0)]


def draws():
    for dtype in ("float32", "float64"):
        stream = MRG_RandomStreams(7)
        yield f"uniform, {dtype}", [stream.uniform((300, 70), dtype=dtype),
                                    stream.uniform((5,), dtype=dtype)]
    stream = MRG_RandomStreams(8)
    size = T.cast(numbers(2, low=3, high=9).get_value().astype(int), "int64")
    few = MRG_RandomStreams(9)
    yield "normal", [stream.normal((41, 3)), stream.normal(size, ndim=2),
                     few.uniform((1000,), nstreams=7)]
    chances = T.nnet.softmax(numbers(6, 4, low=-2, high=2))
    yield "choices", [stream.binomial((20, 9), p=0.3), stream.multinomial(pvals=chances),
                      stream.multinomial(n=5, pvals=chances),
                      stream.choice(size=3, p=chances, replace=False),
                      ChoiceFromUniform("auto", replace=True)(chances, numbers(18, low=0), 3)]
    shared_streams = T.shared_randomstreams.RandomStreams(3)
    yield "shared streams", [shared_streams.uniform((4, 3)), shared_streams.normal((4, 3)),
                             shared_streams.binomial((9,), p=0.4), shared_streams.permutation((2,), 6)]


def products():
    x, y = numbers(6, 5), numbers(5, 7, seed=1)
    vector, other, square = numbers(6, seed=2), numbers(5, seed=3), numbers(6, 7, seed=4)
    yield "products", [T.dot(x, y), T.dot(vector, x), T.dot(x, other), T.dot(vector, vector),
                       square + 3 * T.dot(x, y), vector + 2 * T.dot(x, other),
                       x - 0.5 * T.outer(vector, other), T.tensordot(x, y, 1), 2 * T.dot(y.T, x.T)]
    a, b = numbers(4, 3, 5), numbers(4, 5, 2, seed=1)
    yield "batched products", [*with_gradients(T.batched_dot(a, b), a, b),
                               T.batched_dot(a[:, 0], b), T.batched_dot(a, b[:, :, 0]),
                               T.batched_dot(a[:, 0], b[:, :, 0])]
    zeros = shared(np.where(np.eye(5, 7, 2), 0, 1.5).astype("float32"))
    yield "products of elements", with_gradients(T.prod(zeros, axis=1), zeros)
    W, h, o = numbers(4, 3, 5, 6), numbers(2, 3, 5, seed=1), numbers(2, 2, 6, seed=2)
    rows, columns = indices(2, 3, high=4), indices(2, 2, high=3, seed=1)
    yield "products of blocks", with_gradients(
        sparse_block_dot(W, h, rows, o.sum(1)[:3] * 0 + T.zeros((3, 6)), columns), W, h)


def indexing():
    x, i = numbers(6, 5), indices(9, high=6)
    yield "rows", with_gradients(x[i], x)
    yield "elements", with_gradients(x[i, T.mod(i, 5)], x)
    yield "increments", [T.inc_subtensor(x[i], 1.5), T.set_subtensor(x[1:4], 0), x[::-2, 1],
                         T.inc_subtensor(x[i, T.mod(i, 5)], 2)]
    yield "order", [T.sort(x, axis=0), T.argsort(x, axis=1), T.cumsum(x, axis=0),
                    T.repeat(x, 2, axis=1), T.concatenate([x, 2 * x]), T.extra_ops.diff(x, axis=0)]
    images = numbers(2, 3, 6, 9)
    for mode, shape, step in [("valid", (2, 3), (2, 3)), ("valid", (2, 3), (1, 2)),
                              ("ignore_borders", (4, 2), (4, 2)), ("wrap_centered", (3, 5), (2, 3)),
                              ("half", (3, 3), (1, 2)), ("full", (2, 2), (1, 1))]:
        yield f"patches, {mode} {step}", [images2neibs(images, shape, step, mode=mode)]


def loops():
    x, W = numbers(7, 4), numbers(4, 4, seed=1)
    states, updates = theano.scan(lambda x_t, h: T.tanh(x_t + T.dot(h, W)), x, [T.zeros((4,))])
    yield "scan", with_gradients(states, x, W)
    sequences = T.tensor3()
    for layer in (lasagne.layers.RecurrentLayer, lasagne.layers.LSTMLayer, lasagne.layers.GRULayer):
        lasagne.random.set_rng(np.random.RandomState(1))
        network = layer(lasagne.layers.InputLayer((3, 5, 2)), 4)
        value = numbers(3, 5, 2, seed=5)
        yield layer.__name__, with_gradients(
            lasagne.layers.get_output(network, value), *network.get_params(trainable=True)[:3])
    del sequences


def sparse_matrices():
    matrix = scipy.sparse.random(8, 6, 0.4, format="csr", random_state=0, dtype="float32")
    y, row, column = numbers(6, 3), numbers(6, seed=1), numbers(8, seed=2)
    for form in ("csr", "csc"):
        x = shared(matrix.asformat(form))
        yield f"{form}, product", [theano.sparse.dot(x, y)]
        data = shared(matrix.asformat(form).data)
        built = theano.sparse.CSM(form)(data, *(shared(np.asarray(part)) for part in (
            matrix.asformat(form).indices, matrix.asformat(form).indptr,
            np.array(matrix.shape, "int32"))))
        yield f"{form}, structured product", with_gradients(
            theano.sparse.structured_dot(built, y), data, y)
        dense = numbers(8, 6, seed=3)
        yield f"{form}, elements", [
            theano.sparse.dense_from_sparse(result) for result in (
                theano.sparse.mul(x, dense), theano.sparse.structured_exp(x),
                theano.sparse.col_scale(x, row), theano.sparse.row_scale(x, column),
                theano.sparse.add(x, x), theano.sparse.transpose(x))]
        yield f"{form}, sum", [theano.sparse.sp_sum(x, axis=0), x[:, 2:4].toarray()]


def graphs():
    """A dictionary of lists of results, by what they are."""
    return {name: results for part in (
        convolutions, poolings, classifications, draws, products, indexing, loops, sparse_matrices)
        for name, results in part()}


def save(path):
    named = graphs()
    function = theano.function([], [x for results in named.values() for x in results],
                               on_unused_input="ignore")
    values = iter(function())
    np.savez(path, **{f"{name} {k}": np.asarray(next(values)) for name, results in named.items()
                      for k in range(len(results))})


if __name__ == "__main__":
    save(sys.argv[1])
