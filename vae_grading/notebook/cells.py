"""A notebook's code cells, their statements, and the orders in which the cells may be run."""

import __future__
import ast
import asyncio
import dis
import inspect
import linecache
import re
import selectors
import traceback
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType

from IPython.core.inputtransformer2 import TransformerManager

from vae.checks import EXERCISES
from vae.language import _
from vae_grading.notebook.file_format import code_cells_in

__all__ = ["Cell", "Statement", "cells_of", "orders_of", "place_of", "python_of", "student_lines"]

_RUNS_ITS_BODY = re.compile(r"\A(\s*%%(time|timeit|capture|prun)\b.*\n?)+")
_WRITES_ITS_BODY = re.compile(r"\A\s*%%(?:writefile|file)\s+(-a\s+)?(\S+)\s*\n")
_RUNS_ITS_LINE = re.compile(r"^(\s*)%(time|timeit|prun)\s+(?=[^-\s])", re.M)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop without sockets, which the sandbox forbids. So threads cannot wake it."""

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
    binds: set  #: global names that it binds
    uses: set  #: global names that it uses

    @property
    def exercises(self):
        """The exercises for which this statement binds names."""
        return [number for number, exercise in EXERCISES.items()
                if self.binds.intersection(exercise.names)]

    @property
    def is_import(self):
        """Whether this is an import statement."""
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @property
    def future(self):
        """The compiler flag that ``from __future__ import annotations`` sets, or 0."""
        return self.code.co_flags & __future__.annotations.compiler_flag

    def run(self, names, future=0):
        """Run the statement in a namespace, in the same way as Jupyter.

        Parameters
        ----------
        names : dict
            The namespace, changed in place.
        future : int
            The compiler flag that earlier statements have set: see the property `future`.

        Raises
        ------
        BaseException
            Whatever the student's code raises.
        """
        code = _compiled(self.node, self.code.co_filename, future) if future else self.code
        result = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            _Loop().run_until_complete(result)

    @property
    def lines(self):
        """The numbers of its first and last line. Decorators are part of the statement."""
        decorators = getattr(self.node, "decorator_list", [])
        return min(node.lineno for node in [self.node, *decorators]), self.node.end_lineno


@dataclass(eq=False)
class Cell:
    """A code cell and its statements."""

    name: str  #: the file name in tracebacks
    source: str
    execution_count: int | None = None
    statements: list[Statement] = field(default_factory=list)
    error: Exception | None = None  #: the error of the parser, if the cell is not Python

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
            # ValueError means a null byte. RecursionError and MemoryError mean that the code is
            # nested too deeply for the parser. The traceback is removed, because it would keep the
            # frames alive that use up the memory.
            self.error = error.with_traceback(None)

    @property
    def python(self):
        """The code to which the line numbers in tracebacks refer."""
        try:
            return python_of(self.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return self.source

    @property
    def exercises(self):
        """The exercises for which this cell binds names."""
        if self.error is not None:
            return [number for number, exercise in EXERCISES.items()
                    if any(re.search(rf"^\s*((def|class)\s+{name}\b|.*\b{name}\b[^=\n]*=[^=])",
                                     self.source, re.M) for name in exercise.names)]
        return sorted({number for statement in self.statements for number in statement.exercises})

    def exercise_at(self, line):
        """Return the exercise that a line of this cell belongs to.

        Parameters
        ----------
        line : int
            Number of the line, from 1.

        Returns
        -------
        int or None
        """
        for statement in self.statements:
            first, last = statement.lines
            if first <= line <= last and statement.exercises:
                return statement.exercises[0]
        return self.exercises[0] if len(self.exercises) == 1 else None

    def code_of(self, exercise, owners):
        """Return the source of one exercise: its statements, with the lines above each of them.

        Parameters
        ----------
        exercise : int
        owners : callable
            (statement) -> list of the exercises that the statement defines or changes.

        Returns
        -------
        str
            "" if this cell does not define the exercise.
        """
        if self.error is not None:
            return self.source if exercise in self.exercises else ""
        lines = python_of(self.source).splitlines()
        chosen, end, last_owners = [], 0, []
        for statement in self.statements:
            if owners(statement):
                start, end = end, statement.lines[1]
                last_owners = owners(statement)
                if exercise in last_owners:
                    chosen += lines[start:end]
        if exercise in last_owners:
            chosen += lines[end:]
        return "\n".join(chosen).strip()


@lru_cache(maxsize=None)
def python_of(source):
    """Convert a cell's source to plain Python.

    Magics and shell lines become calls of ``get_ipython()``.

    Parameters
    ----------
    source : str

    Returns
    -------
    str

    Raises
    ------
    SyntaxError
        IPython may raise it for code that is not Python.
    MemoryError, RecursionError
        The code is nested too deeply for Python's parser.
    """
    match = _WRITES_ITS_BODY.match(source)
    if match:
        append, path = match.groups()
        return (f"with open({path!r}, {'a' if append else 'w'!r}) as file:\n"
                f"    file.write({source[match.end():]!r})\n")
    source = _RUNS_ITS_LINE.sub(r"\1", _RUNS_ITS_BODY.sub("", source))
    if source.lstrip().startswith("%%"):
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError):
        return TransformerManager().transform_cell(source)
    # IPython would not change it. For a long line, its tokens take gigabytes in Python 3.12.
    return source if source.endswith("\n") else source + "\n"


def _statement(node, name):
    code = _compiled(node, name)
    binds, uses = set(), set()
    _collect_names(code, binds, uses)
    return Statement(node, code, binds, uses)


def _compiled(node, name, future=0):
    return compile(ast.Module([node], []), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | future,
                   dont_inherit=True)


def _collect_names(code, binds, uses, nested=False):
    """Add the global names that code binds and uses to two sets."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            uses.add(instruction.argval)
        elif instruction.opname == "STORE_GLOBAL" or (
                not nested and instruction.opname == "STORE_NAME"):
            binds.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _collect_names(constant, binds, uses, nested=True)


