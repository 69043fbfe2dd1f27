"""Step 1: writes the text of Python's standard library as one normalised corpus.

    python produce.py DIRECTORY

DIRECTORY/corpus.txt holds one line of tokens per line of source. A line "group:name" begins each
group, a package or module of the library; DIRECTORY/index/name.json tells its place and checksum.
What has happened so far is printed, one JSON object per line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sysconfig
import time
import tokenize
import unicodedata
from collections.abc import Iterator
from pathlib import Path

# The words of camelCase and snake_case names, numbers, and runs of other signs.
WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Installed packages lie inside the library's directory, but are not part of it.
NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes corpus.txt and index/ into a directory.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--megabytes", type=float, default=40.0, help="stop after so much")
    arguments = parser.parse_args()
    write_corpus(arguments.directory, int(arguments.megabytes * 1e6))


def write_corpus(directory: Path, limit: int) -> None:
    index = directory / "index"
    index.mkdir(exist_ok=True)
    size = 0
    with open(directory / "corpus.txt", "wb") as corpus:
        report("opened", size)
        for name, paths in groups(Path(sysconfig.get_path("stdlib"))):
            checksum = hashlib.sha256()
            offset = size
            lines = 0
            for block in blocks(name, paths):
                checksum.update(block)
                corpus.write(block)
                lines += block.count(b"\n")
                size += len(block)
            entry = {
                "offset": offset,
                "bytes": size - offset,
                "lines": lines,
                "sha256": checksum.hexdigest(),
            }
            (index / f"{name}.json").write_text(json.dumps(entry) + "\n")
            if size >= limit:
                break
    report("closed", size)


def groups(library: Path) -> Iterator[tuple[str, list[Path]]]:
    """The modules of the library and its packages down to the second level, each with its files."""
    found: dict[str, list[Path]] = {}
    for folder, folders, files in os.walk(library):
        folders[:] = sorted(set(folders) - NOT_LIBRARY)
        for file in sorted(files):
            if file.endswith(".py"):
                path = Path(folder, file)
                parts = path.relative_to(library).with_suffix("").parts
                found.setdefault(".".join(parts[:2]), []).append(path)
    yield from sorted(found.items())


def blocks(name: str, paths: list[Path]) -> Iterator[bytes]:
    """What the corpus says about a group, file by file."""
    yield f"group:{name}\n".encode()  # no other line looks so: a colon stands alone
    for path in paths:
        try:
            with tokenize.open(path) as file:  # in the encoding that the file declares
                text = file.read()
        except (SyntaxError, UnicodeDecodeError):
            continue  # the library's tests have files that are broken on purpose
        yield normalised(text).encode()


def normalised(text: str) -> str:
    result = []
    for line in unicodedata.normalize("NFC", text).splitlines():
        words = WORD.findall(HUMP.sub("_", line).casefold())
        if words:
            # All numbers count as one word.
            words = ["0" if word.isdecimal() else word for word in words]
            result.append(" ".join(words) + "\n")
    return "".join(result)


def report(event: str, size: int) -> None:
    print(json.dumps({"event": event, "time": time.monotonic(), "bytes": size}), flush=True)


if __name__ == "__main__":
    main()
