"""A student's notebook.

``cells``
    its cells and statements, and the orders that they may be run in;
``execution``
    running them;
``fakes``
    what replaces training, pictures and downloads;
``package_stubs``
    the exercises that the package `vae` also solves.
"""
