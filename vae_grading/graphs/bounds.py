"""Limits on the memory of the text of a graph, and of the graph that is built from it."""

__all__ = ["MAX_ARRAYS", "MAX_DEPTH", "MAX_PARTS", "MAX_TEXT", "MAX_VARIABLES", "check_size"]

MAX_TEXT = 64 * 2**20  # characters
MAX_PARTS = 2 * 10**6  # brackets, braces, commas and colons
MAX_ARRAYS = 2**28  # bytes of all arrays of a graph
MAX_VARIABLES = 100_000
MAX_DEPTH = 20  # levels of nested graphs, and of nested lists


def check_size(text):
    """Check that parsing a JSON text cannot take too much memory.

    Parameters
    ----------
    text : str or bytes or bytearray

    Raises
    ------
    ValueError
        If the text has more than `MAX_TEXT` characters, or more than `MAX_PARTS` parts.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"Got {len(text)} characters, expected at most {MAX_TEXT}")
    parts = sum(map(text.count, "[{,:" if isinstance(text, str) else b"[{,:"))
    if parts > MAX_PARTS:
        raise ValueError(f"Got {parts} parts, expected at most {MAX_PARTS}")
