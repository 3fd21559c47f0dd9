"""The package's own code as the seminar's cells show it: without the docstrings, in any language."""

import ast
import inspect
import io
import re
import textwrap
import tokenize

from vae.language import language as readers_language, translate as in_language

__all__ = ["source_of", "show_source", "translated_code"]

_RUSSIAN = re.compile("[А-Яа-яЁё]")
_BOX = re.compile(r"#{20,}")
_MARKER = re.compile(r"\s*### (BEGIN|END) ")  # of nbgrader's


def source_of(obj):
    """Return the code of a class or function without its docstrings.

    Parameters
    ----------
    obj : type or function
        Something defined at the top of a module.

    Returns
    -------
    str
        Its lines, comments kept.
    """
    lines = inspect.getsource(obj).splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            docstring = node.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno):
                lines[number] = None
            if not lines[docstring.end_lineno].strip():
                lines[docstring.end_lineno] = None
    return "\n".join(line for line in lines if line is not None)


def show_source(*objects, language=None):
    """Show code in a notebook, highlighted, read from the module that runs.

    Parameters
    ----------
    *objects : type or function
        What to show the code of.
    language : str, optional
        Of the comments; by default the reader's.

    Returns
    -------
    IPython.display.Markdown
        Drawn by Jupyter as the cell's result.
    """
    from IPython.display import Markdown
    name = language or readers_language()
    code = "\n\n\n".join(translated_code(source_of(one), lambda text: in_language(text, name))
                         for one in objects)
    return Markdown(f"```python\n{code}\n```")


def translated_code(source, translate):
    """Translate the comments and strings of some code that are in Russian.

    Parameters
    ----------
    source : str
        Python, or a notebook's cell.
    translate : callable
        (Russian text) -> text. Comments on lines in succession are one text.

    Returns
    -------
    str
    """
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
