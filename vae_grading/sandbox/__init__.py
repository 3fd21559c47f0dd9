"""Processes for code that is not trusted, and the tasks that run in them.

``worker``, ``fork_server``
    the server that forks a process for each task, and the grader's side of it;
``process``, ``forks``
    a forked process with limits, isolated if Linux allows it;
``visible_files``, ``landlock``, ``system_calls``
    the files that the process may read, and the access and the calls that the kernel forbids it;
``usage``, ``control_group``
    the memory, time and files that the process uses;
``graph_builder``
    runs a student's notebook and builds the graphs of its exercises;
``graph_evaluator``
    evaluates these graphs in a process in which no student's code has run.
"""
