"""Finding the places that captured an original."""

from __future__ import annotations

import functools
import gc
import sys
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

from pycapio.patching.batches import Batch
from pycapio.patching.objects import (
    MISSING,
    WRAPPERS,
    class_dict,
    class_mro,
    instance_dict,
    is_of,
    module_dict,
    module_name,
)
from pycapio.patching.plan import Plan
from pycapio.patching.references import Box, reference
from pycapio.patching.replacement import Unbound
from pycapio.patching.sites import (
    CellSite,
    ClassSite,
    DefaultsSite,
    DictSite,
    InstanceSite,
    KwdefaultSite,
    ListSite,
    ModuleSite,
    PartialArgumentsSite,
    PartialFunctionSite,
    Site,
    SlotSite,
    substitute,
)

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

# The import system calls these modules directly and must go on doing so.
IMPORT_SYSTEM = (
    "posix",
    "nt",
    "_io",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "importlib._bootstrap",
    "importlib._bootstrap_external",
    "zipimport",
)


_NO, _YES, _ASK = range(3)
_UNSEEN = (FrameType, GeneratorType, CoroutineType, AsyncGeneratorType, ModuleType, MethodType)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_UNCHANGEABLE = (tuple, set, frozenset, BuiltinFunctionType, *WRAPPERS)


