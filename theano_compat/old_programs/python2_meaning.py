"""Code that Python 3 accepts, but that has another meaning in Python 2.

`Meanings` changes the syntax tree of a translated program. Where the two versions differ, the
changed program calls functions of this module, which it finds under the name ``__python2__``.
`restore_names` restores names of Python 2's library and its random numbers.
``docs/compatibility.md`` lists the features that are not restored.
"""

import ast
import builtins
import codecs
import csv
import functools
import io
import itertools
import math
import operator
import random
import string
import sys
import types
import warnings
from collections.abc import MappingView
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import cmp_to_key

import numpy as np

from theano_compat.hooks import replace

__all__ = ["Meanings", "restore_names"]


# --- the syntax tree ---

_COMPARISONS = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
#: Maps methods that Python 3 does not call to the methods that it calls instead.
_UNCALLED_METHODS = {"__cmp__": "__lt__ and __eq__", "__getslice__": "__getitem__",
                     "__unicode__": "__str__"}
#: Maps a file to the registry of its warnings, because a file may be translated twice.
_shown = {}


class Meanings(ast.NodeTransformer):
    """Inserts calls of this module's functions into the tree of a translated program.

    Parameters
    ----------
    path : str
        The file, for warnings.
    """

    def __init__(self, path):
        self._path = path
        self._names = {"input", *(function.__name__ for function in MEANINGS)}
        self._defined = set()  # names of the program's own functions, classes and variables

    def visit_Module(self, node):
        """Note what the program defines itself."""
        for inner in ast.walk(node):
            if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                self._defined.add(inner.name)
            elif isinstance(inner, ast.alias):
                self._defined.add(inner.asname or inner.name)
            elif isinstance(inner, ast.ImportFrom) and inner.module in ("builtins", "six.moves"):
                self._names -= {alias.asname or alias.name for alias in inner.names}
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self._defined.add(inner.id)
        return self.generic_visit(node)

    def visit_ImportFrom(self, node):
        """Leave out what the translator has read already."""
        return ast.copy_location(ast.Pass(), node) if node.module == "__future__" else node

    def visit_Name(self, node):
        """Replace a function by its replacement, if the name has one."""
        if node.id in self._names and isinstance(node.ctx, ast.Load):
            return _call("meaning", node)
        return node

    def visit_Attribute(self, node):
        """Replace ``math.ceil``, ``math.floor`` and the ``next`` of iterators."""
        self.generic_visit(node)
        if node.attr == "next" and isinstance(node.ctx, ast.Load):
            return _call("next_of", node.value)
        if node.attr in ("ceil", "floor") and isinstance(node.ctx, ast.Load):
            return _call("meaning", node)
        return node

    def visit_Compare(self, node):
        """Replace a comparison by a call of `compare`."""
        self.generic_visit(node)
        name = _COMPARISONS.get(type(node.ops[0]))
        if name is None or len(node.ops) > 1:
            return node
        return _call("compare", node.left, *node.comparators, ast.Constant(name))

    def visit_Call(self, node):
        """Replace a call of a method in `METHODS`, and warn of ``eval`` and ``exec``."""
        function = node.func
        self.generic_visit(node)
        if isinstance(function, ast.Attribute) and function.attr in METHODS:
            return _call("call", function.value, ast.Constant(function.attr), *node.args,
                         keywords=node.keywords)
        if not isinstance(function, ast.Name):
            return node
        if function.id == "str" and len(node.args) > 1:  # unicode(text, "utf-8")
            return _call("call", node.args[0], ast.Constant("decode"), *node.args[1:])
        if function.id in ("eval", "exec") and function.id not in self._defined:
            self._warn(node, f"{function.id} reads its text as Python 3, in which 7 / 2 is 3.5")
        return node

    def visit_ClassDef(self, node):
        """Let Python 3 call the method ``next`` of an iterator."""
        self.generic_visit(node)
        methods = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if "next" in methods and "__next__" not in methods:
            node.body.append(ast.copy_location(ast.Assign(
                [ast.Name("__next__", ast.Store())], ast.Name("next", ast.Load())), node))
        return node

    def visit_FunctionDef(self, node):
        """Warn of a method that Python 3 does not call."""
        self.generic_visit(node)
        if node.name in _UNCALLED_METHODS:
            self._warn(node, f"Python 3 calls {_UNCALLED_METHODS[node.name]}, not {node.name}")
        return node

    def _warn(self, node, text):
        warnings.warn_explicit(text, UserWarning, self._path, node.lineno,
                               registry=_shown.setdefault(self._path, {}))


