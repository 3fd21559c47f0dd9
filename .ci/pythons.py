"""Runs tox's environments, and prints what works on which Python as a table in Markdown.

The Python that runs this is left out: the README's own commands are for it.  A Python that is not
installed is tried where the arguments say: a command that takes a list of Debian's packages, `--`
and a command, and runs that where the packages are.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

COLUMNS = ["Python", "NumPy", "installs", "imports", "tests", "notebook"]
ELSEWHERE = sys.argv[1:]
DEFAULT = f"py{sys.version_info.major}{sys.version_info.minor}"


def output_of(command, **environment):
    """Return the exit status of a command, and what it said, which is printed whole at its end."""
    process = subprocess.run(command, env={**os.environ, **environment}, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(f"\n+ {' '.join(command)}\n{process.stdout}", flush=True)
    return process.returncode


def tried(name, *tox, **environment):
    """Return what tox tells of an environment, or None if its Python is not there."""
    result = Path(".tox", f"{name}.json")
    result.unlink(missing_ok=True)
    output_of([*tox, "run", "-e", name, "--result-json", str(result)], **environment)
    outcome = json.loads(result.read_text(encoding="utf-8"))["testenvs"][name]
    return outcome if "setup" in outcome else None


def tried_elsewhere(name):
    """As `tried`, where Python can be installed."""
    python = f"python3.{name.removeprefix('py3')}"
    there = [*ELSEWHERE, f"{python},{python}-dev,{python}-venv,g++", "--"]
    if not ELSEWHERE or output_of([*there, "true"]) != 0:
        return None
    environment = f"/opt/tox-{python}"
    output_of([*there, "sh", "-c", f"{python} -m venv {environment} && "
                                   f"{environment}/bin/pip install -q tox"])
    return tried(name, *there, f"{environment}/bin/tox", KEEP="MNIST_DIR")


def outcome(name):
    here = tried(name, sys.executable, "-m", "tox")
    return here if here or not name.startswith("py3") else tried_elsewhere(name)


def row(name, environment):
    """Return a word for each step of an environment: its installation, then its commands."""
    if name == DEFAULT:
        return [sys.version.split()[0], version("numpy"), "the README's commands", "", "", ""]
    if environment is None:
        return [f"3.{name.removeprefix('py3')}", "", "not tried", "", "", ""]
    numpy = [package.partition("==")[2] for package in environment.get("installed_packages", [])
             if package.startswith("numpy==")] or ["?"]
    return [environment["python"]["version"].split()[0], *numpy,
            *("yes" if worked else "NO" for worked in steps(environment))]


def steps(environment):
    installed = all(step["retcode"] == 0 for step in environment["setup"])
    return [installed, *(step["retcode"] == 0 for step in environment.get("test", []))]


config = ConfigParser()
config.read("tox.ini")
names = [name.strip() for name in config["tox"]["env_list"].split(",")]
others = [name for name in names if name != DEFAULT]
with ThreadPoolExecutor(os.cpu_count()) as cores:
    outcomes = {DEFAULT: None, **dict(zip(others, cores.map(outcome, others)))}

table = [COLUMNS, ["---"] * len(COLUMNS), *(
    row(name, outcomes[name]) for name in names if name.startswith("py3"))]
print("", *(f"| {' | '.join(row)} |" for row in table), sep="\n")
failed = [name for name, tried in outcomes.items() if tried and not all(steps(tried))]
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
