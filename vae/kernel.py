"""The notebook's kernel, and the file that it imports as `utils`."""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from vae.language import _

__all__ = ["ipython_shell", "warn_if_utils_is_hidden"]


def ipython_shell():
    """Return the IPython shell that runs this process, or None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def warn_if_utils_is_hidden():
    """In a kernel, warn if another file hides the seminar's `utils.py`, without importing it.

    The warning comes after the running cell, below the error that it explains: by then the cell has
    chosen the notebook's language.
    """
    shell = ipython_shell()
    if shell is None:
        return

    def warn(result):
        shell.events.unregister("post_run_cell", warn)
        found, own = find_spec("utils"), Path(__file__).parents[1] / "utils.py"
        if found and found.origin and Path(found.origin).read_bytes() != own.read_bytes():
            warnings.warn(
                _("Ваш файл {path} заслоняет utils.py семинара: переименуйте его и перезапустите "
                  "ядро.", path=found.origin),
                stacklevel=1000)  # beyond all callers, whose lines would tell the student nothing

    shell.events.register("post_run_cell", warn)
