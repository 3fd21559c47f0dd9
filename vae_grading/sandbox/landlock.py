"""Restriction of file access by Landlock, for code that is not trusted, without namespaces.

Landlock needs no privileges, only ``no_new_privs``. Linux has it since version 5.13. Files that it
does not allow cannot be read, written, made, removed, renamed or executed. But their names, sizes
and permissions remain visible. The code can neither trace processes outside nor read their memory.
Since Linux 6.12, it cannot send signals to them, either.
"""

import ctypes
import errno
import os
import sys

__all__ = ["allow_only", "version"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_VERSION = 1  # a flag of the first call
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = (
    1 << bit for bit in (0, 1, 2, 3, 14, 15))
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
#: Maps a version to the last bit of the rights that it knows.
_LAST_BIT = {1: 12, 2: 13, 3: 14, 4: 14, 5: 15}
_SCOPES = 3  # signals and abstract sockets, since version 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64),
                ("scopes", ctypes.c_uint64)]


class _Rule(ctypes.Structure):
    _layout_ = "ms"  # Python 3.15 requires this if `_pack_` is set
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def _call(number, *arguments):
    result = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock: " + os.strerror(ctypes.get_errno()))
    return result


def version():
    """Return the version of Landlock in the kernel.

    Returns
    -------
    int
        0 if the kernel has no Landlock.
    """
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


def allow_only(readable, listed, writable):
    """Forbid access to all other files, for this process and all processes that it starts.

    This cannot be undone.

    Parameters
    ----------
    readable : list of path
        Files, and folders with their whole content, that may be read and executed.
    listed : list of path
        Folders in which only names may be listed, at any depth.
    writable : list of path
        Files, and folders with their whole content, to which all access is allowed.

    Raises
    ------
    OSError
        If the kernel has no Landlock.
    """
    known = version()
    if not known:
        raise OSError(errno.ENOSYS, "no Landlock")
    everything = (1 << (_LAST_BIT.get(known, 15) + 1)) - 1
    ruleset = _Ruleset(everything, 0, _SCOPES if known >= 6 else 0)
    descriptor = _call(_CREATE_RULESET, ctypes.byref(ruleset),
                       ctypes.c_size_t(ctypes.sizeof(ruleset)), ctypes.c_uint32(0))
    try:
        for rights, paths in [(_READ_FILE | _READ_DIR | _EXECUTE, readable), (_READ_DIR, listed),
                              (everything, writable)]:
            for path in paths:
                _add(descriptor, path, rights & everything)
        _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _add(ruleset, path, rights):
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # there is no such file, or this user can't reach it
        return
    try:
        rule = _Rule(rights if os.path.isdir(path) else rights & _OF_FILES, file)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule),
              ctypes.c_uint32(0))
    finally:
        os.close(file)
