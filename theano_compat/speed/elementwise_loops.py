"""Elementwise operations and sums in code that the compiler can vectorise.

Theano generates one long function for each operation. Its loops read scalars through references
that may alias the output, and compilers cannot vectorise such loops. With these patches, a module
contains only a kernel: a small function over contiguous arrays. ``include/elementwise.h`` contains
the common code of all kernels, and ``include/vector_math.h`` functions that can be vectorised.
Operations that are not listed here use Theano's loops.
"""

import re

from theano_compat.hooks import Speed, around_import, replace

_MAX_DIMS = 32  # the same as in elementwise.h

#: The types of a kernel's arguments, results and intermediate results.
_TYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float32", "float64"}

#: Operations with C code that is an expression, or a block without a jump out of the loop.
_OPERATIONS = {
    *(f"theano.scalar.basic.{name}" for name in (
        "LT GT LE GE EQ NEQ IsNan IsInf InRange Switch OR XOR AND Invert Maximum Minimum Add Mul "
        "Sub TrueDiv Pow Clip Second Identity Cast Abs Sgn Ceil Floor Trunc RoundHalfToEven "
        "RoundHalfAwayFromZero Neg Inv Log Log2 Log10 Log1p Exp Exp2 Expm1 Sqr Sqrt Deg2Rad "
        "Rad2Deg Cos ArcCos Sin ArcSin Tan ArcTan ArcTan2 Cosh ArcCosh Sinh ArcSinh Tanh ArcTanh "
        "Conj").split()),
    *(f"theano.scalar.basic_scipy.{name}" for name in (
        "Erf Erfc Gamma GammaLn Psi TriGamma Chi2SF GammaInc GammaIncC GammaL J0 J1").split()),
    *(f"theano.tensor.nnet.sigm.{name}" for name in (
        "ScalarSigmoid ScalarSoftplus UltraFastScalarSigmoid").split()),
    "theano.tensor.nnet.nnet.ScalarSoftsign",
    "theano.tensor.xlogx.XlogX", "theano.tensor.xlogx.XlogY0",
}
#: The same, but only for floats. For integers, a division by zero jumps out of the loop.
_OPERATIONS_ON_FLOATS = {"theano.scalar.basic.IntDiv", "theano.scalar.basic.Mod"}
_FLOATS = {"float32", "float64"}

#: Compiler options that do not make ``vector_math.h`` less exact. Other options, such as
#: -ffast-math, change its formulas. With them, functions of the C library are used, as in Theano.
_SAFE_OPTIONS = re.compile(
    r"[^-].*|-(O[0-3sgz]?|[gWDUIL].*|w|pipe|std=.*|fPIC|m(arch|tune|cpu)=.*|fpermissive"
    r"|m(sse|avx|fma|bmi|f16c|popcnt|neon)[\w.]*|ffp-contract=.*|fbracket-depth=.*"
    r"|f(no-)?(tree-.*|unroll-.*|inline.*|tracer|omit-frame-pointer|strict-aliasing))")

_CODE = """
{{
    auto kernel = [](npy_intp n, char *const *data) {{
        using {library}::exp; using {library}::log;
        using {library}::log1p; using {library}::tanh;
        {pointers}
        #if defined(__clang__)
        #pragma clang loop vectorize(assume_safety)
        #elif defined(__GNUC__)
        #pragma GCC ivdep
        #endif
        for (npy_intp element = 0; element < n; element++) {{
            {load}
            {task}
            {store}
        }}
    }};
    static const int types[] = {{{types}}};
    static const int inplace[] = {{{inplace}}};
    static const char broadcast[] = {{{broadcast}}};
    static const elementwise::Operation operation = {{
        kernel, {n_inputs}, {n_outputs}, {n_dims}, types, inplace, broadcast, {flush_to_zero}}};
    PyArrayObject *inputs[] = {{{inputs}}};
    PyArrayObject **outputs[] = {{{outputs}}};
    if (elementwise::run(operation, inputs, outputs) < 0) {{
        {fail}
    }}
}}
"""


