"""Linux's control groups, version 2, in which the kernel counts all that processes use.

It counts more than a look at the processes can: memory of files in memory and of the kernel, and
the time of processes that have ended between two looks. Groups share the processors equally, however
many processes each has. Few users may make groups, so they are only an addition to the other limits.
"""

import os
import tempfile
import time
from pathlib import Path

from vae_grading.sandbox.forks import in_another_process

__all__ = ["ControlGroup", "place_for_groups"]

_CONTROLLERS = {"memory", "pids"}


class ControlGroup:
    """A group for one process and all that it starts.

    Parameters
    ----------
    place : path
        What `place_for_groups` returns.
    limits : vae_grading.sandbox.process.Limits, optional

    Raises
    ------
    OSError
        If it can't be made.
    """

    def __init__(self, place, limits=None):
        self._folder = Path(tempfile.mkdtemp(prefix="vae-grading-", dir=place))
        if limits is not None:
            self._set("memory.max", limits.memory + limits.disk)  # with files in memory
            self._set("memory.swap.max", 0)
            self._set("memory.oom.group", 1)
            self._set("pids.max", limits.processes)

    def _set(self, name, value):
        try:
            file = os.open(self._folder / name, os.O_WRONLY)
        except FileNotFoundError:  # an older kernel, or one without swap space
            return
        try:
            os.write(file, str(value).encode())
        finally:
            os.close(file)

    def enter(self):
        """Move this process into the group."""
        self._set("cgroup.procs", 0)

    def seconds(self):
        """Return for how many seconds processors have worked for the group."""
        return self._counts("cpu.stat").get("usage_usec", 0) / 1e6

    def has_exceeded_memory(self):
        """Whether the kernel has killed processes because the group takes too much memory."""
        return self._counts("memory.events").get("oom_kill", 0) > 0

    def _counts(self, name):
        try:
            lines = (self._folder / name).read_text().splitlines()
        except OSError:
            return {}
        return {key: int(value) for key, value in map(str.split, lines)}

    def close(self):
        """Kill what still runs in the group, and remove it."""
        for attempt in range(50):
            try:
                self._set("cgroup.kill", 1)
                os.rmdir(self._folder)
                return
            except OSError:  # it is not empty yet
                time.sleep(0.002 * attempt)


def place_for_groups():
    """Return a folder in which this process may make groups that limit memory, or None."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        mount = Path(next(fields[1] for fields in mounts if fields[2] == "cgroup2"))
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines()
                   if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    folder = mount / own.lstrip("/")
    for place in [folder, *folder.parents]:
        if place.is_relative_to(mount) and _allows_groups(place):
            return place
    return None


def _allows_groups(place):
    try:
        if not _CONTROLLERS <= set((place / "cgroup.subtree_control").read_text().split()):
            return False
        group = ControlGroup(place)
    except OSError:
        return False

    def enter():
        group.enter()
        return b"entered"

    is_allowed = in_another_process(enter) == b"entered"
    group.close()
    return is_allowed
