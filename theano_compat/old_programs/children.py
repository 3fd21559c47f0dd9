"""Adaptation of the processes that an old program starts, in the same way as the program itself.

These are processes of multiprocessing with any start method, processes of joblib, and any other
Python that is started with the environment variables of the program.
"""

import inspect
import os
import runpy
import sys
from pathlib import Path

from theano_compat.hooks import replace

__all__ = ["adapt_children", "adapt_this_process", "translate_scripts"]

_FOLDER = str(Path(__file__).resolve().parent / "in_children")


def adapt_children(python2_folder=None):
    """Set environment variables that adapt each Python which this process starts from now on.

    Parameters
    ----------
    python2_folder : str, optional
        The program's folder, if the program is Python 2.
    """
    os.environ["THEANO_COMPAT_CHILDREN"] = os.path.realpath(sys.prefix)
    if python2_folder is not None:
        os.environ["THEANO_COMPAT_PYTHON2"] = python2_folder
    paths = os.environ.get("PYTHONPATH")
    if paths is None:
        os.environ["PYTHONPATH"] = _FOLDER
    elif _FOLDER not in paths.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([_FOLDER, paths])


def adapt_this_process():
    """Adapt a process that an adapted program has started."""
    from theano_compat.old_programs import environment, python2  # these modules import this one

    environment.as_old_program()
    python2_folder = os.environ.get("THEANO_COMPAT_PYTHON2")
    if python2_folder is not None:
        python2.as_python2(python2_folder)


def translate_scripts(code_of):
    """Let `runpy` translate scripts. A child of multiprocessing runs the program's script by it."""
    @replace(runpy)
    def _get_code_from_file(*arguments):
        path = signature.bind(*arguments).arguments["fname"]
        code = code_of(Path(path).read_bytes(), path)
        return (code, path) if returns_path else code

    signature = inspect.signature(_get_code_from_file.original)
    returns_path = "run_name" in signature.parameters  # true in older Pythons