@around_import("theano.tensor.elemwise", speed=Speed(
    acts_on="elementwise operations in C, from a list of Theano's own, on bools, integers, float32 "
            "and float64, intermediate results included, in up to 32 dimensions, without OpenMP; "
            "on x86-64 float32 results below 1.2e-38 become 0, intermediate results included",
    brings="VAE 1.70",
    edge="tests/compat/test_elementwise_loops.py::test_what_has_a_kernel"))
def vectorise_loops(elemwise):
    """Generate a kernel instead of the loops of an elementwise operation."""
    yield

    @replace(elemwise.Elemwise)
    def c_code(self, node, nodename, inames, onames, sub):
        # Theano's C code converts only elements of arrays from float16. It treats other values as
        # integers.
        if "float16" in _inner_types(self.scalar_op):
            raise elemwise.gof.utils.MethodNotDefined("c_code", type(self), "float16")
        if (self.openmp or node.outputs[0].ndim > _MAX_DIMS
                or not _can_be_a_kernel(self.scalar_op, node.inputs, node.outputs)):
            return c_code.original(self, node, nodename, inames, onames, sub)
        if not hasattr(node.tag, "fake_node"):
            self.prepare_node(node, None, None, "c")
        task = self.scalar_op.c_code(
            node.tag.fake_node, f"{nodename}_scalar_",
            [f"in{i}" for i in range(len(inames))], [f"out{i}" for i in range(len(onames))], sub)
        return _code_around(self, node, inames, onames, task, sub["fail"])

    @replace(elemwise.Elemwise)
    def c_headers(self):
        return [*c_headers.original(self), '"elementwise.h"']


@around_import("theano.tensor.nnet.sigm", speed=Speed(
    acts_on="sigmoid and softplus of float32, with compiler options that are in a list",
    brings="VAE 1.30",
    edge="tests/compat/test_elementwise_loops.py::test_options_of_the_user"))
def compute_sigmoids_in_float32(sigm):
    """Compute sigmoid and softplus of float32 in float32, without branches.

    In Theano's C code, the constant 0.0 makes the whole formula double precision.
    """
    yield

    def c_code_in_float32(function, original_c_code):
        def c_code(self, node, name, inputs, outputs, sub):
            if node.inputs[0].dtype != "float32" or not _is_vector_math_exact():
                return original_c_code(self, node, name, inputs, outputs, sub)
            return f"{outputs[0]} = vector_math::{function}({inputs[0]});"
        return c_code

    for op, function in [(sigm.ScalarSigmoid, "sigmoid"), (sigm.ScalarSoftplus, "softplus")]:
        op.c_code = c_code_in_float32(function, op.c_code)
        op.c_headers = lambda self: ['"vector_math.h"']  # for operations on single numbers


@around_import("theano.tensor.elemwise", speed=Speed(
    acts_on="sums of float32 and float64 that are accumulated in float64, in up to 32 "
            "dimensions; in several numbers at once only from float32 to float32",
    brings="CNN, 32 and 32 filters 1.03",
    edge="tests/compat/test_elementwise_loops.py::test_sums_in_float64_are_in_theanos_order"))
def vectorise_sums(elemwise):
    """Add up floats in several doubles at once.

    In Theano's loop, each addition has to wait for the previous one.
    """
    yield
    from theano.scalar import Add

    @replace(elemwise.CAReduce)
    def c_code(self, node, name, inames, onames, sub):
        (x,), (z,) = node.inputs, node.outputs
        axes = range(x.ndim) if self.axis is None else self.axis
        accumulator = getattr(self, "acc_dtype", None) or z.dtype
        if not (type(self.scalar_op) is Add and {x.dtype, z.dtype} <= {"float32", "float64"}
                and accumulator == "float64" and 0 < len(axes) and x.ndim <= _MAX_DIMS):
            return c_code.original(self, node, name, inames, onames, sub)
        reduced = ", ".join(str(int(axis in axes)) for axis in range(x.ndim))
        _, in_type, _ = x.type.dtype_specs()
        _, out_type, type_number = z.type.dtype_specs()
        return f"""
        {{
            static const char reduced[] = {{{reduced}}};
            if (elementwise::sum<{in_type}, {out_type}>({inames[0]}, reduced, {type_number},
                                                        &{onames[0]}) < 0) {{
                {sub["fail"]}
            }}
        }}
        """

    @replace(elemwise.CAReduce)
    def c_headers(self):
        return [*c_headers.original(self), '"elementwise.h"']


