"""Grading: right notebooks of any form get full points, and a mistake costs only its own exercise.

Attacks gain no points and break nothing.
"""

import json
import os
import re
import socket
import sys
import textwrap
from pathlib import Path

import grading_notebooks as notebooks
import numpy as np
import psutil
import pytest
import theano
from conftest import HINTS
from grading_notebooks import (FORMS, OTHER_WAYS, OWN_NAMES, RIGHT, SOLVED, TODO, WRONG, attack,
                               changed, notebook, unfilled)

import vae
from vae.checks import EXERCISES
from vae_grading.grader import Reference, grade, the_worker
from vae_grading.messages import BuildTask
from vae_grading.sandbox.process import Limits
from vae_grading.sandbox.worker import Worker, WorkerError

pytestmark = pytest.mark.process

ROOT = Path(vae.__file__).parents[1]
SOLUTION = ROOT / "notebooks" / "solution" / "vae_seminar_solution.ipynb"
FULL = sum(exercise.points for exercise in EXERCISES.values())
SECRET = "VAE_SECRET_OF_THE_GRADER"


@pytest.fixture(scope="session")
def reference():
    """The solved notebook, with a worker that runs."""
    reference = Reference.read(SOLUTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "тайна")
        the_worker(reference)
    return reference


@pytest.fixture(autouse=True)
def shown_by_hints(request, monkeypatch):
    """With pytest's option --hints, list the points and hints of each notebook that is graded."""
    original = grade

    def grade_and_note(*arguments):
        result = original(*arguments)
        lines = [f"{result.points} из {FULL}", *filter(None, [result.note]),
                 *(f"{verdict.exercise}: {verdict.hint}" for verdict in result.verdicts
                   if not verdict.passed)]
        HINTS.append((request.node.name, "\n".join(lines)))
        return result

    monkeypatch.setattr(sys.modules[__name__], "grade", grade_and_note)


@pytest.fixture
def isolated(reference):
    reason = the_worker(reference).not_isolated
    if reason is not None:
        pytest.skip(f"needs namespaces: {reason}")


def failed(grade):
    return [verdict.exercise for verdict in grade.verdicts if not verdict.passed]


def hint(grade, exercise):
    return verdict_on(exercise, grade).hint


def verdict_on(exercise, grade):
    verdict, = (verdict for verdict in grade.verdicts if verdict.exercise == exercise)
    return verdict


def points_without(*numbers):
    return FULL - sum(EXERCISES[number].points for number in numbers)


# --- right notebooks ---

@pytest.mark.parametrize("form", FORMS)
def test_right_notebooks_of_any_form(form, reference):
    result = grade(f"{form} (копия 2).ipynb", FORMS[form](), reference)
    assert result.points == FULL, result
    assert result.name == f"{form} (копия 2).ipynb" and result.note == ""


@pytest.mark.slow
@pytest.mark.parametrize("way", OTHER_WAYS)
def test_exercises_defined_in_other_ways(way, reference):
    result = grade(way, notebook(OTHER_WAYS[way]), reference, Limits(timeout=20.))
    assert result.points == FULL, result


@pytest.mark.parametrize("name", RIGHT)
def test_other_right_answers(name, reference):
    result = grade(name, notebook(RIGHT[name]), reference)
    assert result.points == FULL, result


# --- unfilled and wrong exercises cost their own points ---

@pytest.mark.parametrize("number", EXERCISES)
def test_an_unfilled_exercise_costs_its_own_points(number, reference):
    result = grade("", notebook(unfilled(number)), reference)
    assert failed(result) == [number] and result.points == points_without(number)
    assert hint(result, number) == "ещё не выполнено."
    assert [verdict.exercise for verdict in result.verdicts if verdict.untried] == [number]


def test_an_unfilled_notebook(reference):
    result = grade("", notebook(unfilled(*EXERCISES)), reference)
    assert failed(result) == list(EXERCISES) and result.points == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_costs_its_own_points_and_is_named(name, reference):
    number, source, expected = WRONG[name]
    others = {} if number == 5 else unfilled(5)  # exercise 5 takes longest
    result = grade("", notebook({**others, number: source}), reference)
    assert failed(result) == sorted({number, *others}), result
    assert re.search(expected, hint(result, number), re.S), hint(result, number)


@pytest.mark.parametrize("name", ["a prior that is trained", "the gradient of the entropy lost"])
def test_hints_of_a_run_that_was_given_a_solution_name_the_term(name, reference):
    number, source, expected = WRONG[name]
    result = grade("", notebook({number: source, **unfilled(3)}), reference)
    assert re.search(expected, hint(result, number)), result


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_mistake_beside_an_encoder_without_a_default(number, reference):
    """The reference's call does not fit the student's encoder."""
    answers = {**notebooks.WITHOUT_DEFAULT, **unfilled(number)}
    assert failed(grade("", notebook(answers), reference)) == [number]


def test_mistakes_in_several_exercises(reference):
    mistakes = ["not reparameterised", "scale of any sign", "decoder's parameters forgotten"]
    result = grade("", notebook({**{WRONG[name][0]: WRONG[name][1] for name in mistakes},
                                 **unfilled(4)}), reference)
    assert failed(result) == [1, 2, 4, 5] and result.points == points_without(1, 2, 4, 5)
    for number, source, expected in map(WRONG.get, mistakes):
        assert re.search(expected, hint(result, number), re.S)


