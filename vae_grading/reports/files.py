"""The paths of reports, and functions that write them."""

import errno
import os
import re
import secrets
import tempfile
from pathlib import Path, PurePosixPath

__all__ = ["check_folder", "page_path", "results_path", "write_file"]

_REPORT = re.compile(r"\.(html|json)_*$", re.I)


def page_path(folder, name):
    """Return the path of a notebook's page.

    Parameters
    ----------
    folder : path
        Folder of all reports.
    name : str
        Name of the notebook in reports.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If the notebook's name leads out of the folder.
    """
    return Path(folder, "feedback", f"{_file_name(name)}.html")


def results_path(folder, name):
    """Return the path of a notebook's results.

    Parameters
    ----------
    folder : path
        Folder of all reports.
    name : str
        Name of the notebook in reports.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If the notebook's name leads out of the folder.
    """
    return Path(folder, "results", f"{_file_name(name)}.json")


def _file_name(name):
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"Got the name {name!r}, expected a path inside the class's folder")
    # A folder called x.html would collide with the page of a notebook x.
    *folders, last = name.split("/")
    return "/".join([*(_REPORT.sub(r"\g<0>_", part) for part in folders), last])


def check_folder(folder):
    """Make the folder of reports, and check that reports can be written to it.

    Parameters
    ----------
    folder : path

    Raises
    ------
    OSError
        If reports cannot be written.
    """
    for place in [Path(folder), Path(folder, "feedback"), Path(folder, "results")]:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    for name in ["grades.csv", "grades.xlsx", "index.html", "junit.xml", "moodle_feedback.zip"]:
        if Path(folder, name).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR),
                                    str(Path(folder, name)))


def write_file(path, content):
    """Write a file atomically. If the run is killed, the old file or the whole new file is left.

    Parameters
    ----------
    path : pathlib.Path
    content : bytes

    Raises
    ------
    OSError
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short even if the name is long
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
