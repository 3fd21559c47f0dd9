#!/usr/bin/env python3
"""Runs the README's own commands, as a newcomer would, each in a new virtual environment; meanwhile
tox tries the other Pythons that README names, on what the cores have left.

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
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
IN_DEBIAN = [str(SHARED / "tools" / "in-debian"), "sid"]
TOX = [".tox/tox/bin/python", "-m", "tox"]
COLUMNS = ["Python", "NumPy", "installs", "imports", "tests", "notebook"]


def default_python():
    """Run the README's commands, and return their Python's row of the table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2, commands
    worked = []
    for command in commands:
        shutil.rmtree(".venv", ignore_errors=True)
        print(f"\n{time.monotonic() - started:.0f} s + {command}", flush=True)
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


def outcome_of(name, tox, **environment):
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


def outcome_in_debian(name):
    """Return what tox tells of a Python that is not installed here, or None."""
    python, tox = python_of(name), f"/opt/tox-{name}"
    packages = ",".join(f"{each},{each}-dev,{each}-venv" for each in map(python_of, absent))
    there = [*IN_DEBIAN, f"{packages},g++", "--"]
    if not in_background([*there, python, "--version"]):
        return None
    in_background([*there, "sh", "-c",
                   f"{python} -m venv {tox} && {tox}/bin/pip install -q tox tox-uv"])
    return outcome_of(name, [*there, f"{tox}/bin/tox"], KEEP="MNIST_DIR UV_PYTHON_DOWNLOADS")


def other_python(name):
    """Try one of tox's environments; return its row of the table."""
    outcome = outcome_in_debian(name) if name in absent else outcome_of(name, TOX)
    if outcome is None:
        return [name.replace("py3", "3."), "", "not tried", "", "", ""]
    installed = all(step["retcode"] == 0 for step in outcome["setup"])
    commands = outcome.get("test", [])
    versions = commands[0]["output"].split()[-2:] if commands else []
    return [*(versions or [name.replace("py3", "3."), "?"]),
            *words([installed, *(step["retcode"] == 0 for step in commands)])]


os.chdir(ROOT)
started, said, failed_tests = time.monotonic(), [], []
config = ConfigParser()
config.read("tox.ini")
default = f"py{sys.version_info.major}{sys.version_info.minor}"
names = [name.strip() for name in config["tox"]["env_list"].split(",")]
os.environ.update(MNIST_DIR=str(SHARED / "mnist"), UV_PYTHON_DOWNLOADS="never",
                  # Some tests wait: for a server, or for a time limit to pass.
                  PYTEST_XDIST_AUTO_NUM_WORKERS=str(os.cpu_count() + 1))
if shutil.which("pyenv"):
    pyenv = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True).stdout.strip()
    folders = sorted(map(str, Path(pyenv, "versions").glob("*/bin")))
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *folders])

absent = [name for name in names if name.startswith("py3") and not shutil.which(python_of(name))]

with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(os.cpu_count()) as cores:
    os.environ["XDG_CACHE_HOME"] = cache  # nothing downloaded or compiled before
    subprocess.run([sys.executable, "-m", "venv", "--clear", ".tox/tox"], check=True)
    subprocess.run([".tox/tox/bin/pip", "install", "-q", "tox", "tox-uv"], check=True)
    others = {name: cores.submit(other_python, name) for name in names if name != default}
    row_of_default = default_python()
    rows = {name: others[name].result() if name in others else row_of_default
            for name in dict.fromkeys([*names, default])}

table = [COLUMNS, ["---"] * len(COLUMNS), *(
    row for name, row in rows.items() if name.startswith("py3"))]
print(*said, *failed_tests, "", *(f"| {' | '.join(row)} |" for row in table), "", sep="\n")
failed = [name for name, row in rows.items() if "NO" in row]
print(f"{time.monotonic() - started:.0f} s in all; failed: {', '.join(failed) or 'nothing'}")
sys.exit(bool(failed))
