"""Lines of JSON that may contain arrays, from processes that are not trusted.

Reading such lines runs no code. The total size of all lines of a process is checked before they are
parsed (`vae_grading.graphs.bounds.check_size`). All bytes must be ASCII, as in the lines that
`to_json` writes: with a single character outside ASCII, Python would use up to four bytes for every
character. The values are arrays of numbers, numbers, texts that can be encoded, lists and dicts.
`vae_grading.messages` checks their meaning.
"""

import base64
import json
import re

import numpy as np

from vae_grading.graphs.bounds import check_size

__all__ = ["to_json", "from_json", "lines_of_json"]

#: Maps the names of dtypes in JSON to dtypes. NumPy would accept many other names.
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefd"}

_MAX_LINES = 10000  # lines of a process; an honest process writes far fewer
_MAX_ESCAPED = 2**22  # characters of a line that contains escaped characters, such as \u0451
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u")  # not \\u, which is a backslash and the letter u


def to_json(values):
    """Convert lists and dicts of arrays, numbers and texts to one line of JSON.

    Parameters
    ----------
    values : object

    Returns
    -------
    str
        ASCII, without a newline at the end.
    """
    def encode(value):
        array = np.asarray(value)
        return {"dtype": array.dtype.str, "shape": array.shape,
                "data": base64.b64encode(array.tobytes()).decode("ascii")}

    return json.dumps(values, default=encode)


def from_json(line):
    """Convert a line of JSON to values; the inverse of `to_json`.

    Parameters
    ----------
    line : str
        Untrusted.

    Returns
    -------
    object

    Raises
    ------
    ValueError
        If the line is too large, is not JSON, or contains an array of something other than numbers.
    """
    def decode(value):
        if set(value) != {"dtype", "shape", "data"}:
            return value
        dtype, shape = _DTYPES.get(str(value["dtype"])), value["shape"]
        if dtype is None:
            raise ValueError(f"Got an array of {str(value['dtype'])[:50]}, expected numbers")
        if not (type(shape) is list and all(type(n) is int and n >= 0 for n in shape)):
            raise ValueError(f"Got the shape {str(shape)[:50]}, expected sizes")
        return np.frombuffer(base64.b64decode(value["data"]), dtype).reshape(shape)

    try:
        check_size(line)
        if not _ESCAPED.search(line):
            return json.loads(line, object_hook=decode)
        if len(line) > _MAX_ESCAPED:
            raise ValueError(f"Got {len(line)} characters, expected at most {_MAX_ESCAPED}")
        return _without_surrogates(json.loads(line, object_hook=decode))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Got a line that is not numbers: {error}") from None


def _without_surrogates(value):
    """Replace each lone surrogate in the texts of a value, which can't be encoded, by "?"."""
    if type(value) is str:
        return value.encode("utf-8", "replace").decode("utf-8")
    if type(value) is list:
        return [_without_surrogates(part) for part in value]
    if type(value) is dict:
        return {_without_surrogates(name): _without_surrogates(part)
                for name, part in value.items()}
    return value


def lines_of_json(output):
    """Return the values of the lines that a process has written, up to the first invalid line.

    Parameters
    ----------
    output : bytes or bytearray
        The whole output of the process. If it is too large, no line is read.

    Returns
    -------
    list
        A value for each line.
    """
    values = []
    try:
        check_size(output)
        for line in output.split(b"\n", _MAX_LINES)[:_MAX_LINES]:
            if not line.isascii():
                break  # before decoding, which would need more memory
            if line:
                values.append(from_json(line.decode("ascii")))
    except ValueError:
        pass
    return values
