"""What Python 3 reads too, but understands otherwise than Python 2.

`restore_meaning` changes the syntax tree of a translated program: where the two versions differ, it
calls functions of this module, which the program finds under the name ``__python2__``.
`restore_names` gives the process names of Python 2's library, and its random numbers.
``docs/compatibility.md`` says what is not restored.
"""

import abc
import ast
import builtins
import codecs
import collections
import csv
import hashlib
import io
import itertools
import math
import operator
import os
import random
import string
import sys
import types
import warnings
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cmp_to_key, lru_cache, partial
from importlib.util import decode_source, find_spec

import numpy as np

from theano_compat.hooks import replace
from theano_compat.needed.removed_names import stand_in

__all__ = ["restore_meaning", "restore_names"]


# --- the syntax tree ---

_METHODS = {"decode", "encode", "sort", "translate"}
_COMPARISONS = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq",
                ast.NotEq: "ne"}
#: A class that has one of these is adapted by `adapt_class`.
_ADAPTED_METHODS = {"__cmp__", "__eq__", "__unicode__", "__div__", "__rdiv__"}
_UNCALLED_METHODS = {"__getslice__", "__setslice__", "__delslice__", "__coerce__"}
#: The registry of warnings that have been shown.
_shown = {}


def restore_meaning(tree, path):
    """Let a translated program mean what its text means in Python 2.

    Parameters
    ----------
    tree : ast.Module
        The translation by fissix.  It is changed in place.
    path : str
        The file, which warnings name.

    Returns
    -------
    ast.Module
    """
    _warn_of_leaks(tree.body, path)
    return ast.fix_missing_locations(_Meanings(path).visit(tree))


class _Meanings(ast.NodeTransformer):
    """Puts calls of this module's functions into a tree."""

    def __init__(self, path):
        self._path = path
        self._names = {function.__name__ for function in MEANINGS}

    def visit_ImportFrom(self, node):
        self._names.update(alias.asname for alias in node.names
                           if alias.asname and alias.name in self._names)
        return node

    def visit_Name(self, node):
        if node.id in self._names and isinstance(node.ctx, ast.Load):
            return _call("meaning", node)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load) and node.attr in ("ceil", "divide", "floor"):
            return _call("meaning", node)
        if isinstance(node.ctx, ast.Load) and node.attr == "message":
            return _call("message", node.value)
        return node

    def visit_Compare(self, node):
        self.generic_visit(node)
        name = _COMPARISONS.get(type(node.ops[0]))
        if name is None or len(node.ops) > 1:
            return node
        return _call(name, node.left, *node.comparators)

    def visit_Call(self, node):
        function = node.func
        self.generic_visit(node)
        if isinstance(function, ast.Attribute) and function.attr in _METHODS:
            return _call(function.attr, function.value, *node.args, keywords=node.keywords)
        if isinstance(function, ast.Name):
            if function.id in ("enumerate", "list", "tuple"):
                node.args = [_call("ordered", argument) for argument in node.args]
            if function.id in ("eval", "exec") and node.args:
                node.args[0] = _call("code", node.args[0], ast.Constant(function.id))
            if function.id == "str" and node.args and len(node.args) + len(node.keywords) > 1:
                return _call("decode", *node.args, keywords=node.keywords)  # unicode(text, "utf-8")
        return node

    def visit_ClassDef(self, node):
        methods = {method for child in node.body for method in _bound_names(child)}
        for method in sorted(methods & _UNCALLED_METHODS):
            _warn(self._path, node.lineno, f"Python 3 does not call {node.name}.{method}")
        self.generic_visit(node)
        if methods & _ADAPTED_METHODS:
            node.decorator_list.append(_name("adapt_class"))
        return node


def _name(name):
    return ast.Attribute(ast.Name("__python2__", ast.Load()), name, ast.Load())


def _call(name, *arguments, keywords=()):
    call = ast.Call(_name(name), list(arguments), list(keywords))
    return ast.copy_location(call, arguments[0])


def _bound_names(statement):
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    return [target.id for target in getattr(statement, "targets", ())
            if isinstance(target, ast.Name)]


def _warn(path, line, text):
    warnings.warn_explicit(f"Python 2 differs here: {text}", UserWarning, path, line,
                           registry=_shown)


