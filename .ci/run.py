#!/usr/bin/env python3
"""Run the commands of the README and the tests on every supported Python.

The commands of the README run in the way that a newcomer would run them: each in a new virtual
environment, with the oldest Python that is installed. Meanwhile tox tests the newer Pythons at low
priority. On the newest Python, it runs all tests except the slow ones. On all other Pythons, it
runs a short list of tests.

The result is a Markdown table, with a row for each Python that shows which steps work on it.

A folder ``shared`` next to the clone may contain MNIST, in ``mnist``, and a program
``tools/in-debian``, which runs a command in a root file system of Debian. Pythons that are not
installed are tested there. Without ``shared``, MNIST is downloaded, and such Pythons are "not
tried".
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
IN_DEBIAN = SHARED / "tools" / "in-debian"
TOX = [".tox/tox/bin/python", "-m", "tox"]
COLUMNS = ["Python", "NumPy", "installs", "imports", "tests", "notebook"]
STARTED = time.monotonic()

background_output = []  # a text for each command that ran in the background
failed_tests = []  # pytest's lines about failed tests, which are shown again at the end


def run_in_foreground(command):
    """Run a command and show its output; return whether it succeeded."""
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


def run_in_background(command, **environment):
    """Run a command at low priority, and keep its output; return whether it succeeded."""
    process = subprocess.run(["nice", "-n", "10", *command], env={**os.environ, **environment},
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.monotonic() - STARTED
    background_output.append(f"\n{seconds:.0f} s: {' '.join(command)}\n{process.stdout}")
    return process.returncode == 0


def yes_or_no(steps):
    return ["yes" if worked else "NO" for worked in steps]


# --- Pythons; their names are those of tox, such as "py310" ---

def program_of(name):
    """Return the name of the program: "python3.10" for "py310"."""
    return name.replace("py3", "python3.")


def path_of(name):
    """Return the path of a Python, or None if it is not installed or does not work.

    pyenv may have a link to a Python and refuse to run it.
    """
    for folder in os.environ["PATH"].split(os.pathsep):
        path = os.path.join(folder, program_of(name))
        if os.access(path, os.X_OK) and subprocess.run(
                [path, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL).returncode == 0:
            return path
    return None


def try_readme(name):
    """Run the README's commands with a Python, and return its row of the table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall("^python3 -m venv .* -r requirements.txt .*$", readme, re.M)
    assert len(commands) == 2, commands
    worked = []
    for command in commands:
        shutil.rmtree(".venv", ignore_errors=True)
        print(f"\n{time.monotonic() - STARTED:.0f} s + {command}", flush=True)
        command = command.replace("python3", path_of(name), 1)
        worked.append(run_in_foreground(["bash", "-c", command]))
    notebook_works, tests_pass = worked
    show = "import sys, vae, theano, numpy; print(sys.version.split()[0], numpy.__version__)"
    shown = subprocess.run([".venv/bin/python", "-c", show], stdout=subprocess.PIPE, text=True)
    imports = shown.returncode == 0
    return [*(shown.stdout.split() or ["?", "?"]),
            *yes_or_no([any(worked) or imports, imports, tests_pass, notebook_works])]


def try_in_tox(name, all_tests, absent):
    """Run the tests in an environment of tox, and return its row of the table.

    Parameters
    ----------
    name : str
        Name of the environment in pyproject.toml.
    all_tests : bool
        Whether to run all tests except the slow ones, instead of the short list of the environment.
    absent : list of str
        Pythons that are not installed here. They are tested in Debian.

    Returns
    -------
    list of str
    """
    environment = f"{name}-whole" if all_tests else name
    outcome = tox_in_debian(environment, absent) if name in absent else tox(environment)
    if outcome is None:
        return [name.replace("py3", "3."), "", "not tried", "", "", ""]
    installed = all(step["retcode"] == 0 for step in outcome["setup"])
    commands = outcome.get("test", [])
    versions = commands[0]["output"].split()[-2:] if commands else []
    imports, *tests = [step["retcode"] == 0 for step in commands] or [False]
    # The last command tests the notebook. A single command runs all tests, the notebook included.
    notebook = tests.pop() if len(tests) > 1 else all(tests)
    return [*(versions or [name.replace("py3", "3."), "?"]),
            *yes_or_no([installed, imports, all(tests), notebook])]


