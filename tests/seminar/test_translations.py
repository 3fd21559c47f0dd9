"""The seminar in other languages: every text is translated, and agrees with the Russian."""

import ast
import os
import re
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import nbclient
import nbformat
import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

import utils
import vae
from grading_notebooks import WRONG, notebook, unfilled
from own_answers import as_in_the_notebook
from tools import build
from tools.translations import texts
from vae import language
from vae.checks import EXERCISES, Mistake, check
from vae_grading.grader import Reference, grade
from vae_grading.reports.texts import page_text
from vae_grading.sandbox.worker import packages_without_solutions

ROOT = Path(vae.__file__).parents[1]
RUSSIAN = re.compile("[А-Яа-яЁё]")
CATALOGUES = sorted(language.FOLDER.glob("*.po"))


def messages(path):
    return [message for message in read_po(path.read_bytes().splitlines()) if message.id]


@pytest.fixture
def speak(monkeypatch):
    """A function that chooses the language until the end of the test."""
    def use(name):
        language._translations.cache_clear()
        vae.use_language(name)

    monkeypatch.setattr(language, "_chosen", None)
    yield use
    language._translations.cache_clear()


# --- the catalogues ---

@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_each_text_is_translated(path):
    """If not, run python -m tools.translations."""
    ids = {message.id for message in messages(path)}
    assert ids == {message.id for message in texts() if message.id}
    assert not [message.id for message in messages(path) if not message.string or message.fuzzy]


