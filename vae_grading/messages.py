"""What the grader and the processes in the sandbox say to each other.

The grader sends one task, `BuildTask` or `MeasureTask`, and the process answers with messages. A
student's code can write anything in place of these messages, so all of them pass through
`answers_in`. It takes the values of `vae_grading.json_lines` and returns those that are messages of
the expected classes, with exactly their fields, each of the right type and size. It drops all
others. A message is still only a claim: none gives points, and `vae.checks` judges what a
`Measurement` holds.
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

_MAX_HINT = 5000  # characters, also of a traceback
_MAX_PLACE = 100  # characters
MAX_CODE = 20000  # characters of an exercise's source, or of a cell
_MAX_ORDERS = 3
_MAX_CELLS = 2000
MAX_LINES = 5  # that an error went through


# --- from the grader ---

@dataclass(frozen=True)
class BuildTask:
    """Run a student's notebook and send the graphs of its exercises."""

    notebook: bytes  #: the file
    order: int  #: the number of the order to run its cells in, from 0
    patience: float  #: seconds for all statements that define no exercise
    skipped: list[str]  #: places of statements not to run
    wanted: list[int]  #: the exercises to build
    replacements: dict[int, str]  #: the reference's code for exercises that failed
    package: dict[int, str]  #: the reference's code that the package `vae` may contain again


@dataclass(frozen=True)
class MeasureTask:
    """Evaluate graphs on inputs drawn from a seed."""

    graphs: dict[int, str]  #: by exercise
    seed: int


def task_to_json(task, limits):
    """Return a task and the limits of its process as text."""
    fields = dict(vars(task))
    if isinstance(task, BuildTask):
        fields["notebook"] = base64.b64encode(task.notebook).decode("ascii")
    return json.dumps([type(task).__name__, fields, vars(limits)])


def task_from_json(text):
    """Return what `task_to_json` was given; this text comes from the grader and is trusted."""
    name, fields, limits = json.loads(text)
    for field in ["replacements", "package", "graphs"]:
        if field in fields:  # JSON has made texts of the numbers
            fields[field] = {int(number): value for number, value in fields[field].items()}
    limits = Limits(**limits)
    if name == BuildTask.__name__:
        fields["notebook"] = base64.b64decode(fields["notebook"])
        return BuildTask(**fields), limits
    return MeasureTask(**fields), limits


# --- from the sandbox ---

@dataclass(frozen=True)
class Stage:
    """What the process does next: if it dies, this is the cause."""

    place: str  #: for the student
    exercises: tuple[int, ...] = ()  #: the exercises whose code this is


@dataclass(frozen=True)
class Unreadable:
    """The file is not a notebook."""

    reason: str


@dataclass(frozen=True)
class NotebookCode:
    """The code of the notebook's cells, from which later messages name lines."""

    cells: tuple[str, ...]


@dataclass(frozen=True)
class OrderCount:
    """The number of orders in which the student may have meant the cells to run."""

    n: int


@dataclass(frozen=True)
class SourceCode:
    """The student's own source of an exercise; a later message replaces an earlier one."""

    exercise: int
    text: str


@dataclass(frozen=True)
class BuiltGraph:
    """The graph of an exercise (`vae_grading.graphs`); a later message replaces an earlier one."""

    exercise: int
    text: str


@dataclass(frozen=True)
class Checked:
    """The notebook itself checks an exercise here, with the latest graph."""

    exercise: int


@dataclass(frozen=True)
class Broken:
    """The code of an exercise that has passed fails with the reference in place of earlier ones."""

    exercise: int


@dataclass(frozen=True)
class Failure:
    """An exercise failed; the first failure of an exercise counts.

    `hint` and `traceback` are free text. After a process was given solutions, the grader reads
    `parts` and `lines` in their place.
    """

    exercise: int
    hint: str
    traceback: str = ""
    undone: int | None = None  #: the exercise that the student has not done, if that is why
    awaits_package: bool = False  #: it uses the package's solution, which is removed
    exhausted: bool = False  #: whether a limit was reached: more time or memory might help
    parts: tuple = ()  #: the texts that the hint consists of, see `vae_grading.hints.parts_of`
    lines: tuple[tuple[int, int], ...] = ()  #: cells and lines that the error went through

    def __post_init__(self):
        if not self.parts and isinstance(self.hint, Text):
            object.__setattr__(self, "parts", tuple(parts_of(self.hint)))


@dataclass(frozen=True)
class Measurement:
    """What the graph of an exercise computes."""

    exercise: int
    sizes: dict[str, int]  #: for which the inputs were drawn
    values: object  #: a dict of arrays, truth values and texts, which `judge` checks


def _as_text(max_length):
    """Return a converter of text, which cuts what is too long."""
    def convert(value):
        if type(value) is not str:
            raise ValueError(f"Got {type(value).__name__}, expected text")
        return value[:max_length]
    return convert


def _as_graph(value):
    """Return the text of a graph: ASCII, unlike half a surrogate pair, can be encoded."""
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
_as_number = as_integer(1, 10**5)  # of a cell or a line
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

#: The messages that answer each task.
_ANSWERS = {
    BuildTask: (Stage, Unreadable, NotebookCode, OrderCount, SourceCode, BuiltGraph, Checked,
                Broken, Failure),
    MeasureTask: (Stage, Measurement, Failure),
}


def line_of(message):
    """Return a message as one line of JSON."""
    return to_json([type(message).__name__, vars(message)])


def answers_in(values, task):
    """Return the messages among untrusted values.

    Parameters
    ----------
    values : list
        Any JSON, with arrays in it.
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
