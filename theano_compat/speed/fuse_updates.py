"""A patch that updates a parameter and the moments of its optimiser in one pass over their memory.

Theano fuses an elementwise operation with the operation that uses its result, but only if nothing
else uses this result. The updates of a parameter share arguments and intermediate results, and all
their results are used. So Theano computes each update in a separate loop. This patch replaces them
by one elementwise operation with several results. With Adam, for a parameter p and its gradient g::

    three loops                     one loop

    m, g      ->  new m
    v, g      ->  new v             p, m, v, g  ->  new p, new m, new v
    p, m, v, g  ->  new p

Below, such a set of operations is called a group.
"""

from theano_compat.hooks import Speed, around_import, replace

_MAX_OPERANDS = 31  # arguments and results of one operation; this is NumPy's limit
_FLOATS = {"float32", "float64"}


@around_import("theano.scalar.basic", "theano.tensor.opt", speed=Speed(
    acts_on="new values of shared variables of float32 or float64, of one shape, computed from "
            "such arrays by elementwise operations of Theano's own",
    brings="VAE, 1024 units 1.08",
    edge="tests/compat/test_fuse_updates.py::test_what_is_not_joined"))
def fuse_shared_updates(module):
    """Compute the update of a parameter and of its optimiser's moments in one loop."""
    yield
    if module.__name__ == "theano.scalar.basic":
        _store_results_at_the_end(module.Composite)
    else:
        _register(module.compile.optdb)


def _store_results_at_the_end(composite_class):
    """Store the results of a fused operation only when all of them have been computed.

    A result may overwrite an argument from which another result is computed.
    """
    @replace(composite_class)
    def c_code(self, node, nodename, inames, onames, sub):
        if len(onames) == 1:
            return c_code.original(self, node, nodename, inames, onames, sub)
        results = [f"{nodename}_result{i}" for i in range(len(onames))]
        declared = [f"{scalar_type.dtype_specs()[1]} {result};"
                    for scalar_type, result in zip(self.outputs_type, results)]
        stored = [f"{output} = {result};" for output, result in zip(onames, results)]
        computed = c_code.original(self, node, nodename, inames, results, sub)
        return "\n".join(["{", *declared, computed, *stored, "}"])

    @replace(composite_class)
    def c_code_cache_version(self):
        version = c_code_cache_version.original(self)
        return (*version, "results at the end") if version and self.nout > 1 else version


def _register(optdb):
    """Fuse updates after Theano's own fusion, and before optimisations that overwrite arguments."""
    from theano.gof.opt import FromFunctionOptimizer
    optimizer = FromFunctionOptimizer(_fuse_updates, [_let_replacements_be_validated])
    optimizer.__name__ = "fuse_shared_updates"  # Theano prints it
    optdb.register("fuse_shared_updates", optimizer, 49.1, "fast_run", "fusion")


def _let_replacements_be_validated(fgraph):
    from theano.gof.toolbox import ReplaceValidate
    fgraph.attach_feature(ReplaceValidate())


def _fuse_updates(fgraph):
    """Replace the nodes of each group in a graph by one node.

    Only updates of shared variables are considered. The inner function of Scan also has updates,
    but each of these must overwrite its own input, because Scan overwrites the other inputs.
    """
    from theano.compile import SharedVariable
    from theano.gof import InconsistencyError
    updates = {fgraph.outputs[output].owner
               for output, updated in (fgraph.update_mapping or {}).items()
               if isinstance(fgraph.inputs[updated], SharedVariable)}
    nodes = fgraph.toposort()
    loops = [node for node in nodes if node in updates and _is_loop(node)]
    for group in list(_groups(loops, _Order(nodes))):
        replacements = _fused(group)
        if replacements:
            try:
                fgraph.replace_all_validate(replacements, reason="fuse_shared_updates")
            except InconsistencyError:  # an operation of the program overwrites an argument
                pass


def _is_loop(node):
    """Return whether a node is an elementwise operation of Theano on floats with one result."""
    from theano.tensor import Elemwise
    return (type(node.op) is Elemwise and len(node.outputs) == 1
            and not node.op.inplace_pattern and _is_theanos(node.op.scalar_op)
            and _FLOATS.issuperset(x.dtype for x in [*node.inputs, *node.outputs]))


def _is_theanos(scalar_op):
    """Return whether an operation, or every part of a fused operation, is defined in Theano."""
    from theano.scalar import Composite
    if type(scalar_op) is Composite:
        return all(_is_theanos(node.op) for node in scalar_op.fgraph.apply_nodes)
    return type(scalar_op).__module__.startswith("theano.")


