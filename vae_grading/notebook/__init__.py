"""A student's notebook.

``cells``
    splits it into cells and statements, and finds the orders in which they may be run;
``execution``
    runs the cells;
``fakes``
    replaces training, pictures and downloads;
``file_format``
    reads the file;
``package_stubs``
    handles the exercises that the package `vae` also solves.
"""
