"""One attachment of this process to (workflow, CAPIO_DIR, app), and which one answers a call."""

from __future__ import annotations

import atexit
import errno
import os
import posixpath
import stat as _stat
import sys
import threading
import weakref
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from pycapio import _native, _pycapio, descriptors
from pycapio._pycapio import (
    CAPIO_DEFAULT_APP_NAME,
    CAPIO_DEFAULT_WORKFLOW_NAME,
    FOR_LOOKUP,
    PyCAPIOException,
    encoded,
)

_chdir = os.chdir
_chmod = os.chmod
_getcwdb = os.getcwdb
_mkdir = os.mkdir
_os_readlink = os.readlink
_os_stat = os.stat

_O_ACCMODE: Final = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


class SessionOptions(NamedTuple):
    """How to attach; the fields are CapioContext's arguments, and three of the launcher's."""

    capio_dir: str = "."
    app_name: str = CAPIO_DEFAULT_APP_NAME
    workflow_name: str = CAPIO_DEFAULT_WORKFLOW_NAME
    silent: bool = True
    server_exec_path: str = "capio_server"
    capio_cl_configuration_file: str = ""
    await_server_timeout_seconds: float = 2
    teardown_server: bool = True
    persist: bool = True
    resume: bool = False
    resolve_prefix: str = ""

    @property
    def flags(self) -> int:
        return (
            (_pycapio.SESSION_SILENT if self.silent else 0)
            | (_pycapio.SESSION_TEARDOWN if self.teardown_server else 0)
            | (_pycapio.SESSION_PERSIST if self.persist else 0)
            | (_pycapio.SESSION_RESUME if self.resume else 0)
        )


