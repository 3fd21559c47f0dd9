"""Lines of JSON with arrays in them, from processes that are not trusted.

Reading such lines runs no code. Their size is bounded before they are parsed
(`vae_grading.graphs.bounds.check_size`, for all lines of a process together). The values are arrays
of numbers, numbers, texts, lists and dicts; `vae_grading.messages` checks what they mean.
"""

import base64
import json

import numpy as np

from vae_grading.graphs.bounds import check_size

__all__ = ["to_json", "from_json", "lines_of_json"]

#: The dtypes of arrays, by their names in JSON: NumPy would accept many other names.
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefd"}

_MAX_LINES = 10000  # of a process: far more than an honest one writes


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
        return json.loads(line, object_hook=decode)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"Got a line that is not numbers: {error}") from None


def lines_of_json(output):
    """Return the values of the lines that a process has written, up to the first invalid line.

    Parameters
    ----------
    output : bytes
        All that the process has written. If it is too large, no line is read.

    Returns
    -------
    list
    """
    text = output.decode("utf-8", errors="replace")
    values = []
    try:
        check_size(text)
        for line in text.split("\n", _MAX_LINES)[:_MAX_LINES]:
            if line:
                values.append(from_json(line))
    except ValueError:
        pass
    return values
