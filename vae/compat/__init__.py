"""Makes the unmodified Theano 1.0.5 and Lasagne 0.1 run on today's Python and NumPy.

Both packages come from PyPI as their authors left them; nothing in them is
edited on disk.  Importing this package arranges that they are adapted while
they are being imported:

``hooks``
    how a module of theirs is changed at the moment it is imported;
``names``
    names that NumPy and Python have dropped since;
``old_programs``, ``python2``, ``notebooks``
    what programs of that time, run as such, find in Python, NumPy and SciPy;
    those in Python 2; notebooks;
``settings``
    defaults for ``theano.config``: anything the user says in ``THEANO_FLAGS``
    or ``.theanorc`` still wins;
``building``
    generated C++ against NumPy 2, and the folder of compiled modules;
``originals``
    what a program has put in the place of something of Theano's;
``compiling``
    less of it, and many modules at once;
``loops``
    elementwise operations and sums in code that compilers vectorise;
``optimising``
    a graph, once: what becomes of it is kept;
``updates``
    a parameter's update and those of its moments, at once;
``products``
    matrix products, none twice, and without a factor's zeros;
``gradients``
    what is written twice has one gradient;
``starting``
    what Theano does in Python before a program's own code;
``expressions``, ``formulas``, ``denormals``, ``windows``, ``operations``
    what computes where there is no compiler: whole arrays, by NumPy.

What each is for, and in which order the patches of a module are applied, says ``hooks``.

It must come before ``import theano``; ``import vae`` does it first thing.
"""

import sys

import numpy

if any(name.partition(".")[0] == "theano" for name in sys.modules):
    raise ImportError(
        "theano was imported before vae, and can not be adapted to this Python any more. "
        "Put `import vae` before `import theano` and restart Python.\n"
        "Модуль theano импортирован раньше vae, и приспособить его к этой версии Python уже "
        "нельзя. Поставьте `import vae` перед `import theano` и перезапустите ядро "
        "(Kernel → Restart)."
    )
if int(numpy.__version__.partition(".")[0]) < 2:
    raise ImportError(
        f"NumPy {numpy.__version__} is in memory, and vae needs NumPy 2.0 or newer. "
        "If that has been installed since, restart Python.\n"
        f"В памяти NumPy {numpy.__version__}, а нужен NumPy 2.0 или новее. Если его только что "
        "установили, перезапустите ядро (Kernel → Restart)."
    )

from vae.compat import (  # noqa: E402,F401
    building, compiling, expressions, gradients, hooks, loops, names, old_programs,
    operations, optimising, products, settings, starting, updates, windows)

hooks.activate()


def load_ipython_extension(shell):
    """``%load_ext vae.compat``, as the first cell of an old notebook: see `notebooks`."""
    from vae.compat import notebooks

    notebooks.load(shell)


def pytest_addoption():
    """Also a plugin of pytest, for old projects: ``-p vae.compat``.

    This is the hook that comes before any conftest.py, which may have settings of its own.
    """
    old_programs.as_old_program()
