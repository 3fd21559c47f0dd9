"""Grading students' notebooks, whose code is not to be trusted.

    python -m vae_grading FOLDER

``grader``
    one notebook to its grade, by the checks of `vae.checks`;
``notebook``
    a notebook's cells, the orders that they may be run in, and running them;
``stand_ins``
    what stands for training, pictures and downloads there;
``tasks``
    what the processes do: build graphs, evaluate graphs;
``graphs``
    Theano's graphs as data;
``transport``
    numbers between processes;
``sandbox``, ``system_calls``
    limits and isolation of a process, and what the kernel refuses it;
``worker``, ``fork_server``
    the process that forks for each task, from without and within;
``submissions``
    what is handed in: folders, archives;
``reports``
    a class's grades as tables and pages;
``gradescope``
    the archive that grades in Gradescope's container.

A student's code builds its graphs in one forked process; another, in which it
has never run, evaluates them on numbers drawn for that run; the grader's own
process looks at the results.  The processes hold no solutions, but those that
stand for exercises already decided.
"""

import theano_compat  # noqa: F401  before anything imports Theano
