"""A process for code that is not trusted: always limited, and isolated if Linux allows it.

On Linux and macOS there are limits on time, on the memory of the process and
of all processes that it starts, on the number of these processes, and on the
bytes and the number of files in its working folder. The process has its own
working folder, which is deleted afterwards. It gets almost no environment
variables, and never the rights of the superuser.

On Linux it gets no sockets, and no kernel memory that its limits do not cover:
see `vae_grading.sandbox.system_calls`. It can only read the system's libraries,
Python and its packages, and can only write to its working folder. Namespaces
enforce this, or else Landlock. With namespaces, it cannot see other processes.
Its folder is then in memory, with limits on the bytes and on the number of
files, links and folders.
"""

import ctypes
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil

from vae_grading.sandbox import landlock
from vae_grading.sandbox.control_group import ControlGroup
from vae_grading.sandbox.forks import in_another_process, write_all
from vae_grading.sandbox.system_calls import forbid_calls
from vae_grading.sandbox.usage import Usage, holds_too_much
from vae_grading.sandbox.visible_files import VisibleFiles

__all__ = ["Limits", "MAX_DELAY", "is_open", "keep_memory_private", "out_of_reach", "run_limited",
           "why_not_isolated"]

#: A process may take this many times its limit on time by the clock, because other processes may
#: keep the processors busy.
MAX_DELAY = 10

_MAX_OUTPUT = 64 * 2**20  # bytes
_POLL_INTERVAL = 0.05  # seconds

# From Linux's headers.
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_NOATIME, _MS_NODIRATIME, _MS_RELATIME = 1024, 2048, 1 << 21
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 4096, 16384, 1 << 18, 2
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_PR_SET_DUMPABLE = 4
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

#: The exit code of a process that has finished its task. If a notebook ends its process, the exit
#: code is different, such as 0.
_DONE = 117
_SHARED_FOLDERS = ["/tmp", "/var/tmp", "/dev/shm"]


@dataclass(frozen=True)
class Limits:
    """Limits on a process together with all processes that it starts."""

    timeout: float = 120.  #: seconds of processors, and by the clock
    total: float = 300.  #: seconds, for all processes of a notebook together
    memory: int = 4 * 2**30  #: bytes
    disk: int = 256 * 2**20  #: bytes, in the working folder
    files: int = 16384  #: files, links and folders in the working folder
    processes: int = 64


