"""Notebooks that programs other than Jupyter have saved can be read, even if parts are missing."""

import json

import pytest

from grading_notebooks import SOURCES, notebook, unfilled
from vae_grading.notebook.cells import cells_of

NOTEBOOK = json.loads(notebook(counts=list(range(1, len(SOURCES) + 1))))


def sources_of(content):
    return [(cell.source, cell.execution_count) for cell in cells_of(content)]


EXPECTED = [(source, number) for number, source in enumerate(SOURCES, start=1)]


def without(*keys, of_cells=()):
    """Return the notebook without some of its own parts, and some of each cell."""
    rest = {key: value for key, value in NOTEBOOK.items() if key not in keys}
    rest["cells"] = [{key: value for key, value in cell.items() if key not in of_cells}
                     for cell in NOTEBOOK["cells"]]
    return json.dumps(rest, ensure_ascii=False).encode()


@pytest.mark.parametrize("content", [
    without(of_cells=["metadata"]), without(of_cells=["outputs"]), without(of_cells=["id"]),
    without("metadata"), without("nbformat_minor"), without("nbformat", "nbformat_minor"),
    without("metadata", "nbformat", "nbformat_minor", of_cells=["metadata", "outputs", "id"])])
def test_what_a_notebook_may_lack(content):
    assert sources_of(content) == EXPECTED


def test_no_execution_counts():
    assert sources_of(without(of_cells=["execution_count"])) == [
        (source, None) for source in SOURCES]


@pytest.mark.parametrize("mark, encoding", [
    ("", "utf-8"), ("\ufeff", "utf-8"), ("", "utf-16-le"), ("\ufeff", "utf-16-le"),
    ("", "utf-16-be"), ("\ufeff", "utf-16-be"), ("", "utf-32-le"), ("\ufeff", "utf-32-be"),
    ("", "cp1251")])
@pytest.mark.parametrize("indent", [None, 1])
def test_any_encoding(mark, encoding, indent):
    text = json.dumps(NOTEBOOK, ensure_ascii=False, indent=indent)
    assert sources_of((mark + text).encode(encoding)) == EXPECTED


@pytest.mark.parametrize("version", [(3, 0), (4, 0), (4, 5)])
def test_each_version_of_the_format(version):
    content = notebook(unfilled(5), version=version, counts=list(range(len(SOURCES))))
    found = sources_of(content)
    assert len(found) == len(SOURCES) and [count for _, count in found] == [*range(len(SOURCES))]
    assert found[0][0].strip() == SOURCES[0].strip()


MALFORMED = [None, "source", 5, 1.5, True, [], ["cell"], {}, {"source": ["1"]},
             {"cell_type": "code", "source": None}, {"cell_type": "code", "source": 5},
             {"cell_type": "code", "source": {"0": "1"}},
             {"cell_type": "code", "source": ["1", None]},
             {"cell_type": ["code"], "source": "1"}]


@pytest.mark.parametrize("cell", MALFORMED, ids=json.dumps)
@pytest.mark.parametrize("version", [3, 4])
def test_malformed_cells_are_skipped(cell, version):
    content = json.loads(notebook(counts=list(range(1, len(SOURCES) + 1)), version=(version, 0)))
    cells = content["cells"] if version == 4 else content["worksheets"][0]["cells"]
    for place in [0, len(cells) // 2, len(cells)]:
        cells.insert(place, cell)
    if version == 3:
        content["worksheets"].append(cell)
    found = sources_of(json.dumps(content).encode())
    assert [number for _source, number in found] == [number for _source, number in EXPECTED]


@pytest.mark.parametrize("content", [
    b"", b"{}", b"[]", b"null", b'{"cells": 5}', b'{"cells": [5]}', b'{"worksheets": [{}]}',
    b'{"cells": [{"cell_type": "code", "source": 5}]}', b'{"cells": [null, null]}',
    b"\xff\xfe\x00", b"\xff" * 100])
def test_what_is_not_a_notebook(content):
    with pytest.raises(ValueError):
        cells_of(content)
