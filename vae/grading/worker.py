"""A process that has everything imported and forks for each piece of students' code.

What it has imported is a copy of the package without the solutions, and real
images: nothing in its memory or in sight of its children tells an answer.
"""

import gc
import json
import os
import re
import shutil
import signal
import site
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import platformdirs

__all__ = ["Worker", "WorkerError"]

_SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION\n", re.M | re.S)
_STARTUP = 600  # seconds; the first time Theano compiles its engine

#: Elementary operations are compiled one by one, and nearly all notebooks share them; of the
#: optimisations, those that keep results finite and training fast.
_THEANO_FLAGS = ("optimizer=fast_compile,"
                 "optimizer_including=stabilize:BlasOpt:local_pow_specialize,"
                 "traceback.limit=0,base_compiledir={}")


class WorkerError(RuntimeError):
    """The process that runs students' code did not start, or went away."""


def package_without_solutions(folder):
    """Copy this package and utils.py into a folder, with the solutions left out."""
    import utils
    package = Path(__file__).parents[1]
    for path in [*package.rglob("*.py"), *package.rglob("*.h"), *package.rglob("*.html")]:
        target = folder / "vae" / path.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        target.write_text(_SOLUTION.sub(r"\1raise NotImplementedError\n", text), encoding="utf-8")
    shutil.copy(utils.__file__, folder / "utils.py")


# --- outside ---

