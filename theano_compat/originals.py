"""A record of the names that a program has replaced in Theano.

Compiled code and optimised graphs are kept for later processes. Their file names depend on Theano's
operations and settings. Such a name is not sufficient if the program has replaced a function of
Theano, or if somebody has edited Theano's files.
"""

import hashlib
import os
import sys
import types
from collections.abc import Iterator
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import attrgetter
from typing import Any

__all__ = ["as_imported", "digest_of_theano", "is_theanos", "what_writes_c"]

#: Modules of this package with functions and classes that affect the results of Theano.
_OUR_MODULES = {f"theano_compat.{name}" for name in (
    "needed.removed_names",
    "speed.compile_together", "speed.fast_import", "speed.merge_gradients", "speed.matrix_products",
    "speed.fuse_updates", "speed.elementwise_loops",
    "without_compiler.denormals", "without_compiler.expressions", "without_compiler.formulas",
    "without_compiler.other_operations", "without_compiler.conv_and_pool")}

#: Stands for the value of a name that has been deleted, and for the value of other changes.
GONE = object()

#: Types of values that are not examined: a comparison by identity is enough for them. Modules and
#: classes can change, too, but their content is recorded separately.
_OPAQUE_TYPES = {str, int, float, bool, type(None), tuple, type, types.ModuleType,
                 types.BuiltinFunctionType, property}

#: Names with values that change in any program and do not affect results: Theano's counters and
#: caches, and Python's records of warnings and classes.
_CHANGING_NAMES = {
    "__slotnames__", "__warningregistry__", "_optimizer_idx", "_module_cache", "import_time",
    "grad_time", "total_fct_exec_time", "total_graph_opt_time", "total_time_linker",
    "instantiated_default_mode", "constant_cache", "_arange", "_all", "run_cthunk", "march_flags",
    "_atexit_registered", "_atexit_print_list", "_spare", "_hash", "_persistent_module_cache",
    "mem_count", "mem_bound", "max_mem_count"}

#: The place of the values of Theano's settings. A changed setting is not a replacement, because the
#: name of a kept graph depends on all settings.
_SETTINGS = "theano.configparser.TheanoConfigParser."


#: A recorded namespace: its place, the dict of its current names, and a copy of this dict.
_Namespace = tuple[str, dict, dict]


