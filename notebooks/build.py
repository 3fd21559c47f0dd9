"""Make the student's and the solved notebook from their one source.

    python -m notebooks.build [--execute]

The source is ``vae_seminar.py`` beside this file, in jupytext's percent
format. In it

* ``# INCLUDE module.name`` stands for the code of a class or function of the
  package, without its docstrings;
* the text between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` stays in the
  solved notebook; in the student's, the text between ``### BEGIN TODO`` and
  ``### END TODO`` of the same cell takes its place.

The solved notebook is executed, on the full MNIST, when its code has changed;
when only its text has, it keeps its results. Its picture of the hidden space
is saved beside it, for the README.
"""

import argparse
import base64
import importlib
import re
import sys
import textwrap
from pathlib import Path

import jupytext
import nbformat

import vae
from notebooks.run import execute
from vae.source import show_source, source_of

HERE = Path(__file__).parent
SOURCE = HERE / "vae_seminar.py"
STUDENT = HERE / "vae_seminar.ipynb"
SOLUTION = HERE / "vae_seminar_solution.ipynb"
PICTURE = HERE / "hidden_space.png"

_INCLUDE = re.compile(r"^# INCLUDE (?P<module>\S+)\.(?P<name>\w+)\n", re.M)
_REGION = r"^(?P<indent> *)### BEGIN {0}\n(?P<text>.*?)^ *### END {0}(\n|\Z)"
_TODO = re.compile(_REGION.format("TODO"), re.M | re.S)
_SOLUTION = re.compile(_REGION.format("SOLUTION"), re.M | re.S)


def student():
    """Return the student's notebook, its exercises to be filled in."""
    return _notebook(lambda todo, solution: textwrap.indent(todo, solution["indent"]))


def solution():
    """Return the solved notebook, not executed."""
    return _notebook(lambda todo, solution: solution["text"])


def _notebook(choose):
    notebook = jupytext.read(SOURCE)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.source = _version(cell.source, choose)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"],
                         "language_info": {"name": "python"}}
    return notebook


def _version(text, choose):
    text = _INCLUDE.sub(lambda include: source_of(
        getattr(importlib.import_module(include["module"]), include["name"])) + "\n", text)
    todo = _TODO.search(text)
    if todo is None:
        if _SOLUTION.search(text):
            raise ValueError(f"Got a cell with a solution, expected a TODO, too:\n{text}")
        return text
    text = _TODO.sub("", text)
    return _SOLUTION.sub(lambda region: choose(todo["text"], region), text).rstrip("\n")


def _code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _is_result_of(executed, notebook):
    """Tell whether an executed notebook has the code of another, and shows the package's own."""
    cells, done = _code_cells(notebook), _code_cells(executed)
    if [cell.source for cell in cells] != [cell.source for cell in done]:
        return False
    return all(output.data["text/markdown"] == show_source(getattr(vae, name)).data
               for cell in done for name in re.findall(r"^show_source\((\w+)\)", cell.source)
               for output in cell.outputs)


def _with_results_of(notebook, executed):
    """Return the notebook with the outputs of another that has the same code."""
    for cell, result in zip(_code_cells(notebook), _code_cells(executed)):
        cell.outputs, cell.execution_count = result.outputs, result.execution_count
    return notebook


def _executed(notebook):
    metadata = notebook.metadata.copy()
    notebook = execute(notebook, HERE)
    notebook.metadata = metadata  # without the version of the Python that ran it
    messages = [output.text for cell in notebook.cells for output in cell.get("outputs", [])
                if output.get("name") == "stderr"]
    if messages:
        sys.exit("The solved notebook was not written; its cells must run without warnings, "
                 "on the full MNIST. They said:\n" + "\n".join(messages))
    return notebook


def _picture(notebook, call):
    """Return the PNG that the first cell with this call has drawn."""
    return next(base64.b64decode(output["data"]["image/png"])
                for cell in notebook.cells if call in cell.source
                for output in cell.outputs if "image/png" in output.get("data", {}))


def main():
    parser = argparse.ArgumentParser(
        prog="python -m notebooks.build",
        description="Make both notebooks from notebooks/vae_seminar.py.")
    parser.add_argument("--execute", action="store_true",
                        help="execute the solved notebook even if its code has not changed")
    arguments = parser.parse_args()

    solved = solution()
    before = nbformat.read(SOLUTION, as_version=4) if SOLUTION.exists() else None
    if arguments.execute or before is None or not _is_result_of(before, solved):
        solved = _executed(solved)
    else:
        solved = _with_results_of(solved, before)
    nbformat.write(student(), STUDENT)
    nbformat.write(solved, SOLUTION)
    PICTURE.write_bytes(_picture(solved, "plot_hidden_space("))
    print(f"{STUDENT}\n{SOLUTION}")


if __name__ == "__main__":
    main()
