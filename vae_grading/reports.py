"""The reports of one notebook, written as soon as it is graded.

::

    feedback/<name>.html     a page for its author
    results/<name>.json      what a later run resumes from, in Gradescope's format

`vae_grading.class_reports` writes those of the class.

Students choose the names of their notebooks and the texts of their errors. So
all texts are escaped or cleaned: markup, formulas and control characters in
them have no effect.
"""

import errno
import json
import os
import re
import secrets
import tempfile
from dataclasses import asdict, astuple, replace
from pathlib import Path, PurePosixPath

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vae.checks import EXERCISES
from vae.language import _, language
from vae_grading.grader import Grade, Verdict
from vae_grading.sandbox.process import Limits

__all__ = ["MAX_POINTS", "capital", "check_folder", "headline", "output_of", "page_path", "page_text",
           "points_text", "printable", "read_grade", "results_json", "sentence", "visible",
           "write_file", "write_notebook_reports"]

#: Of all exercises together.
MAX_POINTS = sum(exercise.points for exercise in EXERCISES.values())

#: Characters that XML 1.0 forbids. Among them is half a surrogate pair, which cannot be encoded.
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPORT = re.compile(r"\.(html|json)_*$", re.I)


def write_notebook_reports(folder, grade, digest, limits=Limits()):
    """Write the page and the results of one notebook.

    Parameters
    ----------
    folder : path
        Of all reports; made if it does not exist.
    grade : vae_grading.grader.Grade
    digest : str
        Of all that the grade depends on except the limits; see `read_grade`.
    limits : vae_grading.sandbox.process.Limits, optional
        The limits that it was graded under.

    Raises
    ------
    ValueError
        If the notebook's name leads out of the folder.
    """
    page, results = page_path(folder, grade.name), _results_path(folder, grade.name)
    grade = printable(grade)
    write_file(page, page_text("feedback.html", grade=grade).encode())
    write_file(results, results_json(grade, digest, limits).encode())  # last: it marks the end


def read_grade(folder, name, digest, limits=Limits()):
    """Return the grade of a notebook whose reports exist.

    Parameters
    ----------
    folder : path
        Of all reports.
    name : str
        The notebook's.
    digest : str
        Of everything that the grade depends on, except the limits.
    limits : vae_grading.sandbox.process.Limits, optional
        The limits of this run.

    Returns
    -------
    vae_grading.grader.Grade or None
        None if there are no reports, if they are damaged, have another digest
        or come from another version, or if the limits of this run might change
        the grade: larger limits, if the notebook reached one of them; smaller
        limits, if it reached none. Characters that cannot be printed are not
        restored.

    Raises
    ------
    ValueError
        If the name leads out of the folder.
    """
    page, results = page_path(folder, name), _results_path(folder, name)
    try:
        text = results.read_bytes().decode()
        stored = json.loads(text)["extra_data"]
        grade = Grade(name, [Verdict(**fields) for fields in stored["verdicts"]], stored["note"],
                      stored["exhausted"])
        old_limits = Limits(**stored["limits"])
        is_intact = text == results_json(grade, digest, old_limits) and page.is_file()
        still_holds = all(old >= new if grade.exhausted else old <= new
                          for old, new in zip(astuple(old_limits), astuple(limits)))
        return grade if is_intact and still_holds else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


# --- files ---

def page_path(folder, name):
    """Return the path of a notebook's page.

    Raises
    ------
    ValueError
        If the notebook's name leads out of the folder.
    """
    return Path(folder, "feedback", f"{_file_name(name)}.html")


def _results_path(folder, name):
    return Path(folder, "results", f"{_file_name(name)}.json")


def _file_name(name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"Got the name {name!r}, expected a path inside the class's folder")
    # A folder called x.html would collide with the page of a notebook x.
    *folders, last = name.split("/")
    return "/".join([*(_REPORT.sub(r"\g<0>_", part) for part in folders), last])


def check_folder(folder):
    """Make the folder of reports; raise OSError if reports cannot be written into it."""
    for place in [Path(folder), Path(folder, "feedback"), Path(folder, "results")]:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    for name in ["grades.csv", "grades.xlsx", "index.html", "junit.xml", "moodle_feedback.zip"]:
        if Path(folder, name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR),
                                    str(Path(folder, name)))


def write_file(path, content):
    """Write a file atomically: a run that is killed leaves the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short, however long the name is
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# --- texts ---

def printable(grade):
    """Return a grade whose texts contain only what all reports can."""
    def clean(text):
        return _UNPRINTABLE.sub("\ufffd", re.sub("\r\n?", "\n", text))

    return replace(grade, name=visible(grade.name), note=clean(grade.note), verdicts=[
        replace(verdict, hint=clean(verdict.hint), traceback=clean(verdict.traceback),
                code=clean(verdict.code)) for verdict in grade.verdicts])


def visible(name):
    r"""Return a name in visible characters: bytes that are not UTF-8 as \xc8, others as \u202e."""
    return "".join(character if character.isprintable() else
                   f"\\x{ord(character) - 0xdc00:02x}" if "\udc80" <= character <= "\udcff" else
                   character.encode("unicode_escape", "surrogatepass").decode()
                   for character in name)


def points_text(number):
    """Return a number with the form of the Russian word for "points" that agrees with it."""
    if number % 10 == 1 and number % 100 != 11:
        return _("{number} балл", number=number)
    if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14):
        return _("{number} балла", number=number)
    return _("{number} баллов", number=number)


def capital(text):
    """Return a text whose first letter is a capital."""
    return text[:1].upper() + text[1:]


def sentence(text):
    """Capitalise a text that begins with a Russian word, but not one that begins with code."""
    return capital(text) if "а" <= text[:1] <= "ё" else text


def headline(verdict):
    """Return the first line of a verdict's hint."""
    return verdict.hint.strip().partition("\n")[0]


def output_of(verdict):
    """Return what a verdict says, as plain text."""
    if verdict.passed:
        return _("Верно.")
    lines = _("Ваши строки, в которых возникла ошибка") + f":\n{verdict.traceback}"
    return sentence(verdict.hint) + (f"\n\n{lines}" if verdict.traceback else "")


# --- of one notebook ---

_ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                           undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(points=points_text, sentence=sentence, capital=capital)
_ENVIRONMENT.globals.update(_=_, language=language, exercises=EXERCISES, max_points=MAX_POINTS)


def page_text(template, **values):
    """Return a page, made from a template in this folder."""
    return _ENVIRONMENT.get_template(template).render(values)


def results_json(grade, digest, limits):
    """Return a grade and what it depends on, in the format of Gradescope's results.json."""
    grade = printable(grade)
    return json.dumps({
        "output": grade.note,
        "output_format": "text",  # by default it would be HTML
        "visibility": "visible",
        "tests": [{
            "number": str(verdict.exercise),
            "name": capital(EXERCISES[verdict.exercise].title),
            "name_format": "text",
            "score": verdict.points,
            "max_score": EXERCISES[verdict.exercise].points,
            "status": "passed" if verdict.passed else "failed",
            "output": output_of(verdict),
            "output_format": "text",
        } for verdict in grade.verdicts],
        "extra_data": {"digest": digest, "limits": asdict(limits), **asdict(grade)},
    }, ensure_ascii=False, indent=1)
