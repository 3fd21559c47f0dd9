"""A build backend (PEP 517) that makes a wheel of Theano's unmodified archive from PyPI.

pip finds, downloads, checks and builds the archive, as it is configured to. ``restored/`` adds two
names that Theano's setup.py needs. The wheel's modules are unmodified. It lacks the two programs
that the archive would install: ``theano-cache`` must import theano_compat before Theano, so
that package installs it, and ``theano-nose`` runs nose, which is gone.
"""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

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
    wheel, = Path(wheel_directory).glob("*.whl")
    _leave_out_programs(wheel)
    return wheel.name


def _leave_out_programs(wheel):
    """Delete the list of programs from a wheel, and its line in the wheel's table of contents."""
    with ZipFile(wheel) as archive:
        files = {item: archive.read(item) for item in archive.infolist()}
    with ZipFile(wheel, "w", ZIP_DEFLATED) as archive:
        for item, content in files.items():
            if item.filename.endswith(".dist-info/RECORD"):
                content = b"".join(line for line in content.splitlines(keepends=True)
                                   if b".dist-info/entry_points.txt," not in line)
            if not item.filename.endswith(".dist-info/entry_points.txt"):
                archive.writestr(item, content)


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("Theano's archive is on PyPI: see https://github.com/Theano/Theano")
