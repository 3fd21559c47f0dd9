"""Calling a function in a fork of this process, whose changes of itself do not last."""

import os
import warnings

__all__ = ["in_another_process", "write_all"]


def in_another_process(function):
    """Return the bytes that a function returns in a fork of this process."""
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
    """Fork without Python 3.12's warning of threads: the child needs no lock that one may hold."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def write_all(descriptor, data):
    """Write bytes to a descriptor, in several parts if need be."""
    while data:
        data = data[os.write(descriptor, data):]
