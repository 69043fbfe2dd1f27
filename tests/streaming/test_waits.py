"""Waits that say so, that end by time, by Ctrl-C, or that could never end (S12)."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from workflows import SAYS_SO, Workflow


def test_what_a_wait_says(capio: Workflow) -> None:
    capio.pair(["f", "g"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer", "f = open('f')\nprint(f.read(9))\nopen('g').read()\n", env=SAYS_SO
    )
    path = f"{capio.dir}/f"
    said = consumer.expect_error("waiting")
    assert said == (
        f"pycapio: waiting 0 s for {path} to exist (declared as an output): "
        "app 'producer' has not started"
    )
    producer = capio.step(
        "producer",
        "f = open('f', 'w', buffering=1)\nf.write('x\\n')\nprint('up', flush=True)\ninput()\n"
        "f.close()\n",
    )
    producer.expect("up")
    said = consumer.expect_error("more bytes")
    assert re.sub("[0-9]+ s", "N s", said) == (
        f"pycapio: waiting N s for {path} to have more bytes (2 are there): "
        f"app 'producer' is running as pid {producer.pid} (has it open for writing)"
    )
    producer.send()
    producer.finish()
    consumer.expect("x")
    consumer.finish(1)


def test_a_wait_says_what_the_other_waits_for(capio: Workflow) -> None:
    rule = {"committed": "on_close"}
    capio.config(
        [
            {
                "name": "a",
                "input_stream": [],
                "output_stream": ["1"],
                "streaming": [{"name": ["1"], **rule}],
            },
            {
                "name": "b",
                "input_stream": ["1"],
                "output_stream": ["2"],
                "streaming": [{"name": ["2"], **rule}],
            },
            {"name": "c", "input_stream": ["2"], "output_stream": []},
        ]
    )
    middle = capio.step("b", "open('2', 'w').write(open('1').read())\n", env=SAYS_SO)
    middle.expect_error("waiting .*/1 to exist")
    last = capio.step("c", "print(open('2').read())\n", env=SAYS_SO)
    said = last.expect_error("waiting .*/2 to be complete")
    assert re.search(
        rf"app 'b' is running as pid {middle.pid} "
        rf"\(itself waiting [0-9]+ s for {capio.dir}/1 to exist\)$",
        said,
    )
    capio.run("a", "open('1', 'w').write('through')\n")
    last.expect("through")
    for step in (middle, last):
        step.finish()


def test_no_message_before_its_time(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", "print('up', flush=True)\nprint(open('f').read())\n")
    consumer.expect("up")
    capio.run("producer", "open('f', 'w').write('x')\n")
    consumer.expect("x")
    assert consumer.finish().stderr == ""


def test_waits_for_one_piece_after_the_other_are_not_one_long_wait(capio: Workflow) -> None:
    """Each is much shorter than the limit; together they are longer."""
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f', 'wb', buffering=0)\n"
        "while line := input(): f.write(line.encode())\n"
        "f.close()\n",
    )
    consumer = capio.step(
        "consumer",
        "f = open('f', 'rb', buffering=0)\nwhile b := f.read(1): print(b.decode(), flush=True)\n",
        env={"CAPIO_WAIT_TIMEOUT": "2"},
    )
    for piece in "abcdefghij":
        producer.send(piece)
        consumer.expect(piece)
        # The time itself is what this is about.
        threading.Event().wait(0.3)
    producer.send()
    producer.finish()
    assert consumer.finish().stderr == ""


@pytest.mark.parametrize("call", ["open('f')", "os.stat('f')", "os.path.getsize('f')"])
def test_wait_timeout(capio: Workflow, call: str) -> None:
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    consumer = capio.run(
        "consumer",
        f"""
        import errno, os
        try:
            {call}
        except TimeoutError as error:
            print(errno.errorcode[error.errno], error.filename, error.strerror)
        """,
        env={"CAPIO_WAIT_TIMEOUT": "1"},
    )
    assert consumer.stdout.startswith(
        f"ETIMEDOUT f waited 1 s (CAPIO_WAIT_TIMEOUT) for {capio.dir}/f to exist "
    )
    assert "app 'producer' has not started" in consumer.stdout


def test_reading_all_of_a_file_that_grows_for_longer_than_a_wait_may_take(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer",
        "f = open('f')\nprint('opened', flush=True)\nprint(len(f.read()), f.tell())\n",
        env={"CAPIO_WAIT_TIMEOUT": "3"},
    )
    producer = capio.step(
        "producer",
        """
        import time
        with open("f", "w", buffering=1) as f:
            for _ in range(9):
                print("line", file=f)
                time.sleep(0.5)  # its work, in all longer than the consumer may wait
        """,
    )
    consumer.expect("opened", "45 45")
    consumer.finish()
    producer.finish()


@pytest.mark.parametrize("variable", ["CAPIO_WAIT_WARN", "CAPIO_WAIT_TIMEOUT", "CAPIO_LINGER"])
@pytest.mark.parametrize("value", ["30s", "-1", "nan", "soon"])
def test_no_number_of_seconds(capio: Workflow, variable: str, value: str) -> None:
    """Not as if it were not set: the wait that it was to end would be one without end."""
    step = capio.run("app", "print('never')\n", status=2, env={variable: value})
    assert step.stdout == ""
    assert f"{variable}='{value}' is no number of seconds" in step.stderr


def test_wait_timeout_while_reading(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer", "f = open('f', 'w')\nprint('up', flush=True)\ninput()\nf.close()\n"
    )
    producer.expect("up")
    consumer = capio.run(
        "consumer",
        "try: open('f').read()\nexcept TimeoutError as error: print(error.filename)\n",
        env={"CAPIO_WAIT_TIMEOUT": "0.5"},
    )
    assert consumer.stdout == "f\n"
    producer.send()
    producer.finish()


# ---- Ctrl-C ----


@pytest.mark.parametrize("call", ["open('f')", "os.path.exists('f')", "os.stat('f')"])
def test_ctrl_c_while_waiting(capio: Workflow, call: str) -> None:
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    consumer = capio.step("consumer", f"import os\n{call}\n", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to exist")
    consumer.signal(signal.SIGINT)
    consumer.finish(-signal.SIGINT, limit=20)
    assert consumer.stderr.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_while_reading(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f', 'w')\nprint('x', file=f, flush=True)\nprint('up', flush=True)\ninput()\n",
    )
    producer.expect("up")
    consumer = capio.step(
        "consumer",
        """
        f = open("f")
        try:
            f.read()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print(f.read())
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to be complete")
    consumer.signal(signal.SIGINT)
    consumer.expect("interrupted")
    producer.send()
    producer.finish()
    consumer.expect("x")
    consumer.finish()


