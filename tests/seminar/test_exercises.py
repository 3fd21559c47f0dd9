"""The exercises of the solved notebook, or of a student's notebook: ``pytest --notebook=PATH``."""

from pathlib import Path

import pytest

from vae.checks import EXERCISES
from vae_grading.grader import Reference, grade
from vae_grading.submissions import read_file

SOLVED = Path(__file__).parents[2] / "notebooks" / "solution" / "vae_seminar_solution.ipynb"


@pytest.fixture(scope="module")
def graded(request):
    path = request.config.getoption("--notebook") or SOLVED
    try:
        content = read_file(path)
    except OSError as error:
        pytest.exit(f"--notebook: {error}", returncode=4)
    return grade(path.stem, content, Reference.read(SOLVED))


@pytest.mark.parametrize("exercise", EXERCISES)
def test_exercise(exercise, graded, record_property):
    verdict, = (verdict for verdict in graded.verdicts if verdict.exercise == exercise)
    record_property("exercise", exercise)
    record_property("points", verdict.points)
    if not verdict.passed:
        pytest.fail("\n".join(filter(None, [verdict.hint, verdict.traceback, graded.note])),
                    pytrace=False)
