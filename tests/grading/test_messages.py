"""Messages from the sandbox: valid messages arrive, and everything else is dropped."""

import numpy as np
import pytest

from vae.checks import EXERCISES, MAX_SIZE
from vae_grading.json_lines import lines_of_json
from vae_grading.messages import (Broken, BuildTask, BuiltGraph, Checked, Failure, MeasureTask,
                                  Measurement, NotebookCode, OrderCount, SourceCode, Stage, Unreadable, answers_in, line_of,
                                  task_from_json, task_to_json)
from vae_grading.sandbox.process import Limits

BUILD = BuildTask(b"\x00{}", 1, 2.5, ["<ячейка 1>, строка 2"], [1, 3], {2: "x = 1"}, {2: "x = 1"})
MEASURE = MeasureTask({1: "{}", 5: "[]"}, 2**31 - 1)
TASKS = {"build": BUILD, "measure": MEASURE}
SENT = {
    "build": [Stage("чтение", (1, 2)), Stage("чтение"), Unreadable("не JSON"), OrderCount(3),
            NotebookCode(("x = 1", "")), SourceCode(1, "x"), BuiltGraph(2, "{}"), Checked(2),
            Broken(2), Failure(3, "нет"), Failure(3, "нет", "строка 1", 2, True, True, (
                ["нет {n}", {"n": 1, "m": {"items": [1, 2]}}],), ((1, 2), (3, 4)))],
    "measure": [Stage("упражнение 1", (1,)), Failure(1, "нет"),
                Measurement(1, {"n": 20}, {"a": ["x"]})],
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_tasks_arrive(task):
    assert task_from_json(task_to_json(task, Limits(timeout=3.))) == (task, Limits(timeout=3.))


@pytest.mark.parametrize("name", TASKS)
def test_messages_arrive_where_they_are_expected(name):
    everything = [message for messages in SENT.values() for message in messages]
    lines = "\n".join(map(line_of, everything)).encode()
    classes = {type(message) for message in SENT[name]}
    expected = [message for message in everything if type(message) in classes]
    assert answers_in(lines_of_json(lines), TASKS[name]) == expected


def test_arrays_arrive():
    sent = Measurement(1, {}, {"z": np.arange(6.).reshape(2, 3)})
    message, = answers_in(lines_of_json(line_of(sent).encode()), MEASURE)
    np.testing.assert_array_equal(message.values["z"], sent.values["z"])


def test_long_texts_are_cut():
    sent = Failure(1, "x" * 10**6, "y" * 10**6)
    message, = answers_in(lines_of_json(line_of(sent).encode()), BUILD)
    assert message.hint == "x" * 5000 and message.traceback == "y" * 5000


UNKNOWN = max(EXERCISES) + 1
WRONG_NUMBERS = [0, UNKNOWN, -1, 10**400, True, 1.0, float("nan"), "1", None, [1], {}, np.int64(1),
                 np.array([1, 2])]


@pytest.mark.parametrize("value", [
    None, 1, "Checked", [], ["Checked"], ["Checked", {}], ["Checked", [1]], ["Checked", None],
    ["Checked", {"exercise": 1, "more": 1}], ["Checked", {"exercise": 1}, {}], {"Checked": 1},
    [["Checked"], {"exercise": 1}], [{}, {"exercise": 1}], ["BuildTask", {}], ["_Run", {}],
    {"exercise": 1, "graph": "{}"}, np.array(["Checked", "x"]), np.zeros((2, 2)),
    *(["Checked", {"exercise": number}] for number in WRONG_NUMBERS),
    *(["Stage", {"place": "x", "exercises": numbers}] for numbers in [
        1, None, "1", {"1": 1}, [UNKNOWN], [True], [[1]], [1] * (len(EXERCISES) + 1)]),
    *(["OrderCount", {"n": n}] for n in [0, 4, True, 1.0, "1", 10**400]),
    *(["BuiltGraph", {"exercise": 1, "text": text}] for text in [
        None, 1, ["{}"], {}, np.zeros(2), "\ud800", "é"]),
    *(["Failure", {"exercise": 1, "hint": "", "traceback": "", "undone": None,
                   "awaits_package": False, "exhausted": False, "parts": [], "lines": [],
                   field: value}]
      for field, value in [("hint", 1), ("traceback", None), ("undone", UNKNOWN), ("undone", True),
                           ("awaits_package", 1), ("exhausted", "yes"), ("exhausted", None), ("parts", None),
                           ("parts", [["", {}]] * 5), ("lines", [[1]]), ("lines", [[1, 0]]),
                           ("lines", [["1", 1]]), ("lines", [[1, 1]] * 6)]),
    *(["NotebookCode", {"cells": cells}] for cells in [None, "x", [1], ["x"] * 2001]),
])
def test_what_a_builder_must_not_say_is_dropped(value):
    assert answers_in([value, ["Checked", {"exercise": 1}]], BUILD) == [Checked(1)]


@pytest.mark.parametrize("sizes", [
    None, [], 1, {"n": 0}, {"n": -1}, {"n": MAX_SIZE + 1}, {"n": 10**400}, {"n": True}, {"n": 1.5},
    {"n": "1"}, {"n": None}, {"n": {}}, {"n": np.array([1])}])
def test_sizes_that_no_input_can_have_are_dropped(sizes):
    assert answers_in([["Measurement", {"exercise": 1, "sizes": sizes, "values": {}}]],
                      MEASURE) == []
