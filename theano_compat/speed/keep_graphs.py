"""Optimising a graph once: what Theano's optimiser makes of it is kept beside compiled code.

The optimiser, in Python, takes most of the time of a start at which nothing
has to be compiled.  Its result depends on the graph as it was written, on the
optimiser and on Theano's settings; and on the versions of Python, NumPy,
Theano and this package, which have a folder of compiled code each.  The name
of a kept graph is a digest of all of the former: of every attribute of every
object that can be reached from them.  What `_Description` does not know, such
as a function that is not Theano's, could be anything: a graph with it is
optimised each time.
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

import numpy as np

from theano_compat.hooks import Speed, around_import, replace
from theano_compat.needed.compiled_code import write_whole
from theano_compat.needed.settings import DEFAULTS, versions
from theano_compat.originals import as_imported, digest_of_theano

#: Packages whose classes and functions are what their names say, for a version that is known.
_KNOWN = ("builtins", "collections", "functools", "math", "numpy", "operator", "theano",
          "theano_compat")

#: Attributes that say nothing of what is computed: where and in which process a thing was made,
#: what belongs to it only here, and what an optimiser notes about its own work.  Only of these
#: classes: anything else may have an attribute of such a name that matters.
_IGNORED = {
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

#: Seconds after which a graph that nobody has used is removed.
_UNUSED = 30 * 24 * 3600

#: Largest array in a graph that is kept, in bytes.
_LARGEST = 2**24

#: Operations below which a graph is optimised in less time than it takes to find.
_FEW = 10

#: Types of what its text tells all of.
_PLAIN = {type(None), type(...), bool, int, float, complex, str, bytes}


class _Unknown(Exception):
    """This cannot be described."""


class _Description:
    """Digest of things, with all that they refer to.

    Each object gets a number when it is first met, so that it also matters
    which objects are one.
    """

    def __init__(self):
        self._words, self._numbers, self._met = [], {}, []

    def add(self, *things):
        """Describe things, and then what they refer to, without recursion: graphs are deep."""
        words, numbers, met = self._words, self._numbers, self._met
        waiting = list(reversed(things))
        while waiting:
            thing = waiting.pop()
            if type(thing) in _PLAIN:
                words.append(repr(thing))
                continue
            number = numbers.setdefault(id(thing), len(met))
            if number < len(met):
                words.append(f"again {number}")
                continue
            met.append(thing)  # it must live, or another could get its id
            waiting += reversed(self._parts(thing))

    def digest(self):
        return hashlib.sha256("\n".join(self._words).encode()).hexdigest()

    def _parts(self, thing):
        """Describe one thing, and return what it refers to."""
        kind = type(thing)
        if kind in (list, tuple):
            self._words.append(f"{kind.__name__} {len(thing)}")
            return thing
        if kind is dict:
            self._words.append(f"dict {len(thing)}")
            return [part for item in thing.items() for part in item]
        if isinstance(thing, (set, frozenset)):
            return [kind.__name__, sorted(thing)]
        if isinstance(thing, (np.ndarray, np.generic)):
            return self._numbers_of(thing)
        if isinstance(thing, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
            self._words.append(_name(thing))
            return []
        if isinstance(thing, types.FunctionType):
            code = thing.__code__
            if not code.co_filename.startswith(_folders()):  # whatever name it goes by
                raise _Unknown(code.co_filename)
            self._words.append(f"{_name(thing)} {code.co_firstlineno} {code.co_code.hex()}")
            cells = [cell.cell_contents for cell in thing.__closure__ or ()]
            return [code.co_names, thing.__defaults__, thing.__kwdefaults__, cells,
                    getattr(thing, "original", None)]  # what `hooks.replace` has replaced
        if isinstance(thing, types.MethodType):
            return ["method", thing.__func__, thing.__self__]
        if isinstance(thing, (slice, range)):
            return [kind.__name__, thing.start, thing.stop, thing.step]
        if isinstance(thing, functools.partial):
            return ["partial", thing.func, thing.args, thing.keywords]
        if isinstance(thing, np.dtype):
            return ["dtype", thing.str, thing.names and thing.descr]
        return self._parts_of_an_object(thing)

    def _parts_of_an_object(self, thing):
        ignored = _ignored(type(thing))
        state = {key: value for key, value in sorted(_state(thing).items()) if key not in ignored}
        self._words.append(f"{_name(type(thing))} {' '.join(state)}")
        if isinstance(thing, (list, tuple)):
            return [list(thing), *state.values()]
        if isinstance(thing, dict):
            return [dict(thing), *state.values()]
        return list(state.values())

    def _numbers_of(self, thing):
        if thing.dtype.hasobject or thing.nbytes > _LARGEST:
            raise _Unknown(f"an array of {thing.dtype}, {thing.nbytes} bytes")
        self._words.append(f"{type(thing).__name__} {thing.dtype.str} {thing.shape} "
                           f"{thing.tobytes().hex()}")
        return []


@functools.lru_cache(maxsize=None)
def _classes():
    from theano.compile.function_module import Function
    from theano.gof import Apply, DestroyHandler, Type
    return types.SimpleNamespace(Apply=Apply, DestroyHandler=DestroyHandler, Function=Function,
                                 Type=Type)


@functools.lru_cache(maxsize=None)
def _folders():
    """Folders, and files, of the functions that this environment's versions tell all of."""
    modules = [sys.modules[name] for name in _KNOWN if name in sys.modules]
    files = [getattr(module, "__file__", None) for module in modules]
    return tuple(os.path.dirname(file) + os.sep if os.path.basename(file) == "__init__.py" else file
                 for file in files if file)


