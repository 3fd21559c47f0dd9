"""Grades as files for people and for other programs.

::

    feedback/<name>.html     a page for the author of a notebook
    results/<name>.json      its grade in Gradescope's format, from which a later run resumes
    grades.xlsx, grades.csv  tables, with a row for each student
    index.html               an overview of the class
    moodle_feedback.zip      the students' pages, for uploading to Moodle
    junit.xml                for a CI server

``notebook_reports``, ``feedback.html``
    write the files in ``feedback`` and ``results`` as soon as a notebook is graded;
``class_reports``
    writes all other files, with the help of ``spreadsheet`` for the tables, and of ``class_page``
    and ``class_page.html`` for the overview;
``texts``, ``page.html``
    make texts safe for each format, and fill the templates of pages;
``files``
    finds the paths of reports, and writes files.
"""

from vae_grading.reports.class_reports import StudentGrade, write_class_reports
from vae_grading.reports.files import check_folder
from vae_grading.reports.notebook_reports import read_grade, results_json, write_notebook_reports

__all__ = ["StudentGrade", "check_folder", "read_grade", "results_json", "write_class_reports",
           "write_notebook_reports"]
