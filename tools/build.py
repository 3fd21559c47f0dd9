"""Make the student's notebook and the solved notebook from one source, in each language.

    python -m tools.build [--execute]
    python -m tools.build (--nbgrader COURSE | --hosted ADDRESS) [--language LANGUAGE]

The source is ``notebooks/vae_seminar.py``, in jupytext's percent format. It has three directives:

* ``# INCLUDE module.name`` inserts the code of a class or function of the package, without
  docstrings.
* The lines between ``### BEGIN SOLUTION`` and ``### END SOLUTION`` belong to the solved notebook.
  In the student's notebook they are replaced by the lines between ``### BEGIN TODO`` and ``### END
  TODO`` of the same cell.
* ``# INCLUDE exercises``, in a Markdown cell, inserts a table of the exercises with their points.

The table of exercises in ``README.md`` and in ``README.LANGUAGE.md`` is updated, too.

Texts, comments and strings are Russian. For each catalogue ``vae/locale/LANGUAGE.po``, a pair of
notebooks ``vae_seminar_LANGUAGE.ipynb`` is made in its language: see ``translations.py``. If a
catalogue lacks translations, they are listed, and nothing is written. If there are no notebooks in
this language yet, only this language is left out.

If the code of a solved notebook has changed, the notebook is executed on the full MNIST. Otherwise
it keeps its results. Its picture of the hidden space is saved for the README, and its trained
weights are saved for `utils.load_weights`.

``--nbgrader`` writes an nbgrader course into the folder COURSE, and no other file. The course
contains settings and the instructor's notebook, from which ``nbgrader generate_assignment`` makes
the students' notebook. ``--hosted`` only writes a student's notebook for hosts such as Colab. It
installs the seminar from the copy of this project at ADDRESS: see ``hosted.py``. Neither option
overwrites a file with different content.
"""

import argparse
import base64
import importlib
import re
import sys
import tempfile
import textwrap
from pathlib import Path

try:
    import jupytext
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f'{error}: pip install -e ".[tests]"') from None
import nbformat
import numpy as np

import vae
from tools.git import use_filter
from tools.hosted import Copy, hosted
from tools.run import execute
from tools.translations import translated, untranslated
from vae.checks import EXERCISES
from vae.kernel import no_compiler
from vae.language import N_, languages, translate
from vae.language import SOURCE as RUSSIAN
from vae.source import show_source, source_of
from vae.weights import TRAINED_WEIGHTS

ROOT = Path(__file__).parents[1]
HERE = ROOT / "notebooks"
SOURCE = HERE / "vae_seminar.py"
STUDENT = HERE / "vae_seminar.ipynb"
SOLUTION = HERE / "solution" / "vae_seminar_solution.ipynb"
HOSTED = HERE / "vae_seminar_hosted.ipynb"
PICTURE = HERE / "hidden_space.png"
WEIGHTS = "weights.npz"  # the notebook saves its weights in this file

_INCLUDE = re.compile(r"^# INCLUDE (?P<module>\S+)\.(?P<name>\w+)\n", re.M)
_REGION = r"^(?P<indent> *)### BEGIN {0}\n(?P<text>.*?)^ *### END {0}(\n|\Z)"
_TODO = re.compile(_REGION.format("TODO"), re.M | re.S)
_SOLUTION = re.compile(_REGION.format("SOLUTION"), re.M | re.S)

_NBGRADER_ROLES = {  # metadata of a cell; the keys are the first words of tags
    "exercise": dict(solution=True, grade=False, locked=False),
    "check": dict(solution=False, grade=True, locked=True),
    "question": dict(solution=True, grade=True, locked=False),  # read by a human
}
_NBGRADER_CONFIG = '''\
"""nbgrader's settings for the seminar, by python -m tools.build --nbgrader."""

import os
import sysconfig

# nbgrader runs alembic by its bare name, which only an activated environment would find.
os.environ["PATH"] = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]

c = get_config()  # noqa: F821  nbgrader defines it
c.CourseDirectory.course_id = "vae_seminar"
# Seconds for a cell: training takes one or two minutes, much longer on a slow computer.
c.ExecutePreprocessor.timeout = 1800
# Progress bars print thousands of pieces, of which nbgrader keeps a thousand: join them first.
c.Autograde.autograde_preprocessors.insert(1, "nbconvert.preprocessors.CoalesceStreamsPreprocessor")
c.CoalesceStreamsPreprocessor.enabled = True
# What students find in place of an answer.
c.ClearSolutions.text_stub = "{answer}"
'''
_ANSWER = N_("*Ваш ответ:*")
_INCLUDE_TABLE = re.compile(r"^INCLUDE exercises$", re.M)
_TABLE_HEADER = N_("| № | Упражнение | Баллы |")
_TABLE_TOTAL = N_("Всего")
_TABLE = re.compile(r"^\|.*\|\n\| ---: \| --- \| ---: \|\n(\|.*\n)+", re.M)


