"""The seminar's exercises. Each module in this folder is an exercise; there is no other list.

Such a module ends with ``EXERCISE = Exercise(number=..., ...)``. ``docs/lecturers.md`` describes how
to add, remove and reorder exercises.
"""

import importlib
import pkgutil

import vae
from vae.checks.exercise import Exercise

__all__ = ["EXERCISES", "by_number"]


def by_number(exercises):
    """Sort exercises by their numbers.

    Parameters
    ----------
    exercises : dict of Exercise
        Maps the name of a module to its exercise.

    Returns
    -------
    dict of Exercise
        Maps numbers to exercises, in ascending order. Numbers may be missing.

    Raises
    ------
    ValueError
        If a number is not a positive integer, or if two exercises have the same number or define
        the same name. Also if an exercise uses a name that neither an earlier exercise nor the
        package `vae` defines.
    """
    modules, definer = {}, {}
    for module, exercise in exercises.items():
        number = exercise.number
        if type(number) is not int or number < 1:
            raise ValueError(f"Got number {number!r} of the exercise {module}, expected a positive "
                             "integer")
        if number in modules:
            raise ValueError(f"Got number {number} in the exercises {modules[number]} and "
                             f"{module}, expected another number in one of them")
        modules[number] = module
        for name in exercise.names:
            if name in definer:
                raise ValueError(f"Got {name} among the names of the exercises "
                                 f"{modules[definer[name]]} and {module}, expected it in one")
            definer[name] = number
    for module, exercise in exercises.items():
        for name in exercise.uses:
            if name in definer and definer[name] >= exercise.number:
                raise ValueError(
                    f"Got number {exercise.number} of the exercise {module}, expected more than "
                    f"{definer[name]}: it uses {name}, which {modules[definer[name]]} defines")
            if name not in definer and not hasattr(vae, name):
                raise ValueError(f"Got {name!r} in what the exercise {module} uses, expected names "
                                 "that other exercises or the package vae define")
    return {number: exercises[modules[number]] for number in sorted(modules)}


def _in_this_folder():
    """Return the exercises in this folder, a dict by the name of the module."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        exercise = getattr(importlib.import_module(f"{__name__}.{module.name}"), "EXERCISE", None)
        if not isinstance(exercise, Exercise):
            raise ValueError(f"Got EXERCISE = {exercise!r} in {__name__}.{module.name}, expected "
                             "an Exercise: modules of another kind belong in vae/checks/")
        found[module.name] = exercise
    return found


#: Maps the number of an exercise to the exercise, in ascending order.
EXERCISES = by_number(_in_this_folder())
