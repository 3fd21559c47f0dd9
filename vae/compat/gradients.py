"""The gradient of what is written twice, taken once.

Lasagne's ``get_output`` writes a network anew at each call: whoever asks for an encoder's two
outputs one after the other has the layers below them twice.  Theano computes them once, for it
finds equal operations when it compiles.  But by then each of the two has a gradient of its own,
with matrix products of its own.  Here they have one, and the products are fewer.
"""

from collections import OrderedDict

from vae.compat.hooks import around_import


@around_import("theano.gradient")
def equal_operations_derived_once(gradient):
    """Add up what comes back to equal operations before it goes on to their arguments."""
    yield
    from theano.gof.graph import Constant, io_toposort
    find = gradient._populate_var_to_app_to_idx

    def twins(outputs, apart):
        """Yield each operation that has an equal one before it, that one, and their arguments."""
        first, same = {}, {}
        for node in io_toposort([], outputs):
            inputs = [same.setdefault(x.merge_signature(), x)
                      if isinstance(x, Constant) and x not in apart else same.get(x, x)
                      for x in node.inputs]
            if apart.intersection(node.outputs):
                continue
            twin = first.setdefault((node.op, *inputs), node)
            if twin is not node and [x.type for x in node.outputs] == [
                    x.type for x in twin.outputs]:
                same.update(zip(node.outputs, twin.outputs))
                yield node, twin, inputs

    def _populate_var_to_app_to_idx(outputs, wrt, consider_constant):
        """The operations that want a variable's gradient, and as which of their arguments."""
        clients = find(outputs, wrt, consider_constant)

        def add(x, client, places):
            known = clients.setdefault(x, OrderedDict()).setdefault(client, [])
            known.extend(place for place in places if place not in known)

        # A variable of which something special was said is not another, even if it is equal.
        apart = {*outputs, *wrt, *(consider_constant or ())}
        for node, twin, inputs in twins(outputs, apart):
            for x in inputs:
                if places := clients.get(x, {}).pop(node, None):
                    add(x, twin, places)
            for mine, its in zip(node.outputs, twin.outputs):
                for client, places in clients.pop(mine, {}).items():
                    add(its, client, places)
        return clients

    gradient._populate_var_to_app_to_idx = _populate_var_to_app_to_idx