def _name(thing):
    """The full name of a function, class or module that this environment's versions tell all of."""
    if isinstance(thing, types.ModuleType):
        module, name = thing.__name__, ""
    else:
        module = getattr(thing, "__module__", None) or "builtins"
        name = getattr(thing, "__qualname__", None) or thing.__name__
    if not _is_known(module) or isinstance(thing, type) and not _is_written_there(thing):
        raise _Unknown(f"{module}.{name}")
    if isinstance(thing, np.ufunc) and getattr(np, thing.__name__, None) is not thing:
        raise _Unknown(f"a ufunc {thing.__name__}")
    return f"{module}.{name}"


def _is_written_there(kind):
    """Tell whether a class is that of its module, or of a function there, as its name says."""
    found = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind or "<locals>" in kind.__qualname__ and all(
        value.__code__.co_filename.startswith(_folders())
        for value in vars(kind).values() if isinstance(value, types.FunctionType))


@functools.lru_cache(maxsize=None)
def _is_known(module):
    return any(module == known or module.startswith(f"{known}.") for known in _KNOWN)


@functools.lru_cache(maxsize=None)
def _ignored(kind):
    return frozenset().union(*(_IGNORED.get(f"{base.__module__}.{base.__qualname__}", ())
                               for base in kind.__mro__))


def _state(thing):
    """The attributes of an object, as far as they are its own when it is pickled."""
    if isinstance(thing, _classes().Function):
        raise _Unknown("a compiled function")
    if not hasattr(thing, "__dict__"):
        if isinstance(thing, (list, tuple, dict)):
            return {}
        raise _Unknown(type(thing).__name__)
    own = getattr(type(thing), "__getstate__", None)
    state = vars(thing) if own in (None, getattr(object, "__getstate__", None)) else own(thing)
    return state if isinstance(state, dict) else {"state": state}


def _key(fgraph, optimizer):
    """The name for what an optimiser makes of a graph, or None if it cannot be told."""
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
    except Exception:  # whatever strange things say when they are looked at
        return None
    return description.digest()


class _Written:
    """What a kept graph takes from the graph as it was written, by numbers.

    Types, for some are equal to themselves alone, and the lines of the program
    that has made the variables, for errors to tell: so they are those of the
    program that has the graph now.
    """

    def __init__(self, fgraph):
        nodes = fgraph.toposort()
        constants = {x: None for node in nodes for x in node.inputs if x.owner is None}
        variables = [*fgraph.inputs, *constants, *(x for node in nodes for x in node.outputs)]
        self.types = list({id(x.type): x.type for x in variables}.values())
        self._type_numbers = {id(kind): number for number, kind in enumerate(self.types)}
        self._traces = [getattr(x.tag, "trace", ()) for x in variables]

    def type_number(self, thing):
        return self._type_numbers.get(id(thing))

    @functools.cached_property
    def _line_numbers(self):
        return {repr(trace): (variable, place) for variable, traces in enumerate(self._traces)
                for place, trace in enumerate(traces)}

    def lines(self, variable):
        """Numbers of the lines that a variable comes from."""
        known = map(self._line_numbers.get, map(repr, getattr(variable.tag, "trace", ())))
        return list(filter(None, known))

    def mark(self, variable, lines):
        traces = [self._traces[number][place] for number, place in lines
                  if place < len(self._traces[number])]
        if traces:
            variable.tag.trace = traces


class _Pickler(pickle.Pickler):
    """Leaves out the types that the graph had as it was written."""

    def __init__(self, file, written):
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._type_number = written.type_number

    def persistent_id(self, thing):
        if isinstance(thing, _classes().Type):
            number = self._type_number(thing)
            if number is None and pickle.loads(pickle.dumps(thing)) != thing:
                raise pickle.PicklingError(f"{thing} is equal to itself alone")
            return number
        if isinstance(thing, _classes().Function):
            raise pickle.PicklingError("a compiled function has values of its own")
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, written):
        super().__init__(file)
        self.persistent_load = written.types.__getitem__


