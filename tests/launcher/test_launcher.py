"""The launcher, compared with plain python on many small programs."""

from __future__ import annotations

import json
import py_compile
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from programs import COMMAND, HERE, LAUNCHER, PLAIN, SCRIPTS, Place, finish, place, same

__all__ = ["place"]


@pytest.mark.parametrize("words", SCRIPTS, ids=" ".join)
def test_script(place: Place, words: tuple[str, ...]) -> None:
    same(place, words, words, stdin="some\nlines\nof text\n")


MODULES: list[tuple[str, ...]] = [
    ("state", "a"),
    ("package", "a text"),
    ("package",),
    ("package.part", "-x"),
    ("package.__main__",),
    ("error",),
    ("error_in_import",),
    ("interrupt",),
    ("pickling",),
    ("processes", "spawn"),
    ("json.tool", "--indent", "1"),
]


@pytest.mark.parametrize("words", MODULES, ids=" ".join)
def test_module(place: Place, words: tuple[str, ...]) -> None:
    # A directory of the same name comes first, so a package beside the script needs -m.
    option = ["-m"] if (place.directory / words[0]).is_dir() else []
    same(place, [*option, *words], ["-m", *words], stdin='{"a": 1}')


def test_module_option_in_one_word(place: Place) -> None:
    same(place, ["-mstate", "-h"], ["-m", "state", "-h"])


def test_path_comes_before_module(place: Place) -> None:
    (place.directory / "json").write_text("print('the file json')")
    same(place, ["json"], ["json"])


def test_directory_with_main(place: Place) -> None:
    same(place, ["folder_main", "a"], ["folder_main/main.py", "a"])


def test_symbolic_link(place: Place) -> None:
    (place.directory / "folder_main" / "link.py").symlink_to("../state.py")
    same(place, ["folder_main/link.py"], ["folder_main/link.py"])


@pytest.mark.parametrize("prefix", [b"", b"#!/usr/bin/env python3\n"], ids=["zip", "zipapp"])
def test_zip_file(place: Place, prefix: bytes) -> None:
    path = place.directory / "archive.bin"
    path.write_bytes(prefix)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(place.directory / "state.py", "__main__.py")
        archive.write(place.directory / "sibling.py", "sibling.py")
        archive.write(place.directory / "error.py", "inside/__main__.py")
    same(place, ["archive.bin", "a"], ["archive.bin", "a"])
    same(place, ["archive.bin/inside"], ["archive.bin/inside"])


def test_compiled_file(place: Place) -> None:
    py_compile.compile(str(place.directory / "state.py"), str(place.directory / "compiled.pyc"))
    same(place, ["compiled.pyc", "a"], ["compiled.pyc", "a"])


@pytest.mark.parametrize(
    "source",
    [
        b"def f(:\n    pass\n",
        b"if True:\npass\n",
        b"print('one'\n",
        b"x = 1\n\treturn 2\n",
        b"return 1\n",
        b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n1/0  # \xe9\n",
        b"\xef\xbb\xbfprint(__file__)\r\n1/0\r\n",
        b"",
        b"# no newline at the end",
    ],
    ids=lambda source: repr(source[:20]),
)
def test_source(place: Place, source: bytes) -> None:
    (place.directory / "odd.py").write_bytes(source)
    same(place, ["odd.py"], ["odd.py"])


def test_script_from_a_pipe(place: Place) -> None:
    same(place, ["/dev/stdin", "a"], ["/dev/stdin", "a"], stdin="import sys; print(sys.argv)\n")


