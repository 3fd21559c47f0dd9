"""The messages between the grader and the processes in the sandbox.

The grader sends one task, `BuildTask` or `MeasureTask`, and the process answers with messages. A
student's code can write anything in place of these messages, so all of them pass through
`answers_in`. This function takes the values from `vae_grading.json_lines`. It returns the messages
of the expected classes that have exactly the right fields, each of the right type and size. It
drops all other values. A message is still only a claim. No message gives points by its mere
arrival: `vae.checks` judges the values of a `Measurement`.
"""

import base64
import json
from dataclasses import dataclass

from vae.checks import EXERCISES, MAX_SIZE
from vae.language import Text
from vae_grading.graphs.parameters import (
    as_any_of, as_integer, as_list, as_one_of, as_tuple, converted)
from vae_grading.hints import MAX_PARTS, parts_of
from vae_grading.json_lines import to_json
from vae_grading.sandbox.process import Limits

__all__ = ["MAX_CODE", "MAX_LINES", "Broken", "BuildTask", "BuiltGraph", "Checked", "Failure",
           "MeasureTask", "Measurement", "NotebookCode", "OrderCount", "SourceCode", "Stage",
           "Unreadable", "answers_in", "line_of", "task_from_json", "task_to_json"]

_MAX_HINT = 5000  # characters of a hint or a traceback
_MAX_PLACE = 100  # characters
MAX_CODE = 20000  # characters of an exercise's source, or of a cell
_MAX_ORDERS = 3
_MAX_CELLS = 2000
MAX_LINES = 5  # lines that an error went through


# --- from the grader ---

@dataclass(frozen=True)
class BuildTask:
    """Run a student's notebook and send the graphs of its exercises."""

    notebook: bytes  #: content of the file
    order: int  #: index of the order in which its cells are run, from 0
    patience: float  #: seconds for all statements that define no exercise
    skipped: list[str]  #: places of statements that must not run
    wanted: list[int]  #: the exercises to build
    replacements: dict[int, str]  #: the reference's code for exercises that failed
    package: dict[int, str]  #: the reference's code that the package `vae` may contain again


@dataclass(frozen=True)
class MeasureTask:
    """Evaluate graphs on inputs drawn from a seed."""

    graphs: dict[int, str]  #: maps exercises to the texts of graphs
    seed: int


def task_to_json(task, limits):
    """Convert a task and the limits of its process to text.

    Parameters
    ----------
    task : BuildTask or MeasureTask
    limits : vae_grading.sandbox.process.Limits

    Returns
    -------
    str
    """
    fields = dict(vars(task))
    if isinstance(task, BuildTask):
        fields["notebook"] = base64.b64encode(task.notebook).decode("ascii")
    return json.dumps([type(task).__name__, fields, vars(limits)])


def task_from_json(text):
    """Convert a text to a task and limits; the inverse of `task_to_json`.

    Parameters
    ----------
    text : str
        It comes from the grader, so it is trusted.

    Returns
    -------
    task : BuildTask or MeasureTask
    limits : vae_grading.sandbox.process.Limits
    """
    name, fields, limits = json.loads(text)
    for field in ["replacements", "package", "graphs"]:
        if field in fields:  # JSON has converted the numbers to texts
            fields[field] = {int(number): value for number, value in fields[field].items()}
    limits = Limits(**limits)
    if name == BuildTask.__name__:
        fields["notebook"] = base64.b64decode(fields["notebook"])
        return BuildTask(**fields), limits
    return MeasureTask(**fields), limits


# --- from the sandbox ---

@dataclass(frozen=True)
class Stage:
    """The next step of the process. If the process dies, this step is the cause."""

    place: str  #: a description for the student
    exercises: tuple[int, ...] = ()  #: the exercises to which the code belongs


@dataclass(frozen=True)
class Unreadable:
    """The file is not a notebook."""

    reason: str


@dataclass(frozen=True)
class NotebookCode:
    """The code of the notebook's cells. Later messages refer to its lines by their numbers."""

    cells: tuple[str, ...]


@dataclass(frozen=True)
class OrderCount:
    """The number of orders in which the student may have intended the cells to run."""

    n: int


@dataclass(frozen=True)
class SourceCode:
    """The student's own source of an exercise. A later message replaces an earlier one."""

    exercise: int
    text: str


@dataclass(frozen=True)
class BuiltGraph:
    """The graph of an exercise (`vae_grading.graphs`). A later message replaces an earlier one."""

    exercise: int
    text: str


@dataclass(frozen=True)
class Checked:
    """The notebook has called `check` for an exercise, with the latest graph."""

    exercise: int


