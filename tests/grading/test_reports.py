"""Reports are written completely or not at all, and students' texts have no effect in them."""

import csv
import io
import json
import os
import re
import zipfile
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import cycle
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from vae.checks import EXERCISES
from vae_grading.grader import Grade, Verdict
from vae_grading.reports import (
    StudentGrade,
    check_folder,
    read_grade,
    write_class_reports,
    write_notebook_reports,
)
from vae_grading.reports.class_page import class_page
from vae_grading.reports.texts import points_text, students_text
from vae_grading.sandbox.process import Limits
from vae_grading.submissions import Student, Submission

POINTS = {number: exercise.points for number, exercise in EXERCISES.items()}
FULL = sum(POINTS.values())
TITLES = [f"{number}. {exercise.title[0].upper()}{exercise.title[1:]}"
          for number, exercise in EXERCISES.items()]
#: Points for each exercise of a notebook that fails in exercises 3 and 4.
LEFT = {**POINTS, 3: 0, 4: 0}

HINT = "код не выполняется: TypeError: не число\nСтрока 3 ячейки: x <- y & z"
TRACEBACK = "ячейка 7, строка 2:\n    x <- y & z\nTypeError: не число"
NOTE = "Ячейка 3: код вывел слишком много."
MARKUP = ("</pre></p></title></style><script>alert(1)</script><img src=x onerror=alert(1)>"
          "<!-- \"' onload='x' --> &lt;b&gt; {{ 7 * 7 }} {% for %}")
STRANGE = "\0\x1b[31m\x0b\udc80\ud800\ufffe\uffff\x7f\x85\u2028\U0010ffff😀\t"

NAMES = ["petrov", "Иванов Пётр/vae_seminar", "a/b/c/d", "-rf", "--help", "dots...", "...",
         ".hidden", "\"quotes'`$HOME`", "a&b<c>d", "50%#?*|\\x", "😀 \u202eэмодзи", "new\nline",
         " spaces  ", "я" * 124, "x" * 249, "=1+1/+x", "a.html", "{{ 7 * 7 }}"]


def some_grade(name="petrov", failed=(3, 4), hint=HINT, traceback=TRACEBACK, note=NOTE,
               untried=False):
    return Grade(name, [Verdict(number, False, hint, traceback, untried=untried)
                        if number in failed else Verdict(number, True) for number in EXERCISES],
                 note)


def paths(folder, name="petrov"):
    return folder / "feedback" / f"{name}.html", folder / "results" / f"{name}.json"


def result_of(grade, folder=None, id=""):
    """The result of a student who has handed in one notebook."""
    folder = folder or grade.name
    name = folder.partition("_")[0] if id else folder
    return StudentGrade(Student(folder, name, id, {grade.name: Submission(b"")}), grade)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- writing and reading a grade ---

@pytest.mark.parametrize("name", NAMES, ids=[name[:20] for name in NAMES])
def test_any_name_there_and_back(name, tmp_path):
    grade = some_grade(name)
    write_notebook_reports(tmp_path, grade, "digest")
    assert read_grade(tmp_path, name, "digest") == grade
    assert files_in(tmp_path) == sorted([f"feedback/{name}.html", f"results/{name}.json"])


@pytest.mark.parametrize("grade", [
    some_grade(failed=()), some_grade(failed=EXERCISES), some_grade(note=""),
    some_grade(hint="", traceback=""), some_grade(hint=MARKUP, traceback=MARKUP, note=MARKUP)])
def test_any_grade_there_and_back(grade, tmp_path):
    write_notebook_reports(tmp_path, grade, "digest")
    assert read_grade(tmp_path, "petrov", "digest") == grade


def test_many_notebooks_do_not_meet(tmp_path):
    grades = {name: some_grade(name, failed=[number])
              for name, number in zip(NAMES, cycle(EXERCISES))}
    for grade in grades.values():
        write_notebook_reports(tmp_path, grade, grade.name)
    for name, grade in grades.items():
        assert read_grade(tmp_path, name, name) == grade


@pytest.mark.parametrize("name", [
    "..", "../petrov", "a/../../b", "a/..", "/petrov", "//petrov", "/", "../" * 20 + "etc/passwd"])
def test_names_do_not_lead_out_of_the_folder(name, tmp_path):
    folder = tmp_path / "reports"
    with pytest.raises(ValueError, match="expected a path inside the class's folder"):
        write_notebook_reports(folder, some_grade(name), "digest")
    with pytest.raises(ValueError, match="expected a path inside the class's folder"):
        read_grade(folder, name, "digest")
    assert files_in(tmp_path) == []


def test_a_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode("Иванов".encode("cp1251"))
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    write_notebook_reports(tmp_path, some_grade(name), "digest")
    write_class_reports(tmp_path, [result_of(some_grade(name))])
    assert read_grade(tmp_path, name, "digest") == some_grade(name)


