"""Reading a notebook's file, even if a program other than Jupyter has saved it."""

import json

from vae.language import _

__all__ = ["code_cells_in"]


def code_cells_in(content):
    """Return the code cells of a notebook, from top to bottom.

    The source of the cells is enough: metadata, outputs and other parts may be missing.

    Parameters
    ----------
    content : bytes
        The file, in version 2, 3 or 4 of the format. The encoding is UTF-8, UTF-16 or UTF-32, with
        or without a byte order mark, or cp1251.

    Returns
    -------
    list of (str, object)
        The source and the execution count of each cell. The count is not checked.

    Raises
    ------
    Exception
        Errors of many classes, if the file is not a notebook.
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
        return json.loads(content)  # recognises all Unicode encodings
    except UnicodeDecodeError:
        return json.loads(content.decode("cp1251", errors="replace"))  # of a Russian Windows
