"""The checks are fast, because NumPy evaluates their graphs and nothing is compiled."""

import os
import signal
import threading
import time

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T
from theano.compile.builders import OpFromGraph
from theano.ifelse import ifelse
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.shared_randomstreams import RandomStreams

from test_notebooks import Kernel, code_cells, tagged
from tools import build
from vae import progress
from vae.checks import numpy_functions
from vae.checks.numpy_functions import function

needs_compiler = pytest.mark.skipif(not theano.config.cxx, reason="needs a compiler")

#: Imports, answers and checks of the solved notebook.
NOTEBOOK = """
import os, sys
import vae, theano
from tools import build

def modules():
    return {name for name in os.listdir(theano.config.compiledir) if name.startswith("tmp")}

sys.stdout = open(os.devnull, "w")  # of the checks
before, names = modules(), {}
imports, *cells = [cell for cell in build.solution().cells if cell.cell_type == "code"]
exec(imports.source.replace("%", "#"), names)
for cell in cells:
    if cell.metadata.get("tags", [""])[0].startswith(("exercise", "check")):
        exec(cell.source.replace(")", ", globals())") if "check(" in cell.source
             else cell.source, names)
print(theano.config.cxx != "", len(modules() - before), file=sys.__stdout__)
"""


@pytest.mark.slow
@needs_compiler
def test_checks_compile_nothing(session, mnist_dir):
    shown = session.quietly(NOTEBOOK, MNIST_DIR=str(mnist_dir), MPLBACKEND="Agg")
    assert shown.splitlines()[-1] == "True 0"


def loop(x):
    """The sums over the rows up to each of them."""
    return theano.scan(lambda row, total: T.tanh(row + total), sequences=x,
                       outputs_info=T.zeros_like(x[0]))[0]


GRAPHS = {
    "loop": loop,
    "loop in a loop": lambda x: theano.scan(lambda row: loop(T.outer(row, row)), sequences=x)[0],
    "gradient of a loop": lambda x: T.grad(T.sum(loop(x)), x),
    "choice": lambda x: ifelse(T.gt(x[0, 0], 0), T.exp(x), T.log1p(T.exp(x))),
    "streams of MRG": lambda x: x + MRG_RandomStreams(1).normal(x.shape),
    "streams of NumPy": lambda x: x + RandomStreams(1).normal(x.shape),
    "dropout": lambda x: lasagne.layers.get_output(lasagne.layers.DropoutLayer(
        lasagne.layers.InputLayer((None, 6), x))),
    "sort": lambda x: T.sort(x, axis=0)[T.argsort(x[:, 0])],
    "convolution": lambda x: T.nnet.conv2d(x.dimshuffle("x", "x", 0, 1), x[:3, :3].dimshuffle(
        "x", "x", 0, 1)),
    "pooling": lambda x: T.signal.pool.pool_2d(x, (2, 2), ignore_border=True),
    "inverse": lambda x: T.nlinalg.matrix_inverse(T.dot(x, x.T) + T.eye(4)),
    "softplus of large numbers": lambda x: T.log1p(T.exp(200 * x)),
    "graph as an operation": lambda x: OpFromGraph([x], [T.exp(x) + x])(T.sqr(x)),
}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if "loop" in name else name for name in GRAPHS])
def test_numbers_are_those_of_other_functions(name):
    x = T.matrix("x")
    values = np.random.RandomState(0).normal(size=(4, 6)).astype(x.dtype)
    lasagne.random.set_rng(np.random.RandomState(1))
    computed = [function([x], GRAPHS[name](x))(values)]
    lasagne.random.set_rng(np.random.RandomState(1))
    expected = [theano.function([x], GRAPHS[name](x))(values)]
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("name", ["loop", "graph as an operation"])
def test_operations_do_not_keep_what_numpy_computes(name):
    """Otherwise the student's own functions would be slow."""
    x = T.matrix("x")
    result = GRAPHS[name](x)
    operations = [node.op for node in theano.gof.graph.io_toposort([x], [result])]
    function([x], result)(np.ones((4, 6), x.dtype))
    assert not any(hasattr(op, "fn") for op in operations)


