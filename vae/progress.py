"""Progress bars."""

import sys

from tqdm import tqdm

__all__ = ["progress_bar"]


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
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
    return tqdm(iterable, label, disable=label is None, file=sys.stdout, leave=False,
                bar_format=bar_format, **options)
