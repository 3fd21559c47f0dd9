"""The seminar's notebook for hosts: Colab, Kaggle, JupyterHub, Binder, DataSphere.

On such a host, the kernel runs before the seminar is installed, in an environment that the host
maintains. So the first cell of the notebook installs the package from the lecturer's copy of this
project, without changing the versions of installed packages.
"""

import re
from typing import NamedTuple, Optional

import nbformat

from vae.language import N_, SOURCE, translate

#: The version of NumPy is pinned, because pip would replace NumPy 1, which other packages may need.
#: This project builds Theano, because Theano's own setup.py does not run on Python 3.12.
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

#: Characters that are allowed in an address. The cell quotes it both for Python and for a shell.
_CHARACTERS = r"[A-Za-z0-9_.~/@:%+,=?&-]"
_GITHUB = re.compile(r"(?:git\+)?https://github\.com/(?P<repository>[\w.-]+/[\w.-]+?)(?:\.git)?"
                     r"(?:(?:/tree/|@)(?P<branch>[\w./-]+?))?/?", re.A)
_ARCHIVE = re.compile(rf"(?:https|file)://{_CHARACTERS}+\.(?:zip|tar\.gz)")
_GIT = re.compile(rf"git\+(?:https|file)://{_CHARACTERS}+")


class Copy(NamedTuple):
    """A copy of this project that pip can install from."""

    address: str  #: the argument for pip
    repository: Optional[str] = None  #: OWNER/NAME on GitHub; None for other addresses
    branch: Optional[str] = None

    @classmethod
    def at(cls, address):
        """Return the copy at an address. The address has a form that a browser or pip accepts.

        Parameters
        ----------
        address : str
            A repository on GitHub, with ``/tree/BRANCH`` unless the branch is ``main``; an archive,
            ``https://....zip`` or ``.tar.gz``; or ``git+https://...``. For archives and after
            ``git+``, ``file`` is also allowed instead of ``https``.

        Returns
        -------
        Copy

        Raises
        ------
        ValueError
            If the address has none of these forms.
        """
        on_github = _GITHUB.fullmatch(address)
        if on_github:
            repository, branch = on_github["repository"], on_github["branch"] or "main"
            # An archive can be installed on a host without git.
            return cls(f"https://github.com/{repository}/archive/{branch}.zip", repository, branch)
        if _ARCHIVE.fullmatch(address) or _GIT.fullmatch(address):
            return cls(address)
        raise ValueError(
            f"Got the address {address!r}, expected https://github.com/OWNER/NAME, the same with "
            "/tree/BRANCH, https://....zip, https://....tar.gz or git+https://...")

    def badge(self, path, language=SOURCE):
        """Return a Markdown badge that opens a notebook in Colab, or None outside GitHub."""
        return self.repository and _BADGE.format(
            repository=self.repository, branch=self.branch, path=path,
            open=translate(_OPEN, language))

    def install(self, language=SOURCE):
        """Return the code of the notebook's first cell."""
        return _INSTALL.format(address=self.address,
                               comment=translate(_COMMENT, language))


def hosted(notebook, copy, path, language=SOURCE):
    """Return a copy of a notebook, with a first cell that installs the seminar.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The student's or the solved notebook. It is not changed.
    copy : Copy
        The copy of this project from which the seminar is installed.
    path : str
        Path of the notebook in that copy, for the badge.
    language : str
        Language of the badge and of the comment.

    Returns
    -------
    nbformat.NotebookNode
    """
    badge = copy.badge(path, language)
    cells = [nbformat.v4.new_markdown_cell(badge, id="badge")] if badge else []
    cells.append(nbformat.v4.new_code_cell(copy.install(language), id="install"))
    return nbformat.v4.new_notebook(cells=cells + notebook.cells, metadata=notebook.metadata)
