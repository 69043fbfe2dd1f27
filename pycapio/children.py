"""Child processes that are Python: how they come to be clients of the step that started them.

Children by fork inherit all they need. A Python that a launcher run starts finds the sitecustomize
of ``pycapio._site`` through PYTHONPATH (see there). A ``multiprocessing`` child by spawn or
forkserver of a CapioContext function is told by its own Process object.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final

from pycapio import session as _session
from pycapio._pycapio import FOR_CONTENT
from pycapio.patching import Site, proxy_for
from pycapio.session import Session, SessionOptions

SITE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")

_GATED_MODULES: Final = ("builtins", "genericpath", "io", "os", "posixpath", "_posixsubprocess")
# Functions that come to a CAPIO file only by a descriptor or a directory that another one gave.
_NEED_NO_GATE: Final = frozenset(
    "_exit abort copy_file_range fork forkpty kill killpg splice wait wait3".split()
)
_DESCRIPTOR_FIRST: Final = ("fd", "pid", "out_fd", "in_fd", "idtype", "fd_low")


# ---- what a child Python is given ---------------------------------------------------------------

_inherited: dict[bytes, bytes] = {}
_exported: Session | None = None


def export(session: Session, gates: Iterable[str]) -> None:
    """From now on the Pythons that this process starts are clients of the session's app.

    gates: the functions ("os.stat") by which they may first touch CAPIO_DIR. ``os.environ`` stays
    as it is: only what children are given changes.
    """
    import json

    global _exported
    _exported = session
    options = json.dumps(session.options._asdict())
    _inherited.update(
        {
            b"CAPIO_DIR": os.fsencode(session.options.capio_dir),
            b"CAPIO_CHILDREN": options.encode(),
            b"CAPIO_CHILDREN_GATES": " ".join(gates).encode(),
            b"CAPIO_CHILDREN_TREE": os.fsencode(session.tree_dir),
            b"CAPIO_CHILDREN_DISK_TREE": os.fsencode(session.disk_tree_dir),
        }
    )
    _put_ours()


def _put_ours() -> None:
    """Puts what is ours into the process's own environment, as its children get it."""
    python_path = os.environb.get(b"PYTHONPATH", b"")
    for name, value in _with_ours({b"PYTHONPATH": python_path}).items():
        os.putenv(name, value)


def exporting() -> bool:
    """Whether child Pythons are intercepted."""
    return bool(_inherited)


def heir(program: Any) -> Session | None:
    """The session that an intercepted Python takes over which this process becomes by exec. None if
    it may be unable to: it is another Python, perhaps of another environment."""
    return _exported if os.fsencode(program) == os.fsencode(sys.executable or "") else None


def _with_ours(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    path = environment.get(b"PYTHONPATH", b"")
    ours = os.fsencode(SITE)
    if ours not in path.split(b":"):
        path = ours + b":" + path if path else ours
    return {**environment, **_inherited, b"PYTHONPATH": path}


def environment_list(entries: Any) -> Any:
    """The environment for a child, as fork_exec takes it: None, or a list of b"NAME=value"."""
    if not _inherited:
        return entries
    if entries is None:
        _put_ours()  # once more: whoever changes os.environ takes it out
        return None
    if not isinstance(entries, (list, tuple)) or not all(isinstance(e, bytes) for e in entries):
        return entries
    given = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry[1:])
    return [b"%b=%b" % pair for pair in _with_ours(given).items()]


HANDOVER: Final = b"CAPIO_CHILDREN_HANDOVER"


def put_handover(text: str) -> None:
    """Puts into the process's own environment what the program it becomes by exec is given. ""
    takes it out."""
    if text and _inherited:
        os.putenv(HANDOVER, text)
    else:
        os.unsetenv(HANDOVER)


def environment_mapping(mapping: Any, handover: str = "") -> Any:
    """The environment for a child, as execve and posix_spawn take it: a mapping, or None from
    Python 3.13 on."""
    if not _inherited:
        return mapping
    if mapping is None:
        _put_ours()  # as for fork_exec
        return None
    try:
        given = {os.fsencode(name): os.fsencode(value) for name, value in mapping.items()}
    except (AttributeError, TypeError, ValueError):  # the original says what is wrong
        return mapping
    if handover:
        given[HANDOVER] = handover.encode()
    return _with_ours(given)


