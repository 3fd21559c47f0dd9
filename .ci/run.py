#!/usr/bin/env python3
"""Runs the README's own commands, as a newcomer would, each in a new virtual environment, with the
oldest Python that is installed.  Meanwhile tox tries the other Pythons that README names, on what
the cores have left: the newest one on all tests but the slow ones.

Prints what works on which Python as a table in Markdown.  A Python that is not installed is tried
in a root of Debian; where none can be had, it is "not tried".
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
IN_DEBIAN = [str(SHARED / "tools" / "in-debian"), "sid"]
TOX = [".tox/tox/bin/python", "-m", "tox"]
COLUMNS = ["Python", "NumPy", "installs", "imports", "tests", "notebook"]


def oldest_python():
    """Run the README's commands, and return their Python's row of the table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall("^python3 -m venv .* -r requirements.txt .*$", readme, re.M)
    assert len(commands) == 2, commands
    worked = []
    for command in commands:
        shutil.rmtree(".venv", ignore_errors=True)
        print(f"\n{time.monotonic() - started:.0f} s + {command}", flush=True)
        command = command.replace("python3", path_of(oldest), 1)
        worked.append(in_foreground(["bash", "-c", command]))
    show = "import sys, vae, theano, numpy; print(sys.version.split()[0], numpy.__version__)"
    shown = subprocess.run([".venv/bin/python", "-c", show], stdout=subprocess.PIPE, text=True)
    imports = shown.returncode == 0
    return [*(shown.stdout.split() or ["?", "?"]),
            *words([any(worked) or imports, imports, worked[1], worked[0]])]


def in_foreground(command):
    """Run a command, showing what it prints; of tests that fail, say all once more at the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    failures = [number for number, line in enumerate(lines) if re.match("=+ (FAIL|ERR)", line)]
    if failures:
        failed_tests.extend(["", *(line.rstrip()[:500] for line in lines[failures[0]:])])
    return process.returncode == 0


def words(steps):
    return ["yes" if worked else "NO" for worked in steps]


def in_background(command, **environment):
    """Run a command mostly while the cores would wait; print it whole when it has ended."""
    process = subprocess.run(["nice", "-n", "10", *command], env={**os.environ, **environment},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ended = f"{time.monotonic() - started:.0f} s"
    said.append(f"\n{ended}: {' '.join(command)}\n{process.stdout}")
    return process.returncode == 0


def outcome_of(name, tox=TOX, **environment):
    """Return what tox tells of an environment."""
    result = Path(".tox", "results", f"{name}.json")
    result.parent.mkdir(exist_ok=True)
    result.unlink(missing_ok=True)
    in_background([*tox, "run", "-r", "-e", name, "--result-json", str(result)], **environment)
    if not result.exists():
        return {"setup": [{"retcode": "tox itself failed"}]}
    return json.loads(result.read_text(encoding="utf-8"))["testenvs"][name]


def python_of(name):
    return name.replace("py3", "python3.")


def path_of(name):
    """The path of a Python that is installed and runs, or None: pyenv's links may lead nowhere."""
    paths = (Path(folder, python_of(name)) for folder in os.environ["PATH"].split(os.pathsep))
    return next((str(path) for path in paths if os.access(path, os.X_OK) and subprocess.run(
        [path, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode == 0), None)


def outcome_in_debian(name):
    """Return what tox tells of a Python that is not installed here, or None."""
    python = python_of(name.partition("-")[0])
    tox = f"/opt/tox-{python}"
    packages = ",".join(f"{each},{each}-dev,{each}-venv" for each in map(python_of, absent))
    there = [*IN_DEBIAN, f"{packages},g++", "--"]
    if not in_background([*there, python, "--version"]):
        return None
    in_background([*there, "sh", "-c",
                   f"{python} -m venv {tox} && {tox}/bin/pip install -q tox tox-uv"])
    return outcome_of(name, [*there, f"{tox}/bin/tox"],
                      KEEP="MNIST_DIR UV_PYTHON_DOWNLOADS PYTEST_XDIST_AUTO_NUM_WORKERS")


def other_python(name):
    """Try one of tox's environments; return its row of the table."""
    environment = f"{name}-whole" if name == newest else name
    outcome = (outcome_in_debian if name in absent else outcome_of)(environment)
    if outcome is None:
        return [name.replace("py3", "3."), "", "not tried", "", "", ""]
    installed = all(step["retcode"] == 0 for step in outcome["setup"])
    commands = outcome.get("test", [])
    if name == newest:
        commands += commands[-1:]  # that of all tests is that of the notebook, too
    versions = commands[0]["output"].split()[-2:] if commands else []
    return [*(versions or [name.replace("py3", "3."), "?"]),
            *words([installed, *(step["retcode"] == 0 for step in commands)])]


os.chdir(ROOT)
started, said, failed_tests = time.monotonic(), [], []
env_list = re.search("^env_list = (.*)$", Path("pyproject.toml").read_text(), re.M)[1]
names = env_list.split(", ")
pythons = [name for name in names if name.startswith("py3")]
os.environ.update(MNIST_DIR=str(SHARED / "mnist"), UV_PYTHON_DOWNLOADS="never",
                  # Some tests wait: for a server, or for a time limit to pass.
                  PYTEST_XDIST_AUTO_NUM_WORKERS=str(os.cpu_count() + 1))
if shutil.which("pyenv"):
    pyenv = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True).stdout.strip()
    folders = sorted(map(str, Path(pyenv, "versions").glob("*/bin")))
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *folders])
absent = [name for name in pythons if not path_of(name)]
oldest = next(name for name in pythons if name not in absent)
newest = [name for name in pythons if name not in absent or Path(IN_DEBIAN[0]).exists()][-1]
if os.geteuid() == 0 and shutil.which("apt-get") and not shutil.which("chromium"):
    # The browser of tests/seminar/test_browser.py, which skips its tests where there is none.
    subprocess.run("apt-get update -qq && apt-get install -y -qq chromium >/dev/null", shell=True)

with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as cores:
    os.environ["XDG_CACHE_HOME"] = str(Path(scratch, "cache"))  # nothing downloaded or compiled yet
    subprocess.run([sys.executable, "-m", "venv", "--clear", ".tox/tox"], check=True)
    subprocess.run([".tox/tox/bin/pip", "install", "-q", "tox", "tox-uv", "ruff"], check=True)
    is_clean = in_foreground([".tox/tox/bin/ruff", "check"])
    others = {name: cores.submit(other_python, name)
              for name in sorted(names, key=lambda name: name != newest) if name != oldest}
    row_of_oldest = oldest_python()
    rows = {name: others[name].result() if name in others else row_of_oldest for name in names}

table = [COLUMNS, ["---"] * len(COLUMNS), *(rows[name] for name in pythons)]
print(*said, *failed_tests, "", *(f"| {' | '.join(row)} |" for row in table), "", sep="\n")
failed = [name for name, row in rows.items() if "NO" in row] + ["ruff"] * (not is_clean)
print(f"{time.monotonic() - started:.0f} s in all; failed: {', '.join(failed) or 'nothing'}")
sys.exit(bool(failed))
