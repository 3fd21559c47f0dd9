"""The notebooks: they are built from one source, and run in real kernels, as students do."""

import ast
import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lasagne
import nbformat
import numpy as np
import pytest
import theano
import theano.tensor as T
from IPython.display import Markdown
from jupyter_client.manager import start_new_kernel
from nbclient.exceptions import CellExecutionError

from tools import build
from tools.git import use_filter
from tools.run import execute
import utils
from vae import BinaryVector, MultivariateNormalDiag, vae_decoder_mlp, vae_encoder_mlp
from vae.checks import EXERCISES

pytestmark = pytest.mark.process

ROOT = Path(build.__file__).parent.parent


def tagged(notebook, tag):
    cell, = (cell for cell in notebook.cells if tag in cell.metadata.get("tags", []))
    return cell


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs
            if "image/png" in output.get("data", {})]


def printed(notebook):
    return "".join(output.text for cell in code_cells(notebook) for output in cell.outputs
                   if output.output_type == "stream")


def without_results(notebook):
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    return notebook


def filled():
    """The student's notebook with the solutions in its exercises."""
    notebook, solution = build.student(), build.solution()
    for exercise in EXERCISES:
        tag = f"exercise-{exercise}"
        tagged(notebook, tag).source = tagged(solution, tag).source
    return notebook


def short(notebook):
    """The notebook with one epoch of training, and at most one of the optional models."""
    for old, new in [("num_epochs = 10", "num_epochs = 1"), ("n_images=100000", "n_images=4000")]:
        cell, = (cell for cell in notebook.cells if old in cell.source and cell.cell_type == "code")
        cell.source = cell.source.replace(old, new)
    return notebook


# --- what is committed ---

def test_the_students_notebook_is_made_from_the_source():
    assert nbformat.read(build.STUDENT, as_version=4) == build.student()


def test_the_solved_notebook_is_made_from_the_source():
    committed = nbformat.read(build.SOLUTION, as_version=4)
    assert without_results(committed) == build.solution()


def test_the_solved_notebook_has_its_results():
    committed = nbformat.read(build.SOLUTION, as_version=4)
    assert build._is_result_of(committed, build.solution())
    counts = [cell.execution_count for cell in code_cells(committed)]
    assert counts == list(range(1, len(counts) + 1))
    assert len(pictures(committed)) == 14
    outputs = [output for cell in code_cells(committed) for output in cell.outputs]
    assert not [output for output in outputs
                if output.output_type == "error" or output.get("name") == "stderr"]
    text = printed(committed)
    assert text.count("верно.") == len(EXERCISES)
    epochs = re.findall(r"^Эпоха (\d+): [\d.]+ с. ELBO на обучающей выборке -[\d.]+, на тестовой "
                        r"(-[\d.]+)$", text, re.M)
    assert [int(epoch) for epoch, _ in epochs] == list(range(1, 11))
    assert -150 < float(epochs[-1][1]) < -135
    assert build.SOLUTION.stat().st_size < 3 * 2**20
    assert all(picture.metadata["image/png"]["alt"] for picture in pictures(committed))
    assert "widget-view" not in build.SOLUTION.read_text(encoding="utf-8")  # which needs a kernel


@pytest.mark.slow
def test_the_trained_weights(mnist_dir, capsys):
    """With them, the package's networks reach the ELBO of the solved notebook."""
    x = T.tensor4()
    mean, scale = vae_encoder_mlp(x)
    qz_x = MultivariateNormalDiag(*lasagne.layers.get_output([mean, scale]))
    z = qz_x.sample()
    logits = vae_decoder_mlp(z)
    utils.load_weights(utils.TRAINED_WEIGHTS, [mean, scale, logits])
    elbo = T.mean(BinaryVector(lasagne.layers.get_output(logits)).log_prob(x)
                  + MultivariateNormalDiag(T.zeros_like(z), T.ones_like(z)).log_prob(z)
                  - qz_x.log_prob(z))
    images = utils.load_dataset()[4]
    images = np.random.RandomState(0).rand(*images.shape) < images
    committed = printed(nbformat.read(build.SOLUTION, as_version=4))
    expected = float(re.findall(r"на тестовой (-[\d.]+)", committed)[-1])
    got = np.mean([theano.function([x], elbo)(images) for _ in range(4)])
    assert abs(got - expected) < 0.3
    assert utils.TRAINED_WEIGHTS.stat().st_size < 10**6


def test_the_readme_shows_the_notebooks_picture():
    picture = pictures(nbformat.read(build.SOLUTION, as_version=4))[4]["data"]["image/png"]
    assert build.PICTURE.read_bytes() == base64.b64decode(picture)
    assert "notebooks/hidden_space.png" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_notebook_names_a_folder_of_the_machine_it_was_made_on():
    for path in (build.STUDENT, build.SOLUTION):
        assert not re.search(r"/(home|root|tmp|Users)/", path.read_text(encoding="utf-8"))


