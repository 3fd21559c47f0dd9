"""The folder of compiled code: modules that the next process uses, and damaged modules."""

import os
import shutil

import pytest
from programs import PRELUDE, SMALL, SMALL_ANSWER

pytestmark = pytest.mark.slow

#: Also needs Scan's loop, which is a separate library.
WITH_SCAN = SMALL + """
numbers = T.vector()
total = theano.scan(lambda x, before: before + x, numbers, outputs_info=T.zeros(()))[0]
assert theano.function([numbers], total)([1, 2, 3]).tolist() == [1, 3, 6]
"""


# --- damaged files: the next run replaces them ---

def cut(path, share=2):
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // share)


def emptied(path):
    path.write_bytes(b"")


def zeroed(path, start):
    content = bytearray(path.read_bytes())
    start = int(start * len(content))
    n_bytes = min(4096, len(content) - start)
    content[start:start + n_bytes] = bytes(n_bytes)
    overwritten(path, content)


def with_other_bytes(path):
    content = bytearray(path.read_bytes())
    for position in range(0, len(content), 97):
        content[position] ^= 0xff
    overwritten(path, content)


def overwritten(path, content):
    """Change a file in place and keep its time, as a failing disk does."""
    state = path.stat()
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def removed(path):
    path.unlink()


DAMAGES = {
    "cut": cut, "emptied": emptied, "zeroed at its start": lambda path: zeroed(path, 0),
    "zeroed in its middle": lambda path: zeroed(path, 0.5), "other bytes": with_other_bytes,
    "removed": removed}


@pytest.fixture
def whole(warm):
    """A session in whose cache nothing is damaged."""
    assert warm.run(WITH_SCAN)[0] == SMALL_ANSWER
    return warm


