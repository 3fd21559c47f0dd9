"""What students have handed in: notebooks, in folders and in archives.

A notebook is a regular file whose name ends in .ipynb, in letters of any case.
Students decide what lies in the folders, so nothing there is followed or
waited for: links, to files or folders, lead to what is not theirs (one to a
folder is followed where it is all that is given); pipes and devices have no
end.  A hard link is as good as a copy, and is read.  Nor is an archive
believed: neither its sizes nor its names.
"""

import errno
import os
import stat
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vae.language import _

__all__ = ["Submission", "collect", "read_file"]

_LARGEST_FILE = 50 * 2**20  # bytes
_LARGEST_ARCHIVE = 4 * 2**30  # bytes, of all notebooks in it
_LONGEST = 249, 3000  # bytes of a name, so that a report may be called after it, and of a path
_DEEPEST = 50  # folders, one in another
#: What systems add to folders and archives, not students.
_OF_SYSTEMS = {".ipynb_checkpoints", "__MACOSX", ".git"}


@dataclass(frozen=True)
class Submission:
    """A notebook, or why it can't be read."""

    content: bytes | None
    problem: str = ""  #: in Russian, where there is no content


def read_file(path, folder=None):
    """Read a regular file, of bounded size, that is no link.

    Parameters
    ----------
    path : path
    folder : int, optional
        Descriptor of the folder that the path begins in.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If it can't be read, or is anything else.
    """
    # An attempt to open a pipe, or a device, does not wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "a link, not a file", str(path)) from None
        raise
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return _read_bounded(file)