def _call(name, *arguments, keywords=()):
    function = ast.Attribute(ast.Name("__python2__", ast.Load()), name, ast.Load())
    return ast.copy_location(ast.Call(function, list(arguments), list(keywords)), arguments[0])


# --- order ---

def compare(a, b, name):
    """Apply a comparison to two values of any types, with the order of Python 2."""
    operation = getattr(operator, name)
    try:
        return operation(a, b)
    except TypeError:
        return operation(_order(a, b), 0)


def _cmp(a, b):
    try:
        return (a > b) - (a < b)
    except TypeError:
        return _order(a, b)


def _order(a, b):
    """Return the order of values that Python 3 cannot compare. Call it in an ``except`` clause."""
    if type(a) is type(b) and type(a) in (list, tuple):
        return next(filter(None, map(_cmp, a, b)), _cmp(len(a), len(b)))
    ranks = _rank(a), _rank(b)
    if None in ranks or ranks[0] == ranks[1] and a != b:
        raise  # the TypeError that Python 3 has raised
    return _cmp(*ranks)


def _rank(value):
    """Return a rank of a value: None, then numbers, then other values by the name of their type."""
    if value is None:
        return 0, ""
    if isinstance(value, (int, float, np.integer, np.floating)):
        return 1, ""
    return (2, type(value).__name__) if type(value) in (dict, list, str, tuple) else None


def _sorted(values, cmp=None, key=None, reverse=False):
    values = list(values)
    if cmp is None:
        try:
            return sorted(values, key=key, reverse=reverse)
        except TypeError:
            cmp = _cmp
    return sorted(values, key=lambda x: cmp_to_key(cmp)(key(x) if key else x), reverse=reverse)


def _sort(values, *arguments, **options):
    values[:] = _sorted(values, *arguments, **options)


# --- lists ---

#: Maps methods of Python 2 to methods that objects with the same purpose have in Python 3.
_NEW_NAMES = {"has_key": "keys", "iteritems": "items", "iterkeys": "keys", "itervalues": "values",
              "next": "__next__"}


def _map(function, *sequences):
    if function is None:
        return list(itertools.zip_longest(*sequences)) if sequences[1:] else list(sequences[0])
    return [function(*values) for values in itertools.zip_longest(*sequences)]


def _filter(function, values):
    kept = list(filter(function, values))
    if isinstance(values, str):
        return "".join(kept)
    return tuple(kept) if isinstance(values, tuple) else kept


def _zip(*sequences):
    return list(zip(*sequences))


def _range(*numbers):
    return list(range(*numbers))


def _iter(value, *sentinel):
    if sentinel == ("",):  # a file opened as "rb" returns b"" at its end
        return itertools.takewhile(lambda x: not isinstance(x, bytes) or x, iter(value, ""))
    return iter(value, *sentinel)


def _hasattr(value, name):
    if name == "__iter__" and isinstance(value, (bytes, str)):
        return False
    return hasattr(value, name) or name in _NEW_NAMES and hasattr(value, _NEW_NAMES[name])


def _listed(name):
    """Return a function that calls a method, and copies a view of a dictionary to a list."""
    def call_method(value, *arguments, **options):
        result = getattr(value, name)(*arguments, **options)
        return list(result) if isinstance(result, MappingView) else result
    return call_method


def _renamed(name, old_name, function):
    """Return a function that calls the method with the old name, if there is one."""
    def call_method(value, *arguments, **options):
        if hasattr(value, old_name):
            return getattr(value, old_name)(*arguments, **options)
        return function(getattr(value, name)(*arguments, **options))
    return call_method


