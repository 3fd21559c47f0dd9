import os
import signal

os.environ["VAE_LANGUAGE"] = "ru"  # not that of the locale

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore it, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import vae  # noqa: F401  before Theano

import warnings
import zlib
from collections import Counter
from pathlib import Path

import lasagne
import matplotlib
import numpy as np
import pooch
import pytest

import utils
from programs import Session
from vae.checks import Mistake
from vae.mnist import SHA256

matplotlib.use("Agg")


#: Hints that answers in the tests have produced: (test, text).
HINTS = []


def pytest_addoption(parser, pluginmanager):
    """Add --hints; accept pyproject.toml's options of plugins even where these are missing."""
    parser.addoption("--hints", action="store_true",
                     help="list the hints that answers in the tests get, and the points if they "
                          "are graded: pytest --hints tests/seminar/test_checks.py "
                          "tests/grading/test_grading.py")
    if not pluginmanager.hasplugin("xdist"):
        parser.addoption("--dist", help="ignored: pytest-xdist is not installed")
        parser.addoption("--no-loadscope-reorder", action="store_true", help="ignored as well")
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "ignored: pytest-timeout is not installed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Run the files with the longest tests first, so that no process waits for another at the end.

    pytest-xdist gives each process a whole file, in the order of the files here.
    """
    weights = {"browser": 100, "process": 2, "slow": 2}
    weight_of_file = Counter()
    for item in items:
        weight_of_file[item.path] += 1 + sum(
            weight for mark, weight in weights.items() if item.get_closest_marker(mark))
    items.sort(key=lambda item: -weight_of_file[item.path])


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--hints"):
        terminalreporter.section("hints")
        for test, hint in HINTS:
            terminalreporter.write_line(test, bold=True)
            for line in Mistake(hint)._render_traceback_():
                terminalreporter.write_line(f"    {line}".replace("\n", "\n    "))


@pytest.fixture(autouse=True)
def seeded_by_the_name(request, monkeypatch):
    """Each test draws the same numbers in every run, whatever other tests have drawn or set.

    Lasagne draws weights, and the distributions their seeds, from NumPy's global generator.
    """
    monkeypatch.setattr(lasagne.random, "_rng", np.random)
    np.random.seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder with the four original MNIST files, which are downloaded if necessary."""
    folder = Path(os.environ.get("MNIST_DIR") or pooch.os_cache("vae-seminar") / "mnist")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.load_dataset()
    if not all((folder / name).is_file() for name in SHA256):
        pytest.skip("needs the full MNIST: a network, or MNIST_DIR with its folder")
    return folder


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A session whose cache is kept between tests."""
    return Session(tmp_path_factory.mktemp("home"))
