"""Hints that contain no free text of a student's process.

A process that was given solutions also runs a student's code, which could put the solutions into a
hint. So the hints of such a process are not shown. Instead of a hint, it sends the templates of our
own texts in the hint, and the values of their placeholders. `Censor` builds the hint from these. It
shows only a few values. It omits each value that is not a small number, a shape, or a name in the
student's notebook or in the reference.

Names in the results of a graph, places and lines of code are censored, too. For lines of code the
process sends numbers; the text of the lines was sent earlier, before any solution was given.
"""

import ast
import builtins
import math
import re
from dataclasses import replace
from functools import lru_cache

import lasagne
import numpy as np
import theano.tensor as T

from vae.checks import EXERCISES, Mistake
from vae.checks.error_advice import advice_on, first_line
from vae.language import N_, Text, _, language, translate

__all__ = ["MAX_PARTS", "Censor", "parts_of"]

MAX_PARTS = 4  # texts in a hint
_MAX_DEPTH = 3  # levels of nested texts
_MAX_VALUES = 12  # values of a text, and names in a list
_MAX_SHOWN = 8  # numbers and names in a hint; more of them could spell out a solution
_MAX_NUMBER = 10**6
_MAX_NAME = 30  # characters
_LEFT_OUT = "…"
_EXPLAINED = N_("код не выполняется: {error}: {message}")
_NO_DETAILS = N_("код не выполняется или даёт не тот результат.")

_MODULES = {"T": T, "T.nnet": T.nnet, "lasagne.nonlinearities": lasagne.nonlinearities,
            "lasagne.layers": lasagne.layers, "lasagne.init": lasagne.init,
            "lasagne.objectives": lasagne.objectives, "lasagne.updates": lasagne.updates}
_PARAMETERS = {"W", "b", "beta", "gamma", "mean", "inv_std"}  # names in Lasagne's layers
#: Names of Python, Theano and Lasagne.
_KNOWN_NAMES = {
    *dir(builtins), *_PARAMETERS, "DisconnectedInputError", "MissingInputError",
    "NullTypeGradError", *(f"{path}.{name}" for path, module in _MODULES.items()
                           for name in dir(module)),
    *(name for module in _MODULES.values() for name in dir(module))}


# --- in the sandbox ---

def parts_of(cause):
    """Return the texts of our code that a hint consists of.

    Parameters
    ----------
    cause : BaseException or vae.language.Text
        The error that the hint explains, or the hint itself.

    Returns
    -------
    list of list
        Texts. A text is a list of two items: the template in Russian, and a dict of values. A value
        may be a text, too.
    """
    return [_plain(text, 0) for text in _texts_of(cause)[:MAX_PARTS]]


def _texts_of(cause):
    if isinstance(cause, Text):
        return [cause]
    texts = [text for error in (cause, cause.__context__) if error is not None
             for text in error.args if isinstance(text, Text)]
    if texts or isinstance(cause, Mistake):
        return texts[:1]
    name = cause.name if isinstance(cause, NameError) else None
    explained = _(_EXPLAINED, error=type(cause).__name__, message=name or first_line(cause))
    return [explained, *(text for text in [advice_on(cause)] if isinstance(text, Text))]


def _plain(value, depth):
    """Convert a value of a text to values that JSON allows."""
    if isinstance(value, Text) and depth < _MAX_DEPTH:
        return [value.template, {name: _plain(item, depth + 1)
                                 for name, item in value.values.items()}]
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.number):
        return value.item()
    if isinstance(value, (list, tuple)):
        return {"items": [_plain(item, depth + 1) for item in value[:_MAX_VALUES]]}
    return str(value)[:200]


# --- in the grader ---

@lru_cache(maxsize=None)
def _own_texts():
    """Return all texts that our code translates."""
    from vae_grading.sandbox.worker import own_files  # at the top, this import would be circular

    found = set()
    for path in own_files().values():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "N_"):
                    found.update(argument.value for argument in node.args
                                 if isinstance(argument, ast.Constant))
    return found


