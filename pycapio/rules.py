"""Rules of CAPIO-CL given in Python, for a workflow that may be running already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from pycapio import session as _session

F = TypeVar("F", bound=Callable[..., Any])

# Where a decorated function keeps its rules; CapioContext looks there at every call.
ATTRIBUTE: Final = "__capio_rules__"


class CapioCLRule:
    """What holds for one file, directory or pattern: one clause of CAPIO-CL.

    Give it to ``CapioContext(rules=[...])``, or decorate the step's function with it, above or
    below ``@CapioContext(...)``: it then holds, for all processes of the workflow, from the first
    call on. Decorating a function while a session is in use (a script under the launcher, or after
    pycapio_init) adds it at once.

    Args:
        path: A name or a shell pattern; relative ones are taken from CAPIO_DIR.
        committed: When it is complete: "on_close", "on_close:N", "on_termination", "on_file",
            "on_n_files" (or "n_files", with ":N" or directory_n_file_expected).
        fire: From when it may be read: "update" (once committed) or "no_update" (as it grows).
        close_count: The N of on_close.
        directory_n_file_expected: How many entries the directory will hold.
        is_directory: Whether it is a directory; where a number of entries is given, it is.
        is_permanent: It has to be in CAPIO_DIR when the workflow has ended.
        is_excluded: CAPIO leaves it alone.
        producers, consumers: Names of the apps that write and read it.
        file_dependencies: The files that on_file waits for.

    What is None (for a number also 0, for a list also an empty one) is left as it is. Values are
    judged when the rule is added: PyCAPIOException, with errno EINVAL for a rule that is wrong and
    EBUSY for one that contradicts another rule, or files made under one.
    """

    __slots__ = ("path", "text")

    def __init__(
        self,
        path: str | os.PathLike[str],
        committed: str | None = None,
        fire: str | None = None,
        close_count: int | None = None,
        directory_n_file_expected: int | None = None,
        is_directory: bool | None = None,
        is_permanent: bool | None = None,
        is_excluded: bool | None = None,
        producers: Iterable[str] | None = None,
        consumers: Iterable[str] | None = None,
        file_dependencies: Iterable[str | os.PathLike[str]] | None = None,
    ) -> None:
        """Raises TypeError for an argument of a wrong type and ValueError for an empty path."""
        self.path = _text("path", os.fspath(path))
        if not self.path:
            raise ValueError("path is empty; name a file, a directory or a pattern")
        values = {
            "path": self.path,
            "committed": _optional("committed", committed, str),
            "fire": _optional("fire", fire, str),
            "close_count": _optional("close_count", close_count, int),
            "directory_n_file_expected": _optional(
                "directory_n_file_expected", directory_n_file_expected, int
            ),
            "is_directory": _optional("is_directory", is_directory, bool),
            "is_permanent": _optional("is_permanent", is_permanent, bool),
            "is_excluded": _optional("is_excluded", is_excluded, bool),
            "producers": _names("producers", producers),
            "consumers": _names("consumers", consumers),
            "file_dependencies": _names("file_dependencies", file_dependencies),
        }
        import json  # only for those who have rules in Python

        # What the library reads; equal rules have equal texts.
        self.text = json.dumps({key: value for key, value in values.items() if value is not None})

    def __call__(self, function: F) -> F:
        target = (
            function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
        )
        if not callable(target):
            raise TypeError(f"CapioCLRule decorates callables, not {type(function).__name__}")
        rules_of(target).append(self)
        for session in _session.current()[-1:]:
            session.add_rules([self.text])
        return function

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, CapioCLRule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        import json

        values = json.loads(self.text)
        return f"CapioCLRule({', '.join(f'{key}={value!r}' for key, value in values.items())})"


def rules_of(function: Any) -> list[CapioCLRule]:
    """The rules a function is decorated with: the list itself, shared with its wrappers.

    Raises TypeError for a callable that cannot hold any.
    """
    rules: list[CapioCLRule] | None = getattr(function, ATTRIBUTE, None)
    if rules is None:
        rules = []
        try:
            setattr(function, ATTRIBUTE, rules)
        except AttributeError:
            raise TypeError(
                f"a {type(function).__name__} cannot be given rules; wrap it in a function"
            ) from None
    return rules


def checked(rules: Iterable[CapioCLRule]) -> tuple[CapioCLRule, ...]:
    """The rules as a tuple. Raises TypeError for anything else among them."""
    if isinstance(rules, CapioCLRule):
        raise TypeError("rules takes a list of rules: rules=[CapioCLRule(...)]")
    found = tuple(rules)
    for rule in found:
        if not isinstance(rule, CapioCLRule):
            raise TypeError(f"rules holds a {type(rule).__name__}; it takes CapioCLRule(...)")
    return found


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str, not {type(value).__name__}")
    return value


def _optional(name: str, value: Any, kind: type) -> Any:
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is {_ARTICLES[kind]} or None, not {type(value).__name__}")
    return value


_ARTICLES: Final = {str: "a str", int: "an int", bool: "a bool"}


def _names(name: str, value: Iterable[Any] | None) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} is a list of names, not one {type(value).__name__}")
    return [_text(f"an item of {name}", os.fspath(item)) for item in value]
