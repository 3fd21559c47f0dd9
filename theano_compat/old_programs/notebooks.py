"""Support for old notebooks, similar to that of `python -m theano_compat` for scripts.

In Jupyter, the first cell is ``%load_ext theano_compat``. If a later cell can only be Python 2,
this cell and all cells that run after it are translated. ``%load_ext
theano_compat.old_programs.python2`` translates all cells.
"""

import ast
import importlib.util
import re
import sys
import types
from pathlib import Path

from theano_compat.old_programs import python2
from theano_compat.old_programs.environment import as_old_program
from theano_compat.old_programs.error_advice import note_advice

#: Names that IPython 8 and 9 have removed. The keys are the old module and the name, the values the
#: new module.
_MOVED_NAMES = {
    ("IPython.core.display", "display"): "IPython.display",
    ("IPython.core.display", "clear_output"): "IPython.display",
    ("IPython.core.display", "publish_display_data"): "IPython.display",
}
#: Modules of IPython that are packages of their own since IPython 4.
_MOVED_MODULES = {"IPython.html.widgets": "ipywidgets", "IPython.utils.traitlets": "traitlets",
                  "IPython.nbformat": "nbformat", "IPython.parallel": "ipyparallel"}


def load(shell, is_python2=False):
    """Let a shell run its next cells as cells of an old program.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    is_python2 : bool, optional
        Whether all these cells are Python 2.
    """
    as_old_program()
    _restore_names(shell)
    if not isinstance(shell.compile, _Compiler):
        # Only the class of the object changes, because it has a state, and others refer to it.
        shell.compile.__class__ = type("Compiler", (_Compiler, type(shell.compile)), {})
        shell.compile.is_python2 = False
        shell.compile.features = set()
        shell.set_custom_exc((Exception,), _show_with_advice)
        shell.input_transformers_cleanup.append(_install_in_kernel)
    if is_python2:
        shell.compile.use_python2()


class _Compiler:
    """Compiles cells, and translates cells in Python 2. Tracebacks show the lines of the cell.

    What a cell imports from ``__future__`` also holds in later cells.
    """

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        if symbol != "exec":
            return super().ast_parse(source, filename, symbol)
        try:
            if not self.is_python2 and python2.is_python2(source.encode(), filename):
                self.use_python2()
            if self.is_python2:
                return python2.tree_of(source, filename, features=self.features)
        except SyntaxError:  # the call below raises Python 3's error, which is clearer
            pass
        except ModuleNotFoundError as error:  # the shell can only show a SyntaxError
            raise SyntaxError(f"This is Python 2. {error}") from None
        tree = super().ast_parse(source, filename, symbol)
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                self.features.update(alias.name for alias in node.names)
        return tree

    def use_python2(self):
        if not self.is_python2:
            python2.as_python2(str(Path.cwd()))
            self.is_python2 = True


def _show_with_advice(shell, error_class, error, traceback, tb_offset=None):
    note_advice(error)
    shell.showtraceback((error_class, error, traceback), tb_offset=tb_offset)


#: A line that runs pip in a shell. There, it would be the first pip in PATH.
_PIP_INSTALL = re.compile(
    r"(\s*)!\s*(?:sudo\s+)?(?:\S*python[\d.]*\s+-m\s+)?(?:\S*/)?pip[\d.]*\s+install\s+(.*)")
_IS_THEANO = re.compile(r"theano\b(?!-)|\S*/theano(\.git)?(@|/|$)", re.I)


def _install_in_kernel(lines):
    """Make ``!pip install`` install packages for the kernel, without Theano, which is installed.

    Parameters
    ----------
    lines : list of str
        Lines of a cell.

    Returns
    -------
    list of str
    """
    changed = []
    for line in lines:
        command = _PIP_INSTALL.match(line)
        if command:
            indent, arguments = command[1], command[2].split()
            kept = [word for word in arguments if not _IS_THEANO.match(word.strip("'\""))]
            if len(kept) < len(arguments):
                changed.append(f"{indent}print('Theano is installed, and is left as it is')\n")
            if len(kept) < len(arguments) and all(word.startswith("-") for word in kept):
                continue
            line = f"{indent}%pip install {' '.join(kept)}\n"
        changed.append(line)
    return changed


def _restore_names(shell):
    for (old_module, name), new_module in _MOVED_NAMES.items():
        module = importlib.import_module(old_module)
        if name not in vars(module):  # with hasattr, IPython 8 would warn
            setattr(module, name, getattr(importlib.import_module(new_module), name))
    for old_name, new_name in _MOVED_MODULES.items():
        package, _, last_name = old_name.rpartition(".")
        if importlib.util.find_spec(new_name) and old_name not in sys.modules:
            sys.modules.setdefault(package, types.ModuleType(package))
            sys.modules[old_name] = importlib.import_module(new_name)
            setattr(sys.modules[package], last_name, sys.modules[old_name])
    if not hasattr(type(shell), "magic"):
        type(shell).magic = _run_magic


def _run_magic(shell, line):
    name, _, argument = line.partition(" ")
    return shell.run_line_magic(name, argument)


def run(path, result, is_python2=False):
    """Run all cells of a notebook, even after errors, and write the result.

    Parameters
    ----------
    path : path
        The notebook, in any version of Jupyter's format.
    result : path
        The file to write.
    is_python2 : bool, optional
        Whether the notebook is Python 2. By default, this is detected.

    Returns
    -------
    list of str
        A line for each error, with its cell, its type and its message.

    Raises
    ------
    ModuleNotFoundError
        If Jupyter, or the translator that the notebook needs, is not installed.
    ValueError
        If the file is not a notebook.
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
    except Exception as error:  # nbformat raises many classes of errors
        raise ValueError(f"{path} is no notebook: {error}") from None
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    is_python2 = is_python2 or _says_python2(notebook.metadata) or any(map(_is_python2, cells))
    extension = "theano_compat.old_programs.python2" if is_python2 else "theano_compat"
    errors = []
    for cell in cells:  # outputs of an earlier run could be mistaken for outputs of this run
        cell.outputs, cell.execution_count = [], None
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
            errors.append(f"the kernel died: {error}")
    for number, cell in enumerate(cells, 1):
        errors.extend(f"code cell {number}: {output.ename}: {output.evalue}"
                      for output in cell.outputs if output.output_type == "error")
    Path(result).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, result)
    return errors


def _says_python2(metadata):
    return (str(metadata.get("language_info", {}).get("version", "")).startswith("2")
            or metadata.get("kernelspec", {}).get("name") == "python2")


def _is_python2(cell):
    from IPython.core.inputtransformer2 import TransformerManager

    source = TransformerManager().transform_cell(cell.source)
    return python2.is_python2(source.encode(), "a cell")
