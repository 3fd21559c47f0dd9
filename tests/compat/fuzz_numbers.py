"""A fuzzer that compares the results of random graphs with the results of Theano's own code.

    python tests/compat/fuzz_numbers.py --minutes 60
    python tests/compat/fuzz_numbers.py --minutes 60 --without-compiler
    python tests/compat/fuzz_numbers.py --seeds 17,23 --only 4

A seed defines a program. `random_graphs.py` makes the parts of the program, which are compiled in
two functions and called three times. The program runs in several ways, each in its own process:

- with all patches, and again in a second process, which uses the graphs that the first process has
  kept;
- without a file of patches, and without another file of patches;
- as the reference: without optimiser, compiler and patches for speed, one operation after another;
- if a result differs from the reference, also with the optimiser, but without patches for speed. If
  the result agrees with this run, Theano itself causes the difference, which is then only counted;
- if it still differs, also Theano's optimised graph, one operation after another, to see how large
  the rounding errors of that graph are;
- if it still differs, also with `merge_gradients`: an infinity or nan that this causes is counted.

The allowed difference is measured. For this, the reference is computed another `SHAKES` times. Each
time, each result of each operation is changed by a few units in its last place; for sums and
products, each argument is changed, too. A float may differ by a multiple of the change that this
causes. Integers, infinity and nan may differ only if this changes them. A table at the end counts
these cases.
"""

import argparse
import collections
import itertools
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple

import theano_compat  # before Theano

import numpy as np
import theano
import theano.tensor as T
from theano import scalar
from theano.compile.sharedvalue import SharedVariable
from theano.scan_module.scan_op import Scan
from theano.tensor.nnet.sigm import UltraFastScalarSigmoid

import random_graphs
from random_graphs import KINDS, PARTS
from theano_compat import hooks

#: How often the reference is computed with changed results, and by up to how many units.
SHAKES, ULPS = 6, 2
#: The allowed difference of floats: units in the last place, and multiples of what shakes change.
UNITS, SPREADS = 4, 6
#: After this many programs all processes are restarted, with an empty cache.
GENERATION = 50
#: Files of patches that do not change modules: without them nothing is compiled again.
SAME_CODE = ("merge_gradients", "fuse_updates", "fast_import", "keep_graphs")
#: With a compiler, one of the other files is left out in one of this many programs.
RARELY = 6
#: The folder of modules for all ways of running that have the same modules.
_SHARED = "compiledir_format=modules,"
#: How many seconds a process may take for a program.
PATIENCE = 600


# --- a process that evaluates programs ---

