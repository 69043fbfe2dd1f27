"""The kinds of places that hold a function: how each is read and written."""

from __future__ import annotations

import functools
from operator import itemgetter
from types import ModuleType

from pycapio.patching.objects import (
    MISSING,
    WRAPPERS,
    class_dict,
    instance_dict,
    label,
    module_dict,
    own_attribute,
)
from pycapio.patching.references import nothing
from pycapio.patching.replacement import homes

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableSet
    from typing import Any


class Site:
    """A place that holds an original.

    Between activations nothing is kept alive for it, so far as weak references allow.
    """

    __slots__ = ("_refer", "key", "new", "old")

    def __init__(self, refer: Callable[[], Any], key: Any, old: Any, new: Any) -> None:
        self._refer = refer
        self.key = key
        self.old = old
        self.new = new

    def holder(self) -> Any:
        """The object to read and write, or None if it is gone."""
        return self._refer()

    def read(self, holder: Any) -> Any:
        raise NotImplementedError

    def write(self, holder: Any, value: Any) -> None:
        raise NotImplementedError

    def restore(self, holder: Any, before: Any) -> None:
        """Give back what was there, unless somebody else has put something there meanwhile."""
        if self.read(holder) is self.new:
            self.write(holder, before)

    def __str__(self) -> str:
        return f"{type(self).__name__.strip('_')} {self.key!r}"


class OwnerSite(Site):
    """The attribute that a Replacement names."""

    __slots__ = ("_attributes", "owner")

    def __init__(self, owner: Any, name: str, old: Any, new: Any) -> None:
        super().__init__(nothing, name, old, new)
        self.owner = owner
        # A view of them, for most owners: that halves the time of entering.
        self._attributes: Any = None
        if issubclass(type(owner), ModuleType):
            self._attributes = module_dict(owner)
        elif issubclass(type(owner), type):
            self._attributes = class_dict(owner)

    @property
    def proxy(self) -> Any:
        return self.new.__func__ if type(self.new) in WRAPPERS else self.new

    def read(self, holder: Any) -> Any:
        if self._attributes is not None:
            return self._attributes.get(self.key, MISSING)
        return own_attribute(holder, self.key)

    def write(self, holder: Any, value: Any) -> None:
        if value is MISSING:
            delattr(holder, self.key)
        else:
            setattr(holder, self.key, value)

    def __str__(self) -> str:
        return f"{label(self.owner)}.{self.key}"


class NamesSite(Site):
    """The names of proxies that are Python functions, which pickle goes by: those of the originals
    while they are in place, and afterwards their own, for whoever has captured one."""

    __slots__ = ("_homes",)

    def __init__(self, proxies: list[Any]) -> None:
        super().__init__(nothing, None, None, [(p.__module__, p.__qualname__) for p in proxies])
        self._homes = [homes[proxy] for proxy in proxies]

    def read(self, holder: Any) -> Any:
        return self._homes

    def write(self, holder: Any, value: Any) -> None:
        for proxy, (module, qualname) in zip(holder, value):  # noqa: B905
            proxy.__module__, proxy.__qualname__ = module, qualname

    def restore(self, holder: Any, before: Any) -> None:
        self.write(holder, before)

    def __str__(self) -> str:
        return "the names of proxies"


class GlobalsSite(Site):
    """Two or more attributes of one module that Replacements name, at once. A module runs no code
    when they are set, so nothing can fail half-way but by an interrupt, which restore() bears.

    The value is a tuple. Functions are equal only to themselves, so tuples of them are compared,
    and the dicts that stand for the two usual ones are merged, without a step of Python for each.
    """

    __slots__ = ("_get", "_keys", "_name", "_originals", "_proxies")

    def __init__(self, owners: list[OwnerSite]) -> None:
        old, new = (tuple(getattr(owner, name) for owner in owners) for name in ("old", "new"))
        super().__init__(nothing, None, old, new)
        self._keys = tuple(owner.key for owner in owners)
        self._get = itemgetter(*self._keys)
        self._originals = dict(zip(self._keys, old))  # noqa: B905 - they are of one length
        self._proxies = dict(zip(self._keys, new))  # noqa: B905
        self._name = label(owners[0].owner)

    @property
    def kept(self) -> dict[str, Any]:
        """The originals, which no search may take for a captured reference."""
        return self._originals

    def read(self, holder: Any) -> Any:
        try:
            return self._get(holder)
        except KeyError:
            return tuple(holder.get(key, MISSING) for key in self._keys)

    def write(self, holder: Any, value: Any) -> None:
        if value is self.new:
            holder.update(self._proxies)
        elif value is self.old:
            holder.update(self._originals)
        else:
            holder.update(zip(self._keys, value))  # noqa: B905

    def restore(self, holder: Any, before: Any) -> None:
        if before == self.old and self.read(holder) == self.new:
            self.write(holder, self.old)
            return
        for key, new, old in zip(self._keys, self.new, before):  # noqa: B905
            if holder.get(key) is new:
                if old is MISSING:
                    del holder[key]
                else:
                    holder[key] = old

    def __str__(self) -> str:
        return f"what {self._name} holds"