def _can_be_a_kernel(scalar_op, inputs, outputs):
    """Return whether an operation, or every part of a fused operation, is in the lists above."""
    dtypes = {variable.dtype for variable in [*inputs, *outputs]}
    name = f"{type(scalar_op).__module__}.{type(scalar_op).__name__}"
    if name == "theano.scalar.basic.Composite":
        return dtypes <= _TYPES and all(_can_be_a_kernel(node.op, node.inputs, node.outputs)
                                        for node in scalar_op.fgraph.apply_nodes)
    return (name in _OPERATIONS and dtypes <= _TYPES
            or name in _OPERATIONS_ON_FLOATS and dtypes <= _FLOATS)


def _inner_types(scalar_op):
    """Return the dtypes of all numbers inside a fused operation, which Theano does not check."""
    if not hasattr(scalar_op, "fgraph"):
        return set()
    return {variable.dtype for variable in scalar_op.fgraph.variables}.union(
        *(_inner_types(node.op) for node in scalar_op.fgraph.apply_nodes))


def _is_vector_math_exact():
    """Return whether the user's compiler options are known to preserve IEEE arithmetic."""
    from theano import config
    return all(map(_SAFE_OPTIONS.fullmatch, config.gcc.cxxflags.split()))


def _code_around(op, node, inames, onames, task, fail):
    """Return the C code of an elementwise operation.

    Parameters
    ----------
    op : theano.tensor.Elemwise
    node : theano.gof.Apply
    inames, onames : list of str
        Names of the arrays in C.
    task : str
        C code that computes the numbers ``out0``, ... from the numbers ``in0``, ...
    fail : str
        C code that raises the exception that has been set.

    Returns
    -------
    str
    """
    n_dims = node.outputs[0].ndim
    pointers, load, store = [], [], []
    for i, variable in enumerate(node.inputs):
        type_name = variable.type.dtype_specs()[1]
        if all(variable.broadcastable):
            pointers.append(f"{type_name} in{i} = *({type_name} *)data[{i}];")
        else:
            pointers.append(f"{type_name} *input{i} = ({type_name} *)data[{i}];")
            load.append(f"{type_name} in{i} = input{i}[element];")
    for i, variable in enumerate(node.outputs):
        type_name = variable.type.dtype_specs()[1]
        pointers.append(f"{type_name} *output{i} = ({type_name} *)data[{len(inames) + i}];")
        load.append(f"{type_name} out{i};")
        store.append(f"output{i}[element] = out{i};")
    floats = {variable.dtype for variable in node.outputs
              if variable.dtype.startswith(("float", "complex"))}
    broadcast = [int(flag) for variable in node.inputs for flag in variable.broadcastable]
    return _CODE.format(
        library="vector_math" if _is_vector_math_exact() else "std", pointers="\n".join(pointers),
        load="\n".join(load), task=task, store="\n".join(store),
        types=", ".join(variable.type.dtype_specs()[2] for variable in node.outputs),
        inplace=", ".join(str(op.inplace_pattern.get(i, -1)) for i in range(len(onames))),
        broadcast=", ".join(map(str, broadcast or [0])), n_dims=n_dims,
        n_inputs=len(inames), n_outputs=len(onames),
        inputs=", ".join(inames), outputs=", ".join(f"&{name}" for name in onames),
        flush_to_zero="true" if floats == {"float32"} else "false", fail=fail)
