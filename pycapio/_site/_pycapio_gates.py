"""Gates: what a child Python of a launcher run finds in place of open, os.stat and the like.

A gate is the original function until it is called with a path inside CAPIO_DIR. Then all of
pycapio is imported, the process attaches to the workflow as a client of the step that started it,
the functions are patched as the launcher patches them, and the call goes on to the proxy. A child
that never touches CAPIO_DIR pays for the gates only.

The resource tracker gets none. A fork server has closed gates, since its children by fork may
be anything's; they are opened in the children.
"""

import os
import sys
from _thread import RLock, get_ident

# The typing module would cost more than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# Where the functions of C modules are found by name.
_PUBLIC_MODULES = {"posix": "os", "_io": "io"}
# Calls whose second argument is a path, too.
_TWO_PATHS = ("rename", "replace", "renames", "link", "symlink")
# Calls that start a program: which arguments may name CAPIO's files.
_PROGRAMS = {
    "fork_exec": (0, 1, 4),
    "posix_spawn": (0, 1),
    "posix_spawnp": (0, 1),
    "execv": (0, 1),
    "execve": (0, 1),
    "system": (0,),
}

# Calls that concern CAPIO if the process was started in a directory of the store.
_WHERE_AM_I = ("getcwd", "getcwdb")

_CLOSED, _READY, _OPEN = range(3)
_getcwd = os.getcwd
_fspath = os.fspath
_fsdecode = os.fsdecode
_normpath = os.path.normpath
_lstat = os.lstat


class _State:
    def __init__(self) -> None:
        self.phase = _CLOSED
        self.roots: tuple[str, ...] = ()
        # The store's directories that stand for CAPIO_DIR: in memory, on disk.
        self.trees: tuple[str, ...] = ()
        self.lock = RLock()
        self.opener = 0  # the thread that is opening the gates
        self.handover = ""  # from this process, before it became this program by exec


_state = _State()


