"""Places that are replaced together, in a fraction of the time that one after the other takes.

A batch reads all of its places in a few steps of Python. If they hold what they usually do it
writes them in as few; else the sites that it stands for are taken one by one. So it does when they
are given back.
"""

from __future__ import annotations

from operator import itemgetter

from pycapio.patching.objects import module_dict
from pycapio.patching.references import nothing
from pycapio.patching.replacement import homes
from pycapio.patching.sites import MemberSite, ModuleSite, OwnerSite, Site

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


class Batch(Site):
    """Places of a kind that runs no code of anybody's when it is written, so that nothing can fail
    half-way but by an interrupt, which restore() bears.

    The value is a list of what all of them hold; None stands for an unusual one. Functions are
    equal only to themselves, so lists and tuples of them are compared.
    """

    __slots__ = ("kept", "sites")

    def __init__(self, sites: Iterable[Site]) -> None:
        super().__init__(nothing, None, None, None)
        self.sites = tuple(sites)
        # Containers of originals, which no search may take for captured references.
        self.kept: list[Any] = []

    def fits(self, before: Any) -> bool:
        return bool(before == self.old)

    def one_by_one(self, holder: Any) -> Iterator[tuple[Site, Any]]:
        """The sites that it stands for, and the holder of each."""
        for site in self.sites:
            yield site, site.holder()

    def restore(self, holder: Any, before: Any) -> None:
        if self.read(holder) == self.new:
            self.write(holder, self.old)
            return
        for site, place in self.one_by_one(holder):
            site.restore(place, site.old)

    def __str__(self) -> str:
        return ", ".join(map(str, self.sites))


class _Values:
    """What the places of some namespaces have to hold: for all of one a tuple to compare with, and
    a dict to merge, which takes no step of Python for each."""

    __slots__ = ("dicts", "expected")

    def __init__(self, groups: Iterable[list[Any]], which: str) -> None:
        self.dicts = [{site.key: getattr(site, which) for site in group} for group in groups]
        self.expected = [_as_read(*values.values()) for values in self.dicts]

    def containers(self) -> list[Any]:
        return [self.expected, *self.expected, *self.dicts]


def _as_read(*values: Any) -> Any:
    """As an itemgetter answers."""
    return values if len(values) > 1 else values[0]


def _getters(groups: Iterable[list[Any]]) -> list[Callable[[Any], Any]]:
    return [itemgetter(*(site.key for site in group)) for group in groups]


def _grouped(sites: Iterable[Any], holders: Callable[[Any], Any]) -> list[list[Any]]:
    groups: dict[int, list[Any]] = {}
    for site in sites:
        groups.setdefault(id(holders(site)), []).append(site)
    return list(groups.values())


class OwnersBatch(Batch):
    """What Replacements name in modules and classes, of no kind but these themselves."""

    __slots__ = ("_classes", "_namespaces", "_originals", "_proxies", "_readers")

    def __init__(self, owners: Iterable[OwnerSite]) -> None:
        super().__init__(owners)
        groups = _grouped(self.sites, OwnerSite.holder)
        places = [group[0].attributes for group in groups]
        self._readers = list(zip(_getters(groups), places))  # noqa: B905 - they are of one length
        originals, proxies = _Values(groups, "old"), _Values(groups, "new")
        self.old, self.new = originals.expected, proxies.expected
        self._originals = self._steps(groups, originals)
        self._proxies = self._steps(groups, proxies)
        self.kept = [*originals.containers(), *self._originals, *self._originals[1]]

    @staticmethod
    def _steps(groups: list[list[Any]], values: _Values) -> tuple[list[Any], list[Any]]:
        """What is to be merged into modules' dicts, and what to be set in classes, which have to
        know of it."""
        merged, single = [], []
        for group, some in zip(groups, values.dicts):  # noqa: B905
            owner = group[0].owner
            if type(owner) is type:
                single += [(owner, name, value) for name, value in some.items()]
            else:
                merged.append((group[0].attributes, some))
        return merged, single

    def read(self, holder: Any) -> Any:
        try:
            return [get(attributes) for get, attributes in self._readers]
        except KeyError:
            return None

    def write(self, holder: Any, value: Any) -> None:
        merged, single = self._proxies if value is self.new else self._originals
        for namespace, values in merged:
            namespace.update(values)
        for owner, name, replaced in single:
            setattr(owner, name, replaced)