def placeholders(text):
    return Counter((name, spec, conversion) for _, name, spec, conversion
                   in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_placeholders_and_formulas_are_the_same(path):
    for message in messages(path):
        if "notebooks/vae_seminar.py" not in [place for place, _ in message.locations]:
            assert placeholders(message.id) == placeholders(message.string), message.id
        else:
            for part in [r"\{[^}]*\}" if message.id.startswith("Эпоха") else r"\$[^$]+\$",
                         r"`[^`]+`", r"\*\*|#+ ", r"^\d\."]:
                assert Counter(re.findall(part, message.id, re.M)) == \
                    Counter(re.findall(part, message.string, re.M)), message.id
            latex = re.compile(r"\\(?!text)\w+|\\\\")
            assert Counter(latex.findall(message.id)) == Counter(latex.findall(message.string))
        for end in (r"^\s*", r"\s*$"):
            assert re.search(end, message.id)[0] == re.search(end, message.string)[0], message.id
    assert path.stem != "en" or not any(
        RUSSIAN.search(message.string) for message in messages(path))


def test_each_text_of_the_code_is_marked():
    """Each Russian string is an argument of _ or N_, but for docstrings and a bilingual script."""
    for path in [ROOT / "utils.py", ROOT / "tools" / "run.py", ROOT / "tools" / "hosted.py",
                 ROOT / "tools" / "build.py", *(ROOT / "vae").glob("*.py"),
                 *(ROOT / "vae" / "checks").glob("*.py"), *(ROOT / "vae_grading").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        allowed = {node for call in ast.walk(tree) if isinstance(call, ast.Call)
                   and isinstance(call.func, ast.Name) and call.func.id in ("_", "N_")
                   for node in ast.walk(call)}
        allowed |= {node.body[0].value for node in ast.walk(tree)
                    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
                    and isinstance(node.body[0], ast.Expr)}
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
                   and isinstance(node.value, str) and node not in allowed]
        assert not [text for text in strings if re.search("[а-яё]{2}", text)
                    and "#!/usr/bin/env bash" not in text], path
    page = (ROOT / "vae_grading" / "reports" / "feedback.html").read_text(encoding="utf-8")
    assert not RUSSIAN.search(re.sub(r'_\("[^"]*"\)', "", page))


@pytest.mark.process
def test_an_outdated_catalogue_is_found(tmp_path, monkeypatch):
    """A text that has changed keeps its translation, marked as fuzzy; a new one has none."""
    path = tmp_path / "en.po"
    before = (language.FOLDER / "en.po").read_text(encoding="utf-8")
    path.write_text(before.replace('msgid "Кривая обучения"', 'msgid "Кривая обученияя"')
                    .replace('msgid "Цифра"', 'msgid "Нечто совсем другое, длиннее прежнего"'),
                    encoding="utf-8")
    command = ("import sys, vae.language; from pathlib import Path; "
               f"vae.language.FOLDER = Path({str(tmp_path)!r}); import tools.translations as t; "
               f"t.FOLDER = vae.language.FOLDER; sys.argv[1:] = []; t.main()")
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1 and "2 to translate or to look at" in done.stdout
    after = {message.id: message for message in messages(path)}
    assert after["Кривая обучения"].fuzzy and after["Кривая обучения"].string == "Learning curve"
    assert not after["Цифра"].string


# --- which language ---

@pytest.mark.parametrize("variables, expected", [
    ({}, "ru"), ({"LANG": "C.UTF-8"}, "ru"), ({"LANG": "ru_RU.UTF-8"}, "ru"),
    ({"LANG": "en_US.UTF-8"}, "en"), ({"LANG": "ru_RU", "LC_ALL": "en_GB"}, "en"),
    ({"LANG": "de_DE.UTF-8"}, "en"), ({"LANG": "en_US", "VAE_LANGUAGE": "ru"}, "ru"),
    ({"VAE_LANGUAGE": "en"}, "en")])
def test_the_users_language(variables, expected, monkeypatch):
    for name in ["VAE_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.language() == expected


def test_an_unknown_language(monkeypatch):
    with pytest.raises(ValueError, match=r"Got the language 'xx', expected one of \['ru', 'en'"):
        vae.use_language("xx")
    monkeypatch.setenv("VAE_LANGUAGE", "tlh")
    with pytest.raises(ValueError, match="Got the language 'tlh'"):
        language.language()


@pytest.mark.process
def test_russian_needs_no_catalogue(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import sys, vae; from vae.checks import EXERCISES; "
         "print(EXERCISES[2].title, 'babel' in sys.modules)"], cwd=ROOT,
        stdout=subprocess.PIPE, encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.stdout == "кодировщик False\n"


def test_values_in_the_placeholders_of_a_text(speak):
    speak("en")
    text = "Облака кодов: у каждого из {n} изображений свой цвет"
    assert language._(text, n=3) == "Clouds of codes: a colour for each of the 3 images"
    assert language._(text).format(n=3) == language._(text, n=3)
    assert language._("{text}", text=1) == "1" and language._("{}") == "{}"


@pytest.mark.process
@pytest.mark.parametrize("name, expected", [
    ("ru", r"Нет компилятора C\+\+ \(\S+\): обучение идёт в три-четыре раза дольше. "
           r"Что поможет: \S.*"),
    ("en", r"No C\+\+ compiler \(\S+\): training takes three to four times as long. "
           r"What helps: \S.*")])
def test_no_compiler_is_said_in_the_notebooks_language(name, expected, tmp_path, monkeypatch):
    """Once, in a printed line; outside a notebook it is a warning in both languages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("THEANO_FLAGS", raising=False)
    first = "import sys; sys.modules['ziglang'] = None\nimport vae\n"
    cells = [nbformat.v4.new_code_cell(source) for source in (
        f"{first}vae.use_language({name!r})\nimport theano", "import vae, theano")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    output, = cells[0].outputs
    assert output.name == "stdout" and re.fullmatch(f"{expected}\n", output.text)
    assert not cells[1].outputs
    script = subprocess.run([sys.executable, "-c", first], cwd=ROOT, text=True, check=True,
                            stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert "No C++ compiler" in script.stderr and "Нет компилятора C++" in script.stderr
    assert script.stderr.count("Warning") == 1 and not script.stdout


# --- an unfinished catalogue ---

@pytest.fixture
def catalogues(tmp_path, monkeypatch, speak):
    """A function that puts other catalogues, dicts from texts to translations, into use."""
    def use(**translations):
        for name, known in translations.items():
            catalogue = Catalog(locale=name)
            for text, translation in known.items():
                catalogue.add(text, translation)
            with open(tmp_path / f"{name}.po", "wb") as file:
                write_po(file, catalogue)
        monkeypatch.setattr(language, "FOLDER", tmp_path)
        language._translations.cache_clear()

    return use


def english():
    return {message.id: message.string for message in messages(language.FOLDER / "en.po")}


def test_what_a_catalogue_lacks_is_english_or_else_russian(catalogues, speak):
    catalogues(de={"Цифра": "Ziffer"}, en={"Цифра": "Digit", "эпоха": "epoch"})
    speak("de")
    assert [language._(text) for text in ("Цифра", "эпоха", "ELBO, нат")] == [
        "Ziffer", "epoch", "ELBO, нат"]
    assert [language.translate("Цифра", name) for name in ("ru", "en")] == ["Цифра", "Digit"]
    assert language.is_translated("эпоха", "en") and not language.is_translated("эпоха", "de")


def test_a_notebook_of_a_catalogue_just_begun_is_english(catalogues):
    catalogues(de={}, en=english())
    for make in (build.student, build.solution):
        german, in_english = make("de"), make("en")
        assert [cell.source.replace("'de'", "'en'") for cell in german.cells] == [
            cell.source for cell in in_english.cells]


#: A text of the notebook, of the code that it shows, and of what it prints.
LACKING = {"## Обучение": "notebooks/vae_seminar.py", "Цифра": "utils.py",
           "возвращает вектор логарифмов вероятностей, по одному для каждого объекта в батче":
           "notebooks/vae_seminar.py"}


@pytest.mark.parametrize("arguments", [
    [], ["--execute"], ["--hosted", "https://github.com/o/n", "--language", "en"],
    ["--nbgrader", "course", "--language", "en"]], ids=" ".join)
def test_no_notebook_is_made_in_two_languages(arguments, catalogues, monkeypatch, tmp_path):
    """The texts that lack a translation are named, with their files; nothing is written."""
    catalogues(en={text: translation for text, translation in english().items()
                   if text not in LACKING})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    for name in ("_executed", "_text", "use_filter", "_keep_weights"):
        monkeypatch.setattr(build, name, lambda *arguments: pytest.fail("something was done"))
    monkeypatch.setattr(nbformat, "write", lambda *arguments: pytest.fail("it was written"))
    with pytest.raises(SystemExit) as stopped:
        build.main()
    message = str(stopped.value)
    assert "vae/locale/en.po has no translation of:" in message
    assert message.count("\n  ") == 3
    for text, file in LACKING.items():
        assert f"  {file}: {text}\n" in message
    assert message.endswith("Nothing was written.")


def test_a_language_without_notebooks_does_not_stop_the_others(catalogues, capsys):
    catalogues(de={"Цифра": "Ziffer"}, en=english())
    assert build._finished_languages() == ["ru", "en"]
    said = capsys.readouterr().err
    assert "  utils.py: Кривая обучения\n" in said and "Цифра" not in said
    assert "No notebooks are made in this language yet." in said


# --- English ---

def code(notebook):
    """Return the syntax trees of a notebook's cells, without texts."""
    trees = [ast.parse(re.sub("^%", "#", cell.source, flags=re.M).replace("'\n      ", "'"))
             for cell in notebook.cells if cell.cell_type == "code"]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (
                    " " in node.value or RUSSIAN.search(node.value)
                    or node.value in language.languages()):
                node.value = ""
    return [ast.dump(tree) for tree in trees]


@pytest.mark.parametrize("make", [build.student, build.solution, build.instructor])
def test_the_english_notebook(make):
    russian, english = make(), make("en")
    assert not [cell.source for cell in english.cells if RUSSIAN.search(cell.source)]
    assert code(english) == code(russian)
    assert [cell.metadata for cell in english.cells] == [cell.metadata for cell in russian.cells]
    assert "vae.use_language('en')" in next(
        cell.source for cell in english.cells if cell.cell_type == "code")


def test_the_english_notebooks_are_made_from_the_source():
    student = nbformat.read(build.in_language(build.STUDENT, "en"), as_version=4)
    assert student == build.student("en")
    solved = nbformat.read(build.in_language(build.SOLUTION, "en"), as_version=4)
    assert build._is_result_of(solved, build.solution("en"), "en")
    printed = "".join(output.get("text", "") for cell in solved.cells
                      for output in cell.get("outputs", []))
    assert printed.count("correct.") == len(EXERCISES) and not RUSSIAN.search(printed)
    shown = [output.data["text/markdown"] for cell in solved.cells
             for output in cell.get("outputs", []) if "text/markdown" in output.get("data", {})]
    assert len(shown) == 2 and not RUSSIAN.search("".join(shown))
    alts = [output.metadata["image/png"]["alt"] for cell in solved.cells
            for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(alts) == 14 and not RUSSIAN.search("".join(alts))


def test_both_solved_notebooks_have_the_same_numbers():
    numbers = [re.findall(r"-\d+\.\d\d", path.read_text(encoding="utf-8"))
               for path in (build.SOLUTION, build.in_language(build.SOLUTION, "en"))]
    assert numbers[0] == numbers[1] and len(numbers[0]) >= 20


def test_checks_speak_english(speak, capsys):
    speak("en")
    with pytest.raises(Mistake, match=r"✗ Exercise 2 \(encoder\): The name vae_encoder_mlp is not"):
        check(2, {"HIDDEN_DIM": 2})
    with pytest.raises(Mistake, match=r"✗ Exercise 2 \(encoder\) is not done yet: write your"):
        check(2, {"HIDDEN_DIM": 2, "vae_encoder_mlp": _unfilled})
    check(2, {"HIDDEN_DIM": 2, "vae_encoder_mlp": as_in_the_notebook(vae.vae_encoder_mlp)})
    assert capsys.readouterr().out.split("\r")[-1] == "✓ Exercise 2 (encoder): correct.\n"


def _unfilled(input_x, hidden_dim=2):
    raise NotImplementedError


def test_plots_and_warnings_speak_english(speak):
    speak("en")
    figure = utils.plot_learning_curve([-2.], [-1.])
    assert figure.axes[0].get_title() == "Learning curve" and "by epoch" in figure.alt
    plt.close("all")
    with pytest.warns(UserWarning, match="The folder nowhere lacks these files"):
        utils.load_dataset("nowhere")
    with pytest.raises(TypeError, match="loc: nothing was given, but a tensor with 2 dimensions"):
        vae.MultivariateNormalDiag()


@pytest.mark.process
def test_grading_in_english(speak):
    """The hints of all three processes and the page are English, though the notebook is Russian."""
    speak("en")
    _, wrong, _ = WRONG["KL of the wrong sign"]
    reference = Reference.read(build.SOLUTION)
    result = grade("ivanov", notebook({**unfilled(2), 5: wrong}), reference)
    hints = {verdict.exercise: verdict.hint for verdict in result.verdicts if not verdict.passed}
    assert hints == {2: "Not done yet.",
                     5: "The KL divergence has the wrong sign: it is subtracted."}
    result = grade("ivanov", notebook({1: "class MultivariateNormalDiag:\n    pass",
                                       3: "qz_x = 1"}), reference)
    hints = "".join(verdict.hint for verdict in result.verdicts)
    assert hints and not RUSSIAN.search(hints)
    for verdict in result.verdicts:
        verdict.code = ""
    page = page_text("feedback.html", grade=result)
    assert '<html lang="en">' in page and "Below are hints" in page
    assert not re.findall(f".*{RUSSIAN.pattern}.*", page)


# --- another language ---

def test_another_language_is_a_catalogue_and_nothing_else(speak, tmp_path, monkeypatch):
    """The catalogue of Esperanto has each text in brackets."""
    catalogue = Catalog(locale="eo")
    for message in texts():
        if message.id:
            start, text, end = re.fullmatch(r"(\s*(?:#+ )?)(.*?)(\s*)", message.id, re.S).groups()
            catalogue.add(message.id, f"{start}⟦{RUSSIAN.sub('x', text)}⟧{end}")
    with open(tmp_path / "eo.po", "wb") as file:
        write_po(file, catalogue)
    monkeypatch.setattr(language, "FOLDER", tmp_path)
    language._translations.cache_clear()
    assert language.languages() == ["ru", "eo"]
    student = build.student("eo")
    assert not [cell.source for cell in student.cells if RUSSIAN.search(cell.source)]
    assert sum(cell.source.count("⟦") for cell in student.cells) > 60
    assert code(student) == code(build.student())
    speak("eo")
    with pytest.raises(Mistake) as caught:
        check(3, {"HIDDEN_DIM": 2})
    assert "⟦" in str(caught.value) and not RUSSIAN.search(str(caught.value))
    assert utils.plot_model().axes[0].texts[1].get_text().startswith("⟦")
    plt.close("all")


def test_the_copy_for_the_sandbox_has_the_catalogues(tmp_path):
    packages_without_solutions(tmp_path)
    assert (tmp_path / "vae" / "locale" / "en.po").is_file()
