"""Patches for a faster start: Theano imports, computes and compiles less before the user's code."""

import ctypes
import sys

import numpy as np

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.needed.removed_names import in_place_of, stand_in
from theano_compat.originals import is_theanos, what_writes_c


@around_import("theano.scalar.basic_scipy", "theano.tensor.slinalg", "theano.tensor.blas",
               "theano.tensor.nnet.abstract_conv", "theano.tensor.nnet.conv", speed=Speed(
    acts_on="the imports of SciPy in these five modules of Theano",
    brings="all cached 1.84",
    edge="tests/compat/test_compat.py::test_scipy_is_imported_when_it_is_called"))
def import_scipy_lazily(module):
    """Let these modules import SciPy only when they call it.

    The import of SciPy takes longer than all other imports together, and few programs call it. If
    there is no compiler, Theano uses SciPy's BLAS and convolutions, which NumPy computes here.
    """
    yield from in_place_of(**{name: stand_in(name) for name in [
        "scipy.special", "scipy.stats", "scipy.linalg", "scipy.signal"]})


@around_import("theano.gof.cc", speed=Speed(
    acts_on="calls of functions that consist of one C module, by Theano's linker c",
    brings="nothing cached 1.11",
    edge="tests/compat/test_compat.py::test_functions_of_one_module"))
def call_thunks_by_ctypes(module):
    """Call the C code of a function through ctypes; Theano compiles a module just for this call."""
    api = ctypes.pythonapi
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api))
    context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", api))
    thunk = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

    def run_cthunk(capsule):
        return thunk(pointer(capsule, None))(context(capsule))

    sys.modules["theano.gof.cutils"] = stand_in("theano.gof.cutils", run_cthunk=run_cthunk)
    yield


@around_import("theano.sandbox.rng_mrg", speed=Speed(
    acts_on="the states of MRG_RandomStreams, of every seed and number of streams",
    brings="nothing cached 1.39",
    edge="tests/compat/test_compat.py::test_random_streams_are_theanos"))
def seed_streams_in_numpy(rng_mrg):
    """Compute the states of random streams in NumPy; Theano compiles a function and calls it often.

    Each stream is 2**72 steps ahead of the previous stream. So its state is the previous state
    multiplied by a matrix, modulo a prime. The n-th power of this matrix converts the states of n
    streams to the states of the next n streams.
    """
    yield

    def multiply(matrix, vectors, modulus):
        products = matrix[:, :, np.newaxis] * vectors.astype("int64") % modulus
        return products.sum(axis=1) % modulus

    @replace(rng_mrg)
    def multMatVect(v, A, m1, B, m2):
        halves = multiply(A, v[:3, np.newaxis], m1), multiply(B, v[3:, np.newaxis], m2)
        return np.concatenate(halves)[:, 0].astype("int32")

    @replace(rng_mrg.MRG_RandomStreams)
    def get_substream_rstates(self, n_streams, dtype, inc_rstate=True):
        assert 0 < n_streams < 2**72
        halves = []
        for matrix, modulus, half in [(rng_mrg.A1p72, rng_mrg.M1, self.rstate[:3]),
                                      (rng_mrg.A2p72, rng_mrg.M2, self.rstate[3:])]:
            states = np.asarray(half, dtype="int64")[:, np.newaxis]
            while states.shape[1] < n_streams:
                states = np.concatenate([states, multiply(matrix, states, modulus)], axis=1)
                matrix = multiply(matrix, matrix, modulus)
            halves.append(states[:, :n_streams])
        if inc_rstate:
            self.inc_rstate()
        return np.concatenate(halves).T.astype("int32", order="C")


@around_import("theano.tensor.elemwise", speed=Speed(
    acts_on="expressions of constants with fewer than 10,000 elements, and of Theano's own "
            "operations",
    brings="nothing cached 1.99",
    edge="tests/compat/test_compat.py::test_constants_of_a_programs_own_operations_are_computed_as_theano_does"))
def fold_constants_in_numpy(elemwise):
    """Compute an expression of small constants in NumPy; Theano compiles it to compute it once.

    This is done only if all operations belong to Theano, because an operation of the program may
    have different results in Python and in C.
    """
    yield
    from theano.gof.op import Op

    @replace(elemwise.Elemwise)
    def python_constant_folding(self, node):
        if not all(map(is_theanos, what_writes_c(node))):
            return (isinstance(self, elemwise.Elemwise)
                    and python_constant_folding.original(self, node))
        if isinstance(self, elemwise.Elemwise):
            has_python = type(self.scalar_op).impl is not elemwise.scalar.ScalarOp.impl
        else:
            has_python = type(self).perform is not Op.perform
        size = sum(variable.data.size for variable in node.inputs if hasattr(variable.data, "size"))
        return has_python and size < 10000 and len(node.inputs) < 32

    Op.python_constant_folding = python_constant_folding  # Theano's Op does not have this method
