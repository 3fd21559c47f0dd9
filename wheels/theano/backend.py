"""A build backend (PEP 517) that makes a wheel of Theano's unmodified archive from PyPI.

pip finds, downloads, checks and builds the archive, as it is configured to. ``restored/`` adds two
names that Theano's setup.py needs.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    # pip's variables for this backend would mislead that of Theano.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("_PYPROJECT_HOOKS_", "PEP517_"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE / "restored"), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
         "--require-hashes", "--requirement", str(HERE / "theano.txt"),
         "--wheel-dir", wheel_directory],
        check=True, env=environment)
    return next(Path(wheel_directory).glob("*.whl")).name


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("Theano's archive is on PyPI: see https://github.com/Theano/Theano")
