"""A git filter that ignores the metadata that editors write into a notebook when they save it."""

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).parents[1]

# Editors such as JupyterLab and VS Code write the entries "kernelspec" and "language_info", with
# the version of the kernel's Python. The filter shows them to git in the form in which
# `tools.build` writes them. It keeps the values that `nbconvert --to script` needs.
# `.gitattributes` lists the files to which it applies.
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