class Shaker:
    """Changes the results of operations by a few units in their last place.

    For sums, products and the like it also changes the arguments, because the error of a sum is that
    of its terms.
    """

    #: Scalar operations whose result is exact, or the nearest number of its type.
    exact = (scalar.Identity, scalar.Cast, scalar.Switch, scalar.Maximum, scalar.Minimum,
             scalar.Abs, scalar.Neg, scalar.Floor, scalar.Ceil, scalar.Trunc, scalar.Second,
             scalar.RoundHalfToEven, scalar.RoundHalfAwayFromZero, scalar.Sgn, scalar.Clip,
             scalar.Real, scalar.Imag, scalar.Conj)
    #: How the names of other operations that round begin.
    rounding = ("AbstractConv", "AdvancedInc", "Average", "BaseAbstractConv", "BatchedDot",
                "CAReduce", "Conv", "Corr", "Crossentropy", "CumOp", "Dot", "DownsampleFactor",
                "Gem", "Ger", "IncSubtensor", "LogSoftmax", "MaxPool", "Pool", "Prod", "Softmax",
                "Sum")

    def __init__(self):
        self.random, self.flushing = None, False

    def begin(self, shake):
        """Shake from now on, with this number as seed, or not at all if it is 0."""
        self.random = np.random.RandomState(shake) if shake else None
        self.flushing = shake == 1

    def shaken(self, value):
        value = np.asarray(value)
        # At least one unit: of thousands of numbers, some would not be changed by any shake.
        noise = self.random.uniform(1, ULPS, value.shape) * np.finfo(value.dtype).eps
        noise *= self.random.choice([-1, 1], value.shape)
        value = np.asarray(value * (1 + noise), value.dtype)
        if value.dtype == "float32" and (self.flushing or self.random.rand() < 0.5):
            # docs/theano.md: numbers below 1.2e-38 may become 0 in elementwise operations.
            value = np.where(abs(value) < np.finfo("float32").tiny, np.float32(0), value)
        return value

    def __call__(self, node, thunk, storage_map, compute_map):
        """Shake a node's results: Theano's virtual machine calls this after each operation."""
        if self.random is None:
            return
        op = node.op
        if isinstance(op, T.Elemwise):
            if isinstance(op.scalar_op, UltraFastScalarSigmoid):  # (1 + x) / 2, x near -1 at times
                value = storage_map[node.outputs[0]]
                value[0] = np.asarray((1 + self.shaken(value[0] * 2 - 1)) / 2)
            elif not isinstance(op.scalar_op, self.exact):
                self._shake(node.outputs, storage_map)
        elif type(op).__name__.startswith(self.rounding) and not (
                isinstance(op, T.CAReduce)
                and not isinstance(op.scalar_op, (scalar.Add, scalar.Mul))):
            before = [storage_map[x][0] for x in node.inputs]
            self._shake(node.inputs, storage_map)
            thunk()
            for x, value in zip(node.inputs, before):
                storage_map[x][0] = value
            self._shake(node.outputs, storage_map)

    def _shake(self, variables, storage_map):
        for x in variables:
            value = storage_map[x][0]
            if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fc":
                storage_map[x][0] = self.shaken(value)


class Answer(NamedTuple):
    """The results of a part of a program in one way of running."""

    #: Without shaking, and with each shake: for each call the outputs and the shared variables.
    runs: list = None
    #: The exception, as a text.
    error: str = None
    #: False if the exception was raised when the graph was made.
    is_written: bool = True
    #: The names of inputs that a call has changed.
    overwritten: tuple = ()

    @property
    def error_type(self):
        return self.error and self.error.partition(":")[0]


class Evaluated(NamedTuple):
    """The results of parts of a program in one process."""

    #: An `Answer` for each part, by its number.
    answers: dict
    #: An exception that the parts raise together, but none of them alone; a text.
    error: str = None


def described(error):
    return f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"


def state_of(shared):
    value = shared.get_value()
    if isinstance(value, np.random.RandomState):
        return np.append(value.get_state()[1], value.get_state()[2])
    return np.array(value)


def compiled(parts, borrow):
    """Return a function of these parts, and a list of each part's shared variables."""
    inputs = [variable for part in parts for variable, _ in part.inputs]
    outputs = [theano.Out(x, borrow=borrow) for part in parts for x in part.outputs]
    updates = [pair for part in parts for pair in part.updates]
    function = theano.function(inputs, outputs, updates=updates, on_unused_input="ignore")
    shared = []
    for part in parts:
        found = theano.gof.graph.inputs([*part.outputs, *(new for _, new in part.updates)])
        found = [*found, *(old for old, _ in part.updates)]
        shared.append(list(dict.fromkeys(x for x in found if isinstance(x, SharedVariable))))
    return function, shared


def called(function, shared, parts):
    """Return, for each part, the results of three calls and the names of overwritten inputs."""
    results, overwritten = [[] for _ in parts], [set() for _ in parts]
    for turn in (0, 1, 0):
        arguments = [[values[turn] for _, values in part.inputs] for part in parts]
        before = [[value.copy() for value in values] for values in arguments]
        outputs = iter([np.array(value) for value in function(*itertools.chain(*arguments))])
        for i, part in enumerate(parts):
            results[i].append([*itertools.islice(outputs, len(part.outputs)),
                               *map(state_of, shared[i])])
            names = [variable.name for variable, _ in part.inputs]
            overwritten[i].update(name for name, value, old in zip(names, arguments[i], before[i])
                                  if value.tobytes() != old.tobytes())
    return results, overwritten


