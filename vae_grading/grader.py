"""One student's notebook to its grade."""

import atexit
import dataclasses
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from vae.checks import EXERCISES, Mistake
from vae.language import _, language
from vae.mnist import load_dataset
from vae_grading.messages import (
    BuildTask,
    BuiltGraph,
    Checked,
    Failure,
    MeasureTask,
    Measurement,
    OrderCount,
    SourceCode,
    Stage,
    Unreadable,
)
from vae_grading.notebook.cells import cells_of
from vae_grading.notebook.package_stubs import in_package
from vae_grading.sandbox.process import Limits
from vae_grading.sandbox.worker import THEANO_FLAGS, Worker, WorkerError, own_files

__all__ = ["Grade", "Reference", "Verdict", "close_workers", "grade", "the_worker",
           "what_reference_lacks"]

_N_IMAGES = 10000  # of the training set: enough for a few hundred batches
_MAX_RUNS = 12  # of one notebook: five exercises, and statements that end the process


@dataclass(frozen=True)
class Reference:
    """The solved notebook: what takes the place of an exercise that failed."""

    content: bytes  #: the file
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
        content = Path(path).read_bytes()
        cells = cells_of(content)
        solutions = {number: cell.source for cell in cells for number in cell.exercises}
        if sorted(solutions) != sorted(EXERCISES) or any(len(cell.exercises) > 1 for cell in cells):
            raise ValueError(f"Got a notebook with solutions of {sorted(solutions)} in {path}, "
                             f"expected one cell for each of {sorted(EXERCISES)}")
        return cls(content, cells[0].source, solutions)

    def digest(self):
        """Return what changes whenever the reference, the checks or the grader do."""
        parts = [THEANO_FLAGS, language(), self.setup,
                 *map(str, sorted(self.solutions.items())), *_own_code()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@lru_cache(maxsize=None)
def _own_code():
    return [f"{name}\0{path.read_text(encoding='utf-8')}" for name, path in sorted(own_files().items())
            if name.suffix == ".py" and name.parts[0] != "theano_compat"]


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
        return cls(name, [Verdict(number, False, _("не проверено.")) for number in EXERCISES], note)

    @property
    def points(self):
        return sum(verdict.points for verdict in self.verdicts)


# --- the worker of this process ---

_lock = threading.Lock()
_workers = {}
_closed = threading.Event()


def the_worker(reference):
    """Return this process's worker for a reference, started if need be."""
    digest = reference.digest()
    with _lock:
        if _closed.is_set():
            raise WorkerError("Grading has been stopped")
        if digest not in _workers:
            _workers[digest] = Worker(reference.setup, _images())
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
    return load_dataset()[0][:_N_IMAGES]


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
    vae_grading.sandbox.worker.WorkerError
        If the process for students' code does not start.
    """
    for attempt in range(2):
        worker = the_worker(reference)
        try:
            return _grade(name, content, reference, limits, worker)
        except WorkerError:  # whoever ended it, the next notebook gets a new one
            _discard(worker)
    return Grade.without_points(name, _("Код этого ноутбука дважды остановил процесс проверки."))


def what_reference_lacks(reference):
    """Grade the reference itself; return the hints, "" if it gets all points.

    What it replaces would cost each student points, were it not right.
    """
    grade_ = grade("", reference.content, reference)
    return "\n".join(filter(None, [grade_.note, *(
        f"{EXERCISES[verdict.exercise].title}: {verdict.hint}" for verdict in grade_.verdicts
        if not verdict.passed)]))


def _grade(name, content, reference, limits, worker):
    clock = _Clock(worker, limits)
    grades, order, n_orders = [], 0, 1
    while order < n_orders:
        attempt = _Attempt(content, reference, clock, order)
        grades.append(attempt.grade(name))
        if clock.is_up or all(verdict.passed for verdict in grades[-1].verdicts):
            break
        order, n_orders = order + 1, attempt.n_orders
    return max(grades, key=lambda grade: grade.points)


class _TimeIsUp(Exception):
    """What all runs of a notebook may take together has been taken."""


class _Clock:
    """A worker whose tasks have a limit on their time together."""

    def __init__(self, worker, limits):
        self._worker, self.limits = worker, limits
        self._deadline = time.monotonic() + limits.total

    @property
    def is_up(self):
        return time.monotonic() >= self._deadline

    def run(self, task):
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _TimeIsUp
        messages, ended = self._worker.run(task, dataclasses.replace(
            self.limits, timeout=min(self.limits.timeout, left)))
        if ended == "time" and left < self.limits.timeout:
            raise _TimeIsUp
        return messages, ended


class _Attempt:
    """The runs of a notebook in one order, each with more of its exercises decided."""

    def __init__(self, content, reference, clock, order):
        self._reference, self._clock = reference, clock
        self._content, self._order = content, order
        self._verdicts, self._code, self._skipped = {}, {}, []
        self._exhausted, self._note = False, ""
        self.n_orders = 1

    def grade(self, name):
        unchecked = _("не проверено.")
        try:
            for run in range(_MAX_RUNS):
                if len(self._verdicts) == len(EXERCISES) or not self._run_once():
                    break
        except _Unreadable as error:
            return Grade.without_points(
                name, _("Файл не удалось прочитать как ноутбук: {error}").format(error=error))
        except _TimeIsUp:
            self._exhausted = True
            self._note = _("Все запуски ноутбука вместе заняли больше {total:.0f} с, и "
                            "проверка остановлена: нет ли в нём долгих вычислений или "
                            "бесконечного цикла?").format(total=self._clock.limits.total)
            unchecked = _("не проверено: не хватило времени, отведённого на весь ноутбук.")
        verdicts = [self._verdicts.get(number) or Verdict(number, False, unchecked)
                    for number in EXERCISES]
        for verdict in verdicts:
            verdict.code = self._code.get(verdict.exercise, "")
        return Grade(name, verdicts, self._note, self._exhausted)

    def _run_once(self):
        """Decide more exercises; return whether anything is new."""
        solutions = self._reference.solutions
        run = _Run(self._clock, [number for number in EXERCISES if number not in self._verdicts],
                   package_is_filled=self._verdicts.keys() >= set(in_package()))
        try:
            run.build(BuildTask(
                self._content, self._order, patience=self._clock.limits.timeout / 2,
                skipped=self._skipped, wanted=run.wanted,
                replacements={number: solutions[number]
                              for number, verdict in self._verdicts.items() if not verdict.passed},
                package={number: solutions[number] for number in self._verdicts}))
            run.measure()
        finally:  # what is known when time is up
            self.n_orders = max(self.n_orders, run.n_orders)
            self._exhausted |= run.exhausted
            self._code = {**run.code, **self._code}
            self._verdicts.update((number, Verdict(number, True)) for number in run.passed)
        final = run.final_failures()
        for number in final:
            self._verdicts[number] = Verdict(number, False, **run.failures[number])
        if run.fatal is not None and not final:
            if run.fatal in self._skipped:
                return False
            self._skipped.append(run.fatal)
            self._note = f"{run.fatal.capitalize()}: {run.why_died}"
        return bool(run.passed or final or run.fatal is not None)


class _Unreadable(Exception):
    """The file is no notebook."""


class _Run:
    """One run of a notebook: which exercises passed, and why the others did not."""

    def __init__(self, clock, wanted, package_is_filled):
        self._clock, self.wanted, self._package_is_filled = clock, wanted, package_is_filled
        self._graphs, self._checked = {}, {}  #: in the end, and where the notebook checks them
        self._measured = {}
        self.passed, self.failures, self.code = set(), {}, {}
        self._undone, self._died, self._waits = set(), set(), set()
        self.fatal = self.why_died = None
        self.n_orders, self.exhausted = 1, False

    def build(self, task):
        messages, ended = self._run(task)
        for message in messages:
            if isinstance(message, Unreadable):
                raise _Unreadable(message.reason)
            if isinstance(message, OrderCount):
                self.n_orders = message.n
            elif isinstance(message, SourceCode):
                self.code[message.exercise] = message.text
            elif isinstance(message, BuiltGraph):
                self._graphs[message.exercise] = message.text
            elif isinstance(message, Checked):
                self._checked[message.exercise] = self._graphs.get(message.exercise)
        self._read(messages, ended)

    def measure(self):
        for trains in (False, True):
            if trains and not self.passed.issuperset(number for number in self.wanted
                                                     if not EXERCISES[number].trains):
                return  # training takes long, and will have the reference in their place
            for graphs in (self._graphs, self._checked):
                self._measure({number: graph for number, graph in graphs.items()
                               if EXERCISES[number].trains == trains
                               and graph is not None and number not in self.passed})

    def _measure(self, graphs):
        known = {number for number, graph in graphs.items()
                 if _digest(number, graph) in _right_graphs}
        self.passed |= known
        graphs = {number: graph for number, graph in graphs.items()
                  if number not in known and self._measured.get(number) != graph}
        if not graphs:
            return
        self._measured.update(graphs)
        seed = secrets.randbits(31)
        messages, ended = self._run(MeasureTask(graphs, seed))
        self._read(messages, ended)
        for message in messages:
            if isinstance(message, Measurement) and message.exercise in graphs:
                self._judge(message, seed)

    def _judge(self, measurement, seed):
        number = measurement.exercise
        exercise = EXERCISES[number]
        try:
            inputs = exercise.draw(np.random.RandomState(seed), _images(), **measurement.sizes)
            with np.errstate(all="ignore"):
                exercise.judge(inputs, measurement.values)
            self.passed.add(number)
            _right_graphs.add(_digest(number, self._measured[number]))
        except Mistake as mistake:
            self._fail(number, str(mistake))
        except Exception as error:  # whatever can be wrong with numbers that come from outside
            self._fail(number, _("проверка получила не те числа, что ожидала: {error}").format(
                                   error=error)[:500])

    def _run(self, task):
        """Return the messages, without those about exercises that are decided, and the end."""
        messages, ended = self._clock.run(task)
        return [message for message in messages
                if getattr(message, "exercise", None) in (None, *self.wanted)], ended

    def _fail(self, number, hint, traceback=""):
        self.failures.setdefault(number, {"hint": hint, "traceback": traceback})

    def _read(self, messages, ended):
        stage = Stage("")
        for message in messages:
            if isinstance(message, Stage):
                stage = message
            elif isinstance(message, Failure):
                self._fail(message.exercise, message.hint, message.traceback)
                if message.undone in self.wanted:
                    self._undone.add(message.undone)
                if message.awaits_package:
                    self._waits.add(message.exercise)
                self.exhausted |= message.exhausted
        if ended:
            self.why_died = _why(ended, self._clock.limits)
            self.fatal = stage.place
            self.exhausted |= ended in ("time", "memory", "disk", "output", "SIGKILL")
            for number in stage.exercises:
                if number in self.wanted:
                    self._died.add(number)
                    self.failures[number] = {"hint": self.why_died, "traceback": ""}
                    return

    def final_failures(self):
        """The exercises that failed by themselves, not for want of an earlier one."""
        final = (self._undone | self._died) & set(self.failures) - self.passed
        first = next((number for number in self.wanted if number not in self.passed), None)
        if first in self.failures and (self.fatal is None or first in self._died) and (
                first not in self._waits or self._package_is_filled):
            final.add(first)
        return sorted(final)


#: Graphs that an exercise has passed with, in this process: equal ones need no second look.  What
#: has failed is looked at anew, as a verdict that rests on drawn numbers may err.
_right_graphs = set()


def _digest(number, graph):
    return number, hashlib.sha256(graph.encode()).digest()


def _why(ended, limits):
    return {
        "time": _("код не закончил работу за {timeout:.0f} с: нет ли бесконечного цикла?").format(
                    timeout=limits.timeout),
        "memory": _("коду не хватило {memory:.1f} ГБ памяти.").format(
                      memory=limits.memory / 2 ** 30),
        "disk": _("код записал больше {disk:.0f} МБ или больше {files} файлов.").format(
                    disk=limits.disk / 2 ** 20, files=limits.files),
        "output": _("код вывел слишком много."),
    }.get(ended, _("код остановил процесс, в котором его проверяли ({ended}).").format(ended=ended))
