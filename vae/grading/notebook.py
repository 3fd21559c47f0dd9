"""Running the part of a student's notebook that the exercises need, and nothing else.

Notebooks come with cells added, split, merged, reordered, run out of order and
copied from one to another.  So an exercise is found by the names that it must
define, not by its place or tags: the notebook is taken apart into statements,
those that an exercise depends on are run, each cell after the cells that define
what it uses.  Training and pictures, on which no exercise depends, are not run.
"""

import ast
import dis
import linecache
import re
import traceback
import warnings
from dataclasses import dataclass, field
from types import CodeType, ModuleType

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from vae.checks import EXERCISES

__all__ = ["Cell", "cells_of", "namespace", "run", "student_lines"]

#: What an exercise needs besides the names of other exercises.
_SETTINGS = {"input_x", "BATCH_SIZE", "HIDDEN_DIM"}

_RUNS_ITS_BODY = re.compile(r"\A\s*%%(time|timeit|capture|prun)\b.*\n?")
_RUNS_ITS_LINE = re.compile(r"^(\s*)%(time|timeit|prun)\s+(?=[^-\s])", re.M)


@dataclass(eq=False)
class Statement:
    """One statement of a cell."""

    node: ast.stmt
    code: CodeType
    changes: set  #: names that it binds, or whose attributes or items it sets
    calls: set  #: names whose methods it calls, which may change them
    uses: set

    @property
    def imports_everything(self):
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def exercises(self):
        """The exercises that this statement is a solution of, as far as names tell."""
        return [number for number, exercise in EXERCISES.items()
                if self.changes.intersection(exercise.names)]


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
        """The exercises that this cell has solutions of."""
        if self.error is not None:
            return [number for number, exercise in EXERCISES.items()
                    if any(re.search(rf"^\s*((def|class)\s+{name}\b|.*\b{name}\b[^=\n]*=[^=])",
                                     self.source, re.M) for name in exercise.names)]
        return sorted({number for statement in self.statements for number in statement.exercises})

    def exercise_at(self, line):
        """The exercise that a line of this cell is part of, or None."""
        for statement in self.statements:
            first = min(node.lineno for node in [
                statement.node, *getattr(statement.node, "decorator_list", [])])
            if first <= line <= statement.node.end_lineno and statement.exercises:
                return statement.exercises[0]
        return self.exercises[0] if len(self.exercises) == 1 else None


def python_of(source):
    """A cell's source as plain Python: magics and shell lines become calls of get_ipython()."""
    source = _RUNS_ITS_LINE.sub(r"\1", _RUNS_ITS_BODY.sub("", source))
    if source.lstrip().startswith("%%"):
        return ""
    return TransformerManager().transform_cell(source)


def _statement(node, name):
    code = compile(ast.Module([node], []), name, "exec", dont_inherit=True)
    changes, calls, uses = set(), set(), set()
    _names_in(code, changes, uses)
    for part in ast.walk(node):
        if isinstance(part, (ast.Attribute, ast.Subscript)) and isinstance(part.ctx, ast.Store):
            changes.add(_root(part))
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            call = part.value
            if isinstance(call.func, ast.Attribute):
                calls.add(_root(call.func))
            elif isinstance(call.func, ast.Name) and call.func.id == "setattr" and call.args:
                changes.add(_root(call.args[0]))
    return Statement(node, code, changes - {None}, calls - {None}, uses)


def _names_in(code, changes, uses, nested=False):
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            uses.add(instruction.argval)
        elif instruction.opname == "STORE_GLOBAL" or (
                not nested and instruction.opname == "STORE_NAME"):
            changes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _names_in(constant, changes, uses, nested=True)


def _root(node):
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def cells_of(content):
    """Return the code cells of a notebook, in the order in which they were last run.

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
        raise ValueError("в нём нет ячеек с кодом")
    cells = [Cell(f"<ячейка {number}>", source, count)
             for number, (source, count) in enumerate(sources, start=1)]
    solutions = [cell for cell in cells if cell.exercises]
    if solutions and all(isinstance(cell.execution_count, int) for cell in solutions):
        last = len(cells) + max(cell.execution_count for cell in solutions)
        cells.sort(key=lambda cell: cell.execution_count or last)
    return cells


class _NoShell:
    """Stands for IPython's shell: magics and shell lines do nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def namespace(setup):
    """Return the names that a notebook may rely on: what its first cell defines.

    Parameters
    ----------
    setup : str
        The code of that cell.
    """
    names = {"__name__": "__main__", "get_ipython": _NoShell, "display": lambda *args, **_: None}
    exec(compile(python_of(setup), "<setup>", "exec"), names)
    return names


