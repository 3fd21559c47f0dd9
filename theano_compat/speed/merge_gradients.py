"""The gradient of what is written twice, taken once.

Lasagne's ``get_output`` writes a network anew at each call: whoever asks for an encoder's two
outputs one after the other has the layers below them twice.  Theano computes them once, for it
finds equal operations when it compiles.  But by then each of the two has a gradient of its own,
with matrix products of its own.  Here they have one, and the products are fewer.
"""

from collections import OrderedDict

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.originals import as_imported, is_theanos

#: Theano's scalar operations whose gradient is linear in the one that comes back, and is told by the
#: operation's type and by what its ``__eq__`` compares.
_SCALARS = {
    "theano.scalar.basic": (
        "Abs Add Cast Clip Cos Cosh EQ Exp Exp2 Expm1 GE GT Identity Inv LE LT Log Log10 Log1p Log2 "
        "Maximum Minimum Mul NEQ Neg Pow Second Sgn Sin Sinh Sqr Sqrt Sub Switch Tan Tanh TrueDiv"),
    "theano.tensor.nnet.sigm": "ScalarSigmoid ScalarSoftplus",
}

#: The same of operations on arrays.  Not here, for one: AdvancedSubtensor1, which leaves
#: `sparse_grad` out of its ``__eq__``, Prod (`no_zeros_in_input`), and all of theano.gradient.
_ARRAYS = {
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

#: These have no gradient where their results are whole numbers, such as the lengths of a shape.
_OF_WHOLE_NUMBERS = {"theano.tensor.elemwise": "Prod"}

_FLOATS, _WHOLE = {"float16", "float32", "float64"}, {
    "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


@around_import("theano.gradient", speed=Speed(
    acts_on="equal operations that are in a list of Theano's own, of real numbers, while the program "
            "has replaced nothing of Theano's",
    brings="VAE 1.09",
    edge="tests/compat/test_merge_gradients.py::test_what_is_derived_as_it_is_written"))
def merge_equal_operations(gradient):
    """Add up what comes back to equal operations before it goes on to their arguments."""
    as_imported.start()
    yield

    @replace(gradient)
    def _populate_var_to_app_to_idx(outputs, wrt, consider_constant):
        """The operations that want a variable's gradient, and as which of their arguments."""
        clients = _populate_var_to_app_to_idx.original(outputs, wrt, consider_constant)
        if as_imported.changes():  # a gradient may be the program's, or call what is
            return clients

        def add(x, client, places):
            known = clients.setdefault(x, OrderedDict()).setdefault(client, [])
            known.extend(place for place in places if place not in known)

        # A variable of which something special was said is not another, even if it is equal.
        apart = {*outputs, *wrt, *(consider_constant or ())}
        for node, twin, inputs in _twins(outputs, apart):
            for x in inputs:
                if places := clients.get(x, {}).pop(node, None):
                    add(x, twin, places)
            for mine, its in zip(node.outputs, twin.outputs):
                for client, places in clients.pop(mine, {}).items():
                    add(its, client, places)
        return clients


def _twins(outputs, apart):
    """Yield each operation that has an equal one before it, that one, and their arguments."""
    from theano.gof.graph import Constant, io_toposort
    first, same = {}, {}
    for node in io_toposort([], outputs):
        inputs = [same.setdefault(x.merge_signature(), x)
                  if isinstance(x, Constant) and x not in apart else same.get(x, x)
                  for x in node.inputs]
        if apart.intersection(node.outputs) or not _is_told_by_equality(node):
            continue
        twin = first.setdefault((node.op, *inputs), node)
        if twin is not node and [x.type for x in node.outputs] == [x.type for x in twin.outputs]:
            same.update(zip(node.outputs, twin.outputs))
            yield node, twin, inputs


def _is_told_by_equality(node):
    """Whether an operation is in the lists above, and is as its class defines it."""
    dtypes = {getattr(x.type, "dtype", None) for x in [*node.inputs, *node.outputs]} - {None}
    if not dtypes <= _FLOATS | _WHOLE:
        return False
    if not _is_in(_ARRAYS, node.op):
        return _is_in(_OF_WHOLE_NUMBERS, node.op) and all(x.dtype in _WHOLE for x in node.outputs)
    return type(node.op).__name__ != "Elemwise" or _is_in(_SCALARS, node.op.scalar_op)


def _is_in(table, op):
    return type(op).__name__ in table.get(type(op).__module__, "").split() and is_theanos(op)