def test_strange_characters(tmp_path):
    strange = some_grade(hint=STRANGE + "hint\r\n2\r3", traceback=STRANGE, note=STRANGE)
    write_notebook_reports(tmp_path, strange, "digest")
    write_class_reports(tmp_path, [result_of(strange)])
    stored = read_grade(tmp_path, "petrov", "digest")
    assert [verdict.passed for verdict in stored.verdicts] == [
        number not in (3, 4) for number in EXERCISES]
    assert stored.verdicts[2].hint == "��[31m�����\x7f\x85\u2028\U0010ffff😀\thint\n2\n3"
    (tmp_path / "grades.xlsx").unlink()  # it contains the time
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    assert len(before) == 5
    for name, content in before.items():
        assert not re.search("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", content.decode()), name
    write_notebook_reports(tmp_path, stored, "digest")
    write_class_reports(tmp_path, [result_of(stored)])
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("name", ["x.html/y", "x.json/y", "x.HTML/y", "x.html_/y", "a/x.html/y"])
def test_a_notebook_beside_a_folder_called_like_its_page(name, tmp_path):
    names = [name, name.partition(".")[0], "x.html_/y", "x.html", "x.json"]
    for notebook in names:
        write_notebook_reports(tmp_path, some_grade(notebook), digest=notebook)
    for notebook in names:
        assert read_grade(tmp_path, notebook, digest=notebook) == some_grade(notebook)


@pytest.mark.parametrize("spoil", [
    lambda folder: folder.touch(), lambda folder: (folder / "grades.csv").mkdir(parents=True),
    lambda folder: (folder.mkdir(), (folder / "feedback").touch()),
    lambda folder: (folder.mkdir(), (folder / "results").symlink_to("/proc/self")),
    lambda folder: folder.symlink_to("/dev/null")])
def test_a_folder_that_can_not_be_written(spoil, tmp_path):
    spoil(tmp_path / "grades")
    with pytest.raises(OSError):
        check_folder(tmp_path / "grades")


# --- resuming ---

LARGER = [Limits(timeout=240.), Limits(memory=8 * 2**30), Limits(disk=2**30), Limits(processes=99)]


@pytest.mark.parametrize("limits", LARGER)
def test_what_has_run_out_is_tried_again_with_more(limits, tmp_path):
    grade = replace(some_grade(), exhausted=True)
    write_notebook_reports(tmp_path, grade, "digest", Limits())
    assert read_grade(tmp_path, "petrov", "digest", Limits()) == grade
    assert read_grade(tmp_path, "petrov", "digest", limits) is None
    write_notebook_reports(tmp_path, grade, "digest", limits)
    assert read_grade(tmp_path, "petrov", "digest", Limits()) == grade


