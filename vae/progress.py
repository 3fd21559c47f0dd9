"""Progress bars."""

import sys
import threading
from contextlib import contextmanager, nullcontext

from tqdm import tqdm

__all__ = ["advance", "expect", "expect_more", "progress_bar", "progress_of_a_check", "stage"]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
_TIME = "{desc}: {elapsed}"
#: Seconds for which a check shows no bar, and seconds between changes of the time that it shows.
_DELAY, _TICK = 1., 0.5

#: The bar of the check that runs, if any.
_bar = None


class _Bar(tqdm):
    def refresh(self, nolock=False, lock_args=None):
        """Draw the bar anew. Unlike tqdm's method, this releases the lock if it is interrupted.

        Otherwise the thread of the next check would wait for the lock, and the check for its
        thread, forever.
        """
        with nullcontext() if nolock else self.get_lock():
            self.display()
        return True


def progress_bar(label, iterable=None, **options):
    """Return a tqdm bar that vanishes when it is done.

    Its format has no words, since those of tqdm are English.

    Parameters
    ----------
    label : str or None
        Without a label, no bar is shown.
    iterable : iterable, optional
        What the bar iterates over.
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
    """Show how long a check has taken, and how far it is, if it takes longer than a second.

    What runs in the ``with`` statement tells that by `expect`, `advance` and `stage`, which do
    nothing elsewhere, such as in the grader.

    Parameters
    ----------
    label : str
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
    """State how many steps the check that runs will take at most."""
    if _bar is not None:
        _bar.total, _bar.bar_format = n_steps, _BAR


def expect_more(n_steps):
    """State that the check that runs will take up to this many steps more than was expected."""
    if _bar is not None:
        expect((_bar.total or 0) + n_steps)


def advance():
    """Count a step of the check that runs."""
    if _bar is not None:
        _bar.update()


@contextmanager
def stage(label):
    """Show another label, and no steps but the time, while a ``with`` statement lasts."""
    if _bar is None:
        yield
        return
    bar, before = _bar, (_bar.desc, _bar.bar_format)
    bar.desc, bar.bar_format = label, _TIME
    try:
        yield
    finally:
        bar.desc, bar.bar_format = before
