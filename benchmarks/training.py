"""Measure the speed of the seminar's training: this package, Theano, PyTorch, PyTensor and JAX.

    python benchmarks/training.py [--quick] [TABLE ...]

``README.md`` in this folder describes how to install the requirements. The program prints tables in
Markdown:

``epochs``
    the training loop of the notebook on 50,000 images of MNIST, and the ELBO after it;
``starts``
    the time from the start of a process to the end of its first training step, with empty and with
    full caches of compiled code;
``growth``
    an epoch with larger batches, wider layers and more threads;
``graphs``
    a step of other networks: classifiers by an MLP, a CNN and an LSTM;
``patches``
    the gain of each patch for speed: the time without this patch, divided by the time with all
    patches.

Each contestant is a separate process, and the contestants train alternately. A process has one
core; in ``growth`` it has a core for each thread, and in ``starts`` it has all cores. "Theano" is
Theano 1.0.5 with ``THEANO_COMPAT_OFF=speed``: it has only the patches of this package without which
it cannot be imported or cannot compile.
"""

import argparse
import contextlib
import importlib.util
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from contestant import Contestant
from tqdm import tqdm

N_IMAGES = 50_000
BATCH_SIZE = 20
WIDTH = 128

#: Maps the name of a contestant to a module of `frameworks`, a class in it, THEANO_COMPAT_OFF and
#: THEANO_FLAGS.
OURS, NO_COMPILER = "this package", "this package, no compiler"
UNPATCHED, UNPATCHED_BLAS = "Theano", "Theano, float32 and BLAS"
CONTESTANTS = {
    OURS: ("on_theano", "VAE", "", ""),
    NO_COMPILER: ("on_theano", "VAE", "", "cxx="),
    UNPATCHED: ("on_theano", "VAE", "speed", "floatX=float64,blas.ldflags="),
    UNPATCHED_BLAS: ("on_theano", "VAE", "speed", ""),
    "PyTorch": ("on_torch", "VAE", "", ""),
    "PyTorch, torch.compile": ("on_torch", "CompiledVAE", "", ""),
    "PyTensor": ("on_pytensor", "VAE", "", ""),
    "JAX, jit": ("on_jax", "VAE", "", ""),
}
FRAMEWORKS = [name for name in CONTESTANTS if name != UNPATCHED_BLAS]
#: Contestants that have all networks of `MODELS`.
WITH_CLASSIFIERS = [OURS, NO_COMPILER, UNPATCHED, UNPATCHED_BLAS, "PyTorch", "JAX, jit"]

#: Networks of the table ``graphs``. The patches are measured on them, too.
MODELS = {
    "VAE": {"width": WIDTH},
    "VAE, 1024 units": {"width": 1024},
    "MLP, 800 and 800 units, dropout": {"model": "MLP", "width": 800, "batch_size": 500},
    "CNN, 32 and 32 filters": {"model": "CNN", "width": 256, "batch_size": 500},
    "LSTM, 100 units": {"model": "LSTM", "width": 100, "batch_size": 100},
}

#: Maps the state of the cache to the model whose first step is measured.
STARTS = {"nothing cached": "VAE", "nothing cached, function by function": "Functions",
          "all cached": "VAE"}