@dataclass(frozen=True)
class Broken:
    """An exercise that passed earlier does not run with the reference's code of other exercises."""

    exercise: int


@dataclass(frozen=True)
class Failure:
    """An exercise failed. The first failure of an exercise counts.

    `hint` and `traceback` are free text. If the process was given solutions, the grader uses
    `parts` and `lines` instead of them.
    """

    exercise: int
    hint: str
    traceback: str = ""
    undone: int | None = None  #: the exercise that the student has not done, if this is the cause
    awaits_package: bool = False  #: whether it uses a solution that was removed from the package
    exhausted: bool = False  #: whether a limit was reached, so that more time or memory might help
    parts: tuple = ()  #: the texts that the hint consists of, see `vae_grading.hints.parts_of`
    lines: tuple[tuple[int, int], ...] = ()  #: numbers of cells and lines in the traceback

    def __post_init__(self):
        if not self.parts and isinstance(self.hint, Text):
            object.__setattr__(self, "parts", tuple(parts_of(self.hint)))


@dataclass(frozen=True)
class Measurement:
    """The results of the graph of an exercise."""

    exercise: int
    sizes: dict[str, int]  #: the sizes for which the inputs were drawn
    values: object  #: a dict of arrays, truth values and texts, which `judge` checks


def _as_text(max_length):
    """Return a converter of texts, which truncates long texts."""
    def convert(value):
        if type(value) is not str:
            raise ValueError(f"Got {type(value).__name__}, expected text")
        return value[:max_length]
    return convert


def _as_graph(value):
    """Check the text of a graph. It must be ASCII, because a lone surrogate cannot be encoded."""
    if type(value) is not str or not value.isascii():
        raise ValueError(f"Got {type(value).__name__}, expected ASCII text")
    return value


def _as_sizes(value):
    if type(value) is not dict:
        raise ValueError(f"Got {type(value).__name__}, expected a dict of sizes")
    return {name: _as_size(size) for name, size in value.items()}


def _as_anything(value):
    return value


_as_exercise = as_one_of(*EXERCISES)
_as_size = as_integer(1, MAX_SIZE)
_as_number = as_integer(1, 10**5)  # the number of a cell or a line
_as_flag = as_one_of(True, False)

#: A converter for each field of a message.
_FIELDS = {
    Stage: {"place": _as_text(_MAX_PLACE), "exercises": as_list(_as_exercise, len(EXERCISES))},
    Unreadable: {"reason": _as_text(_MAX_HINT)},
    NotebookCode: {"cells": as_list(_as_text(MAX_CODE), _MAX_CELLS)},
    OrderCount: {"n": as_integer(1, _MAX_ORDERS)},
    SourceCode: {"exercise": _as_exercise, "text": _as_text(MAX_CODE)},
    BuiltGraph: {"exercise": _as_exercise, "text": _as_graph},
    Checked: {"exercise": _as_exercise},
    Broken: {"exercise": _as_exercise},
    Failure: {"exercise": _as_exercise, "hint": _as_text(_MAX_HINT),
              "traceback": _as_text(_MAX_HINT),
              "undone": as_any_of(as_one_of(None), _as_exercise),
              "awaits_package": _as_flag, "exhausted": _as_flag,
              "parts": as_list(_as_anything, MAX_PARTS),
              "lines": as_list(as_tuple(_as_number, _as_number), MAX_LINES)},
    Measurement: {"exercise": _as_exercise, "sizes": _as_sizes, "values": _as_anything},
}

#: The classes of messages that may answer each class of tasks.
_ANSWERS = {
    BuildTask: (Stage, Unreadable, NotebookCode, OrderCount, SourceCode, BuiltGraph, Checked,
                Broken, Failure),
    MeasureTask: (Stage, Measurement, Failure),
}


def line_of(message):
    """Convert a message to one line of JSON.

    Parameters
    ----------
    message : object
        An object of one of the classes of messages.

    Returns
    -------
    str
    """
    return to_json([type(message).__name__, vars(message)])


def answers_in(values, task):
    """Return the messages among untrusted values.

    Parameters
    ----------
    values : list
        Any values that JSON allows, and arrays.
    task : BuildTask or MeasureTask
        The task that these values answer.

    Returns
    -------
    list
        Messages, in the order of the values. Values that are not messages of this task are dropped.
    """
    by_name = {cls.__name__: cls for cls in _ANSWERS[type(task)]}
    messages = []
    for value in values:
        try:
            name, fields = value
            cls = by_name[name]
            messages.append(cls(**converted(_FIELDS[cls], fields)))
        except Exception:  # untrusted values may raise anything
            pass
    return messages
