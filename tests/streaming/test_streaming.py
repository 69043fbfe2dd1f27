"""What consumers see, and when: S3 to S6 of docs/semantics.md.

That a step waits is seen by its own message (CAPIO_WAIT_WARN), not by the passing of time.
"""

from __future__ import annotations

import pytest

from workflows import SAYS_SO, Step, Workflow

# A step says at once that it waits.

READ_ALL = """
    import sys
    with open(sys.argv[1], "rb") as f:
        print("opened", flush=True)
        data = f.read()
    print(len(data), data[:4], data[-4:])
"""


def waits(step: Step, name: str, what: str = "") -> None:
    """Returns when the step has said that it waits for the file."""
    step.expect_error(rf"pycapio: waiting .*/{name} {what}")


# ---- no_update ----


@pytest.mark.parametrize("committed", ["on_close", "on_close:2", "on_termination"])
def test_no_update_streams_line_by_line(capio: Workflow, committed: str) -> None:
    capio.pair(["log.txt"], committed=committed, mode="no_update")
    producer = capio.step(
        "producer",
        """
        with open("log.txt", "w", buffering=1) as f:
            for i in range(50):
                input()
                f.write(f"line {i}\\n")
        if "twice" in __import__("sys").argv:
            open("log.txt", "a").close()
        """,
        *(["twice"] if committed == "on_close:2" else []),
    )
    consumer = capio.step(
        "consumer",
        """
        with open("log.txt") as f:
            for line in f:
                print(line, end="", flush=True)
        print("end")
        """,
    )
    for i in range(50):
        producer.send()  # only now does it write line i
        consumer.expect(f"line {i}")
    producer.finish()
    consumer.expect("end")
    consumer.finish()


