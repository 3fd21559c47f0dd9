"""Run an old script, module or notebook unchanged. It need not import `theano_compat`."""

import argparse
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from theano_compat.hooks import GROUPS, PATCHES
from theano_compat.old_programs import python2
from theano_compat.old_programs.environment import as_old_program
from theano_compat.old_programs.error_advice import note_advice


class ListPatches(argparse.Action):
    """An action of argparse that prints all patches and exits, similar to --help."""

    def __call__(self, parser, *_):
        for group in GROUPS:
            print(f"{group}:")
            for name, patch in PATCHES.items():
                if patch.group == group:
                    print(*_lines(name, patch), sep="\n")
        parser.exit()


def _lines(name, patch):
    """Yield the lines of the table about one patch."""
    left_out = "  (left out)" if patch.left_out else ""
    yield f"  {name:30} {patch.file:10} {', '.join(patch.modules)}{left_out}"
    yield f"      {patch.function.__doc__.splitlines()[0]}"
    if patch.speed:
        yield f"      acts on: {patch.speed.acts_on}"
        yield f"      brings: {patch.speed.brings}"
        yield f"      edge: {patch.speed.edge}"


parser = argparse.ArgumentParser(
    prog="python -m theano_compat",
    usage="python -m theano_compat [-h] [--patches] [--python2] (script.py | -m module) "
          "[arguments ...]\n       "
          "python -m theano_compat [--python2] notebook.ipynb -o result.ipynb",
    description="Run a program for Theano up to 1.0 and Lasagne 0.1 on today's Python. A program in "
                "Python 2 is translated in memory, with the modules in its folder, if fissix is "
                "installed. All cells of a notebook are run, even after an error; in Jupyter, "
                "`%load_ext theano_compat` in the first cell prepares the kernel in the same way. "
                "THEANO_FLAGS sets Theano's options, as usual.")
parser.add_argument("--python2", action="store_true",
                    help="treat the program as Python 2, even if it is also valid Python 3")
parser.add_argument("--patches", action=ListPatches, nargs=0,
                    help="list all patches by group, with the file of each and the modules that it "
                         "changes, and exit; THEANO_COMPAT_OFF=name,... leaves out patches, files "
                         "or groups")
parser.add_argument("-o", metavar="result.ipynb", help="where to write the executed notebook")
parser.add_argument("-m", metavar="module",
                    help="run a module by its name, as `python -m` does, instead of a script")


def script(path):
    """Return the code of a script and the names in its ``__main__``.

    The script may import from its folder. Exit with an error if there is no such file.
    """
    if not Path(path).is_file():
        parser.error(f"there is no file {path}")
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path(path).resolve().parent)
    source = Path(path).read_bytes()
    code = code_of_python2(source, path, str(Path(path).resolve().parent))
    return code or compile(source, path, "exec"), {"__file__": path}


def code_of_python2(source, path, folder, is_in_package=False):
    """If a file is Python 2, adapt this process to it and return its code; else return None."""
    try:
        if not (says_python2 or python2.is_python2(source, path)):
            return None
        code = python2.code_of(source, path, is_in_package)
    except ModuleNotFoundError as error:
        sys.exit(f"{path} is Python 2. {error}")
    python2.as_python2(folder)
    return code


def module(name):
    """Return the code of a module or package and the names in its ``__main__``."""
    try:
        spec = find_spec(name)
        if spec and spec.submodule_search_locations:
            spec = find_spec(f"{name}.__main__")
    except ModuleNotFoundError:  # the package of the module is missing
        spec = None
    if spec is None:
        parser.error(f"there is no module {name} to run")
    code = isinstance(spec.loader, SourceFileLoader) and code_of_python2(
        Path(spec.origin).read_bytes(), spec.origin, str(Path.cwd()), bool(spec.parent))
    return code or spec.loader.get_code(spec.name), {
        "__file__": spec.origin, "__spec__": spec, "__loader__": spec.loader,
        "__package__": spec.parent}


def run_notebook(path, arguments):
    """Run a notebook, then exit, with status 1 if a cell has raised an exception."""
    from theano_compat.old_programs import notebooks

    if len(arguments) != 2 or arguments[0] not in ("-o", "--output"):
        parser.error(f"say where the result goes: {path} -o result.ipynb")
    if not Path(path).is_file():
        parser.error(f"there is no file {path}")
    try:
        failed = notebooks.run(path, arguments[1], says_python2)
    except ModuleNotFoundError as error:
        sys.exit(f"{path} needs what is not installed. {error}")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(*failed, sep="\n", end="\n" if failed else "")
    sys.exit(bool(failed))


says_python2 = sys.argv[1:2] == ["--python2"]
program = sys.argv[1 + says_python2:]
is_module = program[:1] == ["-m"]
program = program[is_module:]
if not program or program[0].startswith("-"):
    parser.parse_args()
    parser.error("there is no script.py, nor -m module")
if program[0].endswith(".ipynb") and not is_module:
    run_notebook(program[0], program[1:])
code, main_names = (module if is_module else script)(program[0])

as_old_program()
sys.argv = [main_names["__file__"], *program[1:]]
# The program's threads and exit handlers still need this module after its last line.
sys.modules["__main__"] = ModuleType("__main__")
vars(sys.modules["__main__"]).update(main_names)
try:
    exec(code, vars(sys.modules["__main__"]))
except Exception as error:
    note_advice(error)
    raise
