"""The nbgrader course, made, generated and autograded by the commands that a lecturer runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools import build
from vae.checks import EXERCISES

pytestmark = pytest.mark.process

ROOT = Path(build.__file__).parent.parent
NAME = "vae_seminar"  # of the course, its assignment and the assignment's notebook
POINTS = {f"check-{number}": exercise.points for number, exercise in EXERCISES.items()}
QUESTIONS = ["question-1", "question-2", "question-3"]

TIMEOUT = """
from nbgrader.preprocessors import Execute
from traitlets.config import PyFileConfigLoader
print(Execute(config=PyFileConfigLoader("nbgrader_config.py").load_config()).timeout)
"""
GRADES = """
import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db", "vae_seminar") as gradebook:
    print(json.dumps({
        submission.student.id: {grade.name: [grade.auto_score, grade.needs_manual_grade]
                                for notebook in submission.notebooks for grade in notebook.grades}
        for submission in gradebook.assignment_submissions("vae_seminar")}))
"""


def run(*arguments, cwd, **variables):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, text=True,
                          env=dict(os.environ, **variables),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_in(course, *arguments):
    """Run Python in a course's folder, without the user's Jupyter settings; return its output."""
    folders = {name: str(course.parent / name)
               for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    process = run(*arguments, cwd=course, JUPYTER_PATH="", JUPYTER_PREFER_ENV_PATH="1", **folders)
    assert process.returncode == 0, process.stderr
    return process.stdout


def ask(course, script):
    """Return the JSON that a script prints.

    The script imports nbgrader, so it runs in a new process: after Theano, nbgrader's old
    setuptools cannot be imported.
    """
    return json.loads(run_in(course, "-c", script))


def notebook_in(course, *folders):
    return course.joinpath(*folders, NAME, f"{NAME}.ipynb")


def is_exercise(cell):
    return any(tag.startswith("exercise") for tag in cell.metadata.get("tags", []))


def tagged(notebook, tag):
    cell, = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


def change(cell, old, new):
    assert old in cell.source
    cell.source = cell.source.replace(old, new)


# --- the lecturer's notebook ---

def test_the_metadata_say_what_is_solved_checked_and_read():
    cells = [cell.metadata for cell in build.instructor().cells if "nbgrader" in cell.metadata]
    assert [[cell.nbgrader.grade_id] for cell in cells] == [cell.tags for cell in cells]
    roles = {cell.nbgrader.grade_id: (cell.nbgrader.solution, cell.nbgrader.grade,
                                      cell.nbgrader.locked, cell.nbgrader.get("points"))
             for cell in cells}
    assert roles == {
        **{f"exercise-{number}": (True, False, False, None) for number in EXERCISES},
        **{check: (False, True, True, points) for check, points in POINTS.items()},
        **{question: (True, True, False, 0) for question in QUESTIONS}}


def test_it_is_the_solved_notebook_with_markers_and_the_tasks_comments():
    for cell, solved, student in zip(*(notebook.cells for notebook in (
            build.instructor(), build.solution(), build.student()))):
        lines, solved, student = (each.source.split("\n") for each in (cell, solved, student))
        solved = [line.replace("train_more = True", "train_more = False") for line in solved]
        comment = [line for line in student if line.strip().startswith("#") and line not in solved]
        assert len(comment) >= 2 if is_exercise(cell) else not comment
        assert [line for line in lines if line in comment] == comment
        assert solved == [line for line in lines if line not in comment and line.strip() not in
                          ("### BEGIN SOLUTION", "### END SOLUTION")]


# --- making the course ---

def test_the_course_can_be_made_again_but_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build", "--nbgrader", str(tmp_path)])
    files = [tmp_path / "nbgrader_config.py", notebook_in(tmp_path, "source")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine \xff")
        with pytest.raises(SystemExit, match="2"):
            build.main()
        assert f"{path} exists with other content" in capsys.readouterr().err
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
        assert path.read_bytes() == b"mine \xff"
        path.unlink()
    for _ in range(2):
        build.main()
        assert capsys.readouterr().out.split() == [str(path) for path in files]


# --- nbgrader's commands ---

@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with the assignment generated."""
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    process = run("-m", "tools.build", "--nbgrader", folder, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    run_in(folder, "-m", "nbgrader", "generate_assignment", NAME)
    return folder


def released(course):
    return nbformat.read(notebook_in(course, "release"), as_version=4)


def test_the_release_is_the_students_notebook(course):
    notebooks = released(course), build.student(), build.solution()
    assert len({len(notebook.cells) for notebook in notebooks}) == 1
    for release, student, solution in zip(*(notebook.cells for notebook in notebooks)):
        if not is_exercise(release):
            assert release.source == student.source
            continue
        release, student, solution = (
            set(cell.source.split("\n")) for cell in (release, student, solution))
        assert not release & (solution - student)
        assert {line.strip() for line in release - student} == {
            "# YOUR CODE HERE", "raise NotImplementedError()"}
        assert not [line for line in student - release if line.strip().startswith("#")]


def test_a_cell_has_time_to_train(course):
    assert ask(course, TIMEOUT) == 1800


def solved(course):
    """The release, solved, with less training and one answer."""
    notebook, solution = released(course), build.solution()
    for number in EXERCISES:
        tag = f"exercise-{number}"
        tagged(notebook, tag).source = tagged(solution, tag).source
    start = next(cell for cell in notebook.cells if "num_epochs = 10" in cell.source)
    change(start, "num_epochs = 10", "num_epochs = 1")
    start.source += "\nX_train, X_test = X_train[:4000], X_test[:1000]"
    change(tagged(notebook, "question-1"), "*Ваш ответ:*", "*Ваш ответ:* softplus")
    return notebook


@pytest.fixture(scope="module")
def grades(course):
    """By student and cell: the automatic score, and whether a person must grade it."""
    wrong = solved(course)
    change(tagged(wrong, "exercise-2"), "nonlinearity=None", "nonlinearity=T.tanh")
    change(tagged(wrong, "exercise-5"), "loss = -elbo", "loss = elbo")
    change(tagged(wrong, "check-2"), "check(2)", "print('верно')")
    for student, notebook in [("idle", released(course)), ("right", solved(course)),
                              ("wrong", wrong)]:
        path = notebook_in(course, "submitted", student)
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    run_in(course, "-m", "nbgrader", "autograde", NAME)
    return ask(course, GRADES)


@pytest.mark.slow
def test_an_untouched_notebook_gets_nothing(grades):
    assert grades["idle"] == {cell: [0, False] for cell in [*POINTS, *QUESTIONS]}


def test_right_solutions_get_all_points_and_an_answer_is_to_be_read(grades):
    assert grades["right"] == {**{check: [points, False] for check, points in POINTS.items()},
                               "question-1": [None, True],
                               "question-2": [0, False], "question-3": [0, False]}


def test_wrong_solutions_get_none_even_if_the_check_was_changed(grades):
    assert grades["wrong"] == {**grades["right"], "check-2": [0, False], "check-5": [0, False]}


def test_a_right_notebook_is_run_to_its_end(course, grades):
    notebook = nbformat.read(notebook_in(course, "autograded", "right"), as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 8
    picture, printed = tagged(notebook, "training").outputs  # without the progress bar
    assert "image/png" in picture.data and printed.text.startswith("Эпоха 1: ")
