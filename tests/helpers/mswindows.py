"""Makes a process on Linux look like one on Windows, as far as that goes.

`imitate` takes away what only POSIX has, and what Windows does not allow. Of
Python and the libraries below, which are tested on Windows themselves, it
leaves what they have imported; Theano, Lasagne and this project find
themselves there. As on Linux stay the C long of 64 bits, the form of paths,
processes and all native code.
"""

import asyncio
import builtins
import concurrent.futures.process  # noqa: F401
import ctypes.util  # noqa: F401
import errno
import io
import logging.handlers  # noqa: F401
import multiprocessing.pool  # noqa: F401
import os
import pathlib
import shutil
import signal
import socket  # noqa: F401
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import uuid  # noqa: F401
from types import ModuleType, SimpleNamespace

import filelock  # noqa: F401
import IPython  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import nbclient  # noqa: F401
import nbformat  # noqa: F401
import numpy  # noqa: F401
import platformdirs  # noqa: F401
import psutil  # noqa: F401
import requests  # noqa: F401
import scipy.linalg
import scipy.signal
import scipy.sparse.linalg
import scipy.special
import scipy.stats  # noqa: F401
import scipy_openblas32  # noqa: F401
import threadpoolctl  # noqa: F401
import tqdm  # noqa: F401
import zmq.asyncio

#: Modules, and names in `os`, `signal` and `asyncio`, that Python has on Unix only.
MODULES = "crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty"
NAMES = {
    os: """chown chroot confstr copy_file_range ctermid eventfd fchdir fchown fork forkpty fstatvfs
        getegid geteuid getgid getgrouplist getgroups getloadavg getpgid getpgrp getpriority
        getresgid getresuid getsid getuid getxattr initgroups killpg lchown listxattr lockf
        memfd_create mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate
        pread preadv pwrite pwritev readv register_at_fork
        sched_getaffinity sched_setaffinity sched_yield sendfile setegid seteuid setgid setgroups
        setpgid setpgrp setpriority setregid setresgid setresuid setreuid setsid setuid statvfs sync
        sysconf tcgetpgrp tcsetpgrp ttyname uname unshare wait wait3 wait4 waitid writev""",
    signal: """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
        alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigwait""",
    asyncio: "open_unix_connection start_unix_server",
}


def imitate(encoding="cp1251"):
    """From now on this process is on Windows, with this encoding of text files by default."""
    _refuse_what_is_open()
    _open_with(encoding)
    if sys.version_info < (3, 11):  # its pathlib has taken them before
        for name, owner in {**dict.fromkeys(["replace", "rename", "unlink", "rmdir", "symlink"], os),
                            "open": io}.items():
            setattr(pathlib._NormalAccessor, name, staticmethod(getattr(owner, name)))
    _keep_disk_usage()
    shutil.rmtree.avoids_symlink_attacks = False
    shutil._use_fd_functions = False  # there are none
    asyncio.ProactorEventLoop = asyncio.SelectorEventLoop
    zmq.asyncio._get_selector = zmq.asyncio._get_selector_windows  # a thread, and a warning of it
    asyncio.SelectorEventLoop.add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler
    for owner, names in NAMES.items():
        for name in names.split():
            if hasattr(owner, name):
                delattr(owner, name)
    for name in MODULES.split():
        sys.modules[name] = None
    local = os.path.join(os.environ["HOME"], "AppData", "Local")
    os.environ.update(LOCALAPPDATA=local, NUMBER_OF_PROCESSORS="2")
    sys.modules["sys"] = _Sys("sys")  # for what is imported from now on


class _Sys(ModuleType):
    """`sys`, of another platform."""

    platform = "win32"

    def __getattr__(self, name):
        return getattr(sys, name)

    def __setattr__(self, name, value):
        setattr(sys, name, value)


def _refuse_what_is_open():
    """A file that is open can neither be removed nor replaced; links need an administrator."""
    listdir, samestat, stat = os.listdir, os.path.samestat, os.stat

    def is_open(path, dir_fd=None):
        try:
            status = stat(path, dir_fd=dir_fd)
        except OSError:
            return False
        for number in listdir("/proc/self/fd"):
            try:
                if samestat(stat(int(number)), status):
                    return True
            except OSError:
                pass
        return False

    def refusing(function, *places):
        def wrapper(*args, **kwargs):
            for place in places:
                if is_open(args[place], kwargs.get("dir_fd")):
                    raise PermissionError(errno.EACCES, "used by another process", args[place])
            return function(*args, **kwargs)
        return wrapper

    for name in ["replace", "rename"]:
        setattr(os, name, refusing(getattr(os, name), 0, 1))
    for name in ["remove", "unlink", "rmdir"]:
        setattr(os, name, refusing(getattr(os, name), 0))

    def symlink(source, destination, *args, **kwargs):
        raise OSError(errno.EPERM, "A required privilege is not held by the client", destination)

    os.symlink = symlink


def _keep_disk_usage():
    """Windows can tell it, by another function."""
    statvfs = os.statvfs

    def disk_usage(path):
        status = statvfs(path)
        total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        return SimpleNamespace(total=total, used=total - free, free=free)

    shutil.disk_usage = disk_usage


def _open_with(default):
    open_file = io.open

    def open_as_there(file, mode="r", buffering=-1, encoding=None, *args, **kwargs):
        if "b" not in mode and encoding in (None, "locale"):
            encoding = default
        return open_file(file, mode, buffering, encoding, *args, **kwargs)

    io.open = builtins.open = open_as_there
