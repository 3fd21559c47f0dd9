"""The unmodified Theano and Lasagne in new processes, in the way that a user runs them."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from programs import PRELUDE, SMALL, SMALL_ANSWER, TRAINING_STEP
from theano.gof.cmodule import KeyData

from theano_compat.needed import settings

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def first_step(warm):
    return warm.quietly(TRAINING_STEP)


def test_the_real_packages():
    assert (version("Theano"), version("Lasagne")) == ("1.0.5", "0.1")
    import lasagne
    import theano
    assert theano.__version__ == "1.0.5" and lasagne.__version__ == "0.1"
    assert int(np.__version__.partition(".")[0]) >= 2


def test_nothing_is_said_and_runs_repeat(warm, first_step):
    assert first_step.startswith("[") and warm.quietly(TRAINING_STEP) == first_step


def test_everything_is_compiled_and_linked_to_blas(warm):
    assert warm.quietly(PRELUDE + """
x, w, v = T.matrix(), T.matrix(), T.vector()
f = theano.function([x, w, v], [T.nnet.sigmoid(T.dot(x, w)), T.dot(w, v)])
thunks = f.fn.thunks
assert all(hasattr(thunk, "cthunk") for thunk in thunks), [t for t in thunks]
names = {type(node.op).__name__ for node in f.maker.fgraph.toposort()}
assert {"Dot22", "CGemv"} <= names, names
import glob
libraries = [open(path, "rb").read() for path in glob.glob(theano.config.compiledir + "/*/*.so")]
assert any(b"scipy_sgemm_" in library for library in libraries)
print(theano.config.blas.ldflags)
""") == "-lscipy_openblas"


def test_the_next_process_compiles_nothing(session):
    program = """
        import vae, theano, theano.tensor as T
        from theano.gof.cmodule import GCC_compiler
        compile_source = GCC_compiler.compile_str
        def compile_str(name, source, *args, **kwargs):
            print(source)
            return compile_source(name, source, *args, **kwargs)
        GCC_compiler.compile_str = staticmethod(compile_str)
        from theano.sandbox.rng_mrg import DotModulo, MRG_RandomStreams
        x = T.matrix()
        noise = MRG_RandomStreams(1).normal(x.shape)
        product = DotModulo()(*(types() for types in [T.lmatrix, T.ivector, T.iscalar] * 2))
        theano.function([x, *product.owner.inputs],
                        [product, T.dot(x, x.T) + noise.sum() + T.ones((x.shape[0], 1))])
    """
    assert "// Op class DotModulo" in session.quietly(program)  # it has no properties, but a version
    assert session.quietly(program) == ""  # the version of DimShuffle is not a random hash


def test_matrix_products_are_right(warm):
    warm.quietly(PRELUDE + """
random = np.random.RandomState(0)
x, w, v = T.matrix(), T.matrix(), T.vector()
f = theano.function([x, w, v], [
    T.dot(x, w), T.dot(x.T, x), T.dot(w, v), T.dot(v, v), x + T.dot(x, w)])
for n, m in [(1, 1), (3, 7), (64, 64), (500, 301)]:
    a, b, c = (random.normal(size=s).astype("float32") for s in [(n, m), (m, m), (m,)])
    expected = [a @ b, a.T @ a, b @ c, c @ c, a + a @ b]
    for layout in (lambda y: y, np.asfortranarray, lambda y: np.repeat(y, 2, 0)[::2]):
        for value, answer in zip(f(layout(a), layout(b), layout(c)), expected):
            np.testing.assert_allclose(value, answer, rtol=1e-3, atol=1e-3)
""")


def test_memory_that_held_nan_does_not_spoil_a_product(warm):
    """CGemv multiplies memory that it has not cleared by 0, which leaves NaN."""
    warm.quietly(PRELUDE + """
a, v = T.matrix(), T.vector()
f = theano.function([a, v], T.dot(a, v))
for n in [3, 17, 200] * 20:
    garbage = [np.full(n, np.nan, "float32") for _ in range(50)]
    del garbage
    assert np.isfinite(f(np.ones((n, n), "float32"), np.ones(n, "float32"))).all()
""")


def test_defaults(warm):
    floatX, base, name, mode = warm.quietly(PRELUDE + """
