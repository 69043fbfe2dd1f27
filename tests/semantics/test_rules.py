"""Every commit rule with every fire rule, for files and directories (S5, S6, S7): at each stage of
a production, what a consumer gets and what it has yet to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from workflows import Step, Workflow

# Does one thing for each line it is sent, and says so.
PRODUCER = """
import os, sys
kind = sys.argv[1]

def work(command):
    if command == "open":
        globals()["file"] = open("f", "w")
    elif command == "write":
        file.write("one\\n")
        file.flush()
    elif command == "close":
        file.close()
    elif command == "append":
        with open("f", "a") as more:
            more.write("two\\n")
    elif command == "flag":
        open("flag", "w").close()
    elif command == "mkdir":
        os.mkdir("d")
    elif command.startswith("entry"):
        open("d/" + command, "w").close()

def serve():
    for line in sys.stdin:
        work(line.strip())
        print("done", flush=True)

if kind == "child":
    # The work is a child's; the step's first process only waits for it.
    pid = os.fork()
    if pid == 0:
        serve()
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
serve()
"""

# The same as a decorated function of plain Python.
DECORATED = (
    "import pycapio\n@pycapio.CapioContext(capio_dir=DIR, app_name='producer', workflow_name=WF,"
    " capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60)\ndef step():\n"
    + "".join(f"    {line}\n" for line in PRODUCER.splitlines())
    + "step()\n"
)

CONSUMER = """
import os, sys

for line in sys.stdin:
    command, limit = line.split()
    os.environ["CAPIO_WAIT_TIMEOUT"] = limit
    try:
        if command == "size":
            print(os.stat("f").st_size, flush=True)
        elif command == "first":
            with open("f", "rb", buffering=0) as file:
                print(file.read(1).decode(), flush=True)
        elif command == "all":
            print(repr(open("f").read()), flush=True)
        elif command == "entry":
            with os.scandir("d") as entries:
                print(next(entries).name, flush=True)
        elif command == "entries":
            with os.scandir("d") as entries:
                print(",".join(entry.name for entry in entries), flush=True)
        elif command == "list":
            print(",".join(os.listdir("d")), flush=True)
    except TimeoutError:
        print("waits", flush=True)
"""

AT_ONCE = "0.05"  # s; what is there is there without any wait
PATIENTLY = "60"

MODES = ["update", "no_update", None]
# What kind of process does the work makes no difference to the rules: the others run part of them.
KINDS = [("launcher", mode) for mode in MODES] + [("child", "no_update"), ("context", "no_update")]


def start(capio: Workflow, kind: str) -> tuple[Step, Step]:
    if kind == "context":
        producer = capio.python(DECORATED, "context")
    else:
        producer = capio.step("producer", PRODUCER, kind)
    return producer, capio.step("consumer", CONSUMER)


def tell(producer: Step, *commands: str) -> None:
    for command in commands:
        producer.send(command)
        producer.expect("done")


def ask(consumer: Step, command: str, answer: str, *, wait: bool = True) -> None:
    waits = answer == "waits"
    consumer.send(f"{command} {PATIENTLY if wait and not waits else AT_ONCE}")
    consumer.expect(answer)


def declare(
    capio: Workflow, streaming: dict[str, Any], mode: str | None, outputs: Sequence[str]
) -> None:
    clause = {**streaming, **({"mode": mode} if mode else {})}
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": list(outputs),
                "streaming": [clause, {"name": ["flag"], "committed": "on_close"}],
            },
            {"name": "consumer", "input_stream": list(outputs), "output_stream": []},
        ]
    )


COMMITTED_AT = {
    "on_close": "close",
    "on_close:2": "append",
    "on_file": "flag",
    "on_file:flag": "flag",
    "on_termination": "end",
    None: "end",
}


@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.parametrize("committed", COMMITTED_AT)
def test_file(capio: Workflow, committed: str | None, mode: str | None, kind: str) -> None:
    clause: dict[str, Any] = {"name": ["f"]}
    if committed is not None:
        clause["committed"] = committed
    if committed == "on_file":
        clause["file_deps"] = ["flag"]
    declare(capio, clause, mode, ["f", "flag"])
    producer, consumer = start(capio, kind)
    content = ""
    complete = False
    for stage in ("open", "write", "close", "append", "flag", "end"):
        if stage == "end":
            producer.finish()
        else:
            tell(producer, stage)
        content += {"write": "one\n", "append": "two\n"}.get(stage, "")
        complete = complete or stage == COMMITTED_AT[committed]
        if complete:
            ask(consumer, "size", str(len(content)))
            ask(consumer, "all", repr(content))
        else:
            ask(consumer, "size", "waits")
            ask(consumer, "all", "waits")
        early = content != "" and mode == "no_update"
        ask(consumer, "first", content[:1] if complete or early else "waits")
    consumer.finish()


DIRECTORIES: dict[str, tuple[dict[str, Any], str]] = {
    "on_termination": ({"committed": "on_termination"}, "end"),
    "no rule": ({}, "end"),
    "on_n_files": ({"committed": "on_n_files", "n_files": 3}, "entry3"),
    "n_files only": ({"n_files": 3}, "entry3"),
    "n_files:3": ({"committed": "n_files:3"}, "entry3"),
    "too many": ({"committed": "on_n_files", "n_files": 100}, "end"),
    "on_file": ({"committed": "on_file", "file_deps": ["flag"]}, "flag"),
    # A directory is not closed: its producers' end is what is left.
    "on_close": ({"committed": "on_close"}, "end"),
    "on_close:2": ({"committed": "on_close:2"}, "end"),
}


@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.parametrize("rule", DIRECTORIES)
def test_directory(capio: Workflow, rule: str, mode: str | None, kind: str) -> None:
    clause, committed_at = DIRECTORIES[rule]
    declare(capio, {"dirname": ["d"], **clause}, mode, ["d", "d/*", "flag"])
    producer, consumer = start(capio, kind)
    entries: list[str] = []
    complete = False
    for stage in ("mkdir", "entry1", "entry2", "entry3", "flag", "end"):
        if stage == "end":
            producer.finish()
        else:
            tell(producer, stage)
        if stage.startswith("entry"):
            entries.append(stage)
        complete = complete or stage == committed_at
        listing = ",".join(entries) if complete else "waits"
        ask(consumer, "list", listing)
        ask(consumer, "entries", listing)
        early = bool(entries) and mode == "no_update"
        ask(consumer, "entry", entries[0] if complete or early else "waits")
    consumer.finish()
