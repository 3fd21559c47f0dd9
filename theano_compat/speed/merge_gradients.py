"""A patch that computes one gradient for equal operations.

Each call of Lasagne's ``get_output`` makes new operations. So if a program gets the two outputs of
an encoder by two calls, the graph contains the layers below them twice. Theano merges equal
operations when it compiles a function. But by then each of them has its own gradient, with its own
matrix products. With this patch they share a gradient, which needs half as many products.
"""

from collections import OrderedDict

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.originals import as_imported, is_theanos

#: Scalar operations of Theano with a gradient that is linear in the gradients of their results. The
#: gradient must depend only on the type of the operation and on attributes that its ``__eq__``
#: compares.
_SCALAR_OPERATIONS = {
    "theano.scalar.basic": (
        "Abs Add Cast Clip Cos Cosh EQ Exp Exp2 Expm1 GE GT Identity Inv LE LT Log Log10 Log1p Log2 "
        "Maximum Minimum Mul NEQ Neg Pow Second Sgn Sin Sinh Sqr Sqrt Sub Switch Tan Tanh TrueDiv"),
    "theano.tensor.nnet.sigm": "ScalarSigmoid ScalarSoftplus",
}

#: Operations on arrays with the same property. AdvancedSubtensor1 and Prod do not have it, because
#: their ``__eq__`` ignore `sparse_grad` and `no_zeros_in_input`; neither do the operations in
#: theano.gradient.
_ARRAY_OPERATIONS = {
    "theano.tensor.basic": "Alloc BatchedDot Dot Join Reshape ScalarFromTensor Split "
                           "TensorFromScalar",
    "theano.tensor.opt": "MakeVector",
    "theano.tensor.elemwise": "DimShuffle Elemwise Sum",
    "theano.tensor.subtensor": "Subtensor",
    "theano.compile.ops": "Shape Shape_i",
    "theano.tensor.nnet.nnet": "Softmax",
    "theano.tensor.nnet.abstract_conv": "AbstractConv2d",
    "theano.tensor.signal.pool": "Pool",
}

#: Operations that have this property only if their results are integers, such as the lengths of a
#: shape. Then they have no gradient.
_INTEGER_OPERATIONS = {"theano.tensor.elemwise": "Prod"}

_FLOATS = {"float16", "float32", "float64"}
_INTEGERS = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}


@around_import("theano.gradient", speed=Speed(
    acts_on="equal operations on real numbers, from a list of Theano's own, while the program has "
            "replaced nothing in Theano; infinite numbers may lead to an infinity where Theano "
            "gets nan",
    brings="VAE 1.09",
    edge="tests/compat/test_merge_gradients.py::test_what_is_derived_as_it_is_written"))
def merge_equal_operations(gradient):
    """Add up the gradients that reach equal operations, and propagate only the sum."""
    yield

    @replace(gradient)
    def _populate_var_to_app_to_idx(outputs, wrt, consider_constant):
        """Return ``{variable: {operation that uses it: [argument numbers]}}``."""
        clients = _populate_var_to_app_to_idx.original(outputs, wrt, consider_constant)
        if not as_imported.changes():  # the program may have replaced a gradient
            # The program refers to these variables, so each keeps its own gradient.
            kept_apart = {*outputs, *wrt, *(consider_constant or ())}
            _merge_clients(clients, outputs, kept_apart)
        return clients


def _merge_clients(clients, outputs, kept_apart):
    """Move the clients of equal operations to the first of these operations.

    Theano's gradient goes backwards through `clients`: the gradient of a variable is the sum over
    its clients. An example with two equal operations ``t1`` and ``t2`` is a(tanh(x)) + b(tanh(x)),
    before and after the change::

        x ──> t1 ──> y1 ──> a          x ──> t1 ──> y1 ──> a
        x ──> t2 ──> y2 ──> b                         └──> b

        {x: {t1: [0], t2: [0]},        {x: {t1: [0]},
         y1: {a: [0]},                  y1: {a: [0], b: [0]}}
         y2: {b: [0]}}

    Parameters
    ----------
    clients : dict
        The result of `_populate_var_to_app_to_idx`, changed in place.
    outputs : list of variables
        The variables that are differentiated.
    kept_apart : set of variables
        These variables, and the operations that compute them, are not merged with equal ones.
    """
    for node, first, inputs in _equal_operations(outputs, kept_apart):
        for x in inputs:
            if places := clients.get(x, {}).pop(node, None):
                _add_client(clients, x, first, places)
        for result, first_result in zip(node.outputs, first.outputs):
            for client, places in clients.pop(result, {}).items():
                _add_client(clients, first_result, client, places)


def _add_client(clients, x, client, places):
    """Record that the arguments number `places` of `client` are the variable `x`."""
    known = clients.setdefault(x, OrderedDict()).setdefault(client, [])
    known.extend(place for place in places if place not in known)


def _equal_operations(outputs, kept_apart):
    """Yield tuples of an operation, the first operation that equals it, and the arguments.

    If several variables are equal, the first of them stands for all in the arguments.
    """
    from theano.gof.graph import Constant, io_toposort
    first_operations = {}  # maps an operation and its arguments to the first node with them
    first_equals = {}  # maps a variable, or the signature of a constant, to its first equal

    def first_equal(x):
        if isinstance(x, Constant) and x not in kept_apart:
            return first_equals.setdefault(x.merge_signature(), x)
        return first_equals.get(x, x)

    for node in io_toposort([], outputs):
        inputs = [first_equal(x) for x in node.inputs]
        if kept_apart.intersection(node.outputs) or not _is_mergeable(node):
            continue
        first = first_operations.setdefault((node.op, *inputs), node)
        if first is not node and [x.type for x in node.outputs] == [x.type for x in first.outputs]:
            first_equals.update(zip(node.outputs, first.outputs))
            yield node, first, inputs


def _is_mergeable(node):
    """Return whether an operation on real numbers is in the lists above and is unchanged."""
    dtypes = {getattr(x.type, "dtype", None) for x in [*node.inputs, *node.outputs]} - {None}
    if not dtypes <= _FLOATS | _INTEGERS:
        return False
    if _is_in(_ARRAY_OPERATIONS, node.op):
        return (type(node.op).__name__ != "Elemwise"
                or _is_in(_SCALAR_OPERATIONS, node.op.scalar_op))
    return (_is_in(_INTEGER_OPERATIONS, node.op)
            and all(x.dtype in _INTEGERS for x in node.outputs))


def _is_in(table, op):
    return type(op).__name__ in table.get(type(op).__module__, "").split() and is_theanos(op)
