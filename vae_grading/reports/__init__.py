"""Grades as files for people and for other programs.

::

    feedback/<name>.html     a page for the author of a notebook
    results/<name>.json      its grade in Gradescope's format, from which a later run resumes
    grades.xlsx, grades.csv  tables, with a row for each student
    index.html               the class at a glance
    moodle_feedback.zip      the students' pages, as Moodle takes them back
    junit.xml                for a CI server

``notebook_reports``, ``feedback.html``
    the first two, written as soon as a notebook is graded;
``class_reports``
    all others, with ``spreadsheet`` for the tables, and ``class_page`` and ``class_page.html`` for
    the page;
``texts``, ``page.html``
    what pages and tables say, safe in each format;
``files``
    where reports are, and how they are written.
"""

from vae_grading.reports.class_reports import StudentGrade, write_class_reports
from vae_grading.reports.files import check_folder
from vae_grading.reports.notebook_reports import read_grade, results_json, write_notebook_reports

__all__ = ["StudentGrade", "check_folder", "read_grade", "results_json", "write_class_reports",
           "write_notebook_reports"]
