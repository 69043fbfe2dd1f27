"""Runs one of CPython's test modules and reports each test on a pipe: a program of the tests.

Arguments: the module's name (below ``test``), the descriptor to report to, the seconds one test
may take, and a JSON file with the ids of tests to leave out. The current directory and TMPDIR are
where the tests work. The last line tells how many files were opened through CAPIO.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import sys
import unittest
from typing import Any

_write = os.write


class Reporter(unittest.TestResult):
    """One JSON line when a test starts and one for its outcome, the worst of its subtests."""

    def __init__(self, descriptor: int, limit: float) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._outcome = "passed"
        self._text = ""

    def tell(self, **what: Any) -> None:
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[_write(self._descriptor, data) :]

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome, self._text = "passed", ""
        self.tell(start=test.id())
        # A test that hangs ends the process; what comes after it counts as not run.
        faulthandler.dump_traceback_later(self._limit, exit=True, file=sys.__stderr__)

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        self.tell(test=test.id(), outcome=self._outcome, text=self._text[-4000:])

    def _is(self, outcome: str, text: str = "") -> None:
        if self._outcome in ("passed", "skipped") and not (self._outcome == outcome):
            self._outcome, self._text = outcome, text

    def _failed(self, test: Any, error: Any) -> None:
        text = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]
        if isinstance(test, unittest.TestCase):
            self._is("failed", text)
        else:  # setUpClass, setUpModule
            self.tell(test=test.id(), outcome="failed", text=text[-4000:])

    def addError(self, test: Any, err: Any) -> None:
        self._failed(test, err)

    def addFailure(self, test: Any, err: Any) -> None:
        self._failed(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._failed(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._is("skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._is("passed")

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._is("failed", "unexpected success")


def main() -> None:
    name, descriptor, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with open(sys.argv[4]) as file:
        done = set(json.load(file))
    os.set_inheritable(descriptor, False)
    opened = _count_opened()
    reporter = Reporter(descriptor, limit)
    from test import support

    support.use_resources = {}  # what regrtest enables without -u: nothing large, no network
    try:
        module = importlib.import_module(f"test.{name}")
    except unittest.SkipTest as skip:
        reporter.tell(skipped=str(skip))
        return
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    _leave_out(suite, done)
    try:
        suite.run(reporter)
    finally:
        reporter.tell(complete=sys.exc_info()[0] is None, opened=opened())


def _leave_out(suite: Any, done: set[str]) -> None:
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            _leave_out(part, done)
    suite._tests = [
        part
        for part in suite._tests
        if isinstance(part, unittest.TestSuite) or part.id() not in done
    ]


def _count_opened() -> Any:
    """Counts the files that CAPIO opens, where every way of opening one comes through."""
    binding = sys.modules.get("pycapio._pycapio")
    if binding is None:
        return lambda: 0
    count = 0
    library = binding._library
    original = library.capio_open

    def counting(*args: Any) -> Any:
        nonlocal count
        opened = original(*args)
        count += opened >= 0
        return opened

    library.capio_open = counting
    return lambda: count


if __name__ == "__main__":
    main()
