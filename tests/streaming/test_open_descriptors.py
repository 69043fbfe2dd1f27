"""Descriptors of files that grow: reads wait for bytes, questions of size for commit, and what is
written is seen.

That a step waits is seen by its own message (CAPIO_WAIT_WARN), not by the passing of time.
"""

from __future__ import annotations

import os

import pytest

from workflows import SAYS_SO, Step, Workflow

# Writes "one", says so, and after a line "two"; then closes.
TWO_PARTS = """
    import os
    fd = os.open("f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"one")
    print("up", flush=True)
    input()
    os.write(fd, b"two")
    os.close(fd)
    print("closed", flush=True)
"""


def producing(capio: Workflow, text: str = TWO_PARTS, **rule: str) -> Step:
    capio.pair(["f"], **{"committed": "on_close", "mode": "no_update", **rule})
    producer = capio.step("producer", text)
    producer.expect("up")
    return producer


# ---- consumers ----


@pytest.mark.parametrize(
    "read",
    [
        "os.read(fd, 100)",
        "os.pread(fd, 100, 0)",
        "(lambda b: bytes(b[:os.readv(fd, [b])]))(bytearray(100))",
        "(lambda b: bytes(b[:os.preadv(fd, [b], 0)]))(bytearray(100))",
        "os.read(os.dup(fd), 100)",
        "os.read(os.dup2(fd, 77), 100)",
        "os.read(fcntl.fcntl(fd, fcntl.F_DUPFD, 50), 100)",
        "open(fd, 'rb', closefd=False).read()",
        "open(os.dup(fd), 'rb').read()",
        "io.FileIO(fd, closefd=False).read()",
        "os.fdopen(fd, 'rb', buffering=0).readall()",
        *(["(lambda b: bytes(b[:os.readinto(fd, b)]))(bytearray(100))"] * hasattr(os, "readinto")),
    ],
)
def test_reads_wait_for_their_bytes(capio: Workflow, read: str) -> None:
    """Short only at the end: what is there so far is not the end."""
    producer = producing(capio)
    consumer = capio.step(
        "consumer",
        f"import fcntl, io, os\nfd = os.open('f', os.O_RDONLY)\nprint({read}.decode())\n",
        env=SAYS_SO,
    )
    # Who reads all that there is waits for the end.
    what = "be complete" if read.endswith((".read()", ".readall()")) else "have more bytes"
    consumer.expect_error(f"waiting .*/f to {what}")
    producer.send()
    consumer.expect("onetwo")
    for step in (producer, consumer):
        step.finish()


@pytest.mark.parametrize("read", ["os.read(fd, 3)", "os.pread(fd, 3, 0)", "os.read(os.dup(fd), 3)"])
def test_reads_return_as_soon_as_their_bytes_are_there(capio: Workflow, read: str) -> None:
    producer = producing(capio)
    consumer = capio.step(
        "consumer", f"import os\nfd = os.open('f', os.O_RDONLY)\nprint({read}, flush=True)\ninput()"
    )
    consumer.expect("b'one'")  # the producer has not written more
    producer.send()
    consumer.send()
    for step in (producer, consumer):
        step.finish()


