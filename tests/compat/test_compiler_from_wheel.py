"""The wheel ziglang compiles Theano's C++ if no other compiler is installed."""

import os
import sys

import numpy as np
import pytest
from programs import PRELUDE, SMALL, SMALL_ANSWER, TRAINING_STEP, Session

pytestmark = [
    pytest.mark.process, pytest.mark.skipif(sys.platform != "linux", reason="tried on Linux only")]
pytest.importorskip("ziglang", reason="needs the extra `compiler`, which is large")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session whose PATH has no compiler, and whose cache is kept between tests."""
    session = Session(tmp_path_factory.mktemp("home"))
    session.environment["PATH"] = str(tmp_path_factory.mktemp("empty"))
    return session


@pytest.fixture(scope="module")
def first_step(session):
    return session.quietly(TRAINING_STEP)


def launcher(session):
    path, = session.cache.glob("vae-seminar/ziglang/*/clang++")
    return path


def losses(text):
    return [float(value) for value in text.strip("[]").split(",")]


def test_a_training_step_is_compiled_and_right(session, first_step, tmp_path):
    by_gcc = Session(tmp_path).quietly(TRAINING_STEP, PATH=os.environ["PATH"])
    np.testing.assert_allclose(losses(first_step), losses(by_gcc), rtol=1e-3)
    out = session.quietly(TRAINING_STEP + """
assert all(hasattr(thunk, "cthunk") for thunk in train.fn.thunks)
print(theano.config.cxx)
""")
    assert out == f"{first_step}\n{launcher(session)}"


def test_matrix_products_are_right(session):
    session.quietly(PRELUDE + """
random = np.random.RandomState(0)
x, w, v = T.matrix(), T.matrix(), T.vector()
f = theano.function([x, w, v], [T.dot(x, w), T.dot(w, v), T.dot(v, v)])
names = {type(node.op).__name__ for node in f.maker.fgraph.toposort()}
assert {"Dot22", "CGemv"} <= names, names
a, b, c = (random.normal(size=s).astype("float32") for s in [(64, 33), (33, 33), (33,)])
for value, answer in zip(f(a, b, c), [a @ b, b @ c, c @ c]):
    np.testing.assert_allclose(value, answer, rtol=1e-3, atol=1e-3)
""")


def test_what_stays_in_theanos_own_loops_is_compiled(session):
    """For clang some of Theano's C++ is an error that g++ accepts."""
    session.quietly(PRELUDE + """
x, n, halves = T.lmatrix(), T.lvector(), T.TensorType("float16", (False, False))()
f = theano.function([x, n, halves], [x // n, T.sqr(halves)])
quotients, squares = f(np.arange(6).reshape(2, 3), [1, 2, 3], np.full((2, 2), 3, "float16"))
assert quotients.tolist() == [[0, 0, 0], [3, 2, 1]] and squares.tolist() == [[9, 9], [9, 9]]
""")


def test_the_next_process_compiles_nothing(session, first_step):
    def libraries():
        return {path: path.stat().st_mtime_ns for path in session.cache.rglob("*.so")}

    before = libraries()
    assert len(before) > 5
    assert session.quietly(TRAINING_STEP) == first_step
    assert libraries() == before


def test_everything_that_it_keeps_is_in_our_cache(session, first_step):
    assert {path.name for path in session.cache.iterdir()} == {"vae-seminar"}
    home = session.cache.parent
    assert {path.name for path in home.iterdir()} == {"cache"}


def test_a_compiler_that_is_installed_comes_first(session):
    assert "ziglang" not in session.quietly(
        PRELUDE + "print(theano.config.cxx)", PATH=os.environ["PATH"])


def test_a_cache_that_cannot_be_written(tmp_path):
    session = Session(tmp_path)
    session.cache.write_text("a file where the folder should be")
    out, err = session.run(SMALL, PATH=str(tmp_path / "empty"))
    assert out == SMALL_ANSWER
    assert err.count("Warning") == 1 and "нельзя хранить" in err
