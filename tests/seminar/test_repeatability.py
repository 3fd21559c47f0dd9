"""The notebook has the same results, no matter which checks are run in between."""

import re

import lasagne
import numpy as np
import pytest

from tools import build
from vae.checks import Mistake, check

pytestmark = pytest.mark.process


def numbers(before_exercise=lambda number, names: None):
    """Run the notebook up to the training; return random numbers that training would depend on.

    Parameters
    ----------
    before_exercise : callable
        ``(number, names) -> None``, called before each exercise's cell and, as number 6, after the
        last one.
    """
    names = {}
    for cell in build.solution().cells:
        tag = next(iter(cell.metadata.get("tags", [])), "")
        if tag == "training":
            before_exercise(6, names)
            batch = np.random.rand(*names["X_train"][:20].shape) < names["X_train"][:20]
            return [float(names["elbo_at_test"](batch)) for _ in range(3)]
        if tag.startswith("exercise"):
            before_exercise(int(tag[-1]), names)
        if cell.cell_type == "code" and not cell.source.startswith(("check", "show_source", "plot")):
            exec(re.sub(r"^%.*$", "", cell.source, flags=re.M), names)


def test_checks_in_between_change_no_number(mnist_dir, capsys):
    def check_twice(number, names):
        if number > 1:
            check(number - 1, names)
        if number < 6:
            with pytest.raises(Mistake):  # it is not done yet
                check(number, names)

    assert numbers() == numbers(check_twice)


def test_a_check_moves_no_generator_that_lasagne_was_given(monkeypatch, capsys):
    def encoder(input_x):
        raise ValueError(lasagne.random.get_rng().rand())

    monkeypatch.setattr(lasagne.random, "_rng", np.random.RandomState(1))
    with pytest.raises(Mistake):
        check(2, dict(HIDDEN_DIM=2, vae_encoder_mlp=encoder))
    assert lasagne.random.get_rng().rand() == np.random.RandomState(1).rand()
