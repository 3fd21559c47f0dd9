"""The grader's side of the sandbox: it starts the fork server and sends tasks to it.

The server imports a copy of our packages without the solutions.
"""

import ast
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import platformdirs

from vae.checks import EXERCISES
from vae.language import language
from vae_grading.json_lines import lines_of_json
from vae_grading.messages import answers_in, task_to_json
from vae_grading.sandbox.process import MAX_DELAY, keep_memory_private
from vae_grading.sandbox.visible_files import OWN_PACKAGES, folders_with_solutions

__all__ = ["THEANO_FLAGS", "Worker", "WorkerError", "receive", "send"]

_SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION\n", re.M | re.S)
_STARTUP_TIMEOUT = 120  # seconds
_CLEANUP_TIMEOUT = 120  # seconds in which the processes and files of a task are removed

#: NumPy evaluates the graphs, so that an answer needs no compilation, and students' code cannot
#: attack the compiler. The only optimisations of Theano are those that keep results finite.
THEANO_FLAGS = ("cxx=,optimizer=fast_compile,"
                "optimizer_including=stabilize:BlasOpt:local_pow_specialize,"
                "traceback.limit=0,base_compiledir=theano,cache_optimizations=False")


class WorkerError(RuntimeError):
    """The process that runs students' code did not start, or has ended."""


def own_files():
    """Return the files of our packages and utils.py, a dict by their paths in the project."""
    project = Path(__file__).parents[2]
    files = [project / "utils.py", *(
        path for package in OWN_PACKAGES for path in (project / package).rglob("*")
        if path.suffix in (".py", ".h", ".html", ".po"))]
    return {path.relative_to(project): path for path in files}


def packages_without_solutions(folder):
    """Copy our packages and utils.py into a folder, without the solutions of exercises."""
    for name, path in own_files().items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        target.write_text(_without_solutions(text) if _SOLUTION.search(text) else text,
                          encoding="utf-8")


def _without_solutions(code):
    """Remove the solutions from the classes and functions that an exercise asks for.

    Other solutions remain, because no exercise asks for them any more.
    """
    asked_for = {name for exercise in EXERCISES.values() for name in exercise.names}
    lines = code.splitlines(keepends=True)
    end = len(lines)
    for node in reversed(ast.parse(code).body):
        start = node.lineno - 1
        if getattr(node, "name", None) in asked_for:
            lines[start:end] = [_SOLUTION.sub(r"\1raise NotImplementedError\n",
                                              "".join(lines[start:end]))]
        end = start
    return "".join(lines)


class Worker:
    """A running fork server.

    Parameters
    ----------
    setup : str
        Code of the first cell of a notebook.
    images : numpy.ndarray, shape (n, 1, 28, 28)
        Real images in [0, 1], for training.

    Raises
    ------
    WorkerError
        If the process does not start.

    Attributes
    ----------
    not_isolated : str or None
        The reason why this machine does not allow namespaces; None if it does.
    """

    def __init__(self, setup, images):
        self._folder = Path(tempfile.mkdtemp(prefix="vae-grading-worker-"))
        self._folder.chmod(0o755)  # students' processes run as other users
        self._lock = threading.Lock()
        try:
            packages_without_solutions(self._folder)
            np.save(self._folder / "images.npy", images)
            (self._folder / "setup.py").write_text(setup, encoding="utf-8")
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        self._control, theirs = socket.socketpair()
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8",
            "HOME": str(self._folder), "PYTHONPATH": str(self._folder), "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": platformdirs.user_cache_dir("vae-seminar/matplotlib"),
            "THEANO_FLAGS": THEANO_FLAGS, "VAE_LANGUAGE": language()}
        with open(self._folder / "log", "w+b") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vae_grading.sandbox.fork_server", str(theirs.fileno()),
                 json.dumps(folders_with_solutions())],
                cwd=self._folder, env=environment, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            theirs.close()
            self._control.settimeout(_STARTUP_TIMEOUT)
            try:
                hello = self._control.recv(4096)
            except OSError:
                hello = b""
            if not hello:
                self.close()  # waits until the process has written the reason
                log.seek(0)
                raise WorkerError("The process for students' code did not start:\n"
                                  + log.read().decode(errors="replace")[-2000:])
        self._control.settimeout(None)
        self.not_isolated = json.loads(hello)["not_isolated"]
        if self.not_isolated is not None:
            keep_memory_private()

    def run(self, task, limits):
        """Run one task in a process of its own.

        Parameters
        ----------
        task : vae_grading.messages.BuildTask or MeasureTask
        limits : vae_grading.sandbox.process.Limits

        Returns
        -------
        messages : list
            The messages of the process: see `vae_grading.messages.answers_in`.
        ended : str
            How the process ended: see `vae_grading.sandbox.process.run_limited`.
        seconds : float
            The time that the process has taken, also described there.

        Raises
        ------
        WorkerError
            If this worker has ended.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                with self._lock:
                    socket.send_fds(self._control, [b"!"], [theirs.fileno()])
                theirs.close()
                ours.settimeout(MAX_DELAY * limits.timeout + _CLEANUP_TIMEOUT)
                send(ours, task_to_json(task, limits).encode())
                (ended, seconds), output = json.loads(receive(ours)), receive(ours)
            except OSError as error:
                raise WorkerError(f"The process for students' code is gone: {error}") from None
        return answers_in(lines_of_json(output), task), ended, seconds

    def has_ended(self):
        """Return whether the server itself has ended, and not only one of its tasks."""
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self):
        """Stop the server and all its tasks, and remove its folder."""
        if hasattr(self, "_control"):
            self._control.close()
        if hasattr(self, "_process"):
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def send(connection, data):
    """Send the length of some bytes, then the bytes.

    Parameters
    ----------
    connection : socket.socket
    data : bytes or bytearray

    Raises
    ------
    OSError
    """
    connection.sendall(struct.pack("!Q", len(data)))
    connection.sendall(data)


def receive(connection):
    """Receive bytes that `send` has sent.

    Parameters
    ----------
    connection : socket.socket

    Returns
    -------
    bytearray

    Raises
    ------
    OSError
        If the connection is closed before the end.
    """
    size, = struct.unpack("!Q", _receive_exactly(connection, 8))
    return _receive_exactly(connection, size)


def _receive_exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 2**20))
        if not chunk:
            raise ConnectionError("the connection was closed")
        data += chunk
    return data
