"""pycapio.patching: what is replaced, what is left alone, and that everything comes back."""

from __future__ import annotations

import builtins
import copy
import functools
import gc
import genericpath
import glob
import importlib
import inspect
import io
import os
import pathlib
import pickle
import posix
import posixpath
import pydoc
import subprocess
import sys
import tempfile
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest

from pycapio import patching
from pycapio.patching import Patcher, Replacement, batches, proxy_for, sites

_PATCHING = Path(patching.__file__).parent
_FORM_NAMES = importlib.import_module("patch_fixtures.captures").FORMS.keys()
_EXCLUDED = "patch_fixtures.proxies"


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The fixture modules, imported anew."""
    for name in [name for name in sys.modules if name.startswith("patch_fixtures")]:
        monkeypatch.delitem(sys.modules, name)
    names = ("library", "captures", "proxies")
    return SimpleNamespace(
        **{name: importlib.import_module(f"patch_fixtures.{name}") for name in names}
    )


@pytest.fixture
def patcher(user: SimpleNamespace) -> Iterator[Patcher]:
    made = Patcher(user.proxies.replacements(), exclude=[_EXCLUDED])
    before = everything(user)
    yield made
    assert made.users == 0
    assert not made.active
    assert changes(user, before) == []


def everything(user: SimpleNamespace) -> dict[str, Any]:
    """What patching may touch, by identity: all globals, the user's classes and containers."""
    state: dict[str, Any] = {}
    for name, module in list(sys.modules.items()):
        if type(module) is ModuleType:
            state[name] = [
                (key, id(value)) for key, value in vars(module).items() if callable(value)
            ]
    captures = user.captures
    for owner in (captures.Attributes, captures.Attributes.Nested, captures.ReadOnly):
        state[owner.__qualname__] = [(key, id(value)) for key, value in vars(owner).items()]
    for function in (captures.positional_default, captures.keyword_default, captures.attributed):
        keywords = function.__kwdefaults__ or {}
        state[function.__name__] = (
            id(function.__defaults__),
            id(function.__kwdefaults__),
            [id(value) for value in (*keywords.values(), *vars(function).values())],
        )
    state["closure"] = [id(cell.cell_contents) for cell in captures.closure.__closure__]
    for name in ("by_name", "nested", "ordered"):
        state[name] = [(key, id(value)) for key, value in getattr(captures, name).items()]
    state["nested.table"] = [id(value) for value in captures.nested["table"].values()]
    state["in_list"] = [id(value) for value in captures.in_list]
    for part in (captures.partial, captures.partial_argument):
        state[f"partial {id(part)}"] = (id(part.func), id(part.args), id(part.keywords))
    state["instances"] = [
        id(captures.instance.call),
        id(captures.instance.openers[None]),
        id(captures.slotted.call),
    ]
    state["supports"] = supported()
    # Set by pytest for whoever wants to look at a failed test.
    state["sys"] = [(key, number) for key, number in state["sys"] if not key.startswith("last_")]
    return state


def supported() -> list[set[int]]:
    return [
        {id(function) for function in getattr(os, name)}
        for name in sorted(vars(os))
        if name.startswith("supports_") and isinstance(getattr(os, name), set)
    ]


def changes(user: SimpleNamespace, before: dict[str, Any]) -> list[str]:
    """Where a function was replaced; modules that came or went are no matter."""
    after = everything(user)
    return [key for key in before if after.get(key, before[key]) != before[key]]


def new_module(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(textwrap.dedent(source), name, "exec"), vars(module))
    return module


