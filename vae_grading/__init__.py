"""Grading students' notebooks, whose code is not trusted.

    python -m vae_grading FOLDER

``__main__``
    a class: the command above;
``submissions``
    finding students and their notebooks in folders and archives;
``grader``
    one notebook to its grade, by the checks of `vae.checks`;
``cluster``
    grading on the workers of a Dask scheduler;
``gradescope``
    the archive that grades in Gradescope's container;
``pytest_plugin``
    ``pytest --notebook=PATH``;
``notebook/``
    cells, running them, and fakes of what is slow;
``sandbox/``
    processes with limits, and what runs in them;
``graphs/``
    Theano graphs as data;
``reports/``
    pages, tables and files to resume from;
``messages``, ``json_lines``
    what the processes say to each other, and how it is written.

One forked process runs a student's notebook and sends the graphs that its code builds. A second
one, in which this code has never run, evaluates the graphs on random inputs. The grader's own
process judges the results. Neither process in the sandbox has the solution of an exercise that has
no verdict yet.
"""

from pathlib import Path

import theano_compat  # before anything imports Theano

if Path(theano_compat.__file__).parents[1] != Path(__file__).parents[1]:
    raise ImportError(f"rename {theano_compat.__file__}, which hides the package theano_compat")
