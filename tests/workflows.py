"""Workflows of real processes for the tests, and proof that they leave nothing behind.

Nothing here sleeps or polls: tests wait for lines on pipes, for the end of a process (its pidfd),
or for the end of a pipe; every wait has a deadline.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

# Generous: the machine may be slow; a test that hits it has failed.
TIME_LIMIT = float(os.environ.get("CAPIO_TEST_TIME_LIMIT") or 60)
# How long a server may wait for declared apps that have yet to come: a test's next step does so in
# time, however slow the machine is. Seconds.
LINGER = 30

# For a step that is to tell at once that it waits.
SAYS_SO = {"CAPIO_WAIT_WARN": "0.05"}

# Prints the content of each file named, or why there is none.
READ_ALL = """
    import sys
    for name in sys.argv[1:]:
        try:
            print(open(name).read(), flush=True)
        except OSError as error:
            print(name, error.errno, error.strerror, flush=True)
"""

_OURS = ("CAPIO_", "PYTHON", "PYTEST_", "COVERAGE", "SLURM_", "PMI_", "OMPI_", "PBS_", "LSB_")


class Step:
    """A process of a workflow. Its output is read by threads, so it never blocks on a full pipe."""

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path,
        env: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._changed = threading.Condition()
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._ended: set[str] = set()
        self._taken = {"stdout": 0, "stderr": 0}
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._lines
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        for line in getattr(self.process, name):
            with self._changed:
                self._lines[name].append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended.add(name)
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has printed so far; everything after finish()."""
        return "".join(line + "\n" for line in self._lines["stdout"])

    @property
    def stderr(self) -> str:
        return "".join(line + "\n" for line in self._lines["stderr"])

    def _fail(self, reason: str) -> None:
        pytest.fail(
            f"{reason} (pid {self.pid}, status {self.process.poll()})\n"
            f"--- stdout\n{self.stdout}--- stderr\n{self.stderr}",
            pytrace=True,
        )

    def line(self, stream: str = "stdout", limit: float = TIME_LIMIT) -> str:
        """The next line that was not taken yet."""
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: len(self._lines[stream]) > self._taken[stream] or stream in self._ended,
                limit,
            )
            if arrived and len(self._lines[stream]) > self._taken[stream]:
                self._taken[stream] += 1
                return self._lines[stream][self._taken[stream] - 1]
        self._fail(f"no further line on {stream}")
        raise AssertionError

    def expect(self, *lines: str) -> None:
        """The next lines of stdout are these."""
        for wanted in lines:
            got = self.line()
            if got != wanted:
                self._fail(f"expected the line {wanted!r}, got {got!r}")

    def expect_error(self, pattern: str, limit: float = TIME_LIMIT) -> str:
        """Takes lines of stderr up to one that the pattern matches somewhere."""
        while True:
            line = self.line("stderr", limit)
            if re.search(pattern, line):
                return line

    def send(self, line: str = "") -> None:
        """A line for the step's stdin."""
        stdin = self.process.stdin
        if stdin is None:
            raise ValueError("stdin is closed")
        stdin.write(line + "\n")
        stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and reaped: the process is gone when this returns."""
        self.process.kill()
        self.process.wait(TIME_LIMIT)

    def finish(
        self, status: int | None = 0, limit: float = TIME_LIMIT, close_stdin: bool = True
    ) -> Step:
        """Waits for the end of the process and of its output, and checks the exit status (None for
        any; negative for a signal)."""
        if self.process.stdin is not None and close_stdin:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self._fail(f"still running after {limit} s")
        self._drain(limit)
        if status is not None and self.process.returncode != status:
            self._fail(f"expected exit status {status}")
        return self

    def _drain(self, limit: float) -> None:
        deadline = time.monotonic() + limit
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
            if reader.is_alive():
                self._fail("a process still holds its output open")

    def destroy(self) -> bool:
        """Kills the process and its children. Returns whether it was still running."""
        running = self.process.poll() is None
        # Children in the session may outlive their parent.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(TIME_LIMIT)
        for reader in self._readers:
            reader.join(TIME_LIMIT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        return running


def wait_for_end(pid: int, limit: float = TIME_LIMIT) -> bool:
    """Waits until a process that need not be a child has ended; False if it has not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(limit * 1000))
    finally:
        os.close(descriptor)


