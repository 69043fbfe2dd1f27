"""Replaces functions of the standard library by proxies, and gives back exactly what was there.

This module knows nothing of CAPIO: it works on a list of `Replacement`. A `Patcher` counts its
users; the first one patches, the last one restores.

*What is replaced.* The named attribute of each owner, and every other reference to the same
function that somebody captured earlier: `from os import stat as s`, class attributes, static and
class methods, defaults, keyword defaults, closures, dicts, lists, `functools.partial`, attributes
of instances. They are found by identity, never by name. What cannot be rebound (a tuple, a set, a
key of a dict, a local variable of a running function) keeps the original; those that a module
holds are named by `Patcher.unreached`. Proxies that are classes replace their slot only.

*What is left alone.* Modules named by `exclude` with all that belongs to them, the proxies
themselves, and the C modules behind `os` and `io`: the import system works with those, and so a
search for modules never meets a proxy.

*Restoring* compares and swaps: a slot that somebody else changed in the meantime stays as it is.
What was captured while the proxies were in place stays a proxy, which must then act as the
original.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import weakref
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSet
    from typing import Any, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])

__all__ = ["Patcher", "Replacement", "proxy_for"]

# The import system calls these modules directly and must go on doing so.
_IMPORT_SYSTEM = (
    "posix",
    "nt",
    "_io",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "importlib._bootstrap",
    "importlib._bootstrap_external",
    "zipimport",
)
# Where the functions of C modules are found by name.
_PUBLIC_MODULES = {"posix": "os", "nt": "os", "_io": "io"}
# From so many new modules on, one pass over the heap is quicker than walking through each.
_FEW_MODULES = 12
# The same for the number of objects that belong to them.
_FEW_OBJECTS = 20_000
# gc.get_referrers does not see frozen objects. CPython 3.12 freezes a few hundred by itself.
_FROZEN_BY_INTERPRETER = 1000

_NO, _YES, _ASK = range(3)
_MISSING: Any = object()
_UNSEEN = (FrameType, GeneratorType, CoroutineType, AsyncGeneratorType, ModuleType, MethodType)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_WRAPPERS = (staticmethod, classmethod)
_UNCHANGEABLE = (tuple, set, frozenset, BuiltinFunctionType, *_WRAPPERS)
_class_dict: Callable[[Any], Any] = vars(type)["__dict__"].__get__
_class_mro: Callable[[Any], tuple[Any, ...]] = vars(type)["__mro__"].__get__
_module_dict: Callable[[Any], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__


class Replacement:
    """One function to replace: the attribute `name` of `owner`, a module or a class.

    The original is whatever `owner` holds at the first activation. With `required=False` an owner
    that lacks the name is passed over (`os.listxattr` does not exist everywhere).
    """

    __slots__ = ("name", "owner", "proxy", "required")

    def __init__(
        self, owner: Any, name: str, proxy: Callable[..., Any], required: bool = True
    ) -> None:
        self.owner = owner
        self.name = name
        self.proxy = proxy
        self.required = required

    def __repr__(self) -> str:
        return f"Replacement({_label(self.owner)}.{self.name})"


def proxy_for(
    original: Callable[..., Any], *, module: str | None = None, qualname: str | None = None
) -> Callable[[_F], _F]:
    """Decorate a proxy so that it presents itself as `original`.

    Names, documentation and `inspect.signature` become those of the original. `__module__` is the
    public module of the original (`os`, where CPython says `posix`), so that pickle finds the
    proxy there while it is in place, and whoever loads the pickle gets what `os` holds then. A
    proxy that must also be pickled after it was taken out needs a `module` and a `qualname` under
    which it can always be imported.

    The proxy of a function written in C is wrapped, because such a function does not become a
    method when a class holds it (`open = io.open` in a class body), and a Python function would.
    """

    def decorate(function: _F) -> _F:
        proxy: Any = function if hasattr(type(original), "__get__") else _Unbound(function)
        # __wrapped__ is what inspect.signature follows, text signatures included.
        functools.update_wrapper(proxy, original)
        named = module or getattr(original, "__module__", None)
        proxy.__module__ = _PUBLIC_MODULES.get(named, named) if named else proxy.__module__
        if qualname is not None:
            proxy.__qualname__ = qualname
        if not hasattr(original, "__annotations__"):
            proxy.__annotations__ = {}
        return proxy  # type: ignore[no-any-return]

    return decorate


class _Unbound(functools.partial):  # type: ignore[type-arg]
    """A function that class attributes do not bind; partial's call is the quickest there is."""

    __slots__ = ()
    __qualname__: str

    if sys.version_info >= (3, 13):  # where partial warns that it will bind, and then does

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            return self

    def __repr__(self) -> str:
        return f"<function {self.__qualname__} at {id(self):#x}>"

    def __reduce__(self) -> Any:
        return self.__qualname__


