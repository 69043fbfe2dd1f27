"""CAPIO_MEMORY_LIMIT: what becomes of files when the store may not take more."""

from __future__ import annotations

from workflows import Workflow

MIB = 1 << 20


def test_more_than_memory_holds(capio: Workflow) -> None:
    """Without rules nothing is complete before the step has ended: closed files are moved then."""
    capio.env["CAPIO_MEMORY_LIMIT"] = "16M"
    producer = capio.step(
        "producer",
        """
        import os
        block = os.urandom(1 << 20)
        sums = []
        for i in range(20):
            with open(f"f{i}", "wb") as f:
                for j in range(4):
                    f.write(block[j:] + block[:j])
        for i in range(20):
            data = open(f"f{i}", "rb").read()
            assert data == b"".join(block[j:] + block[:j] for j in range(4)), i
        print("made", flush=True)
        """,
    )
    producer.expect("made")
    producer.finish()
    capio.close()
    assert len(list(capio.dir.glob("f*"))) == 20
    assert all(path.stat().st_size == 4 * MIB for path in capio.dir.glob("f*"))


def test_a_growing_file_has_closed_ones_moved(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "16M"
    producer = capio.step(
        "producer",
        """
        import os
        block = os.urandom(1 << 20)
        for name in ("a", "b", "c"):
            with open(name, "wb") as f:
                for j in range(6):
                    f.write(block[j:] + block[:j])
        with open("a", "ab") as f:
            f.write(b"more")
        for name in ("a", "b", "c"):
            data = open(name, "rb").read()
            assert data.startswith(b"".join(block[j:] + block[:j] for j in range(6))), name
            print(name, len(data))
        print(os.listdir(), flush=True)
        input()
        """,
    )
    producer.expect("a 6291460", "b 6291456", "c 6291456", "['a', 'b', 'c']")
    tree = capio.dir / ".capio" / capio.name / "tree"
    assert "made room in memory" in capio.log()
    assert (tree / "a").stat().st_size == 6 * MIB + 4
    producer.send()
    producer.finish()
    capio.close()
    assert sorted(path.name for path in capio.dir.iterdir()) == ["a", "b", "c"]
    assert (capio.dir / "a").read_bytes().endswith(b"more")


def test_a_file_that_is_too_large_is_told_so(capio: Workflow) -> None:
    capio.env["CAPIO_MEMORY_LIMIT"] = "8960K"  # the tables take 1 MiB of it
    producer = capio.step(
        "producer",
        """
        import errno, os
        f = open("big", "wb", buffering=0)
        written = 0
        try:
            while True:
                written += f.write(b"x" * (1 << 18))
        except OSError as error:
            print(error.errno == errno.ENOSPC, error.strerror)
        print(6 << 20 <= written < 8 << 20)
        assert open("big", "rb").read() == b"x" * written
        os.remove("big")
        f.close()
        with open("small", "wb") as f:
            f.write(b"y" * (1 << 20))
        print("made", flush=True)
        """,
    )
    line = producer.line()
    assert line.startswith("True the store ") and "/data/big" in line, line
    assert "CAPIO_MEMORY_LIMIT" in line and "storage fs" in line, line
    producer.expect("True", "made")
    producer.finish()
