"""Control groups of Linux, version 2, in which the kernel counts the resources of processes.

The kernel counts more than the supervisor can see when it polls the processes: files in memory,
memory of the kernel, and the time of processes that have ended between two polls. Groups share the
processors equally, even if they have different numbers of processes. Few users may make groups, so
groups only supplement the other limits.
"""

import os
import tempfile
import time
from pathlib import Path

from vae_grading.sandbox.forks import in_another_process

__all__ = ["ControlGroup", "place_for_groups"]

_CONTROLLERS = {"memory", "pids"}


class ControlGroup:
    """A group for a process and all processes that it starts.

    Parameters
    ----------
    place : path
        The folder that `place_for_groups` returns.
    limits : vae_grading.sandbox.process.Limits, optional
        By default, the group only counts.

    Raises
    ------
    OSError
        If the group can't be made.
    """

    def __init__(self, place, limits=None):
        self._folder = Path(tempfile.mkdtemp(prefix="vae-grading-", dir=place))
        if limits is not None:
            self._set("memory.max", limits.memory + limits.disk)  # files may be in memory
            self._set("memory.swap.max", 0)
            self._set("memory.oom.group", 1)
            self._set("pids.max", limits.processes)

    def _set(self, name, value):
        try:
            file = os.open(self._folder / name, os.O_WRONLY)
        except FileNotFoundError:  # the kernel is older, or has no swap space
            return
        try:
            os.write(file, str(value).encode())
        finally:
            os.close(file)

    def enter(self):
        """Move this process into the group."""
        self._set("cgroup.procs", 0)

    def seconds(self):
        """Return the time for which processors have worked for the group, in seconds."""
        return self._counts("cpu.stat").get("usage_usec", 0) / 1e6

    def has_exceeded_memory(self):
        """Return whether the kernel has killed processes because the group took too much memory."""
        return self._counts("memory.events").get("oom_kill", 0) > 0

    def _counts(self, name):
        try:
            lines = (self._folder / name).read_text().splitlines()
        except OSError:
            return {}
        return {key: int(value) for key, value in map(str.split, lines)}

    def close(self):
        """Kill all processes in the group, and remove the group."""
        for attempt in range(50):
            try:
                self._set("cgroup.kill", 1)
                os.rmdir(self._folder)
                return
            except OSError:  # the group is not empty yet
                time.sleep(0.002 * attempt)


def place_for_groups():
    """Find a folder in which this process may make groups that limit memory.

    Returns
    -------
    pathlib.Path or None
    """
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
