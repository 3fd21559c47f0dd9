"""The failures in a run of a notebook that are final, and those that another run may change."""

import dataclasses

import pytest

from vae.checks import EXERCISES
from vae.checks.exercise import require
from vae_grading import grader
from vae_grading.grader import _Run
from vae_grading.hints import Censor
from vae_grading.messages import (
    BuildTask, BuiltGraph, Checked, Failure, Measurement, Stage)
from vae_grading.sandbox.process import Limits

TASK = BuildTask(b"", 0, 1., [], [1, 2, 3], {}, {})


class FakeClock:
    """Answers every task with the same messages."""

    limits = Limits()

    def __init__(self, messages, ended):
        self._answer = messages if callable(messages) else (messages, ended)
        self.tasks = []

    def run(self, task, at_most=None):
        self.tasks.append(task)
        return self._answer(task) if callable(self._answer) else self._answer


def final(messages, ended="", passed=(), package_is_filled=True):
    """Return the numbers and hints of the final failures of a run of exercises 1, 2 and 3."""
    run = _Run(FakeClock(messages, ended), [1, 2, 3])
    run.build(TASK)
    for number in passed:
        run._progress[number].has_passed = True
    return [(failure.exercise, failure.hint)
            for failure in run.final_failures(package_is_filled)]


def test_the_first_failure_is_final_and_later_ones_may_come_from_it():
    assert final([Failure(1, "a"), Failure(2, "b")]) == [(1, "a")]
    assert final([Failure(1, "a"), Failure(2, "b")], passed=[1]) == [(2, "b")]
    assert final([Failure(2, "b"), Failure(3, "c")]) == []  # 1 is open


def test_the_first_failure_of_an_exercise_is_shown():
    assert final([Failure(1, "a"), Failure(1, "later")]) == [(1, "a")]


def test_exercises_that_are_not_done_are_final():
    assert final([Failure(1, "a"), Failure(3, "c", undone=3)]) == [(3, "c"), (1, "a")]
    assert final([Failure(3, "c", undone=2), Failure(2, "b")], passed=[1]) == [(2, "b")]
    assert final([Failure(3, "c", undone=2)]) == []  # 2 has not failed
    assert final([Failure(3, "c", undone=3)], passed=[3]) == []


def test_an_exercise_that_awaits_the_package_is_not_final_before_that():
    failure = Failure(1, "a", awaits_package=True)
    assert final([failure], package_is_filled=False) == []
    assert final([failure], package_is_filled=True) == [(1, "a")]


def test_the_exercise_whose_code_ended_the_process_is_final():
    (number, hint), = final([Failure(1, "a"), Stage("x", (2,)), Stage("y", (9, 3, 2))], "memory")
    assert number == 3 and "памяти" in hint


def test_nothing_is_final_where_a_process_died_elsewhere():
    assert final([Failure(1, "a"), Stage("ячейка 1")], "time") == []
    assert final([Failure(1, "a")], "time") == []


@pytest.mark.parametrize("ended, exhausted", [
    ("time", True), ("memory", True), ("disk", True), ("output", True), ("SIGKILL", True),
    ("exit code 1", False), ("SIGSEGV", False), ("", False)])
def test_the_end_of_a_process_says_whether_a_limit_was_reached(ended, exhausted):
    run = _Run(FakeClock([], ended), [1])
    run.build(TASK)
    assert run.exhausted == exhausted and (run.death is None) == (ended == "")


def test_messages_about_decided_exercises_are_ignored():
    run = _Run(FakeClock([BuiltGraph(1, "{}"), BuiltGraph(2, "{}"), Checked(2), Checked(1),
                          Failure(1, "a", undone=1), Stage("x", (1,))], "time"), [2, 3])
    run.build(TASK)
    assert [progress.graph for progress in run._progress.values()] == ["{}", None]
    assert [progress.checked_graph for progress in run._progress.values()] == ["{}", None]
    assert run.final_failures(True) == []


# --- exercises that train ---

def measured(monkeypatch, trains, passed, also_in_vain=False, answer=[]):
    """Return the run in which the graphs of exercises 1 to 4 are evaluated, and which are."""
    monkeypatch.setattr(grader, "EXERCISES", {
        number: dataclasses.replace(EXERCISES[1], number=number, trains=number in trains)
        for number in (1, 2, 3, 4)})
    monkeypatch.setattr(grader, "_right_graphs", {
        grader._digest(number, f"{{{number}}}") for number in passed})
    clock = FakeClock(answer, "")
    run = _Run(clock, [1, 2, 3, 4])
    for number, progress in run._progress.items():
        progress.graph = f"{{{number}}}"
    run.measure(also_in_vain)
    return run, [list(task.graphs) for task in clock.tasks]


@pytest.mark.parametrize("trains, passed, expected", [
    ({3}, {1, 2}, [[4], [3]]), ({3}, {1, 2, 4}, [[3]]), ({2, 4}, {1}, [[3], [2]]),
    ({2, 4}, {1, 2}, [[3]]), ({2, 4}, {1, 2, 3}, [[4]]), ({2}, set(), [[1, 3, 4]]),
    ({1, 2, 3, 4}, {1}, [[2]]), ({1, 2, 3, 4}, {1, 2}, [[3]])])
def test_exercises_that_train_need_only_the_earlier_ones(trains, passed, expected, monkeypatch):
    """A wrong later one, whether it trains or not, costs nothing."""
    _, evaluated = measured(monkeypatch, trains, passed)
    assert evaluated == [[n for n in numbers if n not in passed] for numbers in expected]


def test_nothing_follows_from_a_graph_that_is_judged_after_wrong_ones(monkeypatch):
    def answer(task):
        return [Failure(2, "b", exhausted=True)] * (2 in task.graphs), "time" * (2 in task.graphs)

    run, evaluated = measured(monkeypatch, {2}, set(), True, answer)
    assert evaluated == [[1, 3, 4], [2]] and not run.exhausted
    assert run._progress[2].failure is None and run.death is None


# --- texts that a graph computes ---

@pytest.mark.parametrize("text, passed, hint", [
    ("a right text", True, None), ("W wrong text", False, "W"), ("a wrong text", False, "…")])
def test_texts_are_judged_as_they_are_and_shown_if_they_are_known(text, passed, hint, monkeypatch):
    def judge(inputs, measured):
        require(measured["text"] == "a right text", measured["text"])

    monkeypatch.setattr(grader, "EXERCISES", {1: dataclasses.replace(
        EXERCISES[1], draw=lambda random, images: {}, judge=judge)})
    monkeypatch.setattr(grader, "_right_graphs", set())
    run = _Run(FakeClock([Measurement(1, {}, {"text": text})], ""), [1], Censor(["W"], []))
    run._progress[1].graph = "{}"
    run.measure()
    progress = run._progress[1]
    assert progress.has_passed == passed and (passed or progress.failure.hint == hint)
