"""Programs in Python 2, and what they import from their own folder, translated as they are run.

fissix, the living fork of lib2to3, translates what is written otherwise today; `code_of` and
`as_python2` do what it leaves: division of integers, pickles and files of Python 2, names.
Tracebacks show the file's own lines.
"""

import ast
import builtins
import importlib.util
import os
import pickle
import re
import string
import sys
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.machinery import PathFinder, SourceFileLoader

import numpy as np

from theano_compat.hooks import replace

__all__ = ["is_python2", "code_of", "tree_of", "as_python2"]

#: Of fissix's: questions of style, and a name that Python 3 has again.
_LEFT_OUT = {"asserts", "buffer", "idioms", "set_literal", "ws_comma"}
#: What Python 3 has not.
_NAMES = {"xrange", "raw_input", "unicode", "basestring", "unichr", "reduce", "execfile", "long"}
_MODULES = {"cPickle", "StringIO", "cStringIO", "urllib2", "urlparse", "httplib", "ConfigParser",
            "Queue", "Tkinter", "__builtin__", "commands", "copy_reg"}
_METHODS = {"iteritems", "iterkeys", "itervalues", "has_key"}
_FUTURE = re.compile(r"^\s*from\s+__future__\s+import\b[^\n]*\bdivision\b", re.M)


def is_python2(source, path):
    """Tell whether a file says that it is Python 2, can't be read otherwise, or uses its names.

    Parameters
    ----------
    source : bytes
    path : str
    """
    if re.match(rb"#![^\n]*python2", source):
        return True
    try:
        return _has_names_of_python2(ast.parse(source, path))
    except (SyntaxError, ValueError):
        pass
    try:
        code_of(source, path)
        return True
    except SyntaxError:
        return False  # nor Python 2: what Python 3 says of it is clearer


