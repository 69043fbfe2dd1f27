"""Deaths and bad ends: S8 of docs/semantics.md. A consumer gets all of a file or an error, never a
short file."""

from __future__ import annotations

import os
import random
import signal

import pytest

from workflows import SAYS_SO, Step, Workflow

# Prints what a read gives: its length and digest, or the error.
CONSUME = """
    import errno, hashlib, sys
    try:
        with open(sys.argv[1], "rb") as f:
            print("opened", flush=True)
            data = f.read()
        print("got", len(data), hashlib.sha256(data).hexdigest())
    except OSError as error:
        print(errno.errorcode[error.errno], error.filename, error.strerror)
"""


def died(step: Step, name: str, app: str, pid: int | None) -> str:
    """The step's next line is the error for a file whose producer failed. Returns the reason."""
    line = step.line()
    if line == "opened":
        line = step.line()
    assert line.startswith(f"EOWNERDEAD {name} "), line
    assert f"app '{app}'" in line
    if pid is not None:
        assert f"pid {pid}" in line
    step.finish()
    return line


@pytest.mark.parametrize("committed", ["on_close", "on_termination"])
@pytest.mark.parametrize("mode", ["update", "no_update"])
def test_kill_in_mid_write(capio: Workflow, committed: str, mode: str) -> None:
    capio.pair(["f"], committed=committed, mode=mode)
    capio.hold()
    producer = capio.step(
        "producer",
        "with open('f', 'w', buffering=1) as f:\n"
        "  f.write('half\\n'); print('half', flush=True); input()\n",
    )
    consumer = capio.step("consumer", CONSUME, "f", env=SAYS_SO)
    producer.expect("half")
    consumer.expect_error("waiting .*/f")
    producer.kill()
    assert "died before the file was complete" in died(consumer, "f", "producer", producer.pid)
    # A later consumer gets the same; not even its open() succeeds.
    late = capio.step("consumer", CONSUME, "f")
    died(late, "f", "producer", None)


def test_kill_at_random_points(capio: Workflow) -> None:
    """Whatever a consumer reads to the end is what the producer closed, or fails."""
    rounds = 60
    names = [f"f{i}" for i in range(rounds)]
    capio.pair(["f*"], committed="on_close", mode="no_update")
    source = random.Random(20261123)
    # One that lives: else the step would have ended between two of them.
    lives = capio.step("producer", "print('up', flush=True)\ninput()\n")
    lives.expect("up")
    consumer = capio.step(
        "consumer",
        f"""
        import errno
        for i in range({rounds}):
            try:
                with open(f"f{{i}}", "rb", buffering=0) as f:
                    n = 0
                    while data := f.read(4096):
                        n += len(data)
                print("whole", n, flush=True)
            except OSError as error:
                print(errno.errorcode[error.errno], flush=True)
        """,
    )
    whole = 0
    for name in names:
        producer = capio.step(
            "producer",
            f"""
            with open("{name}", "wb", buffering=0) as f:
                print("go", flush=True)
                for _ in range(400):
                    f.write(b"x" * 1000)
            print("closed", flush=True)
            """,
        )
        producer.expect("go")
        # The child runs on meanwhile, so the kill falls on another point of its loop every time.
        turns = source.randrange(0, 60000)
        for _ in range(turns):
            pass
        producer.kill()
        result = consumer.line()
        # A close that was counted before the death stands.
        if result == "whole 400000":
            whole += 1
        else:
            assert result == "EOWNERDEAD"
    consumer.finish()
    assert whole < rounds
    lives.send()
    lives.finish()


