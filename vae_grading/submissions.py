"""Finding and reading the notebooks that students have handed in, in folders and archives.

A notebook is a regular file with a name that ends in .ipynb, in letters of any
case. Students choose the content of the folders. So links are not followed,
because they may lead to other people's files. The only exception is a link to a
folder that is the only argument. Pipes and devices are not read, because they
have no end. A hard link is read like a copy. The sizes and names that an
archive states are not trusted.

A folder at the top level belongs to one student, and so does a notebook at the
top level. Folders and files from Moodle have the student in their names, at any
level.
"""

import errno
import os
import re
import stat
import unicodedata
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vae.language import _

__all__ = ["Student", "Submission", "collect", "notebooks_of", "read_file"]

_LARGEST_FILE = 50 * 2**20  # bytes
_LARGEST_ARCHIVE = 4 * 2**30  # bytes of all notebooks in an archive
_LONGEST_NAME, _LONGEST_PATH = 249, 3000  # bytes; reports are named after notebooks
_MOST_NAMES = 10  # names of files in a note
_DEEPEST = 50  # levels of nested folders
#: Folders that programs add, not students.
_SYSTEM_FOLDERS = {".ipynb_checkpoints", "__MACOSX", ".git"}
#: Moodle's name of a student's folder: NAME_ID_assignsubmission_file, with "_" at the end in
#: earlier versions. If Moodle makes no folders, the name of the file follows. NAME contains no "_".
_MOODLES = re.compile(
    r"(?P<folder>(?P<name>[^_]+)_(?P<id>[0-9]{1,15})_assignsubmission_[a-z0-9]+)(_.*)?", re.S)


@dataclass(frozen=True)
class Submission:
    """A notebook, or the reason why it can't be read."""

    content: bytes | None
    problem: str = ""  #: the reason for the student, if `content` is None


@dataclass
class Student:
    """A student, and the files that this student has handed in."""

    folder: str  #: the path relative to the class; a notebook at the top level loses its ".ipynb"
    name: str  #: the name in Moodle; the same as `folder` without Moodle
    id: str = ""  #: Moodle's number of the participant; "" without Moodle
    notebooks: dict[str, Submission] = field(default_factory=dict)  #: by their names in reports
    other_files: list[str] = field(default_factory=list)  #: paths in the folder

    @property
    def problem(self):
        """The reason why there is nothing to grade, for the student; "" if there is a notebook."""
        if self.notebooks:
            return ""
        if not self.other_files:
            return _("Не сдано ни одного файла.")
        return (_("Сдайте ноутбук: файл с именем на .ipynb.") + " "
                + _("Сданы другие файлы или ссылки: {names}.",
                    names=", ".join(self.other_files[:_MOST_NAMES])))


def notebooks_of(students):
    """Return the notebooks of all students.

    Parameters
    ----------
    students : list of Student

    Returns
    -------
    dict of Submission
        Maps the names of notebooks in reports to submissions.
    """
    return {name: submission for student in students
            for name, submission in student.notebooks.items()}