def evaluated(parts, shaker, borrow):
    """Return the answers of these parts in one function, also shaken if there is a shaker."""
    function, shared = compiled(parts, borrow)
    initial = [(x, x.get_value()) for x in itertools.chain(*shared)]
    runs, overwritten = [], [set() for _ in parts]
    for shake in range(1 + (SHAKES if shaker else 0)):
        if shaker:
            shaker.begin(shake)
        try:
            results, names = called(function, shared, parts)
        finally:
            if shaker:
                shaker.begin(0)
            for x, value in initial:
                x.set_value(value)
        runs.append(results)
        overwritten = [known | new for known, new in zip(overwritten, names)]
    return [Answer(list(of_part), overwritten=tuple(sorted(names)))
            for of_part, names in zip(zip(*runs), overwritten)]


def has_loop(part):
    """Whether a part has a Scan: optimised graphs of functions with one are not kept."""
    results = [*part.outputs, *(new for _, new in part.updates)]
    return any(isinstance(node.op, Scan) for node in theano.gof.graph.io_toposort([], results))


def evaluate(seed, numbers, shaker=None):
    """Run parts of a program: those with loops in one function, all others in another.

    If a function fails, its parts are run alone.
    """
    random_graphs.begin(seed)
    functions, answers, trouble = {True: {}, False: {}}, {}, None
    for number in numbers:
        try:
            part = random_graphs.part_of(seed, number)
        except Exception as error:
            answers[number] = Answer(error=described(error), is_written=False)
        else:
            functions[has_loop(part)][number] = part
    borrow = bool(seed % 2)
    for parts in filter(None, functions.values()):
        try:
            answers.update(zip(parts, evaluated(list(parts.values()), shaker, borrow)))
            continue
        except Exception as error:
            together = described(error)
        for number, part in parts.items():
            try:
                answers[number], = evaluated([part], shaker, borrow)
            except Exception as error:
                answers[number] = Answer(error=described(error))
        if not any(answers[number].error for number in parts):
            trouble = together
    return Evaluated(answers, trouble)


def describe(seed, number, shaker=None):
    """Return a text with the graph of a part, and its inputs."""
    random_graphs.begin(seed)
    part = random_graphs.part_of(seed, number)
    text = theano.printing.debugprint([*part.outputs, *(new for _, new in part.updates)],
                                      file="str", print_type=True)
    values = "\n".join(f"{x} {values[0].dtype} {values[0].shape} strides {values[0].strides}, "
                       f"then {values[1].shape}" for x, values in part.inputs)
    return f"{text[:4000]}\n{values}\nupdates: {[str(old) for old, _ in part.updates]}"


def work(file_number, is_reference):
    """Answer questions from a connection until it is closed."""
    shaker = None
    if is_reference:
        shaker = Shaker()
        linker = theano.gof.vm.VM_Linker(use_cloop=False, c_thunks=False, callback=shaker)
        theano.compile.mode.predefined_linkers["vm"] = linker
    connection = Connection(file_number)
    np.seterr(all="ignore")
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        connection.send({"evaluate": evaluate, "describe": describe}[question](*arguments, shaker))


class Way(NamedTuple):
    """A way of running programs: Theano's settings, and patches that are left out."""

    flags: str = ""
    left_out: str = ""
    is_reference: bool = False
    is_second: bool = False


