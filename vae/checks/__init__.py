"""The checks of the seminar's exercises.

An exercise is a module with four functions, the steps of its check:

``build``
    takes the names that the student's cells have defined, and returns the
    symbolic graph to check: a dict of Theano variables, numbers, texts and
    lists of these;
``draw``
    draws the inputs on which the graph is evaluated;
``measure``
    evaluates the graph on the inputs;
``judge``
    compares the results with NumPy and closed forms, never with the package's
    own classes.

In a notebook `check` runs them one after another. The grader runs ``build`` in
the process of the student's code, ``measure`` in a process where that code has
never run, and ``judge`` in its own process.

Any step may raise `Mistake` with a hint. A new exercise is a new module in
`vae.checks.exercises`. `docs/lecturers.md` describes how to write it, and which
tools the modules in this folder provide.
"""

import warnings

import numpy as np

from vae.checks.cell_history import CellHistory, why_failed
from vae.checks.exercise import (
    MAX_SIZE, N_HELD_OUT, Exercise, Interrupted, Mistake, Names, Undefined, explain, kind_of,
    place_and_advice, require, sizes_of)
from vae.checks.exercises import EXERCISES
from vae.checks.graph_tools import (
    parameters_of, same_parameters_afterwards, same_random_numbers_afterwards, shared_variables_of,
    variables_in)
from vae.checks.name_history import NameHistory
from vae.checks.package_solutions import FROM_PACKAGE, name_from_package, without_solutions
from vae.kernel import ipython_shell
from vae.language import _
from vae.progress import progress_of_a_check

__all__ = ["EXERCISES", "Exercise", "MAX_SIZE", "Mistake", "Names", "check", "check_current",
           "explain", "sizes_of"]

_history = CellHistory(EXERCISES)
_names = NameHistory(["input_x", *(
    name for exercise in EXERCISES.values() for name in exercise.names)])


def check(exercise, names=None):
    """Check one exercise and print the verdict.

    Afterwards, the state of NumPy's global generator and the model's variables are the same as
    before.

    In Jupyter, it also rejects an exercise if its cell failed when it was last run, or if that cell
    uses the results of another cell that has been run again since then.

    Parameters
    ----------
    exercise : int
        The number of the exercise, a key of `EXERCISES`.
    names : dict, optional
        The names that the student's cells have defined. By default, these are
        all names of the notebook that runs this process. An exercise may also
        read names that its own cell does not define, such as HIDDEN_DIM and
        BATCH_SIZE. An exercise with ``trains=True`` reads X_train, real images
        of shape (n, 1, 28, 28) with values in [0, 1].

    Raises
    ------
    Mistake
        If the exercise is not done, or the solution is wrong.
    Interrupted
        If the user interrupts the check.
    ValueError
        If there is no exercise with this number.
    TypeError
        If `names` is not a dict, or if it is left out and no notebook is
        running.
    """
    if exercise not in list(EXERCISES):
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    if names is None:
        names = _notebook_names()
    if not isinstance(names, dict):
        raise TypeError(f"Got names of type {type(names).__name__}, expected a dict")
    try:
        _check(exercise, names)
    except KeyboardInterrupt:
        raise Interrupted(_("Проверка упражнения {exercise} прервана.",
                            exercise=exercise)) from None


def _check(exercise, names):
    steps = EXERCISES[exercise]
    title = _("Упражнение {exercise} ({title})", exercise=exercise, title=steps.title)
    try:
        with same_random_numbers_afterwards():
            _run_steps(exercise, steps, names)
    except NotImplementedError as error:
        name = name_from_package(error)
        if name is not None:
            raise Mistake(f"✗ {title}: {_(FROM_PACKAGE, name=name)}") from None
        raise Mistake(_("✗ {title} ещё не выполнено: напишите решение, удалите строку raise и "
                        "выполните ячейку.", title=title)) from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {explain(error)}") from error
    print(_("✓ {title}: верно.", title=title))


