"""Elementwise operations and sums in code that the compiler vectorises.

Theano writes one long function for each operation, with its loops in the
middle, in which scalars are read through references that may alias the
output; compilers leave such loops as they are.  Here a module holds only a
small function over contiguous arrays, the kernel; ``include/elementwise.h``
has what all of them share, and ``include/vector_math.h`` functions that can be
vectorised.
"""

from vae.compat.hooks import around_import

_MAX_DIMS = 32  # as in elementwise.h

_CODE = """
{{
    auto kernel = [](npy_intp n, char *const *data) {{
        using vector_math::exp; using vector_math::log;
        using vector_math::log1p; using vector_math::tanh;
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


@around_import("theano.tensor.elemwise")
def vectorised_loops(elemwise):
    """Write a kernel in place of each elementwise operation's loops."""
    yield
    its_own_loops = elemwise.Elemwise.c_code
    its_own_headers = elemwise.Elemwise.c_headers

    def c_code(self, node, nodename, inames, onames, sub):
        if (self.openmp or node.outputs[0].ndim > _MAX_DIMS
                or any(variable.dtype == "float16" for variable in node.inputs)):
            return its_own_loops(self, node, nodename, inames, onames, sub)
        if not hasattr(node.tag, "fake_node"):
            self.prepare_node(node, None, None, "c")
        task = self.scalar_op.c_code(
            node.tag.fake_node, f"{nodename}_scalar_",
            [f"in{i}" for i in range(len(inames))], [f"out{i}" for i in range(len(onames))], sub)
        if sub["fail"] in task:  # it may leave the loop
            return its_own_loops(self, node, nodename, inames, onames, sub)
        return _code(self, node, inames, onames, task, sub["fail"])

    def c_headers(self):
        return [*its_own_headers(self), '"elementwise.h"']

    elemwise.Elemwise.c_code = c_code
    elemwise.Elemwise.c_headers = c_headers


@around_import("theano.tensor.nnet.sigm")
def sigmoids_of_floats(sigm):
    """Without branches, and without the doubles that Theano's 0.0 brings in."""
    yield

    def in_floats(function, otherwise):
        def c_code(self, node, name, inputs, outputs, sub):
            if node.inputs[0].dtype != "float32":
                return otherwise(self, node, name, inputs, outputs, sub)
            return f"{outputs[0]} = vector_math::{function}({inputs[0]});"
        return c_code

    sigm.ScalarSigmoid.c_code = in_floats("sigmoid", sigm.ScalarSigmoid.c_code)
    sigm.ScalarSoftplus.c_code = in_floats("softplus", sigm.ScalarSoftplus.c_code)


@around_import("theano.scalar.basic")
def signs_of_floats(scalar):
    """Without the doubles that Theano's 1. brings in."""
    yield
    otherwise = scalar.Sgn.c_code

    def c_code(self, node, name, inputs, outputs, sub):
        (x,), (z,) = inputs, outputs
        if node.inputs[0].dtype != "float32":
            return otherwise(self, node, name, inputs, outputs, sub)
        return f"{z} = {x} != {x} ? {x} : (npy_float32)(({x} > 0) - ({x} < 0));"

    scalar.Sgn.c_code = c_code


@around_import("theano.tensor.elemwise")
def vectorised_sums(elemwise):
    """Add floats up in several doubles at once; Theano's loop waits for each addition."""
    yield
    from theano.scalar import Add
    its_own_loops = elemwise.CAReduce.c_code
    its_own_headers = elemwise.CAReduce.c_headers

    def c_code(self, node, name, inames, onames, sub):
        (x,), (z,) = node.inputs, node.outputs
        axes = range(x.ndim) if self.axis is None else self.axis
        accumulator = getattr(self, "acc_dtype", None) or z.dtype
        if not (type(self.scalar_op) is Add and {x.dtype, z.dtype} <= {"float32", "float64"}
                and accumulator == "float64" and 0 < len(axes) and x.ndim <= _MAX_DIMS):
            return its_own_loops(self, node, name, inames, onames, sub)
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

    def c_headers(self):
        return [*its_own_headers(self), '"elementwise.h"']

    elemwise.CAReduce.c_code = c_code
    elemwise.CAReduce.c_headers = c_headers


def _code(op, node, inames, onames, task, fail):
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
        pointers="\n".join(pointers), load="\n".join(load), task=task, store="\n".join(store),
        types=", ".join(variable.type.dtype_specs()[2] for variable in node.outputs),
        inplace=", ".join(str(op.inplace_pattern.get(i, -1)) for i in range(len(onames))),
        broadcast=", ".join(map(str, broadcast or [0])), n_dims=n_dims,
        n_inputs=len(inames), n_outputs=len(onames),
        inputs=", ".join(inames), outputs=", ".join(f"&{name}" for name in onames),
        flush_to_zero="true" if floats == {"float32"} else "false", fail=fail)
