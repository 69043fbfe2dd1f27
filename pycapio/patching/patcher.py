"""Putting a list of replacements in place, and giving back what was there."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from types import ModuleType

from pycapio.patching.batches import Batch, GlobalsBatch
from pycapio.patching.objects import is_being_imported, module_dict, module_name
from pycapio.patching.plan import Plan
from pycapio.patching.references import nothing, reference, strongly
from pycapio.patching.replacement import Replacement
from pycapio.patching.search import IMPORT_SYSTEM, Search
from pycapio.patching.sites import FinderSite, ModuleSite, Site

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSet
    from typing import Any

# From so many new modules on, one pass over the heap is quicker than walking through each.
_FEW_MODULES = 12
# The same for the number of objects that belong to them.
_FEW_OBJECTS = 20_000
# gc.get_referrers does not see frozen objects. CPython 3.12 freezes a few hundred by itself.
_FROZEN_BY_INTERPRETER = 1000


class Patcher:
    """Puts a list of replacements in place for as long as it has users.

    Args:
        replacements: What to replace. One original has one proxy, wherever it is replaced.
        supports: Sets in which membership of a function says what it can do. The proxy joins
            wherever its original is a member. By default those of `os`.
        sites: Further places, with their own way of being replaced. Their holders may be yet to
            come, see `replace_late`.
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
        sites: Iterable[Site] = (),
        finder: Any = None,
        exclude: Iterable[str] = (),
    ) -> None:
        self._replacements = tuple(replacements)
        self._sites = (*sites, *(() if finder is None else (FinderSite(finder),)))
        self._supports = tuple(_supports_of_os() if supports is None else supports)
        self._exclude = tuple(f"{name}." for name in (*IMPORT_SYSTEM, __package__, *exclude))
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # threads that wait for the end of a transition
        self._users = 0
        self._active = False
        self._pinned = False
        self._busy: int | None = None  # the thread that is patching or restoring
        self._undo: list[tuple[Site, Any, Any]] = []
        self._plan: Plan | None = None
        self._captured: list[Site] = []
        # The same, divided: global variables, and others.
        self._globals: GlobalsBatch | None = None
        self._others: list[Site] = []
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

    def replace_late(self, site: Site) -> None:
        """Replaces one of `sites` whose holder has come while the proxies are in place."""
        if self._active:
            self._replace(site, site.holder())

    def _enter(self, pin: bool) -> None:
        me = threading.get_ident()
        counted = mine = False
        try:
            with self._lock:
                while self._busy is not None and self._busy != me:
                    self._waiting += 1
                    try:
                        self._changed.wait()
                    finally:
                        self._waiting -= 1
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
        """Patch, or restore, until the state is the one that the count asks for."""
        while True:
            if not self._active:
                self._patch()
            else:
                try:
                    self._restore()
                finally:
                    self._active = False
            with self._lock:
                if self._active == (self._users > 0 or self._pinned):
                    self._busy = None
                    if self._waiting:
                        self._changed.notify_all()
                    return

    def _end_transition(self) -> None:
        with self._lock:
            if self._busy == threading.get_ident():
                self._busy = None
                if self._waiting:
                    self._changed.notify_all()

    def _resolve(self) -> Plan:
        """Read the originals, before anything is changed."""
        plan = Plan(self._replacements, self._supports)
        with self._lock:
            # Another thread's plan may be in place already; then this one has read proxies.
            if self._plan is None:
                self._plan = plan
            return self._plan

    def _patch(self) -> None:
        plan = self._plan or self._resolve()
        try:
            # First the owners, so that whoever imports from now on captures a proxy.
            for batch in plan.batches:
                self._replace(batch, None)
            for site in plan.singles:
                self._replace(site, site.holder())
            for site in self._sites:
                holder = site.holder()
                if holder is not None:
                    self._replace(site, holder)
            if self._modules_changed():
                self._search(plan)
            self._patch_captured()
            self._patch_main(plan)
            self._active = True
        except BaseException as error:
            self._active = False
            try:
                self._restore()
            except RuntimeError as stuck:
                raise stuck from error
            raise

    def _replace(self, site: Site, holder: Any) -> None:
        before = site.read(holder)
        if site.fits(before):
            self._undo.append((site, holder, before))
            site.write(holder, site.new)
        elif isinstance(site, Batch):
            for single, place in site.one_by_one(holder):
                self._replace(single, place)

    def _patch_captured(self) -> None:
        gone = False
        if self._globals is not None:
            namespaces = self._globals.holder()
            if namespaces is None:
                self._arrange(self._captured)
                self._patch_captured()
                return
            self._replace(self._globals, namespaces)
        for site in self._others:
            holder, old = site.refer(), site.old
            if holder is None:
                gone = True
            elif site.read(holder) is old:
                self._undo.append((site, holder, old))
                site.write(holder, site.new)
        if gone:
            self._arrange(self._captured)

    def _arrange(self, captured: Iterable[Site]) -> None:
        """Sets what is known to be captured, without what is gone."""
        alive = [site for site in captured if site.holder() is not None]
        named = [site for site in alive if isinstance(site, ModuleSite)]
        self._captured = alive
        self._others = [site for site in alive if not isinstance(site, ModuleSite)]
        self._globals = GlobalsBatch(named) if named else None

    def _restore(self) -> None:
        """Give everything back in reverse order, come what may; then report what went wrong."""
        undo = self._undo
        refused: list[tuple[Site, Exception]] = []
        interrupted: BaseException | None = None
        repeated: Any = None
        while undo:
            entry = undo[-1]
            try:
                for entry in reversed(undo):
                    site, holder, before = entry
                    site.restore(holder, before)
                undo.clear()
            except BaseException as error:  # noqa: BLE001 - reported or raised below
                _drop_from(entry, undo)
                if not isinstance(error, Exception):
                    interrupted = error
                site, holder, _ = entry
                if isinstance(site, Batch):
                    undo.extend((one, place, one.old) for one, place in site.one_by_one(holder))
                elif isinstance(error, Exception):
                    refused.append((site, error))
                elif repeated is not entry:
                    # Ctrl-C must not leave the step undone, so it is repeated, once.
                    repeated = entry
                    undo.append(entry)
        if refused:
            names = ", ".join(str(site) for site, _ in refused)
            raise RuntimeError(
                f"pycapio: could not give back {names}; the process goes on with the proxy there"
            ) from refused[0][1]
        if interrupted is not None:
            raise interrupted

    def _patch_main(self, plan: Plan) -> None:
        """Replace what an interactive session has put among its globals since the last search."""
        main = sys.modules.get("__main__")
        if main is None or not issubclass(type(main), ModuleType):
            return
        namespace = module_dict(main)
        try:
            if plan.proxies.keys().isdisjoint(map(id, namespace.values())):
                return
        except RuntimeError:  # another thread has added a name
            pass
        if (module_name("__main__", namespace) + ".").startswith(self._exclude):
            return
        found: list[Site] = []
        for name, value in list(namespace.items()):
            proxy = plan.proxies.get(id(value))
            if proxy is not None:
                site = ModuleSite(reference(main), name, value, proxy)
                found.append(site)
                self._undo.append((site, namespace, value))
                site.write(namespace, site.new)
        self._arrange([*self._captured, *found])

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

    def _search(self, plan: Plan) -> None:
        """Find references captured since the last search and add them to the known ones."""
        modules = dict(sys.modules)
        fresh = [
            (name, module)
            for name, module in modules.items()
            if self._known.get(id(module), nothing)() is not module
        ]
        batches = (*plan.batches, self._globals) if self._globals else plan.batches
        found = Search(modules, plan, self._exclude, self._supports, self._undo, batches)
        sites: list[Site] | None = None
        if _frozen_objects() > _FROZEN_BY_INTERPRETER:
            sites = found.in_modules(fresh)
        elif self._newest is not None and len(fresh) <= _FEW_MODULES:
            sites = found.in_modules(fresh, _FEW_OBJECTS)
        if sites is None:
            sites = found.in_heap()
            self._unreached = tuple(sorted(found.unreached))
        merged: dict[tuple[int, type, Any], Site] = {}
        for site in (*self._captured, *sites):
            holder = site.holder()
            if holder is not None:
                merged.setdefault((id(holder), type(site), site.key), site)
        self._arrange(merged.values())
        # A module that is still being imported has to be looked at again.
        done = [module for module in modules.values() if not is_being_imported(module)]
        self._known = {id(module): reference(module, strongly) for module in done}
        last = next(reversed(modules), "")
        length = len(modules) if len(done) == len(modules) else -1
        self._newest = (length, last, reference(modules.get(last), strongly))

    def _after_fork(self) -> None:
        busy = self._busy
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        if busy is None or busy == threading.get_ident():
            return
        # The thread that was half-way does not exist here: start over from a clean state.
        self._restore()
        self._active = False
        if not self._users and not self._pinned:
            self._busy = None
            return
        self._busy = threading.get_ident()
        try:
            self._settle()
        finally:
            self._end_transition()


def _drop_from(entry: Any, undo: list[Any]) -> None:
    """Takes an entry of the list away, and all that follow it."""
    while undo.pop() is not entry:
        pass


def _frozen_objects() -> int:
    return gc.get_freeze_count() if hasattr(gc, "get_freeze_count") else 0


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
