"""A grader for students' notebooks, whose code is not trusted.

    python -m vae_grading FOLDER

``__main__``
    grades a class: the command above;
``submissions``
    finds students and their notebooks in folders and archives;
``grader``
    grades one notebook by the checks of `vae.checks`;
``cluster``
    grades on the workers of a Dask scheduler;
``gradescope``
    makes the archive for Gradescope, and grades in Gradescope's container;
``pytest_plugin``
    adds ``pytest --notebook=PATH``;
``notebook/``
    splits a notebook into cells, runs them, and replaces slow functions by fakes;
``sandbox/``
    runs code in processes with limits;
``graphs/``
    converts Theano graphs to data and back;
``reports/``
    writes pages, tables, and files from which a stopped run resumes;
``messages``, ``json_lines``
    define the messages between processes, and their format.

A forked process runs a student's notebook and sends the graphs that its code builds. A second
process, in which this code has never run, evaluates the graphs on random inputs. The grader's own
process judges the results. Neither process in the sandbox has the solution of an exercise that has
no verdict yet.
"""

from pathlib import Path

import theano_compat  # must come before everything that imports Theano

if Path(theano_compat.__file__).parents[1] != Path(__file__).parents[1]:
    raise ImportError(f"rename {theano_compat.__file__}, which hides the package theano_compat")
