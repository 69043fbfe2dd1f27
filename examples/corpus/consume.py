"""Step 2: counts the tokens of a corpus and its pairs of words, and checks it by its index.

    python consume.py DIRECTORY

Reads DIRECTORY/corpus.txt and DIRECTORY/index/, and writes DIRECTORY/result.json. What has happened
so far is printed, one JSON object per line.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = b"group:"
PROGRESS = 256 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the tokens of corpus.txt in a directory.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    result = count(directory)
    (directory / "result.json").write_text(json.dumps(result, indent=1) + "\n")


def count(directory: Path) -> dict[str, object]:
    tokens: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    entries = []
    size = reported = 0
    for head, text in groups(directory / "corpus.txt"):
        entry = head.removeprefix(HEAD).decode().strip() + ".json"
        check(directory / "index" / entry, size, head + text)
        entries.append(entry)
        found = text.decode().split()
        tokens.update(found)
        words = [token for token in found if token.isalpha()]
        pairs.update(zip(words, words[1:], strict=False))
        size += len(head) + len(text)
        if size - reported >= PROGRESS:
            report("read", size)
            reported = size
    report("end", size)
    if sorted(os.listdir(directory / "index")) != sorted(entries):
        sys.exit("the index does not list the groups of the corpus")
    return {
        "bytes": size,
        "groups": len(entries),
        "tokens": tokens.total(),
        "distinct tokens": len(tokens),
        "distinct pairs of words": len(pairs),
        "top tokens": top(tokens),
        "top pairs of words": top(pairs),
    }


def top(counter: Counter[Any]) -> list[tuple[Any, int]]:
    """The fifty most frequent, in an order that does not depend on which was counted first."""
    return heapq.nsmallest(50, counter.items(), key=lambda item: (-item[1], item[0]))


def groups(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The groups of a corpus: the line that begins each, and the lines after it."""
    with open(path, "rb") as corpus:
        head = corpus.readline()
        lines: list[bytes] = []
        for line in corpus:
            if line.startswith(HEAD):
                yield head, b"".join(lines)
                head = line
                lines.clear()
            else:
                lines.append(line)
    yield head, b"".join(lines)


def check(path: Path, offset: int, text: bytes) -> None:
    """Compares what was read with what the index says of it."""
    seen = {
        "offset": offset,
        "bytes": len(text),
        "lines": text.count(b"\n"),
        "sha256": hashlib.sha256(text).hexdigest(),
    }
    if json.loads(path.read_text()) != seen:
        sys.exit(f"index/{path.name} does not describe what was read: {seen}")


def report(event: str, size: int) -> None:
    print(json.dumps({"event": event, "time": time.monotonic(), "bytes": size}), flush=True)


if __name__ == "__main__":
    main()
