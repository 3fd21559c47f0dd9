"""What a student runs, without a compiler and without POSIX: as on Windows, of which `windows` is
an imitation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from programs import PRELUDE, TRAINING_STEP, Session

from notebooks import build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the imitation is Linux's")

TESTS = Path(__file__).parent
IMITATE = "import windows; windows.imitate()\n"


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "Иван Петров"
    folder.mkdir()
    return folder


@pytest.fixture
def windows(home):
    session = Session(home)
    session.environment.update(
        PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]), THEANO_FLAGS="cxx=")
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
    one, other = Path(folder, "one"), Path(folder, "other")
    one.write_text("Ёж")
    assert one.read_bytes() == "Ёж".encode("cp1251")
    with open(other, "w"):
        for change in [lambda: os.replace(one, other), lambda: other.replace(one), other.unlink]:
            with pytest.raises(PermissionError):
                change()
    other.replace(one)
    with pytest.raises(OSError, match="privilege"):
        other.symlink_to(one)
""")


def test_a_training_step(windows):
    assert windows.quietly(IMITATE + TRAINING_STEP) == windows.quietly(TRAINING_STEP)


def test_what_is_said_without_a_compiler(windows, tmp_path):
    (tmp_path / "empty").mkdir()
    out, err = windows.run(IMITATE + PRELUDE + "print(repr(theano.config.cxx))",
                           THEANO_FLAGS="", PATH=str(tmp_path / "empty"))
    assert out == "''"
    assert err.upper().count("WARNING") == 1 and "Не найден компилятор C++" in err


def test_mnist_is_downloaded(windows, mnist_dir):
    windows.quietly(IMITATE + f"""
import functools, http.server, threading, vae, utils
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), functools.partial(Handler, directory={str(mnist_dir)!r}))
threading.Thread(target=server.serve_forever, daemon=True).start()
utils.MIRRORS = [f"http://127.0.0.1:{{server.server_port}}/"]
for _ in range(2):
    assert utils.load_dataset()[0].shape == (50000, 1, 28, 28)
    server.shutdown()
""", MNIST_DIR="", NO_PROXY="127.0.0.1")


def test_the_notebook_by_the_command(windows, home, mnist_dir):
    notebook = build.solution()
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    built = tags.index(["check-5"])  # which trains 300 steps
    cells = [nbformat.v4.new_code_cell(IMITATE), *notebook.cells[:built],
             nbformat.v4.new_code_cell("""
from utils import plot_hidden_space, plot_learning_curve, plot_manifold, plot_reconstructions
train = theano.function([input_x], elbo, updates=lasagne.updates.sgd(loss, params, 1e-3))
print('ELBO', *[train(X_train[:4] > 0.5) for _ in range(2)])
decoded = T.nnet.sigmoid(lasagne.layers.get_output(decoder_logits))
plot_reconstructions(X_test[:3], theano.function([input_x], decoded))
plot_hidden_space(X_test[:5], theano.function([input_x], z), y_test[:5])
plot_manifold(theano.function([z], decoded), n=2)
plot_learning_curve([-200., -150.], [-201., -151.])
""")]
    folder = home / "Мои документы"
    folder.mkdir()
    path, result = folder / "Семинар 1.ipynb", folder / "Итог 1.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata), path)
    process = subprocess.run(
        [sys.executable, "-c", IMITATE + "from notebooks.run import main; main()",
         path.name, "-o", result.name],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**windows.environment, "MNIST_DIR": str(mnist_dir), "PYTHONIOENCODING": "cp1252"})
    assert process.returncode == 0, process.stderr.decode()
    assert rb"\u0412\u044b\u043f" in process.stdout and b' 1.ipynb"' in process.stdout
    assert b"Warning" not in process.stderr, process.stderr.decode()
    outputs = [output for cell in nbformat.read(result, as_version=4).cells
               for output in cell.get("outputs", [])]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    assert text.count("верно.") == 4 and re.search(r"ELBO -5\d\d\.\d", text)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not [output for output in outputs if output.get("name") == "stderr"]
