"""The recorded run: bench/RESULTS.md and its JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from harness.results import Row
from measures.scale import Finding
from report.table import as_markdown, scale_as_markdown


def as_json(rows: Mapping[str, Row], about: Mapping[str, Any]) -> str:
    return json.dumps({"about": about, "rows": [row.as_json() for row in rows.values()]}, indent=1)


def as_results(rows: Mapping[str, Row], about: Mapping[str, Any], scale: Iterable[Finding]) -> str:
    machine = "\n".join(f"- {key}: {value}" for key, value in about["machine"].items())
    verdicts = [verdict for row in rows.values() for verdict in row.verdicts()]
    met = sum(verdict.met for verdict in verdicts)
    return f"""# Results

A recorded run of `{about["command"]}`, {about["date"]}.
Every sample is in [results.json](results.json).

{machine}
- others used {about["others"]:.0%} of the processors meanwhile
- peer: {about["peer"]}

{met} of {len(verdicts)} targets met. Figures are medians of samples that were taken in turn with
those of the baseline; the spread is half the distance between the quartiles.
[docs/performance.md](../docs/performance.md) explains them.

{as_markdown(list(rows.values()))}

{scale_as_markdown(scale)}
"""