@pytest.mark.parametrize("limits", LARGER)
def test_what_was_enough_is_tried_again_with_less(limits, tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest", Limits())
    assert read_grade(tmp_path, "petrov", "digest", limits) == some_grade()
    write_notebook_reports(tmp_path, some_grade(), "digest", limits)
    assert read_grade(tmp_path, "petrov", "digest", Limits()) is None


def test_nothing_there(tmp_path):
    assert read_grade(tmp_path, "petrov", "digest") is None
    assert read_grade(tmp_path / "missing", "petrov", "digest") is None


def test_another_digest(tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    assert read_grade(tmp_path, "petrov", "other") is None
    assert read_grade(tmp_path, "petrov", "") is None
    write_notebook_reports(tmp_path, some_grade(), "other")
    assert read_grade(tmp_path, "petrov", "other") == some_grade()


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_is_missing(which, tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    paths(tmp_path)[which].unlink()
    assert read_grade(tmp_path, "petrov", "digest") is None
    paths(tmp_path)[which].mkdir()
    assert read_grade(tmp_path, "petrov", "digest") is None


def test_truncated_anywhere(tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    _, results = paths(tmp_path)
    content = results.read_bytes()
    for length in range(0, len(content), 7):
        results.write_bytes(content[:length])
        assert read_grade(tmp_path, "petrov", "digest") is None, length


def test_damaged_anywhere(tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    _, results = paths(tmp_path)
    content = results.read_bytes()
    for index in range(0, len(content), 7):
        results.write_bytes(content[:index] + bytes([content[index] ^ 0x11]) + content[index + 1:])
        assert read_grade(tmp_path, "petrov", "digest") is None, index
    results.write_bytes(content)
    assert read_grade(tmp_path, "petrov", "digest") == some_grade()


def test_another_students(tmp_path):
    write_notebook_reports(tmp_path, some_grade("ivanov"), "digest")
    write_notebook_reports(tmp_path, some_grade("petrov"), "digest")
    paths(tmp_path, "ivanov")[1].replace(paths(tmp_path, "petrov")[1])
    assert read_grade(tmp_path, "petrov", "digest") is None


@pytest.mark.parametrize("content", [
    b"", b"null", b"[]", b"1", b'"text"', b"{}", b"[" * 100000, b"\xff\xfe\0", b"\0" * 4096,
    b'{"extra_data": null}', b'{"extra_data": {"digest": "digest"}}', b"9" * 5000,
    b'{"extra_data": {"digest": "digest", "note": "", "name": "petrov", "verdicts": 1}}',
    b'{"extra_data": {"digest": "digest", "note": "", "name": "petrov", "verdicts": [1]}}',
    b'{"extra_data": {"digest": "digest", "note": 1, "name": "petrov", "verdicts": []}}'])
def test_foreign_files(content, tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    paths(tmp_path)[1].write_bytes(content)
    assert read_grade(tmp_path, "petrov", "digest") is None


@pytest.mark.parametrize("field, value", [
    ("exercise", 6), ("exercise", "1"), ("exercise", []), ("exercise", 2), ("passed", False),
    ("hint", None), ("hint", 5), ("traceback", ["x"]), ("unknown", "x")])
def test_a_verdict_that_was_changed(field, value, tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    _, results = paths(tmp_path)
    content = json.loads(results.read_text(encoding="utf-8"))
    content["extra_data"]["verdicts"][0][field] = value
    results.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    assert read_grade(tmp_path, "petrov", "digest") is None


# --- atomic writing ---

def test_interrupted_writing(tmp_path, monkeypatch):
    old, new = some_grade(), some_grade(failed=[1])
    write_notebook_reports(tmp_path, old, "digest")
    write_class_reports(tmp_path, [result_of(old)])
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}

    def interrupted(source, target):
        assert Path(source).parent == Path(target).parent and Path(source).read_bytes()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    for write in [lambda: write_notebook_reports(tmp_path, new, "digest"),
                  lambda: write_class_reports(tmp_path, [result_of(new)])]:
        with pytest.raises(KeyboardInterrupt):
            write()
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before
    assert read_grade(tmp_path, "petrov", "digest") == old


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}

    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[:len(content) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        write_notebook_reports(tmp_path, some_grade(failed=[1]), "digest")
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_killed_between_the_page_and_the_results(tmp_path, monkeypatch):
    really_replace, targets = os.replace, []

    def killed_the_second_time(source, target):
        targets.append(Path(target).suffix)
        if len(targets) == 2:
            raise KeyboardInterrupt
        really_replace(source, target)

    monkeypatch.setattr(os, "replace", killed_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        write_notebook_reports(tmp_path, some_grade(), "digest")
    assert targets == [".html", ".json"]
    assert read_grade(tmp_path, "petrov", "digest") is None


def test_permissions_are_those_of_any_new_file(tmp_path):
    write_notebook_reports(tmp_path, some_grade(), "digest")
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in paths(tmp_path)} == {(tmp_path / "any").stat().st_mode}


# --- the page ---

class _Page(HTMLParser):
    """A parsed page: its elements, and the text of each."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.comments = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.texts.append("")
        if tag != "meta":
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] += data

    def handle_comment(self, data):
        self.comments.append(data)

    def all(self, tag, class_=None):
        return [text for (name, attributes), text in zip(self.elements, self.texts)
                if (name, attributes.get("class")) == (tag, class_)]


def page_of(folder, grade):
    write_notebook_reports(folder, grade, "digest")
    text = paths(folder, grade.name)[0].read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    return page


def test_page(tmp_path):
    page = page_of(tmp_path, some_grade("Иванов Пётр/vae_seminar"))
    assert page.all("title") == [f"Иванов Пётр/vae_seminar: {sum(LEFT.values())} из {FULL}"]
    assert page.all("h1") == ["Иванов Пётр/vae_seminar"]
    assert page.all("p", "total") == [f"{points_text(sum(LEFT.values()))} из {FULL}"]
    assert page.all("p", "note") == [NOTE]
    assert page.all("span", "mark") == ["✗" if number in (3, 4) else "✓" for number in EXERCISES]
    assert page.all("h2") == TITLES
    assert page.all("span", "points") == [
        f"{points_text(LEFT[number])} из {POINTS[number]}" for number in EXERCISES]
    assert page.all("p", "hint") == ["К" + HINT[1:]] * 2
    assert page.all("h3") == ["Ваши строки, в которых возникла ошибка"] * 2
    assert page.all("pre") == [TRACEBACK] * 2
    assert f"{len(EXERCISES) - 2} из {len(EXERCISES)}" in page.all("p", "count")[0]


CODE = """
z = qz_x.sample()
pz = "<b>&amp;</b>"  # </pre></details>
"""


def test_the_page_shows_the_students_code(tmp_path):
    grade = some_grade()
    grade = replace(grade, verdicts=[replace(verdict, code=CODE if verdict.exercise in (2, 3)
                                             else "") for verdict in grade.verdicts])
    page = page_of(tmp_path, grade)
    assert page.all("pre", "code") == [CODE] * 2
    assert [attributes for name, attributes in page.elements if name == "details"] == [
        {}, {"open": None}]  # folded where passed
    assert read_grade(tmp_path, "petrov", "digest") == grade


def test_page_of_a_perfect_notebook(tmp_path):
    page = page_of(tmp_path, some_grade(failed=(), note=""))
    assert page.all("p", "total") == [f"{points_text(FULL)} из {FULL}"]
    assert "Отличная работа!" in page.all("p", "count")[0]
    for tag, class_ in [("p", "hint"), ("p", "note"), ("pre", None), ("h3", None)]:
        assert page.all(tag, class_) == []


def test_page_that_only_the_reader_sees(tmp_path):
    page = page_of(tmp_path, some_grade())
    assert page.elements[:2] == [("html", {"lang": "ru"}), ("head", {})]
    assert page.elements[2] == ("meta", {"charset": "utf-8"})
    assert page.elements[3] == ("meta", {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'"})
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}
            ) in page.elements
    assert not {"script", "link", "img", "iframe", "a"} & {tag for tag, _ in page.elements}
    assert not {"src", "href"} & {name for _, attributes in page.elements for name in attributes}
    assert "url(" not in page.all("style")[0] and "@import" not in page.all("style")[0]
    assert "pre-wrap" in page.all("style")[0]


@pytest.mark.parametrize("name", ["petrov", "<script>alert(1)<", "\"'><b>{{ 7 * 7 }}"])
def test_students_markup_is_text(name, tmp_path):
    plain = page_of(tmp_path, some_grade("plain"))
    page = page_of(tmp_path, some_grade(name, hint=MARKUP, traceback=MARKUP, note=MARKUP))
    assert page.elements == plain.elements
    assert page.comments == []
    assert page.all("h1") == [name]
    assert page.all("title") == [f"{name}: {sum(LEFT.values())} из {FULL}"]
    assert page.all("p", "hint") == page.all("pre") == [MARKUP] * 2
    assert page.all("p", "note") == [MARKUP]


@pytest.mark.parametrize("number, expected", [
    (0, "0 баллов"), (1, "1 балл"), (2, "2 балла"), (3, "3 балла"), (4, "4 балла"), (5, "5 баллов"),
    (7, "7 баллов"), (10, "10 баллов"), (11, "11 баллов"), (12, "12 баллов"), (14, "14 баллов"),
    (20, "20 баллов"), (21, "21 балл"), (22, "22 балла"), (25, "25 баллов"), (100, "100 баллов"),
    (101, "101 балл"), (111, "111 баллов"), (112, "112 баллов"), (122, "122 балла")])
def test_points_in_russian(number, expected):
    assert points_text(number) == expected


@pytest.mark.parametrize("number, russian, english", [
    (0, "студентов", "students"), (1, "студент", "student"), (2, "студента", "students"),
    (5, "студентов", "students"), (11, "студентов", "students"), (21, "студент", "students"),
    (22, "студента", "students"), (40, "студентов", "students"), (112, "студентов", "students")])
def test_the_word_for_students_agrees_with_their_number(number, russian, english, monkeypatch):
    page = class_page([result_of(some_grade(f"s{index}")) for index in range(number)])
    assert f"<dt>{russian}</dt><dd>{number}</dd>" in page
    assert students_text(number) == russian
    monkeypatch.setenv("VAE_LANGUAGE", "en")
    assert students_text(number) == english
    assert points_text(21) == "21 points" and points_text(1) == "1 point"


@pytest.mark.parametrize("hint, expected", [
    ("не проверено.", "Не проверено."), ("ёлка", "Ёлка"), ("я", "Я"), ("а", "А"), ("", ""),
    ("qz_x не определено.", "qz_x не определено."), ("Уже", "Уже"), ("p(z)", "p(z)")])
def test_hints_begin_like_sentences(hint, expected, tmp_path):
    page = page_of(tmp_path, some_grade(hint=hint, failed=[1]))
    assert page.all("p", "hint") == ([expected] if expected else [])


# --- Gradescope ---

#: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
TOP_LEVEL = {
    "score": (int, float), "execution_time": (int, float), "output": str, "output_format": str,
    "test_output_format": str, "test_name_format": str, "visibility": str,
    "stdout_visibility": str, "extra_data": dict, "tests": list, "leaderboard": list}
OF_A_TEST = {
    "score": (int, float), "max_score": (int, float), "status": str, "name": str,
    "name_format": str, "number": str, "output": str, "output_format": str, "tags": list,
    "visibility": str, "extra_data": dict}
FORMATS = {"text", "html", "simple_format", "md", "ansi"}
VISIBILITIES = {"hidden", "after_due_date", "after_published", "visible"}


def results_of(folder, grade):
    write_notebook_reports(folder, grade, "digest")
    return json.loads(paths(folder, grade.name)[1].read_text(encoding="utf-8"))


@pytest.mark.parametrize("failed", [(), (3, 4), tuple(EXERCISES)])
def test_results_follow_gradescopes_specification(failed, tmp_path):
    results = results_of(tmp_path, some_grade(failed=failed, hint=MARKUP))
    for value, allowed in [(results, TOP_LEVEL), *((test, OF_A_TEST) for test in results["tests"])]:
        for key, content in value.items():
            assert isinstance(content, allowed[key]) and not isinstance(content, bool), key
            if key.endswith("_format"):
                assert content in FORMATS
            if key.endswith("visibility"):
                assert content in VISIBILITIES
            if key == "status":
                assert content in {"passed", "failed"}
    for value in [results, *results["tests"]]:  # anything else would render a student's markup
        assert value["output_format"] == "text"
    assert sum(test["score"] for test in results["tests"]) == some_grade(failed=failed).points
    assert sum(test["max_score"] for test in results["tests"]) == FULL
    assert "score" not in results  # it would override the sum


def test_results(tmp_path):
    results = results_of(tmp_path, some_grade())
    assert results["output"] == NOTE
    assert results["visibility"] == "visible"
    assert results["extra_data"]["digest"] == "digest"
    assert [test["number"] for test in results["tests"]] == [str(number) for number in EXERCISES]
    assert [test["status"] for test in results["tests"]] == [
        "failed" if number in (3, 4) else "passed" for number in EXERCISES]
    assert [test["score"] for test in results["tests"]] == list(LEFT.values())
    assert [test["max_score"] for test in results["tests"]] == list(POINTS.values())
    assert results["tests"][0]["name"] == "Сэмплирование из q(z | x)"
    assert results["tests"][0]["output"] == "Верно."
    assert results["tests"][2]["output"] == (
        f"К{HINT[1:]}\n\nВаши строки, в которых возникла ошибка:\n{TRACEBACK}")


def test_results_without_a_traceback(tmp_path):
    results = results_of(tmp_path, some_grade(traceback="", hint="не проверено."))
    assert results["tests"][2]["output"] == "Не проверено."


# --- the table ---

HEADER = ["student", "id", "folder", "notebook", *(f"exercise {number}" for number in EXERCISES),
          "total", "of", "note", "other notebooks"]


def row_of(name, points, note):
    """A row of the table, as numbers, of a student whose only notebook lies at the top."""
    return [name, "", name, name, *points.values(), sum(points.values()), FULL, note, ""]


def table_of(folder, grades, delimiter=","):
    write_class_reports(folder, map(result_of, grades))
    content = (folder / "grades.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and content.count(b"\xef\xbb\xbf") == 1
    text = content.decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    assert delimiter != "," or header == HEADER
    return rows


def test_table(tmp_path):
    grades = [some_grade("Ёлкин"), some_grade("petrov", failed=(), note=""),
              some_grade("Иванов, Пётр/\"x\"", failed=EXERCISES)]
    assert table_of(tmp_path, iter(grades)) == [[str(value) for value in row] for row in [
        row_of("petrov", POINTS, ""), row_of("Ёлкин", LEFT, NOTE),
        row_of("Иванов, Пётр/\"x\"", dict.fromkeys(EXERCISES, 0), NOTE)]]


def test_table_of_all_names(tmp_path):
    rows = table_of(tmp_path, map(some_grade, NAMES))
    expected = {"=1+1/+x": "./=1+1/+x", "-rf": "./-rf", "--help": "./--help",
                "new\nline": "new\\nline", "😀 \u202eэмодзи": "😀 \\u202eэмодзи"}
    assert [row[0] for row in rows] == [expected.get(name, name)
                                     for name in sorted(NAMES, key=str.casefold)]
    assert all(len(row) == len(HEADER) for row in rows)


def test_names_that_are_not_utf8_can_be_told_apart(tmp_path):
    names = [os.fsdecode(name.encode("cp1251")) for name in ["Иванов", "Петров"]]
    rows = table_of(tmp_path, map(some_grade, names))
    assert [row[0] for row in rows] == [r"\xc8\xe2\xe0\xed\xee\xe2", r"\xcf\xe5\xf2\xf0\xee\xe2"]


def workbook_of(folder, grades):
    """Return the cells of the workbook: texts and numbers."""
    write_class_reports(folder, map(result_of, grades))
    with zipfile.ZipFile(folder / "grades.xlsx") as workbook:
        sheet = ElementTree.fromstring(workbook.read("xl/worksheets/sheet1.xml"))
        shared = ElementTree.fromstring(workbook.read("xl/sharedStrings.xml"))
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    texts = ["".join(text.itertext()) for text in shared]
    assert not list(sheet.iter(f"{space}f")), "a formula"
    assert sheet.find(f".//{space}pane").get("state") == "frozen"
    return [[texts[int(cell.find(f"{space}v").text)] if cell.get("t") == "s"
             else float(cell.find(f"{space}v").text) for cell in row]
            for row in sheet.iter(f"{space}row")]


def test_workbook(tmp_path):
    header, *rows = workbook_of(tmp_path, [some_grade("Яковлев"), some_grade("-5", note="=1+1")])
    assert header == HEADER
    assert rows == [row_of("./-5", LEFT, "./=1+1"), row_of("Яковлев", LEFT, NOTE)]


@pytest.mark.parametrize("text", [
    "=1+1", "12", "1e5", "TRUE", "https://x.org/y", "internal:a", "mailto:a@b.c", "x" * 40000,
    "{=A1}", "<b>&amp;</b>", STRANGE, "\ud800", "_x0041_", "2026-01-02", "  two  "])
def test_text_in_a_workbook_is_text(text, tmp_path):
    _, row = workbook_of(tmp_path, [some_grade(text, note=text)])
    assert all(isinstance(row[place], str) for place in [0, 1, 2, 3, -2, -1])
    assert len(row) == len(HEADER)


def test_tables_of_nobody(tmp_path):
    assert table_of(tmp_path, []) == []
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("tests") == "0"


@pytest.mark.parametrize("text", [
    "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A1", "\t=1", " =1", "\n=1", "\r=1", "＝1+1",
    "x;=1+1", 'x";=1+1;"', "x\n=1+1", "x\t=1+1", 'x",=1+1,"', 'x"\r\n=1+1'])
@pytest.mark.parametrize("where", ["name", "note"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_cell_is_a_formula(text, where, delimiter, tmp_path):
    grade = replace(some_grade(), **{where: text})
    rows = table_of(tmp_path, [some_grade("first"), grade, some_grade("яя")], delimiter)
    assert len(rows) == 3
    for row in rows:
        assert len(row) == (len(HEADER) if delimiter == "," else 1)
        for cell in row:
            assert not cell.strip().startswith(tuple("=+-@＝＋－＠"))


# --- students ---

FOLDER = "Иванов Пётр_12_assignsubmission_file_"


def class_of_moodle():
    """Two students of Moodle's: with two notebooks, and with none."""
    best, other = some_grade(f"{FOLDER}/b", failed=[3]), some_grade(f"{FOLDER}/a", note="")
    student = Student(FOLDER, "Иванов Пётр", "12", {f"{FOLDER}/a": Submission(b""),
                                                    f"{FOLDER}/b": Submission(b"")})
    without = Student("Быкова_7_assignsubmission_file_", "Быкова", "7", {}, ["lab.ipynb.txt"])
    return [StudentGrade.best_of(student, [other, best]),
            StudentGrade(without, Grade.without_points(without.folder, without.problem))]


def test_a_row_for_each_student(tmp_path):
    write_class_reports(tmp_path, class_of_moodle())
    with open(tmp_path / "grades.csv", encoding="utf-8-sig", newline="") as file:
        without, ivanov = csv.DictReader(file)
    assert (ivanov["student"], ivanov["id"], ivanov["folder"]) == ("Иванов Пётр", "12", FOLDER)
    assert ivanov["notebook"] == f"{FOLDER}/b" and ivanov["exercise 4"] == str(POINTS[4])
    assert ivanov["total"] == str(FULL - POINTS[3])
    assert ivanov["other notebooks"] == f"{FOLDER}/a ({sum(LEFT.values())})"
    assert (without["student"], without["id"], without["total"]) == ("Быкова", "7", "0")
    assert without["notebook"] == "" and "lab.ipynb.txt" in without["note"]


def test_the_first_of_equal_notebooks_counts():
    student = Student("a", "a", "", {"a/x": Submission(b""), "a/y": Submission(b"")})
    result = StudentGrade.best_of(student, [some_grade("a/x"), some_grade("a/y")])
    assert result.grade.name == "a/x" and [other.name for other in result.other_grades] == ["a/y"]


def test_moodle_takes_the_pages_back(tmp_path):
    results = class_of_moodle()
    for result in results:
        write_notebook_reports(tmp_path, result.grade, "")
    lone = some_grade("lone")
    write_class_reports(tmp_path, [*results, result_of(lone)])
    with zipfile.ZipFile(tmp_path / "moodle_feedback.zip") as archive:
        assert archive.namelist() == [f"{result.student.folder}/feedback.html"
                                      for result in results[::-1]]
        assert archive.read(f"{FOLDER}/feedback.html") == (tmp_path / results[0].page).read_bytes()
        for name in archive.namelist():  # as Moodle reads it
            _, number, kind, plugin, *_ = name.split("/")[0].split("_", 4)
            assert number.isdigit() and (kind, plugin) == ("assignsubmission", "file")
    write_class_reports(tmp_path, [result_of(lone)])
    assert not (tmp_path / "moodle_feedback.zip").exists()


SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def parts_of_workbook(folder, results):
    for result in results:
        write_notebook_reports(folder, result.grade, "")
    write_class_reports(folder, results)
    with zipfile.ZipFile(folder / "grades.xlsx") as workbook:
        return [ElementTree.fromstring(workbook.read(f"xl/{name}.xml"))
                for name in ["worksheets/sheet1", "styles"]] + [
            ElementTree.fromstring(workbook.read("xl/worksheets/_rels/sheet1.xml.rels"))]


def test_the_header_of_the_workbook(tmp_path):
    sheet, styles, _ = parts_of_workbook(tmp_path, class_of_moodle())
    fonts = styles.find(f"{SHEET}fonts")
    formats = styles.find(f"{SHEET}cellXfs")
    for cell in sheet.find(f".//{SHEET}row"):
        font = fonts[int(formats[int(cell.get("s"))].get("fontId"))]
        assert font.find(f"{SHEET}b") is not None
    assert sheet.find(f".//{SHEET}pane").get("state") == "frozen"
    assert sheet.find(f"{SHEET}autoFilter").get("ref") == "A1:M3"


def test_columns_are_as_wide_as_their_texts(tmp_path):
    sheet, _, _ = parts_of_workbook(tmp_path, class_of_moodle())
    widths = {}
    for column in sheet.iter(f"{SHEET}col"):
        for number in range(int(column.get("min")), int(column.get("max")) + 1):
            widths[HEADER[number - 1]] = float(column.get("width"))
    assert all(widths[title] > len(title) for title in HEADER)
    assert widths["folder"] > len(FOLDER) and widths["student"] > len("Иванов Пётр")
    assert widths["note"] < 70  # its texts have no limit


def test_links_to_the_pages(tmp_path):
    grades = [some_grade(name) for name in [*NAMES, "100%41", "a#b?c"]]
    _, _, relations = parts_of_workbook(tmp_path, list(map(result_of, grades)))
    targets = [unquote(relation.get("Target").replace("\\", "/")) for relation in relations]
    assert len(targets) == len(grades) and all((tmp_path / target).is_file() for target in targets)


def test_a_page_that_no_link_can_lead_to(tmp_path):
    name = os.fsdecode("Иванов".encode("cp1251"))
    write_class_reports(tmp_path, [result_of(some_grade(name))])
    with zipfile.ZipFile(tmp_path / "grades.xlsx") as workbook:
        assert "xl/worksheets/_rels/sheet1.xml.rels" not in workbook.namelist()


# --- the class at a glance ---

@pytest.fixture(params=["ru", "en"])
def in_each_language(request, monkeypatch):
    monkeypatch.setattr("vae.language._chosen", request.param)
    return request.param


def glance_at(folder, results):
    for result in results:
        write_notebook_reports(folder, result.grade, "")
    write_class_reports(folder, results)
    page = _Page((folder / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def pictures_of(page):
    return [attributes["aria-label"] for name, attributes in page.elements
            if attributes.get("class") == "picture"]


def numbers_of(page):
    return [float(text.replace(",", ".")) for text in page.all("dd")]


def test_the_class_at_a_glance(tmp_path):
    page = glance_at(tmp_path, [*class_of_moodle(), result_of(some_grade("яя", failed=()))])
    mean = (2 * FULL - POINTS[3]) / 3
    assert numbers_of(page) == [3, round(mean, 1), FULL - POINTS[3], 1, 1]
    histogram, bars = pictures_of(page)
    assert f"{FULL} – 1" in histogram and "0 – 1" in histogram
    assert "Упражнение 3: верно 1, неверно 1, не выполнено 1." in bars
    assert "Упражнение 4: верно 2, неверно 0, не выполнено 1." in bars
    links = [attributes["href"] for name, attributes in page.elements if name == "a"]
    assert all((tmp_path / unquote(link)).is_file() for link in links)
    assert len(set(links)) == 3
    assert page.all("a")[-3:] == ["Быкова", "Иванов Пётр", "яя"]
    assert page.all("small") == ["без ноутбука", "лучший ноутбук из 2"]


def test_the_page_of_a_class_in_each_language(in_each_language, tmp_path):
    page = glance_at(tmp_path, [result_of(some_grade("ivanov", note="", hint="42", traceback=""))])
    assert page.elements[0] == ("html", {"lang": in_each_language})
    assert len(pictures_of(page)) == 2
    texts = " ".join([*page.texts, *pictures_of(page)])
    assert bool(re.search("[а-яё]", texts)) == (in_each_language == "ru")


def test_the_page_of_a_class_needs_no_other_file_or_script(tmp_path):
    page = glance_at(tmp_path, class_of_moodle())
    assert ("meta", {"http-equiv": "Content-Security-Policy",
                     "content": "default-src 'none'; style-src 'unsafe-inline'"}) in page.elements
    assert not {"script", "link", "img", "image", "iframe"} & {tag for tag, _ in page.elements}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("href", "feedback/").startswith("feedback/")
               for _, attributes in page.elements)


def test_the_most_frequent_hints_are_first(tmp_path):
    hints = ["ELBO после обучения -212.5, а нужно -210", "ELBO после обучения -231, а нужно -210",
             "нет параметра 'W'", "нет параметра 'b'", "нет параметра 'W'", "другое",
             "ещё не выполнено.", "ещё не выполнено.", "ещё не выполнено.", "ещё не выполнено."]
    page = glance_at(tmp_path, [
        result_of(some_grade(f"s{number}", failed=[5], hint=hint,
                             untried=hint == "ещё не выполнено."))
        for number, hint in enumerate(hints)])
    assert page.all("div", "number") == ["3", "2", "1"]
    assert page.all("p", "exercise") == [TITLES[4]] * 3
    assert [text for text in page.all("p") if text[:4] in ("Нет ", "ELBO", "Друг")] == [
        "Нет параметра 'W'", "ELBO после обучения -212.5, а нужно -210", "Другое"]


@pytest.mark.parametrize("name", ["<script>alert(1)<", "\"'><b>{{ 7 * 7 }}", "$x_1$ &amp;"])
def test_students_markup_is_text_in_the_class(name, tmp_path):
    plain = glance_at(tmp_path, [result_of(some_grade("plain"))])
    page = glance_at(tmp_path, [result_of(some_grade(name, hint=MARKUP.replace("\n", " ")))])
    assert Counter(tag for tag, _ in page.elements) == Counter(tag for tag, _ in plain.elements)
    assert page.comments == plain.comments and set(page.all("a")) == {name}


def test_a_link_to_a_page_whose_name_is_not_utf8(tmp_path):
    page = glance_at(tmp_path, [result_of(some_grade(os.fsdecode(b"\xc8\xe2")))])
    assert [attributes["href"] for name, attributes in page.elements
            if name == "a"] == ["feedback/%C8%E2.html"] * 3  # two hints, and the row


def test_the_page_of_nobody():
    page = _Page(class_page([]))
    assert numbers_of(page) == [0, 0, 0, 0] and len(pictures_of(page)) == 2


@pytest.mark.parametrize("full, label", [(100, "10–14"), (11.5, "10"), (10.5, "10")])
def test_the_page_of_a_seminar_with_other_points(full, label, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_grading.reports.class_page.MAX_POINTS", full)
    page = glance_at(tmp_path, [result_of(some_grade("a", failed=()))])
    assert f": {label} – 1." in pictures_of(page)[0]


# --- JUnit ---

#: Of Jenkins' junit-10.xsd, which pytest's own reports also follow.
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp",
                  "hostname", "id", "package", "file", "log", "url", "version"},
    "testcase": {"name", "time", "classname", "group"},
    "failure": {"type", "message"}, "properties": set(), "property": {"name", "value"}}
CHILDREN = {"testsuites": {"testsuite"}, "testsuite": {"properties", "testcase"},
            "testcase": {"failure"}, "properties": {"property"}, "failure": set(),
            "property": set()}


def junit_of(folder, grades):
    write_class_reports(folder, map(result_of, grades))
    root = ElementTree.parse(folder / "junit.xml").getroot()
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN[element.tag]
    for suite in root.iter("testsuite"):
        assert {"name", "tests", "failures", "errors"} <= set(suite.attrib)
    return root


def counts(element):
    return [int(element.get(name)) for name in ["tests", "failures", "errors"]]


def test_junit(tmp_path):
    root = junit_of(tmp_path, [some_grade("petrov", failed=(), note=""), some_grade("ivanov")])
    n = len(EXERCISES)
    assert counts(root) == [2 * n, 2, 0]
    ivanov, petrov = root
    assert (ivanov.get("name"), petrov.get("name")) == ("ivanov", "petrov")
    assert counts(ivanov) == [n, 2, 0] and counts(petrov) == [n, 0, 0]
    assert petrov.findall(".//failure") == []
    properties = {element.get("name"): element.get("value")
                  for element in ivanov.iter("property")}
    assert properties == {"points": str(sum(LEFT.values())), "max_points": str(FULL), "note": NOTE}
    cases = ivanov.findall("testcase")
    assert [case.get("classname") for case in cases] == ["ivanov"] * n
    assert [case.get("name") for case in cases] == [
        f"{number}. {exercise.title}" for number, exercise in EXERCISES.items()]
    assert [case.find("failure") is None for case in cases] == [
        number not in (3, 4) for number in EXERCISES]
    failure = cases[2].find("failure")
    assert failure.get("message") == HINT.splitlines()[0]
    assert HINT[1:] in failure.text and TRACEBACK in failure.text


def test_junit_of_strange_names_and_texts(tmp_path):
    grades = [some_grade(name, hint=MARKUP + STRANGE, traceback=MARKUP + "]]>" + STRANGE,
                         note=STRANGE) for name in [*NAMES, STRANGE, "\udcff"]]
    root = junit_of(tmp_path, grades)
    assert counts(root) == [len(EXERCISES) * len(grades), 2 * len(grades), 0]
    assert len(root) == len(grades)
    names = {suite.get("name") for suite in root}
    assert {name for name in NAMES if name.isprintable()} <= names
    assert {"\\xff", "😀 \\u202eэмодзи"} <= names
    assert all(MARKUP in failure.text and "]]>" in failure.text
               for failure in root.iter("failure"))