class Worker:
    """A process that runs programs in one way."""

    def __init__(self, way, cache):
        self.way, self.cache, self._process = way, cache, None

    def _start(self):
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("THEANO")}
        paths = [str(Path(theano_compat.__file__).parents[1]), environment.get("PYTHONPATH")]
        environment.update(XDG_CACHE_HOME=self.cache, THEANO_FLAGS=self.way.flags,
                           THEANO_COMPAT_OFF=self.way.left_out, PYTHONWARNINGS="ignore",
                           PYTHONPATH=os.pathsep.join(filter(None, paths)))
        self._connection, theirs = Pipe()
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "import fuzz_numbers; "
             f"fuzz_numbers.work({theirs.fileno()}, {self.way.is_reference})"],
            cwd=Path(__file__).parent, env=environment, pass_fds=[theirs.fileno()],
            stdout=self._log, stderr=self._log)
        theirs.close()

    def ask(self, question, *arguments):
        if self._process is None:
            self._start()
        try:
            self._connection.send((question, arguments))
        except OSError:
            pass  # the process has ended: `answer` reports that

    def answer(self):
        """Return the process's answer, or a text if it has crashed or takes too long."""
        try:
            if self._connection.poll(PATIENCE):
                return self._connection.recv()
            trouble = f"no answer in {PATIENCE} s"
        except (EOFError, OSError, pickle.UnpicklingError):
            trouble = f"crashed, exit status {self._process.wait()}"
        self._log.seek(0)
        trouble += "\n" + self._log.read().decode(errors="replace")[-3000:]
        self.stop()
        return trouble

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            self._log.close()
            self._process = None


# --- the verdict ---

class Agreement(NamedTuple):
    """Masks of an array that is compared with another."""

    #: Where the difference is allowed.
    good: np.ndarray
    #: Where rounding decides between nan, infinity and numbers, or between integers.
    unsure: np.ndarray
    #: Where the allowed difference is larger than the number itself.
    loose: np.ndarray

    @classmethod
    def of(cls, value, expected, runs):
        """Compare two arrays; `runs` are the reference, without shaking and with each shake."""
        with np.errstate(all="ignore"):
            if value.dtype.kind == "c":
                return cls.of_complex(value, expected, runs)
            if value.dtype.kind != "f":
                unsure = np.any([run != runs[0] for run in runs], axis=0)
                return cls((value == expected) | unsure, unsure, np.zeros_like(unsure))
            return cls.of_floats(value, expected, runs)

    @classmethod
    def of_complex(cls, value, expected, runs):
        real = cls.of_floats(value.real, expected.real, [run.real for run in runs])
        imaginary = cls.of_floats(value.imag, expected.imag, [run.imag for run in runs])
        return cls(real.good & imaginary.good, real.unsure | imaginary.unsure,
                   real.loose | imaginary.loose)

    @classmethod
    def of_floats(cls, value, expected, runs):
        info = np.finfo(value.dtype)
        value, expected, *runs = (x.astype("float64") for x in [value, expected, *runs])
        finite = np.isfinite(runs[0])
        unsure = np.any([np.isfinite(run) != finite for run in runs], axis=0)
        unsure |= np.any([(run != runs[0]) & ~finite & ~(np.isnan(run) & np.isnan(runs[0]))
                          for run in runs], axis=0)
        spread = SPREADS * np.nan_to_num(np.max([abs(run - runs[0]) for run in runs], axis=0))
        allowed = (UNITS * float(info.eps) * abs(expected) + spread
                   + UNITS * float(info.smallest_subnormal))
        same = (value == expected) | (np.isnan(value) & np.isnan(expected))
        return cls(unsure | same | (abs(value - expected) <= allowed), unsure,
                   ~unsure & finite & (spread > abs(expected)))


