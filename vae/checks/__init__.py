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

Any step may raise `Mistake` with a hint. A new exercise is a new module and a
line in `EXERCISES`. `docs/lecturers.md` describes how to write one, and what
the other modules here offer to it.
"""

import warnings

import numpy as np

from vae.checks import elbo, encoder, generative_model, posterior, sample
from vae.checks.cell_history import CellHistory, why_failed
from vae.checks.exercise import (
    MAX_SIZE, N_HELD_OUT, Exercise, Interrupted, Mistake, Names, Undefined, explain, kind_of,
    place_and_advice, require, sizes_of)
from vae.checks.name_history import NameHistory
from vae.checks.package_solutions import FROM_PACKAGE, name_from_package, without_solutions
from vae.kernel import ipython_shell
from vae.language import _

__all__ = ["EXERCISES", "Exercise", "MAX_SIZE", "Mistake", "Names", "check", "explain", "sizes_of"]

#: The seminar's exercises, by number.
EXERCISES = {1: sample.EXERCISE, 2: encoder.EXERCISE, 3: posterior.EXERCISE,
             4: generative_model.EXERCISE, 5: elbo.EXERCISE}

_history = CellHistory(EXERCISES)
_names = NameHistory(["input_x", *(
    name for exercise in EXERCISES.values() for name in exercise.names)])


def check(exercise, names=None):
    """Check one exercise and print the verdict.

    In Jupyter it also rejects an exercise whose cell ended with an error when it was last run, or
    uses the results of a cell that has been run again since then.

    Parameters
    ----------
    exercise : int
        The number, a key of `EXERCISES`.
    names : dict, optional
        What the student's cells have defined; by default, the names of the
        notebook. Besides those that the exercise asks for, exercises 2 to 4
        read HIDDEN_DIM, 4 and 5 BATCH_SIZE, and 5 X_train, real images of shape
        (n, 1, 28, 28) to train on.

    Raises
    ------
    Mistake
        If the exercise is not done or not right.
    ValueError
        If there is no exercise of this number.
    TypeError
        If `names` is no dict, or is left out where no notebook is running.
    """
    if exercise not in list(EXERCISES):
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    if names is None:
        names = _notebook_names()
    if not isinstance(names, dict):
        raise TypeError(f"Got names of type {type(names).__name__}, expected a dict")
    steps = EXERCISES[exercise]
    title = _("Упражнение {exercise} ({title})", exercise=exercise, title=steps.title)
    try:
        _run_steps(exercise, steps, names)
        print(_("✓ {title}: верно.", title=title))
    except NotImplementedError as error:
        name = name_from_package(error)
        if name is not None:
            raise Mistake(f"✗ {title}: {_(FROM_PACKAGE, name=name)}") from None
        raise Mistake(_("✗ {title} ещё не выполнено: напишите решение, удалите строку raise и "
                        "выполните ячейку.", title=title)) from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except KeyboardInterrupt:
        raise Interrupted(_("Проверка упражнения {exercise} прервана.",
                            exercise=exercise)) from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {explain(error)}") from error


def _notebook_names():
    shell = ipython_shell()
    if shell is None:
        raise TypeError("Got no names outside a notebook, expected check(exercise, names) with "
                        "names a dict such as globals()")
    return shell.user_ns


def _run_steps(exercise, steps, names):
    """Run the steps of a check, unless the last runs of the cells already tell what is wrong."""
    failure, outdated = _history.error_of(exercise), _history.why_outdated(exercise)
    if isinstance(failure, (Mistake, Interrupted)):
        failure = None  # it is the verdict of a `check` in the same cell
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
    images = _real_images(Names(names)) if steps.trains else None
    inputs = steps.draw(np.random.RandomState(0), images, **sizes_of(graph))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wrong answer may give nan or inf
        measured = steps.measure(graph, inputs)
        _judge(steps, inputs, measured)


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

    What the cell defined before it failed may show the cause better than the error does.
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
