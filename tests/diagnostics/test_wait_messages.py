"""What a wait says while it goes on, and when CAPIO_WAIT_TIMEOUT ends it (S12): what is waited for,
why that has not come, who should provide it, and what those are doing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from workflows import SAYS_SO, Step, Workflow

READS = "print(open('f').read(), flush=True)\n"
LISTS = "import os\nprint(sorted(os.listdir('d')), flush=True)\n"

# A producer that obeys: each line it is sent is a statement.
PRODUCER = """
import os, subprocess, sys
print("up", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


def graph(capio: Workflow, *rules: dict[str, Any], outputs: list[str], **rest: Any) -> None:
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": outputs,
                "streaming": list(rules),
            },
            {"name": "checker", "input_stream": [], "output_stream": ["ok", "parts/*"]},
            {"name": "consumer", "input_stream": outputs, "output_stream": []},
        ],
        **rest,
    )


def does(producer: Step, *statements: str) -> None:
    for statement in statements:
        producer.send(statement)
        producer.expect("done")


def said(capio: Workflow, step: Step, pattern: str) -> str:
    """The next message that the pattern matches, without the parts that no test can know."""
    line = step.expect_error(pattern)
    line = line.replace(f"{capio.dir}/", "").replace(f"{capio.dir} ", ". ")
    return re.sub("[0-9]+ s for", "N s for", line)


CASES: dict[str, tuple[dict[str, Any], list[str], str, str]] = {
    "on_close": (
        {"name": ["f"], "committed": "on_close"},
        ["f = open('f', 'w')"],
        READS,
        "f to be complete (on_close): "
        "app 'producer' is running as pid {pid} (has it open for writing)",
    ),
    "on_close:3": (
        {"name": ["f"], "committed": "on_close:3"},
        ["open('f', 'w').close()"],
        READS,
        "f to be complete (on_close:3: 1 of 3 closes has come): "
        "app 'producer' is running as pid {pid}",
    ),
    "on_close:3, none yet": (
        {"name": ["f"], "committed": "on_close:3"},
        ["f = open('f', 'w')"],
        READS,
        "f to be complete (on_close:3: 0 of 3 closes have come): "
        "app 'producer' is running as pid {pid} (has it open for writing)",
    ),
    "inherited": (
        {"name": ["f"], "committed": "on_close"},
        [
            "p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=(f := open('f', 'w')))",
            "f.close()",
        ],
        READS,
        "f to be complete (it has been closed, but a process still has it open for writing: by an "
        "inherited descriptor, a mapping, or a program that CAPIO does not see): "
        "app 'producer' is running as pid {pid}",
    ),
    "on_termination": (
        {"name": ["f"]},
        ["open('f', 'w').close()"],
        READS,
        "f to be complete (on_termination: when all processes that write it have ended): "
        "app 'producer' is running as pid {pid}",
    ),
    "on_file": (
        {"name": ["f"], "committed": "on_file", "file_deps": ["ok"]},
        ["open('f', 'w').close()"],
        READS,
        "f to be complete (on_file: \"ok\" is not there yet): app 'checker' has not started",
    ),
    "on_file, several": (
        {"name": ["f"], "committed": "on_file", "file_deps": ["mine", "ok", "parts/*"]},
        ["open('mine', 'w').close()", "open('f', 'w').close()"],
        READS,
        'f to be complete (on_file: 1 of 3 complete, "ok" is not there yet): '
        "app 'checker' has not started",
    ),
    "on_file, pattern": (
        {"name": ["f"], "committed": "on_file", "file_deps": ["parts/*"]},
        ["open('f', 'w').close()"],
        READS,
        "f to be complete (on_file: not all of \"parts/*\"): app 'checker' has not started",
    ),
    "bytes": (
        {"name": ["f"], "committed": "on_close", "mode": "no_update"},
        ["f = open('f', 'w')", "f.write('12345')", "f.flush()"],
        "print(open('f').read(8))\n",
        "f to have more bytes (5 are there): "
        "app 'producer' is running as pid {pid} (has it open for writing)",
    ),
    "gap": (
        {"name": ["f"], "committed": "on_close", "mode": "no_update"},
        ["f = open('f', 'wb')", "f.write(b'123')", "f.seek(9)", "f.write(b'0')", "f.flush()"],
        "print(open('f').read(8))\n",
        "f to have more bytes (nobody has written the gap behind the first 3 yet): "
        "app 'producer' is running as pid {pid} (has it open for writing)",
    ),
    "listing on_n_files": (
        {"dirname": ["d"], "committed": "on_n_files", "n_files": 3},
        ["os.mkdir('d')", "open('d/1', 'w').close()"],
        LISTS,
        "d to be complete (on_n_files: 1 of 3 entries): app 'producer' is running as pid {pid}",
    ),
    "growing listing on_n_files": (
        {"dirname": ["d"], "committed": "on_n_files", "n_files": 3, "mode": "no_update"},
        ["os.mkdir('d')", "open('d/1', 'w').close()", "open('d/2', 'w').close()"],
        LISTS,
        "d to have more entries, or be complete (on_n_files: 2 of 3 entries): "
        "app 'producer' is running as pid {pid}",
    ),
    "listing on_file": (
        {"dirname": ["d"], "committed": "on_file", "file_deps": ["ok"]},
        ["os.mkdir('d')"],
        LISTS,
        'd to be complete (on_file: "ok" is not there yet): '
        "app 'producer' is running as pid {pid}; app 'checker' has not started",
    ),
    "listing on_termination": (
        {"dirname": ["d"]},
        ["os.mkdir('d')"],
        LISTS,
        "d to be complete (on_termination: when all processes that write it have ended): "
        "app 'producer' is running as pid {pid}",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_why_it_is_not_complete(capio: Workflow, case: str) -> None:
    rule, statements, reads, message = CASES[case]
    rules = [rule, {"name": ["mine"], "committed": "on_close"}]
    graph(capio, *rules, outputs=["f", "d", "mine"])
    capio.leaves_server = True
    producer = capio.step("producer", PRODUCER)
    producer.expect("up")
    does(producer, *statements)
    consumer = capio.step("consumer", reads, env=SAYS_SO)
    want = "pycapio: waiting N s for " + message.format(pid=producer.pid)
    assert said(capio, consumer, "pycapio: waiting") == want
    consumer.kill()
    producer.finish()


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("f", "declared as an output"),
        ("[f-h]", 'declared as an output by "[f-h]"'),
    ],
)
def test_which_clause_makes_it_wait_for_existence(capio: Workflow, output: str, why: str) -> None:
    graph(capio, outputs=[output])
    capio.leaves_server = True
    consumer = capio.step("consumer", READS, env=SAYS_SO)
    assert said(capio, consumer, "waiting") == (
        f"pycapio: waiting N s for f to exist ({why}): app 'producer' has not started"
    )
    consumer.kill()


