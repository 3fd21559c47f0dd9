"""A patch that keeps optimised graphs next to compiled code, and reuses them.

If nothing has to be compiled, the optimiser takes most of the time of a program's start. Its result
depends on the original graph, on the optimiser, on Theano's settings, and on the versions of
Python, NumPy, Theano and this package. The file name of a kept graph is a digest of all these, that
is, of every attribute of every object that can be reached from them. If a graph refers to an object
that `_Description` does not know, such as a function outside Theano, it is optimised each time.
"""

import functools
import hashlib
import io
import os
import pickle
import sys
import time
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.needed.compiled_code import write_whole
from theano_compat.needed.settings import DEFAULTS, versions
from theano_compat.originals import as_imported, digest_of_theano

#: Packages with known versions. A name identifies a class or a function in them.
_KNOWN_PACKAGES = ("builtins", "collections", "functools", "math", "numpy", "operator", "theano",
                   "theano_compat")

#: Maps classes to attributes that do not affect results. These state where and in which process an
#: object was made, and which objects refer to it; or they are an optimiser's records of its own
#: work. In another class, an attribute with such a name may affect results.
_IGNORED_ATTRIBUTES = {
    "theano.gof.graph.Variable": {"auto_name", "clients", "fgraph"},
    "theano.compile.sharedvalue.SharedVariable": {"container"},
    "theano.gof.graph.Apply": {"deps", "fgraph"},
    "theano.gof.utils.scratchpad": {"imported_by", "removed_by", "trace", "test_value"},
    "theano.gof.op.PureOp": {"__doc__"},
    "theano.gof.link.Linker": {"fgraph"},
    "theano.gof.opt.Optimizer": {"_optimizer_idx", "warned"},
    "theano.gof.opt.LocalOptimizer": {"__doc__", "_optimizer_idx", "applied_true", "node_created",
                                      "process_count", "time_opts", "track_map"},
}

#: A graph that has not been used for this many seconds is removed.
_MAX_SECONDS_UNUSED = 30 * 24 * 3600

#: A graph with a larger array is not kept.
_MAX_ARRAY_BYTES = 2**24

#: Optimising a smaller graph takes less time than searching for its file.
_MIN_OPERATIONS = 10

#: Types for which ``repr`` describes a value completely.
_TOLD_BY_REPR = {type(None), type(...), bool, int, float, complex, str, bytes}


# --- a digest of everything that the optimiser sees ---

class _Unknown(Exception):
    """This object cannot be described."""


class _Description:
    """A digest of objects, and of all objects to which they refer.

    Each object gets a number when it is first visited. So the digest also shows which references
    point to the same object.
    """

    def __init__(self):
        self._words, self._numbers, self._met = [], {}, []

    def add(self, *objects):
        """Describe objects, and all objects to which they refer. Graphs are too deep for recursion.

        Raises
        ------
        _Unknown
            If an object cannot be described.
        """
        words, numbers, met = self._words, self._numbers, self._met
        pending = list(reversed(objects))
        while pending:
            thing = pending.pop()
            if type(thing) in _TOLD_BY_REPR:
                words.append(repr(thing))
                continue
            number = numbers.setdefault(id(thing), len(met))
            if number < len(met):
                words.append(f"again {number}")
                continue
            met.append(thing)  # keeps the object alive, so that no other object gets its id
            pending += reversed(self._parts(thing))

    def digest(self):
        return hashlib.sha256("\n".join(self._words).encode()).hexdigest()

    def _parts(self, thing):
        """Describe an object, and return the objects to which it refers."""
        cls = type(thing)
        if cls in (list, tuple):
            self._words.append(f"{cls.__name__} {len(thing)}")
            return thing
        if cls is dict:
            self._words.append(f"dict {len(thing)}")
            return [part for item in thing.items() for part in item]
        if isinstance(thing, (set, frozenset)):
            return [cls.__name__, sorted(thing)]
        if isinstance(thing, (np.ndarray, np.generic)):
            return self._parts_of_an_array(thing)
        if isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
            self._words.append(_name(thing))
            return []
        if isinstance(thing, types.FunctionType):
            return self._parts_of_a_function(thing)
        if isinstance(thing, types.MethodType):
            return ["method", thing.__func__, thing.__self__]
        if isinstance(thing, (slice, range)):
            return [cls.__name__, thing.start, thing.stop, thing.step]
        if isinstance(thing, functools.partial):
            return ["partial", thing.func, thing.args, thing.keywords]
        if isinstance(thing, np.dtype):
            return ["dtype", thing.str, thing.names and thing.descr]
        return self._parts_of_an_object(thing)

    def _parts_of_an_array(self, array):
        if array.dtype.hasobject or array.nbytes > _MAX_ARRAY_BYTES:
            raise _Unknown(f"an array of {array.dtype}, {array.nbytes} bytes")
        self._words.append(f"{type(array).__name__} {array.dtype.str} {array.shape} "
                           f"{array.tobytes().hex()}")
        return []

    def _parts_of_a_function(self, function):
        code = function.__code__
        if not code.co_filename.startswith(_known_folders()):  # its name may have been copied
            raise _Unknown(code.co_filename)
        self._words.append(f"{_name(function)} {code.co_firstlineno} {code.co_code.hex()}")
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        original = getattr(function, "original", None)  # the function that `hooks.replace` replaced
        return [code.co_names, function.__defaults__, function.__kwdefaults__, cells, original]

    def _parts_of_an_object(self, thing):
        ignored = _ignored_attributes(type(thing))
        state = {key: value for key, value in sorted(_state(thing).items()) if key not in ignored}
        self._words.append(f"{_name(type(thing))} {' '.join(state)}")
        if isinstance(thing, (list, tuple)):
            return [list(thing), *state.values()]
        if isinstance(thing, dict):
            return [dict(thing), *state.values()]
        return list(state.values())


