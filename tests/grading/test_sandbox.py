"""What code in the sandbox can and cannot do, with and without namespaces."""

import ctypes
import fcntl
import itertools
import json
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

import pytest

from vae_grading.sandbox.process import Limits, out_of_reach, run_limited, why_not_isolated
from vae_grading.sandbox.system_calls import _FORBIDDEN, MACHINES
from vae_grading.sandbox.usage import holds_too_much
from vae_grading.sandbox.visible_files import VisibleFiles, folders_of_python

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="the kernel is Linux's")

NAMESPACES = why_not_isolated() is None if sys.platform == "linux" else False


@pytest.fixture(params=[True, False], ids=["namespaces", "no namespaces"])
def sandboxed(request):
    """Call a function in the sandbox; return what it returns and how it ended."""
    if request.param and not NAMESPACES:
        pytest.skip("needs namespaces")

    def call(function, readable=(), hidden=(), **limits):
        end, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                output, ended, _seconds = run_limited(
                    lambda write: write(json.dumps(function()).encode()),
                    Limits(**{"timeout": 120, **limits}),
                    VisibleFiles((*folders_of_python(), *map(str, readable)),
                                 tuple(map(str, hidden))), isolated=request.param)
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
