"""Removal of the solutions from the package `vae` while a student's answer is checked."""

import inspect
import traceback
from contextlib import contextmanager

import vae
from vae.language import N_

__all__ = ["FROM_PACKAGE", "name_from_package", "without_solutions"]

#: The hint for an answer that is not the student's own.
FROM_PACKAGE = N_("{name} взято из пакета vae, а его нужно написать самостоятельно: "
                  "в пакете при проверке решения нет.")
_REMOVED = "This solution is removed from the package"


@contextmanager
def without_solutions(names):
    """Make the package's solutions raise NotImplementedError inside a ``with`` statement.

    Parameters
    ----------
    names : iterable of str
        Names that an exercise defines. Names that the package does not define are ignored.
    """
    solutions = [(function, name) for name in names for function in _solutions(name)]
    codes = [function.__code__ for function, _name in solutions]
    try:
        for function, name in solutions:
            function.__code__ = _removed.__code__.replace(co_name=name)
        yield
    finally:
        for (function, _name), code in zip(solutions, codes):
            function.__code__ = code


def name_from_package(error):
    """Return the name of the removed solution that raised an error.

    Parameters
    ----------
    error : NotImplementedError

    Returns
    -------
    str or None
        None if the error was not raised by a removed solution.
    """
    if error.args != (_REMOVED,):
        return None
    return traceback.extract_tb(error.__traceback__)[-1].name


def _solutions(name):
    """Return the package's functions that solve an exercise; methods if the name is a class."""
    value = getattr(vae, name, None)
    functions = vars(value).values() if isinstance(value, type) else [value]
    return [function for function in functions if inspect.isfunction(function)
            and "### BEGIN SOLUTION" in inspect.getsource(function)]


def _removed(*arguments, **named):
    # This code runs with the globals of another module, so it cannot use `_REMOVED`.
    raise NotImplementedError("This solution is removed from the package")