@functools.lru_cache(maxsize=None)
def _classes():
    """Return classes of Theano. They can only be imported after Theano has been imported."""
    from theano.compile.function_module import Function
    from theano.gof import Apply, DestroyHandler, Type
    return types.SimpleNamespace(Apply=Apply, DestroyHandler=DestroyHandler, Function=Function,
                                 Type=Type)


@functools.lru_cache(maxsize=None)
def _known_folders():
    """Return the folders of the known packages, and the files of the known single modules."""
    modules = [sys.modules[name] for name in _KNOWN_PACKAGES if name in sys.modules]
    files = [getattr(module, "__file__", None) for module in modules]
    return tuple(os.path.dirname(file) + os.sep if os.path.basename(file) == "__init__.py" else file
                 for file in files if file)


def _name(thing):
    """Return the full name of a function, class or module of a known package."""
    if isinstance(thing, types.ModuleType):
        module, name = thing.__name__, ""
    else:
        module = getattr(thing, "__module__", None) or "builtins"
        name = getattr(thing, "__qualname__", None) or thing.__name__
    if not _is_known(module) or isinstance(thing, type) and not _is_what_its_name_says(thing):
        raise _Unknown(f"{module}.{name}")
    if isinstance(thing, np.ufunc) and getattr(np, thing.__name__, None) is not thing:
        raise _Unknown(f"a ufunc {thing.__name__}")
    return f"{module}.{name}"


def _is_what_its_name_says(cls):
    """Return whether a class can be found by its name, or was made inside a known package."""
    found = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls or "<locals>" in cls.__qualname__ and all(
        value.__code__.co_filename.startswith(_known_folders())
        for value in vars(cls).values() if isinstance(value, types.FunctionType))


@functools.lru_cache(maxsize=None)
def _is_known(module):
    return any(module == known or module.startswith(f"{known}.") for known in _KNOWN_PACKAGES)


@functools.lru_cache(maxsize=None)
def _ignored_attributes(cls):
    return frozenset().union(
        *(_IGNORED_ATTRIBUTES.get(f"{base.__module__}.{base.__qualname__}", ())
          for base in cls.__mro__))


def _state(thing):
    """Return the attributes of an object that would be pickled, a dict by name."""
    if isinstance(thing, _classes().Function):
        raise _Unknown("a compiled function")
    if not hasattr(thing, "__dict__"):
        if isinstance(thing, (list, tuple, dict)):
            return {}
        raise _Unknown(type(thing).__name__)
    getstate = getattr(type(thing), "__getstate__", None)
    is_default = getstate in (None, getattr(object, "__getstate__", None))
    state = vars(thing) if is_default else getstate(thing)
    return state if isinstance(state, dict) else {"state": state}


