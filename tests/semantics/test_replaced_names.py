"""A name that is given to another file while somebody waits for the first one."""

from __future__ import annotations

from typing import Any

import pytest

PRODUCER = """
import os, sys
with open("f", "w") as file:
    file.write("first")
print("first", flush=True)
sys.stdin.readline()
with open("temporary", "w") as file:
    file.write("the second one")
os.replace("temporary", "f")
"""
# What a reader may do first with the file that it has open.
FIRST = {
    "read": "print(file.read(), flush=True)",
    "read a part": "print(file.read(3) + file.read(), flush=True)",
    "size": "size = os.fstat(file.fileno()).st_size; print(file.read(), flush=True)",
    "seek": "file.seek(0, 2); file.seek(0); print(file.read(), flush=True)",
    "iterate": "print(*file, flush=True)",
}


@pytest.mark.parametrize("first", FIRST)
def test_a_reader_that_waits_gets_the_file_that_has_the_name_then(capio: Any, first: str) -> None:
    """As it would in batch. Checkpoints are written so: beside the old one, then renamed."""
    capio.pair(["f"], committed="on_termination", mode="update")
    producer = capio.step("producer", PRODUCER)
    producer.expect("first")
    consumer = capio.step(
        "consumer",
        f"import os\nfile = open('f')\nprint('opened', flush=True)\n{FIRST[first]}\n",
    )
    consumer.expect("opened")
    producer.send()
    producer.finish()
    consumer.expect("the second one")
    consumer.finish()


def test_one_that_has_not_read_before_the_end_gets_it_too(capio: Any) -> None:
    capio.pair(["f"], committed="on_termination", mode="update")
    producer = capio.step("producer", PRODUCER)
    producer.expect("first")
    consumer = capio.step(
        "consumer",
        """
        import sys
        file = open("f")
        file.seek(4)
        print("opened", flush=True)
        sys.stdin.readline()
        print(file.read(), flush=True)
        """,
    )
    consumer.expect("opened")
    producer.send()
    producer.finish()
    consumer.send()
    consumer.expect("second one")
    consumer.finish()


def test_a_stream_stays_with_the_file_it_has_begun(capio: Any) -> None:
    capio.pair(["f"], committed="on_termination", mode="no_update")
    producer = capio.step("producer", PRODUCER)
    producer.expect("first")
    consumer = capio.step(
        "consumer",
        """
        file = open("f")
        print(file.read(2), flush=True)
        print(file.read(), flush=True)
        """,
    )
    consumer.expect("fi")
    producer.send()
    producer.finish()
    consumer.expect("rst")
    consumer.finish()