def test_ctrl_c_while_a_pool_thread_waits(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    consumer = capio.step(
        "consumer",
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor() as pool:
            print(pool.submit(open, "f").result())
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to exist")
    consumer.signal(signal.SIGINT)
    consumer.finish(-signal.SIGINT, limit=20)
    assert "KeyboardInterrupt" in consumer.stderr


def test_ctrl_c_without_the_launcher_while_a_thread_waits(capio: Workflow) -> None:
    """The main thread has ended by KeyboardInterrupt; Python joins the other threads."""
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    consumer = capio.python(
        """
        import threading, time
        from pycapio import CapioContext
        context = CapioContext(
            capio_dir=DIR, workflow_name=WF, app_name="consumer",
            capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60,
        )
        thread = threading.Thread(target=context(lambda: open("f")))
        thread.start()
        while True:
            input()
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to exist")
    consumer.signal(signal.SIGINT)
    consumer.finish(-signal.SIGINT, limit=20, close_stdin=False)
    assert "KeyboardInterrupt" in consumer.stderr


def test_exit_while_a_pool_thread_waits(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    consumer = capio.step(
        "consumer",
        """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor()
        pool.submit(open, "f")
        input()
        sys.exit(3)
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting .*/f to exist")
    consumer.send()
    consumer.finish(3, limit=20)


def test_signal_handlers_run_while_waiting(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step(
        "consumer",
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('usr1', flush=True))\n"
        "print(open('f').read())\n",
        env=SAYS_SO,
    )
    consumer.expect_error("waiting")
    consumer.signal(signal.SIGUSR1)
    consumer.expect("usr1")
    capio.run("producer", "open('f', 'w').write('then it came')\n")
    consumer.expect("then it came")
    consumer.finish()


def test_a_waiting_thread_leaves_the_others_running(capio: Workflow) -> None:
    """No wait holds the interpreter."""
    capio.pair(["f"], committed="on_close")
    consumer = capio.step(
        "consumer",
        """
        import threading
        thread = threading.Thread(target=lambda: print(open("f").read(), flush=True))
        thread.start()
        for line in iter(input, "stop"):
            print("heard", line, flush=True)
        thread.join()
        """,
        env=SAYS_SO,
    )
    consumer.expect_error("waiting")
    consumer.send("one")
    consumer.expect("heard one")
    consumer.send("stop")
    capio.run("producer", "open('f', 'w').write('x')\n")
    consumer.expect("x")
    consumer.finish()


# ---- waits that cannot end ----


def test_cycle_within_a_process(capio: Workflow) -> None:
    """The writer calls the reader, which waits for the writer's end."""
    capio.pair(["f"], committed="on_termination", producer="w", consumer="r")
    step = capio.python(
        """
        import errno
        from pycapio import CapioContext

        def context(app):
            return CapioContext(
                capio_dir=DIR, workflow_name=WF, app_name=app, capio_cl_configuration_file=CONFIG,
                await_server_timeout_seconds=60,
            )

        @context("r")
        def reader():
            return open("f").read()

        @context("w")
        def writer():
            with open("f", "w") as f:
                f.write("x")
            try:
                reader()
            except OSError as error:
                print(error.errno == errno.EDEADLK, error.filename, error.strerror)

        writer()
        print(reader())
        """,
        env=SAYS_SO,
    ).finish()
    lines = step.stdout.splitlines()
    assert lines[0].startswith("True f ")
    assert "'r'" in lines[0] and "'w'" in lines[0]
    assert lines[1:] == ["x"]
