"""The package's own code as the seminar's cells show it: without the docstrings."""

import ast
import inspect

__all__ = ["source_of", "show_source"]


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


def show_source(*objects):
    """Show code in a notebook, highlighted, read from the module that runs.

    Parameters
    ----------
    *objects : type or function
        What to show the code of.

    Returns
    -------
    IPython.display.Markdown
        Drawn by Jupyter as the cell's result.
    """
    from IPython.display import Markdown
    code = "\n\n\n".join(map(source_of, objects))
    return Markdown(f"```python\n{code}\n```")
