"""Processes for code that is not trusted, and what they do.

``worker``, ``fork_server``
    the process that forks for each task, seen from the grader and from inside;
``process``, ``system_calls``
    limits and isolation of a forked process;
``graph_builder``
    runs a student's notebook and builds the graphs of its exercises;
``graph_evaluator``
    evaluates these graphs, where no student's code has run.
"""
