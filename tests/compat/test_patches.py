"""Each patch of `theano_compat`, with a program that needs it.

With all patches, the program prints nothing. Without its patch, it prints the symptom that
`theano_compat/README.md` names. No test measures time. The programs for patches in the group
``speed`` examine the generated code, the imported modules, or the calls of the compiler.
"""

import platform
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from programs import PRELUDE

import theano_compat
from theano_compat.hooks import GROUPS, ORDER, PATCHES, patches_of

pytestmark = pytest.mark.process

#: Settings with which Theano compiles, in one folder for all programs, with and without their patches:
#: the modules that every program needs are compiled once.
WITH_COMPILER = "compiledir={compiledir}"


class Need(NamedTuple):
    """A program that needs a patch."""
    #: A part of what the program prints without the patch.
    symptom: str
    program: str
    #: Theano's settings.
    flags: str = "cxx="
    #: The version of NumPy since which the patch is needed.
    numpy: str = "2.0"
    #: The versions of Python for which it is needed, as a specifier.
    python: str = ""


def code_of(outputs):
    """Return the start of a program in which `code` is the C++ that computes these outputs of x."""
    return PRELUDE + f"""
from theano.gof import CLinker, FunctionGraph
x = T.fmatrix()
code = CLinker().accept(FunctionGraph([x], {outputs})).get_src_code()
"""


NOTHING_IS_COMPILED = PRELUDE + """
from theano.gof.cmodule import GCC_compiler
called = []
def compile_str(module_name, *args, **kwargs):
    called.append(module_name)
    raise RuntimeError("no compiler")
GCC_compiler.compile_str = staticmethod(compile_str)
"""

FEW_LINES = PRELUDE + """
import sys
def few_lines(function, *args):
    lines = []
    def trace(*line):
        lines.append(line)
        return trace
    sys.settrace(trace)
    function(*args)
    sys.settrace(None)
    assert len(lines) < 2000, "number by number"
"""

#: Two operations that no other program compiles.
TWO_MODULES = NOTHING_IS_COMPILED + """
x = T.TensorType("float64", [True, False, True, False])()
try:
    theano.function([x], [T.sinh(x), T.cosh(x)], mode=theano.Mode("cvm", None))
except RuntimeError:
    assert "together" in called, "modules one by one"
"""

