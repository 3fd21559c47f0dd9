"""The abilities and limits of code in the sandbox, with and without namespaces."""

import ctypes
import fcntl
import itertools
import json
import mmap
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from vae_grading.sandbox import process, visible_files
from vae_grading.sandbox.control_group import ControlGroup, place_for_groups
from vae_grading.sandbox.process import (Limits, is_open, out_of_reach, run_limited,
                                         why_not_isolated)
from vae_grading.sandbox.system_calls import _FORBIDDEN, MACHINES
from vae_grading.sandbox.usage import Usage, holds_too_much
from vae_grading.sandbox.visible_files import (VisibleFiles, folders_of_python,
                                               folders_with_solutions)

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in MACHINES,
                       reason="the kernel is Linux's")]

NAMESPACES = why_not_isolated() is None if sys.platform == "linux" else False


@pytest.fixture(params=[True, False], ids=["namespaces", "no namespaces"])
def sandboxed(request):
    """Call a function in the sandbox; return what it returns and how it ended."""
    if request.param and not NAMESPACES:
        pytest.skip("needs namespaces")

    def call(function, readable=(), hidden=(), groups=None, **limits):
        end, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                output, ended, _seconds = run_limited(
                    lambda write: write(json.dumps(function()).encode()),
                    Limits(**{"timeout": 120, **limits}),
                    VisibleFiles((*folders_of_python(), *map(str, readable)),
                                 tuple(map(str, hidden))), isolated=request.param,
                    groups=groups)
                os.write(start, json.dumps([output.decode(), ended]).encode())
            finally:
                os._exit(0)
        os.close(start)
        with os.fdopen(end) as file:
            output, ended = json.loads(file.read())
        os.waitpid(pid, 0)
        return json.loads(output) if ended == "" else output, ended

    call.isolated = request.param
    return call


def refused(function, *arguments):
    try:
        function(*arguments)
        return False
    except OSError:
        return True


def test_sockets_of_any_family(sandboxed):
    def try_all():
        return [family for family in range(64)
                for socket_type in [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW,
                                    socket.SOCK_SEQPACKET]
                if not refused(socket.socket, family, socket_type)
                or not refused(socket.socketpair, family, socket_type)]

    assert sandboxed(try_all) == ([], "")


