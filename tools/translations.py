"""Update the catalogues with the translations of the seminar's texts and of its notebook.

    python -m tools.translations [LANGUAGE ...]

The catalogues are ``vae/locale/LANGUAGE.po``. A catalogue contains all Russian texts of the
packages, of ``utils.py`` and of the notebook, each with its translation. A new text has no
translation yet. A changed text keeps its former translation, marked as fuzzy. If a language has no
catalogue yet, an empty one is made. Until a catalogue is finished, messages without a translation
are shown in English, and ``python -m tools.build`` makes no notebooks from it.

The notebook's texts are the paragraphs of its Markdown cells, and the comments and strings of its
code and of the code that it shows.
"""

import argparse
import re
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

import vae
from vae.language import FOLDER, SOURCE, is_translated
from vae.source import source_of, translated_code

ROOT = Path(__file__).parents[1]

_RUSSIAN = re.compile("[А-Яа-яЁё]")
_CALL = re.compile(r"""\b_\(("(?:[^"\\]|\\.)*")\)""")  # _("text"), in an HTML template
_PARAGRAPHS = re.compile(r"(\n[ \t]*\n|\n?^### \w+ SOLUTION\n?)", re.M)


def texts():
    """Return a catalogue of all Russian texts, without translations."""
    catalogue = Catalog(project="vae-seminar", charset="utf-8", fuzzy=False,
                        header_comment="# The seminar's texts; python -m tools.translations "
                                       "brings this file up to date.")
    modules = [path for folder in ("tools", "vae", "vae_grading")
               for path in (ROOT / folder).rglob("*.py")]
    for path in sorted([ROOT / "utils.py", *modules]):
        for _, message, _, _ in extract_from_file("python", path, {"_": None, "N_": None}):
            catalogue.add(message, locations=[(path.relative_to(ROOT).as_posix(), None)])
    for path in sorted((ROOT / "vae_grading").rglob("*.html")):
        for quoted in _CALL.findall(path.read_text(encoding="utf-8")):
            catalogue.add(quoted[1:-1], locations=[(path.relative_to(ROOT).as_posix(), None)])
    from tools import build  # `build` imports this module

    table = build.table_of_exercises()  # its texts are already in the catalogue

    def add(text):
        if text != table:
            catalogue.add(text, locations=[("notebooks/vae_seminar.py", None)])
        return text

    for notebook in (build.student(), build.solution()):
        translated(notebook, add)
        for cell in notebook.cells:
            for name in build.shown_in(cell):
                translated_code(source_of(getattr(vae, name)), add)
    return catalogue


def untranslated(language):
    """Return the texts that a language's catalogue does not translate.

    Parameters
    ----------
    language : str

    Returns
    -------
    list of (str, str)
        Pairs of a file that contains the text, and the text.
    """
    return [(message.locations[0][0], message.id) for message in texts()
            if message.id and not is_translated(message.id, language)]


def translated(notebook, translate):
    """Translate a notebook's texts in place.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    translate : callable
        Maps a Russian text to its translation.

    Returns
    -------
    nbformat.NotebookNode
        The same object.
    """
    for cell in notebook.cells:
        translate_source = _markdown if cell.cell_type == "markdown" else translated_code
        cell.source = translate_source(cell.source, translate)
    return notebook


def _markdown(source, translate):
    return "".join(translate(part) if _RUSSIAN.search(part) else part
                   for part in _PARAGRAPHS.split(source))


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.translations",
                                     description="Bring the catalogues of translations up to date.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE",
                        help="codes such as en; by default, all catalogues in vae/locale")
    arguments = parser.parse_args()
    if any(not re.fullmatch("[a-z]{2,3}", name) or name == SOURCE for name in arguments.languages):
        parser.error(f"got {' '.join(arguments.languages)}, expected codes such as en")
    template, unfinished = texts(), 0
    FOLDER.mkdir(exist_ok=True)
    for path in ([FOLDER / f"{name}.po" for name in arguments.languages]
                 or sorted(FOLDER.glob("*.po"))):
        catalogue = read_po(path.read_bytes().splitlines(), locale=path.stem) if path.exists() \
            else Catalog(locale=path.stem, project=template.project, fuzzy=False)
        catalogue.header_comment = template.header_comment
        catalogue.version = catalogue.msgid_bugs_address = ""
        catalogue.last_translator = catalogue.language_team = ""
        catalogue.update(template, update_creation_date=False)
        with open(path, "wb") as file:
            write_po(file, catalogue, width=96, omit_header=False, ignore_obsolete=True)
        missing = [message for message in catalogue
                   if message.id and (not message.string or message.fuzzy)]
        unfinished += len(missing)
        print(f"{path.parent.name}/{path.name}: {len(list(catalogue)) - 1} texts, "
              f"{len(missing)} to translate or to look at")
    sys.exit(bool(unfinished))


if __name__ == "__main__":
    main()
