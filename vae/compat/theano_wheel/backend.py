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
    path = os.pathsep.join([str(HERE / "restored"), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
         "--require-hashes", "--requirement", str(HERE / "theano.txt"),
         "--wheel-dir", wheel_directory],
        check=True, env={**os.environ, "PYTHONPATH": path})
    return next(Path(wheel_directory).glob("*.whl")).name


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("Theano's archive is on PyPI: https://pypi.org/project/Theano/")
