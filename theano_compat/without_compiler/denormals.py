"""Flushing of denormal numbers: float32 results below 1.2e-38 become 0 in NumPy's loops.

Computing with denormal numbers is two orders of magnitude slower on processors
by Intel and AMD, and moving averages decay to them. Compiled code sets the mode
of the processor itself (``FlushToZero`` in ``include/vector_math.h``). Python
sets it through the C library.
"""

import contextlib
import ctypes
import platform
import sys

__all__ = ["flushed_to_zero"]


def _c_library():
    """Return the C functions that read and set the mode, or None if they are not available."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        library = ctypes.CDLL("libm.so.6")
        return library.fegetenv, library.fesetenv
    except (OSError, AttributeError):  # the C library is not glibc
        return None


_read_environment, _set_environment = _c_library() or (None, None)
_MODE, _FLUSH_TO_ZERO = 7, 0x8000  # the index of MXCSR among the words of `fenv_t`, and the bit


class _FlushedToZero:
    """A context manager that sets the mode, and restores it at the end."""

    def __enter__(self):
        self._environment = (ctypes.c_uint32 * 8)()
        _read_environment(self._environment)
        self._mode_before = self._environment[_MODE]
        self._environment[_MODE] |= _FLUSH_TO_ZERO
        _set_environment(self._environment)

    def __exit__(self, *_):
        self._environment[_MODE] = self._mode_before
        _set_environment(self._environment)


def flushed_to_zero(wanted):
    """Return a context manager in which float32 results below 1.2e-38 become 0.

    Parameters
    ----------
    wanted : bool
        If it is false, or if the mode cannot be set here, the context manager does nothing.

    Returns
    -------
    context manager
    """
    return _FlushedToZero() if wanted and _set_environment else contextlib.nullcontext()