def gated(replacements: Iterable[Any]) -> list[str]:
    """Those of the patched functions that need a gate in a child."""
    names = []
    for row in replacements:
        original = getattr(row.owner, row.name, None)
        if (
            isinstance(row.owner, ModuleType)
            and row.owner.__name__ in _GATED_MODULES
            and row.name not in _NEED_NO_GATE
            and callable(original)
            and not isinstance(original, type)
            and not _first_argument(original).startswith(_DESCRIPTOR_FIRST)
        ):
            names.append(f"{row.owner.__name__}.{row.name}")
    return names


def _first_argument(function: Any) -> str:
    signature: str = getattr(function, "__text_signature__", None) or ""
    return signature.removeprefix("($module, ").removeprefix("/, ")


def enter(options: str, handover: str = "") -> None:
    """In a child: attaches and patches, as the launcher that started it has.

    options: what export() has written; handover: what the process was given by itself before exec.
    Raises PyCAPIOException.
    """
    import json

    from pycapio import context

    known = {
        name: value for name, value in json.loads(options).items() if name in SessionOptions._fields
    }
    context.launch(SessionOptions(**known), children=True, handover=handover)


def main_importer(name: str, filename: str) -> Any:
    """In a child: what the interpreter is to run as its main program.

    name: as the command line has it. filename: what the interpreter makes of it. Waits for one that
    other apps are to produce. Raises ImportError for what the interpreter is to open itself, if
    only to say what is wrong with it.
    """
    from pycapio import _runner

    try:
        found = _session.backing_path(name, FOR_CONTENT)
        if os.path.isdir(name):
            return importlib.machinery.FileFinder(filename)  # where ours looks first
        if zipfile := _zip_file(filename):
            return zipfile
        if found is name:
            raise ImportError
        return _runner.ScriptImporter(name, filename)
    except OSError:
        raise ImportError from None


def _zip_file(filename: str) -> Any:
    import zipimport

    try:
        return zipimport.zipimporter(filename)
    except zipimport.ZipImportError:
        return None


def disarm() -> None:
    """For a launcher that is itself a child of a launcher run: it is a step of its own."""
    gates = sys.modules.get("_pycapio_gates")
    if gates is not None:
        gates.disarm()
    for name in ("CAPIO_CHILDREN", "CAPIO_CHILDREN_GATES"):
        os.environ.pop(name, None)
    _inherited.clear()


# ---- multiprocessing: children of a CapioContext function ----------------------------------------


class _Inheritance:
    """Travels with a Process object; unpickled in the child, it makes that a client."""

    def __init__(self, sessions: tuple[SessionOptions, ...]) -> None:
        self.sessions = sessions

    def __reduce__(self) -> Any:
        return _inherit, (self.sessions,)


def _inherit(sessions: tuple[SessionOptions, ...]) -> None:
    from pycapio import context
    from pycapio.proxies.table import patcher

    for options in sessions:
        context.launch(options, children=False)
    entered = tuple(context.session_of(options) for options in sessions)
    _session.set_entered(entered)
    patcher.acquire()  # for good


PROCESS_MODULE: Final = "multiprocessing.process"


class StartSite(Site):
    """Process.start, replaced so that the process inherits the sessions in use."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_process_class, "start", None, None)

    def read(self, holder: Any) -> Any:
        return vars(holder)[self.key]

    def fits(self, before: Any) -> bool:
        """Always. Makes a twin of what is there."""
        if before is not self.old and before is not self.new:
            self.old, self.new = before, _start_for(before)
        return True

    def write(self, holder: Any, value: Any) -> None:
        setattr(holder, self.key, value)

    def restore(self, holder: Any, before: Any) -> None:
        super().restore(holder, self.old)


def _process_class() -> Any:
    """None as long as nobody has imported it."""
    return getattr(sys.modules.get(PROCESS_MODULE), "BaseProcess", None)


def _start_for(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @proxy_for(original)
    def start(self: Any) -> None:
        from pycapio.proxies.table import patcher

        sessions = tuple(s.options for s in _session.current() if s.handle is not None)
        # No users: a launched script outside of any context, which wants no such children.
        if not sessions or exporting() or not patcher.users:
            return original(self)
        self._pycapio = _Inheritance(sessions)
        try:
            original(self)
        finally:
            del self._pycapio

    return start


start_site: Final = StartSite()
