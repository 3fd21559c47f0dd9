"""The texts of reports, and the pages that contain them.

Students choose the names of their notebooks and the texts of their errors. So
all texts are escaped or cleaned: markup, formulas and control characters in
them have no effect.
"""

import re
from dataclasses import replace
from pathlib import Path

from babel import Locale
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vae.checks import EXERCISES
from vae.language import N_, _, language

__all__ = ["MAX_POINTS", "capital", "headline", "output_of", "page_text", "points_text",
           "printable", "sentence", "students_text", "visible"]

#: The sum of the points of all exercises.
MAX_POINTS = sum(exercise.points for exercise in EXERCISES.values())

#: Characters that XML 1.0 forbids. Among them are lone surrogates, which cannot be encoded.
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(grade):
    """Return a copy of a grade with texts that contain only characters valid in all reports.

    Parameters
    ----------
    grade : vae_grading.grader.Grade

    Returns
    -------
    vae_grading.grader.Grade
    """
    def clean(text):
        return _UNPRINTABLE.sub("\ufffd", re.sub("\r\n?", "\n", text))

    return replace(grade, name=visible(grade.name), note=clean(grade.note), verdicts=[
        replace(verdict, hint=clean(verdict.hint), traceback=clean(verdict.traceback),
                code=clean(verdict.code)) for verdict in grade.verdicts])


def visible(name):
    r"""Return a name in which escapes replace all characters that cannot be printed.

    Bytes that are not UTF-8 become escapes such as ``\xc8``, other characters such as ``\u202e``.

    Parameters
    ----------
    name : str
        May contain surrogates for bytes that are not UTF-8, as in `os.fsdecode`.

    Returns
    -------
    str
    """
    return "".join(character if character.isprintable() else
                   f"\\x{ord(character) - 0xdc00:02x}" if "\udc80" <= character <= "\udcff" else
                   character.encode("unicode_escape", "surrogatepass").decode()
                   for character in name)


def points_text(number):
    """Return a number with the word for "points" in the form that agrees with it.

    Parameters
    ----------
    number : int or float

    Returns
    -------
    str
        Translated to the reader's language.
    """
    form = _form(number, N_("{number} балл"), N_("{number} балла"), N_("{number} баллов"))
    return _(form, number=number)


def students_text(number):
    """Return the word for "students" in the form that agrees with a number, without the number.

    Parameters
    ----------
    number : int

    Returns
    -------
    str
        Translated to the reader's language.
    """
    form = _form(number, N_("студент"), N_("студента"), N_("студентов"))
    return _(form)


def _form(number, one, few, many):
    """Return the form of a word that agrees with a number in the reader's language.

    See Unicode's plural rules. Russian uses `few` for fractions, too.
    """
    category = Locale.parse(language()).plural_form(number)
    return {"one": one, "many": many}.get(category, few)


def capital(text):
    """Return a text with a capital first letter.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return text[:1].upper() + text[1:]


def sentence(text):
    """Capitalise a text if it begins with a Russian word, but not if it begins with code.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return capital(text) if "а" <= text[:1] <= "ё" else text


def headline(verdict):
    """Return the first line of a verdict's hint.

    Parameters
    ----------
    verdict : vae_grading.grader.Verdict

    Returns
    -------
    str
    """
    return verdict.hint.strip().partition("\n")[0]


def output_of(verdict):
    """Convert a verdict to plain text: the hint and the student's lines.

    Parameters
    ----------
    verdict : vae_grading.grader.Verdict

    Returns
    -------
    str
    """
    if verdict.passed:
        return _("Верно.")
    lines = _("Ваши строки, в которых возникла ошибка") + f":\n{verdict.traceback}"
    return sentence(verdict.hint) + (f"\n\n{lines}" if verdict.traceback else "")


# --- pages ---

_ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                           undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(points=points_text, students=students_text, sentence=sentence,
                            capital=capital)
_ENVIRONMENT.globals.update(_=_, language=language, exercises=EXERCISES, max_points=MAX_POINTS)


def page_text(template, **values):
    """Fill a template.

    Parameters
    ----------
    template : str
        Name of an HTML file in this folder.
    **values
        Variables of the template.

    Returns
    -------
    str
        HTML.
    """
    return _ENVIRONMENT.get_template(template).render(values)
