"""The server: custodian, not broker; its start, its end, and life without it (S11)."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from workflows import SAYS_SO, Step, Workflow, processes_naming, wait_for_end

PRODUCER = """
    print("attached", flush=True)
    for name in ("a", "b"):
        with open(name, "w", buffering=1) as f:
            for i in range(3):
                input()
                f.write(f"{name}{i}\\n")
    input()
"""

CONSUMER = """
    print("attached", flush=True)
    for name in ("a", "b"):
        with open(name) as f:
            for line in f:
                print(line, end="", flush=True)
        print("end of", name, flush=True)
    input()
"""


def attached_pair(capio: Workflow) -> tuple[Step, Step]:
    capio.pair(["a", "b"], committed="on_close", mode="no_update")
    producer = capio.step("producer", PRODUCER)
    producer.expect("attached")
    consumer = capio.step("consumer", CONSUMER)
    consumer.expect("attached")
    return producer, consumer


def stream_to_the_end(producer: Step, consumer: Step) -> None:
    for name in ("a", "b"):
        for i in range(3):
            producer.send()
            consumer.expect(f"{name}{i}")
        consumer.expect(f"end of {name}")


def test_stopped_server(capio: Workflow) -> None:
    producer, consumer = attached_pair(capio)
    server = capio.server()
    os.kill(server, signal.SIGSTOP)
    try:
        stream_to_the_end(producer, consumer)
    finally:
        os.kill(server, signal.SIGCONT)
    for step in (producer, consumer):
        step.send()
        step.finish()


def test_killed_server(capio: Workflow) -> None:
    """What is attached streams to its end; the next step starts a server, which takes over."""
    producer, consumer = attached_pair(capio)
    old = capio.server()
    os.kill(old, signal.SIGKILL)
    assert wait_for_end(old)
    stream_to_the_end(producer, consumer)
    later = capio.step("consumer", "print(open('a').read(), end='', flush=True)\ninput()\n")
    later.expect("a0", "a1", "a2")
    new = capio.server()
    assert new != old
    for step in (producer, consumer, later):
        step.send()
        step.finish()
    assert wait_for_end(new)
    assert not list(capio.store.glob("capio-*/*"))


def test_adopting_server_learns_of_deaths(capio: Workflow) -> None:
    capio.pair(["f", "g"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        "f = open('f', 'w', buffering=1)\nf.write('x\\n')\nprint('up', flush=True)\ninput()\n",
    )
    producer.expect("up")
    server = capio.server()
    os.kill(server, signal.SIGKILL)
    assert wait_for_end(server)
    producer.kill()
    consumer = capio.run(
        "consumer",
        """
        import errno
        for name in ("f", "g"):
            try:
                open(name).read()
            except OSError as error:
                print(errno.errorcode[error.errno], error.filename)
        """,
    )
    assert consumer.stdout.splitlines() == ["EOWNERDEAD f", "EOWNERDEAD g"]


def test_waiter_without_a_server_starts_one(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", "print(open('f').read())\n", env=SAYS_SO)
    consumer.expect_error("waiting")
    server = capio.server()
    os.kill(server, signal.SIGKILL)
    assert wait_for_end(server)
    capio.run("producer", "open('f', 'w').write('made')\n")
    consumer.expect("made")
    consumer.finish()


def test_sigterm_ends_the_server_after_write_back(capio: Workflow) -> None:
    producer = capio.step(
        "producer",
        "open('f', 'w').write('x')\nprint('made', flush=True)\ninput()\n"
        "print(open('f').read())\nopen('g', 'w').write('later')\n",
    )
    producer.expect("made")
    capio.stop_server()
    producer.send()
    producer.expect("x")
    producer.finish()
    assert (capio.dir / "f").read_text() == "x"
    assert (capio.dir / "g").read_text() == "later"


def test_server_ends_with_the_last_declared_app(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.run("producer", "open('f', 'w').write('kept for the consumer')\n")
    server = capio.server()  # lingers: the consumer is still to come
    capio.run("consumer", "print(open('f').read())\n").expect("kept for the consumer")
    assert wait_for_end(server)


def test_server_without_config_ends_with_the_last_client(capio: Workflow) -> None:
    step = capio.step("app", "print('up', flush=True)\ninput()\n")
    step.expect("up")
    server = capio.server()
    step.send()
    step.finish()
    assert wait_for_end(server)


def test_idle_server_lingers_so_long(capio: Workflow) -> None:
    """The consumer never comes: after CAPIO_LINGER the server ends, and nothing unread is lost."""
    capio.pair(["f"], committed="on_close")
    capio.env["CAPIO_LINGER"] = "0.5"
    producer = capio.step(
        "producer",
        "open('f', 'w').write('nobody has read this')\nprint('made', flush=True)\ninput()\n",
    )
    producer.expect("made")
    server = capio.server()
    producer.send()
    producer.finish()
    assert wait_for_end(server)
    assert (capio.dir / "f").read_text() == "nobody has read this"


def test_keep_server(capio: Workflow) -> None:
    capio.leaves_server = True
    capio.run("app", "open('f', 'w').write('x')\n", options=["--keep-server"])
    first = capio.server()
    capio.run("other", "print(open('f').read())\n", options=["--keep-server"]).expect("x")
    assert capio.server() == first


def test_two_workflows_do_not_see_each_other(capio: Workflow, tmp_path: Path) -> None:
    other_dir = tmp_path / "other"
    other_dir.mkdir()
    capio.pair(["f"], committed="on_close")
    other_name = capio.name + "-other"
    command = [sys.executable, "-m", "pycapio", "--capio-dir", str(other_dir)]
    command += ["--workflow-name", other_name, "--app-name", "producer", "--no-persist"]
    script = capio.script("import sys\nopen(sys.argv[1], 'w').write('of the other')\n")
    consumer = capio.step("consumer", "print(open('f').read())\n", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to exist")
    capio.start([*command, str(script), str(other_dir / "f")]).finish()
    capio.run("producer", "open('f', 'w').write('of this one')\n")
    consumer.expect("of this one")
    consumer.finish()
    assert not list(other_dir.iterdir())
    for pid in processes_naming(other_name):
        assert wait_for_end(pid)


@pytest.mark.parametrize(
    "name", ["a b", "ünïcode ☃", "../../etc", "a/b", "..", ".", "x" * 250, "-n", "%2e%2e"]
)
def test_workflow_names(capio: Workflow, name: str) -> None:
    command = [sys.executable, "-m", "pycapio", "--capio-dir", str(capio.dir)]
    script = str(capio.script("open('f', 'w').write('x')\nprint(open('f').read())\n"))
    full = f"{name}{capio.name}" if name.startswith("x") else name
    step = capio.start([*command, f"--workflow-name={full}", script])
    step.expect("x")
    step.finish()
    for pid in processes_naming(str(capio.dir)):
        assert wait_for_end(pid)
    assert (capio.dir / "f").read_text() == "x"
    assert not list(capio.store.iterdir())


def test_the_default_store(capio: Workflow) -> None:
    """/dev/shm; the fixture looks there, too, for what may be left."""
    environment = {k: v for k, v in capio.env.items() if k != "CAPIO_STORE"}
    capio.env.clear()
    capio.env.update(environment)
    step = capio.step("app", "open('f', 'w').write('x')\nprint('made', flush=True)\ninput()\n")
    step.expect("made")
    store = Path(f"/dev/shm/capio-{os.getuid()}", capio.name)
    assert (store / "tree" / "f").read_text() == "x"
    assert store.stat().st_mode & 0o777 == 0o700
    step.send()
    step.finish()
    assert capio.wait_for_server_end()
    assert not store.exists()


def test_twenty_processes_at_once(capio: Workflow) -> None:
    capio.pair(["f*"], committed="on_close", mode="no_update")
    text = """
        import sys
        i = int(sys.argv[1])
        print("up", flush=True)
        input()
        if i % 2:
            with open(f"f{i - 1}") as f:
                print(sum(map(int, f)))
        else:
            with open(f"f{i}", "w", buffering=1) as f:
                for n in range(200):
                    print(n, file=f)
    """
    steps = [capio.step("consumer" if i % 2 else "producer", text, str(i)) for i in range(20)]
    for step in steps:
        step.expect("up")
    for step in steps:
        step.send()
    for i, step in enumerate(steps):
        step.finish()
        assert step.stdout == ("up\n19900\n" if i % 2 else "up\n")


def test_many_start_the_server_at_once(capio: Workflow) -> None:
    """All find the same one."""
    steps = [capio.step("app", "print('up', flush=True)\ninput()\n") for _ in range(8)]
    for step in steps:
        step.expect("up")
    assert len(capio.servers()) == 1
    for step in steps:
        step.send()
        step.finish()


# ---- starts that fail ----


def test_bad_capio_cl_file(capio: Workflow) -> None:
    capio.config_file = capio.tmp_path / "bad.json"
    capio.config_file.write_text('{"name": "wf", "IO_Graph": [{"nome": "a"}]}')
    step = capio.run("app", "print('never')\n", status=2)
    assert step.stdout == ""
    assert "bad.json" in step.stderr
    assert "nome" in step.stderr
    assert "Traceback" not in step.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}'])
def test_broken_capio_cl_file_for_a_context(capio: Workflow, text: str) -> None:
    capio.config_file = capio.tmp_path / "broken.json"
    capio.config_file.write_text(text)
    step = capio.python(
        """
        import errno
        from pycapio import CapioContext, PyCAPIOException
        try:
            with CapioContext(
                capio_dir=DIR, workflow_name=WF, capio_cl_configuration_file=CONFIG,
                await_server_timeout_seconds=60,
            ):
                print("entered")
        except PyCAPIOException as error:
            print(errno.errorcode[error.errno], "broken.json" in str(error))
        print(open("f", "w").name)
        """
    ).finish()
    assert step.stdout.splitlines() == ["EINVAL True", "f"]
    assert (capio.dir / "f").exists()


def test_server_that_is_not_there(capio: Workflow) -> None:
    step = capio.run(
        "app", "print('never')\n", status=1, options=["--server-exec-path", "/no/such/server"]
    )
    assert step.stdout == ""
    assert "/no/such/server" in step.stderr
    assert "Traceback" not in step.stderr


def test_server_that_does_not_get_ready(capio: Workflow) -> None:
    server = capio.tmp_path / "slow_server"
    server.write_text("#!/bin/sh\necho reading the stars >&2\necho still busy\nexec sleep 1000\n")
    server.chmod(0o755)
    step = capio.run(
        "app",
        "print('never')\n",
        status=1,
        options=["--server-exec-path", str(server), "--await-server-timeout=0.5"],
    )
    assert step.stdout == ""
    assert "was not ready after 500 ms" in step.stderr
    assert "reading the stars\nstill busy" in step.stderr
    assert "Traceback" not in step.stderr


def test_server_that_ends_at_once(capio: Workflow) -> None:
    server = capio.tmp_path / "no_server"
    server.write_text("#!/bin/sh\necho cannot go on >&2\nexit 7\n")
    server.chmod(0o755)
    step = capio.run(
        "app", "print('never')\n", status=1, options=["--server-exec-path", str(server)]
    )
    assert "ended before it was ready" in step.stderr
    assert "cannot go on" in step.stderr


def test_another_config_or_directory_for_a_running_workflow(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.leaves_server = True
    holder = capio.step("producer", "print('up', flush=True)\ninput()\n")
    holder.expect("up")
    first = capio.config_file
    assert first is not None
    first.rename(capio.tmp_path / "first.json")
    capio.pair(["other"], committed="on_close")
    step = capio.run("consumer", "print('never')\n", status=1)
    assert step.stdout == ""
    assert capio.name in step.stderr
    holder.send()
    holder.finish()


def test_store_of_somebody_else(capio: Workflow) -> None:
    base = capio.store / f"capio-{os.getuid()}"
    base.mkdir(mode=0o755)
    base.chmod(0o777)
    step = capio.run("app", "print('never')\n", status=1)
    assert "mode 0700" in step.stderr
    base.rmdir()