class _AsImported(MetaPathFinder):
    """A record of the values of all names in Theano's modules directly after their import.

    The values are recorded after the module's own code and our patches have run, and before the
    program can change them. A later comparison finds the changes of the program, such as a replaced
    method.
    """

    def __init__(self) -> None:
        #: Maps the path of each file of Theano to its size and time at the import of Theano.
        self.files: dict[str, tuple[int | None, int | None]] = {}
        #: Whether a file of Theano was edited after other files had been imported.
        self.is_mixed = False
        self._is_imported = False  # whether the import of the package theano has ended
        self._unnoted: list[types.ModuleType] = []  # modules that are not recorded yet
        self._seen: set[int] = set()  # ids of values whose contents have been recorded
        self._namespaces: list[_Namespace] = []
        self._classes: dict[type, _Namespace] = {}
        self._collections: list[tuple[str, list | set, list | set]] = []
        self._functions: list[types.FunctionType] = []
        self._function_parts: list[tuple] = []  # the recorded parts of each of `_functions`

    def activate(self) -> None:
        """Record all modules of Theano that are imported from now on."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] != "theano":
            return None
        specs = (finder.find_spec(name, path, target) for finder in list(sys.meta_path)
                 if finder is not self)
        spec = next(filter(None, specs), None)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_and_note(module: types.ModuleType) -> None:
            if name == "theano":
                self._start(os.path.dirname(spec.origin))
            state = _state_of_file(spec.origin)
            if self.files.setdefault(spec.origin, state) != state:
                self.is_mixed = True
            changed_before = self._changed_places()
            exec_module(module)
            self._unnoted.append(module)
            if name == "theano":
                self._is_imported = True
            self._accept_changes_except(changed_before)

        spec.loader.exec_module = exec_and_note
        return spec

    def _start(self, folder: str) -> None:
        """Record the files of Theano, and schedule our modules. The import of Theano begins now."""
        for path, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in ("tests", "__pycache__")]
            for name in names:
                file = os.path.join(path, name)
                self.files[file] = _state_of_file(file)
        self._unnoted = [module for name, module in sys.modules.items() if name in _OUR_MODULES]

    def accept_changes(self) -> None:
        """Treat all changes so far as parts of Theano, because this package has made them."""
        self._accept_changes_except(set())

    def _changed_places(self) -> set[str]:
        """Return the places that the program has changed before it imports another module."""
        return {where for where, *_ in self.changes()} if self._is_imported else set()

    def _accept_changes_except(self, places: set[str]) -> None:
        """Treat changes as parts of Theano, except at some places; record the new modules.

        Theano's modules change each other during the import of Theano. So they are recorded at its
        end, before the next statement of the program.
        """
        if not self._is_imported:
            return
        for where, now, then in [*self._namespaces, *self._collections]:
            if where not in places and not _are_equal(now, then):
                then.clear()
                then.extend(now) if isinstance(then, list) else then.update(now)
        while self._unnoted:  # a comparison of these modules would find nothing, so it comes first
            self._note(self._unnoted.pop())

    def _note(self, module: types.ModuleType) -> None:
        self._note_names(module.__name__, vars(module))
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                self._classes[value] = self._note_names(
                    f"{value.__module__}.{value.__qualname__}", vars(value))

    def _note_names(self, where: str, names: dict) -> _Namespace:
        """Record the values of names, and the contents of values that can change."""
        namespace = (where, names, dict(names))
        self._namespaces.append(namespace)
        for name, value in list(names.items()):
            cls = type(value)
            if cls in _OPAQUE_TYPES or id(value) in self._seen:
                continue
            self._seen.add(id(value))  # no other object gets this id: `namespace` keeps the value
            if cls in (staticmethod, classmethod):
                value, cls = value.__func__, type(value.__func__)
            if cls is types.FunctionType:
                self._functions.append(value)
                self._function_parts.append(_parts_of_function(value))
            elif cls is dict:
                if name != "__builtins__":
                    self._namespaces.append((f"{where}.{name}", value, dict(value)))
            elif cls in (list, set):
                self._collections.append((f"{where}.{name}", value, value.copy()))
            elif cls.__module__.startswith("theano.") and hasattr(value, "__dict__"):
                self._note_names(f"{where}.{name}", vars(value))
        return namespace

    def changes(self) -> list[tuple[str, str, Any]]:
        """Return the changes of the program: tuples of a place, a name and its current value."""
        found = [("theano", "files", GONE)] if self.is_mixed else []
        for namespace in self._namespaces:
            found += _changes_of(*namespace)
        found += [(where, where.rpartition(".")[2], now)
                  for where, now, then in self._collections if not _are_equal(now, then)]
        if list(map(_parts_of_function, self._functions)) != self._function_parts:
            found.append(("theano", "functions", GONE))
        return [change for change in found if not _is_irrelevant(*change)]

    def knows(self, cls: type) -> bool:
        """Return whether a class is defined in Theano or in `_OUR_MODULES`."""
        return cls in self._classes

    def has_written(self, cls: type) -> bool:
        """Return whether a class and all its bases are known, and nothing in them is replaced."""
        for base in cls.__mro__[:-1]:
            namespace = self._classes.get(base)
            if namespace is None or not all(_is_irrelevant(*change)
                                            for change in _changes_of(*namespace)):
                return False
        return not self.is_mixed


def _are_equal(now: Any, then: Any) -> bool:
    try:
        return bool(now == then)
    except Exception:  # a comparison may fail; for two arrays it has no single truth value
        return False


def _changes_of(where: str, now: dict, then: dict) -> list[tuple[str, str, Any]]:
    if _are_equal(now, then):
        return []
    return [(where, name, now.get(name, GONE)) for name in {**then, **now}
            if now.get(name, GONE) is not then.get(name, GONE)
            and not (then.get(name, GONE) is None and _is_imported_late(name, now.get(name, GONE)))]


def _is_imported_late(name: str, value: Any) -> bool:
    """Return whether a value is an object that Theano itself imports late, under the same name.

    For example, ``theano.gof.fg.NullType`` is None until a graph with a missing input is found.
    """
    module = getattr(value, "__module__", None)
    return (isinstance(value, (type, types.FunctionType)) and isinstance(module, str)
            and module.startswith("theano.")
            and getattr(sys.modules.get(module), name, None) is value)


def _is_irrelevant(where: str, name: str, value: Any) -> bool:
    """Return whether a change does not affect results."""
    if isinstance(value, types.ModuleType):  # an import adds a module to its package
        return value.__name__.startswith("theano.") and sys.modules.get(value.__name__) is value
    return (name in _CHANGING_NAMES or where.rpartition(".")[2] in _CHANGING_NAMES
            or where.startswith(_SETTINGS) and name == "val")


_parts_of_function = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _state_of_file(path: str) -> tuple[int | None, int | None]:
    """Return the size and the time of a file in whole seconds, as Python's import compares them.

    Return (None, None) if the file cannot be examined.
    """
    try:
        state = os.stat(path)
    except OSError:
        return None, None
    return state.st_size, int(state.st_mtime)


as_imported = _AsImported()


@lru_cache(maxsize=None)
def digest_of_theano() -> str:
    """Return a digest of the states that Theano's files had when they were imported.

    Returns
    -------
    str
        A hexadecimal number.
    """
    folder = os.path.dirname(sys.modules["theano"].__file__)
    files = sorted((os.path.relpath(path, folder), state)
                   for path, state in as_imported.files.items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def what_writes_c(node) -> Iterator[Any]:
    """Yield all objects that generate the C code of a node.

    Parameters
    ----------
    node : theano.gof.Apply

    Yields
    ------
    theano.gof.Op or theano.gof.Type
        The operation of the node, its inner operations, and the types of its variables.
    """
    pending = [node.op, *(variable.type for variable in [*node.inputs, *node.outputs])]
    while pending:
        thing = pending.pop()
        yield thing
        if hasattr(thing, "scalar_op"):
            pending.append(thing.scalar_op)
        if isinstance(getattr(thing, "fgraph", None), sys.modules["theano"].gof.FunctionGraph):
            pending += [inner.op for inner in thing.fgraph.apply_nodes]


def is_theanos(thing: Any) -> bool:
    """Return whether an operation or a type belongs to Theano or to this package, and is unchanged.

    Parameters
    ----------
    thing : theano.gof.Op or theano.gof.Type

    Returns
    -------
    bool
        False if the program has defined the class, or has replaced a method of it.
    """
    attributes = set(getattr(thing, "__dict__", ())) - {"output_types_preference"}
    return as_imported.has_written(type(thing)) and not any(
        callable(getattr(type(thing), name, None)) for name in attributes)
