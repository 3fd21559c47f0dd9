"""The actions and resources that notebooks are allowed, tested from the file to the grade."""

import json
import signal
import subprocess
import sys
import tracemalloc

import pytest
from grading_notebooks import FOLDER, SOLVED, cells, changed, notebook, to_bytes, unfilled

import vae_grading.__main__ as main
from vae.checks import EXERCISES
from vae_grading.grader import Reference, grade
from vae_grading.json_lines import lines_of_json
from vae_grading.messages import (BuildTask, BuiltGraph, Failure, MeasureTask, Stage, answers_in,
                                  line_of)
from vae_grading.reports import write_notebook_reports
from vae_grading.sandbox import graph_evaluator
from vae_grading.sandbox.process import Limits

pytestmark = pytest.mark.process

FULL = sum(exercise.points for exercise in EXERCISES.values())
WITHOUT_5 = FULL - EXERCISES[5].points


@pytest.fixture(scope="module")
def reference():
    return Reference.read(FOLDER / "solution" / "vae_seminar_solution.ipynb")


# --- what a kernel allows ---

def test_restarting_the_runtime_as_on_colab(reference):
    restart = "import os\nos._exit(0)"
    result = grade("", to_bytes([restart, *cells(unfilled(5))]), reference)
    assert result.points == WITHOUT_5, result
    assert "Ячейка 1, строка 2" in result.note and "exit code 0" in result.note


def test_an_exercise_that_ends_the_process(reference):
    source = "def vae_encoder_mlp(*args, **kwargs):\n    import os\n    os._exit(0)\n"
    result = grade("", notebook({**unfilled(5), 2: source}), reference)
    assert result.points == WITHOUT_5 - EXERCISES[2].points, result
    assert "остановил процесс" in result.verdicts[1].hint


def test_annotations_are_not_evaluated_after_an_import_from_the_future(reference):
    annotated = {1: changed(SOLVED[1], "loc=None, scale", "loc: Tensor = None, scale"),
                 2: changed(SOLVED[2], "(input_x,", "(input_x: Tensor,")}
    # Python 3.14 evaluates none.
    lost = sum(EXERCISES[number].points for number in annotated) * (sys.version_info < (3, 14))
    for first, points in [("from __future__ import annotations", WITHOUT_5),
                          ("pass", WITHOUT_5 - lost)]:
        result = grade("", to_bytes([first, *cells({**unfilled(5), **annotated})]), reference)
        assert result.points == points, (first, result)


# --- messages ---

def test_half_a_pair_in_a_message(reference, tmp_path):
    source = "def vae_encoder_mlp(*args):\n    raise ValueError('\\ud83d here', '\U0001f600')\n"
    result = grade("odd", notebook({**unfilled(5), 2: source}), reference)
    assert result.points == WITHOUT_5 - EXERCISES[2].points
    assert "here" in result.verdicts[1].hint and "\U0001f600" in result.verdicts[1].hint
    write_notebook_reports(tmp_path, result, "digest", Limits())


@pytest.mark.parametrize("value, expected", [
    ("\ud800 \U0001f600", "? \U0001f600"), ({"\udfff": ["\ud800", 1]}, {"?": ["?", 1]}),
    ("\\ud800", "\\ud800"), ("\\\ud800", "\\?")])
def test_texts_can_be_encoded(value, expected):
    assert lines_of_json(json.dumps(value).encode()) == [expected]


def test_a_long_text_with_wide_characters_takes_little_memory():
    text = "\U0001f600" + "x" * 12 * 2**20
    for ascii_only in [True, False]:
        output = b"1\n" + json.dumps(text, ensure_ascii=ascii_only).encode()
        tracemalloc.start()
        try:
            assert lines_of_json(output) == [1]
            assert tracemalloc.get_traced_memory()[1] < 3 * len(output)
        finally:
            tracemalloc.stop()


def test_a_long_graph_with_texts_in_russian():
    graph = json.dumps("формы" + "x" * 5 * 2**20)
    task = BuildTask(b"", 0, 1., [], [1], {}, {})
    assert answers_in(lines_of_json(line_of(BuiltGraph(1, graph)).encode()), task) == [
        BuiltGraph(1, graph)]


# --- time ---

def test_a_graph_that_takes_too_long(monkeypatch):
    """The hint says that nothing loops; graphs before it keep their results."""
    def endless(number, *args):
        while number == 2:
            pass
        return Failure(number, "measured")

    monkeypatch.setattr(graph_evaluator, "_measured", endless)
    sent = []
    handler = signal.getsignal(signal.SIGPROF)
    try:
        graph_evaluator.measure(MeasureTask({1: "", 2: "", 3: ""}, 0), None, sent.append, 0.3)
    finally:
        signal.signal(signal.SIGPROF, handler)
    first, second = [message for message in sent if not isinstance(message, Stage)]
    assert first == Failure(1, "measured")
    assert second.exercise == 2 and "не зациклился" in second.hint and second.exhausted


_CONVOLUTIONS = """\
def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):
    from lasagne.layers import Conv2DLayer, DenseLayer, InputLayer, MaxPool2DLayer
    layer = InputLayer((None, 1, 28, 28), input_var=input_x)
    for n_filters in [32, 64]:
        layer = Conv2DLayer(layer, n_filters, 3, pad="same")
        layer = MaxPool2DLayer(Conv2DLayer(layer, n_filters, 3, pad="same"), 2)
    layer = DenseLayer(layer, 256)
    return (DenseLayer(layer, hidden_dim, nonlinearity=None),
            DenseLayer(layer, hidden_dim, nonlinearity=T.nnet.softplus))
"""


@pytest.mark.slow
def test_a_convolutional_encoder(reference):
    """Training takes longer than one run of a notebook may: that limit is for endless loops."""
    result = grade("", notebook({2: _CONVOLUTIONS}), reference, Limits(timeout=20.))
    assert result.points == FULL, result


# --- the command ---

@pytest.mark.parametrize("open_things, expected", [
    ({"files", "network"}, "can read this disk and reach the network: no"),
    ({"network"}, "can reach the network: no"), (set(), "can see that other")])
def test_the_warning_names_what_students_code_can_reach(open_things, expected, monkeypatch, capsys):
    monkeypatch.setattr(main, "is_open", lambda: open_things)
    monkeypatch.setattr(main, "out_of_reach", lambda paths: None)
    main._warn_of_missing_isolation("no kernel")
    assert expected in capsys.readouterr().err


_BACKGROUND = """
"$0" -m vae_grading "$1" -o "$2" 2> "$2.log" &
grader=$!
while ! grep -q notebook "$2.log"; do sleep 0.1; done
kill -TERM $grader
{ sleep 60; kill -KILL $grader; } > /dev/null 2>&1 &
wait $grader
echo "status $?"
kill $!
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell")
def test_a_run_in_the_background_of_a_script_is_stopped(tmp_path):
    """The shell lets such a run ignore Ctrl-C, not what `kill` sends."""
    (tmp_path / "hangs.ipynb").write_bytes(notebook({
        2: "def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):\n    while True:\n        pass\n"}))
    done = subprocess.run(["sh", "-c", _BACKGROUND, sys.executable, str(tmp_path / "hangs.ipynb"),
                           str(tmp_path / "grades")], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "status 130\n", (tmp_path / "grades.log").read_text()
