"""``pytest --notebook PATH``: grade a student's notebook with the exercises' own tests."""

from pathlib import Path

import pytest

from vae.checks import EXERCISES

#: In ``config.stash``: the points of each exercise, once graded.
POINTS = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--notebook", metavar="PATH", type=Path,
                     help="grade a student's notebook: only tests/test_exercises.py runs, on it")


def pytest_ignore_collect(collection_path, config):
    if config.getoption("--notebook") is not None and collection_path.suffix == ".py":
        return collection_path.name != "test_exercises.py"


def pytest_terminal_summary(terminalreporter, config):
    points = config.stash.get(POINTS, {})
    if points:
        terminalreporter.section("points")
        for number, exercise in EXERCISES.items():
            terminalreporter.line(
                f"Упражнение {number} ({exercise.title}): {points[number]} из {exercise.points}")
        terminalreporter.line(f"Всего: {sum(points.values())} из "
                              f"{sum(exercise.points for exercise in EXERCISES.values())}")
