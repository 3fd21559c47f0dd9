"""A plugin with which pytest runs the tests that Theano 1.0.5 installs. They were written for nose.

`failures.txt` lists the tests that are expected to fail, with reasons. The run fails if
a listed test passes, or if an unlisted test fails. A heading that ends in "with a
compiler" or "without a compiler" applies only to runs with or without a compiler.
"""

import functools
import inspect
import os
import sys
import unittest
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

# The settings with which Theano's authors ran their tests, then the user's, such as cxx=.
os.environ["THEANO_FLAGS"] = ",".join([
    "floatX=float64,warn.ignore_bug_before=all,on_opt_error=raise,on_shape_error=raise",
    os.environ.get("THEANO_FLAGS", "")])

import vae  # noqa: F401  before anything imports Theano

import nose.tools
import numpy as np
import pytest
import theano

# What the tests use, but NumPy 1.25 and 1.26 and Python 3.12 have removed.
np.testing.dec = SimpleNamespace(skipif=unittest.skipIf)
stack = np.vstack
np.vstack = lambda arrays: stack(list(arrays))
nose.tools.assert_equals = unittest.TestCase().assertEqual

SITE_PACKAGES = Path(theano.__file__).parents[1]


def read_failures(file):
    """Return the reason for each test in the list; it begins with the heading."""
    reasons = {}
    heading, other_way = "", "without a compiler" if theano.config.cxx else "with a compiler"
    for line in file.read_text().splitlines():
        if line.startswith("# "):
            heading = line[2:]
        elif line.startswith("theano/") and not heading.endswith(f", {other_way}"):
            test, _, reason = line.partition(" ")
            reasons[test] = f"{heading}: {reason.strip()}" if reason else heading
    return reasons


def pytest_collection_modifyitems(items):
    reasons = read_failures(Path(__file__).with_name("failures.txt"))
    for item in items:
        _, *names = item.nodeid.split("::")
        file = item.path.relative_to(SITE_PACKAGES)
        item.user_properties.append(("folder", file.parent.as_posix()))
        test = "::".join([file.as_posix(), *names])
        if test in reasons:
            item.add_marker(pytest.mark.xfail(strict=True, reason=reasons[test]))


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector, name, obj):
    """Let a test that yields others run them all, one after the other.

    Names that begin with an underscore are not tests, whatever they derive from.
    Classes made by a function of another module belong to the one they are in.
    """
    if name.startswith("_") or getattr(obj, "__name__", name) == "parameterized_expand_wrapper":
        return []
    if (inspect.isclass(obj) and issubclass(obj, unittest.TestCase)
            and not hasattr(sys.modules.get(obj.__module__), name)):
        obj.__module__ = collector.getparent(pytest.Module).obj.__name__
    if not (inspect.isgeneratorfunction(obj) and collector.istestfunction(obj, name)):
        return

    @functools.wraps(obj)
    def test(*args):
        for case in obj(*args):
            function, *arguments = case if isinstance(case, tuple) else (case,)
            function(*arguments)

    setattr(collector.obj, name, test)
    return list(collector._genfunctions(name, test))


@pytest.fixture(autouse=True)
def as_nose_did(request, tmp_path, monkeypatch):
    """Run in an empty folder; also call `setUp` of classes that are not a `TestCase`."""
    monkeypatch.chdir(tmp_path)
    if hasattr(request.instance, "setUp") and not isinstance(request.instance, unittest.TestCase):
        request.instance.setUp()


OUTCOMES = ["passed", "failed", "error", "xfailed", "xpassed", "skipped"]


def pytest_terminal_summary(terminalreporter):
    """Print a table in Markdown: the tests of each folder, and modules that have not run."""
    counts = defaultdict(Counter)
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", []))
            counts[properties.get("folder", "whole modules")][outcome] += 1
    rows = [["folder", *OUTCOMES], ["---"] + ["---:"] * len(OUTCOMES),
            *([folder, *(str(counts[folder][outcome]) for outcome in OUTCOMES)]
              for folder in sorted(counts))]
    for row in rows:
        terminalreporter.write_line(f"| {' | '.join(row)} |")