# --- numbers ---

def _round(number, ndigits=0):
    number = float(number)
    if not math.isfinite(number):
        return number
    unit = Decimal(1).scaleb(-int(ndigits))
    return float(Decimal(number).quantize(unit, ROUND_HALF_UP, Context(prec=1000)))


def _hash(value):
    """Return the hash of a text or float in 64-bit CPython 2.7, which uses it as a seed."""
    if isinstance(value, str):
        result = ord(value[0]) << 7 if value else 0
        for character in value:
            result = (1000003 * result ^ ord(character)) % 2 ** 64
        result ^= len(value)
    elif value == int(value):
        result = int(value)
    else:
        fraction, exponent = math.frexp(value)
        high = int(fraction * 2 ** 31)
        result = high + int((fraction * 2 ** 31 - high) * 2 ** 31) + (exponent << 15)
    return min(result % 2 ** 64, 2 ** 64 - 2)  # the hash is never -1


class Random(random.Random):
    """A generator that draws the same numbers from the same seed as Python 2.7."""

    def seed(self, a=None):
        if isinstance(a, (float, str)):
            a = _hash(a)
        super().seed(int(a) if isinstance(a, np.integer) else a)

    def _randbelow(self, n):
        return int(self.random() * n) if n < 2 ** 53 else super()._randbelow(n)


# --- texts and files ---

def _bytes(text):
    """Return the bytes of a text. Refuse a text that may stand for bytes, such as ``"\\xff"``."""
    if not isinstance(text, str):
        return text
    if any("\x80" <= character <= "\xff" for character in text):
        raise UnicodeError(f"Got {text[:40]!r}, expected ASCII or bytes, such as b'...'")
    return text.encode("utf-8")


def _encode(text, encoding="ascii", errors="strict"):
    """Return a text unchanged if it can be encoded, because encoded texts are also texts here."""
    name = codecs.lookup(encoding).name
    if name in ("base64", "hex"):
        return codecs.encode(_bytes(text), name).decode("ascii")
    data = text.encode(encoding, errors)
    return data.decode(encoding) if name in ("ascii", "cp1251", "iso8859-1", "utf-8") else data


def _decode(text, encoding="ascii", errors="strict"):
    """Decode a text that stands for bytes, such as ``"\\xc3\\xa9"``; return others unchanged."""
    name = codecs.lookup(encoding).name
    if name in ("base64", "hex"):
        return codecs.decode(_bytes(text), name).decode("latin1")
    try:
        return text.encode("latin1").decode(encoding)
    except UnicodeError:
        return text.removeprefix("\ufeff") if name == "utf-8-sig" else text


def _format_value(value, spec=""):
    """Format a value; one of a type without a format of its own, such as a tuple, as its text."""
    try:
        return format(value, spec)
    except TypeError:
        return format(str(value), spec)


class _Formatter(string.Formatter):
    def format_field(self, value, spec):
        return _format_value(value, spec)


def _format(text, *arguments, **options):
    try:
        return text.format(*arguments, **options)
    except TypeError:
        return _Formatter().vformat(text, arguments, options)


class _Writer(io.BufferedWriter):
    """A binary file that accepts texts."""

    def write(self, data):
        return super().write(_bytes(data))


def _open(name, mode="r", *arguments, **options):
    mode = mode.replace("U", "") or "r"
    if mode in ("wb", "ab"):
        return _Writer(io.FileIO(name, mode))
    return open(name, mode, *arguments, **options)


def _raw_input(*prompt):
    return builtins.input(*prompt)


def _input(*prompt):
    caller = sys._getframe(1)
    return eval(builtins.input(*prompt), caller.f_globals, caller.f_locals)


# --- replacements for functions of Python 3, and names of Python 2's library ---

#: Maps functions of Python 3 to functions that have the meaning of Python 2.
MEANINGS = {
    filter: _filter, format: _format_value, hasattr: _hasattr, iter: _iter, map: _map, open: _open,
    range: _range, round: _round, sorted: _sorted, zip: _zip,
    math.ceil: lambda x: float(np.ceil(float(x))), math.floor: lambda x: float(np.floor(float(x)))}
