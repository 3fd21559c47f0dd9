"""What the process of the grader's own code does: evaluate the graphs of exercises."""

import numpy as np

from vae.checks import EXERCISES, Mistake, explain, sizes_of
from vae.language import _
from vae_grading.graphs import load_graph

__all__ = ["measure"]


def measure(given, images, say, graphs, seed):
    """Evaluate the graphs of some exercises on inputs drawn from a seed.

    Parameters
    ----------
    given : dict
        Not used: no code of a student's runs here.
    images : numpy.ndarray
        Real images.
    say : callable
        Sends a value.
    graphs : dict
        Graphs as text, by the number of the exercise as text.
    seed : int
    """
    for number, text in graphs.items():
        exercise = EXERCISES[int(number)]
        say({"stage": _("упражнение {number}").format(number=number), "exercises": [int(number)]})
        try:
            graph = load_graph(text)
            sizes = sizes_of(graph)
            inputs = exercise.draw(np.random.RandomState(seed), images, **sizes)
            say({"exercise": int(number), "sizes": sizes,
                 "measured": exercise.measure(graph, inputs)})
        except Exception as error:
            hint = str(error) if isinstance(error, Mistake) else explain(error)
            say({"exercise": int(number),
                 "failed": {"hint": hint, "traceback": "", "undone": None}})
