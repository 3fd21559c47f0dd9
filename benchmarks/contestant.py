"""A process that trains a model in a framework on request, and a class that controls it.

Requests and replies are lines of JSON on the standard input and output of the process. The
processes of all contestants stay alive, but only one of them works at a time. So their epochs can
be measured alternately.
"""

import contextlib
import importlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


class Contestant:
    """A process that has done its first training step, on random numbers.

    Parameters
    ----------
    framework, model : str
        A module of `frameworks` and a class in it.
    environment : dict of str to str
        Environment variables to set.
    width : int
        Width of the hidden layers.
    batch_size : int
        Number of images in a minibatch.
    n_threads : int
        Number of threads, and number of cores that the process may use.

    Attributes
    ----------
    start : dict
        ``first_step`` is the time from the start of the process to the end of its first step, in
        seconds. ``imports`` is the time of this that importing the framework took, in seconds.
        ``memory`` is the peak memory until the end of the first step, in MiB.

    Raises
    ------
    RuntimeError
        If the process has died. Each method may raise it. The message contains the end of the
        process's output.
    """

    def __init__(self, framework, model, environment, width, batch_size=20, n_threads=1):
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")
        task = {"framework": framework, "model": model, "width": width, "batch_size": batch_size,
                "cores": sorted(os.sched_getaffinity(0))[-n_threads:]}
        threads = {"OMP_NUM_THREADS": str(n_threads), "OPENBLAS_NUM_THREADS": str(n_threads)}
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(task)], env={**os.environ, **threads,
                                                               **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        try:
            self.start = self._reply()
        except BaseException:
            self.close()
            raise
        self.start["first_step"] = time.perf_counter() - began

    def train(self, seed, n_steps=None, restart=False):
        """Train for an epoch or a part of it.

        Parameters
        ----------
        seed : int
            Determines the order of the images, their binarisation and, after a restart, the initial
            weights.
        n_steps : int, optional
            Largest number of steps; by default, a whole epoch.
        restart : bool, optional
            Whether to start a new training.

        Returns
        -------
        dict
            ``seconds`` is the time for a step. ``value`` is the mean of the steps' values: ELBO or
            cross-entropy, in nats.
        """
        return self._ask(part="train", seed=seed, n_steps=n_steps, restart=restart)

    def test(self, seed):
        """Evaluate the test images without changing the weights; return a dict as in `train`."""
        return self._ask(part="test", seed=seed, n_steps=None, restart=False)

    def close(self):
        """End the process. If it is busy, kill it after ten seconds."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _ask(self, **request):
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `_reply` raises an error
        return self._reply()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            errors = self._errors.read()[-3000:]
            status = self._process.wait()
            raise RuntimeError(f"A training process ended, status {status}:\n{errors}")
        return json.loads(line)


def _epoch(step, images, digits, batch_size, n_steps, seed):
    """Run the training loop of the notebook, and yield the value that the framework returns."""
    import numpy as np
    from utils import iterate_minibatches

    np.random.seed(seed)
    for batch in itertools.islice(iterate_minibatches(images, digits, batch_size), n_steps):
        if digits is None:
            batch = np.random.rand(*batch.shape) < batch
            yield step(batch)
        else:
            yield step(*batch)


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # otherwise the output of a library could be mistaken for a reply

    def reply(**contents):
        print(json.dumps(contents), file=replies, flush=True)

    task = json.loads(sys.argv[1])
    os.sched_setaffinity(0, task["cores"])  # must precede the imports, which count the cores
    began = time.perf_counter()
    framework = importlib.import_module(f"frameworks.{task['framework']}")
    import_time = time.perf_counter() - began

    import numpy as np

    batch_size = task["batch_size"]
    np.random.seed(0)
    model = getattr(framework, task["model"])(task["width"])
    classifies = getattr(model, "classifies", False)
    batch = np.random.rand(batch_size, 1, 28, 28) < 0.5
    model.train(*([batch.astype(np.float32), np.zeros(batch_size, np.int32)] if classifies
                  else [batch]))
    model.finish()
    reply(imports=import_time,
          memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    data = None
    for request in map(json.loads, sys.stdin):
        if data is None:
            from utils import load_dataset
            data = load_dataset()
            if len(data[0]) != 50_000:
                raise SystemExit(
                    "The benchmark needs the whole MNIST: see MNIST_DIR in docs/lecturers.md")
        if request["restart"]:
            model.restart(request["seed"])
        images, digits = data[:2] if request["part"] == "train" else data[-2:]
        digits = digits.astype(np.int32) if classifies else None
        step = getattr(model, request["part"])
        began = time.perf_counter()
        values = list(_epoch(step, images, digits, batch_size, request["n_steps"],
                             request["seed"]))
        model.finish()
        seconds = time.perf_counter() - began
        mean = float(np.mean([float(value) for value in values]))
        reply(seconds=seconds / len(values), value=mean)


if __name__ == "__main__":
    main()
