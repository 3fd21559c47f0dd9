"""The kernel of the notebook, and the file that it imports as `utils`."""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from theano_compat.needed import settings
from vae.language import SOURCE, _, language

__all__ = ["ipython_shell", "no_compiler", "say_later_that_there_is_no_compiler",
           "warn_if_utils_is_hidden"]


def ipython_shell():
    """Return the IPython shell of this process.

    Returns
    -------
    IPython.core.interactiveshell.InteractiveShell or None
        None if this process does not run IPython.
    """
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def no_compiler():
    """Return the warning of `theano_compat` that there is no C++ compiler.

    Returns
    -------
    theano_compat.needed.settings.NoCompilerWarning or None
        None if there is a compiler, or if Theano has not been imported yet.
    """
    return settings.no_compiler


def say_later_that_there_is_no_compiler():
    """In a kernel, print the warning that there is no compiler in the notebook's language.

    Call it before Theano is imported. The line is printed when the running cell has ended, because
    that cell may choose the language.
    """
    shell = ipython_shell()
    if shell is None or no_compiler() is not None:
        return

    def say(result):
        shell.events.unregister("post_run_cell", say)
        warning = no_compiler()
        if warning is not None:
            what = warning.what_ru if language() == SOURCE else warning.what
            print(_("{what}: обучение идёт в три-четыре раза дольше. Что поможет: {remedy}",
                    what=what, remedy=warning.remedy))

    warnings.filterwarnings("ignore", category=settings.NoCompilerWarning)
    shell.events.register("post_run_cell", say)


def warn_if_utils_is_hidden():
    """In a kernel, warn if another file hides the seminar's `utils.py`.

    That file is not imported.

    The warning is shown when the running cell has ended, because that cell may choose the language.
    So it also stands below the error that it explains.
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