class Owner(ModuleType):
    """A module that runs a test's code before and after an attribute is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calm()

    def calm(self) -> None:
        vars(self).update(before_set=_nothing, after_set=_nothing)

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)["before_set"](name, value)
        super().__setattr__(name, value)
        vars(self)["after_set"](name, value)


def _nothing(name: str, value: object) -> None:
    pass


def owner_with(*names: str) -> tuple[Owner, dict[str, Any], list[Replacement]]:
    owner = Owner("owner")
    proxies: dict[str, Any] = {}
    for name in names:

        def original() -> str:
            return "original"

        def proxy() -> str:
            return "proxy"

        vars(owner)[name] = original
        proxies[name] = proxy
    return owner, proxies, [Replacement(owner, name, proxies[name]) for name in names]


# What is replaced


@pytest.mark.parametrize("form", _FORM_NAMES)
def test_every_form_of_a_reference(form: str, user: SimpleNamespace, patcher: Patcher) -> None:
    target, read = user.captures.FORMS[form]
    original = read()
    proxy = {"probe": user.proxies.probe_proxy, "stat": user.proxies.stat_proxy}[target]
    assert original is patcher.original(proxy)
    for _ in range(3):
        patcher.acquire()
        during = read()
        patcher.release()
        assert during is proxy
        assert read() is original


def test_calls_bind_as_those_of_the_original(user: SimpleNamespace, patcher: Patcher) -> None:
    attributes, captures = user.captures.Attributes, user.captures
    patcher.acquire()
    try:
        held = attributes()
        assert held.python(1) == ("proxy", (held, 1))
        assert held.static_python(1) == ("proxy", (1,))
        assert held.klass(1) == ("proxy", (attributes, 1))
        assert captures.partial(2) == ("proxy", (1, 2))
        assert list(captures.partial_argument([3])) == [("proxy", (3,))]
        user.proxies.stat_calls.clear()
        assert held.builtin(os.curdir).st_ino == held.static(os.curdir).st_ino
        assert user.proxies.stat_calls == [(os.curdir,), (os.curdir,)]
    finally:
        patcher.release()


def test_an_inherited_method_is_shadowed_and_bared_again(user: SimpleNamespace) -> None:
    derived, base = user.library.Derived, user.library.Base
    original = base.method

    @proxy_for(original)
    def method(self: Any, value: int = 1) -> Any:
        return ("proxy", value)

    patcher = Patcher([Replacement(derived, "method", method)])
    patcher.acquire()
    assert derived().method(2) == ("proxy", 2)
    assert base().method(2) == ("original", 2)
    patcher.release()
    assert "method" not in vars(derived)
    assert derived.method is original


def test_a_static_method_stays_one(user: SimpleNamespace) -> None:
    attributes = user.captures.Attributes
    raw = vars(attributes)["static_python"]
    proxy = user.proxies.probe_proxy
    patcher = Patcher([Replacement(attributes, "static_python", proxy)], exclude=[_EXCLUDED])
    patcher.acquire()
    assert attributes().static_python(1) == ("proxy", (1,))
    patcher.release()
    assert vars(attributes)["static_python"] is raw


def test_supports_sets_know_the_proxies(user: SimpleNamespace, patcher: Patcher) -> None:
    sets = (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks)
    before = [set(members) for members in sets]
    patcher.acquire()
    assert all(os.stat in members for members in sets)
    assert all(patcher.original(os.stat) in members for members in sets)
    assert os.stat not in os.supports_effective_ids
    patcher.release()
    assert [set(members) for members in sets] == before


def test_supports_can_be_given(user: SimpleNamespace) -> None:
    probe, proxy = user.library.probe, user.proxies.probe_proxy
    with_original, without = {probe}, {len}
    patcher = Patcher(
        user.proxies.replacements(), supports=[with_original, without], exclude=[_EXCLUDED]
    )
    patcher.acquire()
    assert (with_original, without) == ({probe, proxy}, {len})
    assert os.stat not in os.supports_fd
    patcher.release()
    assert (with_original, without) == ({probe}, {len})


def test_what_cannot_be_rebound_is_named(user: SimpleNamespace, patcher: Patcher) -> None:
    patcher.acquire()
    patcher.release()
    named = {name for name in patcher.unreached if name.startswith("patch_fixtures")}
    assert named == {"patch_fixtures.captures.in_tuple", "patch_fixtures.captures.in_set"}


def test_globals_of_an_interactive_session(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    patcher.acquire()
    patcher.release()
    main = sys.modules["__main__"]
    with monkeypatch.context() as session:
        session.setattr(main, "entered_later", user.library.probe, raising=False)
        for _ in range(2):
            patcher.acquire()
            assert vars(main)["entered_later"] is user.proxies.probe_proxy
            patcher.release()
            assert vars(main)["entered_later"] is user.library.probe


def test_only_the_slot_of_a_class_is_replaced(user: SimpleNamespace) -> None:
    base, derived = user.library.Base, user.library.Derived
    captured = [base]

    class Other(base):  # type: ignore[misc, valid-type]
        def method(self, value: int = 1) -> Any:
            return super().method(value)

    held = Other()
    patcher = Patcher([Replacement(user.library, "Base", Other)])
    patcher.acquire()
    assert user.library.Base is Other
    assert derived.__bases__ == (base,)
    assert held.method(3) == ("original", 3)
    assert captured[0] is base
    kept = base()
    assert kept.same(kept)  # super() in its methods refers to it too
    patcher.release()
    assert user.library.Base is base


# Known traps of the standard library and of numpy


def standard_replacements() -> list[Replacement]:
    owners: list[tuple[Any, str]] = [
        (os, name)
        for name in ("stat", "lstat", "scandir", "listdir", "unlink", "mkdir", "open", "rename")
    ]
    owners += [(posixpath, "exists"), (posixpath, "isdir"), (genericpath, "isfile")]
    owners += [(io, "open"), (builtins, "open")]
    proxies: dict[int, Any] = {}
    rows = []
    for owner, name in owners:
        original = getattr(owner, name)
        proxy = proxies.setdefault(id(original), forwarding(original))
        rows.append(Replacement(owner, name, proxy))
    return rows


def forwarding(original: Callable[..., Any]) -> Callable[..., Any]:
    @proxy_for(original)
    def proxy(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    return proxy


@pytest.fixture
def standard() -> Iterator[Patcher]:
    patcher = Patcher(standard_replacements())
    yield patcher
    assert not patcher.active


def test_tempfile_default_argument(standard: Patcher) -> None:
    closer = tempfile._TemporaryFileCloser  # type: ignore[attr-defined]
    function = closer.cleanup if sys.version_info >= (3, 12) else closer.close
    before = function.__defaults__
    standard.acquire()
    during, unlink = function.__defaults__, os.unlink
    with tempfile.NamedTemporaryFile() as file:
        name = file.name
    standard.release()
    assert unlink in during
    assert function.__defaults__ is before
    assert not os.path.exists(name)


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="the accessor went with 3.11")
def test_pathlib_accessor(standard: Patcher, tmp_path: Path) -> None:
    accessor = pathlib._NormalAccessor  # type: ignore[attr-defined]
    before = dict(vars(accessor))
    standard.acquire()
    assert accessor.stat is os.stat
    assert accessor().listdir is os.listdir
    assert tmp_path.stat().st_ino == os.stat(tmp_path).st_ino
    assert list(tmp_path.iterdir()) == []
    standard.release()
    assert list(vars(accessor).items()) == list(before.items())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the globber came with 3.13")
def test_glob_static_methods(standard: Patcher, tmp_path: Path) -> None:
    globber = glob._StringGlobber  # type: ignore[attr-defined]
    before = dict(vars(globber))
    (tmp_path / "a.txt").touch()
    standard.acquire()
    assert globber.lstat is os.lstat
    assert globber.scandir is os.scandir
    assert [path.name for path in tmp_path.glob("*.txt")] == ["a.txt"]
    standard.release()
    assert list(vars(globber).items()) == list(before.items())


def test_numpy_openers(standard: Patcher, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    (tmp_path / "numbers").write_text("1 2\n")
    openers = importlib.import_module(
        "numpy.lib._datasource" if hasattr(numpy.lib, "_datasource") else "numpy.lib.npyio"
    )._file_openers
    assert openers[None] is open
    original = (open,)
    standard.acquire()
    assert openers[None] is open
    assert openers[None] is not original[0]
    assert numpy.loadtxt(tmp_path / "numbers").tolist() == [1, 2]
    standard.release()
    assert openers[None] is original[0]


# What is left alone


def test_the_module_behind_os_is_left_alone(standard: Patcher, user: SimpleNamespace) -> None:
    stat, opened = posix.stat, sys.modules["_io"].open
    standard.acquire()
    assert posix.stat is stat
    assert os.stat is not posix.stat
    assert sys.modules["_io"].open is opened
    assert vars(sys.modules["importlib._bootstrap_external"])["_os"].stat is stat
    standard.release()


def test_modules_can_be_imported_meanwhile(
    standard: Patcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in range(2):
        standard.acquire()
        for name in (f"while_patched_{number}", f"package_{number}.inner"):
            path = tmp_path / (name.replace(".", "/") + ".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"from os import stat\nNUMBER = {number}\n")
            importlib.invalidate_caches()
            assert number == importlib.import_module(name).NUMBER
            assert Path(importlib.util.cache_from_source(str(path))).exists()
            assert str(path.parent) in sys.path_importer_cache
        standard.release()
        # Also without the proxies, and from the byte code written meanwhile.
        del sys.modules[f"while_patched_{number}"]
        assert importlib.import_module(f"while_patched_{number}").stat is os.stat
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"package_{number}.missing")
        for name in [name for name in sys.modules if name.startswith(("while_p", "package_"))]:
            del sys.modules[name]


def test_excluded_modules_keep_their_originals(user: SimpleNamespace, patcher: Patcher) -> None:
    proxies, original = user.proxies, user.library.probe
    reader = proxies.make_reader()
    for _ in range(2):
        patcher.acquire()
        assert user.library.probe is not original
        assert proxies.saved_probe is original
        assert proxies.saved_table == {"probe": original, "nested": [original]}
        assert proxies.Saved.probe is proxies.Saved.static is original
        assert proxies.saved_instance.probe_of_instance is original
        assert proxies.saved_default() == (original, original)
        assert reader() == (original,) * 3
        assert os.stat(os.curdir) == proxies.stat_proxy(os.curdir)  # no endless recursion
        patcher.release()


def test_exclusion_is_by_whole_names(
    user: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from patch_fixtures.library import probe"
    modules = {
        name: new_module(name, source, monkeypatch) for name in ("left", "left.out", "lefty", "lef")
    }
    patcher = Patcher(user.proxies.replacements(), exclude=["left", _EXCLUDED])
    patcher.acquire()
    changed = {name for name, module in modules.items() if module.probe is user.library.probe}
    patcher.release()
    assert changed == {"lefty", "lef"}


def test_an_excluded_module_run_as_main_keeps_its_originals() -> None:
    run(
        """
        import os, sys
        from types import SimpleNamespace
        from pycapio.patching import Patcher, Replacement, proxy_for
        __spec__ = SimpleNamespace(name="launcher.__main__")
        saved = os.stat
        kept = [saved]

        @proxy_for(saved)
        def proxy(*args, **kwargs):
            return saved(*args, **kwargs)

        patcher = Patcher([Replacement(os, "stat", proxy)], exclude=["launcher"])
        for _ in range(2):
            patcher.acquire()
            assert os.stat is proxy
            assert saved is not proxy and kept[0] is not proxy
            patcher.release()
        """
    )


def test_local_variables_are_left_alone(user: SimpleNamespace, patcher: Patcher) -> None:
    def generator() -> Iterator[Any]:
        held = os.stat
        while True:
            yield held

    held, running = os.stat, generator()
    next(running)
    patcher.acquire()
    assert held is next(running) is patcher.original(os.stat)
    patcher.release()


def test_lazily_loaded_modules_are_not_woken(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"woken for {name}")

    class Strange:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    monkeypatch.setitem(sys.modules, "strange", Strange())
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    patcher.acquire()
    patcher.release()


# Later activations


@pytest.mark.parametrize("count", [1, 40])
def test_modules_imported_since(
    count: int, user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import os
        from patch_fixtures.library import probe
        class Holder:
            builtin = os.stat
            static = staticmethod(probe)
            def method(self, call=probe, *, word=probe): return call, word
            def enclosing(self):
                kept = probe
                return lambda: kept
        class Instance:
            def __init__(self): self.openers = {None: probe}
        instance = Instance()
        table = [{"deep": probe}]
        made = Holder().enclosing()
    """
    patcher.acquire()
    patcher.release()
    modules = [new_module(f"since_{n}", source, monkeypatch) for n in range(count)]
    for _ in range(2):
        patcher.acquire()
        proxy, stat = user.proxies.probe_proxy, user.proxies.stat_proxy
        for module in modules:
            held = module.Holder()
            assert held.builtin is stat
            assert (held.static, *held.method(), module.made(), module.probe) == (proxy,) * 5
            assert module.instance.openers[None] is module.table[0]["deep"] is proxy
        patcher.release()
        for module in modules:
            held = module.Holder()
            original = user.library.probe
            assert (held.static, *held.method(), module.made(), module.probe) == (original,) * 5
            assert module.instance.openers[None] is module.table[0]["deep"] is original


