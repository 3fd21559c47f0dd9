"""Theano graphs as data: JSON in which an operation is a name from a table.

A graph comes from a process that has run a student's code, so nothing in its text may become code.
`dump_graph` writes the operations of the graph in their order, with their parameters. `load_graph`
checks each parameter, and builds the operations with the constructors in the table. A text contains
numbers, arrays, names of operations, and words from lists in this package. It also contains the
names of shared variables, which appear in hints; Theano never writes these names into code.

If an operation is not in the table, the graph is refused with a hint that names the operation.
Equal graphs give equal texts.

``operations``
    the table of operations and their parameters;
``parameters``
    converters from JSON to an operation's parameters, and names of types;
``writer``, ``reader``
    conversion of a graph to text, and of text to a graph;
``bounds``
    limits on the size of texts and graphs.

The size of the text is checked before it is parsed. Parsing the text takes less than 500 MB, and
building the graph less than another 500 MB. The arrays take at most `bounds.MAX_ARRAYS` bytes.
"""

from vae_grading.graphs.reader import load_graph
from vae_grading.graphs.writer import dump_graph

__all__ = ["dump_graph", "load_graph"]
