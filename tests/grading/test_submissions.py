"""Finding notebooks in folders and archives, which may contain anything."""

import os
import socket
import stat
import struct
import sys
import zipfile

import pytest

from vae_grading import submissions
from vae_grading.submissions import Student, Submission, collect, read_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="grading is not for Windows")

SECRET = b"the reference"


def notebooks_of(students):
    return {name: submission for student in students
            for name, submission in student.notebooks.items()}


def contents(students):
    return {name: submission.content for name, submission in notebooks_of(students).items()}


def in_short(students):
    """Return what each student has handed in: the notebooks, or else the other files."""
    return {student.folder: [*student.notebooks] or student.other_files for student in students}


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
    assert notebooks_of(found)["huge"] == Submission(None, "Файл не открывается: больше 50 МБ.")


def test_folders_that_are_too_deep(folder):
    os.makedirs(folder / "/".join(["d"] * 200))
    found, skipped = collect([folder])
    assert list(contents(found)) == ["a/lab"] and list(skipped.values()) == ["too deep"]


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
    assert collect([tmp_path / "link.ipynb"]) == ([], {"link.ipynb": "a link"})


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


def archive_without_utf8_flag(tmp_path, names, encoding):
    """Write an archive as programs of old Windows do: it does not state the names' encoding."""
    raw = [name.encode(encoding) for name in names]
    placeholders = [f"{number:x<{len(name)}}" for number, name in enumerate(raw)]
    path = archive(tmp_path, [(placeholder, b"lab") for placeholder in placeholders])
    content = path.read_bytes()
    for placeholder, name in zip(placeholders, raw):
        content = content.replace(placeholder.encode(), name)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("encoding", ["cp866", "cp1251", "utf-8"])
@pytest.mark.parametrize("names", [
    ["Иванов/лаба.ipynb"], ["лаба.ipynb"], ["решение.ipynb"], ["ЩЁГОЛЬ/ЕЩЁ.ipynb"],
    ["Пётр Ильич_1_assignsubmission_file_/vae_seminar.ipynb", "Юсуф_2_assignsubmission_file_/эээ.ipynb"]])
def test_names_in_an_encoding_that_is_not_stated(names, encoding, tmp_path):
    found, _ = collect([archive_without_utf8_flag(tmp_path, names, encoding)])
    assert [*contents(found)] == [name.removesuffix(".ipynb") for name in names]


# --- students ---

MOODLES = "_assignsubmission_file"


@pytest.mark.parametrize("end", ["", "_"], ids=["Moodle 4.1", "earlier"])
def test_each_of_moodles_folders_is_a_student(end, tmp_path):
    end = MOODLES + end
    found, _ = collect([archive(tmp_path, [
        (f"Андреев Пётр_1{end}/lab.ipynb", b""), (f"Андреев Пётр_1{end}/deep/er/old.ipynb", b""),
        (f"Андреев Пётр_1{end}/report.pdf", b""), (f"Быков_2{end}/lab.ipynb.txt", b""),
        (f"Быков_3{end}/report.pdf", b""), (f"Власов_4{end}/work.zip", b""),
        ("Галкин_5_assignsubmission_onlinetext_/onlinetext.html", b""),
        ("Гусев_6_assignsubmission_onlinetext_/onlinetext.html", b""),
        (f"Гусев_6{end}/lab.ipynb", b""), (f"Демин_7{end}/", b""),
        (f"Зуев_8{end}/.lab.ipynb", b""), (entry(f"Ильин_9{end}/lab.ipynb", stat.S_IFLNK), b""),
        ("__MACOSX/x", b""), ("log.txt", b"")])])
    assert in_short(found) == {
        f"Андреев Пётр_1{end}": [f"Андреев Пётр_1{end}/deep/er/old", f"Андреев Пётр_1{end}/lab"],
        f"Быков_2{end}": ["lab.ipynb.txt"], f"Быков_3{end}": ["report.pdf"],
        f"Власов_4{end}": ["work.zip"],
        "Галкин_5_assignsubmission_onlinetext_": ["onlinetext.html"],
        f"Гусев_6{end}": [f"Гусев_6{end}/lab"], f"Демин_7{end}": [],
        f"Зуев_8{end}": [".lab.ipynb"], f"Ильин_9{end}": ["lab.ipynb"]}
    assert [(student.name, student.id) for student in found[:3]] == [
        ("Андреев Пётр", "1"), ("Быков", "2"), ("Быков", "3")]
    assert found[0].other_files == ["report.pdf"] and found[0].problem == ""
    assert found[2].problem == ("Сдайте ноутбук: файл с именем на .ipynb. Сданы другие файлы или "
                                "ссылки: report.pdf.")
    assert "Не сдано ни одного файла." in [student.problem for student in found]


def test_moodles_archive_without_folders(tmp_path):
    found, _ = collect([archive(tmp_path, [
        (f"Иванов Пётр_12{MOODLES}_my_lab.ipynb", b""), (f"Иванов Пётр_12{MOODLES}_b.ipynb", b""),
        (f"Петрова_13{MOODLES}_report.pdf", b"")])])
    assert in_short(found) == {
        f"Иванов Пётр_12{MOODLES}": [f"Иванов Пётр_12{MOODLES}_b",
                                     f"Иванов Пётр_12{MOODLES}_my_lab"],
        f"Петрова_13{MOODLES}": ["report.pdf"]}
    assert (found[0].name, found[0].id) == ("Иванов Пётр", "12")


