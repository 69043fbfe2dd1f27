"""A committed file that is opened for writing again: truncated it is produced anew, appended to it
stays as committed as it was."""

from __future__ import annotations

import pytest

from workflows import Step, Workflow

# Statements, one a line; expressions are printed.
OBEYS = """
import sys
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except SyntaxError:
        exec(line)
        print("done", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def does(step: Step, *pairs: tuple[str, str]) -> None:
    for statement, answer in pairs:
        step.send(statement)
        step.expect(answer)


@pytest.mark.parametrize("mode", ["update", "no_update"])
def test_truncated(capio: Workflow, mode: str) -> None:
    capio.pair(["f"], committed="on_close", mode=mode)
    producer = capio.step("producer", OBEYS)
    early = capio.step("consumer", OBEYS)
    late = capio.step("consumer", OBEYS, env={"CAPIO_WAIT_TIMEOUT": "0.2"})
    does(producer, ("f = open('f', 'w')", "done"), ("f.write('old')", "3"), ("f.close()", "None"))
    does(early, ("f = open('f')", "done"), ("f.read(1)", "o"))
    does(producer, ("f = open('f', 'w')", "done"), ("f.write('new')", "3"), ("f.flush()", "None"))
    # Who has the old one keeps it; the new one has yet to be complete.
    does(early, ("f.read()", "ld"), ("f.seek(0)", "0"), ("f.read()", "old"))
    does(late, ("open('f').read()", "TimeoutError"))
    does(late, ("__import__('os').path.getsize('f')", "TimeoutError"))
    if mode == "no_update":
        does(late, ("open('f').read(1)", "n"))
    does(producer, ("f.close()", "None"))
    does(late, ("open('f').read()", "new"))
    does(early, ("open('f').read()", "new"))
    for step in (producer, early, late):
        step.finish()


@pytest.mark.parametrize("mode", ["update", "no_update"])
@pytest.mark.parametrize("committed", ["on_close", "on_close:2", "on_file"])
def test_appended(capio: Workflow, mode: str, committed: str) -> None:
    if committed == "on_file":
        rule = {"name": ["f"], "committed": "on_file", "file_deps": ["ok"], "mode": mode}
        capio.config(
            [
                {
                    "name": "producer",
                    "input_stream": [],
                    "output_stream": ["f", "ok"],
                    "streaming": [rule, {"name": ["ok"], "committed": "on_close"}],
                },
                {"name": "consumer", "input_stream": ["f"], "output_stream": []},
            ]
        )
    else:
        capio.pair(["f"], committed=committed, mode=mode)
    producer = capio.step("producer", OBEYS)
    consumer = capio.step("consumer", OBEYS, env={"CAPIO_WAIT_TIMEOUT": "10"})
    does(producer, ("open('f', 'w').write('one')", "3"))
    if committed == "on_close:2":
        does(producer, ("open('f', 'a').close()", "None"))
    if committed == "on_file":
        does(producer, ("open('ok', 'w').close()", "None"))
    does(consumer, ("open('f').read()", "one"))
    does(producer, ("f = open('f', 'a')", "done"))
    does(consumer, ("open('f').read()", "one"))
    does(producer, ("f.write('two')", "3"), ("f.flush()", "None"))
    # Committed all the while: nobody waits for its close.
    does(consumer, ("open('f').read()", "onetwo"), ("__import__('os').path.getsize('f')", "6"))
    does(producer, ("f.close()", "None"))
    does(consumer, ("open('f').read()", "onetwo"))
    for step in (producer, consumer):
        step.finish()


def test_written_into(capio: Workflow) -> None:
    """Changed in the middle it grows again, until it is closed."""
    capio.pair(["f"], committed="on_close")
    producer = capio.step("producer", OBEYS)
    consumer = capio.step("consumer", OBEYS, env={"CAPIO_WAIT_TIMEOUT": "0.2"})
    does(producer, ("open('f', 'w').write('one')", "3"))
    does(consumer, ("open('f').read()", "one"))
    does(producer, ("f = open('f', 'r+')", "done"), ("f.write('O')", "1"), ("f.flush()", "None"))
    does(consumer, ("open('f').read()", "TimeoutError"))
    does(producer, ("f.close()", "None"))
    does(consumer, ("open('f').read()", "One"))
    for step in (producer, consumer):
        step.finish()
