"""Grading students' notebooks, whose code is not to be trusted.

    python -m vae.grading FOLDER

``grader``
    one notebook to its grade, by the checks of `vae.checks`;
``notebook``
    what of a notebook the exercises need, and running it;
``graphs``
    Theano's graphs as data;
``transport``
    numbers between processes;
``sandbox``
    limits and isolation of a process;
``worker``, ``inside``
    the process that forks for each piece of students' code, from without and
    within;
``reports``
    a class's grades as tables and pages.

A student's code builds its graphs in one forked process; another, in which it
has never run, evaluates them on numbers drawn for that run; the grader's own
process looks at the results.  The processes hold no solutions, but those that
take the place of exercises already failed.
"""
