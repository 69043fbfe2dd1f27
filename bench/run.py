"""Measures pycapio beside plain files, pipes and PyCAPIO 0.0.2, taking turns in one run.

    make bench                          everything
    make bench ARGS="--record"          and keep it: bench/RESULTS.md, results.json, docs/*.svg
    .venv/bin/python bench/run.py stream small    only the measures whose names begin so

The bytes that are moved are checked. CONTRIBUTING.md says how to add a measure.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from harness.machine import Others, describe
from harness.peer import REQUIREMENT, Peer
from harness.runner import Runner
from harness.sizes import SIZES
from measures.scale import FULL as SCALE
from measures.scale import QUICK as SCALE_QUICK
from measures.scale import findings
from report.record import as_json, as_results
from report.table import as_text, scale_as_text

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measures", nargs="*", help="beginnings of names; all by default")
    parser.add_argument("--list", action="store_true", help="show the names and do nothing")
    parser.add_argument("--quick", action="store_true", help="small: does everything work?")
    parser.add_argument("--rounds", type=int, help="how often to go through all measures")
    parser.add_argument("--no-peer", action="store_true", help=f"without {REQUIREMENT}")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--charts", type=Path, help="draw the charts in this directory")
    parser.add_argument("--scale", action="store_true", help="what must not grow, instead")
    parser.add_argument("--record", action="store_true", help="RESULTS.md, results.json and charts")
    arguments = parser.parse_args()
    if arguments.record and (arguments.measures or arguments.quick):
        parser.error("--record is for whole runs")
    if arguments.scale:
        print(scale_as_text(findings(SCALE_QUICK if arguments.quick else SCALE, _progress)))
        return 0
    others = Others()
    sizes = "quick" if arguments.quick else "full"
    runner = Runner(
        sizes,
        None if arguments.no_peer else Peer(_ROOT / "build" / "bench" / "peer"),
        arguments.measures,
        _progress,
    )
    if arguments.list:
        print("\n".join(f"{name:28} {row.measure.title}" for name, row in runner.rows.items()))
        return 0
    if not runner.rows:
        parser.error(f"no measure begins with {' or '.join(arguments.measures)}; see --list")
    needed = (name for row in runner.rows.values() for name in getattr(row.measure, "imports", ()))
    missing = sorted({name for name in needed if find_spec(name) is None})
    if missing:
        parser.error(f"{' and '.join(missing)} not found: make bench installs what is needed")
    runner.run(arguments.rounds or SIZES[sizes].rounds)
    about = {
        "command": shlex.join(["bench/run.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe(),
        "others": others.share(),
        "peer": runner.peer_note or REQUIREMENT,
    }
    print(as_text(list(runner.rows.values())))
    print(f"\nOthers used {about['others']:.0%} of the processors meanwhile.")
    if arguments.json:
        arguments.json.write_text(as_json(runner.rows, about) + "\n", encoding="utf-8")
    if arguments.record:
        (_HERE / "results.json").write_text(as_json(runner.rows, about) + "\n", encoding="utf-8")
        scale = list(findings(SCALE, _progress))
        text = as_results(runner.rows, about, scale)
        (_HERE / "RESULTS.md").write_text(text, encoding="utf-8")
        arguments.charts = _ROOT / "docs"
    if arguments.charts:
        from report.charts import draw

        draw(runner.rows, arguments.charts)
    return 0


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
