"""One student's notebook to its grade."""

import atexit
import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import theano
from filelock import FileLock
from tqdm import tqdm

import utils
import vae.checks
from vae.checks import EXERCISES, Mistake, Names, sizes_of
from vae.grading.notebook import cells_of, namespace
from vae.grading.sandbox import Limits
from vae.grading.worker import THEANO_FLAGS, Worker, WorkerError

__all__ = ["Grade", "Reference", "Verdict", "close_workers", "grade", "the_worker"]

_N_IMAGES = 10000  # of the training set: enough for a few hundred batches
_MAX_TEXT = 5000  # characters of what a student's process says
_MAX_RUNS = 12  # of one notebook: five exercises, and cells that end the process


@dataclass(frozen=True)
class Reference:
    """The solved notebook: what takes the place of an exercise that failed."""

    setup: str  #: the code that a notebook begins with
    solutions: dict  #: the code of each exercise, by its number

    @classmethod
    def read(cls, path):
        """Take it from a notebook.

        Raises
        ------
        ValueError
            If the file is no notebook, or does not solve each exercise in one cell.
        """
        cells = cells_of(Path(path).read_bytes())
        solutions = {number: cell.source for cell in cells for number in cell.exercises}
        if sorted(solutions) != sorted(EXERCISES) or any(len(cell.exercises) > 1 for cell in cells):
            raise ValueError(f"Got a notebook with solutions of {sorted(solutions)} in {path}, "
                             f"expected one cell for each of {sorted(EXERCISES)}")
        return cls(cells[0].source, solutions)

    def digest(self):
        """Return what changes whenever the reference or the checks do."""
        parts = [THEANO_FLAGS, self.setup, *map(str, sorted(self.solutions.items())),
                 Path(vae.checks.__file__).read_text(encoding="utf-8")]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass
class Verdict:
    """The result of one exercise."""

    exercise: int
    passed: bool
    hint: str = ""  #: in Russian, what to look at
    traceback: str = ""  #: the student's own lines of it
    code: str = ""  #: the student's own source of the exercise

    @property
    def points(self):
        return EXERCISES[self.exercise].points if self.passed else 0


@dataclass
class Grade:
    """The result of one notebook."""

    name: str
    verdicts: list = field(default_factory=list)
    note: str = ""  #: in Russian, what is wrong with the file as a whole
    exhausted: bool = False  #: whether time, memory or another limit ran out: more might help

    @classmethod
    def without_points(cls, name, note):
        """Return the grade of a notebook that could not be checked."""
        return cls(name, [Verdict(number, False, "не проверено.") for number in EXERCISES], note)

    @property
    def points(self):
        return sum(verdict.points for verdict in self.verdicts)


# --- the worker of this process ---

_lock = threading.Lock()
_workers = {}
_closed = threading.Event()


def the_worker(reference, progress=True):
    """Return this process's worker for a reference, started if need be."""
    digest = reference.digest()
    with _lock:
        if _closed.is_set():
            raise WorkerError("Grading has been stopped")
        if digest not in _workers:
            _compile_once(reference, progress)
            _workers[digest] = Worker(reference.setup, _images(), theano.config.base_compiledir)
        return _workers[digest]


def _discard(worker):
    with _lock:
        for digest in [digest for digest, one in _workers.items() if one is worker]:
            _workers.pop(digest).close()


@atexit.register
def close_workers():
    """Stop this process's workers and all that runs in them, for good."""
    _closed.set()
    with _lock:
        while _workers:
            _workers.popitem()[1].close()


@lru_cache(maxsize=None)
def _images():
    return utils.load_dataset()[0][:_N_IMAGES]