def test_each_exercise_has_its_check_and_there_are_three_questions():
    for notebook in (build.student(), build.solution()):
        tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
        work = [tag for tag in tags if tag.startswith(("exercise", "check"))]
        assert work == [f"{kind}-{number}" for number in EXERCISES
                        for kind in ("exercise", "check")]
        assert [tag for tag in tags if tag.startswith("question")] == [
            "question-1", "question-2", "question-3"]


def test_the_student_gets_the_tasks_and_no_solutions():
    student, solution = build.student(), build.solution()
    for number in EXERCISES:
        tag = f"exercise-{number}"
        todo, solved = tagged(student, tag).source, tagged(solution, tag).source
        task, = re.findall(rf"((?:^ *# .*\n)+) *raise NotImplementedError\('Упражнение {number}: ",
                           todo, re.M)
        assert "NotImplementedError" not in solved and task not in solved
        assert "###" not in todo + solved
    text = "\n".join(cell.source for cell in student.cells)
    for secret in ("self.scale * eps", "num_units=256", "softplus,", "get_output(encoder",
                   "T.zeros_like", "-elbo", "BEGIN", "INCLUDE", "Ответ.*"):
        assert secret not in text
    assert text.count("*Ваш ответ:*") == 3
    assert "\n".join(cell.source for cell in solution.cells).count("*Ответ.*") == 3


def test_the_contents_announce_the_exercises_and_their_points():
    contents = build.student().cells[0].source
    points = {int(number): int(points) for number, points
              in re.findall(r"^\| (\d) \| .+ \| (\d) \|$", contents, re.M)}
    assert points == {number: exercise.points for number, exercise in EXERCISES.items()}
    assert f"| | Всего | {sum(points.values())} |" in contents and "три вопроса" in contents
    headings = re.findall(r"^### Упражнение (\d)\. ",
                          "\n".join(cell.source for cell in build.student().cells), re.M)
    assert [*points] == [int(number) for number in headings]


def test_students_see_layers_before_they_write_some():
    sources = [cell.source for cell in build.student().cells]
    assert sources.index("show_source(vae_decoder_mlp)") < sources.index(
        tagged(build.student(), "exercise-2").source)


def test_no_cell_is_a_syntax_error():
    for notebook in (build.student(), build.solution()):
        for cell in code_cells(notebook):
            ast.parse(re.sub(r"^%.*$", "", cell.source, flags=re.M))


# --- tools.build ---

