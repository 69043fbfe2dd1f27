"""Sequences that random ones have found, on CAPIO_DIR and on a plain directory."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tree_pair import Trees

FILE = (b"content", 0o644)

# What was there before, and what is done then.
SEQUENCES: dict[str, tuple[list[Any], list[tuple[str, dict[str, Any]]]]] = {
    "a new directory keeps its mode": (
        [],
        [("mkdir", {"path": "a", "mode": 0o777}), ("chmod", {"path": "a", "mode": 0o1777})],
    ),
    "attributes of a new file and directory are kept": (
        [],
        [
            ("mkdir", {"path": "d", "mode": 0o755}),
            ("pathlib_write", {"path": "d/f", "data": "text"}),
            ("set_attribute", {"path": "d", "value": "of d", "follow": True}),
            ("set_attribute", {"path": "d/f", "value": "of f", "follow": True}),
        ],
    ),
    "attributes of a file that is changed are kept": (
        [("file", "f", FILE), ("file", "g", (b"g", 0o640))],
        [
            ("set_attribute", {"path": "f", "value": "of f", "follow": True}),
            ("set_attribute", {"path": "g", "value": "of g", "follow": True}),
            ("open", {"slot": 0, "path": "f", "mode": "a", "buffering": -1}),
            ("write", {"slot": 0, "data": " and more"}),
            ("get_attribute", {"path": "f"}),
            ("open", {"slot": 1, "path": "g", "mode": "w", "buffering": -1}),
            ("get_attribute", {"path": "g"}),
            ("stat", {"path": "g", "follow": True}),
        ],
    ),
    "a directory of the store and of CAPIO_DIR is changed in both": (
        [("directory", "d", 0o755)],
        [
            ("pathlib_write", {"path": "d/f", "data": "text"}),
            ("chmod", {"path": "d", "mode": 0o700}),
            ("set_attribute", {"path": "d", "value": "of d", "follow": True}),
            ("stat", {"path": "d", "follow": True}),
        ],
    ),
    "a file does not replace a directory of the store": (
        [("file", "f", FILE)],
        [
            ("makedirs", {"path": "d/sub", "exist_ok": False}),
            ("mkdir", {"path": "empty", "mode": 0o755}),
            ("rename", {"path": "f", "other": "d"}),
            ("rename", {"path": "f", "other": "empty"}),
            ("rename", {"path": "d", "other": "f"}),
        ],
    ),
    "a directory is not renamed into itself": (
        [("file", "a/b/c", FILE)],
        [
            ("rename", {"path": "a", "other": "a"}),
            ("rename", {"path": "a", "other": "a/b"}),
            ("rename", {"path": "a", "other": "a/b/d"}),
            ("rename", {"path": "a/b", "other": "a"}),
            ("makedirs", {"path": "x/y/z", "exist_ok": False}),
            ("rename", {"path": "x", "other": "x/y/z/w"}),
            ("rename", {"path": "x/y", "other": "x"}),
        ],
    ),
    "of two wrong names the first is told": (
        [("link", "loop", "loop"), ("directory", "d", 0o755), ("file", "f", FILE)],
        [
            ("link", {"path": "absent", "other": "loop/x", "follow": False}),
            ("rename", {"path": "absent/x", "other": "loop/x"}),
            ("link", {"path": "d", "other": "absent/x", "follow": False}),
            ("link", {"path": "d", "other": "f/x", "follow": False}),
            ("link", {"path": "d", "other": "d", "follow": False}),
        ],
    ),
    "what is below a file is no directory": (
        [("file", "f", FILE)],
        [
            ("open", {"slot": 0, "path": "f/x", "mode": "r+", "buffering": -1}),
            ("open", {"slot": 0, "path": "f/x", "mode": "w", "buffering": -1}),
            ("open", {"slot": 0, "path": "f/x/y", "mode": "r", "buffering": -1}),
            ("unlink", {"path": "f/x"}),
            ("pathlib_unlink", {"path": "f/x", "missing_ok": True}),
        ],
    ),
    "a file of the store replaces a link": (
        [("file", "d/f", FILE), ("link", "l", "d"), ("link", "loop", "loop")],
        [
            ("write_by_temporary", {"path": "l", "data": "new"}),
            ("write_by_temporary", {"path": "loop", "data": "new"}),
            ("stat", {"path": "l/f", "follow": True}),
            ("unlink", {"path": "l/f"}),
            ("stat", {"path": "loop/f", "follow": True}),
            ("listdir", {"path": "loop/f"}),
        ],
    ),
    "a directory is moved to where it is": (
        [("file", "d/on disk", FILE)],
        [
            ("pathlib_write", {"path": "d/in the store", "data": "text"}),
            ("rename", {"path": "d", "other": "d"}),
        ],
    ),
    "a directory is moved into one that only the store has": (
        [("file", "d/sub/f", FILE)],
        [
            ("makedirs", {"path": "new/deep", "exist_ok": False}),
            ("rename", {"path": "d/sub", "other": "new/deep/sub"}),
            ("pathlib_write", {"path": "new/deep/sub/g", "data": "text"}),
            ("rename", {"path": "d", "other": "d/below"}),
        ],
    ),
    "the whole tree is walked by descriptors": (
        [("file", "d/f", FILE)],
        [
            ("mkdir", {"path": "made", "mode": 0o755}),
            ("walk_by_descriptor", {"path": ""}),
            ("walk_by_descriptor", {"path": "."}),
        ],
    ),
    "a directory is not opened to be created": (
        [("directory", "real", 0o755)],
        [
            ("mkdir", {"path": "made", "mode": 0o755}),
            ("open_descriptor", {"slot": 0, "path": "made", "flags": os.O_CREAT, "mode": 0o644}),
            ("open_descriptor", {"slot": 0, "path": "real", "flags": os.O_CREAT, "mode": 0o644}),
        ],
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence(trees: Trees, name: str) -> None:
    entries, actions = SEQUENCES[name]
    trees.begin(entries)
    for action, arguments in actions:
        paths = {key: (arguments[key], "absolute") for key in ("path", "other") if key in arguments}
        trees.do(action, {**arguments, **paths})
        trees.do("tree", {})
    trees.end()
