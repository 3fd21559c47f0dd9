"""Leaves out of git's eyes what editors write into a notebook that is opened and saved unchanged."""

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# JupyterLab, VS Code and others take these two from the kernel, with the version of its Python.
# The filter gives them back as `build` writes them; `.gitattributes` says for which files.
_CLEAN = r"""sed
 -e '/^  "kernelspec": {$/,/^  }/ s/^   "display_name": .*/   "display_name": "Python 3 (ipykernel)",/'
 -e '/^  "language_info": {$/,/^  }/ {'
   -e '/^   "name": / s/,$//'
   -e '/^   "name": / ! {'
     -e '/^   / d'
   -e '}'
 -e '}'""".replace("\n", "")


def use_filter(project=PROJECT):
    """Tell git, for this clone only, how it reads notebooks; where there is no clone, do nothing.

    Parameters
    ----------
    project : Path, optional
        The clone's folder.
    """
    if (project / ".git").exists() and shutil.which("git"):
        subprocess.run(["git", "config", "filter.notebook.clean", _CLEAN], cwd=project,
                       stderr=subprocess.DEVNULL, check=False)
