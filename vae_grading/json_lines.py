"""Lines of JSON with arrays in them, from processes that are not trusted.

Reading such lines runs no code. Their size is bounded before they are parsed
(`vae_grading.graphs.bounds.check_size`, for all lines of a process together). Bytes are ASCII, as
`to_json` writes them: one character beyond would make Python use up to four bytes for each. The
values are arrays of numbers, numbers, texts that can be encoded, lists and dicts;
`vae_grading.messages` checks what they mean.
"""

import base64
import json
import re

import numpy as np

from vae_grading.graphs.bounds import check_size

__all__ = ["to_json", "from_json", "lines_of_json"]

#: The dtypes of arrays, by their names in JSON: NumPy would accept many other names.
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefd"}

_MAX_LINES = 10000  # of a process: far more than an honest one writes
_MAX_ESCAPED = 2**22  # characters of a line with other characters in it, written as \uXXXX
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u")  # not \\u, as in the text of a graph in a message


def to_json(values):
    """Return lists and dicts of arrays, numbers and texts as one line of JSON."""
    def encode(value):
        array = np.asarray(value)
        return {"dtype": array.dtype.str, "shape": array.shape,
                "data": base64.b64encode(array.tobytes()).decode("ascii")}

    return json.dumps(values, default=encode)


def from_json(line):
    """Return what `to_json` was given.

    Raises
    ------
    ValueError
        If the line is too large, or is not JSON, or has an array of anything but numbers.
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
    """Return a value with a question mark for each half of a pair, which can't be encoded."""
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
        All that the process has written. If it is too large, no line is read.

    Returns
    -------
    list
    """
    values = []
    try:
        check_size(output)
        for line in output.split(b"\n", _MAX_LINES)[:_MAX_LINES]:
            if not line.isascii():
                break  # before the text is made
            if line:
                values.append(from_json(line.decode("ascii")))
    except ValueError:
        pass
    return values
