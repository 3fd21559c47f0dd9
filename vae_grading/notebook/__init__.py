"""A student's notebook.

``cells``
    its cells and statements, and the orders that they may be run in;
``execution``
    running them;
``fakes``
    what replaces training, pictures and downloads there;
``package_stubs``
    the exercises that the package `vae` solves, too.
"""
