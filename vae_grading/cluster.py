"""Grading on the workers of a Dask scheduler."""

import logging
import sys
from concurrent.futures import CancelledError
from contextlib import contextmanager

from vae.language import use_language

__all__ = ["SchedulerGone", "dask_executor", "in_language"]


class SchedulerGone(RuntimeError):
    """The scheduler does not answer, or has ended."""


@contextmanager
def dask_executor(address):
    """Yield an executor whose tasks run on the workers of a scheduler.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as "tcp://host:8786".

    Yields
    ------
    concurrent.futures.Executor

    Raises
    ------
    SchedulerGone
        If the scheduler does not answer, or has cancelled a task because it ended.
    ModuleNotFoundError
        If Dask is not installed.
    """
    from distributed import Client

    for name in ["distributed", "distributed.client", "distributed.core"]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our own errors say the same shortly
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise SchedulerGone(f"No Dask scheduler answers at {address}: {error}") from None
    with client:
        if not client.scheduler_info()["workers"]:
            print(f"The Dask scheduler at {address} has no workers yet: waiting for them.",
                  file=sys.stderr)
        try:
            yield client.get_executor()
        except CancelledError:
            raise SchedulerGone(
                f"The Dask scheduler at {address} has ended. To resume, start it and its workers "
                "again, and run the same command.") from None


def in_language(language, function, *arguments):
    """Choose the language of messages in this process, then call a function.

    A worker on another machine would otherwise use the language of its own locale.

    Parameters
    ----------
    language : str
        A code: see `vae.language.use_language`.
    function : callable
    *arguments
        Passed to the function.

    Returns
    -------
    object
        The result of the function.
    """
    use_language(language)
    return function(*arguments)