@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Put the source and both notebooks into another folder; return a list of executed ones."""
    for name in ("SOURCE", "STUDENT", "SOLUTION", "PICTURE", "TRAINED_WEIGHTS"):
        path = getattr(build, name)
        (tmp_path / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(build, name, tmp_path / path.name)
    monkeypatch.setattr(build, "ROOT", tmp_path)  # which has no README
    executed = []

    def pretend(notebook, folder):
        executed.append(notebook)
        np.savez(Path(folder, build.WEIGHTS), np.full(3, 0.1))
        before = nbformat.read(build.SOLUTION, as_version=4)
        for cell, done in zip(code_cells(notebook), code_cells(before)):
            cell.outputs = done.outputs
        return notebook

    monkeypatch.setattr(build, "languages", lambda: ["ru"])
    monkeypatch.setattr(build, "execute", pretend)
    monkeypatch.setattr(sys, "argv", ["build"])
    return executed


def change(old, new):
    text = build.SOURCE.read_text(encoding="utf-8")
    assert old in text
    build.SOURCE.write_text(text.replace(old, new), encoding="utf-8")


def test_a_changed_text_reaches_both_notebooks_and_keeps_the_results(copy):
    change("## Кратко о вариационных автокодировщиках", "## Совсем кратко")
    build.main()
    assert not copy
    for path in (build.STUDENT, build.SOLUTION):
        assert "## Совсем кратко" in path.read_text(encoding="utf-8")
    assert len(pictures(nbformat.read(build.SOLUTION, as_version=4))) == 14


def test_a_changed_exercise_reaches_both_notebooks_and_is_executed(copy):
    change("loss = -elbo", "loss = -1 * elbo")
    change("Создайте список params", "Соберите список params")
    build.main()
    assert len(copy) == 1
    solved, student = (path.read_text(encoding="utf-8") for path in (build.SOLUTION, build.STUDENT))
    assert "loss = -1 * elbo" in solved and "loss = -1" not in student
    assert np.load(build.TRAINED_WEIGHTS)["arr_0"].dtype == "float16"
    assert "Соберите список" in student and "Соберите список" not in solved


def test_changed_code_of_the_package_is_executed(copy, monkeypatch):
    monkeypatch.setattr(build, "show_source", lambda obj, language: Markdown("```python\nnew\n```"))
    build.main()
    assert len(copy) == 1


def test_a_solution_without_a_task_is_an_error(copy):
    change("### BEGIN TODO\n# *Ваш ответ:*", "# *Ваш ответ:*")
    with pytest.raises(ValueError, match="Got a cell with a solution, expected a TODO"):
        build.main()


def test_the_solved_notebook_is_not_written_if_it_warned(copy, monkeypatch):
    def warned(notebook, folder):
        code_cells(notebook)[0].outputs = [
            nbformat.v4.new_output("stream", name="stderr", text="не весь MNIST")]
        return notebook

    weights = build.TRAINED_WEIGHTS.read_bytes()
    monkeypatch.setattr(build, "execute", warned)
    monkeypatch.setattr(sys, "argv", ["build", "--execute"])
    change("## Кратко", "## Очень кратко")
    before = build.STUDENT.read_bytes(), build.SOLUTION.read_bytes()
    with pytest.raises(SystemExit, match="не весь MNIST"):
        build.main()
    assert (build.STUDENT.read_bytes(), build.SOLUTION.read_bytes()) == before
    assert build.TRAINED_WEIGHTS.read_bytes() == weights


# --- in a kernel ---

def test_the_unfilled_notebook_stops_at_the_first_exercise(mnist_dir):
    notebook = build.student()
    with pytest.raises(CellExecutionError):
        execute(notebook, build.HERE)
    error, = (output for cell in code_cells(notebook) for output in cell.outputs
              if output.output_type == "error")
    assert tagged(notebook, "check-1").outputs == [error]
    assert error.evalue.startswith("✗ Упражнение 1 (сэмплирование из q(z | x)) ещё не выполнено: ")
    assert "\n".join(error.traceback).split() == error.evalue.split()  # and no code of ours
    assert max(map(len, "\n".join(error.traceback).splitlines())) <= 80
    assert printed(notebook) == ""


def test_the_filled_notebook_runs_through(mnist_dir, tmp_path):
    notebook = execute(short(filled()), tmp_path)
    assert len(pictures(notebook)) == 8
    text = printed(notebook)
    assert text.count("верно.") == len(EXERCISES) and text.count("на тестовой -") == 1
    assert [output.text for cell in code_cells(notebook) for output in cell.outputs
            if output.get("name") == "stderr"] == []


@pytest.mark.slow
def test_the_solved_notebook_learns(mnist_dir, tmp_path):
    """The command of the README, on the full MNIST: each epoch as in the committed one."""
    result = tmp_path / "result.ipynb"
    out = run_command("-o", result).stdout
    assert "result.ipynb" in out and "lab notebooks/vae_seminar.ipynb" in out
    notebook = nbformat.read(result, as_version=4)
    assert len(pictures(notebook)) == 14
    elbos, committed = ([float(value) for value in re.findall(
        r"на тестовой (-[\d.]+)", printed(solved))] for solved in (
            notebook, nbformat.read(build.SOLUTION, as_version=4)))
    assert len(elbos) == 10 and -150 < elbos[-1] < -135
    np.testing.assert_allclose(elbos, committed, rtol=0, atol=5)


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("THEANO_FLAGS", f"base_compiledir={theano.config.base_compiledir}")
    monkeypatch.delenv("MNIST_DIR", raising=False)


def warnings_of(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stderr")


@pytest.mark.slow
def test_the_notebook_learns_without_any_network(no_network, tmp_path):
    """On 5,000 images, after a warning."""
    notebook = execute(short(build.solution()), tmp_path)
    warning = warnings_of(code_cells(notebook)[0])
    assert "ВНИМАНИЕ: загружен не весь MNIST!" in warning
    assert -250 < float(re.search(r"на тестовой (-[\d.]+)", printed(notebook)).group(1)) < -180
    assert len(pictures(notebook)) == 14


@pytest.mark.slow
def test_the_notebook_learns_without_a_compiler(no_network, tmp_path, monkeypatch):
    """Nor a network. There is a word about each, and no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    notebook = execute(build.solution(), tmp_path)
    assert printed(notebook).count("Нет компилятора C++") == 1
    assert "compiler" not in warnings_of(code_cells(notebook)[0])
    assert not any(map(warnings_of, code_cells(notebook)[1:]))
    text = printed(notebook)
    assert text.count("верно.") == len(EXERCISES)
    elbos = [float(value) for value in re.findall(r"на тестовой (-[\d.]+)", text)]
    assert len(elbos) == 10 and -185 < elbos[-1] < -160
    assert len(pictures(notebook)) == 14


