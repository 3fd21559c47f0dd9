"""Finding notebooks in folders and archives, which may contain anything."""

import os
import socket
import stat
import struct
import sys
import zipfile

import pytest

from vae_grading import submissions
from vae_grading.submissions import Submission, collect, read_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="grading is not for Windows")

SECRET = b"the reference"


def contents(found):
    return {name: submission.content for name, submission in found.items()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.ipynb").write_bytes(SECRET)
    folder = tmp_path / "class"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "lab.ipynb").write_bytes(b"lab")
    return folder


def test_a_folder(folder, tmp_path):
    (folder / "UPPER.IPYNB").write_bytes(b"upper")
    (folder / "a" / "lab.IpyNb").write_bytes(b"another")
    (folder / "x.ipynb").mkdir()
    (folder / "x.ipynb" / "y.ipynb").write_bytes(b"y")
    (folder / "notes.txt").touch()
    (folder / ".hidden.ipynb").touch()
    (folder / ".folder").mkdir()
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / "grades").mkdir()
    (folder / "grades" / "old.ipynb").touch()
    found, skipped = collect([folder], except_in=folder / "grades")
    assert contents(found) == {"UPPER": b"upper", "a/lab": b"another", "a/lab.ipynb": b"lab",
                               "x.ipynb/y": b"y"}
    assert skipped == {"notes.txt": "not a notebook", ".hidden.ipynb": "hidden",
                       ".folder/": "hidden"}


@pytest.mark.parametrize("make, why", [
    (lambda path: path.symlink_to("../secret.ipynb"), "a link"),
    (lambda path: path.symlink_to("/etc/passwd"), "a link"),
    (lambda path: path.symlink_to("/dev/zero"), "a link"),
    (lambda path: path.symlink_to("nowhere"), "a link"),
    (lambda path: path.symlink_to(path), "a link"),
    (lambda path: path.symlink_to(".."), "a link"),
    (lambda path: path.symlink_to("/proc/self/fd/0"), "a link"),
    (os.mkfifo, "not a regular file"),
    (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "not a regular file")])
def test_what_is_not_followed(make, why, folder, monkeypatch):
    monkeypatch.chdir(folder)  # a socket's path is short
    path = folder.relative_to(folder) / "odd.ipynb"
    make(path)
    found, skipped = collect([folder])
    assert contents(found) == {"a/lab": b"lab"} and skipped == {"odd.ipynb": why}
    if why == "a link" or not stat.S_ISSOCK(os.stat(path).st_mode):
        with pytest.raises(OSError):
            read_file(path)


def test_links_to_folders(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path)
    (folder / "a" / "up").symlink_to("..")
    found, skipped = collect([folder])
    assert contents(found) == {"a/lab": b"lab"}
    assert skipped == {"link": "a link", "a/up": "a link"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="devices need root")
def test_devices(folder):
    try:
        os.mknod(folder / "zero.ipynb", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except OSError:
        pytest.skip("no devices may be made here")
    assert collect([folder])[1] == {"zero.ipynb": "not a regular file"}
    with pytest.raises(OSError):
        read_file(folder / "zero.ipynb")


def test_a_file_that_is_too_large(folder):
    with open(folder / "huge.ipynb", "wb") as file:
        file.truncate(2**40)
    found, _ = collect([folder])
    assert found["huge"] == Submission(None, "Файл не открывается: больше 50 МБ.")


def test_folders_that_are_too_deep(folder):
    os.makedirs(folder / "/".join(["d"] * 200))
    found, skipped = collect([folder])
    assert list(found) == ["a/lab"] and list(skipped.values()) == ["too deep"]


@pytest.mark.parametrize("name", ["new\nline", "\u202egpj", "\x1b[31m", "=1+1", "-rf", "a b ",
                                  os.fsdecode(b"\xc8\xe2")])
def test_odd_names(name, folder):
    try:
        (folder / f"{name}.ipynb").write_bytes(b"odd")
    except OSError:
        pytest.skip("this file system has no such names")
    assert contents(collect([folder])[0]) == {"a/lab": b"lab", name: b"odd"}


def test_several_arguments(folder, tmp_path):
    one = tmp_path / "one.ipynb"
    one.write_bytes(b"one")
    assert contents(collect([one])[0]) == {"one": b"one"}
    assert contents(collect([one, folder, folder / "a" / "lab.ipynb"])[0]) == {
        "one": b"one", "class/a/lab": b"lab"}
    link = tmp_path / "my class"
    link.symlink_to(folder)
    assert contents(collect([link])[0]) == {"a/lab": b"lab"}
    (tmp_path / "link.ipynb").symlink_to(one)
    found, skipped = collect([one, link, tmp_path / "link.ipynb"])
    assert contents(found) == {"one": b"one"}
    assert skipped == {"my class": "a link", "link.ipynb": "a link"}
    assert collect([tmp_path / "link.ipynb"]) == ({}, {"link.ipynb": "a link"})


@pytest.mark.parametrize("name", ["nowhere", "text.txt", "bad.zip", "nowhere.ipynb"])
def test_wrong_arguments(name, tmp_path):
    if not name.startswith("nowhere"):
        (tmp_path / name).write_bytes(b"text")
    with pytest.raises(ValueError, match="expected a "):
        collect([tmp_path / name])


# --- archives ---

def archive(tmp_path, entries, **options):
    path = tmp_path / "course.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for entry, content in entries:
            file.writestr(entry, content)
    return path


def entry(name, mode):
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    return made


def test_moodles_archive(tmp_path):
    student = "Иванов Пётр_12345_assignsubmission_file_"
    found, skipped = collect([archive(tmp_path, [
        (f"{student}/lab.ipynb", b"1"), (f"{student}/deep/er/Lab.IPYNB", b"2"),
        (f"{student}/report.pdf", b""), ("__MACOSX/._lab.ipynb", b""), ("empty/", b""),
        ("Петрова Анна_12346_assignsubmission_onlinetext_/onlinetext.html", b"")])])
    assert contents(found) == {f"{student}/lab": b"1", f"{student}/deep/er/Lab": b"2"}
    assert set(skipped.values()) == {"not a notebook"} and len(skipped) == 2


@pytest.mark.parametrize("letters", ["cp866", "utf-8"])
def test_names_in_an_encoding_that_is_not_stated(letters, tmp_path):
    raw = "Иванов/лаба.ipynb".encode(letters)
    placeholder = "x" * len(raw)
    path = archive(tmp_path, [(placeholder, b"lab")])
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), raw))
    assert contents(collect([path])[0]) == {"Иванов/лаба": b"lab"}


