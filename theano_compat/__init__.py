"""Makes the unmodified Theano 1.0.5 and Lasagne 0.1 run on today's Python and NumPy.

Import it before Theano.  Both packages come from PyPI as their authors left them; nothing in them
is edited on disk.  A patch changes a module of theirs in memory, while it is being imported:

``hooks``
    the table of patches, and how they are applied;
``originals``
    what a program has put in the place of something of Theano's;
``needed``
    what import, compiling and right results need on today's Python, NumPy and SciPy;
``speed``
    what makes programs faster;
``without_compiler``
    what computes where there is no C++ compiler: NumPy, on whole arrays;
``old_programs``
    what programs of Theano's time find when they are run as such.

``README.md`` here lists the patches, and says what made each of them necessary.
"""

import sys

import numpy

if any(name.partition(".")[0] == "theano" for name in sys.modules):
    raise ImportError(
        "theano was imported before theano_compat, and can not be adapted to this Python any more. "
        "Put `import theano_compat` (or `import vae`, which does so) before `import theano` and "
        "restart Python.\n"
        "Модуль theano импортирован раньше theano_compat, и приспособить его к этой версии Python "
        "уже нельзя. Поставьте `import theano_compat` (или `import vae`) перед `import theano` и "
        "перезапустите ядро (Kernel → Restart)."
    )
if int(numpy.__version__.partition(".")[0]) < 2:
    raise ImportError(
        f"NumPy {numpy.__version__} is in memory, and theano_compat needs NumPy 2.0 or newer. "
        "If that has been installed since, restart Python.\n"
        f"В памяти NumPy {numpy.__version__}, а нужен NumPy 2.0 или новее. Если его только что "
        "установили, перезапустите ядро (Kernel → Restart)."
    )

from theano_compat import hooks
from theano_compat.needed import compiled_code, removed_names, settings  # noqa: F401
from theano_compat.old_programs import environment
from theano_compat.speed import (  # noqa: F401
    compile_together, elementwise_loops, fast_import, fuse_updates, keep_graphs, matrix_products,
    merge_gradients)
from theano_compat.without_compiler import (  # noqa: F401
    conv_and_pool, expressions, other_operations)

hooks.activate()


def load_ipython_extension(shell):
    """``%load_ext theano_compat``, as the first cell of an old notebook."""
    from theano_compat.old_programs import notebooks

    notebooks.load(shell)


def pytest_addoption():
    """Also a plugin of pytest, for old projects: ``-p theano_compat``.

    This is the hook that comes before any conftest.py, which may have settings of its own.
    """
    environment.as_old_program()