class Kernel:
    """A kernel in which cells are run one by one, in any order."""

    def __init__(self, folder=build.HERE):
        self.manager, self.client = start_new_kernel(cwd=str(folder))
        self.pictures = []  #: the alternative texts of the last code's pictures, as updated

    def run(self, code, interrupt_at=None, whole=False):
        """Run code; return what it prints, and its error or None.

        Parameters
        ----------
        code : str
        interrupt_at : str, optional
            Interrupt the code once it has printed this text.
        whole : bool
            Whether to return the traceback, a list of lines, in place of the error's last line.
        """
        output, interrupted, self.pictures = "", False, []

        def listen(message):
            nonlocal output, interrupted
            if "image/png" in message["content"].get("data", {}):
                self.pictures.append(message["content"]["metadata"]["image/png"]["alt"])
            if message["msg_type"] == "stream":
                output += message["content"]["text"]
                if interrupt_at and interrupt_at in output and not interrupted:
                    interrupted = True
                    self.manager.interrupt_kernel()

        reply = self.client.execute_interactive(code, output_hook=listen, timeout=600)["content"]
        if reply["status"] != "error":
            return output, None
        return output, reply["traceback"] if whole else f"{reply['ename']}: {reply['evalue']}"

    def run_cells(self, cells):
        for cell in cells:
            output, error = self.run(cell.source)
            assert error is None, (cell.source, output, error)

    def restart(self):
        self.manager.restart_kernel(now=True)
        self.client.wait_for_ready()

    def shut_down(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(mnist_dir, tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.shut_down()


@pytest.fixture
def kernel_in_tmp_path(tmp_path, monkeypatch):
    """A kernel that looks for modules in its folder first, then in the project's."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.shut_down()


@pytest.mark.parametrize("language, advice", [
    ("ru", "Ваш файл {} заслоняет utils.py семинара: переименуйте его и перезапустите ядро."),
    ("en", "Your file {} hides the seminar's utils.py: rename it and restart the kernel.")
], ids=["ru", "en"])
def test_a_students_own_utils_is_named(language, advice, kernel_in_tmp_path, tmp_path):
    (tmp_path / "utils.py").write_text("print('imported')")
    output, error = kernel_in_tmp_path.run(code_cells(build.student(language))[0].source)
    assert error.startswith("ImportError: cannot import name 'load_dataset' from 'utils'")
    warning, = [line for line in output.splitlines() if line != "imported"]
    assert warning.endswith(f"UserWarning: {advice.format(tmp_path / 'utils.py')}")
    assert kernel_in_tmp_path.run("import vae") == ("", None)  # said once


def test_a_students_own_utils_is_not_imported(kernel_in_tmp_path, tmp_path):
    (tmp_path / "utils.py").write_text("print('imported')")
    output, error = kernel_in_tmp_path.run("import vae")
    assert "заслоняет" in output and "imported" not in output and error is None


def test_the_seminars_own_utils_hides_nothing(kernel_in_tmp_path, tmp_path):
    assert kernel_in_tmp_path.run("import vae") == ("", None)


def test_a_copy_of_the_seminars_utils_hides_nothing(kernel_in_tmp_path, tmp_path):
    shutil.copy(ROOT / "utils.py", tmp_path)
    assert kernel_in_tmp_path.run("import vae") == ("", None)


def test_no_word_of_utils_outside_a_kernel(tmp_path):
    (tmp_path / "utils.py").write_text("print('imported')")
    process = subprocess.run([sys.executable, "-W", "error", "-c", "import vae"], cwd=tmp_path,
                             capture_output=True, text=True)
    assert process.returncode == 0 and process.stdout + process.stderr == ""


@pytest.mark.slow
def test_each_unfilled_exercise_says_which_it_is(kernel):
    student, solution = build.student(), build.solution()
    for cell, solved in zip(student.cells, solution.cells):
        tag = cell.metadata.get("tags", [""])[0]
        if cell.cell_type != "code":
            continue
        if tag == "training":
            break
        if tag.startswith("exercise"):
            number = int(tag.partition("-")[2])
            _, error = kernel.run(cell.source)
            if not re.search(r"^(class|def) ", cell.source, re.M):
                assert error.startswith(f"NotImplementedError: Упражнение {number}: ")
            _, error = kernel.run(f"check({number}, globals())")
            assert error.startswith(f"Mistake: ✗ Упражнение {number} (")
            assert "ещё не выполнено" in error and "raise" in error
        assert kernel.run(solved.source)[1] is None
    assert tag == "training"


def test_checks_know_what_was_run(kernel):
    """What a cell defined before it failed still exists, but has no verdict."""
    solved = build.solution()
    source = {number: tagged(solved, f"exercise-{number}").source for number in EXERCISES}

    def run(number, code=None):
        kernel.run(source[number] if code is None else code)

    def verdict(number):
        output, error = kernel.run(f"check({number}, globals())")
        return error.removeprefix("Mistake: ") if error else output

    kernel.run(code_cells(solved)[0].source)
    for number in range(1, 5):
        run(number)
    assert "верно" in verdict(4)
    run(4, "raise NotImplementedError\n" + source[4])
    assert "ещё не выполнено" in verdict(4)
    run(5)
    assert "сначала выполните упражнение 4: оно ещё не выполнено" in verdict(5)
    run(4)
    assert "верно" in verdict(4)
    assert "ячейка упражнения 4 выполнена заново: выполните ещё раз ячейку упражнения 5." in verdict(5)
    run(3)
    assert "верно" in verdict(3)
    for number in (4, 5):
        assert "упражнения 3 выполнена заново: выполните ещё раз ячейки упражнений 4 и 5." \
            in verdict(number)
    run(5)
    assert "упражнения 3 выполнена заново: выполните ещё раз ячейки упражнений 4 и 5" in verdict(5)
    run(4, source[4] + "\n1 / 0")
    assert "ячейка этого упражнения в последний раз закончилась ошибкой ZeroDivisionError: " \
        "division by zero." in verdict(4)
    run(4, source[4] + "\n)")
    assert "закончилась ошибкой SyntaxError" in verdict(4)
    run(4)
    run(5, source[5].replace("loss = -elbo", "loss = -px_z.log_prob(input_x)"))
    assert "loss должна быть символьным числом (скаляром)" in verdict(5)
    run(2, source[2] + "\n1 / 0")
    assert "сначала исправьте упражнение 2: его ячейка закончилась ошибкой Zero" in verdict(4)
    run(2, "def vae_encoder_mlp(input_x):\n    raise NotImplementedError\n")
    assert "ещё не выполнено" in verdict(2)
    kernel.run("1 / 0")  # a cell of no exercise
    assert "верно" in verdict(1)


#: Makes the check of exercise 5 last until it is interrupted.
LONG = """
import time
import vae.checks.exercises.elbo as steps

def draws(*arguments):
    print("begun", flush=True)
    time.sleep(600)

steps.draw_elbo = draws
"""


def test_a_check_that_is_interrupted_takes_one_line(kernel):
    notebook = build.solution()
    kernel.run_cells(cell for cell in code_cells(notebook)[:code_cells(notebook).index(
        tagged(notebook, "check-5"))] if not cell.source.startswith("check("))
    assert kernel.run(LONG)[1] is None
    _, error = kernel.run("check(5, globals())", interrupt_at="begun")
    assert error == "Interrupted: Проверка упражнения 5 прервана."
    _, traceback = kernel.run("check(5, globals())", interrupt_at="begun", whole=True)
    assert traceback == ["Проверка упражнения 5 прервана."]


@pytest.mark.slow
def test_training_can_be_interrupted_continued_and_repeated(kernel):
    notebook = short(build.solution())
    training = notebook.cells.index(tagged(notebook, "training"))
    kernel.run_cells(cell for cell in notebook.cells[:training] if cell.cell_type == "code")
    train = notebook.cells[training].source
    output, error = kernel.run(train, interrupt_at="Эпоха 1: ")
    assert error is None and "Эпоха 1" in output and "на тестовой" not in output
    assert output.endswith("Обучение прервано, эпох сделано: 0. Чтобы продолжить, выполните ячейку "
                           "ещё раз.\n")
    elbos = []
    for _ in range(2):
        output, error = kernel.run(train)
        assert error is None and f"Эпоха {len(elbos) + 1}: " in output
        elbos.append(float(re.search(r"на тестовой (-[\d.]+)", output).group(1)))
    assert -180 < elbos[0] < elbos[1] < -150
    assert kernel.run("assert len(train_curve) == len(test_curve) == 2")[1] is None
    kernel.run_cells(cell for cell in notebook.cells[training + 1:] if cell.cell_type == "code")


class Student:
    """A student with few images, a kernel without a compiler and the solved notebook's cells."""

    SETUP = ("\nnum_epochs = 1\n"
             "X_train, X_test, y_test = X_train[:400], X_test[:100], y_test[:100]")
    TAGS = ["functions", "training", "codes", "save-weights", "load-weights"]

    def __init__(self, kernel):
        self.kernel, notebook = kernel, build.solution()
        self.cells = {tag: tagged(notebook, tag).source for tag in self.TAGS}
        self.cells.update((number, tagged(notebook, f"exercise-{number}").source)
                          for number in EXERCISES)
        self.cells["first"] = code_cells(notebook)[0].source + self.SETUP
        self.plots = [cell.source for cell in code_cells(notebook)
                      if re.search("^(plot|explore)_(?!model)", cell.source, re.M)]

    def run(self, *cells):
        """Run cells, each named by its tag or number or given as code; return what they print."""
        output = ""
        for cell in cells:
            printed, error = self.kernel.run(self.cells.get(cell, cell))
            assert error is None, (cell, output, error)
            output += printed
        return output

    def fail(self, cell):
        """Run a cell that has to fail without a traceback; return the text of its error."""
        _, lines = self.kernel.run(self.cells.get(cell, cell), whole=True)
        assert lines is not None, cell
        text = " ".join(" ".join(lines).split())
        assert "Traceback" not in text and max(map(len, "\n".join(lines).splitlines())) <= 80
        return text

    def epochs(self, output):
        return [int(number) for number in re.findall(r"Эпоха (\d+): [\d.]+ с", output)]


@pytest.fixture
def student(mnist_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("THEANO_FLAGS", "cxx=")
    kernel = Kernel(tmp_path)
    student = Student(kernel)
    student.run("import warnings; warnings.simplefilter('ignore')", "first")
    yield student
    kernel.shut_down()


#: A cell after which pictures take no time.
NO_PICTURES = """
import utils
utils.plot_reconstructions = utils.plot_hidden_space = lambda *arguments: None
utils.plot_manifold = utils.explore_manifold = lambda *arguments: None
"""
FUNCTIONS = "ячейку, в которой определяются train, elbo_at_test и reconstruct."


@pytest.mark.slow
def test_later_cells_know_which_exercises_were_run_again(student):
    student.run(NO_PICTURES, 1, 2, 3, 4, 5)
    assert student.fail("training") == f"✗ Сначала выполните {FUNCTIONS}"
    assert student.fail("save-weights") == (
        "✗ Сначала выполните ячейку, в которой определяется networks.")
    student.run("functions", "training", "codes", *student.plots, "save-weights")

    student.run(2, 3, 4, 5)  # but not the functions
    again = "✗ Ячейка упражнения 2 выполнена заново: выполните ещё раз "
    for _ in range(2):
        assert student.fail("training") == again + FUNCTIONS
        student.run("train.trust_input = False")  # the function is still the old one
    for name, cell in zip(["train_curve", "reconstruct", "encode", "encode", "decode", "decode"],
                          student.plots, strict=True):
        assert student.fail(cell) == f"{again}ячейку, в которой определяется {name}."
    for cell in ("save-weights", "load-weights"):
        assert student.fail(cell) == f"{again}ячейку, в которой определяется networks."
    student.run("functions")
    assert student.fail(student.plots[-1]).endswith("определяется decode.")
    student.run("codes", *student.plots)

    student.run(3, 4)  # but not 5
    again = "✗ Ячейка упражнения 3 выполнена заново: выполните ещё раз ячейку упражнения 5"
    for _ in range(2):  # the second time too, although its cell has assigned train by then
        assert student.fail("functions") == again + "."
        assert student.fail("training") == f"{again}, затем {FUNCTIONS}"
    student.run(3, 5)  # but not 4
    assert "выполните ещё раз ячейки упражнений 4 и 5." in student.fail("functions")
    student.run(4, 5, "functions", "training")
    student.run(1)
    assert student.fail("codes") == (
        "✗ Ячейка упражнения 1 выполнена заново: выполните ещё раз ячейки упражнений 3, 4 и 5.")
    student.run(3, 4, 5, "functions")

    student.run("from vae import vae_encoder_mlp")  # nor does an assignment
    assert "упражнения 2 выполнена заново" in student.fail("training")
    student.run(3, 4, 5, "functions", "%%time\n" + student.cells[5])
    assert "упражнения 5 выполнена заново" in student.fail("training")
    student.run("%%time\n" + student.cells["functions"], "training")


def test_later_cells_know_which_exercises_failed(student):
    student.run(NO_PICTURES, 1, 2, 3, 4, 5, "functions", "codes")
    for cell, expected in [
            (student.cells[4] + "\n1 / 0", "✗ Сначала исправьте упражнение 4: его ячейка "
             "закончилась ошибкой ZeroDivisionError: division by zero."),
            (student.cells[4] + "\n)", "✗ Сначала исправьте упражнение 4: его ячейка "
             "закончилась ошибкой SyntaxError"),
            ("raise NotImplementedError\n" + student.cells[4],
             "✗ Сначала выполните упражнение 4: оно ещё не выполнено.")]:
        assert student.kernel.run(cell)[1] is not None
        for later in ("functions", "training", "save-weights", student.plots[-1]):
            assert student.fail(later).startswith(expected)
        student.run(student.plots[2])  # it needs the first three exercises only
    student.run(4, 5)
    assert student.kernel.run("raise KeyError\n" + student.cells["functions"])[1] is not None
    assert student.fail("training").endswith(FUNCTIONS)
    student.run("functions", "training")


def test_later_cells_know_the_sizes(student):
    student.run(1, 2, 3, 4, 5, "functions", "training")
    student.run("HIDDEN_DIM = 10")
    assert student.fail("training") == (
        "✗ Значение HIDDEN_DIM было 2, а теперь 10: выполните ещё раз ячейки упражнений 2, 3, 4 и "
        f"5, затем {FUNCTIONS}")
    student.run("HIDDEN_DIM = 2", "training", "BATCH_SIZE = 50")
    assert student.fail("training") == (
        "✗ Значение BATCH_SIZE было 20, а теперь 50: выполните ещё раз ячейку упражнения 5, затем "
        "ячейку, в которой определяются train и elbo_at_test.")
    output = student.run(5, "functions", "training")
    assert student.epochs(output) == [3]  # the networks are the same


@pytest.mark.slow
def test_later_cells_raise_no_false_alarm(student):
    rest = ["functions", "training", "codes", *student.plots, "load-weights"]
    student.run(NO_PICTURES, 1, 2, 3, 4, 5, *rest)
    student.run("first", *rest)
    student.run("num_epochs = 2", "training", "num_epochs = 1")
    student.run("BATCH_SIZE, HIDDEN_DIM = 20, 2", "training")
    student.run(1, 1, 2, 2, 3, 3, 4, 4, 5, 5, *rest)
    student.run(  # the student's own cells
        "train = theano.function([input_x], elbo, updates=lasagne.updates.adam(loss, params, 1e-4))",
        "training",
        "updates = lasagne.updates.sgd(loss, params, 1e-4)\n"
        "train = theano.function([input_x], elbo, updates=updates)", "training",
        "encode = theano.function([input_x], qz_x.loc)", student.plots[2],
        "elbo = np.mean(test_curve)\nfor loss in train_curve: pass\npz = np.zeros(3)",
        "training", *student.plots,
        "train_curve = np.array(train_curve)", student.plots[0],
        "params = lasagne.layers.get_all_params(networks)\nprint(len(params))",
        "def encoder_codes(X):\n    loss = encode(X)\n    return loss\nencoder_codes(X_test)",
        "del loss", "networks = networks[:]", student.plots[2])
    for experiment in ("elbo = undefined", "params = [", "px_z = px_z.log_prob()"):
        assert student.kernel.run(experiment)[1] is not None
        student.run("train_curve = list(train_curve)", "training", *student.plots)
    student.kernel.restart()
    student.run("import warnings; warnings.simplefilter('ignore')", "first", NO_PICTURES,
                1, 2, 3, 4, 5, *rest)
    student.run("\n".join(student.cells[number] for number in EXERCISES), *rest)  # as one cell
    student.run("%%time\n" + "\n".join(student.cells[number] for number in EXERCISES), *rest)


@pytest.mark.slow
def test_curves_belong_to_the_weights(student):
    student.run(1, 2, 3, 4, 5)
    for cells, epochs in [
            (["functions"], [1]),
            ([], [2]),
            (["functions"], [3]),
            ([5, "functions"], [4]),
            (["functions", "num_epochs = 2"], [5, 6]),
            (["num_epochs = 1", 4, 5, "functions"], [1]),
            ([], [2]),
            ([3, 4, 5, "functions"], [1])]:
        output = student.run(*cells, "training")
        assert student.epochs(output) == epochs
        assert student.kernel.pictures[-1].startswith(f"ELBO после эпохи {epochs[-1]}: ")
        before = epochs[0] - 1
        assert student.kernel.pictures[0].startswith(
            f"ELBO после эпохи {before}: " if before
            else "Оригиналы и реконструкции до обучения")


@pytest.mark.slow
def test_weights_are_not_lost(student, tmp_path):
    student.run(1, 2, 3, 4, 5, "functions", "training", "training")
    saved = student.run("save-weights")
    trained = (tmp_path / "weights.npz").read_bytes()
    elbo = re.search(r"-\d+\.\d+", saved)[0]
    assert saved == ("Веса сохранены в файл weights.npz: эпох 2, ELBO на тестовой "
                     f"выборке {elbo}.\n")
    student.run("save-weights")  # the same model again

    student.kernel.restart()  # and come back
    load = student.cells["load-weights"].replace("# load_weights('weights", "load_weights('weights")
    student.run("import warnings; warnings.simplefilter('ignore')", "first", 1, 2, 3, 4, 5)
    assert student.fail(load).endswith("ячейку, в которой определяется networks.")
    student.run("functions")
    kept = (
        "Веса не сохранены, чтобы не потерять те, что уже есть в файле weights.npz. "
        f"В файле: эпох 2, ELBO на тестовой выборке {elbo}. "
        "У этой модели: {}. Сохраните её под другим именем.")
    assert student.fail("save-weights") == kept.format("записей об обучении нет")
    student.run("training")
    assert re.fullmatch(kept.format(r"эпох 1, ELBO на тестовой выборке -\d+\.\d+"),
                        student.fail("save-weights"))
    assert (tmp_path / "weights.npz").read_bytes() == trained
    assert "weights1.npz: эпох 1" in student.run("save_weights('weights1.npz', networks)")
    assert student.run(load) == ("Веса загружены из файла weights.npz: эпох 2, ELBO на "
                                 f"тестовой выборке {elbo}.\n")
    student.run("codes", *student.plots, "save-weights")
    assert student.epochs(student.run("training")) == [3]
    assert "эпох 3" in student.run("save-weights")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["weights.npz", "weights1.npz"]


@pytest.mark.slow
def test_everything_can_be_drawn_without_training(student):
    load = student.cells["load-weights"].replace("# load_weights(TRAINED", "load_weights(TRAINED")
    output = student.run(1, 2, 3, 4, 5, "functions", load)
    assert output.endswith("trained_weights.npz: записей об обучении нет.\n")
    output = student.run("codes", *student.plots)
    assert output == "Кривой обучения пока нет: в этом ноутбуке модель ещё не обучали.\n"
    output = student.run("HIDDEN_DIM = 10", 2, 3, 4, 5, "functions", "training", "codes",
                         *student.plots)
    assert output.count("Этот рисунок возможен только при HIDDEN_DIM = 2, а здесь HIDDEN_DIM = 10.\n") == 4


@pytest.mark.slow
def test_training_that_diverges(student):
    wrong = student.cells[5].replace("adam(loss, params)", "adam(loss, params, 1.)")
    assert wrong != student.cells[5]
    student.run(1, 2, 3, 4, 5, "functions", "training", "codes", "save-weights", wrong, "functions")
    for cell in ("training", "training", student.plots[1]):
        text = student.fail(cell)
        assert text.startswith("✗ Обучение разошлось: среди значений ")
        assert text.endswith("выполните ячейки заново, начиная с упражнения 3.")
    assert student.fail("save-weights").startswith("Веса не сохранены: среди них есть nan")
    student.run(student.plots[0])  # of the epoch before
    assert student.epochs(student.run(3, 4, 5, "functions", "training")) == [1]


def test_interrupted_training_leaves_a_usable_state(student):
    student.run(1, 2, 3, 4, 5, "functions", "training", "num_epochs = 1000")
    training = student.cells["training"]
    output, error = student.kernel.run(training, interrupt_at="Эпоха 3: 0")
    assert error is None
    n_epochs = int(re.search(r"\nОбучение прервано, эпох сделано: (\d+)\. Чтобы", output
                             .replace("\r", "\n"))[1])
    assert n_epochs >= 3 and output.endswith("ещё раз.\n")
    student.run(f"assert len(train_curve) == len(test_curve) == {n_epochs}", "codes",
                *student.plots[:2], "num_epochs = 1")
    assert student.epochs(student.run("training")) == [n_epochs + 1]


@pytest.mark.slow
def test_every_cell_can_be_run_twice(kernel):
    for cell in code_cells(short(build.solution())):
        for _ in range(2):
            output, error = kernel.run(cell.source)
            assert error is None, (cell.source, output, error)


# --- tools.run ---

def run_command(*arguments):
    return subprocess.run([sys.executable, "-m", "tools.run", *map(str, arguments)], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_failing_notebook_is_kept_up_to_its_error(tmp_path):
    path, result = tmp_path / "failing.ipynb", tmp_path / "results" / "failing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell(source) for source in ("print('до')", "1 / 0", "print('после')")
    ]), path)
    process = run_command(path, "-o", result)
    assert process.returncode == 1
    assert "Ноутбук остановился на ошибке" in process.stderr and "ZeroDivision" in process.stderr
    assert str(result) in process.stdout or "failing.ipynb" in process.stdout
    assert printed(nbformat.read(result, as_version=4)) == "до\n"


def test_a_notebook_that_ends_its_kernel(tmp_path):
    path, result = tmp_path / "dying.ipynb", tmp_path / "result.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("print('до')"),
        nbformat.v4.new_code_cell("import os; os._exit(1)")]), path)
    process = run_command(path, "-o", result)
    assert process.returncode == 1 and "Ноутбук остановился на ошибке" in process.stderr
    assert "до" in printed(nbformat.read(result, as_version=4))


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"text", b"{}", b"[]"])
def test_a_file_that_is_not_a_notebook(tmp_path, content):
    path = tmp_path / "wrong.ipynb"
    if content:
        path.write_bytes(content)
    process = run_command(path)
    assert process.returncode == 2 and f"cannot read {path}" in process.stderr