@pytest.mark.parametrize(
    "ask",
    [
        "os.lseek(fd, 0, os.SEEK_END)",
        "os.lseek(fd, 0, os.SEEK_HOLE)",
        "os.fstat(fd).st_size",
        "os.stat(fd).st_size",
        "os.path.getsize(fd)",
        "os.fstat(os.dup(fd)).st_size",
        "len(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))",
        "os.sendfile(pipe[1], fd, 0, 100)",
        "os.splice(fd, pipe[1], 100) if hasattr(os, 'splice') else os.fstat(fd).st_size",
        "os.copy_file_range(fd, other, 100)",
        "os.sendfile(other, fd, 0, 100)",
        "ours.sendfile(open(fd, 'rb'))",
        "len(subprocess.run(['cat'], stdin=fd, capture_output=True).stdout)",
        "len(subprocess.run(['cat', f'/dev/fd/{fd}'], pass_fds=[fd], capture_output=True).stdout)",
        "numpy.fromfile(open(fd, 'rb'), 'b').size",
        "numpy.memmap(open(fd, 'rb'), 'b', 'r').size",
    ],
)
def test_questions_of_size_wait_for_commit(capio: Workflow, ask: str) -> None:
    if "numpy" in ask:
        pytest.importorskip("numpy")
    producer = producing(capio)
    consumer = capio.step(
        "consumer",
        f"""
        import mmap, os, socket, subprocess
        if "numpy" in {ask!r}:
            import numpy
        pipe = os.pipe()
        ours, theirs = socket.socketpair()
        fd = os.open("f", os.O_RDONLY)
        other = os.open({str(capio.tmp_path / "other")!r}, os.O_CREAT | os.O_WRONLY)
        print({ask})
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to be complete")
    producer.send()
    consumer.expect("6")
    for step in (producer, consumer):
        step.finish()


def test_questions_of_kind_do_not_wait(capio: Workflow) -> None:
    producer = producing(capio)
    capio.run(
        "consumer",
        """
        import os
        fd = os.open("f", os.O_RDONLY)
        print(os.path.exists(fd), os.path.isfile(fd), os.path.isdir(fd), os.isatty(fd))
        print(os.lseek(fd, 2, os.SEEK_SET), os.lseek(fd, -1, os.SEEK_CUR), os.get_inheritable(fd))
        os.close(fd)
        """,
    ).expect("True True False False", "2 1 False")
    producer.send()
    producer.finish()


@pytest.mark.parametrize(
    "call",
    [
        "os.read(fd, 100)", "os.pread(fd, 100, 0)", "os.fstat(fd)", "os.lseek(fd, 0, os.SEEK_END)",
        "os.sendfile(1, fd, 0, 100)", "mmap.mmap(fd, 0)", "os.read(os.dup(fd), 100)",
        "open(fd, 'rb').read()", "os.readv(fd, [bytearray(100)])",
    ],
)  # fmt: skip
def test_a_dead_producer_is_told_with_the_name(capio: Workflow, call: str) -> None:
    producer = producing(capio)
    consumer = capio.step(
        "consumer",
        f"""
        import mmap, os
        fd = os.open("f", os.O_RDONLY)
        try:
            {call}
        except OSError as error:
            print(error.errno == 130, error.filename)
        print(os.lseek(fd, 0, os.SEEK_CUR) if "open" not in {call!r} else 0)
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f")
    producer.kill()
    consumer.expect("True f", "0")  # and nothing was taken from what is there
    consumer.finish()


def test_plain_errors_name_no_file(capio: Workflow) -> None:
    producer = producing(capio)
    capio.run(
        "consumer",
        """
        import os
        fd = os.open("f", os.O_RDONLY)
        for call in ("os.write(fd, b'x')", "os.lseek(fd, -1, 0)", "os.pread(fd, 1, -1)",
                     "os.ftruncate(fd, 0)"):
            try:
                eval(call)
            except OSError as error:
                print(error.errno, error.filename)
        """,
    ).expect("9 None", "22 None", "22 None", "22 None")
    producer.send()
    producer.finish()


# ---- writers ----

WRITES = {
    "write": "os.write(fd, b'two')",
    "writev": "os.writev(fd, [b't', b'wo'])",
    "pwrite": "os.pwrite(fd, b'two', 3)",
    "pwritev": "os.pwritev(fd, [b't', b'wo'], 3)",
    "sendfile": "os.sendfile(fd, source, 0, 3)",
    "copy_file_range": "os.copy_file_range(source, fd, 3)",
    "copy_file_range_at": "os.copy_file_range(source, fd, 3, 0, 3)",
    "splice": "(os.write(pipe[1], b'two'), os.splice(pipe[0], fd, 3))"
    if hasattr(os, "splice")
    else "os.write(fd, b'two')",
    "dup": "os.write(os.dup(fd), b'two')",
    "fileno": "os.write(file.fileno(), b'two')",
    "closefd": "open(fd, 'wb', 0, closefd=False).write(b'two')",
    "fsync": "(libc.write(fd, b'two', 3), os.fsync(fd))",
}


def writing(capio: Workflow, body: str) -> Step:
    source = capio.tmp_path / "source"
    source.write_bytes(b"two")
    return capio.step(
        "producer",
        f"""
        import ctypes, os
        libc = ctypes.CDLL(None)
        source = os.open({str(source)!r}, os.O_RDONLY)
        pipe = os.pipe()
        {body}
        """,
    )


@pytest.mark.parametrize("way", WRITES)
def test_written_bytes_are_published(capio: Workflow, way: str) -> None:
    """The reader gets them while the file is open, without waiting for a time-out of its sleep."""
    capio.pair(["f"], committed="on_close", mode="no_update")
    opened = (
        "file = open('f', 'wb', 0); fd = file.fileno()"
        if way == "fileno"
        else "fd = os.open('f', os.O_CREAT | os.O_RDWR)"
    )
    producer = writing(
        capio,
        f"{opened}; os.write(fd, b'one'); print('up', flush=True); input(); "
        f"{WRITES[way]}; print('written', flush=True); input(); os.closerange(fd, fd + 1); "
        "print('closed', flush=True); input()",
    )
    producer.expect("up")
    consumer = capio.step(
        "consumer",
        "import os\nfd = os.open('f', os.O_RDONLY)\nprint(os.read(fd, 6), flush=True)\n"
        "print(os.read(fd, 1))\n",
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to have more bytes")
    producer.send()
    producer.expect("written")
    consumer.expect("b'onetwo'")
    producer.send()
    producer.expect("closed")
    if way not in ("dup", "closefd"):  # these leave another one open
        consumer.expect("b''")
    producer.send()
    producer.finish()
    if way in ("dup", "closefd"):
        consumer.expect("b''")
    consumer.finish()


@pytest.mark.parametrize(
    "leave",
    [
        "os.pwrite(fd, b'late', 6)",
        "os.pwritev(fd, [b'la', b'te'], 6)",
        "(os.lseek(fd, 6, os.SEEK_SET), os.write(fd, b'late'))",
        "(os.lseek(fd, 6, os.SEEK_SET), os.writev(fd, [b'late']))",
        "(os.lseek(os.dup(fd), 6, os.SEEK_SET), os.write(fd, b'late'))",
        "(os.ftruncate(fd, 6), os.pwrite(fd, b'late', 6))",
        "(os.truncate(fd, 6), os.pwrite(fd, b'late', 6))",
        "(os.posix_fallocate(fd, 0, 6), os.pwrite(fd, b'late', 6))",
        "os.copy_file_range(source, fd, 4, offset_dst=6)",
        "(os.lseek(fd, 6, os.SEEK_SET), os.sendfile(fd, source, 0, 4))",
        "os.pwrite(file.fileno(), b'late', 6)",
    ],
)
def test_gaps_are_not_readable(capio: Workflow, leave: str) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = writing(
        capio,
        f"file = open('f', 'w+b', 0); fd = file.fileno() if 'file.' in {leave!r} else "
        "os.open('f', os.O_RDWR); os.write(fd, b'one'); os.write(source, b'') if 0 else None; "
        f"{leave}; print('up', flush=True); input(); "
        "os.pwrite(fd, b'two', 3); print('filled', flush=True); input()",
    )
    (capio.tmp_path / "source").write_bytes(b"late")
    producer.expect("up")
    consumer = capio.step(
        "consumer",
        "import os\nfd = os.open('f', os.O_RDONLY)\nprint(os.read(fd, 3), flush=True)\n"
        "print(os.read(fd, 6), flush=True)\n",
        env=SAYS_SO,
    )
    consumer.expect("b'one'")
    consumer.expect_error("waiting .*/f to have more bytes")
    producer.send()
    producer.expect("filled")
    consumer.expect("b'twolat'")
    producer.send()
    for step in (producer, consumer):
        step.finish()


CLOSES = {
    "close": "os.close(fd)",
    "closerange": "os.closerange(fd, fd + 1)",
    "dup2": "os.dup2(0, fd)",
    "fdopen": "os.fdopen(fd, 'wb').close()",
    "FileIO": "io.FileIO(fd, 'wb').close()",
    "fileno": "os.close(file.fileno())",
    "forgotten": "file = os.fdopen(fd, 'wb'); del file",
    "thread": "t = threading.Thread(target=os.close, args=(fd,)); t.start(); t.join()",
    "duplicate first": "copy = os.dup(fd); os.close(fd); os.close(copy)",
    "duplicate last": "copy = os.dup(fd); os.close(copy); os.close(fd)",
    "duplicate in C": "copy = os.dup(fd); libc.close(copy); os.close(fd)",
    "duplicate in C, last": "copy = os.dup(fd); os.close(fd); libc.close(copy)",
    "replaced": "copy = os.dup(fd); os.dup2(0, copy); os.close(fd)",
    "closed in C": "libc.close(fd); os.dup2(0, fd)",
}


@pytest.mark.parametrize("way", CLOSES)
def test_every_way_to_close_counts_once(capio: Workflow, way: str) -> None:
    """Complete after the second close, however the first was made, and not before."""
    capio.pair(["f"], committed="on_close:2")
    producer = writing(
        capio,
        "import io, threading; file = open('f', 'wb', 0); fd = file.fileno() if 'file.' in "
        f"{CLOSES[way]!r} else os.open('f', os.O_WRONLY); file = file if fd == file.fileno() else "
        f"file.close(); os.write(fd, b'one'); {CLOSES[way]}; print('up', flush=True); input(); "
        "print('on', flush=True); input(); open('f', 'ab').close(); print('closed', flush=True); "
        "input()",
    )
    producer.expect("up")
    if "file." in CLOSES[way]:
        consumer = capio.step("consumer", "print(open('f').read())", env=SAYS_SO)
        consumer.expect_error("waiting .*/f to be complete")
        producer.send()
        producer.expect("on")
        producer.send()
        producer.expect("closed")
        consumer.expect("one")
    else:  # the file object's own close was the first
        consumer = capio.step("consumer", "print(open('f').read())")
        consumer.expect("one")
        producer.send()
        producer.send()
    producer.send()
    for step in (producer, consumer):
        step.finish()


@pytest.mark.parametrize("way", ["os.dup(fd)", "os.dup2(fd, 99)", "fcntl.fcntl(fd, 0, 50)"])
def test_a_duplicate_keeps_the_file_open(capio: Workflow, way: str) -> None:
    producer = producing(
        capio,
        f"""
        import fcntl, os
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"one")
        copy = {way}
        os.close(fd)
        print("up", flush=True)
        input()
        os.write(copy, b"two")
        os.close(copy)
        print("closed", flush=True)
        input()
        """,
    )
    consumer = capio.step("consumer", "print(open('f').read())", env=SAYS_SO)
    consumer.expect_error("waiting .*/f")
    producer.send()
    producer.expect("closed")
    consumer.expect("onetwo")
    producer.send()
    for step in (producer, consumer):
        step.finish()


def test_death_with_a_duplicate_open_fails_the_file(capio: Workflow) -> None:
    """The first descriptor's close was counted, but more was to come."""
    producer = producing(
        capio,
        """
        import os
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        copy = os.dup(fd)
        os.write(fd, b"one")
        os.close(fd)
        print("up", flush=True)
        input()
        """,
    )
    consumer = capio.step(
        "consumer",
        "try: open('f').read()\nexcept OSError as error: print(error.errno, error.filename)",
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f")
    producer.kill()
    consumer.expect("130 f")
    consumer.finish()


def test_stdout_redirected_to_a_file(capio: Workflow) -> None:
    """os.dup2(f.fileno(), 1), as daemons do, and back."""
    producer = producing(
        capio,
        """
        import os, sys
        saved = os.dup(1)
        with open("f", "wb") as f:
            os.dup2(f.fileno(), 1)
        os.write(1, b"one")
        os.write(saved, b"up\\n")
        input()
        os.system("printf two")
        os.dup2(saved, 1)
        print("closed", flush=True)
        input()
        """,
    )
    consumer = capio.step("consumer", "print(open('f').read())", env=SAYS_SO)
    consumer.expect_error("waiting .*/f")
    producer.send()
    producer.expect("closed")
    consumer.expect("onetwo")
    producer.send()
    for step in (producer, consumer):
        step.finish()


def test_left_by_an_exception(capio: Workflow) -> None:
    """os.close in a finally clause on the way out is not the close of a whole file."""
    capio.pair(["f"], committed="on_close")
    capio.run(
        "producer",
        """
        import os
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        try:
            os.write(fd, b"one")
            raise RuntimeError("half way")
        finally:
            os.close(fd)
        """,
        status=1,
    )
    capio.run(
        "consumer",
        "try: open('f').read()\nexcept OSError as error: print(error.errno, error.filename)",
    ).expect("130 f")


@pytest.mark.parametrize("close_fds", [True, False])
def test_a_child_gets_the_descriptor(capio: Workflow, close_fds: bool) -> None:
    """Complete when the child has closed it, too."""
    how = "pass_fds=[fd]" if close_fds else "close_fds=False"
    producer = producing(
        capio,
        f"""
        import os, subprocess, sys
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        os.set_inheritable(fd, {not close_fds})
        os.write(fd, b"one")
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", f"import os; input(); os.write({{fd}}, b'two')"],
            stdin=subprocess.PIPE, {how},
        )
        os.close(fd)
        print("up", flush=True)
        input()
        child.communicate(b"\\n")
        print("closed", flush=True)
        input()
        """,
    )
    consumer = capio.step("consumer", "print(open('f').read())", env=SAYS_SO)
    consumer.expect_error("waiting .*/f")
    producer.send()
    producer.expect("closed")
    consumer.expect("onetwo")
    producer.send()
    for step in (producer, consumer):
        step.finish()


@pytest.mark.parametrize("how", ["stdout=fd", "posix_spawn", "system"])
def test_a_child_writes_to_a_descriptor(capio: Workflow, how: str) -> None:
    start = {
        "stdout=fd": "subprocess.run(['sh', '-c', 'printf two'], stdout=fd, check=True)",
        "posix_spawn": "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'printf two'], {}, "
        "file_actions=[(os.POSIX_SPAWN_DUP2, fd, 1)]), 0)",
        "system": "(os.dup2(fd, 9), os.system('printf two >&9'), os.close(9))",
    }[how]
    capio.pair(["f"], committed="on_close")
    capio.run(
        "producer",
        f"""
        import os, subprocess
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"one")
        {start}
        os.close(fd)
        """,
    )
    capio.run("consumer", "print(open('f').read())").expect("onetwo")


def test_errors_of_writes_are_the_kernels(capio: Workflow) -> None:
    capio.run(
        "producer",
        """
        import os, resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
        print(os.write(fd, b"one"), end=" ")
        for call in (os.write, lambda fd, data: os.writev(fd, [data])):
            try:
                call(fd, b"two")
            except OSError as error:
                print(error.errno, error.filename, end=" ")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        """,
    ).expect("3 27 None 27 None ")


def test_forked_children_share_and_do_not_count(capio: Workflow) -> None:
    """Inherited descriptors are borrowed until the child writes."""
    producer = producing(
        capio,
        """
        import os
        fd = os.open("f", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"one")
        pid = os.fork()
        if pid == 0:
            copy = os.dup(fd)
            os.close(fd)
            print("up", flush=True)
            input()
            os.write(copy, b"two")
            os.close(copy)
            os._exit(0)
        os.close(fd)
        os.waitpid(pid, 0)
        print("closed", flush=True)
        """,
    )
    consumer = capio.step("consumer", "print(open('f').read())", env=SAYS_SO)
    consumer.expect_error("waiting .*/f")
    producer.send()
    producer.expect("closed")
    consumer.expect("onetwo")
    for step in (producer, consumer):
        step.finish()
