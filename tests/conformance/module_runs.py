"""Runs CPython's test modules plainly and under pycapio, and compares them test by test."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

RUNNER = Path(__file__).parent / "runner.py"
ROOT = RUNNER.parent.parent.parent
# Seconds one test may take, and one module.
TEST_LIMIT = float(os.environ.get("CAPIO_CONFORMANCE_TEST_LIMIT") or 120)
MODULE_LIMIT = TEST_LIMIT * 10
# How many tests of a module may end the process.
ATTEMPTS = 8


class Outcome(NamedTuple):
    """What became of one test: passed, failed, skipped, or died (it took the process with it)."""

    kind: str
    text: str = ""
    touched: bool = False  # whether anything in the real directory changed meanwhile


@dataclass
class Run:
    """The outcomes of a module's tests, by their ids."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    complete: bool = False
    skipped: str = ""  # the reason, if the whole module was
    opened: int = 0  # files opened through CAPIO
    # Whether the real directory changed in the end: after the last test, or in one that died.
    touched: bool = False
    stderr: str = ""


def run_module(
    python: str, module: str, directory: Path, env: Mapping[str, str], *, launcher: bool
) -> Run:
    """Runs a test module in a new directory. With ``launcher`` the directory is CAPIO_DIR.

    What a test that ends the process keeps from running is run again without it.
    """
    run = Run()
    for attempt in range(ATTEMPTS):
        _run_rest(run, python, module, Path(f"{directory}{attempt}"), env, launcher)
        if run.complete or not any(outcome.kind == "died" for outcome in run.outcomes.values()):
            break
    return run


