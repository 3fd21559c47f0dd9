"""Ways of starting old programs that their authors used: settings, modules, other processes."""

import importlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from theano_compat.old_programs.error_advice import advice
from theano_compat.old_programs.notebooks import _install_in_kernel

pytestmark = pytest.mark.process


def run(folder, warm, *arguments, **environment):
    """Run an old program in a folder; return its output and its errors."""
    process = subprocess.run(
        [sys.executable, "-m", "theano_compat", *arguments], cwd=folder,
        env={**warm.environment, **environment}, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


# --- settings ---

SETS_FLAGS = """
import ctypes, os
os.environ["THEANO_FLAGS"] = "floatX=float32,mode=FAST_COMPILE,cxx="
os.environ["THEANORC"] = "mine.rc"
os.environ["MKL_NUM_THREADS"] = "2"
import lasagne, scipy_openblas32, theano
blas = ctypes.CDLL(os.path.join(scipy_openblas32.get_lib_dir(),
                                scipy_openblas32.get_library(fullname=True)))
settings = [theano.config.floatX, theano.config.mode, theano.config.exception_verbosity]
assert settings == ["float32", "FAST_COMPILE", "high"], settings
assert blas.scipy_openblas_get_num_threads() == 2
"""


@pytest.mark.parametrize("last_line", ["", "print `7 / 2`"], ids=["python3", "python2"])
def test_a_program_sets_theanos_flags_itself(warm, tmp_path, last_line):
    (tmp_path / "mine.rc").write_text("[global]\nexception_verbosity = high\n")
    (tmp_path / "old.py").write_text(f"{SETS_FLAGS}\n{last_line}\n")
    assert run(tmp_path, warm, "old.py")[0] == ("3\n" if last_line else "")


def test_a_conftest_sets_theanos_flags(warm, tmp_path):
    (tmp_path / "mine.rc").write_text("[global]\nexception_verbosity = high\n")
    (tmp_path / "conftest.py").write_text(SETS_FLAGS)
    (tmp_path / "test_old.py").write_text("import theano\ndef test_float():\n"
                                          "    assert theano.config.floatX == 'float32'\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "theano_compat", "."], cwd=tmp_path,
                          env=warm.environment, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("flags", ["device=gpu", "device=gpu0", "device=cuda", "device=opencl0:0",
                                   "init_gpu_device=cuda0", "contexts=dev0->cuda0"])
def test_a_program_that_asks_for_a_gpu(warm, tmp_path, flags):
    (tmp_path / "old.py").write_text("import theano\nprint(theano.config.device)\n"
                                     "print(theano.tensor.ones(1).eval())\n")
    output, errors = run(tmp_path, warm, "old.py", THEANO_FLAGS=f"cxx=,{flags}")
    assert output == "cpu\n[1.]\n"
    warning, = errors.splitlines()
    assert warning.endswith(f"RuntimeWarning: Theano has no GPU here: {flags} is ignored, and the CPU "
                            "computes")


def test_no_word_about_a_gpu_where_none_is_asked_for(warm):
    warm.quietly("import vae, theano", THEANO_FLAGS="cxx=,device=cpu,contexts=")


@pytest.mark.parametrize("linker", ["cvm", "c", "c|py", "cvm_nogc", "c|py_nogc", "vm", "py"])
def test_every_engine_computes_without_a_compiler(warm, linker):
    warm.quietly(f"""
import vae, theano, theano.tensor as T
x = T.vector()
for mode in "Mode", theano.Mode({linker!r} if {linker!r} in ("cvm", "cvm_nogc") else "vm"):
    assert theano.function([x], 2 * x, mode=mode)([1]) == [2]
""", THEANO_FLAGS=f"cxx=,linker={linker}")


# --- modules in Python 2 ---

@pytest.mark.parametrize("arguments", [["pkg/main.py"], ["main.py"], ["-m", "pkg.main"],
                                       ["--python2", "-m", "pkg.main"], ["-m", "pkg.sub.main"],
                                       ["-m", "pkg.sub"]])
def test_a_program_imports_what_is_beside_it(warm, tmp_path, arguments):
    """With an ``__init__.py`` beside it, too; as a script it is in no package."""
    for folder in tmp_path, tmp_path / "pkg", tmp_path / "pkg" / "sub":
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "helper.py").write_text("X = 7 / 2\n")
        (folder / "main.py").write_text("import helper\nprint helper.X\n")
    (tmp_path / "pkg" / "sub" / "__main__.py").write_text("import helper\nprint helper.X\n")
    assert run(tmp_path, warm, *arguments)[0] == "3\n"


# --- processes that a program starts ---

POOLS = """
import multiprocessing, subprocess, sys
import numpy as np
import theano
from distutils.version import LooseVersion

def work(n):
    return [float(theano.tensor.ones(n).sum().eval()) + np.float(n), theano.config.floatX]

if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        pool = multiprocessing.get_context(method).Pool(2)
        assert pool.map(work, [1, 2]) == [[2, "float64"], [4, "float64"]], method
        pool.close()
        pool.join()
    program = "import distutils, theano; print(theano.config.floatX)"
    print(subprocess.check_output([sys.executable, "-c", program]).decode())
"""


@pytest.mark.parametrize("last_line", ["", "print `7 / 2`"], ids=["python3", "python2"])
def test_children_of_every_start_method(warm, tmp_path, last_line):
    (tmp_path / "old.py").write_text(f"{POOLS}\n{last_line}\n")
    output, _ = run(tmp_path, warm, "old.py", THEANO_FLAGS="cxx=")
    # Each child runs the script's last line, too.
    assert output.split()[-1] == ("3" if last_line else "float64") and "float64" in output


def test_children_keep_their_own_sitecustomize(warm, tmp_path):
    """It runs, and PYTHONPATH is as it was but for one folder; other Pythons are left alone."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys; sys.mine = 1\n")
    (tmp_path / "old.py").write_text("""
import os, subprocess, sys
def child(code, **environment):
    return subprocess.check_output([sys.executable, "-c", code], text=True,
                                   env={**os.environ, **environment}).strip()
print(child("import sys; print(sys.mine, 'theano_compat' in sys.modules)"))
print(child("import sys; print('theano_compat' in sys.modules)", THEANO_COMPAT_CHILDREN="other"))
print(os.environ["PYTHONPATH"].split(os.pathsep)[1:])
""")
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    output, _ = run(tmp_path, warm, "old.py", PYTHONPATH=path)
    assert output == f"1 True\nFalse\n{path.split(os.pathsep)}\n"


def test_nothing_is_left_in_the_environment_of_others():
    assert "THEANO_COMPAT_CHILDREN" not in os.environ
    assert multiprocessing.get_start_method() in ("fork", "forkserver", "spawn")


def test_theano_cache(warm):
    program = Path(sys.executable).with_name("theano-cache")
    done = subprocess.run([str(program)], env={**warm.environment, "THEANO_FLAGS": "cxx="},
                          capture_output=True, text=True)
    assert done.returncode == 0 and str(warm.cache) in done.stdout, done.stderr


# --- what an error may mean ---

@pytest.mark.parametrize("line, expected", [
    ("range(7 / 2)", "--python2"),
    ("[1, 2, 3][:3 / 1]", "--python2"),
    ("np.zeros(np.float64(7) / 2)", "--python2"),
    ("pickle.loads(b'S\"\\\\xe9\"\\n.')", "--python2"),
    ("pickle.load(open(__file__))", "--python2"),
    ("map(abs, [1])[0]", "--python2"),
    ("len(filter(None, [1]))", "--python2"),
    ("{}.keys()[0]", "--python2"),
    ("[1] + range(3)", "--python2"),
    ("None < 0", "--python2"),
    ("'\\xe9'.decode('utf-8')", "--python2"),
    ("xrange(3)", "--python2"),
    ("importlib.import_module('lasagne.nonlinearities').elu", "Lasagne's development version"),
    ("importlib.import_module('lasagne.layers').standardize", "Lasagne's development version"),
    ("exec('from lasagne.nonlinearities import elu')", "Lasagne's development version"),
    ("importlib.import_module('lasagne.layers.standardisation')", "Lasagne's development version"),
    ("importlib.import_module('no_such_module')", None),
    ("[][0]", None),
    ("int('x')", None),
    ("1 / 0", None),
])
def test_advice(line, expected, monkeypatch):
    names = {"np": np, "pickle": pickle, "importlib": importlib, "__file__": __file__}
    try:
        eval(line, names)
    except Exception as error:
        sentence = advice(error)
        if expected is None:
            assert sentence is None
            return
        assert expected in sentence
        monkeypatch.setenv("THEANO_COMPAT_PYTHON2", "folder")
        assert (advice(error) is None) == (expected == "--python2")
    else:
        assert expected is None


def test_advice_on_an_import_of_a_neighbour(warm, tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "sibling.py").write_text("X = 7 / 2\n")
    (tmp_path / "pkg" / "model.py").write_text("import sibling\n")
    (tmp_path / "old.py").write_text("import pkg.model\nprint(pkg.model.sibling.X)\n")
    done = subprocess.run([sys.executable, "-m", "theano_compat", "old.py"], cwd=tmp_path,
                          env=warm.environment, capture_output=True, text=True)
    assert done.returncode == 1 and "--python2" in done.stderr.splitlines()[-1]
    assert run(tmp_path, warm, "--python2", "old.py")[0] == "3\n"


# --- notebooks ---

@pytest.mark.parametrize("line, expected", [
    ("!pip install theano", ["print('Theano is installed, and is left as it is')"]),
    ("!pip3 install Theano==0.9.0", ["print('Theano is installed, and is left as it is')"]),
    ("! sudo python2.7 -m pip install --upgrade git+https://github.com/Theano/Theano.git@master",
     ["print('Theano is installed, and is left as it is')"]),
    ("  !pip install --upgrade https://github.com/Theano/Theano/archive/master.zip",
     ["  print('Theano is installed, and is left as it is')"]),
    ("!pip install -q theano lasagne==0.1",
     ["print('Theano is installed, and is left as it is')", "%pip install -q lasagne==0.1"]),
    ("!pip install theano-lstm", ["%pip install theano-lstm"]),
    ("!pip install -r requirements.txt", ["%pip install -r requirements.txt"]),
    ("!pip list", ["!pip list"]),
    ("x = !pip install theano", ["x = !pip install theano"]),
])
def test_pip_in_a_notebook(line, expected):
    assert _install_in_kernel([f"{line}\n"]) == [f"{text}\n" for text in expected]