class Session:
    """A client. Created attached; ``end`` announces how the process ends, ``close`` ends it now.

    Holds only weak references to file objects, so that one nobody closed is still flushed by the
    garbage collector.
    """

    def __init__(self, options: SessionOptions, handover: str = "") -> None:
        """Attaches, starting the server if there is none. handover: what ``become_another`` has
        returned in this process before exec; then it is the same client.

        Raises PyCAPIOException; its errno is EINVAL for a CAPIO-CL file with errors. Waits for the
        server at most await_server_timeout_seconds.
        """
        self.options = options
        self.handle: Any = None
        self.users = 0
        # By the id of its raw object, each file object that the raw one is part of. A raw object
        # takes its entry away when it is closed, which is before its id is another's.
        self.files: dict[int, weakref.ref[Any]] = {}
        self._lock = threading.Lock()
        self.roots: tuple[str, ...] = ()
        self.byte_roots: tuple[bytes, ...] = ()
        self._rules: set[str] = set()
        self.attach(handover)
        for fd, handle in _pycapio.inherited(self.handle) if handover else ():
            name = _os_readlink(f"/proc/self/fd/{fd}")
            descriptors.register(fd, self, handle, self.user_path(name) or name, writer=True)

    def attach(self, handover: str = "") -> None:
        """Attaches again after ``close``; does nothing while attached."""
        with self._lock:
            if self.handle is not None:
                return
            options = self.options
            _fix_store()
            capio_dir = os.path.abspath(os.fspath(options.capio_dir))
            self.handle = _pycapio.open_session(
                capio_dir=capio_dir,
                app_name=options.app_name,
                workflow_name=options.workflow_name,
                server_path=_server(options.server_exec_path),
                config_path=_absolute(options.capio_cl_configuration_file),
                resolve_prefix=_absolute(options.resolve_prefix),
                handover=handover,
                await_server_ms=_await_ms(options.await_server_timeout_seconds),
                flags=options.flags | _worker_flag(),
            )
            self.options = options._replace(capio_dir=capio_dir)
            self._rules = set()  # it may be another run
            self.real_dir = _pycapio.session_info(self.handle, _pycapio.INFO_REALDIR)
            self.roots = tuple({capio_dir, self.real_dir})
            self.byte_roots = tuple(os.fsencode(root) for root in self.roots)
            self.tree_dir = _pycapio.session_info(self.handle, _pycapio.INFO_TREE)
            self._byte_dirs = (os.fsencode(self.tree_dir), os.fsencode(self.real_dir))
            store = _pycapio.session_info(self.handle, _pycapio.INFO_STORE)
            # What CAPIO keeps in CAPIO_DIR itself.
            self.private_dir = os.path.join(self.real_dir, ".capio", os.path.basename(store))
            self.disk_tree_dir = os.path.join(self.private_dir, "tree")
        _sessions.add(self)
        if "multiprocessing.util" in sys.modules and _worker_flag():
            _register_worker_goodbye(self)

    @property
    def app_name(self) -> str:
        return self.options.app_name

    @property
    def workflow_name(self) -> str:
        return self.options.workflow_name

    @property
    def capio_dir(self) -> str:
        """CAPIO_DIR, absolute."""
        return self.options.capio_dir

    @property
    def server_pid(self) -> int:
        """The server's process id, 0 if none is running."""
        return int(_pycapio.session_info(self.handle, _pycapio.INFO_SERVER_PID))

    def may_manage(self, path: str | bytes) -> bool:
        """False for a path that is certainly outside CAPIO_DIR, without any system call."""
        if isinstance(path, str):
            if path.startswith(self.roots) or path[:1] != "/":
                return True
            return ".." in path or "//" in path or "/./" in path
        if path.startswith(self.byte_roots) or path[:1] != b"/":
            return True
        return b".." in path or b"//" in path or b"/./" in path

    def stores(self, path: str) -> bool:
        """Whether a path is one of the store's own."""
        if self.handle is None:
            return False
        store = _pycapio.session_info(self.handle, _pycapio.INFO_STORE)
        return path.startswith((store + "/", os.path.join(self.real_dir, ".capio") + "/"))

    def add_rules(self, rules: Iterable[str]) -> None:
        """Adds rules (their texts, see CapioCLRule) to the workflow: all of them, or none and
        PyCAPIOException. Those it has added before cost nothing."""
        new = [rule for rule in dict.fromkeys(rules) if rule not in self._rules]
        if new:
            _pycapio.add_rules(self.handle, "[" + ",".join(new) + "]")
            self._rules.update(new)

    def flush(self) -> None:
        """Flushes every open file object; one that fails is left to its own close."""
        for reference in list(self.files.values()):
            file = reference()
            try:
                if file is not None and not file.closed:
                    file.flush()
            except (OSError, ValueError):
                continue

    def end(self, bad: bool) -> None:
        """Announces how this process will end: bad fails what its end would commit.

        The end itself is the process's; threads and exit functions may still write.
        """
        if self.handle is None:
            return
        self.flush()
        if bad:
            _pycapio.goodbye(self.handle, True)

    def goodbye(self, bad: bool) -> None:
        """Flushes and announces an end that no exit handler sees (os._exit, a pool's worker)."""
        if self.handle is None:
            return
        self.flush()
        _pycapio.goodbye(self.handle, bad)

    def become_another(self, attaches: bool) -> str:
        """Flushes and announces exec. Returns what the program that comes next may be given, to be
        this client; "" if this process is none. attaches: it will be."""
        if self.handle is None:
            return ""
        self.flush()
        return _pycapio.session_exec(self.handle, attaches)

    def take_back_goodbye(self) -> None:
        """The announced clean end, or exec, does not come: the process goes on."""
        if self.handle is not None:
            _pycapio.take_back_goodbye(self.handle)

    def goodbye_child(self, pid: int) -> None:
        """Announces that this process is about to end a child of its own: no death of the step."""
        if self.handle is not None:
            _pycapio.goodbye_child(self.handle, pid)

    def fail_abandoned(self) -> None:
        """Fails the files that were left by an exception."""
        if self.handle is not None:
            _pycapio.fail_abandoned(self.handle)

    def cancel_waits(self) -> None:
        """Ends all waits of the process with OSError ECANCELED: it is unwinding."""
        _pycapio.cancel_waits(True)

    @property
    def has_open_files(self) -> bool:
        files = [reference() for reference in list(self.files.values())]
        return any(file is not None and not file.closed for file in files) or descriptors.any_of(
            self
        )

    def close(self, *, wait_seconds: float = 0) -> None:
        """Ends the session now: what the end of its app commits is committed.

        wait_seconds: how long to wait for the server's word that it is safe in CAPIO_DIR.
        """
        with self._lock:
            handle, self.handle = self.handle, None
        if handle is None:
            return
        self.flush()
        _sessions.discard(self)
        _pycapio.close_session(handle, int(wait_seconds * 1000))

    def resolve(
        self,
        path: str | bytes,
        purpose: int,
        exempt: _pycapio.Exempt | None = None,
        shown: Any = None,
    ) -> Any:
        """The backing path (of path's type), or None if the path is not CAPIO's. shown: the path in
        errors, if that is another one."""
        if shown is None:
            shown = path
        backing = _pycapio.resolve(self.handle, encoded(path), purpose, shown, exempt)
        if backing is None:
            return None
        return backing if isinstance(path, bytes) else os.fsdecode(backing)

    def user_path(self, name: str) -> str | None:
        """The path in CAPIO_DIR, resolved, of what the kernel calls by an absolute name; None if it
        is neither in the store nor in CAPIO_DIR."""
        if not name.startswith((self.tree_dir, self.real_dir)):
            return None
        found = _pycapio.user_path(self.handle, os.fsencode(name))
        return None if found is None else os.fsdecode(found)

    def leave_store(self) -> None:
        """If the current directory is one of the store's, which may vanish: enters the one of that
        name in CAPIO_DIR itself, made if need be, so that the path stays what it was."""
        try:
            name = _getcwdb()
        except OSError:
            return
        if not name.startswith(self._byte_dirs):
            return
        inside = os.fsdecode(name)
        path = self.user_path(inside) if self.handle is not None else None
        if path is None or path == inside:
            return
        try:
            _make_directories(path, inside)
            _chdir(path)
        except OSError as error:
            print(
                f"pycapio: warning: the current directory {path} exists only in the store, and "
                f"cannot be made: {error.strerror}; it is {self.real_dir} now",
                file=sys.stderr,
            )
            _chdir(self.real_dir)


