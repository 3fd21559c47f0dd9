"""Reading a notebook's file, even if a program other than Jupyter has saved it."""

import json

from vae.language import _

__all__ = ["code_cells_in"]


def code_cells_in(content):
    """Return the code cells of a notebook, from top to bottom.

    The source of the cells is enough: metadata, outputs and other parts may be missing. Malformed
    cells are skipped.

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
        cells = [cell for sheet in notebook["worksheets"] if isinstance(sheet, dict)
                 for cell in sheet.get("cells", [])]
    elif "cells" in notebook:
        cells = notebook["cells"]
    else:
        raise ValueError(_("в нём нет ячеек"))
    return [("".join(_source_of(cell)), cell.get("execution_count", cell.get("prompt_number")))
            for cell in cells if _is_well_formed(cell) and cell.get("cell_type") == "code"]


def _is_well_formed(cell):
    if not isinstance(cell, dict):
        return False
    source = _source_of(cell)
    return isinstance(source, str) or (
        isinstance(source, list) and all(isinstance(line, str) for line in source))


def _source_of(cell):
    return cell.get("source", cell.get("input", ""))


def _json_in(content):
    try:
        return json.loads(content)  # recognises all Unicode encodings
    except UnicodeDecodeError:
        return json.loads(content.decode("cp1251", errors="replace"))  # of a Russian Windows