def system_call(number, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    result = library.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return result if result >= 0 else -ctypes.get_errno()


@pytest.mark.parametrize("name", _FORBIDDEN)
def test_forbidden_calls(name, sandboxed):
    number = _FORBIDDEN[name][list(MACHINES).index(platform.machine())]
    if number is None:
        pytest.skip("this processor has no such call")
    assert sandboxed(lambda: system_call(number, 0, 0, 0, 0, 0, 0)) == (-1, "")  # EPERM


@pytest.mark.parametrize("number", [435, 463, 500, 0x3fffffff])
def test_unknown_calls(number, sandboxed):
    assert sandboxed(lambda: system_call(number, 0, 0, 0, 0, 0, 0)) == (-38, "")  # ENOSYS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have no x32")
def test_calls_of_other_architectures(sandboxed):
    assert sandboxed(lambda: system_call(0x40000000 + 41, 1, 1, 0)) == (-1, "")


def test_calls_through_libc(sandboxed):
    def try_all():
        library = ctypes.CDLL(None)
        calls = {"memfd": lambda: library.memfd_create(b"m", 0),
                 "shm": lambda: library.shmget(0, 2**20, 0o1600),
                 "sem": lambda: library.semget(0, 100, 0o1600),
                 "msg": lambda: library.msgget(0, 0o1600),
                 "user": lambda: library.unshare(0x10000000),
                 "mount": lambda: library.mount(b"tmpfs", b".", b"tmpfs", 0, None)}
        return [name for name, call in calls.items() if call() >= 0]

    assert sandboxed(try_all) == ([], "")


def test_locks_of_ranges(sandboxed):
    def lock():
        with open("file", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return [command for command in (fcntl.F_SETLK, fcntl.F_SETLKW, 37, 38)
                    if not refused(fcntl.fcntl, file, command,
                                   struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 1, 0))]

    assert sandboxed(lock) == ([], "")


@pytest.mark.parametrize("make", [
    lambda number: open(f"file{number}", "x").close(),
    lambda number: os.mkdir(f"folder{number}"),
    lambda number: os.symlink("x" * 1000, f"link{number}"),
    lambda number: os.mkfifo(f"pipe{number}"),
    lambda number: (open("one", "a").close(), os.link("one", f"hard{number}"))])
def test_too_many_files(make, sandboxed):
    def count():
        for number in itertools.count():
            try:
                make(number)
            except OSError:
                return number

    made, ended = sandboxed(count, files=2000)
    if not sandboxed.isolated:
        assert ended == "disk"
    else:
        assert ended == "" and 1000 < made < 2000


def test_bytes_of_many_files(sandboxed):
    def fill():
        for number in itertools.count():
            os.makedirs(f"{number % 10}/{number % 7}", exist_ok=True)
            try:
                with open(f"{number % 10}/{number % 7}/{number}", "wb") as file:
                    file.write(bytes(2**16))
            except OSError:
                return number

    made, ended = sandboxed(fill, disk=10 * 2**20)
    if not sandboxed.isolated:
        assert ended == "disk"
    else:
        assert ended == "" and 100 < made <= 160


def nest_folders(depth):
    """Make a folder in a folder and so on; return the outermost."""
    outermost = os.getcwd()
    for _ in range(depth):
        os.mkdir("x")
        os.chdir("x")
    return outermost


# --- memory and time ---

def test_shared_memory_without_a_file(sandboxed):
    """The kernel keeps it when its owner hands it back: then it is in no process's share."""
    def share():
        return [refused(mmap.mmap, -1, 4096), refused(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE)]

    assert sandboxed(share) == ([True, False], "")


def map_shared(path, mode):
    with open(path, mode) as file:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ).close()


def test_memory_that_shares_a_file(sandboxed):
    def share():
        Path("file").write_bytes(bytes(4096))
        return refused(map_shared, "file", "r+b"), refused(map_shared, "/dev/zero", "r+b")

    assert sandboxed(share) == ([False, True], "")


def without_landlock(*arguments):
    raise OSError("no Landlock")


def test_no_memory_is_shared_where_devices_can_be_opened(sandboxed, monkeypatch):
    if sandboxed.isolated:
        pytest.skip("they can't")
    monkeypatch.setattr(process.landlock, "allow_only", without_landlock)
    assert sandboxed(lambda: refused(map_shared, "/dev/zero", "r+b")) == (True, "")


MEBIBYTE = 2**20


def beyond_this_process(n):
    """Return a limit of n bytes above the memory that a fork of this process has at first."""
    return psutil.Process().memory_info().rss + n


def fork_ten(own, seconds):
    """Fork ten processes, each with some memory of its own besides what all share."""
    shared = bytearray(os.urandom(MEBIBYTE)) * 60
    for _ in range(10):
        if os.fork() == 0:
            kept = bytearray(os.urandom(MEBIBYTE)) * own
            time.sleep(60)
            os._exit(len(kept))
    time.sleep(seconds)
    return len(shared) // MEBIBYTE


def test_memory_that_forks_share_is_counted_once(sandboxed):
    assert sandboxed(lambda: fork_ten(1, 1.), memory=beyond_this_process(300 * MEBIBYTE)) == (
        60, "")


def test_memory_of_forks_is_counted_together(sandboxed):
    assert sandboxed(lambda: fork_ten(60, 60.), memory=beyond_this_process(300 * MEBIBYTE)) == (
        "", "memory")


def compute(seconds):
    """Keep a processor busy until it has worked for some seconds."""
    while time.process_time() < seconds:
        pass


