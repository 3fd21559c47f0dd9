"""Random graphs have the same results as in Theano's own code; a short ``fuzz_numbers.py``."""

import sys

import pytest
import theano

from fuzz_numbers import Fuzzer
from random_graphs import KINDS, PARTS, kind_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="its pipes are not those of POSIX")]

#: Kinds that are not tested with a compiler: a loop of Scan has about fifty modules.
_SLOWLY_COMPILED = {"recurrences", "states"}


@pytest.mark.skipif(not theano.config.cxx, reason="no compiler")
def test_compiled_numbers():
    assert_right(Fuzzer(with_compiler=True), set(KINDS) - _SLOWLY_COMPILED, first_seed=3, files=[])


def test_numbers_without_a_compiler():
    assert_right(Fuzzer(with_compiler=False), set(KINDS), first_seed=0,
                 files=["fuse_updates", "expressions"])


def first_of_each(kinds, first_seed):
    """Return the first part of each kind in programs from `first_seed` on, as {seed: numbers}."""
    programs, missing, seed = {}, set(kinds), first_seed
    while missing:
        for number in range(PARTS):
            kind = kind_of(seed, number)
            if kind in missing:
                missing.remove(kind)
                programs.setdefault(seed, []).append(number)
        seed += 1
    return programs


def assert_right(fuzzer, kinds, first_seed, files):
    try:
        wrong = [line for seed, numbers in first_of_each(kinds, first_seed).items()
                 for line in fuzzer.run(seed, numbers, files)]
    finally:
        fuzzer.stop()
    assert not wrong, "\n".join(wrong)
    compared = {kind: counts["parts"] - counts["unwritten"] - counts["raised"]
                for kind, counts in fuzzer.counts.items()}
    assert compared == dict.fromkeys(kinds, 1)