def difference(run, references, runs, tally=None):
    """Return how the results of a part differ from all references, or None if they do not.

    `tally`, a Counter, counts all numbers, and those that are `unsure` or `loose`.
    """
    tally = collections.Counter() if tally is None else tally
    for turn, arrays in enumerate(run):
        if all(len(arrays) != len(reference[turn]) for reference in references):
            return f"call {turn}: {len(arrays)} results, not {len(references[0][turn])}"
        for place, value in enumerate(arrays):
            where = f"call {turn}, result {place}, {value.dtype} {value.shape}"
            shaken = [of_shake[turn][place] for of_shake in runs]
            tally["numbers"] += value.size
            if any(array.shape != shaken[0].shape for array in shaken):
                tally["unsure"] += value.size  # the shape depends on rounding
                continue
            expected = [reference[turn][place] for reference in references]
            alike = [array for array in expected
                     if (array.shape, array.dtype) == (value.shape, value.dtype)]
            if not alike:
                return f"{where}, not {expected[0].dtype} {expected[0].shape}"
            agreements = [Agreement.of(value, array, shaken) for array in alike]
            tally["unsure"] += int(agreements[0].unsure.sum())
            tally["loose"] += int(agreements[0].loose.sum())
            wrong = ~np.any([agreement.good for agreement in agreements], axis=0)
            if wrong.any():
                return (f"{where}: {wrong.sum()} of {value.size} differ, at "
                        f"{np.argwhere(wrong)[0].tolist()}: {value[wrong][:4]}, not "
                        f"{alike[0][wrong][:4]}; shaken "
                        f"{[array[wrong][0] for array in shaken[1:4]]}")
    return None


def trouble_with(answer, *accepted, tally=None):
    """Return what is wrong with an answer, or None if each number agrees with an accepted answer.

    The first accepted answer also gives the allowed differences.
    """
    if answer.overwritten:
        return f"overwritten: {', '.join(answer.overwritten)}"
    if answer.error:
        if answer.error_type in [known.error_type for known in accepted]:
            return None
        return f"{answer.error[:1500]}, not {accepted[0].error or 'without an error'}"
    with_runs = [known for known in accepted if known.runs]
    if not with_runs:
        return f"no error, not {accepted[0].error[:1500]}"
    return difference(answer.runs[0], [known.runs[0] for known in with_runs], with_runs[0].runs,
                      tally)


def where_finite(answer, expected):
    """Return an answer with the expected numbers wherever it or these are nan or infinite."""
    if not (answer.runs and expected.runs):
        return answer
    run = [[np.where(np.isfinite(value) & np.isfinite(known), value, known)
            if value.dtype.kind in "fc" and value.shape == known.shape else value
            for value, known in zip(*arrays)] for arrays in zip(answer.runs[0], expected.runs[0])]
    return answer._replace(runs=[run])


def files_of(group):
    """Return the files of patches in a group."""
    return list(dict.fromkeys(
        patch.file for patch in hooks.PATCHES.values() if patch.group == group))


def _command(seed, number):
    return f"--seeds {seed}" + ("" if number is None else f" --only {number}")


