"""What an optimiser does to a parameter and its moments, in one pass over their memory.

Theano fuses an elementwise operation with another only if nothing else wants
its result. Adam's three updates of a parameter share their arguments and
intermediate results, and all are wanted: Theano makes three loops of them,
and more of momentum's. Here they become one operation with several results.
"""

from theano_compat.hooks import Speed, around_import, replace

_MOST_OPERANDS = 31  # NumPy takes no more
_FLOATS = {"float32", "float64"}


@around_import("theano.scalar.basic", "theano.tensor.opt", speed=Speed(
    acts_on="new values of shared variables of float32 or float64, of one shape, computed from "
            "such arrays by elementwise operations of Theano's own",
    brings="VAE, 1024 units 1.08",
    edge="tests/compat/test_fuse_updates.py::test_what_is_not_joined"))
def fuse_shared_updates(module):
    """Compute a parameter's update in one loop with those of its optimiser's moments."""
    yield
    if module.__name__ == "theano.scalar.basic":
        _store_results_at_the_end(module.Composite)
    else:
        _register(module.compile.optdb)


def _store_results_at_the_end(composite_class):
    """Store several results of a fused operation only when all have been computed.

    A result may overwrite an argument that another result is computed from.
    """
    @replace(composite_class)
    def c_code(self, node, nodename, inames, onames, sub):
        if len(onames) == 1:
            return c_code.original(self, node, nodename, inames, onames, sub)
        results = [f"{nodename}_result{i}" for i in range(len(onames))]
        declared = [f"{of.dtype_specs()[1]} {result};"
                    for of, result in zip(self.outputs_type, results)]
        stored = [f"{output} = {result};" for output, result in zip(onames, results)]
        computed = c_code.original(self, node, nodename, inames, results, sub)
        return "\n".join(["{", *declared, computed, *stored, "}"])

    @replace(composite_class)
    def c_code_cache_version(self):
        version = c_code_cache_version.original(self)
        return (*version, "results at the end") if version and self.nout > 1 else version


def _register(optdb):
    from theano.compile import SharedVariable
    from theano.gof import InconsistencyError, Optimizer, toolbox
    from theano.gof.utils import MethodNotDefined
    from theano.scalar import Composite, get_scalar_type
    from theano.tensor import Elemwise

    def is_theanos(scalar_op):
        if type(scalar_op) is Composite:
            return all(is_theanos(node.op) for node in scalar_op.fgraph.apply_nodes)
        return type(scalar_op).__module__.startswith("theano.")

    def is_loop(node):
        return (type(node.op) is Elemwise and len(node.outputs) == 1
                and not node.op.inplace_pattern and is_theanos(node.op.scalar_op)
                and _FLOATS.issuperset(x.dtype for x in [*node.inputs, *node.outputs]))

    def joined(nodes):
        """Return the results of these nodes that others want, and what computes them at once."""
        values, scalar = {}, {}
        for node in nodes:
            for x in node.inputs:
                if x not in scalar:
                    scalar[x] = values[x] = get_scalar_type(x.dtype)()
            scalar[node.outputs[0]] = _on_scalars(
                node.op.scalar_op, [scalar[x] for x in node.inputs], Composite)
        wanted = [node.outputs[0] for node in nodes
                  if any(client not in nodes for client, _ in node.outputs[0].clients)]
        if len(values) + len(wanted) > _MOST_OPERANDS:
            return None
        composite = Composite(list(values.values()), [scalar[x] for x in wanted])
        try:
            inner = composite.make_node(*values.values())
            composite.c_code(inner, "name", ["x"] * len(values), ["z"] * len(wanted), {"fail": ""})
        except (MethodNotDefined, NotImplementedError):  # one of them has no C
            return None
        return list(zip(wanted, Elemwise(composite)(*values, return_list=True)))

    class UpdatesInOnePass(Optimizer):
        def add_requirements(self, fgraph):
            fgraph.attach_feature(toolbox.ReplaceValidate())

        def apply(self, fgraph):
            # Of shared variables alone: Scan's inner function has updates, too, and each must take
            # the place of its own input, since Scan overwrites the others.
            updates = {fgraph.outputs[output].owner
                       for output, updated in (fgraph.update_mapping or {}).items()
                       if isinstance(fgraph.inputs[updated], SharedVariable)}
            order = fgraph.toposort()
            loops = [node for node in order if node in updates and is_loop(node)]
            for nodes in list(_groups(loops, is_loop, _Order(order))):
                replacements = joined(nodes)
                if replacements:
                    try:
                        fgraph.replace_all_validate(replacements, reason="fuse_shared_updates")
                    except InconsistencyError:  # the program overwrites some of it by itself
                        pass

    # After the fusion of others, before the first that overwrites its arguments.
    optdb.register("fuse_shared_updates", UpdatesInOnePass(), 49.1, "fast_run", "fusion")