def _key(fgraph, optimizer):
    """Return the file name for an optimised graph, or None if the graph cannot be described."""
    from theano.compile.function_module import Supervisor
    from theano.configparser import _config_var_list
    description = _Description()
    try:
        description.add(digest_of_theano(), versions(), as_imported.changes())
        description.add({setting.fullname: setting.__get__(True, None)
                         for setting in _config_var_list if "compiledir" not in setting.fullname})
        description.add(fgraph.inputs, fgraph.outputs, fgraph.update_mapping)
        for feature in fgraph._features:
            description.add(type(feature))
            if isinstance(feature, Supervisor):
                description.add(feature.protected)
        description.add(optimizer)
    except Exception:  # an object of the program may raise anything when its attributes are read
        return None
    return description.digest()


# --- from a graph to a file, and back ---

class _GraphAsWritten:
    """The parts that a kept graph takes from the program's original graph, with numbers.

    These parts are types, because some types are equal only to themselves, and the lines of the
    program that have made variables. Errors must show lines of the program that is running now.

    Parameters
    ----------
    fgraph : theano.gof.FunctionGraph
        The graph before optimisation.
    """

    def __init__(self, fgraph):
        nodes = fgraph.toposort()
        constants = {x: None for node in nodes for x in node.inputs if x.owner is None}
        variables = [*fgraph.inputs, *constants, *(x for node in nodes for x in node.outputs)]
        self.types = list({id(x.type): x.type for x in variables}.values())
        self._type_numbers = {id(type_): number for number, type_ in enumerate(self.types)}
        self._traces = [getattr(x.tag, "trace", ()) for x in variables]

    def type_number(self, type_):
        return self._type_numbers.get(id(type_))

    @functools.cached_property
    def _line_numbers(self):
        return {repr(line): (variable, place) for variable, trace in enumerate(self._traces)
                for place, line in enumerate(trace)}

    def lines(self, variable):
        """Return the numbers of the lines that have made a variable of the optimised graph.

        Each is a pair of the number of an original variable and a place in its traceback.
        """
        trace = getattr(variable.tag, "trace", ())
        return list(filter(None, (self._line_numbers.get(repr(line)) for line in trace)))

    def restore_lines(self, variable, lines):
        trace = [self._traces[number][place] for number, place in lines
                 if place < len(self._traces[number])]
        if trace:
            variable.tag.trace = trace


class _Pickler(pickle.Pickler):
    """A pickler that writes numbers instead of the types in the original graph."""

    def __init__(self, file, written):
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._type_number = written.type_number

    def persistent_id(self, thing):
        if isinstance(thing, _classes().Type):
            number = self._type_number(thing)
            if number is None and pickle.loads(pickle.dumps(thing)) != thing:
                raise pickle.PicklingError(f"{thing} is equal only to itself")
            return number
        if isinstance(thing, _classes().Function):
            raise pickle.PicklingError("a compiled function has values of its own")
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, written):
        super().__init__(file)
        self.persistent_load = written.types.__getitem__


class _KeptVariable(NamedTuple):
    """A result of a node."""
    number: int
    cls: type
    type: Any
    name: str
    tag: dict
    #: Pairs that `_GraphAsWritten.lines` returns.
    lines: list


class _KeptConstant(NamedTuple):
    variable: _KeptVariable
    data: Any


class _KeptNode(NamedTuple):
    op: Any
    #: Numbers of variables.
    inputs: list
    outputs: list[_KeptVariable]
    tag: dict


class _KeptGraph(NamedTuple):
    """A graph without references between its nodes, which would make pickle recurse deeply.

    Variables have numbers: first the inputs of the graph, then constants and results in the order
    of their occurrence.
    """
    constants: list[_KeptConstant]
    #: In an order in which they can be computed.
    nodes: list[_KeptNode]
    #: Numbers of variables.
    outputs: list
    has_destroy_handler: bool


def _tag(thing):
    left_out = {*_ignored_attributes(type(thing.tag)), "fake_node", "ufunc"}
    return {key: value for key, value in vars(thing.tag).items() if key not in left_out}