from theano import config
import os
print(config.floatX, config.base_compiledir, os.path.basename(config.compiledir), config.mode)
""").split()
    assert floatX == "float32"
    assert Path(base) == warm.cache / "vae-seminar" / "theano"
    assert name.startswith(f"theano1.0.5-numpy{np.__version__}-python{sys.version.split()[0]}-")
    assert mode == "Mode"


def test_the_users_settings_win(session, tmp_path):
    show = PRELUDE + ("print(theano.config.floatX, theano.config.base_compiledir, "
                      "theano.config.blas.ldflags or 'none')")
    flags = f"floatX=float64,base_compiledir={tmp_path / 'flags'},blas.ldflags="
    assert session.run(show, THEANO_FLAGS=flags)[0] == f"float64 {tmp_path / 'flags'} none"
    (tmp_path / ".theanorc").write_text(
        f"[global]\nfloatX = float64\nbase_compiledir = {tmp_path / 'rc'}\n")
    assert session.quietly(show) == f"float64 {tmp_path / 'rc'} -lscipy_openblas"
    assert session.quietly(show, THEANO_FLAGS="floatX=float32") == (
        f"float32 {tmp_path / 'rc'} -lscipy_openblas")
    assert not session.cache.exists()


def test_threads_are_the_users_choice(warm):
    show = ("import vae, scipy_openblas32\n"
            "print(scipy_openblas32.dll.scipy_openblas_get_num_threads())")
    assert warm.quietly(show) == "1"
    assert warm.quietly(show, OPENBLAS_NUM_THREADS="2") == str(min(2, os.cpu_count()))


@pytest.mark.parametrize("name, value", [
    ("sys", SimpleNamespace(version="3.99")),
    ("_compiler_version", lambda: "g++ 99"),
    ("_processor", lambda: "another"),
    ("scipy_openblas32", SimpleNamespace(__file__="/elsewhere", __version__="99")),
])
def test_another_version_has_a_folder_of_its_own(name, value, monkeypatch):
    before = settings._name_of_compiled_code()
    assert "%(numpy_version)s" in before and before == settings._name_of_compiled_code()
    monkeypatch.setattr(settings, name, value)
    assert settings._name_of_compiled_code() != before


def test_another_version_of_ours_has_a_folder_of_its_own(tmp_path):
    import theano_compat
    program = "import sys; sys.path.insert(0, {!r}); import theano_compat.needed.settings as s; " \
              "print(s.__file__, s._name_of_compiled_code())"
    names = []
    for number in range(2):
        copy = tmp_path / str(number)
        shutil.copytree(Path(theano_compat.__file__).parent, copy / "theano_compat")
        if number == 1:
            header = copy / "theano_compat" / "include" / "theano_on_numpy2.h"
            header.write_text(header.read_text() + "\n/* changed */\n")
        file, name = subprocess.run([sys.executable, "-c", program.format(str(copy))], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout.split()
        assert file.startswith(str(copy))
        names.append(name)
    assert names[0] != names[1]


def test_theano_imported_first(session):
    process = session.start("""
try:
    import theano
except BaseException:
    print("theano alone fails")
import vae
""")
    out, err = process.communicate()
    assert process.returncode == 1
    assert "before `import theano` and restart Python" in err
    assert "перезапустите ядро" in err


def test_numpy_1_in_memory(session):
    _, err = session.start("import numpy; numpy.__version__ = '1.26.4'; import vae").communicate()
    assert "ImportError: NumPy 1.26.4 is in memory, and theano_compat needs NumPy 2.0" in err
    assert "перезапустите ядро" in err


def test_no_warnings_of_old_spellings(warm):
    program = "import vae, warnings; warnings.simplefilter('error')" + PRELUDE + """
