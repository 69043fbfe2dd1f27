"""Proxies for the tests. Patchers exclude this module: what it holds stays original."""

import os
from collections.abc import Callable
from typing import Any

from patch_fixtures import library
from pycapio.patching import Replacement, proxy_for

saved_probe = library.probe
saved_table = {"probe": library.probe, "nested": [library.probe]}


class Saved:
    probe = library.probe
    static = staticmethod(library.probe)

    def __init__(self) -> None:
        self.probe_of_instance = library.probe


saved_instance = Saved()


def saved_default(call: Any = library.probe, *, word: Any = library.probe) -> Any:
    return call, word


def make_reader() -> Callable[[], Any]:
    """A function that its caller keeps, while nothing in this module refers to it."""
    kept = library.probe

    def reader(call: Any = library.probe, *, word: Any = library.probe) -> Any:
        return kept, call, word

    return reader


def answering(original: Callable[..., Any], answer: str = "proxy") -> Callable[..., Any]:
    """A proxy that tells that it was called, and with what."""

    @proxy_for(original)
    def proxy(*args: Any, **kwargs: Any) -> Any:
        return (answer, args)

    return proxy


def passing(original: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[..., Any]:
    """A proxy that notes the call and does what the original does, through a helper function."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    @proxy_for(original)
    def proxy(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return call(*args, **kwargs)

    return proxy


probe_proxy = answering(library.probe)
stat_calls: list[tuple[Any, ...]] = []
stat_proxy = passing(os.stat, stat_calls)


saved_lstat = os.lstat


@proxy_for(saved_lstat, module=__name__, qualname="lasting_proxy")
def lasting_proxy(*args: Any, **kwargs: Any) -> Any:
    """A proxy that can be pickled by reference at any time."""
    return saved_lstat(*args, **kwargs)


def replacements() -> list[Replacement]:
    return [
        Replacement(library, "probe", probe_proxy),
        Replacement(os, "stat", stat_proxy),
    ]
