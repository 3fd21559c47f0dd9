"""The student's programs on Windows, which `mswindows` imitates: no compiler and no POSIX."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from programs import PRELUDE, TRAINING_STEP, Session

from tools import build

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux is made to look so")]

TESTS = Path(__file__).parents[1]
IMITATE = "import mswindows; mswindows.imitate()\n"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "Иван Петров"
    folder.mkdir()
    return folder


@pytest.fixture
def windows(home):
    session = Session(home)
    session.environment.update(
        PYTHONPATH=os.pathsep.join([str(TESTS / "helpers"), str(TESTS.parent)]), PYTHONUTF8="0",
        THEANO_FLAGS="cxx=")
    return session


def test_the_imitation(windows):
    windows.quietly("import sys\n" + IMITATE + """
import types
imported_now = types.ModuleType("imported_now")
exec("import sys", vars(imported_now))
assert (imported_now.sys.platform, sys.platform) == ("win32", "linux")
import os, pytest, signal, tempfile
from pathlib import Path
for module in ["fcntl", "resource", "pwd", "grp", "termios"]:
    with pytest.raises(ImportError):
        __import__(module)
for owner, name in [(os, "fork"), (os, "getuid"), (os, "sched_getaffinity"), (signal, "SIGALRM")]:
    assert not hasattr(owner, name)
with tempfile.TemporaryDirectory() as folder:
    closed_file, open_file = Path(folder, "closed"), Path(folder, "open")
    closed_file.write_text("Ёж")
    assert closed_file.read_bytes() == "Ёж".encode("cp1251")
    with open(open_file, "w"):
        for change in [lambda: os.replace(closed_file, open_file),
                       lambda: open_file.replace(closed_file), open_file.unlink]:
            with pytest.raises(PermissionError):
                change()
    open_file.replace(closed_file)
    with pytest.raises(OSError, match="privilege"):
        open_file.symlink_to(closed_file)
""")


def test_a_training_step(windows):
    assert windows.quietly(IMITATE + TRAINING_STEP) == windows.quietly(TRAINING_STEP)


def test_no_compiler_is_looked_for(windows, tmp_path):
    """A warning says where to get one."""
    compiler = tmp_path / "with" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    for path in [compiler.parent, tmp_path / "without"]:
        out, err = windows.run(IMITATE + PRELUDE + "print(repr(theano.config.cxx))",
                               THEANO_FLAGS="", PATH=str(path))
        assert out == "''" and err.count("Warning") == 1 and "wsl --install" in err


def test_mnist_is_downloaded(windows, mnist_dir):
    windows.quietly(IMITATE + f"""
import functools, http.server, threading, vae, utils
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), functools.partial(Handler, directory={str(mnist_dir)!r}))
threading.Thread(target=server.serve_forever, daemon=True).start()
vae.mnist.MIRRORS = [f"http://127.0.0.1:{{server.server_port}}/"]
assert utils.load_dataset()[0].shape == (50000, 1, 28, 28)
server.shutdown()
assert utils.load_dataset()[0].shape == (50000, 1, 28, 28)  # from the cache
""", MNIST_DIR="", NO_PROXY="127.0.0.1")


@pytest.mark.slow
def test_the_notebook_by_the_command(windows, home, mnist_dir):
    notebook = build.solution()
    start = next(cell for cell in notebook.cells if "num_epochs = 10" in cell.source)
    start.source = (start.source.replace("num_epochs = 10", "num_epochs = 1")
                    + "\nX_train, X_test = X_train[:2000], X_test[:1000]")
    optional, = (cell for cell in notebook.cells if "n_images=100000" in cell.source)
    optional.source = optional.source.replace("n_images=100000", "n_images=2000")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(IMITATE))
    folder = home / "Мои документы"
    folder.mkdir()
    path, result = folder / "Семинар 1.ipynb", folder / "Итог 1.ipynb"
    nbformat.write(notebook, path)
    process = subprocess.run(
        [sys.executable, "-c", IMITATE + "from tools.run import main; main()",
         path.name, "-o", result.name],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**windows.environment, "MNIST_DIR": str(mnist_dir), "PYTHONIOENCODING": "cp1252"})
    assert process.returncode == 0, process.stderr.decode()
    assert rb"\u0412\u044b\u043f" in process.stdout and b' 1.ipynb"' in process.stdout
    assert b"Warning" not in process.stderr, process.stderr.decode()
    outputs = [output for cell in nbformat.read(result, as_version=4).cells
               for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert text.count("верно.") == 5
    assert -300 < float(re.search(r"на тестовой (-[\d.]+)", text).group(1)) < -180
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 14
    assert not [output for output in outputs if output.get("name") == "stderr"]
