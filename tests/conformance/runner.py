"""Runs one of CPython's test modules and reports each test on a pipe: a program of the tests.

Arguments: the module's name (below ``test``), the descriptor to report to, the seconds one test
may take, and a JSON file with the ids of tests to leave out. The current directory and TMPDIR are
where the tests work: of each test it is told whether it changed anything there on disk. The last
line tells how many files were opened through CAPIO.
"""

from __future__ import annotations

import _io
import builtins
import faulthandler
import importlib
import io
import json
import os
import posix  # which pycapio leaves alone: what is on disk
import sys
import unittest
from types import ModuleType
from typing import Any

_import = builtins.__import__
_import_module = importlib.import_module
_write = os.write


class Reporter(unittest.TestResult):
    """One JSON line when a test starts and one for its outcome, the worst of its subtests."""

    def __init__(self, descriptor: int, limit: float) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._outcome = "passed"
        self._text = ""
        self._places = (posix.getcwd(), os.environ["TMPDIR"])
        self._times = self._look()

    def _look(self) -> list[int]:
        # Every entry made in a directory, or removed from it, changes its time.
        return [posix.stat(place).st_mtime_ns for place in self._places]

    def touched(self) -> bool:
        """Whether anything was changed on disk since it was last asked."""
        before, self._times = self._times, self._look()
        return before != self._times

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
        self.tell(
            test=test.id(),
            outcome=self._outcome,
            text=self._text[-4000:],
            touched=self.touched(),
        )

    def _is(self, outcome: str, text: str = "") -> None:
        if self._outcome in ("passed", "skipped") and not (self._outcome == outcome):
            self._outcome, self._text = outcome, text

    def _failed(self, test: Any, error: Any) -> None:
        text = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]
        if isinstance(test, unittest.TestCase):
            self._is("failed", text)
        else:  # setUpClass, setUpModule
            self.tell(test=test.id(), outcome="failed", text=text[-4000:], touched=self.touched())

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


class AsPublic(ModuleType):
    """For the test module, a C module that has what its public module has by the same names.

    In plain Python those are the same functions and classes. pycapio replaces the public ones only,
    and they are what test_posix and test_fileio then test.
    """

    def __init__(self, real: ModuleType, public: ModuleType) -> None:
        super().__init__(real.__name__)
        self._real = real
        self._public = public

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return getattr(self._public, name, found) if callable(found) else found


STAND_INS = {"posix": AsPublic(posix, os), "_io": AsPublic(_io, io)}


def imports_for(module: str) -> tuple[Any, Any]:
    """What gives the stand-ins to one module: its import statement, and importlib.import_module.
    The interpreter would miss the real ones in ``sys.modules``."""

    def load(name: str, globals: Any = None, *args: Any, **kwargs: Any) -> Any:
        if name in STAND_INS and globals and globals.get("__name__") == module:
            return STAND_INS[name]
        return _import(name, globals, *args, **kwargs)

    def load_module(name: str, package: Any = None) -> Any:
        return STAND_INS.get(name) or _import_module(name, package)

    return load, load_module


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
        builtins.__import__, importlib.import_module = imports_for(f"test.{name}")
        module = importlib.import_module(f"test.{name}")
    except unittest.SkipTest as skip:
        reporter.tell(skipped=str(skip))
        return
    finally:
        builtins.__import__, importlib.import_module = _import, _import_module
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    _leave_out(suite, done)
    reporter.touched()  # what was tried while it was imported: can the file system do this?
    try:
        suite.run(reporter)
    finally:
        reporter.tell(
            complete=sys.exc_info()[0] is None, opened=opened(), touched=reporter.touched()
        )


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
