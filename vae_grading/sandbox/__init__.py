"""Processes for code that is not trusted, and what they do.

``worker``, ``fork_server``
    the process that forks for each task, seen from the grader and from inside;
``process``, ``forks``
    a forked process with limits, isolated where Linux allows it;
``visible_files``, ``landlock``, ``system_calls``
    what it may read, and what the kernel forbids it;
``usage``, ``control_group``
    what it uses;
``graph_builder``
    runs a student's notebook and builds the graphs of its exercises;
``graph_evaluator``
    evaluates these graphs, where no student's code has run.
"""
