"""The reader's language.

The text in the code is Russian. A catalogue of gettext's, ``locale/LANGUAGE.po``, translates it into
another language; ``python -m tools.translations`` brings the catalogues up to date.
"""

import locale
import os
from functools import lru_cache
from pathlib import Path

__all__ = ["language", "languages", "use_language", "translate", "N_", "_"]

FOLDER = Path(__file__).with_name("locale")
SOURCE = "ru"
_chosen = None


def languages():
    """Return the languages there are, the source's first."""
    return [SOURCE, *_catalogues_in(FOLDER)]


@lru_cache(maxsize=None)
def _catalogues_in(folder):
    return sorted(path.stem for path in folder.glob("*.po"))


def language():
    """Return the language that messages are in: what `use_language` was told, or the variable
    ``VAE_LANGUAGE`` says, or the user's locale.

    It is Russian where none of them says anything, and English for a locale that has no catalogue.
    """
    if _chosen is not None:
        return _chosen
    if os.environ.get("VAE_LANGUAGE"):
        return _known(os.environ["VAE_LANGUAGE"])
    name = _locale().partition(".")[0].partition("_")[0].lower()
    if name in ("", "c", "posix"):
        return SOURCE
    return name if name in languages() else "en"


def use_language(name):
    """Choose the language of all messages from now on.

    Parameters
    ----------
    name : str
        As "ru" or "en".

    Raises
    ------
    ValueError
        If there is no catalogue of it.
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
    """Return what is translated into a language, by the Russian text."""
    if name == SOURCE:
        return {}
    from babel.messages.pofile import read_po

    with open(FOLDER / f"{name}.po", "rb") as file:
        return {message.id: message.string for message in read_po(file)
                if message.id and message.string and not message.fuzzy}


def translate(text, name):
    """Return a text in a language, as it is where that has no translation."""
    return _translations(name).get(text, text)


def N_(text):
    """Mark a text that is translated later, where it is shown."""
    return text


def _(text):
    """Return a text in the reader's language."""
    return translate(text, language())
