"""Adapt a process that an old program has started.

`children.py` adds this folder to PYTHONPATH. Python imports a module with this name at its start.
"""

import os
import sys

# Another Python may inherit PYTHONPATH, too. It runs only this condition and the imports above.
if os.environ.get("THEANO_COMPAT_CHILDREN") == os.path.realpath(sys.prefix):
    import importlib.machinery
    import importlib.util

    folder = os.path.dirname(os.path.abspath(__file__))
    hidden = importlib.machinery.PathFinder.find_spec(
        "sitecustomize", [path for path in sys.path if os.path.abspath(path) != folder])
    if hidden:
        sys.modules["sitecustomize"] = importlib.util.module_from_spec(hidden)
        hidden.loader.exec_module(sys.modules["sitecustomize"])

    if "resource_tracker" not in " ".join(sys.orig_argv):  # it runs no code of the program
        # This imports the copy of theano_compat to which this file belongs.
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(folder))))
        from theano_compat.old_programs import children

        del sys.path[0]
        children.adapt_this_process()
