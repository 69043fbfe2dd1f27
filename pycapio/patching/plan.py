"""What a list of replacements means in this process."""

from __future__ import annotations

from types import FunctionType, ModuleType

from pycapio.patching.objects import (
    MISSING,
    WRAPPERS,
    label,
    module_dict,
    own_attribute,
    read_attribute,
)
from pycapio.patching.replacement import Replacement, homes
from pycapio.patching.sites import (
    GlobalsSite,
    MemberSite,
    MembersSite,
    NamesSite,
    OwnerSite,
    substitute,
)

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSet
    from typing import Any


class Plan:
    """What the replacements mean in this process.

    Originals are kept in one tuple and otherwise known by id, or a search would meet them here.
    """

    __slots__ = (
        "at_once",
        "by_proxy",
        "joining",
        "memberships",
        "names",
        "originals",
        "owners",
        "proxies",
        "single_owners",
    )

    def __init__(
        self, replacements: Iterable[Replacement], supports: Iterable[MutableSet[Any]]
    ) -> None:
        owners: list[OwnerSite] = []
        originals: list[Any] = []
        chosen: dict[int, Any] = {}
        defined: set[int] = set()
        self.by_proxy: dict[int, int] = {}
        for item in replacements:
            raw = read_attribute(item.owner, item.name)
            if raw is MISSING:
                if item.required:
                    raise AttributeError(
                        f"pycapio: {label(item.owner)} has no {item.name!r} to replace; this "
                        "Python lacks it or another library removed it"
                    )
                continue
            original = raw.__func__ if type(raw) in WRAPPERS else raw
            if original is item.proxy:
                continue
            if raw is own_attribute(item.owner, item.name):
                defined.add(id(original))
            if id(original) not in chosen:
                chosen[id(original)] = item.proxy
                self.by_proxy[id(item.proxy)] = len(originals)
                originals.append(original)
            elif chosen[id(original)] is not item.proxy:
                raise ValueError(
                    f"pycapio: {label(item.owner)}.{item.name} was given two different proxies; "
                    "use one for each original"
                )
            in_class = issubclass(type(item.owner), type)
            new = substitute(raw, item.proxy, in_class)
            owners.append(OwnerSite(item.owner, item.name, raw, new))
        self.owners = tuple(owners)
        self.originals = tuple(originals)
        # Only the slot of a class is replaced, for its instances and subclasses refer to it; and
        # that of an inherited attribute, which the base class shall keep.
        self.proxies = {
            id(original): chosen[id(original)]
            for original in originals
            if id(original) in defined and not issubclass(type(original), type)
        }
        # Of methods, and of what is not public, nobody keeps a pickle.
        named_twice = [
            owner.proxy
            for owner in owners
            if type(owner.owner) is ModuleType
            and owner.key[:1] != "_"
            and type(owner.proxy) is FunctionType
            and owner.proxy in homes
        ]
        named_twice = list(dict.fromkeys(named_twice))
        self.names = (NamesSite(named_twice), named_twice)
        # What can be written at once is: most of it, and entering is quicker by half.
        modules: dict[int, list[OwnerSite]] = {}
        sets: dict[int, list[MemberSite]] = {}
        single_owners: list[OwnerSite] = []
        single_members: list[MemberSite] = []
        for owner in owners:
            if type(owner.owner) is ModuleType:
                modules.setdefault(id(owner.owner), []).append(owner)
            else:
                single_owners.append(owner)
        for members in supports:
            for original in originals:
                if original in members:
                    site = MemberSite(members, original, chosen[id(original)])
                    if type(members) is set:
                        sets.setdefault(id(members), []).append(site)
                    else:
                        single_members.append(site)
        # Not what stands alone.
        single_owners += [named[0] for named in modules.values() if len(named) == 1]
        self.at_once = tuple(
            (GlobalsSite(named), module_dict(named[0].owner))
            for named in modules.values()
            if len(named) > 1
        )
        self.joining = tuple((MembersSite(sites), sites[0].members) for sites in sets.values())
        self.single_owners = tuple(single_owners)
        self.memberships = tuple(single_members)
