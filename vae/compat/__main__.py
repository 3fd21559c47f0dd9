"""Runs an old script or module as it is: the line ``import vae`` need not be added to it."""

import argparse
import runpy
import sys
from pathlib import Path

from vae.compat.hooks import PATCHES
from vae.compat.settings import floats_of_old_programs


class ListPatches(argparse.Action):
    """Like --help, in place of a program."""

    def __call__(self, parser, *_):
        for name, patch in PATCHES.items():
            left_out = "  (left out)" if patch.left_out else ""
            print(f"{name:30} {patch.file:10} {', '.join(patch.modules)}{left_out}\n"
                  f"    {patch.function.__doc__.splitlines()[0]}")
        parser.exit()


parser = argparse.ArgumentParser(
    prog="python -m vae.compat",
    usage="python -m vae.compat [-h] [--patches] (script.py | -m module) [arguments ...]",
    description="Run a program for Theano up to 1.0 and Lasagne 0.1 on today's Python. "
                "Settings of Theano's: THEANO_FLAGS, as always.")
parser.add_argument("--patches", action=ListPatches, nargs=0,
                    help="list what is changed, where and in which modules, and exit")
parser.add_argument("-m", action="store_true", dest="is_module",
                    help="run a module by its name, as `python -m` does")
parser.add_argument("program", help="the script, or the module's name")
parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
options = parser.parse_args()

floats_of_old_programs()
sys.argv = [options.program, *options.arguments]
if options.is_module:
    runpy.run_module(options.program, run_name="__main__", alter_sys=True)
elif not Path(options.program).is_file():
    parser.error(f"there is no file {options.program}")
else:
    sys.path[0] = str(Path(options.program).resolve().parent)
    runpy.run_path(options.program, run_name="__main__")