def _make_directories(path: str, model: str) -> None:
    """Makes a directory and those above it with the modes of another one and those above that."""
    try:
        if _stat.S_ISDIR(_os_stat(path).st_mode):
            return
    except FileNotFoundError:
        _make_directories(posixpath.dirname(path), posixpath.dirname(model))
    _mkdir(path)
    _chmod(path, _stat.S_IMODE(_os_stat(model).st_mode))


def _worker_flag() -> int:
    # A pool ends its workers by SIGTERM: that is no death of the step.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return _pycapio.SESSION_WORKER
    return 0


def _await_ms(seconds: float) -> int:
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"await_server_timeout_seconds is a {type(seconds).__name__}, not a number")
    if not seconds > 0:
        raise ValueError(f"await_server_timeout_seconds is a number above 0, not {seconds!r}")
    return max(1, int(min(seconds, 1e6) * 1000))


def _fix_store() -> None:
    # Child processes, and this one after a chdir, mean the same store by a relative name.
    store = os.environ.get("CAPIO_STORE")
    if store and not os.path.isabs(store):
        os.environ["CAPIO_STORE"] = os.path.abspath(store)


def _absolute(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    return os.path.abspath(path) if path else ""


def _server(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    if path != _native.SERVER_NAME:
        return path
    try:
        return os.fspath(_native.server_path())
    except _native.LibraryNotFound as error:
        raise PyCAPIOException(str(error), errno.ENOENT) from None


# ---- which session answers ---------------------------------------------------------------------

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
# Sessions entered in this context (thread, task), outermost first.
_entered: ContextVar[tuple[Session, ...]] = ContextVar("pycapio_entered", default=())
# Sessions in use anywhere in the process, oldest first: they answer for threads that entered none.
_in_use: list[Session] = []
_registry_lock = threading.RLock()


def current() -> tuple[Session, ...]:
    """The sessions that may answer a call made here, outermost first."""
    return _entered.get() or tuple(_in_use)


# The sessions entered in this context, to read and to set: without a frame, as each call does both.
entered: Final = _entered.get
set_entered: Final = _entered.set


def session_for(path: str | bytes) -> Session | None:
    """The innermost session whose CAPIO_DIR may hold the path."""
    for session in reversed(_entered.get() or _in_use):
        if session.handle is not None:
            roots: Any = session.roots if isinstance(path, str) else session.byte_roots
            if path.startswith(roots) or session.may_manage(path):
                return session
    return None


def start_using(session: Session) -> None:
    """Counts a user. A session that is used while others lie idle ends those: an app of this
    process must not wait for the end of this very process."""
    with _registry_lock:
        if session.users == 0:
            if session.handle is None:
                session.attach()  # may fail, and then there is no user
            _in_use.append(session)
            if len(_sessions) > 1:
                _end_idle_sessions(session)
        session.users += 1


def stop_using(session: Session) -> None:
    with _registry_lock:
        session.users -= 1
        if session.users == 0:
            _in_use.remove(session)
            session.leave_store()
            if _in_use and any(o.workflow_name == session.workflow_name for o in _in_use):
                _end_if_idle(session)


def _end_idle_sessions(user: Session) -> None:
    for session in list(_sessions):
        if session is not user and session.workflow_name == user.workflow_name:
            _end_if_idle(session)


def _end_if_idle(session: Session) -> None:
    if session.users == 0 and not session.has_open_files:
        session.close()


def _on_self_wait(needs: list[str], path: Any) -> None:
    """A wait for apps all of whose processes are this one, from inside one of them, cannot end."""
    stack = {session.app_name for session in entered()[:-1]}
    waiting = entered()[-1:] or current()[-1:]
    if needs and all(name in stack for name in needs):
        raise OSError(
            errno.EDEADLK,
            f"app '{waiting[0].app_name}' waits for app '{needs[0]}', which called it and cannot "
            "end before it returns; close the file under an on_close rule, or call the two one "
            "after the other",
            path,
        )


_pycapio.on_self_wait = _on_self_wait


# ---- the end of the process --------------------------------------------------------------------


def _flush_at_exit() -> None:
    """Runs after the program's own exit functions. Does not end anything: files that Python flushes
    later still arrive, and libcapio's exit handler sees the exit status."""
    for session in list(_sessions):
        session.flush()
    # After an uncaught KeyboardInterrupt Python kills itself, and no exit handler of C runs. At a
    # prompt (sys.ps1) the one that was shown is over.
    if _sessions and _pycapio.interrupt_was_uncaught() and not hasattr(sys, "ps1"):
        _pycapio.end_by_signal_after_python()


atexit.register(_flush_at_exit)


# Sessions whose workers, and theirs, are told of in multiprocessing.util.
_with_goodbye: Final[weakref.WeakSet[Session]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # What is in the buffers of inherited files is the parent's to write.
    for session in list(_sessions):
        session.files.clear()
    # A worker of multiprocessing leaves by os._exit and tells nobody but its finalizers.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        for session in list(_sessions):
            if session not in _with_goodbye:  # which its own children inherit
                _with_goodbye.add(session)
                util.register_after_fork(session, _register_worker_goodbye)


def _register_worker_goodbye(session: Session) -> None:
    util = sys.modules["multiprocessing.util"]
    util.Finalize(None, _worker_goodbye, args=(weakref.ref(session),), exitpriority=-100)


def _worker_goodbye(reference: weakref.ref[Session]) -> None:
    session = reference()
    if session is not None:
        error = sys.exc_info()[1]
        bad = error is not None and not (isinstance(error, SystemExit) and not error.code)
        session.goodbye(bad)


os.register_at_fork(after_in_child=_after_fork_in_child)


def goodbye_all(bad: bool) -> None:
    """For os._exit: announces the end of every session."""
    for session in list(_sessions):
        session.goodbye(bad)


def become_another(heir: Session | None) -> str:
    """For exec: announces it for every session. heir: the one that the next program will take over.
    Returns what that is given."""
    handovers = [session.become_another(session is heir) for session in list(_sessions)]
    return " ".join(filter(None, handovers))


def end_others(session: Session) -> None:
    """Ends the sessions in use but this one: the process is another step now."""
    for other in list(_in_use):
        if other is not session:
            stop_using(other)
            other.close()


def take_back_goodbyes() -> None:
    """After an exec that failed: the sessions go on."""
    for session in list(_sessions):
        session.take_back_goodbye()


# ---- the low-level API -------------------------------------------------------------------------

_default: Session | None = None


def pycapio_init(
    CAPIO_DIR: str = ".",
    CAPIO_APP_NAME: str = CAPIO_DEFAULT_APP_NAME,
    CAPIO_WORKFLOW_NAME: str = CAPIO_DEFAULT_WORKFLOW_NAME,
    capio_server_exec_path: str = "capio_server",
    capio_cl_configuration_file: str = "",
    await_server_timeout_seconds: float = 2,
) -> None:
    """Attaches this process to a workflow, for the other pycapio_* functions. Patches nothing.

    Keeps only what a CAPIO-CL file calls permanent. Calling it again with other arguments ends the
    earlier session. Raises PyCAPIOException; waits for the server at most
    await_server_timeout_seconds.
    """
    global _default
    options = SessionOptions(
        capio_dir=os.path.abspath(os.fspath(CAPIO_DIR)),
        app_name=CAPIO_APP_NAME,
        workflow_name=CAPIO_WORKFLOW_NAME,
        server_exec_path=capio_server_exec_path,
        capio_cl_configuration_file=capio_cl_configuration_file,
        await_server_timeout_seconds=await_server_timeout_seconds,
        teardown_server=False,
        persist=False,
    )
    with _registry_lock:
        if _default is not None:
            if _default.handle is not None and _default.options == options:
                return
            pycapio_teardown()
        session = Session(options)
        session.options = session.options._replace(capio_dir=options.capio_dir)
        start_using(session)
        _default = session


def pycapio_teardown(teardown_server: bool = False) -> None:
    """Ends the session of pycapio_init: what its end commits is committed.

    teardown_server: let the server end, too, once its last client has gone; waits for that.
    Does nothing without a session.
    """
    global _default
    with _registry_lock:
        session, _default = _default, None
        if session is None or session.handle is None:
            return
        if teardown_server:
            _pycapio.set_flags(session.handle, _pycapio.SESSION_TEARDOWN, 0)
        if session in _in_use:
            session.users = 0
            _in_use.remove(session)
        session.leave_store()
    session.close(wait_seconds=10 if teardown_server else 0)


def _default_session() -> Session:
    session = _default if _default is not None and _default.handle is not None else None
    if session is None:
        available = current()
        session = available[-1] if available else None
    if session is None:
        raise PyCAPIOException("CAPIO is not initialised: call pycapio_init first", errno.ENOTCONN)
    return session


def pycapio_get_capio_dir() -> str:
    """CAPIO_DIR of the session, absolute. Raises PyCAPIOException without a session."""
    return _default_session().capio_dir


def pycapio_open(path: str | bytes | os.PathLike[Any], flags: int, mode: int = 0) -> int:
    """Opens a CAPIO path and returns a kernel descriptor of its backing file.

    path: inside CAPIO_DIR. flags: those of FILE_MODES or any of os.O_*; O_CREAT without an access
    mode opens for reading and writing. mode: permission bits of a new file, 0 meaning 0o666.
    Waits for a declared output to exist. Close it with os.close (while patched) or through
    PyCapioBinaryIOWrapper; raises OSError as os.open does, ValueError outside CAPIO_DIR.
    """
    if flags & os.O_CREAT and flags & _O_ACCMODE == os.O_RDONLY:
        flags |= os.O_RDWR
    name = os.fspath(path)
    opened = open_descriptor(_default_session(), name, flags, mode or 0o666, name)
    if opened is None:
        raise ValueError(f"{os.fspath(path)!r} is not inside CAPIO_DIR")
    return opened


def open_descriptor(
    session: Session, name: str | bytes, flags: int, mode: int, shown: Any
) -> int | None:
    """os.open for a CAPIO path; None if it is not one. The session remembers the handle.
    shown: the path in errors."""
    opened = _pycapio.open_file(session.handle, os.fsencode(name), flags, mode, shown)
    if opened is None:
        return None
    fd, handle, status, _ = opened
    if handle is not None:
        writer = bool(status & _pycapio.FILE_WRITER)
        descriptors.register(fd, session, handle, shown, writer)
    return fd


def pycapio_mkdir(path: str | bytes | os.PathLike[Any], flags: int = 0o777) -> int:
    """Makes a directory inside CAPIO_DIR. flags: its permission bits. Returns 0.

    Raises OSError as os.mkdir does, ValueError outside CAPIO_DIR.
    """
    name = os.fspath(path)
    if not _pycapio.mkdir(_default_session().handle, os.fsencode(name), flags, name):
        raise ValueError(f"{name!r} is not inside CAPIO_DIR")
    return 0


def backing_path(path: str | bytes | os.PathLike[Any], purpose: int = FOR_LOOKUP) -> Any:
    """The kernel's path of what a path means to the current session; the path itself if it is not
    CAPIO's."""
    name = os.fspath(path)
    session = session_for(name)
    if session is None:
        return name
    backing = session.resolve(name, purpose)
    return name if backing is None else backing
