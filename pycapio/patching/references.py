"""References that keep nothing alive, so far as weak references allow."""

from __future__ import annotations

import sys
import weakref

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def reference(
    part: Any, otherwise: Callable[[Any], Callable[[], Any]] | None = None
) -> Callable[[], Any]:
    try:
        return weakref.ref(part)
    except TypeError:
        return nothing if otherwise is None else otherwise(part)


def strongly(part: Any) -> Callable[[], Any]:
    return lambda: part


def nothing() -> None:
    return None


class Box:
    """Keeps what cannot be referenced weakly, until nobody else does."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __call__(self) -> Any:
        if self.content is not None and _references(self) <= _ALONE:
            self.content = None
        return self.content


_getrefcount: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)


def _references(box: Box) -> int:
    # An interpreter that does not count never finds a box abandoned.
    return 1 if _getrefcount is None else _getrefcount(box.content)


_ALONE = 0 if _getrefcount is None else _references(Box([]))