class Fuzzer:
    """Runs programs in all ways, and counts what differs."""

    def __init__(self, with_compiler, log=None):
        self.with_compiler, self.log = with_compiler, log
        self.flags = _SHARED if with_compiler else _SHARED + "cxx=,"
        self.speed = files_of("speed")
        #: Counters for the table, by the kind of part.
        self.counts = collections.defaultdict(collections.Counter)
        self.failures, self.seeds, self._workers, self._cache = [], 0, {}, None
        self._begun = time.monotonic()

    def _worker(self, *way):
        way = Way(*way)
        if self._cache is None:
            self._cache = tempfile.mkdtemp(prefix="fuzz-numbers-")
        if way not in self._workers:
            self._workers[way] = Worker(way, self._cache)
        return self._workers[way]

    def _reference(self):
        return self._worker("cxx=,optimizer=None,linker=vm", "speed", True)

    def _without(self, left_out):
        """Return a worker that leaves out a file or a group, and uses no graphs that others keep."""
        flags = self.flags + "cache_optimizations=False"
        if self.with_compiler and left_out not in SAME_CODE:
            flags = flags.replace(_SHARED, "")
        return self._worker(flags, left_out)

    def files_left_out(self, seed):
        """Return the files of patches that are left out for a program, one at a time."""
        if not self.with_compiler:
            files = [*self.speed, *files_of("without_compiler")]
            return [files[place % len(files)] for place in (2 * seed, 2 * seed + 1)]
        files = [SAME_CODE[place % len(SAME_CODE)] for place in (2 * seed, 2 * seed + 1)]
        turn, is_not_yet = divmod(seed, RARELY)
        rare = [file for file in self.speed if file not in SAME_CODE]
        return files if is_not_yet else [*files, rare[turn % len(rare)]]

    def stop(self):
        """Stop all processes and remove their cache."""
        for worker in self._workers.values():
            worker.stop()
        self._workers = {}
        if self._cache:
            shutil.rmtree(self._cache, ignore_errors=True)
            self._cache = None

    def run(self, seed, numbers=range(PARTS), files=None):
        """Run parts of a program in all ways; return what is wrong, as lines."""
        if self.seeds and self.seeds % GENERATION == 0:
            self.stop()
        self.seeds += 1
        numbers = list(numbers)
        ways = {"reference": self._reference(), "as we are": self._worker(self.flags),
                "from kept graphs": self._worker(self.flags, "", False, True)}
        for file in self.files_left_out(seed) if files is None else files:
            ways[f"without {file}"] = self._without(file)
        results = self._asked(ways, "evaluate", seed, numbers)
        wrong = [self._report(seed, None, name, result) for name, result in results.items()
                 if isinstance(result, str)]
        results = {name: result for name, result in results.items() if not isinstance(result, str)}
        if "reference" not in results:
            return wrong
        expected = results.pop("reference")
        self._count(seed, expected)
        suspects = {}
        for name, result in results.items():
            if result.error and not expected.error:
                if self._is_raised_by_theano(seed, numbers, name, result.error):
                    self.counts[""]["own"] += 1
                else:
                    wrong.append(self._report(seed, None, name, result.error))
            for number in numbers:
                counts = self.counts[self._kind(seed, number)]
                trouble = trouble_with(result.answers[number], expected.answers[number],
                                       tally=counts if name == "as we are" else None)
                if trouble:
                    suspects[number, name] = trouble
        return wrong + (self._judged(seed, suspects, results, expected) if suspects else [])

    @staticmethod
    def _asked(ways, question, *arguments):
        """Ask all ways, two at a time, in this order; return their answers by name."""
        answers, names = {}, list(ways)
        for pair in (names[place:place + 2] for place in range(0, len(names), 2)):
            for name in pair:
                ways[name].ask(question, *arguments)
            answers.update((name, ways[name].answer()) for name in pair)
        return answers

    def _judged(self, seed, suspects, results, expected):
        """Return the suspects whose results neither Theano nor merged gradients explain, as lines."""
        wrong = []
        plain = self._without_patches(seed, suspects, self._theanos_own, wrong)
        own = {(number, name) for number, name in plain if not trouble_with(
            results[name].answers[number], expected.answers[number], plain[number, name])}
        shaken = self._optimised(seed, {number for number, _name in plain.keys() - own}, wrong)
        own |= {(number, name) for number, name in plain.keys() - own if number in shaken
                and not trouble_with(results[name].answers[number], shaken[number],
                                     expected.answers[number], plain[number, name])}
        merging = self._without_patches(seed, suspects.keys() - own, self._merging_only, wrong)
        merged = {(number, name) for number, name in merging
                  if not trouble_with(results[name].answers[number], expected.answers[number],
                                      merging[number, name])
                  and not trouble_with(where_finite(results[name].answers[number],
                                                    expected.answers[number]),
                                       expected.answers[number])}  # finite numbers are Theano's
        for column, found in [("own", own), ("merged", merged)]:
            for number, _name in found:
                self.counts[self._kind(seed, number)][column] += 1
        wrong += [self._report(seed, number, name, trouble)
                  for (number, name), trouble in suspects.items()
                  if (number, name) not in own | merged]
        if own and self.with_compiler and "as we are" in results:
            self._compare_with_numpy(seed, sorted({number for number, _name in own}),
                                     results["as we are"], expected)
        return wrong

    def _without_patches(self, seed, suspects, left_out_for, wrong):
        """Return the answers of runs that leave out for each suspect what `left_out_for` says.

        A run that gives no answers is added to `wrong`, as a line.
        """
        asked, answers = collections.defaultdict(set), {}
        for number, name in suspects:
            asked[left_out_for(name)].add(number)
        for left_out, numbers in asked.items():
            ways = {"": self._without(left_out)}
            result = self._asked(ways, "evaluate", seed, sorted(numbers))[""]
            if isinstance(result, str):
                wrong.append(self._report(seed, None, f"without {left_out}", result))
            else:
                answers.update(((number, name), result.answers[number])
                               for number, name in suspects if left_out_for(name) == left_out)
        return answers

    def _optimised(self, seed, numbers, wrong):
        """Return the answers of Theano's optimised graphs, with shakes, by the number of the part.

        The unoptimised graph does not show the rounding errors of a number that is nan in it.
        """
        if not numbers:
            return {}
        worker = self._worker("cxx=,linker=vm,optimizer_excluding=inplace", "speed", True)
        result = self._asked({"": worker}, "evaluate", seed, sorted(numbers))[""]
        if isinstance(result, str):
            wrong.append(self._report(seed, None, "Theano's optimised graph", result))
            return {}
        return result.answers

    def _is_raised_by_theano(self, seed, numbers, name, error):
        """Whether the whole program raises the same exception without our patches for speed.

        It may not do so each time: the order of Theano's optimisations depends on addresses.
        """
        worker = self._without(self._theanos_own(name))
        tries = (self._asked({"": worker}, "evaluate", seed, numbers)[""] for _ in range(5))
        return any(not isinstance(plain, str) and plain.error == error for plain in tries)

    @staticmethod
    def _theanos_own(name):
        """Return what to leave out to get Theano's own result, where the way `name` differs.

        If the way leaves out a file that computes without a compiler, Theano's own Python computes.
        """
        file = name.removeprefix("without ")
        return f"speed,{file}" if file in files_of("without_compiler") else "speed"

    def _merging_only(self, name):
        """Return what to leave out so that `merge_gradients` is the only file of patches for speed.

        The sum of two gradients may be finite or infinite where Theano, which propagates each of
        them, gets nan: see docs/theano.md.
        """
        own = self._theanos_own(name).split(",")[1:]
        return ",".join([*(file for file in self.speed if file != "merge_gradients"), *own])

    def _compare_with_numpy(self, seed, numbers, with_compiler, expected):
        """Count and note results that are different with a compiler and without."""
        numpys = self._asked({"": self._worker("cxx=,")}, "evaluate", seed, numbers)[""]
        for number in () if isinstance(numpys, str) else numbers:
            answer, numpy = with_compiler.answers[number], numpys.answers[number]
            if answer.runs and numpy.runs:
                shaken = (expected.answers[number] if expected.answers[number].runs else numpy).runs
                trouble = difference(answer.runs[0], [numpy.runs[0]], shaken)
            else:
                trouble = trouble_with(answer, numpy)
            if trouble:
                self.counts[self._kind(seed, number)]["apart"] += 1
                self._note(f"{_command(seed, number)} ({self._kind(seed, number)}) NOT A FAILURE, "
                           f"with and without a compiler: {trouble}", seed, number)

    def _count(self, seed, expected):
        for number, answer in expected.answers.items():
            counts = self.counts[self._kind(seed, number)]
            counts["parts"] += 1
            counts["unwritten"] += not answer.is_written
            counts["raised"] += answer.is_written and answer.error is not None

    @staticmethod
    def _kind(seed, number):
        return "" if number is None else random_graphs.kind_of(seed, number)

    def _report(self, seed, number, name, trouble):
        """Count and note a failure; return it as a line."""
        kind = self._kind(seed, number)
        line = f"{_command(seed, number)} ({kind or 'the program'}) {name}: {trouble}"
        self.counts[kind]["failed"] += 1
        self.failures.append(seed)
        self._note(line, seed, number)
        return line

    def _note(self, line, seed, number):
        if self.log:
            text = "" if number is None else self.described(seed, number)
            with open(self.log, "a") as file:
                file.write(f"{line}\n{text}\n\n")

    def described(self, seed, number):
        return self._asked({"": self._reference()}, "describe", seed, number)[""]

    def table(self):
        """Return the table of what was compared and what has failed."""
        columns = ["parts", "failed", "own", "merged", "apart", "unwritten", "raised"]
        minutes = (time.monotonic() - self._begun) / 60
        lines = [f"{self.seeds} programs in {minutes:.1f} minutes",
                 "".join([f"{'':16}", *(f"{name:>10}" for name in columns),
                          f"{'unsure':>10}{'loose':>10}"])]
        all_counts = sum(self.counts.values(), collections.Counter())
        rows = {name or "whole programs": self.counts[name] for name in [*KINDS, ""]
                if name in self.counts}
        for name, counts in {**rows, "all": all_counts}.items():
            shares = [counts[column] / max(counts["numbers"], 1) for column in ("unsure", "loose")]
            lines.append("".join([f"{name:16}", *(f"{counts[column]:10}" for column in columns),
                                  *(f"{share:10.2%}" for share in shares)]))
        lines += [
            "own: Theano itself gives something else than its unoptimised graph",
            "merged: an infinity or nan that is due to merged gradients",
            "apart: as own, and not the same with a compiler and without",
            "unwritten, raised: the generator, or the reference, has raised an error",
            "unsure: of the numbers, where rounding decides of nan, infinity, integers, shapes",
            "loose: where rounding makes another number altogether"]
        seeds = ",".join(map(str, dict.fromkeys(self.failures)))
        lines.append(f"{len(self.failures)} failures" + (f", --seeds {seeds}" if seeds else ""))
        return "\n".join(lines)


