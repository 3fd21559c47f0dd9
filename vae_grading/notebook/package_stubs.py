"""The exercises that the package `vae` solves as well: stubs in the sandbox, filled on demand."""

import vae
from vae.checks import EXERCISES
from vae_grading.notebook.cells import python_of

__all__ = ["PACKAGE_STUBS", "fill_package", "in_package"]

#: What the package's own names for exercises are: in the worker, without the solutions.
PACKAGE_STUBS = {number: {name: getattr(vae, name) for name in exercise.names if hasattr(vae, name)}
               for number, exercise in EXERCISES.items()}


def in_package():
    """The exercises that the package solves, too."""
    return [number for number, stubs in PACKAGE_STUBS.items() if stubs]


def fill_package(solutions, given):
    """Let the package's classes and functions do what they do where it has its solutions.

    Parameters
    ----------
    solutions : dict
        The reference's code, by the number of an exercise.
    given : dict
        What it may rely on.
    """
    for number, source in solutions.items():
        names = dict(given)
        exec(compile(python_of(source), "<package>", "exec"), names)
        for name, stub in PACKAGE_STUBS[number].items():
            if isinstance(stub, type):
                for method, function in vars(names[name]).items():
                    if callable(function):
                        setattr(stub, method, function)
            else:
                stub.__code__ = names[name].__code__
