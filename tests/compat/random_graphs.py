"""Random graphs: the programs of `fuzz_numbers.py`.

`part_of` makes a part of a program with one of the functions in `KINDS`. The numbers of the program
and of the part determine all choices and the values of the inputs.
"""

from typing import NamedTuple

import vae  # noqa: F401  before Theano

import lasagne
import numpy as np
import theano
import theano.tensor as T
from theano import gradient
from theano.gof.utils import MethodNotDefined
from theano.ifelse import ifelse
from theano.sandbox.rng_mrg import MRG_RandomStreams
from theano.tensor.shared_randomstreams import RandomStreams
from theano.tensor.signal.pool import pool_2d

#: How many parts a program has.
PARTS = 10

FLOATS, COMPLEX = ("float16", "float32", "float64"), ("complex64", "complex128")
SIGNED, UNSIGNED = ("int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64")


class Part(NamedTuple):
    """Expressions of one kind."""

    #: Pairs: a variable and its two values.
    inputs: list
    outputs: list
    #: Pairs: a shared variable and its new value.
    updates: list


class Dice:
    """Makes the random choices of a part, and its inputs."""

    def __init__(self, *seed):
        self.random = np.random.RandomState(seed)
        self.inputs = []
        self._lengths = {} if self.chance(0.4) else None

    def pick(self, things):
        """Return one of these."""
        return things[self.random.randint(len(things))]

    def several(self, things, most):
        """Return up to `most` of these, possibly with repetitions."""
        return [self.pick(things) for _ in range(self.whole(1, most))]

    def chance(self, probability):
        return self.random.rand() < probability

    def whole(self, least, most):
        return int(self.random.randint(least, most + 1))

    def resized(self, shape):
        """Return a shape for the second call: in some parts lengths of 3 and more change.

        Equal lengths stay equal, so that arrays of equal shapes still have equal shapes.
        """
        if self._lengths is None:
            return shape
        return tuple(n if n < 3 else self._lengths.setdefault(n, n + self.pick([-1, 1, 2, 5]))
                     for n in shape)

    def shape(self, most_dims=4, elements=(0, 1, 7, 7, 60, 60, 300, 300, 300, 300, 5000, 40000)):
        """Return lengths whose product is about one of the numbers `elements`."""
        n_dims, remaining = self.whole(0, most_dims), self.pick(elements)
        shape = []
        for dim in range(n_dims):
            is_last = dim == n_dims - 1
            length = remaining if is_last else min(remaining, self.pick([1, 2, 3, 7, 16, 33]))
            shape.append(length)
            remaining = remaining // max(length, 1) if remaining else self.pick([0, 2])
        return tuple(self.random.permutation(shape).tolist())

    def array(self, dtype, shape, odd=0.):
        """Return random values, a share `odd` of them special: nan, infinity, zeros, denormals."""
        random, letter = self.random, np.dtype(dtype).kind
        if letter == "b":
            return np.asarray(random.rand(*shape) < 0.5)
        if letter in "iu":
            values = np.asarray(random.randint(-60 if letter == "i" else 0, 61, shape), dtype)
            strange = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1], dtype)
        else:
            values = np.asarray(random.standard_normal(shape))
            if letter == "c":
                values = values + 1j * random.standard_normal(shape)
            values = np.asarray(values * self.pick([1, 1, 1, 0.01, 30]), dtype)
            info = np.finfo(dtype)
            strange = np.array([np.nan, np.inf, -np.inf, 0., -0., 1., -1., info.tiny,
                                info.tiny / 16, -info.tiny / 4, info.max], info.dtype)
        if odd:
            values = np.where(random.rand(*shape) < odd, strange[random.randint(
                len(strange), size=shape)].astype(dtype), values)
        return values

    def laid_out(self, values):
        """Return the same values in a random memory layout."""
        axis = self.random.randint(max(values.ndim, 1))
        way = self.pick(["plain", "plain", "strided", "reversed", "Fortran", "swapped",
                         "read-only"])
        if way == "read-only" or not values.ndim:
            values = values.copy()
            values.flags.writeable = way != "read-only"
        elif way == "Fortran":
            values = np.asfortranarray(values)
        elif way == "strided":
            values = np.repeat(values, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        elif way == "reversed":
            values = np.flip(np.flip(values, axis).copy(), axis)
        elif way == "swapped":
            values = values.swapaxes(0, axis).copy().swapaxes(0, axis)
        return values

    def given(self, *values, broadcastable=None):
        """Return a new input with these values, one for the first call and one for the second."""
        value = values[0]
        tensor_type = T.TensorType(value.dtype.name, broadcastable or [False] * value.ndim)
        variable = tensor_type(f"x{len(self.inputs)}")
        self.inputs.append((variable, [self.laid_out(value) for value in values]))
        return variable

    def tensor(self, dtype, shape, odd=0., resized=None):
        """Return a new input, at times with odd values; `resized` is its shape in the second call."""
        odd = odd if self.chance(0.5) else 0.
        return self.given(self.array(dtype, shape, odd), self.array(dtype, resized or shape, odd),
                          broadcastable=[n == 1 and self.chance(0.5) for n in shape])

    def varying(self, dtype, shape, odd=0.):
        """Return a new input whose shape in the second call is ``self.resized(shape)``."""
        return self.tensor(dtype, shape, odd, self.resized(shape))

    def for_scan(self, dtype, *shape):
        """The same, but no length is declared to be 1: in Scan it would have to stay 1."""
        return self.given(self.array(dtype, shape), self.array(dtype, self.resized(shape)))

    def indices(self, n, shape):
        """Return a new input of this shape with indices into `n` elements."""
        return self.given(*(self.random.randint(-lengths[0], lengths[0], lengths[1:])
                            for lengths in [(n, *shape), self.resized((n, *shape))]))

    def twin(self, variable):
        """Return an input whose values are in the memory of another input's."""
        for known, values in self.inputs:
            if known is variable:
                twin = variable.type(f"x{len(self.inputs)}")
                self.inputs.append((twin, [value[...] for value in values]))
                return twin


# --- expressions that several kinds use ---

def is_float(x):
    return x.dtype in FLOATS


def letter_of(x):
    """Return NumPy's letter for the kind of dtype: "f" for floats, "c", "i", "u" or "b"."""
    return np.dtype(x.dtype).kind


def finite(x):
    """Replace infinity and nan by 1."""
    return T.switch(T.isnan(x) | T.isinf(x), T.ones_like(x), x) if is_float(x) else x


def cast(x, dtype):
    """Cast so that the result is defined in C: floats are clipped before they become integers."""
    if letter_of(x) in "fc" and np.dtype(dtype).kind in "iub":
        if letter_of(x) == "c":
            x = T.real(x)
        least = -100 if np.dtype(dtype).kind == "i" else 0
        x = T.clip(T.switch(T.isnan(x), T.zeros_like(x), x), least, 100)
    if letter_of(x) == "c" and np.dtype(dtype).kind != "c":
        x = T.real(x)
    return T.cast(x, dtype)


def divisor(dice, y):
    """Return a divisor made of integers y that is not zero, and negative at times."""
    if letter_of(y) == "i":
        return T.cast(y % np.int8(7) + np.int8(dice.pick([1, -8])), y.dtype)
    return T.cast(y % np.uint8(7) + np.uint8(1), y.dtype) if letter_of(y) == "u" else y


def power(dice, x, y):
    """Return a power that is not too large, and rarely nan."""
    if letter_of(x) == "f" or letter_of(y) == "f":
        return dice.pick([abs(finite(x)) + 0.1, x]) ** T.clip(y, -3, 3)
    return T.clip(x, 0, 5) ** T.clip(y, 0, 2)


#: Functions of one variable, by the kinds of dtype that they take.
UNARY = {
    "f": ("neg abs_ exp exp2 expm1 log log1p log2 log10 sqrt sqr inv sin cos tan arcsin arccos "
          "arctan sinh cosh tanh arcsinh arccosh arctanh floor ceil trunc iround sgn isnan isinf "
          "erf erfc erfcx erfinv gamma gammaln psi j0 j1 deg2rad rad2deg nnet.sigmoid "
          "nnet.hard_sigmoid nnet.ultra_fast_sigmoid nnet.softplus nnet.relu nnet.elu "
          "nnet.selu").split(),
    "i": "neg abs_ sgn sqr invert sqrt exp tanh inv floor isnan nnet.relu log1p".split(),
    "u": "sgn sqr invert sqrt exp tanh inv nnet.relu log1p".split(),
    "b": "invert exp sqrt".split(),
    "c": "neg abs_ sqr conj real imag angle exp".split(),
}
#: Functions of two variables, by the kind of the result.
BINARY = {
    "f": {"+": lambda d, x, y: x + y, "-": lambda d, x, y: x - y, "*": lambda d, x, y: x * y,
          "/": lambda d, x, y: x / y, "//": lambda d, x, y: x // y, "%": lambda d, x, y: x % y,
          "**": power, "max": lambda d, x, y: T.maximum(x, y),
          "min": lambda d, x, y: T.minimum(x, y), "arctan2": lambda d, x, y: T.arctan2(x, y),
          "<": lambda d, x, y: x < y, "<=": lambda d, x, y: x <= y, ">": lambda d, x, y: x > y,
          ">=": lambda d, x, y: x >= y, "==": lambda d, x, y: T.eq(x, y),
          "!=": lambda d, x, y: T.neq(x, y), "close": lambda d, x, y: T.isclose(x, y)},
    "i": {"+": lambda d, x, y: x + y, "-": lambda d, x, y: x - y, "*": lambda d, x, y: x * y,
          "/": lambda d, x, y: x / divisor(d, y), "//": lambda d, x, y: x // divisor(d, y),
          "%": lambda d, x, y: x % divisor(d, y), "**": power,
          "max": lambda d, x, y: T.maximum(x, y), "min": lambda d, x, y: T.minimum(x, y),
          "<": lambda d, x, y: x < y, "<=": lambda d, x, y: x <= y, ">": lambda d, x, y: x > y,
          ">=": lambda d, x, y: x >= y, "==": lambda d, x, y: T.eq(x, y),
          "!=": lambda d, x, y: T.neq(x, y), "&": lambda d, x, y: x & y,
          "|": lambda d, x, y: x | y, "^": lambda d, x, y: x ^ y},
    "b": {"&": lambda d, x, y: x & y, "|": lambda d, x, y: x | y, "^": lambda d, x, y: x ^ y,
          "+": lambda d, x, y: x + y, "*": lambda d, x, y: x * y, "==": lambda d, x, y: T.eq(x, y),
          "max": lambda d, x, y: T.maximum(x, y)},
    "c": {"+": lambda d, x, y: x + y, "-": lambda d, x, y: x - y, "*": lambda d, x, y: x * y,
          "==": lambda d, x, y: T.eq(x, y)},
}


def random_unary(dice, x):
    name = dice.pick(UNARY[letter_of(x)])
    return getattr(T.nnet, name[5:])(x) if name.startswith("nnet.") else getattr(T, name)(x)


def random_binary(dice, x, y):
    letters = {letter_of(x), letter_of(y)}
    table = BINARY["c" if "c" in letters else "f" if "f" in letters else
                   "b" if letters == {"b"} else "i"]
    return table[dice.pick(list(table))](dice, x, y)


def random_ternary(dice, x, y, z):
    if letter_of(x) == "c" or letter_of(y) == "c" or letter_of(z) == "c":
        return x * y + z
    return dice.pick([lambda: T.switch(x > 0 if letter_of(x) != "b" else x, y, z),
                     lambda: T.clip(x, T.minimum(y, z), T.maximum(y, z)),
                     lambda: x * y + z])()


def grown(dice, leaves, n_operations, casts=()):
    """Return the last results of a random expression of these leaves."""
    pool = list(leaves)
    for _ in range(n_operations):
        recent = pool[-3:]
        try:
            if casts and dice.chance(0.3):
                new = cast(dice.pick(recent), dice.pick(casts))
            elif dice.chance(0.45):
                new = random_unary(dice, dice.pick(recent))
            elif dice.chance(0.8):
                new = random_binary(dice, dice.pick(recent), dice.pick(pool))
            else:
                new = random_ternary(dice, dice.pick(recent), dice.pick(pool), dice.pick(pool))
        except (TypeError, NotImplementedError):  # not defined for these types
            continue
        pool.append(new)
    return pool[-dice.whole(1, 2):]


#: Exceptions of `theano.grad` where Theano has no gradient, or a wrong one.
NO_GRADIENT = (NotImplementedError, AttributeError, TypeError, ValueError, MethodNotDefined,
               gradient.NullTypeGradError, gradient.DisconnectedInputError)


def derived(dice, outputs, wrt, second=0.3):
    """Return gradients of the outputs that are floats, and at times gradients of these."""
    def cost_of(values):
        return sum(T.sum(T.cast(x, "float64") * dice.pick([1., -0.5, 2.])) for x in values)

    outputs, wrt = [x for x in outputs if is_float(x)], [x for x in wrt if is_float(x)]
    if not outputs or not wrt:
        return []
    try:
        first = T.grad(cost_of(outputs), wrt, disconnected_inputs="ignore")
    except NO_GRADIENT:
        return []
    try:
        if not dice.chance(second):
            return first
        return first + T.grad(cost_of(x ** 2 for x in first), wrt, disconnected_inputs="ignore")
    except NO_GRADIENT:
        return first


def broadcast(dice, shape):
    """Return a shape that can be broadcast to this one."""
    shape = tuple(1 if dice.chance(0.15) else n for n in shape)
    return shape[dice.whole(0, len(shape)):] if dice.chance(0.1) else shape


def operands(dice, shape, dtypes, odd, most=4):
    """Return inputs of these types that can be broadcast to a shape; two may share their memory."""
    leaves = [dice.varying(dice.pick(dtypes), shape if i == 0 else broadcast(dice, shape), odd)
              for i in range(dice.whole(1, most))]
    if dice.chance(0.2):
        leaves.append(dice.twin(leaves[0]))
    return leaves


# --- the kinds of parts ---

KINDS = {}
_DECK = []


def generator(often=1):
    """Decorate a function that makes parts: it is entered in `KINDS`, and `often` times in `_DECK`.

    It is given a `Dice`, and returns outputs, or outputs and updates.
    """
    def register(function):
        KINDS[function.__name__] = function
        _DECK.extend([function.__name__] * often)
        return function
    return register


@generator()
def elementwise(dice):
    """Expressions of all types."""
    leaves = operands(dice, dice.shape(), FLOATS * 3 + COMPLEX + SIGNED + UNSIGNED + ("bool",), 0.1)
    outputs = grown(dice, leaves, dice.whole(1, 5), FLOATS + SIGNED + UNSIGNED)
    return outputs + (derived(dice, outputs, leaves) if dice.chance(0.3) else [])


@generator()
def integers(dice):
    """Expressions of whole numbers, the least and the largest among them."""
    dtypes = SIGNED + UNSIGNED + ("bool",)
    x, y = (dice.tensor(dice.pick(dtypes), dice.shape(1), 0.2) for _ in range(2))
    x, y = (T.as_tensor_variable(z) if z.ndim == 0 else z[:7] for z in (x, y))
    if x.ndim and y.ndim:
        y = T.concatenate([y, T.zeros((7,), y.dtype)])[:x.shape[0]]
    outputs = [operation(x, y) for operation in dice.several(
        [T.lt, T.le, T.gt, T.ge, T.eq, T.neq, T.maximum, T.minimum,
         lambda x, y: T.switch(x > y, x, y), lambda x, y: T.cast(x, y.dtype)], 4)]
    if "bool" not in (x.dtype, y.dtype):
        outputs.append(dice.pick([T.add, T.sub, T.and_, T.or_, T.xor])(x, y))
    return outputs


@generator(often=2)
def chains(dice):
    """Long expressions of one type, which are fused, with casts to narrower ones between."""
    dtype = dice.pick(["float32", "float32", "float32", "float64", "float16"])
    leaves = operands(dice, dice.shape(), [dtype], 0.05)
    outputs = grown(dice, leaves, dice.whole(4, 14),
                    dice.pick([(), (), FLOATS, ("float16", "float32"), ("int8", "float32")]))
    outputs = [T.cast(x, dice.pick(FLOATS)) if dice.chance(0.3) and is_float(x) else x
               for x in outputs]
    return outputs + (derived(dice, outputs, leaves) if dice.chance(0.4) else [])


@generator()
def roundings(dice):
    """Fused expressions of one type with results rounded to a narrower type on the way."""
    dtype = dice.pick(["float32", "float32", "float64"])
    narrower = ["float16", "float16", "int8", "int16"] + ["float32"] * (dtype == "float64")
    shape = dice.shape(2, [60, 300, 5000])
    x, y = dice.varying(dtype, shape), dice.varying(dtype, shape)

    def linear(value):
        return dice.pick([lambda: value * dice.pick([1.5, 0.3, 7.]), lambda: value + y,
                          lambda: value * y, lambda: value - 0.1, lambda: value / 3.])()

    value = x
    for _ in range(dice.whole(1, 3)):
        value = T.cast(cast(linear(value), dice.pick(narrower)), dtype)
    outputs = [dice.pick([linear, lambda value: linear(value) * 2 + 1, T.sqr])(value)]
    return outputs + (derived(dice, outputs, [x, y], second=0) if dice.chance(0.2) else [])


@generator()
def reductions(dice):
    """Sums, products, extremes and the like."""
    shape = dice.shape()
    x = dice.varying(dice.pick(FLOATS * 2 + SIGNED + UNSIGNED + ("bool",) + COMPLEX), shape, 0.05)
    inner = x if dice.chance(0.5) else grown(dice, [x], 2)[-1]
    axes = [i for i in range(inner.ndim) if dice.chance(0.5)]
    axis = dice.pick([None, axes or None, axes[0] if axes else None])
    real = letter_of(inner) != "c"
    table = {"sum": T.sum, "prod": T.prod, "mean": T.mean}
    if real:
        table.update(max=T.max, min=T.min, var=T.var, argmax=T.argmax, argmin=T.argmin,
                     std=T.std, ptp=T.ptp)
    if letter_of(inner) == "b":
        table = {"all": T.all, "any": T.any, "sum": T.sum, "max": T.max}
    if letter_of(inner) in "iu":
        table.pop("ptp")
    outputs = [table[name](inner, axis=axis) for name in dice.several(list(table), 3)]
    if inner.ndim and letter_of(inner) in "fi":
        cumulate, axis = dice.pick([T.cumsum, T.cumprod]), dice.pick([None, 0])
        outputs.append(cumulate(T.clip(inner, -2, 2), axis=axis))
    return outputs + (derived(dice, outputs, [x]) if dice.chance(0.5) else [])


@generator()
def products(dice):
    """Products of vectors, matrices and batches; large ones with a factor that is mostly zeros."""
    dtype = dice.pick(["float32", "float32", "float64"])
    m, k, n = (dice.pick([0, 1, 3, 8, 17, 40]) for _ in range(3))
    way = dice.pick(["sparse", "sparse", "mixed", "gemm", "batched", "tensordot", "vectors",
                     "ints"])
    if way == "sparse":
        m, k, n = dice.pick([20, 40, 65]), dice.pick([64, 90, 200]), dice.pick([64, 80, 130])
        x = dice.given(*(dice.array(dtype, (m, k)) * (dice.random.rand(m, k) < share)
                         for share in (dice.pick([0, .05, .2, .3]), dice.pick([.1, 1]))))
        y = dice.given(*(dice.array(dtype, (k, n), dice.pick([0, 0, .01])) for _ in range(2)))
        outputs = [T.dot(x, y)]
        if dice.chance(0.5):
            outputs.append(dice.pick([0.5, -2.]) * T.dot(x, y) + dice.tensor(dtype, (m, n)))
        if dice.chance(0.3):
            outputs.append(T.dot(y.T, x.T))
        return outputs + (derived(dice, outputs, [x, y]) if dice.chance(0.7) else [])
    if way == "ints":
        dtype = dice.pick(SIGNED + UNSIGNED + COMPLEX + ("float16",))
    if way == "batched":
        b = dice.pick([0, 1, 4])
        x, y = dice.varying(dtype, (b, m, k), .01), dice.varying(dtype, (b, k, n), .01)
        outputs = [T.batched_dot(x, y)]
    elif way == "tensordot":
        x, y = dice.varying(dtype, (m, 2, k)), dice.varying(dtype, (k, n, 2))
        axes = dice.pick([[[2], [0]], [[1, 2], [2, 0]], [[2, 1], [0, 2]]])
        outputs = [T.tensordot(x, y, axes=axes)]
    elif way == "vectors":
        x, y = dice.varying(dtype, (k,), .01), dice.varying(dtype, (k,))
        w, z = dice.varying(dtype, (k, n)), dice.varying(dtype, (n,))
        outputs = [T.dot(x, y), T.dot(x, w), T.outer(x, y), T.dot(w, z) * 0.3 + y,
                   w + 0.5 * T.outer(x, z)][dice.whole(0, 3):]
    else:
        x, y = dice.varying(dtype, (m, k), .02), dice.varying(dtype, (k, n), .02)
        if dice.chance(0.3):
            y = dice.varying(dtype, (n, k), .02).T
        xy = T.dot(x, y)
        outputs = [xy]
        if way == "gemm" and dtype in ("float32", "float64"):
            z, a = dice.varying(dtype, (m, n)), dice.varying(dtype, ())
            b = dice.pick([a * 0.5, 0.3, 1.])
            outputs = [a * xy + b * z, z - xy * 0.1, xy][:dice.whole(1, 3)]
            if dice.chance(0.5):
                outputs.append(T.dot(T.nnet.relu(xy), T.dot(xy.T, z)))
    if dice.chance(0.5):
        outputs += derived(dice, outputs, [variable for variable, _ in dice.inputs])
    return outputs


@generator()
def places(dice):
    """Parts of arrays, and arrays with parts changed."""
    dtype = dice.pick(FLOATS[1:] * 2 + ("float16", "int32", "uint8", "bool"))
    n, m = dice.pick([1, 4, 7]), dice.pick([1, 3, 50])
    x = dice.varying(dtype, (n, m), .05)
    i, j = dice.indices(n, (5,)), dice.indices(m, (5,))
    k = dice.given(*(np.asarray(dice.random.randint(max(n - 1, 1))) for _ in range(2)))
    step = dice.pick([1, 2, -1, -2])
    parts = [lambda: x[k], lambda: x[::step], lambda: x[:, ::-1][k:], lambda: x[i],
             lambda: x[i, j], lambda: x[:, j], lambda: x[k, ::step], lambda: x[:k],
             lambda: x.take(i, axis=0), lambda: x[1:-1], lambda: x[-2:].dimshuffle(0, "x", 1),
             lambda: x[i][::2], lambda: x[i][:, j]]
    outputs = []
    for _ in range(dice.whole(1, 3)):
        part = dice.pick(parts)()
        if dice.chance(0.5):
            outputs.append(part)
            continue
        new = dice.pick([T.ones_like(part), part * part, part])
        change = dice.pick([T.set_subtensor, T.inc_subtensor] if dtype != "bool"
                          else [T.set_subtensor])
        try:
            changed = change(part, T.cast(new, dtype))
        except TypeError:  # x.take and repeated indexing cannot be changed
            outputs.append(part)
            continue
        outputs.append(changed if dice.chance(0.5) else changed[::2])
    if dtype in FLOATS and dice.chance(0.4):
        outputs = [y * 2 if dice.chance(0.3) else y for y in outputs]
    if dice.chance(0.2) and dtype != "bool":
        outputs.append(T.switch(x > 0, x, -x) if dtype not in UNSIGNED else x[T.gt(x, 5).nonzero()])
    return outputs + (derived(dice, outputs, [x]) if dice.chance(0.5) else [])


@generator()
def sorting(dice):
    """Sorting."""
    dtype = dice.pick(("float32", "float64", "int32", "int64", "uint8", "float16"))
    n = dice.pick([1, 5, 30])
    values = [dice.random.permutation(n * 4).reshape(4, n).astype(dtype) for _ in range(2)]
    x = dice.given(*values)
    axis = dice.pick([-1, 0])
    k = dice.whole(1, n)
    outputs = [dice.pick([lambda: T.sort(x, axis), lambda: T.argsort(x, axis),
                         lambda: T.sort(T.topk(x, dice.pick([k, -k]), axis=1, sorted=False), 1),
                         lambda: T.sort(T.argtopk(x, k, axis=1, sorted=False), 1),
                         lambda: T.sort(x.flatten(), 0)[::-1],
                         lambda: T.max_and_argmax(x, axis=0)[1]])()
               for _ in range(dice.whole(1, 2))]
    return outputs + (derived(dice, outputs, [x]) if dice.chance(0.4) else [])


@generator()
def shapes(dice):
    """Arrays joined, split, stacked and reshaped."""
    dtype = dice.pick(FLOATS[1:] * 2 + ("float16", "int16", "bool", "complex64"))
    n, m = dice.pick([0, 1, 3, 8]), dice.pick([1, 2, 6, 40])
    x, y = dice.tensor(dtype, (n, m), .05), dice.tensor(dtype, (n, m))
    pieces = [lambda: T.concatenate([x, y], axis=dice.whole(0, 1)), lambda: T.stack([x, y, x]),
              lambda: T.concatenate(T.split(x, [1, m - 1], 2, axis=1)[::-1], axis=1),
              lambda: x.reshape((m, n)), lambda: x.reshape((-1,)), lambda: x.flatten(),
              lambda: x.dimshuffle(1, "x", 0), lambda: T.repeat(x, 3, axis=dice.pick([0, 1])),
              lambda: T.tile(x, (2, 1)), lambda: x.T[::-1], lambda: T.alloc(x[:, 0], 3, n),
              lambda: T.tile(x, (1, 2))[:, ::2], lambda: T.zeros_like(x) + y,
              lambda: T.shape_padleft(x) if dice.chance(.5) else T.roll(x, 1, axis=1),
              lambda: T.diagonal(T.dot(x, y.T)) if dtype in FLOATS[1:] else x,
              lambda: T.triu(x) if dtype in FLOATS[1:] else y,
              lambda: T.extra_ops.diff(x, axis=1) if dtype in FLOATS[1:] else x]
    outputs = [dice.pick(pieces)() for _ in range(dice.whole(1, 4))]
    if dtype in FLOATS:
        outputs = [random_unary(dice, z) if dice.chance(0.3) else z for z in outputs]
    return outputs + (derived(dice, outputs, [x, y]) if dice.chance(0.4) else [])


@generator()
def convolutions(dice):
    """Convolution, its gradients and second gradients."""
    dtype = dice.pick(["float32", "float32", "float64"])
    channels, filters = dice.whole(1, 3), dice.whole(1, 4)
    size, kernel = (dice.whole(4, 9), dice.whole(4, 9)), (dice.whole(1, 4), dice.whole(1, 4))
    n, more = dice.pick([1, 2, 5]), dice.pick([0, 0, 1])
    x = dice.given(dice.array(dtype, (n, channels, *size)),
                   dice.array(dtype, (n + more, channels, size[0] + more, size[1])))
    w = dice.tensor(dtype, (filters, channels, *kernel))
    y = T.nnet.conv2d(x, w, border_mode=dice.pick(["valid", "full", "half", 1, (2, 0)]),
                      subsample=dice.pick([(1, 1), (2, 1), (2, 3)]), filter_flip=dice.chance(0.7),
                      filter_dilation=dice.pick([(1, 1), (1, 1), (1, 2)]) if max(kernel) < 3
                      else (1, 1))
    outputs = [dice.pick([y, T.nnet.relu(y), T.tanh(y) * y])]
    return outputs + (derived(dice, outputs, [x, w]) if dice.chance(0.6) else [])


@generator()
def pooling(dice):
    """Pooling, its gradients and second gradients."""
    x = dice.tensor(dice.pick(["float32", "float32", "float64"]),
                    (dice.pick([1, 3]), 2, dice.whole(3, 9), dice.whole(3, 9)), .02)
    window = (dice.whole(1, 3), dice.whole(1, 3))
    mode = dice.pick(["max", "sum", "average_inc_pad", "average_exc_pad"])
    ignore = dice.chance(0.6)
    pad = (dice.whole(0, window[0] - 1), dice.whole(0, window[1] - 1)) if ignore else (0, 0)
    y = pool_2d(x, window, ignore_border=ignore, mode=mode, pad=pad,
                stride=dice.pick([None, (1, 1), (2, 1)]))
    outputs = [dice.pick([y, T.tanh(y), y ** 2])]
    return outputs + (derived(dice, outputs, [x]) if dice.chance(0.7) else [])


@generator()
def probabilities(dice):
    """Softmax, cross-entropy, and logarithms of sums of exponentials."""
    dtype = dice.pick(["float32", "float32", "float64"])
    n, m = dice.pick([1, 3, 20]), dice.pick([1, 2, 10, 70])
    x, b = dice.varying(dtype, (n, m), .01), dice.varying(dtype, (m,))
    labels = dice.given(*(dice.random.randint(0, classes, rows) for rows, classes in
                           [(n, m), dice.resized((n, m))]))
    targets = T.nnet.softmax(dice.varying(dtype, (n, m)))
    p = T.nnet.softmax(dice.pick([x, x + b]))
    outputs = dice.several([
        p, T.log(p), T.nnet.logsoftmax(x), T.nnet.categorical_crossentropy(p, labels),
        T.nnet.categorical_crossentropy(p, targets), T.log(p)[T.arange(labels.shape[0]), labels],
        T.nnet.binary_crossentropy(T.nnet.sigmoid(x), targets), T.argmax(p, axis=1),
        T.log(T.sum(T.exp(x), axis=1)), T.nnet.sigmoid(x) * (1 - T.nnet.sigmoid(x)),
        T.log(T.nnet.sigmoid(x)), T.log(1 - T.nnet.sigmoid(x)), T.log1p(-T.nnet.sigmoid(x)),
        T.exp(x) / T.exp(x).sum(axis=1, keepdims=True), T.nnet.softplus(-x)], 3)
    return outputs + (derived(dice, outputs, [x, b]) if dice.chance(0.6) else [])


@generator()
def recurrences(dice):
    """Scan: up to three states, with delays, sequences and conditions to end."""
    dtype, n, steps = dice.pick(["float32", "float64"]), dice.pick([1, 3, 5]), dice.whole(1, 6)
    sequences = [dice.for_scan(dtype, steps, n) for _ in range(dice.whole(0, 2))]
    matrix = dice.for_scan(dtype, n, n)
    states, initial = [], []
    for _ in range(dice.whole(1, 3)):
        taps = dice.pick([None, None, None, [-2, -1], [-2]])
        initial.append(dice.for_scan(dtype, *([n] if taps is None else [2, n])))
        states.append(initial[-1] if taps is None else dict(initial=initial[-1], taps=taps))
    extra, until = dice.chance(0.4), dice.chance(0.15)

    def mixed(pool):
        a, b, c = (dice.pick(pool) for _ in range(3))
        return dice.pick([
            lambda: T.tanh(a + b), lambda: T.tanh(a * b - c), lambda: T.tanh(T.dot(a, matrix)) + b,
            lambda: T.nnet.sigmoid(a) * T.tanh(b) + (1 - T.nnet.sigmoid(a)) * T.tanh(c),
            lambda: T.switch(a > 0, T.sin(b), c * 0.5), lambda: T.maximum(a, b) * 0.7,
            lambda: T.nnet.softplus(a) - T.tanh(b), lambda: a * 0.5 + T.tanh(a) * T.tanh(a)])()

    def step(*variables):
        pool, new = list(variables[:-1]), []
        for _ in states:
            new.append(T.cast(mixed(pool), dtype))
            if dice.chance(0.4):
                pool.append(new[-1])
        results = new + ([mixed(pool)] if extra else [])
        return (results, theano.scan_module.until(T.sum(new[0]) > 1.)) if until else results

    outputs, _ = theano.scan(
        step, sequences=sequences, outputs_info=states + [None] * extra,
        non_sequences=[matrix], n_steps=None if sequences else steps,
        go_backwards=dice.chance(0.2), strict=dice.chance(0.3),
        truncate_gradient=dice.pick([-1, -1, -1, 2]))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    outputs = [y[-1] if dice.chance(0.4) else y for y in outputs]
    return outputs + derived(dice, outputs, [*initial, *sequences, matrix], second=0.1)


@generator(often=2)
def states(dice):
    """Scan: three or four states, each computed from old values of others, and its gradients."""
    dtype, n, steps = dice.pick(["float32", "float64"]), dice.pick([1, 3]), dice.whole(2, 5)
    sequences = [dice.for_scan(dtype, steps, n) for _ in range(dice.whole(0, 2))]
    initial = [dice.for_scan(dtype, n) for _ in range(dice.whole(3, 4))]

    def step(*variables):
        total, new = sum(variables[-len(initial):]), []
        known = [*variables, total, total * variables[0]]
        for _ in initial:
            a, b, c, d = (dice.pick(known) for _ in range(4))
            new.append(T.cast(dice.pick([
                lambda: 0.3 * (a * b + c * d) + 0.1 * total, lambda: 0.3 * (a * b - c * d),
                lambda: T.nnet.sigmoid(a * b + c), lambda: 0.5 * a * total + b,
                lambda: T.tanh(a) * b + 0.1 * total])(), dtype))
        return new

    outputs, _ = theano.scan(step, sequences=sequences, outputs_info=initial,
                             n_steps=None if sequences else steps)
    cost = sum(T.sum(y[-1] * dice.for_scan(dtype, n)) for y in outputs)
    return [cost, *T.grad(cost, [*initial, *sequences], disconnected_inputs="ignore")]


@generator(often=2)
def derivatives(dice):
    """Gradients that the program scales, clips or cuts, also of expressions that are written twice."""
    dtype = dice.pick(["float32", "float64"])
    x, w = dice.tensor(dtype, (4,)), dice.tensor(dtype, (4, 4))

    scaled = [lambda y: gradient.grad_scale(y, dice.pick([1., -0.5, 3.])),
              lambda y: gradient.grad_clip(y, -dice.pick([0.1, 1., 100.]), dice.pick([0.5, 50.]))]
    cut = [gradient.disconnected_grad, gradient.zero_grad, gradient.consider_constant]

    def marked(y):
        return dice.pick(scaled + cut)(y)

    def twice(number, y):
        """Return the sum of two equal expressions, whose gradients may be changed differently."""
        mark = dice.pick([*scaled, *scaled, marked, lambda y: y])
        return 5. * written(number, mark(y)) + 7. * written(number, mark(y))

    def written(number, y):
        """Return one of a few expressions, so that some are equal."""
        return [lambda: T.tanh(y), lambda: T.dot(y, w), lambda: y * 2, lambda: T.exp(-y * y),
                lambda: T.nnet.sigmoid(y), lambda: y[::-1], lambda: T.sum(y) * y][number]()

    pool = [x, x, marked(x)]
    for _ in range(dice.whole(3, 9)):
        y, number = dice.pick(pool[-4:]), dice.whole(0, 6)
        y = twice(number, y) if dice.chance(0.3) else written(number, y)
        pool.append(marked(y) if dice.chance(0.4) else y)
    cost = sum(T.sum(y * dice.pick([1., 5., 7., -2.])) for y in pool[-3:])
    known = pool[dice.whole(0, len(pool) - 1)]
    constant = [known] if dice.chance(0.2) and known is not x else None
    try:
        wrt = [x, w] + ([known] if constant is None and dice.chance(0.3) else [])
        first = T.grad(cost, wrt, consider_constant=constant, disconnected_inputs="ignore")
        if dice.chance(0.3):
            first = first + [T.jacobian(written(0, marked(x)), x)]
        if dice.chance(0.3):
            first = first + [T.Rop(T.tanh(T.dot(x, w)), x, first[0]), T.Lop(T.dot(x, w), w, x)]
        return [cost, *first, *derived(dice, first, [x, w], second=0)]
    except NO_GRADIENT:
        return [cost]


@generator(often=2)
def networks(dice):
    """Networks of Lasagne, trained for three steps."""
    lasagne.random.set_rng(np.random.RandomState(dice.whole(0, 1000)))
    n, n_later = dice.pick([1, 4, 9]), dice.pick([1, 4, 9])
    layers, pick = lasagne.layers, dice.pick
    nonlinear = [lasagne.nonlinearities.rectify, lasagne.nonlinearities.tanh,
                 lasagne.nonlinearities.sigmoid, T.nnet.softplus]
    way = pick(["dense", "dense", "heads", "recurrent", "images"])
    heads = 1
    if way in ("dense", "heads"):
        x = network_input(dice, n, n_later, 6)
        layer = layers.InputLayer((None, 6), x)
        for _ in range(dice.whole(1, 2)):
            layer = layers.DenseLayer(layer, pick([2, 5]), nonlinearity=pick(nonlinear))
        if dice.chance(0.3) and hasattr(layers, "batch_norm"):
            layer = layers.batch_norm(layer)
        heads = 2 if way == "heads" else 1
        tops = [layers.DenseLayer(layer, 3, nonlinearity=None) for _ in range(heads)]
    elif way == "recurrent":
        x = network_input(dice, n, n_later, pick([1, 3, 5]), 4)
        layer = layers.InputLayer((None, None, 4), x)
        layer = pick([layers.LSTMLayer, layers.GRULayer, layers.RecurrentLayer])(
            layer, 3, grad_clipping=pick([0, 0, 0.01, 1]), backwards=dice.chance(0.3),
            learn_init=dice.chance(0.3), precompute_input=dice.chance(0.7))
        tops = [layers.SliceLayer(layer, -1, 1)]
    else:
        x = network_input(dice, n, n_later, 2, 6, 6)
        layer = layers.Conv2DLayer(layers.InputLayer((None, 2, 6, 6), x), 3, 3,
                                   pad=pick(["valid", "same"]), nonlinearity=pick(nonlinear))
        layer = layers.MaxPool2DLayer(layer, 2)
        tops = [layers.DenseLayer(layer, 3, nonlinearity=None)]
    if dice.chance(0.4):
        values = [layers.get_output(top) for top in tops]  # the layers below are written twice
    else:
        values = layers.get_output(tops)
    target = network_input(dice, n, n_later, 3)
    cost = sum(pick([lambda v: T.mean((v - target) ** 2),
                     lambda v: T.mean(T.nnet.categorical_crossentropy(
                         T.nnet.softmax(v), T.nnet.softmax(target))),
                     lambda v: T.sum(T.nnet.binary_crossentropy(
                         T.nnet.sigmoid(v), T.nnet.sigmoid(target)))])(v) for v in values)
    if dice.chance(0.3):
        cost += 1e-3 * lasagne.regularization.regularize_network_params(
            tops, lasagne.regularization.l2)
    params = layers.get_all_params(tops, trainable=True)
    names = [name for name in ("sgd", "momentum", "nesterov_momentum", "adagrad", "rmsprop",
                               "adadelta", "adam", "adamax") if hasattr(lasagne.updates, name)]
    name = pick(names)
    rate = {} if name == "adadelta" else dict(learning_rate=0.05)
    if dice.chance(0.3):
        grads = T.grad(cost, params)
        grads = lasagne.updates.total_norm_constraint(grads, 1.)
        updates = getattr(lasagne.updates, name)(grads, params, **rate)
    else:
        updates = getattr(lasagne.updates, name)(cost, params, **rate)
    return [cost, *(values if dice.chance(0.5) else [])], list(updates.items())


@generator(often=2)
def losses(dice):
    """The gradients of three losses of one network; some write its layers a second time."""
    lasagne.random.set_rng(np.random.RandomState(dice.whole(0, 1000)))
    layers, n, n_later = lasagne.layers, dice.pick([1, 4]), dice.pick([1, 4])
    if dice.chance(0.4):
        x = network_input(dice, n, n_later, dice.pick([2, 4]), 3)
        layer = layers.InputLayer((None, None, 3), x)
        layer = dice.pick([layers.LSTMLayer, layers.GRULayer, layers.RecurrentLayer])(
            layer, 3, grad_clipping=dice.pick([0, 0.01, 1]))
        layer = layers.SliceLayer(layer, -1, 1)
    else:
        x = network_input(dice, n, n_later, 3)
        layer = layers.InputLayer((None, 3), x)
        layer = layers.DenseLayer(layer, 3, nonlinearity=dice.pick(
            [T.tanh, T.nnet.sigmoid, lasagne.nonlinearities.rectify]))
    layer = layers.DenseLayer(layer, 3, nonlinearity=None)
    params = layers.get_all_params(layer, trainable=True)
    target, first = network_input(dice, n, n_later, 3), layers.get_output(layer)
    outputs = []
    for _ in range(3):
        value = layers.get_output(layer) if dice.chance(0.5) else first
        if dice.chance(0.3):
            value = gradient.grad_clip(value, -dice.pick([0.05, 1.]), 0.05)
        loss = dice.pick([lambda: T.mean((value - target) ** 2), lambda: T.sum(T.tanh(value)),
                          lambda: T.mean(T.nnet.softplus(value) * target),
                          lambda: T.sum(abs(value)) + T.sum(first * target)])()
        outputs += [loss, *T.grad(loss, dice.pick([params, params[:2], params[-2:] + [x]]))]
    return outputs


def network_input(dice, n, n_later, *shape):
    """Return the input of a network, with batches of these lengths in the two calls."""
    return dice.given(*(dice.array(theano.config.floatX, (length, *shape))
                        for length in (n, n_later)))


@generator(often=2)
def updates(dice):
    """Shared variables whose new values depend on one another."""
    shape = dice.pick([(), (3,), (4, 5), (300,), (5000,)])
    floats = [theano.shared(dice.array(dtype, shape), f"p{i}")
              for i, dtype in enumerate(dice.several(["float32", "float32", "float64"], 4))]
    whole = [theano.shared(dice.array(dice.pick(["int8", "int32", "int64", "uint8"]),
                                      dice.pick([(), shape])), f"i{i}")
             for i in range(dice.whole(0, 3))]
    x = dice.tensor("float32", shape)
    counter = theano.shared(np.asarray(dice.whole(0, 3), dice.pick(["int32", "int64"])), "counter")
    ring = theano.shared(dice.array("float32", (4,)), "ring")
    new = {}

    def fresh(p):
        """Return a new value of a float, computed from old values and other new ones."""
        a, b = dice.pick([*floats, x, *new.values()]), dice.pick([*floats, *new.values(), x])
        i = dice.pick([*whole, counter, *[n for n in new.values() if letter_of(n) in "iu"]])
        table = [lambda: a * 0.9 + b * 0.1, lambda: p - 0.1 * b, lambda: T.sqrt(a ** 2 + b ** 2),
                 lambda: b, lambda: p + T.tanh(a), lambda: T.maximum(p, a), lambda: p * (i % 3) + a,
                 lambda: a / (1 + b ** 2) + (i // 2),
                 lambda: 0.5 * p + 0.5 * T.sqr(a) / (b * b + 1)]
        if shape and a is not x and a in floats:
            table.append(lambda: T.inc_subtensor(a[0], T.sum(b) * 0.1))
        if a.ndim == b.ndim:
            table.append(lambda: ifelse(T.gt(counter, 1), T.cast(a, "float64"),
                                        T.cast(b, "float64")))
        if a.type == b.type == p.type:
            u, v = a.type(), b.type()
            table.append(lambda: theano.OpFromGraph([u, v], [u * 2 + T.sin(v)])(a, b))
        return T.cast(dice.pick(table)(), p.dtype)

    def fresh_whole(i):
        """Return a new value of an integer."""
        j = dice.pick([k for k in [*whole, counter, *new.values()]
                      if letter_of(k) in "iu" and k.ndim in (0, i.ndim)])
        value = dice.pick([lambda: i + 1, lambda: j % 3, lambda: j // 2, lambda: (i + j) % 7,
                          lambda: j % (abs(i) % 5 + 1), lambda: T.maximum(i, j) - 1, lambda: j])()
        value = value if value.ndim == i.ndim else i * 0 + value
        return T.cast(value, i.dtype)

    order = [*floats, *whole]
    for i in dice.random.permutation(len(order)):
        p = order[i]
        value = fresh(p) if letter_of(p) == "f" else fresh_whole(p)
        if value.ndim == p.ndim:
            new[p] = T.patternbroadcast(value, p.broadcastable)
    same = [p for p in floats if p.type == floats[0].type]
    if len(same) > 1 and dice.chance(0.3):
        new[same[0]], new[same[1]] = same[1], same[0]
    if dice.chance(0.4):
        new[ring] = T.set_subtensor(ring[counter % 4], T.cast(T.sum(x), "float32"))
        new[counter] = counter + 1
    outputs = [dice.pick([*new.values(), *floats, T.sum(floats[0]) + 1, counter * 2])
               for _ in range(dice.whole(0, 3))]
    return outputs, list(new.items())


@generator()
def counters(dice):
    """Shared integers whose new values depend on one another."""
    dtype, shape = dice.pick(["int8", "int32", "int64", "int64", "uint8"]), dice.pick([(), (3,)])
    counts = [theano.shared(dice.array(dtype, shape), f"n{i}") for i in range(dice.whole(2, 4))]
    new = []
    for _ in counts:
        m, n = dice.pick([*counts, *new]), dice.pick([*counts, *new])
        k = np.array(dice.pick([2, 3, 5, 7]), dtype)
        new.append(T.cast(dice.pick([
            lambda: m // k, lambda: m % k, lambda: (m + n) // k, lambda: (m + n) % k,
            lambda: m // divisor(dice, n), lambda: m % divisor(dice, n), lambda: m + k,
            lambda: m - n // k, lambda: T.maximum(m, n) % k])(), dtype))
    return [dice.pick([*counts, *new]) * 2], list(zip(counts, new))


@generator()
def streams(dice):
    """Random numbers."""
    seed, shape = dice.whole(1, 10**6), dice.pick([(3,), (4, 5), (700,)])
    if dice.chance(0.6):
        random = MRG_RandomStreams(seed)
        table = [lambda: random.uniform(shape), lambda: random.normal(shape, avg=1., std=2.),
                 lambda: random.binomial(shape, p=0.3),
                 lambda: random.uniform(shape, dtype="float64"),
                 lambda: random.multinomial(pvals=T.nnet.softmax(dice.tensor("float32", (4, 6)))),
                 lambda: random.binomial(shape, p=0.6, dtype="int8")]
    else:
        random = RandomStreams(seed)
        table = [lambda: random.uniform(shape), lambda: random.normal(shape),
                 lambda: random.binomial(shape, p=0.3), lambda: random.permutation(n=7),
                 lambda: random.random_integers(shape, 0, 9), lambda: random.uniform(shape) < 0.5]
    draws = [dice.pick(table)() for _ in range(dice.whole(1, 3))]
    x = dice.tensor("float32", shape)
    return [y * x if y.ndim == x.ndim and is_float(y) and dice.chance(0.5) else y for y in draws]


# --- programs ---

def begin(seed):
    """Set floatX, which is the same for all parts of a program."""
    theano.config.floatX = Dice(seed).pick(["float32", "float32", "float64"])


def kind_of(seed, number):
    """Return the kind of a part: the kinds of `_DECK` follow one another in random order."""
    turn, place = divmod(seed * PARTS + number, len(_DECK))
    return np.random.RandomState(turn).permutation(_DECK)[place]


def part_of(seed, number):
    """Return a part of a program; call `begin` before."""
    dice = Dice(seed, number)
    made = KINDS[kind_of(seed, number)](dice)
    outputs, updates = made if isinstance(made, tuple) else (made, [])
    if dice.chance(0.2) and outputs:  # the same output twice
        outputs = [*outputs, outputs[0]]
    return Part(dice.inputs, outputs, updates)
