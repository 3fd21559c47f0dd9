"""Scan's loop, in which `theano_compat` compares addresses of arrays."""

import pytest
from programs import PRELUDE

pytestmark = [pytest.mark.process, pytest.mark.slow]

#: Loops whose results Scan finds in its own memory, in other memory, or in both by turns.
LOOPS = PRELUDE + """
import hashlib
import warnings
warnings.simplefilter("ignore")
random = np.random.RandomState(0)
numbers = random.normal(size=(6, 3, 4))
numbers[2, 1] = [np.nan, np.inf, -0., -np.inf]
digest = hashlib.sha256()

def compare(arguments, outputs):
    f = theano.function(arguments, outputs)
    values = [numbers.astype(x.dtype) if x.ndim == 3 else numbers[0].astype(x.dtype)
              if x.ndim == 2 else numbers[0, 0].astype(x.dtype) for x in arguments]
    for result in f(*values) + f(*values):
        digest.update(np.ascontiguousarray(result).tobytes())

for dtype in "float32", "complex64":
    x, h, v = (T.TensorType(dtype, (False,) * n_dims)() for n_dims in (3, 2, 1))
    # A state, a state that is not changed, an argument that is returned, a result without a state.
    outputs, _ = theano.scan(lambda x, a, b, c: [a * x + b, b, x, a + 1],
                             sequences=[x], outputs_info=[h, h, h, None])
    compare([x, h], outputs)
    compare([x, h], [output[-1] for output in outputs])
    # Numbers, vectors, two earlier steps, two results that are the same array.
    outputs, _ = theano.scan(lambda x, a, b: [x[0, 0] * a, b[::-1] + x[1]],
                             sequences=[x], outputs_info=[v[0], v])
    compare([x, v], outputs)
    outputs, _ = theano.scan(lambda x, a, b: [a - b * x, a - b * x],
                             sequences=[x], outputs_info=[dict(initial=x[:2], taps=[-2, -1]), None])
    compare([x], outputs)
    if dtype.startswith("float"):
        # Gradients add to several steps of their memory.
        state = T.zeros_like(h)
        outputs, _ = theano.scan(lambda x, a, b, c: [T.tanh(a * x + b), b * x + c, a - c],
                                 sequences=[x], outputs_info=[state, h, h])
        loss = sum(T.sum(T.sqr(output[-1])) for output in outputs)
        compare([x, h], T.grad(loss, [x, h]))
        outputs, _ = theano.scan(lambda x, a, b: a * x - b, sequences=[x],
                                 outputs_info=[dict(initial=x[:3], taps=[-3, -1])])
        compare([x], T.grad(T.sum(outputs[2:]), [x]))
print(digest.hexdigest())
"""


@pytest.mark.parametrize("flags", ["", "cxx="], ids=["compiled", "without a compiler"])
def test_results_are_those_without_the_patch(session, flags):
    """To the last bit. Some numbers are nan, which equals nothing, or -0, which equals 0."""
    with_patch, without = (session.run(LOOPS, THEANO_FLAGS=flags, THEANO_COMPAT_OFF=patch)[0]
                           for patch in ("", "compare_addresses_in_scan"))
    assert with_patch == without and len(without) == 64