class MembersBatch(Batch):
    """Membership of proxies in the os.supports_* sets, beside their originals."""

    __slots__ = ("_sets",)

    def __init__(self, members: Iterable[MemberSite]) -> None:
        super().__init__(members)
        self._sets = [
            (
                group[0].members,
                frozenset(site.old for site in group),
                frozenset(site.new for site in group),
            )
            for group in _grouped(self.sites, MemberSite.holder)
        ]
        self.old, self.new = [False], [True]
        self.kept = [originals for _, originals, _ in self._sets]

    def read(self, holder: Any) -> Any:
        for members, originals, proxies in self._sets:
            if not (originals <= members and proxies.isdisjoint(members)):
                return None
        return self.old

    def write(self, holder: Any, value: Any) -> None:
        if value is self.new:
            for members, _, proxies in self._sets:
                members.update(proxies)
        else:
            for members, _, proxies in self._sets:
                members.difference_update(proxies)

    def restore(self, holder: Any, before: Any) -> None:
        # There was none of them, or they would have been taken one by one.
        self.write(holder, self.old)


class GlobalsBatch(Batch):
    """Captured references that are global variables of modules. The holder is a list of the
    modules' dicts, to be kept no longer than they are replaced."""

    __slots__ = ("_getters", "_groups", "_originals", "_proxies", "_refer_all")

    def __init__(self, captured: Iterable[ModuleSite]) -> None:
        self._groups = _grouped(captured, ModuleSite.holder)
        super().__init__(site for group in self._groups for site in group)
        self._refer_all = [group[0].refer for group in self._groups]
        self._getters = _getters(self._groups)
        originals, proxies = _Values(self._groups, "old"), _Values(self._groups, "new")
        self.old, self.new = originals.expected, proxies.expected
        self._originals, self._proxies = originals.dicts, proxies.dicts
        self.kept = originals.containers()

    def holder(self) -> Any:
        """None if one of the modules is gone."""
        try:
            return [module_dict(refer()) for refer in self._refer_all]
        except TypeError:
            return None

    def one_by_one(self, holder: Any) -> Iterator[tuple[Site, Any]]:
        for namespace, group in zip(holder, self._groups):  # noqa: B905
            for site in group:
                yield site, namespace

    def read(self, holder: Any) -> Any:
        try:
            return [get(namespace) for get, namespace in zip(self._getters, holder)]  # noqa: B905
        except KeyError:
            return None

    def write(self, holder: Any, value: Any) -> None:
        replaced = self._proxies if value is self.new else self._originals
        for namespace, values in zip(holder, replaced):  # noqa: B905
            namespace.update(values)


class NamesSite(Site):
    """The names of proxies that are Python functions, which pickle goes by: those of the originals
    while they are in place, and afterwards their own, for whoever has captured one.

    The value is a list of (function, module, qualified name).
    """

    __slots__ = ()

    def __init__(self, proxies: Iterable[Any]) -> None:
        proxies = list(proxies)
        old = [(proxy, *homes[proxy]) for proxy in proxies]
        new = [(proxy, proxy.__module__, proxy.__qualname__) for proxy in proxies]
        super().__init__(nothing, None, old, new)

    def read(self, holder: Any) -> Any:
        return self.old

    def write(self, holder: Any, value: Any) -> None:
        for proxy, module, qualname in value:
            proxy.__module__ = module
            proxy.__qualname__ = qualname

    def restore(self, holder: Any, before: Any) -> None:
        self.write(holder, before)

    def __str__(self) -> str:
        return "the names of proxies"