def test_a_mistake_that_is_made_consistently_costs_once(reference):
    """The encoder returns log σ, and exercise 3 uses it as log σ."""
    result = grade("", notebook({
        2: changed(SOLVED[2], "nonlinearity=T.nnet.softplus", "nonlinearity=None"),
        3: changed(SOLVED[3], "scale=lasagne.layers.get_output(encoder_scale)",
                   "scale=T.exp(lasagne.layers.get_output(encoder_scale))")}), reference)
    assert failed(result) == [2], result


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_NAMES)
def test_one_mistake_is_paid_once(name, reference):
    """A later exercise is right either for the student's own names or with the reference's."""
    answers, expected = OWN_NAMES[name]
    result = grade("", notebook(answers), reference)
    assert failed(result) == expected, result


_BLIND = """\
input_x = T.tensor4('inputs')
encoder_mean, encoder_scale = vae_encoder_mlp(input_x)
outputs = T.concatenate(lasagne.layers.get_output([encoder_mean, encoder_scale]), axis=1)
zero = T.sum({zero}, axis=1, keepdims=True)
class Blind:
    loc = T.zeros((input_x.shape[0], HIDDEN_DIM)) + zero
    scale = T.ones((input_x.shape[0], HIDDEN_DIM))
qz_x = Blind()
own_z = RandomStreams(3).normal((input_x.shape[0], HIDDEN_DIM)) + qz_x.loc
"""


@pytest.mark.parametrize("zero", [
    "outputs - theano.gradient.disconnected_grad(outputs)", "0 * outputs", "1e-9 * outputs"])
def test_a_bound_without_kl_is_wrong_for_a_posterior_that_is_the_prior(zero, reference):
    """Exercise 5 is judged with the student's own q(z | x), too, for which KL is 0."""
    result = grade("", notebook({
        **unfilled(1), 3: _BLIND.format(zero=zero),
        4: changed(SOLVED[4], "z = qz_x.sample()", "z = own_z"),
        5: changed(SOLVED[5], " + pz.log_prob(z) - qz_x.log_prob(z))", ") + T.sum(zero)")}),
        reference)
    assert failed(result) == [1, 3, 5], result


def test_a_misspelt_name_shows_no_line_of_another_cell(reference):
    result = grade("", notebook({
        4: SOLVED[4].replace("decoder_logits", "decoder_logit"), **unfilled(5)}), reference)
    assert failed(result) == [4, 5]
    assert "не определено имя decoder_logits" in hint(result, 4)
    assert verdict_on(4, result).traceback == "", result


def test_only_lines_of_the_exercise_and_of_helpers_are_shown(reference):
    """Exercise 3 calls the encoder of exercise 2 with what that cannot take."""
    helper = "def first(layers):\n    return layers[0] + None\n"
    result = grade("", notebooks.to_bytes([
        notebooks.SETUP, SOLVED[1], SOLVED[2], helper,
        changed(SOLVED[3], "vae_encoder_mlp(input_x)", "first(vae_encoder_mlp(input_x))"),
        *map(TODO.get, [4, 5])]), reference)
    lines = verdict_on(3, result).traceback
    assert "first(vae_encoder_mlp(input_x))" in lines and "layers[0] + None" in lines, result
    result = grade("", notebook({3: changed(SOLVED[3], "mlp(input_x)", "mlp(input_x, 'two')"),
                                 **unfilled(4, 5)}), reference)
    lines = verdict_on(3, result).traceback
    assert "'two'" in lines and "num_units" not in lines, result


@pytest.mark.parametrize("size", [1, 1024])
def test_batches_of_other_sizes(size, reference):
    setup = changed(notebooks.SETUP, "BATCH_SIZE = 20", f"BATCH_SIZE = {size}")
    assert failed(grade("", notebook({0: setup, **unfilled(5)}), reference)) == [5]


def test_the_students_own_name_for_the_sample_outlives_exercise_4(reference):
    result = grade("", notebook({
        4: changed(WRONG["probabilities for logits"][1].replace("z)", "z_sample)"),
                   "z = qz_x", "z_sample = qz_x"),
        5: re.sub(r"\bz\b(?=\)+)", "z_sample", SOLVED[5])}), reference)
    assert failed(result) == [4], result


@pytest.mark.parametrize("number, source, expected", [
    (3, changed(SOLVED[3], "qz_x =", "qz_x = ="), "SyntaxError"),
    (3, SOLVED[3] + "\n1 = 2", "SyntaxError"),
    (2, changed(SOLVED[2], "num_units=256", "num_units=n_hidden"), "n_hidden"),
    (3, "import torch_of_the_future\n" + SOLVED[3].replace("input_x = ", "input_x = torch_of_the_"
                                                           "future."), "torch_of_the_future"),
    (2, SOLVED[2].replace("vae_encoder_mlp", "my_encoder"), "не определено имя vae_encoder_mlp"),
    (3, "encoder_mean = encoder_scale = qz_x = " + "(" * 10**5 + ")" * 10**5,
     "вложен|nested|Error"),
    (3, "encoder_mean = encoder_scale = qz_x = " + "-" * 10**5 + "1", "Error"),
    (3, SOLVED[3] + "\0", "null|нулев"),
], ids=["syntax", "syntax at the end", "name", "module", "renamed", "brackets", "minuses", "null"])
def test_code_that_does_not_run_costs_its_own_points(number, source, expected, reference):
    result = grade("", notebook({number: source, **unfilled(4, 5)}), reference)
    assert failed(result) == [number, 4, 5], result
    verdict = verdict_on(number, result)
    assert re.search(expected, verdict.hint + verdict.traceback), verdict


# --- exercises that the package solves, too ---

