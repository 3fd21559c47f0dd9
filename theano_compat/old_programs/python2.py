"""Translation of programs in Python 2, and of the modules in their folder when they are imported.

fissix, the maintained fork of lib2to3, translates the syntax. `code_of` and `as_python2` restore
features that fissix does not translate: the division of integers, the pickles of Python 2 and, in
`python2_meaning`, its functions. Tracebacks show the lines of the original file.
"""

import ast
import builtins
import importlib.util
import operator
import os
import pickle
import re
import sys
import warnings
from difflib import SequenceMatcher
from functools import lru_cache, wraps
from importlib.machinery import PathFinder, SourceFileLoader
from io import StringIO

import numpy as np

from theano_compat.hooks import replace
from theano_compat.old_programs.children import adapt_children, translate_scripts
from theano_compat.old_programs.python2_meaning import Meanings, restore_names

__all__ = ["is_python2", "code_of", "tree_of", "as_python2"]

#: Fixers of fissix that are not used. They only improve style, or `python2_meaning` replaces them,
#: in programs that define these names themselves, too.
_FIXERS_LEFT_OUT = {
    "apply", "asserts", "buffer", "dict", "execfile", "filter", "future", "has_key", "idioms",
    "input", "itertools", "itertools_imports", "long", "map", "next", "raw_input", "reduce",
    "set_literal", "sorted", "types", "ws_comma", "xrange", "zip"}
#: Names, modules and methods that exist only in Python 2.
_NAMES = {"xrange", "raw_input", "unicode", "basestring", "unichr", "reduce", "execfile", "long"}
_MODULES = {"cPickle", "StringIO", "cStringIO", "urllib2", "urlparse", "httplib", "ConfigParser",
            "Queue", "Tkinter", "__builtin__", "commands", "copy_reg"}
_METHODS = {"iteritems", "iterkeys", "itervalues", "has_key"}
#: Syntax that Python 2 does not have.
_SYNTAX_OF_PYTHON3 = (ast.AnnAssign, ast.AsyncFunctionDef, ast.JoinedStr, ast.Nonlocal,
                      ast.YieldFrom)
#: Conditions of a program for both versions.
_VERSION_CHECKS = re.compile(r"version_info.*\b3\b|\bPY[23]\b")
#: Exceptions that a program for both versions handles, to find out which names exist.
_MISSING_NAME_ERRORS = re.compile("NameError|ImportError|AttributeError")


def is_python2(source, path):
    """Return whether a file is Python 2.

    This is so if the first line of the file says so, if only Python 2 can parse the file, or if the
    file uses names that exist only in Python 2, and its first line does not say Python 3.

    Parameters
    ----------
    source : bytes
    path : str

    Returns
    -------
    bool
    """
    first_line = re.match(rb"(?:#![^\n]*(python[23]))?", source)[1]
    if first_line == b"python2":
        return True
    try:
        return _has_names_of_python2(ast.parse(source, path)) and first_line is None
    except (SyntaxError, ValueError):
        pass
    try:
        code_of(source, path)
        return True
    except SyntaxError:
        return False  # it is not Python 2 either, and the error of Python 3 is clearer


def _has_names_of_python2(tree):
    """Return whether a program uses names of Python 2, and was not written for both versions.

    What the program defines or imports itself under such a name does not count.
    """
    used, defined, modules, attributes = set(), set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, _SYNTAX_OF_PYTHON3):
            return False
        if isinstance(node, (ast.If, ast.IfExp)) and _VERSION_CHECKS.search(ast.unparse(node.test)):
            return False
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            if _MISSING_NAME_ERRORS.search(ast.unparse(node.type)):
                return False
        elif isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "six"):
                attributes.add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if getattr(node, "returns", None):
                return False
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            if node.annotation:
                return False
            defined.add(node.arg)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
            defined.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
            defined.update(alias.asname or alias.name for alias in node.names)
    return bool(((used & _NAMES) | (attributes & _METHODS)) - defined or modules & _MODULES)


@lru_cache(maxsize=1)  # `is_python2` calls this function first, with the same file
def code_of(source, path, is_in_package=False):
    """Translate a file and compile it.

    Parameters
    ----------
    source : bytes
    path : str
    is_in_package : bool, optional
        Whether the file is a module of a package. Then ``import x`` searches its folder first.

    Returns
    -------
    types.CodeType

    Raises
    ------
    SyntaxError
        If the file cannot be translated.
    ModuleNotFoundError
        If fissix is not installed.
    """
    try:
        text = importlib.util.decode_source(source)
    except (UnicodeDecodeError, SyntaxError):
        text = source.decode("latin1")
    return compile(tree_of(text, path, is_in_package), path, "exec", dont_inherit=True)


