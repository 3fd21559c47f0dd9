"""The files that code which is not trusted may read: the system, Python and its packages.

The code may read neither the project nor a copy of it that is installed among the packages.
"""

import json
import os
import re
import site
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["OWN_PACKAGES", "VisibleFiles", "folders_of_python", "folders_with_solutions"]

OWN_PACKAGES = ("vae", "vae_grading", "theano_compat")

#: Folders that programs need in a prefix, such as /usr or a virtual environment. Other folders in
#: it, such as ``src``, often contain sources.
_OF_A_PREFIX = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "share", "etc", "ssl",
                "include", "pyvenv.cfg")
_SYSTEM = [*(f"{prefix}/{name}" for prefix in ("/usr", "/usr/local") for name in _OF_A_PREFIX),
           "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache",
           # /dev/zero is left out, because mapping it makes memory that belongs to no process.
           "/dev/null", "/dev/urandom", "/dev/random"]
_PROJECT = Path(__file__).parents[2]


def folders_of_python():
    """Return the folders of Python and of its packages.

    Returns
    -------
    list of str
    """
    prefixes = dict.fromkeys([sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix])
    return [*(os.path.join(prefix, name) for prefix in prefixes for name in _OF_A_PREFIX),
            *site.getsitepackages(), site.getusersitepackages()]


def folders_with_solutions():
    """Return the project's folder, and the folders of all installed copies of its packages.

    Returns
    -------
    list of str
        Folders that exist, as resolved paths.
    """
    prefixes = map(Path, {sys.prefix, sys.base_prefix, "/usr", "/usr/local"})
    sites = {_PROJECT, *map(Path, [*site.getsitepackages(), site.getusersitepackages()]),
             *(folder for prefix in prefixes for folder in prefix.glob("lib*/python*/*-packages"))}
    projects = {folder for folder in [_PROJECT, *_edited_projects(sites)]
                if (folder / "pyproject.toml").is_file()}
    folders = projects | {folder / package for folder in sites for package in OWN_PACKAGES}
    return sorted({os.path.realpath(folder) for folder in folders if folder.is_dir()} - {"/"})


def _edited_projects(sites):
    """Yield the folders of projects that ``pip install -e`` has installed with our name."""
    for folder in sites:
        for file in folder.glob("vae_seminar-*.dist-info/direct_url.json"):
            try:
                address = urlparse(json.loads(file.read_text(encoding="utf-8"))["url"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if address.scheme == "file":
                yield Path(unquote(address.path))
        for file in folder.glob("*.pth"):  # files of older versions of setuptools
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError):
                continue
            for line in lines:
                if re.match(r"/", line) and os.path.isdir(os.path.join(line, "vae_grading")):
                    yield Path(line)


@dataclass(frozen=True)
class VisibleFiles:
    """The files that may be read, including those of the system.

    Parameters
    ----------
    readable : tuple of str
        Further files, and folders with their whole content. They need not exist.
    hidden : tuple of str
        Files and folders that may not be read although a readable folder contains them. A hidden
        folder may contain readable folders, such as a virtual environment in the project's folder.
    """

    readable: tuple = ()
    hidden: tuple = ()

    def look(self):
        """Examine the disk now, so that processes which are forked later need not do it."""
        self.links, self.in_order, self.without_hidden

    @cached_property
    def links(self):
        """Readable paths that lead through symbolic links; a dict to their targets."""
        paths = map(os.path.abspath, [*_SYSTEM, *self.readable])
        return {path: os.path.realpath(path) for path in paths
                if os.path.realpath(path) != path and os.path.exists(path)}

    @cached_property
    def in_order(self):
        """Pairs of a path and whether it may be read. A path comes after the folders around it."""
        paths = {os.path.realpath(path): True for path in [*_SYSTEM, *self.readable]}
        paths.update((os.path.realpath(path), False) for path in self.hidden)
        return sorted((item for item in paths.items() if os.path.exists(item[0])),
                      key=lambda item: len(item[0]))

    @cached_property
    def without_hidden(self):
        """The readable files without hidden ones, and the folders that contain hidden files.

        Returns
        -------
        readable, around : list of str
            `readable` are files, and folders with their whole content. In the folders `around`,
            only names may be listed.
        """
        readable, around = [], []
        hidden = {path for path, is_readable in self.in_order if not is_readable}

        def add(path):
            if path in hidden:
                return
            if not any(hidden_path.startswith(path + "/") for hidden_path in hidden):
                readable.append(path)
                return
            around.append(path)
            try:
                names = os.listdir(path)
            except OSError:
                return
            for name in names:
                add(os.path.join(path, name))

        for path, is_readable in self.in_order:
            if is_readable:
                add(path)
        return readable, around
