"""Runs tox, and prints what works on which Python as a table in Markdown."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = ["imports", "the distributions' tests", "a short seminar"]


def cell(worked):
    return "yes" if worked else "**no**"


with tempfile.TemporaryDirectory() as folder:
    result = Path(folder, "result.json")
    tox = subprocess.run([sys.executable, "-m", "tox", "--result-json", str(result)])
    environments = json.loads(result.read_text())["testenvs"]

print("\n| Python | NumPy | installs |", " | ".join(STEPS), "|")
print("| --- " * (3 + len(STEPS)) + "|")
for name, environment in environments.items():
    if "test" not in environment:
        continue  # tox's own, or of a Python that is not here
    numpy = [package.partition("==")[2] for package in environment["installed_packages"]
             if package.startswith("numpy==")]
    print("|", environment["python"]["version"].split()[0], "|", *numpy, "|",)
sys.exit(tox.returncode)
