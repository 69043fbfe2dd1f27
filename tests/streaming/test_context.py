"""CapioContext: what it decorates, what it restores, and several apps in one process."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import functools
import inspect
import io
import os
import pickle
import posixpath
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest

import pycapio
from pycapio import CapioContext, PyCAPIOException
from pycapio.internals import pycapio_get_capio_dir
from workflows import Workflow

# Every test of this file: what was patched is restored.
pytestmark = pytest.mark.usefixtures("original_functions")

# Not references: patching would find them, and replace them, too.
_OPEN = id(builtins.open)
_STAT = id(os.stat)


def is_patched() -> bool:
    patched = {id(builtins.open) != _OPEN, id(io.open) != _OPEN, id(os.stat) != _STAT}
    assert len(patched) == 1, "half patched"
    return patched.pop()


# ---- kinds of callables ----


def test_function(capio: Workflow) -> None:
    @capio.context("app")
    def work(name: str, *, text: str = "default") -> str:
        """Works."""
        assert is_patched()
        with open(capio.dir / name, "w") as f:
            f.write(text)
        return text.upper()

    assert work.__name__ == "work"
    assert work.__doc__ == "Works."
    assert list(inspect.signature(work).parameters) == ["name", "text"]
    assert work("f", text="abc") == "ABC"
    assert not is_patched()
    assert not (capio.dir / "f").exists()  # its app's end is this process's


def test_method_classmethod_staticmethod(capio: Workflow) -> None:
    context = capio.context("app")

    class Step:
        name = "step"

        @context
        def method(self) -> tuple[Any, bool]:
            return self, is_patched()

        @context
        @classmethod
        def outer_class(cls) -> tuple[Any, bool]:
            return cls, is_patched()

        @classmethod
        @context
        def inner_class(cls) -> tuple[Any, bool]:
            return cls, is_patched()

        @context
        @staticmethod
        def outer_static(value: int) -> tuple[Any, bool]:
            return value, is_patched()

        @staticmethod
        @context
        def inner_static(value: int) -> tuple[Any, bool]:
            return value, is_patched()

    step = Step()
    assert step.method() == (step, True)
    for receiver in (Step, step):
        assert receiver.outer_class() == (Step, True)
        assert receiver.inner_class() == (Step, True)
        assert receiver.outer_static(1) == (1, True)
        assert receiver.inner_static(2) == (2, True)
    assert not is_patched()


def test_callable_object(capio: Workflow) -> None:
    class Work:
        def __call__(self, x: int) -> tuple[int, bool]:
            return x, is_patched()

    assert capio.context("app")(Work())(3) == (3, True)
    with pytest.raises(TypeError):
        capio.context("app")(3)


def test_generator(capio: Workflow) -> None:
    seen = []

    @capio.context("app")
    def steps() -> Generator[int, str, str]:
        seen.append(is_patched())
        got = yield 1
        seen.append(got)
        try:
            yield 2
        except KeyError:
            seen.append(is_patched())
        yield 3
        return "end"

    generator = steps()
    assert not is_patched()
    assert next(generator) == 1
    assert not is_patched()  # suspended: the caller runs
    assert generator.send("sent") == 2
    assert generator.throw(KeyError()) == 3
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end"
    assert seen == [True, "sent", True]
    assert not is_patched()


def test_generator_closed_early(capio: Workflow) -> None:
    seen = []

    @capio.context("app")
    def steps() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            seen.append(is_patched())

    generator = steps()
    next(generator)
    generator.close()
    assert seen == [True]
    never_started = steps()
    never_started.close()
    del never_started
    assert not is_patched()


def test_generators_interleaved_and_in_another_thread(capio: Workflow) -> None:
    @capio.context("app")
    def steps() -> Generator[bool, None, None]:
        for _ in range(4):
            yield is_patched()

    first, second = steps(), steps()
    assert [next(first), next(second), next(first), next(second)] == [True] * 4
    result = []
    thread = threading.Thread(target=lambda: result.extend([next(first), is_patched()]))
    thread.start()
    thread.join()
    assert result == [True, False]
    assert list(second) == [True, True]
    first.close()


def test_coroutine(capio: Workflow) -> None:
    """Other tasks that run while it is suspended are not intercepted."""

    @capio.context("app")
    async def work(turn: asyncio.Event, done: asyncio.Event) -> list[bool]:
        before = is_patched()
        turn.set()
        await done.wait()
        return [before, is_patched()]

    async def other(turn: asyncio.Event, done: asyncio.Event) -> bool:
        await turn.wait()
        patched = is_patched()
        done.set()
        return patched

    async def main() -> list[Any]:
        turn, done = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(work(turn, done), other(turn, done))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(main()) == [[True, True], False]


def test_coroutine_cancelled(capio: Workflow) -> None:
    seen = []

    @capio.context("app")
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(is_patched())

    async def main() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == [True]


def test_async_generator(capio: Workflow) -> None:
    seen = []

    @capio.context("app")
    async def steps() -> AsyncGenerator[int, str]:
        try:
            seen.append(is_patched())
            await asyncio.sleep(0)
            got = yield 1
            seen.append(got)
            yield 2
            yield 3
        finally:
            await asyncio.sleep(0)
            seen.append(is_patched())

    async def main() -> None:
        generator = steps()
        assert await generator.asend(None) == 1  # type: ignore[arg-type]
        assert not is_patched()
        assert await generator.asend("sent") == 2
        await generator.aclose()

    asyncio.run(main())
    assert inspect.isasyncgenfunction(steps)
    assert seen == [True, "sent", True]


def test_generator_function_is_recognised(capio: Workflow) -> None:
    @capio.context("app")
    def steps() -> Generator[int, None, None]:
        yield 1

    assert inspect.isgeneratorfunction(steps)


# ---- nesting, threads, restoring ----


def test_nested_and_recursive(capio: Workflow) -> None:
    outer, inner = capio.context("outer"), capio.context("inner")

    @inner
    def leaf(depth: int) -> int:
        assert is_patched()
        return 0 if depth == 0 else 1 + leaf(depth - 1)

    @outer
    def root() -> int:
        depth = leaf(5)
        assert is_patched()
        return depth

    assert root() == 5
    assert not is_patched()


def test_as_context_manager(capio: Workflow) -> None:
    context = capio.context("app")
    with context as entered:
        assert entered is context
        assert is_patched()
        with context:
            assert is_patched()
        assert is_patched()
    assert not is_patched()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_restored_after_exceptions(capio: Workflow, error: type[BaseException]) -> None:
    context = capio.context("app")

    @context
    def fail() -> None:
        raise error

    with pytest.raises(error):
        fail()
    assert not is_patched()
    with pytest.raises(error), context:
        raise error
    assert not is_patched()


def test_restored_when_the_session_cannot_start(capio: Workflow) -> None:
    context = CapioContext(
        capio_dir=str(capio.dir), workflow_name=capio.name, server_exec_path="/no/such/server"
    )
    for _ in range(2):
        with pytest.raises(PyCAPIOException, match="/no/such/server"):
            context.__enter__()
        with pytest.raises(PyCAPIOException, match="/no/such/server"):
            context(lambda: None)()
        assert not is_patched()


def test_session_that_ended_and_cannot_start_again(
    capio: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that lies idle is ended when another of the process is in use."""
    first, second = capio.context("first"), capio.context("second")
    with first:
        pass
    with second:
        pass
    assert first.session.handle is None
    with monkeypatch.context() as patch:
        patch.setenv("CAPIO_STORE", "/proc/no/such/place")
        with pytest.raises(PyCAPIOException, match="CAPIO_STORE"):
            first.__enter__()
        assert not is_patched()
    with first:
        assert is_patched()
        with open(capio.dir / "f", "w") as f:
            f.write("x")
    assert not is_patched()


