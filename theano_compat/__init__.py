"""Patches with which the unmodified Theano 1.0.5 and Lasagne 0.1 run on today's Python and NumPy.

Import this package before Theano. Both libraries are installed from PyPI, and none of their files
is changed. Each patch changes one or several of their modules in memory, during their import.

``hooks``
    the table of patches, and the code that applies them;
``originals``
    a record of the names that a program has replaced in Theano;
``needed``
    patches for import, compilation and right results on today's Python, NumPy and SciPy;
``speed``
    patches that make programs faster;
``without_compiler``
    patches that compute whole arrays in NumPy if there is no C++ compiler;
``old_programs``
    the environment that programs of Theano's time need to run unchanged.

``README.md`` in this folder lists the patches and the reasons for them.
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
from theano_compat.originals import as_imported
from theano_compat.speed import (  # noqa: F401
    compile_together, elementwise_loops, fast_import, fuse_updates, keep_graphs, matrix_products,
    merge_gradients, scan_loop)
from theano_compat.without_compiler import (  # noqa: F401
    conv_and_pool, expressions, other_operations)

hooks.activate()
as_imported.activate()


def load_ipython_extension(shell):
    """Prepare the kernel of an old notebook. ``%load_ext theano_compat`` calls this function.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    """
    from theano_compat.old_programs import notebooks

    notebooks.load(shell)


def pytest_addoption():
    """Prepare pytest for the tests of an old project, which are run with ``-p theano_compat``.

    Among pytest's hooks, this hook runs before any conftest.py, which may have its own settings.
    """
    environment.as_old_program()