def student(language=RUSSIAN):
    """Return the student's notebook, which has no solutions."""
    return _notebook(lambda todo, solution: textwrap.indent(todo, solution["indent"]), language)


def solution(language=RUSSIAN):
    """Return the solved notebook, not executed. Unlike the student's, it trains optional models."""
    notebook = _notebook(lambda todo, solution: solution["text"], language)
    for cell in notebook.cells:
        cell.source = cell.source.replace("train_more = False", "train_more = True")
    return notebook


def instructor(language=RUSSIAN):
    """Return the notebook from which nbgrader makes the students' notebook.

    In an exercise, the comment with the task precedes the solution. nbgrader uses the same markers
    around a solution as we do. The metadata mark the cells that students fill in, that are checked,
    or that a human reads.
    """
    notebook = _notebook(lambda todo, solution: textwrap.indent(
        "".join(re.findall(r"^#.*\n", todo, re.M)), solution["indent"]) + solution[0], language)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            cell.metadata.update(_nbgrader_metadata(tag))
    return notebook


def _nbgrader_metadata(tag):
    role, _, number = tag.partition("-")
    if role not in _NBGRADER_ROLES:
        return {}
    metadata = dict(_NBGRADER_ROLES[role], grade_id=tag, schema_version=3, task=False)
    if metadata["grade"]:
        metadata["points"] = EXERCISES[int(number)].points if role == "check" else 0
    return {"nbgrader": metadata}


def write_course(folder, language=RUSSIAN):
    """Write a course of nbgrader with one assignment, the seminar.

    Parameters
    ----------
    folder : Path
        Folder of the course; it need not exist.
    language : str, optional
        Language of the notebook.

    Returns
    -------
    list of Path
        The files: nbgrader's settings and the instructor's notebook.

    Raises
    ------
    FileExistsError
        If one of them exists with different content. Nothing is written then.
    """
    answer = translate(_ANSWER, language)
    return _write_new({
        folder / "nbgrader_config.py": _NBGRADER_CONFIG.replace("{answer}", answer),
        folder / "source" / STUDENT.stem / STUDENT.name: _text(instructor(language))})


def write_hosted(address, language=RUSSIAN):
    """Write a student's notebook for hosts such as Colab, which installs the seminar from a copy.

    Parameters
    ----------
    address : str
        Address of the copy of this project, in a form that `hosted.Copy.at` accepts.
    language : str, optional
        Language of the notebook.

    Returns
    -------
    list of Path or str
        The notebook and, for a copy on GitHub, a link in Markdown that opens it in Colab.

    Raises
    ------
    ValueError
        If the address has another form.
    FileExistsError
        If the notebook exists with different content. Nothing is written then.
    """
    copy, target = Copy.at(address), in_language(HOSTED, language)
    path = f"{HERE.name}/{target.name}"
    written = _write_new({target: _text(hosted(student(language), copy, path, language))})
    return [*written, *filter(None, [copy.badge(path, language)])]


def _text(notebook):
    return nbformat.writes(notebook) + "\n"


def _write_new(files):
    """Write texts, a dict by path; write nothing if a file exists with different content."""
    for path, text in files.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise FileExistsError(f"{path} exists with other content: rename or remove it first")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return list(files)


def in_language(path, language):
    """Return the path of a notebook in a language; the Russian one has no suffix."""
    return path if language == RUSSIAN else path.with_stem(f"{path.stem}_{language}")