class InC(theano.gof.Op):
    """x + 1, for which there is only code in C."""

    __props__ = ()

    def make_node(self, x):
        return theano.gof.Apply(self, [x], [x.type()])

    def c_code(self, node, name, inputs, outputs, sub):
        return f"""
            Py_XDECREF({outputs[0]});
            {outputs[0]} = (PyArrayObject*)PyArray_NewCopy({inputs[0]}, NPY_ANYORDER);
            for (npy_intp i = 0; i < PyArray_SIZE({outputs[0]}); i++)
                ((npy_float32*)PyArray_DATA({outputs[0]}))[i] += 1;"""


@needs_compiler
def test_what_numpy_cannot_compute_is_compiled():
    x, total = T.fmatrix("x"), theano.shared(0.)
    evaluate = function([x], InC()(x), updates=[(total, total + 1)])
    for n_calls in [1, 2]:
        assert (evaluate(np.zeros((2, 3), "float32")) == 1).all()
        assert total.get_value() == n_calls


@needs_compiler
def test_a_students_error_is_not_computed_twice(monkeypatch):
    x, y = T.matrices("x", "y")
    add = function([x, y], x + y)
    monkeypatch.setattr(theano, "function", None)  # calling it would fail
    with pytest.raises(ValueError, match="mis-match"):
        add(np.ones((2, 3), x.dtype), np.ones((3, 3), x.dtype))


def test_settings_are_restored():
    before = theano.config.cxx, theano.config.cache_optimizations
    with pytest.raises(KeyboardInterrupt):
        with numpy_functions._without_compiler():
            assert (theano.config.cxx, theano.config.cache_optimizations) == ("", False)
            raise KeyboardInterrupt
    assert (theano.config.cxx, theano.config.cache_optimizations) == before


def test_the_bar_of_a_long_check(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_DELAY", 0.)
    monkeypatch.setattr(progress, "_TICK", 0.01)
    with progress.progress_of_a_check("Check"):
        time.sleep(0.3)
        progress.expect(4)
        progress.advance()
        time.sleep(0.3)
        with progress.stage("Compiling"):
            time.sleep(0.3)
        time.sleep(0.3)
    shown = [text.strip() for text in capsys.readouterr().out.split("\r")]
    kinds = [text.split("|")[0] for text in shown if text]
    assert list(dict.fromkeys(kinds)) == ["Check: 00:00", "Check:  25%", "Compiling: 00:00"] \
        or any("00:01" in kind for kind in kinds)  # on a busy machine
    assert shown[-1] == "" and progress._bar is None


def test_there_is_no_bar_of_a_quick_check_nor_without_a_check(capsys):
    with progress.progress_of_a_check("Check"):
        progress.expect(4)
        progress.advance()
    progress.expect(4)
    progress.advance()
    with progress.stage("Compiling"):
        pass
    assert capsys.readouterr().out == ""


def test_a_bar_that_is_interrupted_does_not_stop_the_bars_of_other_threads(capsys):
    bar = progress.progress_bar("Epoch", range(3))
    bar.display = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        bar.refresh()
    thread = threading.Thread(target=progress.progress_bar("Check").refresh, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    del bar.display
    bar.close()


#: Interrupts the check after some seconds, and tells whether everything is as before.
INTERRUPTED = """
import os, random, signal, threading
timer = threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGINT))
timer.start()
try:
    check({exercise}, globals())
finally:
    timer.cancel()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows interrupts kernels in another way")
def test_interrupts_at_any_moment_of_a_check(mnist_dir):
    kernel = Kernel()
    try:
        notebook = build.solution()
        cells = code_cells(notebook)
        kernel.run_cells(cell for cell in cells[:cells.index(tagged(notebook, "check-5"))]
                         if not cell.source.startswith("check("))
        kernel.run("before = [parameter.get_value() for parameter in params]\n"
                   "compiler = theano.config.cxx")
        random, outcomes = np.random.RandomState(0), set()
        for exercise in [1, 2, 3, 4, 5, 5] * 5:
            delay = random.uniform(0.02, 2 if exercise == 5 else 0.5)
            _output, error = kernel.run(INTERRUPTED.format(delay=delay, exercise=exercise),
                                        whole=True)
            assert error in (None, [f"Проверка упражнения {exercise} прервана."])
            outcomes.add(error is None)
            assert kernel.run(
                "print(theano.config.cxx == compiler, all(np.array_equal(parameter.get_value(), "
                "value) for parameter, value in zip(params, before)))")[0] == "True True\n"
        assert False in outcomes
    finally:
        kernel.shut_down()