class Search:
    """One search for references to the originals."""

    def __init__(
        self,
        modules: dict[str, ModuleType],
        plan: Plan,
        exclude: tuple[str, ...],
        supports: tuple[Any, ...],
        undo: list[Any],
        batches: Iterable[Batch],
    ) -> None:
        self._plan = plan
        self._proxies = plan.proxies
        self._exclude = exclude
        self._supports = {id(members) for members in supports}
        self._references: dict[int, Callable[[], Any]] = {}
        self.unreached: set[str] = set()
        self._namespaces: dict[int, tuple[str, Any]] = {}
        self._own: dict[int, Any] = {}
        roots: list[Any] = []
        for name, module in modules.items():
            # Lazily loaded modules must not be woken, so their class is not asked.
            if issubclass(type(module), ModuleType):
                namespace = module_dict(module)
                self._namespaces.setdefault(id(namespace), (name, module))
                if (module_name(name, namespace) + ".").startswith(exclude):
                    self._own[id(namespace)] = namespace
                    if name not in IMPORT_SYSTEM:
                        roots.append(namespace)
        for owner in plan.owners:
            proxy = owner.proxy
            roots.extend(_parts(proxy))
            if type(proxy) is Unbound:
                roots.extend(_parts(proxy.func))
        self._protected = dict(self._own)
        self._protected.update((id(part), part) for part in (undo, *undo))
        self._protected.update((id(was), was) for _, _, was in undo if type(was) is list)
        for batch in batches:
            self._protected.update((id(part), part) for part in batch.kept)
        for part in self._belonging(roots, self._own, exclude):
            self._protected[id(part)] = part

    def in_modules(
        self, modules: Iterable[tuple[str, Any]], limit: int = sys.maxsize
    ) -> list[Site] | None:
        """Look through what belongs to the given modules, unless it exceeds `limit` objects."""
        namespaces: dict[int, Any] = {}
        names: list[str] = []
        for name, module in modules:
            if issubclass(type(module), ModuleType):
                namespace = module_dict(module)
                if id(namespace) not in self._own:
                    namespaces[id(namespace)] = namespace
                    names.append(name + ".")
        sites: list[Site] = []
        for part in self._belonging(list(namespaces.values()), namespaces, tuple(names)):
            if type(part) in _CONTAINERS:  # a class derived from them may run code of its own
                limit -= len(part)
            limit -= 1
            if limit < 0:
                return None
            if id(part) not in self._protected:
                sites.extend(self._sites(part))
        return sites

    def in_heap(self) -> list[Site]:
        """Look through everything that the garbage collector knows."""
        sites: list[Site] = []
        pending: dict[int, Any] = {}
        for part in gc.get_referrers(*self._originals()):
            kind = type(part)
            owner = part
            if id(part) in self._supports or self._is_ignored(part, kind):
                continue
            if kind is dict and id(part) not in self._namespaces:
                if self._is_excluded_namespace(part):
                    continue
                owner = self._class_with(part)
            elif kind in (tuple, set, frozenset, CellType, *WRAPPERS):
                owner = None
            if owner is None:
                pending[id(part)] = part
            else:
                sites.extend(self._sites(owner))
        # Who owns a dict or a tuple decides how it is replaced. A class behind a static method
        # and a function behind a cell are two steps away.
        step = pending
        for _ in range(2):
            if not step:
                break
            step = self._find_owners(step, pending, sites)
        for part in pending.values():
            if type(part) in (dict, CellType):
                sites.extend(self._sites(part))
        return sites

    def _is_ignored(self, part: Any, kind: type) -> bool:
        return id(part) in self._protected or issubclass(kind, _UNSEEN)

    def _originals(self) -> Iterator[Any]:
        return (part for part in self._plan.originals if id(part) in self._proxies)

    def _find_owners(
        self, step: dict[int, Any], pending: dict[int, Any], sites: list[Site]
    ) -> dict[int, Any]:
        further: dict[int, Any] = {}
        settled: set[int] = set()
        for holder in gc.get_referrers(*step.values()):
            kind = type(holder)
            if holder is step or self._is_ignored(holder, kind):
                continue
            if kind is dict:
                self._look_into_dict(holder, step, further, sites)
            elif kind is tuple:
                if any(type(part) is CellType and id(part) in step for part in holder):
                    further[id(holder)] = holder
            elif not issubclass(kind, _CONTAINERS):
                settled.update(self._owned_by(holder, kind, step))
                if kind is not FunctionType or id(holder.__globals__) not in self._own:
                    sites.extend(self._sites(holder))
        for number in settled:
            pending.pop(number, None)
        return further

    def _owned_by(self, holder: Any, kind: type, step: dict[int, Any]) -> set[int]:
        """What is reached through its owner, and so need not be kept by itself."""
        if kind is FunctionType:
            owned = {id(part) for part in gc.get_referents(holder)}
            if id(holder.__globals__) in self._own:
                owned.update(id(cell) for cell in holder.__closure__ or ())
            return owned
        parts = [part for part in gc.get_referents(holder) if id(part) in step]
        if not issubclass(kind, type):
            attributes = instance_dict(holder) if parts else None
            parts = [part for part in parts if part is attributes]
        return {id(part) for part in parts}

    def _look_into_dict(
        self,
        holder: dict[Any, Any],
        step: dict[int, Any],
        further: dict[int, Any],
        sites: list[Site],
    ) -> None:
        known = self._namespaces.get(id(holder))
        for key, value in list(holder.items()):
            if id(value) not in step:
                continue
            if type(value) in WRAPPERS:
                owner = self._class_with(holder)
                if owner is not None or known is not None:
                    sites.extend(self._sites(holder if owner is None else owner))
                else:
                    further[id(holder)] = holder
            elif known is not None and type(value) in (tuple, set, frozenset):
                self.unreached.add(f"{known[0]}.{key}")

    def _is_excluded_namespace(self, part: dict[Any, Any]) -> bool:
        """Whether this is the dict of an excluded module that is not in sys.modules (any more)."""
        name = part.get("__name__")
        return "__spec__" in part and type(name) is str and (name + ".").startswith(self._exclude)

    def _class_with(self, part: dict[Any, Any]) -> Any:
        """The class on module level with this dict, which saves a pass to find it."""
        module = sys.modules.get(name) if type(name := part.get("__module__")) is str else None
        if module is None or not issubclass(type(module), ModuleType):
            return None
        for candidate in list(module_dict(module).values()):
            if issubclass(type(candidate), type) and any(
                part is own for own in gc.get_referents(candidate)
            ):
                return candidate
        return None

    def _belonging(
        self, roots: list[Any], namespaces: dict[int, Any], names: tuple[str, ...]
    ) -> Iterator[Any]:
        """Everything below `roots` that is a container or belongs to the given modules."""
        seen: dict[int, Any] = {}
        verdicts: dict[type, int] = {}
        stack = roots
        while stack:
            part = stack.pop()
            kind = type(part)
            # Most of what a module holds is of a few kinds, which are judged once.
            verdict = verdicts.get(kind)
            if verdict is None:
                verdict = verdicts[kind] = self._judge(kind, names)
            if verdict == _NO:
                continue
            number = id(part)
            if number in seen:
                continue
            if verdict == _ASK and not self._is_part(part, kind, namespaces, names):
                continue
            seen[number] = part
            # Its parts are listed only if the receiver wants to go on.
            yield part
            stack.extend(_parts(part))

    def _judge(self, kind: type, names: tuple[str, ...]) -> int:
        if kind is dict or kind is FunctionType or issubclass(kind, type):
            return _ASK
        if issubclass(kind, _UNSEEN):
            return _NO
        if issubclass(kind, (*_CONTAINERS, *WRAPPERS, CellType, functools.partial)):
            return _YES
        return _YES if is_of(kind, names) else _NO

    def _is_part(
        self, part: Any, kind: type, namespaces: dict[int, Any], names: tuple[str, ...]
    ) -> bool:
        if kind is dict:
            return id(part) in namespaces or id(part) not in self._namespaces
        if kind is FunctionType:
            return id(part.__globals__) in namespaces
        return is_of(part, names)

    def _sites(self, part: Any) -> Iterator[Site]:
        """The places inside one object that hold an original."""
        kind = type(part)
        if issubclass(kind, dict):
            known = self._namespaces.get(id(part))
            if known is None:
                yield from self._in_mapping(part, part, DictSite)
            else:
                yield from self._in_mapping(known[1], part, ModuleSite)
        elif issubclass(kind, list):
            yield from self._in_list(part)
        elif kind is CellType:
            yield from self._in_cell(part)
        elif kind is FunctionType:
            yield from self._in_function(part)
        elif issubclass(kind, type):
            if not is_of(part, self._exclude):
                yield from self._in_class(part)
        elif kind not in _UNCHANGEABLE and not is_of(kind, self._exclude):
            if issubclass(kind, functools.partial):
                yield from self._in_partial(part)
            yield from self._in_instance(part, kind)

    def _in_list(self, entries: Any) -> Iterator[Site]:
        for index, value in enumerate(list.copy(entries)):
            proxy = self._proxies.get(id(value))
            if proxy is not None:
                yield ListSite(self._refer(entries), index, value, proxy)

    def _in_cell(self, cell: Any) -> Iterator[Site]:
        try:
            value = cell.cell_contents
        except ValueError:  # empty
            return
        proxy = self._proxies.get(id(value))
        if proxy is not None:
            yield CellSite(self._refer(cell), None, value, proxy)

    def _in_mapping(self, holder: Any, entries: Any, site: type[Site]) -> Iterator[Site]:
        for key, value in list(dict.items(entries)):
            new = self._new_value(value, False)
            if new is not MISSING:
                yield site(self._refer(holder), key, value, new)

    def _in_class(self, owner: Any) -> Iterator[Site]:
        for name, value in list(class_dict(owner).items()):
            new = self._new_value(value, True)
            if new is not MISSING:
                yield ClassSite(self._refer(owner), name, value, new)

    def _in_function(self, function: Any) -> Iterator[Site]:
        defaults = function.__defaults__
        if defaults is not None and any(id(value) in self._proxies for value in defaults):
            yield DefaultsSite(self._refer(function), None, defaults, self._exchange(defaults))
        if function.__kwdefaults__:
            yield from self._in_mapping(function, function.__kwdefaults__, KwdefaultSite)
        yield from self._in_mapping(function, function.__dict__, InstanceSite)

    def _in_partial(self, part: Any) -> Iterator[Site]:
        proxy = self._proxies.get(id(part.func))
        if proxy is not None:
            yield PartialFunctionSite(self._refer(part), None, part.func, proxy)
        if any(id(value) in self._proxies for value in part.args):
            arguments = self._exchange(part.args)
            yield PartialArgumentsSite(self._refer(part), None, part.args, arguments)

    def _in_instance(self, part: Any, kind: type) -> Iterator[Site]:
        attributes = instance_dict(part)
        if attributes is not None:
            yield from self._in_mapping(part, attributes, InstanceSite)
        for base in class_mro(kind):
            # Members of classes written in C have no __slots__ and are their own business.
            if "__slots__" in class_dict(base):
                for member in list(class_dict(base).values()):
                    if type(member) is MemberDescriptorType:
                        try:
                            value = member.__get__(part)
                        except AttributeError:  # unset
                            continue
                        proxy = self._proxies.get(id(value))
                        if proxy is not None:
                            yield SlotSite(self._refer(part), member, value, proxy)

    def _new_value(self, value: Any, in_class: bool) -> Any:
        function = value.__func__ if type(value) in WRAPPERS else value
        proxy = self._proxies.get(id(function))
        return MISSING if proxy is None else substitute(value, proxy, in_class)

    def _exchange(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self._proxies.get(id(value), value) for value in values)

    def _refer(self, part: Any) -> Callable[[], Any]:
        # Places in one container share their box, which counts references.
        found = self._references.get(id(part))
        if found is None:
            found = self._references[id(part)] = reference(part, Box)
        return found


def _parts(part: Any) -> Iterable[Any]:
    """What an object holds, without the module that it comes from."""
    kind = type(part)
    if kind is FunctionType:
        return (part.__closure__, part.__defaults__, part.__kwdefaults__, part.__dict__)
    if issubclass(kind, type):
        return list(class_dict(part).values())
    return gc.get_referents(part)
