"""Exercises can be added, removed, changed and reordered by changing only modules and cells.

The tests do this in copies of the project, as described in docs/lecturers.md.
"""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tools import build
from vae.checks import EXERCISES
from vae.checks.exercises import by_number

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "sixth_exercise"

#: Writes the notebooks without executing them, and prints nbgrader's points by cell.
BUILD = """
import json, nbformat
from tools import build
nbformat.write(build.student(), build.STUDENT)
nbformat.write(build.solution(), build.SOLUTION)
for path, text in build._readmes().items():
    path.write_text(text, encoding="utf-8")
print(json.dumps({cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points
                  for cell in build.instructor().cells
                  if "points" in cell.metadata.get("nbgrader", {})}))
"""
#: Runs one cell of an exercise after another, and prints the verdicts, without progress bars.
CHECK = """
import contextlib, io, json, sys, vae, lasagne
import theano.tensor as T
from vae import HIDDEN_DIM
from vae.checks import Mistake, check
verdicts = []
for source in json.load(sys.stdin):
    names = dict(globals())
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(source, names)
            check({number}, names)
        except Mistake as mistake:
            print(mistake)
    verdicts.append(printed.getvalue().rpartition("\\r")[2].strip())
print(json.dumps(verdicts))
"""


class Copy:
    """A copy of the project, with notebooks made from its source.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder.
    """

    def __init__(self, folder):
        self.folder = folder
        for name in ["vae", "vae_grading", "theano_compat", "tools", "notebooks"]:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(
                "__pycache__", "*.ipynb", ".ipynb_checkpoints", "results"))
        (folder / "notebooks" / "solution").mkdir(exist_ok=True)
        for path in [ROOT / "utils.py", *ROOT.glob("README*")]:
            shutil.copy(path, folder)
        self.source = folder / "notebooks" / "vae_seminar.py"
        self.exercises = folder / "vae" / "checks" / "exercises"

    def run(self, *arguments, input=None):
        """Run Python in the copy; return its output."""
        process = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=self.folder, input=input, text=True,
            env=dict(os.environ, PYTHONPATH=str(self.folder)), capture_output=True)
        assert process.returncode == 0, process.stderr
        return process.stdout

    def build(self):
        """Make the notebooks; return nbgrader's points, by the tag of the cell."""
        return json.loads(self.run("-c", BUILD))

    def readme(self):
        """Return the rows of the README's table of exercises."""
        text = (self.folder / "README.md").read_text(encoding="utf-8")
        return re.search(r"^\| # .*\n\| ---.*\n((?:\|.*\n)+)", text, re.M)[1].splitlines()

    def solution(self):
        """Return the solved notebook."""
        return nbformat.read(
            self.folder / "notebooks" / "solution" / "vae_seminar_solution.ipynb", as_version=4)

    def verdicts(self, number, sources):
        """Return what `check` says about cells with other code for an exercise."""
        return json.loads(self.run("-c", CHECK.replace("{number}", str(number)),
                                   input=json.dumps(sources)))

    def grades(self, **notebooks):
        """Grade notebooks; return the rows of the table, each a dict, by the notebook's name."""
        submissions, output = self.folder / "submissions", self.folder / "grades"
        submissions.mkdir()
        for name, notebook in notebooks.items():
            nbformat.write(notebook, submissions / f"{name}.ipynb")
        self.run("-m", "vae_grading", submissions, "-o", output)
        with open(output / "grades.csv", encoding="utf-8-sig", newline="") as file:
            return {row.pop("notebook"): row for row in csv.DictReader(file)}

    def gradescope(self, name):
        """Return the points and the best points of a graded notebook, by number of exercise."""
        results = json.loads(
            (self.folder / "grades" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        return {test["number"]: (test["score"], test["max_score"]) for test in results["tests"]}


def tagged(notebook, tag):
    cell, = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"Got {text.count(old)} of {old!r} in {path}, expected one"
    path.write_text(text.replace(old, new), encoding="utf-8")


def wrong(notebook, tag, old, new):
    """Return a notebook with a mistake in one cell."""
    cell = tagged(notebook, tag)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    return notebook


def section(text, number):
    """Return the cells of an exercise in the notebook's source: from its title to its check."""
    return re.search(rf"# %% \[markdown\]\n(?:# ## [^\n]*\n#\n)?# ### Упражнение {number}\..*?"
                     rf"check\({number}\b[^\n]*\n\n", text, re.S)[0]


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


@pytest.mark.slow
def test_an_exercise_is_added(copy, mnist_dir):
    shutil.copy(EXAMPLE / "iwae.py", copy.exercises)
    with open(copy.source, "a", encoding="utf-8") as file:
        file.write((EXAMPLE / "cells.py").read_text(encoding="utf-8"))
    points = copy.build()
    assert points["check-6"] == 2 and sum(points.values()) == 12
    assert copy.readme()[5:] == ["| 6 | Граница IWAE | 2 |", "| | Total | 12 |"]

    source = tagged(copy.solution(), "exercise-6").source
    answers = {
        source: "✓ Упражнение 6 (граница IWAE): верно.",
        source.replace("T.log(T.mean(T.exp(log_w - largest), axis=0))",
                       "T.mean(log_w - largest, axis=0)"): "то есть ELBO",
        source.replace("T.mean(", "T.sum("): "логарифм суммы",
        "def iwae_bound(log_w):\n    return T.mean(log_w, axis=1)": "получено 7 оценок",
        source.replace(", axis=0", ""): "вектор формы",
        "def iwae_bound(log_w):\n    return T.log(T.mean(T.exp(log_w), axis=0))": "exp(-150)",
        "def iwae_bound(log_w):\n    return T.max(log_w, axis=0)": "не логарифм среднего весов",
        "def iwae_bound(log_w):\n    raise NotImplementedError": "ещё не выполнено",
    }
    for verdict, expected in zip(copy.verdicts(6, list(answers)), answers.values(), strict=True):
        assert expected in verdict

    rows = copy.grades(right=copy.solution(),
                       wrong=wrong(copy.solution(), "exercise-6", "T.mean(", "T.sum("))
    assert rows["right"]["total"] == rows["right"]["of"] == "12" == rows["wrong"]["of"]
    assert rows["wrong"]["exercise 6"] == "0" and rows["wrong"]["total"] == "10"
    assert copy.gradescope("wrong")["6"] == (0, 2)


def test_a_wrong_exercise_costs_no_earlier_one_whether_it_trains_or_not(copy, mnist_dir):
    shutil.copy(EXAMPLE / "iwae.py", copy.exercises)
    change(copy.exercises / "iwae.py", "judge=judge)", "judge=judge, trains=True)")
    with open(copy.source, "a", encoding="utf-8") as file:
        file.write((EXAMPLE / "cells.py").read_text(encoding="utf-8"))
    copy.build()
    mistakes = {"wrong": "return log_w", "ends": "import os; os._exit(1)"}
    rows = copy.grades(**{name: wrong(copy.solution(), "exercise-6", "largest =", f"{code}\n    l =")
                          for name, code in mistakes.items()})
    for name in mistakes:
        assert rows[name]["exercise 5"] == "3" and rows[name]["total"] == "10", rows


@pytest.mark.slow
def test_an_exercise_is_removed(copy, mnist_dir):
    """The others keep their numbers, and take the class that it defined from the package."""
    (copy.exercises / "sample.py").unlink()
    change(copy.source, section(copy.source.read_text(encoding="utf-8"), 1), "")
    change(copy.source, "from vae import BinaryVector,",
           "from vae import BinaryVector, MultivariateNormalDiag,")
    points = copy.build()
    assert [tag for tag in points if tag.startswith("check")] == [
        "check-2", "check-3", "check-4", "check-5"]
    assert [row[:3] for row in copy.readme()] == ["| 2", "| 3", "| 4", "| 5", "| |"]

    solved = copy.solution()
    assert copy.verdicts(2, [tagged(solved, "exercise-2").source]) == [
        "✓ Упражнение 2 (кодировщик): верно."]
    rows = copy.grades(right=copy.solution(), wrong=wrong(
        copy.solution(), "exercise-3", "loc=lasagne.layers.get_output(encoder_mean)",
        "loc=lasagne.layers.get_output(encoder_scale)"))
    assert [column for column in rows["right"] if column.startswith("exercise")] == [
        "exercise 2", "exercise 3", "exercise 4", "exercise 5"]
    assert rows["right"]["total"] == rows["right"]["of"] == "8"
    assert rows["wrong"]["exercise 3"] == "0" and rows["wrong"]["total"] == "7"


@pytest.mark.slow
def test_points_and_order_change(copy, mnist_dir):
    """The encoder comes first, for 3.5 points, and the sample second."""
    change(copy.exercises / "encoder.py", "number=2", "number=1")
    change(copy.exercises / "encoder.py", "points=2", "points=3.5")
    change(copy.exercises / "sample.py", "number=1", "number=2")
    text = copy.source.read_text(encoding="utf-8")
    sample, encoder = section(text, 1), section(text, 2)
    change(copy.source, encoder, "")
    change(copy.source, sample, re.sub(r"(Упражнение |check\(|exercise-|check-)2", r"\g<1>1", encoder)
           + re.sub(r"(Упражнение |check\(|exercise-|check-)1", r"\g<1>2", sample))
    points = copy.build()
    assert points["check-1"] == 3.5 and points["check-2"] == 2
    assert copy.readme()[0] == "| 1 | Encoder | 3.5 |"
    assert copy.readme()[-1] == "| | Total | 11.5 |"

    solved = copy.solution()
    assert copy.verdicts(1, [tagged(solved, "exercise-1").source]) == [
        "✓ Упражнение 1 (кодировщик): верно."]
    rows = copy.grades(right=copy.solution(), wrong=wrong(
        copy.solution(), "exercise-1", "nonlinearity=T.nnet.softplus", "nonlinearity=None"))
    assert rows["right"]["total"] == rows["right"]["of"] == "11.5"
    assert rows["wrong"]["exercise 1"] == "0" and rows["wrong"]["total"] == "8"
    assert copy.gradescope("right")["1"] == (3.5, 3.5)


def test_the_notebook_may_include_a_table_of_the_exercises(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SOURCE", Path(shutil.copy(build.SOURCE, tmp_path)))
    change(build.SOURCE, "# # Вариационный автокодировщик\n",
           "# # Вариационный автокодировщик\n#\n# INCLUDE exercises\n")
    for language, header in [("ru", "| № | Упражнение | Баллы |"), ("en", "| # | Exercise | Points |")]:
        text = build.student(language).cells[0].source
        assert build.table_of_exercises(language) in text and header in text
        assert "INCLUDE" not in text


# --- mistakes of lecturers ---

def some(number, names=("a",), uses=()):
    return dataclasses.replace(EXERCISES[1], number=number, names=names, uses=uses)


def test_numbers_may_have_gaps():
    first, second = some(3), some(7, names=("b",), uses=("a", "BinaryVector"))
    assert list(by_number({"later": second, "earlier": first}).items()) == [(3, first), (7, second)]


@pytest.mark.parametrize("exercises, message", [
    ({"x": some(2), "y": some(2, names=("b",))},
     "Got number 2 in the exercises x and y, expected another number in one of them"),
    ({"x": some("1")}, "Got number '1' of the exercise x, expected a positive integer"),
    ({"x": some(0)}, "Got number 0 of the exercise x, expected a positive integer"),
    ({"x": some(1), "y": some(2)}, "Got a among the names of the exercises x and y, "
                                   "expected it in one"),
    ({"x": some(1, uses=("sampel",))}, "Got 'sampel' in what the exercise x uses, expected names "
                                       "that other exercises or the package vae define"),
    ({"x": some(1, uses=("b",)), "y": some(2, names=("b",))},
     "Got number 1 of the exercise x, expected more than 2: it uses b, which y defines"),
])
def test_exercises_that_contradict_each_other(exercises, message):
    with pytest.raises(ValueError) as caught:
        by_number(exercises)
    assert str(caught.value) == message


@pytest.mark.parametrize("old, new, message", [
    ("exercise-3", "exercise-6", "Got cells tagged .*check-2, exercise-6, check-3.*, "
                                 "expected .*check-2, exercise-3, check-3"),
    ("# %% tags=[\"check-3\"]", "# %%", "Got cells tagged .*exercise-3, exercise-4"),
    ("\ncheck(3", "\ncheck(2",
     "Got 'check.2.*' in the cell tagged check-3 .*, expected check.3...."),
])
def test_cells_that_do_not_match_the_exercises(old, new, message, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SOURCE", Path(shutil.copy(build.SOURCE, tmp_path)))
    change(build.SOURCE, old, new)
    with pytest.raises(ValueError, match=message):
        build.student()
