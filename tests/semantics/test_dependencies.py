"""Commits that depend on other files (on_file), and waits that nobody can end (EDEADLK)."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from workflows import Workflow

TELLS = """
import errno, os
try:
    print(open("f").read())
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def declare(capio: Workflow, dependencies: list[str], flags: dict[str, Any]) -> None:
    capio.config(
        [
            {
                "name": "writer",
                "input_stream": [],
                "output_stream": ["f"],
                "streaming": [{"name": ["f"], "committed": "on_file", "file_deps": dependencies}],
            },
            {
                "name": "checker",
                "input_stream": ["f"],
                "output_stream": ["ok/*"],
                "streaming": [{"name": ["ok/*"], "committed": "on_close", **flags}],
            },
            {"name": "reader", "input_stream": ["f"], "output_stream": []},
        ]
    )


def test_the_file_of_another_step_commits_it(capio: Workflow) -> None:
    declare(capio, ["ok/1", "ok/2"], {})
    writer = capio.step(
        "writer", "open('f', 'w').write('text')\nprint('up', flush=True)\ninput()\n"
    )
    writer.expect("up")
    reader = capio.step("reader", TELLS, env={"CAPIO_WAIT_WARN": "0.05"})
    reader.expect_error("f to be complete")
    checker = capio.step(
        "checker",
        "import os\nos.mkdir('ok')\nopen('ok/1', 'w').close()\nprint('one', flush=True)\ninput()\n"
        "open('ok/2', 'w').close()\ninput()\n",
    )
    checker.expect("one")
    waiting = capio.run("reader", TELLS, env={"CAPIO_WAIT_TIMEOUT": "0.05"})
    assert waiting.stdout == "ETIMEDOUT\n"
    checker.send()
    reader.expect("text")
    # Both who made it are still running.
    checker.send()
    writer.send()
    for step in (reader, checker, writer):
        step.finish()


def test_a_pattern_of_files_is_complete_when_their_makers_have_ended(capio: Workflow) -> None:
    declare(capio, ["ok/*"], {})
    writer = capio.step(
        "writer", "open('f', 'w').write('text')\nprint('up', flush=True)\ninput()\n"
    )
    writer.expect("up")
    checker = capio.step(
        "checker",
        "import os\nos.mkdir('ok')\nopen('ok/1', 'w').close()\nprint('one', flush=True)\ninput()\n",
    )
    checker.expect("one")
    waiting = capio.run("reader", TELLS, env={"CAPIO_WAIT_TIMEOUT": "0.05"})
    assert waiting.stdout == "ETIMEDOUT\n"
    checker.send()
    checker.finish()
    assert capio.run("reader", TELLS).stdout == "text\n"
    writer.send()
    writer.finish()


def test_a_dependency_that_failed_fails_it(capio: Workflow) -> None:
    declare(capio, ["ok/1"], {})
    capio.hold()
    capio.run("writer", "open('f', 'w').write('text')\n")
    checker = capio.step(
        "checker",
        "import os\nos.mkdir('ok')\nf = open('ok/1', 'w')\nprint('up', flush=True)\ninput()",
    )
    checker.expect("up")
    reader = capio.step("reader", TELLS)
    checker.kill()
    reader.expect("EOWNERDEAD")
    reader.finish()


def test_without_its_dependency_the_end_of_its_producers_commits_it(capio: Workflow) -> None:
    declare(capio, ["ok/1"], {})
    capio.hold()
    reader = capio.step("reader", TELLS)
    capio.run("writer", "open('f', 'w').write('text')\n")
    capio.run("checker", "pass\n")
    reader.expect("text")
    reader.finish()


def test_chain_of_dependencies(capio: Workflow) -> None:
    """a is complete when b is, b when c is: the one close of c commits all three."""
    capio.config(
        [
            {
                "name": "writer",
                "input_stream": [],
                "output_stream": ["a", "b", "c"],
                "streaming": [
                    {"name": ["a"], "committed": "on_file", "file_deps": ["b"]},
                    {"name": ["b"], "committed": "on_file", "file_deps": ["c"]},
                    {"name": ["c"], "committed": "on_close"},
                ],
            },
            {"name": "reader", "input_stream": ["a", "b", "c"], "output_stream": []},
        ]
    )
    writer = capio.step(
        "writer",
        "for name in 'ab':\n    open(name, 'w').write(name)\nprint('up', flush=True)\ninput()\n"
        "open('c', 'w').write('c')\nprint('up', flush=True)\ninput()\n",
    )
    writer.expect("up")
    reads = "print(open('a').read(), open('b').read(), open('c').read())\n"
    waiting = capio.run("reader", reads, env={"CAPIO_WAIT_TIMEOUT": "0.05"}, status=1)
    assert "TimeoutError" in waiting.stderr
    writer.send()
    writer.expect("up")
    assert capio.run("reader", reads).stdout == "a b c\n"
    writer.send()
    writer.finish()


CIRCLE = """
import sys
mine, other = sys.argv[1:3]
file = open(mine, "w")
print("up", flush=True)
{wait}
file.close()
"""


@pytest.mark.parametrize("threads", ["main", "pool"])
def test_steps_that_wait_for_each_other(capio: Workflow, threads: str) -> None:
    """Each reads what the other has yet to close: one of them is told, naming both."""
    capio.config(
        [
            {
                "name": app,
                "input_stream": [theirs],
                "output_stream": [ours],
                "streaming": [{"name": [ours], "committed": "on_close"}],
            }
            for app, ours, theirs in (("left", "l", "r"), ("right", "r", "l"))
        ]
    )
    if threads == "main":
        wait = "open(other).read()"
    else:
        # The main thread waits for a thread that waits.
        wait = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(2) as pool:\n"
            "    list(pool.map(lambda _: open(other).read(), range(2)))\n"
        )
    script = CIRCLE.format(wait=wait)
    left = capio.step("left", script, "l", "r")
    right = capio.step("right", script, "r", "l")
    for step in (left, right):
        step.finish(1)
    told = [step for step in (left, right) if "a deadlock" in step.stderr]
    assert told
    for step in told:
        assert f"[Errno {errno.EDEADLK}]" in step.stderr
        for part in ("app 'left'", "app 'right'", f"pid {left.pid}", f"pid {right.pid}"):
            assert part in step.stderr


def test_a_thread_that_works_is_no_deadlock(capio: Workflow) -> None:
    """Two of three threads wait in a circle; the third is about to write what ends it."""
    capio.config(
        [
            {
                "name": app,
                "input_stream": [theirs],
                "output_stream": [ours],
                "streaming": [{"name": [ours], "committed": "on_close"}],
            }
            for app, ours, theirs in (("left", "l", "r"), ("right", "r", "l"))
        ]
    )
    left = capio.step(
        "left",
        """
        import threading
        reader = threading.Thread(target=lambda: print(open("r").read(), flush=True))
        reader.start()
        print("up", flush=True)
        input()  # longer than it takes to find a deadlock
        with open("l", "w") as file:
            file.write("from left")
        reader.join()
        """,
    )
    right = capio.step(
        "right",
        "text = open('l').read()\nopen('r', 'w').write(text + ', seen by right')\n",
        env={"CAPIO_WAIT_WARN": "4"},
    )
    left.expect("up")
    right.expect_error("waiting 4 s")
    left.send()
    left.expect("from left, seen by right")
    for step in (left, right):
        step.finish()