@pytest.mark.parametrize(
    "reading",
    [
        "f.readline()",
        "f.read(5)",
        "next(f)",
    ],
)
def test_text_reads_return_as_soon_as_the_request_is_met(capio: Workflow, reading: str) -> None:
    capio.pair(["f.txt"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f.txt', 'w', buffering=1)\nfor x in ('abcd', 'efgh'):\n"
        "  input(); f.write(x + '\\n')\n",
    )
    consumer = capio.step(
        "consumer",
        f"f = open('f.txt')\nfor _ in range(2): print(repr({reading}), flush=True)\n",
    )
    for expected in (r"'abcd\n'", r"'efgh\n'"):
        producer.send()
        consumer.expect(expected)
    producer.finish()
    consumer.finish()


def test_unbuffered_reads_are_short_only_at_the_end(capio: Workflow) -> None:
    capio.pair(["f.bin"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "with open('f.bin', 'wb', buffering=0) as f:\n"
        "  for i in range(10):\n    input(); f.write(bytes([i]) * 1000)\n",
    )
    consumer = capio.step(
        "consumer",
        """
        with open("f.bin", "rb", buffering=0) as f:
            while data := f.read(2500):
                print(len(data), flush=True)
        """,
    )
    for i in range(10):
        producer.send()
        if i in (2, 4, 7, 9):
            consumer.expect("2500")
    producer.finish()
    consumer.finish()


def test_bytes_beyond_a_gap_are_not_readable(capio: Workflow) -> None:
    capio.pair(["f.bin"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        """
        with open("f.bin", "wb", buffering=0) as f:
            f.write(b"head")
            f.seek(8)
            f.write(b"tail")
            print("gap", flush=True)
            input()
            f.seek(4)
            f.write(b"body")
        """,
    )
    producer.expect("gap")
    consumer = capio.step(
        "consumer",
        """
        with open("f.bin", "rb") as f:
            print(f.read1(100), flush=True)
            print(f.read(8))
        """,
        env=SAYS_SO,
    )
    consumer.expect("b'head'")
    waits(consumer, "f.bin", "to have more bytes")
    producer.send()
    consumer.expect("b'bodytail'")
    producer.finish()
    consumer.finish()


@pytest.mark.parametrize(
    "question",
    [
        "os.stat('f').st_size",
        "os.path.getsize('f')",
        "open('f', 'rb').seek(0, 2)",
        "os.fstat((f := open('f', 'rb')).fileno()).st_size",
        "len(mmap.mmap((f := open('f', 'rb')).fileno(), 0, prot=mmap.PROT_READ))",
        "pathlib.Path('f').stat().st_size",
        "os.lstat('f').st_size",
        "os.path.getsize(pathlib.Path(os.getcwd(), 'f'))",
    ],
)
def test_the_final_size_waits_for_commit(capio: Workflow, question: str) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "with open('f', 'wb', buffering=0) as f:\n"
        "  f.write(b'x' * 10); print('first', flush=True); input(); f.write(b'y' * 90)\n",
    )
    producer.expect("first")
    consumer = capio.step("consumer", f"import mmap, os, pathlib\nprint({question})\n", env=SAYS_SO)
    waits(consumer, "f", "to be complete")
    producer.send()
    consumer.expect("100")
    producer.finish()
    consumer.finish()


@pytest.mark.parametrize(
    "question",
    [
        "os.path.exists('f')",
        "os.path.lexists('f')",
        "os.path.isfile('f')",
        "not os.path.isdir('f')",
        "not os.path.islink('f')",
        "os.access('f', os.R_OK)",
        "pathlib.Path('f').exists()",
        "pathlib.Path('f').is_file()",
        "not pathlib.Path('f').is_dir()",
        "not pathlib.Path('f').is_symlink()",
        "not pathlib.Path('f').is_fifo()",
        "not pathlib.Path('f').is_socket()",
        "not pathlib.Path('f').is_block_device()",
        "not pathlib.Path('f').is_char_device()",
    ],
)
def test_existence_waits_for_existence_only(capio: Workflow, question: str) -> None:
    capio.pair(["f"], committed="on_close")
    producer = capio.step(
        "producer",
        "input()\nwith open('f', 'w') as f: print('open', flush=True); input(); f.write('x')\n",
    )
    consumer = capio.step("consumer", f"import os, pathlib\nprint({question})\n", env=SAYS_SO)
    waits(consumer, "f", "to exist")
    producer.send()
    producer.expect("open")
    consumer.expect("True")  # while it is still being written
    consumer.finish()
    producer.send()
    producer.finish()


# ---- update, commit ----


@pytest.mark.parametrize("committed", ["on_close", "on_termination", None])
def test_update_reads_at_commit(capio: Workflow, committed: str | None) -> None:
    capio.pair(["f.bin"], committed=committed)
    producer = capio.step(
        "producer",
        """
        with open("f.bin", "wb", buffering=0) as f:
            f.write(b"head" * 1000)
            print("half", flush=True)
            input()
            f.write(b"tail" * 1000)
        print("closed", flush=True)
        input()
        """,
    )
    producer.expect("half")
    consumer = capio.step("consumer", READ_ALL, "f.bin", env=SAYS_SO)
    consumer.expect("opened")
    waits(consumer, "f.bin", "to be complete")
    producer.send()
    producer.expect("closed")
    if committed == "on_close":
        consumer.expect("8000 b'head' b'tail'")  # while the producer goes on
        producer.send()
    else:
        waits(consumer, "f.bin", "to be complete")
        producer.send()
        consumer.expect("8000 b'head' b'tail'")
    consumer.finish()
    producer.finish()


def test_on_close_counts_closes(capio: Workflow) -> None:
    """The pattern of np.savetxt: open and close, then open for writing again."""
    capio.pair(["f.txt"], committed="on_close:2")
    producer = capio.step(
        "producer",
        """
        open("f.txt", "wt").close()
        print("once", flush=True)
        input()
        with open("f.txt", "wt") as f:
            f.write("0123456789")
        print("twice", flush=True)
        input()
        """,
    )
    producer.expect("once")
    consumer = capio.step("consumer", READ_ALL, "f.txt", env=SAYS_SO)
    consumer.expect("opened")
    waits(consumer, "f.txt")
    producer.send()
    producer.expect("twice")
    consumer.expect("10 b'0123' b'6789'")
    consumer.finish()
    producer.send()
    producer.finish()


def test_closes_are_counted_over_processes(capio: Workflow) -> None:
    capio.pair(["f.txt"], committed="on_close:3", mode="no_update")
    writers = [
        capio.step("producer", "input()\nwith open('f.txt', 'a') as f: f.write('line\\n')\n")
        for _ in range(3)
    ]
    consumer = capio.step("consumer", READ_ALL, "f.txt", env=SAYS_SO)
    for writer in writers[:2]:
        writer.send()
        writer.finish()
    consumer.expect("opened")
    waits(consumer, "f.txt", "to be complete")
    writers[2].send()
    consumer.expect("15 b'line' b'ine\\n'")
    consumer.finish()
    writers[2].finish()


def test_closes_are_counted_over_runs(capio: Workflow) -> None:
    """Between two runs of the app there is no process of it; the rule says that more is to come."""
    capio.pair(["f.txt"], committed="on_close:2")
    consumer = capio.step("consumer", READ_ALL, "f.txt", env=SAYS_SO)
    append = "with open('f.txt', 'a') as f: f.write('line\\n')\n"
    capio.run("producer", append)
    consumer.expect("opened")
    consumer.expect_error("waiting .*/f.txt to be complete .*: app 'producer' has ended")
    capio.run("producer", append)
    consumer.expect("10 b'line' b'ine\\n'")
    consumer.finish()


def test_on_termination_of_several_processes(capio: Workflow) -> None:
    capio.pair(["f.txt"], committed="on_termination")
    writers = [
        capio.step(
            "producer",
            "with open('f.txt', 'a') as f: f.write('line\\n')\nprint('ok', flush=True)\ninput()\n",
        )
        for _ in range(3)
    ]
    for writer in writers:
        writer.expect("ok")
    consumer = capio.step("consumer", READ_ALL, "f.txt", env=SAYS_SO)
    consumer.expect("opened")
    for writer in writers:
        waits(consumer, "f.txt", "to be complete")
        writer.send()
        writer.finish()
    consumer.expect("15 b'line' b'ine\\n'")
    consumer.finish()


# ---- S3: existence ----


def test_a_consumer_may_come_first(capio: Workflow) -> None:
    capio.pair(["sub/f.bin"], committed="on_close", mode="no_update")
    consumer = capio.step("consumer", READ_ALL, "sub/f.bin", env=SAYS_SO)
    waits(consumer, "sub/f.bin", "to exist .*: app 'producer' has not started")
    capio.run("producer", "import os\nos.mkdir('sub')\nopen('sub/f.bin', 'wb').write(b'12345678')")
    consumer.expect("opened", "8 b'1234' b'5678'")
    consumer.finish()


def test_undeclared_and_absent_is_an_error_at_once(capio: Workflow) -> None:
    capio.pair(["f"])
    capio.leaves_server = True
    consumer = capio.run(
        "consumer",
        """
        import os
        for call in (open, os.stat, os.listdir, os.remove, os.scandir):
            try:
                call("absent")
            except FileNotFoundError as error:
                print(error.errno, error.filename)
        print(os.path.exists("absent"), os.path.isfile("absent"))
        """,
        env={"CAPIO_WAIT_TIMEOUT": "1"},
    )
    assert consumer.stdout.splitlines() == ["2 absent"] * 5 + ["False False"]
    assert consumer.stderr == ""


@pytest.mark.parametrize("resume", [False, True])
def test_files_of_an_earlier_run(capio: Workflow, resume: bool) -> None:
    (capio.dir / "f").write_text("stale")
    capio.pair(["f"], committed="on_close")
    options = ["--resume"] if resume else []
    consumer = capio.step("consumer", "print(open('f').read())\n", options=options, env=SAYS_SO)
    if resume:
        consumer.expect("stale")
        consumer.finish()
        capio.leaves_server = True
        return
    waits(consumer, "f", "to exist")
    capio.run("producer", "open('f', 'w').write('fresh')\n")
    consumer.expect("fresh")
    consumer.finish()


def test_producers_do_not_wait_for_their_own(capio: Workflow) -> None:
    (capio.dir / "old").write_text("of an earlier run")
    capio.pair(["f", "old", "never"])
    producer = capio.run(
        "producer",
        """
        import os
        print(os.path.exists("f"), os.path.exists("never"), os.path.exists("old"))
        with open("f", "w") as f:
            f.write("abc")
            f.flush()
            print(os.stat("f").st_size, open("f").read(), os.path.getsize("f"))
        print(open("old").read(), os.listdir())
        """,
        env={"CAPIO_WAIT_TIMEOUT": "1"},
    )
    assert producer.stdout.splitlines() == [
        "False False True",
        "3 abc 3",
        "of an earlier run ['old', 'f']",
    ]
    capio.leaves_server = True


def test_a_file_its_producers_never_made(capio: Workflow) -> None:
    capio.pair(["f"])
    consumer = capio.step(
        "consumer",
        """
        try:
            open("f")
        except FileNotFoundError as error:
            print(error.filename, error.strerror)
        """,
        env=SAYS_SO,
    )
    waits(consumer, "f", "to exist")
    capio.run("producer", "")
    assert consumer.line().startswith("f declared as an output, but app 'producer' has ended")
    consumer.finish()


@pytest.mark.parametrize(
    "opening",
    [
        "open('f', 'a')",
        "open('f', 'x')",
        "open('f', 'a+b', 0)",
        "os.fdopen(os.open('f', os.O_RDWR | os.O_CREAT), 'w')",
        "os.fdopen(os.open('f', os.O_RDONLY | os.O_CREAT), 'r')",
    ],
)
def test_a_file_its_producers_never_made_is_made_by_who_creates_it(
    capio: Workflow, opening: str
) -> None:
    """A log, or a lock, under a pattern that names another step's outputs, as in batch."""
    capio.pair(["*"])
    producer = capio.step("producer", "input()\n")
    consumer = capio.step(
        "consumer",
        f"import os\nprint('opens', flush=True)\nfile = {opening}\nfile.close()\n"
        "print(os.path.getsize('f'))\ntry: open('g')\nexcept FileNotFoundError: print('none')\n",
    )
    consumer.expect("opens")
    producer.send()
    producer.finish()
    consumer.expect("0", "none")
    assert "does not name among its outputs" in consumer.finish().stderr


def test_sources_and_tracebacks_do_not_wait(capio: Workflow) -> None:
    """The step's own script and modules lie in CAPIO_DIR, under the rule * of another app."""
    (capio.dir / "step_a.py").write_text(
        "import helper\nprint(helper.value, flush=True)\nhelper.fail()\n"
    )
    (capio.dir / "helper.py").write_text("value = 7\ndef fail():\n    raise ValueError('oh')\n")
    capio.pair(["*"])
    capio.leaves_server = True
    import sys

    step = capio.start(
        [sys.executable, "-m", "pycapio", *capio.options("consumer"), "step_a.py"],
        env={"CAPIO_WAIT_TIMEOUT": "5"},
    ).finish(1)
    assert step.stdout == "7\n"
    assert "raise ValueError('oh')" in step.stderr
    assert step.stderr.rstrip().endswith("ValueError: oh")


def test_a_file_nobody_declared(capio: Workflow) -> None:
    """Its creator is its producer; the others consume it, by the default rule."""
    producer = capio.step(
        "producer",
        "f = open('f.txt', 'w', buffering=1)\nf.write('one\\n')\nprint('there', flush=True)\n"
        "input()\nf.write('two\\n')\n",
    )
    producer.expect("there")
    consumer = capio.step("consumer", READ_ALL, "f.txt", env=SAYS_SO)
    consumer.expect("opened")
    waits(consumer, "f.txt", "to be complete")
    producer.send()
    consumer.expect("8 b'one\\n' b'two\\n'")
    producer.finish()
    consumer.finish()


# ---- chains, generations, large files ----


def test_a_chain_of_three(capio: Workflow) -> None:
    rule = {"committed": "on_close", "mode": "no_update"}
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
    last = capio.step("c", "for line in open('2'): print(line, end='', flush=True)\n")
    middle = capio.step(
        "b",
        "with open('1') as f, open('2', 'w', buffering=1) as g:\n"
        "  for line in f: g.write(line.upper())\n",
    )
    first = capio.step(
        "a",
        "with open('1', 'w', buffering=1) as f:\n  for i in range(20): f.write(input() + '\\n')\n",
    )
    for i in range(20):
        first.send(f"line {i}")
        last.expect(f"LINE {i}")
    for step in (first, middle, last):
        step.finish()


def test_several_consumers_of_a_large_file(capio: Workflow) -> None:
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": ["big"],
                "streaming": [{"name": ["big"], "committed": "on_close", "mode": "no_update"}],
            },
            *({"name": f"c{i}", "input_stream": ["big"], "output_stream": []} for i in range(3)),
        ]
    )
    digest = """
        import hashlib, sys
        total = hashlib.sha256()
        with open("big", "rb") as f:
            while data := f.read(int(sys.argv[1])):
                total.update(data)
        print(total.hexdigest())
    """
    consumers = [
        capio.step(f"c{i}", digest, str(size)) for i, size in enumerate((1000, 65536, 10**7))
    ]
    producer = capio.step(
        "producer",
        """
        import hashlib, random
        total = hashlib.sha256()
        source = random.Random(7)
        with open("big", "wb") as f:
            for _ in range(3000):
                data = source.randbytes(source.randrange(1, 20000))
                total.update(data)
                f.write(data)
        print(total.hexdigest())
        """,
    )
    expected = producer.line()
    for consumer in consumers:
        consumer.expect(expected)
        consumer.finish()
    producer.finish()