class Patcher:
    """Puts a list of replacements in place for as long as it has users.

    Args:
        replacements: What to replace. One original has one proxy, wherever it is replaced.
        supports: Sets in which membership of a function says what it can do. The proxy joins
            wherever its original is a member. By default those of `os`.
        finder: A finder that is on `sys.meta_path`, before the path finder, meanwhile.
        exclude: Names of modules that keep their originals, together with their submodules,
            classes, functions and containers. The modules of the proxies belong here.

    Methods may be called from any thread, from finalizers too. No lock is held while something is
    being replaced or restored; threads that want to enter wait until it is complete.
    """

    def __init__(
        self,
        replacements: Iterable[Replacement],
        *,
        supports: Iterable[MutableSet[Any]] | None = None,
        finder: Any = None,
        exclude: Iterable[str] = (),
    ) -> None:
        self._replacements = tuple(replacements)
        self._finder = None if finder is None else _FinderSite(finder)
        self._supports = tuple(_supports_of_os() if supports is None else supports)
        self._exclude = tuple(f"{name}." for name in (*_IMPORT_SYSTEM, __name__, *exclude))
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._users = 0
        self._active = False
        self._pinned = False
        self._busy: int | None = None  # the thread that is patching or restoring
        self._undo: list[tuple[_Site, Any, Any]] = []
        self._plan: _Plan | None = None
        self._captured: list[_Site] = []
        self._known: dict[int, Callable[[], Any]] = {}
        self._newest: tuple[int, str, Callable[[], Any]] | None = None
        self._unreached: tuple[str, ...] = ()
        _patchers.add(self)

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """What it replaces."""
        return self._replacements

    @property
    def active(self) -> bool:
        """Whether the proxies are in place."""
        return self._active

    @property
    def users(self) -> int:
        """How many acquisitions have not been released."""
        return self._users

    @property
    def unreached(self) -> tuple[str, ...]:
        """Names such as `module.TABLE` of what holds an original and cannot be rebound."""
        return self._unreached

    def original(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what `function` stands for: the original if it is one of the proxies, else itself.

        Raises:
            AttributeError: A required original does not exist.
            ValueError: One original was given two proxies.
        """
        plan = self._plan or self._resolve()
        index = plan.by_proxy.get(id(function))
        return function if index is None else plan.originals[index]

    def acquire(self) -> None:
        """Count one more user; the first one patches.

        If a step of patching fails, everything is undone and the failure raised.

        Raises:
            AttributeError: A required original does not exist.
            ValueError: One original was given two proxies.
        """
        with self._lock:
            if self._active and self._busy is None:
                self._users += 1
                return
        self._enter(pin=False)

    def release(self) -> None:
        """Count one user less; the last one restores.

        Raises:
            RuntimeError: There is no user, or a slot refused to take its original back.
        """
        with self._lock:
            if self._users == 0:
                raise RuntimeError("pycapio: release() without acquire(); call it once per user")
            self._users -= 1
            if self._users:
                return
        self._leave()

    def pin(self) -> None:
        """Patch, and never restore again. Fails as `acquire` does."""
        with self._lock:
            if self._pinned:
                return
        self._enter(pin=True)

    def _enter(self, pin: bool) -> None:
        me = threading.get_ident()
        counted = mine = False
        try:
            with self._lock:
                while self._busy is not None and self._busy != me:
                    self._changed.wait()
                if pin:
                    self._pinned = True
                else:
                    self._users += 1
                counted = True
                # In the middle of this thread's own transition, which looks at the count again
                # before it ends: a finalizer ran, or code of an owner.
                if self._busy == me or self._active:
                    return
                mine = True
                self._busy = me
            self._settle()
        except BaseException:
            if mine:
                self._end_transition()
            if counted:
                with self._lock:
                    if pin:
                        self._pinned = False
                    else:
                        self._users -= 1
                self._leave()
            raise

    def _leave(self) -> None:
        mine = False
        try:
            with self._lock:
                # A transition under way looks at the count again before it ends.
                if self._users or self._pinned or not self._active or self._busy is not None:
                    return
                mine = True
                self._busy = threading.get_ident()
            self._settle()
        except BaseException:
            if mine:
                self._end_transition()
            raise

    def _settle(self) -> None:
        """Patch or restore until the state is the one that the count asks for."""
        while True:
            with self._lock:
                wanted = self._users > 0 or self._pinned
                if wanted == self._active:
                    self._end_transition()
                    return
            if wanted:
                self._patch()
                self._active = True
            else:
                try:
                    self._restore()
                finally:
                    self._active = False

    def _end_transition(self) -> None:
        with self._lock:
            if self._busy == threading.get_ident():
                self._busy = None
                self._changed.notify_all()

    def _resolve(self) -> _Plan:
        """Read the originals, before anything is changed."""
        plan = _Plan(self._replacements, self._supports)
        with self._lock:
            # Another thread's plan may be in place already; then this one has read proxies.
            if self._plan is None:
                self._plan = plan
            return self._plan

    def _patch(self) -> None:
        plan = self._plan or self._resolve()
        undo = self._undo
        try:
            # First the owners, so that whoever imports from now on captures a proxy.
            for owner in plan.owners:
                holder = owner.owner
                before = owner.read(holder)
                if before is not owner.new:
                    undo.append((owner, holder, before))
                    owner.write(holder, owner.new)
            for member in plan.memberships:
                if member.read(member.members) is member.old:
                    undo.append((member, member.members, member.old))
                    member.write(member.members, member.new)
            if self._finder is not None and self._finder.read(sys) is None:
                undo.append((self._finder, sys, None))
                self._finder.write(sys, self._finder.new)
            if self._modules_changed():
                self._search(plan)
            gone = False
            for site in self._captured:
                holder = site.holder()
                if holder is None:
                    gone = True
                elif site.read(holder) is site.old:
                    undo.append((site, holder, site.old))
                    site.write(holder, site.new)
            if gone:
                self._captured = [site for site in self._captured if site.holder() is not None]
            self._patch_main(plan)
        except BaseException as error:
            try:
                self._restore()
            except RuntimeError as stuck:
                raise stuck from error
            raise

    def _restore(self) -> None:
        """Give everything back in reverse order, come what may; then report what went wrong."""
        undo = self._undo
        refused: list[tuple[_Site, Exception]] = []
        interrupted: BaseException | None = None
        repeated: _Site | None = None
        while undo:
            site, holder, before = undo[-1]
            try:
                if site.read(holder) is site.new:
                    site.write(holder, before)
            except Exception as error:  # noqa: BLE001 - reported below
                refused.append((site, error))
            except BaseException as error:  # noqa: BLE001 - raised below
                # Ctrl-C must not leave the step undone, so it is repeated, once.
                interrupted = error
                if repeated is not site:
                    repeated = site
                    continue
            undo.pop()
        if refused:
            names = ", ".join(str(site) for site, _ in refused)
            raise RuntimeError(
                f"pycapio: could not give back {names}; the process goes on with the proxy there"
            ) from refused[0][1]
        if interrupted is not None:
            raise interrupted

    def _patch_main(self, plan: _Plan) -> None:
        """Replace what an interactive session has put among its globals since the last search."""
        main = sys.modules.get("__main__")
        if main is None or not issubclass(type(main), ModuleType):
            return
        namespace = _module_dict(main)
        if plan.proxies.keys().isdisjoint(map(id, list(namespace.values()))):
            return
        if (_module_name("__main__", namespace) + ".").startswith(self._exclude):
            return
        for name, value in list(namespace.items()):
            proxy = plan.proxies.get(id(value))
            if proxy is not None:
                site = _ModuleSite(_reference(main), name, value, proxy)
                self._captured.append(site)
                self._undo.append((site, main, value))
                site.write(main, site.new)

    def _modules_changed(self) -> bool:
        """Whether a module was imported since the last search.

        sys.modules keeps the order of insertion, so length and last entry tell.
        """
        newest = self._newest
        if newest is None:
            return True
        modules = sys.modules
        length, name, reference = newest
        last = next(reversed(modules), "")
        return length != len(modules) or last != name or modules.get(last) is not reference()

    def _search(self, plan: _Plan) -> None:
        """Find references captured since the last search and add them to the known ones."""
        modules = dict(sys.modules)
        fresh = [
            (name, module)
            for name, module in modules.items()
            if self._known.get(id(module), _nothing)() is not module
        ]
        found = _Search(modules, plan, self._exclude, self._supports, self._undo)
        sites: list[_Site] | None = None
        if _frozen_objects() > _FROZEN_BY_INTERPRETER:
            sites = found.in_modules(fresh)
        elif self._newest is not None and len(fresh) <= _FEW_MODULES:
            sites = found.in_modules(fresh, _FEW_OBJECTS)
        if sites is None:
            sites = found.in_heap()
            self._unreached = tuple(sorted(found.unreached))
        merged: dict[tuple[int, type, Any], _Site] = {}
        for site in (*self._captured, *sites):
            holder = site.holder()
            if holder is not None:
                merged.setdefault((id(holder), type(site), site.key), site)
        self._captured = list(merged.values())
        # A module that is still being imported has to be looked at again.
        done = [module for module in modules.values() if not _is_being_imported(module)]
        self._known = {id(module): _reference(module, _strongly) for module in done}
        last = next(reversed(modules), "")
        length = len(modules) if len(done) == len(modules) else -1
        self._newest = (length, last, _reference(modules.get(last), _strongly))

    def _after_fork(self) -> None:
        busy = self._busy
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        if busy is None or busy == threading.get_ident():
            return
        # The thread that was half-way does not exist here: start over from a clean state.
        self._restore()
        self._active = False
        self._busy = threading.get_ident()
        try:
            self._settle()
        finally:
            self._end_transition()


class _Plan:
    """What the replacements mean in this process.

    Originals are kept in one tuple and otherwise known by id, or a search would meet them here.
    """

    __slots__ = ("by_proxy", "memberships", "originals", "owners", "proxies")

    def __init__(
        self, replacements: Iterable[Replacement], supports: Iterable[MutableSet[Any]]
    ) -> None:
        owners: list[_OwnerSite] = []
        originals: list[Any] = []
        chosen: dict[int, Any] = {}
        defined: set[int] = set()
        self.by_proxy: dict[int, int] = {}
        for item in replacements:
            raw = _read_attribute(item.owner, item.name)
            if raw is _MISSING:
                if item.required:
                    raise AttributeError(
                        f"pycapio: {_label(item.owner)} has no {item.name!r} to replace; this "
                        "Python lacks it or another library removed it"
                    )
                continue
            original = raw.__func__ if type(raw) in _WRAPPERS else raw
            if original is item.proxy:
                continue
            if raw is _own_attribute(item.owner, item.name):
                defined.add(id(original))
            if id(original) not in chosen:
                chosen[id(original)] = item.proxy
                self.by_proxy[id(item.proxy)] = len(originals)
                originals.append(original)
            elif chosen[id(original)] is not item.proxy:
                raise ValueError(
                    f"pycapio: {_label(item.owner)}.{item.name} was given two different proxies; "
                    "use one for each original"
                )
            in_class = issubclass(type(item.owner), type)
            owners.append(_OwnerSite(item.owner, item.name, _substitute(raw, item.proxy, in_class)))
        self.owners = tuple(owners)
        self.originals = tuple(originals)
        # Only the slot of a class is replaced, for its instances and subclasses refer to it; and
        # that of an inherited attribute, which the base class shall keep.
        self.proxies = {
            id(original): chosen[id(original)]
            for original in originals
            if id(original) in defined and not issubclass(type(original), type)
        }
        self.memberships = tuple(
            _MemberSite(members, original, chosen[id(original)])
            for members in supports
            for original in originals
            if original in members
        )


class _Site:
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

    def __str__(self) -> str:
        return f"{type(self).__name__.strip('_')} {self.key!r}"


class _OwnerSite(_Site):
    """The attribute that a Replacement names."""

    __slots__ = ("_globals", "owner")

    def __init__(self, owner: Any, name: str, new: Any) -> None:
        super().__init__(_nothing, name, None, new)
        self.owner = owner
        # Reading modules directly halves the time of entering.
        self._globals = _module_dict(owner) if issubclass(type(owner), ModuleType) else None

    @property
    def proxy(self) -> Any:
        return self.new.__func__ if type(self.new) in _WRAPPERS else self.new

    def read(self, holder: Any) -> Any:
        if self._globals is not None:
            return self._globals.get(self.key, _MISSING)
        return _own_attribute(holder, self.key)

    def write(self, holder: Any, value: Any) -> None:
        if value is _MISSING:
            delattr(holder, self.key)
        else:
            setattr(holder, self.key, value)

    def __str__(self) -> str:
        return f"{_label(self.owner)}.{self.key}"


class _MemberSite(_Site):
    """Membership of a proxy in one of the os.supports_* sets, beside its original."""

    __slots__ = ("members",)

    def __init__(self, members: MutableSet[Any], old: Any, new: Any) -> None:
        super().__init__(_nothing, None, old, new)
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


class _FinderSite(_Site):
    """A finder on sys.meta_path, a list that is read by whoever imports and may be exchanged."""

    __slots__ = ()

    def __init__(self, finder: Any) -> None:
        super().__init__(_nothing, None, None, finder)

    def read(self, holder: Any) -> Any:
        return self.new if self.new in holder.meta_path else None

    def write(self, holder: Any, value: Any) -> None:
        finders = holder.meta_path
        if value is None:
            finders.remove(self.new)
            return
        names = [getattr(finder, "__name__", None) for finder in finders]
        finders.insert(names.index("PathFinder") if "PathFinder" in names else 0, value)

    def __str__(self) -> str:
        return "sys.meta_path"


class _ModuleSite(_Site):
    """A global variable."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return _module_dict(holder).get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        _module_dict(holder)[self.key] = value


class _ClassSite(_Site):
    """A class attribute. Metaclasses (enum's) may forbid what type itself allows."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return _class_dict(holder).get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        type.__setattr__(holder, self.key, value)


class _DictSite(_Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return dict.get(holder, self.key)

    def write(self, holder: Any, value: Any) -> None:
        dict.__setitem__(holder, self.key, value)


class _InstanceSite(_Site):
    """An instance's attribute, or one of a function."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        attributes = _instance_dict(holder)
        return None if attributes is None else attributes.get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        attributes = _instance_dict(holder)
        if attributes is not None:
            attributes[self.key] = value


class _SlotSite(_Site):
    """An attribute in __slots__; the key is its descriptor."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        try:
            return self.key.__get__(holder)
        except AttributeError:
            return None

    def write(self, holder: Any, value: Any) -> None:
        self.key.__set__(holder, value)


class _ListSite(_Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return list.__getitem__(holder, self.key) if self.key < list.__len__(holder) else None

    def write(self, holder: Any, value: Any) -> None:
        list.__setitem__(holder, self.key, value)


class _CellSite(_Site):
    """A variable of an enclosing function."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return None

    def write(self, holder: Any, value: Any) -> None:
        holder.cell_contents = value


class _DefaultsSite(_Site):
    """All positional defaults of a function, a tuple."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.__defaults__

    def write(self, holder: Any, value: Any) -> None:
        holder.__defaults__ = value


class _KwdefaultSite(_Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return (holder.__kwdefaults__ or {}).get(self.key)

    def write(self, holder: Any, value: Any) -> None:
        holder.__kwdefaults__[self.key] = value


class _PartialFunctionSite(_Site):
    """The function of a functools.partial, which only __setstate__ can exchange."""

    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.func

    def write(self, holder: Any, value: Any) -> None:
        state = (value, holder.args, holder.keywords, _instance_dict(holder))
        functools.partial.__setstate__(holder, state)  # type: ignore[attr-defined]


class _PartialArgumentsSite(_Site):
    __slots__ = ()

    def read(self, holder: Any) -> Any:
        return holder.args

    def write(self, holder: Any, value: Any) -> None:
        state = (holder.func, value, holder.keywords, _instance_dict(holder))
        functools.partial.__setstate__(holder, state)  # type: ignore[attr-defined]


class _Box:
    """Keeps what cannot be referenced weakly, until nobody else does."""

    __slots__ = ("content",)

    def __init__(self, content: Any) -> None:
        self.content = content

    def __call__(self) -> Any:
        if self.content is not None and _references(self) <= _ALONE:
            self.content = None
        return self.content


_getrefcount: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)


def _references(box: _Box) -> int:
    # An interpreter that does not count never finds a box abandoned.
    return 1 if _getrefcount is None else _getrefcount(box.content)


_ALONE = 0 if _getrefcount is None else _references(_Box([]))


class _Search:
    """One search for references to the originals."""

    def __init__(
        self,
        modules: dict[str, ModuleType],
        plan: _Plan,
        exclude: tuple[str, ...],
        supports: tuple[Any, ...],
        undo: list[Any],
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
                namespace = _module_dict(module)
                self._namespaces.setdefault(id(namespace), (name, module))
                if (_module_name(name, namespace) + ".").startswith(exclude):
                    self._own[id(namespace)] = namespace
                    if name not in _IMPORT_SYSTEM:
                        roots.append(namespace)
        for owner in plan.owners:
            proxy = owner.proxy
            roots.extend(_parts(proxy))
            if type(proxy) is _Unbound:
                roots.extend(_parts(proxy.func))
        self._protected = dict(self._own)
        self._protected.update((id(part), part) for part in (undo, *undo))
        for part in self._belonging(roots, self._own, exclude):
            self._protected[id(part)] = part

    def in_modules(
        self, modules: Iterable[tuple[str, Any]], limit: int = sys.maxsize
    ) -> list[_Site] | None:
        """Look through what belongs to the given modules, unless it exceeds `limit` objects."""
        namespaces: dict[int, Any] = {}
        names: list[str] = []
        for name, module in modules:
            if issubclass(type(module), ModuleType):
                namespace = _module_dict(module)
                if id(namespace) not in self._own:
                    namespaces[id(namespace)] = namespace
                    names.append(name + ".")
        sites: list[_Site] = []
        for part in self._belonging(list(namespaces.values()), namespaces, tuple(names)):
            if type(part) in _CONTAINERS:  # a class derived from them may run code of its own
                limit -= len(part)
            limit -= 1
            if limit < 0:
                return None
            if id(part) not in self._protected:
                sites.extend(self._sites(part))
        return sites

    def in_heap(self) -> list[_Site]:
        """Look through everything that the garbage collector knows."""
        sites: list[_Site] = []
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
            elif kind in (tuple, set, frozenset, CellType, *_WRAPPERS):
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
        self, step: dict[int, Any], pending: dict[int, Any], sites: list[_Site]
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
            attributes = _instance_dict(holder) if parts else None
            parts = [part for part in parts if part is attributes]
        return {id(part) for part in parts}

    def _look_into_dict(
        self,
        holder: dict[Any, Any],
        step: dict[int, Any],
        further: dict[int, Any],
        sites: list[_Site],
    ) -> None:
        known = self._namespaces.get(id(holder))
        for key, value in list(holder.items()):
            if id(value) not in step:
                continue
            if type(value) in _WRAPPERS:
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
        for candidate in list(_module_dict(module).values()):
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
        if issubclass(kind, (*_CONTAINERS, *_WRAPPERS, CellType, functools.partial)):
            return _YES
        return _YES if _is_of(kind, names) else _NO

    def _is_part(
        self, part: Any, kind: type, namespaces: dict[int, Any], names: tuple[str, ...]
    ) -> bool:
        if kind is dict:
            return id(part) in namespaces or id(part) not in self._namespaces
        if kind is FunctionType:
            return id(part.__globals__) in namespaces
        return _is_of(part, names)

    def _sites(self, part: Any) -> Iterator[_Site]:
        """The places inside one object that hold an original."""
        kind = type(part)
        if issubclass(kind, dict):
            known = self._namespaces.get(id(part))
            if known is None:
                yield from self._in_mapping(part, part, _DictSite)
            else:
                yield from self._in_mapping(known[1], part, _ModuleSite)
        elif issubclass(kind, list):
            yield from self._in_list(part)
        elif kind is CellType:
            yield from self._in_cell(part)
        elif kind is FunctionType:
            yield from self._in_function(part)
        elif issubclass(kind, type):
            if not _is_of(part, self._exclude):
                yield from self._in_class(part)
        elif kind not in _UNCHANGEABLE and not _is_of(kind, self._exclude):
            if issubclass(kind, functools.partial):
                yield from self._in_partial(part)
            yield from self._in_instance(part, kind)

    def _in_list(self, entries: Any) -> Iterator[_Site]:
        for index, value in enumerate(list.copy(entries)):
            proxy = self._proxies.get(id(value))
            if proxy is not None:
                yield _ListSite(self._refer(entries), index, value, proxy)

    def _in_cell(self, cell: Any) -> Iterator[_Site]:
        try:
            value = cell.cell_contents
        except ValueError:  # empty
            return
        proxy = self._proxies.get(id(value))
        if proxy is not None:
            yield _CellSite(self._refer(cell), None, value, proxy)

    def _in_mapping(self, holder: Any, entries: Any, site: type[_Site]) -> Iterator[_Site]:
        for key, value in list(dict.items(entries)):
            new = self._new_value(value, False)
            if new is not _MISSING:
                yield site(self._refer(holder), key, value, new)

    def _in_class(self, owner: Any) -> Iterator[_Site]:
        for name, value in list(_class_dict(owner).items()):
            new = self._new_value(value, True)
            if new is not _MISSING:
                yield _ClassSite(self._refer(owner), name, value, new)

    def _in_function(self, function: Any) -> Iterator[_Site]:
        defaults = function.__defaults__
        if defaults is not None and any(id(value) in self._proxies for value in defaults):
            yield _DefaultsSite(self._refer(function), None, defaults, self._exchange(defaults))
        if function.__kwdefaults__:
            yield from self._in_mapping(function, function.__kwdefaults__, _KwdefaultSite)
        yield from self._in_mapping(function, function.__dict__, _InstanceSite)

    def _in_partial(self, part: Any) -> Iterator[_Site]:
        proxy = self._proxies.get(id(part.func))
        if proxy is not None:
            yield _PartialFunctionSite(self._refer(part), None, part.func, proxy)
        if any(id(value) in self._proxies for value in part.args):
            arguments = self._exchange(part.args)
            yield _PartialArgumentsSite(self._refer(part), None, part.args, arguments)

    def _in_instance(self, part: Any, kind: type) -> Iterator[_Site]:
        attributes = _instance_dict(part)
        if attributes is not None:
            yield from self._in_mapping(part, attributes, _InstanceSite)
        for base in _class_mro(kind):
            # Members of classes written in C have no __slots__ and are their own business.
            if "__slots__" in _class_dict(base):
                for member in list(_class_dict(base).values()):
                    if type(member) is MemberDescriptorType:
                        try:
                            value = member.__get__(part)
                        except AttributeError:  # unset
                            continue
                        proxy = self._proxies.get(id(value))
                        if proxy is not None:
                            yield _SlotSite(self._refer(part), member, value, proxy)

    def _new_value(self, value: Any, in_class: bool) -> Any:
        function = value.__func__ if type(value) in _WRAPPERS else value
        proxy = self._proxies.get(id(function))
        return _MISSING if proxy is None else _substitute(value, proxy, in_class)

    def _exchange(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(self._proxies.get(id(value), value) for value in values)

    def _refer(self, part: Any) -> Callable[[], Any]:
        # Places in one container share their box, which counts references.
        found = self._references.get(id(part))
        if found is None:
            found = self._references[id(part)] = _reference(part, _Box)
        return found


def _substitute(raw: Any, proxy: Any, in_class: bool) -> Any:
    """The value to put where `raw` was, so that attribute access binds as it did."""
    if type(raw) in _WRAPPERS:
        return type(raw)(proxy)
    # A builtin in a class does not become a method; a Python function would.
    if in_class and not hasattr(type(raw), "__get__") and hasattr(type(proxy), "__get__"):
        return staticmethod(proxy)
    return proxy


def _is_of(owner: Any, names: tuple[str, ...]) -> bool:
    """Whether a class belongs to one of the modules, whose names end in a dot."""
    module = _class_dict(owner).get("__module__")
    return type(module) is str and (module + ".").startswith(names)


def _parts(part: Any) -> Iterable[Any]:
    """What an object holds, without the module that it comes from."""
    kind = type(part)
    if kind is FunctionType:
        return (part.__closure__, part.__defaults__, part.__kwdefaults__, part.__dict__)
    if issubclass(kind, type):
        return list(_class_dict(part).values())
    return gc.get_referents(part)


def _module_name(name: str, namespace: dict[str, Any]) -> str:
    """The name under which a module was written, also while `python -m` runs it."""
    named = getattr(namespace.get("__spec__"), "name", None) if name == "__main__" else None
    return named if type(named) is str else name


def _frozen_objects() -> int:
    return gc.get_freeze_count() if hasattr(gc, "get_freeze_count") else 0


def _is_being_imported(module: Any) -> bool:
    if not issubclass(type(module), ModuleType):
        return False
    return getattr(_module_dict(module).get("__spec__"), "_initializing", False) is True


def _instance_dict(part: Any) -> Any:
    """The attributes of an instance, without running any code of its class."""
    for base in _class_mro(type(part)):
        descriptor = _class_dict(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) in (GetSetDescriptorType, MemberDescriptorType):
                attributes = descriptor.__get__(part)
                return attributes if type(attributes) is dict else None
            return None
    return None


def _own_attribute(owner: Any, name: str) -> Any:
    if issubclass(type(owner), type):
        return _class_dict(owner).get(name, _MISSING)
    attributes = _instance_dict(owner)
    if attributes is None:
        return getattr(owner, name, _MISSING)
    return attributes.get(name, _MISSING)


def _read_attribute(owner: Any, name: str) -> Any:
    raw = _own_attribute(owner, name)
    if raw is _MISSING and issubclass(type(owner), type):
        for base in _class_mro(owner):
            raw = _class_dict(base).get(name, _MISSING)
            if raw is not _MISSING:
                return raw
    return getattr(owner, name, _MISSING) if raw is _MISSING else raw


def _reference(
    part: Any, otherwise: Callable[[Any], Callable[[], Any]] | None = None
) -> Callable[[], Any]:
    try:
        return weakref.ref(part)
    except TypeError:
        return _nothing if otherwise is None else otherwise(part)


def _strongly(part: Any) -> Callable[[], Any]:
    return lambda: part


def _nothing() -> None:
    return None


def _label(owner: Any) -> str:
    return str(getattr(owner, "__qualname__", None) or getattr(owner, "__name__", None) or owner)


def _supports_of_os() -> Iterator[MutableSet[Any]]:
    for name in ("dir_fd", "effective_ids", "fd", "follow_symlinks"):
        members = getattr(os, f"supports_{name}", None)
        if members is not None:
            yield members


_patchers: weakref.WeakSet[Patcher] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for patcher in list(_patchers):
        patcher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
