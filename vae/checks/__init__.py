"""What each exercise of the seminar must satisfy.

An exercise is checked in four steps, each a function of its own:

``build``
    takes the names that the student's cells have defined and returns the
    symbolic graph to look at: a dict of Theano variables, numbers and texts,
    and lists of these;
``draw``
    draws the numbers to try it on;
``measure``
    compiles the graph and evaluates it on them;
``judge``
    compares the results with NumPy and closed forms, never with the package's
    own classes.

In a notebook `check` runs them one after another. Grading runs ``build`` in a
process that the student's code has to itself, ``measure`` in one where it has
never run, and ``judge`` in the grader's own.

Any step may raise `Mistake` with a hint, in Russian, of what to look at. Each
exercise is a module here: a new exercise is a
new module and a line in `EXERCISES`.
"""

import numpy as np

from vae.checks import elbo, encoder, generative_model, posterior, sample
from vae.checks.exercise import (
    Exercise, Interrupted, MAX_SIZE, Mistake, N_HELD_OUT, Names, explain, require, sizes_of)
from vae.checks.cell_history import Runs, why_failed
from vae.language import _

__all__ = ["EXERCISES", "Exercise", "MAX_SIZE", "Mistake", "Names", "check", "explain", "sizes_of"]

#: The seminar's exercises, by number.
EXERCISES = {1: sample.EXERCISE, 2: encoder.EXERCISE, 3: posterior.EXERCISE,
             4: generative_model.EXERCISE, 5: elbo.EXERCISE}

_runs = Runs(EXERCISES)


def check(exercise, names):
    """Check one exercise and print the verdict.

    In Jupyter it knows which cells were run (`cell_history`): an exercise whose cell has failed since, or
    whose cell is older than one that it builds on, is not right.

    Parameters
    ----------
    exercise : int
        Its number, a key of `EXERCISES`.
    names : dict
        What the student's cells have defined: ``globals()`` in a notebook.
        Besides the names that the exercise asks for, exercise 2 and later
        look up HIDDEN_DIM, 4 and 5 BATCH_SIZE, and 5 X_train, real images of
        shape (n, 1, 28, 28) to train on.

    Raises
    ------
    Mistake
        If the exercise is not done or not right.
    ValueError
        If there is no exercise of this number.
    """
    if exercise not in EXERCISES:
        raise ValueError(f"Got exercise {exercise!r}, expected one of {sorted(EXERCISES)}")
    steps = EXERCISES[exercise]
    title = _("Упражнение {exercise} ({title})").format(exercise=exercise, title=steps.title)
    failed, outdated = _runs.error_of(exercise), _runs.why_outdated(exercise)
    try:
        if isinstance(failed, NotImplementedError):
            raise NotImplementedError
        require(outdated is None, outdated)
        require(not isinstance(failed, SyntaxError), why_failed(failed))
        graph = steps.build(Names(names))  # it may tell what has failed better than the error does
        require(failed is None, why_failed(failed))
        images = _real_images(Names(names).X_train) if steps.trains else None
        inputs = steps.draw(np.random.RandomState(0), images, **sizes_of(graph))
        steps.judge(inputs, steps.measure(graph, inputs))
    except NotImplementedError:
        raise Mistake(_("✗ {title} ещё не выполнено: напишите решение, удалите строку raise и "
                        "выполните ячейку.").format(title=title)) from None
    except Mistake as mistake:
        raise Mistake(f"✗ {title}: {mistake}") from None
    except KeyboardInterrupt:
        raise Interrupted(_("Проверка упражнения {exercise} прервана.").format(
            exercise=exercise)) from None
    except Exception as error:
        raise Mistake(f"✗ {title}: {explain(error)}") from error
    print(_("✓ {title}: верно.").format(title=title))


def _real_images(images):
    shape = np.shape(images)
    require(shape[1:] == (1, 28, 28) and shape[0] > 2 * N_HELD_OUT,
            _("X_train имеет форму {shape}, а нужны изображения MNIST: (n, 1, 28, 28), n > "
              "{value}.").format(shape=shape, value=2 * N_HELD_OUT))
    return images