@pytest.mark.parametrize("made, why", [
    (entry("link.ipynb", stat.S_IFLNK | 0o777), "a link"),
    (entry("pipe.ipynb", stat.S_IFIFO | 0o666), "not a regular file"),
    (entry("device.ipynb", stat.S_IFCHR | 0o666), "not a regular file"),
    (entry("../out.ipynb", 0), "a path that leads out of the archive"),
    (entry("a/../../out.ipynb", 0), "a path that leads out of the archive"),
    (entry("..\\out.ipynb", 0), "a path that leads out of the archive"),
    (entry("/etc/out.ipynb", 0), "a path that leads out of the archive"),
    (entry("\\etc\\out.ipynb", 0), "a path that leads out of the archive"),
    (entry("a/.hidden.ipynb", 0), "hidden"), (entry("x" * 260 + ".ipynb", 0), "too long a name"),
    (entry("d/" * 2000 + "x.ipynb", 0), "too long a name"),
    (entry("inner.zip", 0), "not a notebook")])
def test_entries_that_are_skipped(made, why, tmp_path):
    found, skipped = collect([archive(tmp_path, [(made, b"../secret"), ("lab.ipynb", b"lab")])])
    assert contents(found) == {"lab": b"lab"} and [*skipped.values()] == [why]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_of_one_name(tmp_path):
    found, _ = collect([archive(tmp_path, [
        ("lab.ipynb", b"1"), ("lab.ipynb", b"2"), ("LAB.ipynb", b"3"), ("lab.IPYNB", b"4"),
        ("лаба\u0306.ipynb", b"5")])])
    assert sorted(contents(found).values()) == [b"1", b"2", b"3", b"4", b"5"]
    assert len({name.casefold() for name in found}) == 5


def test_bombs(tmp_path, monkeypatch):
    path = archive(tmp_path, [("bomb.ipynb", bytes(51 * 2**20)), ("lab.ipynb", b"lab")])
    found, _ = collect([path])
    assert found["bomb"].problem == "Файл не открывается: больше 50 МБ."
    assert found["lab"].content == b"lab"
    monkeypatch.setattr(submissions, "_LARGEST_ARCHIVE", 2**20)
    assert collect([path])[1] == {"lab.ipynb": "more than 0 GiB of notebooks"}


def test_entries_that_can_not_be_read(tmp_path):
    path = archive(tmp_path, [("lab.ipynb", b"lab" * 100), ("other.ipynb", b"other")])
    content = bytearray(path.read_bytes())
    for signature, flags in [(b"PK\x01\x02", 8), (b"PK\x03\x04", 6)]:  # encrypted
        place = content.index(signature) + flags
        content[place:place + 2] = struct.pack("<H", 1)
    path.write_bytes(content)
    found, _ = collect([path])
    assert found["lab"].problem == "Файл не открывается: в архиве он зашифрован."
    assert found["other"].content == b"other"


def test_an_archive_damaged_anywhere(tmp_path):
    content = archive(tmp_path, [("lab.ipynb", b"lab" * 20), ("b.ipynb", b"b")]).read_bytes()
    path = tmp_path / "damaged.zip"
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ 0xff]) + content[index + 1:])
        try:
            collect([path])
        except ValueError as error:
            assert "expected a zip archive" in str(error)