def check_current(*names):
    """In Jupyter, reject names with outdated values.

    A value is outdated if an exercise's cell, on which it depends, was run again or has failed, or
    if HIDDEN_DIM or BATCH_SIZE has changed. Without this function, later cells would train, draw or
    save an old network. Outside Jupyter, it does nothing.

    Parameters
    ----------
    *names : str
        Names that the exercises define, or that later cells of the notebook make from these.

    Raises
    ------
    Mistake
        If a value is outdated. The message says which cells to run again.
    """
    reason = _history.why_not_current(names)
    require(reason is None, reason and f"✗ {reason[0].upper()}{reason[1:]}")


def _notebook_names():
    shell = ipython_shell()
    if shell is None:
        raise TypeError("Got no names outside a notebook, expected check(exercise, names) with "
                        "names a dict such as globals()")
    return shell.user_ns


def _run_steps(exercise, steps, names):
    """Run the steps of a check, unless the last runs of the cells already show a mistake."""
    failure, outdated = _history.error_of(exercise), _history.why_outdated(exercise)
    if isinstance(failure, NotImplementedError):
        raise NotImplementedError
    require(outdated is None, outdated)
    if failure is not None:
        _explain_failure(failure, steps, names)
    removed = _names.removed(steps.names)
    require(not removed,
            _("в ячейке этого упражнения больше не определяется: {names}. Верните то, что удалено, "
              "и выполните ячейку.", names=", ".join(removed)))
    with without_solutions(steps.names):
        graph = steps.build(Names(names))
    variables = variables_in(graph)
    _require_finite_weights(parameters_of(variables))
    images = _real_images(Names(names)) if steps.trains else None
    inputs = steps.draw(np.random.RandomState(0), images, **sizes_of(graph))
    with same_parameters_afterwards(shared_variables_of(variables)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wrong answer may give nan or inf
        with progress_of_a_check(_("Проверка упражнения {exercise}", exercise=exercise)):
            measured = steps.measure(graph, inputs)
        _judge(steps, inputs, measured)


def _require_finite_weights(parameters):
    require(all(np.isfinite(parameter.get_value(borrow=True)).all() for parameter in parameters),
            _("веса сетей испорчены, среди них есть nan или бесконечность: вероятно, обучение "
              "разошлось. Выполните заново ячейки, в которых создаются сети, и все ячейки после "
              "них."))


def _judge(steps, inputs, measured):
    try:
        steps.judge(inputs, measured)
    except Mistake:
        raise
    except Exception as error:
        raise Mistake(_("при проверке получились числа, которые нельзя сравнить с верными: нет ли "
                        "среди них бесконечных, те ли у тензоров формы?")) from error


def _explain_failure(failure, steps, names):
    """Raise a `Mistake` about a cell that failed.

    The names that the cell defined before it failed may show the cause better than the error.
    """
    if not isinstance(failure, SyntaxError):
        not_reached = _names.not_reached()
        defined = {name: value for name, value in names.items() if name not in not_reached}
        try:
            steps.build(Names(defined))
        except Undefined:
            pass  # because the cell has failed
        except Mistake:
            raise
        except Exception:
            pass
    raise Mistake(why_failed(failure) + place_and_advice(failure))


def _real_images(names):
    images = names.X_train
    is_array = isinstance(images, np.ndarray) and images.dtype.kind in "fiub"
    require(is_array and images.shape[1:] == (1, 28, 28) and len(images) > 2 * N_HELD_OUT,
            _("X_train сейчас — {kind}, а нужен массив изображений MNIST формы (n, 1, 28, 28), "
              "n > {minimum}: выполните первую ячейку ноутбука ещё раз.",
              kind=kind_of(images), minimum=2 * N_HELD_OUT))
    require(0 <= images.min() and images.max() <= 1,
            _("значения пикселей в X_train — от {least:.3g} до {greatest:.3g}, а нужны от 0 до 1: "
              "выполните первую ячейку ноутбука ещё раз.",
              least=images.min(), greatest=images.max()))
    return images
