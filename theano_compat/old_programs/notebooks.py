"""Old notebooks, of either Python: what `python -m theano_compat` does for a script, for their cells.

In Jupyter the first cell is ``%load_ext theano_compat``; ``%load_ext theano_compat.old_programs.python2`` says that all
cells are Python 2.  Otherwise they are from the first on that can be nothing else.
"""

import importlib.util
import sys
import types
from pathlib import Path

from theano_compat.old_programs import python2
from theano_compat.old_programs.environment import as_old_program, note_advice

#: What IPython 8 and 9 have dropped: a module, its name there, and where it is now.
_NAMES = {
    ("IPython.core.display", "display"): "IPython.display",
    ("IPython.core.display", "clear_output"): "IPython.display",
    ("IPython.core.display", "publish_display_data"): "IPython.display",
}
#: What IPython 4 has made packages of their own.
_MODULES = {"IPython.html.widgets": "ipywidgets", "IPython.utils.traitlets": "traitlets",
            "IPython.nbformat": "nbformat", "IPython.parallel": "ipyparallel"}


def load(shell, is_python2=False):
    """Run the cells to come as those of an old program.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    is_python2 : bool, optional
        Whether they are all Python 2.
    """
    as_old_program()
    _restore_names(shell)
    if not isinstance(shell.compile, _Compiler):
        # The shell's own object stays, for others have it, and what it remembers.
        shell.compile.__class__ = type("Compiler", (_Compiler, type(shell.compile)), {})
        shell.compile.is_python2 = False
        shell.set_custom_exc((Exception,), _show_with_advice)
    if is_python2:
        shell.compile.use_python2()


class _Compiler:
    """Reads cells; those in Python 2 are translated, and keep their own lines in tracebacks."""

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        if symbol != "exec":
            return super().ast_parse(source, filename, symbol)
        try:
            if not self.is_python2 and python2.is_python2(source.encode(), filename):
                self.use_python2()
            if self.is_python2:
                return python2.tree_of(source, filename)
        except SyntaxError:  # what Python 3 says of it is clearer
            pass
        except ModuleNotFoundError as error:  # a SyntaxError is what the shell can show
            raise SyntaxError(f"This is Python 2. {error}") from None
        return super().ast_parse(source, filename, symbol)

    def use_python2(self):
        if not self.is_python2:
            python2.as_python2(str(Path.cwd()))
            self.is_python2 = True


def _show_with_advice(shell, kind, error, traceback, tb_offset=None):
    note_advice(error)
    shell.showtraceback((kind, error, traceback), tb_offset=tb_offset)


def _restore_names(shell):
    for (module, name), now in _NAMES.items():
        module = importlib.import_module(module)
        if name not in vars(module):  # IPython 8 warns of it
            setattr(module, name, getattr(importlib.import_module(now), name))
    for name, now in _MODULES.items():
        package, _, last = name.rpartition(".")
        if importlib.util.find_spec(now) and name not in sys.modules:
            sys.modules.setdefault(package, types.ModuleType(package))
            sys.modules[name] = importlib.import_module(now)
            setattr(sys.modules[package], last, sys.modules[name])
    if not hasattr(type(shell), "magic"):
        type(shell).magic = lambda shell, line: shell.run_line_magic(*line.partition(" ")[::2])


def run(path, result, is_python2=False):
    """Run a notebook from start to end, through its errors, and write the result.

    Parameters
    ----------
    path, result : path
        The notebook, of any version of Jupyter's, and where it goes.
    is_python2 : bool, optional
        Whether it is Python 2, though nothing in it says so.

    Returns
    -------
    list of str
        A line for each cell that has raised an exception.

    Raises
    ------
    ModuleNotFoundError
        If Jupyter, or the translator that the notebook needs, is not installed.
    ValueError
        If the file is no notebook.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import DeadKernelError
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install jupyter") from None
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises all sorts of them
        raise ValueError(f"{path} is no notebook: {error}") from None
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    is_python2 = is_python2 or _says_python2(notebook.metadata) or any(map(_is_python2, cells))
    extension = "theano_compat.old_programs.python2" if is_python2 else "theano_compat"
    failed = []
    with tqdm(total=len(cells), unit=" cells") as bar:
        client = NotebookClient(
            notebook, kernel_name="python3", timeout=None, allow_errors=True,
            store_widget_state=False, coalesce_streams=True,
            extra_arguments=[f"--ext={extension}", "--log-level=ERROR"],
            resources={"metadata": {"path": str(Path(path).resolve().parent)}},
            on_cell_executed=lambda **_: bar.update())
        try:
            client.execute()
        except DeadKernelError as error:
            failed.append(f"the kernel died: {error}")
    for number, cell in enumerate(cells, 1):
        failed.extend(f"code cell {number}: {output.ename}: {output.evalue}"
                      for output in cell.outputs if output.output_type == "error")
    Path(result).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, result)
    return failed


def _says_python2(metadata):
    return (str(metadata.get("language_info", {}).get("version", "")).startswith("2")
            or metadata.get("kernelspec", {}).get("name") == "python2")


def _is_python2(cell):
    from IPython.core.inputtransformer2 import TransformerManager

    source = TransformerManager().transform_cell(cell.source)
    return python2.is_python2(source.encode(), "a cell")
