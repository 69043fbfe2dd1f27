"""The benchmarks run, and report every measure. Nothing here is about speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "bench" / "run.py"
# numpy and pandas are needed for the measures of calls alone, matplotlib for charts: both are of
# the bench extra, and `make bench` installs it.
NAMES = (
    "write- read- lines- small- stat exists- listdir scandir outside- stream- directory wake-up "
    "attach- first- launcher commands-"
).split()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("CAPIO_")}
    return subprocess.run(
        [sys.executable, RUN, *map(str, arguments)], env=env, capture_output=True, text=True
    )


def test_every_measure_is_taken_on_every_side(tmp_path: Path) -> None:
    out = tmp_path / "samples.json"
    done = run("--quick", "--no-peer", "--json", out, *NAMES)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    listed = run("--list").stdout.splitlines()
    expected = {line.split()[0] for line in listed if not line.startswith("call-")}
    assert {row["name"] for row in rows} == expected
    for row in rows:
        assert "pycapio" in row["samples"], row["name"]
        assert all(seconds > 0 for side in row["samples"].values() for seconds in side)
        assert row["title"] in done.stdout
        for target in row["targets"]:
            assert target["against"] in row["samples"]
            assert isinstance(target["met"], bool)
    compared = {row["name"]: set(row["samples"]) for row in rows}
    assert compared["write-1MiB"] == {"plain", "pycapio"}
    assert compared["stream-1MiB"] == {"batch", "pipe", "pycapio"}


def test_charts_show_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="of the bench extra")
    done = run("--quick", "--no-peer", "--charts", tmp_path, "write-4KiB")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["performance-throughput.svg"]
    assert "write, 4 KiB chunks" in next(tmp_path.iterdir()).read_text()


def test_scale() -> None:
    done = run("--scale", "--quick")
    assert done.returncode == 0, done.stderr
    assert "control segment, bytes for each file" in done.stdout
    assert "8 processes attached at once" in done.stdout
    assert "all succeed: met" in done.stdout


def test_unknown_names_are_refused() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert "no measure begins with nonsense" in done.stderr