def test_time_of_all_processes_is_counted_together():
    """Also of those that have ended. On the clock, less time passes if there are many processors."""
    end, start = os.pipe()
    started = []
    for _ in range(4):
        started.append(os.fork())
        if started[-1] == 0:
            try:
                compute(0.4 + time.process_time())
                os.write(start, b".")
                time.sleep(60)
            finally:
                os._exit(0)
    usage = Usage(started[0], os.getuid())
    try:
        for _ in started:
            os.read(end, 1)
        usage.update()
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    usage.update()
    assert usage._computed >= 4 * 0.3
    assert usage.seconds() >= usage._computed


def test_waiting_for_a_processor_is_not_counted(sandboxed):
    neighbours = []
    try:
        for _ in range(3):
            neighbours.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            os.sched_setaffinity(neighbours[-1].pid, {min(os.sched_getaffinity(0))})

        def work():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            compute(1.6 + time.process_time())
            return "done"

        assert sandboxed(work, timeout=2.5) == ("done", "")
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def test_waiting_for_anything_else_is_counted(sandboxed):
    assert sandboxed(lambda: time.sleep(60), timeout=1.) == ("", "time")


# --- control groups ---

@pytest.fixture
def groups():
    """A place for groups; here they need not limit memory."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in [fields[1] for fields in mounts if fields[2] == "cgroup2"]:
        try:
            ControlGroup(place).close()
            return Path(place)
        except OSError:
            pass
    pytest.skip("needs rights to make control groups")


def test_a_group_counts_and_kills_processes_that_have_detached(groups):
    group, before = ControlGroup(groups), set(groups.iterdir())
    end, start = os.pipe()
    if os.fork() == 0:
        group.enter()
        if os.fork() == 0:
            compute(0.2 + time.process_time())
            os.write(start, b"done")
            time.sleep(600)
        os._exit(0)
    os.close(start)
    assert os.read(end, 4) == b"done" and group.seconds() >= 0.2
    group.close()
    assert os.read(end, 1) == b""  # the process has ended
    assert len(before - set(groups.iterdir())) == 1
    os.wait()


def test_a_run_in_a_group(sandboxed, groups):
    def wait():
        while True:
            time.sleep(0.01)

    before = set(groups.iterdir())
    members = []
    watch = threading.Thread(target=lambda: members.append(members_of_new_group(groups, before)))
    watch.start()
    assert sandboxed(wait, groups=groups, timeout=2.) == ("", "time")
    watch.join()
    assert members[0] and set(groups.iterdir()) == before


def members_of_new_group(groups, before):
    while True:
        for folder in set(groups.iterdir()) - before:
            members = (folder / "cgroup.procs").read_text().split()
            if members:
                return members
        time.sleep(0.02)


def test_the_place_for_groups_limits_memory(monkeypatch, tmp_path):
    """Of the groups around this process, the nearest in which the kernel limits memory."""
    middle = tmp_path / "user.slice" / "user"
    own = middle / "terminal"
    own.mkdir(parents=True)
    for folder, controllers in [(tmp_path, "cpu memory pids"), (middle.parent, "memory pids"),
                                (middle, "pids"), (own, "")]:
        (folder / "cgroup.subtree_control").write_text(controllers)
    texts = {"/proc/self/mounts": f"proc /proc proc rw 0 0\ncgroup2 {tmp_path} cgroup2 rw 0 0\n",
             "/proc/self/cgroup": "1:name=systemd:/\n0::/user.slice/user/terminal\n"}
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: texts.get(str(path)) or read_text(path))
    assert place_for_groups() == middle.parent


# --- files ---

@pytest.fixture
def open_folder():
    """A folder that everyone can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def write(path, text="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def seen(paths):
    """Return those of some files that can be read."""
    return [str(path) for path in paths if not refused(lambda: open(path).close())]


def test_hidden_folders_in_readable_ones_and_the_reverse(sandboxed, open_folder):
    """A project in a folder of programs, with its virtual environment inside."""
    project = open_folder / "share" / "project"
    package, library, inner, solution, other, outside = (write(path) for path in [
        open_folder / "share" / "packages" / "numpy" / "module.py",
        open_folder / "share" / "library.py", project / ".venv" / "lib" / "module.py",
        project / "notebooks" / "solution.ipynb", open_folder / "share" / "packages" / "vae" / "x",
        open_folder / "src" / "solution.ipynb"])
    everything = [package, library, inner, solution, other, outside]
    assert sandboxed(lambda: seen(everything), readable=[
        open_folder / "share", project / ".venv"], hidden=[project, other.parent]) == (
            [str(package), str(library), str(inner)], "")


def test_a_hidden_file(sandboxed, open_folder):
    library, solution = write(open_folder / "a.py"), write(open_folder / "solution.ipynb")
    text, ended = sandboxed(lambda: [open(path).read() if path in seen([path]) else ""
                                     for path in map(str, [library, solution])],
                            readable=[open_folder], hidden=[solution])
    assert (text, ended) == (["text", ""], "")


def test_modules_are_found_beside_hidden_ones(sandboxed, open_folder):
    write(open_folder / "vae" / "__init__.py")
    write(open_folder / "a_module.py", "value = 3")

    def find():
        sys.path.insert(0, str(open_folder))
        import a_module
        return a_module.value

    assert sandboxed(find, readable=[open_folder], hidden=[open_folder / "vae"]) == (3, "")


def test_an_environment_reached_through_a_link(sandboxed, open_folder):
    write(open_folder / "real" / "environment" / "file")
    (open_folder / "link").symlink_to("real")
    path = open_folder / "link" / "environment" / "file"
    assert sandboxed(lambda: seen([path]), readable=[path.parent]) == ([str(path)], "")


def test_nothing_is_left_in_shared_folders(sandboxed):
    name = f"left-by-{os.getpid()}"
    sandboxed(lambda: [refused(write, Path(folder, name, "deep", "file"))
                       for folder in ["/tmp", "/var/tmp", "/dev/shm"]])
    assert not [folder for folder in ["/tmp", "/var/tmp", "/dev/shm"]
                if os.path.lexists(os.path.join(folder, name))]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0,
                    reason="only root gives students' code a user of its own")
