"""The reader's language.

The text in the code is Russian. A gettext catalogue, ``locale/LANGUAGE.po``, translates it into
another language; ``python -m tools.translations`` brings the catalogues up to date. What a
catalogue lacks is English, or else Russian.
"""

import locale
import os
from functools import lru_cache
from pathlib import Path

__all__ = ["language", "languages", "use_language", "is_translated", "translate", "Text", "N_", "_"]

FOLDER = Path(__file__).with_name("locale")
SOURCE = "ru"
_FALLBACK = "en"
_chosen = None


def languages():
    """Return the codes of all languages, first that of the source."""
    return [SOURCE, *_catalogues_in(FOLDER)]


@lru_cache(maxsize=None)
def _catalogues_in(folder):
    return sorted(path.stem for path in folder.glob("*.po"))


def language():
    """Return the code of the language of messages.

    `use_language` chooses it, or else the variable ``VAE_LANGUAGE``, or else the user's locale. By
    default it is Russian; for a locale without a catalogue it is English.
    """
    if _chosen is not None:
        return _chosen
    if os.environ.get("VAE_LANGUAGE"):
        return _known(os.environ["VAE_LANGUAGE"])
    name = _locale().partition(".")[0].partition("_")[0].lower()
    if name in ("", "c", "posix"):
        return SOURCE
    return name if name in languages() else _FALLBACK


def use_language(name):
    """Choose the language of all messages from now on.

    Parameters
    ----------
    name : str
        A code, such as "ru" or "en".

    Raises
    ------
    ValueError
        If there is no catalogue for this language.
    """
    global _chosen
    _chosen = _known(name)


def _known(name):
    if name != SOURCE and name not in languages():
        raise ValueError(f"Got the language {name!r}, expected one of {languages()}")
    return name


def _locale():
    if os.name == "nt":
        from ctypes import windll

        return locale.windows_locale.get(windll.kernel32.GetUserDefaultUILanguage(), "")
    return next(filter(None, map(os.environ.get, ["LC_ALL", "LC_MESSAGES", "LANG"])), "")


@lru_cache(maxsize=None)
def _translations(name):
    """Return a dict from each Russian text to its translation; empty without a catalogue."""
    if name not in languages()[1:]:
        return {}
    from babel.messages.pofile import read_po

    with open(FOLDER / f"{name}.po", "rb") as file:
        return {message.id: message.string for message in read_po(file)
                if message.id and message.string and not message.fuzzy}


def is_translated(text, name):
    """Tell whether a Russian text has a translation into a language, or needs none."""
    return name == SOURCE or text in _translations(name)


def translate(text, name):
    """Return a Russian text in a language, or else in English; unchanged without a translation."""
    if is_translated(text, name):
        return _translations(name).get(text, text)
    return _translations(_FALLBACK).get(text, text)


class Text(str):
    """A text in the reader's language that knows what it was made from.

    Attributes
    ----------
    template : str
        In Russian.
    values : dict
        Of its placeholders.
    """

    @classmethod
    def of(cls, text, template, values):
        made = cls(text)
        made.template, made.values = template, values
        return made

    def __reduce__(self):  # copies are plain
        return str, (str(self),)


def N_(text):
    """Mark a text that is translated later, where it is shown."""
    return text


def _(text, /, **values):
    """Return a text in the reader's language, with values in its placeholders if there are any."""
    translated = translate(text, language())
    return Text.of(translated.format(**values) if values else translated, text, values)
