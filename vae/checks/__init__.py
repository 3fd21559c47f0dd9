"""The checks of the seminar's exercises.

An exercise is a module with four functions, the steps of its check:

``build``
    takes the names that the student's cells have defined and returns the
    symbolic graph to check: a dict of Theano variables, numbers and texts,
    and lists of these;
``draw``
    draws the inputs on which the graph is evaluated;
``measure``
    compiles the graph and evaluates it on the inputs;
``judge``
    compares the results with NumPy and closed forms, never with the package's
    own classes.

In a notebook `check` runs them one after another. The grader runs ``build`` in
the process of the student's code, ``measure`` in a process where that code has
never run, and ``judge`` in its own process.

Any step may raise `Mistake` with a hint. A new exercise is a new module in
`vae.checks.exercises`. `docs/lecturers.md` describes how to write one, and what
the modules here offer to it.
"""

import warnings

import numpy as np

from vae.checks.cell_history import CellHistory, why_failed
from vae.checks.exercise import (
    MAX_SIZE, N_HELD_OUT, Exercise, Interrupted, Mistake, Names, explain, require, sizes_of)
from vae.checks.exercises import EXERCISES
from vae.checks.no_side_effects import (
    same_random_numbers_afterwards, same_shared_variables_afterwards)
from vae.kernel import ipython_shell
from vae.language import _
from vae.progress import progress_of_a_check

__all__ = ["EXERCISES", "Exercise", "MAX_SIZE", "Mistake", "Names", "check", "check_current",
           "explain", "sizes_of"]

_history = CellHistory(EXERCISES)


def check(exercise, names=None):
    """Check one exercise and print the verdict.

    It leaves NumPy's global generator and the model's variables as they were.

    In Jupyter it also rejects an exercise whose cell ended with an error when it was last run, or
    uses the results of a cell that has been run again since then.

    Parameters
    ----------
    exercise : int
        The number, a key of `EXERCISES`.
    names : dict, optional
        What the student's cells have defined; by default, all names of the
        notebook that runs this process. Besides those that it asks for, an
        exercise may read others, such as HIDDEN_DIM and BATCH_SIZE. One that
        trains reads X_train, real images of shape (n, 1, 28, 28).

    Raises
    ------
    Mistake
        If the exercise is not done or not right.
    Interrupted
        If it is interrupted.
    ValueError
        If there is no exercise of this number.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    try:
        _check(exercise, names)
    except KeyboardInterrupt:
        raise Interrupted(_("Проверка упражнения {exercise} прервана.",
                            exercise=exercise)) from None


def _check(exercise, names):
    steps = EXERCISES[exercise]
    if names is None:
        names = ipython_shell().user_ns
    title = _("Упражнение {exercise} ({title})", exercise=exercise, title=steps.title)
    failure, outdated = _history.error_of(exercise), _history.why_outdated(exercise)
    try:
        if isinstance(failure, NotImplementedError):
            raise NotImplementedError
        require(outdated is None, outdated)
        require(not isinstance(failure, SyntaxError), why_failed(failure))
        with same_random_numbers_afterwards():
            graph = steps.build(Names(names))  # its hint may say more than the error does
            require(failure is None, why_failed(failure))
            images = _real_images(Names(names).X_train) if steps.trains else None
            inputs = steps.draw(np.random.RandomState(0), images, **sizes_of(graph))
            with same_shared_variables_afterwards(graph), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # NaN gets a hint
                with progress_of_a_check(_("Проверка упражнения {exercise}", exercise=exercise)):
                    measured = steps.measure(graph, inputs)
                steps.judge(inputs, measured)
    except NotImplementedError:
        raise Mistake(_("✗ {title} ещё не выполнено: напишите решение, удалите строку raise и "
                        "выполните ячейку.", title=title)) from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {explain(error)}") from error
    print(_("✓ {title}: верно.", title=title))


def check_current(*names):
    """In Jupyter, reject names whose values are older than the cells that they come from.

    So later cells do not train, draw or save an old network after an exercise's cell was run again,
    or has failed, or after HIDDEN_DIM or BATCH_SIZE has changed. Elsewhere this does nothing.

    Parameters
    ----------
    *names : str
        What the exercises define, or what the notebook's later cells make of it.

    Raises
    ------
    Mistake
        It says which cells to run again.
    """
    reason = _history.why_not_current(names)
    require(reason is None, reason and f"✗ {reason[0].upper()}{reason[1:]}")


def _real_images(images):
    shape = np.shape(images)
    require(shape[1:] == (1, 28, 28) and shape[0] > 2 * N_HELD_OUT,
            _("X_train имеет форму {shape}, а нужны изображения MNIST: (n, 1, 28, 28), n > "
              "{minimum}.", shape=shape, minimum=2 * N_HELD_OUT))
    return images
