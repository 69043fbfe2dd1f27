"""Directories listed as they grow (S7): order, completeness, size."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows import Workflow

LISTS = """
import os
names = [entry.name for entry in os.scandir("d")]
print(len(names), len(set(names)), names == sorted(names, key=int), flush=True)
"""


def declare(capio: Workflow, **clause: object) -> None:
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": ["d", "d/*"],
                "streaming": [
                    {"dirname": ["d"], "mode": "no_update", **clause},
                    {"name": ["d/*"], "committed": "on_close"},
                ],
            },
            {"name": "consumer", "input_stream": ["d", "d/*"], "output_stream": []},
        ]
    )


@pytest.mark.timeout(600)
def test_twenty_consumers_of_thirty_thousand_files(capio: Workflow, tmpfs: Path) -> None:
    """Each gets every entry once, in the order of creation, while the directory grows."""
    capio.env["CAPIO_STORE"] = str(tmpfs)
    capio.store = tmpfs
    declare(capio, committed="on_n_files", n_files=30_000)
    consumers = [capio.step("consumer", LISTS) for _ in range(20)]
    producer = capio.step(
        "producer",
        """
        import os
        os.mkdir("d")
        for number in range(30_000):
            os.close(os.open(f"d/{number}", os.O_CREAT | os.O_WRONLY))
        print("made", flush=True)
        input()
        """,
    )
    producer.expect("made")
    for consumer in consumers:
        assert consumer.line(limit=300) == "30000 30000 True"
    # They had it while their producer was still running.
    producer.send()
    for step in [producer, *consumers]:
        step.finish()


def test_entries_that_come_by_rename(capio: Workflow) -> None:
    """The name that counts is the last one; a temporary that is gone is not waited for."""
    declare(capio, committed="on_termination")
    consumer = capio.step(
        "consumer",
        "import os\nfor entry in os.scandir('d'):\n    print(entry.name, flush=True)\n",
    )
    producer = capio.step(
        "producer",
        """
        import os
        os.mkdir("d")
        for number in range(3):
            with open(f"t{number}", "w") as file:
                file.write("x")
            os.rename(f"t{number}", f"d/{number}")
            input()
        os.rename("d/0", "d/9")
        os.remove("d/1")
        """,
    )
    for number in range(3):
        consumer.expect(str(number))
        producer.send()
    producer.finish()
    consumer.expect("9")
    assert consumer.finish().stdout == "0\n1\n2\n9\n"


def test_what_an_earlier_run_left_is_not_listed(capio: Workflow) -> None:
    (capio.dir / "d").mkdir()
    (capio.dir / "d" / "old").write_text("old")
    declare(capio, committed="on_termination")
    consumer = capio.step("consumer", "import os\nprint(os.listdir('d'))\n")
    capio.run(
        "producer", "import os\nos.makedirs('d', exist_ok=True)\nopen('d/new', 'w').close()\n"
    )
    consumer.expect("['new']")
    consumer.finish()


def test_made_by_a_tool_that_knows_nothing_of_capio(capio: Workflow) -> None:
    """No log has its name: a listing finds it, at the latest when the directory is complete."""
    declare(capio, committed="on_n_files", n_files=2)
    consumer = capio.step(
        "consumer",
        "import os\nfor entry in os.scandir('d'):\n    print(entry.name, flush=True)\n",
    )
    capio.run(
        "producer",
        """
        import os, pycapio
        os.mkdir("d")
        open("d/1", "w").close()
        tree = pycapio.resolve("d")
        pid = os.fork()
        if pid == 0:
            os.execv("/usr/bin/touch", ["touch", tree + "/2"])
        os.waitpid(pid, 0)
        """,
    )
    consumer.expect("1", "2")
    consumer.finish()


def test_a_failed_producer_ends_the_listing(capio: Workflow) -> None:
    declare(capio, committed="on_n_files", n_files=2)
    consumer = capio.step(
        "consumer",
        """
        import os
        with os.scandir("d") as entries:
            print(next(entries).name, flush=True)
            try:
                next(entries)
            except OSError as error:
                print(error.errno == __import__("errno").EOWNERDEAD, error.filename)
        """,
    )
    producer = capio.step(
        "producer", "import os\nos.mkdir('d')\nopen('d/1', 'w').close()\ninput()\n"
    )
    consumer.expect("1")
    producer.kill()
    consumer.expect("True d")
    consumer.finish()


def test_n_files_counts_what_is_not_excluded(capio: Workflow) -> None:
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": ["d", "d/*"],
                "streaming": [{"dirname": ["d"], "committed": "on_n_files", "n_files": 2}],
            },
            {"name": "consumer", "input_stream": ["d"], "output_stream": []},
        ],
        exclude=["*.tmp"],
    )
    producer = capio.step(
        "producer",
        """
        import os
        os.mkdir("d")
        for name in ("1", "2"):
            open(f"d/{name}.tmp", "w").close()
            print("made", flush=True)
            input()
            os.rename(f"d/{name}.tmp", f"d/{name}")
        print("made", flush=True)
        input()
        """,
    )
    look = "import os\nprint(sorted(os.listdir('d')))\n"
    for _ in range(2):
        producer.expect("made")
        waiting = capio.run("consumer", look, env={"CAPIO_WAIT_TIMEOUT": "0.05"}, status=1)
        assert "TimeoutError" in waiting.stderr
        producer.send()
    producer.expect("made")
    assert capio.run("consumer", look).stdout == "['1', '2']\n"
    producer.send()
    producer.finish()


def test_a_pattern_does_not_stand_for_capio_dir(capio: Workflow) -> None:
    """A consumer that looks around in CAPIO_DIR does not wait for the end of all producers."""
    capio.config(
        [
            {"name": "producer", "input_stream": [], "output_stream": ["*"]},
            {"name": "consumer", "input_stream": ["*"], "output_stream": []},
        ],
        exclude=["input"],
    )
    Path(capio.dir, "input").write_text("x")
    capio.hold()
    looked = capio.run("consumer", "import os\nprint(os.listdir(), os.listdir(os.getcwd()))\n")
    assert looked.stdout == "['input'] ['input']\n"
    producer = capio.step(
        "producer",
        "import os\nos.mkdir('d')\nopen('d/f', 'w').close()\nprint('up', flush=True)\ninput()\n",
    )
    producer.expect("up")
    # What is below it is what the producer is declared to make.
    waits = "import os\ntry: os.listdir('d')\nexcept TimeoutError: print(os.listdir())\n"
    looked = capio.run("consumer", waits, env={"CAPIO_WAIT_TIMEOUT": "0.2"})
    assert looked.stdout == "['input', 'd']\n"
    producer.send()
    producer.finish()


def test_capio_dir_itself_can_be_named(capio: Workflow) -> None:
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": ["*"],
                "streaming": [
                    {
                        "dirname": ["."],
                        "committed": "on_n_files",
                        "n_files": 2,
                        "mode": "no_update",
                    },
                    {"name": ["*"], "committed": "on_close"},
                ],
            },
            {"name": "consumer", "input_stream": ["*"], "output_stream": []},
        ]
    )
    consumer = capio.step(
        "consumer",
        "import os\nfor entry in os.scandir(): print(entry.name, flush=True)\n",
    )
    producer = capio.step(
        "producer",
        "for name in 'one', 'two':\n    input()\n    open(name, 'w').close()\ninput()\n",
    )
    for name in "one", "two":
        producer.send()
        consumer.expect(name)
    consumer.finish()
    producer.send()
    producer.finish()
