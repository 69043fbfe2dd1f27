"""The table of a run, as text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.results import Row
from harness.targets import OURS
from measures.scale import Finding

_HEAD = ("measure", "baseline", "pycapio", "spread", "target", "value", "")


def _amount(row: Row, side: str) -> str:
    """A throughput, or a time, whichever says more."""
    seconds = row.per_call.get(side)
    if seconds is None:
        return "-"
    if row.measure.moved:
        return f"{row.measure.moved / seconds / 1e9:.2f} GB/s"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.2f} us"
    return f"{seconds * 1e3:.2f} ms"


def lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """One line for each target, and one for a measure without any."""
    for row in rows:
        sides = [side for side in row.samples if side != OURS]
        verdicts = list(row.verdicts())
        title = row.measure.title
        for verdict in verdicts:
            against = verdict.target.against
            base = "" if against == OURS else f"{against} {_amount(row, against)}"
            yield (
                title,
                base,
                _amount(row, OURS),
                f"{row.spread():.0%}",
                verdict.target.wanted(),
                verdict.target.shown(verdict.value),
                "met" if verdict.met else "NOT MET",
            )
            title = ""
        named = {verdict.target.against for verdict in verdicts}
        for side in sides:
            if side not in named:
                ratio = row.per_call[OURS] / row.per_call[side] if OURS in row.samples else 0
                yield (
                    title,
                    f"{side} {_amount(row, side)}",
                    _amount(row, OURS),
                    f"{row.spread():.0%}",
                    "",
                    f"{ratio:.2f} x",
                    "",
                )
                title = ""
        if row.peer_note:
            yield (title, f"peer: {row.peer_note}", "", "", "", "", "")


def as_text(rows: Sequence[Row]) -> str:
    table = [_HEAD, *lines(rows)]
    widths = [min(58, max(len(line[i]) for line in table)) for i in range(len(_HEAD))]
    out = []
    section = ""
    starts = {row.measure.title: row.measure.section for row in rows}
    for number, line in enumerate(table):
        if number and line[0] and starts[line[0]] != section:
            section = starts[line[0]]
            out.append(f"\n{section}")
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)


def as_markdown(rows: Sequence[Row]) -> str:
    out = []
    section = ""
    starts = {row.measure.title: row.measure.section for row in rows}
    for line in lines(rows):
        if line[0] and starts[line[0]] != section:
            section = starts[line[0]]
            out += [
                "",
                f"### {section}",
                "",
                f"| {' | '.join(_HEAD)} |",
                "|---|---|---|---|---|---|---|",
            ]
        out.append(f"| {' | '.join(line)} |")
    return "\n".join(out).strip()


def _verdict(finding: Finding) -> str:
    return "-" if finding.met is None else "met" if finding.met else "NOT MET"


def scale_as_text(findings: Iterable[Finding]) -> str:
    return "\n".join(
        f"{finding.title}\n    {finding.value}   ({finding.wanted}: {_verdict(finding)})"
        for finding in findings
    )


def scale_as_markdown(findings: Iterable[Finding]) -> str:
    rows = [
        f"| {finding.title} | {finding.value} | {finding.wanted} | {_verdict(finding)} |"
        for finding in findings
    ]
    head = ["### Scale", "", "| measure | value | target | |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])