def test_unbuffered_read_is_not_short_on_failure(capio: Workflow) -> None:
    """A short read means the end to many a program, so it has to be the error at once; what was
    written can still be read by asking for no more than that."""
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f', 'wb', buffering=0)\nf.write(b'x' * 60)\nprint('up', flush=True)\ninput()\n",
    )
    producer.expect("up")
    consumer = capio.step(
        "consumer",
        """
        import errno
        f = open("f", "rb", buffering=0)
        try:
            print(len(f.read(100)))
        except OSError as error:
            print(errno.errorcode[error.errno], error.filename, f.tell())
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to have more bytes")
    producer.kill()
    consumer.expect("EOWNERDEAD f 0")
    consumer.finish()


@pytest.mark.parametrize("where", ["before", "after"])
def test_kill_between_files(capio: Workflow, where: str) -> None:
    """What a dead producer had closed under on_close stands."""
    capio.pair(["a", "b"], committed="on_close")
    capio.hold()
    producer = capio.step(
        "producer",
        "open('a', 'w').write('whole')\nf = open('b', 'w')\nprint('now', flush=True)\ninput()\n",
    )
    producer.expect("now")
    first = capio.step("consumer", CONSUME, "a") if where == "before" else None
    if first is not None:
        first.expect("opened")
        assert first.line().startswith("got 5 ")
    producer.kill()
    first = first or capio.step("consumer", CONSUME, "a")
    if where == "after":
        first.expect("opened")
        assert first.line().startswith("got 5 ")
    first.finish()
    died(capio.step("consumer", CONSUME, "b"), "b", "producer", None)


def test_death_before_the_file_exists(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    producer = capio.step("producer", "print('up', flush=True)\ninput()\n")
    producer.expect("up")
    consumer = capio.step("consumer", CONSUME, "f", env=SAYS_SO)
    consumer.expect_error(f"app 'producer' is running as pid {producer.pid}")
    producer.kill()
    assert "failed before it made this file" in died(consumer, "f", "producer", producer.pid)


def test_death_of_a_consumer_disturbs_nobody(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    capio.hold()
    producer = capio.step(
        "producer",
        "with open('f', 'w', buffering=1) as f:\n"
        "  for i in range(3): f.write(f'{i}\\n'); print(i, flush=True); input()\n",
    )
    producer.expect("0")
    victim = capio.step("consumer", "f = open('f')\nprint(f.readline(), flush=True)\nf.read()\n")
    victim.expect("0")
    victim.kill()
    producer.send()
    producer.send()
    producer.send()
    producer.finish()
    consumer = capio.run("consumer", CONSUME, "f")
    assert "got 6 " in consumer.stdout


# ---- exceptions ----


@pytest.mark.parametrize("committed", ["on_close", "on_termination"])
def test_exception_in_the_with_block_that_ends_the_process(capio: Workflow, committed: str) -> None:
    capio.pair(["f"], committed=committed, mode="no_update")
    consumer = capio.step("consumer", CONSUME, "f")
    producer = capio.run(
        "producer",
        "with open('f', 'w') as f:\n"
        "  for row in range(1000):\n"
        "    if row == 500: raise ValueError('row 500')\n"
        "    f.write(f'{row}\\n')\n",
        status=1,
    )
    assert producer.stderr.rstrip().endswith("ValueError: row 500")
    assert "ended with an error" in died(consumer, "f", "producer", producer.pid)


def test_exception_that_is_handled_and_the_file_rewritten(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.run(
        "producer",
        """
        try:
            with open("f", "w") as f:
                f.write("half")
                raise ValueError
        except ValueError:
            pass
        with open("f", "w") as f:
            f.write("whole file")
        """,
    )
    consumer.expect("opened")
    assert consumer.line().startswith("got 10 ")
    consumer.finish()


def test_exception_that_is_handled_and_the_process_ends_well(capio: Workflow) -> None:
    """The program decided that what it wrote is good enough; it is complete when it has ended."""
    capio.pair(["f"], committed="on_close")
    producer = capio.step(
        "producer",
        """
        try:
            with open("f", "w") as f:
                f.write("as far as it went")
                raise ValueError
        except ValueError:
            print("handled", flush=True)
        input()
        """,
    )
    producer.expect("handled")
    consumer = capio.step("consumer", CONSUME, "f", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to be complete")
    producer.send()
    producer.finish()
    consumer.expect("opened")
    assert consumer.line().startswith("got 17 ")
    consumer.finish()


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('no')", 1),
        ("raise RuntimeError", 1),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os; os._exit(1)", 1),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_bad_ends_fail_what_the_end_would_commit(capio: Workflow, ending: str, status: int) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", CONSUME, "f")
    producer = capio.step(
        "producer", f"with open('f', 'w') as f: f.write('closed well')\n{ending}\n"
    ).finish(status)
    died(consumer, "f", "producer", producer.pid)


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_good_ends_commit(capio: Workflow, ending: str) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.run("producer", f"with open('f', 'w') as f: f.write('closed well')\n{ending}\n")
    consumer.expect("opened")
    assert consumer.line().startswith("got 11 ")
    consumer.finish()


def test_bad_end_leaves_files_under_on_close_alone(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.run("producer", "open('f', 'w').write('whole')\nraise SystemExit(3)\n", status=3)
    consumer.expect("opened")
    assert consumer.line().startswith("got 5 ")
    consumer.finish()


@pytest.mark.parametrize("committed", ["on_close", "on_termination"])
@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_file_left_open_at_module_level_arrives_whole(
    capio: Workflow, committed: str, ending: str
) -> None:
    """Python flushes it after the exit handlers ran; os._exit flushes nothing by itself."""
    capio.pair(["f"], committed=committed, mode="no_update")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.run(
        "producer",
        f"f = open('f', 'w')\nfor i in range(100000): f.write(f'{{i:09}}\\n')\n{ending}\n",
    )
    consumer.expect("opened")
    assert consumer.line().startswith("got 1000000 ")
    consumer.finish()


def test_produced_again_after_a_failure(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.hold()
    capio.run("producer", "with open('f', 'w') as f: f.write('x'); raise ValueError\n", status=1)
    died(capio.step("consumer", CONSUME, "f"), "f", "producer", None)
    capio.run("producer", "open('f', 'w').write('second try')\n")
    assert "got 10 " in capio.run("consumer", CONSUME, "f").stdout


def test_failed_flush_at_close_fails_the_file(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.run(
        "producer",
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        f = open("f", "wb", buffering=4096)
        f.write(b"x" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        try:
            f.close()
        except OSError as error:
            print("close failed", error.errno)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        """,
    ).expect(f"close failed {27}")
    assert "lost bytes" in died(consumer, "f", "producer", None)


