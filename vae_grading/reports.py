"""Grades as tables and pages.

For each notebook, as soon as it is graded::

    feedback/<name>.html     a page for its author
    results/<name>.json      what a later run resumes from, in Gradescope's format

For the class::

    grades.xlsx, grades.csv  tables
    junit.xml                for a CI server

Students choose the names of their notebooks and the texts of their errors. So
all texts are escaped or cleaned: markup, formulas and control characters in
them have no effect.
"""

import csv
import errno
import io
import json
import os
import re
import secrets
import tempfile
from dataclasses import asdict, astuple, replace
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import xlsxwriter
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vae.checks import EXERCISES
from vae.language import _, language
from vae_grading.grader import Grade, Verdict
from vae_grading.sandbox.process import Limits

__all__ = ["check_folder", "read_grade", "results_json", "write_class_reports",
           "write_notebook_reports"]

_LONGEST_CELL = 32767  # characters: Excel's limit
_MAX_POINTS = sum(exercise.points for exercise in EXERCISES.values())

#: Characters that XML 1.0 forbids. Among them is half a surrogate pair, which cannot be encoded.
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPORT = re.compile(r"\.(html|json)_*$", re.I)
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")


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
    page, results = _paths(folder, grade.name)
    grade = _printable(grade)
    _write(page, _page(grade).encode())
    _write(results, results_json(grade, digest, limits).encode())  # last: it marks the end


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
    page, results = _paths(folder, name)
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


def write_class_reports(folder, grades):
    """Write the tables of a class.

    Parameters
    ----------
    folder : path
        Of all reports; made if it does not exist.
    grades : iterable of vae_grading.grader.Grade
    """
    grades = sorted(map(_printable, grades), key=lambda grade: grade.name)
    _write(Path(folder, "grades.csv"), _table(grades).encode("utf-8-sig"))  # BOM: for Excel
    _write(Path(folder, "grades.xlsx"), _workbook(grades))
    _write(Path(folder, "junit.xml"), _junit(grades))


# --- files ---

def _paths(folder, name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"Got the name {name!r}, expected a path inside the class's folder")
    # A folder called x.html would collide with the page of a notebook x.
    *folders, last = name.split("/")
    name = "/".join([*(_REPORT.sub(r"\g<0>_", part) for part in folders), last])
    return Path(folder, "feedback", f"{name}.html"), Path(folder, "results", f"{name}.json")


def check_folder(folder):
    """Make the folder of reports; raise OSError if reports cannot be written into it."""
    for place in [Path(folder), Path(folder, "feedback"), Path(folder, "results")]:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    for name in ["grades.csv", "grades.xlsx", "junit.xml"]:
        if Path(folder, name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR),
                                    str(Path(folder, name)))


