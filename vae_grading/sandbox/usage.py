"""What a process, together with all that it starts, uses: memory, time of processors, files."""

import os
import sys
import time

import psutil

__all__ = ["Usage", "holds_too_much"]


class Usage:
    """What the processes that this one has started use, as of the last `update`.

    Where this process is a subreaper, it also counts those that have detached from their parents.

    Parameters
    ----------
    pid : int
        The first of them.
    user : int
        The user that they become if this process is the superuser.
    group : vae_grading.sandbox.control_group.ControlGroup or None
        Their group.
    """

    def __init__(self, pid, user, group=None):
        self._pid, self._user, self._group = pid, user, group
        self._started, self._waited = time.monotonic(), 0.
        self._members, self._computed = [], 0.
        self._seconds = {}  #: for which processors have worked, also for what has ended

    def update(self):
        """Look which processes there are, for how long each has computed and the first waited."""
        self._members = psutil.Process().children(recursive=True)
        with_children = 0.
        for member in self._members:
            try:
                times = member.cpu_times()
            except psutil.Error:
                continue
            self._seconds[member] = times.user + times.system
            with_children += (times.user + times.system
                              + times.children_user + times.children_system)
        # Some have started and ended between two calls: their parents or the kernel count them.
        in_group = 0. if self._group is None else self._group.seconds()
        self._computed = max(
            self._computed, sum(self._seconds.values()), with_children, in_group)
        try:
            with open(f"/proc/{self._pid}/schedstat") as file:
                self._waited = int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # not Linux, or its kernel does not count it
            pass

    def seconds(self):
        """Return the seconds since the start, or those of processors if these are more.

        The time for which the first process has waited for a processor does not count: other
        programs may keep all processors busy. The time of processors is that of all processes
        together.
        """
        return max(self._computed, time.monotonic() - self._started - self._waited)

    def has_exceeded_memory(self):
        """Whether the kernel has killed processes because of their group's limit on memory."""
        return self._group is not None and self._group.has_exceeded_memory()

    def exceeds_memory(self, limit):
        """Whether all processes together take more than a number of bytes.

        Processes that have been forked share most of their memory. This is counted once, where
        Linux tells how much it is.
        """
        if sum(map(_resident, self._members)) <= limit:
            return False
        return sum(map(self._share, self._members)) > limit

    def _share(self, process):
        """Return the bytes of a process; of memory that n processes share, the n-th part."""
        try:
            fields = _fields(self._read_as_user(f"/proc/{process.pid}/smaps_rollup"))
            return fields["Pss"] + fields.get("SwapPss", 0)
        except (OSError, KeyError, ValueError):
            return _resident(process)

    def _read_as_user(self, path):
        """Read a file that belongs to the process's user.

        In most containers even the superuser may not read it.
        """
        group, is_superuser = os.getegid(), os.geteuid() == 0
        if is_superuser:
            os.setegid(self._user)
            os.seteuid(self._user)
        try:
            with open(path) as file:
                return file.read()
        finally:
            if is_superuser:
                os.seteuid(0)
                os.setegid(group)


def _resident(process):
    """Return the bytes of a process in memory and in swap space."""
    try:
        if sys.platform != "linux":
            return process.memory_info().rss
        with open(f"/proc/{process.pid}/status") as file:
            fields = _fields(file.read())
        return fields["VmRSS"] + fields.get("VmSwap", 0)
    except (OSError, KeyError, ValueError, psutil.Error):  # it has ended
        return 0


def _fields(text):
    """Return the sizes in a file of /proc, in bytes."""
    lines = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines
            if len(words) == 3 and words[2] == "kB"}


def holds_too_much(folder, limits):
    """Whether a folder exceeds the limits, or what is in it cannot be counted.

    With namespaces it looks empty here, but then the kernel keeps the limits.

    Parameters
    ----------
    folder : str
    limits : vae_grading.sandbox.process.Limits
    """
    files = size = 0
    folders = [folder]  # a loop: they may be nested deeper than functions can be
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except (FileNotFoundError, NotADirectoryError):  # it no longer exists
            continue
        except OSError:  # it may not be read, or its path is too long
            return True
        with entries:
            for entry in entries:
                files += 1
                try:
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                except FileNotFoundError:  # it no longer exists
                    pass
                except OSError:  # its path is too long
                    return True
                if files > limits.files or size > limits.disk:
                    return True
    return False
