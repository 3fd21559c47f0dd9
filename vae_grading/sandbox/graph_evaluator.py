"""What the process of the grader's own code does: evaluate the graphs of exercises."""

import numpy as np

from vae.checks import EXERCISES, MAX_SIZE, Mistake, explain, sizes_of
from vae.language import _
from vae_grading.graphs import load_graph
from vae_grading.hints import parts_of
from vae_grading.messages import Failure, Measurement, Stage

__all__ = ["measure"]


def measure(task, images, send):
    """Evaluate the graphs of some exercises on inputs drawn from a seed.

    Parameters
    ----------
    task : vae_grading.messages.MeasureTask
    images : numpy.ndarray, shape (n, 1, 28, 28)
        Real images.
    send : callable
        Takes a message.
    """
    for number, text in task.graphs.items():
        send(Stage(_("упражнение {number}", number=number), (number,)))
        try:
            send(_measured(number, text, images, task.seed))
        except Exception as error:
            hint = str(error) if isinstance(error, Mistake) else explain(error)
            send(Failure(number, hint, parts=tuple(parts_of(error))))


def _measured(number, text, images, seed):
    exercise, graph = EXERCISES[number], load_graph(text)
    sizes = sizes_of(graph)
    if any(not 0 < size <= MAX_SIZE for size in sizes.values()):
        raise ValueError(f"Got sizes {sizes}, expected 1 to {MAX_SIZE}")
    inputs = exercise.draw(np.random.RandomState(seed), images, **sizes)
    return Measurement(number, sizes, exercise.measure(graph, inputs))
