"""Writing a Theano graph as text."""

import base64
import json

import numpy as np
import theano
from theano.compile.builders import OpFromGraph
from theano.scalar import basic as scalar
from theano.scan_module import scan_op

from vae.checks import Mistake
from vae.language import Text, _
from vae_grading.graphs import bounds
from vae_grading.graphs.operations import (
    OPERATION_NAMES,
    OPERATIONS,
    SCALAR_PARAMETERS,
    SCALARS,
    SCAN_PARAMETERS,
    TRANSPARENT,
)
from vae_grading.graphs.parameters import (
    DTYPES,
    SHARED_VARIABLE_NAME,
    Refused,
    converted,
    text_of_type,
)

__all__ = ["dump_graph"]


def dump_graph(graph):
    """Convert a graph to text.

    Parameters
    ----------
    graph : dict
        Theano variables, numbers, truth values, None, short texts, and lists and dicts of these.

    Returns
    -------
    str
        JSON with three keys. ``parts`` are the variables, in an order in which they can be
        computed. ``updates`` are pairs of a shared variable and its value after each call.
        ``graph`` is the argument, in which numbers replace variables.

    Raises
    ------
    vae.checks.Mistake
        If the graph is too large, or contains something that is not in the tables.
    """
    try:
        writer = _Writer()
        structure = writer.structure(graph, 0)
        text = json.dumps({"graph": structure, **writer.finished()}, allow_nan=False,
                          separators=(",", ":"))
        bounds.check_size(text)
        return text
    except Refused as refused:
        raise Mistake(f"{refused}.") from None
    except Exception as error:  # a student's object may raise anything
        raise Mistake(_("граф не из операций Theano: {name}: {error}",
                        name=type(error).__name__, error=error)) from None


