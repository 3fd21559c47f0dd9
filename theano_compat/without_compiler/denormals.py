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


def _c_library():
    """Return the functions that read and set the mode, or None: no way to it, or no need."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        library = ctypes.CDLL("libm.so.6")
        return library.fegetenv, library.fesetenv
    except (OSError, AttributeError):  # another C library
        return None


_read, _set = _c_library() or (None, None)
_MODE, _FLUSH_TO_ZERO = 7, 0x8000  # the place of MXCSR among the words of `fenv_t`, and its bit


class _FlushedToZero:
    def __enter__(self):
        self._environment = (ctypes.c_uint32 * 8)()
        _read(self._environment)
        self._before = self._environment[_MODE]
        self._environment[_MODE] |= _FLUSH_TO_ZERO
        _set(self._environment)

    def __exit__(self, *_):
        self._environment[_MODE] = self._before
        _set(self._environment)


def flushed_to_zero(wanted):
    """Return a context manager in which, if wanted, float results below 1.2e-38 become 0."""
    return _FlushedToZero() if wanted and _set else contextlib.nullcontext()
