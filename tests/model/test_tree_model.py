"""Random sequences of calls on CAPIO_DIR and on a plain directory of the same kind: results,
exceptions and trees are the same, also once the session has ended.

CAPIO_TEST_EXAMPLES=N tries that many sequences, other ones each time (15 by default);
CAPIO_TEST_STEPS=N makes them longer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

import tree_actions
from tree_pair import Trees

EXAMPLES = int(os.environ.get("CAPIO_TEST_EXAMPLES") or 15)
STEPS = int(os.environ.get("CAPIO_TEST_STEPS") or 25)

# ---- what is drawn ----

# Few names, so that calls meet.
NAMES = st.sampled_from(["a", "b", "c"])
ODD_NAMES = st.sampled_from([".", "..", "", "\u00fc", "\udcff", "<255>", "<256>", "a\0b", " "])
COMMON = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ODD = st.one_of(
    st.builds("{}/{}".format, COMMON, ODD_NAMES),
    st.builds("{}/../{}".format, COMMON, COMMON),
    st.builds("../root/{}".format, COMMON),
    st.builds("{}//./{}".format, NAMES, NAMES),
    st.builds("{}/".format, COMMON),
    st.sampled_from(["", ".", "./", "<256>", "<deep>n", "a/<deep>", "\udcff"]),
)
COMMON_AND_ODD = st.one_of(COMMON, COMMON, COMMON, ODD)
KINDS = st.sampled_from(
    ["str", "str", "absolute", "absolute", "bytes", "absolute bytes", "pathlib", "pathlike"]
)
SLOTS = st.integers(0, 2)
DATA = st.sampled_from(["", "x", "line\nother\n", "0123456789" * 3, "\u00e4\n" * 4, "z" * 20000])
SIZES = st.sampled_from([0, 1, 3, 10, 5000, -1])
OFFSETS = st.sampled_from([0, 1, 5, 100, 30000, -1, -5])
PERMISSIONS = st.sampled_from([0o644, 0o600, 0o755, 0o444, 0o777, 0o4711, 0o1777, 0])
OPEN_MODES = st.sampled_from(
    [m + kind for m in ("r", "w", "a", "x", "r+", "w+", "a+", "x+") for kind in ("", "b")]
)


def _sensible(flags: int) -> bool:
    """Not what POSIX leaves open, and kernels answer differently."""
    if flags & (os.O_WRONLY | os.O_RDWR) == os.O_RDONLY and flags & os.O_TRUNC:
        return False
    return not (flags & os.O_CREAT and flags & os.O_DIRECTORY)


OPEN_FLAGS = st.builds(
    lambda access, more: access | sum(more),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
    st.sets(
        st.sampled_from(
            [os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY]
        ),
        max_size=3,
    ),
).filter(_sensible)
PATTERNS = st.sampled_from(["*", "**", "**/*", "a/*", "*/b", "[ab]", "a/**/", "**/a", "*/"])
BOOLEANS = st.booleans()
WHENCE = st.sampled_from([0, 0, 1, 2])

# What a layer holds before: the hard case is a union of layers.
LINK_TARGETS = st.one_of(
    COMMON, st.sampled_from(["../a", "..", ".", "<root>/b", "<root>/a/b", "a"])
)
ENTRIES = st.one_of(
    st.tuples(st.just("file"), COMMON, st.tuples(DATA.map(str.encode), PERMISSIONS)),
    st.tuples(st.just("directory"), COMMON, st.sampled_from([0o755, 0o700, 0o775])),
    st.tuples(st.just("link"), COMMON, LINK_TARGETS),
)


def actions(texts: st.SearchStrategy[str]) -> dict[str, dict[str, Any]]:
    """Every action, and what it is given; texts: the paths."""
    paths = st.tuples(texts, KINDS)
    return {
        "open": {
            "slot": SLOTS,
            "path": paths,
            "mode": OPEN_MODES,
            "buffering": st.sampled_from([-1, -1, 0, 7]),
        },
        "read": {"slot": SLOTS, "size": SIZES},
        "read_line": {"slot": SLOTS},
        "read_lines": {"slot": SLOTS},
        "write": {"slot": SLOTS, "data": DATA},
        "seek": {"slot": SLOTS, "offset": OFFSETS, "whence": WHENCE},
        "tell": {"slot": SLOTS},
        "truncate_file": {"slot": SLOTS, "size": st.one_of(st.none(), OFFSETS)},
        "flush": {"slot": SLOTS},
        "status_of_file": {"slot": SLOTS},
        "close": {"slot": SLOTS},
        "open_descriptor": {"slot": SLOTS, "path": paths, "flags": OPEN_FLAGS, "mode": PERMISSIONS},
        "read_descriptor": {"slot": SLOTS, "size": SIZES},
        "write_descriptor": {"slot": SLOTS, "data": DATA},
        "pread": {"slot": SLOTS, "size": SIZES, "offset": OFFSETS},
        "pwrite": {"slot": SLOTS, "data": DATA, "offset": OFFSETS},
        "seek_descriptor": {"slot": SLOTS, "offset": OFFSETS, "whence": WHENCE},
        "truncate_descriptor": {"slot": SLOTS, "size": OFFSETS},
        "status_of_descriptor": {"slot": SLOTS},
        "close_descriptor": {"slot": SLOTS},
        "descriptor_to_file": {"slot": SLOTS},
        "mkdir": {"path": paths, "mode": PERMISSIONS},
        "makedirs": {"path": paths, "exist_ok": BOOLEANS},
        "rmdir": {"path": paths},
        "removedirs": {"path": paths},
        "unlink": {"path": paths},
        "rename": {"path": paths, "other": paths},
        "replace": {"path": paths, "other": paths},
        "chmod": {"path": paths, "mode": PERMISSIONS},
        "utime": {"path": paths, "times": st.tuples(st.just(10**9), st.integers(0, 10**17))},
        "readlink": {"path": paths},
        "link": {"path": paths, "other": paths, "follow": BOOLEANS},
        "symlink": {"text": LINK_TARGETS, "path": paths},
        "truncate": {"path": paths, "size": OFFSETS},
        "set_attribute": {"path": paths, "value": DATA, "follow": BOOLEANS},
        "get_attribute": {"path": paths},
        "at_directory": {
            "path": paths,
            "call": st.sampled_from(tree_actions.AT_CALLS),
            "name": texts,
            "new": texts,
        },
        "inside": {
            "path": paths,
            "call": st.sampled_from(tree_actions.AT_CALLS),
            "name": texts,
            "new": texts,
        },
        "stat": {"path": paths, "follow": BOOLEANS},
        "access": {"path": paths, "mode": st.sampled_from([os.F_OK, os.R_OK, os.W_OK, os.X_OK])},
        "kinds": {"path": paths},
        "size": {"path": paths},
        "real_path": {"path": paths},
        "same_file": {"path": paths, "other": paths},
        "listdir": {"path": paths},
        "scandir": {"path": paths},
        "walk": {"path": paths, "topdown": BOOLEANS},
        "walk_by_descriptor": {"path": paths},
        "glob": {"pattern": PATTERNS},
        "pathlib_write": {"path": paths, "data": DATA},
        "pathlib_read": {"path": paths},
        "pathlib_touch": {"path": paths, "exist_ok": BOOLEANS},
        "pathlib_mkdir": {"path": paths, "parents": BOOLEANS, "exist_ok": BOOLEANS},
        "pathlib_unlink": {"path": paths, "missing_ok": BOOLEANS},
        "pathlib_rename": {"path": paths, "other": paths},
        "pathlib_list": {"path": paths},
        "pathlib_glob": {"path": paths, "pattern": st.sampled_from(["*", "a", "*/b", "**/*"])},
        "pathlib_kinds": {"path": paths},
        "pathlib_resolve": {"path": paths, "strict": BOOLEANS},
        "copy_file": {
            "path": paths,
            "other": paths,
            "how": st.sampled_from(["copy", "copy2", "copyfile", "copymode", "copystat"]),
        },
        "copy_tree": {"path": paths, "other": paths, "symlinks": BOOLEANS, "exist_ok": BOOLEANS},
        "move": {"path": paths, "other": paths},
        "remove_tree": {"path": paths, "ignore": BOOLEANS},
        "write_by_temporary": {"path": paths, "data": DATA},
        "temporary_directory": {"path": paths, "data": DATA},
        "temporary_file": {"path": paths, "data": DATA},
        "unnamed_file": {"path": paths, "data": DATA},
        "tree": {},
    }


# ---- how it is run ----


def machine(trees: Trees, texts: st.SearchStrategy[str]) -> type[RuleBasedStateMachine]:
    class Sequences(RuleBasedStateMachine):
        @initialize(entries=st.lists(ENTRIES, max_size=8))
        def begin(self, entries: list[Any]) -> None:
            trees.begin(entries)

        def teardown(self) -> None:
            trees.end(compared=sys.exc_info()[1] is None)

    def acting(name: str) -> Callable[..., None]:
        def act(self: Any, **arguments: Any) -> None:
            trees.do(name, arguments)

        act.__name__ = name
        return act

    for name, arguments in actions(texts).items():
        setattr(Sequences, name, rule(**arguments)(acting(name)))
    return Sequences


@pytest.mark.timeout(0 if "CAPIO_TEST_EXAMPLES" in os.environ else 300)
@pytest.mark.parametrize("texts", [COMMON, COMMON_AND_ODD], ids=["common", "odd"])
def test_same_as_plain(trees: Trees, texts: st.SearchStrategy[str]) -> None:
    """odd: also paths with "..", with slashes at their ends, with names too long and the like."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(trees, texts),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            # The same ones each time, unless a number of them is asked for: then it is a search.
            derandomize="CAPIO_TEST_EXAMPLES" not in os.environ,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