# ---- descriptors in other hands ----


def test_child_that_inherited_the_file_is_waited_for(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="update")
    producer = capio.step(
        "producer",
        """
        import subprocess, sys
        with open("f", "w") as f:
            f.write("from the parent\\n")
            f.flush()
            child = subprocess.Popen(
                [sys.executable, "-c", "input(); print('from the child')"],
                stdin=subprocess.PIPE, stdout=f,
            )
        print("closed", flush=True)
        input()
        child.communicate(b"\\n")
        print("child ended", flush=True)
        input()
        """,
    )
    producer.expect("closed")
    consumer = capio.step("consumer", "print(open('f').read())\n", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to be complete")
    producer.send()
    producer.expect("child ended")
    consumer.expect("from the parent", "from the child")
    consumer.finish()
    producer.send()
    producer.finish()


def test_child_that_outlives_its_step_is_waited_for(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    read_end, write_end = os.pipe()
    try:
        producer = capio.step(
            "producer",
            f"""
            import subprocess, sys
            with open("f", "w") as f:
                subprocess.Popen(
                    [sys.executable, "-c",
                     "import os; os.read({read_end}, 1); print('late words')"],
                    stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.DEVNULL,
                    pass_fds=[{read_end}],
                )
            """,
            pass_fds=(read_end,),
        )
        producer.finish()
        consumer = capio.step("consumer", CONSUME, "f", env=SAYS_SO)
        consumer.expect("opened")
        consumer.expect_error("waiting .*/f to be complete")
    finally:
        os.close(read_end)
        os.close(write_end)  # the child reads the end and goes on
    assert consumer.line().startswith("got 11 ")
    consumer.finish()


def test_mapping_outlives_the_close(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    producer = capio.step(
        "producer",
        """
        import mmap
        with open("f", "w+b") as f:
            f.truncate(8)
            view = mmap.mmap(f.fileno(), 8)
        print("closed", flush=True)
        input()
        view[:] = b"mappings"
        view.close()
        input()
        """,
    )
    producer.expect("closed")
    consumer = capio.step("consumer", "print(open('f').read())\n", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to be complete")
    producer.send()
    consumer.expect("mappings")
    consumer.finish()
    producer.send()
    producer.finish()


# ---- without the launcher ----

DECORATED = """
    import os, signal, sys
    from pycapio import CapioContext

    @CapioContext(
        capio_dir=DIR, workflow_name=WF, app_name="producer", capio_cl_configuration_file=CONFIG,
        await_server_timeout_seconds=60,
    )
    def produce():
        with open("f", "w") as f:
            f.write("closed well")
        {inside}

    produce()
    {after}
"""


@pytest.mark.parametrize(
    ("inside", "after", "status"),
    [
        ("raise ValueError", "", 1),
        ("sys.exit(3)", "", 3),
        ("", "raise ValueError", 1),
        ("", "sys.exit(3)", 3),
        ("os._exit(1)", "", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", -signal.SIGKILL),
        ("", "os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_bad_ends_of_a_decorated_program(
    capio: Workflow, inside: str, after: str, status: int
) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", CONSUME, "f")
    producer = capio.python(DECORATED.format(inside=inside, after=after)).finish(status)
    died(consumer, "f", "producer", producer.pid)


@pytest.mark.parametrize(
    ("inside", "after"), [("", ""), ("", "sys.exit()"), ("sys.exit()", ""), ("os._exit(0)", "")]
)
def test_good_ends_of_a_decorated_program(capio: Workflow, inside: str, after: str) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", CONSUME, "f")
    capio.python(DECORATED.format(inside=inside, after=after)).finish()
    consumer.expect("opened")
    assert consumer.line().startswith("got 11 ")
    consumer.finish()
