"""The seminar in a hosted notebook: Colab, Kaggle, JupyterHub, Binder, DataSphere.

There the kernel runs before the seminar is installed, in an environment that
others keep.  So the notebook's first cell adds the package to it, from the
lecturer's own copy of this project, and pip leaves the versions that are there.
"""

import re
from typing import NamedTuple, Optional

import nbformat

from vae.language import N_, SOURCE, translate

#: pip would bring NumPy 2 where NumPy 1 is, which other packages there may need: so its version is
#: given. Theano's own setup.py does not run on Python 3.12, so this project's folder builds it.
_INSTALL = """\
# {comment}
from importlib.metadata import version
ADDRESS = '{address}'
%pip install -q numpy
%pip install -q "{{ADDRESS}}" "{{ADDRESS}}#subdirectory=wheels/theano" \
"numpy=={{version('numpy')}}"\
"""

_COMMENT = N_("Добавляет семинар к тому, что здесь уже установлено (около минуты). "
              "Перезапускать ядро не нужно")

_OPEN = N_("Открыть в Colab")
_BADGE = ("[![{open}](https://colab.research.google.com/assets/colab-badge.svg)]"
          "(https://colab.research.google.com/github/{repository}/blob/{branch}/{path})")

#: These may stand in the cell, between quotes of Python's and then of a shell's.
_CHARACTERS = r"[A-Za-z0-9_.~/@:%+,=?&-]"
_GITHUB = re.compile(r"(?:git\+)?https://github\.com/(?P<repository>[\w.-]+/[\w.-]+?)(?:\.git)?"
                     r"(?:(?:/tree/|@)(?P<branch>[\w./-]+?))?/?", re.A)
_ARCHIVE = re.compile(rf"(?:https|file)://{_CHARACTERS}+\.(?:zip|tar\.gz)")
_GIT = re.compile(rf"git\+(?:https|file)://{_CHARACTERS}+")


class Copy(NamedTuple):
    """A copy of this project that pip can install from."""

    address: str  #: what pip is told
    repository: Optional[str] = None  #: OWNER/NAME, on GitHub
    branch: Optional[str] = None

    @classmethod
    def at(cls, address):
        """Return the copy at an address as one would give it to a browser, or to pip.

        Parameters
        ----------
        address : str
            A repository on GitHub, of the branch ``main`` if ``/tree/BRANCH`` does not follow; an
            archive, ``https://....zip`` or ``.tar.gz``; or ``git+https://...``. In place of
            ``https`` there may be ``file``.

        Raises
        ------
        ValueError
            If it is none of them.
        """
        on_github = _GITHUB.fullmatch(address)
        if on_github:
            repository, branch = on_github["repository"], on_github["branch"] or "main"
            # An archive needs no git, which not every host has.
            return cls(f"https://github.com/{repository}/archive/{branch}.zip", repository, branch)
        if _ARCHIVE.fullmatch(address) or _GIT.fullmatch(address):
            return cls(address)
        raise ValueError(
            f"Got the address {address!r}, expected https://github.com/OWNER/NAME, the same with "
            "/tree/BRANCH, https://....zip, https://....tar.gz or git+https://...")

    def badge(self, path, language=SOURCE):
        """Return Markdown that opens a notebook of the copy's in Colab; None if it is not there."""
        return self.repository and _BADGE.format(
            repository=self.repository, branch=self.branch, path=path,
            open=translate(_OPEN, language))

    def install(self, language=SOURCE):
        """Return the code of the notebook's first cell."""
        return _INSTALL.format(address=self.address,
                               comment=translate(_COMMENT, language))


def hosted(notebook, copy, path, language=SOURCE):
    """Return a notebook of the seminar that installs the seminar first.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The student's or the solved notebook; it is left as it is.
    copy : Copy
        What to install from.
    path : str
        Where the notebook will lie in the copy, for the badge.
    language : str
    """
    badge = copy.badge(path, language)
    cells = [nbformat.v4.new_markdown_cell(badge, id="badge")] if badge else []
    cells.append(nbformat.v4.new_code_cell(copy.install(language), id="install"))
    return nbformat.v4.new_notebook(cells=cells + notebook.cells, metadata=notebook.metadata)
