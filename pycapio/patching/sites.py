"""The kinds of places that hold a function: how each is read and written."""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
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

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableSet
    from typing import Any


class Site(ABC):
    """A place that holds an original.

    Between activations nothing is kept alive for it, so far as weak references allow.
    """

    __slots__ = ("refer", "key", "new", "old")

    def __init__(self, refer: Callable[[], Any], key: Any, old: Any, new: Any) -> None:
        self.refer = refer
        self.key = key
        self.old = old
        self.new = new

    def holder(self) -> Any:
        """The object to read and write, or None if it is gone."""
        return self.refer()

    @abstractmethod
    def read(self, holder: Any) -> Any:
        """What it holds."""

    @abstractmethod
    def write(self, holder: Any, value: Any) -> None:
        """Makes it hold that."""

    def fits(self, before: Any) -> bool:
        """Whether it is to be replaced, now that it holds `before`."""
        return before is self.old

    def restore(self, holder: Any, before: Any) -> None:
        """Give back what was there, unless somebody else has put something there meanwhile."""
        if self.read(holder) is self.new:
            self.write(holder, before)

    def __str__(self) -> str:
        return f"{type(self).__name__.strip('_')} {self.key!r}"


class OwnerSite(Site):
    """The attribute that a Replacement names."""

    __slots__ = ("attributes", "owner")

    def __init__(self, owner: Any, name: str, old: Any, new: Any) -> None:
        super().__init__(nothing, name, old, new)
        self.owner = owner
        # A view of them, for most owners: that halves the time of entering.
        self.attributes: Any = None
        if issubclass(type(owner), ModuleType):
            self.attributes = module_dict(owner)
        elif issubclass(type(owner), type):
            self.attributes = class_dict(owner)

    def holder(self) -> Any:
        return self.owner

    @property
    def proxy(self) -> Any:
        return self.new.__func__ if type(self.new) in WRAPPERS else self.new

    def read(self, holder: Any) -> Any:
        if self.attributes is not None:
            return self.attributes.get(self.key, MISSING)
        return own_attribute(holder, self.key)

    def write(self, holder: Any, value: Any) -> None:
        if value is MISSING:
            delattr(holder, self.key)
        else:
            setattr(holder, self.key, value)

    def fits(self, before: Any) -> bool:
        return before is not self.new  # whoever else has replaced it gets his own back

    def __str__(self) -> str:
        return f"{label(self.owner)}.{self.key}"


class MemberSite(Site):
    """Membership of a proxy in one of the os.supports_* sets, beside its original."""

    __slots__ = ("members",)

    def __init__(self, members: MutableSet[Any], old: Any, new: Any) -> None:
        super().__init__(nothing, None, old, new)
        self.members = members

    def holder(self) -> Any:
        return self.members

    def read(self, holder: Any) -> Any:
        if self.new in holder:
            return self.new
        return self.old if self.old in holder else None

    def write(self, holder: Any, value: Any) -> None:
        if value is self.new:
            holder.add(value)
        else:
            holder.discard(self.new)

    def __str__(self) -> str:
        return f"membership of {label(self.old)} in os.supports_*"


class FinderSite(Site):
    """A finder on sys.meta_path, a list that is read by whoever imports and may be exchanged.

    If it has a path_hook, that is on sys.path_hooks for as long; answers that Python remembers are
    forgotten by its forget(entries).
    """

    __slots__ = ("_hook", "_known", "_place")

    def __init__(self, finder: Any) -> None:
        super().__init__(nothing, None, None, finder)
        self._hook = getattr(finder, "path_hook", None)
        # The finders without ours, by their ids, and its place among them.
        self._known: list[int] = []
        self._place = 0

    def holder(self) -> Any:
        return sys

    def read(self, holder: Any) -> Any:
        finders, place = holder.meta_path, self._place
        if finders[place : place + 1] == [self.new]:
            return self.new
        if list(map(id, finders)) == self._known:
            return None
        return self.new if self.new in finders else None

    def write(self, holder: Any, value: Any) -> None:
        finders, hooks = holder.meta_path, holder.path_hooks
        # An interrupt in between leaves the finder, by which the step is found to be undone.
        if value is None:
            if self._hook in hooks:
                hooks.remove(self._hook)
                self.new.forget(holder.path_importer_cache)
            finders.remove(self.new)
            return
        known = list(map(id, finders))
        if known != self._known:
            names = [getattr(finder, "__name__", None) for finder in finders]
            self._place = names.index("PathFinder") if "PathFinder" in names else 0
            self._known = known
        finders.insert(self._place, value)
        if self._hook is not None:
            hooks.insert(0, self._hook)
            self.new.forget(holder.path_importer_cache)

    def __str__(self) -> str:
        return "sys.meta_path"


class ModuleSite(Site):
    """A global variable. What refers is to the module, what is read and written is its dict."""

    __slots__ = ()

    def holder(self) -> Any:
        module = self.refer()
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