def test_a_module_that_was_being_imported_is_looked_at_again(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("half_way")
    module.__spec__ = SimpleNamespace(name="half_way", _initializing=True)
    monkeypatch.setitem(sys.modules, "half_way", module)
    patcher.acquire()
    patcher.release()
    module.later = user.library.probe
    module.__spec__._initializing = False
    patcher.acquire()
    assert module.later is user.proxies.probe_proxy
    patcher.release()
    assert module.later is user.library.probe


def test_what_was_captured_meanwhile_stays_a_proxy(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    patcher.acquire()
    module = new_module(
        "meanwhile", "from os import stat\ndef f(path, call=stat): return call(path)", monkeypatch
    )
    patcher.release()
    for _ in range(2):
        assert module.stat is user.proxies.stat_proxy
        assert patcher.original(module.stat) is os.stat
        assert module.f(os.curdir) == os.stat(os.curdir)
        patcher.acquire()
        patcher.release()


def test_nothing_is_kept_alive(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Token:
        pass

    module = new_module(
        "short_lived",
        """
        import functools
        from patch_fixtures.library import probe
        class Holder:
            static = staticmethod(probe)
            def method(self, call=probe, *, word=probe): return call
        class Instance: pass
        instance = Instance()
        instance.call = probe
        instance.itself = instance
        partial = functools.partial(probe, 1)
        def enclosing():
            kept = probe
            return lambda: kept
        closure = enclosing()
        table = {"probe": probe}
        sequence = [probe]
        """,
        monkeypatch,
    )
    module.table["token"] = Token()
    module.sequence.append(Token())
    patcher.acquire()
    assert module.sequence[0] is module.table["probe"] is user.proxies.probe_proxy
    patcher.release()
    alive = [
        weakref.ref(part)
        for part in (
            module,
            module.Holder,
            module.Holder.method,
            module.instance,
            module.partial,
            module.closure,
            module.table["token"],
            module.sequence[1],
        )
    ]
    del module, sys.modules["short_lived"]
    gc.collect()
    patcher.acquire()
    patcher.release()
    gc.collect()
    assert [reference() for reference in alive] == [None] * len(alive)


def test_a_search_does_not_find_what_is_kept_to_be_given_back(
    user: SimpleNamespace, patcher: Patcher
) -> None:
    patcher.acquire()
    undo = list(patcher._undo)
    found = [site.holder() for site in patcher._captured if type(site) is sites.ListSite]
    patcher.release()
    kept = {id(before) for _, _, before in undo}
    assert any(part is user.captures.in_list for part in found)
    assert not any(id(part) in kept for part in found)


def test_frozen_objects_are_found() -> None:
    run(
        """
        import gc, os, sys, types
        from pycapio.patching import Patcher, Replacement, proxy_for
        user = types.ModuleType("user")
        sys.modules["user"] = user
        source = "from os import stat\\nclass A:\\n  s = staticmethod(stat)\\ntable = [stat]"
        exec(source, vars(user))
        gc.freeze()
        @proxy_for(os.stat)
        def proxy(*args, **kwargs): ...
        patcher = Patcher([Replacement(os, "stat", proxy)], exclude=["__main__"])
        for _ in range(2):
            patcher.acquire()
            assert user.stat is user.A.s is user.table[0] is proxy
            patcher.release()
            assert user.stat is user.A.s is user.table[0] is os.stat is not proxy
        """
    )


# The transaction


@pytest.mark.parametrize("moment", ["before_set", "after_set"])
def test_a_failure_at_every_set_of_an_owner(moment: str, user: SimpleNamespace) -> None:
    owner, _, rows = owner_with("a", "b", "c", "d")
    rows = [rows[0], *user.proxies.replacements(), *rows[1:]]
    patcher = Patcher(rows, exclude=[_EXCLUDED])
    before, held = everything(user), list(vars(owner).items())
    for failing in range(4):
        sets = 0

        def fail(name: str, value: object, failing: int = failing) -> None:
            nonlocal sets
            sets += 1
            if sets == failing + 1:
                raise ValueError(name)

        vars(owner)[moment] = fail
        with pytest.raises(ValueError, match=r"^[a-d]$"):
            patcher.acquire()
        owner.calm()
        # Each set that was made was undone, nothing else.
        made = failing + (moment == "after_set")
        assert sets == failing + 1 + made
        assert (patcher.active, patcher.users) == (False, 0)
        assert changes(user, before) == []
        assert list(vars(owner).items()) == held
    patcher.acquire()
    assert owner.a() == "proxy"
    patcher.release()
    assert list(vars(owner).items()) == held


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("activation", [1, 2])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("together", [True, False])
def test_a_failure_at_every_step(
    error: type[BaseException],
    activation: int,
    after: bool,
    together: bool,
    user: SimpleNamespace,
    patcher: Patcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = everything(user)
    if not together:
        take_apart(monkeypatch)
    if activation == 2:
        patcher.acquire()
        patcher.release()
    failing = 0
    while True:

        def fits(step: int, holder: Any, failing: int = failing) -> bool:
            return step == failing + 1

        with Steps(fits, error, after) as counter:
            try:
                patcher.acquire()
            except error:
                assert (patcher.active, patcher.users) == (False, 0)
                assert changes(user, before) == []
                failing += 1
                continue
        patcher.release()
        assert changes(user, before) == []
        break
    assert failing == counter.steps
    # Each form of a reference is a step; closures and defaults of two share one or have two.
    assert together or failing >= len(_FORM_NAMES)


def take_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no batch finds what it expects, and all sites are taken one by one."""
    for kind in batches.Batch.__subclasses__():
        monkeypatch.setattr(kind, "read", lambda batch, holder: None)


def test_a_failing_search_is_undone(
    user: SimpleNamespace, patcher: Patcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(user)

    def fail(*objects: object) -> list[object]:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(gc, "get_referrers", fail)
        with pytest.raises(MemoryError):
            patcher.acquire()
    assert (patcher.active, patcher.users) == (False, 0)
    assert changes(user, before) == []
    patcher.acquire()
    assert user.captures.probe is user.proxies.probe_proxy
    patcher.release()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_while_restoring_stops_nothing_else(
    error: type[BaseException], user: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_apart(monkeypatch)
    patcher = Patcher(user.proxies.replacements(), exclude=[_EXCLUDED])
    before = everything(user)
    patcher.acquire()
    with Steps(lambda step, holder: holder is vars(user.captures), error) as counter:
        if error is ValueError:
            with pytest.raises(RuntimeError, match=r"^pycapio: could not give back ") as caught:
                patcher.release()
            assert isinstance(caught.value.__cause__, ValueError)
        else:
            with pytest.raises(KeyboardInterrupt):
                patcher.release()
    assert (patcher.active, patcher.users) == (False, 0)
    # Ctrl-C comes between, it does not refuse: that step is done after all.
    assert counter.steps > 10
    refused = ["patch_fixtures.captures"] if error is ValueError else []
    assert changes(user, before) == refused


def _kinds(kind: type[sites.Site]) -> Iterator[type[sites.Site]]:
    for derived in kind.__subclasses__():
        if "write" in vars(derived):
            yield derived
        yield from _kinds(derived)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_batch_that_fails_while_restoring_is_taken_one_by_one(
    error: type[BaseException], after: bool, failing: int, user: SimpleNamespace
) -> None:
    patcher = Patcher(user.proxies.replacements(), exclude=[_EXCLUDED])
    before = everything(user)
    patcher.acquire()
    kinds = tuple(_kinds(batches.Batch))
    with Steps(lambda step, holder: step == failing, error, after, kinds) as counter:
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                patcher.release()
        else:
            patcher.release()
    assert counter.steps == len(kinds) == 3
    assert (patcher.active, patcher.users) == (False, 0)
    assert changes(user, before) == []


class Steps:
    """Counts the writes of all kinds of sites, and lets the first that fits fail once."""

    def __init__(
        self,
        fits: Callable[[int, Any], bool],
        error: type[BaseException],
        after: bool = False,
        kinds: Iterable[type[sites.Site]] = (),
    ) -> None:
        self._kinds = tuple(kinds or _kinds(sites.Site))
        self._fits = fits
        self._error = error
        self._after = after
        self._failed = False
        self._saved: list[tuple[Any, Any]] = []
        self.steps = 0

    def __enter__(self) -> Steps:
        for kind in self._kinds:
            write = vars(kind)["write"]
            self._saved.append((kind, write))
            setattr(kind, "write", self._counting(write))  # noqa: B010 - mypy: a method
        return self

    def __exit__(self, *error: object) -> None:
        for kind, write in self._saved:
            kind.write = write

    def _counting(self, write: Callable[..., None]) -> Callable[..., None]:
        def counting(site: Any, holder: Any, value: Any) -> None:
            self.steps += 1
            if not self._failed and self._fits(self.steps, holder):
                self._failed = True
                if self._after:
                    write(site, holder, value)
                raise self._error("injected")
            write(site, holder, value)

        return counting


def test_changes_of_others_survive(user: SimpleNamespace) -> None:
    patcher = Patcher(user.proxies.replacements(), exclude=[_EXCLUDED])
    captures, proxies = user.captures, user.proxies
    before = supported()

    def other(*args: Any) -> str:
        return "other"

    patcher.acquire()
    user.library.probe = other
    captures.probe = other
    captures.by_name["probe"] = other
    captures.in_list[1] = other
    captures.Attributes.static = staticmethod(other)
    captures.positional_default.__defaults__ = (other, other)
    captures.keyword_default.__kwdefaults__["call"] = other
    captures.closure.__closure__[0].cell_contents = other
    captures.slotted.call = other
    del captures.instance.call
    captures.in_list.pop()
    del captures.renamed_probe
    captures.partial.__setstate__((other, (), {}, None))
    patcher.release()
    assert user.library.probe is captures.probe is captures.by_name["probe"] is other
    assert captures.in_list == [len, other]
    assert captures.Attributes.static is captures.slotted.call is captures.partial.func is other
    assert captures.positional_default("") == (other, other)
    assert captures.keyword_default("") is other
    assert captures.closure()[1] is other
    assert not hasattr(captures.instance, "call")
    assert not hasattr(captures, "renamed_probe")
    # And the rest came back.
    assert captures.Attributes.python is proxies.saved_probe
    assert supported() == before
    # The next time, what is there then is replaced where it is named, and given back.
    patcher.acquire()
    assert user.library.probe is proxies.probe_proxy
    assert captures.probe is other
    patcher.release()
    assert user.library.probe is other


def test_a_missing_original(user: SimpleNamespace) -> None:
    row = [Replacement(user.library, "absent", user.proxies.probe_proxy)]
    patcher = Patcher([*user.proxies.replacements()[1:], *row])
    before = everything(user)
    for _ in range(2):
        with pytest.raises(AttributeError, match=r"^pycapio: .*library has no 'absent'"):
            patcher.acquire()
        with pytest.raises(AttributeError, match=r"^pycapio: .*library has no 'absent'"):
            patcher.original(len)
        assert (patcher.active, patcher.users) == (False, 0)
    assert changes(user, before) == []
    optional = Replacement(user.library, "absent", user.proxies.probe_proxy, required=False)
    patcher = Patcher([optional])
    patcher.acquire()
    assert patcher.active
    patcher.release()
    assert not hasattr(user.library, "absent")


def test_two_proxies_for_one_original(user: SimpleNamespace) -> None:
    library, proxies = user.library, user.proxies
    rows = [
        Replacement(library, "probe", proxies.probe_proxy),
        Replacement(user.captures, "renamed_probe", proxies.answering(library.probe)),
    ]
    before = everything(user)
    with pytest.raises(
        ValueError, match=r"captures\.renamed_probe was given two different proxies"
    ):
        Patcher(rows).acquire()
    assert changes(user, before) == []


def test_originals_can_be_looked_up(user: SimpleNamespace, patcher: Patcher) -> None:
    probe, proxy = user.library.probe, user.proxies.probe_proxy
    assert patcher.original(proxy) is probe  # before the first activation
    patcher.acquire()
    assert user.library.probe is proxy
    assert patcher.original(proxy) is patcher.original(probe) is probe
    assert patcher.original(len) is len
    patcher.release()
    assert patcher.original(proxy) is probe


# Counting


def test_users_are_counted(user: SimpleNamespace, patcher: Patcher) -> None:
    for users in range(1, 4):
        patcher.acquire()
        assert (patcher.users, patcher.active) == (users, True)
    for users in range(2, -1, -1):
        assert user.library.probe is user.proxies.probe_proxy
        patcher.release()
        assert (patcher.users, patcher.active) == (users, users > 0)
    with pytest.raises(RuntimeError, match=r"^pycapio: release\(\) without acquire\(\)"):
        patcher.release()
    assert patcher.users == 0


def test_pinned_proxies_stay(user: SimpleNamespace) -> None:
    patcher = Patcher(user.proxies.replacements(), exclude=[_EXCLUDED])
    stat = (os.stat,)
    try:
        patcher.pin()
        patcher.pin()
        assert (patcher.users, patcher.active) == (0, True)
        patcher.acquire()
        patcher.release()
        with pytest.raises(RuntimeError):
            patcher.release()
        assert user.captures.probe is user.proxies.probe_proxy
    finally:
        patcher._pinned = False
        patcher._leave()
    assert os.stat is stat[0]


def test_a_pin_that_fails_pins_nothing() -> None:
    owner, _, rows = owner_with("a", "b")

    def fail(name: str, value: object) -> None:
        if name == "b":
            raise ValueError(name)

    patcher = Patcher(rows)
    vars(owner)["before_set"] = fail
    with pytest.raises(ValueError, match=r"^b$"):
        patcher.pin()
    assert not patcher.active
    assert owner.a() == "original"
    owner.calm()
    patcher.acquire()
    patcher.release()
    assert (owner.a(), owner.b()) == ("original", "original")


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("moment", range(4))
def test_entering_in_the_middle_of_a_transition(moment: int, stays: bool) -> None:
    """As a finalizer may: the collector runs at any allocation, in the patching thread itself."""
    owner, _, rows = owner_with("a", "b")
    patcher = Patcher(rows)
    moments = 0

    def enter(name: str, value: object) -> None:
        nonlocal moments
        moments += 1
        if moments == moment + 1:
            patcher.acquire()
            if not stays:
                patcher.release()

    vars(owner)["before_set"] = enter
    patcher.acquire()
    assert (owner.a(), owner.b()) == ("proxy", "proxy")
    patcher.release()
    assert (patcher.users, patcher.active) == (stays, stays)
    assert (owner.a(), owner.b()) == (("proxy",) * 2 if stays else ("original",) * 2)
    if stays:
        patcher.release()
    assert (owner.a(), owner.b()) == ("original", "original")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work` in threads and raise what it raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_many_threads_enter_and_leave(user: SimpleNamespace, patcher: Patcher) -> None:
    barrier = threading.Barrier(6)
    proxy = user.proxies.probe_proxy
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number: int) -> None:
        for turn in range(60):
            if turn % 10 == 0:
                barrier.wait()
            patcher.acquire()
            seen = (user.library.probe, user.captures.probe, user.captures.closure()[0])
            patcher.release()
            if seen != (proxy,) * 3:
                barrier.abort()
                raise AssertionError(seen)

    try:
        in_threads(6, work)
    finally:
        sys.setswitchinterval(interval)
    assert user.captures.probe is user.library.probe is user.proxies.saved_probe


def going_on_when_waiting(
    patcher: Patcher, go_on: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = patcher._changed.wait

    def waiting(timeout: float | None = None) -> bool:
        go_on.set()
        return wait(timeout)

    monkeypatch.setattr(patcher._changed, "wait", waiting)


def test_entering_waits_until_patching_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _, rows = owner_with("a", "b")
    patcher = Patcher(rows)
    half_way, go_on = threading.Event(), threading.Event()
    going_on_when_waiting(patcher, go_on, monkeypatch)
    seen: list[object] = []

    def hold(name: str, value: object) -> None:
        if name == "b" and not half_way.is_set():
            half_way.set()
            go_on.wait()

    def work(number: int) -> None:
        if number == 0:
            patcher.acquire()
        else:
            half_way.wait()
            # No lock is held meanwhile.
            seen.append((patcher.users, patcher.active, patcher.original(len) is len))
            patcher.acquire()
            seen.append((go_on.is_set(), owner.a(), owner.b()))
            go_on.set()
        patcher.release()

    vars(owner)["before_set"] = hold
    in_threads(2, work)
    assert seen == [(1, False, True), (True, "proxy", "proxy")]
    assert (patcher.users, owner.a(), owner.b()) == (0, "original", "original")


def test_who_waited_for_a_failure_patches_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, _, rows = owner_with("a", "b")
    patcher = Patcher(rows)
    half_way, go_on = threading.Event(), threading.Event()
    going_on_when_waiting(patcher, go_on, monkeypatch)
    seen: list[str] = []

    def fail(name: str, value: object) -> None:
        if name == "b" and not half_way.is_set():
            half_way.set()
            go_on.wait()
            raise ValueError(name)

    def work(number: int) -> None:
        if number == 0:
            with pytest.raises(ValueError, match=r"^b$"):
                patcher.acquire()
        else:
            half_way.wait()
            patcher.acquire()
            seen.append(owner.b() if go_on.is_set() else "did not wait")
            go_on.set()
            patcher.release()

    vars(owner)["before_set"] = fail
    in_threads(2, work)
    assert seen == ["proxy"]
    assert (patcher.users, owner.a(), owner.b()) == (0, "original", "original")


@pytest.mark.parametrize("restoring", [False, True])
def test_a_fork_in_the_middle_of_a_transition(restoring: bool) -> None:
    run(
        f"""
        import os, sys, threading, types, warnings
        from pycapio.patching import Patcher, Replacement
        warnings.simplefilter("ignore")  # 3.12 warns of a fork with threads, which is the point

        class Owner(types.ModuleType):
            def __setattr__(self, name, value):
                if armed.is_set() and name == "b":
                    armed.clear()
                    half_way.set()
                    go_on.wait()
                super().__setattr__(name, value)

        armed, half_way, go_on = threading.Event(), threading.Event(), threading.Event()
        owner = Owner("owner")
        owner.a, owner.b = (lambda: "original"), (lambda: "original")
        proxies = {{"a": lambda: "proxy", "b": lambda: "proxy"}}
        patcher = Patcher([Replacement(owner, name, proxies[name]) for name in "ab"])

        def work():
            if {restoring}:
                patcher.acquire()
            armed.set()
            patcher.release() if {restoring} else patcher.acquire()

        thread = threading.Thread(target=work)
        thread.start()
        half_way.wait()
        child = os.fork()
        if child == 0:
            # The user of the thread that is not here is still counted, or was no more.
            state = (patcher.active, owner.a(), owner.b())
            expected = (False, *["original"] * 2) if {restoring} else (True, *["proxy"] * 2)
            patcher.acquire()
            inside = (owner.a(), owner.b())
            patcher.release()
            os._exit(0 if state == expected and inside == ("proxy", "proxy") else 1)
        go_on.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """
    )


# Proxies present themselves as what they replace


@pytest.mark.parametrize(
    "original",
    [os.stat, os.mkdir, os.scandir, os.makedirs, os.walk, open, posixpath.getsize, os.unlink],
    ids=lambda function: function.__name__,
)
def test_proxies_look_like_their_originals(original: Callable[..., Any]) -> None:
    @proxy_for(original)
    def proxy(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    assert inspect.signature(proxy) == inspect.signature(original)
    assert proxy.__name__ == original.__name__
    assert proxy.__qualname__ == original.__qualname__
    assert proxy.__doc__ == original.__doc__
    assert getattr(importlib.import_module(proxy.__module__), proxy.__qualname__) is original


@pytest.mark.parametrize("original", [os.stat, os.makedirs], ids=["builtin", "function"])
def test_proxies_bind_in_classes_as_their_originals_do(original: Callable[..., Any]) -> None:
    @proxy_for(original)
    def proxy(*args: Any) -> Any:
        return args

    class Owner:
        attribute = proxy

    owner = Owner()
    bound = (owner, 1) if isinstance(original, FunctionType) else (1,)
    assert owner.attribute(1) == bound
    assert Owner.attribute(1) == (1,)
    assert copy.deepcopy(proxy) is proxy
    assert {proxy: 1}[proxy] == 1
    assert functools.partial(proxy, 1)() == (1,)


def test_proxies_without_an_inspectable_original() -> None:
    @proxy_for(dict.update, module="m", qualname="C.update")
    def proxy(*args: Any) -> None:
        pass

    assert (proxy.__module__, proxy.__qualname__) == ("m", "C.update")
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(proxy)


def test_pickles_by_reference(standard: Patcher) -> None:
    original = (os.stat, os.path.exists, open)
    standard.acquire()
    proxies = (os.stat, os.path.exists, open)
    try:
        during = pickle.dumps(proxies)
        assert pickle.loads(during) == proxies
    finally:
        standard.release()
    assert original != proxies
    # Loaded where nothing is patched, the name stands for the original; and the reverse.
    assert pickle.loads(during) == original
    assert pickle.loads(pickle.dumps(original)) == original


def test_a_proxy_with_a_place_of_its_own_can_always_be_pickled(user: SimpleNamespace) -> None:
    proxy = user.proxies.lasting_proxy
    patcher = Patcher([Replacement(os, "lstat", proxy)], exclude=[_EXCLUDED])
    patcher.acquire()
    during = pickle.dumps(os.lstat)
    patcher.release()
    assert pickle.loads(during) is pickle.loads(pickle.dumps(proxy)) is proxy
    assert inspect.signature(proxy) == inspect.signature(os.lstat)


def test_functions_captured_during_a_context_can_be_pickled() -> None:
    from pycapio.proxies.table import patcher

    patcher.acquire()
    captured = (os.stat, open, os.makedirs, os.path.exists, os.path.islink, os.path.ismount)
    partial = functools.partial(os.path.exists, "/")
    during = pickle.dumps(captured)
    patcher.release()
    now = (os.stat, open, os.makedirs, os.path.exists, os.path.islink, os.path.ismount)
    assert not set(captured) & set(now)
    assert pickle.loads(during) == now
    # Of C functions that which is there now, of others themselves, which act as it does.
    assert pickle.loads(pickle.dumps(captured)) == (*now[:2], *captured[2:])
    assert pickle.loads(pickle.dumps(partial))()
    patcher.acquire()
    try:
        assert pickle.loads(pickle.dumps(captured)) == captured == pickle.loads(during)
    finally:
        patcher.release()


def test_proxies_of_built_in_functions_look_built_in() -> None:
    @proxy_for(os.stat)
    def proxy(path: int, *, dir_fd: str = "", follow_symlinks: bool = False) -> None:
        pass

    assert inspect.isbuiltin(proxy) and inspect.isroutine(proxy)
    assert isinstance(proxy, type(os.stat)) and proxy.__self__ is os.stat.__self__
    assert inspect.getfullargspec(proxy) == inspect.getfullargspec(os.stat)
    assert repr(proxy) == repr(os.stat)
    assert pydoc.render_doc(proxy) == pydoc.render_doc(os.stat).replace("module posix", "module os")


# Costs


def test_little_is_imported() -> None:
    run(
        """
        import sys
        heavy = {"dataclasses", "inspect", "typing", "contextlib", "re", "logging"}
        assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
        """
    )


def run(script: str) -> None:
    """Run a script in a fresh interpreter, which imports the module under test alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ALONE.format(script=textwrap.dedent(script))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATCHING": str(_PATCHING)},
    )
    assert done.returncode == 0, done.stderr


_ALONE = """\
import os, sys
# The package above it is not run.
sys.modules["pycapio"] = type(sys)("pycapio")
sys.modules["pycapio"].__path__ = [os.path.dirname(os.environ["PATCHING"])]
import pycapio.patching
{script}
"""
