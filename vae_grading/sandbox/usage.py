"""The memory, processor time and files that a process and its descendants use."""

import os
import sys
import time

import psutil

__all__ = ["Usage", "holds_too_much"]


class Usage:
    """The resources that all descendants of this process use, at the time of the last `update`.

    If this process is a subreaper, descendants that have detached from their parents count, too.

    Parameters
    ----------
    pid : int
        The process that this process has started.
    user : int
        The descendants run as this user if this process belongs to the superuser.
    group : vae_grading.sandbox.control_group.ControlGroup or None
        The control group of the descendants.
    """

    def __init__(self, pid, user, group=None):
        self._pid, self._user, self._group = pid, user, group
        self._started, self._waited = time.monotonic(), 0.
        self._members, self._computed = [], 0.
        self._seconds = {}  #: processor time of each descendant, including those that have ended

    def update(self):
        """Find all descendants and their processor time, and how long the first one has waited."""
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
        # Processes may start and end between two calls. Their parents or the kernel count them.
        in_group = 0. if self._group is None else self._group.seconds()
        self._computed = max(
            self._computed, sum(self._seconds.values()), with_children, in_group)
        try:
            with open(f"/proc/{self._pid}/schedstat") as file:
                self._waited = int(file.read().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):  # not Linux, or the kernel does not count this
            pass

    def seconds(self):
        """Return the time since the start, or the processor time if it is larger, in seconds.

        The time for which the first process has waited for a processor does not count, because
        other programs may keep all processors busy. The processor time is the sum over all
        descendants.
        """
        return max(self._computed, time.monotonic() - self._started - self._waited)

    def has_exceeded_memory(self):
        """Return whether the kernel has killed processes because of their group's memory limit."""
        return self._group is not None and self._group.has_exceeded_memory()

    def exceeds_memory(self, limit):
        """Return whether all descendants together take more memory than a limit.

        Forked processes share most of their memory. If Linux states how much it is, shared memory
        is counted once.

        Parameters
        ----------
        limit : int
            Bytes.

        Returns
        -------
        bool
        """
        if sum(map(_resident, self._members)) <= limit:
            return False
        return sum(map(self._share, self._members)) > limit

    def _share(self, process):
        """Return the bytes of a process. Memory that n processes share counts as an n-th part."""
        try:
            fields = _fields(self._read_as_user(f"/proc/{process.pid}/smaps_rollup"))
            return fields["Pss"] + fields.get("SwapPss", 0)
        except (OSError, KeyError, ValueError):
            return _resident(process)

    def _read_as_user(self, path):
        """Read a file as the user of the descendants.

        In most containers, even the superuser may not read it.
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
    except (OSError, KeyError, ValueError, psutil.Error):  # the process has ended
        return 0


def _fields(text):
    """Return the sizes in the text of a file in /proc, in bytes."""
    lines = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines
            if len(words) == 3 and words[2] == "kB"}


def holds_too_much(folder, limits):
    """Return whether the content of a folder exceeds the limits or cannot be counted.

    With namespaces, the folder looks empty from outside, but then the kernel enforces the limits.

    Parameters
    ----------
    folder : str
    limits : vae_grading.sandbox.process.Limits

    Returns
    -------
    bool
    """
    files = size = 0
    folders = [folder]  # a loop, because folders may be nested too deeply for recursion
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except (FileNotFoundError, NotADirectoryError):  # the folder no longer exists
            continue
        except OSError:  # the folder may not be read, or its path is too long
            return True
        with entries:
            for entry in entries:
                files += 1
                try:
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                except FileNotFoundError:  # the file no longer exists
                    pass
                except OSError:  # the path is too long
                    return True
                if files > limits.files or size > limits.disk:
                    return True
    return False
