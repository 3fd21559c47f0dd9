"""Reading a notebook's file, also as other programs than Jupyter have saved it."""

import json

from vae.language import _

__all__ = ["code_cells_in"]


def code_cells_in(content):
    """Return the code cells of a notebook, in the order in which they stand.

    A file that lacks metadata, outputs or other parts is read as well: the source is enough.

    Parameters
    ----------
    content : bytes
        The file, of version 2, 3 or 4 of the format, in UTF-8, UTF-16 or UTF-32, with a byte order
        mark or without, or in cp1251.

    Returns
    -------
    list of (str, object)
        The source of each cell, and its execution count as the file has it.

    Raises
    ------
    Exception
        Of many classes, if it is not a notebook.
    """
    notebook = _json_in(content)
    if "worksheets" in notebook:  # before version 4
        cells = [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]
    elif "cells" in notebook:
        cells = notebook["cells"]
    else:
        raise ValueError(_("в нём нет ячеек"))
    return [("".join(cell.get("source", cell.get("input", ""))),
             cell.get("execution_count", cell.get("prompt_number")))
            for cell in cells if cell.get("cell_type") == "code"]


def _json_in(content):
    try:
        return json.loads(content)  # it recognises each encoding of Unicode
    except UnicodeDecodeError:
        return json.loads(content.decode("cp1251", errors="replace"))  # a Russian Windows
