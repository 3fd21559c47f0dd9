"""What Theano is, and what a program has made of it.

Compiled code and optimised graphs are kept from one process to the next, under names that tell
Theano's operations and settings.  A program may have put a function of its own in the place of one
of Theano's, or somebody may have edited Theano's files: such names would then tell the wrong thing.
"""

import hashlib
import os
import sys
import types
from functools import lru_cache
from importlib.abc import MetaPathFinder
from operator import attrgetter

__all__ = ["as_imported", "digest_of_theano", "is_theanos", "what_writes_c"]

#: Modules here whose functions and classes are part of what Theano computes with.
_OURS = {f"theano_compat.{name}" for name in (
    "needed.removed_names",
    "speed.compile_together", "speed.fast_import", "speed.merge_gradients", "speed.matrix_products",
    "speed.fuse_updates", "speed.elementwise_loops",
    "without_compiler.denormals", "without_compiler.expressions", "without_compiler.formulas",
    "without_compiler.other_operations", "without_compiler.conv_and_pool")}

#: Stands for what cannot be told: the value of a name that is there no more.
GONE = object()

#: Types of what only its own name can change; modules are noted by themselves.
_NOT_LOOKED_INTO = {str, int, float, bool, type(None), tuple, type, types.ModuleType,
                    types.BuiltinFunctionType, property}

#: What changes without a program's doing, and says nothing of what is computed: numbers and times
#: that Theano counts, what it has found before, and what Python notes of warnings and classes.
_PASSING = {
    "__slotnames__", "__warningregistry__", "_optimizer_idx", "_module_cache", "import_time",
    "grad_time", "total_fct_exec_time", "total_graph_opt_time", "total_time_linker",
    "instantiated_default_mode", "constant_cache", "_arange", "_all", "run_cthunk", "march_flags",
    "_atexit_registered", "_atexit_print_list", "_spare", "_hash"}

#: Where Theano's settings are, which whoever needs them looks at.
_SETTINGS = "theano.configparser.TheanoConfigParser."


