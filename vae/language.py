"""The reader's language.

The texts in the code are Russian. A gettext catalogue, ``locale/LANGUAGE.po``, translates them into
another language; ``python -m tools.translations`` updates the catalogues. If a catalogue lacks a
text, it is shown in English, or in Russian if there is no English translation either.
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
    """Return the codes of all languages.

    Returns
    -------
    list of str
        ``"ru"``, then the languages that have catalogues.
    """
    return [SOURCE, *_catalogues_in(FOLDER)]


@lru_cache(maxsize=None)
def _catalogues_in(folder):
    return sorted(path.stem for path in folder.glob("*.po"))


def language():
    """Return the code of the language of messages.

    `use_language` has priority over the environment variable ``VAE_LANGUAGE``, which has priority
    over the user's locale. If the locale is not set, the language is Russian. If there is no
    catalogue for the locale, the language is English.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If ``VAE_LANGUAGE`` names a language without a catalogue.
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
    """Return a dict from Russian texts to their translations; it is empty without a catalogue."""
    if name not in languages()[1:]:
        return {}
    from babel.messages.pofile import read_po

    with open(FOLDER / f"{name}.po", "rb") as file:
        return {message.id: message.string for message in read_po(file)
                if message.id and message.string and not message.fuzzy}


def is_translated(text, name):
    """Return whether a Russian text has a translation into a language, or needs none.

    Parameters
    ----------
    text : str
    name : str
        Code of the language.

    Returns
    -------
    bool
    """
    return name == SOURCE or text in _translations(name)


def translate(text, name):
    """Translate a Russian text.

    Parameters
    ----------
    text : str
    name : str
        Code of the language.

    Returns
    -------
    str
        The text in this language, or else in English, or else the Russian text.
    """
    if is_translated(text, name):
        return _translations(name).get(text, text)
    return _translations(_FALLBACK).get(text, text)


class Text(str):
    """A text in the reader's language, with the template and the values that it was made from.

    Attributes
    ----------
    template : str
        The Russian text with placeholders.
    values : dict
        Maps the names of the placeholders to their values.
    """

    @classmethod
    def of(cls, text, template, values):
        """Return a `Text` with these attributes.

        Parameters
        ----------
        text : str
            The translation of the template, with the values in its placeholders.
        template : str
        values : dict
        """
        made = cls(text)
        made.template, made.values = template, values
        return made

    def __reduce__(self):  # copies and pickles are plain strings
        return str, (str(self),)


def N_(text):
    """Mark a text for translation; it is translated later, where it is shown.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        The same text.
    """
    return text


def _(text, /, **values):
    """Translate a text into the reader's language.

    Parameters
    ----------
    text : str
        The Russian text.
    **values
        Values of its placeholders. Without values, braces in the text are not interpreted.

    Returns
    -------
    Text
    """
    translated = translate(text, language())
    return Text.of(translated.format(**values) if values else translated, text, values)
