"""Charts of a run, as SVG for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.results import Row
from harness.targets import OURS

_COLOURS = {
    "plain": "#9aa5b1",
    "batch": "#9aa5b1",
    "pipe": "#c9a227",
    "pycapio": "#1f6f8b",
    "peer": "#b5533c",
}
_NAMES = {
    "plain": "plain files on tmpfs",
    "batch": "step after step, plain files on tmpfs",
    "pipe": "named pipe",
    "pycapio": "pycapio",
    "peer": "PyCAPIO 0.0.2",
}


def draw(rows: Mapping[str, Row], directory: Path) -> list[Path]:
    """Writes the charts of what was measured; returns their paths."""
    import matplotlib

    matplotlib.use("svg")
    # The same run gives the same file.
    matplotlib.rcParams["svg.hashsalt"] = "pycapio"
    matplotlib.rcParams["font.size"] = 9
    wanted = {
        "throughput": ("Throughput, GB/s", [n for n in rows if n.startswith(("write-", "read-"))]),
        "calls": (
            "Time of a call, relative to plain files",
            [
                "small-write",
                "small-read",
                "stat",
                "exists-hit",
                "exists-miss",
                "listdir",
                "scandir",
            ],
        ),
        "streaming": (
            "Seconds until the last step has read the last byte",
            ["stream-1MiB", "stream-64KiB", "stream-1MiB-work", "directory", "directory-work"],
        ),
    }
    made = []
    for name, (label, names) in wanted.items():
        chosen = [rows[n] for n in names if n in rows and OURS in rows[n].samples]
        if chosen:
            made.append(_chart(chosen, name, label, directory / f"performance-{name}.svg"))
    return made


def _value(row: Row, side: str, kind: str) -> float:
    seconds = row.per_call[side]
    if kind == "throughput":
        return row.measure.moved / seconds / 1e9
    if kind == "calls":
        return seconds / row.per_call["plain"]
    return row.medians[side]


def _chart(rows: Sequence[Row], kind: str, label: str, path: Path) -> Path:
    from matplotlib import pyplot

    sides = [side for side in _COLOURS if any(side in row.samples for row in rows)]
    if kind == "calls":  # the peer's bars would make all others invisible
        sides = [side for side in sides if side != "peer"]
    height = 0.8 / len(sides)
    figure, axes = pyplot.subplots(figsize=(7.5, 0.9 + 0.22 * len(sides) * len(rows)))
    for index, side in enumerate(sides):
        places = [i + (index - (len(sides) - 1) / 2) * height for i in range(len(rows))]
        values = [_value(row, side, kind) if side in row.samples else 0.0 for row in rows]
        bars: Any = axes.barh(
            places, values, height * 0.92, color=_COLOURS[side], label=_NAMES[side]
        )
        axes.bar_label(bars, [f"{v:.2f}" if v else "" for v in values], padding=2, fontsize=7)
    axes.set_yticks(range(len(rows)), [row.measure.title for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