x = T.matrix()
print(theano.function([x], T.nnet.sigmoid(x) * 13)([[0]]))
"""
    assert warm.quietly(program) == "[[6.5]]"


def without_compiler(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    return str(empty)


def test_no_compiler(session, tmp_path, first_step):
    hidden = "import sys; sys.modules['ziglang'] = None\n"
    out, err = session.run(hidden + TRAINING_STEP, PATH=without_compiler(tmp_path))
    losses, expected = ([float(value) for value in text.strip("[]").split(",")]
                        for text in (out, first_step))
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert err.count("Warning") == 1
    line = err.splitlines()[0]
    assert "No C++ compiler (" in line and "Нет компилятора C++ (" in line
    assert "install" in line
    assert re.search("pip install .*ziglang", line) or sys.platform != "linux"


def test_no_headers_of_python(monkeypatch, tmp_path):
    monkeypatch.setattr(settings.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.warns(RuntimeWarning, match="No C headers of Python.*install"):
        assert settings._compiler() == ""


def test_no_compiler_because_the_user_says_so(session):
    assert session.quietly(SMALL, THEANO_FLAGS="cxx=") == SMALL_ANSWER


@pytest.mark.slow
def test_two_processes_at_once_with_nothing_compiled(session, first_step):
    processes = [session.start(TRAINING_STEP) for _ in range(2)]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0 and out.strip() == first_step
        assert err == ""


@pytest.mark.slow
def test_a_process_killed_while_compiling(session, first_step):
    """Killed at several moments, from Theano's import on: the next process gives the same result."""
    for seconds in (1, 2, 3, 5, 7, 9):
        process = session.start(TRAINING_STEP)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert session.quietly(TRAINING_STEP) == first_step


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_process_compiles(warm):
    """It does not hold the lock of its parent."""
    warm.quietly(PRELUDE + """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads and fork
x = T.fvector()
assert theano.function([x], 2 * x + 1)([1]) == 3
children = []
for k in range(2):
    children.append(os.fork())
    if not children[-1]:
        value = theano.function([x], T.sinh(x) * 3 - T.cosh(x) / (k + 2))([0])
        sys.exit(int(not np.allclose(value, -1 / (k + 2))))
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
assert theano.function([x], T.arctan(x) * 7)([0]) == 0
""")


def test_an_interrupted_compilation_lets_others_compile(session):
    program = PRELUDE + """
import _thread, threading
x = T.matrix()
import theano.gof.cmodule as cmodule
compile_str = cmodule.GCC_compiler.compile_str
def interrupted(*args, **kwargs):
    raise KeyboardInterrupt
cmodule.GCC_compiler.compile_str = staticmethod(interrupted)
try:
    theano.function([x], T.exp(x))
except KeyboardInterrupt:
    print("interrupted", flush=True)
cmodule.GCC_compiler.compile_str = compile_str
input()
print(theano.function([x], T.exp(x))([[0]]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], env=session.environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "interrupted\n"
    assert session.quietly(SMALL) == SMALL_ANSWER  # without waiting for the lock
    assert process.communicate("\n")[0] == "[[1.]]\n"


def test_a_key_is_never_half_written(tmp_path):
    path = tmp_path / "key.pkl"
    data = KeyData({"key"}, "hash", str(path), "module.so")
    data.save_pkl()
    before = path.read_bytes()
    data.keys = {lambda: "not to be pickled"}
    with pytest.raises((pickle.PicklingError, AttributeError)):
        data.save_pkl()
    assert [file.name for file in tmp_path.iterdir()] == ["key.pkl"]
    assert path.read_bytes() == before and pickle.loads(before).keys == {"key"}


@pytest.mark.slow
def test_a_damaged_module_is_compiled_again(session):
    session.quietly(SMALL)
    library, = session.cache.glob("**/lazylinker_ext/lazylinker_ext.so")
    library.write_bytes(library.read_bytes()[:100])
    assert session.quietly(SMALL) == SMALL_ANSWER

    library = next(session.cache.glob("**/tmp*/*.so"))
    library.write_bytes(library.read_bytes()[:100])
    assert session.quietly(SMALL) == SMALL_ANSWER


def test_a_cache_that_cannot_be_written(session):
    session.cache.write_text("a file where the folder should be")
    out, err = session.run(SMALL)
    assert out == SMALL_ANSWER
    assert err.count("Warning") == 1
    assert str(session.cache) in err and "Not a directory" in err and "нельзя хранить" in err


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)],
                             stderr=subprocess.PIPE) if shutil.which("mount") else None
    if mounted is None or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk(session, small_disk):
    (small_disk / "filler").write_bytes(bytes(79 * 2**20))
    out, err = session.run(SMALL)
    assert out == SMALL_ANSWER
    assert err.count("Warning") == 1 and "no space left" in err
    (small_disk / "filler").unlink()
    assert session.quietly(SMALL) == SMALL_ANSWER


@pytest.mark.slow
def test_a_disk_that_fills_while_compiling(session, small_disk):
    fill = PRELUDE + f"""