@pytest.mark.parametrize("number, source", [
    (1, "from vae import MultivariateNormalDiag"),
    (1, "import vae.distributions\n"
        "MultivariateNormalDiag = vae.distributions.MultivariateNormalDiag"),
    (1, "class MultivariateNormalDiag(vae.MultivariateNormalDiag):\n    pass"),
    (1, changed(SOLVED[1], "z = self.loc + self.scale * eps",
                "z = vae.MultivariateNormalDiag(self.loc, self.scale).sample()")),
    (2, "from vae.networks import *"),
    (2, "def vae_encoder_mlp(x, hidden_dim=HIDDEN_DIM):\n"
        "    return vae.vae_encoder_mlp(x, hidden_dim)"),
], ids=["imported", "another name", "subclass", "called", "star", "encoder called"])
def test_what_is_imported_from_the_package_costs_its_own_points(number, source, reference):
    result = grade("", notebook({number: source}), reference)
    assert failed(result) == [number], result
    assert re.search(f"{EXERCISES[number].names[0]} взято из пакета vae", hint(result, number))


def test_a_wrong_method_put_into_a_class_costs_its_own_points(reference):
    """The reference's class, which replaces the student's, is not spoilt."""
    source = (OTHER_WAYS["a method from a decorator"][1]
              .replace("self.scale *", "self.scale ** 2 *"))
    result = grade("", notebook({1: source}), reference)
    assert failed(result) == [1], result


# --- several attempts ---

_ATTEMPT = WRONG["scale of any sign"][1]


@pytest.mark.parametrize("where, count", [
    ("above", 57), ("above", 9), ("above", None), ("below", 57), ("below", None)])
def test_an_older_attempt_does_not_win(where, count, reference):
    """A restart of the kernel resets counts: an older cell may have a higher or an equal one."""
    sources, counts = notebooks.cells(unfilled(5)), list(range(1, len(notebooks.SOURCES) + 1))
    place = sources.index(SOLVED[2]) + (where == "below")
    sources.insert(place, _ATTEMPT)
    counts.insert(place, count)
    result = grade("", notebooks.to_bytes(sources, counts=counts), reference)
    assert failed(result) == [5], result


@pytest.mark.parametrize("counts", [True, False])
def test_the_last_attempt_counts_where_nothing_else_tells(counts, reference):
    sources = notebooks.cells(unfilled(5))
    sources.insert(sources.index(SOLVED[2]) + 1, _ATTEMPT)
    result = grade("", notebooks.to_bytes(
        sources, counts=list(range(1, len(sources) + 1)) if counts else None), reference)
    assert failed(result) == [2, 5], result


# --- what else a grade contains ---

def test_a_verdict_has_the_students_own_code(reference):
    sources = {1: OTHER_WAYS["a method set by a helper"][1], 2: "# код\n" + SOLVED[2] + "\n)",
               4: "hidden = 3\n" + SOLVED[4], **unfilled(3)}
    result = grade("", notebooks.to_bytes(
        [notebooks.SETUP, *(sources.get(number, SOLVED[number]) for number in (1, 2, 3)),
         sources[4] + "\n\n" + TODO[5]]), reference)
    codes = [verdict.code for verdict in result.verdicts]
    assert codes[0] == sources[1] and codes[1] == sources[2]
    assert "Упражнение 3: определите" in codes[2] and "BinaryVector" in codes[3]
    assert "elbo" not in codes[3] and "updates = " in codes[4]
    assert not any("### BEGIN" in code or "SOLUTION" in code for code in codes)


_HANGS = """\
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""


def test_all_runs_of_a_notebook_have_a_limit_together(reference):
    """Exercises that were decided in time keep their points."""
    sources = notebooks.cells(unfilled(5))
    place = sources.index(SOLVED[3])
    sources[place:place] = [_HANGS] * 12
    result = grade("", notebooks.to_bytes(sources), reference, Limits(timeout=2., total=5.))
    assert result.exhausted and "вместе заняли больше 5 с" in result.note, result
    assert failed(result) == [3, 4, 5] and "не хватило времени" in hint(result, 3), result


@pytest.mark.parametrize("code", [_HANGS, "import os\nos._exit(1)"], ids=["time", "exit"])
def test_what_is_right_before_the_process_ends_keeps_its_points(code, reference):
    result = grade("", notebooks.to_bytes([*notebooks.cells(unfilled(5)), code]), reference,
                   Limits(timeout=2.))
    assert failed(result) == [5] and result.note, result


def test_a_statement_that_catches_its_interruption_costs_nothing(reference):
    """It takes more than the time for all such statements; those after it still run."""
    code = """\
end = time.monotonic() + 5.5
while time.monotonic() < end:
    try:
        sum(range(100000))
    except:
        pass