#: Only one file of each pattern is damaged, so that sound modules stand beside the damaged one.
FILES = ["tmp*/*.so", "tmp*/key.pkl", "lazylinker_ext/lazylinker_ext.so",
         "lazylinker_ext/__init__.py", "scan_perform/scan_perform.so", "tmp*/*.sha256"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_replaced(whole, damage):
    for number, files in enumerate(FILES):
        paths = sorted(whole.cache.glob(f"vae-seminar/theano/*/{files}"))
        DAMAGES[damage](paths[number % len(paths)])
    for _ in range(2):
        assert whole.run(WITH_SCAN)[0] == SMALL_ANSWER


def test_folders_that_have_lost_files(whole):
    folders = whole.cache.glob("vae-seminar/theano/*/tmp*")
    for folder, lost in zip(folders, ["*", "*.so", "key.pkl", "__init__.py"]):
        for path in list(folder.glob(lost)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for _ in range(2):
        assert whole.run(WITH_SCAN)[0] == SMALL_ANSWER


def test_two_processes_that_find_the_same_damage(whole):
    for path in list(whole.cache.glob("vae-seminar/theano/*/*/*.so"))[:3]:
        cut(path)
    processes = [whole.start(WITH_SCAN) for _ in range(2)]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0 and out.strip() == SMALL_ANSWER, err


def test_a_sound_cache_is_used_as_it_is(whole):
    files = sorted(whole.cache.glob("vae-seminar/theano/*/tmp*"))
    assert whole.quietly(WITH_SCAN) == SMALL_ANSWER
    assert sorted(whole.cache.glob("vae-seminar/theano/*/tmp*")) == files


# --- a program's own operations, edited between two processes ---

#: Prints the value of `expression` for 1, 2 and 3; the C multiplies by FACTOR.
OF_ITS_OWN = PRELUDE + """
from theano import scalar
from theano.tensor.elemwise import CAReduce, Elemwise
{definition}
x = T.dvector()
print(theano.function([x], {expression})([1, 2, 3]).tolist())
"""

SCALAR = """
class Own(scalar.{base}):
    {more}
    def impl(self, x, *y):
        return x * FACTOR
    def c_code(self, node, name, inputs, outputs, sub):
        return f"{{outputs[0]}} = {{inputs[0]}} * FACTOR;"
own = Elemwise(Own(scalar.upcast_out, name="own"))
"""
SUPPORT = SCALAR.replace("* FACTOR;", "* own_factor();") + """
Own.c_support_code = lambda self: "static double own_factor() {{ return FACTOR; }}"
"""

COPY = """
    def make_node(self, x):
        return theano.Apply(self, [x], [x.type()])
    def c_code(self, node, name, inputs, outputs, sub):
        return f'''Py_XDECREF({{outputs[0]}});
        {{outputs[0]}} = (PyArrayObject*) PyArray_NewCopy({{inputs[0]}}, NPY_CORDER);
        for (int i = 0; i < 3; i++) ((double*) PyArray_DATA({{outputs[0]}}))[i] *= FACTOR;'''
"""
WITHOUT_PROPERTIES = """
class Own(theano.Op):
    __props__ = ()
""" + COPY + """
    def c_code_cache_version(self):
        return (1,)
own = Own()
"""
OF_THEANOS = """
class Own(theano.tensor.nnet.nnet.Softmax):
    pass
""" + COPY + """
own = Own()
"""
REPLACED = "Own = theano.compile.ops.DeepCopyOp\n" + COPY.replace("    def", "def").replace(
    "make_node", "_") + """
Own.c_code = c_code
own = Own()
"""
ON_THE_INSTANCE = "own = theano.compile.ops.DeepCopyOp()\n" + COPY.replace(
    "    def", "def").replace("make_node", "_").replace("c_code(self, ", "c_code(") + """
own.c_code = c_code
"""


@pytest.mark.parametrize("definition, expression", [
    (SCALAR.format(base="UnaryScalarOp", more=""), "own(x)"),
    (SCALAR.format(base="BinaryScalarOp", more=""), "own(x, x)"),
    (SCALAR.format(base="UnaryScalarOp", more=""), "own(T.exp(x * 0) * x) + 0 * x"),
    (SUPPORT.format(base="UnaryScalarOp", more=""), "own(x)"),
    (SUPPORT.format(base="UnaryScalarOp", more=""), "own(T.exp(x * 0) * x) + 0 * x"),
    (SCALAR.format(base="Exp", more=""), "own(x)"),
    (WITHOUT_PROPERTIES.format(), "own(x)"),
    (OF_THEANOS.format(), "own(x)"),
    (REPLACED.format(), "own(x)"),
    (ON_THE_INSTANCE.format(), "own(x)"),
], ids=["unary", "binary", "fused", "support", "fused support", "of Exp", "no properties",
        "of Softmax", "replaced", "instance"])
def test_edited_c_is_compiled_again(warm, definition, expression):
    program = OF_ITS_OWN.format(definition=definition, expression=expression)
    for factor in 2, 3, 2:
        assert warm.run(program.replace("FACTOR", str(factor)))[0] == str(
            [1. * factor, 2. * factor, 3. * factor])


def test_replaced_c_is_not_used_by_the_next_process(warm):
    softmax = PRELUDE + """
x = T.dmatrix()
print(theano.function([x], T.nnet.softmax(x), mode=theano.Mode("c|py", None))([[0, 0]]).tolist())
"""
    replaced = softmax.replace("x = T", """
c_code = T.nnet.Softmax.c_code
T.nnet.Softmax.c_code = lambda *args: c_code(*args).replace("exp(", "-exp(")
x = T""", 1)
    warm.run(replaced)
    assert warm.quietly(softmax) == "[[0.5, 0.5]]"


def test_an_operation_with_a_version_of_its_own_is_kept(warm):
    program = OF_ITS_OWN.format(
        definition=SCALAR.format(base="UnaryScalarOp",
                                 more="c_code_cache_version = lambda _: (1,)"),
        expression="own(x)").replace("FACTOR", "5")
    count = program + """
from theano.gof.cmodule import get_module_cache
print(get_module_cache(theano.config.compiledir).stats[2])
"""
    assert warm.run(count)[0] == "[5.0, 10.0, 15.0]\n1"
    assert warm.run(count)[0] == "[5.0, 10.0, 15.0]\n0"


# --- operations with C in files ---

def test_a_programs_own_file_is_read_each_time(warm, tmp_path):
    assert warm.run(PRELUDE + f"""
from theano.gof import COp
path = {str(tmp_path / "own.c")!r}
class Own(COp):
    __props__ = ("factor",)
    def __init__(self, factor):
        self.factor = factor
        COp.__init__(self, [path], "APPLY_SPECIFIC(own)")
    def make_node(self, x):
        return theano.Apply(self, [x], [x.type()])
x = T.dscalar()
for factor in 2, 3:
    with open(path, "w") as file:
        file.write(f'''#section support_code_apply
int APPLY_SPECIFIC(own)(PyArrayObject *x, PyArrayObject **y) {{{{
    Py_XDECREF(*y);
    *y = (PyArrayObject*) PyArray_NewCopy(x, NPY_CORDER);
    ((double*) PyArray_DATA(*y))[0] *= {{factor}};
    return 0;
}}}}''')
    print(float(theano.function([x], Own(factor)(x))(1)))
""")[0].split() == ["2.0", "3.0"]
