"""Reading a Theano graph from untrusted text."""

import base64
import json
import math

import numpy as np
import theano
import theano.tensor as T
from theano.scalar import basic as scalar
from theano.scan_module import scan_op
from theano.tensor import type_other

from vae.checks import Mistake
from vae.language import _
from vae_grading.graphs import bounds
from vae_grading.graphs.operations import (
    OPERATION_CLASSES,
    OPERATIONS,
    SCAN_PARAMETERS,
    build_scan,
)
from vae_grading.graphs.parameters import (
    NAMED_TYPES,
    SHARED_VARIABLE_NAME,
    as_any_of,
    as_boolean,
    as_dtype,
    as_int32,
    as_integer,
    as_list,
    as_none,
    as_number,
    as_size,
    as_tuple,
    as_type,
    converted,
    text_of_type,
)

__all__ = ["load_graph"]

_as_bound = as_any_of(as_none, as_int32)  # a bound of a constant slice
_as_random_state = as_tuple(as_list(as_integer(0, 2**32 - 1), 624), as_integer(0, 624),
                            as_integer(0, 1), as_number)


def load_graph(text):
    """Build the graph that a text describes.

    Parameters
    ----------
    text : str
        Untrusted.

    Returns
    -------
    dict
        A graph in the form of the argument of `vae_grading.graphs.dump_graph`.

    Raises
    ------
    vae.checks.Mistake
        If the text is too large, or is not a graph.
    """
    try:
        bounds.check_size(text)
        data = json.loads(text, parse_constant=_refuse_constant)
        reader = _Reader(data["parts"])
        reader.give_updates(data["updates"])
        return reader.structure(data["graph"], 0)
    except Exception as error:  # untrusted text may raise anything
        first_line = next(iter(str(error).splitlines()), "")[:300]
        raise Mistake(_("граф не читается: {name}: {first_line}",
                        name=type(error).__name__, first_line=first_line)) from None


def _refuse_constant(text):
    raise ValueError(f"Got {text}, expected a number")


class _Reader:
    """Builds the variables of a graph one after another, each from earlier variables."""

    def __init__(self, parts, depth=0, budget=None):
        if type(parts) is not list or depth > bounds.MAX_DEPTH:
            raise ValueError("Got no list of parts, or too many in one another")
        self._variables, self._depth = [], depth
        self._budget = _Budget() if budget is None else budget
        methods = {"input": self._input, "constant": self._constant, "shared": self._shared,
                   "apply": self._apply}
        for word, *arguments in parts:
            variables = methods[word](*arguments)
            self._budget.take(len(variables), "variables")
            self._variables += variables

    def _variable(self, number):
        return self._variables[as_integer(0, len(self._variables) - 1)(number)]

    def _input(self, type_):
        return [as_type(type_)()]

    def _constant(self, type_, data):
        type_ = as_type(type_)
        if type_ == NAMED_TYPES["none"]:
            return [type_other.NoneConst]
        if type_ == NAMED_TYPES["slice"]:
            start, stop, step = as_tuple(_as_bound, _as_bound, _as_bound)(data)
            return [type_other.SliceConstant(type_, slice(start, stop, step))]
        array = self._array(type_, data)
        if isinstance(type_, scalar.Scalar):
            return [scalar.ScalarConstant(type_, array[()])]
        return [T.TensorConstant(type_, array)]

    def _shared(self, type_, data, name):
        type_ = as_type(type_)
        if name is not None and not (type(name) is str and SHARED_VARIABLE_NAME.fullmatch(name)):
            raise ValueError("Got a name with odd characters")
        if type_ == NAMED_TYPES["random state"]:
            key, position, has_gauss, gauss = _as_random_state(data)
            state = np.random.RandomState()
            state.set_state(("MT19937", np.array(key, "uint32"), position, has_gauss, gauss))
            return [theano.shared(state, name=name, borrow=True)]
        if not isinstance(type_, T.TensorType):
            raise ValueError("Got a shared variable that is not an array")
        return [theano.shared(self._array(type_, data), name=name, borrow=True,
                              broadcastable=type_.broadcastable)]

    def _array(self, type_, data):
        dtype, shape, same, content = data
        dtype = np.dtype(as_dtype(dtype))
        shape = as_list(as_size, 32)(shape)
        size = math.prod(shape)
        self._budget.take(size * dtype.itemsize, "bytes of arrays")
        content = base64.b64decode(content, validate=True)
        if len(content) != dtype.itemsize * (1 if as_boolean(same) else size):
            raise ValueError(f"Got {len(content)} bytes for an array of {shape} {dtype}")
        array = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype)
        array = np.full(shape, array[0]) if same else array.reshape(shape)
        broadcastable = getattr(type_, "broadcastable", ())
        if array.dtype.name != type_.dtype or len(shape) != len(broadcastable) or any(
                flag and side != 1 for flag, side in zip(broadcastable, shape)):
            raise ValueError(f"Got an array of {shape} {dtype} for {type_}")
        return array

    def _apply(self, name, data, inputs, types):
        inputs = [self._variable(number) for number in as_list(as_size, 10**5)(inputs)]
        node = self._operation(OPERATION_CLASSES[name], data).make_node(*inputs)
        outputs = node.outputs
        if [variable.type for variable in node.inputs] != [variable.type for variable in inputs]:
            raise ValueError(f"Got inputs of {name} that it would not leave as they are")
        node.inputs = inputs  # `make_node` may have replaced a constant by an equal one, True by 1
        if [text_of_type(variable.type) for variable in outputs] != types:
            raise ValueError(f"Got {types} from {name}, expected "
                             f"{[str(variable.type) for variable in outputs]}")
        return outputs

    def _operation(self, cls, data):
        """Return an operation of a class in the table, with parameters that have been checked."""
        if cls is not scan_op.Scan:
            operation = OPERATIONS[cls]
            return operation.build(**converted(operation.parameters, data))
        data = dict(data)
        inner = _Reader(data.pop("parts"), self._depth + 1, self._budget)
        n_inputs = as_integer(0, len(inner._variables))(data.pop("n_inputs"))
        numbers = as_list(as_size, 10**4)(data.pop("outputs"))
        return build_scan(inner._variables[:n_inputs], list(map(inner._variable, numbers)),
                          **converted(SCAN_PARAMETERS, data))

    def give_updates(self, updates):
        """Give shared variables the updates that each call of a compiled function makes."""
        for variable, update in updates:
            variable, update = self._variable(variable), self._variable(update)
            if not isinstance(variable, theano.compile.SharedVariable) \
                    or variable.type != update.type:
                raise ValueError("Got an update of something that is not shared, or of another "
                                 "type")
            variable.default_update = update

    def structure(self, value, depth):
        """Return lists and dicts in which variables replace their numbers."""
        if depth > bounds.MAX_DEPTH:
            raise ValueError("Got too many lists in lists")
        if type(value) is dict:
            if set(value) == {"variable"}:
                return self._variable(value["variable"])
            return {name: self.structure(item, depth + 1)
                    for name, item in value["names"].items()}
        if type(value) is list:
            return [self.structure(item, depth + 1) for item in value]
        return value


class _Budget:
    """The variables and bytes that a graph, including its inner graphs, may still use."""

    def __init__(self):
        self._remaining = {"variables": bounds.MAX_VARIABLES, "bytes of arrays": bounds.MAX_ARRAYS}

    def take(self, n, what):
        self._remaining[what] -= n
        if self._remaining[what] < 0:
            raise ValueError(f"Got too many {what}")
