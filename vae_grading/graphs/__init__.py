"""Theano graphs as data: JSON in which an operation is a name from one table.

A graph comes from a process that has run a student's code, so nothing in its text may become code.
`dump_graph` writes which operations the graph has, in what order, and their parameters.
`load_graph` checks each parameter and builds the operations with the constructors in the table. A
text holds numbers, arrays, names of operations, and words from lists in this package. It also holds
the names of shared variables, for hints; Theano never writes them into code.

An operation that is not in the table is refused with a hint that names it. Equal graphs give equal
texts.

``operations``
    the table of operations and their parameters;
``parameters``
    converters from JSON to an operation's parameters, and names of types;
``writer``, ``reader``
    graph to text, text to graph;
``bounds``
    the largest text and graph.

The text is bounded before it is parsed. Parsing it takes less than 500 MB, building the graph less
than 500 MB more, and its arrays at most `bounds.MAX_ARRAYS` bytes.
"""

from vae_grading.graphs.reader import load_graph
from vae_grading.graphs.writer import dump_graph

__all__ = ["dump_graph", "load_graph"]
