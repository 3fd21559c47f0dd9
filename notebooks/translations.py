"""The seminar's texts, and its notebook, in other languages.

    python -m notebooks.translations [LANGUAGE ...]

It brings the catalogues ``vae/locale/LANGUAGE.po`` up to date: all texts of the package, of
``utils.py`` and of the notebook, in Russian, each with its translation. A new text stands there
without one; a changed one with that of before, marked as fuzzy. A language that is named and has
no catalogue gets an empty one.

The notebook's texts are the paragraphs of its Markdown and, of its code, comments and strings.
"""

import argparse
import io
import re
import sys
import textwrap
import tokenize
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po

from vae.language import FOLDER, SOURCE

ROOT = Path(__file__).parents[1]

_RUSSIAN = re.compile("[А-Яа-яЁё]")
_CALL = re.compile(r"""\b_\(("(?:[^"\\]|\\.)*")\)""")  # of the function, in a template of HTML
_PARAGRAPHS = re.compile(r"(\n[ \t]*\n|\n?^### \w+ SOLUTION\n?)", re.M)
_BOX = re.compile(r"#{20,}")
_MARKER = re.compile(r"\s*### (BEGIN|END) ")  # of nbgrader's


def texts():
    """Return the catalogue of all Russian texts, without translations."""
    catalogue = Catalog(project="vae-seminar", charset="utf-8", fuzzy=False,
                        header_comment="# The seminar's texts; python -m notebooks.translations "
                                       "brings this file up to date.")
    for path in sorted([ROOT / "utils.py", *(ROOT / "notebooks").glob("*.py"),
                        *(ROOT / "vae").rglob("*.py")]):
        for _, message, _, _ in extract_from_file("python", path, {"_": None, "N_": None}):
            catalogue.add(message, locations=[(path.relative_to(ROOT).as_posix(), None)])
    for path in sorted((ROOT / "vae").rglob("*.html")):
        for quoted in _CALL.findall(path.read_text(encoding="utf-8")):
            catalogue.add(quoted[1:-1], locations=[(path.relative_to(ROOT).as_posix(), None)])
    from notebooks import build

    for notebook in (build.student(), build.solution()):
        translated(notebook, lambda text: catalogue.add(
            text, locations=[("notebooks/vae_seminar.py", None)]) and text)
    return catalogue


def translated(notebook, translate):
    """Translate a notebook's texts in place.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    translate : callable
        (Russian text) -> text.

    Returns
    -------
    nbformat.NotebookNode
    """
    for cell in notebook.cells:
        whole = _markdown if cell.cell_type == "markdown" else _code
        cell.source = whole(cell.source, translate)
    return notebook


def _markdown(source, translate):
    return "".join(translate(part) if _RUSSIAN.search(part) else part
                   for part in _PARAGRAPHS.split(source))


def _code(source, translate):
    """Translate comments, those on lines in succession as one text, and strings."""
    lines = source.split("\n")
    for start, end, kind in reversed(_places(source)):
        (first, column), (last, stop) = start, end
        before, after = lines[first][:column], lines[last][stop:]
        text = "\n".join([*lines[first:last], lines[last][:stop]])[column:]
        if not _RUSSIAN.search(text):
            continue
        changed = (_comment if kind == tokenize.COMMENT else _string)(text, column, translate)
        lines[first:last + 1] = (before + changed + after).split("\n")
    return "\n".join(lines)


def _places(source):
    """Where comments and strings stand: their starts, ends (lines from 0) and kinds."""
    places = []
    plain = re.sub(r"^%", "#", source, flags=re.M)  # magics are no Python
    for token in tokenize.generate_tokens(io.StringIO(plain).readline):
        (first, column), (last, stop) = token.start, token.end
        if token.type not in (tokenize.COMMENT, tokenize.STRING) or _MARKER.match(token.line):
            continue
        place = (first - 1, column), (last - 1, stop), token.type
        alone = token.type == tokenize.COMMENT and not token.line[:column].strip()
        if alone and places and places[-1][2] == tokenize.COMMENT and places[-1][3] \
                and places[-1][1][0] == first - 2 and places[-1][0][1] == column:
            place = (places.pop()[0], *place[1:])
        places.append((*place, alone))
    return [place[:3] for place in places]


def _comment(text, column, translate):
    lines = [line.strip() for line in text.split("\n")]
    indent = "\n" + " " * column
    if not _BOX.fullmatch(lines[0]):
        said = translate("\n".join(line.removeprefix("#").strip() for line in lines))
        return indent.join(f"# {line}" for line in said.split("\n"))
    said = translate("\n".join(line.strip("#").strip() for line in lines[1:-1])).split("\n")
    width = max(map(len, said))
    return indent.join(["#" * (width + 4), *(f"# {line.ljust(width)} #" for line in said),
                        "#" * (width + 4)])


def _string(text, column, translate):
    quotes = re.match(r"'''|\"\"\"|'|\"", text)[0]
    inside = text[len(quotes):-len(quotes)]
    if len(quotes) == 1:
        return quotes + translate(inside).replace(quotes, "\\" + quotes) + quotes
    said = translate(textwrap.dedent(inside).strip("\n").rstrip())
    indent = " " * column
    return f"{quotes}\n{textwrap.indent(said, indent)}\n{indent}{quotes}"


def main():
    parser = argparse.ArgumentParser(prog="python -m notebooks.translations",
                                     description="Bring the catalogues of translations up to date.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE",
                        help="as en; by default all that have a catalogue in vae/locale")
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
        missing = [one for one in catalogue if one.id and (not one.string or one.fuzzy)]
        unfinished += len(missing)
        print(f"{path.parent.name}/{path.name}: {len(list(catalogue)) - 1} texts, "
              f"{len(missing)} to translate or to look at")
    sys.exit(bool(unfinished))


if __name__ == "__main__":
    main()
