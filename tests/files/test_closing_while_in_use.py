"""Files that one thread closes while others use them: an error, as of any file, never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

HAMMER = """
import errno, os, random, sys, threading

buffering = int(sys.argv[1])
end = threading.Event()
# They take turns more often, and in more ways.
sys.setswitchinterval(1e-4)
slot = [open("file", "w+b", buffering)]
unexpected = []

def use(number):
    generator = random.Random(number)
    buffer = bytearray(100)
    calls = [
        lambda f: f.read(100),
        lambda f: f.readinto(buffer),
        lambda f: f.readline(),
        lambda f: f.write(buffer),
        lambda f: f.flush(),
        lambda f: f.seek(generator.randrange(1000)),
        lambda f: f.tell(),
        lambda f: f.truncate(1000),
        lambda f: f.seek(0, os.SEEK_END),
        lambda f: os.fstat(f.fileno()),
        lambda f: os.pread(f.fileno(), 10, 0),
        lambda f: getattr(f, "raw", f).read(10),
        lambda f: getattr(f, "raw", f).write(b"x"),
    ]
    while not end.is_set():
        try:
            generator.choice(calls)(slot[0])
        except ValueError:
            pass  # closed
        except OSError as error:
            if error.errno != errno.EBADF:
                unexpected.append(error)
        except BaseException as error:
            unexpected.append(error)

threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for n in range(300):
    # The descriptor's number is not given to the next file, which the others would write to.
    keep = os.open(os.devnull, os.O_RDONLY)
    old, slot[0] = slot[0], open("file", "r+b", buffering)
    try:
        getattr(old, "raw", old).close() if n % 3 == 0 else old.close()
    except (ValueError, OSError):
        pass
    os.close(keep)
end.set()
for thread in threads:
    thread.join()
slot[0].close()
print("unexpected", unexpected[:3])
"""

NEXT = """
import os, sys, tempfile, threading

way = sys.argv[1]
end = threading.Event()
# They take turns more often, and in more ways.
sys.setswitchinterval(1e-4)

def new():
    file = open("file", "w+b", 0)
    if way == "fdopen":
        return os.fdopen(os.dup(file.fileno()), "w+b", 0)
    return file

slot = [new()]
others = []

def use(number):
    buffer = bytearray(4096)
    calls = [
        lambda f: f.write(buffer),
        lambda f: f.seek(number),
        lambda f: f.truncate(100),
        lambda f: f.read(10),
    ]
    while not end.is_set():
        for call in calls:
            try:
                call(slot[0])
            except (OSError, ValueError):
                pass

threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for n in range(300):
    slot[0].close()
    # Nothing else opens files here: it has the number that has become free.
    other = open(os.path.join(sys.argv[2], str(n)), "w+b", 0)
    other.write(b"alone")
    slot[0] = new()
    others.append(other)
    if len(others) == 20:
        for other in others:
            at = other.tell()
            if (at, os.pread(other.fileno(), 100, 0)) != (5, b"alone"):
                print("disturbed", at, flush=True)
            other.close()
        others.clear()
end.set()
for thread in threads:
    thread.join()
slot[0].close()
print("done")
"""

FIRST_FILENO = """
import os, threading
from pycapio import descriptors

for n in range(200):
    file = open("file", "w+b", 0)
    barrier = threading.Barrier(4)
    numbers = []
    def ask():
        barrier.wait()
        numbers.append(file.fileno())
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entry = descriptors.find(numbers[0])
    if len(set(numbers)) != 1 or entry is None or entry.owner() is not file:
        print("lost", numbers, entry, flush=True)
    os.write(numbers[0], b"x")
    file.close()
    if descriptors.table:
        print("left", descriptors.table, flush=True)
print("done")
"""

WRITTEN_MEANWHILE = """
import os
from pycapio.proxies.descriptors import _os_write, _writing

def write_and_close():
    size = _os_write(fd, b"written")
    os.close(fd)  # as another thread would
    return size

fd = os.open("file", os.O_WRONLY | os.O_CREAT)
print(_writing(fd, None, write_and_close), open("file").read())
"""

WAITING = """
import errno, sys, threading

file = open("declared", "rb", buffering=0)
print("opened", flush=True)
result = []

def read():
    try:
        result.append(file.read(10))
    except (ValueError, OSError) as error:
        result.append(error)

thread = threading.Thread(target=read)
thread.start()
sys.stdin.readline()
file.close()
thread.join()
print("EBADF" if getattr(result[0], "errno", errno.EBADF) == errno.EBADF else result, flush=True)
"""


@pytest.mark.parametrize("buffering", [0, -1, 16], ids=["unbuffered", "buffered", "small-buffer"])
def test_threads_that_use_what_another_one_closes(capio: Any, buffering: int) -> None:
    step = capio.run("producer", HAMMER, str(buffering))
    step.expect("unexpected []")


@pytest.mark.parametrize("way", ["close", "fdopen"])
def test_no_thread_comes_to_the_descriptor_of_the_next_file(
    capio: Any, way: str, tmp_path: Path
) -> None:
    """While the number of a file that is closed is given to another one, outside CAPIO_DIR."""
    step = capio.run("producer", NEXT, way, str(tmp_path))
    step.expect("done")


def test_threads_that_ask_for_the_descriptor_first(capio: Any) -> None:
    capio.run("producer", FIRST_FILENO).expect("done")


def test_what_was_written_while_another_thread_closed(capio: Any) -> None:
    """By a call that takes the descriptor's number: it has succeeded."""
    capio.run("producer", WRITTEN_MEANWHILE).expect("7 written")


def test_a_close_ends_the_wait_of_another_thread(capio: Any) -> None:
    capio.pair(["declared"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        """
        import sys
        with open("declared", "wb", buffering=0) as file:
            file.write(b"begun")
            print("begun", flush=True)
            sys.stdin.readline()
        """,
    )
    producer.expect("begun")
    consumer = capio.step("consumer", WAITING, env={"CAPIO_WAIT_WARN": "0.05"})
    consumer.expect("opened")
    consumer.expect_error("waiting .*/declared to have more bytes")
    consumer.send()
    consumer.expect("EBADF")
    consumer.finish()
    producer.send()
    producer.finish()


def test_errors_of_an_open_file_name_it_as_plain_ones_do(capio: Any) -> None:
    """Not at all, but where they are about another process's bytes."""
    step = capio.run(
        "producer",
        """
        import os
        file = open("file", "w+b", buffering=0)
        os.close(file.fileno())
        for call in (lambda: file.read(1), lambda: file.write(b"x"), lambda: file.seek(0)):
            try:
                call()
            except OSError as error:
                print(error.errno, error.filename)
        """,
    )
    step.expect("9 None", "9 None", "9 None")