"""
    sources = notebooks.cells(unfilled(5))
    result = grade("", notebooks.to_bytes([sources[0], code, *sources[1:]]), reference,
                   Limits(timeout=10.))
    assert failed(result) == [5], result


def test_names_that_are_used_again_in_later_cells(reference):
    """Training and pictures may put numbers where the exercises had graphs."""
    later = [notebooks.FUNCTIONS, "loss = train(X_train[:20])\nparams = {'epochs': 3}",
             "qz_x, decoder_logits = None, np.zeros(3)"]
    assert grade("", notebooks.to_bytes(notebooks.cells() + later), reference).points == FULL


def test_an_exercise_that_was_right_where_it_was_checked(reference):
    """Later experiments with the same names cost nothing."""
    later = ["codes = T.matrix()\ndecoder_logits = vae_decoder_mlp(codes)\n"
             "encoder_mean, encoder_scale = vae_encoder_mlp(input_x, hidden_dim=7)"]
    result = grade("", notebooks.to_bytes(notebooks.cells(unfilled(5)) + later), reference)
    assert failed(result) == [5], result


@pytest.mark.parametrize("code, exhausted", [
    ("while True: pass", True), ("return [bytearray(2**30) for _ in range(100)]", True),
    ("with open('file', 'wb') as file:\n    while True:\n        file.write(b'x' * 2**20)", True),
    ("raise OSError", False)], ids=["time", "memory", "disk", "other"])
def test_a_grade_says_whether_a_limit_was_reached(code, exhausted, reference):
    assert attacked(code, reference, Limits(timeout=2., memory=2**30, disk=2**26)
                    ).exhausted == exhausted


@pytest.fixture
def tasks(monkeypatch):
    """The tasks that the worker gets, as they come."""
    tasks, run = [], Worker.run

    def recorded(self, task, limits):
        tasks.append(task)
        return run(self, task, limits)

    monkeypatch.setattr(Worker, "run", recorded)
    return tasks


def test_equal_graphs_are_evaluated_once(reference, tasks):
    grade("", notebook(), reference)
    tasks.clear()
    assert grade("", notebook(), reference).points == FULL
    assert list(map(type, tasks)) == [BuildTask]


# --- solutions that runs are given ---

def handed_out(tasks):
    """Return the exercises whose solutions the tasks contain; none is wanted afterwards."""
    given = set()
    for task in tasks:
        if isinstance(task, BuildTask):
            given.update(task.replacements, task.package)
            assert not given.intersection(task.wanted), tasks
    return given


def in_three_orders():
    """Return a notebook of three orders, with exercises 2, 3 and 5 unfilled."""
    sources = notebooks.cells(unfilled(2, 3, 5))
    counts = list(range(1, len(sources) + 1))
    place = sources.index(SOLVED[4])
    sources.insert(place, WRONG["probabilities for logits"][1])
    counts.insert(place, 57)
    return notebooks.to_bytes(sources, counts=counts)


def test_a_solution_that_was_given_is_never_won_again(reference, tasks):
    """Every order is tried without solutions; then one goes on."""
    result = grade("", in_three_orders(), reference)
    builds = [task for task in tasks if isinstance(task, BuildTask)]
    n_orders = max(task.order for task in builds) + 1
    assert n_orders > 1 and [task.order for task in builds[:n_orders]] == list(range(n_orders))
    assert not any(task.replacements or task.package for task in builds[:n_orders])
    assert len({task.order for task in builds[n_orders:]}) == 1
    assert handed_out(tasks) >= {1, 2, 3} and {2, 3, 5} <= set(failed(result)), result


def test_a_lost_task_is_run_again_and_nothing_else(reference, tasks, monkeypatch):
    """If only what supervises a task has crashed, the worker goes on."""
    worker, run, lost = the_worker(reference), Worker.run, []

    def crashing(self, task, limits):
        answer = run(self, task, limits)
        if getattr(task, "replacements", None) and not lost:
            lost.append(task)
            raise WorkerError("the connection was closed")
        return answer

    monkeypatch.setattr(Worker, "run", crashing)
    result = grade("", notebook(unfilled(3, 5)), reference)
    assert failed(result) == [3, 5] and the_worker(reference) is worker, result
    assert tasks.count(lost[0]) == 2
    assert handed_out(tasks) >= {1, 2, 3}


def test_a_notebook_whose_tasks_are_lost_twice_gets_no_points(reference, monkeypatch):
    worker = the_worker(reference)

    def crashing(self, task, limits):
        raise WorkerError("the connection was closed")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "run", crashing)
        result = grade("", notebook(), reference)
    assert result.points == 0 and "дважды" in result.note
    assert the_worker(reference) is worker


_SAY = """
import json, os
from vae.checks import EXERCISES
def write(data):
    while data:
        data = data[os.write(3, data):]
def say(message, **fields):
    write(json.dumps([message, fields]).encode() + b"\\n")
"""
_LOOK = r"""
import gc
tasks = [value for value in gc.get_objects() if type(value).__name__ == "BuildTask"]
texts = [text for task in tasks for text in [*task.replacements.values(), *task.package.values()]]
known = " ".join(line.strip() for text in texts for line in text.splitlines()
                 if "eps =" in line or "* eps" in line or "l_hid1 =" in line)
"""
_SAY_IT = """
if known:
    say("NotebookCode", cells=[known] * 30)
    say("Unreadable", reason=known)
    for number in EXERCISES:
        say("SourceCode", exercise=number, text=known)
        for parts in [[], [[known, {}]], [["ещё не выполнено.", {}], [known, {}]],
                      [["{known}", {"known": known}]],
                      [["не определено имя {name}. Выполните ячейку, которая его определяет, и "
                        "проверьте, так ли оно там написано.", {"name": known}]]]:
            say("Failure", exercise=number, hint=known, traceback=known, undone=number,
                awaits_package=False, exhausted=False, parts=parts, lines=[[1, 1], [2, 5]])
    say("Stage", place=known[:90], exercises=[5])
    os._exit(1)
"""
_NAME_IT = f"""
{SOLVED[5]}
for number, parameter in enumerate(params):
    parameter.name = known[number * 20:][:20] or parameter.name
