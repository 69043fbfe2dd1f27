"""Child Pythons whose program is in the store only, compared with plain python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from programs import LAUNCHER, PLAIN, SCRIPTS, Place, place

__all__ = ["place"]

# Writes the programs, which then are in the store and nowhere else, and runs one of them.
STAGE = """
import os, shutil, subprocess, sys
source, cwd, *command = sys.argv[1:]
shutil.copytree(source, ".", dirs_exist_ok=True, symlinks=True)
assert not os.path.lexists(os.path.join("/proc/self/cwd", "state.py"))
sys.exit(subprocess.run(command, cwd=cwd).returncode % 256)
"""


def same(place: Place, command: Sequence[str], stdin: str = "", cwd: str = ".") -> None:
    """Runs a command plainly, then where all of the programs are only in the store."""
    directory = place.directory
    expected = subprocess.run(
        command, cwd=directory / cwd, env=place.env, input=stdin, capture_output=True, text=True
    )
    source = directory.rename(directory.with_name("source"))
    directory.mkdir()
    stage = directory.with_name("stage.py")
    stage.write_text(STAGE)
    actual = place.run([*LAUNCHER, "--no-persist", str(stage), str(source), cwd, *command], stdin)
    assert actual.stdout == expected.stdout
    assert actual.stderr == expected.stderr
    assert actual.returncode == expected.returncode % 256
    assert os.listdir(directory) in ([], [".capio"])


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_script(place: Place, words: tuple[str, ...]) -> None:
    same(place, [*PLAIN, *words], stdin="some\nlines\nof text\n")


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "state", "a"),
        ("-m", "package", "a text"),
        ("-m", "error"),
        ("-m", "processes", "spawn"),
        ("-c", "import sibling, sys; print(sibling.__file__, sys.path[0])"),
        ("-c", "import package.part"),
        ("-c", "import no_such_module"),
        ("-m", "no_such_module"),
        ("no_such_script.py",),
        ("-u", "-W", "error", "-X", "utf8", "state.py", "-c", "x"),
        ("-O", "state.py", "-m"),
        ("-i", "exit_with.py", "3"),
        ("-P", "args.py"),
        ("-I", "args.py"),
        ("-E", "args.py"),
        ("-s", "-B", "state.py"),
    ],
    ids=" ".join,
)
def test_command_line(place: Place, words: tuple[str, ...]) -> None:
    if "-P" in words and sys.version_info < (3, 11):
        pytest.skip("-P is new in 3.11")
    same(place, [*PLAIN, *words])


@pytest.mark.parametrize("words", [("state.py",), ("sibling.py",), ("-m", "sibling")], ids=" ".join)
def test_in_a_directory_of_the_store(place: Place, words: tuple[str, ...]) -> None:
    (place.directory / "folder" / "state.py").write_bytes(
        (place.directory / "state.py").read_bytes()
    )
    same(place, [*PLAIN, *words], cwd="folder")


def test_by_absolute_path(place: Place) -> None:
    same(place, [*PLAIN, str(place.directory / "state.py"), "a"], cwd="/")


# ---- programs that are started by their own name -------------------------------------------------

HEADS = {
    "python": f"#!{sys.executable}\nimport sys, sibling\nprint(sys.argv, __file__, sys.path[0])\n",
    "python-u": f"#!{sys.executable} -u\nimport sys, sibling\nprint(sys.argv, __file__)\n",
    "env": f"#!/usr/bin/env {Path(sys.executable).name}\nimport sys, sibling\nprint(sys.argv)\n",
    "sh": '#!/bin/sh\necho "$0" "$@"\ncat sibling.py\n',
    "sh-e": '#!/bin/sh -e\necho "$0" "$@"\nfalse\n',
}
STARTS = {
    "subprocess": "sys.exit(subprocess.run([name, 'a', 'b c']).returncode)",
    "executable": "sys.exit(subprocess.run(['x', 'a', 'b c'], executable=name).returncode)",
    "shell": "sys.exit(subprocess.run(f'{name} a b', shell=True).returncode)",
    "search": "os.environ['PATH'] += ':' + os.getcwd();"
    "sys.exit(subprocess.run(['program.x', 'a']).returncode)",
    "system": "sys.exit(os.waitstatus_to_exitcode(os.system(f'{name} a b')))",
    "posix_spawn": "sys.exit(os.waitstatus_to_exitcode("
    "os.waitpid(os.posix_spawn(name, [name, 'a'], os.environ), 0)[1]))",
    "posix_spawnp": "os.environ['PATH'] += ':' + os.getcwd();"
    "sys.exit(os.waitstatus_to_exitcode("
    "os.waitpid(os.posix_spawnp('program.x', ['program.x', 'a'], os.environ), 0)[1]))",
    "spawnv": "sys.exit(os.spawnv(os.P_WAIT, name, [name, 'a', 'b c']))",
    "execv": "os.execv(name, [name, 'a'])",
    "execlp": "os.environ['PATH'] += ':' + os.getcwd(); os.execlp('program.x', 'x', 'a')",
}


def starting(place: Place, head: str, start: str) -> None:
    program = place.directory / "program.x"
    program.write_text(HEADS[head])
    program.chmod(0o755)
    place.env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    code = f"import os, subprocess, sys\nname = './program.x'\n{STARTS[start]}"
    same(place, [*PLAIN, "-c", code])


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("head", ["python", "sh"])
def test_executable_script(place: Place, head: str, start: str) -> None:
    starting(place, head, start)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ("python", "sh")])
def test_executable_script_with_options(place: Place, head: str) -> None:
    starting(place, head, "subprocess")


@pytest.mark.parametrize("start", [start for start in STARTS if start not in ("shell", "system")])
@pytest.mark.parametrize("head", ["python", "sh-e"])
def test_store_without_exec(place: Place, head: str, start: str) -> None:
    """/dev/shm of a container may be mounted so that nothing on it can be run. (What a shell is
    told to run is a limit.)"""
    store = Path(place.env["CAPIO_STORE"])
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "noexec,mode=755", "none", store], stderr=subprocess.PIPE
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode()}")
    try:
        starting(place, head, start)
    finally:
        subprocess.run(["umount", "-l", store], check=True)


def test_environment_made_anew(place: Place) -> None:
    """What children are given does not hang on what a script does to os.environ."""
    code = (
        "import os, subprocess, sys; kept = dict(os.environ); os.environ.clear();"
        "os.environ.update(kept); os.environ['PYTHONPATH'] = 'folder';"
        "sys.exit(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, 'args.py']))"
    )
    same(place, [*PLAIN, "-c", code])
