"""The task of a process in which only our own code runs: evaluate the graphs of exercises."""

import signal
from contextlib import contextmanager

import numpy as np

from vae.checks import EXERCISES, MAX_SIZE, Mistake, explain, sizes_of
from vae.language import _
from vae_grading.graphs import load_graph
from vae_grading.hints import parts_of
from vae_grading.messages import Failure, Measurement, Stage

__all__ = ["measure"]


class _TooSlow(BaseException):
    """Evaluating the graphs takes longer than allowed."""


def measure(task, images, send, seconds):
    """Evaluate the graphs of some exercises on inputs drawn from a seed.

    Parameters
    ----------
    task : vae_grading.messages.MeasureTask
    images : numpy.ndarray, shape (n, 1, 28, 28)
        Real images.
    send : callable
        Takes a message.
    seconds : float
        Limit on the processor time for all graphs together. The graph that exceeds it is the last.
    """
    try:
        with _limited(seconds):
            for number, text in task.graphs.items():
                send(Stage(_("упражнение {number}", number=number), (number,)))
                try:
                    send(_measured(number, text, images, task.seed))
                except Exception as error:
                    hint = str(error) if isinstance(error, Mistake) else explain(error)
                    send(Failure(number, hint, parts=tuple(parts_of(error))))
    except _TooSlow:
        send(Failure(number, _(
            "проверка вычисляет построенный граф, а в упражнении с обучением ещё и обучает "
            "модель, и за {seconds:.0f} с это не закончилось. Ваш код не зациклился: вычислений "
            "слишком много. Возьмите сеть поменьше.", seconds=seconds), exhausted=True))


@contextmanager
def _limited(seconds):
    """Raise `_TooSlow` after some seconds of processor time."""
    def stop(*args):
        raise _TooSlow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _measured(number, text, images, seed):
    exercise, graph = EXERCISES[number], load_graph(text)
    sizes = sizes_of(graph)
    if any(not 0 < size <= MAX_SIZE for size in sizes.values()):
        raise ValueError(f"Got sizes {sizes}, expected 1 to {MAX_SIZE}")
    inputs = exercise.draw(np.random.RandomState(seed), images, **sizes)
    return Measurement(number, sizes, exercise.measure(graph, inputs))