def test_what_is_left_in_shared_folders_is_removed(sandboxed, monkeypatch, tmp_path):
    if sandboxed.isolated:
        pytest.skip("nothing is left there")
    own = Path(tempfile.mkdtemp())
    monkeypatch.setattr(process.landlock, "allow_only", without_landlock)
    path = Path("/tmp", f"left-by-{os.getpid()}", "file")
    assert sandboxed(lambda: write(path).read_text()) == ("text", "")
    assert not path.parent.exists() and own.is_dir()
    own.rmdir()


def test_copies_of_the_project_among_the_packages(open_folder, monkeypatch):
    packages = open_folder / "lib" / "python3.11" / "site-packages"
    checkout, moved, plain = (open_folder / "src" / name for name in ["checkout", "moved", "plain"])
    for folder in [checkout, moved]:
        write(folder / "pyproject.toml")
        write(folder / "vae_grading" / "__init__.py")
    write(packages / "vae" / "__init__.py")
    write(packages / "numpy" / "__init__.py")
    write(packages / "vae_seminar-1.0.0.dist-info" / "direct_url.json",
          json.dumps({"url": checkout.as_uri(), "dir_info": {"editable": True}}))
    write(packages / "easy-install.pth", f"import sys\n{plain}\n{moved}\n")
    plain.mkdir()
    monkeypatch.setattr(sys, "prefix", str(open_folder))
    found = {Path(path) for path in folders_with_solutions()}
    assert {path for path in found if open_folder.resolve() in path.parents} == {
        path.resolve() for path in [checkout, moved, packages / "vae"]}
    assert Path(visible_files.__file__).resolve().parents[2] in found


def test_sources_in_an_environment_are_not_readable(open_folder, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(open_folder))
    folders = [Path(folder) for folder in folders_of_python()]
    assert open_folder / "lib" in folders and open_folder / "pyvenv.cfg" in folders
    assert open_folder not in folders and open_folder / "src" not in folders


# --- what else can be reached ---

