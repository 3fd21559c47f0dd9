"""Exercises that the package `vae` also solves.

In the copy of the package in the sandbox, stubs replace these solutions
(`vae_grading.sandbox.worker`). A stub gets its solution back as soon as its exercise has a verdict.
"""

import vae
from vae.checks import EXERCISES
from vae_grading.notebook.cells import python_of

__all__ = ["PACKAGE_STUBS", "fill_package", "in_package"]

#: Maps an exercise to a dict of the package's classes and functions with the exercise's names.
PACKAGE_STUBS = {
    number: {name: getattr(vae, name) for name in exercise.names if hasattr(vae, name)}
    for number, exercise in EXERCISES.items()}


def in_package():
    """Return the numbers of the exercises that the package also solves.

    Returns
    -------
    list of int
    """
    return [number for number, stubs in PACKAGE_STUBS.items() if stubs]


def fill_package(solutions, given):
    """Put solutions into the package's stubs.

    Parameters
    ----------
    solutions : dict of str
        Maps the number of an exercise to the code of the reference.
    given : dict
        Names that this code may use, with their values.
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