def _run_rest(
    run: Run, python: str, module: str, directory: Path, env: Mapping[str, str], launcher: bool
) -> None:
    done = Path(f"{directory}.done")
    done.write_text(json.dumps(list(run.outcomes)))
    work = directory / "work"
    temporary = directory / "tmp"
    for path in (directory, work, temporary):
        path.mkdir()
    options = []
    if launcher:
        options = ["-m", "pycapio", "--capio-dir", str(directory), "--no-persist"]
        options += ["--workflow-name", f"cpython-{uuid.uuid4().hex[:12]}"]
        options += ["--await-server-timeout", "60"]
    ours, theirs = os.pipe()
    with open(directory.parent / f"{directory.name}.stderr", "w+b") as stderr:
        process = subprocess.Popen(
            [python, *options, str(RUNNER), module, str(theirs), str(TEST_LIMIT), str(done)],
            cwd=work,
            env={**env, "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)
        # A child that a test left behind may hold the pipe open: the end is the process's.
        reaper = threading.Thread(target=_reap, args=(process,))
        reaper.start()
        with open(ours, encoding="utf-8", errors="replace") as lines:
            _collect(run, lines)
        reaper.join()
        stderr.seek(0)
        run.stderr += stderr.read()[-8000:].decode("utf-8", "replace")


def _collect(run: Run, lines: object) -> None:
    running = ""
    for line in lines:  # type: ignore[attr-defined]
        try:
            told = json.loads(line)
        except ValueError:  # a child of a test wrote half a line before it died
            continue
        if "start" in told:
            running = told["start"]
        elif "test" in told:
            running = ""
            run.outcomes[told["test"]] = Outcome(told["outcome"], told["text"], told["touched"])
        elif "skipped" in told:
            run.skipped, run.complete = told["skipped"], True
        else:
            run.opened += told["opened"]
            run.touched |= told["touched"]
            run.complete = told["complete"]
    if running:
        run.outcomes[running] = Outcome("died")


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Waits for the process, within limits, and leaves nothing of its session."""
    try:
        process.wait(MODULE_LIMIT)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Expected(NamedTuple):
    """Tests that are an exception, and why."""

    pattern: str  # of the tests' ids, as of fnmatch
    reason: str
    text: str = ""  # what the failure's text has to hold, a regular expression
    since: tuple[int, int] = (3, 0)  # the versions of Python it is about
    until: tuple[int, int] = (3, 99)

    def is_about(self, test: str) -> bool:
        return fnmatch.fnmatchcase(test, self.pattern)


def compare(plain: Run, managed: Run, expected: Sequence[Expected]) -> list[str]:
    """One text for each test that passes plainly, not under pycapio, and is not expected to; and
    for each exception that is none."""
    found = {
        test: managed.outcomes.get(test, Outcome("not run"))
        for test, outcome in plain.outcomes.items()
        if outcome.kind == "passed"
    }
    differing = {test: outcome for test, outcome in found.items() if outcome.kind != "passed"}
    return [
        *(
            f"{test}: {differing[test].kind}\n{differing[test].text}"
            for test in _not_expected(differing, expected)
        ),
        *_superfluous(found, differing, expected),
    ]


def on_disk(module: str, managed: Run, expected: Sequence[Expected]) -> list[str]:
    """One text for each test that changed the real directory and is not expected to; and for each
    exception that is none. What comes after the last test goes by the name tearDownModule."""
    ran = {t: o for t, o in managed.outcomes.items() if o.kind in ("passed", "failed")}
    ran[f"test.{module}.tearDownModule"] = Outcome("passed", touched=managed.touched)
    touching = {test: outcome for test, outcome in ran.items() if outcome.touched}
    wrong = [f"{test}: changed something on disk" for test in _not_expected(touching, expected)]
    return wrong + _superfluous(ran, touching, expected)


def _not_expected(tests: Mapping[str, Outcome], expected: Sequence[Expected]) -> list[str]:
    return [
        test
        for test, outcome in tests.items()
        if not any(e.is_about(test) and re.search(e.text, outcome.text) for e in expected)
    ]


def _superfluous(
    asked: Mapping[str, Outcome], fired: Mapping[str, Outcome], expected: Sequence[Expected]
) -> list[str]:
    """An exception that never fires would hide what breaks later."""
    return [
        f"{entry.pattern} needs no exception: {entry.reason}"
        for entry in expected
        if any(map(entry.is_about, asked)) and not any(map(entry.is_about, fired))
    ]


def record(directory: Path, version: str, module: str, plain: Run, managed: Run) -> None:
    """Notes the numbers of a module for report.py."""
    passed = {test for test, outcome in plain.outcomes.items() if outcome.kind == "passed"}
    both = {test for test in passed if managed.outcomes.get(test, Outcome("")).kind == "passed"}
    place = directory / "results"
    place.mkdir(exist_ok=True)
    numbers = {
        "tests": len(plain.outcomes),
        "plainly": len(passed),
        "pycapio": len(both),
        "on_disk": sum(outcome.touched for outcome in managed.outcomes.values()),
        "opened": managed.opened,
    }
    (place / f"{version}-{module}.json").write_text(json.dumps(numbers))


def main() -> None:
    """Modules given as arguments, in this interpreter: for trying things out."""
    import tempfile

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    for module in sys.argv[1:]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as base:
            env["CAPIO_STORE"] = base + "/store"
            os.mkdir(env["CAPIO_STORE"])
            plain = run_module(sys.executable, module, Path(base, "plain"), env, launcher=False)
            managed = run_module(sys.executable, module, Path(base, "capio"), env, launcher=True)
        wrong = compare(plain, managed, ()) + on_disk(module, managed, ())
        passed = sum(outcome.kind == "passed" for outcome in plain.outcomes.values())
        print(
            f"== {module}: {passed}/{len(plain.outcomes)} pass plainly, {len(wrong)} of them not "
            f"under pycapio or on disk; opened {managed.opened}, "
            f"complete: {plain.complete} {managed.complete}, {time.monotonic() - started:.0f} s"
        )
        for text in wrong:
            print(text)
        if not managed.complete:
            print(managed.stderr)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
