"""Writers that wait for room: who makes it, who is told that none can come, who dies over it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from workflows import Workflow

MIB = 1 << 20

# A file that grows until it is told to stop, or cannot.
GROW = """
import errno, os, sys

def grow(f, size, step=1 << 18):
    done = 0
    while done < size:
        done += f.write(b"x" * step)
    return done
"""


def declare(capio: Workflow, *names: str, mode: str = "no_update") -> None:
    capio.config(
        [
            {
                "name": f"maker_{name}",
                "input_stream": [],
                "output_stream": [name],
                "streaming": [{"name": [name], "committed": "on_close", "mode": mode}],
            }
            for name in names
        ]
        + [{"name": "reader", "input_stream": list(names), "output_stream": []}]
    )


def test_room_comes_when_another_writer_closes(capio: Workflow) -> None:
    declare(capio, "first", "second")
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    capio.env["CAPIO_WAIT_WARN"] = "0.2"
    capio.leaves_server = True
    first = capio.step(
        "maker_first",
        GROW
        + """
f = open("first", "wb")
grow(f, 4 << 20)
f.flush()
print("grown", flush=True)
input()
f.close()
print("closed", flush=True)
input()
""",
    )
    first.expect("grown")
    second = capio.step("maker_second", GROW + 'grow(open("second", "wb"), 5 << 20)\nprint("made")')
    message = second.expect_error("waiting")
    assert "data/second to have room to grow in memory" in message
    assert "by CAPIO_MEMORY_LIMIT" in message and "'maker_first' is running" in message
    first.send()
    first.expect("closed")
    second.expect("made")
    second.finish()
    first.send()
    first.finish()
    reader = capio.run(
        "reader", 'print(*(len(open(name, "rb").read()) >> 20 for name in ("first", "second")))'
    )
    assert reader.stdout == "4 5\n"


def test_room_comes_when_a_file_is_removed(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    capio.env["CAPIO_WAIT_WARN"] = "0.2"
    step = capio.step(
        "step",
        GROW
        + """
import threading
kept = open("kept", "wb")
grow(kept, 4 << 20)
kept.flush()
def work():
    grow(open("other", "wb"), 5 << 20)
    print("made", flush=True)
thread = threading.Thread(target=work)
thread.start()
sys.stdin.readline()
os.remove("kept")
kept.close()
thread.join()
""",
    )
    step.expect_error("data/other to have room to grow")
    step.send()
    step.expect("made")
    step.finish()


def test_a_full_tmpfs(small_memory: Callable[[int], Workflow]) -> None:
    """The error names what to do; what was written is whole; room lets it go on."""
    capio = small_memory(16)
    step = capio.step(
        "step",
        GROW
        + """
f = open("big", "wb", buffering=0)
try:
    grow(f, 64 << 20)
except OSError as error:
    print(error.errno == errno.ENOSPC, error.strerror)
size = f.tell()
print(10 << 20 < size < 15 << 20, os.path.getsize("big") == size)
assert open("big", "rb").read() == b"x" * size
f.truncate(1 << 20)
f.seek(1 << 20)
assert grow(f, 4 << 20) == 4 << 20
f.close()
# Large enough for Python's own buffering, in one piece: no byte twice, none missing.
block = os.urandom(30 << 20)
with open("rows", "wb") as g:
    try:
        g.write(block)
        print("?")
    except OSError as error:
        print(error.errno == errno.ENOSPC)
    got = open("rows", "rb").read()
    print(block.startswith(got), len(got) > 5 << 20)
    g.truncate(0)
    g.seek(0)
    g.write(b"short")
print(open("rows", "rb").read(), flush=True)
""",
    )
    line = step.line()
    assert line.startswith("True the store ") and "data/big" in line, line
    assert "on its file system" in line and "CAPIO_STORE" in line and "storage fs" in line, line
    step.expect("True True", "True", "True True", "b'short'")
    step.finish()
    assert capio.wait_for_server_end()
    assert (capio.dir / "big").stat().st_size == 5 * MIB


def test_descriptors_wait_for_room_like_files(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    step = capio.run(
        "step",
        """
import errno, os
for size in (3 << 20, 3 << 20, 3 << 20):  # the third one has the first ones moved
    name = f"f{len(os.listdir())}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    assert os.pwrite(fd, b"b" * 10, 100) == 10
    assert os.write(fd, memoryview(b"a" * 100)) == 100
    assert os.writev(fd, [b"c" * 50, b"d" * 50]) == 100
    assert os.lseek(fd, 0, os.SEEK_CUR) == 200
    assert os.write(fd, b"x" * size) == size
    os.close(fd)
    assert open(name, "rb").read() == b"a" * 100 + b"c" * 50 + b"d" * 50 + b"x" * size
fd = os.open("big", os.O_WRONLY | os.O_CREAT)
try:
    while os.write(fd, b"x" * (1 << 18)):
        pass
except OSError as error:
    print(error.errno == errno.ENOSPC, "CAPIO_MEMORY_LIMIT" in error.strerror)
os.ftruncate(fd, 0)
os.close(fd)
try:
    os.write(os.open("big", os.O_RDONLY), b"x")
