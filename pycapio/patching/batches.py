"""Places that are replaced together, in a fraction of the time that one after the other takes.

A batch reads all of its places in a few steps of Python. If they hold what they usually do it
writes them in as few; else the sites that it stands for are taken one by one. So it does when they
are given back.
"""

from __future__ import annotations

from operator import itemgetter
from types import ModuleType

from pycapio.patching.objects import module_dict
from pycapio.patching.references import nothing
from pycapio.patching.replacement import homes
from pycapio.patching.sites import MemberSite, ModuleSite, OwnerSite, Site

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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


# From so many names on, merging a dict is quicker than setting one after the other.
_MANY = 3


class OwnersBatch(Batch):
    """What Replacements name in modules and classes, of no kind but these themselves."""

    __slots__ = ("_getters", "_originals", "_places", "_proxies")

    def __init__(self, owners: Iterable[OwnerSite]) -> None:
        groups: list[list[OwnerSite]] = []
        single: list[OwnerSite] = []
        for group in _grouped(owners):
            if type(group[0].owner) is ModuleType and len(group) >= _MANY:
                groups.append(group)
            else:
                single += group
        super().__init__([*(site for group in groups for site in group), *single])
        self._getters = [
            (itemgetter(*(site.key for site in group)), group[0].attributes) for group in groups
        ]
        self._places = [(site.attributes, site.key) for site in single]
        self.old, self._originals = self._steps(groups, single, "old")
        self.new, self._proxies = self._steps(groups, single, "new")
        merged, items, attributes = self._originals
        self.kept = [self.old, *self.old, merged, items, attributes, *items, *attributes]
        self.kept += [functions for _, functions in merged]

    @staticmethod
    def _steps(
        groups: list[list[OwnerSite]], single: list[OwnerSite], which: str
    ) -> tuple[list[Any], tuple[list[Any], ...]]:
        """What is read when all is written, and how it is: what to merge into modules' dicts, what
        to set in others, and what to set in classes, which have to know of it."""
        dicts = [{site.key: getattr(site, which) for site in group} for group in groups]
        value = [tuple(functions.values()) for functions in dicts]
        value += [getattr(site, which) for site in single]
        merged = [
            (group[0].attributes, functions)
            for group, functions in zip(groups, dicts)  # noqa: B905 - they are of one length
        ]
        items, attributes = [], []
        for site in single:
            if type(site.owner) is type:
                attributes.append((site.owner, site.key, getattr(site, which)))
            else:
                items.append((site.attributes, site.key, getattr(site, which)))
        return value, (merged, items, attributes)

    def read(self, holder: Any) -> Any:
        try:
            value = [get(namespace) for get, namespace in self._getters]
            value += [place[key] for place, key in self._places]
        except KeyError:
            return None
        return value

    def write(self, holder: Any, value: Any) -> None:
        merged, items, attributes = self._proxies if value is self.new else self._originals
        for namespace, functions in merged:
            namespace.update(functions)
        for namespace, key, function in items:
            namespace[key] = function
        for owner, key, function in attributes:
            setattr(owner, key, function)


def _grouped(sites: Iterable[Any]) -> Iterable[list[Any]]:
    groups: dict[int, list[Any]] = {}
    for site in sites:
        groups.setdefault(id(site.holder()), []).append(site)
    return groups.values()


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
            for group in _grouped(self.sites)
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

    __slots__ = ("_keys", "_modules")

    def __init__(self, captured: Iterable[ModuleSite]) -> None:
        super().__init__(captured)
        self._modules = [site.refer for site in self.sites]
        self._keys = [site.key for site in self.sites]
        self.old = [site.old for site in self.sites]
        self.new = [site.new for site in self.sites]
        self.kept = [self.old]

    def holder(self) -> Any:
        """None if one of the modules is gone."""
        try:
            return [module_dict(module()) for module in self._modules]
        except TypeError:
            return None

    def one_by_one(self, holder: Any) -> Iterator[tuple[Site, Any]]:
        return zip(self.sites, holder)  # noqa: B905 - they are of one length

    def read(self, holder: Any) -> Any:
        try:
            return [namespace[key] for namespace, key in zip(holder, self._keys)]  # noqa: B905
        except KeyError:
            return None

    def write(self, holder: Any, value: Any) -> None:
        for namespace, key, function in zip(holder, self._keys, value):  # noqa: B905
            namespace[key] = function


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
