"""What runs inside the worker process, which forks for each piece of students' code.

It has imported everything, and loaded what Theano has compiled.  Nothing in
its memory, or in sight of its children, tells an answer.
"""

import base64
import gc
import json
import os
import shutil
import signal
import site
import socket
import sys
import traceback
from pathlib import Path

import lasagne
import nbformat
import numpy as np
import theano
import theano.gof.cmodule
import theano.tensor as T

import utils
import vae.checks
from vae import BinaryVector, vae_decoder_mlp
from vae.checks import EXERCISES, Mistake, Names, explain, sizes_of
from vae.grading.graphs import dump_graph, load_graph
from vae.grading.notebook import Cell, cells_of, namespace, run, student_lines
from vae.grading.sandbox import Limits, run_limited, why_not_isolated
from vae.grading.transport import to_json
from vae.grading.worker import receive, send

__all__ = ["build", "measure"]

#: What g++ has understood of the headers that all modules share.
_HEADERS = os.path.abspath("headers")


def serve(control, hidden):
    """Wait for tasks, each with a connection of its own, until the grader is gone.

    Parameters
    ----------
    control : socket
        Where they come from.
    hidden : list of path
        What the forked processes may not read.
    """
    images = np.load("images.npy")
    labels = np.arange(len(images), dtype=np.uint8) % 10
    few = [(images[start:start + 100], labels[start:start + 100]) for start in (0, 100, 200)]
    # A training loop that is part of a cell that an exercise needs is over soon.
    utils.load_dataset = lambda *args, **kwargs: tuple(array for pair in few for array in pair)

    names = namespace(Path("setup.py").read_text(encoding="utf-8"))
    _warm_up()
    if os.path.exists(os.path.join(theano.config.compiledir, "headers", "common.h")):
        # Another user, who runs students' code, may not be allowed to read them there.
        shutil.copytree(os.path.join(theano.config.compiledir, "headers"), _HEADERS)

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
    task = json.loads(receive(connection))
    limits = Limits(**task.pop("limits"))
    function = _TASKS[task.pop("do")]

    def run(write):
        _compile_in(os.getcwd())
        function(names, images, lambda value: write(to_json(value).encode() + b"\n"), **task)

    output, ended = run_limited(run, limits, readable, hidden, isolated, cancel=connection)
    send(connection, ended.encode())
    send(connection, output)


def _compile_in(folder):
    """Keep newly compiled modules in this folder; the loaded ones stay."""
    folder = os.path.join(folder, "theano")
    os.mkdir(folder)
    os.symlink(_HEADERS, os.path.join(folder, "headers"))
    cache = theano.gof.cc.get_module_cache()
    cache.dirname = folder
    # Nobody else adds to it, and nobody will look for what this process adds.
    cache.refresh = lambda *args, **kwargs: []
    cache.check_for_broken_eq = False
    theano.gof.cmodule.KeyData.save_pkl = lambda self: None
    for setting in theano.configparser._config_var_list:
        if setting.fullname == "compiledir":
            setting.val = folder


def _warm_up():
    """Load the compiled modules, and compile something: much of Theano is imported only then."""
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


# --- what the forked processes do ---

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
    vae.checks.check = lambda *args: None
    say({"stage": "чтение ноутбука"})
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
        frames = traceback.extract_tb(error.__traceback__)
        line = next((one.lineno for one in reversed(frames) if one.filename == cell.name), 0)
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
            serve(control, json.loads(sys.argv[2]))
    finally:
        shutil.rmtree(os.getcwd(), ignore_errors=True)  # also when the grader was killed