def test_capio_dir_that_does_not_exist(capio: Workflow) -> None:
    context = CapioContext(capio_dir=str(capio.dir / "absent"), workflow_name=capio.name)
    with pytest.raises((PyCAPIOException, FileNotFoundError), match="absent"):
        context.__enter__()
    assert not is_patched()


def test_several_threads(capio: Workflow) -> None:
    """One may leave while the others are inside."""
    context = capio.context("app")
    inside, leave = threading.Barrier(5), [threading.Event() for _ in range(4)]
    results: list[bool] = []

    @context
    def work(i: int) -> None:
        inside.wait(60)
        leave[i].wait(60)
        results.append(is_patched())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    inside.wait(60)
    for i, thread in enumerate(threads):
        assert is_patched()
        leave[i].set()
        thread.join()
    assert results == [True] * 4
    assert not is_patched()


def test_what_somebody_else_changed_meanwhile_is_left(capio: Workflow) -> None:
    mine = functools.partial(os.stat)
    try:
        with capio.context("app"):
            os.stat = mine
        assert os.stat is mine
    finally:
        os.stat = mine.func
    with capio.context("app"):
        assert is_patched()
    assert not is_patched()


def test_os_path_stays_the_module(capio: Workflow) -> None:
    with capio.context("app"):
        assert os.path is posixpath
        assert isinstance(os.DirEntry, type)