def _fused(group):
    """Return the results of a group that are used outside it, with their replacements.

    Parameters
    ----------
    group : list of theano.gof.Apply
        Elementwise operations in topological order.

    Returns
    -------
    list of pairs of variables, or None
        Pairs of a result and its replacement. All replacements are results of the same node. None
        if this node would have too many operands, or if an operation has no C code.
    """
    from theano.gof.utils import MethodNotDefined
    from theano.scalar import Composite, get_scalar_type
    from theano.tensor import Elemwise
    arguments = {}  # maps each argument of the group to a scalar, which stands for its elements
    scalars = {}  # the same for all variables of the group
    for node in group:
        for x in node.inputs:
            if x not in scalars:
                scalars[x] = arguments[x] = get_scalar_type(x.dtype)()
        scalars[node.outputs[0]] = _on_scalars(node.op.scalar_op, [scalars[x] for x in node.inputs])
    results = [node.outputs[0] for node in group
               if any(client not in group for client, _ in node.outputs[0].clients)]
    if len(arguments) + len(results) > _MAX_OPERANDS:
        return None
    composite = Composite(list(arguments.values()), [scalars[x] for x in results])
    try:
        node = composite.make_node(*arguments.values())
        composite.c_code(node, "name", ["x"] * len(arguments), ["z"] * len(results), {"fail": ""})
    except (MethodNotDefined, NotImplementedError):
        return None
    return list(zip(results, Elemwise(composite)(*arguments, return_list=True)))


def _on_scalars(scalar_op, inputs):
    """Return the result of a scalar operation. A fused operation is replaced by its parts."""
    from theano.gof.graph import clone_get_equiv
    from theano.scalar import Composite
    if not isinstance(scalar_op, Composite):
        return scalar_op(*inputs)
    inner = scalar_op.fgraph
    copies = clone_get_equiv(inner.inputs, inner.outputs, copy_inputs=False, copy_orphans=False,
                             memo=dict(zip(inner.inputs, inputs)))
    return copies[inner.outputs[0]]


def _groups(loops, order):
    """Yield lists of elementwise operations that can be computed by one operation.

    All their results have the same shape. This is known if two operations have a common argument
    that is not broadcast, or if the result of one operation is such an argument of another. In
    Theano, the arguments of an elementwise operation have equal lengths, except in dimensions that
    are broadcast according to their types. An example is a group of a parameter p and its velocity
    v, where f and h are updates, and only f uses the result of e::

        before                              after

        e(g)     = 0.1 * g
        f(v, e)  = 0.9 * v - e  -> new v    (e, f, h)(g, v, p)  -> new v, new p
        h(p, f)  = p + f        -> new p

    Parameters
    ----------
    loops : list of theano.gof.Apply
        The updates, in topological order.
    order : _Order
        The order of all nodes of the graph.
    """
    remaining = list(loops)
    while remaining:
        group = _take_updates_of_one_shape(remaining, order)
        if len(group) > 1:
            _add_private_arguments(group, order)
            order.make_one(group)
            yield sorted(group, key=order.place)


def _take_updates_of_one_shape(loops, order):
    """Remove the first node and all nodes that fit it from a list; return them as a set."""
    group = {loops.pop(0)}
    pattern = _pattern(*group)
    for node in list(loops):
        variables = {x for member in group for x in [*member.inputs, *member.outputs]}
        if (_pattern(node) == pattern and order.can_be_one(group | {node})
                and any(x in variables and x.broadcastable == pattern for x in node.inputs)):
            group.add(node)
            loops.remove(node)
    return group


def _add_private_arguments(group, order):
    """Add nodes to a group if only the group uses their results, which have the same shape."""
    pattern = _pattern(next(iter(group)))
    unvisited = list(group)
    while unvisited:
        for x in unvisited.pop().inputs:
            if (x.owner and x.owner not in group and _is_loop(x.owner)
                    and x.broadcastable == pattern
                    and all(client in group for client, _ in x.clients)
                    and order.can_be_one(group | {x.owner})):
                group.add(x.owner)
                unvisited.append(x.owner)


def _pattern(node):
    return node.outputs[0].broadcastable


class _Order:
    """The partial order of the nodes of a graph: a node must be computed after its ancestors.

    Sets of nodes are integers, in which bit i stands for node number i. Graphs have thousands of
    nodes with hundreds of ancestors each, and the union of such sets is a single operation.

    Parameters
    ----------
    nodes : list of theano.gof.Apply
        All nodes, in topological order.
    """

    def __init__(self, nodes):
        self._bit = {node: 1 << number for number, node in enumerate(nodes)}
        self._ancestors = {}
        for node in nodes:
            self._ancestors[node] = self._with_ancestors(x.owner for x in node.inputs if x.owner)

    def _with_ancestors(self, nodes):
        """Return the set of these nodes and all their ancestors, as an integer."""
        bits = 0
        for node in nodes:
            bits |= self._bit[node] | self._ancestors[node]
        return bits

    def place(self, node):
        """Return a key for sorting nodes."""
        return self._bit[node]

    def can_be_one(self, group):
        """Return whether a group can be computed by one node.

        It cannot if a path leads from a node of the group out of the group and back into it. In
        ``a -> b -> c``, for example, a and c cannot become one node, because b needs the result of
        a, and c needs the result of b.
        """
        members = sum(self._bit[node] for node in group)
        arguments = {x.owner for node in group for x in node.inputs if x.owner}
        return not any(self._ancestors[node] & members for node in arguments - group)

    def make_one(self, group):
        """Record that a group becomes one node: all its descendants depend on all its nodes."""
        members, with_ancestors = sum(self._bit[node] for node in group), self._with_ancestors(group)
        for node, ancestors in self._ancestors.items():
            if (ancestors | self._bit[node]) & members:
                self._ancestors[node] |= with_ancestors