NEEDS = {
    # --- removed_names.py ---
    "restore_distutils": Need("'distutils'", """
        import sys, vae
        assert "distutils" not in sys.modules, "'distutils' is imported"
    """),
    "restore_numpy_distutils": Need("numpy.distutils", """
        import sys, vae
        assert "numpy.distutils" not in sys.modules, "numpy.distutils is imported"
    """),
    "restore_imp": Need("'imp'", PRELUDE + """
import sys
theano.scan(lambda x: x, T.vector())
assert "imp" not in sys.modules, "'imp' is imported"
"""),
    "restore_tostring": Need("tostring", PRELUDE + """
import warnings
warnings.simplefilter("error")  # until NumPy 2.3 it was deprecated
assert len(theano.printing.hex_digest(np.arange(3))) > 64
"""),
    "allow_pickler_attributes": Need("read-only", PRELUDE + """
import io
from theano.misc.pkl_utils import dump, load
file = io.BytesIO()
dump([theano.shared(np.arange(3.), name="x"), np.ones(2)], file)
x, ones = load(file)
assert x.get_value().tolist() == [0, 1, 2] and ones.tolist() == [1, 1]
""", python=">=3.13,<3.14"),
    "accept_dtype_names": Need("dtype", PRELUDE + """
import warnings
warnings.simplefilter("ignore")  # until NumPy 2.3 it was deprecated
assert np.asarray(2, T.dvector()).dtype == np.asarray(2, theano.scalar.float64).dtype == "float64"
""", numpy="2.4"),
    "copy_random_states_fully": Need("the stream has moved on", PRELUDE + """
from theano.tensor.shared_randomstreams import RandomStreams
draw = theano.function([], RandomStreams(1).uniform(), no_default_updates=True)
assert draw() == draw(), "the stream has moved on"
"""),
    "import_pydot_lazily": Need("pydot is imported", """
        import sys, vae
        assert "pydot" not in sys.modules, "pydot is imported"
    """),
    "restore_itemset": Need("itemset", PRELUDE + """
x = theano.shared(np.asarray(1.))
theano.function([], [], updates={x: 2 * x}, mode="DebugMode")()
"""),
    "index_by_tuples": Need("only integers, slices", PRELUDE + """
from theano.tensor.sort import topk
x = T.matrix()
assert theano.function([x], topk(x, 2, sorted=False))([[1, 3, 2]]).min() == 2
"""),
    "make_topk_consistent": Need("other values than the indices say", PRELUDE + """
from theano.tensor.sort import argtopk, topk
np.partition = lambda x, kth, axis: np.sort(x, axis)  # an order like any other
x, array = T.vector(), np.random.RandomState(0).permutation(1000).astype("float32")
values = theano.function([x], topk(x, 500, sorted=False))(array)
indices = theano.function([x], argtopk(x, 500, sorted=False))(array)
assert values.min() == 500
assert (values == array[indices]).all(), "other values than the indices say"
"""),
    "use_integer_indices": Need("Inexact indices", PRELUDE + """
from theano.sparse.sandbox.sp import max_pool
image = T.matrix()
pooled, shape = max_pool(image, (1, 4, 4), (2, 2))
pool = theano.function([image], pooled)
assert pool(np.arange(16, dtype="float32").reshape(1, 16)).tolist() == [[5, 7, 13, 15]]
"""),
    "restore_downsample": Need("cannot import name 'downsample' from 'theano.tensor.signal'", PRELUDE + """
from theano.tensor.signal import downsample
pool = downsample.max_pool_2d(T.matrix(), (2, 3), True, st=(4, 5)).owner
assert [x.data.tolist() for x in pool.inputs[1:3]] == [[2, 3], [4, 5]]
"""),
    "give_gpu_layers_to_cpu": Need("dnn not available", """
from theano_compat.old_programs.environment import as_old_program
as_old_program()
import warnings
warnings.simplefilter("ignore")
import lasagne.layers.dnn
"""),
    "restore_pkg_resources": Need("'pkg_resources'", """
        import sys, vae
        assert "pkg_resources" not in sys.modules, "'pkg_resources' is imported"
    """),
    "accept_old_spellings": Need("The `image_shape` keyword argument", PRELUDE + """
x = T.tensor4()
layer = lasagne.layers.InputLayer((1, 1, 2, 2), x)
lasagne.layers.get_output(lasagne.layers.Conv2DLayer(layer, 1, 2))
compile(open(lasagne.updates.__file__, encoding="utf-8").read(), lasagne.updates.__file__, "exec")
"""),
    "restore_scipy_names": Need("scipy.misc has no comb", """
from theano_compat.old_programs.environment import as_old_program
as_old_program()
import scipy.misc
assert hasattr(scipy.misc, "comb"), "scipy.misc has no comb"
"""),
    "adapt_theano_to_old_programs": Need("floatX is float32", """
from theano_compat.old_programs.environment import as_old_program
as_old_program()
import theano
assert theano.config.floatX == "float64", f"floatX is {theano.config.floatX}"
"""),
    "wrap_integers": Need("1000 is a uint64", PRELUDE + """
dtype = T.as_tensor_variable(1000).dtype
assert dtype == "int16", f"1000 is a {dtype}"
"""),
    "wrap_negatives": Need("Python integer -1 out of bounds for uint8", PRELUDE + """
x = T.bvector().astype("uint8")
assert theano.function([x], -x)([1]).tolist() == [255]
"""),
    "flatten_unique_inverse": Need("(2, 2) for a vector", PRELUDE + """
from theano.tensor.extra_ops import Unique
x = T.matrix()
unique, inverse = theano.function([x], Unique(return_inverse=True)(x))([[3, 5], [5, 3]])
assert inverse.shape == (4,), f"{inverse.shape} for a vector"
assert inverse.tolist() == [0, 1, 1, 0]
"""),
    "compare_floats_exactly": Need("0.1 is a float32", PRELUDE + """
assert T.as_tensor_variable(0.5).dtype == "float32"
assert T.as_tensor_variable(0.1).dtype == "float64", "0.1 is a float32"
""", "floatX=float64,cxx="),
    # --- settings.py ---
    "set_defaults": Need("floatX is float64", PRELUDE + """
assert theano.config.floatX == "float32", f"floatX is {theano.config.floatX}"
""", "cxx=,blas.ldflags="),
    "use_found_compiler": Need("a compiler that is named is not used", """
        import os, shutil, tempfile
        folder = tempfile.mkdtemp()
        for name in ("as", "ld"):
            os.symlink(shutil.which(name), os.path.join(folder, name))
        os.environ["THEANO_FLAGS"] += ",cxx=" + shutil.which("g++")
        os.environ["PATH"] = folder
        import vae, theano
        assert theano.config.linker == "cvm", "a compiler that is named is not used"
    """, WITH_COMPILER),
    "warn_once_of_no_compiler": Need("there is no c++ compiler", "import vae"),

    # --- compiled_code.py ---
    "adapt_c_to_numpy_2": Need("PyInt_AsLong", "import vae", "", numpy="2.1"),
    "link_without_libpython": Need("-lpython", PRELUDE + """
from theano.gof.cmodule import std_lib_dirs, std_libs
assert not std_libs(), f"-l{std_libs()[0]}"
"""),
    "write_keys_atomically": Need("the key is lost", PRELUDE + """
import pathlib, pickle, tempfile
from theano.gof.cmodule import KeyData
file = pathlib.Path(tempfile.mkdtemp(), "key.pkl")
data = KeyData({"key"}, "hash", str(file), "module.so")
data.save_pkl()
whole = file.read_bytes()
data.keys = {lambda: "not to be pickled"}
try:
    data.save_pkl()
except (pickle.PicklingError, AttributeError):
    assert file.exists() and file.read_bytes() == whole, "the key is lost"
"""),
    "refresh_while_others_delete": Need("No such file or directory", PRELUDE + """
import os, tempfile
from theano.gof import cmodule, compilelock
folder = tempfile.mkdtemp(dir=theano.config.compiledir)
lock_ctx = compilelock.lock_ctx
def wait_while_another_process_deletes_the_folder():
    if os.path.isdir(folder):
        os.rmdir(folder)
    return lock_ctx()
compilelock.lock_ctx = wait_while_another_process_deletes_the_folder
cmodule.ModuleCache(theano.config.compiledir)
assert not os.path.exists(folder)
"""),
    "version_operations_by_code": Need("Dot22 has no version", PRELUDE + """
from theano.gof import CLinker, FunctionGraph
x = T.fmatrix()
linker = CLinker().accept(FunctionGraph([x], [theano.tensor.blas._dot22(x, x)]))
version, _ = linker.cmodule_key()
assert version, "Dot22 has no version"
""", WITH_COMPILER),
    "version_cops_by_text": Need("a random hash", PRELUDE + """
operation = T.matrix().dimshuffle(0, "x", 1).owner.op
version = operation.c_code_cache_version()
assert hash(tuple(operation.func_codes)) not in version, "a random hash"
"""),
    "ignore_numpy_struct_sizes": Need("numpy.broadcast size changed", """
        import vae, warnings
        warnings.filterwarnings("always", "numpy")
        from theano.scan_module import scan_perform_ext
    """, WITH_COMPILER),
    "increment_in_numpy": Need("PyArray_MapIterArray", PRELUDE + """
x = T.fvector()
f = theano.function([x], T.inc_subtensor(x[[0, 0]], 1), mode=theano.Mode("cvm", None))
assert f([0]) == [2]
""", WITH_COMPILER),
    "rebuild_damaged_engine": Need("it is still there", PRELUDE + """
import pathlib
folder = pathlib.Path(theano.config.compiledir, "lazylinker_ext")
folder.mkdir(exist_ok=True)
(folder / "lazylinker_ext.so").write_bytes(b"damaged")
try:
    from theano.gof import lazylinker_c
except ImportError:
    assert not list(folder.glob("*.so")), "it is still there"
"""),
    "rebuild_damaged_modules": Need("it is still there", PRELUDE + """
import pathlib, tempfile
from theano.gof.cmodule import get_module_cache
folder = pathlib.Path(tempfile.mkdtemp(dir=theano.config.compiledir))
(folder / "module.so").write_bytes(b"damaged")
try:
    get_module_cache(theano.config.compiledir)._get_module(str(folder / "module.so"))
except ImportError:
    assert not folder.exists(), "it is still there"
"""),
    "lock_by_filelock": Need("Overriding existing lock by dead process", PRELUDE + """
import subprocess, sys
lock = "import vae, os; from theano.gof.compilelock import get_lock; get_lock(); "
subprocess.run([sys.executable, "-c", lock + "os._exit(0)  # as if killed"], check=True)
exec(lock)
"""),

    # --- compile_together.py ---
    "share_array_checks": Need("lines for each array", PRELUDE + """
from theano.gof.cc import get_c_cleanup
code = T.fmatrix.c_extract("x", {"fail": "return;"})
assert "tensors::extract" in code, f"{len(code.splitlines())} lines for each array"
assert get_c_cleanup(T.fmatrix(), "x", {}).strip() == "tensors::release(x, py_x);"
"""),
    "detect_processor_by_compiler": Need("the compiler is asked", PRELUDE + """
from theano.gof import cmodule
def run(*args, **kwargs):
    raise AssertionError("the compiler is asked")
cmodule.subprocess_Popen = run
assert "-march=native" in cmodule.GCC_compiler.compile_args()
""", WITH_COMPILER),
    "compile_modules_together": Need("modules one by one", TWO_MODULES, WITH_COMPILER),

    # --- elementwise_loops.py ---
    "vectorise_loops": Need("Theano's loops", code_of("[T.exp(x)]") + """
assert "elementwise::run(" in code, "Theano's loops"
"""),
    "compute_sigmoids_in_float32": Need("computed in doubles", code_of("[T.nnet.sigmoid(x)]") + """
assert "vector_math::sigmoid(" in code, "computed in doubles"
"""),
    "vectorise_sums": Need("Theano's loop", code_of("[T.sum(x)]") + """
assert "elementwise::sum<" in code, "Theano's loop"
"""),
    # --- merge_gradients.py, fuse_updates.py, matrix_products.py ---
    "merge_equal_operations": Need("2 products more", PRELUDE + """
x, w = T.matrices(2)
y, the_same = T.tanh(T.dot(x, w)), T.tanh(T.dot(x, w))
f = theano.function([x, w], theano.grad(T.sum(T.exp(y) * T.sqr(the_same)), w))
names = [type(node.op).__name__ for node in f.maker.fgraph.apply_nodes]
n_products = len([name for name in names if name.startswith(("Dot", "Gemm"))])
assert n_products == 2, f"{n_products - 1} products more"
"""),
    "fuse_shared_updates": Need("two loops over its memory", PRELUDE + """
x = theano.shared(np.ones(3, "float32"))
y = theano.shared(np.ones(3, "float32"))
f = theano.function([], updates=[(x, 0.9 * x + y), (y, y - 0.1 * (0.9 * x + y))])
assert len(f.maker.fgraph.apply_nodes) == 1, "two loops over its memory"
"""),
    "skip_zeros_in_products": Need("BLAS alone", code_of("[T.blas._dot22(x, x)]") + """
assert "sparse_product::compute" in code, "BLAS alone"
"""),
    "compute_products_once": Need("computed 2 times", PRELUDE + """
x = T.matrix()
product = T.dot(x, x)
f = theano.function([x], [0.1 * product, T.sqr(product)])
names = [type(node.op).__name__ for node in f.maker.fgraph.apply_nodes]
n_products = len([name for name in names if "Dot" in name])
assert n_products == 1, f"computed {n_products} times"
"""),

    # --- keep_graphs.py ---
    "keep_optimised_graphs": Need("optimised again", PRELUDE + """
def many_operations():
    x = theano.shared(np.ones(3, "float32"))
    for k in range(10):
        x = T.exp(x) / 7
    return x
theano.function([], many_operations())
import sys
calls, code = [], theano.gof.SeqOptimizer.apply.__code__
sys.setprofile(lambda frame, event, argument: calls.append(event) if frame.f_code is code else None)
theano.function([], many_operations())
sys.setprofile(None)
assert not calls, "optimised again"
"""),

    # --- fast_import.py ---
    "import_scipy_lazily": Need("scipy.stats is imported", """
        import sys, vae
        assert "scipy.stats" not in sys.modules, "scipy.stats is imported"
    """),
    "compare_addresses_in_scan": Need("elements are compared", PRELUDE + """
from theano.scan_module import scan_op
assert hasattr(scan_op.Scan.execute, "original"), "elements are compared"
"""),
    "call_thunks_by_ctypes": Need("a module is compiled", PRELUDE + """
from theano.gof import cutils
assert not hasattr(cutils, "__file__"), "a module is compiled"
""", WITH_COMPILER),
    "seed_streams_in_numpy": Need("a function is compiled", PRELUDE + """
from theano.sandbox import rng_mrg
def function(*args, **kwargs):
    raise AssertionError("a function is compiled")
rng_mrg.function = function
rng_mrg.MRG_RandomStreams(1).uniform((2,))
"""),
    "fold_constants_in_numpy": Need("no compiler", NOTHING_IS_COMPILED + """
total = T.constant([0.25, 0.5]) + T.constant([1.5, 2])
result, = T.opt.constant_folding.transform(total.owner)
assert result.data.tolist() == [1.75, 2.5]
""", WITH_COMPILER),

    # --- expressions.py ---
    "compute_elementwise_in_numpy": Need("number by number", FEW_LINES + """
x = T.fvector()
few_lines(theano.function([x], T.exp(x) * x + 1), [1] * 2000)
"""),
    "compute_scalars_in_numpy": Need("Use `dtype` or", PRELUDE + """
x = theano.scalar.int8()
assert abs(theano.function([x], theano.scalar.exp(x))(1) - np.e) < 1e-6
""", numpy="2.3"),
    "use_python_engine": Need("name 'CVM' is not defined", PRELUDE + """
x = T.scalar()
assert theano.function([x], T.exp(x), mode=theano.Mode("cvm", "fast_run"))(0) == 1
"""),
    "finish_interrupted_calls": Need("the update is lost", PRELUDE + """
import signal
from theano.compile.ops import as_op
@as_op([T.fvector], [T.fvector])
def interrupted(x):
    signal.raise_signal(signal.SIGINT)
    return x
value = theano.shared(np.zeros(2, "float32"))
function = theano.function([], updates=[(value, interrupted(value) + 1)])
try:
    function()
except KeyboardInterrupt:
    assert value.get_value().tolist() == [1, 1], "the update is lost"
"""),
    "ignore_float_warnings": Need("RuntimeWarning: divide by zero", PRELUDE + """
import threading  # Theano itself silences NumPy in the first thread only
x = T.fvector()
threading.Thread(target=theano.function([x], T.log(x)), args=[[0]]).start()
"""),

    # --- conv_and_pool.py ---
    "convolve_by_products": Need("python package for scipy.signal", PRELUDE + """
x = T.ftensor4()
theano.function([x], T.nnet.conv2d(x, x))(np.ones((1, 1, 2, 2), "float32"))
"""),
    "keep_abstract_convolutions": Need("there is no implementation", PRELUDE + """
x = T.ftensor4()
theano.function([x], T.nnet.conv2d(x, x, border_mode=1))
"""),
    "convolve_old_ops_by_products": Need("python package for scipy.signal", PRELUDE + """
from theano.tensor.nnet.conv import ConvOp
x = T.ftensor4()
f = theano.function([x], ConvOp((1, 2, 2), (2, 2), 1, 1)(x, x))
assert f(np.ones((1, 1, 2, 2), "float32")) == 4
"""),
    "pool_by_strides": Need("only integers, slices", FEW_LINES + """
from theano.tensor.signal.pool import pool_2d
x = T.ftensor4()
pooled = pool_2d(x, (2, 2), ignore_border=True)
f = theano.function([x], [pooled, theano.grad(pooled.sum(), x)])
few_lines(f, np.ones((9, 9, 9, 9), "float32"))
"""),
    "extract_neighbours_by_strides": Need("number by number", FEW_LINES + """
from theano.tensor.nnet.neighbours import images2neibs
x = T.ftensor4()
f = theano.function([x], images2neibs(x, (2, 2)))
few_lines(f, np.ones((10, 10, 10, 10), "float32"))
"""),

    # --- other_operations.py ---
    "multiply_nonzeros_in_numpy": Need("number by number", FEW_LINES + """
x = T.fmatrix()
few_lines(theano.function([x], theano.grad(T.prod(x), x)), [[0, 2] * 1000])
"""),
    "round_extrema_as_c_does": Need("9007199254740993 is no double", PRELUDE + """
x = T.lvector()
f = theano.function([x], x.max())
assert f([2**53 + 1, 0]) == 2**53, f"{f([2**53 + 1, 0])} is no double"
"""),
    "multiply_matrices_in_numpy": Need("number by number", FEW_LINES + """
x = T.ftensor3()
few_lines(theano.function([x], T.batched_dot(x, x)), np.ones((1000, 2, 2), "float32"))
"""),
    "draw_all_streams_at_once": Need("OverflowError: Python integer 4294967295", FEW_LINES + """
from theano.sandbox.rng_mrg import MRG_RandomStreams
few_lines(theano.function([], MRG_RandomStreams(1).uniform((2000,))))
"""),
    "draw_all_rows_at_once": Need("number by number", FEW_LINES + """
from theano.sandbox.multinomial import MultinomialFromUniform
x, u = T.fmatrix(), T.fvector()
f = theano.function([x, u], MultinomialFromUniform("auto")(x, u, np.int64(1)))
few_lines(f, [[0.5, 0.5]] * 2000, [0.25] * 2000)
"""),
    "compute_softmax_in_numpy": Need("number by number", FEW_LINES + """
x, y = T.fmatrix(), T.lvector()
loss = T.nnet.categorical_crossentropy(T.nnet.softmax(x), y).mean()
few_lines(theano.function([x, y], [loss, theano.grad(loss, x)]), [[1, 2]] * 1000, [1] * 1000)
"""),
    "scale_sparse_in_numpy": Need("number by number", FEW_LINES + """
import scipy.sparse, theano.sparse
x, y = theano.sparse.csc_matrix(dtype="float32"), T.fvector()
f = theano.function([x, y], theano.sparse.row_scale(x, y))
few_lines(f, scipy.sparse.csc_matrix(np.ones((100, 100), "float32")), [2] * 100)
"""),
    "multiply_blocks_in_numpy": Need("number by number", FEW_LINES + """
from theano.tensor.nnet.blocksparse import sparse_block_gemv
W, h, o = T.ftensor4(), T.ftensor3(), T.ftensor3()
rows, columns = T.lmatrix(), T.lmatrix()
ones = [np.ones(n, "float32") for n in [(1, 1, 2, 2), (1000, 1, 2), (1000, 1, 2)]]
f = theano.function([W, h, o, rows, columns], sparse_block_gemv(o, W, h, rows, columns))
few_lines(f, *ones, np.zeros((1000, 1), int), np.zeros((1000, 1), int))
"""),
}


