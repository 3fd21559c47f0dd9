"""The archive for Gradescope, and its two scripts in a container like Gradescope's."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import theano

from grading_notebooks import FOLDER, notebook
from vae_grading import gradescope
from vae_grading.gradescope import grade_submission, make_archive
from vae_grading.grader import Grade
from vae_grading.sandbox.process import Limits

pytestmark = pytest.mark.process

SOLUTION = FOLDER / "solution" / "vae_seminar_solution.ipynb"


@pytest.fixture
def root(tmp_path):
    """A folder with Gradescope's layout and the unpacked archive."""
    root = tmp_path / "autograder"
    for name in ["source", "submission", "results"]:
        (root / name).mkdir(parents=True)
    make_archive(tmp_path / "autograder.zip", SOLUTION, Limits(timeout=33.))
    with zipfile.ZipFile(tmp_path / "autograder.zip") as file:
        file.extractall(root / "source")
    return root


def results_in(root):
    results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    return sum(test["score"] for test in results["tests"]), results["output"]


def test_the_archive(root, tmp_path):
    with zipfile.ZipFile(tmp_path / "autograder.zip") as file:
        modes = {entry.filename: entry.external_attr >> 16 for entry in file.infolist()}
    assert all(modes[name] & stat.S_IXUSR for name in ["setup.sh", "run_autograder"])
    assert {"setup.py", "utils.py", "constraints.txt", "requirements.txt", "limits.json",
            "notebooks/solution/vae_seminar_solution.ipynb", "vae_grading/reports/feedback.html",
            "vae_grading/reports/page.html", "vae_grading/reports/class_page.html",
            "wheels/theano/pyproject.toml"} <= set(modes)
    assert not [name for name in modes if "__pycache__" in name or ".venv" in name]
    for script in ["setup.sh", "run_autograder"]:
        subprocess.run(["bash", "-n", root / "source" / script], check=True)
    first = (tmp_path / "autograder.zip").read_bytes()
    make_archive(tmp_path / "autograder.zip", SOLUTION, Limits(timeout=33.))
    assert (tmp_path / "autograder.zip").read_bytes() == first


def test_no_archive_without_the_project(tmp_path, monkeypatch):
    monkeypatch.setattr(gradescope, "_PROJECT", tmp_path)
    with pytest.raises(OSError, match="run this command in the project's folder"):
        make_archive(tmp_path / "autograder.zip", SOLUTION, Limits())
    assert not (tmp_path / "autograder.zip").exists()


def link(path):
    path.symlink_to(SOLUTION)


@pytest.mark.parametrize("files, expected", [
    ({}, "Не сдано ни одного файла"),
    ({"lab.py": lambda path: path.touch()}, "другие файлы или ссылки: lab.py"),
    ({"lab.ipynb": link}, "другие файлы или ссылки: lab.ipynb"),
    ({"lab.ipynb": os.mkfifo}, "Сданы другие файлы"),
    ({"a.ipynb": lambda path: path.touch(), "b.ipynb": lambda path: path.touch()},
     "Сдайте один ноутбук.*a, b"),
    ({"lab.ipynb": lambda path: path.write_bytes(bytes(51 * 2**20))}, "больше 50 МБ")])
def test_what_is_not_one_notebook_gets_no_points_and_a_note(files, expected, root):
    for name, make in files.items():
        make(root / "submission" / name)
    grade_submission(root)
    points, output = results_in(root)
    assert points == 0
    assert re.search(expected, output)


def test_one_notebook(root, monkeypatch):
    def grade(name, content, reference, limits):
        assert (name, content, limits) == ("deep/lab", b"lab", Limits(timeout=33.))
        return Grade.without_points(name, "checked")

    monkeypatch.setattr(gradescope, "grade", grade)
    (root / "submission" / "deep").mkdir()
    (root / "submission" / "deep" / "lab.IPYNB").write_bytes(b"lab")
    grade_submission(root)
    assert results_in(root) == (0, "checked")


@pytest.mark.parametrize("spoil", ["source/limits.json", "source/notebooks", "submission"])
def test_results_are_always_written(spoil, root, capsys):
    (root / "submission" / "lab.ipynb").write_bytes(notebook())
    path = root / spoil
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    grade_submission(root)
    assert results_in(root) == (0, "Проверка не состоялась. Покажите это преподавателю.")
    assert "Traceback" in capsys.readouterr().err


# --- the script, in a root of its own ---

_LOOK = """
def vae_encoder_mlp(input_x, hidden_dim=HIDDEN_DIM):
    import os, socket
    found = []
    for path in ["/autograder/source", "/autograder/source/vae/distributions.py",
                 "/autograder/results",
                 "/autograder/source/notebooks/solution/vae_seminar_solution.ipynb", "/proc/1/environ"]:
        try:
            os.listdir(path) if os.path.isdir(path) else open(path).read()
            found.append(path)
        except OSError:
            pass
    try:
        open("/autograder/results/results.json", "w")
        found.append("results")
    except OSError:
        pass
    try:
        socket.socket()
        found.append("sockets")
    except OSError:
        pass
    raise RuntimeError(f"found {found}")
"""

_ENTER = """
set -e
root=$1; shift
for path in "$@"; do
    mkdir -p "$root$path"
    mount --bind "$path" "$root$path"
done
mkdir -p "$root/proc" "$root/dev"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec setpriv --bounding-set -sys_admin,-sys_ptrace --inh-caps -all chroot "$root" \
    bash /autograder/run_autograder
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("setpriv"),
                    reason="needs Linux's superuser, as Gradescope's containers have")
def test_in_a_root_of_its_own_without_namespaces(root):
    (root / "submission" / "lab.ipynb").write_bytes(notebook({2: _LOOK}))
    shutil.copy(root / "source" / "run_autograder", root)
    python = root.parent / "opt" / "vae-seminar" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (root.parent / "tmp").mkdir()
    (root.parent / "tmp").chmod(0o1777)
    root.parent.chmod(0o755)
    cache = Path(theano.config.base_compiledir)
    shown = [path for path in ["/usr", "/bin", "/lib", "/lib64", "/etc", sys.base_prefix,
                               sys.prefix, str(cache)] if os.path.isdir(path)]
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8",
                   "THEANO_FLAGS": f"base_compiledir={cache}"}
    done = subprocess.run(["unshare", "-m", "bash", "-c", _ENTER, "enter", str(root.parent),
                           *dict.fromkeys(shown)], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, encoding="utf-8")
    if done.stdout.startswith("unshare: "):
        pytest.skip(f"no root of its own may be made here: {done.stdout}")
    results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    scores = [test["score"] for test in results["tests"]]
    assert scores == [2, 0, 1, 2, 3], done.stdout
    assert "found []" in results["tests"][1]["output"]