def _flattened(fgraph, written):
    """Return the `_KeptGraph` from which `_rebuilt` makes the same graph."""
    numbers = {x: number for number, x in enumerate(fgraph.inputs)}
    constants, nodes = [], []

    def kept(x):
        numbers[x] = len(numbers)
        return _KeptVariable(numbers[x], type(x), x.type, x.name, _tag(x), written.lines(x))

    def number_of(x):
        if x not in numbers:  # it is a constant, because nodes are in topological order
            constants.append(_KeptConstant(kept(x), x.data))
        return numbers[x]

    for node in fgraph.toposort():
        inputs = [number_of(x) for x in node.inputs]
        nodes.append(_KeptNode(node.op, inputs, [kept(x) for x in node.outputs], _tag(node)))
    outputs = [number_of(x) for x in fgraph.outputs]
    return _KeptGraph(constants, nodes, outputs, hasattr(fgraph, "destroyers"))


def _rebuilt(kept_graph, inputs, written):
    """Build a kept graph on these inputs, and return its outputs."""
    variables = dict(enumerate(inputs))

    def restored(kept, *arguments):
        variable = kept.cls(kept.type, *arguments, name=kept.name)
        vars(variable.tag).update(kept.tag)
        written.restore_lines(variable, kept.lines)
        variables[kept.number] = variable
        return variable

    for constant in kept_graph.constants:
        restored(constant.variable, constant.data)
    for kept in kept_graph.nodes:
        node = _classes().Apply(kept.op, [variables[number] for number in kept.inputs],
                                [restored(output) for output in kept.outputs])
        vars(node.tag).update(kept.tag)
    return [variables[number] for number in kept_graph.outputs]


def _folder():
    from theano.configparser import config
    return Path(config.compiledir, "graphs")


def _load(path, fgraph, written):
    """Replace the content of `fgraph` by a kept graph.

    Returns
    -------
    bool
        False if there is no kept graph, or if it is damaged.
    """
    try:
        content = path.read_bytes()
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            return False
        with suppress(OSError):  # the file may belong to another user
            os.utime(path)
        kept_graph = _Unpickler(io.BytesIO(content), written).load()
        outputs = _rebuilt(kept_graph, fgraph.inputs, written)
        if [x.type for x in outputs] != [x.type for x in fgraph.outputs]:
            return False
    except Exception:  # there is no file, or it is damaged, which may cause any exception
        return False
    for i, output in enumerate(outputs):
        fgraph.change_input("output", i, output, reason="kept")
    if kept_graph.has_destroy_handler:
        fgraph.attach_feature(_classes().DestroyHandler())
    return True


def _save(path, fgraph, written):
    """Save a graph if it can be pickled, and remove graphs that have not been used for long."""
    content = io.BytesIO()
    try:
        _Pickler(content, written).dump(_flattened(fgraph, written))
    except Exception:  # an operation cannot be pickled
        return
    content = content.getvalue()
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, hashlib.sha256(content).digest() + content)
        for kept in path.parent.iterdir():
            if time.time() - kept.stat().st_mtime > _MAX_SECONDS_UNUSED:
                kept.unlink()
    except OSError:
        pass  # the disk is full, or another process has removed the file first


@around_import("theano.configdefaults", "theano.compile.function_module", speed=Speed(
    acts_on="graphs of ten operations or more, if these, the optimiser and its settings are "
            "Theano's own, and the program has replaced nothing in Theano",
    brings="all cached 1.87",
    edge="tests/compat/test_keep_graphs.py::test_what_a_program_has_put_in_theanos_place"))
def keep_optimised_graphs(module):
    """Reuse the optimised graph of an earlier process if the original graph is the same.

    Theano has a setting for this, ``cache_optimizations``, but its implementation was never
    finished.
    """
    DEFAULTS["cache_optimizations"] = lambda: "True"
    yield
    if not hasattr(module, "FunctionMaker"):
        return

    @replace(module.FunctionMaker)
    def optimize_graph_with_cache(self, optimizer, inputs, outputs):
        config = module.config
        is_watched = (config.profile_optimizer or config.optimizer_verbose
                      or config.compute_test_value_opt != "off"
                      or config.compute_test_value != "off")
        key = None
        if not is_watched and len(self.fgraph.apply_nodes) >= _MIN_OPERATIONS:
            key = _key(self.fgraph, optimizer)
        if key is None:
            return optimizer(self.fgraph)
        path, written = _folder() / key, _GraphAsWritten(self.fgraph)
        if _load(path, self.fgraph, written):
            return None
        profile = optimizer(self.fgraph)
        _save(path, self.fgraph, written)
        return profile