def read_file(path, folder=None):
    """Read a file that must be regular, not too large, and not a link.

    Parameters
    ----------
    path : path
    folder : int, optional
        File descriptor of the folder from which a relative path starts.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If the file can't be read, is too large, is a link, or is not a regular file.
    """
    # With O_NONBLOCK, opening a pipe or a device does not wait.
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
    """Find the files that students have handed in, and read their notebooks.

    Parameters
    ----------
    paths : list of path
        Notebooks, folders of a class, and zip archives of such folders.
    except_in : path, optional
        A folder to leave out: the folder of the reports.

    Returns
    -------
    students : list of Student
        Includes students who have handed in no notebook. The name of a notebook
        is its path without ".ipynb". If there is one path, it is relative to
        this folder or archive, otherwise to the folder that contains all paths.
    skipped : dict of str
        Maps the path of a file to the reason why it is not graded, in English.

    Raises
    ------
    ValueError
        If a path is neither a notebook nor a folder nor an archive, or if a
        folder or an archive can't be read.
    """
    paths = [Path(os.path.abspath(path)) for path in paths]
    together = Path(os.path.commonpath([path.parent for path in paths])) if paths else None
    class_, skipped = _Class(), {}
    for path in dict.fromkeys(paths):
        if not set(paths).isdisjoint(path.parents):
            continue  # it will be found in its folder
        inner = PurePosixPath("" if len(paths) == 1 else path.relative_to(together).as_posix())
        is_archive = path.suffix.lower() == ".zip" and path.is_file()
        if path.is_symlink() and (len(paths) > 1 or not path.is_dir()):
            # folder/* may contain a student's link
            skipped[str(inner) if inner.parts else path.name] = "a link"
            continue
        if path.is_dir():
            found = _Found(inner)
            _search_folder(path, Path(except_in).resolve() if except_in else None, found)
        elif is_archive:
            found = _Found(inner.with_suffix("") if inner.parts else inner)
            _search_archive(path, found)
        elif _is_notebook(path.name) and path.is_file():
            found = _Found(inner.parent if inner.parts else inner)
            found.add(path.name, _submission_from_file(path))
        else:
            raise ValueError(f"got {path}, expected a notebook (*.ipynb), a folder or a *.zip")
        class_.add(found, is_archive)
        skipped.update(found.skipped)
    students = []
    for student in class_.students():
        if student.notebooks or _is_short_enough(PurePosixPath(student.folder)):
            students.append(student)
        else:
            skipped[student.folder] = "too long a name"
    return students, skipped


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
    """The content of one argument, including the files that have been skipped.

    Parameters
    ----------
    prefix : PurePosixPath
        Prefix of all paths in reports. It is empty if there is only one argument.
    """

    def __init__(self, prefix):
        self.prefix = prefix
        self.folders = []  #: paths, relative to the argument
        self.notebooks = []  #: pairs of a path and its `Submission`
        self.other_files = []  #: paths of other files
        self.skipped = {}  #: maps paths to reasons

    def skip(self, path, why, is_in_class=True):
        self.skipped[f"{self.prefix}/{path}" if self.prefix.parts else str(path)] = why
        path = PurePosixPath(path)
        if is_in_class and not path.parts[0].startswith("."):
            self.other_files.append(path)

    def add(self, path, submission):
        if _is_short_enough((self.prefix / path).with_suffix("")):
            self.notebooks.append((PurePosixPath(path), submission))
        else:
            self.skip(path, "too long a name")

    def class_folder(self, is_archive):
        """Return the path of the class's folder in the argument, as a tuple of parts.

        Usually the argument itself is the class, and the result is (). But if its only content is a
        folder with several notebooks or folders of notebooks, this inner folder is the class. If
        the argument is not an archive, notebooks directly in the inner folder rule this out.
        """
        tops = {path.parts[0] for path in [*self.folders, *(path for path, _ in self.notebooks)]}
        tops.update(path.parts[0] for path in self.other_files if len(path.parts) > 1)
        in_folders = [path for path, _ in self.notebooks if len(path.parts) > 1]
        has_several = len({path.parts[1] for path in in_folders}) > 1
        has_own = any(len(path.parts) == 2 for path in in_folders)
        return tuple(tops) if len(tops) == 1 and has_several and (is_archive or not has_own) else ()


def _is_short_enough(name):
    """Return whether a report can be named after this path."""
    return (len(os.fsencode(str(name))) <= _LONGEST_PATH
            and all(len(os.fsencode(part)) <= _LONGEST_NAME for part in name.parts))


class _Class:
    """The students of a class."""

    def __init__(self):
        self._students, self._taken = {}, set()

    def add(self, found, is_archive):
        """Add the content of one argument.

        Parameters
        ----------
        found : _Found
        is_archive : bool
            Whether the argument is an archive.
        """
        top = (*found.prefix.parts, *found.class_folder(is_archive))
        for path, submission in found.notebooks:
            path = found.prefix / path
            name = self._unique(str(path)[:-len(".ipynb")], str(path))
            student, _ = self._student_of(path, top)
            if student is None:  # the notebook is at the top level
                student = self._known(path, name, name)
            student.notebooks[name] = submission
        for path in found.folders:
            self._student_of(found.prefix / path, top, is_folder=True)
        for path in found.other_files:
            student, inner = self._student_of(found.prefix / path, top)
            if inner:
                student.other_files.append(inner)

    def students(self):
        """Return all students. A folder that only contains folders of students is not a student."""
        above = {parent for student in self._students.values()
                 for parent in PurePosixPath(student.folder).parents}
        students = [student for student in self._students.values()
                    if student.notebooks or PurePosixPath(student.folder) not in above]
        for student in students:
            if not student.notebooks:
                student.folder = self._unique(student.folder)
        return sorted(students, key=lambda student: student.folder)

    def _student_of(self, path, top, is_folder=False):
        """Return the student in whose folder a path is, and the path inside this folder.

        Return (None, None) if the path is not in a student's folder.
        """
        for depth, part in enumerate(path.parts):
            match = _MOODLES.fullmatch(part)
            if match:
                parents, inner = path.parts[:depth], path.parts[depth + 1:]
                if inner or is_folder:
                    folder, inner = part, "/".join(inner)
                else:  # Moodle can put the folder's name before the file's
                    folder = match["folder"]
                    inner = part[len(folder) + 1:]
                name = unicodedata.normalize("NFC", match["name"])
                student = self._known((*parents, match["name"], match["id"]),
                                      "/".join([*parents, folder]), name, match["id"])
                return student, inner
        depth = len(top) + 1
        if len(path.parts) > depth or is_folder and len(path.parts) == depth:
            folder = "/".join(path.parts[:depth])
            return self._known(folder, folder, folder), "/".join(path.parts[depth:])
        return None, None

    def _known(self, key, *description):
        return self._students.setdefault(key, Student(*description))

    def _unique(self, *names):
        """Return the first name that is not taken yet, if necessary with a number."""
        names = [*names, *(f"{names[0]} ({number})" for number in range(2, 1000))]
        # On some disks, names that differ only in case are the same file.
        name = next((name for name in names if self._key(name) not in self._taken), names[-1])
        self._taken.add(self._key(name))
        return name

    @staticmethod
    def _key(name):
        return unicodedata.normalize("NFC", name).casefold()