@pytest.fixture(scope="module")
def compiledir(warm):
    return warm.quietly(PRELUDE + "print(theano.config.compiledir)")


def test_each_patch_has_a_program():
    assert NEEDS.keys() == PATCHES.keys()


@pytest.mark.parametrize("name", NEEDS)
def test_a_patch_is_needed(name, warm, compiledir, tmp_path):
    symptom, program, flags, numpy, python = NEEDS[name]
    environment = {"THEANO_FLAGS": flags.format(compiledir=compiledir), "TMPDIR": str(tmp_path)}
    warm.quietly(program, **environment)
    if Version(np.__version__) < Version(numpy):
        pytest.skip(f"NumPy {np.__version__} does not need it yet")
    if platform.python_version() not in SpecifierSet(python):
        pytest.skip(f"Python {platform.python_version()} does not need it: {python} does")
    _, without = warm.start(program, THEANO_COMPAT_OFF=name, **environment).communicate()
    assert symptom in without


PAGE = Path(theano_compat.__file__).with_name("README.md")


@pytest.mark.parametrize("name", NEEDS)
def test_the_page_names_each_patch_and_its_symptom(name):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    line, = [line for line in lines if line.startswith(f"| `{name}` |")]
    assert f"`{NEEDS[name].symptom}`" in line or f"``{NEEDS[name].symptom}``" in line


