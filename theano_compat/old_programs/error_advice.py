"""Advice below the error of an old program: how to change a line, or how to start the program."""

import os
import re
import sys
from pathlib import Path

__all__ = ["advice", "note_advice"]

#: Maps patterns of error messages to the code that replaces the old code.
INSTEAD = {
    r"'numpy.ndarray' object has no attribute 'tostring'": "a.tobytes()",
    # The second alternative is the message of NumPy 2.0 to 2.2.
    r"'numpy.ndarray' object has no attribute 'itemset'|`itemset` was removed": "a[index] = value",
    r"'numpy.ndarray' object has no attribute 'ptp'|`ptp` was removed": "np.ptp(a)",
    r"'numpy.ndarray' object has no attribute 'newbyteorder'|`newbyteorder` was removed":
        "a.view(a.dtype.newbyteorder(order))",
    r"only integers, slices .* and integer or boolean arrays are valid indices":
        "a[tuple(slices)] for a list of slices, a[int(i)] for a float",
    r"'array.array' object has no attribute '(to|from)string'": "a.tobytes(), a.frombytes(text)",
    r"numpy boolean (negative|subtract), the `-` operator": "~a, a ^ b",
    r"Python integer .* out of bounds for u?int": "np.array(n).astype(dtype)",
    r"Object arrays cannot be loaded when allow_pickle=False":
        "np.load(path, allow_pickle=True), if you trust the file",
}

_LASAGNE_MASTER = "https://github.com/Lasagne/Lasagne/archive/master.zip"

#: Messages with which Python 3 rejects code that is valid in Python 2.
_MESSAGES_OF_PYTHON_3 = "|".join([
    # 7 / 2 is 3 in Python 2.
    r"'(float|numpy\.float\d+)' object cannot be interpreted as an integer",
    r"expected a sequence of integers or a single integer, got '(np.float|\\d+\\.)",
    r"(slice|list|tuple|string) ind(ices|exes) must be integers",
    # Pickles, and files that are opened as text.
    r"'ascii' codec can't decode byte", r"'utf-8' codec can't decode byte 0x80 in position 0",
    r"a bytes-like object is required, not 'str'", r"write\(\) argument must be str, not bytes",
    # Lists that are now views or iterators.
    r"'(map|filter|zip|dict_keys|dict_values|dict_items)' object (is not subscriptable|"
    r"does not support item|has no attribute)",
    r"object of type '(map|filter|zip)' has no len", r"can only concatenate list \(not \"range\"\)",
    r"'range' object (does not support item|has no attribute)",
    # Comparisons of any two objects.
    r"'[<>]=?' not supported between instances of",
    # Methods and names.
    r"'str' object has no attribute 'decode'", r"'dict' object has no attribute '(has_key|iter\w+)'",
    r"name '(xrange|raw_input|unicode|basestring|unichr|reduce|execfile|long|cmp|file)' is not",
    r"module 'string' has no attribute", r"module 'sys' has no attribute '(maxint|setdefaultenc)",
])
_AS_PYTHON_2 = ("If this program is Python 2, run it with `python -m theano_compat --python2`; in "
                "Jupyter, `%load_ext theano_compat.old_programs.python2` in the first cell.")

_NAME_MISSING_IN_LASAGNE = re.compile(
    r"cannot import name '(\w+)' from '(lasagne[\w.]*)'|"
    r"module '(lasagne[\w.]*)' has no attribute '(\w+)'|No module named '(lasagne\.[\w.]+)'")


def advice(error):
    """Return a sentence about the code that raised an error.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str or None
        None if there is no advice on this error.
    """
    message = str(error)
    for pattern, instead in INSTEAD.items():
        if re.search(pattern, message):
            return f"Today one writes: {instead}"
    if _NAME_MISSING_IN_LASAGNE.search(message):
        return ("Lasagne 0.1 does not have this name. Where a program needs Lasagne's development "
                f"version: pip install {_LASAGNE_MASTER}")
    is_python2 = "THEANO_COMPAT_PYTHON2" in os.environ
    if not is_python2 and (re.search(_MESSAGES_OF_PYTHON_3, message)
                           or _is_import_of_neighbour(error)):
        return _AS_PYTHON_2
    return None


def _is_import_of_neighbour(error):
    """Return whether a module of a package has failed to import a module next to it.

    Only Python 2 allows such an import without a dot.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return False
    files = []
    traceback = error.__traceback__
    while traceback:
        if traceback.tb_frame.f_globals.get("__package__"):
            files.append(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    name = error.name.partition(".")[0]
    return any(Path(file).with_name(f"{name}.py").exists()
               or Path(file).with_name(name).joinpath("__init__.py").exists() for file in files)


def note_advice(error):
    """Add a note with advice to an error, if there is advice on it.

    Before Python 3.11, errors have no notes. There, the advice is printed below the traceback.

    Parameters
    ----------
    error : Exception
    """
    sentence = advice(error)
    if not sentence:
        return
    if hasattr(error, "add_note"):
        error.add_note(sentence)
        return
    show = sys.excepthook

    def show_with_advice(*exception):
        show(*exception)
        print(sentence, file=sys.stderr)

    sys.excepthook = show_with_advice
