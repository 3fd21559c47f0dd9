"""Run a notebook of the seminar from start to end, as Jupyter would.

    python -m tools.run [NOTEBOOK] [-o RESULT]
"""

import argparse
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

from tools.git import use_filter
from vae.language import _

HERE = Path(__file__).parents[1] / "notebooks"


class _ClientWithProgress(NotebookClient):
    """A client that shows the number of finished cells and the last printed line on a bar."""

    def __init__(self, notebook, bar, **kwargs):
        super().__init__(notebook, on_cell_executed=lambda **_: bar.update(), **kwargs)
        self._bar = bar

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            lines = msg["content"]["text"].replace("\r", "\n").split("\n")
            lines = [line.strip() for line in lines if line.strip()]
            if lines:
                self._bar.set_postfix_str(lines[-1])
        return super().process_message(msg, cell, cell_index)


def execute(notebook, folder):
    """Run all cells of a notebook in a new kernel, with a progress bar.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The notebook. Its outputs are replaced in place. If a cell fails, later outputs stay.
    folder : path
        Working folder of the kernel.

    Returns
    -------
    nbformat.NotebookNode
        The same object.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises an exception.
    nbclient.exceptions.DeadKernelError
        If a cell ends the process of its kernel.
    """
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=cells, unit=_(" ячейка"), dynamic_ncols=True) as bar:
        _ClientWithProgress(notebook, bar, kernel_name="python3", timeout=None,
                            record_timing=False, coalesce_streams=True,
                            store_widget_state=False,
                            extra_arguments=["--log-level=ERROR"],  # for the log of the kernel
                            resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = list(filter(None, map(_lasting, cell.outputs)))
    return notebook


def _lasting(output):
    """Return an output without finished progress bars and widgets, or None if it is empty."""
    if output.output_type == "stream":
        output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
        return output if output.text else None
    output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return output


def _shown(path):
    """Return a path in the form in which the user would type it in the current folder."""
    try:
        path = os.path.relpath(path)
    except ValueError:  # the path is on another drive of Windows
        pass
    return f'"{path}"' if " " in str(path) else path


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tools.run",
        description="Run a notebook of the seminar from start to end, in an empty folder.")
    parser.add_argument("notebook", nargs="?", type=Path,
                        default=HERE / "solution" / "vae_seminar_solution.ipynb",
                        help="the notebook (default: the solved one)")
    parser.add_argument("-o", "--output", type=Path,
                        help="where the result goes (default: notebooks/results/)")
    arguments = parser.parse_args()
    # On Windows, the encoding of stdout may lack Cyrillic, and pyzmq warns that it starts a thread.
    sys.stdout.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", "Proactor event loop", RuntimeWarning)
    output = arguments.output or HERE / "results" / arguments.notebook.name
    try:
        notebook = nbformat.read(arguments.notebook, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises exceptions of many classes
        parser.error(f"cannot read {arguments.notebook}: {error}")

    use_filter()
    failure = None
    # In a temporary folder, there are no weights of an earlier run that the notebook would not
    # overwrite.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            execute(notebook, folder)
        except (CellExecutionError, DeadKernelError) as error:
            failure = error
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, output)
    lab = f"{_shown(Path(sys.executable).parent / 'jupyter')} lab"
    print(_("\nВыполненный ноутбук: {result}\n"
            "Открыть его:         {lab} {result}\n"
            "Начать семинар:      {lab} {notebook}",
            result=_shown(output), lab=lab, notebook=_shown(HERE / "vae_seminar.ipynb")))
    if failure is not None:
        sys.exit(_("\nНоутбук остановился на ошибке:\n{failure}", failure=failure))


if __name__ == "__main__":
    main()