def _plain(value):
    """Convert a parameter to values that JSON allows: numbers, words, and lists of these."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is Text:
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, theano.Constant):
        return _plain(value.data)
    if isinstance(value, theano.gof.Type):
        return text_of_type(value)
    if isinstance(value, scalar.ScalarOp):
        return _scalar_op(value)
    if isinstance(value, slice):
        return [_plain(value.start), _plain(value.stop), _plain(value.step)]
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise ValueError(f"Got {type(value).__name__}, expected numbers and words")


def _scalar_op(op):
    """Convert a scalar operation to data: its name, or the name of its class and its parameters."""
    if type(op) in SCALAR_PARAMETERS:
        return [type(op).__name__, _parameters(op, SCALAR_PARAMETERS[type(op)])]
    same_class = [name for name, known_op in SCALARS.items() if type(known_op) is type(op)]
    equal = [name for name in same_class if SCALARS[name] == op]
    names = equal or same_class
    if not names:
        raise Refused(_unknown_operation(op))
    return names[0]


def _unknown_operation(op):
    return _("граф содержит операцию {name}, которой проверка не знает. Нельзя ли обойтись "
             "обычными операциями theano.tensor?", name=type(op).__name__)


def _parameters(op, converters, read=None):
    """Convert the parameters of an operation to data, and check that the reader will accept it."""
    values = read(op) if read else {name: getattr(op, name) for name in converters}
    try:
        values = {name: _plain(value) for name, value in values.items()}
        checked = converted(converters, values)
        return {name: checked[name] if type(checked[name]) is bool else value
                for name, value in values.items()}
    except ValueError as error:
        raise Refused(_("операция {name} в графе с параметрами, которых проверка не знает "
                         "({error})", name=type(op).__name__, error=error)) from None


class _Writer:
    """Numbers the variables of a graph in an order in which they can be computed."""

    def __init__(self, inputs=(), depth=0):
        self._parts = []
        self._numbers, self._n = {}, 0  #: the numbers of variables; the next free number
        self._constants = {}  #: maps the part of a constant, as text, to its variable
        self._written_out = {}  #: maps nodes that contain a graph to copies of its outputs
        self._updated = []  #: shared variables that change with each call
        self._depth = depth
        for variable in inputs:
            self._add([variable], ["input", text_of_type(variable.type)])

    def _add(self, variables, part):
        self._parts.append(part)
        for variable in variables:
            self._numbers[variable] = self._n
            self._n += 1

    def structure(self, value, depth):
        """Return lists and dicts in which numbers replace variables."""
        if depth > bounds.MAX_DEPTH:
            raise Refused(_("граф вложен слишком глубоко"))
        if isinstance(value, theano.Variable):
            return {"variable": self.number(value)}
        if isinstance(value, dict):
            return {"names": {str(name): self.structure(item, depth + 1)
                              for name, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return [self.structure(item, depth + 1) for item in value]
        return _plain(value)

    def number(self, variable):
        """Return the number of a variable. First number all variables that it depends on."""
        waiting = [variable]
        while waiting:
            current = waiting[-1]
            node = current.owner
            if current in self._numbers:
                waiting.pop()
            elif node is None:
                self._leaf(current)
            elif isinstance(node.op, TRANSPARENT):
                self._number_as(current, node.inputs[0], waiting)
            elif type(node.op) is OpFromGraph:
                self._number_as(current, self._inside(current), waiting)
            elif self._n > bounds.MAX_VARIABLES:
                raise Refused(_("в графе слишком много операций"))
            else:
                missing = [variable for variable in node.inputs if variable not in self._numbers]
                if missing:
                    waiting += reversed(missing)
                else:
                    self._node(node)
        return self._numbers[variable]

    def _number_as(self, variable, value, waiting):
        """Give a variable the number of an equal value, or schedule the value to be numbered."""
        if value in self._numbers:
            self._numbers[variable] = self._numbers[value]
        else:
            waiting.append(value)

    def _inside(self, variable):
        """Return the variable that computes this output of an `OpFromGraph`."""
        node = variable.owner
        if node not in self._written_out:
            self._written_out[node] = theano.clone(
                node.op.local_outputs, dict(zip(node.op.local_inputs, node.inputs)))
        return self._written_out[node][variable.index]

    def _leaf(self, variable):
        type_ = text_of_type(variable.type)
        if isinstance(variable, theano.compile.SharedVariable):
            name = variable.name if SHARED_VARIABLE_NAME.fullmatch(str(variable.name)) else None
            value = _data(variable.get_value(borrow=True))
            self._add([variable], ["shared", type_, value, name])
            if getattr(variable, "default_update", None) is not None:
                self._updated.append(variable)
        elif isinstance(variable, theano.Constant):
            part = ["constant", type_, _data(variable.data)]
            known = self._constants.setdefault(str(part), variable)
            if known is variable:
                self._add([variable], part)
            else:  # graphs with one constant or two equal constants give the same text
                self._numbers[variable] = self._numbers[known]
        else:
            self._add([variable], ["input", type_])

    def _node(self, node):
        op, inputs = node.op, [self._numbers[variable] for variable in node.inputs]
        if type(op) is scan_op.Scan:
            if self._depth > bounds.MAX_DEPTH:
                raise Refused(_("циклы вложены слишком глубоко"))
            inner = _Writer(op.inputs, self._depth + 1)
            outputs = [inner.number(variable) for variable in op.outputs]
            data = {**_parameters(op, SCAN_PARAMETERS), "parts": inner.finished()["parts"],
                    "n_inputs": len(op.inputs), "outputs": outputs}
        elif type(op) in OPERATIONS:
            operation = OPERATIONS[type(op)]
            data = _parameters(op, operation.parameters, operation.read)
        else:
            raise Refused(_unknown_operation(op))
        self._add(node.outputs, ["apply", OPERATION_NAMES[type(op)], data, inputs,
                                 [text_of_type(variable.type) for variable in node.outputs]])

    def finished(self):
        """Return the parts of the graph, and the updates of shared variables."""
        updates = []
        for variable in self._updated:  # the list grows in this loop
            updates.append([self._numbers[variable], self.number(variable.default_update)])
        return {"parts": self._parts, "updates": updates}


def _data(value):
    """Return the value of a constant or a shared variable as data."""
    if value is None:
        return None
    if isinstance(value, slice):
        return _plain(value)
    if isinstance(value, np.random.RandomState):
        _, key, position, has_gauss, gauss = value.get_state()
        return [key.tolist(), int(position), int(has_gauss), float(gauss)]
    array = np.asarray(value)
    if array.dtype.name not in DTYPES:
        raise Refused(_("граф содержит массив типа {dtype}", dtype=array.dtype))
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
    content = array.tobytes()
    item = content[:array.dtype.itemsize]
    same = array.size > 1 and content == item * array.size
    return [array.dtype.name, list(array.shape), same,
            base64.b64encode(item if same else content).decode("ascii")]
