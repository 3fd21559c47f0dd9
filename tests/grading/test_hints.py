"""The hints of a process that was given solutions: only our own texts, numbers and known names."""

import copy
import json
import math
import pickle
import re

import pytest
import theano
import theano.tensor as T

from vae.checks import Mistake, Names
from vae.checks.exercise import kind_of
from vae.language import Text, _
from vae_grading.graphs import dump_graph
from vae_grading.hints import Censor, parts_of
from vae_grading.messages import Failure

CELLS = ["x = 1\nmy_encoder(x)", "y = 2"]
SECRET = "zz = self.loc + self.scale * eps"
NAME = ("не определено имя {name}. Выполните ячейку, которая его определяет, и проверьте, так ли "
        "оно там написано.")
KIND = ("px_z сейчас — {kind}, а должен быть объектом BinaryVector, и его logits — тензором: "
        "lasagne.layers.get_output(decoder_logits).")


@pytest.fixture
def censor():
    return Censor(CELLS, ["d_hid1 = 1"], [
        Failure(1, "all of it", "line", parts=([NAME, {"name": "w"}],), lines=((1, 2),))])


def arrived(cause):
    return json.loads(json.dumps(parts_of(cause)))


def mistake_of(function, *arguments):
    with pytest.raises(Mistake) as caught:
        function(*arguments)
    return caught.value


@pytest.mark.parametrize("cause", [
    _("ещё не выполнено."), Mistake(_(NAME, name="my_encoder")),
    mistake_of(lambda: Names({}).elbo), mistake_of(lambda: Names({"elbo": ...}).elbo),
    Mistake(_(KIND, kind=kind_of([1, 2]))), Mistake(_(KIND, kind=kind_of(T.matrix()))),
    Mistake(_(KIND, kind=kind_of(5))),
], ids=str)
def test_our_own_hints_arrive_whole(cause, censor):
    assert censor.hint(arrived(cause)) == str(cause)


def test_an_operation_that_is_refused_is_named(censor):
    my_encoder = type("my_encoder", (T.Elemwise,), {})
    mistake = mistake_of(dump_graph, {"x": my_encoder(theano.scalar.exp)(T.matrix())})
    assert "операцию my_encoder" in censor.hint(arrived(mistake))


def test_errors_are_named(censor):
    for message in (SECRET, "my_encoder failed", "my_encoder: x"):
        assert censor.hint(arrived(TypeError(message))) == "код не выполняется: TypeError"
    hint = censor.hint(arrived(NameError(SECRET, name="my_encoder")))
    assert hint.startswith("код не выполняется: NameError: my_encoder")
    assert SECRET not in censor.hint(arrived(NameError(SECRET, name=SECRET)))
    assert censor.hint(arrived(type(SECRET, (Exception,), {})())) == "код не выполняется"


@pytest.mark.parametrize("parts", [
    [], [SECRET], [[SECRET, {}]], [["{secret}", {"secret": SECRET}]], [None], [[1, 2]], [{}],
    [[NAME, None]], [[NAME, [SECRET]]], [["{name}", {"name": "x"}]],
    [[NAME + SECRET, {"name": "x"}]], [[[NAME], {"name": "x"}]],
    [[NAME, {"name": {"x": 1}}]], [[NAME, {"name": {"items": 1}}]]])
def test_texts_that_are_not_ours_are_dropped(parts, censor):
    assert censor.hint(parts) == "код не выполняется или даёт не тот результат."


@pytest.mark.parametrize("value", [
    SECRET, "unknown_name", "x.unknown", "x" * 41, "x.x.x", "x.y", "12345678901", 10**7, -10**9,
    None, [SECRET, {}], [NAME, {"name": SECRET}], [[[["x"]]]], {"items": [SECRET]},
    {"items": [["x", {}]]}, "\N{DIGIT ONE}\u0661" * 20], ids=lambda value: repr(value)[:30])
def test_values_that_could_be_a_text_are_left_out(value, censor):
    text = censor.hint([[NAME, {"name": value}]])
    assert text.startswith("не определено имя ") and "…" in text and len(text) < 300
    assert not re.search(r"self|eps|unknown|1234|xxxx|x\.x|x\.y", text)


@pytest.mark.parametrize("value, shown", [
    ("x", "x"), ("y, my_encoder, y", "my_encoder, y"), ("T.exp", "T.exp"),
    ("d_hid1.W", "d_hid1.W"), (5, "5"), (-3, "-3"),
    (1.23456789, "1.23457"), (math.nan, "nan"), ({"items": [3, 4]}, "(3, 4)"), (True, "True"),
    ("W формы 3×4 в слое DenseLayer без имени", "W"), ("12", "12"), ("x, x, " + SECRET, "x, …")])
def test_numbers_shapes_and_known_names_are_shown(value, shown, censor):
    assert f"имя {shown}. Вып" in censor.hint([[NAME, {"name": value}]])


def test_many_values_are_not_shown(censor):
    """They could spell a solution."""
    texts = [[NAME, {"name": {"items": [101, 102, 103]}}]] * 4
    assert len(re.findall(r"10\d", censor.hint(texts))) == 8
    assert "102" not in censor.hint([[NAME, {"name": "x, y, my_encoder, 1, 2, 3, 4, 5, 102"}]])
    assert "(1, 2)" in censor.hint([[NAME, {"name": {"items": [1, 2]}}]])


def test_what_was_said_before_is_shown_again(censor):
    said = Failure(1, SECRET, SECRET, parts=([NAME, {"name": "w"}],), lines=((1, 2),), undone=1)
    shown = censor.failure(said)
    assert (shown.hint, shown.traceback, shown.undone) == ("all of it", "line", 1)
    other = censor.failure(Failure(2, SECRET, SECRET, parts=said.parts, lines=said.lines))
    assert SECRET not in other.hint and other.traceback == "ячейка 1, строка 2:\n    my_encoder(x)"


def test_lines_come_from_the_notebook_as_it_was(censor):
    assert censor.lines(((2, 1), (1, 9), (9, 1))) == (
        "ячейка 2, строка 1:\n    y = 2\nячейка 1, строка 9\nячейка 9, строка 1")


@pytest.mark.parametrize("place", ["ячейка 3, строка 14", "упражнение 5"])
def test_places_are_kept(place, censor):
    assert censor.place(place) == place


@pytest.mark.parametrize("place", [
    SECRET, "ячейка 3, строка 14" + SECRET, "ячейка x, строка 1", "ячейка 3, строка 123456", "",
    SECRET + "упражнение 5", "упражнение 5\n"])
def test_what_is_no_place_is_not_shown(place, censor):
    assert censor.place(place) == ""


def test_names_in_what_a_graph_computes(censor):
    measured = {"missing": [["d_hid1.W", SECRET], ["x"]], "flag": True, "number": 1.5,
                "many": ["y", "x", "unknown"] * 100, "deep": {"a": ["unknown"]}}
    assert censor.measured(measured) == {
        "missing": [["d_hid1.W", "…"], ["x"]], "flag": True, "number": 1.5,
        "many": ["x", "y", "…"], "deep": {"a": ["…"]}}


def test_copies_of_texts_are_plain():
    text = _(NAME, name="x")
    assert type(text) is Text and text.template == NAME and text.values == {"name": "x"}
    for same in (copy.deepcopy(text), pickle.loads(pickle.dumps(text)), str(text)):
        assert type(same) is str and same == text