def run(cells, replacements, names, on_statement):
    """Run what the exercises depend on.

    Parameters
    ----------
    cells : list of Cell
        The student's, in order.
    replacements : list of Cell
        The reference's cells that take the place of what the student has for
        these exercises.
    names : dict
        The namespace, changed in place; with what a notebook may rely on.
    on_statement : callable
        Told of each statement of the student's, and its cell, before it runs.

    Returns
    -------
    list of (Cell, exception)
        What was raised; the rest of such a cell is not run.
    """
    everything = [*replacements, *cells]
    modules = {name for name, value in names.items() if isinstance(value, ModuleType)}.union(
        *(statement.changes for cell in cells for statement in cell.statements
          if isinstance(statement.node, (ast.Import, ast.ImportFrom))))
    replaced = set().union(*(statement.changes for cell in replacements
                             for statement in cell.statements))

    def stays(statement):
        return not (statement.changes | statement.calls - modules) & replaced

    statements = {cell.name: cell.statements if cell in replacements
                  else [one for one in cell.statements if stays(one)] for cell in everything}
    relevant = _relevant(statements, modules)
    started, provided, errors = set(), set(), []

    def run_cell(cell):
        started.add(cell.name)
        for statement in relevant[cell.name]:
            for name in sorted(statement.uses - provided):
                for other in everything:
                    if other.name not in started and any(
                            name in one.changes for one in relevant[other.name]):
                        run_cell(other)
                        break
            if cell not in replacements:
                on_statement(cell, statement)
            try:
                exec(statement.code, names)
            except BaseException as error:  # SystemExit and KeyboardInterrupt, too
                errors.append((cell, statement, error))
                return
            provided.update(statement.changes)
        if cell in replacements and 4 in cell.exercises:
            _give_once(names["qz_x"], names["z"])

    for cell in everything:
        if cell.error is not None and not replaced.issuperset(
                *(EXERCISES[number].names for number in cell.exercises)):
            errors.append((cell, None, cell.error))
        if cell.name not in started:
            run_cell(cell)
    return [(cell, error) for cell, statement, error in errors
            if not _is_left_over(cell, statement, names)]


def _is_left_over(cell, statement, names):
    """Tell whether a statement is the exercise's own ``raise``, in a cell that solves it."""
    return (statement is not None and isinstance(statement.node, ast.Raise) and cell.exercises
            and all(names.get(name) is not None for number in cell.exercises
                    for name in EXERCISES[number].names))


def _give_once(qz_x, z):
    """Let the student's own name for a sample of q(z | x) be the one that the reference decodes."""
    sample, left = qz_x.sample, [z]
    qz_x.sample = lambda: left.pop() if left else sample()


def _relevant(statements, modules):
    """The statements of each cell that the exercises depend on."""
    needed = _SETTINGS.union(*(exercise.names for exercise in EXERCISES.values()))
    relevant, before = {}, None
    while before != needed:
        before = set(needed)
        for cell, candidates in statements.items():
            relevant[cell] = [
                one for one in candidates if one.imports_everything
                or (one.changes | one.calls - modules) & needed]
            needed.update(*(one.uses for one in relevant[cell]))
    for cell, chosen in relevant.items():  # a cell ends where it raises
        relevant[cell] = [one for one in statements[cell]
                          if one in chosen or chosen and isinstance(one.node, ast.Raise)]
    return relevant


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
    lines = [f"{frame.filename.strip('<>')}, строка {frame.lineno}"
             + (f", в {frame.name}" if frame.name != "<module>" else "") + f":\n    {frame.line}"
             for frame in frames]
    if isinstance(error, SyntaxError) and error.filename in by_name:
        lines.append(f"{error.filename.strip('<>')}, строка {error.lineno}:\n    "
                     f"{(error.text or '').strip()}")
    message = "\n".join(str(error).strip().splitlines()[:5])
    lines.append(f"{type(error).__name__}: {message}")
    exercise = by_name[frames[-1].filename].exercise_at(frames[-1].lineno) if frames else None
    return "\n".join(lines), exercise
