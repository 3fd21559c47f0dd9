"""The code of this package as the notebook shows it: without docstrings, and translated."""

import ast
import inspect
import io
import re
import textwrap
import tokenize

from vae.language import language as readers_language, translate as in_language

__all__ = ["source_of", "show_source", "translated_code"]

_RUSSIAN = re.compile("[А-Яа-яЁё]")
_MARKER = re.compile(r"\s*### (BEGIN|END) ")  # of a solution, for nbgrader


def source_of(obj):
    """Return the code of a class or function without its docstrings.

    Parameters
    ----------
    obj : type or function
        Defined at the top level of a module.

    Returns
    -------
    str
        The code with its comments.
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
    """Show the code of classes or functions in a notebook, highlighted.

    Parameters
    ----------
    *objects : type or function
        Defined at the top level of modules.
    language : str, optional
        Code of the language of the comments; by default, the reader's language.

    Returns
    -------
    IPython.display.Markdown
        Jupyter draws it as the result of the cell.
    """
    from IPython.display import Markdown

    name = language or readers_language()
    code = "\n\n\n".join(translated_code(source_of(obj), lambda text: in_language(text, name))
                         for obj in objects)
    # Without this <div>, nbconvert's HTML would show the code in the font of the text.
    return Markdown(f'<div style="font-family: monospace">\n\n```python\n{code}\n```\n\n</div>')


def translated_code(source, translate):
    """Translate the Russian comments and strings of code.

    Parameters
    ----------
    source : str
        Python code, or the code of a notebook's cell.
    translate : callable
        Maps a Russian text to its translation. Comments on consecutive lines form one text.

    Returns
    -------
    str
        The code with the translations.
    """
    lines = source.split("\n")
    for start, end, token_type in reversed(_places(source)):
        (first, column), (last, stop) = start, end
        before, after = lines[first][:column], lines[last][stop:]
        text = "\n".join([*lines[first:last], lines[last][:stop]])[column:]
        if not _RUSSIAN.search(text):
            continue
        translated = _comment if token_type == tokenize.COMMENT else _string
        lines[first:last + 1] = (before + translated(text, column, translate) + after).split("\n")
    return "\n".join(lines)


def _places(source):
    """Return the start, the end and the token type of each comment and string.

    A start or an end is a line, counted from 0, and a column.
    """
    places = []
    plain = re.sub(r"^%", "#", source, flags=re.M)  # magics are not Python
    for token in tokenize.generate_tokens(io.StringIO(plain).readline):
        (first, column), (last, stop) = token.start, token.end
        if token.type not in (tokenize.COMMENT, tokenize.STRING) or _MARKER.match(token.line):
            continue
        start, end = (first - 1, column), (last - 1, stop)
        is_whole_line = token.type == tokenize.COMMENT and not token.line[:column].strip()
        if is_whole_line and places:
            previous_start, previous_end, _, previous_is_whole_line = places[-1]
            if (previous_is_whole_line and previous_end[0] == start[0] - 1
                    and previous_start[1] == column):
                start = previous_start
                places.pop()
        places.append((start, end, token.type, is_whole_line))
    return [place[:3] for place in places]


def _comment(text, column, translate):
    lines = [line.strip() for line in text.split("\n")]
    indent = "\n" + " " * column
    translated = translate("\n".join(line.removeprefix("#").strip() for line in lines))
    return indent.join(f"# {line}" for line in translated.split("\n"))


def _string(text, column, translate):
    quotes = re.match(r"'''|\"\"\"|'|\"", text)[0]
    inside = text[len(quotes):-len(quotes)]
    if len(quotes) == 1:
        return quotes + translate(inside).replace(quotes, "\\" + quotes) + quotes
    translated = translate(textwrap.dedent(inside).strip("\n").rstrip())
    indent = " " * column
    return f"{quotes}\n{textwrap.indent(translated, indent)}\n{indent}{quotes}"
