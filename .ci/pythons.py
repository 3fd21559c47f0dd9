"""Runs tox, and prints what works on which Python as a table in Markdown."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

COLUMNS = ["Python", "NumPy", "installs", "imports", "tests", "notebook"]


def outcome(environment):
    """Return a word for each step of an environment: its installation, then its commands."""
    installed = all(step["retcode"] == 0 for step in environment["setup"])
    steps = [installed, *(step["retcode"] == 0 for step in environment.get("test", []))]
    return ["yes" if worked else "NO" for worked in steps]


with tempfile.TemporaryDirectory() as folder:
    result = Path(folder, "result.json")
    tox = subprocess.run([sys.executable, "-m", "tox", "run-parallel",
                          "--result-json", str(result), *sys.argv[1:]])
    environments = json.loads(result.read_text(encoding="utf-8"))["testenvs"]

table = [COLUMNS, ["---"] * len(COLUMNS)]
for name, environment in environments.items():
    if name.startswith("py3") and "setup" in environment:  # else its Python is not here
        python = environment["python"]["version"].split()[0]
        numpy = [package.partition("==")[2] for package in environment.get("installed_packages", [])
                 if package.startswith("numpy==")] or ["?"]
        table.append([python, *numpy, *outcome(environment)])
print("", *(f"| {' | '.join(row)} |" for row in table), sep="\n")
sys.exit(tox.returncode)