def tree_of(text, path, is_in_package=False, features=None):
    """Translate a text, and return its syntax tree, with the line numbers of the original text.

    Parameters
    ----------
    text, path : str
    is_in_package : bool, optional
        See `code_of`.
    features : set of str, optional
        What earlier cells of a notebook have imported from ``__future__``. What this text imports
        from it is added.

    Returns
    -------
    ast.Module

    Raises
    ------
    SyntaxError, ModuleNotFoundError
        See `code_of`.
    """
    features = set() if features is None else features
    _translator(is_in_package, False)  # it checks that fissix is installed
    from fissix.pgen2.parse import ParseError
    from fissix.pgen2.tokenize import TokenError
    try:
        text = _read(text.rstrip() + "\n", features)
        translator = _translator(is_in_package, "print_function" in features)
        translated = str(translator.refactor_string(text, path))
    except (ParseError, TokenError) as error:
        raise SyntaxError(f"{path} is no Python 2: {error}") from None
    tree = ast.parse(translated, path)
    _restore_line_numbers(tree, text.splitlines(), translated.splitlines())
    if "division" not in features:
        tree = _Divisions().visit(tree)
    return ast.fix_missing_locations(Meanings(path).visit(tree))


def load_ipython_extension(shell):
    """Prepare a kernel for Python 2.

    ``%load_ext theano_compat.old_programs.python2`` calls this function.
    """
    from theano_compat.old_programs import notebooks

    notebooks.load(shell, is_python2=True)


def _read(text, features):
    """Return a text with its indentation in spaces, and add what it imports from ``__future__``.

    Python 2 allows tabs and spaces to be mixed in the indentation.
    """
    from fissix.pgen2 import token, tokenize

    lines, statement, in_text = text.split("\n"), [], set()
    for kind, word, (start, _), (end, _), _ in tokenize.generate_tokens(StringIO(text).readline):
        if kind == token.STRING:
            in_text.update(range(start, end))  # all lines of the string but the first, from 0
        if kind == token.NEWLINE or word == ";":
            if statement[:3] == ["from", "__future__", "import"]:
                features.update(statement[3:])
            statement = []
        elif kind in (token.NAME, token.STRING, token.NUMBER):
            statement.append(word)
    for number, line in enumerate(lines):
        content = line.lstrip(" \t")
        if number not in in_text:
            lines[number] = line[:len(line) - len(content)].expandtabs(8) + content
    return "\n".join(lines)


@lru_cache(maxsize=None)
def _translator(is_in_package, has_print_function):
    try:
        from fissix import refactor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install fissix") from None

    left_out = _FIXERS_LEFT_OUT
    if not is_in_package:  # outside a package, imports of modules in the same folder are absolute
        left_out = left_out | {"import"}
    return refactor.RefactoringTool([
        name for name in refactor.get_fixers_from_package("fissix.fixes")
        if name.rpartition("fix_")[2] not in left_out], {"print_function": has_print_function})


def _restore_line_numbers(tree, lines, translated):
    """Replace line numbers of translated lines in a tree by the numbers of the original lines."""
    numbers = {}
    matcher = SequenceMatcher(None, lines, translated, autojunk=False)
    for _, start, end, translated_start, translated_end in matcher.get_opcodes():
        for i in range(translated_start, translated_end):
            number = start + (i - translated_start) + 1
            numbers[i + 1] = max(1, min(number, end))
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno, node.end_lineno = numbers[node.lineno], numbers[node.end_lineno]