def processes_naming(text: str) -> dict[int, str]:
    """Live processes (not zombies, not this one) with text in their command line."""
    found = {}
    needle = text.encode()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = Path(entry.path, "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if needle in command:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode("utf-8", "replace")
    return found


class Workflow:
    """CAPIO_DIR, a store and a workflow name that nobody else uses, and what runs in them.

    The server has to end by itself after the test, unless the test says ``leaves_server = True``
    (a declared app never ran, say): then it is told to by SIGTERM.
    """

    def __init__(self, tmp_path: Path, store: Path) -> None:
        self.tmp_path = tmp_path
        self.dir = tmp_path / "data"
        self.dir.mkdir()
        self.store = store
        self.name = f"wf-{uuid.uuid4().hex[:12]}"
        self.config_file: Path | None = None
        self.leaves_server = False
        self.prefix: list[str] = []  # what starts every command of its steps
        self._scripts = tmp_path / "scripts"
        self._scripts.mkdir()
        self._steps: list[Step] = []
        self._holders: list[Step] = []
        self._contexts: list[Any] = []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        for name in ("CAPIO_LIB",):
            if name in os.environ:
                self.env[name] = os.environ[name]
        self.env["CAPIO_STORE"] = str(store)
        self.env["CAPIO_LINGER"] = str(LINGER)

    # ---- what the workflow is ----

    def config(self, graph: Sequence[Mapping[str, Any]], **rest: Any) -> Path:
        """Writes the CAPIO-CL file that steps started from now on are given."""
        self.config_file = self.tmp_path / "workflow.json"
        text = json.dumps({"name": self.name, "IO_Graph": list(graph), **rest})
        self.config_file.write_text(text)
        return self.config_file

    def pair(
        self,
        files: Sequence[str],
        *,
        committed: str | None = None,
        mode: str | None = None,
        producer: str = "producer",
        consumer: str = "consumer",
        **rest: Any,
    ) -> Path:
        """The CAPIO-CL file of one producer and one consumer of the files, under one rule."""
        rule: dict[str, Any] = {"name": list(files)}
        if committed is not None:
            rule["committed"] = committed
        if mode is not None:
            rule["mode"] = mode
        return self.config(
            [
                {
                    "name": producer,
                    "input_stream": [],
                    "output_stream": list(files),
                    "streaming": [rule],
                },
                {"name": consumer, "input_stream": list(files), "output_stream": []},
            ],
            **rest,
        )

    # ---- its processes ----

    def script(self, text: str, name: str = "step") -> Path:
        path = self._scripts / f"{name}{len(list(self._scripts.iterdir()))}.py"
        path.write_text(textwrap.dedent(text))
        return path

    def options(self, app: str) -> list[str]:
        """The launcher's options for a step of this workflow."""
        options = ["--capio-dir", str(self.dir), "--workflow-name", self.name, "--app-name", app]
        options += ["--await-server-timeout", str(int(TIME_LIMIT))]
        if self.config_file is not None:
            options += ["--capio-cl", str(self.config_file)]
        return options

    def step(
        self,
        app: str,
        text: str,
        *args: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Step:
        """Starts a script under the launcher, in CAPIO_DIR."""
        command = [sys.executable, "-m", "pycapio", *self.options(app), *options]
        command += [str(self.script(text, app)), *args]
        return self.start(command, env=env, pass_fds=pass_fds)

    def python(self, text: str, *args: str, env: Mapping[str, str] | None = None) -> Step:
        """Starts a script with plain Python, in CAPIO_DIR. WF, DIR and CONFIG are in its globals:
        the workflow's name, CAPIO_DIR and the CAPIO-CL file ("" for none)."""
        head = (
            f"WF = {self.name!r}\nDIR = {str(self.dir)!r}\n"
            f"CONFIG = {str(self.config_file or '')!r}\n"
        )
        path = self.script(head + textwrap.dedent(text))
        return self.start([sys.executable, str(path), *args], env=env)

    def start(
        self,
        command: Sequence[str | os.PathLike[str]],
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Step:
        environment = {**self.env, **(env or {})}
        whole = [*self.prefix, *command]
        step = Step(whole, cwd=self.dir, env=environment, pass_fds=pass_fds)
        self._steps.append(step)
        return step

    def run(self, app: str, text: str, *args: str, status: int | None = 0, **rest: Any) -> Step:
        """Runs a script under the launcher to its end."""
        return self.step(app, text, *args, **rest).finish(status)

    def completes_on_send(
        self, producer: Step, contents: Mapping[str, str], said: str = ""
    ) -> None:
        """A consumer waits for the first of these files until the producer gets a line, and then
        reads them all. said: what it says more of its wait, a pattern."""
        names = list(contents)
        consumer = self.step("consumer", READ_ALL, *names, env=SAYS_SO)
        consumer.expect_error(f"waiting .*/{names[0]} to be complete{said}")
        producer.send()
        consumer.expect(*contents.values())
        consumer.finish()

    def hold(self) -> None:
        """Keeps the workflow alive to the end of the test, by a step that has nothing to do with
        its files: when all declared apps have ended, the server would end, too."""
        holder = self.step("holder", "print('up', flush=True)\nimport sys\nsys.stdin.read()\n")
        holder.expect("up")
        self._holders.append(holder)

    def context(self, app: str, **options: Any) -> Any:
        """A CapioContext of this workflow in the test's own process."""
        from pycapio import CapioContext

        settings: dict[str, Any] = {
            "capio_dir": str(self.dir),
            "app_name": app,
            "workflow_name": self.name,
            "capio_cl_configuration_file": str(self.config_file or ""),
            "await_server_timeout_seconds": TIME_LIMIT,
        }
        context = CapioContext(**{**settings, **options})
        self._contexts.append(context)
        return context

    # ---- its server ----

    def servers(self) -> list[int]:
        """The process ids of its servers."""
        return [
            pid
            for pid, command in processes_naming(self.name).items()
            if f"capio_server --daemon --ready-fd 3 --workflow-name {self.name} " in command
        ]

    def server(self) -> int:
        """The process id of its server, which must be running."""
        servers = self.servers()
        if len(servers) != 1:
            pytest.fail(f"expected one server, found {servers}")
        return servers[0]

    def stop_server(self) -> None:
        """SIGTERM; returns when it is gone."""
        for pid in self.servers():
            os.kill(pid, signal.SIGTERM)
            if not wait_for_end(pid):
                pytest.fail(f"the server (pid {pid}) has not ended on SIGTERM")

    def wait_for_server_end(self, limit: float = TIME_LIMIT) -> bool:
        """Waits until the server has ended by itself."""
        return all(wait_for_end(pid, limit) for pid in self.servers())

    # ---- the end ----

    def close(self) -> None:
        """Ends everything and checks that nothing is left."""
        for holder in self._holders:
            holder.finish()
        wrong = [
            f"process {step.pid} was still running\n--- stdout\n{step.stdout}"
            f"--- stderr\n{step.stderr}"
            for step in self._steps
            if step.destroy()
        ]
        for context in self._contexts:
            _forget(context)
        if self.leaves_server:
            self.stop_server()
        elif not self.wait_for_server_end():
            wrong.append(f"the server has not ended by itself:\n{self.log()}")
        for pid in self.servers():
            wrong.append(f"the server (pid {pid}) had to be killed")
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
        for pid, command in processes_naming(self.name).items():
            wrong.append(f"process {pid} is left: {command}")
        wrong += [f"left in the store: {path}" for path in left_in_store(self.store)]
        # os.walk minds no directory that another test removes meanwhile, and follows no links.
        for base, directories, names in os.walk("/dev/shm"):
            found = [name for name in directories + names if self.name in name]
            wrong += [f"left: {base}/{name}" for name in found]
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)

    def log(self) -> str:
        """The server's log."""
        return "".join(path.read_text() for path in self.store.glob("capio-*/*/log"))


def left_in_store(store: Path) -> list[Path]:
    """What is in a store. The per-user directory itself may stay: workflows come and go in it."""
    return list(store.glob("capio-*/*"))


def _forget(context: Any) -> None:
    # Sessions stay attached for the life of a process, which here is that of all tests.
    from pycapio import context as context_module

    session = context._session
    if session is None:
        return
    session.close()
    for key, value in list(context_module._known.items()):
        if value is session:
            del context_module._known[key]


@pytest.fixture
def capio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow]:
    """A workflow of its own. The store is on disk, so that tests do not compete for /dev/shm;
    CAPIO_TEST_STORE names another parent directory for it."""
    parent = os.environ.get("CAPIO_TEST_STORE")
    store = Path(parent, f"capio-test-{uuid.uuid4().hex}") if parent else tmp_path / "store"
    store.mkdir(parents=True)
    workflow = Workflow(tmp_path, store)
    for name in list(os.environ):
        if name.startswith("CAPIO_") and name != "CAPIO_LIB" and not name.startswith("CAPIO_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CAPIO_STORE", workflow.env["CAPIO_STORE"])
    monkeypatch.setenv("CAPIO_LINGER", workflow.env["CAPIO_LINGER"])
    try:
        yield workflow
    finally:
        try:
            workflow.close()
        finally:
            if parent:
                shutil.rmtree(store)


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A directory on tmpfs, for a store that has to be one; removed at the end."""
    directory = Path("/dev/shm", f"capio-test-{uuid.uuid4().hex}")
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no tmpfs at /dev/shm: {error}")
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def original_functions() -> Iterator[None]:
    """At the end of the test every function that can be patched is what it was.

    Compared by id(): patching finds, and replaces, the references that a test keeps.
    """
    import builtins
    import genericpath
    import io
    import pathlib
    import posixpath

    def taken() -> dict[str, int]:
        return {
            f"{owner.__name__}.{name}": id(value)
            for owner in (builtins, io, os, posixpath, genericpath, pathlib.Path)
            for name, value in vars(owner).items()
            if callable(value)
        }

    before = taken()
    yield
    after = taken()
    changed = [name for name in before if before[name] != after.get(name)]
    if changed:
        pytest.fail(f"not restored: {', '.join(changed)}", pytrace=False)


# ---- the whole run -------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Shells start background jobs with SIGINT ignored, which the steps would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """No test left a process behind: every server has its CAPIO_DIR in its command line, and every
    CAPIO_DIR of a test lies below pytest's temporary directory."""
    if hasattr(session.config, "workerinput"):
        return  # xdist: the controller looks
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is None:
        return
    base = str(factory.getbasetemp())
    left = [
        f"pid {pid}: {command}"
        for pid, command in processes_naming(base).items()
        if "capio_server" in command
    ]
    if left:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("servers left by the tests:\n" + "\n".join(left), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