params = params[:1]
"""
#: How a process that knows solutions may tell them to a person.
CHANNELS = {
    "an error": "raise RuntimeError(known)",
    "an error's class": "raise type(known, (Exception,), {})()",
    "a mistake": "from vae.checks import Mistake\nraise Mistake(known)",
    "the value of a name": "elbo = known\nparams = loss = updates = elbo",
    "messages": _SAY_IT,
    "names of parameters": _NAME_IT,
}


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_solution_that_was_given_is_not_shown(channel, reference, tasks):
    code = (_SAY if channel == "messages" else "") + _LOOK + CHANNELS[channel]
    result = grade("", notebook({**unfilled(1, 2, 3), 5: code}), reference)
    assert handed_out(tasks) >= {1, 2, 3}
    assert {1, 2, 3, 5} <= set(failed(result)), result
    shown = "\n".join([result.note, *(
        text for verdict in result.verdicts for text in (verdict.hint, verdict.traceback))])
    assert not re.search(r"l_hid1|eps|self\.(rng|scale)", shown), result
    assert {verdict.code for verdict in result.verdicts} <= {
        *map(TODO.get, [1, 2, 3]), SOLVED[4], code.strip(), ""}


# --- files that are not notebooks ---

def json_bytes(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize("content", [
    b"", b"not JSON", b"\x89PNG\r\n\x1a\n\0\0\xff", "тетрадь".encode("cp1251"), b"null", b"[]",
    b"3", b'"\\ud800"', json_bytes({"answers": [1, 2]}), json_bytes({"nbformat": 4}),
    json_bytes({"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}),
    json_bytes({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": {"a": 1}}),
    json_bytes({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": "code", "source": 5, "metadata": {}, "outputs": []}]}),
    notebooks.to_bytes([]), notebooks.to_bytes(SOLVED.values())[:-1000],
    b"[" * 10**6, b'{"cells":' * 10**5, b" " * 10**7,
], ids=["empty", "text", "picture", "cp1251", "null", "list", "number", "surrogate", "other JSON",
        "no cells", "version 99", "cells a dict", "source a number", "no code", "cut",
        "brackets", "dicts", "spaces"])
def test_what_is_not_a_notebook_gets_no_points_and_a_note(content, reference):
    result = grade("файл.txt", content, reference)
    assert failed(result) == list(EXERCISES) and result.points == 0
    assert re.match("Файл не удалось прочитать как ноутбук", result.note)
    assert len(result.note) < 1000


def test_a_notebook_with_huge_outputs(reference):
    output = notebooks.new_output("stream", name="stdout", text="шаг 1\n" * 10**5)
    content = notebook(unfilled(2, 3, 4, 5), outputs=[output])
    assert len(content) > 10**7
    assert grade("", content, reference).points == 2


# --- attacks ---

QUICK = Limits(timeout=5., memory=2**30, disk=64 * 2**20)
HALF = notebook(unfilled(5))


@pytest.fixture
def unharmed(reference):
    """Afterwards the same worker grades the next notebook as usual, and nothing is left running."""
    worker = the_worker(reference)
    yield
    assert the_worker(reference) is worker and worker._process.poll() is None
    children = psutil.Process(worker._process.pid).children(recursive=True)
    psutil.wait_procs(children)  # never returns if one of them goes on running
    assert failed(grade("следующий", HALF, reference)) == [5]


def attacked(code, reference, limits=QUICK, exercise=3):
    """Grade a notebook in which one exercise attacks the grader; it earns nothing."""
    result = grade("атака", attack(code, exercise), reference, limits)
    assert result.points == 0, result
    assert [verdict.exercise for verdict in result.verdicts] == list(EXERCISES)
    return result


def report_of(code, reference, limits=QUICK):
    """Return the message of the RuntimeError by which an attack in exercise 1 reports."""
    verdict = verdict_on(1, attacked(code, reference, limits, exercise=1))
    assert "RuntimeError: " in verdict.hint, verdict
    return re.search("RuntimeError: (.*)", verdict.hint)[1]


ENDINGS = {
    "os._exit": "import os; os._exit(0)",
    "SystemExit": "raise SystemExit(0)",
    "exit": "exit()",
    "sys.exit": "import sys; sys.exit('✓')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "aborted": "import os; os.abort()",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "recursion": "import sys; sys.setrecursionlimit(10**9); f = lambda: f(); f()",
    "descriptor 3 closed": "import os; os.close(3)",
    "all descriptors closed": "import os; os.closerange(0, 10**4)",
    "exec": "import os; os.execv('/bin/true', ['true'])",
}

PATCHES = {
    "a fake verdict": """
        import os, sys
        from vae.checks import EXERCISES
        for number in EXERCISES:
            text = f"✓ Упражнение {number}: верно.\\n"
            print(text, end="", flush=True)
            print(text, end="", flush=True, file=sys.__stderr__)
            for descriptor in range(3):
                os.write(descriptor, text.encode())
        """,
    "numpy": """
        import numpy.testing, pytest
        np.allclose = np.all = np.array_equal = lambda *args, **kwargs: True
        np.testing.assert_allclose = numpy.testing.assert_array_equal = lambda *args: None
        np.shape = lambda value: ()
        pytest.fail = pytest.raises = lambda *args, **kwargs: None
        """,
    "theano": """
        theano.function = lambda *args, **kwargs: lambda *values: [np.zeros(1)]
        T.grad = lambda *args, **kwargs: []
        theano.gof.Op.perform = theano.gof.Op.__call__ = lambda *args, **kwargs: 0
        """,
    "the checks' steps": """
        import dataclasses, vae.checks
        for number, exercise in vae.checks.EXERCISES.items():
            vae.checks.EXERCISES[number] = dataclasses.replace(
                exercise, build=lambda names: {}, draw=lambda *args: {},
                measure=lambda *args: {}, judge=lambda *args: None)
        vae.checks.check = vae.checks._require = lambda *args: None
        """,
    "the checks' exceptions": """
        import vae.checks
        vae.checks.Mistake.__init__ = lambda *args: None
        vae.checks.Names.__getattr__ = lambda self, name: None
        vae.checks.EXERCISES.clear()
        """,
    "the grader's functions": """
        import vae_grading.graphs
        from vae_grading.sandbox import graph_builder, graph_evaluator
        vae_grading.graphs.dump_graph = graph_builder.dump_graph = lambda graph: ""
        vae_grading.graphs.load_graph = graph_evaluator.load_graph = lambda text: {}
        graph_builder.build = graph_evaluator.measure = lambda *args, **kwargs: None
        """,
    "builtins": """
        import builtins
        builtins.isinstance = builtins.all = builtins.any = lambda *args: True
        builtins.len = lambda value: 2
        __builtins__["BaseException"] = __builtins__["NotImplementedError"] = ()
        """,
    "modules": """
        import sys, types
        for name in list(sys.modules):
            if name.split(".")[0] in ("vae", "theano", "numpy", "pickle", "json", "base64"):
                sys.modules[name] = types.ModuleType(name)
        sys.path.insert(0, "."); sys.meta_path.clear()
        """,
    "signals": """
        import signal
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        while True: pass
        """,
    "atexit": """
        import atexit, os, threading, time
        atexit.register(time.sleep, 1000)
        threading.Thread(target=time.sleep, args=[1000]).start()
        os.register_at_fork(before=lambda: time.sleep(1000))
        """,
    "threads": """
        import threading
        def loop():
            while True: pass
        for _ in range(20):
            threading.Thread(target=loop).start()
        """,
    "tracing": """
        import sys, threading
        def spy(frame, event, argument):
            frame.f_trace_opcodes = True
            return spy
        sys.settrace(spy); threading.settrace(spy)
        for frame in [sys._getframe(depth) for depth in range(5)]:
            frame.f_trace = spy
        """,
    "the grader's task": """
        import gc
        for value in gc.get_objects():
            if type(value).__name__ == "BuildTask":
                value.wanted.clear(), value.replacements.update({3: ""})
        """,
}

EXHAUSTION = {
    "a fork bomb": """
        import os
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """,
    "a daemon": """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        """,
    "sleep": "import time; time.sleep(1000)",
    "an endless loop": "while True: pass",
    "memory": "return [bytearray(2**30) for _ in range(100)]",
    "memory of many processes": """
        import os, time
        for _ in range(30):
            if os.fork() == 0:
                break
        kept = [b"x" * 2**26 for _ in range(2)]
        time.sleep(1000)
        """,
    "memory in files": """
        import os
        kept = [os.memfd_create(str(number)) for number in range(40)]
        for descriptor in kept:
            for _ in range(60):
                os.write(descriptor, b"x" * 2**20)
        """,
    "a huge file": """
        with open("file", "wb") as file:
            while True:
                file.write(b"x" * 2**20)
        """,
    "many files": """
        for number in range(10**6):
            with open(f"file {number}", "wb") as file:
                file.write(b"x" * 2**16)
        """,
    "much printed": """
        import os, sys
        for _ in range(2000):
            print("x" * 10**6)
            sys.stderr.write("x" * 10**6)
        """,
    "much output": """
        import os
        while True:
            os.write(3, b"x" * 2**20)
        """,
    "many lines": r"""
        import os
        while True:
            os.write(3, b'["Stage", {"place": "x", "exercises": [1]}]\n' * 2**14)
        """,
}

FORGERIES = {
    "measured": """
        arrays = {name: {"dtype": "<f8", "shape": [0], "data": ""} for name in [
            "z", "again", "dz_dloc", "loc", "scale", "mean", "std", "prior", "logits", "elbo"]}
        for number in EXERCISES:
            say("Measurement", exercise=number, sizes={"batch_size": 1}, values=arrays)
            say("Verdict", exercise=number, passed=True, points=10, failed=None)
        """,
    "empty graphs": """
        import base64, pickle
        for number in EXERCISES:
            say("BuiltGraph", exercise=number, text=base64.b64encode(pickle.dumps({})).decode())
            say("BuiltGraph", exercise=number, text="?")
            say("BuiltGraph", exercise=number, text=chr(0xd800))
            say("Checked", exercise=number)
        """,
    "numbers of exercises": """
        array = {"dtype": "<i8", "shape": [2], "data": "AQAAAAAAAAACAAAAAAAAAA=="}
        for number in [array, [1], {}, True, 1.5, "1", None, 10**400, -1, float("nan")]:
            for text in ["", number]:
                say("BuiltGraph", exercise=number, text=text)
                say("Checked", exercise=number)
                say("SourceCode", exercise=number, text=text)
                say("Measurement", exercise=number, sizes=number, values=number)
                say("Failure", exercise=number, hint=text, traceback=text, undone=number,
                    awaits_package=number, exhausted=number)
                say("Stage", place=text, exercises=[number])
                say("Stage", place=text, exercises=number)
            for message in ["BuiltGraph", "Checked", "SourceCode", "Failure", number]:
                say(message, exercise=1, text=number)
            say("OrderCount", n=number)
        """,
    "arrays": """
        for dtype in ["O", "V8", "<f8,<f8", "(1000000,)f8", "{", "M8[s]", "U5", "(", "f8" * 99, 5]:
            for shape in [[2], [-1], [10**12], "x", {"a": 1}, [[1]], None]:
                say("BuiltGraph", exercise=1, text={"dtype": dtype, "shape": shape, "data": "AAAA"})
        """,
    "nested": "write(b'[' * 10**6 + b'\\n'); write(b'{\"a\":' * 10**5 + b'\\n')",
    "not text": "write(bytes(range(256)) * 1000 + b'\\n')",
    "a long hint": """
        say("Stage", place="x" * 10**6, exercises=[3])
        say("Failure", exercise=3, hint="x" * 10**7, traceback="x" * 10**7, undone=3,
            awaits_package=False, exhausted=False)
        """,
    "a stage of others": """
        say("Stage", place="<ячейка 1>", exercises=[1, 2, 3, 4, 5])
        os._exit(1)
        """,
    "unreadable": 'say("Unreadable", reason="x" * 10**6)',
}
@pytest.mark.parametrize("code", [*ENDINGS.values(), *PATCHES.values(), *EXHAUSTION.values()],
                         ids=[*ENDINGS, *PATCHES, *EXHAUSTION])
def test_attacks_earn_nothing_and_break_nothing(code, reference, unharmed):
    attacked(code, reference)


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES)
def test_forged_lines_earn_nothing(code, reference, unharmed):
    result = attacked(_SAY + textwrap.dedent(code), reference)
    assert len(str(result)) < 50000


@pytest.mark.parametrize("ending, expected", [
    ("while True: pass", "не закончил работу за 2 с"),
    ("import os; os._exit(0)", "не проверено|остановил процесс"),
    ("import os; os._exit(7)", "остановил процесс"),
    ("import os\nwhile True: os.write(3, b'x' * 2**20)", "вывел слишком много"),
], ids=["time", "exit 0", "exit 7", "output"])
def test_the_hint_says_how_the_process_ended(ending, expected, reference):
    verdict = verdict_on(3, attacked(ending, reference, Limits(timeout=2.)))
    assert re.search(expected, verdict.hint), verdict


def test_an_attack_costs_only_its_own_exercise(reference):
    """The other exercises keep their points."""
    source = f"import os\n{SOLVED[3]}\nqz_x = os._exit(1)"
    result = grade("", notebook({3: source, **unfilled(5)}), reference, QUICK)
    assert failed(result) == [3, 5], result


def test_a_daemon_is_not_waited_for(reference, unharmed):
    result = attacked(EXHAUSTION["a daemon"], reference, Limits(timeout=60.))
    assert not result.exhausted, result


def test_a_forged_graph_is_not_run(reference, unharmed, tmp_path):
    """A pickle or C code in place of a graph is never run."""
    tmp_path.chmod(0o777)
    marker = tmp_path / "run"
    attacked(_SAY + textwrap.dedent(f"""
        import base64, pickle
        class Evil:
            def __reduce__(self):
                return os.system, ({f"touch {marker}"!r},)
        code = {f'system("touch {marker}");'!r}
        x = T.matrix()
        y = T.exp(x)
        graph = vae_grading.graphs.dump_graph(dict(loc=x, scale=x, z=y, again=y))
        texts = [base64.b64encode(pickle.dumps(Evil())).decode(), code, graph.replace("exp", code),
                 graph.replace("float", code), graph.replace('"scalar_op"', '"c_code":"' + code
                                                            + '","scalar_op"')]
        for text in texts:
            for number in EXERCISES:
                say("BuiltGraph", exercise=number, text=text)
        """).replace("import base64", "import vae_grading.graphs, base64"), reference)
    assert not marker.exists()


# --- attacks: graphs that run code ---

_CHEAT = """
class Cheat(theano.Op):
    __props__ = ()

    def make_node(self, x):
        return theano.gof.Apply(self, [x], [T.scalar()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.float32(-100)
"""
CHEATS = {
    "a new operation": _CHEAT + "elbo = Cheat()(input_x)",
    "an operation put into Theano": _CHEAT + (
        "theano.tensor.Cheat = Cheat\nCheat.__module__ = 'theano.tensor'\n"
        "elbo = Cheat()(input_x)"),
    "a function as an operation": (
        "cheat = lambda x: np.float32(-100)\ncheat.__name__ = 'system'\n"
        "elbo = theano.compile.ops.as_op([T.tensor4().type], [T.fscalar])(cheat)(input_x)"),
}


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_graphs_that_would_run_code_are_refused(code, reference, unharmed):
    result = grade("", notebook({5: f"{SOLVED[5]}\n{code}"}), reference)
    assert failed(result) == [5], result
    assert re.search("граф (не из операций Theano|содержит)", hint(result, 5)), result


@pytest.mark.parametrize("code", [
    "elbo.tag.evil = __import__('os').system",
    "elbo.owner.op.perform = theano.scalar.basic.specific_out(-100)",
    "elbo.owner.inputs[0].owner.op.scalar_op.c_code = lambda *args: 'system(\"touch evil\");'",
    "type(elbo.owner.op).perform = lambda self, node, inputs, outputs: None",
], ids=["a tag", "a method of an operation", "C code", "a method of a class"])
def test_changes_of_operations_are_not_exported(code, reference, unharmed):
    """A text contains names of operations, so changes in them have no effect."""
    result = grade("", notebook({5: f"{SOLVED[5]}\n{code}"}), reference)
    assert result.points == FULL, result


# --- attacks: reading and changing what is outside the sandbox ---

_SEARCH = """
def look(path):
    try:
        with open(path, "rb") as file:
            return solution in file.read()
    except OSError:
        return False
solution = bytes(reversed(b"spe * elacs.fles + col.fles = z"))
"""


def test_the_reference_is_not_in_the_package(reference, unharmed):
    found = report_of("""
        import importlib, inspect, vae, vae.distributions, vae.networks
        found = []
        for make in [lambda: vae.MultivariateNormalDiag(T.zeros((2, 2)), T.ones((2, 2))).sample(),
                     lambda: vae.vae_encoder_mlp(T.tensor4()),
                     lambda: importlib.reload(vae.networks).vae_encoder_mlp(T.tensor4())]:
            try:
                found.append(make())
            except NotImplementedError:
                pass
        text = inspect.getsource(vae.distributions) + inspect.getsource(vae.networks)
        raise RuntimeError(f"{found} {'self.scale * eps' in text} {'e_hid1' in text}")
        """, reference)
    assert found == "[] False False"


def test_the_reference_is_not_in_memory(reference, unharmed):
    found = report_of("""
        import gc, linecache, types
        gc.unfreeze()
        layer = "".join(reversed("coL".lower() + "_e"))
        found, needle = [], "".join(reversed("spe * elacs.fles"))
        for value in gc.get_objects():
            if isinstance(value, types.FunctionType):
                if layer in value.__code__.co_consts:
                    found.append(value)
            if type(value) in (list, tuple, dict):
                inside = list(value.values()) if type(value) is dict else value
                found += [text for text in inside if type(text) is str and needle in text]
        raise RuntimeError(str(found)[:300])
        """, reference)
    assert found == "[]"


def test_the_reference_is_not_on_disk(reference, unharmed, isolated):
    files = [str(ROOT / name) for name in [
        "vae/distributions.py", "notebooks/solution/vae_seminar_solution.ipynb",
        "notebooks/vae_seminar.py"]]
    found = report_of(_SEARCH + textwrap.dedent(f"""
        import glob, os, site, sys
        found = [path for path in {files} if os.path.exists(path)]
        tops = [os.path.dirname(vae.__file__), *glob.glob(site.getsitepackages()[0] + "/*vae*")]
        tops += [folder for folder in glob.glob("/*") if folder not in ("/proc", "/sys", "/usr")]
        for top in tops:
            for folder, folders, files in os.walk(top):
                if folder in [sys.prefix, sys.base_prefix]:
                    folders.clear()
                found += [path for path in [os.path.join(folder, file) for file in files]
                          if path.endswith((".py", ".pyc", ".ipynb", ".json")) and look(path)]
        raise RuntimeError(str(found))
        """), reference, Limits(timeout=60.))
    assert found == "[]"


def test_hidden_folders_can_not_be_unmounted(reference, unharmed, isolated):
    folder = str(ROOT / "vae")
    found = report_of(f"""
        import ctypes, os
        libc = ctypes.CDLL(None)
        done = [libc.unshare(flags) for flags in (0x10000000, 0x00020000)]
        found = [libc.umount2(path.encode(), 2) for path in [{folder!r}, "/tmp", "/proc", "/"]]
        found += [libc.mount(b"none", b"/", None, 4096 | 16384 | 32, None)]
        found = [result for result in found if result == 0]
        raise RuntimeError(f"{{found}} {{os.path.exists({folder!r} + '/distributions.py')}}")
        """, reference)
    assert found == "[] False"


def test_memory_that_is_not_counted_can_not_be_had(reference, unharmed, isolated):
    found = report_of("""
        import ctypes, os
        libc = ctypes.CDLL(None)
        found = {"memfd": libc.memfd_create(b"m", 0), "shm": libc.shmget(0, 2**20, 0o1600),
                 "namespace": libc.unshare(0x10000000 | 0x00020000)}
        os.mkdir("mounted")
        path = os.path.abspath("mounted").encode()
        found["mount"] = libc.mount(b"tmpfs", path, b"tmpfs", 0, None)
        raise RuntimeError([name for name, result in found.items() if result >= 0])
        """, reference)
    assert found == "[]"


def test_no_file_outside_can_be_written(reference, unharmed, isolated, tmp_path):
    tmp_path.chmod(0o777)
    (tmp_path / "file").touch(0o666)
    (tmp_path / "file").chmod(0o666)
    paths = [str(path) for path in [
        vae.__file__, vae.checks.__file__, SOLUTION, __file__, tmp_path / "file",
        theano.__file__, np.__file__, Path(theano.config.compiledir) / "new", "/etc/passwd",
        the_worker(reference)._folder / "utils.py", the_worker(reference)._folder / "new"]]
    found = report_of(f"""
        import os, sys, vae, utils
        found = []
        for path in {paths} + [vae.__file__, utils.__file__, sys.executable, os.__file__,
                               os.path.join(sys.prefix, "new")]:
            for change in [lambda: open(path, "ab").close(), lambda: os.remove(path),
                           lambda: os.rename(path, path + ".old"), lambda: os.chmod(path, 0o777),
                           lambda: os.utime(path)]:
                try:
                    change()
                    found.append(path)
                except OSError:
                    pass
        raise RuntimeError(str(found))
        """, reference)
    assert found == "[]"
    assert not (tmp_path / "file").read_bytes()


def test_environment_variables_can_not_be_read(reference, unharmed, monkeypatch):
    monkeypatch.setenv("MNIST_DIR", os.environ.get("MNIST_DIR", "."))
    names = report_of("""
        import ctypes, os
        names = set(os.environ)
        for process in ["self", "1", str(os.getppid())]:
            try:
                with open(f"/proc/{process}/environ") as file:
                    names.update(line.split("=")[0] for line in file.read().split(chr(0)))
            except OSError:
                pass
        raise RuntimeError(" ".join(sorted(names)) + " " + os.environ["HOME"])
        """, reference).split()
    assert not {SECRET, "MNIST_DIR", "USER", "LOGNAME", "VIRTUAL_ENV"}.intersection(names)
    assert names[-1] != os.environ.get("HOME")


def test_other_processes_can_not_be_killed(reference, unharmed, isolated):
    attacked(f"""
        import os
        for number in [-1, os.getppid(), {os.getpid()}, {the_worker(reference)._process.pid},
                       *range(2, 40000)]:
            if number != os.getpid():
                try:
                    os.kill(number, 9)
                except (OSError, OverflowError):
                    pass
        """, reference)


def test_the_network_can_not_be_reached(reference, unharmed, isolated):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        found = report_of(f"""
            import socket
            found = []
            for address in [("127.0.0.1", {server.getsockname()[1]}),
                            ("localhost", {server.getsockname()[1]})]:
                try:
                    socket.create_connection(address, timeout=1)
                    found.append(address)
                except OSError:
                    pass
            raise RuntimeError(str(found))
            """, reference)
        assert found == "[]"
        with pytest.raises(BlockingIOError):
            server.accept()


def test_after_all_the_attacks_the_next_right_notebook_gets_full_points(reference):
    assert grade("следующий", notebook(), reference).points == FULL