def _warn_of_leaks(body, path):
    """Warn where a variable of a list comprehension is read after it.

    In Python 2, it is one of the function, and keeps its last value.
    """
    lines = {}
    for event, name, node in _events(body):
        if event == "function":
            _warn_of_leaks(node.body, path)
        elif event == "leak":
            lines[name] = node.lineno
        elif event == "load" and name in lines:
            _warn(path, node.lineno, f"{name} is the last one of the list comprehension in "
                                     f"line {lines.pop(name)}")
        elif event == "store":
            lines.pop(name, None)


def _events(nodes):
    """Yield what happens to the names of a function or module: an event, the name and the node."""
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield "store", node.name, node
            yield "function", node.name, node
        elif isinstance(node, ast.ListComp):
            for name in ast.walk(node):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield "leak", name.id, node
        elif isinstance(node, ast.Name):
            yield ("load" if isinstance(node.ctx, ast.Load) else "store"), node.id, node
        elif not isinstance(node, (ast.Lambda, ast.GeneratorExp, ast.DictComp, ast.SetComp)):
            children = list(ast.iter_child_nodes(node))
            if isinstance(node, ast.Assign):  # its value comes first
                children.insert(0, children.pop())
            elif isinstance(node, ast.For):
                children.insert(0, children.pop(1))
            yield from _events(children)


# --- order ---

def _comparison(operation):
    def compare(a, b):
        if type(a) is bytes or type(b) is bytes:
            a, b = (x.decode("latin1") if isinstance(x, bytes) else x for x in (a, b))
        try:
            return operation(a, b)
        except TypeError:
            return operation(_order(a, b), 0)
    return compare


lt, le, gt, ge, eq, ne = (_comparison(getattr(operator, name)) for name in _COMPARISONS.values())


def cmp(a, b):
    """Return -1, 0 or 1: the order of two values of any types."""
    try:
        return (a > b) - (a < b)
    except TypeError:
        return _order(a, b)


def _order(a, b):
    """Return the order of values that Python 3 does not compare; called where it has raised."""
    if type(a) is type(b) and type(a) in (list, tuple):
        return next(filter(None, map(cmp, a, b)), cmp(len(a), len(b)))
    ranks = _rank(a), _rank(b)
    if None in ranks or ranks[0] == ranks[1] and a != b:
        raise  # the TypeError of Python 3
    return cmp(*ranks)


def _rank(value):
    """Rank None below numbers, numbers below all else, and that by the names of its types."""
    if value is None:
        return 0, ""
    if isinstance(value, (int, float, np.integer, np.floating)):
        return 1, ""
    return (2, type(value).__name__) if type(value) in (dict, list, str, tuple) else None


def _key(key, cmp=cmp):
    return lambda value: cmp_to_key(cmp)(key(value) if key else value)


def _sorted(values, cmp=None, key=None, reverse=False):
    values = list(values)
    if cmp is not None:
        return sorted(values, key=_key(key, cmp), reverse=reverse)
    try:
        return sorted(values, key=key, reverse=reverse)
    except TypeError:
        return sorted(values, key=_key(key), reverse=reverse)


def sort(values, *arguments, **options):
    """Sort a list, or call the method of another object."""
    if not isinstance(values, list):
        return values.sort(*arguments, **options)
    values[:] = _sorted(values, *arguments, **options)
    return None


def _extreme(function, *values, key=None):
    values = list(values[0]) if len(values) == 1 else values
    try:
        return function(values, key=key)
    except TypeError:
        return function(values, key=_key(key))


def adapt_class(cls):
    """Give a class the operators that it has in Python 2; it is a decorator."""
    own = vars(cls)
    if "__cmp__" in own:
        for name in _COMPARISONS.values():
            if f"__{name}__" not in own:
                setattr(cls, f"__{name}__", _by_cmp(getattr(operator, name)))
    elif "__eq__" in own:
        if own["__hash__"] is None:
            del cls.__hash__  # Python 2 inherits it
        if cls.__ne__ is object.__ne__:  # in Python 2, this does not call __eq__
            cls.__ne__ = lambda self, other: self is not other
    for name, new_name in [("__unicode__", "__str__"), ("__div__", "__truediv__"),
                           ("__rdiv__", "__rtruediv__")]:
        if name in own and new_name not in own:
            setattr(cls, new_name, own[name])
    return cls


def _by_cmp(operation):
    return lambda self, other: operation(self.__cmp__(other), 0)


