"""A student's notebook: its cells, the orders that they may be run in, and running them.

Notebooks come with cells added, split, merged, reordered, run out of order and
copied from one to another.  So an exercise is what its names are in the end, by
whatever means they came there: every cell is run whole, as Jupyter would, but

* a statement that fails does not keep the others of its cell from running, unless
  it is a ``raise``: what the notebook imports may be missing here;
* a statement that defines no exercise may take half of the time that is left for
  all such statements, then it is left out;
* where a name is missing, the cell that defines it, of those not yet run, is run
  first;
* where an exercise is replaced by the reference, the statements that only define
  its names are left out, and what others do to them is undone.

What is slow and changes no exercise is replaced beforehand: see
`vae_grading.stand_ins`.
"""

import ast
import asyncio
import builtins
import dis
import inspect
import linecache
import re
import selectors
import signal
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from types import CodeType, ModuleType

import theano
from IPython.core.inputtransformer2 import TransformerManager

import vae
from vae.checks import EXERCISES
from vae.language import _
from vae_grading.stand_ins import Enough, Shell

# With it, jsonschema compiles grammars of internet addresses for longer than a notebook is built.
_grammars = sys.modules.setdefault("rfc3987_syntax", None)
import nbformat  # noqa: E402

if _grammars is None:
    del sys.modules["rfc3987_syntax"]

__all__ = ["Cell", "Overdue", "Statement", "cells_of", "fill_package", "given_by", "in_package",
           "main_module", "orders_of", "place_of", "run", "student_lines"]

_RUNS_ITS_BODY = re.compile(r"\A\s*%%(time|timeit|capture|prun)\b.*\n?")
_WRITES_ITS_BODY = re.compile(r"\A\s*%%(?:writefile|file)\s+(-a\s+)?(\S+)\s*\n")
_RUNS_ITS_LINE = re.compile(r"^(\s*)%(time|timeit|prun)\s+(?=[^-\s])", re.M)
_MAX_PARTS = 1000  # of a value, that are looked at


class _Loop(asyncio.SelectorEventLoop):
    """A loop without the sockets by which threads wake it: the sandbox allows none."""

    def __init__(self):
        super().__init__(selectors.SelectSelector())

    def _make_self_pipe(self):
        pass

    def _close_self_pipe(self):
        pass


@dataclass(eq=False)
class Statement:
    """One statement of a cell."""

    node: ast.stmt
    code: CodeType
    binds: set  #: global names
    uses: set  #: global names

    @property
    def exercises(self):
        """The exercises whose names this statement binds."""
        return [number for number, exercise in EXERCISES.items()
                if self.binds.intersection(exercise.names)]

    def run(self, names):
        """Run it, as Jupyter would, in a namespace."""
        left = eval(self.code, names)
        if self.code.co_flags & inspect.CO_COROUTINE:
            _Loop().run_until_complete(left)

    @property
    def lines(self):
        """Its first and last line."""
        return (min(node.lineno for node in [
            self.node, *getattr(self.node, "decorator_list", [])]), self.node.end_lineno)