def _read_bounded(file):
    content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise OSError(errno.EFBIG, _("больше {size} МБ").format(size=_LARGEST_FILE // 2 ** 20))
    return content


def collect(paths, except_in=None):
    """Find the notebooks that have been handed in.

    Parameters
    ----------
    paths : list of path
        Notebooks, folders with notebooks at any depth, and zip archives of such
        folders.
    except_in : path, optional
        A folder to leave out: where reports are written.

    Returns
    -------
    submissions : dict
        `Submission` by name: the path without its ending, from the folder or
        archive, or from the folder that all the paths lie in.
    skipped : dict
        What is not graded, by path: why, in English.

    Raises
    ------
    ValueError
        If one of the paths is neither of these.
    """
    found = _Found()
    paths = [Path(os.path.abspath(path)) for path in paths]
    together = Path(os.path.commonpath([path.parent for path in paths])) if paths else None
    for path in dict.fromkeys(paths):
        if not set(paths).isdisjoint(path.parents):
            continue  # found in its folder
        inner = "" if len(paths) == 1 else path.relative_to(together).as_posix()
        if path.is_symlink() and (len(paths) > 1 or not path.is_dir()):
            found.skip(inner or path.name, "a link")  # as likely a student's, of folder/*
        elif path.is_dir():
            _search_folder(path, inner, Path(except_in).resolve() if except_in else None, found)
        elif path.suffix.lower() == ".zip" and path.is_file():
            _search_archive(path, inner and os.path.splitext(inner)[0], found)
        elif _is_notebook(path.name) and path.is_file():
            found.try_to_read(inner or path.name, lambda: read_file(path))
        else:
            raise ValueError(f"got {path}, expected a notebook (*.ipynb), a folder or a *.zip")
    return found.submissions, found.skipped


def _is_notebook(name):
    return name.lower().endswith(".ipynb")


class _Found:
    """Submissions by names that differ, and what has been skipped."""

    def __init__(self):
        self.submissions, self.skipped, self._taken = {}, {}, set()

    def skip(self, path, why):
        self.skipped[path] = why

    def try_to_read(self, path, read):
        name = self._name(path)
        if (len(os.fsencode(name)) > _LONGEST[1]
                or any(len(os.fsencode(part)) > _LONGEST[0] for part in name.split("/"))):
            self.skip(path, "too long a name")
            return
        try:
            self.submissions[name] = Submission(read())
        except Exception as error:  # an archive's damage has many names
            reason = getattr(error, "strerror", None) or error
            self.submissions[name] = Submission(None, _("Файл не открывается: {reason}.").format(
                                                          reason=reason))

    def _name(self, path):
        """The path without its ending, where no other notebook is called so."""
        without = path[:-len(".ipynb")]
        names = [without, path, *(f"{without} ({number})" for number in range(2, 1000))]
        # Some disks take names for equal that differ in case only.
        name = next((name for name in names if self._key(name) not in self._taken), names[-1])
        self._taken.add(self._key(name))
        return name

    @staticmethod
    def _key(name):
        return unicodedata.normalize("NFC", name).casefold()


def _search_folder(top, prefix, except_in, found):
    top = os.path.realpath(top)

    def not_read(error):
        found.skip(str(error.filename), error.strerror)

    for folder, folders, files, descriptor in os.fwalk(top, onerror=not_read):
        inner = PurePosixPath(prefix, Path(folder).relative_to(top).as_posix())
        for name in sorted(folders):
            path = inner / name
            if name in _OF_SYSTEMS or except_in == Path(folder, name):
                folders.remove(name)
            elif name.startswith("."):
                folders.remove(name)
                found.skip(f"{path}/", "hidden")
            elif stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                folders.remove(name)
                found.skip(str(path), "a link")
            elif len(inner.parts) >= _DEEPEST:
                folders.remove(name)
                found.skip(f"{path}/", "too deep")
        folders.sort()
        for name in sorted(files):
            path = str(inner / name)
            why = _why_skipped(name, os.stat(name, dir_fd=descriptor, follow_symlinks=False))
            if why is None:
                found.try_to_read(path, lambda: read_file(name, descriptor))
            else:
                found.skip(path, why)


def _why_skipped(name, status):
    if stat.S_ISLNK(status.st_mode):
        return "a link"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if name.startswith("."):
        return "hidden"
    return None if _is_notebook(name) else "not a notebook"


def _search_archive(path, prefix, found):
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # an archive's damage has many names
        raise ValueError(f"got {path}, expected a zip archive: {error}") from None
    left = _LARGEST_ARCHIVE
    with archive:
        entries = sorted((_name_in_archive(entry), number, entry)
                         for number, entry in enumerate(archive.infolist()))
        for name, size, entry in entries:
            parts = PurePosixPath(name).parts
            if entry.is_dir() or name.endswith("/") or _OF_SYSTEMS.intersection(parts):
                continue
            inner = str(PurePosixPath(prefix, name.lstrip("/")))
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if name.startswith("/") or ".." in parts:
                found.skip(name, "a path that leads out of the archive")
            elif kind not in (0, stat.S_IFREG):
                found.skip(inner, "a link" if kind == stat.S_IFLNK else "not a regular file")
            elif any(part.startswith(".") for part in parts):
                found.skip(inner, "hidden")
            elif not _is_notebook(name):
                found.skip(inner, "not a notebook")
            elif left <= 0:
                found.skip(inner, f"more than {_LARGEST_ARCHIVE // 2**30} GiB of notebooks")
            else:
                found.try_to_read(inner, lambda: _read_entry(archive, entry))
                left -= min(entry.file_size, _LARGEST_FILE)


def _read_entry(archive, entry):
    if entry.flag_bits & 1:
        raise OSError(errno.EACCES, _("в архиве он зашифрован"))
    with archive.open(entry) as file:
        return _read_bounded(file)


def _name_in_archive(entry):
    """An entry's name, where the archive does not say in which letters it is written."""
    name = entry.orig_filename
    if not entry.flag_bits & 0x800:
        raw = name.encode("cp437")
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            name = raw.decode("cp866")  # what Windows writes in Russian
    return name.partition("\0")[0].replace("\\", "/")
