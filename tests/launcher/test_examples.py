"""The examples do what they print, and the demo notices when its two ways differ."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIME_LIMIT = 100.0


def run(place: Path, script: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a directory of its own, with a store of its own."""
    store = place / "store"
    store.mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAPIO_", "PYTHON", "COVERAGE"))
    }
    process = subprocess.Popen(
        [sys.executable, str(script), *args],
        cwd=place,
        env={**env, "CAPIO_STORE": str(store)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        pytest.fail(f"still running after {TIME_LIMIT} s\nstdout: {stdout}\nstderr: {stderr}")
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def copy_of(example: str, place: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / example, place / example))


def test_corpus(tmp_path: Path) -> None:
    result = run(tmp_path, EXAMPLES / "corpus" / "run.py", "--runs=2", "--megabytes=1")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^median +\d+\.\d\d s +\d+\.\d\d s +\d+\.\d\d times", result.stdout, re.M)
    assert re.search(r"corpus of 1\.\d MB, step 2 had read \d+\.\d MB \(\d+%\)", result.stdout)
    assert "The results are identical (sha256 " in result.stdout


@pytest.mark.parametrize(
    ("step", "old", "new", "sentence"),
    [
        (
            "produce",
            "import argparse",
            "import no_such_module",
            "step produce failed (exit code 1).",
        ),
        ("consume", "words = [token", "words = 1 / 0 #", "step consume failed (exit code 1)."),
        ("consume", '"bytes": size,', '"bytes": time.monotonic(),', "are not identical."),
        ("consume", '(directory / "result.json")', "Path(os.devnull)", "there is no result.json."),
        ("produce", "lines += block", "lines += 1 + block", "does not describe what was read"),
    ],
    ids=["produce fails", "consume fails", "results differ", "no result", "index is wrong"],
)
def test_corpus_that_goes_wrong(
    tmp_path: Path, step: str, old: str, new: str, sentence: str
) -> None:
    corpus = copy_of("corpus", tmp_path)
    source = (corpus / f"{step}.py").read_text()
    assert source.count(old) == 1
    (corpus / f"{step}.py").write_text(source.replace(old, new))
    result = run(tmp_path, corpus / "run.py", "--runs=1", "--megabytes=0.2")
    assert result.returncode == 1
    assert result.stderr.startswith("demo: ") and sentence in result.stderr
    assert "identical (sha256" not in result.stdout


@pytest.mark.parametrize("other", ["reads along", "has not come"])
def test_step_that_fails_while_streaming(tmp_path: Path, other: str) -> None:
    corpus = copy_of("corpus", tmp_path)
    source = (corpus / "produce.py").read_text()
    old = "            if size >= limit:\n"
    assert source.count(old) == 1
    failing = 'if size > 50_000 and "pycapio" in __import__("sys").modules: raise ValueError(size)'
    (corpus / "produce.py").write_text(source.replace(old, f"            {failing}\n{old}"))
    if other == "has not come":
        source = (corpus / "run.py").read_text()
        old = "run_steps(Path(scratch), STEPS, commands)"
        assert source.count(old) == 1
        late = 'run_steps(Path(scratch), STEPS, [commands[0], ["tail", "-f", os.devnull]])'
        (corpus / "run.py").write_text(source.replace(old, late))
    result = run(tmp_path, corpus / "run.py", "--runs=1", "--megabytes=0.2")
    assert result.returncode == 1, result.stderr
    # The consumer may be the first to end: it is told at once that its producer has failed. Who is
    # the last to leave hears from the server what nobody has made; that may be the demo.
    unmade = r"(pycapio: warning: declared as outputs, but nobody has made [^\n]*\n)?"
    failed = r"demo: step (produce|consume) failed \(exit code 1\)\.\n"
    assert re.match(unmade + failed, result.stderr)
    assert "ValueError" in result.stderr or "owner died" in result.stderr.lower()
    assert not list((tmp_path / "store").rglob("control")), "the store is still there"


def test_pair(tmp_path: Path) -> None:
    result = run(tmp_path, EXAMPLES / "decorator" / "pair.py")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    for number in range(3):
        assert lines[number].endswith(f"the reader has 'line {number}\\n'")
    assert "closed the file" in lines[3]
    assert not (tmp_path / "numbers.txt").exists()
