"""Updates in one pass: the same numbers as without it."""

from collections import Counter

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import pytest
import theano
import theano.tensor as T

LINKER = "c|py" if theano.config.cxx else "vm"
MODE = theano.Mode(linker=LINKER, optimizer="fast_run")
EACH_BY_ITSELF = MODE.excluding("updates_in_one_pass")

#: How many results the one operation for a parameter has.
OPTIMISERS = {"sgd": 1, "momentum": 2, "nesterov_momentum": 2, "adagrad": 2, "rmsprop": 2,
              "adam": 3, "adadelta": 2}


def results_of_loops(function):
    """How many operations have how many results."""
    return Counter(len(node.outputs) for node in function.maker.fgraph.apply_nodes
                   if isinstance(node.op, T.Elemwise))


def trained(optimiser, mode):
    """A function of a step, and the state after three of them."""
    rng = np.random.RandomState(0)
    x = T.matrix()
    parameters = [theano.shared(rng.randn(*shape).astype("float32"))
                  for shape in [(6, 5), (5,), (5, 3), (1, 3)]]
    hidden = T.tanh(T.dot(x, parameters[0]) + parameters[1])
    loss = T.sqr(T.dot(hidden, parameters[2]) + T.addbroadcast(parameters[3], 0) - 1).mean()
    updates = getattr(lasagne.updates, optimiser)(loss, parameters, learning_rate=0.1)
    step = theano.function([x], loss, updates=updates, mode=mode)
    losses = [step(rng.randn(4, 6).astype("float32")) for _ in range(3)]
    return step, [*losses, *(state.get_value() for state in updates)]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_parameter_and_its_moments_are_updated_at_once(optimiser):
    step, state = trained(optimiser, MODE)
    if OPTIMISERS[optimiser] > 1:
        assert results_of_loops(step)[OPTIMISERS[optimiser]] == 4
    for node in step.maker.fgraph.apply_nodes:
        if isinstance(node.op, T.Elemwise) and len(node.outputs) > 1:
            assert len(node.op.inplace_pattern) == len(node.outputs), "memory is not used again"
    without, expected = trained(optimiser, EACH_BY_ITSELF)
    assert set(results_of_loops(without)) == {1}
    for value, by_itself in zip(state, expected):
        np.testing.assert_allclose(value, by_itself, rtol=1e-5, atol=1e-6)


def random_program(rng):
    """Shared variables, and updates of them that have intermediate results in common."""
    shared = [theano.shared(rng.randn(3, 3).astype("float32")) for _ in range(4)]
    shared.append(theano.shared(rng.randn(3).astype("float32")))
    known = list(shared)

    def one():
        return known[rng.randint(len(known))]

    makers = [lambda: one() + one(), lambda: one() * one(), lambda: T.tanh(one()),
              lambda: T.dot(T.tanh(shared[rng.randint(4)] + one()), one()),
              lambda: one() - one().mean(), lambda: T.sqr(one()) + 0.5 * one(),
              lambda: T.switch(one() > 0, one(), one()), lambda: one()[::-1]]
    for _ in range(12):
        known.append(T.clip(makers[rng.randint(len(makers))](), -3, 3))
    updates = []
    for variable in shared:
        new = [x for x in known[len(shared):] if x.ndim == variable.ndim]
        if new:
            updates.append((variable, new[rng.randint(len(new))]))
    return shared, updates, one()


@pytest.mark.parametrize("seed", range(30))
def test_any_updates(seed):
    """Of graphs where one update needs another, by a way that is no loop, or shares its parts."""
    states, merged = [], 0
    for optimizer in [theano.Mode(linker="py"),
                      theano.Mode(linker="py").excluding("updates_in_one_pass")]:
        shared, updates, result = random_program(np.random.RandomState(seed))
        step = theano.function([], result, updates=updates, mode=optimizer)
        merged += sum(count for results, count in results_of_loops(step).items() if results > 1)
        states.append([step() for _ in range(2)] + [x.get_value() for x in shared])
    for value, expected in zip(*states):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda a, b, c, d: [(a, T.tanh(a)), (b, a * T.dot(T.tanh(a), c))],
    lambda a, b, c, d: [(a, T.tanh(a)), (b, a * T.dot(T.tanh(c), d)),
                        (c, c * T.dot(T.tanh(a), d)), (d, T.tanh(c))]],
    ids=["one needs the other", "two pairs need one another"])
def test_what_can_not_be_one(make):
    states = []
    for mode in [MODE, EACH_BY_ITSELF]:
        rng = np.random.RandomState(0)
        shared = [theano.shared(rng.randn(3, 3).astype("float32")) for _ in range(4)]
        theano.function([], updates=make(*shared), mode=mode)()
        states.append([x.get_value() for x in shared])
    for value, expected in zip(*states):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
