"""A server that imports everything once, and forks a process for each task.

Neither its memory nor any file that its children can read contains a solution.
"""

import gc
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import lasagne
import numpy as np
import theano
import theano.tensor as T

from vae import BinaryVector, vae_decoder_mlp
from vae_grading.messages import BuildTask, line_of, task_from_json
from vae_grading.notebook.cells import cells_of
from vae_grading.notebook.execution import given_by
from vae_grading.notebook.fakes import keep_language, use_few_images
from vae_grading.sandbox.control_group import place_for_groups
from vae_grading.sandbox.graph_builder import build
from vae_grading.sandbox.graph_evaluator import measure
from vae_grading.sandbox.process import keep_memory_private, run_limited, why_not_isolated
from vae_grading.sandbox.visible_files import VisibleFiles, folders_of_python
from vae_grading.sandbox.worker import receive, send

__all__ = ["serve"]

#: A `MeasureTask` stops itself after this share of its time, and sends the reason. The remaining
#: time is left for other exercises.
_OWN_SHARE = 0.8


def serve(control, hidden):
    """Wait for tasks, each with its own connection, until the grader has ended.

    Parameters
    ----------
    control : socket.socket
        The grader sends a file descriptor of a new connection through it for each task.
    hidden : list of str
        Folders that the forked processes may not read.
    """
    images = np.load("images.npy")
    use_few_images(images)
    keep_language()
    given = given_by(Path("setup.py").read_text(encoding="utf-8"))
    _warm_up()
    not_isolated = why_not_isolated()
    if not_isolated is not None:
        keep_memory_private()
    visible = VisibleFiles((os.getcwd(), os.environ["MPLCONFIGDIR"], *folders_of_python()),
                           tuple(hidden))
    visible.look()
    groups = place_for_groups()
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
                    _run_task(connection, given, images, visible, not_isolated is None, groups)
            finally:
                os._exit(0)
        os.close(descriptors[0])


def _run_task(connection, given, images, visible, isolated, groups):
    task, limits = task_from_json(receive(connection))

    def run(write):
        def send_message(message):
            write(line_of(message).encode() + b"\n")

        if isinstance(task, BuildTask):
            build(task, given, send_message)
        else:
            measure(task, images, send_message, _OWN_SHARE * limits.timeout)

    output, ended, seconds = run_limited(run, limits, visible, isolated, connection, groups)
    send(connection, json.dumps([ended, seconds]).encode())
    send(connection, output)


def _warm_up():
    """Read a notebook and compile a function, because this imports many more modules."""
    cells_of(b'{"cells": [{"cell_type": "code", "source": "pass", "metadata": {}, "outputs": []}],'
             b' "metadata": {}, "nbformat": 4, "nbformat_minor": 4}')
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
        shutil.rmtree(os.getcwd(), ignore_errors=True)  # even if the grader was killed
