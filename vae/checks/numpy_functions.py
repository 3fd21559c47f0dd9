"""Theano functions that NumPy evaluates, so that nothing has to be compiled.

The grader's processes have no compiler. In a notebook there may be a compiler, but it would take
longer than all computations of a check.
"""

import copy
from contextlib import contextmanager

import theano
from theano.compile.builders import OpFromGraph
from theano.gof import Optimizer, Query
from theano.gof.toolbox import ReplaceValidate
from theano.gof.vm import VM_Linker
from theano.scan_module.scan_op import Scan
from threadpoolctl import ThreadpoolController

from theano_compat.hooks import PATCHES
from theano_compat.without_compiler.expressions import DelayedInterrupts
from vae.language import _
from vae.progress import stage

__all__ = ["function"]

#: Optimisations that keep results finite; the grader uses the same. Optimisations for speed would
#: take more time than they save.
_OPTIMISATIONS = Query(include=["fast_compile", "stabilize", "BlasOpt", "local_pow_specialize"],
                       exclude=["cxx_only"])

_libraries = ThreadpoolController()


def function(inputs, outputs, updates=()):
    """Return a Theano function that NumPy evaluates, or a compiled function if NumPy cannot.

    Parameters
    ----------
    inputs : list of Theano variables
        The outputs and the updates need not depend on all inputs.
    outputs : Theano variable or theano.Out, or list of them
    updates : list of pairs of a shared variable and its new value

    Returns
    -------
    callable
        It takes a value for each input. Its result is the same as with `theano.function`.

    Raises
    ------
    Exception
        All errors of `theano.function`, such as `theano.gof.MissingInputError`.
    """
    def made(mode=None):
        return theano.function(inputs, outputs, mode=mode, updates=updates,
                               on_unused_input="ignore")

    def compiled():
        with stage(_("Theano компилирует код")):
            return made()

    if theano.config.cxx and _is_slow():
        return compiled()
    try:
        with _without_compiler():
            computed = made(_numpy_mode())
    except Exception:
        if not theano.config.cxx:
            raise
        return compiled()

    def call(*values):
        nonlocal computed
        try:
            # On small matrices, one thread is faster than several.
            with _libraries.limit(limits=1, user_api="blas"):
                return computed(*values)
        except ValueError:  # shapes do not match: compiled code would raise the same error
            raise
        except Exception:
            if not theano.config.cxx:
                raise
            computed = compiled()  # for this call and all later calls
            return computed(*values)

    return call


def _is_slow():
    """Return whether a patch that lets NumPy compute whole arrays has been left out."""
    return any(patch.left_out for patch in PATCHES.values() if patch.group == "without_compiler")


@contextmanager
def _without_compiler():
    """Let Theano build functions as if there were no compiler, and write nothing to its cache."""
    config = theano.config
    before = config.cxx, config.cache_optimizations
    try:
        config.cxx, config.cache_optimizations = "", False
        yield
    finally:
        with DelayedInterrupts():
            config.cxx, config.cache_optimizations = before


def _numpy_mode():
    linker = VM_Linker(use_cloop=False, c_thunks=False)
    return theano.Mode(linker, _OPTIMISATIONS.register((_OwnInnerFunctions(), 1000)))


class _OwnInnerFunctions(Optimizer):
    """An optimiser that copies operations which store a function that they have built: loops etc.

    Without a copy, the student's compiled functions would use the stored function, which NumPy
    evaluates.
    """

    def add_requirements(self, fgraph):
        fgraph.attach_feature(ReplaceValidate())

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, (Scan, OpFromGraph)):
                op = copy.copy(node.op)
                vars(op).pop("fn", None)
                if isinstance(op, Scan):
                    op.mode_instance = _numpy_mode()
                else:
                    op.kwargs = {**op.kwargs, "mode": _numpy_mode()}
                outputs = op.make_node(*node.inputs).outputs
                fgraph.replace_all_validate(list(zip(node.outputs, outputs)))
