"""An imitation of Windows in a process on Linux, for tests without a Windows machine.

`imitate` removes names that exist only on POSIX, and forbids operations that
Windows does not allow. Python and the libraries in `IMPORTED_BEFORE` are
imported before that and are not affected, because their own projects test them
on Windows. Theano, Lasagne and this project are affected. The 32-bit C long,
the form of paths, processes and native code are not imitated.
"""

import asyncio
import builtins
import errno
import importlib
import io
import os
import pathlib
import shutil
import signal
import sys
from types import ModuleType, SimpleNamespace

import zmq.asyncio

#: Modules that look at the platform while they are imported, and are to find Linux.
IMPORTED_BEFORE = """
    concurrent.futures.process ctypes.util logging.handlers multiprocessing.pool socket subprocess
    tempfile uuid filelock IPython matplotlib.pyplot nbclient nbformat numpy platformdirs psutil
    requests scipy.linalg scipy.signal scipy.sparse.linalg scipy.special scipy.stats
    scipy_openblas32 threadpoolctl tqdm"""
#: Modules, and names in `os`, `signal` and `asyncio`, that Python has on Unix only.
UNIX_MODULES = "crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty"
UNIX_NAMES = {
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
    """Make this process one on Windows, from now on.

    Parameters
    ----------
    encoding : str, optional
        The default encoding of text files.
    """
    for name in IMPORTED_BEFORE.split():
        importlib.import_module(name)
    _protect_open_files()
    _forbid_links()
    _open_text_as(encoding)
    if sys.version_info < (3, 11):  # its pathlib has copies of these functions
        for name in ["replace", "rename", "unlink", "rmdir", "symlink"]:
            setattr(pathlib._NormalAccessor, name, staticmethod(getattr(os, name)))
        pathlib._NormalAccessor.open = staticmethod(io.open)
    _keep_disk_usage()
    shutil.rmtree.avoids_symlink_attacks = False
    shutil._use_fd_functions = False  # Windows has no functions of file descriptors of folders
    asyncio.ProactorEventLoop = asyncio.SelectorEventLoop
    zmq.asyncio._get_selector = zmq.asyncio._get_selector_windows  # it starts a thread, and warns
    asyncio.SelectorEventLoop.add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler
    for owner, names in UNIX_NAMES.items():
        for name in names.split():
            if hasattr(owner, name):
                delattr(owner, name)
    for name in UNIX_MODULES.split():
        sys.modules[name] = None
    local = os.path.join(os.environ["HOME"], "AppData", "Local")
    os.environ.update(LOCALAPPDATA=local, NUMBER_OF_PROCESSORS="2")
    sys.modules["sys"] = _Sys("sys")  # for modules that are imported from now on


class _Sys(ModuleType):
    """`sys` with another platform."""

    platform = "win32"

    def __getattr__(self, name):
        return getattr(sys, name)

    def __setattr__(self, name, value):
        setattr(sys, name, value)


def _protect_open_files():
    """Refuse to remove or replace a file that this process has open."""
    def protected(original, n_paths):
        def change(*args, **kwargs):
            for path in args[:n_paths]:
                if _is_open(path, kwargs.get("dir_fd")):
                    raise PermissionError(errno.EACCES, "used by another process", path)
            return original(*args, **kwargs)
        return change

    for name, n_paths in {"replace": 2, "rename": 2, "remove": 1, "unlink": 1, "rmdir": 1}.items():
        setattr(os, name, protected(getattr(os, name), n_paths))


def _is_open(path, dir_fd):
    try:
        status = os.stat(path, dir_fd=dir_fd)
    except OSError:
        return False
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.stat(int(descriptor)), status):
                return True
        except OSError:  # it has been closed
            pass
    return False


def _forbid_links():
    """Refuse symbolic links, which need an administrator's rights."""
    def symlink(source, destination, *args, **kwargs):
        raise OSError(errno.EPERM, "A required privilege is not held by the client", destination)

    os.symlink = symlink


def _keep_disk_usage():
    """Keep `shutil.disk_usage`, which calls `os.statvfs` here and another function on Windows."""
    statvfs = os.statvfs

    def disk_usage(path):
        status = statvfs(path)
        total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
        return SimpleNamespace(total=total, used=total - free, free=free)

    shutil.disk_usage = disk_usage


def _open_text_as(default_encoding):
    """Give text files this encoding where a program names none."""
    original_open = io.open

    def open_as_windows(file, mode="r", buffering=-1, encoding=None, *args, **kwargs):
        if "b" not in mode and encoding in (None, "locale"):
            encoding = default_encoding
        return original_open(file, mode, buffering, encoding, *args, **kwargs)

    io.open = builtins.open = open_as_windows