def tox(environment, command=TOX, **variables):
    """Run tox on an environment, and return the report that its option --result-json writes."""
    report = Path(".tox", "results", f"{environment}.json")
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    run_in_background(
        [*command, "run", "-r", "-e", environment, "--result-json", str(report)], **variables)
    if not report.exists():
        return {"setup": [{"retcode": "tox itself failed"}]}
    return json.loads(report.read_text(encoding="utf-8"))["testenvs"][environment]


def tox_in_debian(environment, absent):
    """Run tox in Debian on an environment whose Python is not installed here; return its report.

    Return None if Debian or this Python is not available.
    """
    if not IN_DEBIAN.exists():
        return None
    python = program_of(environment.partition("-")[0])
    own_tox = f"/opt/tox-{python}"
    packages = ",".join(f"{program},{program}-dev,{program}-venv"
                        for program in map(program_of, absent))
    in_debian = [str(IN_DEBIAN), "sid", f"{packages},g++", "--"]
    if not run_in_background([*in_debian, python, "--version"]):
        return None
    run_in_background([*in_debian, "sh", "-c", f"{python} -m venv {own_tox} && "
                                               f"{own_tox}/bin/pip install -q tox tox-uv"])
    return tox(environment, [*in_debian, f"{own_tox}/bin/tox"],
               KEEP="MNIST_DIR UV_PYTHON_DOWNLOADS PYTEST_XDIST_AUTO_NUM_WORKERS")


# --- the whole run ---

def set_environment():
    """Set the variables that all commands inherit, and install the browser that a test needs."""
    os.environ["UV_PYTHON_DOWNLOADS"] = "never"
    # There is one process more than cores, because some tests wait for a server or a time limit.
    os.environ["PYTEST_XDIST_AUTO_NUM_WORKERS"] = str(os.cpu_count() + 1)
    if (SHARED / "mnist").exists():
        os.environ["MNIST_DIR"] = str(SHARED / "mnist")
    elif "MNIST_DIR" not in os.environ:
        print(f"No folder {SHARED / 'mnist'} and no MNIST_DIR: MNIST is downloaded")
    if not IN_DEBIAN.exists():
        print(f"No program {IN_DEBIAN}: Pythons that are not installed are not tried")
    if shutil.which("pyenv"):
        pyenv = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True).stdout.strip()
        folders = sorted(map(str, Path(pyenv, "versions").glob("*/bin")))
        os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *folders])
    if os.geteuid() == 0 and shutil.which("apt-get") and not shutil.which("chromium"):
        # Without Chromium, tests/seminar/test_browser.py is skipped.
        subprocess.run("apt-get update -qq && apt-get install -y -qq chromium >/dev/null",
                       shell=True)


def main():
    os.chdir(ROOT)
    set_environment()
    environments = re.search("^env_list = (.*)$", Path("pyproject.toml").read_text(), re.M)[1]
    names = environments.split(", ")
    pythons = [name for name in names if name.startswith("py3")]
    absent = [name for name in pythons if not path_of(name)]
    installed = [name for name in pythons if name not in absent]
    if not installed:
        sys.exit(f"Got no Python in PATH, expected one of {', '.join(map(program_of, pythons))}")
    oldest, newest = installed[0], (pythons if IN_DEBIAN.exists() else installed)[-1]

    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(os.cpu_count()) as executor:
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch, "cache"))  # nothing downloaded or compiled
        subprocess.run([sys.executable, "-m", "venv", "--clear", ".tox/tox"], check=True)
        subprocess.run([".tox/tox/bin/pip", "install", "-q", "tox", "tox-uv", "ruff"], check=True)
        lint_passes = run_in_foreground([".tox/tox/bin/ruff", "check"])
        newest_first = sorted(names, key=lambda name: name != newest)
        futures = {name: executor.submit(try_in_tox, name, name == newest, absent)
                   for name in newest_first if name != oldest}
        rows = {oldest: try_readme(oldest)}
        rows.update((name, future.result()) for name, future in futures.items())

    table = [COLUMNS, ["---"] * len(COLUMNS), *(rows[name] for name in pythons)]
    print(*background_output, *failed_tests, "",
          *(f"| {' | '.join(row)} |" for row in table), "", sep="\n")
    failed = [name for name in names if "NO" in rows[name]] + ["ruff"] * (not lint_passes)
    seconds = time.monotonic() - STARTED
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds:.0f} s in all, {usage.ru_utime + usage.ru_stime:.0f} s of processor time; "
          f"failed: {', '.join(failed) or 'nothing'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