def test_captured_proxies_act_as_the_originals_afterwards(capio: Workflow) -> None:
    with capio.context("app"):
        captured = os.stat, open, os.listdir
    stat, opened, listdir = captured
    assert stat is not os.stat
    assert stat("/").st_ino == os.stat("/").st_ino
    with opened(os.devnull) as f:
        assert f.read() == ""
    with pytest.raises(FileNotFoundError):
        stat(capio.dir / "absent")
    assert listdir(capio.dir) == os.listdir(capio.dir)


_pickled = CapioContext(workflow_name="never started")


@_pickled
def decorated(x: int) -> int:
    return x


def test_decorated_functions_pickle() -> None:
    assert pickle.loads(pickle.dumps(decorated)) is decorated


def test_proxies_pickle(capio: Workflow) -> None:
    with capio.context("app"):
        data = pickle.dumps((os.stat, open, os.listdir))
        assert pickle.loads(data) == (os.stat, open, os.listdir)


def test_contextvars_are_untouched(capio: Workflow) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    @capio.context("app")
    def work() -> None:
        variable.set(variable.get() + 1)

    @capio.context("app")
    async def coroutine() -> None:
        variable.set(variable.get() + 1)

    @capio.context("app")
    def generator() -> Generator[None, None, None]:
        variable.set(variable.get() + 1)
        yield

    def main() -> int:
        work()
        list(generator())

        async def both() -> int:
            await coroutine()
            return variable.get()

        assert asyncio.run(both()) == 3
        return variable.get()

    assert contextvars.copy_context().run(main) == 2
    assert variable.get() == 0


# ---- files ----


def test_writer_then_reader_in_one_process(capio: Workflow) -> None:
    capio.pair(["f"], producer="writer", consumer="reader")

    @capio.context("writer")
    def write(text: str) -> None:
        with open(capio.dir / "f", "w") as f:
            f.write(text)

    @capio.context("reader")
    def read() -> str:
        with open(capio.dir / "f") as f:
            return f.read()

    for i in range(5):
        write(f"version {i}")
        assert read() == f"version {i}"


def test_writer_then_reader_in_a_plain_program(capio: Workflow) -> None:
    """The program that the documentation begins with; without a CAPIO-CL file."""
    step = capio.python(
        """
        import os
        from pycapio import CapioContext

        @CapioContext(capio_dir=DIR, app_name="writer", workflow_name=WF)
        def writer():
            with open(os.path.join(DIR, "out.txt"), "w") as f:
                for i in range(1000):
                    f.write(f"line {i}\\n")

        @CapioContext(capio_dir=DIR, app_name="reader", workflow_name=WF)
        def reader():
            with open(os.path.join(DIR, "out.txt")) as f:
                return sum(1 for _ in f)

        for _ in range(3):
            writer()
            print(reader())
        """,
        env={"CAPIO_WAIT_TIMEOUT": "20"},
    ).finish()
    assert step.stdout.splitlines() == ["1000"] * 3
    assert (capio.dir / "out.txt").read_text().count("\n") == 1000


def test_file_that_outlives_its_function(capio: Workflow) -> None:
    """It belongs to the session that opened it."""
    capio.pair(["f"], committed="on_close", producer="writer", consumer="reader")

    @capio.context("writer")
    def start() -> Any:
        return open(capio.dir / "f", "w")

    @capio.context("reader")
    def read() -> str:
        with open(capio.dir / "f") as f:
            return f.read()

    f = start()
    f.write("written outside")
    f.close()
    assert read() == "written outside"


