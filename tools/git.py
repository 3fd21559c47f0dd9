"""A git filter that ignores what editors write into a notebook when it is opened and saved."""

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# JupyterLab, VS Code and others write these two entries, with the version of the kernel's Python.
# The filter shows them to git as `tools.build` writes them; `.gitattributes` lists the files.
# What `nbconvert --to script` needs is kept.
_CLEAN = r"""sed
 -e '/^  "kernelspec": {$/,/^  }/ s/^   "display_name": .*/   "display_name": "Python 3 (ipykernel)",/'
 -e '/^  "language_info": {$/,/^  }/ {'
   -e '/^   "nbconvert_exporter": / s/,$//'
   -e '/^   "file_extension": / b'
   -e '/^   "name": / b'
   -e '/^   "nbconvert_exporter": / b'
   -e '/^   / d'
 -e '}'""".replace("\n", "")


def use_filter(project=PROJECT):
    """Install the filter in this clone; do nothing outside a clone.

    Parameters
    ----------
    project : Path, optional
        Folder of the clone.
    """
    if (project / ".git").exists() and shutil.which("git"):
        subprocess.run(["git", "config", "filter.notebook.clean", _CLEAN], cwd=project,
                       stderr=subprocess.DEVNULL, check=False)
