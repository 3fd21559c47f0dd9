"""What a program has replaced in Theano.

Compiled code and optimised graphs are kept from one process to the next, under names that are made
of Theano's operations and settings.  Such a name is not enough if the program has replaced a
function of Theano's, or if somebody has edited Theano's files.
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

#: Modules of this package whose functions and classes take part in what Theano computes.
_OUR_MODULES = {f"theano_compat.{name}" for name in (
    "needed.removed_names",
    "speed.compile_together", "speed.fast_import", "speed.merge_gradients", "speed.matrix_products",
    "speed.fuse_updates", "speed.elementwise_loops",
    "without_compiler.denormals", "without_compiler.expressions", "without_compiler.formulas",
    "without_compiler.other_operations", "without_compiler.conv_and_pool")}

#: The value of a name that has been deleted, and of a change that has no value.
GONE = object()

#: Types whose values do not change, so that only a name can get another value.  Modules and classes
#: do change; what is in them is noted separately.
_OPAQUE_TYPES = {str, int, float, bool, type(None), tuple, type, types.ModuleType,
                 types.BuiltinFunctionType, property}

#: Names whose values change in any program and do not matter for what is computed: Theano's counters
#: and caches, and what Python notes about warnings and classes.
_CHANGING_NAMES = {
    "__slotnames__", "__warningregistry__", "_optimizer_idx", "_module_cache", "import_time",
    "grad_time", "total_fct_exec_time", "total_graph_opt_time", "total_time_linker",
    "instantiated_default_mode", "constant_cache", "_arange", "_all", "run_cthunk", "march_flags",
    "_atexit_registered", "_atexit_print_list", "_spare", "_hash", "_persistent_module_cache",
    "mem_count", "mem_bound", "max_mem_count"}

#: Where the values of Theano's settings are.  A changed setting is not a replacement: the name of a
#: kept graph depends on all settings.
_SETTINGS = "theano.configparser.TheanoConfigParser."


#: A namespace as it was noted: where it is, its names now (which may change), and a copy of them.
_Namespace = tuple[str, dict, dict]


class _AsImported(MetaPathFinder):
    """The values of all names in Theano's modules, as they are when the modules have been imported.

    They are noted after the module's own code and the patches here have run, and before the program
    can change them.  A comparison then finds what the program has changed, such as a method that it
    has replaced.
    """

    def __init__(self) -> None:
        #: Size and time of each file of Theano's when Theano was imported, by path.
        self.files: dict[str, tuple[int | None, int | None]] = {}
        #: Whether a file of Theano's was edited after others had been imported.
        self.is_mixed = False
        self._is_imported = False  # whether Theano's own import has ended
        self._unnoted: list[types.ModuleType] = []  # imported, but not noted yet
        self._seen: set[int] = set()  # ids of values whose contents have been noted
        self._namespaces: list[_Namespace] = []
        self._classes: dict[type, _Namespace] = {}
        self._collections: list[tuple[str, list | set, list | set]] = []
        self._functions: list[types.FunctionType] = []
        self._function_parts: list[tuple] = []  # of `_functions`, in their order

    def activate(self) -> None:
        """Begin to note the modules of Theano's that are imported from now on."""
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
            self._accept_all_but(changed_before)

        spec.loader.exec_module = exec_and_note
        return spec

    def _start(self, folder: str) -> None:
        """Note the files of Theano, and our modules.  Theano's import begins now."""
        for path, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name not in ("tests", "__pycache__")]
            for name in names:
                file = os.path.join(path, name)
                self.files[file] = _state_of_file(file)
        self._unnoted = [module for name, module in sys.modules.items() if name in _OUR_MODULES]

    def accept_changes(self) -> None:
        """Count all changes so far as Theano's own: this package has made them."""
        self._accept_all_but(set())

    def _changed_places(self) -> set[str]:
        """Return where the program has changed Theano before it imports another of its modules."""
        return {where for where, *_ in self.changes()} if self._is_imported else set()

    def _accept_all_but(self, places: set[str]) -> None:
        """Count changes as Theano's own, except at these places; note what has been imported.

        Theano's modules change one another while Theano is imported, so they are noted at its end,
        before the program's next statement.
        """
        if not self._is_imported:
            return
        for where, now, then in [*self._namespaces, *self._collections]:
            if where not in places and not _are_equal(now, then):
                then.clear()
                then.extend(now) if isinstance(then, list) else then.update(now)
        while self._unnoted:  # after the comparison, from which they could not differ
            self._note(self._unnoted.pop())

    def _note(self, module: types.ModuleType) -> None:
        self._note_names(module.__name__, vars(module))
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                self._classes[value] = self._note_names(
                    f"{value.__module__}.{value.__qualname__}", vars(value))

    def _note_names(self, where: str, names: dict) -> _Namespace:
        """Note the values of names, and the contents of those values that can change."""
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
        """Return what the program has changed: places, names and the values that these have now."""
        found = [("theano", "files", GONE)] if self.is_mixed else []
        for namespace in self._namespaces:
            found += _changes_of(*namespace)
        found += [(where, where.rpartition(".")[2], now)
                  for where, now, then in self._collections if not _are_equal(now, then)]
        if list(map(_parts_of_function, self._functions)) != self._function_parts:
            found.append(("theano", "functions", GONE))
        return [change for change in found if not _is_irrelevant(*change)]

    def knows(self, cls: type) -> bool:
        """Whether a class is defined in Theano or in `_OUR_MODULES`."""
        return cls in self._classes

    def has_written(self, cls: type) -> bool:
        """Whether a class and all its bases are known, and nothing in them has been replaced."""
        for base in cls.__mro__[:-1]:
            namespace = self._classes.get(base)
            if namespace is None or not all(_is_irrelevant(*change)
                                            for change in _changes_of(*namespace)):
                return False
        return not self.is_mixed


