"""A build backend (PEP 517) that makes a wheel of Theano's own archive from PyPI.

pip finds, downloads and checks the archive, as it is configured to, and builds
it as always, but for two names that its setup.py wants: see ``restored/``.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    # What pip tells this backend is not for Theano's.
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
