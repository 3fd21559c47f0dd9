"""``pytest --notebook=PATH``: grade a student's notebook with the tests of the exercises."""

from pathlib import Path

import pytest

from vae.checks import EXERCISES
from vae.language import _


def pytest_addoption(parser):
    parser.addoption("--notebook", metavar="PATH", type=Path,
                     help="grade a student's notebook: only tests/seminar/test_exercises.py runs, "
                          "on it; written with =, because pytest takes other paths for tests")


def pytest_configure(config):
    """Stop immediately if packages that the grader needs are missing."""
    if config.getoption("--notebook") is None:
        return
    try:
        import vae_grading.grader  # noqa: F401
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f'{error}: pip install -e ".[grading]"') from None


def pytest_ignore_collect(collection_path, config):
    if config.getoption("--notebook") is not None and collection_path.suffix == ".py":
        return collection_path.name != "test_exercises.py"


def pytest_terminal_summary(terminalreporter):
    """Show the points that `test_exercise` has recorded, in this or in other processes."""
    recorded = [dict(getattr(report, "user_properties", []))
                for reports in terminalreporter.stats.values() for report in reports]
    points = {properties["exercise"]: properties["points"] for properties in recorded
              if "exercise" in properties}
    if points:
        terminalreporter.section("points")
        for number, exercise in EXERCISES.items():
            terminalreporter.line(_("Упражнение {number} ({title}): {points} из {full}",
                                    number=number, title=exercise.title, points=points.get(number, 0),
                                    full=exercise.points))
        terminalreporter.line(_("Всего: {points} из {full}",
                                points=sum(points.values()),
                                full=sum(exercise.points for exercise in EXERCISES.values())))