class MembersSite(Site):
    """Membership of proxies in one of the os.supports_* sets, each where its original is a member.
    The value holds those that join, or that joined."""

    __slots__ = ("_originals", "_pairs")

    def __init__(self, members: list[MemberSite]) -> None:
        super().__init__(nothing, None, None, frozenset(member.new for member in members))
        self._pairs = [(member.old, member.new) for member in members]
        self._originals = frozenset(member.old for member in members)

    def read(self, holder: Any) -> Any:
        if self._originals <= holder and self.new.isdisjoint(holder):
            return self.new
        return [new for old, new in self._pairs if old in holder and new not in holder]

    def write(self, holder: Any, value: Any) -> None:
        holder.update(value)

    def restore(self, holder: Any, before: Any) -> None:
        holder.difference_update(before)

    def __str__(self) -> str:
        return "membership in os.supports_*"


class MemberSite(Site):
    """Membership of a proxy in one of the os.supports_* sets, beside its original."""

    __slots__ = ("members",)

    def __init__(self, members: MutableSet[Any], old: Any, new: Any) -> None:
        super().__init__(nothing, None, old, new)
        self.members = members

    def read(self, holder: Any) -> Any:
        if self.new in holder:
            return self.new
        return self.old if self.old in holder else None

    def write(self, holder: Any, value: Any) -> None:
        if value is self.new:
            holder.add(value)
        else:
            holder.discard(self.new)


class FinderSite(Site):
    """A finder on sys.meta_path, a list that is read by whoever imports and may be exchanged.

    If it has a path_hook, that is on sys.path_hooks for as long; answers that Python remembers are
    forgotten by its forget(entries).
    """

    __slots__ = ("_hook",)

    def __init__(self, finder: Any) -> None:
        super().__init__(nothing, None, None, finder)
        self._hook = getattr(finder, "path_hook", None)

    def read(self, holder: Any) -> Any:
        return self.new if self.new in holder.meta_path else None

    def write(self, holder: Any, value: Any) -> None:
        finders, hooks = holder.meta_path, holder.path_hooks
        # An interrupt in between leaves the finder, by which the step is found to be undone.
        if value is None:
            if self._hook in hooks:
                hooks.remove(self._hook)
                self.new.forget(holder.path_importer_cache)
            finders.remove(self.new)
            return
        place = 0
        for index, finder in enumerate(finders):
            if getattr(finder, "__name__", None) == "PathFinder":
                place = index
                break
        finders.insert(place, value)
        if self._hook is not None:
            hooks.insert(0, self._hook)
            self.new.forget(holder.path_importer_cache)

    def __str__(self) -> str:
        return "sys.meta_path"


class ModuleSite(Site):
    """A global variable. What refers is to the module, what is read and written is its dict."""

    __slots__ = ()

    def holder(self) -> Any:
        module = self._refer()
        return None if module is None else module_dict(module)

    def read(self, holder: Any) -> Any:
        return holder.get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        holder[self.key] = value


class ClassSite(Site):
    """A class attribute. Metaclasses (enum's) may forbid what type itself allows."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return class_dict(holder).get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        type.__setattr__(holder, self.key, value)


class DictSite(Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return dict.get(holder, self.key)

    def write(self, holder: Any, value: Any) -> None:
        dict.__setitem__(holder, self.key, value)


class InstanceSite(Site):
    """An instance's attribute, or one of a function."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        attributes = instance_dict(holder)
        return None if attributes is None else attributes.get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        attributes = instance_dict(holder)
        if attributes is not None:
            attributes[self.key] = value


class SlotSite(Site):
    """An attribute in __slots__; the key is its descriptor."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        try:
            return self.key.__get__(holder)
        except AttributeError:
            return None

    def write(self, holder: Any, value: Any) -> None:
        self.key.__set__(holder, value)


class ListSite(Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return list.__getitem__(holder, self.key) if self.key < list.__len__(holder) else None

    def write(self, holder: Any, value: Any) -> None:
        list.__setitem__(holder, self.key, value)


class CellSite(Site):
    """A variable of an enclosing function."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None

    def write(self, holder: Any, value: Any) -> None:
        holder.cell_contents = value


class DefaultsSite(Site):
    """All positional defaults of a function, a tuple."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.__defaults__

    def write(self, holder: Any, value: Any) -> None:
        holder.__defaults__ = value


class KwdefaultSite(Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return (holder.__kwdefaults__ or {}).get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        holder.__kwdefaults__[self.key] = value


class PartialFunctionSite(Site):
    """The function of a functools.partial, which only __setstate__ can exchange."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.func

    def write(self, holder: Any, value: Any) -> None:
        state = (value, holder.args, holder.keywords, instance_dict(holder))
        functools.partial.__setstate__(holder, state)  # type: ignore[attr-defined]


class PartialArgumentsSite(Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.args

    def write(self, holder: Any, value: Any) -> None:
        state = (holder.func, value, holder.keywords, instance_dict(holder))
        functools.partial.__setstate__(holder, state)  # type: ignore[attr-defined]


def substitute(raw: Any, proxy: Any, in_class: bool) -> Any:
    """The value to put where `raw` was, so that attribute access binds as it did."""
    if type(raw) in WRAPPERS:
        return type(raw)(proxy)
    # A builtin in a class does not become a method; a Python function would.
    if in_class and not hasattr(type(raw), "__get__") and hasattr(type(proxy), "__get__"):
        return staticmethod(proxy)
    return proxy