def ordered(values):
    """Warn if it is a set of texts: their order, which Python 2 repeats, changes with each run."""
    if (isinstance(values, (set, frozenset)) and any(isinstance(value, str) for value in values)
            and os.environ.get("PYTHONHASHSEED", "random") == "random"):
        warnings.warn("Python 2 differs here: the order of a set of texts is another one in each "
                      "run, unless PYTHONHASHSEED=0 is set", stacklevel=2)
    return values


# --- functions ---

def _round(number, ndigits=0):
    number = float(number)
    if not math.isfinite(number):
        return number
    unit = Decimal((0, (1,), -max(-400, min(400, int(ndigits)))))
    return float(Decimal(number).quantize(unit, ROUND_HALF_UP, Context(prec=1000)))


def _map(function, *sequences):
    if len(sequences) == 1:
        return list(sequences[0]) if function is None else [function(x) for x in sequences[0]]
    rows = itertools.zip_longest(*sequences)
    return list(rows) if function is None else [function(*row) for row in rows]


def _filter(function, values):
    kept = filter(function, values)
    if isinstance(values, str):
        return "".join(kept)
    return tuple(kept) if isinstance(values, tuple) else list(kept)


def _divide(a, b, *arguments, **options):
    are_integers = all(np.asarray(x).dtype.kind in "iub" for x in (a, b))
    return (np.floor_divide if are_integers else np.divide)(a, b, *arguments, **options)


def _hash(value):
    """Return the hash of a text or number in CPython 2.7 on 64 bits; of all else, Python 3's."""
    if isinstance(value, str):
        result = ord(value[0]) << 7 if value else 0
        for character in value:
            result = (1000003 * result ^ ord(character)) % 2 ** 64
        result ^= len(value)
    elif not isinstance(value, (int, float)) or not math.isfinite(value):
        return hash(value)
    elif value == int(value):
        result = int(math.copysign(1, value)) * (abs(int(value)) % (2 ** 64 - 1))
    else:
        fraction, exponent = math.frexp(value)
        high = int(fraction * 2 ** 31)
        result = high + int((fraction * 2 ** 31 - high) * 2 ** 31) + (exponent << 15)
    result = (result + 2 ** 63) % 2 ** 64 - 2 ** 63
    return -2 if result == -1 else result


@lru_cache(maxsize=100)
def code(source, function):
    """Translate a text, the argument of `eval` or `exec`."""
    return _compile(source, "<string>", function) if isinstance(source, str) else source


def _compile(source, filename, mode, *arguments, **options):
    from theano_compat.old_programs.python2 import tree_of  # which imports this module

    if isinstance(source, (bytes, str)) and mode in ("eval", "exec"):
        text = decode_source(source) if isinstance(source, bytes) else source
        source = tree_of(text.strip() if mode == "eval" else text, filename)
        if mode == "eval":
            source = ast.Expression(source.body[0].value)
    return compile(source, filename, mode, *arguments, **options)


def message(error):
    """Return an attribute `message`, which every exception of Python 2 has."""
    if not isinstance(error, BaseException) or hasattr(error, "message"):
        return error.message
    return error.args[0] if len(error.args) == 1 else ""


# --- texts and files ---

def _bytes(text):
    """Return the bytes of a text of Python 2.

    In a translated program, all texts are of Python 3: what has a character between U+0080 and
    U+00FF may be bytes such as ``"\\xff"``, or a text in UTF-8.
    """
    if not isinstance(text, str):
        return text
    if any("\x80" <= character <= "\xff" for character in text):
        raise UnicodeError(f"Got {text[:40]!r}, expected ASCII or bytes: write b'...' for bytes, "
                           "or text.encode(...) as in Python 3")
    return text.encode("utf-8")


def _escapes(encoding):
    return encoding.lower().replace("-", "_") == "string_escape"


def encode(value, *arguments, **options):
    """Return a text as it is, if it can be encoded: here, encoded texts are also texts."""
    if not isinstance(value, (str, bytes)):
        return value.encode(*arguments, **options)
    return _encode(value, *arguments, **options)


def _encode(value, encoding="ascii", errors="strict"):
    if _escapes(encoding):
        return codecs.escape_encode(_bytes(value))[0].decode("ascii")
    name = codecs.lookup(encoding).name
    if name in ("hex", "base64"):
        return codecs.encode(_bytes(value), name).decode("ascii")
    text = value.decode("ascii") if isinstance(value, bytes) else value
    if name == "rot-13":
        return codecs.encode(text, name)
    data = text.encode(encoding, errors)
    if name.startswith(("utf-16", "utf-32", "utf-7", "utf-8-sig")):
        return data
    return data.decode("ascii" if name.endswith(("escape", "idna", "punycode")) else encoding)