def _has_names_of_python2(tree):
    """Whether there are names that Python 3 has not, in a program that was not written for both."""
    nodes = list(ast.walk(tree))
    if any(isinstance(node, ast.ExceptHandler) and node.type is not None
           and re.search("NameError|ImportError|AttributeError", ast.unparse(node.type))
           for node in nodes):
        return False
    names = {node.id: False for node in nodes if isinstance(node, ast.Name)}
    names.update((node.id, True) for node in nodes
                 if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    imported = {alias.asname or alias.name for node in nodes
                if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    modules = {alias.name for node in nodes if isinstance(node, ast.Import)
               for alias in node.names} | {node.module for node in nodes
                                           if isinstance(node, ast.ImportFrom)}
    return bool({name for name, bound in names.items() if not bound} & _NAMES - imported
                or modules & _MODULES
                or {node.attr for node in nodes if isinstance(node, ast.Attribute)} & _METHODS)


@lru_cache(maxsize=1)  # whether it is Python 2 is known once it is translated
def code_of(source, path):
    """Translate a file and compile it.

    Parameters
    ----------
    source : bytes
    path : str

    Returns
    -------
    code

    Raises
    ------
    SyntaxError
        If it is no Python 2 either.
    ModuleNotFoundError
        If fissix is not installed.
    """
    try:
        text = importlib.util.decode_source(source)
    except (UnicodeDecodeError, SyntaxError):
        text = source.decode("latin1")
    return compile(tree_of(text, path), path, "exec", dont_inherit=True)


def tree_of(text, path):
    """Translate a text, and return its tree, in which lines have the numbers that they have there.

    Parameters
    ----------
    text, path : str

    Returns
    -------
    ast.Module

    Raises
    ------
    As `code_of` does.
    """
    text = text.expandtabs(8).rstrip() + "\n"  # Python 2 took tabs and spaces together
    translator = _translator(os.path.exists(os.path.join(os.path.dirname(path), "__init__.py")))
    from fissix.pgen2.parse import ParseError
    from fissix.pgen2.tokenize import TokenError
    try:
        translated = str(translator.refactor_string(text, path))
    except (ParseError, TokenError) as error:
        raise SyntaxError(f"{path} is no Python 2: {error}") from None
    tree = ast.parse(translated, path)
    _number_as(text.splitlines(), translated.splitlines(), tree)
    if not _FUTURE.search(text):
        tree = ast.fix_missing_locations(_Divisions().visit(tree))
    return tree


def load_ipython_extension(shell):
    """``%load_ext theano_compat.old_programs.python2``: see `notebooks`."""
    from theano_compat.old_programs import notebooks

    notebooks.load(shell, is_python2=True)


@lru_cache(maxsize=None)
def _translator(in_package):
    try:
        from fissix import refactor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install fissix") from None

    left_out = _LEFT_OUT if in_package else _LEFT_OUT | {"import"}  # there are modules beside it
    return refactor.RefactoringTool([
        name for name in refactor.get_fixers_from_package("fissix.fixes")
        if name.rpartition("fix_")[2] not in left_out])


def _number_as(lines, translated, tree):
    """Give what stands in translated lines the numbers of the original ones."""
    numbers = {}
    for _, start, end, first, last in SequenceMatcher(
            None, lines, translated, autojunk=False).get_opcodes():
        numbers.update((number + 1, max(1, min(start + number - first + 1, end)))
                       for number in range(first, last))
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno, node.end_lineno = numbers[node.lineno], numbers[node.end_lineno]


class _Divisions(ast.NodeTransformer):
    """Let `/` be what it was."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        return ast.copy_location(_call("__old_division__", node.left, node.right), node)

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        value = ast.parse(ast.unparse(node.target), mode="eval").body
        return ast.copy_location(ast.Assign(
            [node.target], _call("__old_division_in_place__", value, node.value)), node)


def _call(name, *arguments):
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _are_integers(a, b):
    return all(isinstance(one, (int, np.integer)) or isinstance(one, np.ndarray)
               and one.dtype.kind in "iub" for one in (a, b))


def _divide(a, b):
    if _are_integers(a, b):
        return a // b
    if hasattr(a, "__div__"):  # Theano's variables have it still
        return a.__div__(b)
    if hasattr(b, "__rdiv__"):
        return b.__rdiv__(a)
    return a / b


def _divide_in_place(a, b):
    if isinstance(a, np.ndarray):
        return np.floor_divide(a, b, out=a) if _are_integers(a, b) else np.divide(a, b, out=a)
    return _divide(a, b)


# --- what it finds ---

def as_python2(folder):
    """Let the rest of this process find what Python 2 had.

    Parameters
    ----------
    folder : str
        The program's, whose modules are translated, too.
    """
    vars(builtins).update(
        __old_division__=_divide, __old_division_in_place__=_divide_in_place, file=open,
        cmp=lambda a, b: (a > b) - (a < b))
    for name, now in [("letters", "ascii_letters"), ("lowercase", "ascii_lowercase"),
                      ("uppercase", "ascii_uppercase")]:
        setattr(string, name, getattr(string, now))
    string.join = lambda words, sep=" ": sep.join(words)
    _restore_pickle()
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder(folder))  # below our patches


def _restore_pickle():
    """Let pickle read texts and arrays of Python 2, which are bytes, and files opened as text."""
    @replace(pickle)
    def load(file, **options):
        binary = getattr(file, "buffer", file)
        start = binary.tell()
        try:
            return load.original(binary, **options)
        except UnicodeDecodeError:
            binary.seek(start)
            return load.original(binary, **{"encoding": "latin1", **options})

    @replace(pickle)
    def loads(data, **options):
        data = data.encode("latin1") if isinstance(data, str) else data
        try:
            return loads.original(data, **options)
        except UnicodeDecodeError:
            return loads.original(data, **{"encoding": "latin1", **options})

    @replace(pickle)
    def dump(value, file, *args, **options):
        return dump.original(value, getattr(file, "buffer", file), *args, **options)


class _Finder:
    """Finds modules where Python would: to be translated, if they are the program's own.

    These lie in its folder, in those of PYTHONPATH, or where it has added to ``sys.path``. Of
    others those are translated that Python 3 can't read.
    """

    def __init__(self, folder):
        own = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        self._own = [os.path.realpath(path) + os.sep for path in own]
        others = (os.path.realpath(path) + os.sep for path in sys.path if path)
        self._others = [path for path in others if path not in self._own]

    def _is_own(self, path):
        path = os.path.realpath(path)
        return "site-packages" not in path and (
            path.startswith(tuple(self._own)) or not path.startswith(tuple(self._others)))

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec and type(spec.loader) is SourceFileLoader:
            loader = _Loader if self._is_own(spec.origin) else _LoaderOfOthers
            spec.loader = loader(spec.loader.name, spec.loader.path)
            return spec
        return None


class _Loader(SourceFileLoader):
    """Keeps no bytecode, which another Python would take for its own."""

    def source_to_code(self, data, path, *module, **options):  # its name, since Python 3.15
        try:
            return code_of(data, path)
        except SyntaxError:
            return super().source_to_code(data, path, *module, **options)

    def path_stats(self, path):
        raise OSError

    def set_data(self, path, data, **options):
        pass


class _LoaderOfOthers(SourceFileLoader):
    """Reads Python 3; what is not is translated, without leaving bytecode."""

    _translated = False

    def source_to_code(self, data, path, *module, **options):
        try:
            return super().source_to_code(data, path, *module, **options)
        except SyntaxError:
            self._translated = True
            return code_of(data, path)

    def set_data(self, path, data, **options):
        if not self._translated:
            super().set_data(path, data, **options)
