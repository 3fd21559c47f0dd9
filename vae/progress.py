"""Progress bars."""

import sys
import threading
from contextlib import contextmanager, nullcontext

from tqdm import tqdm

__all__ = ["advance", "expect", "expect_more", "progress_bar", "progress_of_a_check", "stage"]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
_TIME = "{desc}: {elapsed}"
#: Seconds before a check shows its bar, and seconds between updates of the elapsed time.
_DELAY, _TICK = 1., 0.5

#: The bar of the running check, or None.
_bar = None


class _Bar(tqdm):
    def refresh(self, nolock=False, lock_args=None):
        """Redraw the bar. Unlike tqdm's method, this releases the lock if it is interrupted.

        Otherwise the next check would hang: its thread would wait for the lock, and the check would
        wait for its thread.
        """
        with nullcontext() if nolock else self.get_lock():
            self.display()
        return True


def progress_bar(label, iterable=None, **options):
    """Return a tqdm bar that disappears when it is finished.

    Its format has no words, because tqdm's words are English.

    Parameters
    ----------
    label : str or None
        If it is None, no bar is shown.
    iterable : iterable, optional
        The bar iterates over it.
    **options
        Passed to `tqdm.tqdm`.

    Returns
    -------
    tqdm.tqdm
    """
    options = {"bar_format": _BAR, **options}
    return _Bar(iterable, label, disable=label is None, file=sys.stdout, leave=False, **options)


@contextmanager
def progress_of_a_check(label):
    """Show the elapsed time and the progress of a check that takes longer than a second.

    The code in the ``with`` statement reports its progress by `expect`, `advance` and `stage`.
    Outside such a statement, as in the grader, these functions do nothing.

    Parameters
    ----------
    label : str
        Name of the check.
    """
    global _bar
    is_done = threading.Event()

    def tick():
        while not is_done.wait(_TICK):
            bar.update(0)

    with progress_bar(label, bar_format=_TIME, delay=_DELAY, miniters=0) as bar:
        ticking = threading.Thread(target=tick, daemon=True)
        try:
            _bar = bar
            ticking.start()
            yield
        finally:
            _bar = None
            is_done.set()
            if ticking.ident:
                ticking.join()


def expect(n_steps):
    """Set the largest number of steps that the running check may take.

    Parameters
    ----------
    n_steps : int
    """
    if _bar is not None:
        _bar.total, _bar.bar_format = n_steps, _BAR


def expect_more(n_steps):
    """Increase the largest number of steps that the running check may take.

    Parameters
    ----------
    n_steps : int
        The number of additional steps.
    """
    if _bar is not None:
        expect((_bar.total or 0) + n_steps)


def advance():
    """Count one step of the running check."""
    if _bar is not None:
        _bar.update()


@contextmanager
def stage(label):
    """Show another label, and the elapsed time instead of steps, during a ``with`` statement.

    Parameters
    ----------
    label : str
        Name of the stage.
    """
    if _bar is None:
        yield
        return
    bar, before = _bar, (_bar.desc, _bar.bar_format)
    bar.desc, bar.bar_format = label, _TIME
    try:
        yield
    finally:
        bar.desc, bar.bar_format = before
