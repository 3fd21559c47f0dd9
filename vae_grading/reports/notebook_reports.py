"""The reports of one notebook. They are written as soon as it is graded."""

import json
from dataclasses import asdict, astuple

from vae.checks import EXERCISES
from vae_grading.grader import Grade, Verdict
from vae_grading.reports.files import page_path, results_path, write_file
from vae_grading.reports.texts import capital, output_of, page_text, printable
from vae_grading.sandbox.process import Limits

__all__ = ["read_grade", "results_json", "write_notebook_reports"]


def write_notebook_reports(folder, grade, digest, limits=Limits()):
    """Write the page and the results of one notebook.

    Parameters
    ----------
    folder : path
        Folder of all reports. It is made if it does not exist.
    grade : vae_grading.grader.Grade
    digest : str
        A digest of everything that the grade depends on, except the limits. See `read_grade`.
    limits : vae_grading.sandbox.process.Limits, optional
        The limits under which the notebook was graded.

    Raises
    ------
    ValueError
        If the notebook's name leads out of the folder.
    """
    page, results = page_path(folder, grade.name), results_path(folder, grade.name)
    grade = printable(grade)
    write_file(page, page_text("feedback.html", grade=grade).encode())
    # This file comes last, because it marks the end.
    write_file(results, results_json(grade, digest, limits).encode())


def read_grade(folder, name, digest, limits=Limits()):
    """Return the grade of a notebook whose reports exist.

    Parameters
    ----------
    folder : path
        Folder of all reports.
    name : str
        Name of the notebook in reports.
    digest : str
        A digest of everything that the grade depends on, except the limits.
    limits : vae_grading.sandbox.process.Limits, optional
        The limits of this run.

    Returns
    -------
    vae_grading.grader.Grade or None
        None if there are no reports, if they are damaged, have another digest
        or come from another version. Also None if the limits of this run might
        change the grade: if the notebook reached a limit, larger limits might;
        if it did not, smaller limits might. Characters that cannot be printed
        are not restored.

    Raises
    ------
    ValueError
        If the name leads out of the folder.
    """
    page, results = page_path(folder, name), results_path(folder, name)
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


def results_json(grade, digest, limits):
    """Convert a grade to the format of Gradescope's results.json.

    Parameters
    ----------
    grade : vae_grading.grader.Grade
    digest : str
    limits : vae_grading.sandbox.process.Limits
        See `write_notebook_reports`.

    Returns
    -------
    str
        JSON. Its ``extra_data`` contains the grade, the digest and the limits.
    """
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
