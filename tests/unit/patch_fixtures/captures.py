"""User code that holds references in every form. `FORMS` reads each of them anew.

`probe` is a function written in Python, `stat` one written in C: in a class they bind differently.
"""

import functools
import os
from collections import OrderedDict
from collections.abc import Callable
from os import stat
from os import stat as renamed_stat
from typing import Any

from patch_fixtures import library
from patch_fixtures.library import probe
from patch_fixtures.library import probe as renamed_probe


class Attributes:
    builtin: Any = os.stat
    python = library.probe
    static = staticmethod(os.stat)
    static_python = staticmethod(library.probe)
    klass: Any = classmethod(library.probe)

    class Nested:
        static = staticmethod(library.probe)


class Guarded(type):
    def __setattr__(cls, name: str, value: object) -> None:
        raise AttributeError(f"{name} is read-only")


class ReadOnly(metaclass=Guarded):
    builtin = os.stat


def positional_default(path: str, call: Any = os.stat, other: Any = library.probe) -> Any:
    return call, other


def keyword_default(path: str, *, call: Any = library.probe) -> Any:
    return call


def make_closure() -> Callable[[], Any]:
    call = library.probe
    builtin = os.stat

    def closure() -> Any:
        return call, builtin

    return closure


class Slotted:
    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call = os.stat


class Instance:
    def __init__(self) -> None:
        self.call = library.probe
        self.openers: dict[str | None, Any] = {None: library.probe}


def attributed() -> None:
    pass


attributed.call = library.probe  # type: ignore[attr-defined]
closure = make_closure()
by_name = {"probe": library.probe, "stat": os.stat}
nested = {"table": {"probe": library.probe}}
ordered = OrderedDict(first=1, probe=library.probe)
in_list = [len, library.probe, os.stat]
partial = functools.partial(library.probe, 1)
partial_argument = functools.partial(map, library.probe)
slotted = Slotted()
instance = Instance()
in_tuple = (library.probe,)
in_set = {library.probe}

FORMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "module attribute": ("probe", lambda: library.probe),
    "module attribute, builtin": ("stat", lambda: os.stat),
    "from import": ("probe", lambda: probe),
    "from import, builtin": ("stat", lambda: stat),
    "from import as": ("probe", lambda: renamed_probe),
    "from import as, builtin": ("stat", lambda: renamed_stat),
    "class attribute": ("probe", lambda: Attributes.python),
    "class attribute, builtin": ("stat", lambda: Attributes.builtin),
    "class attribute, builtin, from an instance": ("stat", lambda: Attributes().builtin),
    "class attribute, guarded by the metaclass": ("stat", lambda: ReadOnly.builtin),
    "static method": ("stat", lambda: Attributes.static),
    "static method, from an instance": ("probe", lambda: Attributes().static_python),
    "static method of a nested class": ("probe", lambda: Attributes.Nested.static),
    "class method": ("probe", lambda: Attributes.klass.__func__),
    "default": ("stat", lambda: positional_default("")[0]),
    "second default": ("probe", lambda: positional_default("")[1]),
    "keyword default": ("probe", lambda: keyword_default("")),
    "closure": ("probe", lambda: closure()[0]),
    "closure, builtin": ("stat", lambda: closure()[1]),
    "dict": ("probe", lambda: by_name["probe"]),
    "dict, builtin": ("stat", lambda: by_name["stat"]),
    "dict in a dict": ("probe", lambda: nested["table"]["probe"]),
    "ordered dict": ("probe", lambda: ordered["probe"]),
    "list": ("probe", lambda: in_list[1]),
    "list, builtin": ("stat", lambda: in_list[2]),
    "partial": ("probe", lambda: partial.func),
    "argument of a partial": ("probe", lambda: partial_argument.args[0]),
    "attribute of an instance": ("probe", lambda: instance.call),
    "dict of an instance": ("probe", lambda: instance.openers[None]),
    "slot of an instance": ("stat", lambda: slotted.call),
    "attribute of a function": ("probe", lambda: attributed.call),  # type: ignore[attr-defined]
}