def test_help():
    assert "usage: python -m tools.run" in run_command("--help").stdout


def test_git_ignores_the_kernel_metadata_of_editors(tmp_path):
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                              encoding="utf-8", check=True).stdout

    paths = [build.STUDENT, build.SOLUTION]
    for path in [*paths, ROOT / ".gitattributes"]:
        shutil.copy(path, tmp_path)
    git("init", "--quiet")
    use_filter(tmp_path)
    git("add", ".")
    for path in paths:
        assert git("show", f":{path.name}") == path.read_text(encoding="utf-8")
        assert nbformat.read(path, as_version=4).metadata.language_info.file_extension == ".py"
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.kernelspec.display_name = ".venv"
        notebook.metadata.language_info = dict(
            codemirror_mode={"name": "ipython", "version": 3}, file_extension=".py",
            mimetype="text/x-python", name="python", nbconvert_exporter="python",
            pygments_lexer="ipython3", version="3.14.1")
        nbformat.write(notebook, tmp_path / path.name)
    assert not git("diff")
    notebook.cells[0].source += "."
    nbformat.write(notebook, tmp_path / path.name)
    assert git("diff", "--numstat").split() == ["1", "1", path.name]


@pytest.mark.parametrize("make", [build.student, build.solution])
def test_a_notebook_becomes_a_script(make, tmp_path):
    (tmp_path / "n.ipynb").write_text(build._text(make()), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "nbconvert", "--to=script", "n.ipynb"], cwd=tmp_path,
                   check=True, stderr=subprocess.DEVNULL)
    compile((tmp_path / "n.py").read_text(encoding="utf-8"), "n.py", "exec")


def test_no_filter_outside_a_clone(tmp_path):
    use_filter(tmp_path)
    assert not list(tmp_path.iterdir())