def test_two_apps_in_two_threads(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update", producer="writer", consumer="reader")
    turn = threading.Semaphore(0)
    lines: list[str] = []

    @capio.context("writer")
    def write() -> None:
        with open(capio.dir / "f", "w", buffering=1) as f:
            for i in range(20):
                turn.acquire()
                f.write(f"{i}\n")

    @capio.context("reader")
    def read() -> None:
        with open(capio.dir / "f") as f:
            for line in f:
                lines.append(line)
                turn.release()

    threads = [threading.Thread(target=target) for target in (read, write)]
    for thread in threads:
        thread.start()
    turn.release()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert lines == [f"{i}\n" for i in range(20)]


def test_two_workflows_in_one_process(capio: Workflow, tmp_path: Path) -> None:
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    step = capio.python(
        """
        import os, sys
        from pycapio import CapioContext
        one, two = sys.argv[1:]

        def context(directory, name):
            return CapioContext(capio_dir=directory, workflow_name=WF + name, app_name="app")

        with context(one, "-1"), context(two, "-2"):
            for directory in (one, two):
                with open(os.path.join(directory, "f"), "w") as f:
                    f.write(directory)
                print(os.listdir(directory))
        print(os.listdir(one), os.listdir(two))
        """,
        *map(str, directories),
    ).finish()
    assert step.stdout.splitlines()[:2] == ["['f']"] * 2
    for directory in directories:
        assert (directory / "f").read_text() == str(directory)


def test_exception_that_leaves_the_call_fails_its_files(capio: Workflow) -> None:
    capio.pair(["f", "g"], committed="on_close", producer="writer", consumer="reader")

    @capio.context("writer")
    def write() -> None:
        with open(capio.dir / "g", "w") as f:
            f.write("closed well")
        with open(capio.dir / "f", "w") as f:
            f.write("half")
            raise ValueError("in the middle")

    @capio.context("reader")
    def read(name: str) -> str:
        with open(capio.dir / name) as f:
            return f.read()

    with pytest.raises(ValueError, match="in the middle"):
        write()
    with pytest.raises(OSError) as error:
        read("f")
    assert error.value.filename == str(capio.dir / "f")
    assert "app 'writer'" in str(error.value)
    assert read("g") == "closed well"


def test_capio_dir_is_taken_at_first_use(capio: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(capio.dir)
    with capio.context("app", capio_dir="."):
        with open("f", "w") as f:
            f.write("x")
        monkeypatch.chdir("/")
        assert os.listdir(capio.dir) == ["f"]
        assert pycapio_get_capio_dir() == str(capio.dir)


def test_defaults_and_signature() -> None:
    parameters = inspect.signature(CapioContext).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "capio_dir": ".",
        "app_name": pycapio.CAPIO_DEFAULT_APP_NAME,
        "workflow_name": pycapio.CAPIO_DEFAULT_WORKFLOW_NAME,
        "silent": True,
        "server_exec_path": "capio_server",
        "capio_cl_configuration_file": "",
        "await_server_timeout_seconds": 2,
        "teardown_server": True,
        "rules": (),
    }


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"app_name": "a\0b"}, ValueError, "app_name: embedded null byte"),
        ({"workflow_name": "a\0b"}, ValueError, "workflow_name: embedded null byte"),
        ({"await_server_timeout_seconds": 0}, ValueError, "a number above 0, not 0"),
        ({"await_server_timeout_seconds": float("nan")}, ValueError, "above 0, not nan"),
        ({"await_server_timeout_seconds": "2"}, TypeError, "is a str, not a number"),
    ],
)
def test_options_without_meaning(
    capio: Workflow, options: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        with capio.context("app", **options):
            pass


def test_capio_cl_file_of_one_step_only(capio: Workflow) -> None:
    config = capio.pair(["f"])
    with capio.context("consumer", capio_cl_configuration_file=""):
        with pytest.raises(PyCAPIOException) as caught:
            with capio.context("producer", capio_cl_configuration_file=str(config)):
                pass
    assert str(caught.value) == (
        f"workflow '{capio.name}' is running without a CAPIO-CL file, not with '{config}'; let it "
        "end first, or use another workflow name"
    )
