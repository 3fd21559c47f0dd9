"""The reports of a class. They are written after the reports of all notebooks."""

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from vae.checks import EXERCISES
from vae_grading.grader import Grade
from vae_grading.reports.class_page import class_page
from vae_grading.reports.files import page_path, write_file
from vae_grading.reports.spreadsheet import table, workbook
from vae_grading.reports.texts import MAX_POINTS, headline, output_of, printable, visible
from vae_grading.submissions import Student

__all__ = ["StudentGrade", "write_class_reports"]


@dataclass
class StudentGrade:
    """The result of one student."""

    student: Student
    grade: Grade  #: the grade of the best notebook; named after the folder if there is no notebook
    other_grades: list[Grade] = field(default_factory=list)  #: the grades of other notebooks

    @classmethod
    def best_of(cls, student, grades):
        """Return the result of a student. The best notebook counts.

        Parameters
        ----------
        student : vae_grading.submissions.Student
        grades : list of Grade
            One for each notebook, at least one.

        Returns
        -------
        StudentGrade
        """
        best, *other_grades = sorted(grades, key=lambda grade: -grade.points)
        return cls(student, best, other_grades)

    @property
    def page(self):
        """The path of the student's page, relative to the folder of all reports."""
        return page_path("", self.grade.name).as_posix()


def write_class_reports(folder, results):
    """Write the reports of a class. The reports of all notebooks must exist.

    Parameters
    ----------
    folder : path
        Folder of all reports. It is made if it does not exist.
    results : iterable of StudentGrade
    """
    results = sorted(results, key=_alphabetical)
    write_file(Path(folder, "grades.csv"), table(results).encode("utf-8-sig"))  # Excel needs a BOM
    write_file(Path(folder, "grades.xlsx"), workbook(results))
    write_file(Path(folder, "index.html"), class_page(results).encode())
    write_file(Path(folder, "junit.xml"), _junit([printable(result.grade) for result in results]))
    archive = Path(folder, "moodle_feedback.zip")
    if any(result.student.id for result in results):
        write_file(archive, _moodle_feedback(folder, results))
    else:
        archive.unlink(missing_ok=True)  # an archive of an earlier run


def _alphabetical(result):
    return result.student.folder.casefold().replace("ё", "е"), result.student.folder


def _moodle_feedback(folder, results):
    """Return the archive for Moodle's "Upload multiple feedback files in a zip".

    Moodle identifies the student by the name of the folder, which it has given to the submission.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for result in results:
            page = Path(folder, result.page)
            if result.student.id and page.is_file():
                entry = zipfile.ZipInfo(f"{visible(result.student.folder)}/feedback.html")
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, page.read_bytes())
    return file.getvalue()


def _junit(grades):
    verdicts = [verdict for grade in grades for verdict in grade.verdicts]
    root = ElementTree.Element("testsuites", _counts(verdicts), name="vae_grading")
    for grade in grades:
        suite = ElementTree.SubElement(root, "testsuite", _counts(grade.verdicts), name=grade.name)
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in [("points", str(grade.points)), ("max_points", str(MAX_POINTS)),
                            ("note", grade.note)]:
            ElementTree.SubElement(properties, "property", name=name, value=value)
        for verdict in grade.verdicts:
            title = f"{verdict.exercise}. {EXERCISES[verdict.exercise].title}"
            case = ElementTree.SubElement(suite, "testcase", classname=grade.name, name=title)
            if not verdict.passed:
                ElementTree.SubElement(
                    case, "failure", message=headline(verdict)).text = output_of(verdict)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _counts(verdicts):
    failures = sum(not verdict.passed for verdict in verdicts)
    return {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0"}
