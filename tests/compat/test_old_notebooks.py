"""Old notebooks run by a command, and in Jupyter."""

import subprocess
import sys

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbconvert.filters import strip_ansi

pytestmark = pytest.mark.process

PYTHON2 = ["%matplotlib inline\nimport theano, theano.tensor as T, numpy as np",
           "1/2",
           "x = T.vector()\nf = theano.function([x], x.sum() / 2)\nprint 'sum %.1f' % f([1, 2])",
           "def fail(x):\n    # told\n    print `x`\n    return xrange(3)[7]\nfail(1)",
           "%time print theano.config.floatX, 7/2",
           "from IPython.core.display import display, HTML\ndisplay(HTML('<b>1</b>'))",
           "from neighbour import half\nhalf(5)"]
PYTHON3 = ["import numpy as np, theano, theano.tensor as T",
           "1/2",
           "np.histogram([1, 2], bins=1, normed=True)[0], theano.config.floatX",
           "np.array([1, 2])[[slice(0, 1)]]"]


def outputs(cells):
    """For each cell, a list of the texts that it shows, and of the messages of errors."""
    return [[output.get("text") or output.get("evalue") or
             output.data.get("text/html", output.data["text/plain"]) for output in cell.outputs]
            for cell in cells]


def command(folder, *arguments):
    return subprocess.run([sys.executable, "-m", "theano_compat", *arguments], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder, sources, *arguments, version=4, metadata=()):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=dict(metadata))
    nbformat.write(notebook, folder / "old.ipynb", version=version)
    before = (folder / "old.ipynb").read_bytes()
    done = command(folder, *arguments, "old.ipynb", "-o", "results/new.ipynb")
    assert (folder / "old.ipynb").read_bytes() == before
    assert (folder / "results" / "new.ipynb").exists(), done.stderr
    return done, nbformat.read(folder / "results" / "new.ipynb", as_version=4).cells


@pytest.mark.parametrize("version", [3, 4])
def test_a_notebook_in_python_2(tmp_path, version):
    (tmp_path / "neighbour.py").write_text("def half(x):\n    return x / 2\n")
    done, cells = run(tmp_path, PYTHON2, version=version)
    assert done.returncode == 1, done.stderr
    assert done.stdout == "code cell 4: IndexError: range object index out of range\n"
    texts = outputs(cells)
    assert texts[:3] == [[], ["0"], ["sum 1.5\n"]]
    assert texts[3] == ["1\n", "range object index out of range"]
    assert "".join(texts[4]).startswith("float64 3\n") and texts[5:] == [["<b>1</b>"], ["2"]]
    traceback = strip_ansi("\n".join(cells[3].outputs[1].traceback))
    assert "line 4, in" in traceback and "# told" in traceback and "`x`" in traceback


def test_a_notebook_in_python_3(tmp_path):
    done, cells = run(tmp_path, PYTHON3)
    assert done.returncode == 1 and done.stdout.startswith("code cell 4: IndexError: ")
    assert outputs(cells)[1:3] == [["0.5"], ["(array([1.]), 'float64')"]]
    if sys.version_info >= (3, 11):
        assert "Today one writes: " in "\n".join(cells[3].outputs[0].traceback)


@pytest.mark.parametrize("arguments, metadata", [
    (["--python2"], {}), ([], {"kernelspec": {"name": "python2", "display_name": "Python 2"}}),
    ([], {"language_info": {"name": "python", "version": "2.7.9"}})])
def test_an_option_or_metadata_tells_python_2(tmp_path, arguments, metadata):
    done, cells = run(tmp_path, ["7/2"], *arguments, metadata=metadata)
    assert done.returncode == 0 and outputs(cells) == [["3"]], done.stderr


def test_imports_from_the_future_hold_in_later_cells(tmp_path):
    """They also hold if the first cell could be Python 3, and is not translated."""
    cells = ["from __future__ import (division,\n    print_function)", "print(7/2, end='!')",
             "xrange(3)[1]/2"]
    done, cells = run(tmp_path, cells)
    assert done.returncode == 0 and outputs(cells)[1:] == [["3.5!"], ["0.5"]], done.stdout
    *_, text = texts_in_jupyter(
        "%load_ext theano_compat", "from __future__ import division", "print 7 / 2", "print 1 / 2")
    assert text == "0.5"


def test_clear_errors(tmp_path):
    (tmp_path / "text.ipynb").write_text("text")
    for arguments, message in [(["old.ipynb"], "say where the result goes"),
                            (["old.ipynb", "-o", "new.ipynb"], "there is no file old.ipynb"),
                            (["text.ipynb", "-o", "new.ipynb"], "text.ipynb is no notebook")]:
        done = command(tmp_path, *arguments)
        assert done.returncode and message in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "new.ipynb").exists()


def texts_in_jupyter(*sources):
    """Run cells in one kernel, and return the text that each of them shows."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        texts = []
        for source in sources:
            parts = []
            client.execute_interactive(
                source, timeout=300,
                output_hook=lambda message: parts.append(text_of_message(message["content"])))
            texts.append("".join(parts).strip())
        return texts
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def text_of_message(content):
    return (content.get("text", "") or content.get("data", {}).get("text/plain", "")
            or content.get("evalue", ""))


def test_the_first_cell_in_jupyter():
    """Cells are Python 3 until one cannot be; a syntax error keeps Python 3's message."""
    texts = texts_in_jupyter("%load_ext theano_compat", "1/2", "import numpy as np; np.float(1)",
                             "(1", "print 7/2", "1/2", "get_ipython().magic('who_ls')")
    assert texts[:3] == ["", "0.5", "1.0"] and "incomplete input" in texts[3]
    assert texts[4:6] == ["3", "0"] and "np" in texts[6]
    assert texts_in_jupyter("%load_ext theano_compat.old_programs.python2", "1/2") == ["", "0"]
