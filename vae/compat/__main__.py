"""Runs an old script or module as it is: the line ``import vae`` need not be added to it."""

import argparse
import runpy
import sys
from pathlib import Path

parser = argparse.ArgumentParser(
    prog="python -m vae.compat",
    usage="python -m vae.compat [-h] (script.py | -m module) [arguments ...]",
    description="Run a program for Theano up to 1.0 and Lasagne 0.1 on today's Python. "
                "Settings of Theano's: THEANO_FLAGS, as always.")
parser.add_argument("-m", action="store_true", dest="is_module",
                    help="run a module by its name, as `python -m` does")
parser.add_argument("program", help="the script, or the module's name")
parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the program's own arguments")
options = parser.parse_args()

sys.argv = [options.program, *options.arguments]
if options.is_module:
    runpy.run_module(options.program, run_name="__main__", alter_sys=True)
elif not Path(options.program).is_file():
    parser.error(f"there is no file {options.program}")
else:
    sys.path[0] = str(Path(options.program).resolve().parent)
    runpy.run_path(options.program, run_name="__main__")