def _notebook(choose, language):
    notebook = jupytext.read(SOURCE)
    _require_each_exercise(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.source = _version(cell.source, choose).replace(
            f"use_language('{RUSSIAN}')", f"use_language('{language}')")
    if language != RUSSIAN:
        translated(notebook, lambda text: translate(text, language))
    for cell in notebook.cells:
        cell.source = _INCLUDE_TABLE.sub(lambda line: table_of_exercises(language), cell.source)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"],
                         "language_info": {"file_extension": ".py", "name": "python",
                                           "nbconvert_exporter": "python"}}
    return notebook


def _require_each_exercise(notebook):
    """Raise ValueError unless each exercise has its cell and its check, in order."""
    expected = [f"{role}-{number}" for number in EXERCISES for role in ("exercise", "check")]
    found = {tag: cell.source for cell in notebook.cells for tag in cell.metadata.get("tags", [])
             if tag.startswith(("exercise-", "check-"))}
    if list(found) != expected:
        raise ValueError(f"Got cells tagged {', '.join(found)} in {SOURCE.name}, expected "
                         f"{', '.join(expected)}: two for each module in vae/checks/exercises/, "
                         "with its number")
    for number in EXERCISES:
        source = found[f"check-{number}"]
        if not re.match(rf"check\({number}\b", source):
            raise ValueError(f"Got {source!r} in the cell tagged check-{number} in {SOURCE.name}, "
                             f"expected check({number}...)")


def table_of_exercises(language=RUSSIAN):
    """Return a Markdown table of the exercises and their points.

    Parameters
    ----------
    language : str, optional
        Language of the table.

    Returns
    -------
    str
        The table without a newline at its end.
    """
    rows = [f"| {number} | {_cell(translate(exercise.label, language))} | {exercise.points} |"
            for number, exercise in EXERCISES.items()]
    total = sum(exercise.points for exercise in EXERCISES.values())
    return "\n".join([translate(_TABLE_HEADER, language), "| ---: | --- | ---: |", *rows,
                      f"| | {translate(_TABLE_TOTAL, language)} | {total} |"])


def _cell(text):
    return (text[:1].upper() + text[1:]).replace("|", r"\|")


def _readmes():
    """Return the texts of the READMEs with the current table of exercises, a dict by path."""
    paths = {language: ROOT / ("README.md" if language == "en" else f"README.{language}.md")
             for language in languages()}
    return {path: _TABLE.sub(lambda old: table_of_exercises(language) + "\n",
                             path.read_text(encoding="utf-8"), count=1)
            for language, path in paths.items() if path.exists()}


def _version(text, choose):
    text = _INCLUDE.sub(lambda include: source_of(
        getattr(importlib.import_module(include["module"]), include["name"])) + "\n", text)
    todo = _TODO.search(text)
    if todo is None:
        if _SOLUTION.search(text):
            raise ValueError(f"Got a cell with a solution, expected a TODO, too:\n{text}")
        return text
    text = _TODO.sub("", text)
    return _SOLUTION.sub(lambda region: choose(todo["text"], region), text).rstrip("\n")


def _code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown_in(cell):
    """Return the names of the classes and functions that a cell passes to `show_source`."""
    return re.findall(r"^show_source\((\w+)\)", cell.source, re.M)


def _is_result_of(executed, notebook, language=RUSSIAN):
    """Return whether an executed notebook has the same code as `notebook`, and valid results.

    The results must show the current code of the package, and every picture must have an
    alternative text.
    """
    cells, executed_cells = _code_cells(notebook), _code_cells(executed)
    if [cell.source for cell in cells] != [cell.source for cell in executed_cells]:
        return False
    pictures = [output.data for cell in executed_cells for output in cell.outputs
                if "image/png" in output.get("data", {})]
    if not all("<img alt=" in picture.get("text/html", "") for picture in pictures):
        return False
    return all(output.data["text/markdown"] == show_source(getattr(vae, name),
                                                           language=language).data
               for cell in executed_cells for name in shown_in(cell) for output in cell.outputs)


def _with_results_of(notebook, executed):
    """Copy the outputs of an executed notebook into a notebook with the same code; return it."""
    for cell, result in zip(_code_cells(notebook), _code_cells(executed)):
        cell.outputs, cell.execution_count = result.outputs, result.execution_count
    return notebook


