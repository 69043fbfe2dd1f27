"""PyCapioPath: every name of posixpath, with its results, patched or not."""

from __future__ import annotations

import itertools
import os
import pathlib
import posixpath
import sys
from typing import Any

import pytest

from pycapio import PyCapioPath
from twins import Twin

SAMPLES = [
    "", ".", "..", "/", "//", "///", "a", "a/", "a/b", "/a/b.c", "a.b.c", ".hidden", "a/.b", "a//b", "./a/../b",
    "~", "~/x", "~root/x", "~nobody-here/x", "$HOME/x", "${HOME}y", "$ABSENT", "a b", "\u00e4/\u20ac", "/a/b/../../..",
]  # fmt: skip
PURE = [
    "normcase", "isabs", "split", "splitdrive", "splitext", "basename", "dirname", "normpath", "expanduser",
    "expandvars", "abspath",
]  # fmt: skip


def outcome(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001 - it is what is compared
        return type(error), str(error)


def test_has_every_name() -> None:
    for name in posixpath.__all__:
        assert hasattr(PyCapioPath, name), name
        assert name in dir(PyCapioPath)
    with pytest.raises(AttributeError):
        PyCapioPath.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", PURE + (["splitroot"] if sys.version_info >= (3, 12) else []))
def test_pure_functions(name: str) -> None:
    ours, theirs = getattr(PyCapioPath, name), getattr(posixpath, name)
    for sample in SAMPLES:
        for value in (sample, os.fsencode(sample), pathlib.PurePath(sample)):
            assert outcome(ours, value) == outcome(theirs, value), (name, value)
    for bad in (None, 3, 1.5, []):
        assert outcome(ours, bad) == outcome(theirs, bad)


def test_functions_of_several_paths() -> None:
    for first, second in itertools.product(SAMPLES, repeat=2):
        assert PyCapioPath.join(first, second) == posixpath.join(first, second)
        assert PyCapioPath.join(first, second, "c", "/d", "e") == posixpath.join(
            first, second, "c", "/d", "e"
        )
        for name in ("commonpath", "commonprefix"):
            pair = [first, second]
            assert outcome(getattr(PyCapioPath, name), pair) == outcome(
                getattr(posixpath, name), pair
            )
        assert outcome(PyCapioPath.relpath, first, second) == outcome(
            posixpath.relpath, first, second
        )
    assert outcome(PyCapioPath.join, "a", b"b") == outcome(posixpath.join, "a", b"b")
    assert outcome(PyCapioPath.join) == outcome(posixpath.join)
    assert outcome(PyCapioPath.commonpath, []) == outcome(posixpath.commonpath, [])


def test_constants() -> None:
    for name in ("curdir", "pardir", "sep", "pathsep", "defpath", "altsep", "extsep", "devnull"):
        assert getattr(PyCapioPath, name) == getattr(posixpath, name)
    assert PyCapioPath.supports_unicode_filenames == posixpath.supports_unicode_filenames


QUESTIONS = [
    "exists", "lexists", "isfile", "isdir", "islink", "ismount", "getsize", "getmtime", "getatime", "getctime",
]  # fmt: skip
if sys.version_info >= (3, 12):
    QUESTIONS.append("isjunction")


@pytest.mark.parametrize("patched", [True, False], ids=["patched", "session only"])
def test_questions_about_capio_paths(twin: Twin, patched: bool) -> None:
    """While a session is entered, whether or not anything is patched."""
    from pycapio import session as session_module
    from pycapio.proxies.table import patcher

    plain, outside, inside = twin.roots()

    def populate(root: str) -> None:
        os.mkdir(root + "/d")
        with open(root + "/f", "w") as file:
            file.write("content")

    def ask(root: str, functions: Any) -> Any:
        found = []
        for name in QUESTIONS:
            for path in ("/f", "/d", "/absent", "/f/x", "/f/", "/d/", "/a\0b"):
                for kind in (str, os.fsencode, pathlib.Path):
                    if kind is pathlib.Path and path.endswith("/"):
                        continue
                    result = outcome(getattr(functions, name), kind(root + path))
                    if name.startswith("get") and not isinstance(result, tuple):
                        result = type(result) if name != "getsize" or path[1] == "d" else result
                    found.append((name, path, str(result).replace(root, "<root>")))
        found.append(outcome(functions.samefile, root + "/f", root + "/d/../f"))
        found.append(outcome(functions.samefile, root + "/f", root + "/d"))
        return found

    populate(plain)
    expected = ask(plain, posixpath)
    with twin.context:
        populate(inside)
        if patched:
            assert ask(inside, PyCapioPath) == expected
            assert ask(inside, os.path) == expected
            assert os.path is posixpath
    if not patched:
        session = twin.context.session
        session_module.start_using(session)
        try:
            assert not patcher.active
            assert ask(inside, PyCapioPath) == expected
        finally:
            session_module.stop_using(session)


def test_outside_and_without_a_session(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_text("x")
    assert PyCapioPath.exists(tmp_path / "f")
    assert PyCapioPath.getsize(tmp_path / "f") == 1
    assert not PyCapioPath.isdir(tmp_path / "f")
    assert PyCapioPath.ismount("/")
    assert PyCapioPath.realpath(tmp_path / "f") == os.path.realpath(tmp_path / "f")
    assert PyCapioPath.sameopenfile(0, 0) is os.path.sameopenfile(0, 0)
