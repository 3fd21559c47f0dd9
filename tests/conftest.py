import vae  # noqa: F401  before anything imports Theano

import os
from pathlib import Path

import matplotlib
import pooch
import pytest

import utils

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder with the four original MNIST files."""
    folder = Path(os.environ.get("MNIST_DIR") or pooch.os_cache("vae-seminar") / "mnist")
    if not all((folder / name).is_file() for name in utils.SHA256):
        pytest.skip("needs the full MNIST: run the seminar once, or set MNIST_DIR to its folder")
    return folder