@dataclass(eq=False)
class Cell:
    """A code cell, taken apart; ``error`` if it is not Python."""

    name: str
    source: str
    execution_count: int = None
    statements: list = field(default_factory=list)
    error: SyntaxError = None

    def __post_init__(self):
        try:
            python = python_of(self.source)
            lines = python.splitlines(keepends=True)
            linecache.cache[self.name] = (len(python), None, lines, self.name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nodes = ast.parse(python, self.name).body
                self.statements = [_statement(node, self.name) for node in nodes]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # ValueError: a null byte; the last two: too deep for the parser.  Its frames may hold
            # all the memory there is.
            self.error = error.with_traceback(None)

    @property
    def exercises(self):
        """The exercises whose names this cell binds."""
        if self.error is not None:
            return [number for number, exercise in EXERCISES.items()
                    if any(re.search(rf"^\s*((def|class)\s+{name}\b|.*\b{name}\b[^=\n]*=[^=])",
                                     self.source, re.M) for name in exercise.names)]
        return sorted({number for statement in self.statements for number in statement.exercises})

    def exercise_at(self, line):
        """The exercise that a line of this cell is part of, or None."""
        for statement in self.statements:
            first, last = statement.lines
            if first <= line <= last and statement.exercises:
                return statement.exercises[0]
        return self.exercises[0] if len(self.exercises) == 1 else None

    def code_of(self, exercise, owners):
        """What of this cell is an exercise: its statements, and others up to each of them.

        Parameters
        ----------
        exercise : int
        owners : callable
            (statement) -> the exercises that it defines.
        """
        if self.error is not None:
            return self.source if exercise in self.exercises else ""
        lines, end = python_of(self.source).splitlines(), 0
        chosen, latest = [], []
        for statement in self.statements:
            if owners(statement):
                start, end, latest = end, statement.lines[1], owners(statement)
                chosen += lines[start:end] if exercise in latest else []
        return "\n".join(chosen + (lines[end:] if exercise in latest else [])).strip()


@lru_cache(maxsize=None)
def python_of(source):
    """A cell's source as plain Python: magics and shell lines become calls of get_ipython()."""
    written = _WRITES_ITS_BODY.match(source)
    if written:
        append, path = written.groups()
        return (f"with open({path!r}, {'a' if append else 'w'!r}) as file:\n"
                f"    file.write({source[written.end():]!r})\n")
    source = _RUNS_ITS_LINE.sub(r"\1", _RUNS_ITS_BODY.sub("", source))
    if source.lstrip().startswith("%%"):
        return ""
    return TransformerManager().transform_cell(source)


def _statement(node, name):
    code = compile(ast.Module([node], []), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                   dont_inherit=True)
    binds, uses = set(), set()
    _names_in(code, binds, uses)
    return Statement(node, code, binds, uses)


def _names_in(code, binds, uses, nested=False):
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            uses.add(instruction.argval)
        elif instruction.opname == "STORE_GLOBAL" or (
                not nested and instruction.opname == "STORE_NAME"):
            binds.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _names_in(constant, binds, uses, nested=True)


# --- reading ---

def cells_of(content):
    """Return the code cells of a notebook, in the order in which they stand.

    Parameters
    ----------
    content : bytes
        The file, of any version of the format.

    Raises
    ------
    ValueError
        If it is not a notebook.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        sources = [("".join(cell.source), cell.get("execution_count"))
                   for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:  # nbformat raises all sorts of them
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not sources:
        raise ValueError(_("в нём нет ячеек с кодом"))
    name = _("<ячейка {number}>")
    return [Cell(name.format(number=number), source, count if type(count) is int else None)
            for number, (source, count) in enumerate(sources, start=1)]


def orders_of(cells):
    """Return the orders in which a student may have meant the cells to be run, likeliest first.

    1. As their execution counts tell. Solutions that were not run come first, so that those
       that were run win; other cells that were not run come last.
    2. The same, but counts start again with the kernel: cells above a gap in the counts may be
       left over from an earlier session, so they come first.  Only where an exercise has more
       than one solution, so that one of them can be older.
    3. As they stand: from top to bottom.

    A notebook that gives right answers in any of them is right.
    """
    solutions = [cell for cell in cells if cell.exercises]
    if all(cell.execution_count is None for cell in solutions):
        return [cells]

    def count(cell):
        if cell.execution_count is None:
            return -1 if cell.exercises else float("inf")
        return cell.execution_count

    as_run = sorted(cells, key=count)
    orders = [as_run]
    counts = {cell.execution_count for cell in cells} - {None}
    last = min(counts)
    while last + 1 in counts:
        last += 1
    solved = [number for cell in solutions for number in cell.exercises]
    if len(set(solved)) < len(solved):
        orders.append(sorted(as_run, key=lambda cell: not last < count(cell) < float("inf")))
    orders.append(cells)
    return [order for position, order in enumerate(orders) if order not in orders[:position]]


def given_by(setup):
    """Return the names that a notebook may rely on: what its first cell defines.

    Parameters
    ----------
    setup : str
        The code of that cell.
    """
    names = main_module()
    exec(compile(python_of(setup), "<setup>", "exec"), names)
    return names


def main_module():
    """Return the names of a new module ``__main__``, as a kernel has it."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    names = vars(module)
    shell = Shell(names)
    names.update(get_ipython=lambda: shell, display=lambda *args, **kwargs: None)
    return names


# --- what the package has of the exercises ---

#: What the package's own names for exercises are: in the worker, without the solutions.
_IN_PACKAGE = {number: {name: getattr(vae, name) for name in exercise.names if hasattr(vae, name)}
               for number, exercise in EXERCISES.items()}


def in_package():
    """The exercises that the package solves, too."""
    return [number for number, stubs in _IN_PACKAGE.items() if stubs]


def fill_package(solutions, given):
    """Let the package's classes and functions do what they do where it has its solutions.

    Parameters
    ----------
    solutions : dict
        The reference's code, by the number of an exercise.
    given : dict
        What it may rely on.
    """
    for number, source in solutions.items():
        names = dict(given)
        exec(compile(python_of(source), "<package>", "exec"), names)
        for name, stub in _IN_PACKAGE[number].items():
            if isinstance(stub, type):
                for method, function in vars(names[name]).items():
                    if callable(function):
                        setattr(stub, method, function)
            else:
                stub.__code__ = names[name].__code__


# --- running ---

class Overdue(Enough):
    """A statement that defines no exercise takes too long."""


def _parts(value):
    """A value and what it consists of: if these are the same objects, nothing has changed it."""
    kind = type(value)
    try:
        if kind in (list, tuple, set):
            inner = value
        elif kind is dict:
            inner = [*value, *value.values()]
        elif isinstance(value, type):
            inner = [part for one in value.__mro__ if one is not object
                     for part in vars(one).values()]
        elif isinstance(value, (ModuleType, theano.Variable)):
            inner = []
        else:
            inner = [getattr(value, "__code__", None), *vars(value).values()]
        return [value, *islice(inner, _MAX_PARTS)]
    except Exception:  # a student's object may raise anything
        return [value]


def _snapshot(names, some):
    return [part for name in sorted(some) for part in _parts(names.get(name))]


def _same(one, other):
    return len(one) == len(other) and all(map(lambda a, b: a is b, one, other))


class _Replacement:
    """The reference's code in the place of an exercise."""

    def __init__(self, number, source):
        self.number, self.cell = number, Cell(f"<reference {number}>", source)
        self.binds = set().union(*(one.binds for one in self.cell.statements))
        self.uses = {name for one in self.cell.statements for name in one.uses - self.binds
                     if not hasattr(builtins, name)}
        self.seen = None  #: what it has used and given

    def is_due(self, names):
        """Whether what it needs is there, and anything has changed that or what it has given."""
        return self.uses <= names.keys() and (
            self.seen is None or not _same(self.seen, _snapshot(names, self.binds | self.uses)))

    def run(self, names):
        for statement in self.cell.statements:
            statement.run(names)
        if self.number == 4:
            _give_once(names["qz_x"], names["z"])
        self.seen = _snapshot(names, self.binds | self.uses)


def _give_once(qz_x, z):
    """Let the student's own name for a sample of q(z | x) be the one that the reference decodes."""
    sample, left = qz_x.sample, [z]
    qz_x.sample = lambda: left.pop() if left else sample()


class _Runner:
    def __init__(self, cells, replacements, given, names, skipped, patience, before, changed):
        self.cells, self.given, self.names, self.skipped = cells, given, names, skipped
        self._patience = patience
        self.replacements = [_Replacement(*one) for one in sorted(replacements.items())]
        self.before, self.changed = before, changed
        self.errors, self._started = [], set()
        bound = set().union(*(one.binds for cell in cells for one in cell.statements),
                            *(one.binds for one in self.replacements))
        names.update((name, value) for name, value in given.items()
                     if name not in bound and name not in names)

    def run(self):
        for cell in self.cells:
            self._run_cell(cell)
        for replacement in self.replacements:
            if replacement.seen is None:
                self._execute(lambda: replacement.run(self.names))

    def _run_cell(self, cell):
        if cell in self._started:
            return
        self._started.add(cell)
        replaced = {one.number for one in self.replacements}
        if cell.error is not None and not replaced.issuperset(cell.exercises or [None]):
            self.errors.append((cell, None, cell.error))
        for statement in cell.statements:
            if place_of(cell, statement) in self.skipped or (
                    statement.exercises and replaced.issuperset(statement.exercises)
                    and not isinstance(statement.node, (ast.Import, ast.ImportFrom))):
                continue
            error = self._run_statement(cell, statement)
            if error is not None:
                self.errors.append((cell, statement, error))
                if isinstance(statement.node, ast.Raise):
                    return

    def _run_statement(self, cell, statement):
        self.before(cell, statement)
        before = self._state()
        error = self._execute(lambda: self._exec(statement))
        self._keep_the_students_own(before)
        for number, state in self._state().items():
            if not _same(before[number], state):
                self.changed(number, cell, statement)
        for replacement in self.replacements:
            if replacement.is_due(self.names):
                self._execute(lambda: replacement.run(self.names))
        return error

    def _exec(self, statement):
        if statement.exercises:
            statement.run(self.names)
        else:
            with self._not_for_ever():
                statement.run(self.names)

    @contextmanager
    def _not_for_ever(self):
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self._patience / 2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._patience -= time.monotonic() - started

    def _state(self):
        return {number: _snapshot(self.names, exercise.names)
                for number, exercise in EXERCISES.items()}

    def _keep_the_students_own(self, before):
        """Undo an import of what the package has in the place of what the student has written."""
        for number, stubs in _IN_PACKAGE.items():
            for name, stub in stubs.items():
                own = before[number][0]  # such an exercise has one name
                if own is not None and own is not stub and self.names.get(name) is stub:
                    self.names[name] = own

    def _execute(self, code):
        """Run code, and where a name is missing, first what gives it; return what it raised."""
        while True:
            try:
                code()
                return None
            except Enough as error:
                return error if isinstance(error, Overdue) else None
            except NameError as error:
                if not self._provide(error.name):
                    return error
            except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                return error

    def _provide(self, name):
        for cell in self.cells:
            if cell not in self._started and any(name in one.binds for one in cell.statements):
                self._run_cell(cell)
                return True
        for replacement in self.replacements:
            if name in replacement.binds and replacement.seen is None:
                replacement.seen = []  # not again from within
                return self._execute(lambda: replacement.run(self.names)) is None
        if name in self.given and name not in self.names:
            self.names[name] = self.given[name]
            return True
        return False


def run(cells, replacements, given, names, skipped, patience, before, changed):
    """Run a notebook.

    Parameters
    ----------
    cells : list of Cell
        The student's, in order.
    replacements : dict
        The reference's code for some exercises, by number.
    given : dict
        What a notebook may rely on, where it does not define it itself.
    names : dict
        The namespace, changed in place.
    skipped : list of str
        Places of statements not to run.
    patience : float
        Seconds for all statements that define no exercise.
    before : callable
        Told of each statement of the student's, and its cell, before it runs.
    changed : callable
        Told of each exercise, cell and statement that has changed what the exercise defines.

    Returns
    -------
    list of (Cell, exception)
        What was raised.
    """
    signal.signal(signal.SIGALRM, _leave_out)
    runner = _Runner(cells, replacements, given, names, skipped, patience, before, changed)
    runner.run()
    return [(cell, error) for cell, statement, error in runner.errors
            if not _is_left_over(cell, statement, names)]


def _leave_out(*args):
    raise Overdue(_("строка выполнялась слишком долго и была пропущена: "
                    "нет ли в ней бесконечного цикла?"))


def place_of(cell, statement):
    """Where a statement is, for a person."""
    return _("{cell}, строка {line}").format(cell=cell.name.strip("<>"), line=statement.lines[0])


def _is_left_over(cell, statement, names):
    """Tell whether a statement is the exercise's own ``raise``, in a cell that solves it."""
    return (statement is not None and isinstance(statement.node, ast.Raise) and cell.exercises
            and all(names.get(name) is not None for number in cell.exercises
                    for name in EXERCISES[number].names))


def student_lines(error, cells):
    """Return the lines of the student's own cells that an exception went through.

    Parameters
    ----------
    error : BaseException
        What a cell raised, then or when it was called.
    cells : list of Cell
        The student's.

    Returns
    -------
    text : str
        The traceback, cut to those lines.
    exercise : int or None
        The exercise that the innermost of them is part of.
    """
    by_name = {cell.name: cell for cell in cells}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename in by_name]
    lines = [_("{cell}, строка {line}").format(cell=frame.filename.strip("<>"), line=frame.lineno)
             + (_(", в {name}").format(name=frame.name) if frame.name != "<module>" else "")
             + f":\n    {frame.line}"
             for frame in frames]
    if isinstance(error, SyntaxError) and error.filename in by_name:
        lines.append(_("{cell}, строка {line}").format(
            cell=error.filename.strip("<>"), line=error.lineno)
            + f":\n    {(error.text or '').strip()}")
    message = "\n".join(str(error).strip().splitlines()[:5])
    lines.append(f"{type(error).__name__}: {message}")
    exercise = by_name[frames[-1].filename].exercise_at(frames[-1].lineno) if frames else None
    return "\n".join(lines), exercise