class Censor:
    """Removes free text from the messages of a process that was given solutions.

    Parameters
    ----------
    cells : list of str
        The code of the student's cells, sent before any solution was given.
    reference : list of str
        Other code, the names in which may be shown: the reference and the given networks.
    failures : list of vae_grading.messages.Failure
        Failures sent before any solution was given. If a process sends such a failure again, its
        whole text is shown.
    """

    def __init__(self, cells, reference, failures=()):
        self._cells, self._failures = cells, failures
        self._names = set(re.findall(r"[^\W\d]\w*", "\n".join([*cells, *reference])))
        self._names |= _KNOWN_NAMES
        self._names.update(*(exercise.names for exercise in EXERCISES.values()))
        self._n_shown = 0  # numbers and names in the current hint

    def failure(self, failure):
        """Return a failure without free text, unless the same failure was sent before.

        Parameters
        ----------
        failure : vae_grading.messages.Failure

        Returns
        -------
        vae_grading.messages.Failure
        """
        for known in self._failures:
            if (known.exercise, known.parts, known.lines) == (
                    failure.exercise, failure.parts, failure.lines):
                return replace(failure, hint=known.hint, traceback=known.traceback)
        return replace(failure, hint=self.hint(failure.parts), traceback=self.lines(failure.lines))

    def hint(self, parts):
        """Build a hint.

        Parameters
        ----------
        parts : iterable
            Untrusted texts, in the form of `parts_of`.

        Returns
        -------
        str
            A hint in the reader's language.
        """
        self._n_shown = 0
        texts = filter(None, (self._text(part, 0) for part in parts))
        return "\n".join(texts) or _(_NO_DETAILS)

    def _text(self, part, depth):
        """Return a text with its values, or "" if our code has no such template."""
        try:
            template, values = part
            if template not in _own_texts() or len(values) > _MAX_VALUES or depth > _MAX_DEPTH:
                return ""
            text = translate(template, language())
            if values:
                text = text.format(**{name: self._value(value, depth)
                                      for name, value in values.items()})
            return re.sub(f"(: {_LEFT_OUT}?)+$", "", text)
        except Exception:  # untrusted values may raise anything
            return ""

    def _value(self, value, depth):
        if type(value) is list:
            return self._text(value, depth + 1) or _LEFT_OUT
        if type(value) is dict:
            return tuple(self._value(item, _MAX_DEPTH) for item in value["items"][:_MAX_VALUES])
        if type(value) is str:
            names = self._list(value.split(", ")) if value else []
            self._n_shown += len(names)
            return ", ".join(names) if self._n_shown <= _MAX_SHOWN else _LEFT_OUT
        self._n_shown += 1
        if type(value) in (bool, int) and abs(value) <= _MAX_NUMBER:
            return value if self._n_shown <= _MAX_SHOWN else _LEFT_OUT
        if type(value) is float and abs(value) <= _MAX_NUMBER and self._n_shown <= _MAX_SHOWN:
            return float(f"{value:.6g}")
        return math.nan if type(value) is float else _LEFT_OUT

    def _list(self, names):
        """Return a few known names in alphabetical order, so that their order tells nothing."""
        return sorted({self.name(name) for name in names[:_MAX_VALUES]})

    def name(self, text):
        """Return a known name or a small number unchanged, and an ellipsis for any other text.

        If the text describes a parameter, return the parameter's name, with which it begins.

        Parameters
        ----------
        text : str
            Untrusted.

        Returns
        -------
        str
        """
        first = text[:_MAX_NAME + 1].partition(" ")[0]
        layer, _dot, parameter = first.rpartition(".")
        if parameter in _PARAMETERS and layer in {"", *self._names} and len(first) <= _MAX_NAME:
            return first
        if text in self._names and len(text) <= _MAX_NAME or re.fullmatch("-?[0-9]{1,4}", text):
            return text
        return _LEFT_OUT

    def measured(self, value):
        """Return the results of a graph with only known names in them, to make a hint from.

        Parameters
        ----------
        value : object
            Untrusted: the `values` of a `vae_grading.messages.Measurement`, or a part of them.

        Returns
        -------
        object
        """
        if type(value) is str:
            return self.name(value)
        if type(value) is list:
            return (self._list(value) if all(type(item) is str for item in value)
                    else [self.measured(item) for item in value])
        if type(value) is dict:
            return {name: self.measured(item) for name, item in value.items()}
        return value

    def place(self, text):
        """Return a place in the notebook unchanged, and "" for any other text.

        Parameters
        ----------
        text : str
            Untrusted.

        Returns
        -------
        str
        """
        cell = _pattern(_("<ячейка {number}>").strip("<>"), number=r"\d{1,4}")
        line = _pattern(_("{cell}, строка {line}"), cell=cell, line=r"\d{1,5}")
        exercise = _pattern(_("упражнение {number}"), number=r"\d{1,3}")
        return text if re.fullmatch(f"{line}|{exercise}", text) else ""

    def lines(self, numbers):
        """Return lines of the student's cells, with their places.

        Parameters
        ----------
        numbers : tuple of tuple of int
            Pairs of the number of a cell and the number of a line in it, both from 1.

        Returns
        -------
        str
        """
        texts = []
        for cell, line in numbers:
            text = _("{cell}, строка {line}",
                     cell=_("<ячейка {number}>", number=cell).strip("<>"), line=line)
            code = self._cells[cell - 1].splitlines() if cell <= len(self._cells) else []
            texts.append(f"{text}:\n    {code[line - 1].strip()}" if line <= len(code) else text)
        return "\n".join(texts)


def _pattern(template, **patterns):
    """Return a regular expression that matches the texts made from a template."""
    pattern = re.escape(template)
    for name, part in patterns.items():
        pattern = pattern.replace(re.escape(f"{{{name}}}"), part)
    return pattern