def _tag(thing):
    left_out = {*_ignored(type(thing.tag)), "fake_node", "ufunc"}
    return {key: value for key, value in vars(thing.tag).items() if key not in left_out}


def _flattened(fgraph, written):
    """What `_rebuilt` makes the same graph of: its nodes in order, variables by their numbers."""
    numbers = {x: number for number, x in enumerate(fgraph.inputs)}
    constants, nodes = [], []

    def number_of(x):
        if x not in numbers:  # nodes come after what they depend on
            numbers[x] = len(numbers)
            constants.append((numbers[x], type(x), x.type, x.data, x.name, _tag(x),
                              written.lines(x)))
        return numbers[x]

    for node in fgraph.toposort():
        inputs = [number_of(x) for x in node.inputs]
        outputs = []
        for x in node.outputs:
            numbers[x] = len(numbers)
            outputs.append((numbers[x], type(x), x.type, x.name, _tag(x), written.lines(x)))
        nodes.append((node.op, inputs, outputs, _tag(node)))
    return constants, nodes, [number_of(x) for x in fgraph.outputs], hasattr(fgraph, "destroyers")


def _rebuilt(inputs, flattened, written):
    """The outputs of a kept graph of these inputs, and whether it overwrites some variable."""
    constants, nodes, outputs, overwrites = flattened
    variables = dict(enumerate(inputs))

    def added(number, variable, tag, lines):
        vars(variable.tag).update(tag)
        written.mark(variable, lines)
        variables[number] = variable
        return variable

    for number, kind, type_, data, name, *rest in constants:
        added(number, kind(type_, data, name), *rest)
    for op, arguments, results, tag in nodes:
        node = _classes().Apply(op, [variables[number] for number in arguments],
                               [added(number, kind(type_, name=name), *rest)
                                for number, kind, type_, name, *rest in results])
        vars(node.tag).update(tag)
    return [variables[number] for number in outputs], overwrites


def _folder():
    from theano.configparser import config
    return Path(config.compiledir, "graphs")


def _load(path, fgraph, written):
    """Read what has been kept of this graph and put it in its place; tell whether that worked."""
    try:
        content = path.read_bytes()
        digest, content = content[:32], content[32:]
        if hashlib.sha256(content).digest() != digest:
            return False
        with suppress(OSError):  # a folder that others have filled
            os.utime(path)
        flattened = _Unpickler(io.BytesIO(content), written).load()
        outputs, overwrites = _rebuilt(fgraph.inputs, flattened, written)
        if [x.type for x in outputs] != [x.type for x in fgraph.outputs]:
            return False
    except Exception:  # there is none, or whatever a damaged one leads to
        return False
    for i, output in enumerate(outputs):
        fgraph.change_input("output", i, output, reason="kept")
    if overwrites:
        fgraph.attach_feature(_classes().DestroyHandler())
    return True


def _save(path, fgraph, written):
    """Keep a graph if it can be; remove those that nobody has used for long."""
    content = io.BytesIO()
    try:
        _Pickler(content, written).dump(_flattened(fgraph, written))
    except Exception:  # an operation that does not pickle
        return
    content = content.getvalue()
    try:
        path.parent.mkdir(exist_ok=True)
        write_whole(path, hashlib.sha256(content).digest() + content)
        for other in path.parent.iterdir():
            if time.time() - other.stat().st_mtime > _UNUSED:
                other.unlink()
    except OSError:
        pass  # the disk is full, or another process was faster


@around_import("theano.configdefaults", "theano.compile.function_module", speed=Speed(
    acts_on="graphs of ten operations or more, all of them, their optimiser and its settings "
            "Theano's own, with nothing of Theano replaced by the program's",
    brings="all cached 1.87",
    edge="tests/compat/test_keep_graphs.py::test_what_a_program_has_put_in_theanos_place"))
def keep_optimised_graphs(module):
    """Take what the optimiser has made of the same graph before.

    Theano has a setting for that, and a method that was never finished.
    """
    DEFAULTS["cache_optimizations"] = lambda: "True"
    as_imported.start()
    yield
    if not hasattr(module, "FunctionMaker"):
        return

    @replace(module.FunctionMaker)
    def optimize_graph_with_cache(self, optimizer, inputs, outputs):
        config = module.config
        watched = (config.profile_optimizer or config.optimizer_verbose
                   or config.compute_test_value_opt != "off" or config.compute_test_value != "off")
        key = None
        if not watched and len(self.fgraph.apply_nodes) >= _FEW:
            key = _key(self.fgraph, optimizer)
        if key is None:
            return optimizer(self.fgraph)
        path, written = _folder() / key, _Written(self.fgraph)
        if _load(path, self.fgraph, written):
            return None
        profile = optimizer(self.fgraph)
        _save(path, self.fgraph, written)
        return profile
