"""kill -9 at random points: of producers, consumers, forked children and the server.

A point is a number of system calls since the step began its work, drawn from the seed that is in
the test's name. What must hold: nobody hangs; a consumer gets all of a file, or EOWNERDEAD, or
ENOENT; nothing is left behind; a run of the same names afterwards succeeds.

CAPIO_TEST_SEEDS=N takes N seeds of each (see SEEDS), from CAPIO_TEST_SEED on.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import textwrap

import pytest

from tracing import Traced
from workflows import Step, Workflow, wait_for_end

FIRST = int(os.environ.get("CAPIO_TEST_SEED") or 1)
SEEDS = int(os.environ.get("CAPIO_TEST_SEEDS") or 6)
every_seed = pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))

# Makes files in all the ways there are; each is what content() of its name says.
PRODUCE = """
    import hashlib, os, sys
    def content(name, size):
        line = hashlib.sha256(name.encode()).hexdigest() + "\\n"
        return (line * (size // 65 + 1))[:size].encode()

    print("go", flush=True)
    input()
    data = content("plain", 30000)
    with open("plain", "wb", buffering=0) as f:
        for at in range(0, len(data), 3000):
            f.write(data[at:at + 3000])
    with open("again", "wb") as f:
        f.write(content("again", 9000)[:4000])
    with open("again", "ab") as f:
        f.write(content("again", 9000)[4000:])
    with open("text", "w") as f:
        f.write(content("text", 20000).decode())
    with open(".moved", "wb") as f:
        f.write(content("moved", 5000))
    os.rename(".moved", "moved")
    data = content("gaps", 12000)
    with open("gaps", "wb", buffering=0) as f:
        for at in (6000, 0, 9000, 3000):
            f.seek(at)
            f.write(data[at:at + 3000])
    os.makedirs("d", exist_ok=True)
    for name in ("d/a", "d/b"):
        with open(name, "wb") as f:
            f.write(content(name, 1000))
    data = content("child", 6000)
    with open("child", "wb", buffering=0) as f:
        f.write(data[:2000])
        pid = os.fork()
        if pid == 0:
            f.write(data[2000:4000])
            os._exit(0)
        os.waitpid(pid, 0)
        f.write(data[4000:])
    print("made", flush=True)
"""
SIZES = {
    "plain": 30000,
    "again": 9000,
    "text": 20000,
    "moved": 5000,
    "gaps": 12000,
    "d/a": 1000,
    "d/b": 1000,
    "child": 6000,
}
CONSUME = f"""
    import errno, hashlib, sys
    print("go", flush=True)
    input()
    for name in {list(SIZES)}:
        try:
            with open(name, "rb") as f:
                data = f.read(100)
                while chunk := f.read(7000):
                    data += chunk
            print(name, len(data), hashlib.sha256(data).hexdigest(), flush=True)
        except OSError as error:
            print(name, errno.errorcode[error.errno], error.filename, flush=True)
"""


def right(name: str) -> str:
    """What the consumer prints of a whole file."""
    size = SIZES[name]
    line = hashlib.sha256(name.encode()).hexdigest() + "\n"
    data = (line * (size // 65 + 1))[:size].encode()
    return f"{name} {size} {hashlib.sha256(data).hexdigest()}"


def declare(capio: Workflow, source: random.Random, **rest: object) -> None:
    """One producer of all, one consumer; rules are drawn."""
    rules = []
    for name in (*(name for name in SIZES if "/" not in name), "d/*"):
        closes = ":2" if name == "again" else ""
        commit = source.choice(["on_close" + closes, "on_termination"])
        mode = source.choice(["update", "no_update"])
        rules.append({"name": [name], "committed": commit, "mode": mode})
    names = [*(name for name in SIZES if "/" not in name), "d", "d/*"]
    capio.config(
        [
            {"name": "producer", "input_stream": [], "output_stream": names, "streaming": rules},
            {"name": "consumer", "input_stream": names, "output_stream": []},
        ],
        **rest,
    )


def started(capio: Workflow, app: str, text: str) -> Step:
    """Runs up to the point where it would begin."""
    step = capio.step(app, text, env={"CAPIO_WAIT_WARN": "5"})
    step.expect("go")
    return step


def seen(step: Step) -> dict[str, str]:
    """What a consumer has printed, by the file's name."""
    return {line.split()[0]: line for line in step.stdout.splitlines() if line != "go"}


def whole_or_error(consumer: Step) -> None:
    """Every file was right, or said that it was not."""
    found = seen(consumer)
    assert list(found) == list(SIZES)
    for name, line in found.items():
        assert line in (right(name), f"{name} EOWNERDEAD {name}", f"{name} ENOENT {name}")


def all_right(capio: Workflow) -> None:
    """A consumer gets every file."""
    consumer = started(capio, "consumer", CONSUME)
    consumer.send()
    consumer.finish()
    assert list(seen(consumer).values()) == [right(name) for name in SIZES]


def killed_at(step: Step, calls: int) -> bool:
    """Kills the step after so many stops; False if it has ended before."""
    traced = Traced(step.pid)
    step.send()
    killed = traced.run(calls)
    traced.kill()
    traced.reap(step.process)
    step.finish(None)
    return killed


@every_seed
@pytest.mark.parametrize("restart", [False, True], ids=["", "new-server"])
def test_producer(capio: Workflow, seed: int, restart: bool) -> None:
    source = random.Random(seed)
    declare(capio, source)
    if not restart:
        capio.hold()
    else:
        capio.leaves_server = True
    consumer = started(capio, "consumer", CONSUME)
    consumer.send()
    producer = started(capio, "producer", PRODUCE)
    # A whole run has about 430 of them.
    killed = killed_at(producer, source.randrange(2, 440))
    consumer.finish()
    whole_or_error(consumer)
    assert killed or "made" in producer.stdout
    if restart:
        capio.stop_server()
    again = started(capio, "producer", PRODUCE)
    again.send()
    again.finish()
    all_right(capio)


@every_seed
def test_consumer(capio: Workflow, seed: int) -> None:
    source = random.Random(seed)
    declare(capio, source)
    capio.hold()
    consumer = started(capio, "consumer", CONSUME)
    producer = started(capio, "producer", PRODUCE)
    producer.send()
    killed_at(consumer, source.randrange(2, 400))
    producer.finish()
    all_right(capio)


@every_seed
def test_forked(capio: Workflow, seed: int) -> None:
    """A step of three processes that write at the same time, one of which is killed."""
    source = random.Random(seed)
    declare(capio, source)
    capio.hold()
    consumer = started(capio, "consumer", CONSUME)
    consumer.send()
    gates = [os.pipe() for _ in range(2)]
    text = f"""
    import os, sys
    head = {textwrap.dedent(PRODUCE).split('print("go"')[0]!r}
    exec(head)
    def make(name, size, pieces):
        data = content(name, size)
        with open(name, "wb", buffering=0) as f:
            for at in range(0, size, size // pieces):
                f.write(data[at:at + size // pieces])
    def work(names):
        for name in names:
            make(name, {SIZES}[name], 7)
    os.makedirs("d", exist_ok=True)
    data = content("child", 6000)
    with open("child", "wb", buffering=0) as f:
        f.write(data[:2000])
        workers = []
        for gate, names in (({gates[0][0]}, ["d/a", "text"]), ({gates[1][0]}, ["d/b", "moved"])):
            pid = os.fork()
            if pid == 0:
                os.read(gate, 1)
                if "d/a" in names:
                    f.write(data[2000:6000])
                work(names)
                os._exit(0)
            workers.append(pid)
        print(*workers, flush=True)
        print("go", flush=True)
        input()
        work(["plain", "gaps"])
        make("again", 9000, 3)
        with open("again", "ab"):
            pass
        bad = [pid for pid in workers if os.waitpid(pid, 0)[1] != 0]
        if bad:
            raise ChildProcessError(bad)
    """
    producer = capio.step(
        "producer", text, env={"CAPIO_WAIT_WARN": "5"}, pass_fds=[gate for gate, _ in gates]
    )
    pids = [producer.pid, *map(int, producer.line().split())]
    producer.expect("go")
    victim = source.randrange(3)
    traced = Traced(pids[victim])
    for _, end in gates:
        os.write(end, b"x")
    producer.send()
    traced.run(source.randrange(2, 120))
    traced.kill()
    if victim == 0:
        traced.reap(producer.process)
    producer.finish(None)
    assert all(map(wait_for_end, pids))
    for gate in gates:
        for end in gate:
            os.close(end)
    consumer.finish()
    whole_or_error(consumer)
    again = started(capio, "producer", PRODUCE)
    again.send()
    again.finish()
    all_right(capio)


def kept_right(capio: Workflow) -> None:
    for name in SIZES:
        data = (capio.dir / name).read_bytes()
        assert f"{name} {len(data)} {hashlib.sha256(data).hexdigest()}" == right(name)


@every_seed
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_server(capio: Workflow, seed: int, how: str) -> None:
    """The steps do not need it; what is permanent is there in the end."""
    source = random.Random(seed)
    declare(capio, source, permanent=[name for name in SIZES if "/" not in name] + ["d/*"])
    consumer = started(capio, "consumer", CONSUME)
    producer = started(capio, "producer", PRODUCE)
    server = capio.server()
    threads = sorted(map(int, os.listdir(f"/proc/{server}/task")))
    # Most often its loop, sometimes one of those that write to CAPIO_DIR.
    traced = Traced(source.choice([server, server, *threads]))
    consumer.send()
    producer.send()
    alive = traced.run(source.randrange(2, 250))
    if how == "kill":
        traced.kill()
    elif alive:
        os.kill(server, signal.SIGSTOP)
        traced.release()
    producer.finish()
    consumer.finish()
    assert list(seen(consumer).values()) == [right(name) for name in SIZES]
    if how == "stop" and alive:
        os.kill(server, signal.SIGCONT)
    assert capio.wait_for_server_end()
    kept_right(capio)
    if how == "kill":
        # Killed while it took the store away, it leaves that to the next server.
        again = started(capio, "producer", PRODUCE)
        again.send()
        all_right(capio)
        again.finish()
        assert capio.wait_for_server_end()
        kept_right(capio)


# The first half of a step that goes on as another program, which gets one file still open, and the
# other half.
FIRST_HALF = """
    {head}
    print("go", flush=True)
    input()
    with open("plain", "wb") as f:
        f.write(content("plain", 30000))
    with open("again", "wb") as f:
        f.write(content("again", 9000)[:4000])
    left_open = open("text", "w")
    left_open.write(content("text", 20000).decode())
    inherited = os.open("child", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.set_inheritable(inherited, True)
    os.write(inherited, content("child", 6000)[:2000])
    os.execv(sys.executable, [sys.executable, "-c", {second!r}, str(inherited)])
"""
SECOND_HALF = """
    {head}
    inherited = int(sys.argv[1])
    os.write(inherited, content("child", 6000)[2000:])
    os.close(inherited)
    with open("again", "ab") as f:
        f.write(content("again", 9000)[4000:])
    os.makedirs("d", exist_ok=True)
    for name, size in (("moved", 5000), ("gaps", 12000), ("d/a", 1000), ("d/b", 1000)):
        with open(name, "wb") as f:
            f.write(content(name, size))
    print("made", flush=True)
"""


@every_seed
def test_exec(capio: Workflow, seed: int) -> None:
    """Killed before exec, in it, while the next Python starts, or later."""
    source = random.Random(seed)
    declare(capio, source)
    capio.hold()
    consumer = started(capio, "consumer", CONSUME)
    consumer.send()
    head = textwrap.dedent(PRODUCE).split('print("go"')[0]
    second = textwrap.dedent(SECOND_HALF).format(head=head)
    text = textwrap.dedent(FIRST_HALF).format(head=head, second=second)
    producer = started(capio, "producer", text)
    # A whole run has about 3900 of them, most of them while the next Python starts.
    killed = killed_at(producer, source.randrange(2, source.choice([300, 3900])))
    consumer.finish()
    whole_or_error(consumer)
    assert killed or "made" in producer.stdout
    again = started(capio, "producer", PRODUCE)
    again.send()
    again.finish()
    all_right(capio)