def _write(path, content):
    """Write a file atomically: a run that is killed leaves the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short, however long the name is
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# --- texts ---

def _printable(grade):
    def clean(text):
        return _UNPRINTABLE.sub("\ufffd", re.sub("\r\n?", "\n", text))

    return replace(grade, name=_visible(grade.name), note=clean(grade.note), verdicts=[
        replace(verdict, hint=clean(verdict.hint), traceback=clean(verdict.traceback),
                code=clean(verdict.code)) for verdict in grade.verdicts])


def _visible(name):
    r"""Return a name in visible characters: bytes that are not UTF-8 as \xc8, others as \u202e."""
    return "".join(character if character.isprintable() else
                   f"\\x{ord(character) - 0xdc00:02x}" if "\udc80" <= character <= "\udcff" else
                   character.encode("unicode_escape", "surrogatepass").decode()
                   for character in name)


def _points(number):
    """Return a number with the form of the Russian word for "points" that agrees with it."""
    if number % 10 == 1 and number % 100 != 11:
        return _("{number} балл", number=number)
    if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14):
        return _("{number} балла", number=number)
    return _("{number} баллов", number=number)


def _capital(text):
    return text[:1].upper() + text[1:]


def _sentence(text):
    """Capitalise a text that begins with a Russian word, but not one that begins with code."""
    return _capital(text) if "а" <= text[:1] <= "ё" else text


def _output(verdict):
    if verdict.passed:
        return _("Верно.")
    lines = _("Ваши строки, в которых возникла ошибка") + f":\n{verdict.traceback}"
    return _sentence(verdict.hint) + (f"\n\n{lines}" if verdict.traceback else "")


# --- of one notebook ---

_ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                           undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(points=_points, sentence=_sentence, capital=_capital)
_ENVIRONMENT.globals.update(_=_, language=language)


def _page(grade):
    return _ENVIRONMENT.get_template("feedback.html").render(
        grade=grade, exercises=EXERCISES, max_points=_MAX_POINTS)


def results_json(grade, digest, limits):
    """Return a grade and what it depends on, in the format of Gradescope's results.json."""
    grade = _printable(grade)
    return json.dumps({
        "output": grade.note,
        "output_format": "text",  # by default it would be HTML
        "visibility": "visible",
        "tests": [{
            "number": str(verdict.exercise),
            "name": _capital(EXERCISES[verdict.exercise].title),
            "name_format": "text",
            "score": verdict.points,
            "max_score": EXERCISES[verdict.exercise].points,
            "status": "passed" if verdict.passed else "failed",
            "output": _output(verdict),
            "output_format": "text",
        } for verdict in grade.verdicts],
        "extra_data": {"digest": digest, "limits": asdict(limits), **asdict(grade)},
    }, ensure_ascii=False, indent=1)


# --- of the class ---

def _cell(text):
    return f"./{text}" if _FORMULA.match(text) else text


_HEADER = ["notebook", *(f"exercise {number}" for number in EXERCISES), "total", "of", "note"]


def _rows(grades):
    for grade in grades:
        points = {verdict.exercise: verdict.points for verdict in grade.verdicts}
        note = " ".join(grade.note.replace(";", ",").split())
        yield [_cell(grade.name), *(points.get(number, 0) for number in EXERCISES),
               grade.points, _MAX_POINTS, _cell(note)]


def _table(grades):
    file = io.StringIO()
    # A Russian Excel splits lines at semicolons; quotes keep it from splitting names.
    csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows([_HEADER, *_rows(grades)])
    return file.getvalue()


def _workbook(grades):
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as workbook:
        sheet = workbook.add_worksheet("grades")
        for number, row in enumerate([_HEADER, *_rows(grades)]):
            for column, value in enumerate(row):
                if isinstance(value, str):  # never a formula or a number
                    sheet.write_string(number, column, value[:_LONGEST_CELL])
                else:
                    sheet.write_number(number, column, value)
        sheet.freeze_panes(1, 1)
        sheet.set_column(0, 0, 40)
        sheet.set_column(1, len(_HEADER) - 2, 11)
        sheet.set_column(len(_HEADER) - 1, len(_HEADER) - 1, 80)
    return file.getvalue()


def _junit(grades):
    verdicts = [verdict for grade in grades for verdict in grade.verdicts]
    root = ElementTree.Element("testsuites", _counts(verdicts), name="vae_grading")
    for grade in grades:
        suite = ElementTree.SubElement(root, "testsuite", _counts(grade.verdicts), name=grade.name)
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in [("points", str(grade.points)), ("max_points", str(_MAX_POINTS)),
                            ("note", grade.note)]:
            ElementTree.SubElement(properties, "property", name=name, value=value)
        for verdict in grade.verdicts:
            title = f"{verdict.exercise}. {EXERCISES[verdict.exercise].title}"
            case = ElementTree.SubElement(suite, "testcase", classname=grade.name, name=title)
            if not verdict.passed:
                message = verdict.hint.strip().partition("\n")[0]
                ElementTree.SubElement(case, "failure", message=message).text = _output(verdict)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _counts(verdicts):
    failures = sum(not verdict.passed for verdict in verdicts)
    return {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0"}
