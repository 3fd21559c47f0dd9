"""Calls of functions in a fork of this process, so that they cannot change this process."""

import os
import warnings

__all__ = ["in_another_process", "write_all"]


def in_another_process(function):
    """Call a function in a fork of this process.

    Parameters
    ----------
    function : callable
        Takes no arguments and returns bytes.

    Returns
    -------
    bytes
        The result of the function; empty if it raised an error.
    """
    end, start = os.pipe()
    pid = _fork()
    if pid == 0:
        try:
            write_all(start, function())
        finally:
            os._exit(0)
    os.close(start)
    with os.fdopen(end, "rb") as file:
        result = file.read()
    os.waitpid(pid, 0)
    return result


def _fork():
    """Fork without the warning about threads of Python 3.12.

    The child does not need any lock that another thread may hold.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def write_all(descriptor, data):
    """Write bytes to a file descriptor, if necessary in several parts.

    Parameters
    ----------
    descriptor : int
    data : bytes

    Raises
    ------
    OSError
    """
    while data:
        data = data[os.write(descriptor, data):]