def _libc(function, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    arguments = [os.fsencode(argument) if isinstance(argument, str) else argument
                 for argument in arguments]
    if getattr(library, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _prctl(option, value):
    if sys.platform == "linux":
        _libc("prctl", option, ctypes.c_ulong(value), 0, 0, 0)


# --- isolation, on Linux ---

def _unshare_processes():
    """Hide other processes from the children of this process."""
    user, group = os.geteuid(), os.getegid()
    _libc("unshare", _CLONE_NEWPID | (_CLONE_NEWUSER if user != 0 else 0))
    if user != 0:  # in the namespace, the same user may mount
        for file, line in [("setgroups", "deny"), ("gid_map", f"{group} {group} 1"),
                           ("uid_map", f"{user} {user} 1")]:
            with open(f"/proc/self/{file}", "w") as opened:
                opened.write(line)


def _bind(path, root):
    """Mount a file or folder, read-only, at the same path in the new root."""
    target = root + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        open(target, "x").close()
    _libc("mount", path, target, None, ctypes.c_ulong(_MS_BIND | _MS_REC), None)
    kept = os.statvfs(path).f_flag & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC
                                      | _MS_NOATIME | _MS_NODIRATIME)
    kept |= _MS_RELATIME if os.statvfs(path).f_flag & 4096 else 0
    flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | kept
    _libc("mount", None, target, None, ctypes.c_ulong(flags), None)


def _hide(path):
    """Mount an empty folder or file over a path. A folder must be made read-only afterwards."""
    if os.path.isdir(path):
        _libc("mount", "tmpfs", path, "tmpfs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV),
              "size=64k,nr_inodes=64,mode=755")
    else:
        _libc("mount", "/dev/null", path, None, ctypes.c_ulong(_MS_BIND), None)


def _enter_new_root(root, visible, limits):
    """Replace the root folder by one with an empty /tmp and the visible files, read-only."""
    _libc("unshare", _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS)
    _libc("mount", None, "/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    _libc("mount", "tmpfs", root, "tmpfs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV),
          f"size={limits.disk},nr_inodes={limits.files},mode=755")
    hidden = []
    for path, is_readable in visible.in_order:
        is_visible = os.path.lexists(root + path)
        if is_readable and not is_visible:
            _bind(path, root)
        elif is_visible and not is_readable:
            _hide(root + path)
            hidden.append(root + path)
    for path in filter(os.path.isdir, hidden):  # readable folders have been mounted there
        _libc("mount", None, path, None, ctypes.c_ulong(
            _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV), None)
    for path, target in visible.links.items():
        if not os.path.lexists(root + path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(target, root + path)
    for folder in ["proc", "tmp", "old"]:
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    try:
        _libc("mount", "proc", root + "/proc", "proc",
              ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC), None)
    except OSError:
        pass  # some containers do not allow this mount, and nothing needs it
    os.chdir(root)
    _libc("syscall", ctypes.c_long(_SYS_PIVOT_ROOT[os.uname().machine]), b".", b"old")
    os.chdir("/")
    _libc("umount2", "/old", _MNT_DETACH)
    os.rmdir("/old")


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def _drop_rights(user):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    elif sys.platform == "linux":
        header = _CapHeader(0x20080522, 0)
        _libc("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _limit(limits, before):
    """Set the limits that the kernel enforces.

    Parameters
    ----------
    limits : Limits
    before : int
        Size of the address space before the task, in bytes.
    """
    processes = limits.processes
    if os.geteuid() != 0:  # the kernel's limit applies to all processes of the user
        for process in psutil.process_iter(["uids", "num_threads"]):
            if process.info["uids"] and process.info["uids"].real == os.getuid():
                processes += process.info["num_threads"] or 1
    for name, value in [("RLIMIT_CPU", int(limits.timeout) + 1), ("RLIMIT_CORE", 0),
                        ("RLIMIT_FSIZE", limits.disk), ("RLIMIT_NOFILE", 256),
                        ("RLIMIT_NPROC", processes), ("RLIMIT_MEMLOCK", 0),
                        ("RLIMIT_SIGPENDING", 1024), ("RLIMIT_MSGQUEUE", 0),
                        ("RLIMIT_AS", before + limits.memory)]:
        if not hasattr(resource, name):
            continue  # only Linux has this limit
        hard = resource.getrlimit(getattr(resource, name))[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (ValueError, OSError):
            pass  # macOS rejects some limits; the supervisor also checks time and memory


def _run_here(task, output, folder, user, limits, before, visible, isolated, group):
    """Give up all rights of this process, then run the untrusted code in it."""
    os.setsid()
    if group is not None:
        group.enter()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.dup2(output, 3)
    os.closerange(4, 65536)
    _limit(limits, before)
    if isolated:
        _enter_new_root(folder, visible, limits)
        folder = "/tmp/work"
        os.mkdir(folder)
        os.chmod("/tmp", 0o1777)
    if os.geteuid() == 0:
        os.chown(folder, user, user)
    os.chdir(folder)
    for name in set(os.environ) - {"PATH", "LANG"}:
        del os.environ[name]
    os.environ.update(HOME=folder, TMPDIR=folder, MPLBACKEND="Agg")
    tempfile.tempdir = None
    is_superuser = os.geteuid() == 0
    _drop_rights(user)
    closed = isolated or _close_other_files(visible, folder)
    if sys.platform == "linux":
        try:
            forbid_calls(all_shared_memory=not closed)
        except OSError:
            if isolated:
                raise
    if is_superuser or closed:  # otherwise, another student's process could read its memory
        _prctl(_PR_SET_DUMPABLE, 1)  # allows the supervisor to count the memory that it shares
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # must follow the dropping of rights, which clears it
    task(lambda data: write_all(3, data))


def _close_other_files(visible, folder):
    """Let this process access only the files that it needs; return whether the kernel can do it."""
    readable, around = visible.without_hidden
    try:
        landlock.allow_only(readable, around, [folder, "/dev/null"])
        return True
    except OSError:
        return False


def run_limited(task, limits, visible=VisibleFiles(), isolated=False, cancel=None, groups=None):
    """Run a function in a new process with limits.

    The process that calls this function must do nothing else, because the
    function forks, and takes over the handling of child processes and SIGTERM.

    Parameters
    ----------
    task : callable
        Its only argument is a function that writes bytes to the output.
    limits : Limits
    visible : VisibleFiles
        The files that the process may read.
    isolated : bool
        Whether to use namespaces.
    cancel : socket.socket, optional
        The process is stopped when the other end of this socket is closed.
    groups : path, optional
        Folder for control groups: see `vae_grading.sandbox.control_group`.

    Returns
    -------
    output : bytearray
        The bytes that the function has written.
    ended : str
        "" if the function returned. Otherwise the reason why the process
        ended: "time", "memory", "disk" or "output" for a limit, "cancelled",
        or the signal or exit code.
    seconds : float
        The time that the process has taken: see
        `vae_grading.sandbox.usage.Usage.seconds`.
    """
    signal.signal(signal.SIGTERM, lambda *args: sys.exit())
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if isolated:
        _unshare_processes()
    else:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    folder = tempfile.mkdtemp(prefix="vae-grading-")
    user = 2_000_000 + os.getpid()  # replaces the superuser; owns no files and shares no limits
    before = psutil.Process().memory_info().vms  # in a namespace, numbers of processes would differ
    group = _make_group(groups, limits)
    end, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _run_here(task, start, folder, user, limits, before, visible, isolated, group)
            status = _DONE
        except BaseException as error:
            write_all(3, b"\n" + repr(error).encode() + b"\n")
        finally:
            os._exit(status)
    os.close(start)
    try:
        return _supervise(pid, end, limits, cancel, folder, Usage(pid, user, group))
    finally:
        _kill_everything()
        if group is not None:
            group.close()
        os.close(end)
        if isolated:  # outside the namespace, this folder is empty
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _remove(folder)
            if os.geteuid() == 0:
                _remove_files_of(user)


def _make_group(place, limits):
    try:
        return None if place is None else ControlGroup(place, limits)
    except OSError:  # the other limits do not need a group
        return None


def _supervise(pid, end, limits, cancel, folder, usage):
    output, ended = bytearray(), None
    deadline = time.monotonic() + MAX_DELAY * limits.timeout
    os.set_blocking(end, False)
    next_usage_check = 0.
    while ended is None:
        ready, _, _ = select.select([end] + [cancel] * (cancel is not None), [], [],
                                    _POLL_INTERVAL)
        if cancel in ready:
            ended = "cancelled"
        exited, status = os.waitpid(pid, os.WNOHANG)
        while True:
            try:
                chunk = os.read(end, 2**20)
            except BlockingIOError:
                break
            output += chunk
            if not chunk or len(output) > _MAX_OUTPUT:
                break
        if len(output) > _MAX_OUTPUT:
            ended = "output"
        elif exited:
            ended = _describe(status)
        elif time.monotonic() > deadline:
            ended = "time"
        elif time.monotonic() > next_usage_check:
            next_usage_check = time.monotonic() + 0.2
            usage.update()
            if usage.seconds() > limits.timeout:
                ended = "time"
            elif usage.exceeds_memory(limits.memory):
                ended = "memory"
            elif holds_too_much(folder, limits):
                ended = "disk"
    if ended == "SIGKILL" and usage.has_exceeded_memory():
        ended = "memory"
    del output[_MAX_OUTPUT:]
    return output, ended, usage.seconds()


def _describe(status):
    """Return how a process ended; "" if it has finished its task."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return "time"
        # Most real-time signals have no name.
        return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    code = os.WEXITSTATUS(status)
    return "" if code == _DONE else f"exit code {code}"


def _remove(folder):
    """Remove a folder. Untrusted code may have nested it too deeply for a recursive function."""
    if os.geteuid() != 0:  # the superuser may read all folders
        subprocess.run(["chmod", "-R", "u+rwx", folder], stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", folder], stderr=subprocess.DEVNULL)


def _remove_files_of(user):
    """Remove files that a user has left in folders that everyone may write to.

    If the kernel has Landlock, there are no such files.
    """
    for folder in _SHARED_FOLDERS:
        try:
            with os.scandir(folder) as entries:
                paths = [entry.path for entry in entries]
        except OSError:
            continue
        for path in paths:
            try:
                is_left = os.lstat(path).st_uid == user
            except OSError:
                continue
            if is_left:
                _remove(path)


def _kill_everything():
    """Kill all descendants of this process."""
    for attempt in range(100):
        descendants = psutil.Process().children(recursive=True)
        if not descendants:
            return
        for process in descendants:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002 * attempt)


def why_not_isolated():
    """Return the reason why this machine does not allow namespaces.

    Returns
    -------
    str or None
        None if it allows them.
    """
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    if os.uname().machine not in _SYS_PIVOT_ROOT:
        return f"not tried on {os.uname().machine}"

    def try_it():
        try:
            output, ended, _seconds = run_limited(
                lambda write: write(b"fine"), Limits(timeout=10), isolated=True)
            return output.replace(b"fine", b"", 1).strip() or ended.encode()
        except BaseException as error:
            return repr(error).encode()

    # This needs another process, because `run_limited` changes the process that calls it.
    return in_another_process(try_it).decode() or None


def is_open():
    """Return the resources of this machine that students' code can reach without namespaces.

    Returns
    -------
    set of str
        It contains "files" if the code can read all files that its user can read, and "network" if
        it can use sockets.
    """
    if sys.platform != "linux":
        return {"files", "network"}

    def look():
        _drop_rights(2_000_000 + os.getpid())
        for name, close in [("files", lambda: landlock.allow_only([], [], [])),
                            ("network", forbid_calls)]:
            try:
                close()
            except OSError:
                yield name

    return set(in_another_process(lambda: " ".join(look()).encode()).decode().split())


def keep_memory_private():
    """Allow only the superuser to read the memory of this process and of its later forks."""
    _prctl(_PR_SET_DUMPABLE, 0)


def out_of_reach(paths):
    """Return the first path that students' code can't enter.

    This can only happen if this process belongs to the superuser, because students' code then runs
    as another user.

    Parameters
    ----------
    paths : list of str

    Returns
    -------
    str or None
    """
    if os.geteuid() != 0:
        return None

    def look():
        _drop_rights(2_000_000 + os.getpid())
        unreachable = (path for path in paths if not os.access(path, os.R_OK | os.X_OK))
        return os.fsencode(next(unreachable, ""))

    return os.fsdecode(in_another_process(look)) or None