def test_script_outside_capio_dir(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for words in (["state.py"], ["error.py"], ["folder"]):
        same(place, ["--capio-dir", str(other), *words], words)


@pytest.mark.parametrize("option", ["-P", "-I"])
def test_safe_path(place: Place, option: str) -> None:
    if option == "-P" and sys.version_info < (3, 11):
        pytest.skip("-P is new in 3.11")
    for words in (["args.py"], ["folder"], ["state.py"]):
        expected = place.run([sys.executable, option, *words])
        actual = place.run([sys.executable, option, "-m", "pycapio", *words])
        assert (actual.stdout, actual.stderr, actual.returncode) == (
            expected.stdout,
            expected.stderr,
            expected.returncode,
        )


@pytest.mark.parametrize(
    "words",
    [("state.py", "a"), ("error.py",), ("exit_with.py", "3"), ("interrupt.py",)],
    ids=" ".join,
)
def test_installed_command(place: Place, words: tuple[str, ...]) -> None:
    expected = place.run([*PLAIN, *words])
    actual = place.run([*COMMAND, *words])
    assert (actual.stdout, actual.stderr) == (expected.stdout, expected.stderr)
    assert actual.returncode == expected.returncode


def interrupted(place: Place, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    process = place.start(command)
    assert process.stdout is not None and process.stdin is not None
    ready = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.stdin.write("the signal has been sent\n")
    process.stdin.flush()
    result = finish(process)
    assert ready == "ready\n", result.stderr
    return result


def test_sigint(place: Place) -> None:
    expected = interrupted(place, [*PLAIN, "wait_signal.py"])
    actual = interrupted(place, [*LAUNCHER, "wait_signal.py"])
    assert expected.returncode == -signal.SIGINT
    assert actual.returncode == expected.returncode
    assert actual.stdout == expected.stdout
    assert actual.stderr == expected.stderr


def test_sigint_in_a_module(place: Place) -> None:
    expected = interrupted(place, [*PLAIN, "-m", "wait_signal"])
    actual = interrupted(place, [*LAUNCHER, "wait_signal"])
    assert (actual.stdout, actual.stderr) == (expected.stdout, expected.stderr)
    assert actual.returncode == expected.returncode


@pytest.mark.parametrize("script", ["wait_in_main.py", "wait_in_pool.py"])
def test_sigint_while_waiting_for_a_file(place: Place, script: str) -> None:
    place.env.update(CAPIO_WAIT_WARN="0.1", CAPIO_LINGER="0")
    options = ["--app-name", "consumer", "--capio-cl", "wait.json"]
    process = place.start([*LAUNCHER, *options, script])
    assert process.stderr is not None
    waiting = process.stderr.readline()  # comes from inside the wait
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert "never.txt" in waiting and "producer" in waiting
    assert result.returncode == -signal.SIGINT
    traceback, last_line, told = result.stderr.partition("KeyboardInterrupt\n")
    assert traceback.startswith("Traceback") and last_line
    # The step that ends the run is told of it.
    assert told.startswith("pycapio: warning: declared as outputs, but nobody has made "), told
    assert told.count("\n") == 1, told
    assert "_runner.py" not in result.stderr and "__main__.py" not in result.stderr


def test_status_seen_by_a_shell(place: Place) -> None:
    script = '"$@"; echo "status $?"'
    for words in (["kill_self.py", "SIGTERM"], ["interrupt.py"], ["exit_with.py", "300"]):
        expected = place.run(["sh", "-c", script, "sh", *PLAIN, *words])
        actual = place.run(["sh", "-c", script, "sh", *LAUNCHER, *words])
        assert "status " in expected.stdout
        assert actual.stdout == expected.stdout


# ---- options ------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the script to run is missing (see pycapio --help)."),
        (["--resume"], "the script to run is missing (see pycapio --help)."),
        (["--"], "the script to run is missing (see pycapio --help)."),
        (
            ["--capio-dri", "x", "args.py"],
            "there is no option --capio-dri; did you mean --capio-dir?\n",
        ),
        (
            ["--capio-di", ".", "args.py"],
            "there is no option --capio-di; did you mean --capio-dir?\n",
        ),
        (["--app=x", "args.py"], "there is no option --app; did you mean --app-name?\n"),
        (["-x", "args.py"], "there is no option -x"),
        (["--capio-dir"], "--capio-dir needs a value."),
        (["--resume=yes", "args.py"], "--resume takes no value."),
        (["-m"], "-m needs the name of a module."),
        (["--app-name", "", "args.py"], "--app-name is empty."),
        (["--workflow-name=", "args.py"], "--workflow-name is empty."),
        (["--await-server-timeout", "soon", "args.py"], "--await-server-timeout needs a number"),
        (["--await-server-timeout", "-1", "args.py"], "--await-server-timeout needs a number"),
        (["--await-server-timeout=nan", "args.py"], "--await-server-timeout needs a number"),
        (["--capio-cl", "args.py", "--no-config", "args.py"], "contradict each other"),
        (
            ["--capio-cl", "none.json", "args.py"],
            "cannot read the CAPIO-CL file 'none.json': No such",
        ),
        (["--capio-dir", "none", "args.py"], "CAPIO_DIR 'none' does not exist; create it"),
        (["--capio-dir", "args.py", "args.py"], "CAPIO_DIR 'args.py' is not a directory"),
        (["none.py"], "cannot find 'none.py': there is no such file or directory, and no module"),
        (["no/where"], "cannot find 'no/where'"),
        (["", "x"], "the name of the script to run is empty."),
        (["-m", "args.py"], "cannot find a module named 'args.py'."),
        (["-m", "package.none"], "cannot find a module named 'package.none'."),
        (["package.inner"], "cannot run the package 'package.inner': it holds no __main__.py."),
        (["empty"], "cannot run the directory 'empty': it holds neither __main__.py nor main.py."),
        (["empty.zip"], "cannot run the zip file 'empty.zip': it holds no __main__.py."),
        (["dangling.py"], "cannot read the script 'dangling.py': No such file or directory."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_command_line(place: Place, words: list[str], sentence: str) -> None:
    (place.directory / "empty").mkdir()
    (place.directory / "dangling.py").symlink_to("nowhere.py")
    with zipfile.ZipFile(place.directory / "empty.zip", "w"):
        pass
    result = place.run([*LAUNCHER, *words])
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("pycapio: " + sentence) or sentence in result.stderr
    assert result.stderr.startswith("pycapio: ") and result.stderr.count("\n") == 1
    assert not place.server_was_started


def test_capio_dir_of_the_environment(place: Place) -> None:
    place.env["CAPIO_DIR"] = "elsewhere"
    result = place.run([*LAUNCHER, "args.py"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("pycapio: CAPIO_DIR 'elsewhere' does not exist")
    assert place.run([*LAUNCHER, "--capio-dir", ".", "args.py"]).returncode == 0


def test_help_and_version(place: Place) -> None:
    result = place.run([*LAUNCHER, "--resume", "--help", "none.py"])
    assert (result.returncode, result.stderr) == (0, "")
    for option in ("--capio-dir DIR", "--no-persist", "--keep-server", "-m MODULE"):
        assert option in result.stdout
    version = place.run([*LAUNCHER, "--version"])
    assert version.returncode == 0
    assert version.stdout.startswith("pycapio ") and version.stdout.split()[1][0].isdigit()
    assert not place.server_was_started


def test_invalid_configuration(place: Place) -> None:
    (place.directory / "bad.json").write_text('{"name": "wf", "IO_Grap": []}')
    result = place.run([*LAUNCHER, "--capio-cl", "bad.json", "args.py"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("pycapio: ")
    assert "IO_Grap" in result.stderr and "Traceback" not in result.stderr


def test_server_that_cannot_be_started(place: Place) -> None:
    result = place.run([*LAUNCHER, "--server-exec-path", "/nowhere/capio_server", "args.py"])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("pycapio: ")
    assert "/nowhere/capio_server" in result.stderr and "Traceback" not in result.stderr


def recorded(place: Place, words: Sequence[str]) -> tuple[list[list[Any]], int]:
    """What the launcher asks of the session when it runs these words, and its exit status."""
    path = place.directory.parent / "record"
    result = place.run([sys.executable, str(HERE / "recorder.py"), str(path), *words])
    lines = path.read_text().splitlines()
    path.unlink()
    return [json.loads(line) for line in lines], result.returncode


DEFAULTS = {
    "capio_dir": ".",
    "app_name": "writer",
    "workflow_name": "workflow",
    "silent": True,
    "server_exec_path": "capio_server",
    "capio_cl_configuration_file": "",
    "await_server_timeout_seconds": 2.0,
    "teardown_server": True,
    "persist": True,
    "resume": False,
    "resolve_prefix": "",
}


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--no-config", "--persist", "--silent", "--"], {}),
        (["--capio-dir", "folder", "--capio-dir=package"], {"capio_dir": "package"}),
        (["--app-name", "-m", "--workflow-name=a=b"], {"app_name": "-m", "workflow_name": "a=b"}),
        (["--capio-cl", "args.py"], {"capio_cl_configuration_file": "args.py"}),
        (
            ["--no-silent", "--no-persist", "--resume"],
            {"silent": False, "persist": False, "resume": True},
        ),
        (["--keep-server"], {"teardown_server": False}),
        (["--resolve-prefix", "folder"], {"resolve_prefix": "folder"}),
        (["--server-exec-path", "/a b"], {"server_exec_path": "/a b"}),
        (["--await-server-timeout", "0.5"], {"await_server_timeout_seconds": 0.5}),
    ],
    ids=str,
)
def test_options_reach_the_session(
    place: Place, words: list[str], changed: dict[str, object]
) -> None:
    del place.env["CAPIO_WORKFLOW_NAME"]
    events, status = recorded(place, [*words, "args.py", "--capio-dir", "no"])
    assert events == [["launch", {**DEFAULTS, **changed}], ["end", False]]
    assert status == 0


def test_names_of_the_environment(place: Place) -> None:
    place.env.update(CAPIO_WORKFLOW_NAME="w", CAPIO_APP_NAME="a", CAPIO_DIR="folder")
    named = {"workflow_name": "w", "app_name": "a", "capio_dir": "folder"}
    events, _ = recorded(place, ["args.py"])
    assert events[0] == ["launch", {**DEFAULTS, **named}]
    events, _ = recorded(place, ["--workflow-name", "v", "--app-name", "b", "args.py"])
    assert events[0] == ["launch", {**DEFAULTS, **named, "workflow_name": "v", "app_name": "b"}]
    place.env.update(CAPIO_WORKFLOW_NAME="", CAPIO_APP_NAME="", CAPIO_DIR="")
    events, _ = recorded(place, ["args.py"])
    assert events[0] == ["launch", DEFAULTS]


@pytest.mark.parametrize(
    ("words", "events", "status"),
    [
        (["args.py"], [["end", False]], 0),
        (["exit_with.py", "None"], [["cancel_waits", None], ["end", False]], 0),
        (["exit_with.py", "0"], [["cancel_waits", None], ["end", False]], 0),
        (["exit_with.py", "1"], [["cancel_waits", None], ["end", True]], 1),
        (["exit_with.py", "'text'"], [["cancel_waits", None], ["end", True]], 1),
        (["error.py"], [["end", True]], 1),
        (["error_in_import"], [["end", True]], 1),
        (["interrupt.py"], [["cancel_waits", None], ["end", True]], -signal.SIGINT),
    ],
    ids=str,
)
def test_end_is_announced(
    place: Place, words: list[str], events: list[object], status: int
) -> None:
    seen, code = recorded(place, words)
    assert (seen[1:], code) == (events, status)


def test_end_of_a_script_that_does_not_compile(place: Place) -> None:
    (place.directory / "odd.py").write_text("def f(:")
    events, status = recorded(place, ["odd.py"])
    assert (events[1:], status) == ([["end", True]], 1)


# ---- interception ------------------------------------------------------------


def test_steps_share_files(place: Place) -> None:
    """What one step writes, late ones included, the next reads, and the user finds in CAPIO_DIR."""
    (place.directory / "write.py").write_text(
        "import atexit, pathlib, threading\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    open('thread.txt', 'w').write('from a thread')\n"
        "threading.Thread(target=late).start()\n"
        "atexit.register(lambda: pathlib.Path('exit.txt').write_text('at exit'))\n"
        "module_level = open('open.txt', 'w')\n"
        "module_level.write('left open')\n"
    )
    (place.directory / "read.py").write_text(
        "for name in ('thread.txt', 'exit.txt', 'open.txt'):\n    print(open(name).read())\n"
    )
    wrote = place.run([*LAUNCHER, "--app-name", "writer", "write.py"])
    assert (wrote.returncode, wrote.stdout, wrote.stderr) == (0, "", "")
    read = place.run([*LAUNCHER, "--app-name", "reader", "read.py"])
    assert (read.returncode, read.stderr) == (0, "")
    assert read.stdout == "from a thread\nat exit\nleft open\n"
    plain = place.run([*PLAIN, "read.py"])
    assert plain.stdout == read.stdout