class _AsImported(MetaPathFinder):
    """What all names in Theano's modules mean when these, and the patches here, have just run.

    It is noted before the program has its turn. What the program then changes, such as a method in
    place of Theano's, is found by comparing.
    """

    def __init__(self):
        self.files = {}  # Theano's: size and time, by which Python knows them, too
        self.is_mixed = False  # some were edited while others had been imported
        self._in_progress, self._seen = [], set()
        self._spaces, self._classes, self._lists = [], {}, []
        self._functions, self._parts = [], []

    def start(self):
        """Note what has been imported, and from now on what will be; Theano's import has begun."""
        if self in sys.meta_path:
            return
        for path, folders, names in os.walk(os.path.dirname(sys.modules["theano"].__file__)):
            folders[:] = [name for name in folders if name not in ("tests", "__pycache__")]
            for name in names:
                file = os.path.join(path, name)
                self.files[file] = _state_of_file(file)
        sys.meta_path.insert(0, self)
        self._in_progress = [module for name, module in sys.modules.items()
                             if name.partition(".")[0] == "theano" or name in _OURS]

    def find_spec(self, name, path=None, target=None):
        self._note_those_done()  # before any other module, which may change them, runs
        if not name.startswith("theano."):
            return None
        found = (finder.find_spec(name, path, target) for finder in list(sys.meta_path)
                 if finder is not self)
        spec = next(filter(None, found), None)
        if spec is None:
            return None
        exec_module = spec.loader.exec_module

        def exec_and_note(module):
            state = _state_of_file(spec.origin)
            if self.files.setdefault(spec.origin, state) != state:
                self.is_mixed = True
            before = self._places_of_changes()
            exec_module(module)
            self._in_progress.append(module)
            self._accept(before)

        spec.loader.exec_module = exec_and_note
        return spec

    def accept_changes(self):
        """Take what has changed so far for Theano's own: this package has changed it."""
        self._accept(before=set())

    def _is_being_imported(self):
        return getattr(sys.modules["theano"].__spec__, "_initializing", False)

    def _places_of_changes(self):
        """Where a program has changed Theano before it imports another module of Theano's."""
        return set() if self._is_being_imported() else {where for where, *_ in self.changes()}

    def _accept(self, before):
        """Note what the import of a module of Theano's has changed elsewhere."""
        if self._is_being_imported():
            return
        self._note_those_done()
        for where, now, then in [*self._spaces, *self._lists]:
            if where not in before and not _are_equal(now, then):
                then.clear()
                then.extend(now) if isinstance(then, list) else then.update(now)

    def _note_those_done(self):
        """Note what has been imported, once all of Theano has: its modules change one another."""
        if not self._is_being_imported():
            while self._in_progress:
                self._note(self._in_progress.pop())

    def _note(self, module):
        self._note_names(module.__name__, vars(module))
        for value in list(vars(module).values()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                self._classes[value] = self._note_names(
                    f"{value.__module__}.{value.__qualname__}", vars(value))

    def _note_names(self, where, names):
        """Note what names mean, and the contents of what can change without changing its name."""
        space = (where, names, dict(names))
        self._spaces.append(space)
        for name, value in list(names.items()):
            kind = type(value)
            if kind in _NOT_LOOKED_INTO or id(value) in self._seen:
                continue
            self._seen.add(id(value))  # and it lives on in `space`
            if kind in (staticmethod, classmethod):
                value, kind = value.__func__, type(value.__func__)
            if kind is types.FunctionType:
                self._functions.append(value)
                self._parts.append(_parts_of_function(value))
            elif kind is dict:
                if name != "__builtins__":
                    self._spaces.append((f"{where}.{name}", value, dict(value)))
            elif kind in (list, set):
                self._lists.append((f"{where}.{name}", value, value.copy()))
            elif kind.__module__.startswith("theano.") and hasattr(value, "__dict__"):
                self._note_names(f"{where}.{name}", vars(value))
        return space

    def changes(self):
        """Return what has changed since: triples of a place, a name and what it means now."""
        self._note_those_done()
        found = [("theano", "files", GONE)] if self.is_mixed else []
        for space in self._spaces:
            found += _changes_of(*space)
        found += [(where, where.rpartition(".")[2], now)
                  for where, now, then in self._lists if not _are_equal(now, then)]
        if list(map(_parts_of_function, self._functions)) != self._parts:
            found.append(("theano", "functions", GONE))
        return [change for change in found if not _is_passing(*change)]

    def knows(self, kind):
        """Tell whether a class is one of Theano's modules, or of those here."""
        return kind in self._classes

    def has_written(self, kind):
        """Tell whether a class is Theano's, or of this package, and has still all it had."""
        self._note_those_done()
        for base in kind.__mro__[:-1]:
            space = self._classes.get(base)
            if space is None or not all(_is_passing(*change) for change in _changes_of(*space)):
                return False
        return not self.is_mixed


def _are_equal(now, then):
    try:
        return bool(now == then)
    except Exception:  # some other things are not simply equal, or not
        return False


def _changes_of(where, now, then):
    if _are_equal(now, then):
        return []
    return [(where, name, now.get(name, GONE)) for name in {**then, **now}
            if now.get(name, GONE) is not then.get(name, GONE)]


def _is_passing(where, name, value):
    if isinstance(value, types.ModuleType):  # a part of a package that has been imported since
        return value.__name__.startswith("theano.") and sys.modules.get(value.__name__) is value
    return (name in _PASSING or where.rpartition(".")[2] in _PASSING
            or where.startswith(_SETTINGS) and name == "val")


_parts_of_function = attrgetter("__code__", "__defaults__", "__kwdefaults__")


def _state_of_file(path):
    """Size and time in seconds, by which Python knows a source, too; of a file that may be gone."""
    try:
        state = os.stat(path)
    except OSError:
        return None, None
    return state.st_size, int(state.st_mtime)


as_imported = _AsImported()


@lru_cache(maxsize=None)
def digest_of_theano():
    """Digest of what Theano's files were when they were imported."""
    folder = os.path.dirname(sys.modules["theano"].__file__)
    files = sorted((os.path.relpath(path, folder), state)
                   for path, state in as_imported.files.items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def what_writes_c(node):
    """An operation, those in it, and the types of its variables."""
    waiting = [node.op, *(variable.type for variable in [*node.inputs, *node.outputs])]
    while waiting:
        thing = waiting.pop()
        yield thing
        if hasattr(thing, "scalar_op"):
            waiting.append(thing.scalar_op)
        if isinstance(getattr(thing, "fgraph", None), sys.modules["theano"].gof.FunctionGraph):
            waiting += [inner.op for inner in thing.fgraph.apply_nodes]


def is_theanos(thing):
    """Tell whether an operation or a type is as Theano, or this package, has written it."""
    own = set(getattr(thing, "__dict__", ())) - {"output_types_preference"}
    return as_imported.has_written(type(thing)) and not any(
        callable(getattr(type(thing), name, None)) for name in own)