class Gate:
    """Stands for one function. An instance, so that like a builtin it does not become a method."""

    __slots__ = ("__dict__", "arguments", "name", "original", "owner", "paths")

    def __init__(self, owner: "Any", name: str, original: "Callable[..., Any]") -> None:
        self.owner = owner
        self.name = name
        self.original = original
        self.arguments: tuple[int, ...] = _PROGRAMS.get(name, ())
        self.paths = 2 if name in _TWO_PATHS else 1
        for attribute in ("__name__", "__qualname__", "__doc__"):
            setattr(self, attribute, getattr(original, attribute, None))
        module = original.__module__
        self.__module__ = _PUBLIC_MODULES.get(module, module)
        self.__wrapped__ = original  # for inspect.signature

    def __call__(self, /, *args: "Any", **kwargs: "Any") -> "Any":
        if are_ready() and self._concerns(args, kwargs):
            open_gates()
            return getattr(self.owner, self.name)(*args, **kwargs)
        # Once the gates are open only the proxies call them: for the original. And os.execvp, which
        # holds on to what it began with.
        if (
            self.arguments
            and _state.phase == _OPEN
            and not sys._getframe(1).f_globals.get("__name__", "").startswith("pycapio.")
        ):
            return getattr(self.owner, self.name)(*args, **kwargs)
        return self.original(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.original)

    def __reduce__(self) -> str:
        return self.name  # found in its module, as the original is

    def _concerns(self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> bool:
        if self.name in _WHERE_AM_I:
            return _in_store()
        if self.arguments:
            return _in_capio_dir(".") or any(
                _names_capio_dir(args[index]) for index in self.arguments if index < len(args)
            )
        if kwargs and any(_in_capio_dir(value) for value in kwargs.values()):
            return True
        if not args:
            return not kwargs and _in_capio_dir(".")
        return _in_capio_dir(args[0]) or (
            self.paths == 2 and len(args) > 1 and _in_capio_dir(args[1])
        )


class FunctionGate(Gate):
    """For an original written in Python, which would become a method."""

    def __get__(self, instance: "Any", owner: "Any" = None) -> "Any":
        return self if instance is None else self.original.__get__(instance, owner)


def _in_capio_dir(path: "Any") -> bool:
    if not isinstance(path, (str, bytes)):
        if isinstance(path, int) or not hasattr(type(path), "__fspath__"):
            return False
        path = _fspath(path)
    text = path if isinstance(path, str) else _fsdecode(path)
    if text[:1] != "/":
        if _in_store():
            return True
        try:
            text = _getcwd() + "/" + text
        except OSError:
            return False
    elif not text.startswith(_state.roots) and not (".." in text or "//" in text or "/./" in text):
        return False
    return relative(_normpath(text)) is not None


def _in_store() -> bool:
    try:
        return _below(_state.trees, _getcwd()) is not None
    except OSError:
        return False


def _below(directories: "tuple[str, ...]", path: str) -> "str | None":
    """A normalised path relative to the first of the directories that it is in."""
    for directory in directories:
        if path == directory:
            return ""
        if path.startswith(directory + "/"):
            return path[len(directory) + 1 :]
    return None


def relative(path: str) -> "str | None":
    """A normalised path relative to CAPIO_DIR; None if it is outside."""
    return _below(_state.roots, path)


def user_path(path: str) -> "str | None":
    """The path in CAPIO_DIR, absolute, of one there or in the store; None if it is neither."""
    if path[:1] == "/" and not path.startswith(_state.roots + _state.trees):
        return None
    try:
        name = _normpath(path if path[:1] == "/" else _getcwd() + "/" + path)
    except OSError:
        return None
    # The store on disk lies inside CAPIO_DIR.
    for directories in (_state.trees, _state.roots):
        found = _below(directories, name)
        if found is not None:
            return _state.roots[0] + ("/" + found if found else "")
    return None


def is_there(path: str) -> bool:
    """os.path.lexists, without a gate."""
    try:
        _lstat(path)
    except (OSError, ValueError):
        return False
    return True


def trees() -> "tuple[str, ...]":
    """The store's directories that stand for CAPIO_DIR."""
    return _state.trees


def are_ready() -> bool:
    """Whether a touch of CAPIO_DIR would open the gates."""
    return _state.phase == _READY and _state.opener != get_ident()


def _names_capio_dir(argument: "Any") -> bool:
    if isinstance(argument, (list, tuple)):
        return any(_names_capio_dir(part) for part in argument)
    if not isinstance(argument, (str, bytes)):
        return False
    text = argument if isinstance(argument, str) else _fsdecode(argument)
    return any(root in text for root in _state.roots)


def install() -> None:
    """Puts the gates in place, as the environment says. Costs about a millisecond."""
    command = sys.orig_argv[sys.orig_argv.index("-c") + 1] if "-c" in sys.orig_argv[:-1] else ""
    if command.startswith("from multiprocessing.resource_tracker import"):
        return
    handover = os.environ.pop("CAPIO_CHILDREN_HANDOVER", "")
    names = os.environ.get("CAPIO_CHILDREN_GATES", "")
    if not names or not os.environ.get("CAPIO_CHILDREN"):
        return
    directory = os.path.abspath(os.environ["CAPIO_DIR"])
    _state.roots = tuple(dict.fromkeys((directory, os.path.realpath(directory))))
    trees = (os.environ.get("CAPIO_CHILDREN_" + name, "") for name in ("TREE", "DISK_TREE"))
    _state.trees = tuple(filter(None, trees))
    _put(names.split())
    import _pycapio_imports as imports  # type: ignore[import-not-found]

    imports.watch_modules()
    if command.startswith("from multiprocessing.forkserver import"):
        os.register_at_fork(after_in_child=_make_ready)
    else:
        _state.phase = _READY
        os.register_at_fork(after_in_child=_after_fork)
        imports.watch_script()
        if f":{os.getpid()}:" in handover:
            # It is a client already, and how it ends counts whether it touches CAPIO_DIR or not.
            _state.handover = handover
            open_gates()


def _put(names: "Iterable[str]") -> None:
    import builtins
    import genericpath
    import io

    owners = {"builtins": builtins, "genericpath": genericpath, "io": io, "os": os}
    owners["posixpath"] = os.path
    by_original: dict[int, Gate] = {}
    for entry in names:
        module, _, name = entry.rpartition(".")
        owner: Any = owners.get(module) or sys.modules.get(module)
        if owner is None:
            owner = owners[module] = __import__(module)
        original = getattr(owner, name, None)
        if original is None:
            continue
        gate = by_original.get(id(original))
        if gate is None:
            kind = FunctionGate if hasattr(type(original), "__get__") else Gate
            gate = by_original[id(original)] = kind(owner, name, original)
        setattr(owner, name, gate)
    for label in ("dir_fd", "effective_ids", "fd", "follow_symlinks"):
        members = getattr(os, "supports_" + label, None)
        if members is not None:
            members.update([gate for gate in by_original.values() if gate.original in members])
    # What modules imported before us hold by name. The import system keeps its own.
    for name, loaded in list(sys.modules.items()):
        if name in ("posix", "_io", __name__) or "importlib" in name or name == "zipimport":
            continue
        namespace = getattr(loaded, "__dict__", {})
        for key, value in list(namespace.items()):
            gate = by_original.get(id(value))
            if gate is not None:
                namespace[key] = gate


def open_gates() -> None:
    """Attaches and patches. Whoever comes meanwhile waits. Raises PyCAPIOException."""
    with _state.lock:
        if _state.phase != _READY:
            return
        _state.opener = get_ident()
        try:
            _enter()
            _state.phase = _OPEN
        finally:
            _state.opener = 0


def _enter() -> None:
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Not installed in this environment, perhaps: then the parent's own one, if cffi is there.
    sys.path.append(os.path.dirname(package))
    try:
        from pycapio import _capio_abi, children  # noqa: F401 - the first one needs cffi
    except ImportError as error:
        sys.stderr.write(
            f"pycapio: the files of {sys.executable} (pid {os.getpid()}) are not intercepted: "
            f"{error}\n"
        )
        return
    finally:
        sys.path.remove(os.path.dirname(package))
    children.enter(os.environ["CAPIO_CHILDREN"], _state.handover)


def disarm() -> None:
    """For a child that is a launcher itself: it knows better which step it is."""
    if _state.phase == _READY:
        _state.phase = _CLOSED


def _make_ready() -> None:
    _state.lock = RLock()
    _state.opener = 0
    _state.phase = _READY
    # Its own children by fork inherit what it is.
    os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    _state.lock = RLock()
    _state.opener = 0