_MEANINGS_BY_ID = {id(function): meaning for function, meaning in MEANINGS.items()}
#: Maps the name of a method to a type and a function. For objects of this type, the method has
#: another meaning in Python 2, which the function has.
METHODS = {"decode": (str, _decode), "encode": ((bytes, str), _encode), "format": (str, _format),
           "has_key": (object, _renamed("__contains__", "has_key", bool)), "sort": (list, _sort)}
for _name in "keys", "values", "items":
    METHODS.update({
        _name: (object, _listed(_name)),
        f"iter{_name}": (object, _renamed(_name, f"iter{_name}", iter)),
        f"view{_name}": (object, _renamed(_name, f"view{_name}", lambda view: view))})


def next_of(value):
    """Return ``value.next``, which Python 3 calls ``__next__`` in its own iterators."""
    return value.next if hasattr(value, "next") else value.__next__


def meaning(value):
    """Return the replacement for a function of Python 3; return any other value unchanged."""
    if value is builtins.input:  # in Jupyter, this is another function for each cell
        return _input
    return _MEANINGS_BY_ID.get(id(value), value)


def call(value, name, *arguments, **options):
    """Call a method with the meaning of Python 2 if the value has a type in `METHODS`."""
    cls, method = METHODS[name]
    if isinstance(value, cls):
        return method(value, *arguments, **options)
    return getattr(value, name)(*arguments, **options)


_LIBRARY = {
    string: {
        **{name: getattr(str, name) for name in dir(str) if name[0] != "_" and name != "format"},
        "atoi": int, "atol": int, "atof": float, "join": lambda words, sep=" ": sep.join(words),
        "letters": string.ascii_letters, "lowercase": string.ascii_lowercase,
        "uppercase": string.ascii_uppercase},
    types: {
        "BooleanType": bool, "ClassType": type, "ComplexType": complex, "DictType": dict,
        "DictionaryType": dict, "FileType": io.IOBase, "FloatType": float, "IntType": int,
        "InstanceType": type("instance", (), {}), "ListType": list, "LongType": int,
        "NoneType": type(None), "ObjectType": object, "StringType": str, "StringTypes": (str,),
        "TupleType": tuple, "TypeType": type, "UnicodeType": str, "XRangeType": range},
    sys: {"setdefaultencoding": lambda encoding: None},
    builtins: {
        "__python2__": sys.modules[__name__], "cmp": _cmp, "file": _open, "raw_input": _raw_input,
        "buffer": lambda data: memoryview(_bytes(data)), "long": int, "xrange": range,
        "reduce": functools.reduce,
        "apply": lambda function, arguments=(), options={}: function(*arguments, **options)},
    itertools: {
        # These are not the functions of Python 3 themselves, which have another meaning here.
        **{f"i{cls.__name__}": type(f"i{cls.__name__}", (cls,), {}) for cls in (filter, map, zip)},
        "ifilterfalse": itertools.filterfalse, "izip_longest": itertools.zip_longest},
}


def restore_names():
    """Restore names of Python 2's library and its random numbers in this process."""
    for module, names in _LIBRARY.items():
        vars(module).update(names)
        if hasattr(module, "__all__"):
            module.__all__ = [*module.__all__, *names]
    ipython = sys.modules.get("IPython.core.interactiveshell")
    if hasattr(ipython, "_modified_open"):  # this function is `open` in cells
        _MEANINGS_BY_ID[id(ipython._modified_open)] = _open

    @replace(csv)
    def reader(lines, *arguments, **options):
        texts = (line.decode() if isinstance(line, bytes) else line for line in lines)
        return reader.original(texts, *arguments, **options)

    generator = Random()
    generator.setstate(random.getstate())
    random.Random, random._inst = Random, generator
    for name in random.__all__:
        if hasattr(generator, name):
            setattr(random, name, getattr(generator, name))
