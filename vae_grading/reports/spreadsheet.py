"""Tables of the grades of a class, as an xlsx file and as CSV.

The header is English in all languages, so that other programs can rely on it.
"""

import csv
import io
import re
from urllib.parse import quote

import xlsxwriter

from vae.checks import EXERCISES
from vae_grading.reports.texts import MAX_POINTS, printable, visible

__all__ = ["HEADER", "table", "workbook"]

HEADER = ["student", "id", "folder", "notebook", *(f"exercise {number}" for number in EXERCISES),
          "total", "of", "note", "other notebooks"]

_LONGEST_CELL, _LONGEST_LINK = 32767, 2000  # characters; these are Excel's limits
_NARROWEST, _WIDEST = 6, 60  # widths of columns, in digits
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_NOT_IN_LINKS = re.compile(r"""[\x00-\x20"#%<>?\[\\\]^`{|}\x7f]""")


def table(results):
    """Return the table of a class as CSV.

    Parameters
    ----------
    results : list of vae_grading.reports.StudentGrade

    Returns
    -------
    str
    """
    file = io.StringIO()
    # A Russian Excel splits lines at semicolons. Quotes keep it from splitting the name, which is
    # first.
    csv.writer(file, quoting=csv.QUOTE_NONNUMERIC).writerows([HEADER, *map(_row, results)])
    return file.getvalue()


def workbook(results):
    """Return the table of a class as an xlsx file. Each student's name is a link to their page.

    Parameters
    ----------
    results : list of vae_grading.reports.StudentGrade

    Returns
    -------
    bytes
    """
    file = io.BytesIO()
    rows = [_row(result) for result in results]
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet("grades")
        bold = book.add_format({"bold": True, "bottom": 1})
        as_link = book.add_format({"font_color": "#0563C1", "underline": True})
        for column, title in enumerate(HEADER):
            sheet.write_string(0, column, title, bold)
            # The title needs additional space for the arrow of the filter.
            longest = max([len(title) + 3, *(len(str(row[column])) + 1 for row in rows)])
            sheet.set_column(column, column, min(max(longest, _NARROWEST), _WIDEST))
        for number, (row, result) in enumerate(zip(rows, results), start=1):
            for column, value in enumerate(row):
                if isinstance(value, str):  # `write` would make formulas and numbers of some texts
                    sheet.write_string(number, column, value[:_LONGEST_CELL])
                else:
                    sheet.write_number(number, column, value)
            link = _link(result.page)
            if link:
                sheet.write_url(number, 0, link, as_link, row[0][:_LONGEST_CELL])
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, len(rows), len(HEADER) - 1)
    return file.getvalue()


def _row(result):
    student, grade = result.student, printable(result.grade)
    points = {verdict.exercise: verdict.points for verdict in grade.verdicts}
    other_notebooks = ", ".join(
        f"{visible(other_grade.name)} ({other_grade.points})"
        for other_grade in result.other_grades)
    return [_cell(visible(student.name)), int(student.id) if student.id else "",
            _plain(visible(student.folder)), _plain(grade.name if student.notebooks else ""),
            *(points.get(number, 0) for number in EXERCISES), grade.points, MAX_POINTS,
            _plain(grade.note), _plain(other_notebooks)]


def _plain(text):
    """Return a text on one line without semicolons, changed so that it is not a formula."""
    return _cell(" ".join(text.replace(";", ",").split()))


def _cell(text):
    return f"./{text}" if _FORMULA.match(text) else text


def _link(path):
    """Return a link to a file next to the workbook, or None if a link cannot express its path."""
    link = _NOT_IN_LINKS.sub(lambda match: quote(match[0]), path)
    try:
        link.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8
        return None
    return f"external:{link}" if len(link) <= _LONGEST_LINK else None
