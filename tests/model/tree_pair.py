"""Two trees, a plain one and one in CAPIO_DIR: the same actions on both, compared."""

from __future__ import annotations

import errno
import functools
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tree_actions
from tree_driver import Remote
from twins import differences

# CAPIO_DIR goes first: it may refuse (see _refused), and then the plain tree is left alone.
_MAY_BE_REFUSED = ("rename", "replace", "pathlib_rename")


@functools.cache
def different(*what: str) -> type[AssertionError]:
    """A kind of error for each kind of difference, so that a search tells several apart."""
    return type("Different: " + ", ".join(what), (AssertionError,), {})


def _outcome(said: Any) -> str:
    if not isinstance(said, tuple) or said[0] != "raised":
        return "result"
    return f"{said[1]['type'].__name__} {said[1]['errno']}"


def _refused(said: Any) -> bool:
    """A directory that is both in the store and on disk is not renamed (docs/limits.md)."""
    return said[0] == "raised" and said[1]["errno"] == errno.EXDEV


def _skipped(said: Any) -> bool:
    return said[0] == "raised" and said[1]["type"] is tree_actions.Skipped


def compare(what: str, expected: Any, found: Any) -> None:
    wrong = list(differences(expected, found))
    if wrong:
        raise different(what, _outcome(expected), _outcome(found))("\n".join(wrong[:20]))


class Trees:
    """The two processes, and their trees: any number of them, one pair after the other."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._number = 0
        self._roots: list[str] = []
        self._processes: list[Remote] = []
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("CAPIO_")}
        if "CAPIO_LIB" in os.environ:
            self._env["CAPIO_LIB"] = os.environ["CAPIO_LIB"]
        self._env["CAPIO_STORE"] = str(base / "store")
        self._env["PYTHONPATH"] = os.pathsep.join(sys.path)
        (base / "store").mkdir()

    @contextmanager
    def _asking(self) -> Iterator[tuple[Remote, Remote]]:
        if not self._processes:
            kinds = ("plain", "capio")
            self._processes = [Remote(self._env, f"{self._base}/{kind}.stderr") for kind in kinds]
        try:
            yield self._processes[0], self._processes[1]
        except AssertionError:  # one died or hangs: the next trees have new ones
            self.close()
            raise

    def begin(self, entries: list[Any]) -> None:
        """Two trees with the same entries; CAPIO_DIR has them before the session begins."""
        self._number += 1
        self._roots = []
        with self._asking() as processes:
            # Of one length, and of one name, which paths may contain.
            for kind, process in zip(("plain", "capio"), processes, strict=True):
                root = self._base / f"{self._number:05}-{kind}" / "root"
                root.mkdir(parents=True)
                tree_actions.populate(str(root), entries)
                process("begin", str(root), f"tree-{uuid.uuid4().hex}" if kind == "capio" else "")
                self._roots.append(str(root))

    def do(self, action: str, arguments: dict[str, Any]) -> None:
        call = arguments.get("call", "")
        with self._asking() as (plain, capio):
            if action in _MAY_BE_REFUSED or call.startswith("rename"):
                found = capio("do", action, arguments)
                if _refused(found[0]):
                    return
                expected, comparable = plain("do", action, arguments)
            else:
                expected, comparable = plain("do", action, arguments)
                if _skipped(expected):
                    return
                found = capio("do", action, arguments)
        if comparable:
            compare(action, expected, found[0])

    def end(self, *, compared: bool = True) -> None:
        """Ends the session; then everything has to be in CAPIO_DIR itself."""
        if not self._roots or not self._processes:
            return
        roots, self._roots = self._roots, []
        with self._asking() as processes:
            plain, capio = (process("end") for process in processes)
        if compared:
            compare("the tree", plain, capio)
            left = [tree_actions.tree_of(root) for root in roots]
            compare("what the session has left", *left)

    def close(self) -> None:
        processes, self._processes, self._roots = self._processes, [], []
        for process in processes:
            process.close()


@pytest.fixture
def trees(tmpfs: Path) -> Iterator[Trees]:
    both = Trees(tmpfs)
    try:
        yield both
    finally:
        both.close()