def decode(value, *arguments, **options):
    """Return a text as it is, if it is not one of bytes, such as ``"\\xc3\\xa9"``."""
    if not isinstance(value, (str, bytes)):
        return value.decode(*arguments, **options)
    return _decode(value, *arguments, **options)


def _decode(value, encoding="ascii", errors="strict"):
    if _escapes(encoding):
        return codecs.escape_decode(_bytes(value))[0].decode("latin1")
    name = codecs.lookup(encoding).name
    if name in ("hex", "base64"):
        return codecs.decode(_bytes(value), name).decode("latin1")
    if name == "rot-13":
        return codecs.decode(value, name)
    if isinstance(value, bytes):
        return value.decode(encoding, errors)
    try:
        return value.encode("latin1").decode(encoding)
    except UnicodeError:
        return value.encode("utf-8").decode(encoding, errors) if name == "ascii" else value


def translate(value, table, *deleted):
    """Call the method of a text, which also deletes characters."""
    if not isinstance(value, str):
        return value.translate(table, *deleted)
    kept = value.translate(dict.fromkeys(map(ord, "".join(deleted))))
    return kept if table is None else kept.translate(table)


class _Writer(io.BufferedWriter):
    """A binary file to which texts can be written."""

    def write(self, data):
        return super().write(_bytes(data))


def _open(name, mode="r", *arguments, **options):
    mode = mode.replace("U", "") or "r"
    if mode in ("wb", "ab") and not arguments and not options:
        return _Writer(io.FileIO(name, mode))
    return open(name, mode, *arguments, **options)


class File(abc.ABC):
    """The type `file`: it opens files, and open files are its instances."""

    def __new__(cls, *arguments, **options):
        return _open(*arguments, **options)


File.register(io.IOBase)


def _digest_of(function, data=b"", **options):
    return function(_bytes(data), **options)


_DIGESTS = {name: partial(_digest_of, getattr(hashlib, name))
            for name in ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]}


# --- random numbers ---

class Random(random.Random):
    """The generator of Python 2.7: the same numbers from the same seed."""

    def __init_subclass__(cls):
        """Leave `_randbelow` as it is, even for classes with a method `random`."""

    def seed(self, a=None):
        if isinstance(a, (int, np.integer)):
            a = int(a)
        elif a is not None:
            if not isinstance(a, float) and not (isinstance(a, str) and a.isascii()):
                warnings.warn("Python 2 differs here: it draws other numbers if the seed is no "
                              "number and no text in ASCII", stacklevel=2)
            a = _hash(a) % 2 ** 64
        super().seed(a)

    def _randbelow(self, n):
        if n < 2 ** 53:
            return int(self.random() * n)
        bits = int(1.00001 + math.log(n - 1, 2))
        number = self.getrandbits(bits)
        while number >= n:
            number = self.getrandbits(bits)
        return number

    def randrange(self, start, stop=None, step=1):
        limits = [start, step] if stop is None else [start, stop, step]
        if any(int(limit) != limit for limit in limits):
            raise ValueError(f"Got {limits}, expected integers")
        return super().randrange(int(start), stop if stop is None else int(stop), int(step))

    def shuffle(self, x, random=None):
        for i in reversed(range(1, len(x))):
            j = int((random or self.random)() * (i + 1))
            x[i], x[j] = x[j], x[i]

    def sample(self, population, k):
        if isinstance(population, (set, frozenset)):
            warnings.warn("Python 2 differs here: a set has another order", stacklevel=2)
            population = list(population)
        return super().sample(population, k)

    def gammavariate(self, alpha, beta):
        if alpha != 1:
            return super().gammavariate(alpha, beta)
        number = self.random()
        while number <= 1e-7:
            number = self.random()
        return -math.log(number) * beta

    def paretovariate(self, alpha):
        return 1 / (1 - self.random()) ** (1 / alpha)


# --- what stands for a function of Python 3, and names of Python 2's library ---

#: For functions of Python 3 those that a program in Python 2 means.
MEANINGS = {
    map: _map, filter: _filter, zip: lambda *sequences: list(zip(*sequences)), sorted: _sorted,
    max: partial(_extreme, max), min: partial(_extreme, min), hash: _hash, open: _open,
    compile: _compile, oct: lambda number: oct(number).replace("o", "") if number else "0",
    round: _round, math.floor: lambda x: float(np.floor(float(x))),
    math.ceil: lambda x: float(np.ceil(float(x))), np.divide: _divide}
