"""The same operation three times: plain Python, patched Python outside CAPIO_DIR, and inside it."""

from __future__ import annotations

import itertools
import os
import pathlib
import select
import stat
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pycapio import CapioContext

Operation = Callable[[str], Any]


def elsewhere(root: str) -> str:
    """A directory, to be made, that belongs to a root and is outside CAPIO_DIR."""
    base, name = os.path.split(root)
    return f"{os.path.dirname(base) if os.path.basename(base) == 'data' else base}/for-{name}/in"


def _shown(value: Any, root: str) -> Any:
    """A value that can be compared between two roots."""
    if isinstance(value, str):
        beside = os.path.dirname(elsewhere(root))
        return value.replace(root, "<root>").replace(beside, "<elsewhere>")
    if isinstance(value, bytes):
        return os.fsencode(_shown(os.fsdecode(value), root))
    if isinstance(value, os.stat_result):
        kind = stat.S_IFMT(value.st_mode)
        return (
            "stat",
            value.st_mode,
            0 if kind == stat.S_IFDIR else value.st_nlink,
            value.st_uid,
            value.st_gid,
            value.st_size if kind == stat.S_IFREG else 0,
        )
    if isinstance(value, pathlib.PurePath):
        return (type(value).__name__, _shown(str(value), root))
    if isinstance(value, (list, tuple)):
        return type(value)(_shown(part, root) for part in value)
    if isinstance(value, (set, frozenset)):
        return type(value)(_shown(part, root) for part in value)
    if isinstance(value, dict):
        return {_shown(key, root): _shown(part, root) for key, part in value.items()}
    if isinstance(value, BaseException):
        return _shown_error(value, root)
    if value is None or isinstance(value, (int, float, type, bytearray)):
        return value
    return _shown(repr(value), root)


def _shown_error(error: BaseException, root: str) -> dict[str, Any]:
    names = ("errno", "strerror", "filename", "filename2", "characters_written")
    return {
        "type": type(error),
        # Where exactly the stack ended is no matter.
        "text": None if isinstance(error, RecursionError) else _shown(str(error), root),
        **{name: _shown(getattr(error, name, None), root) for name in names},
    }


def observed(operation: Operation, root: str) -> Any:
    """What came out: a value or an exception, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome = ("returned", _shown(operation(root), root))
        except Exception as error:  # noqa: BLE001 - it is what is compared
            outcome = ("raised", _shown_error(error, root))
    told = [(warning.category, _shown(str(warning.message), root)) for warning in caught]
    return (*outcome, told) if told else outcome


def tree(root: str) -> dict[str, Any]:
    """Everything below a directory: kind, permissions, content."""
    found: dict[str, Any] = {}
    for base, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = _shown(os.readlink(path), root)
            elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IRUSR:
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, root)] = (stat.filemode(status.st_mode), content)
    return found


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """The parts that differ, one a line. pytest's own explanation of large values takes minutes."""
    if type(expected) is type(found) and isinstance(expected, (list, tuple)):
        if len(expected) != len(found):
            yield f"{where}: {len(expected)} parts expected, {len(found)} found"
        for index, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{where}[{index}]")
    elif type(expected) is type(found) and isinstance(expected, dict):
        for key in expected.keys() | found.keys():
            one, other = expected.get(key, "(nothing)"), found.get(key, "(nothing)")
            yield from differences(one, other, f"{where}[{key!r}]")
    elif type(expected) is not type(found) or expected != found:
        yield f"{where}: expected {repr(expected)[:300]}, found {repr(found)[:300]}"


class Twin:
    """Compares operations on plain directories with the same ones in CAPIO_DIR."""

    def __init__(self, base: Path, context: CapioContext) -> None:
        self.base = base
        self.context = context
        self._numbers = itertools.count()

    def roots(self) -> tuple[str, str, str]:
        """Three new empty directories: plain, patched outside, inside CAPIO_DIR."""
        # Of one length, which some messages show.
        number = next(self._numbers)
        plain, outside = (str(self.base / f"{kind}-{number:05}") for kind in ("plain", "other"))
        inside = str(self.base / "data" / f"{number:06}")
        os.mkdir(plain)
        os.mkdir(outside)
        with self.context:
            os.mkdir(inside)
        return plain, outside, inside

    def same_mixed(
        self,
        operation: Operation,
        parts: Sequence[Operation],
        places: Iterable[Sequence[bool]] | None = None,
        *,
        trees: bool = True,
    ) -> Any:
        """The same, for what needs a tree to be there before, which is made of parts. In CAPIO_DIR
        it is tried with each part in the store, or in the real directory, or as places says."""
        plain, outside, inside = self.roots()
        for part in parts:
            part(plain)
            part(outside)
        expected = observed(operation, plain)
        wanted = tree(plain) if trees else {}
        wrong: list[str] = []
        for real in places or itertools.product((False, True), repeat=len(parts)):
            where = inside
            if any(real):
                where = f"{inside[:-6]}{next(self._numbers):06}"
                os.mkdir(where)
            for part in itertools.compress(parts, real):
                part(where)
            with self.context:
                for part in itertools.compress(parts, [not it for it in real]):
                    part(where)
                found = observed(operation, where)
                made = tree(where) if trees else {}
            kinds = "+".join("real" if it else "store" for it in real)
            wrong += [f"{kinds}: {text}" for text in differences(expected, found)]
            wrong += [f"{kinds}: tree {text}" for text in differences(wanted, made)]
        with self.context:
            patched = observed(operation, outside)
        wrong += [f"outside CAPIO_DIR {text}" for text in differences(expected, patched)]
        if wrong:
            raise AssertionError("\n".join(wrong[:20]))
        return expected

    def same(self, operation: Operation, *, trees: bool = True) -> Any:
        """Runs it in all three; results, exceptions, warnings and trees have to be equal."""
        plain, outside, inside = self.roots()
        expected = observed(operation, plain)
        with self.context:
            patched = observed(operation, outside)
            managed = observed(operation, inside)
            made = tree(inside) if trees else {}
        wrong = [f"outside CAPIO_DIR {text}" for text in differences(expected, patched)]
        wrong += [f"in CAPIO_DIR {text}" for text in differences(expected, managed)]
        if trees:
            wrong += [f"tree {text}" for text in differences(tree(plain), made)]
        if wrong:
            raise AssertionError("\n".join(wrong[:20]))
        return expected


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    base = tmp_path_factory.mktemp("twin")
    (base / "data").mkdir()
    store = Path(os.environ.get("CAPIO_TEST_STORE") or base / "store")
    store.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("CAPIO_") and name not in ("CAPIO_LIB", "CAPIO_TEST_STORE"):
                patch.delenv(name)
        patch.setenv("CAPIO_STORE", str(store))
        context = CapioContext(
            capio_dir=str(base / "data"),
            app_name="producer",
            workflow_name=f"twin-{uuid.uuid4().hex[:12]}",
            await_server_timeout_seconds=60,
        )
        server = os.pidfd_open(context.session.server_pid)
        try:
            yield Twin(base, context)
        finally:
            context.session.close(wait_seconds=60)
            poll = select.poll()
            poll.register(server, select.POLLIN)
            ended = poll.poll(60_000)
            os.close(server)
        if not ended:
            pytest.fail("the server has not ended by itself")