def _compile_once(reference, progress):
    """Compile what the reference needs, so that nearly all notebooks find it compiled."""
    done = Path(theano.config.compiledir) / f"grading-{reference.digest()}"
    with FileLock(f"{done}.lock"):
        if done.exists():
            return
        flags = THEANO_FLAGS.format(theano.config.base_compiledir)
        with subprocess.Popen(
                [sys.executable, "-m", "vae.grading.grader"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True, encoding="utf-8",
                env={**os.environ, "THEANO_FLAGS": flags, "MPLBACKEND": "Agg"}) as process:
            process.stdin.write(json.dumps([reference.setup, *reference.solutions.values()]))
            process.stdin.close()
            for _ in tqdm(process.stdout, "Compiling the reference", total=len(EXERCISES),
                          unit=" exercise", disable=not progress, leave=False):
                pass
        if process.returncode:
            raise WorkerError("The reference does not run, see above")
        done.touch()


def _compile(setup, *solutions):
    names = namespace(setup)
    for solution in solutions:
        exec(solution, names)
    for exercise in EXERCISES.values():
        graph = exercise.build(Names(names))
        inputs = exercise.draw(np.random.RandomState(0), _images(), **sizes_of(graph))
        exercise.judge(inputs, exercise.measure(graph, inputs))
        print(exercise.title, flush=True)


# --- grading ---

def grade(name, content, reference, limits=Limits()):
    """Grade one notebook.

    An exercise that fails costs only its own points: the reference takes its
    place for those after it.

    Parameters
    ----------
    name : str
        What to call it.
    content : bytes
        The file.
    reference : Reference
    limits : Limits, optional
        For each run of the notebook; it is run again for each exercise that
        failed.

    Returns
    -------
    Grade

    Raises
    ------
    vae.grading.worker.WorkerError
        If the process for students' code does not start.
    """
    for attempt in range(2):
        worker = the_worker(reference)
        try:
            return _grade(name, content, reference, limits, worker)
        except WorkerError:  # whoever ended it, the next notebook gets a new one
            _discard(worker)
    return Grade.without_points(name, "Код этого ноутбука дважды остановил процесс проверки.")


def _grade(name, content, reference, limits, worker):
    notebook = base64.b64encode(content).decode("ascii")
    verdicts, skipped, note = {}, [], ""
    for _ in range(_MAX_RUNS):
        wanted = [number for number in EXERCISES if number not in verdicts]
        if not wanted:
            break
        replacements = {number: reference.solutions[number] for number, verdict in verdicts.items()
                        if not verdict.passed}
        run = _Run(worker, limits, wanted)
        run.build(notebook, replacements, skipped)
        if run.unreadable is not None:
            return Grade.without_points(
                name, f"Файл не удалось прочитать как ноутбук: {run.unreadable}")
        run.measure()
        for number in wanted:
            if run.passed.get(number):
                verdicts[number] = Verdict(number, True)
        final = run.final_failures()
        for number in final:
            failure = run.failures[number]
            verdicts[number] = Verdict(number, False, failure["hint"], failure["traceback"])
        if run.fatal_cell is not None and not final:
            if run.fatal_cell in skipped:
                break
            skipped.append(run.fatal_cell)
            note = f"{run.fatal_cell.strip('<>').capitalize()}: {run.why_died}"
    for number in EXERCISES:
        verdicts.setdefault(number, Verdict(number, False, "не проверено."))
    return Grade(name, [verdicts[number] for number in EXERCISES], note)


class _Run:
    """One run of a notebook: which exercises passed, and why the others did not."""

    def __init__(self, worker, limits, wanted):
        self._worker, self._limits, self._wanted = worker, limits, wanted
        self._graphs = {}
        self.passed, self.failures = {}, {}
        self._undone, self._died = set(), set()
        self.unreadable = self.fatal_cell = self.why_died = None

    def build(self, notebook, replacements, skipped):
        said, ended = self._worker.run(
            {"do": "build", "notebook": notebook, "replacements": replacements,
             "skip": skipped, "wanted": self._wanted}, self._limits)
        for value in said:
            if isinstance(value, dict) and isinstance(value.get("unreadable"), str):
                self.unreadable = value["unreadable"][:_MAX_TEXT]
            elif self._is_about_an_exercise(value) and isinstance(value.get("graph"), str):
                self._graphs[value["exercise"]] = value["graph"]
        self._read(said, ended)

    def measure(self):
        for trains in (False, True):
            if trains and not all(self.passed.get(number) for number in self._wanted
                                  if not EXERCISES[number].trains):
                return  # training takes long, and will have the reference in their place
            graphs = {number: graph for number, graph in self._graphs.items()
                      if EXERCISES[number].trains == trains}
            if graphs:
                self._measure(graphs)

    def _measure(self, graphs):
        seed = secrets.randbits(31)
        said, ended = self._worker.run(
            {"do": "measure", "graphs": graphs, "seed": seed}, self._limits)
        self._read(said, ended)
        for value in said:
            if self._is_about_an_exercise(value) and "measured" in value:
                self._judge(value["exercise"], seed, value)

    def _judge(self, number, seed, value):
        exercise = EXERCISES[number]
        try:
            sizes = {name: int(size) for name, size in value["sizes"].items()}
            if any(not 0 < size <= 1000 for size in sizes.values()):
                raise ValueError(f"Got sizes {sizes}")
            inputs = exercise.draw(np.random.RandomState(seed), _images(), **sizes)
            with np.errstate(all="ignore"):
                exercise.judge(inputs, value["measured"])
            self.passed[number] = True
        except Mistake as mistake:
            self._fail(number, str(mistake))
        except Exception as error:  # whatever can be wrong with numbers that come from outside
            self._fail(number, f"проверка получила не те числа, что ожидала: {error}"[:500])

    def _is_about_an_exercise(self, value):
        return isinstance(value, dict) and self._is_wanted(value.get("exercise"))

    def _is_wanted(self, number):
        return type(number) is int and number in self._wanted

    def _fail(self, number, hint, traceback=""):
        self.failures.setdefault(number, {"hint": hint, "traceback": traceback})

    def _read(self, said, ended):
        stage = {}
        for value in said:
            if not isinstance(value, dict):
                continue
            if "stage" in value:
                stage = value
            elif self._is_about_an_exercise(value) and isinstance(value.get("failed"), dict):
                failed = value["failed"]
                self._fail(value["exercise"], *(str(failed.get(text))[:_MAX_TEXT]
                                                for text in ["hint", "traceback"]))
                if self._is_wanted(failed.get("undone")):
                    self._undone.add(failed["undone"])
        if ended:
            self.why_died = _why(ended, self._limits)
            self.fatal_cell = str(stage.get("stage"))[:100]
            exercises = stage.get("exercises")
            for number in exercises if isinstance(exercises, list) else []:
                if self._is_wanted(number):
                    self._died.add(number)
                    self.failures[number] = {"hint": self.why_died, "traceback": ""}
                    return

    def final_failures(self):
        """The exercises that failed by themselves, not for want of an earlier one."""
        final = (self._undone | self._died) & set(self.failures)
        first = next((number for number in self._wanted if not self.passed.get(number)), None)
        if first in self.failures and (self.fatal_cell is None or first in self._died):
            final.add(first)
        return sorted(final)


def _why(ended, limits):
    return {
        "time": f"код не закончил работу за {limits.timeout:.0f} с: нет ли бесконечного цикла?",
        "memory": f"коду не хватило {limits.memory / 2**30:.1f} ГБ памяти.",
        "output": "код вывел слишком много.",
    }.get(ended, f"код остановил процесс, в котором его проверяли ({ended}).")


if __name__ == "__main__":
    _compile(*json.load(sys.stdin))