import os
with open({str(small_disk / "filler")!r}, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
x = T.matrix()
theano.function([x], T.exp(x))
"""
    process = session.start(fill)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "no space left for compiled code" in err and str(small_disk) in err
    (small_disk / "filler").unlink()
    assert session.quietly(SMALL) == SMALL_ANSWER


# --- patches for speed ---

@pytest.mark.slow
@pytest.mark.parametrize("off", ["elementwise_loops", "vectorise_loops",
                                 "compile_together,fast_import"])
def test_patches_can_be_left_out(warm, off):
    assert warm.quietly(SMALL, THEANO_COMPAT_OFF=off) == SMALL_ANSWER


def test_leaving_a_patch_out_leaves_it_out(warm):
    program = PRELUDE + "print(theano.tensor.elemwise.Elemwise.c_code.__module__)"
    assert warm.quietly(program) == "theano_compat.speed.elementwise_loops"
    assert warm.quietly(program, THEANO_COMPAT_OFF="vectorise_loops") == "theano.tensor.elemwise"


def test_random_streams_are_theanos(warm):
    program = PRELUDE + """
from theano.sandbox.rng_mrg import MRG_RandomStreams
for seed in 7, 12345, [1, 2, 3, 4, 5, 6]:
    streams = MRG_RandomStreams(seed=seed)
    print(streams.get_substream_rstates(20000, "float32")[[0, 1, 2, 9999, 19999]].tolist())
    for size in [(2, 3), (1,), (100, 100)]:
        draws = theano.function([], [streams.normal(size), streams.uniform(size)])
        print([[float(value.sum()) for value in draws()] for _ in range(2)])
    print(streams.rstate)
"""
    assert warm.quietly(program) == warm.quietly(program, THEANO_COMPAT_OFF="seed_streams_in_numpy")


OPERATION_IN_C = PRELUDE + """
class InC(theano.Op):
    __props__ = ("name", "code", "support", "version")
    def __init__(self, name, code, support="", version=(1,)):
        self.name, self.code, self.support, self.version = name, code, support, version
    def make_node(self, x):
        return theano.Apply(self, [x], [x.type()])
    def c_support_code(self):
        return self.support
    def c_code(self, node, name, inputs, outputs, sub):
        return self.code % dict(x=inputs[0], z=outputs[0], fail=sub["fail"])
    def c_code_cache_version(self):
        return self.version
x = T.dvector()
"""


@pytest.mark.slow
def test_modules_with_names_in_common(warm, tmp_path):
    """Each has its own macros, also of its headers, static variables and functions."""
    warm.quietly(OPERATION_IN_C + f"folder = {str(tmp_path)!r}" + r"""
class WithHeader(InC):
    def c_headers(self):
        return [self.header]
code = "Py_XDECREF(%(z)s); %(z)s = times(%(x)s);"
times = '''
static double factor = FACTOR;
static PyArrayObject *times(PyArrayObject *x) {
    PyArrayObject *z = (PyArrayObject *)PyArray_NewCopy(x, NPY_CORDER);
    for (int i = 0; i < PyArray_DIMS(z)[0]; i++) ((double *)PyArray_DATA(z))[i] *= factor;
    return z;
}
'''
operations = [InC(f"times {k}", code, f"#define FACTOR {k}\n{times}") for k in range(1, 7)]
operations.append(InC("with a header", code, f"#include <vector>\n#define FACTOR 7\n{times}"))
operations.append(InC("without a version", code, f"#define FACTOR 8\n{times}", version=()))
for k in range(9, 12):
    operations.append(WithHeader(f"with a header of its own, {k}", code, times))
    operations[-1].header = f'"{folder}/factor{k}.h"'
    open(f"{folder}/factor{k}.h", "w").write(f"#undef FACTOR\n#define FACTOR {k}\n")
f = theano.function([x], [operation(x) for operation in operations])
for k, value in enumerate(f([1, 10]), 1):
    assert value.tolist() == [k, 10 * k], (k, value)
""")


@pytest.mark.slow
def test_errors_in_c_are_raised(warm):
    """Exceptions that C has set, failures without an exception, and errors of the compiler."""
    warm.quietly(OPERATION_IN_C + """
import io, sys
fail_with_error = 'PyErr_SetString(PyExc_KeyError, "of its own"); %(fail)s'
for linker in "c|py", "cvm", "c":
    for code, error_type, text in [
            (fail_with_error, KeyError, "of its own"),
            ("%(fail)s", RuntimeError, "No Python exception was set"),
            ("if (PyArray_DIMS(%(x)s)[0] == 2) {" + fail_with_error + "} else {%(fail)s}",
             KeyError, "of its own")]:
        f = theano.function([x], InC("error", code)(x), mode=theano.Mode(linker, None))
        for _ in range(2):
            try:
                f([1, 2])
            except error_type as error:
                assert text in str(error), error
            else:
                raise AssertionError("no error")
copy = "Py_XDECREF(%(z)s); %(z)s = (PyArrayObject *)PyArray_NewCopy(%(x)s, NPY_CORDER);"
f = theano.function([x], [T.exp(x), InC("copy", copy)(x), T.dot(x, x)])
assert f([0, 1])[1].tolist() == [0, 1]
sys.stdout = sys.stderr = io.StringIO()  # where Theano shows the whole source
try:
    theano.function([x], [T.sinh(x), InC("wrong", "no C at all;")(x), T.cosh(x)])
except Exception as error:
    assert "Compilation failed" in str(error), error
else:
    raise AssertionError("no error")
""")


def test_functions_of_one_module(warm):
    """With the linker c a function is one call of C, which returns its results and errors."""
    warm.quietly(PRELUDE + """
x, y = T.dvectors("xy")
f = theano.function([x, y], [x + y, x * y], mode=theano.Mode("c", "fast_run"))
for _ in range(3):
    total, product = f([1, 2], [3, 4])
    assert total.tolist() == [4, 6] and product.tolist() == [3, 8]
try:
    f([1, 2], [3, 4, 5])
except ValueError as error:
    assert "mis-match" in str(error), error
else:
    raise AssertionError("no error")
assert f([1], [2])[0].tolist() == [3]
""")


def test_the_users_processor(warm):
    program = PRELUDE + "print(*theano.gof.cmodule.GCC_compiler.compile_args())"
    assert "-march=native" in warm.quietly(program)
    named = warm.quietly(program, THEANO_FLAGS="gcc.cxxflags=-march=x86-64")
    assert "-march=x86-64" in named and "-march=native" not in named


def test_scipy_is_imported_when_it_is_called(warm):
    warm.quietly(PRELUDE + """
import sys
from theano.tensor import slinalg
assert not {"scipy.stats", "scipy.signal", "scipy.linalg", "scipy.special"} & set(sys.modules)
A = T.matrix()
value = np.array([[4, 1], [1, 3]], "float32")
np.testing.assert_allclose(theano.function([A], slinalg.cholesky(A))(value),
                           np.linalg.cholesky(value), rtol=1e-5)
assert abs(T.erf(0.5).eval() - 0.5204999) < 1e-6
x, w, ones = T.tensor4(), T.tensor4(), np.ones((1, 1, 3, 3), "float32")
convolve = theano.function([x, w], T.nnet.conv2d(x, w), mode=theano.Mode("py", None))
np.testing.assert_array_equal(convolve(ones, ones[..., :2, :2]), 4 * ones[..., :2, :2])
""")


def test_constants_of_operations_that_are_in_c_only(warm):
    """They are compiled; constants of other operations are computed by NumPy."""
    warm.quietly(PRELUDE + """
class Half(theano.Op):
    __props__ = ()
    def make_node(self, x):
        x = T.as_tensor_variable(x)
        return theano.Apply(self, [x], [x.type()])
    def c_code(self, node, name, inputs, outputs, sub):
        return f'''{outputs[0]} = (PyArrayObject*) PyArray_FromAny(PyFloat_FromDouble(
            ((npy_float64*) PyArray_DATA({inputs[0]}))[0] / 2), NULL, 0, 0, 0, NULL);'''
    def c_code_cache_version(self):
        return 1,
assert theano.function([], Half()(np.asarray(3.)))() == 1.5
""")


def test_constants_of_a_programs_own_operations_are_computed_as_theano_does(warm):
    """In C, except for elementwise operations on arrays without dimensions."""
    warm.quietly(PRELUDE + """
class Half(theano.Op):
    __props__ = ()
    def make_node(self, x):
        return theano.Apply(self, [x], [x.type()])
    def perform(self, node, inputs, outputs):
        outputs[0][0] = inputs[0] * 0 - 1
    def c_code(self, node, name, inputs, outputs, sub):
        return f'''{outputs[0]} = (PyArrayObject*) PyArray_FromAny(PyFloat_FromDouble(
            ((npy_float64*) PyArray_DATA({inputs[0]}))[0] / 2), NULL, 0, 0, 0, NULL);'''

class Third(theano.scalar.UnaryScalarOp):
    def impl(self, x):
        return -1
    def c_code(self, node, name, inputs, outputs, sub):
        return f"{outputs[0]} = {inputs[0]} / 3;"

third = T.Elemwise(Third(theano.scalar.same_out, name="third"))
assert theano.function([], Half()(T.constant(np.asarray(3.))))() == 1.5
assert theano.function([], third(T.constant([3.])))() == [1]
assert theano.function([], third(T.constant(3.)))() == -1
""")


def test_a_type_of_a_programs_own_cleans_up_itself(warm):
    assert warm.run(PRELUDE + """
from theano.gof.cc import get_c_cleanup
class Own(T.TensorType):
    def c_cleanup(self, name, sub):
        return "own();"
print("own();" in get_c_cleanup(Own("float32", [False])(), "x", {}))
""")[0] == "True"


def test_a_product_is_computed_once(warm):
    assert warm.quietly(PRELUDE + """
x, y = T.matrices("xy")
f = theano.function([x, y], [0.1 * T.dot(x, y), T.sqr(T.dot(x, y)), 0.5 * T.dot(y, x)])
a, b = np.random.RandomState(0).normal(size=(2, 3, 3)).astype("float32")
for value, expected in zip(f(a, b), [0.1 * a @ b, (a @ b) ** 2, 0.5 * b @ a]):
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
print(sorted(type(node.op).__name__ for node in f.maker.fgraph.apply_nodes
             if "Dot" in type(node.op).__name__))
""") == "['Dot22', 'Dot22Scalar']"


def test_arrays_are_released(warm):
    warm.quietly(PRELUDE + """
import gc, sys
x, y = T.fmatrix("x"), T.fmatrix("y")
f = theano.function([x, y], [T.exp(x) / y, T.dot(x, y), T.sum(x), x[1:], x.T])
a, b = np.ones((2, 3, 3), "float32")

def reference_counts(a, b, error=None):
    for _ in range(100):
        try:
            f(a, b)
            assert error is None
        except ValueError as raised:
            assert error and error in str(raised)
    gc.collect()
    return sys.getrefcount(a), sys.getrefcount(b)

for arguments in (a, b), (a, b[:2].copy(), "mis-match"), (a, a):
    assert reference_counts(*arguments) == reference_counts(*arguments)
""")


@pytest.mark.slow
def test_modules_are_compiled_together(session):
    count = """
        from theano.gof.cmodule import GCC_compiler
        compile_source, names = GCC_compiler.compile_str, []
        def compile_str(module_name, *args, **kwargs):
            names.append(module_name)
            {also}
            return compile_source(module_name, *args, **kwargs)
        GCC_compiler.compile_str = staticmethod(compile_str)
    """
    program = PRELUDE + "{before}" + """
x = T.matrix()
outputs = [T.exp(x), T.sum(x, axis=0), T.dot(x, x), x.dimshuffle(1, "x", 0), T.log(x), x > 0,
           T.max(x), x[1:], T.sin(x), T.argsort(x), T.floor(x), T.sum(x, axis=1), T.cos(x)]
for value in theano.function([x], outputs)(np.eye(3, dtype="float32")):
    print(value.tolist())
"""
    together = program.replace("{before}", textwrap.dedent(count).replace("{also}", "pass"))
    answers = session.quietly(together + "assert 0 < len(names) < 10, names")
    broken = "if module_name == 'together': raise RuntimeError"
    one_by_one = program.replace("{before}", textwrap.dedent(count).replace("{also}", broken))
    shutil.rmtree(session.cache)
    assert session.quietly(one_by_one + "assert len(names) > 10, names") == answers


def test_a_bar_shows_that_theano_compiles(session):
    out, _ = session.run("import sys; sys.stdout.isatty = lambda: True" + TRAINING_STEP)
    assert "Theano: C++:   0%" in out
    out, _ = session.run("import sys; sys.stdout.isatty = lambda: True" + TRAINING_STEP)
    assert "Theano: C++" not in out