def run_as_user(function):
    """Call a function in a process of the user who grades, who is not the superuser here."""
    end, start = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                process._drop_rights(54321)
            process._prctl(process._PR_SET_DUMPABLE, 1)  # as a program that has been started is
            os.write(start, function())
        finally:
            os._exit(0)
    os.close(start)
    os.waitpid(pid, 0)
    with os.fdopen(end) as file:
        return file.read()


@pytest.mark.parametrize("is_private, landlock, expected", [
    (True, True, "refused"), (True, False, "refused"), (False, False, "read")])
def test_the_memory_of_the_graders_processes(is_private, landlock, expected, monkeypatch):
    """Code that runs as the user who grades, where there are no namespaces."""
    if not landlock:
        monkeypatch.setattr(process.landlock, "allow_only", without_landlock)
    yama = Path("/proc/sys/kernel/yama/ptrace_scope")
    if expected == "read" and yama.exists() and yama.read_text().strip() != "0":
        pytest.skip("the kernel refuses it anyway")

    def grade():
        grader = os.getpid()
        if is_private:
            process.keep_memory_private()
        return run_limited(lambda write: write(
            b"refused" if refused(open, f"/proc/{grader}/mem", "rb") else b"read"), Limits())[0]

    assert run_as_user(grade) == expected


def test_what_is_open_without_namespaces(monkeypatch):
    assert is_open() <= {"files"}
    monkeypatch.setattr(process.landlock, "allow_only", without_landlock)
    monkeypatch.setattr(process, "forbid_calls", without_landlock)
    assert is_open() == {"files", "network"}


def test_a_process_that_ends_itself_has_not_done_its_task(sandboxed):
    assert sandboxed(lambda: os._exit(0)) == ("", "exit code 0")


def test_folders_nested_deeper_than_functions_can_be_are_removed(sandboxed):
    outermost, ended = sandboxed(lambda: nest_folders(1500))
    assert ended == "" and not os.path.exists(outermost)


def test_folders_whose_path_is_too_long_to_count_them(sandboxed):
    if sandboxed.isolated:
        pytest.skip("the kernel counts them")

    def nest():
        nest_folders(3000)
        time.sleep(60)

    assert sandboxed(nest) == ("", "disk")


def test_a_folder_that_can_not_be_read_holds_too_much():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "x"), 0o300)
        pid = os.fork()
        if pid == 0:
            if os.geteuid() == 0:
                os.setuid(12345)
            os._exit(holds_too_much(folder, Limits()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_too_large_a_file(sandboxed):
    def fill():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with open("file", "wb") as file:
            try:
                for _ in range(100):
                    file.write(bytes(2**20))
            except OSError:
                pass
        return os.path.getsize("file") <= 10 * 2**20

    assert sandboxed(fill, disk=10 * 2**20) == (True, "")


@pytest.mark.parametrize("number, name", [(9, "SIGKILL"), (34, "SIGRTMIN"), (40, "signal 40")])
def test_signals(number, name, sandboxed):
    """The first process of a namespace ignores its own signals."""
    ended = sandboxed(lambda: os.kill(os.getpid(), number))[1]
    assert ended == ("" if sandboxed.isolated else name)


def test_what_honest_code_needs(sandboxed):
    def work():
        made = []
        thread = threading.Thread(target=made.append, args=["thread"])
        thread.start()
        thread.join()
        made.append(subprocess.run(["cat"], input="process", stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True).stdout)
        made.append(subprocess.run("echo pipe | cat", shell=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True).stdout.strip())
        if os.fork() == 0:
            os._exit(7)
        made.append(os.waitstatus_to_exitcode(os.wait()[1]))
        return made

    assert sandboxed(work) == (["thread", "process", "pipe", 7], "")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root becomes nobody")
def test_an_environment_that_nobody_can_enter_is_found():
    with tempfile.TemporaryDirectory() as folder:
        inner = os.path.join(folder, "environment")
        os.mkdir(inner)
        os.chmod(folder, 0o755)
        assert out_of_reach(["/", inner]) is None
        os.chmod(folder, 0o700)
        assert out_of_reach(["/", inner]) == inner
