"""Signatures of students' functions, whose annotations may name what does not exist."""

import inspect
import sys

__all__ = ["signature_of"]

_OPTIONS = {}
if sys.version_info >= (3, 14):  # a signature evaluates the annotations by default
    from annotationlib import Format
    _OPTIONS["annotation_format"] = Format.STRING


def signature_of(function):
    """Return the signature of a function or class without evaluating annotations.

    Parameters
    ----------
    function : callable

    Returns
    -------
    inspect.Signature

    Raises
    ------
    TypeError, ValueError
        If it is not callable, or does not state its arguments.
    """
    return inspect.signature(function, **_OPTIONS)
