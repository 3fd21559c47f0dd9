"""How much memory the text of a graph may take, and the graph that is built from it."""

__all__ = ["MAX_ARRAYS", "MAX_DEPTH", "MAX_PARTS", "MAX_TEXT", "MAX_VARIABLES", "check_size"]

MAX_TEXT = 64 * 2**20  # characters
MAX_PARTS = 2 * 10**6  # brackets, braces, commas and colons
MAX_ARRAYS = 2**28  # bytes of all arrays of a graph
MAX_VARIABLES = 100_000
MAX_DEPTH = 20  # of graphs in graphs, and of lists in lists


def check_size(text):
    """Raise ValueError if parsing this JSON, as text or bytes, could take too much memory."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"Got {len(text)} characters, expected at most {MAX_TEXT}")
    parts = sum(map(text.count, "[{,:" if isinstance(text, str) else b"[{,:"))
    if parts > MAX_PARTS:
        raise ValueError(f"Got {parts} parts, expected at most {MAX_PARTS}")