except OSError as error:
    print(error.errno == errno.EBADF)
""",
    )
    assert step.stdout == "True True\nTrue\n"


def test_one_that_streams_to_a_reader_is_told_when_both_wait(capio: Workflow) -> None:
    """The reader has all there is and waits for more, the writer for room: nobody can go on."""
    declare(capio, "big")
    capio.env["CAPIO_MEMORY_LIMIT"] = "8960K"  # the tables take 1 MiB of it
    capio.leaves_server = True
    reader = capio.step(
        "reader",
        """
import errno
got = 0
try:
    with open("big", "rb") as f:
        while data := f.read(100_000):
            if got == 0:
                print("reading", flush=True)
            got += len(data)
except OSError as error:
    print(error.errno == errno.EOWNERDEAD)
print(got >> 20)
""",
    )
    maker = capio.step(
        "maker_big",
        GROW
        + """
try:
    with open("big", "wb") as f:
        grow(f, 1 << 20)
        input()
        grow(f, 20 << 20)
except OSError as error:
    print(error.errno == errno.ENOSPC, flush=True)
    sys.exit(3)
""",
    )
    reader.expect("reading")
    maker.send()
    maker.expect("True")
    maker.finish(3)
    reader.expect("True", "6")
    reader.finish()


@pytest.mark.parametrize("victim", ["the waiting one", "the server"])
def test_killed_while_waiting(capio: Workflow, victim: str) -> None:
    declare(capio, "first", "second", "third")
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    capio.hold()
    # In memory from the start: it is made while there is plenty.
    third = capio.step(
        "maker_third",
        GROW
        + """
with open("third", "wb") as f:
    grow(f, 1 << 18)
    f.flush()
    print("up", flush=True)
    grow(f, int(input()) << 20)
""",
        env={"CAPIO_WAIT_WARN": "30"},
    )
    third.expect("up")
    first = capio.step(
        "maker_first", GROW + 'f = open("first", "wb")\ngrow(f, 4 << 20)\nprint("up")\ninput()'
    )
    first.expect("up")
    second = capio.step(
        "maker_second",
        GROW + 'grow(open("second", "wb"), 5 << 20)',
        env={"CAPIO_WAIT_WARN": "0.2"},
    )
    second.expect_error("waiting")
    if victim == "the server":
        os.kill(capio.server(), signal.SIGKILL)
        first.send()
        first.finish()
        second.finish()
        third.send("5")
        third.finish()
    else:
        second.kill()
        reader = capio.run(
            "reader",
            """
try:
    open("second", "rb").read()
except OSError as error:
    print(error)
""",
        )
        assert f"(pid {second.pid}) died before the file was complete" in reader.stdout
        # What the dead one had written is moved out of the way.
        third.send("1")
        third.finish()
        first.send()
        first.finish()
    assert third.stderr == ""
    sizes = capio.run("reader", 'print(*(len(open(n, "rb").read()) for n in ("first", "third")))')
    grown = 5 if victim == "the server" else 1
    assert sizes.stdout == f"{4 * MIB} {grown * MIB + (1 << 18)}\n"


def test_interrupted_while_waiting(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    capio.env["CAPIO_WAIT_WARN"] = "0.2"
    capio.leaves_server = True
    declare(capio, "first", "second")
    first = capio.step(
        "maker_first", GROW + 'f = open("first", "wb")\ngrow(f, 4 << 20)\nprint("up")\ninput()'
    )
    first.expect("up")
    second = capio.step("maker_second", GROW + 'grow(open("second", "wb"), 5 << 20)')
    second.expect_error("waiting")
    second.signal(signal.SIGINT)
    second.finish(-signal.SIGINT)
    assert "KeyboardInterrupt" in second.stderr
    first.send()
    first.finish()


def test_a_wait_for_room_can_be_bounded(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "8M"
    capio.leaves_server = True
    declare(capio, "first", "second")
    first = capio.step(
        "maker_first", GROW + 'f = open("first", "wb")\ngrow(f, 4 << 20)\nprint("up")\ninput()'
    )
    first.expect("up")
    second = capio.run(
        "maker_second",
        GROW
        + """
f = open("second", "wb", buffering=0)
try:
    grow(f, 5 << 20)
except TimeoutError as error:
    print(error)
""",
        env={"CAPIO_WAIT_TIMEOUT": "1"},
    )
    assert "CAPIO_WAIT_TIMEOUT" in second.stdout and "CAPIO_MEMORY_LIMIT" in second.stdout
    first.send()
    first.finish()


@pytest.mark.parametrize("value", ["lots", "1.5G", "-1", "0", "10 M"])
def test_a_wrong_limit_is_one_clear_error(capio: Workflow, value: str) -> None:
    step = capio.run("step", "print('ran')", status=None, env={"CAPIO_MEMORY_LIMIT": value})
    assert step.process.returncode != 0 and step.stdout == ""
    assert "CAPIO_MEMORY_LIMIT" in step.stderr and f"'{value}'" in step.stderr
    assert len(step.stderr.splitlines()) == 1
