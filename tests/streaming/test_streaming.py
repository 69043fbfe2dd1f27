"""What consumers see, and when: S3 to S6 of docs/semantics.md."""

from __future__ import annotations

from conftest import Workflow


def test_lines(capio: Workflow) -> None:
    capio.pair(["log.txt"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        """
        with open("log.txt", "w", buffering=1) as f:
            for i in range(20):
                input()
                f.write(f"line {i}\\n")
        """,
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
    for i in range(20):
        producer.send()
        consumer.expect(f"line {i}")
    producer.finish()
    consumer.expect("end")
    consumer.finish()