def _are_equal(now: Any, then: Any) -> bool:
    try:
        return bool(now == then)
    except Exception:  # a comparison may fail: that of two arrays has no single answer
        return False


def _changes_of(where: str, now: dict, then: dict) -> list[tuple[str, str, Any]]:
    if _are_equal(now, then):
        return []
    return [(where, name, now.get(name, GONE)) for name in {**then, **now}
            if now.get(name, GONE) is not then.get(name, GONE)
            and not (then.get(name, GONE) is None and _is_imported_late(name, now.get(name, GONE)))]


def _is_imported_late(name: str, value: Any) -> bool:
    """Whether a value is what Theano itself imports as this name when it first needs it.

    ``theano.gof.fg.NullType`` is None until a graph that lacks an input is found.
    """
    module = getattr(value, "__module__", None)
    return (isinstance(value, (type, types.FunctionType)) and isinstance(module, str)
            and module.startswith("theano.")
            and getattr(sys.modules.get(module), name, None) is value)


def _is_irrelevant(where: str, name: str, value: Any) -> bool:
    """Whether a change does not matter for what is computed."""
    if isinstance(value, types.ModuleType):  # a module that has been imported into its package
        return value.__name__.startswith("theano.") and sys.modules.get(value.__name__) is value
    return (name in _CHANGING_NAMES or where.rpartition(".")[2] in _CHANGING_NAMES
            or where.startswith(_SETTINGS) and name == "val")


_parts_of_function = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _state_of_file(path: str) -> tuple[int | None, int | None]:
    """Return a file's size and time in whole seconds, as Python compares them, or two Nones."""
    try:
        state = os.stat(path)
    except OSError:
        return None, None
    return state.st_size, int(state.st_mtime)


as_imported = _AsImported()


@lru_cache(maxsize=None)
def digest_of_theano() -> str:
    """Return a digest of the states in which Theano's files were imported."""
    folder = os.path.dirname(sys.modules["theano"].__file__)
    files = sorted((os.path.relpath(path, folder), state)
                   for path, state in as_imported.files.items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def what_writes_c(node) -> Iterator[Any]:
    """Yield all that generates the C code of a node.

    Parameters
    ----------
    node : Apply

    Yields
    ------
    Op or Type
        Its operation, the operations inside that one, and the types of its variables.
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
    """Whether an operation or type is Theano's own, or this package's, with no method replaced."""
    attributes = set(getattr(thing, "__dict__", ())) - {"output_types_preference"}
    return as_imported.has_written(type(thing)) and not any(
        callable(getattr(type(thing), name, None)) for name in attributes)
