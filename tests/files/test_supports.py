"""What os says of its functions: os.supports_* and signatures are those of plain Python."""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest

from pycapio.proxies.table import patcher
from workflows import Workflow

SETS = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")


def names(kind: str) -> list[str]:
    """The functions of os that are in a set, by identity as os has them now."""
    functions: set[Any] = getattr(os, kind)
    return sorted(
        name for name, value in vars(os).items() if callable(value) and value in functions
    )


@pytest.mark.parametrize("kind", SETS)
def test_sets(capio: Workflow, kind: str) -> None:
    before = set(getattr(os, kind))
    wanted = names(kind)
    assert "stat" in wanted or kind == "supports_effective_ids"
    with capio.context("producer"):
        assert names(kind) == wanted
        assert any(function not in before for function in getattr(os, kind))
    assert set(getattr(os, kind)) == before and names(kind) == wanted


def test_functions_look_like_their_originals(capio: Workflow) -> None:
    def looks(owner: Any, name: str) -> list[Any]:
        function = getattr(owner, name)
        try:
            signature = str(inspect.signature(function))
        except ValueError:  # of some written in C
            signature = ""
        return [getattr(function, "__name__", ""), function.__doc__, signature, callable(function)]

    # Classes have a documentation of their own.
    patched = [
        (item.owner, item.name)
        for item in patcher.replacements
        if not isinstance(getattr(item.owner, item.name, int), type)
    ]
    assert len(patched) > 60
    expected = [looks(*item) for item in patched]
    with capio.context("producer"):
        found = [looks(*item) for item in patched]
    differing = [one for one in zip(patched, expected, found, strict=True) if one[1] != one[2]]
    assert differing == []
