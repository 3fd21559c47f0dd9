"""A server that forks a process for each task: it has imported everything, and loaded what
Theano has compiled.

Nothing in its memory, or in sight of its children, tells an answer.
"""

import gc
import json
import os
import shutil
import signal
import site
import socket
import sys
from pathlib import Path

import lasagne
import nbformat
import numpy as np
import theano
import theano.gof.cmodule
import theano.tensor as T

from vae import BinaryVector, vae_decoder_mlp
from vae.grading.notebook import given_by
from vae.grading.sandbox import Limits, run_limited, why_not_isolated
from vae.grading.stand_ins import use_few_images
from vae.grading.tasks import TASKS
from vae.grading.transport import to_json
from vae.grading.worker import receive, send

__all__ = ["serve"]

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
    use_few_images(images)
    given = given_by(Path("setup.py").read_text(encoding="utf-8"))
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
                    _run_task(connection, given, images, readable, hidden, not_isolated is None)
            finally:
                os._exit(0)
        os.close(descriptors[0])


def _run_task(connection, given, images, readable, hidden, isolated):
    task = json.loads(receive(connection))
    limits = Limits(**task.pop("limits"))
    function = TASKS[task.pop("do")]

    def run(write):
        _compile_in(os.getcwd())
        function(given, images, lambda value: write(to_json(value).encode() + b"\n"), **task)

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


if __name__ == "__main__":
    try:
        with socket.socket(fileno=int(sys.argv[1])) as control:
            serve(control, json.loads(sys.argv[2]))
    finally:
        shutil.rmtree(os.getcwd(), ignore_errors=True)  # also when the grader was killed
