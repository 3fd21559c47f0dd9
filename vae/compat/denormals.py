"""Results below 1.2e-38 become 0 in NumPy's loops on float32, too.

Computing with such numbers is two orders slower on processors by Intel and
AMD, and moving averages decay into them.  Compiled code sets the processor's
mode itself, ``FlushToZero`` in ``include/vector_math.h``; Python has to ask
the C library.
"""

import contextlib
import ctypes
import platform
import sys

__all__ = ["flushed_to_zero"]


def _of_the_c_library():
    """Return a context manager, or None where there is no way to it, or no need."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    library = ctypes.CDLL("libm.so.6")
    get, put = library.fegetenv, library.fesetenv
    environment = ctypes.c_uint32 * 8  # seven words of the old unit's, and MXCSR

    @contextlib.contextmanager
    def flushed():
        before = environment()
        get(before)
        put(environment(*before[:7], before[7] | 0x8000))
        try:
            yield
        finally:
            put(before)

    return flushed


try:
    _flushed = _of_the_c_library()
except (OSError, AttributeError):  # another C library
    _flushed = None


def flushed_to_zero(wanted):
    """Return a context manager in which, if wanted, float results below 1.2e-38 become 0."""
    return _flushed() if wanted and _flushed else contextlib.nullcontext()
