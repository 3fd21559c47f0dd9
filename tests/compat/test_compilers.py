"""Programs run even if the compiler, the cache folder or Python is not what Theano expects."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
from programs import PRELUDE, SMALL, SMALL_ANSWER

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="imitates what happens on Linux"),
    pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")]

#: Prints the answer, and whether it was compiled.
PROGRAM = SMALL + "print(theano.config.cxx and 'compiled')"


def broken(folder, line, name="g++"):
    """Return a new folder with a compiler that runs this line of shell instead."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{line}\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line, reason", [
    ('exec {cxx} -nostdinc "$@"', r"fatal error: .*: No such file or directory"),
    ("echo \"g++: fatal error: cannot execute 'cc1plus'\" >&2; exit 1",
     "cannot execute 'cc1plus'"),
    ('exec {cxx} "$@" -lnowhere_to_be_found', "cannot find -lnowhere_to_be_found"),
    ("exit 3", "it ended with 3"),
    ("while :; do shift; [ \"$1\" = -o ] && break; done; echo text > $2", "invalid ELF|too short"),
], ids=["no headers", "half installed", "does not link", "silent", "not a library"])
@pytest.mark.parametrize("where", ["PATH", "THEANO_FLAGS"])
def test_a_compiler_that_does_not_work(session, tmp_path, line, reason, where):
    folder = broken(tmp_path / "bin", line.format(cxx=shutil.which("g++")))
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    if where == "THEANO_FLAGS":
        environment = {"THEANO_FLAGS": f"cxx={folder / 'g++'}"}
    out, err = session.run(PROGRAM, **environment)
    assert out == SMALL_ANSWER
    assert err.count("Warning") == 1 and err.count("\n") == 1
    assert re.search(rf"The C\+\+ compiler .*g\+\+ does not work \(.*({reason})", err), err
    assert session.run(PROGRAM)[0] == f"{SMALL_ANSWER}\ncompiled"  # the failure is not remembered


def test_a_compiler_that_is_not_there(session):
    out, err = session.run(PROGRAM, THEANO_FLAGS="cxx=/nowhere/g++")
    assert out == SMALL_ANSWER
    assert "The C++ compiler /nowhere/g++ does not work (No such file or directory)" in err


def test_a_compiler_that_works_is_tried_once(session, tmp_path):
    """Later starts only ask it for its version."""
    calls = tmp_path / "calls"
    folder = broken(tmp_path / "bin", f'echo "$@" >> {calls}; exec {shutil.which("g++")} "$@"')
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    session.quietly(PRELUDE, **environment)
    assert "smallest.cc" in calls.read_text()
    calls.unlink()
    session.quietly(PRELUDE, **environment)
    assert set(calls.read_text().split()) == {"-dumpversion", "--version"}


def test_a_python_that_has_been_moved(session):
    """As with uv and conda-pack: it does not know where its library is."""
    out = session.quietly("""
import sysconfig
sysconfig.get_config_vars().update(LIBDIR="/nowhere", LDLIBRARY="libpython9.9.so")
""" + PROGRAM)
    assert out == f"{SMALL_ANSWER}\ncompiled"


# --- folders from which nothing may be loaded ---

@pytest.fixture
def mounted_noexec(session, tmp_path):
    """A function that runs a program with some folders mounted noexec."""
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", tmp_path],
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("needs unshare and user namespaces")

    def run(program, *folders, **environment):
        mounts = ""
        for folder in folders:
            folder.mkdir(exist_ok=True)
            mounts += f"mount -t tmpfs -o noexec tmpfs {folder} && "
        return subprocess.run(
            [*alone, "sh", "-c", mounts + 'exec "$@"', "sh", sys.executable, "-c", program],
            env={**session.environment, **environment}, capture_output=True, text=True, check=True)
    return run


def test_a_cache_mounted_noexec(session, mounted_noexec):
    process = mounted_noexec(PROGRAM, session.cache)
    assert process.stdout == f"{SMALL_ANSWER}\ncompiled\n"
    assert "(noexec): it goes to a temporary folder" in process.stderr
    assert process.stderr.count("Warning") == 1


@pytest.mark.parametrize("flags", ["", "base_compiledir={tmp}", "compiledir={tmp}/here"])
def test_no_folder_but_those_mounted_noexec(session, tmp_path, mounted_noexec, flags):
    tmp = tmp_path / "tmp"
    process = mounted_noexec(PROGRAM, session.cache, tmp, TMPDIR=str(tmp),
                             THEANO_FLAGS=flags.format(tmp=tmp))
    assert process.stdout == f"{SMALL_ANSWER}\n\n"
    assert f"Compiled code may not run in {tmp}" in process.stderr
    assert "THEANO_FLAGS=base_compiledir=" in process.stderr


# --- the functions of distutils that Theano calls ---

def test_where_pythons_library_is():
    """The same as in Python's own distutils, inside a virtual environment and outside."""
    import vae  # noqa: F401
    from theano.gof import cmodule
    config = cmodule.distutils.sysconfig
    base = sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix})
    assert config.get_python_lib(plat_specific=1, standard_lib=1) == base
    assert config.get_python_lib(plat_specific=1) == sysconfig.get_path("platlib")
    assert config.get_python_lib() == sysconfig.get_path("purelib")
