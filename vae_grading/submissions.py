"""Finding and reading what students have handed in: notebooks, in folders and in archives.

A notebook is a regular file whose name ends in .ipynb, in letters of any case.
Students decide what lies in the folders. So links are not followed, because
they may lead to other people's files; only a link to a folder that is the one
argument is followed. Pipes and devices are not read, because they have no
end. A hard link is read like a copy. The sizes and names that an
archive states are not trusted.
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
_LONGEST_NAME, _LONGEST_PATH = 249, 3000  # bytes: reports are called after them
_DEEPEST = 50  # levels of nested folders
#: Folders that systems add, not students.
_SYSTEM_FOLDERS = {".ipynb_checkpoints", "__MACOSX", ".git"}


@dataclass(frozen=True)
class Submission:
    """A notebook, or why it can't be read."""

    content: bytes | None
    problem: str = ""  #: for the student, where there is no content


def read_file(path, folder=None):
    """Read a regular file of bounded size that is not a link.

    Parameters
    ----------
    path : path
    folder : int, optional
        Descriptor of the folder that a relative path starts from.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If it can't be read, is too large, a link, or not a regular file.
    """
    # O_NONBLOCK: opening a pipe or a device does not wait.
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
        raise OSError(errno.EFBIG, _("больше {size} МБ", size=_LARGEST_FILE // 2 ** 20))
    return content


def collect(paths, except_in=None):
    """Find and read the notebooks that have been handed in.

    Parameters
    ----------
    paths : list of path
        Notebooks, folders with notebooks at any depth, and zip archives of such
        folders.
    except_in : path, optional
        A folder to leave out: that of the reports.

    Returns
    -------
    submissions : dict
        `Submission` by name: the path without its ending, relative to the folder
        or archive, or to the folder that contains all the paths.
    skipped : dict
        By path, why a file is not graded, in English.

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
            found.skip(inner or path.name, "a link")  # folder/* may contain a student's link
        elif path.is_dir():
            _search_folder(path, inner, Path(except_in).resolve() if except_in else None, found)
        elif path.suffix.lower() == ".zip" and path.is_file():
            _search_archive(path, inner and os.path.splitext(inner)[0], found)
        elif _is_notebook(path.name) and path.is_file():
            found.add(inner or path.name, _submission_from_file(path))
        else:
            raise ValueError(f"got {path}, expected a notebook (*.ipynb), a folder or a *.zip")
    return found.submissions, found.skipped


def _is_notebook(name):
    return name.lower().endswith(".ipynb")


def _submission_from_file(path, folder=None):
    try:
        return Submission(read_file(path, folder))
    except OSError as error:
        return _unreadable(error)


def _submission_from_archive(archive, entry):
    try:
        if entry.flag_bits & 1:
            raise OSError(errno.EACCES, _("в архиве он зашифрован"))
        with archive.open(entry) as file:
            return Submission(_read_bounded(file))
    except Exception as error:  # a damaged archive raises many classes of errors
        return _unreadable(error)


def _unreadable(error):
    reason = getattr(error, "strerror", None) or error
    return Submission(None, _("Файл не открывается: {reason}.", reason=reason))


class _Found:
    """Submissions by unique names, and what has been skipped."""

    def __init__(self):
        self.submissions, self.skipped, self._taken = {}, {}, set()

    def skip(self, path, why):
        self.skipped[path] = why

    def add(self, path, submission):
        name = self._name(path)
        if (len(os.fsencode(name)) > _LONGEST_PATH
                or any(len(os.fsencode(part)) > _LONGEST_NAME for part in name.split("/"))):
            self.skip(path, "too long a name")
        else:
            self.submissions[name] = submission

    def _name(self, path):
        """Return the path without its ending, or with a number if that name is taken."""
        stem = path[:-len(".ipynb")]
        names = [stem, path, *(f"{stem} ({number})" for number in range(2, 1000))]
        # On some disks, names that differ in case only are the same file.
        name = next((name for name in names if self._key(name) not in self._taken), names[-1])
        self._taken.add(self._key(name))
        return name

    @staticmethod
    def _key(name):
        return unicodedata.normalize("NFC", name).casefold()


def _search_folder(top, prefix, except_in, found):
    top = os.path.realpath(top)

    def skip_folder(error):
        found.skip(str(error.filename), error.strerror)

    for folder, folders, files, descriptor in os.fwalk(top, onerror=skip_folder):
        inner = PurePosixPath(prefix, Path(folder).relative_to(top).as_posix())
        for name in sorted(folders):
            path = inner / name
            if name in _SYSTEM_FOLDERS or except_in == Path(folder, name):
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
                found.add(path, _submission_from_file(name, descriptor))
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
    except Exception as error:  # a damaged archive raises many classes of errors
        raise ValueError(f"got {path}, expected a zip archive: {error}") from None
    bytes_left = _LARGEST_ARCHIVE
    with archive:
        entries = sorted((_name_in_archive(entry), number, entry)
                         for number, entry in enumerate(archive.infolist()))
        for name, size, entry in entries:
            parts = PurePosixPath(name).parts
            if entry.is_dir() or name.endswith("/") or _SYSTEM_FOLDERS.intersection(parts):
                continue
            inner = str(PurePosixPath(prefix, name.lstrip("/")))
            file_type = stat.S_IFMT(entry.external_attr >> 16)
            if name.startswith("/") or ".." in parts:
                found.skip(name, "a path that leads out of the archive")
            elif file_type not in (0, stat.S_IFREG):
                found.skip(inner, "a link" if file_type == stat.S_IFLNK else "not a regular file")
            elif any(part.startswith(".") for part in parts):
                found.skip(inner, "hidden")
            elif not _is_notebook(name):
                found.skip(inner, "not a notebook")
            elif bytes_left <= 0:
                found.skip(inner, f"more than {_LARGEST_ARCHIVE // 2**30} GiB of notebooks")
            else:
                found.add(inner, _submission_from_archive(archive, entry))
                bytes_left -= min(entry.file_size, _LARGEST_FILE)


def _name_in_archive(entry):
    """Return an entry's name, and guess its encoding where the archive does not state it."""
    name = entry.orig_filename
    if not entry.flag_bits & 0x800:
        raw = name.encode("cp437")
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            name = raw.decode("cp866")  # a Russian Windows writes this
    return name.partition("\0")[0].replace("\\", "/")