def main():
    from tqdm import tqdm
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long, 10 if not given")
    parser.add_argument("--seed", type=int, default=None, help="the first seed; by the clock")
    parser.add_argument("--seeds", help="these only, as 17,23")
    parser.add_argument("--only", type=int, help="only this part of a program")
    parser.add_argument("--kinds", help="only parts of these kinds, as chains,updates")
    parser.add_argument("--without-compiler", action="store_true", help="NumPy computes everything")
    parser.add_argument("--log", help="a file to which each failure is added when it is found")
    options = parser.parse_args()
    fuzzer = Fuzzer(not options.without_compiler, options.log)
    kinds = options.kinds.split(",") if options.kinds else KINDS
    first = int(time.time()) if options.seed is None else options.seed
    seeds = map(int, options.seeds.split(",")) if options.seeds else itertools.count(first)
    end = time.monotonic() + options.minutes * 60
    try:
        for seed in tqdm(seeds, unit=" programs"):
            numbers = [number for number in range(PARTS)
                       if random_graphs.kind_of(seed, number) in kinds
                       and options.only in (None, number)]
            for line in fuzzer.run(seed, numbers) if numbers else ():
                tqdm.write(line)
            if options.only is not None:
                tqdm.write(fuzzer.described(seed, options.only))
            if time.monotonic() > end and not options.seeds:
                break
    except KeyboardInterrupt:
        pass
    finally:
        fuzzer.stop()
        print(fuzzer.table())
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    sys.exit(main())
