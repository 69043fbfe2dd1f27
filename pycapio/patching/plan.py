"""What a list of replacements means in this process."""

from __future__ import annotations

from types import FunctionType, ModuleType

from pycapio.patching.batches import Batch, MembersBatch, NamesSite, OwnersBatch
from pycapio.patching.objects import MISSING, WRAPPERS, label, own_attribute, read_attribute
from pycapio.patching.replacement import Replacement, homes
from pycapio.patching.sites import MemberSite, OwnerSite, Site, substitute

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, MutableSet
    from typing import Any


class Plan:
    """What the replacements mean in this process.

    Originals are kept in one tuple and otherwise known by id, or a search would meet them here.
    """

    __slots__ = ("batches", "by_proxy", "originals", "owners", "proxies", "singles")

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
        members = [
            MemberSite(those, original, chosen[id(original)])
            for those in supports
            for original in originals
            if original in those
        ]
        # Nearly all of it can be written at once.
        self.batches: tuple[Batch, ...] = (
            OwnersBatch(owner for owner in owners if _is_plain(owner)),
            MembersBatch(member for member in members if type(member.members) is set),
        )
        # Owners come before members: whoever imports from now on captures a proxy.
        self.singles: tuple[Site, ...] = (
            NamesSite(_named_twice(owners)),
            *(owner for owner in owners if not _is_plain(owner)),
            *(member for member in members if type(member.members) is not set),
        )


def _is_plain(owner: OwnerSite) -> bool:
    """Whether setting the attribute runs no code of anybody's, and gives back what was there."""
    kind = type(owner.owner)
    return (kind is ModuleType or kind is type) and owner.attributes.get(owner.key) is owner.old


def _named_twice(owners: Iterable[OwnerSite]) -> Iterable[Any]:
    """The proxies that are Python functions. Of methods, and of what is not public, nobody keeps a
    pickle."""
    return dict.fromkeys(
        owner.proxy
        for owner in owners
        if type(owner.owner) is ModuleType
        and owner.key[:1] != "_"
        and type(owner.proxy) is FunctionType
        and owner.proxy in homes
    )