def _on_scalars(scalar_op, inputs, composite):
    """Return the one result of an operation; of a fused one, that of its parts."""
    if not isinstance(scalar_op, composite):
        return scalar_op(*inputs)
    from theano.gof.graph import clone_get_equiv
    fused = scalar_op.fgraph
    known = clone_get_equiv(fused.inputs, fused.outputs, copy_inputs=False, copy_orphans=False,
                            memo=dict(zip(fused.inputs, inputs)))
    return known[fused.outputs[0]]


def _groups(loops, is_loop, order):
    """Yield lists of elementwise operations that may be one.

    Their results have the same shape: they have an argument in common that is not broadcast, or
    one is an argument of another, and in Theano lengths differ only where a type says so.

    Parameters
    ----------
    loops : list of Apply
        The operations to begin with, in their order.
    is_loop : callable
        Tells whether a node may be added to them, if it makes an argument that they alone want.
    order : _Order
        Of all nodes.
    """
    loops = list(loops)
    while loops:
        group = {loops.pop(0)}
        pattern = _pattern(*group)
        for node in list(loops):
            known = {x for member in group for x in [*member.inputs, *member.outputs]}
            if (_pattern(node) == pattern and order.allows(group | {node})
                    and any(x in known and x.broadcastable == pattern for x in node.inputs)):
                group.add(node)
                loops.remove(node)
        if len(group) == 1:
            continue
        waiting = list(group)
        while waiting:
            for x in waiting.pop().inputs:
                if (x.owner and x.owner not in group and is_loop(x.owner)
                        and x.broadcastable == pattern
                        and all(client in group for client, _ in x.clients)
                        and order.allows(group | {x.owner})):
                    group.add(x.owner)
                    waiting.append(x.owner)
        order.join(group)
        yield sorted(group, key=order.place)


def _pattern(node):
    return node.outputs[0].broadcastable


class _Order:
    """Which nodes are computed before others, as bits of integers."""

    def __init__(self, nodes):
        self._bit = {node: 1 << place for place, node in enumerate(nodes)}
        self._before = {}
        for node in nodes:
            self._before[node] = self._all(x.owner for x in node.inputs if x.owner)

    def _all(self, nodes):
        """Nodes and what comes before them."""
        bits = 0
        for node in nodes:
            bits |= self._bit[node] | self._before[node]
        return bits

    def place(self, node):
        return self._bit[node]

    def allows(self, group):
        """Whether no way leads from one of these nodes to another through one that is not."""
        bits = sum(self._bit[node] for node in group)
        return not any(x.owner and x.owner not in group and self._before[x.owner] & bits
                       for node in group for x in node.inputs)

    def join(self, group):
        """From now on what comes after one of these nodes comes after all of them."""
        bits, joined = sum(self._bit[node] for node in group), self._all(group)
        for node, before in self._before.items():
            if (before | self._bit[node]) & bits:
                self._before[node] |= joined