def test_an_unknown_patch_is_reported(warm):
    _, err = warm.start("import vae", THEANO_COMPAT_OFF="elementwise_loops, tostrnig").communicate()
    assert "THEANO_COMPAT_OFF names tostrnig: there is no such patch" in err


def test_the_table_of_patches(warm):
    """All patches are printed, by groups; those that are left out are marked."""
    lines = warm.quietly("import runpy, sys; sys.argv[1:] = ['--patches']; "
                         "runpy.run_module('theano_compat', run_name='__main__')",
                         THEANO_FLAGS="cxx=", THEANO_COMPAT_OFF="restore_imp,elementwise_loops").splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [f"{group}:" for group in GROUPS]
    named = [line.split()[0] for line in lines if re.match(r"  \w", line)]
    assert sorted(named) == sorted(PATCHES)
    left_out = {line.split()[0] for line in lines if line.endswith("(left out)")}
    assert left_out == {"restore_imp", *(name for name, patch in PATCHES.items()
                                         if patch.file == "elementwise_loops")}


#: `theano_compat` does not import Theano.
ALONE = "from theano_compat import hooks\n"


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_left_out_by_one_word(group, warm):
    left_out = warm.quietly(ALONE + "print(*(name for name, patch in hooks.PATCHES.items() "
                            "if patch.left_out))", THEANO_COMPAT_OFF=group)
    assert left_out.split() == [name for name, patch in PATCHES.items() if patch.group == group]


