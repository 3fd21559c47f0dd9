"""Numbers on their way from processes that are not trusted.

They come as lines of JSON: reading them runs nothing, and how much they may take is bounded before
they are parsed (`vae_grading.graphs.bounds.check_size`, for all the lines of a process together).  What
`from_json` returns is arrays of numbers, numbers and texts; whether they are those that were asked
for is not known before the checks have looked, and whatever goes wrong there is a failed exercise.
"""

import base64
import json

import numpy as np

from vae_grading.graphs.bounds import check_size

__all__ = ["to_json", "from_json", "lines_of_json"]

#: The types of arrays, by what `to_json` calls them: NumPy reads more than that from a text.
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bhilqBHILQefd"}

_MAX_LINES = 10000  # of what a process says, far above what an honest one does


def to_json(numbers):
    """Return a dict of arrays, numbers and lists of text as one line of JSON."""
    def encode(value):
        value = np.asarray(value)
        return {"dtype": value.dtype.str, "shape": value.shape,
                "data": base64.b64encode(value.tobytes()).decode("ascii")}

    return json.dumps(numbers, default=encode)


def from_json(line):
    """Return what `to_json` was given, arrays of numbers and truth values only.

    Raises
    ------
    ValueError
        If the line is anything else, or too large.
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
    """Return what the lines that a process has said are, up to the first that is none.

    Parameters
    ----------
    output : bytes
        All of it; nothing is read of what is too large.
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