def test_a_file_restarted_while_it_is_read(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close:2", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f', 'w', buffering=1)\nf.write('first\\n')\ninput()\n"
        "g = open('f', 'w')\ng.write('anew\\n')\ng.close()\nf.close()\n",
    )
    consumer = capio.step(
        "consumer",
        """
        import errno
        f = open("f")
        print(f.readline(), end="", flush=True)
        try:
            print(f.readline())
        except OSError as error:
            print(errno.errorcode[error.errno], error.filename)
        print(open("f").read())
        """,
    )
    consumer.expect("first")
    producer.send()
    consumer.expect("ESTALE f", "anew")
    producer.finish()
    consumer.finish()


def test_a_new_version_leaves_readers_of_the_old_one_alone(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    producer = capio.step(
        "producer",
        "open('f', 'w').write('old' * 100000)\ninput()\nopen('f', 'w').write('new')\n",
    )
    consumer = capio.step(
        "consumer",
        "f = open('f')\nprint(f.read(3), flush=True)\ninput()\n"
        "rest = f.read()\nprint(len(rest), set(rest) == set('old'))\nprint(open('f').read())\n",
    )
    consumer.expect("old")
    producer.send()
    producer.finish()
    consumer.send()
    consumer.expect("299997 True", "new")
    consumer.finish()


@pytest.mark.parametrize("excluded", [False, True])
def test_renamed_into_place(capio: Workflow, excluded: bool) -> None:
    """The idiom that makes a file appear whole."""
    capio.pair(["f"], committed="on_close", **({"exclude": ["*.tmp"]} if excluded else {}))
    consumer = capio.step("consumer", READ_ALL, "f", env=SAYS_SO)
    waits(consumer, "f", "to exist")
    capio.run(
        "producer",
        "import os\nwith open('f.tmp', 'w') as f: f.write('whole file')\nos.replace('f.tmp', 'f')\n"
        "print(os.path.exists('f.tmp'), os.path.exists('f'))\n",
    ).expect("False True")
    consumer.expect("opened", "10 b'whol' b'file'")
    consumer.finish()


# No multiple of any buffer; one is large enough for large pages.
@pytest.mark.parametrize("size", [(5 << 20) + 12345, (33 << 20) + 54321])
@pytest.mark.parametrize("mode", ["update", "no_update"])
@pytest.mark.parametrize(
    "arguments", ["'rb'", "'rb', 0", "encoding='latin-1', newline=''"], ids=["", "raw", "text"]
)
def test_a_large_file_is_read_whole_while_it_is_written(
    capio: Workflow, arguments: str, mode: str, size: int
) -> None:
    capio.pair(["big"], committed="on_close", mode=mode)
    producer = capio.step(
        "producer",
        """
        import hashlib, random, sys
        size = int(sys.argv[1])
        data = random.Random(size).randbytes(size)
        with open("big", "wb") as f:
            for part in (data[:7], data[7:size // 2], data[size // 2:]):
                f.write(part)
                f.flush()
                print("flushed", flush=True)
                input()
        print(hashlib.sha256(data).hexdigest())
        """,
        str(size),
    )
    producer.expect("flushed")
    consumer = capio.step(
        "consumer",
        f"""
        import hashlib
        with open("big", {arguments}) as f:
            data = f.read(5)
            data += f.read()
            assert not f.read()
        if isinstance(data, str):
            data = data.encode("latin-1")
        print(hashlib.sha256(data).hexdigest())
        """,
        env=SAYS_SO,
    )
    waits(consumer, "big")
    for _ in range(2):
        producer.send()
        producer.expect("flushed")
    producer.send()
    consumer.expect(producer.line())
    consumer.finish()
    producer.finish()


def test_a_large_file_whose_producer_dies_is_read_by_nobody(capio: Workflow) -> None:
    capio.pair(["big"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        """
        f = open("big", "wb")
        f.write(bytes(40 << 20))
        f.flush()
        print("there", flush=True)
        input()
        """,
    )
    producer.expect("there")
    consumer = capio.step(
        "consumer",
        """
        f = open("big", "rb")
        try:
            print(len(f.read()))
        except OSError as error:
            print(error.errno, error.filename)
        """,
        env=SAYS_SO,
    )
    waits(consumer, "big")
    producer.kill()
    consumer.expect("130 big")
    consumer.finish()