def _executed(notebook, folder):
    metadata = notebook.metadata.copy()
    notebook = execute(notebook, folder)
    notebook.metadata = metadata  # removes the version of the kernel's Python
    warning = no_compiler()  # the notebook prints this warning
    messages = [output.text for cell in _code_cells(notebook) for output in cell.outputs
                if output.get("name") == "stderr"
                or warning and warning.remedy in output.get("text", "")]
    if messages:
        sys.exit("The notebooks were not written; the solved one's cells must run without "
                 "warnings, on the full MNIST. They said:\n" + "\n".join(messages))
    return notebook


def _keep_weights(path):
    """Copy the trained weights into the package, in half precision, which takes less than 1 MB."""
    with np.load(path) as file:
        np.savez_compressed(TRAINED_WEIGHTS, *(
            file[name].astype(np.float16) for name in file if name.startswith("arr_")))


def _picture(notebook, call):
    """Return the PNG in the output of the first cell that contains a call."""
    return next(base64.b64decode(output["data"]["image/png"])
                for cell in notebook.cells if call in cell.source
                for output in cell.outputs if "image/png" in output.get("data", {}))


def _what_lacks(language):
    """Return a message that lists the texts without a translation, or None if there are none."""
    lacking = untranslated(language)
    if not lacking:
        return None
    return (f"vae/locale/{language}.po has no translation of:\n"
            + "".join(f"  {file}: {textwrap.shorten(text, 90)}\n" for file, text in lacking)
            + f"Run python -m tools.translations {language}, and translate them there.")


def _finished_languages():
    """Return the languages with finished catalogues, and list the missing texts of the others.

    Raises
    ------
    SystemExit
        If a language with an unfinished catalogue already has notebooks: new ones would mix two
        languages.
    """
    finished = []
    for language in languages():
        message = _what_lacks(language)
        if message is None:
            finished.append(language)
        elif any(in_language(path, language).exists() for path in (STUDENT, SOLUTION)):
            sys.exit(f"{message}\nNothing was written.")
        else:
            print(f"{message}\nNo notebooks are made in this language yet.\n", file=sys.stderr)
    return finished


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tools.build",
        description="Make all notebooks from notebooks/vae_seminar.py.")
    options = parser.add_mutually_exclusive_group()
    options.add_argument("--execute", action="store_true",
                         help="execute the solved notebooks even if their code has not changed")
    options.add_argument("--nbgrader", metavar="COURSE", type=Path,
                         help="write a course of nbgrader into this folder, and nothing else")
    options.add_argument("--hosted", metavar="ADDRESS",
                         help="write the student's notebook for Colab and the like, and nothing "
                              "else; it installs the seminar from your copy of this project: "
                              "https://github.com/OWNER/NAME (and /tree/BRANCH, unless that is "
                              "main), https://....zip, https://....tar.gz or git+https://...")
    parser.add_argument("--language", choices=languages(), default=RUSSIAN,
                        help="of the notebook that --nbgrader or --hosted writes "
                             "(default: %(default)s); otherwise all languages are written")
    arguments = parser.parse_args()

    if arguments.nbgrader or arguments.hosted is not None:
        message = _what_lacks(arguments.language)
        if message is not None:
            sys.exit(f"{message}\nNothing was written.")
        try:
            written = (write_course(arguments.nbgrader, arguments.language) if arguments.nbgrader
                       else write_hosted(arguments.hosted, arguments.language))
        except (OSError, ValueError) as error:
            parser.error(str(error))
        print(*written, sep="\n")
        return

    finished = _finished_languages()
    use_filter()
    files = {}
    for language in finished:
        solved, path = solution(language), in_language(SOLUTION, language)
        before = nbformat.read(path, as_version=4) if path.exists() else None
        if arguments.execute or before is None or not _is_result_of(before, solved, language):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                solved = _executed(solved, folder)
                _keep_weights(Path(folder, WEIGHTS))
        else:
            solved = _with_results_of(solved, before)
        files[in_language(STUDENT, language)] = student(language)
        files[path] = solved
    for path, notebook in files.items():
        nbformat.write(notebook, path)
    for path, text in _readmes().items():
        path.write_text(text, encoding="utf-8", newline="\n")
    PICTURE.write_bytes(_picture(files[SOLUTION], "plot_hidden_space("))
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
