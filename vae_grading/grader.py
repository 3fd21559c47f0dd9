"""Grade one student's notebook."""

import atexit
import dataclasses
import hashlib
import inspect
import secrets
import threading
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path

import numpy as np

import vae
from vae.checks import EXERCISES, Mistake
from vae.language import _, language
from vae.mnist import load_dataset
from vae_grading.hints import Censor
from vae_grading.messages import (
    Broken,
    BuildTask,
    BuiltGraph,
    Checked,
    Failure,
    MeasureTask,
    Measurement,
    NotebookCode,
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

_N_IMAGES = 10000  # images of the training set, which are enough for a few hundred batches
#: The largest number of runs of a notebook in one order. Each failed exercise, and each statement
#: that ends the process, needs another run.
_MAX_RUNS = 2 * len(EXERCISES) + 2


@dataclass(frozen=True)
class Reference:
    """The solved notebook. Its code replaces exercises that failed."""

    content: bytes  #: the file
    setup: str  #: the code of the first cell
    solutions: dict[int, str]  #: the code of each exercise, by its number

    @classmethod
    def read(cls, path):
        """Read the reference from a notebook.

        Parameters
        ----------
        path : path

        Returns
        -------
        Reference

        Raises
        ------
        ValueError
            If the file is not a notebook, or does not solve each exercise in one cell.
        """
        content = Path(path).read_bytes()
        cells = cells_of(content)
        solutions = {number: cell.source for cell in cells for number in cell.exercises}
        if sorted(solutions) != sorted(EXERCISES) or any(len(cell.exercises) > 1 for cell in cells):
            raise ValueError(f"Got a notebook with solutions of {sorted(solutions)} in {path}, "
                             f"expected one cell for each of {sorted(EXERCISES)}")
        return cls(content, cells[0].source, solutions)

    def digest(self):
        """Return a text that changes if the reference, the checks or the grader change."""
        parts = [THEANO_FLAGS, language(), self.setup,
                 *map(str, sorted(self.solutions.items())), *_own_code()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@lru_cache(maxsize=None)
def _own_code():
    return [f"{name}\0{path.read_text(encoding='utf-8')}"
            for name, path in sorted(own_files().items())
            if name.suffix == ".py" and name.parts[0] != "theano_compat"]


@dataclass
class Verdict:
    """The result of one exercise."""

    exercise: int
    passed: bool
    hint: str = ""  #: a hint for the student, in the reader's language
    traceback: str = ""  #: reduced to the student's own lines
    code: str = ""  #: the student's own source of the exercise
    untried: bool = False  #: whether the exercise was not done, or not checked

    @property
    def points(self):
        """The points for this exercise."""
        return EXERCISES[self.exercise].points if self.passed else 0


@dataclass
class Grade:
    """The result of one notebook."""

    name: str
    verdicts: list[Verdict] = field(default_factory=list)
    note: str = ""  #: a problem of the file as a whole, in the reader's language
    exhausted: bool = False  #: whether a limit was reached, so that more time or memory might help

    @classmethod
    def without_points(cls, name, note):
        """Return the grade of a notebook that could not be checked.

        Parameters
        ----------
        name : str
            Name of the notebook in reports.
        note : str
            The reason, for the student.

        Returns
        -------
        Grade
        """
        return cls(name, [Verdict(number, False, _("не проверено."), untried=True)
                          for number in EXERCISES], note)

    @property
    def points(self):
        """The sum of the points for all exercises."""
        return sum(verdict.points for verdict in self.verdicts)


# --- the worker of this process ---

_lock = threading.Lock()
_workers = {}
_closed = threading.Event()


def the_worker(reference):
    """Return this process's worker for a reference. Start the worker if it does not exist yet.

    Parameters
    ----------
    reference : Reference

    Returns
    -------
    vae_grading.sandbox.worker.Worker

    Raises
    ------
    WorkerError
        If the worker does not start, or if `close_workers` has been called.
    """
    digest = reference.digest()
    with _lock:
        if _closed.is_set():
            raise WorkerError("Grading has been stopped")
        if digest not in _workers:
            _workers[digest] = Worker(reference.setup, _images())
        return _workers[digest]


def _discard(worker):
    with _lock:
        for digest in [digest for digest, known in _workers.items() if known is worker]:
            _workers.pop(digest).close()


@atexit.register
def close_workers():
    """Stop this process's workers and everything that runs in them. No new worker can start."""
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

    An exercise that fails costs only its own points, because the reference
    replaces it in later exercises.

    Parameters
    ----------
    name : str
        The notebook's name in reports.
    content : bytes
        Content of the file.
    reference : Reference
    limits : Limits, optional
        Limits on each run of the notebook, and on all runs together. The
        notebook is run again after an exercise has failed.

    Returns
    -------
    Grade

    Raises
    ------
    vae_grading.sandbox.worker.WorkerError
        If the process for students' code does not start.
    """
    try:
        return _grade(name, content, reference, _Clock(reference, limits))
    except _ProcessesLost:
        return Grade.without_points(
            name, _("Код этого ноутбука дважды остановил процесс проверки."))


def what_reference_lacks(reference):
    """Grade the reference itself.

    A wrong reference that replaces an exercise would cost students points.

    Parameters
    ----------
    reference : Reference

    Returns
    -------
    str
        The hints; "" if the reference gets all points.

    Raises
    ------
    WorkerError
        If the process for students' code does not start.
    """
    result = grade("", reference.content, reference)
    hints = [f"{EXERCISES[verdict.exercise].title}: {verdict.hint}"
             for verdict in result.verdicts if not verdict.passed]
    return "\n".join(filter(None, [result.note, *hints]))


def _grade(name, content, reference, clock):
    """Try each order of the cells without any solution, then continue with the best order.

    After a run has been given a solution, no other order is tried. Otherwise a student's code could
    store this solution, and gain points with it in another order.
    """
    best, order, n_orders = None, 0, 1
    while order < n_orders and (best is None or not (best.is_complete or clock.is_up)):
        attempt = _Attempt(content, reference, clock, order)
        attempt.run_alone()
        if best is None or attempt.points > best.points:
            best = attempt
        order, n_orders = order + 1, max(n_orders, attempt.n_orders)
    best.go_on()
    return best.grade(name)


class _TimeIsUp(Exception):
    """The runs of a notebook have together taken all the time that they may take."""


class _UnreadableNotebook(Exception):
    """The file is not a notebook."""


class _ProcessesLost(Exception):
    """The process for students' code, or its supervisor, has ended unexpectedly twice."""


class _Clock:
    """This process's worker, with a limit on the total time of all tasks of a notebook.

    A `MeasureTask` may take all the remaining time. It contains no endless loop, but takes longer
    for a larger network.
    """

    def __init__(self, reference, limits):
        self._reference, self.limits = reference, limits
        self._remaining = limits.total  #: seconds, see `vae_grading.sandbox.usage.Usage`
        self._n_lost = 0

    @property
    def is_up(self):
        return self._remaining <= 0

    def run(self, task, at_most=None):
        """Run a task. Run it again if this or another notebook has ended the worker.

        Parameters
        ----------
        task : BuildTask or MeasureTask
        at_most : float, optional
            A smaller limit on this task, in seconds. Reaching it does not raise `_TimeIsUp`.

        Returns
        -------
        messages : list
        ended : str
            See `vae_grading.sandbox.worker.Worker.run`.

        Raises
        ------
        _TimeIsUp, _ProcessesLost
        """
        while True:
            if self.is_up:
                raise _TimeIsUp
            timeout = at_most or (
                self._remaining if isinstance(task, MeasureTask) else self.limits.timeout)
            worker = the_worker(self._reference)
            try:
                messages, ended, seconds = worker.run(task, dataclasses.replace(
                    self.limits, timeout=min(timeout, self._remaining)))
            except WorkerError:
                if worker.has_ended():
                    _discard(worker)
                self._n_lost += 1
                if self._n_lost == 2:
                    raise _ProcessesLost from None
                continue
            self._remaining -= seconds
            if ended == "time" and self.is_up:
                raise _TimeIsUp
            return messages, ended


class _Attempt:
    """The runs of a notebook in one order. Each run decides more of the exercises.

    An exercise is decided when it has a verdict. In later runs, the reference replaces the exercise
    if it failed, or if it passed but does not run when the reference replaces earlier exercises.
    The package `vae` contains the solution of a decided exercise again. As soon as a run is given a
    solution, no text of the student's process is shown unchanged: see `vae_grading.hints`.
    """

    def __init__(self, content, reference, clock, order):
        self._content, self._order = content, order
        self._reference, self._clock = reference, clock
        self._verdicts, self._code, self._skipped, self._cells = {}, {}, [], ()
        self._exhausted, self._note, self._unreadable = False, "", None
        self._replaced = set()  #: exercises that the reference replaces
        self._earlier_failures = []  #: failures in runs that had no solution
        self._time_is_up = False
        self.n_orders = 1

    @property
    def is_complete(self):
        """Whether all exercises have passed."""
        return sum(verdict.passed for verdict in self._verdicts.values()) == len(EXERCISES)

    @property
    def points(self):
        """The points of all exercises that have been decided."""
        return sum(verdict.points for verdict in self._verdicts.values())

    def run_alone(self):
        """Run the notebook without any solution. Repeat it if a statement has ended the process."""
        self._run_while(lambda run: run.death is not None and not self._replaced, alone=True)

    def go_on(self):
        """Run the notebook with the solutions of decided exercises, until each is decided."""
        if self._verdicts:
            self._run_while(lambda run: True, alone=False)

    def _run_while(self, is_promising, alone):
        try:
            for _run in range(_MAX_RUNS):
                if len(self._verdicts) == len(EXERCISES) or self._unreadable is not None:
                    return
                known = self._known()
                run = self._run_once(alone)
                if self._known() == known or not is_promising(run):
                    return
        except _UnreadableNotebook as error:
            self._unreadable = error
        except _TimeIsUp:
            self._time_is_up = True

    def _known(self):
        return len(self._verdicts), len(self._skipped), len(self._replaced)

    def grade(self, name):
        if self._unreadable is not None:
            return Grade.without_points(
                name, _("Файл не удалось прочитать как ноутбук: {error}", error=self._unreadable))
        unchecked, note, exhausted = _("не проверено."), self._note, self._exhausted
        if self._time_is_up:
            exhausted = True
            note = _("Все запуски ноутбука вместе заняли больше {total:.0f} с, и "
                     "проверка остановлена: нет ли в нём долгих вычислений или "
                     "бесконечного цикла?", total=self._clock.limits.total)
            unchecked = _("не проверено: не хватило времени, отведённого на весь ноутбук.")
        verdicts = [self._verdicts.get(number) or Verdict(number, False, unchecked, untried=True)
                    for number in EXERCISES]
        for verdict in verdicts:
            verdict.code = self._code.get(verdict.exercise, "")
        return Grade(name, verdicts, note, exhausted)

    def _run_once(self, alone):
        """Decide more exercises; return the run."""
        wanted = [number for number in EXERCISES if number not in self._verdicts]
        task = self._task(wanted, alone)
        package_is_filled = task.package.keys() >= set(in_package())
        censor = None if not (task.replacements or task.package) else Censor(
            self._cells, [inspect.getsource(vae.networks), *self._reference.solutions.values()],
            self._earlier_failures)
        run = _Run(self._clock, wanted, censor)
        try:
            run.build(task)
            run.measure(also_in_vain=alone)
        finally:  # if the time is up, keep the results so far
            self.n_orders = max(self.n_orders, run.n_orders)
            self._exhausted |= run.exhausted
            self._code = {**run.code, **self._code}
            if alone:
                self._cells = self._cells or run.cells
                self._earlier_failures += run.failures
            self._verdicts.update((number, Verdict(number, True)) for number in run.passed())
        if run.broken:
            self._replaced |= run.broken
            return run
        failures = run.final_failures(package_is_filled)
        self._replaced.update(failure.exercise for failure in failures)
        for failure in failures:
            self._verdicts[failure.exercise] = Verdict(
                failure.exercise, False, failure.hint, failure.traceback,
                untried=failure.undone is not None)
        if run.death is not None and not failures and run.death.place not in self._skipped:
            self._skipped.append(run.death.place)
            self._note = ": ".join(filter(None, [run.death.place.capitalize(), run.death.reason]))
        return run

    def _task(self, wanted, alone):
        solutions = self._reference.solutions
        decided, replaced = ([], []) if alone else (self._verdicts, sorted(self._replaced))
        return BuildTask(
            self._content, self._order, patience=self._clock.limits.timeout / 2,
            skipped=self._skipped, wanted=wanted,
            replacements={number: solutions[number] for number in replaced},
            package={number: solutions[number] for number in decided})


class _State(Enum):
    """The state of an exercise after one run."""

    OPEN = "nothing yet: no graph of it was right, and it has no failure"
    FAILED = "it has a failure, which may come from an earlier exercise"
    OWN_FAULT = "it has a failure, which cannot come from an earlier exercise"
    PASSED = "a graph of it was right"


@dataclass
class _Progress:
    """One exercise in one run of a notebook.

    Its state changes only from OPEN to FAILED or OWN_FAULT, from FAILED to OWN_FAULT, and from any
    state to PASSED. One right graph is enough to pass. The first failure is the one that is shown.
    """

    number: int
    graph: str | None = None  #: the latest graph, as text
    checked_graph: str | None = None  #: the graph at the latest call of `check` in the notebook
    measured_graph: str | None = None  #: the graph that was evaluated last
    failure: Failure | None = None
    is_undone: bool = False  #: a failure says that the student has not done this exercise
    has_died: bool = False  #: the exercise's code has ended the process
    has_passed: bool = False

    @property
    def state(self):
        if self.has_passed:
            return _State.PASSED
        if self.failure is None:
            return _State.OPEN
        return _State.OWN_FAULT if self.is_undone or self.has_died else _State.FAILED

    def fail(self, failure):
        if self.failure is None:
            self.failure = failure

    def die(self, reason):
        """Record that the exercise's code has ended the process. This replaces earlier failures."""
        self.failure, self.has_died = Failure(self.number, reason), True


@dataclass(frozen=True)
class _Death:
    """The end of a process before it had finished its task."""

    place: str  #: the step of the process that was running
    reason: str  #: the reason, for the student


class _Run:
    """One run of a notebook: it finds exercises that pass, and failures of exercises that do not.

    Parameters
    ----------
    clock : _Clock
    wanted : list of int
        The exercises that are not decided yet.
    censor : vae_grading.hints.Censor, optional
        Censors the messages of the run. Needed if the run is given solutions.
    """

    def __init__(self, clock, wanted, censor=None):
        self._clock, self._censor = clock, censor
        self._at_most = None  #: a limit in seconds on a task whose failure does not count
        self._progress = {number: _Progress(number) for number in wanted}
        self.broken = set()  #: exercises that passed earlier, but whose code fails in this run
        self.code = {}  #: maps exercises to the student's own source
        self.cells = ()  #: the code of all cells
        self.failures = []  #: all failures that the processes have sent
        self.death = None  #: the `_Death` of the last process that died
        self.n_orders, self.exhausted = 1, False

    def passed(self):
        """Return the numbers of the exercises that passed."""
        return [number for number, progress in self._progress.items()
                if progress.state is _State.PASSED]

    def final_failures(self, package_is_filled):
        """Return the failures that another run cannot change.

        These are the failures in state OWN_FAULT. The failure of the first exercise that has not
        passed is also final, because all earlier exercises are right or replaced. But this is not
        so if a process died, or if the exercise needs a solution that the package lacked in this
        run.
        """
        undecided = [progress for progress in self._progress.values()
                     if progress.state is not _State.PASSED]
        final = [progress.failure for progress in undecided if progress.state is _State.OWN_FAULT]
        if undecided and undecided[0].state is _State.FAILED and self.death is None:
            failure = undecided[0].failure
            if package_is_filled or not failure.awaits_package:
                final.append(failure)
        return final

    # --- the student's process ---

    def build(self, task):
        """Run the notebook.

        Raises
        ------
        _UnreadableNotebook, _TimeIsUp
        """
        messages = self._messages(task)
        for message in messages:
            if isinstance(message, Unreadable):
                raise _UnreadableNotebook(message.reason)
            if isinstance(message, OrderCount):
                self.n_orders = message.n
            elif isinstance(message, NotebookCode):
                self.cells = self.cells or message.cells
            elif isinstance(message, SourceCode):
                self.code[message.exercise] = message.text
            elif isinstance(message, BuiltGraph):
                self._progress[message.exercise].graph = message.text
            elif isinstance(message, Checked):
                progress = self._progress[message.exercise]
                progress.checked_graph = progress.graph

    def _messages(self, task):
        """Run a task; return its messages about undecided exercises, and record its failures."""
        messages, ended = self._clock.run(task, self._at_most)
        self.broken.update(message.exercise for message in messages if isinstance(message, Broken)
                           and message.exercise not in self._progress)
        messages = [message for message in messages
                    if not hasattr(message, "exercise") or message.exercise in self._progress]
        if self._censor is not None:
            messages = [censored for censored in map(self._censored, messages)
                        if censored is not None]
        for message in messages:
            if isinstance(message, Failure):
                self.failures.append(message)
                self._record_failure(message)
        if ended:
            stages = [message for message in messages if isinstance(message, Stage)]
            self._record_death(stages[-1] if stages else Stage(""), ended,
                               isinstance(task, MeasureTask))
        return messages

    def _censored(self, message):
        """Return a message without free text of the process, or None if nothing else is left."""
        if isinstance(message, Stage):
            return dataclasses.replace(message, place=self._censor.place(message.place))
        if isinstance(message, Failure):
            return self._censor.failure(message)
        return message if isinstance(message, (BuiltGraph, Checked, Measurement)) else None

    def _record_failure(self, failure):
        self._progress[failure.exercise].fail(failure)
        if failure.undone in self._progress:
            self._progress[failure.undone].is_undone = True
        self.exhausted |= failure.exhausted

    def _record_death(self, stage, ended, is_measuring):
        """Record how a process ended, and which exercise's code has ended it."""
        self.death = _Death(stage.place, _why(ended, self._clock.limits, is_measuring))
        self.exhausted |= ended in ("time", "memory", "disk", "output", "SIGKILL")
        culprit = next((number for number in stage.exercises if number in self._progress), None)
        if culprit is not None:
            self._progress[culprit].die(self.death.reason)

    # --- the process that evaluates graphs ---

    def measure(self, also_in_vain=False):
        """Evaluate the graphs. Graphs of exercises that train a model come last.

        Training takes long. If an earlier exercise is wrong, the training is left out, because a
        later run repeats it with the reference in place of that exercise.

        Parameters
        ----------
        also_in_vain : bool
            Whether to train after wrong exercises, too. A solution may be right only together with
            the student's own, wrong exercises. A failure of such a training does not count.

        Raises
        ------
        _TimeIsUp
        """
        training, without_training = [], []
        for progress in self._progress.values():
            (training if EXERCISES[progress.number].trains else without_training).append(progress)
        self._measure_all(without_training)
        for progress in training:
            if all(earlier.state is _State.PASSED for number, earlier in self._progress.items()
                   if number < progress.number):
                self._measure_all([progress])
            elif also_in_vain:
                self._measure_in_vain(progress)

    def _measure_in_vain(self, progress):
        """Evaluate the graph of an exercise that follows wrong exercises. Failures do not count."""
        known = self.death, self.exhausted, progress.failure, progress.has_died
        self._at_most = self._clock.limits.timeout / 4
        try:
            self._measure_all([progress])
        finally:
            self._at_most = progress.measured_graph = None
            self.death, self.exhausted, progress.failure, progress.has_died = known

    def _measure_all(self, chosen):
        """Evaluate the latest graphs, then the graphs that the notebook itself has checked."""
        self._measure({progress.number: progress.graph for progress in chosen})
        self._measure({progress.number: progress.checked_graph for progress in chosen
                       if progress.state is not _State.PASSED})

    def _measure(self, graphs):
        """Evaluate graphs, except those that passed before or that were evaluated last."""
        unknown = {}
        for number, graph in graphs.items():
            progress = self._progress[number]
            if graph is not None and _digest(number, graph) in _right_graphs:
                progress.has_passed = True
            elif graph is not None and graph != progress.measured_graph:
                unknown[number] = progress.measured_graph = graph
        if not unknown:
            return
        seed = secrets.randbits(31)
        for message in self._messages(MeasureTask(unknown, seed)):
            if isinstance(message, Measurement) and message.exercise in unknown:
                self._judge(message, seed)

    def _judge(self, measurement, seed):
        progress = self._progress[measurement.exercise]
        hint = _what_is_wrong(measurement, seed)
        if hint is None:
            progress.has_passed = True
            _right_graphs.add(_digest(progress.number, progress.measured_graph))
            return
        if self._censor is not None:  # the student chooses the names in a hint
            values = self._censor.measured(measurement.values)
            hint = _what_is_wrong(dataclasses.replace(measurement, values=values), seed,
                                  with_message=False) or self._censor.hint([])
        progress.fail(Failure(progress.number, hint))


def _what_is_wrong(measurement, seed, with_message=True):
    """Judge the results of the graph of an exercise.

    Parameters
    ----------
    measurement : vae_grading.messages.Measurement
        Untrusted.
    seed : int
        Seed of the inputs.
    with_message : bool
        Whether a hint may contain the message of an error.

    Returns
    -------
    str or None
        A hint; None if the results are right.
    """
    exercise = EXERCISES[measurement.exercise]
    try:
        inputs = exercise.draw(np.random.RandomState(seed), _images(), **measurement.sizes)
        with np.errstate(all="ignore"):
            exercise.judge(inputs, measurement.values)
    except Mistake as mistake:
        return str(mistake)
    except Exception as error:  # untrusted numbers may raise anything
        error = error if with_message else type(error).__name__
        return _("проверка получила не те числа, что ожидала: {error}", error=error)[:500]


#: Digests of graphs that passed in this process. Equal graphs are not evaluated again. Graphs that
#: failed are evaluated again, because a verdict on random numbers may be wrong.
_right_graphs = set()


def _digest(number, graph):
    return number, hashlib.sha256(graph.encode()).digest()


def _why(ended, limits, is_measuring):
    """Return the reason why a process ended, for the student.

    A process that evaluates graphs contains no endless loops, so the hint must not mention them.
    """
    if ended == "time" and is_measuring:
        return _("проверка ждала {timeout:.0f} с, но граф ещё вычислялся. Дело не в бесконечном "
                 "цикле: сети слишком велики, или сэмплов слишком много.", timeout=limits.timeout)
    return {
        "time": _("код не закончил работу за {timeout:.0f} с: нет ли бесконечного цикла?",
                  timeout=limits.timeout),
        "memory": _("коду не хватило {memory:.1f} ГБ памяти.", memory=limits.memory / 2 ** 30),
        "disk": _("код записал больше {disk:.0f} МБ или больше {files} файлов.",
                  disk=limits.disk / 2 ** 20, files=limits.files),
        "output": _("код вывел слишком много."),
    }.get(ended, _("код остановил процесс, в котором его проверяли ({ended}).", ended=ended))