class _Divisions(ast.NodeTransformer):
    """Replaces ``/`` by calls of functions that divide in the same way as Python 2."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        return ast.copy_location(_call("__old_division__", node.left, node.right), node)

    def visit_AugAssign(self, node):
        """Replace ``object[index] /= x``, and evaluate the object and the index only once."""
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        target, names, statements = node.target, [], []
        if isinstance(target, (ast.Attribute, ast.Subscript)):
            names.append("_old_object")
            statements.append(_assign("_old_object", target.value))
            target.value = ast.Name("_old_object", ast.Load())
        if isinstance(target, ast.Subscript):
            names.append("_old_index")
            index = ast.Subscript(ast.Name("__old_index__", ast.Load()), target.slice, ast.Load())
            statements.append(_assign("_old_index", index))
            target.slice = ast.Name("_old_index", ast.Load())
        value = ast.parse(ast.unparse(target), mode="eval").body
        statements.append(
            ast.Assign([target], _call("__old_division_in_place__", value, node.value)))
        if names:
            statements.append(ast.Delete([ast.Name(name, ast.Del()) for name in names]))
        return [ast.copy_location(statement, node) for statement in statements]


def _assign(name, value):
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _call(name, *arguments):
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _are_integers(a, b):
    return all(isinstance(x, (int, np.integer, np.bool_))
               or isinstance(x, np.ndarray) and x.dtype.kind in "iub" for x in (a, b))


def _divide(a, b):
    if _are_integers(a, b):
        return a // b
    for value, other, name in (a, b, "__div__"), (b, a, "__rdiv__"):
        if hasattr(value, name):  # Theano's variables have `__div__`, for example
            result = getattr(value, name)(other)
            if result is not NotImplemented:
                return result
    return a / b


def _divide_in_place(a, b):
    if isinstance(a, np.ndarray):
        return np.floor_divide(a, b, out=a) if _are_integers(a, b) else np.divide(a, b, out=a)
    # Classes of Python 3, such as those of pandas, have only `__itruediv__`.
    for name in ("__idiv__",) if hasattr(a, "__div__") else ("__idiv__", "__itruediv__"):
        if hasattr(a, name):
            result = getattr(a, name)(b)
            if result is not NotImplemented:
                return result
    return _divide(a, b)


# --- the process of a program in Python 2 ---

def as_python2(folder):
    """Restore names, pickles and imports of Python 2 in this process and in those that it starts.

    Parameters
    ----------
    folder : str
        The folder of the program. Modules in this folder are translated, too.
    """
    vars(builtins).update(
        __old_division__=_divide, __old_division_in_place__=_divide_in_place,
        __old_index__=np.s_)
    operator.div = _divide
    restore_names()
    builtins.execfile = _execfile
    _restore_pickle()
    for name in "load", "save", "savez", "savez_compressed":
        setattr(np, name, _accept_text_file(getattr(np, name)))
    adapt_children(folder)
    translate_scripts(code_of)
    _translate_loaded_files()
    # It is put directly before Python's finder, so that the finder of the patches is still first.
    sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder(folder))


def _execfile(path, global_names=None, local_names=None):
    """Run a file in Python 2, by default in the scope of the caller."""
    if global_names is None:
        caller = sys._getframe(1)
        global_names, local_names = caller.f_globals, caller.f_locals
    with open(path, "rb") as file:
        exec(code_of(file.read(), path), global_names, local_names)


def _translate_loaded_files():
    """Let `imp` translate the files that it loads, before Python 3.12, which dropped it."""
    if sys.version_info >= (3, 12):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import imp

    @replace(imp)
    def load_source(name, path, file=None):
        spec = importlib.util.spec_from_file_location(name, path, loader=_ProgramLoader(name, path))
        module = sys.modules.setdefault(name, importlib.util.module_from_spec(spec))
        spec.loader.exec_module(module)
        return module


def _restore_pickle():
    """Let pickle accept files that are opened as text, and texts and arrays from Python 2."""
    @replace(pickle)
    def load(file, **options):
        return load.original(getattr(file, "buffer", file), **{"encoding": "latin1", **options})

    @replace(pickle)
    def loads(data, **options):
        data = data.encode("latin1") if isinstance(data, str) else data
        return loads.original(data, **{"encoding": "latin1", **options})

    @replace(pickle)
    def dump(value, file, *args, **options):
        return dump.original(value, getattr(file, "buffer", file), *args, **options)


def _accept_text_file(function):
    """Let a function of NumPy accept files opened as text."""
    @wraps(function)
    def with_text_file(file, *args, **options):
        return function(getattr(file, "buffer", file), *args, **options)
    return with_text_file


class _Finder:
    """Finds modules in the same places as Python, and lets loaders translate them.

    Modules of the program are always translated. They are in the folder of the program, in folders
    of PYTHONPATH, or in folders that the program adds to ``sys.path``. Other modules are only
    translated if Python 3 cannot parse them.
    """

    def __init__(self, folder):
        in_pythonpath = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        program_folders = [folder, *filter(None, in_pythonpath)]
        self._program_folders = tuple(os.path.realpath(path) + os.sep for path in program_folders)
        folders = (os.path.realpath(path) + os.sep for path in sys.path if path)
        self._other_folders = tuple(path for path in folders if path not in self._program_folders)

    def _is_of_program(self, path):
        path = os.path.realpath(path)
        return "site-packages" not in path and (path.startswith(self._program_folders)
                                                or not path.startswith(self._other_folders))

    def find_spec(self, name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec and type(spec.loader) is SourceFileLoader:
            loader = _ProgramLoader if self._is_of_program(spec.origin) else _LibraryLoader
            spec.loader = loader(spec.loader.name, spec.loader.path)
            return spec
        return None


class _TranslatingLoader(SourceFileLoader):
    def translate(self, source, path):
        return code_of(source, path, "." in self.name or self.is_package(self.name))


class _ProgramLoader(_TranslatingLoader):
    """Translates a module, and writes no bytecode, which Python 3 could mistake for its own."""

    def source_to_code(self, data, path, *module, **options):  # Python 3.15 has added `module`
        try:
            return self.translate(data, path)
        except SyntaxError:
            return super().source_to_code(data, path, *module, **options)

    def path_stats(self, path):
        raise OSError

    def set_data(self, path, data, **options):
        pass


class _LibraryLoader(_TranslatingLoader):
    """Translates a module only if Python 3 cannot parse it. Then no bytecode is written."""

    _is_translated = False

    def source_to_code(self, data, path, *module, **options):
        try:
            return super().source_to_code(data, path, *module, **options)
        except SyntaxError:
            self._is_translated = True
            return self.translate(data, path)

    def set_data(self, path, data, **options):
        if not self._is_translated:
            super().set_data(path, data, **options)