def test_each_patch_for_speed_says_where_it_acts_and_what_it_brings():
    root = Path(__file__).parents[2]
    for name, patch in PATCHES.items():
        assert (patch.group == "speed") == (patch.speed is not None), name
        if patch.speed:
            assert patch.speed.acts_on, name
            quotient = re.search(r"\b\d+\.\d\d\b", patch.speed.brings)
            assert quotient and float(quotient[0]) >= 1.03, f"{name} brings {patch.speed.brings}"
            file, _, test = patch.speed.edge.partition("::")
            assert f"def {test}(" in (root / file).read_text(encoding="utf-8"), name


def test_the_order_of_a_modules_patches_is_defined():
    n_patches = Counter(module for patch in PATCHES.values() for module in patch.modules)
    assert {module for module, n in n_patches.items() if n > 1} == set(ORDER)
    for module, names in ORDER.items():
        assert patches_of(module) == list(names)


def test_patches_are_applied_in_that_order(warm):
    """The order does not depend on which file of patches is imported first."""
    warm.quietly(ALONE + """
entered = []
def noting(name, function):
    def patch(module):
        entered.append((module.__name__, name))
        return function(module)
    return patch
backwards = list(hooks.PATCHES.items())[::-1]
hooks.PATCHES.clear()
for name, patch in backwards:
    hooks.PATCHES[name] = patch._replace(function=noting(name, patch.function))
import theano, theano.tensor.nnet.conv, theano.sandbox.rng_mrg, theano.tensor.sort, lasagne
for module, names in hooks.ORDER.items():
    found = [name for patched, name in entered if patched == module]
    assert found == list(names), (module, found)
""", THEANO_FLAGS="cxx=")
