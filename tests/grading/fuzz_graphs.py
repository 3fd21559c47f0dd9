"""A fuzzer for graphs as data, which is run by hand.

    python tests/grading/fuzz_graphs.py [SECONDS]

It changes a few values at a time in the texts of real graphs, and loads the results. A text must
either be a graph, or be refused with `Mistake`. While a text is read, nothing may be executed,
opened or started, and the memory must stay within the bounds that `vae_grading.graphs` states.
"""

import json
import random
import resource
import sys
import time

import vae

import lasagne
import numpy as np
import theano
import theano.tensor as T
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.shared_randomstreams import RandomStreams

from vae.checks import Mistake
from vae_grading.graphs.operations import OPERATION_CLASSES, SCALARS
from vae_grading.graphs import dump_graph, load_graph

#: Python's audit events of code that runs, files that are opened, and processes that start.
_FORBIDDEN = ("exec", "compile", "open", "os.", "subprocess.", "socket.", "ctypes.", "import",
              "shutil.", "tempfile.", "pickle.")
_WORDS = [None, True, False, 0, 1, -1, 2, 3, 31, 64, 2**31, -2**63, 10**30, 0.5, -0.0, 1e308, "",
          "x", "float32(00)", "float64()", "scalar int64", "none", "slice", "random state", "input",
          "constant", "shared", "apply", "__class__", "c_code", 'system("touch evil");', "\x00",
          "\ud800", [], {}, [[]], [0], {"variable": 0}]


def seeds():
    """Texts of real graphs with many operations."""
    x, i = T.matrix("x"), T.lvector("i")
    image = T.tensor4("image")
    layer = lasagne.layers.DenseLayer(lasagne.layers.InputLayer((None, 1, 2, 2), image), 3)
    heads = [lasagne.layers.DenseLayer(layer, 2, nonlinearity=nonlinearity)
             for nonlinearity in (None, T.nnet.softplus)]
    q = vae.MultivariateNormalDiag(*lasagne.layers.get_output(heads))
    z = q.sample()
    elbo = T.mean(q.log_prob(z))
    w = theano.shared(np.ones((3, 2), "float32"), "w")
    yield dict(elbo=elbo, params=lasagne.layers.get_all_params(heads)[-2:])
    yield dict(x=x, y=[T.nnet.softmax(x), x[i], x[1:, ::2], T.sort(x), x.sum(axis=0), T.dot(x, w)],
               steps=[list(step) for step in lasagne.updates.adam(T.sum(T.dot(x, w)), [w]).items()])
    yield dict(y=theano.scan(lambda row, s: T.tanh(s + row), x, T.zeros_like(x[0]))[0])
    yield dict(y=[MRG_RandomStreams(1).normal((2, 3)), RandomStreams(1).uniform((2,)),
                  RandomStreams(1).permutation(n=4)])
    layer = lasagne.layers.InputLayer((2, 1, 8, 8), image)
    layer = lasagne.layers.MaxPool2DLayer(lasagne.layers.Conv2DLayer(layer, 2, 3), 2)
    y = lasagne.layers.get_output(layer)
    yield dict(y=[y, T.grad(T.sum(y), image)], n=3, text="→", nested={"a": [1, None]})


def paths(value, path=()):
    """Yield the path of every value in a text: the keys that lead to it."""
    yield path
    if isinstance(value, dict):
        items = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def at(data, path):
    """Return the value at a path."""
    for key in path:
        data = data[key]
    return data


def copied(value):
    return json.loads(json.dumps(value))


def change(data, choose):
    """Change one value of a text in place."""
    *folders, last = choose.choice([path for path in paths(data) if path] or [(None,)])
    if last is None:  # the text is empty
        return
    container = at(data, folders)
    change_number = choose.randrange(6)
    if change_number == 0:
        del container[last]
    elif change_number == 1 and isinstance(container, list):
        container.insert(last, copied(choose.choice(container)))
    elif change_number == 2:
        container[last] = copied(at(data, choose.choice(list(paths(data)))))
    elif change_number == 3 and isinstance(container[last], int):
        container[last] += choose.choice([-1, 1, 2, 10**9])
    elif change_number == 4:
        container[last] = choose.choice([*OPERATION_CLASSES, *SCALARS])
    else:
        container[last] = copied(choose.choice(_WORDS))


class Watch:
    """Records forbidden audit events while it is on."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event.startswith(_FORBIDDEN) and not self._is_theanos_own(event, arguments):
            self.seen.append((event, str(arguments)[:200]))

    @staticmethod
    def _is_theanos_own(event, arguments):
        # Theano imports some modules when an operation is first made. It also evaluates small
        # constants; theano_compat compiles a Python function for that ("<expression>").
        return event == "import" or event in ("open", "exec", "compile", "os.listdir") and (
            ".py" in str(arguments) or "code object <module>" in str(arguments)
            or "site-packages" in str(arguments) or "lib/python" in str(arguments)
            or "<expression>" in str(arguments))


def fuzz(seconds=None, examples=None, seed=0):
    """Return how many texts were tried, how many were graphs, and the memory taken in MB.

    Raises
    ------
    AssertionError
        If reading a text ran code or took too much memory.
    """
    choose, watch = random.Random(seed), Watch()
    texts = [dump_graph(graph) for graph in seeds()]
    for text in texts:
        load_graph(text)
    start, tried, loaded = time.monotonic(), 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while (tried < examples if examples else time.monotonic() - start < seconds):
        data = json.loads(choose.choice(texts))
        for _ in range(choose.choice([1, 1, 1, 2, 3, 10])):
            change(data, choose)
        text = json.dumps(data)
        watch.on = True
        try:
            load_graph(text)
            loaded += 1
        except Mistake:
            pass
        finally:
            watch.on = False
        if watch.seen:
            raise AssertionError(f"{watch.seen}: {text[:2000]}")
        tried += 1
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if used > 800:
        raise AssertionError(f"{used:.0f} MB were taken")
    return tried, loaded, used


if __name__ == "__main__":
    total = float(sys.argv[1]) if sys.argv[1:] else 600.
    tried, loaded, used = fuzz(seconds=total, seed=time.time_ns())
    print(f"{tried} texts in {total:.0f} s, {loaded} of them graphs: nothing executed, opened or "
          f"started, no error but Mistake, {used:.0f} MB more at the peak")