def test_moodles_folders_anywhere(tmp_path):
    group = tmp_path / "class" / "group 1"
    (group / f"Иванов_1{MOODLES}_").mkdir(parents=True)
    (group / f"Иванов_1{MOODLES}_" / "a.ipynb").touch()
    (group / "list.txt").touch()
    found, _ = collect([tmp_path / "class"])
    assert in_short(found) == {
        f"group 1/Иванов_1{MOODLES}_": [f"group 1/Иванов_1{MOODLES}_/a"]}


def test_names_of_students_are_composed(tmp_path):
    found, _ = collect([archive(tmp_path, [(f"Андреи\u0306_1{MOODLES}_/a.ipynb", b"")])])
    assert found[0].name == "Андрей" and "и\u0306" in found[0].folder


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_each_folder_at_the_top_is_a_student(tmp_path):
    folder = write(tmp_path / "class", "ivanov/a.ipynb", "ivanov/b/c.ipynb", "petrov/a.pdf",
                   "sidorov.ipynb", "list.txt", "zaitsev/x/y/z.ipynb")
    (folder / "empty").mkdir()
    found, _ = collect([folder])
    assert in_short(found) == {
        "empty": [], "ivanov": ["ivanov/a", "ivanov/b/c"], "petrov": ["a.pdf"],
        "sidorov": ["sidorov"], "zaitsev": ["zaitsev/x/y/z"]}
    assert [(student.name, student.id) for student in found[1:2]] == [("ivanov", "")]


@pytest.mark.parametrize("names, students", [
    (["a/x.ipynb", "a/y.ipynb"], {"a": ["a/x", "a/y"]}),
    (["class/a/x.ipynb", "class/b/x.ipynb", "class/list.txt"],
     {"class/a": ["class/a/x"], "class/b": ["class/b/x"]})])
def test_a_folder_in_which_everything_lies(names, students, tmp_path):
    assert in_short(collect([write(tmp_path / "submissions", *names)])[0]) == students


def test_an_archive_made_of_one_folder(tmp_path):
    found, _ = collect([archive(tmp_path, [("class/a.ipynb", b""), ("class/b.ipynb", b""),
                                           ("readme.txt", b""), (".hidden/x.ipynb", b"")])])
    assert in_short(found) == {"class/a": ["class/a"], "class/b": ["class/b"]}
    found, _ = collect([archive(tmp_path, [("ivanov/a.ipynb", b""), ("ivanov/b.txt", b"")])])
    assert in_short(found) == {"ivanov": ["ivanov/a"]}


def test_groups_as_arguments(tmp_path):
    write(tmp_path, "group1/ivanov/a.ipynb", "group1/petrov.ipynb", "group2/ivanov/a.ipynb")
    assert in_short(collect([tmp_path / "group1", tmp_path / "group2"])[0]) == {
        "group1/ivanov": ["group1/ivanov/a"], "group1/petrov": ["group1/petrov"],
        "group2/ivanov": ["group2/ivanov/a"]}


def test_a_students_folder_whose_name_is_too_long_for_a_page(folder):
    write(folder, f"{'x' * 254}/report.pdf", f"{'y' * 249}/report.pdf")
    found, skipped = collect([folder])
    assert in_short(found) == {"a": ["a/lab"], "y" * 249: ["report.pdf"]}
    assert skipped["x" * 254] == "too long a name"


def test_a_folder_and_a_notebook_of_one_name(tmp_path):
    found, _ = collect([write(tmp_path / "class", "x.ipynb", "x/report.pdf", "x/x.ipynb.zip")])
    assert sorted(student.folder for student in found) == ["x", "x (2)"]
    assert found[0] == Student("x", "x", "", {"x": Submission(b"")})


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
    assert len({name.casefold() for name in contents(found)}) == 5


def test_bombs(tmp_path, monkeypatch):
    path = archive(tmp_path, [("bomb.ipynb", bytes(51 * 2**20)), ("lab.ipynb", b"lab")])
    found, _ = collect([path])
    assert notebooks_of(found)["bomb"].problem == "Файл не открывается: больше 50 МБ."
    assert contents(found)["lab"] == b"lab"
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
    assert notebooks_of(found)["lab"].problem == "Файл не открывается: в архиве он зашифрован."
    assert contents(found)["other"] == b"other"


def test_an_archive_damaged_anywhere(tmp_path):
    content = archive(tmp_path, [("lab.ipynb", b"lab" * 20), ("b.ipynb", b"b")]).read_bytes()
    path = tmp_path / "damaged.zip"
    for index in range(len(content)):
        path.write_bytes(content[:index] + bytes([content[index] ^ 0xff]) + content[index + 1:])
        try:
            collect([path])
        except ValueError as error:
            assert "expected a zip archive" in str(error)