_MEANINGS_BY_ID = {id(function): meaning for function, meaning in MEANINGS.items()}


def meaning(value):
    """Return what stands for a function of Python 3; any other value as it is."""
    return _MEANINGS_BY_ID.get(id(value), value)


_STRING_METHODS = [
    "capitalize", "center", "count", "expandtabs", "find", "index", "ljust", "lower", "lstrip",
    "replace", "rfind", "rindex", "rjust", "rsplit", "rstrip", "split", "strip", "swapcase",
    "upper", "zfill"]
_LIBRARY = {
    string: {
        **{name: getattr(str, name) for name in _STRING_METHODS},
        "atoi": int, "atol": int, "atof": float, "maketrans": str.maketrans,
        "translate": translate, "splitfields": str.split,
        "join": lambda words, sep=" ": sep.join(words),
        "joinfields": lambda words, sep=" ": sep.join(words),
        "letters": string.ascii_letters, "lowercase": string.ascii_lowercase,
        "uppercase": string.ascii_uppercase},
    types: {
        "BooleanType": bool, "BufferType": memoryview, "ClassType": type, "ComplexType": complex,
        "DictType": dict, "DictionaryType": dict, "DictProxyType": type(vars(type)),
        "EllipsisType": type(...), "FileType": File, "FloatType": float,
        "InstanceType": type("instance", (), {}), "IntType": int, "ListType": list,
        "LongType": int, "NoneType": type(None), "NotImplementedType": type(NotImplemented),
        "ObjectType": object, "SliceType": slice, "StringType": str, "StringTypes": (str,),
        "TupleType": tuple, "TypeType": type, "UnboundMethodType": types.FunctionType,
        "UnicodeType": str, "XRangeType": range},
    # Classes of their own: `zip`, `map` and `filter` return lists.
    itertools: {
        "izip": type("izip", (zip,), {}), "imap": type("imap", (map,), {}),
        "ifilter": type("ifilter", (filter,), {}), "izip_longest": itertools.zip_longest,
        "ifilterfalse": itertools.filterfalse},
    hashlib: _DIGESTS,
    sys: {"setdefaultencoding": lambda encoding: None},
    builtins: {
        "__python2__": sys.modules[__name__], "cmp": cmp, "file": File, "raw_input": input,
        "buffer": lambda data, offset=0, size=None: memoryview(
            _bytes(data)).cast("B")[offset:][:size]},
}
_MODULES = {
    "exceptions": {name: value for name, value in vars(builtins).items()
                   if isinstance(value, type) and issubclass(value, BaseException)},
    "md5": {"md5": _DIGESTS["md5"], "new": _DIGESTS["md5"]},
    "sha": {"sha": _DIGESTS["sha1"], "new": _DIGESTS["sha1"]},
    "new": {"classobj": type, "function": types.FunctionType, "module": types.ModuleType,
            "instancemethod": types.MethodType},
    "sets": {"Set": set, "ImmutableSet": frozenset},
    "UserDict": {"UserDict": collections.UserDict, "IterableUserDict": collections.UserDict},
}


def restore_names(divide):
    """Give this process names of Python 2's library, and its random numbers.

    Parameters
    ----------
    divide : callable
        Divides as Python 2.
    """
    for module, names in _LIBRARY.items():
        vars(module).update(names)
        if hasattr(module, "__all__"):
            module.__all__ = [*module.__all__, *names]
    operator.div = divide
    ipython = sys.modules.get("IPython.core.interactiveshell")
    if hasattr(ipython, "_modified_open"):  # what cells find as `open`
        _MEANINGS_BY_ID[id(ipython._modified_open)] = _open
    for name, names in _MODULES.items():
        if name not in sys.modules and find_spec(name) is None:
            sys.modules[name] = stand_in(name, **names)

    @replace(csv)
    def reader(lines, *arguments, **options):
        return reader.original(
            (line.decode("utf-8") if isinstance(line, bytes) else line for line in lines),
            *arguments, **options)

    generator = Random()  # a new one: Python 3 seeds its own again in forked processes
    generator.setstate(random.getstate())
    random.Random, random._inst = Random, generator
    for name in random.__all__:
        if hasattr(generator, name):
            setattr(random, name, getattr(generator, name))
