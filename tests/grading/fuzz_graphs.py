"""A fuzzer of graphs as data: run it by hand, for as long as you like.

    python tests/grading/fuzz_graphs.py [SECONDS]

It changes the texts of real graphs, a few values at a time, and loads what comes out.  A text either
is a graph or is refused by `Mistake`; while it is read nothing is executed, opened or started, and
no more memory is taken than the module says.
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

#: What Python tells of when code runs, a file is opened, or a process starts.
_FORBIDDEN = ("exec", "compile", "open", "os.", "subprocess.", "socket.", "ctypes.", "import",
              "shutil.", "tempfile.", "pickle.")
_WORDS = [None, True, False, 0, 1, -1, 2, 3, 31, 64, 2**31, -2**63, 10**30, 0.5, -0.0, 1e308, "", "x",
          "float32(00)", "float64()", "scalar int64", "none", "slice", "random state", "input",
          "constant", "shared", "apply", "__class__", "c_code", 'system("touch evil");', "\x00",
          "\ud800", [], {}, [[]], [0], {"variable": 0}]


def seeds():
    """Texts of real graphs with many operations."""
    x, i = T.matrix("x"), T.lvector("i")
    image = T.tensor4("image")
    layer = lasagne.layers.DenseLayer(lasagne.layers.InputLayer((None, 1, 2, 2), image), 3)
    heads = [lasagne.layers.DenseLayer(layer, 2, nonlinearity=one)
             for one in (None, T.nnet.softplus)]
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


def places(value, way=()):
    """Every place in a text, as the keys that lead there."""
    yield way
    for key, one in (value.items() if isinstance(value, dict) else
                     enumerate(value) if isinstance(value, list) else ()):
        yield from places(one, (*way, key))


def change(data, choose):
    """Change one value: for another of the text's own, for an odd one, or for none at all."""
    *way, last = choose.choice([place for place in places(data) if place] or [(None,)])
    if last is None:  # nothing is left of it
        return
    one = data
    for key in way:
        one = one[key]
    kind = choose.randrange(6)
    if kind == 0:
        del one[last]
    elif kind == 1 and isinstance(one, list):
        one.insert(last, json.loads(json.dumps(choose.choice(one))))
    elif kind == 2:
        other = data
        for key in choose.choice(list(places(data))):
            other = other[key]
        one[last] = json.loads(json.dumps(other))
    elif kind == 3 and isinstance(one[last], int):
        one[last] += choose.choice([-1, 1, 2, 10**9])
    elif kind == 4:
        name = choose.choice([*OPERATION_CLASSES, *SCALARS])
        one[last] = name
    else:
        one[last] = json.loads(json.dumps(choose.choice(_WORDS)))


class Watch:
    """Counts what Python tells of while it is on."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event.startswith(_FORBIDDEN) and not self._is_theanos_own(event, arguments):
            self.seen.append((event, str(arguments)[:200]))

    @staticmethod
    def _is_theanos_own(event, arguments):
        # Theano imports some of its modules when an operation is first made, and evaluates small
        # constants, for which theano_compat writes a function of NumPy's ufuncs ("<expression>").
        return event == "import" or event in ("open", "exec", "compile", "os.listdir") and (
            ".py" in str(arguments) or "code object <module>" in str(arguments)
            or "site-packages" in str(arguments) or "lib/python" in str(arguments)
            or "<expression>" in str(arguments))


def fuzz(seconds=None, examples=None, seed=0):
    """Return how many texts were tried and how many were graphs; raise if one was neither."""
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