def test_a_file_of_an_earlier_run_is_in_the_message(capio: Workflow) -> None:
    graph(capio, outputs=["f"])
    Path(capio.dir, "f").write_text("old")
    capio.leaves_server = True
    consumer = capio.step("consumer", READS, env=SAYS_SO)
    assert (
        "to exist (declared as an output; what lies there is an earlier run's, and counts only "
        "with --resume): app 'producer' has not started"
    ) in said(capio, consumer, "waiting")
    consumer.kill()


def test_a_time_out_says_the_same(capio: Workflow) -> None:
    graph(capio, {"name": ["f"], "committed": "on_close:2"}, outputs=["f"])
    capio.leaves_server = True
    producer = capio.step("producer", PRODUCER)
    producer.expect("up")
    does(producer, "open('f', 'w').close()")
    consumer = capio.run(
        "consumer",
        "try: open('f').read()\nexcept TimeoutError as error: print(error.strerror)\n",
        env={"CAPIO_WAIT_TIMEOUT": "1"},
    )
    assert consumer.stdout == (
        f"waited 1 s (CAPIO_WAIT_TIMEOUT) for {capio.dir}/f to be complete "
        "(on_close:2: 1 of 2 closes has come): "
        f"app 'producer' is running as pid {producer.pid}\n"
    )
    producer.finish()


def test_many_processes_are_counted(capio: Workflow) -> None:
    graph(capio, outputs=["f"])
    capio.leaves_server = True
    # Workers of one step, each a client of its own.
    producer = capio.step(
        "producer",
        """
        import os
        from multiprocessing import Barrier, Process
        def work(barrier, number):
            open(f"w{number}", "w").close()
            barrier.wait()
            barrier.wait()
        barrier = Barrier(11)
        workers = [Process(target=work, args=(barrier, n)) for n in range(10)]
        for worker in workers:
            worker.start()
        open("f", "w").close()
        barrier.wait()
        print("up", flush=True)
        input()
        barrier.wait()
        for worker in workers:
            worker.join()
        """,
    )
    producer.expect("up")
    consumer = capio.step("consumer", READS, env=SAYS_SO)
    line = said(capio, consumer, "waiting")
    assert line.count("pid ") == 8 and line.endswith(" and 3 more")
    consumer.kill()
    producer.send()
    producer.finish()