# --- reading ---

def cells_of(content):
    """Return the code cells of a notebook, from top to bottom.

    Parameters
    ----------
    content : bytes
        Content of the file: see `vae_grading.notebook.file_format`.

    Returns
    -------
    list of Cell

    Raises
    ------
    ValueError
        If the file is not a notebook.
    """
    try:
        sources = code_cells_in(content)
    except Exception as error:  # a file that is not a notebook may cause errors of many classes
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if not sources:
        raise ValueError(_("в нём нет ячеек с кодом"))
    name = _("<ячейка {number}>")
    return [Cell(name.format(number=number), source, count if type(count) is int else None)
            for number, (source, count) in enumerate(sources, start=1)]


def orders_of(cells):
    """Return the orders in which a student may have intended the cells to run, likeliest first.

    1. The order of the execution counts. Solutions without a count come first, so that solutions
       with a count replace them. Other cells without a count come last.
    2. The same, but under the assumption that the kernel was restarted, which resets the counts.
       Cells with counts above a gap may be older, so they come first. This order is only returned
       if an exercise has more than one solution, because only then can a solution be older.
    3. From top to bottom.

    A notebook is right if it gives right answers in any of these orders.

    Parameters
    ----------
    cells : list of Cell
        From top to bottom.

    Returns
    -------
    list of list of Cell
        One to three different orders.
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
    last = min(counts)  # becomes the last count before the first gap
    while last + 1 in counts:
        last += 1
    solved = [number for cell in solutions for number in cell.exercises]
    if len(set(solved)) < len(solved):
        orders.append(sorted(as_run, key=lambda cell: not last < count(cell) < float("inf")))
    orders.append(cells)
    return [order for position, order in enumerate(orders) if order not in orders[:position]]


def place_of(cell, statement):
    """Describe the place of a statement for the student.

    Parameters
    ----------
    cell : Cell
    statement : Statement

    Returns
    -------
    str
        Cell and line, in the reader's language.
    """
    return _("{cell}, строка {line}", cell=cell.name.strip("<>"), line=statement.lines[0])


def student_lines(error, cells, number):
    """Return the lines of one exercise that an exception went through.

    Parameters
    ----------
    error : BaseException
        Raised by a cell, or by a function that a cell defined.
    cells : list of Cell
        The student's cells.
    number : int
        Number of the exercise.

    Returns
    -------
    text : str
        The traceback, reduced to the lines of this exercise and to lines that belong to no
        exercise. "" if the traceback has no line of this exercise.
    lines : list of tuple of int
        The same lines as pairs of the numbers of a cell and of a line, from 1.
    exercise : int or None
        The exercise that the innermost line of the whole traceback belongs to.
    """
    by_name = {cell.name: cell for cell in cells}
    places = {cell.name: place for place, cell in enumerate(cells, start=1)}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename in by_name]
    if isinstance(error, SyntaxError) and error.filename in by_name:
        frames.append(traceback.FrameSummary(error.filename, error.lineno, "<module>",
                                             lookup_line=False, line=(error.text or "").strip()))
    owners = [by_name[frame.filename].exercise_at(frame.lineno) for frame in frames]
    exercise = owners[-1] if frames else None
    if number not in owners:
        return "", [], exercise
    frames = [frame for frame, owner in zip(frames, owners) if owner in (number, None)]
    lines = [_("{cell}, строка {line}", cell=frame.filename.strip("<>"), line=frame.lineno)
             + (_(", в {name}", name=frame.name) if frame.name != "<module>" else "")
             + f":\n    {frame.line}"
             for frame in frames]
    message = "\n".join(str(error).strip().splitlines()[:5])
    lines.append(f"{type(error).__name__}: {message}")
    return "\n".join(lines), [(places[frame.filename], frame.lineno) for frame in frames], exercise
