"""The notebook for hosts such as Colab: its content, and a run in a similar environment."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tools import build
from tools.hosted import Copy, hosted
from vae.checks import EXERCISES

pytestmark = pytest.mark.process

ROOT = Path(build.__file__).parent.parent
COLAB = "https://colab.research.google.com/github/"

#: Packages of a host's environment, with about the versions that Colab had in 2025.
HOST = ["ipykernel<7", "numpy==2.0.2", "pandas==2.2.2", "matplotlib==3.10.0"]


# --- addresses ---

@pytest.mark.parametrize("address, installed, opened", [
    ("https://github.com/o-1/n.2", "o-1/n.2/archive/main.zip", "o-1/n.2/blob/main/"),
    ("https://github.com/o/n/", "o/n/archive/main.zip", "o/n/blob/main/"),
    ("https://github.com/o/n.git", "o/n/archive/main.zip", "o/n/blob/main/"),
    ("https://github.com/o/n/tree/2026/fall", "o/n/archive/2026/fall.zip", "o/n/blob/2026/fall/"),
    ("git+https://github.com/o/n.git@v1.2", "o/n/archive/v1.2.zip", "o/n/blob/v1.2/"),
])
def test_a_repository_on_github(address, installed, opened):
    copy = Copy.at(address)
    assert copy.address == f"https://github.com/{installed}"
    assert f"({COLAB}{opened}notebooks/n.ipynb)" in copy.badge("notebooks/n.ipynb")


@pytest.mark.parametrize("address", [
    "https://example.org/~lecturer/vae.zip", "https://example.org/%D0%BA/vae.tar.gz",
    "file:///srv/vae.zip", "git+https://gitlab.example.org/o/n.git@fall", "git+file:///srv/vae",
    "https://github.com/o/n/archive/main.zip"])
def test_another_place_has_no_badge(address):
    copy = Copy.at(address)
    assert copy.address == address and copy.badge("notebooks/n.ipynb") is None
    first = hosted(build.student(), copy, "notebooks/n.ipynb").cells[0]
    assert first.cell_type == "code" and address in first.source


@pytest.mark.parametrize("address", [
    "", "vae", "o/n", "C:\\vae.zip", "/srv/vae.zip", "https://example.org/o/n",
    "https://github.com/o", "https://github.com/o/n/issues", "http://example.org/vae.zip",
    "git+ssh://git@example.org/o/n", "https://example.org/$(id).zip", "https://example.org/a'.zip",
    "https://example.org/{x}.zip", "https://example.org/a b.zip", "https://example.org/лето.zip",
    "https://example.org/vae.zip#subdirectory=x", "https://github.com/o/n\n"])
def test_a_wrong_address(address):
    with pytest.raises(ValueError) as error:
        Copy.at(address)
    assert f"Got the address {address!r}, expected https://github.com/OWNER" in str(error.value)


# --- the notebook ---

def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["build", *arguments])
    build.main()


def test_the_notebook_has_a_badge_and_an_installing_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "HOSTED", tmp_path / "vae_seminar_hosted.ipynb")
    for _ in range(2):
        command(monkeypatch, "--hosted", "https://github.com/o/n")
    path, badge, *_ = capsys.readouterr().out.splitlines()
    assert path == str(build.HOSTED)
    notebook = nbformat.read(build.HOSTED, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source == badge
    assert f"({COLAB}o/n/blob/main/notebooks/vae_seminar_hosted.ipynb)" in badge
    assert notebook.cells[2:] == build.student().cells


def test_an_existing_notebook_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "HOSTED", tmp_path / "vae_seminar_hosted.ipynb")
    build.HOSTED.write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit):
        command(monkeypatch, "--hosted", "https://github.com/o/n")
    assert "exists with other content" in capsys.readouterr().err
    assert build.HOSTED.read_text(encoding="utf-8") == "mine"


def test_a_wrong_address_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "HOSTED", tmp_path / "vae_seminar_hosted.ipynb")
    with pytest.raises(SystemExit):
        command(monkeypatch, "--hosted", "somewhere")
    assert "Got the address 'somewhere', expected" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_lecturers_page_has_the_cell():
    page = (ROOT / "docs" / "lecturers.md").read_text(encoding="utf-8")
    assert Copy.at("https://github.com/OWNER/NAME").install() in page


# --- in an environment like a host's ---

def python_3_12():
    """Return the path of a Python 3.12, or None."""
    candidates = [sys.executable, shutil.which("python3.12")]
    if shutil.which("pyenv"):  # has Pythons that are not in PATH
        root = subprocess.run(["pyenv", "root"], stdout=subprocess.PIPE, text=True).stdout.strip()
        candidates += Path(root, "versions").glob("3.12*/bin/python3.12")
    for candidate in candidates:
        if candidate and subprocess.run(
                [candidate, "-c", "import sys, venv; sys.exit(sys.version_info[:2] != (3, 12))"],
                stderr=subprocess.DEVNULL).returncode == 0:
            return candidate


class Host:
    """A virtual environment with a Jupyter kernel and libraries, but without our packages."""

    def __init__(self, folder, python, mnist_dir):
        self.folder = folder / "work"
        self.folder.mkdir()
        subprocess.run([python, "-m", "venv", folder / "host"], check=True)
        self.python = folder / "host" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python",
                        self.python, *HOST], check=True)
        kernel = folder / "jupyter" / "kernels" / "host"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(json.dumps({
            "argv": [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Host", "language": "python",
            "env": {"MNIST_DIR": str(mnist_dir), "XDG_CACHE_HOME": str(folder / "cache"),
                    "PIP_CACHE_DIR": self.pip("cache", "dir").strip()}}))

    def pip(self, *arguments):
        return subprocess.run([self.python, "-m", "pip", *arguments], check=True,
                              stdout=subprocess.PIPE, text=True).stdout

    def packages(self):
        return set(self.pip("freeze", "--all").splitlines())

    def run(self, notebook):
        """Run a notebook in a new kernel of the environment."""
        NotebookClient(notebook, kernel_name="host", timeout=600,
                       resources={"metadata": {"path": str(self.folder)}}).execute()


@pytest.fixture(scope="module")
def host(tmp_path_factory, mnist_dir):
    python = python_3_12()
    if python is None:
        pytest.skip("needs Python 3.12, which hosts have (python3.12 in PATH)")
    folder = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.delenv("PYTHONPATH", raising=False)
        yield Host(folder, python, mnist_dir)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """An archive of this project that contains one folder, as GitHub makes it."""
    folder = tmp_path_factory.mktemp("lecturer")
    shutil.copytree(ROOT, folder / "copy" / "name-main", ignore=shutil.ignore_patterns(
        ".*", "*.egg-info", "__pycache__", "build", "results"))
    return Copy.at(Path(shutil.make_archive(
        folder / "main", "zip", folder / "copy")).as_uri())


def texts(notebook, name):
    return "".join(output.text for cell in notebook.cells for output in cell.get("outputs", [])
                   if output.get("name") == name)


@pytest.mark.slow
@pytest.mark.network
def test_the_students_notebook_adds_the_package_and_changes_no_other(host, copy):
    before = host.packages()
    notebook = hosted(build.student(), copy, "notebooks/n.ipynb")
    code = nbformat.v4.new_code_cell
    install, *cells = notebook.cells
    notebook.cells = [
        code("import numpy, pandas, matplotlib.pyplot as plt\nplt.plot(pandas.Series([1.]))"),
        install,
        code("print(numpy.__version__, pandas.__version__, plt.matplotlib.__version__)"), *cells]
    with pytest.raises(CellExecutionError, match="Упражнение 1 .* ещё не выполнено"):
        host.run(notebook)
    assert texts(notebook, "stderr") == ""
    assert "2.0.2 2.2.2 3.10.0" in texts(notebook, "stdout")
    after = host.packages()
    assert before <= after
    added = {re.split("==| @ ", line)[0].lower() for line in after - before}
    assert {"vae-seminar", "theano", "lasagne", "scipy-openblas32"} <= added
    assert not [name for name in added if re.match("jupyter|ipython|nb|notebook|pytest", name)]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("compiler", ["g++", ""])
def test_the_solved_notebook_runs_from_any_folder(host, copy, compiler, monkeypatch, tmp_path):
    if not compiler:
        (tmp_path / "sh").symlink_to(shutil.which("sh"))  # which %pip needs
        monkeypatch.setenv("PATH", str(tmp_path))
    notebook = hosted(build.solution(), copy, "notebooks/n.ipynb")
    start = next(cell for cell in notebook.cells if "num_epochs = 10" in cell.source)
    start.source = (start.source.replace("num_epochs = 10", "num_epochs = 1")
                    + "\nX_train, X_test = X_train[:2000], X_test[:1000]")
    optional, = (cell for cell in notebook.cells if "n_images=100000" in cell.source)
    optional.source = optional.source.replace("n_images=100000", "n_images=2000")
    host.run(notebook)
    output = texts(notebook, "stdout")
    assert output.count("верно.") == len(EXERCISES)
    assert -300 < float(re.search(r"на тестовой (-[\d.]+)", output).group(1)) < -180
    assert ("Нет компилятора" in output) == (not compiler)
    assert set(HOST[1:]) <= host.packages()
    assert [path.name for path in host.folder.iterdir()] == ["weights.npz"]


@pytest.mark.slow
@pytest.mark.network
def test_a_host_with_numpy_1_stays_unchanged(host, copy):
    line = copy.install().splitlines()[-1].replace("{ADDRESS}", copy.address)
    magic, *arguments = shlex.split(line.replace("{version('numpy')}", "1.26.4"))
    assert magic == "%pip"
    process = subprocess.run([host.python, "-m", "pip", *arguments, "--dry-run"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "Cannot install numpy==1.26.4 and vae-seminar" in process.stderr
