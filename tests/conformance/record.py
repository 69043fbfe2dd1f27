"""Writes what ``make conformance`` has found into docs/conformance.md, below its last heading."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from expectations import ALL, EXPECTED, ON_DISK
from module_runs import ROOT, Expected
from pythons import VERSIONS

DOCUMENT = ROOT / "docs" / "conformance.md"
HEADING = "## Results\n"


def main() -> None:
    results = {
        tuple(path.stem.split("-", 1)): json.loads(path.read_text())
        for path in Path(sys.argv[1], "results").glob("*.json")
    }
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(text[: text.index(HEADING)] + "\n".join([HEADING, *_page(results)]) + "\n")


def _page(results: dict[tuple[str, ...], dict[str, int]]) -> Iterator[str]:
    versions = [v for v in VERSIONS if any(version == v for version, _ in results)]
    yield "Of each module: tests that pass plainly, and how many of them pass under pycapio.\n"
    yield "| module | " + " | ".join(versions) + " |"
    yield "|---" * (len(versions) + 1) + "|"
    total: dict[str, list[int]] = {version: [0, 0] for version in versions}
    for module in ALL:
        cells = []
        for version in versions:
            found = results.get((version, module))
            cells.append(_cell(found))
            if found is not None:
                total[version][0] += found["plainly"]
                total[version][1] += found["pycapio"]
        yield f"| {module} | " + " | ".join(cells) + " |"
    sums = (f"{plainly}, {managed}" for plainly, managed in total.values())
    yield "| all | " + " | ".join(sums) + " |"
    yield "\nTests that fail under pycapio:\n"
    yield from _exceptions(EXPECTED)
    yield "\nTests that change the real directory:\n"
    yield from _exceptions(ON_DISK)


def _cell(found: Any) -> str:
    if found is None:
        return "-"
    plainly, managed = found["plainly"], found["pycapio"]
    return str(plainly) if plainly == managed else f"{plainly}, {managed}"


def _exceptions(entries: Iterable[Expected]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        name = entry.pattern.removeprefix("test.").replace("*", "\\*")
        if entry.since > (3, 10):
            name += f" (since {entry.since[0]}.{entry.since[1]})"
        if entry.until < (3, 99):
            name += f" (until {entry.until[0]}.{entry.until[1]})"
        by_reason.setdefault(entry.reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"- {reason}: {', '.join(names)}"


if __name__ == "__main__":
    main()
