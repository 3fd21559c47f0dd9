"""Converters from JSON to the arguments of an operation's constructor, and names of types.

A converter takes an untrusted value and returns an argument of the constructor. It raises
ValueError if the value is not valid.
"""

import math
import re

import theano.tensor as T
from theano.scalar import basic as scalar
from theano.tensor import raw_random, type_other

from vae.language import _

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64", "complex64", "complex128")

#: Names of shared variables that match this pattern are kept, because they appear in hints.
SHARED_VARIABLE_NAME = re.compile(r"[\w .,:()\[\]×→-]{1,100}")


class Refused(Exception):
    """A graph contains something that is not in the tables. The message is for the student."""


def as_integer(low, high):
    def check(value):
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"Got {str(value)[:50]!r}, expected an integer from {low} to {high}")
        return value
    return check


def as_number(value):
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"Got {str(value)[:50]!r}, expected a number")
    return float(value)


def as_boolean(value):
    if type(value) not in (bool, int) or value not in (0, 1):
        raise ValueError(f"Got {str(value)[:50]!r}, expected true or false")
    return bool(value)


def as_one_of(*choices):
    def check(value):
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise ValueError(f"Got {str(value)[:50]!r}, expected one of {choices}")
    return check


def as_any_of(*converters):
    def check(value):
        for convert in converters:
            try:
                return convert(value)
            except ValueError:
                pass
        raise ValueError(f"Got {str(value)[:50]!r}, expected something else")
    return check


def as_list(convert, at_most=64):
    def check(value):
        if type(value) is not list or len(value) > at_most:
            raise ValueError(f"Got {str(value)[:50]!r}, expected a list of at most {at_most}")
        return tuple(map(convert, value))
    return check


def as_tuple(*converters):
    def check(value):
        if type(value) is not list or len(value) != len(converters):
            raise ValueError(f"Got {str(value)[:50]!r}, expected {len(converters)} values")
        return tuple(convert(item) for convert, item in zip(converters, value))
    return check


as_none = as_one_of(None)
as_int32 = as_integer(-2**31, 2**31 - 1)
as_size = as_integer(0, 2**31 - 1)
as_stride = as_integer(1, 2**31 - 1)  # C divides by it
as_axis = as_integer(-64, 64)
as_axes = as_any_of(as_none, as_axis, as_list(as_axis))
as_ndim = as_integer(0, 32)
as_dtype = as_one_of(*DTYPES)
as_optional_dtype = as_any_of(as_none, as_dtype)
as_shape = as_any_of(as_none, as_list(as_any_of(as_none, as_size)))
as_border = as_any_of(as_one_of("valid", "full", "half"), as_size,
                      as_list(as_any_of(as_size, as_list(as_size, 2)), 3))


def as_tensor_type(text):
    match = re.fullmatch(r"(\w+)\(([01]{0,32})\)", text) if type(text) is str else None
    if match is None:
        raise ValueError(f"Got {str(text)[:50]!r}, expected a type")
    return T.TensorType(as_dtype(match[1]), [letter == "1" for letter in match[2]])


def as_scalar_type(text):
    if type(text) is not str or not text.startswith("scalar "):
        raise ValueError(f"Got {str(text)[:50]!r}, expected a type")
    return scalar.get_scalar_type(as_dtype(text[len("scalar "):]))


#: Maps the names of types in texts to types that have no parameters.
NAMED_TYPES = {"random state": raw_random.random_state_type, "none": type_other.NoneTypeT(),
               "slice": type_other.slicetype}


def as_type(text):
    if type(text) is str and text in NAMED_TYPES:
        return NAMED_TYPES[text]
    return as_any_of(as_tensor_type, as_scalar_type)(text)


def text_of_type(type_):
    """Return the text that `as_type` converts to this type."""
    if type(type_) is T.TensorType:
        return f"{type_.dtype}({''.join(str(int(flag)) for flag in type_.broadcastable)})"
    if type(type_) is scalar.Scalar:
        return f"scalar {type_.dtype}"
    for text, named_type in NAMED_TYPES.items():
        if type(type_) is type(named_type):
            return text
    raise Refused(_("граф содержит переменную типа {type}, а её не передать", type=type_))


_as_bound = as_any_of(as_none, as_int32, as_scalar_type)


def _as_slice(value):
    return slice(*as_tuple(_as_bound, _as_bound, _as_bound)(value))


as_index = as_any_of(_as_bound, _as_slice)


def as_not_inplace(value):
    """Check a flag that makes an operation overwrite its inputs, and return False.

    Without overwriting, the operation has the same value.
    """
    as_boolean(value)
    return False


def converted(converters, values):
    """Convert the parameters of an operation.

    Parameters
    ----------
    converters : dict
        Maps the name of a parameter to its converter.
    values : object
        Untrusted.

    Returns
    -------
    dict
        Keyword arguments of the constructor.

    Raises
    ------
    ValueError
        If `values` is not a dict with exactly these parameters, or if one of them is not valid.
    """
    if type(values) is not dict or set(values) != set(converters):
        raise ValueError(f"Got the parameters {str(values)[:100]}, expected {list(converters)}")
    return {name: convert(values[name]) for name, convert in converters.items()}