class Worker:
    """A running worker process.

    Parameters
    ----------
    setup : str
        Python code of the cell that a notebook begins with.
    images : numpy.ndarray, shape (n, 1, 28, 28)
        Real images, in [0, 1], to train on.
    compiled : path
        Theano's ``base_compiledir``, read and never written to.

    Raises
    ------
    WorkerError
        If the process does not start.

    Attributes
    ----------
    not_isolated : str or None
        Why this machine allows no namespaces, if so.
    """

    def __init__(self, setup, images, compiled):
        self._folder = Path(tempfile.mkdtemp(prefix="vae-grading-worker-"))
        self._folder.chmod(0o755)  # the processes of students are other users
        self._lock = threading.Lock()
        try:
            package_without_solutions(self._folder)
            np.save(self._folder / "images.npy", images)
            (self._folder / "setup.py").write_text(setup, encoding="utf-8")
            self._start(compiled)
        except BaseException:
            self.close()
            raise

    def _start(self, compiled):
        self._control, theirs = socket.socketpair()
        hidden = [str(Path(__file__).parents[1])]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8",
            "HOME": str(self._folder), "PYTHONPATH": str(self._folder), "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": platformdirs.user_cache_dir("vae-seminar/matplotlib"),
            "THEANO_FLAGS": _THEANO_FLAGS.format(compiled)}
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vae.grading.worker", str(theirs.fileno()),
                 json.dumps(hidden)],
                cwd=self._folder, env=environment, pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        theirs.close()
        self._control.settimeout(_STARTUP)
        try:
            hello = self._control.recv(4096)
        except OSError:
            hello = b""
        if not hello:
            log = (self._folder / "log").read_text(errors="replace")
            raise WorkerError(f"The process for students' code did not start:\n{log[-2000:]}")
        self._control.settimeout(None)
        self.not_isolated = json.loads(hello)["not_isolated"]

    def run(self, task, limits):
        """Run one task in a process of its own.

        Parameters
        ----------
        task : dict
            What to do, for `_TASKS`; as JSON it goes.
        limits : vae.grading.sandbox.Limits

        Returns
        -------
        said : list
            The values that the process has sent: not to be trusted.
        ended : str
            How it ended, "" if by itself.

        Raises
        ------
        WorkerError
            If this worker is gone.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                with self._lock:
                    socket.send_fds(self._control, [b"!"], [theirs.fileno()])
                theirs.close()
                ours.settimeout(limits.timeout + 30)
                _send(ours, json.dumps({**task, "limits": vars(limits)}).encode())
                ended, output = _receive(ours).decode(), _receive(ours)
            except OSError as error:
                raise WorkerError(f"The process for students' code is gone: {error}") from None
        return list(_lines_of_json(output)), ended

    def close(self):
        """Stop the process and all that runs in it, and remove its folder."""
        if hasattr(self, "_control"):
            self._control.close()
        if hasattr(self, "_process"):
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _lines_of_json(output):
    from vae.grading.transport import from_json
    for line in output.decode("utf-8", errors="replace").splitlines():
        try:
            yield from_json(line)
        except ValueError:
            return


def _send(connection, data):
    connection.sendall(struct.pack("!Q", len(data)) + data)


def _receive(connection):
    size, = struct.unpack("!Q", _receive_exactly(connection, 8))
    return _receive_exactly(connection, size)


def _receive_exactly(connection, size):
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 2**20))
        if not chunk:
            raise ConnectionError("the connection was closed")
        data += chunk
    return bytes(data)


# --- inside: the worker ---

def _serve(control, hidden):
    import theano
    import utils
    from vae.grading.notebook import namespace
    from vae.grading.sandbox import why_not_isolated

    images = np.load("images.npy")
    labels = np.arange(len(images), dtype=np.uint8) % 10
    few = [(images[start:start + 100], labels[start:start + 100]) for start in (0, 100, 200)]
    # A training loop that is part of a cell that an exercise needs is over soon.
    utils.load_dataset = lambda *args, **kwargs: tuple(array for pair in few for array in pair)

    names = namespace(Path("setup.py").read_text(encoding="utf-8"))
    _warm_up(images)

    not_isolated = why_not_isolated()
    readable = [os.getcwd(), sys.prefix, sys.base_prefix, theano.config.compiledir,
                os.environ["MPLCONFIGDIR"], *site.getsitepackages(), site.getusersitepackages()]
    control.sendall(json.dumps({"not_isolated": not_isolated}).encode())
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                with socket.socket(fileno=descriptors[0]) as connection:
                    _run_task(connection, names, images, readable, hidden, not_isolated is None)
            finally:
                os._exit(0)
        os.close(descriptors[0])


def _run_task(connection, names, images, readable, hidden, isolated):
    from vae.grading.sandbox import Limits, run_limited
    from vae.grading.transport import to_json

    task = json.loads(_receive(connection))
    limits = Limits(**task.pop("limits"))
    function = _TASKS[task.pop("do")]

    def run(write):
        _compile_in(os.getcwd())
        function(names, images, lambda value: write(to_json(value).encode() + b"\n"), **task)

    output, ended = run_limited(run, limits, readable, hidden, isolated, cancel=connection)
    _send(connection, ended.encode())
    _send(connection, output)


def _compile_in(folder):
    """Keep newly compiled modules in this folder; the loaded ones stay."""
    import theano.gof.cmodule
    folder = os.path.join(folder, "theano")
    os.mkdir(folder)
    cache = theano.gof.cc.get_module_cache()
    cache.dirname = folder
    # Nobody else adds to it, and nobody will look for what this process adds.
    cache.refresh = lambda *args, **kwargs: []
    cache.check_for_broken_eq = False
    theano.gof.cmodule.KeyData.save_pkl = lambda self: None
    for setting in theano.configparser._config_var_list:
        if setting.fullname == "compiledir":
            setting.val = folder


def _warm_up(images):
    """Load the compiled modules, and compile something: much of Theano is imported only then."""
    import lasagne
    import nbformat
    import theano
    import theano.tensor as T
    from vae import BinaryVector, vae_decoder_mlp

    nbformat.reads(nbformat.writes(nbformat.v4.new_notebook()), as_version=4)
    cache = theano.gof.cc.get_module_cache()
    cache.refresh(cleanup=False)  # it could not know operations that were imported after Theano
    for name in set(cache.entry_from_key.values()):
        try:
            cache._get_module(name)
        except ImportError:
            pass
    codes, x = T.matrix(), T.tensor4()
    decoder = vae_decoder_mlp(codes)
    loss = -T.mean(BinaryVector(lasagne.layers.get_output(decoder)).log_prob(x))
    params = lasagne.layers.get_all_params(decoder, trainable=True)
    theano.function([codes, x], loss, updates=lasagne.updates.adam(loss, params))


# --- inside: what the forked processes do ---

def build(names, images, say, notebook, replacements, skip, wanted):
    """Run a student's notebook and send the graphs of its exercises.

    Parameters
    ----------
    names : dict
        The namespace to run it in.
    images : numpy.ndarray
    say : callable
        Sends a value.
    notebook : str
        The file, in base64.
    replacements : dict
        The reference's code for some exercises, by number as text.
    skip : list of str
        Names of cells not to run.
    wanted : list of int
        The exercises to build.
    """
    import base64
    import vae.checks
    from vae.checks import EXERCISES, Mistake, Names, explain
    from vae.grading.notebook import Cell, cells_of, run, student_lines
    from vae.grading.transport import dump_graph

    vae.checks.check = lambda *args: None
    say({"stage": "reading"})
    try:
        cells = cells_of(base64.b64decode(notebook))
    except ValueError as error:
        say({"unreadable": str(error)})
        return
    cells = [cell for cell in cells if cell.name not in skip]
    replacements = [Cell(f"<reference {number}>", source)
                    for number, source in replacements.items()]

    def failed(error, exercise=None):
        text, origin = student_lines(error, cells)
        undone = isinstance(error, NotImplementedError)
        hint = (str(error) if isinstance(error, Mistake) else
                "ещё не выполнено." if undone else explain(error))
        return {"hint": hint, "traceback": "" if undone or isinstance(error, Mistake)
                else text, "undone": origin or exercise if undone else None}

    graphs = {}

    def try_exercise(number):
        say({"stage": f"упражнение {number}", "exercises": [number]})
        graphs[number] = dump_graph(EXERCISES[number].build(Names(names)))

    def on_statement(cell, statement):
        # What an exercise calls of an earlier one is called first for that one: then it is
        # known whose code has ended the process.
        for number in wanted:
            if any(number < later for later in statement.exercises) and number not in graphs:
                try:
                    try_exercise(number)
                except BaseException:
                    pass  # to be tried again when all has been run
        for number in statement.exercises:
            graphs.pop(number, None)
        say({"stage": cell.name, "exercises": statement.exercises})

    raised = {}
    for cell, error in run(cells, replacements, names, on_statement):
        line = next((frame.lineno for frame in reversed(
            _frames(error)) if frame.filename == cell.name), 0)
        raised.setdefault(cell.exercise_at(line), failed(error, cell.exercise_at(line)))
    for number in wanted:
        if number in raised:
            say({"exercise": number, "failed": raised[number]})
            continue
        try:
            if number not in graphs:
                try_exercise(number)
            say({"exercise": number, "graph": graphs[number]})
        except BaseException as error:
            failure = failed(error, number)
            if isinstance(error, Mistake) and None in raised:
                failure["traceback"] = raised[None]["traceback"]
            say({"exercise": number, "failed": failure})


def _frames(error):
    import traceback
    return traceback.extract_tb(error.__traceback__)


def measure(names, images, say, graphs, seed):
    """Evaluate the graphs of some exercises on inputs drawn from a seed.

    Parameters
    ----------
    names : dict
        Not used: no code of a student's runs here.
    images : numpy.ndarray
        Real images.
    say : callable
        Sends a value.
    graphs : dict
        Graphs as text, by the number of the exercise as text.
    seed : int
    """
    from vae.checks import EXERCISES, Mistake, explain, sizes_of
    from vae.grading.transport import load_graph

    for number, text in graphs.items():
        exercise = EXERCISES[int(number)]
        say({"stage": f"упражнение {number}", "exercises": [int(number)]})
        try:
            graph = load_graph(text)
            sizes = sizes_of(graph)
            inputs = exercise.draw(np.random.RandomState(seed), images, **sizes)
            say({"exercise": int(number), "sizes": sizes,
                 "measured": exercise.measure(graph, inputs)})
        except Exception as error:
            hint = str(error) if isinstance(error, Mistake) else explain(error)
            say({"exercise": int(number),
                 "failed": {"hint": hint, "traceback": "", "undone": None}})


_TASKS = {"build": build, "measure": measure}


if __name__ == "__main__":
    try:
        with socket.socket(fileno=int(sys.argv[1])) as control:
            _serve(control, json.loads(sys.argv[2]))
    finally:
        shutil.rmtree(os.getcwd(), ignore_errors=True)  # also when the grader was killed