class Benchmark:
    """The tables. Each public method yields the head of a table, then its rows, then a text.

    Parameters
    ----------
    scratch : Path
        An empty folder for compiled code.
    quick : bool
        Whether to run a few steps only, to see that everything works.
    """

    def __init__(self, scratch, quick):
        self._scratch = scratch
        self._quick = quick

    def _cache(self, name):
        return self._scratch / name.replace(" ", "_").replace(",", "")

    def _contestant(self, name, model=None, width=WIDTH, **options):
        framework, default_model, switched_off, flags = CONTESTANTS.get(
            name, ("on_theano", "VAE", name, ""))  # for a patch's name: this package without it
        cache = self._cache(name)
        cache.mkdir(exist_ok=True)
        environment = {
            "THEANO_COMPAT_OFF": switched_off,
            "THEANO_FLAGS": ",".join(filter(None, [f"base_compiledir={cache}", flags])),
            "THEANORC": os.devnull,
            "PYTENSOR_FLAGS": f"base_compiledir={cache}",
            "NUMBA_CACHE_DIR": str(cache),
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "TMPDIR": str(cache),  # PyTorch keeps compiled headers there
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return Contestant(framework, model or default_model, environment, width, **options)

    def _in_turn(self, names, n_rounds, label, **options):
        """Yield (round, name, contestant). All contestants stay alive and take turns."""
        with contextlib.ExitStack() as alive, tqdm(
                total=len(names) * (n_rounds + 1), desc=label, leave=False) as bar:
            contestants = {}
            for name in names:
                contestants[name] = alive.enter_context(self._contestant(name, **options))
                bar.update()
            for turn in range(n_rounds):
                for name, contestant in contestants.items():
                    yield turn, name, contestant
                    bar.update()

    def epochs(self):
        n_trainings, n_epochs = (2, 2) if self._quick else (3, 5)
        seconds, train, test = ({name: [] for name in FRAMEWORKS} for _ in range(3))
        for turn, name, contestant in self._in_turn(FRAMEWORKS, n_trainings * n_epochs, "epochs"):
            first, last = turn % n_epochs == 0, turn % n_epochs == n_epochs - 1
            result = contestant.train(seed=turn, n_steps=100 if self._quick else None,
                                      restart=first)
            seconds[name].append(result["seconds"] * N_IMAGES / BATCH_SIZE)
            if last:
                train[name].append(result["value"])
                test[name].append(contestant.test(seed=turn)["value"])

        ours = statistics.median(seconds[OURS])
        yield ["", "an epoch, s", "from ... to, s", "to this package",
               f"training ELBO in epoch {n_epochs}", "test ELBO after it"]
        for name in FRAMEWORKS:
            yield [name, f"{statistics.median(seconds[name]):.2f}",
                   f"{min(seconds[name]):.2f} ... {max(seconds[name]):.2f}",
                   f"{statistics.median(seconds[name]) / ours:.2f}",
                   mean_and_deviation(train[name]), mean_and_deviation(test[name])]
        yield (f"Medians of {n_trainings} trainings of {n_epochs} epochs, "
               f"{N_IMAGES:,} images in batches of {BATCH_SIZE}; ELBO in nats, mean ± standard "
               f"deviation of the trainings. {verdict(test.values())}")

    def starts(self):
        n_runs = 1 if self._quick else 3
        n_cores = len(os.sched_getaffinity(0))
        cold, warm = ({name: [] for name in FRAMEWORKS} for _ in range(2))
        for name in tqdm(FRAMEWORKS * n_runs, desc="starts", leave=False):
            shutil.rmtree(self._cache(name), ignore_errors=True)
            for starts in (cold, warm):
                with self._contestant(name, n_threads=n_cores) as contestant:
                    starts[name].append(contestant.start)

        def median(starts, key):
            return statistics.median(start[key] for start in starts)

        yield ["", "nothing cached, s", "all cached, s", "to this package", "import, s",
               "peak memory, MiB"]
        ours = median(warm[OURS], "first_step")
        for name in FRAMEWORKS:
            seconds = median(warm[name], "first_step")
            yield [name, f"{median(cold[name], 'first_step'):.1f}", f"{seconds:.2f}",
                   f"{seconds / ours:.2f}", f"{median(warm[name], 'imports'):.2f}",
                   f"{median(warm[name], 'memory'):.0f}"]
        yield (f"From the start of a process to the end of its first training step, on {n_cores} "
               f"cores, medians of {n_runs}; import and memory with everything cached.")

    def growth(self):
        cores = len(os.sched_getaffinity(0))
        large = {"batch_size": 500, "width": 1024}
        settings = {
            **{f"batches of {size}": {"batch_size": size} for size in (20, 100, 500)},
            **{f"{width} hidden units": {"width": width} for width in (256, 512, 1024)},
            "batches of 500, 1024 hidden units": large,
            **{f"{n} threads": {"n_threads": n} for n in (2, 4, 8) if n <= cores},
            **{f"batches of 500, 1024 hidden units, {n} threads": {**large, "n_threads": n}
               for n in (2, 4, 8) if n <= cores},
        }
        yield ["an epoch, s", *FRAMEWORKS]
        n_rounds = 1 if self._quick else 3
        for label, options in settings.items():
            seconds = {name: [] for name in FRAMEWORKS}
            n_steps = self._part_of_epoch(options.get("batch_size", BATCH_SIZE))
            for turn, name, contestant in self._in_turn(FRAMEWORKS, n_rounds, label, **options):
                step = contestant.train(seed=turn, n_steps=n_steps)["seconds"]
                seconds[name].append(step * N_IMAGES / options.get("batch_size", BATCH_SIZE))
            yield [label, *(f"{statistics.median(times):.2f}" for times in seconds.values())]
        yield (f"Batches of {BATCH_SIZE}, {WIDTH} hidden units and one thread where nothing else "
               f"is stated; medians of {n_rounds} parts of an epoch at the start of a training.")

    def graphs(self):
        names = WITH_CLASSIFIERS
        yield ["a step, ms", *names, "loss, in this order"]
        n_rounds = 2 if self._quick else 7
        for label, options in MODELS.items():
            seconds, values = ({name: [] for name in names} for _ in range(2))
            n_steps = self._part_of_epoch(options.get("batch_size", BATCH_SIZE))
            for turn, name, contestant in self._in_turn(names, n_rounds, label, **options):
                result = contestant.train(seed=turn, n_steps=n_steps, restart=turn == 0)
                seconds[name].append(result["seconds"])
                values[name].append(abs(result["value"]))
            medians = {name: statistics.median(seconds[name]) for name in names}
            yield [label, *(f"{1000 * time:.2f} ({time / medians[OURS]:.2f})"
                            for time in medians.values()),
                   ", ".join(f"{values[name][-1]:.4g}" for name in names)]
        yield (f"Medians of {n_rounds} parts of an epoch, in one thread. In brackets: the time "
               "divided by the time of this package. The loss is the mean of the last part: the "
               "negative ELBO or the cross-entropy, in nats.")

    def patches(self):
        rows = [*MODELS, *STARTS]
        yield ["without", *rows]
        for patch in patches_for_speed():
            yield [patch, *(f"{self._without(patch, row):.2f}" for row in rows)]
        yield ("Quotients of the shortest times, measured alternately: of a step in one thread, "
               "and of the first step of a process on all cores.")

    def _without(self, patch, row):
        """Return the time for a row of the table without a patch, divided by the time with it."""
        n_rounds = 1 if self._quick else 5
        seconds = {name: [] for name in (OURS, patch)}
        if row in MODELS:
            options = MODELS[row]
            n_steps = self._part_of_epoch(options.get("batch_size", BATCH_SIZE))
            for turn, name, contestant in self._in_turn(list(seconds), n_rounds, f"{patch}, {row}",
                                                        **options):
                seconds[name].append(contestant.train(seed=turn, n_steps=n_steps)["seconds"])
        else:
            for name in list(seconds) * n_rounds:
                if row != "all cached":
                    shutil.rmtree(self._cache(name), ignore_errors=True)
                with self._contestant(name, STARTS[row],
                                      n_threads=len(os.sched_getaffinity(0))) as contestant:
                    seconds[name].append(contestant.start["first_step"])
        return min(seconds[patch]) / min(seconds[OURS])

    def _part_of_epoch(self, batch_size):
        n_images = 500 if self._quick else 5000
        return max(n_images // batch_size, 2 if self._quick else 20)


def patches_for_speed():
    """Return the names of the patches in the group ``speed``. A child process imports Theano."""
    show = ("from theano_compat.hooks import PATCHES\n"
            "print(*(name for name, patch in PATCHES.items() if patch.group == 'speed'))")
    return subprocess.run([sys.executable, "-c", show], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.split()


def mean_and_deviation(values):
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def verdict(groups):
    """Return a sentence: whether the means of groups of numbers differ significantly."""
    from scipy.stats import f_oneway
    p_value = f_oneway(*groups).pvalue
    agreement = "agree within noise" if p_value > 0.001 else "DO NOT AGREE"
    return f"The test ELBOs {agreement} (analysis of variance, p = {p_value:.2g})."


def machine():
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    packages = ", ".join(f"{name} {version(name)}" for name in (
        "numpy", "theano", "lasagne", "torch", "pytensor", "numba", "jax", "optax"))
    return (f"{cpu}, {len(os.sched_getaffinity(0))} cores, {platform.system()}, "
            f"Python {platform.python_version()}, {packages}")


def write(rows):
    """Print a table in Markdown, each row as soon as it is measured, and the text below it."""
    head = next(rows)
    print("\n| " + " | ".join(head) + " |\n|" + " --- |" + " ---: |" * (len(head) - 1), flush=True)
    for row in rows:
        tqdm.write(f"\n{row}\n" if isinstance(row, str) else "| " + " | ".join(row) + " |")


def main():
    tables = [name for name in vars(Benchmark) if not name.startswith("_")]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("tables", metavar="TABLE", nargs="*", default=tables,
                        help=f"tables to print (default: all): {', '.join(tables)}")
    parser.add_argument("--quick", action="store_true",
                        help="run a few steps only, to see that everything works")
    arguments = parser.parse_args()
    unknown = set(arguments.tables) - set(tables)
    if unknown:
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    missing = [name for name in ("torch", "pytensor", "jax", "optax")
               if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{', '.join(missing)} not installed: "
                     "pip install -r benchmarks/requirements.txt")
    if not hasattr(os, "sched_setaffinity"):
        parser.error("only Linux can hold a process to one core")

    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        benchmark = Benchmark(Path(scratch), arguments.quick)
        try:
            for table in arguments.tables:
                write(getattr(benchmark, table)())
        except RuntimeError as error:
            raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