def _search_folder(top, except_in, found):
    top = os.path.realpath(top)

    def skip_folder(error):
        if error.filename == top:
            raise ValueError(f"got {top}, expected a folder that can be read") from None
        path = PurePosixPath(os.path.relpath(error.filename, top))
        found.skip(path, error.strerror)
        found.folders.append(path)

    for folder, folders, files, descriptor in os.fwalk(top, onerror=skip_folder):
        inner = PurePosixPath(Path(folder).relative_to(top).as_posix())
        if inner.parts:
            found.folders.append(inner)
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


def _search_archive(path, found):
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged archive raises many classes of errors
        raise ValueError(f"got {path}, expected a zip archive: {error}") from None
    bytes_left = _LARGEST_ARCHIVE
    with archive:
        names = _names_in_archive(archive.infolist())
        entries = sorted((name, number, entry)
                         for number, (name, entry) in enumerate(zip(names, archive.infolist())))
        for name, _number, entry in entries:
            path = PurePosixPath(name)
            if _SYSTEM_FOLDERS.intersection(path.parts) or not path.parts:
                continue
            file_type = stat.S_IFMT(entry.external_attr >> 16)
            is_hidden = any(part.startswith(".") for part in path.parts)
            if path.is_absolute() or ".." in path.parts:
                found.skip(name, "a path that leads out of the archive", is_in_class=False)
            elif entry.is_dir() or name.endswith("/"):
                if not is_hidden:
                    found.folders.append(path)
            elif file_type not in (0, stat.S_IFREG):
                found.skip(path, "a link" if file_type == stat.S_IFLNK else "not a regular file")
            elif is_hidden:
                found.skip(path, "hidden")
            elif not _is_notebook(name):
                found.skip(path, "not a notebook")
            elif bytes_left <= 0:
                found.skip(path, f"more than {_LARGEST_ARCHIVE // 2**30} GiB of notebooks")
            else:
                found.add(path, _submission_from_archive(archive, entry))
                bytes_left -= min(entry.file_size, _LARGEST_FILE)


# --- names in archives ---

#: Russian letters, the rarest first.
_LETTERS = "ъ ф э щ ц ю ш ж х й ч ё б з г ь ы я у п д м к л в р с т н и а е о".split()


def _names_in_archive(entries):
    """Return the names of the entries. If the archive does not state their encoding, guess it.

    Windows encodes Russian names as cp866, and some programs for Windows as cp1251. The same
    program has packed all entries, so the guess is based on all names together that are not UTF-8.
    """
    raw = [None if entry.flag_bits & 0x800 else entry.orig_filename.encode("cp437")
           for entry in entries]
    unclear = b"".join(name for name in raw if name is not None and not _is_utf8(name))
    encoding = max(["cp866", "cp1251"], key=lambda encoding: _likelihood(unclear, encoding))
    names = [entry.orig_filename if name is None
             else name.decode("utf-8" if _is_utf8(name) else encoding, errors="replace")
             for name, entry in zip(raw, entries)]
    return [name.partition("\0")[0].replace("\\", "/") for name in names]


def _is_utf8(raw):
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _likelihood(raw, encoding):
    """Return a score for bytes that is high if they look like Russian names in an encoding.

    Frequent letters count most.
    """
    scores = {letter: rank for rank, letter in enumerate(_LETTERS, start=1)}
    text = raw.decode(encoding, errors="replace").lower()
    return sum(0 if character.isascii() else scores.get(character, -len(_LETTERS))
               for character in text)
