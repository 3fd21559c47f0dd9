"""Grading of a class from the command line: reports, stopping, resuming, Dask."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from xml.etree import ElementTree

import psutil
import pytest
from filelock import FileLock

from grading_notebooks import FOLDER, WRONG, notebook, unfilled
from vae.checks import EXERCISES
from vae_grading import __main__

pytestmark = pytest.mark.process

SOLUTION = FOLDER / "solution" / "vae_seminar_solution.ipynb"
FULL = sum(exercise.points for exercise in EXERCISES.values())
WITHOUT_2, WITHOUT_5 = (FULL - EXERCISES[number].points for number in (2, 5))

HANGS = "def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):\n    while True:\n        pass\n"


def command(folder, output, *options):
    return [sys.executable, "-m", "vae_grading", str(folder), "-o", str(output), *options]


def run(folder, output, *options):
    return subprocess.run(command(folder, output, *options), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding="utf-8")


def start(folder, output, *options, environment={}):
    return subprocess.Popen(command(folder, output, *options), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, **environment})


def table(output):
    with open(output / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["notebook"] or row["folder"]: int(row["total"])
                for row in csv.DictReader(file)}


def graded(output):
    return sorted(path.stem for path in (output / "results").glob("*.json"))


def wait_for(condition):
    while not condition():  # until pytest's time limit ends the test
        time.sleep(0.05)


N_STUDENTS = 6


@pytest.fixture
def students(tmp_path):
    """A class of notebooks without exercise 5, which are graded quickly."""
    folder = tmp_path / "class"
    folder.mkdir()
    for number in range(N_STUDENTS):
        (folder / f"student{number}.ipynb").write_bytes(notebook(unfilled(5)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["utils.py", "tools.py"])
def test_a_users_file_with_the_name_of_our_module(name, tmp_path):
    (tmp_path / name).write_text("raise SystemExit('the wrong file')")
    (tmp_path / "half.ipynb").write_bytes(notebook(unfilled(5)))
    done = subprocess.run(command(tmp_path / "half.ipynb", tmp_path / "grades"), cwd=tmp_path,
                          stderr=subprocess.PIPE, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "grades") == {"half": WITHOUT_5}


@pytest.mark.parametrize("name", ["vae.py", "theano_compat.py"])
def test_a_file_that_hides_a_package_is_named(name, tmp_path):
    (tmp_path / name).write_text("")
    done = subprocess.run(command(tmp_path, tmp_path / "grades"), cwd=tmp_path,
                          stderr=subprocess.PIPE, encoding="utf-8")
    assert done.returncode == 1 and f"rename {tmp_path / name}" in done.stderr


@pytest.mark.parametrize("arguments", [["."], ["--gradescope-zip", "autograder.zip"]])
def test_a_package_that_was_installed_without_its_project(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "_REFERENCE", tmp_path / "nothing.ipynb")
    monkeypatch.setattr(sys, "argv", ["vae_grading", *arguments])
    with pytest.raises(SystemExit):
        __main__.main()
    assert "run this command in the project's folder" in capsys.readouterr().err


def test_a_class(tmp_path):
    folder, output = tmp_path / "class", tmp_path / "grades"
    (folder / "Иванов Пётр").mkdir(parents=True)
    (folder / "Иванов Пётр" / "моё решение.ipynb").write_bytes(notebook())
    (folder / "unfilled.ipynb").write_bytes(notebook(unfilled(*EXERCISES)))
    (folder / "hangs.ipynb").write_bytes(notebook({2: HANGS}))
    (folder / "junk.ipynb").write_bytes(b"\x00junk")
    (folder / "empty.ipynb").write_bytes(b"")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "old.ipynb").write_bytes(b"")
    (folder / "folder.ipynb").mkdir()
    (folder / "solution.ipynb").symlink_to(SOLUTION)
    (folder / "notes.txt").touch()
    result = run(folder, output, "--timeout", "15")
    assert result.returncode == 0, result.stderr
    assert "6 students, 5 notebooks" in result.stdout and "5/5" in result.stderr
    assert "'solution.ipynb': a link" in result.stdout
    assert "'notes.txt': not a notebook" in result.stdout
    assert table(output) == {"Иванов Пётр/моё решение": FULL, "unfilled": 0, "hangs": WITHOUT_2,
                             "junk": 0, "empty": 0, "folder.ipynb": 0}
    page = (output / "feedback" / "hangs.html").read_text(encoding="utf-8")
    assert "бесконечного цикла" in page
    suites = ElementTree.parse(output / "junit.xml").getroot()
    assert len(list(suites.iter("testcase"))) == 6 * len(EXERCISES)
    assert len(list(suites.iter("failure"))) == 4 * len(EXERCISES) + 1
    scope = json.loads((output / "results" / "hangs.json").read_text(encoding="utf-8"))
    assert sum(test["score"] for test in scope["tests"]) == WITHOUT_2

    before = (output / "results" / "hangs.json").stat().st_mtime_ns
    (folder / "junk.ipynb").write_bytes(notebook())
    again = run(folder, output, "--timeout", "15")
    assert again.returncode == 0 and table(output)["junk"] == FULL
    assert (output / "results" / "hangs.json").stat().st_mtime_ns == before


def test_an_archive(tmp_path):
    names = ["Иванов Пётр_1_assignsubmission_file_/lab.ipynb",
             "Петров_2_assignsubmission_file_/x.IPYNB"]
    with zipfile.ZipFile(tmp_path / "course.zip", "w") as file:
        for name in [*names, "report.pdf"]:
            file.writestr(name, b"junk")
    result = run(tmp_path / "course.zip", tmp_path / "grades")
    assert result.returncode == 0, result.stderr
    assert table(tmp_path / "grades") == {name.rpartition(".")[0]: 0 for name in names}
    assert "'report.pdf': not a notebook" in result.stdout


def test_each_student_of_moodles_archive_is_in_the_class(tmp_path):
    end, output = "_assignsubmission_file_", tmp_path / "grades"
    bare = json.loads(notebook(unfilled(5)))
    for cell in bare["cells"]:
        del cell["metadata"]
    with zipfile.ZipFile(tmp_path / "course.zip", "w") as file:
        for name, content in [
                (f"Иванов Пётр_1{end}/a.ipynb", notebook(unfilled(*EXERCISES))),
                (f"Иванов Пётр_1{end}/b.ipynb", json.dumps(bare).encode("utf-16")),
                (f"Быков_2{end}/lab.ipynb.txt", b""), (f"Власов_3{end}/work.zip", b"")]:
            file.writestr(name, content)
    result = run(tmp_path / "course.zip", output)
    assert result.returncode == 0, result.stderr
    assert table(output) == {f"Быков_2{end}": 0, f"Власов_3{end}": 0,
                             f"Иванов Пётр_1{end}/b": WITHOUT_5}
    assert "3 students, 2 notebooks" in result.stdout
    assert f"No notebook:\n  'Быков_2{end}': 'lab.ipynb.txt'\n" in result.stdout
    assert f"the best counts:\n  'Иванов Пётр_1{end}': 2\n" in result.stdout
    assert "lab.ipynb.txt" in (output / "feedback" / f"Быков_2{end}.html").read_text("utf-8")
    with zipfile.ZipFile(output / "moodle_feedback.zip") as file:
        assert file.namelist() == [f"{name}{end}/feedback.html"
                                   for name in ["Быков_2", "Власов_3", "Иванов Пётр_1"]]
    assert "Иванов Пётр" in (output / "index.html").read_text("utf-8")


def test_a_reference_that_is_wrong_costs_nobody_points(students, tmp_path):
    reference = tmp_path / "reference.ipynb"
    _, source, hint = WRONG["KL of the wrong sign"]
    reference.write_bytes(notebook({5: source}))
    done = run(students, tmp_path / "grades", "--reference", str(reference))
    assert done.returncode == 1 and not (tmp_path / "grades" / "grades.csv").exists()
    assert "The reference is not right itself:\nELBO" in done.stderr and hint in done.stderr


def test_two_runs_into_one_folder(tmp_path):
    (tmp_path / "junk.ipynb").write_bytes(b"junk")
    output = tmp_path / "grades"
    output.mkdir()
    with FileLock(output / ".lock"):
        result = run(tmp_path / "junk.ipynb", output)
    assert result.returncode == 1 and f"Another run is writing into {output}" in result.stderr
    assert not (output / "grades.csv").exists()


def test_a_folder_that_can_not_be_written_is_found_first(tmp_path):
    (tmp_path / "junk.ipynb").write_bytes(b"junk")
    (tmp_path / "grades").write_text("not a folder")
    result = run(tmp_path / "junk.ipynb", tmp_path / "grades")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert f"Reports can't be written into {tmp_path / 'grades'}" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_is_resumed(how, students, tmp_path):
    output, last = tmp_path / "grades", students / f"student{N_STUDENTS - 1}.ipynb"
    quick = last.read_bytes()
    last.write_bytes(notebook({2: HANGS}))
    process = start(students, output, "-j", "1")
    try:
        wait_for(lambda: graded(output))
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        said = process.communicate()[0].decode()
    finally:
        process.kill()
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    first = graded(output)
    assert 1 <= len(first) < N_STUDENTS
    assert started
    wait_for(lambda: not any(process.is_running() for process in started))
    times = {name: (output / "results" / f"{name}.json").stat().st_mtime_ns for name in first}
    last.write_bytes(quick)
    result = run(students, output)
    assert result.returncode == 0, result.stderr
    assert list(table(output).values()) == [WITHOUT_5] * N_STUDENTS
    assert times == {name: (output / "results" / f"{name}.json").stat().st_mtime_ns
                     for name in first}


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "expected a notebook"),
    ([".", "--jobs", "0"], "--jobs: got 0, expected more than 0"),
    ([".", "--timeout", "-1"], "--timeout: got -1.0"),
    ([".", "--reference", "nothing.ipynb"], "--reference: .*nothing.ipynb"),
    (["empty"], "there are no notebooks"),
])
def test_wrong_arguments(arguments, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.ipynb").write_bytes(b"")
    result = subprocess.run([sys.executable, "-m", "vae_grading", *arguments], cwd=tmp_path,
                            stderr=subprocess.PIPE, encoding="utf-8")
    assert result.returncode == 2
    assert re.search(message, result.stderr)


# --- Dask ---

@pytest.fixture
def dask(tmp_path):
    """A scheduler and two workers on this machine, whose language is English."""
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "5",
                   "VAE_LANGUAGE": "en"}

    def start_module(*arguments):
        return subprocess.Popen([sys.executable, "-m", "distributed.cli." + arguments[0],
                                 *arguments[1:]], env=environment, cwd=tmp_path,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    file = tmp_path / "scheduler.json"
    processes = [start_module("dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                              "--no-dashboard", "--scheduler-file", str(file))]
    try:
        wait_for(file.exists)
        for number in range(2):
            processes.append(start_module(
                "dask_worker", "--scheduler-file", str(file), "--no-nanny", "--nthreads", "1",
                "--no-dashboard", "--name", f"worker-{number}",
                "--local-directory", str(tmp_path / f"worker-{number}")))
        yield json.loads(file.read_text())["address"], processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run_while_one_dies(victim, students, output, *arguments, **options):
    """Kill a process when the first notebook is graded; return the run and what it has printed."""
    process = start(students, output, *arguments, **options)
    try:
        wait_for(lambda: graded(output))
        victim.kill()
        return process, process.communicate()[0].decode()
    finally:
        process.kill()


@pytest.mark.slow
def test_on_the_workers_of_a_dask_scheduler_one_of_which_dies(dask, students, tmp_path):
    address, (_, first, _) = dask
    output = tmp_path / "grades"
    process, said = run_while_one_dies(
        first, students, output, "--scheduler", address, environment={"VAE_LANGUAGE": "ru"})
    assert process.returncode == 0, said
    assert graded(output) == [f"student{number}" for number in range(N_STUDENTS)]
    assert table(output) == {f"student{number}": WITHOUT_5 for number in range(N_STUDENTS)}
    for number in range(N_STUDENTS):
        page = (output / "feedback" / f"student{number}.html").read_text(encoding="utf-8")
        assert "Ещё не выполнено." in page and "Not done yet" not in page


@pytest.mark.slow
def test_a_scheduler_that_ends(dask, students, tmp_path):
    address, (scheduler, *_) = dask
    output = tmp_path / "grades"
    (students / "hangs.ipynb").write_bytes(notebook({2: HANGS}))
    process, said = run_while_one_dies(scheduler, students, output, "--scheduler", address)
    assert process.returncode == 1, said
    assert said.splitlines()[-1] == (
        f"The Dask scheduler at {address} has ended. To resume, start it and its workers again, "
        "and run the same command.")
    assert "Traceback" not in said and not (output / "grades.csv").exists()
    first = {name: (output / "results" / f"{name}.json").stat().st_mtime_ns
             for name in graded(output)}
    (students / "hangs.ipynb").unlink()
    result = run(students, output)
    assert result.returncode == 0, result.stderr
    assert len(table(output)) == N_STUDENTS
    assert first == {name: (output / "results" / f"{name}.json").stat().st_mtime_ns
                     for name in first}


def test_no_scheduler_answers(students, tmp_path):
    result = run(students, tmp_path / "grades", "--scheduler", "tcp://127.0.0.1:1")
    assert result.returncode == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:1" in result.stderr
