"""What a process still writes while it ends, compared with plain python.

Each program is run plainly, under the launcher, and inside a decorated function. Afterwards the
directories must hold the same files, and output and exit status be the same.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workflows import Workflow

PROGRAMS = {
    "exit functions": """
        import atexit
        log = open("log", "w")
        atexit.register(lambda: log.write("first registered"))
        atexit.register(lambda: log.write("last registered "))
        atexit.register(lambda: open("late", "w").write("opened at exit"))
    """,
    "exit function that raises": """
        import atexit
        @atexit.register
        def fail():
            with open("f", "w") as f:
                f.write("written")
            raise ValueError("on purpose")
    """,
    "exit function in a fork child": """
        import atexit, os
        atexit.register(lambda: open("log", "a").write("x"))
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    """,
    "logging": """
        import atexit, logging
        logging.basicConfig(filename="log", format="%(message)s")
        atexit.register(logging.warning, "at exit")
        logging.warning("before")
    """,
    "logging that is flushed at exit": """
        import logging, logging.handlers
        handler = logging.handlers.MemoryHandler(100, target=logging.FileHandler("log"))
        logging.getLogger("x").addHandler(handler)
        logging.getLogger("x").warning("buffered")
    """,
    "weakref.finalize": """
        import weakref
        class Thing: pass
        thing = Thing()
        weakref.finalize(thing, lambda: open("f", "w").write("finalized"))
    """,
    "multiprocessing.util.Finalize": """
        import multiprocessing.util
        f = open("f", "w")
        multiprocessing.util.Finalize(None, f.write, args=("finalized",), exitpriority=1)
    """,
    "threads": """
        import threading
        go = threading.Event()
        def work():
            go.wait()
            with open("f", "w") as f:
                f.write("by a thread")
        threading.Thread(target=work).start()
        go.set()
    """,
    "exit functions of threading": """
        import atexit, threading
        def add(text):
            with open("f", "a") as f:
                f.write(text)
        threading._register_atexit(add, "threading ")
        atexit.register(add, "atexit")
    """,
    "executor": """
        import concurrent.futures
        executor = concurrent.futures.ThreadPoolExecutor(2)
        for i in range(8):
            executor.submit(lambda i: open(f"f{i}", "w").write(str(i)), i)
    """,
    "daemon thread": """
        import threading
        written = threading.Event()
        def work():
            global f
            f = open("f", "w")
            f.write("flushed")
            f.flush()
            written.set()
            threading.Event().wait()
        threading.Thread(target=work, daemon=True).start()
        written.wait()
    """,
    "never closed": "f = open('f', 'w'); f.write('never closed')",
    "closed by a finalizer": """
        class Writer:
            def __init__(self):
                self.f = open("f", "w")
            def __del__(self):
                self.f.write("in __del__")
                self.f.close()
        writer = Writer()
    """,
    "opened by a finalizer": """
        class Writer:
            def __del__(self, open=open):
                with open("f", "w") as f:
                    f.write("in __del__")
        writer = Writer()
    """,
    "generator closed at the end": """
        import asyncio
        async def numbers():
            try:
                yield 1
            finally:
                with open("f", "w") as f:
                    f.write("closed")
        async def first():
            async for number in numbers():
                break
        asyncio.run(first())
    """,
    "output to a file": "import sys; sys.stdout = open('f', 'w'); print('to the file')",
    "output on another descriptor": """
        import os
        f = open("f", "w")
        os.dup2(f.fileno(), 1)
        f.close()
        print("to the file")
    """,
    "exit by a signal handler": """
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
        f = open("f", "w")
        f.write("written")
        os.kill(os.getpid(), signal.SIGTERM)
    """,
    "os._exit of a fork child": """
        import os
        f = open("f", "w")
        f.write("once")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        f.close()
    """,
    "os._exit of a fork child that has written": """
        import os
        f = open("f", "w")
        f.write("once")
        pid = os.fork()
        if pid == 0:
            with open("g", "w") as g:
                g.write("by the child")
            os._exit(0)
        os.waitpid(pid, 0)
        f.close()
    """,
    "end of a fork child": """
        import os, sys
        f = open("f", "w")
        f.write("by both ")
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
    """,
    "exec of a fork child": """
        import os
        f = open("f", "w")
        f.write("once")
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/true", ["true"])
        os.waitpid(pid, 0)
        f.close()
    """,
    "worker of multiprocessing": """
        import multiprocessing
        def work():
            with open("g", "w") as g:
                g.write("by the worker")
        f = open("f", "w")
        f.write("once")
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        worker.join()
        f.close()
    """,
}
# These leave something to be removed by the end of the process; after a decorated call has
# returned, that is a limit.
CLEANED_UP = {
    "temporary directory": """
        import os, tempfile
        directory = tempfile.TemporaryDirectory(dir=".")
        open(os.path.join(directory.name, "f"), "w").write("1")
    """,
    "temporary file": "import tempfile; f = tempfile.NamedTemporaryFile(dir='.'); f.write(b'1')",
}
# The end of a step that decides about its files: what was closed is whole, or is failed with it.
BAD_ENDS = {
    "import sys; sys.exit(4)": 4,
    "1 / 0": 1,
    "import os; os._exit(3)": 3,
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": -15,
    "import os, signal; os.kill(os.getpid(), signal.SIGINT)": -2,
    "import os; os.abort()": -6,
    "import atexit, os; atexit.register(os._exit, 5)": 5,
}


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and ".capio" not in path.parts
    }


def same(capio: Workflow, program: str, launcher: bool) -> None:
    text = textwrap.dedent(program)
    plain = capio.tmp_path / "plain"
    plain.mkdir()
    script = capio.script(text)
    expected = subprocess.run(
        [sys.executable, script], cwd=plain, env=capio.env, capture_output=True, text=True
    )
    if launcher:
        step = capio.start([sys.executable, "-m", "pycapio", *capio.options("step"), str(script)])
        step.finish(expected.returncode)
    else:
        step = capio.python(
            f"""
            from pycapio import CapioContext
            @CapioContext(capio_dir=DIR, workflow_name=WF, await_server_timeout_seconds=60)
            def main():
                exec(compile({text!r}, {str(script)!r}, "exec"), globals())
            main()
            """
        ).finish(expected.returncode)
    assert capio.wait_for_server_end()
    assert contents(capio.dir) == contents(plain)
    assert step.stdout == expected.stdout
    # A function is shown with its address.
    last = [text.strip().rpartition("\n")[2] for text in (step.stderr, expected.stderr)]
    assert last[0] == last[1]


@pytest.mark.parametrize("launcher", [True, False], ids=["launcher", "decorator"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_last_writes(capio: Workflow, program: str, launcher: bool) -> None:
    same(capio, PROGRAMS[program], launcher)


@pytest.mark.parametrize("program", CLEANED_UP)
def test_clean_up(capio: Workflow, program: str) -> None:
    same(capio, CLEANED_UP[program], launcher=True)


@pytest.mark.parametrize("launcher", [True, False], ids=["launcher", "decorator"])
@pytest.mark.parametrize("end", BAD_ENDS)
def test_bad_end(capio: Workflow, end: str, launcher: bool) -> None:
    """What would have been complete by the end fails, and is kept aside; a file closed under
    on_close is good."""
    capio.config(
        [
            {
                "name": "step",
                "input_stream": [],
                "output_stream": ["open", "closed", "later"],
                "streaming": [{"name": ["closed"], "committed": "on_close"}],
            }
        ],
        permanent=["open", "closed", "later"],
    )
    text = "\n".join(
        [
            "for name in ('closed', 'later'):",
            "    with open(name, 'w') as f: f.write('closed')",
            "g = open('open', 'w'); g.write('half'); g.flush()",
            end,
        ]
    )
    if launcher:
        step = capio.step("step", text)
    else:
        step = capio.python(
            f"""
            from pycapio import CapioContext
            @CapioContext(capio_dir=DIR, workflow_name=WF, app_name="step",
                          capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60)
            def main():
                exec({text!r}, globals())
            main()
            """
        )
    step.finish(BAD_ENDS[end])
    assert capio.wait_for_server_end()
    assert contents(capio.dir) == {"closed": "closed"}
    kept = capio.dir / ".capio" / "salvage" / capio.name
    assert contents_of(kept) == {"open": "half", "later": "closed"}


def contents_of(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}
