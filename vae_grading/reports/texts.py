"""The texts of reports, and the pages that are made of them.

Students choose the names of their notebooks and the texts of their errors. So
all texts are escaped or cleaned: markup, formulas and control characters in
them have no effect.
"""

import re
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vae.checks import EXERCISES
from vae.language import _, language

__all__ = ["MAX_POINTS", "capital", "headline", "output_of", "page_text", "points_text",
           "printable", "sentence", "visible"]

#: Of all exercises together.
MAX_POINTS = sum(exercise.points for exercise in EXERCISES.values())

#: Characters that XML 1.0 forbids. Among them is half a surrogate pair, which cannot be encoded.
_UNPRINTABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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


# --- pages ---

_ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                           undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(points=points_text, sentence=sentence, capital=capital)
_ENVIRONMENT.globals.update(_=_, language=language, exercises=EXERCISES, max_points=MAX_POINTS)


def page_text(template, **values):
    """Return a page, made from a template in this folder."""
    return _ENVIRONMENT.get_template(template).render(values)
