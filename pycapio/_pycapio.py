"""The binding: calls of libcapio as Python values and exceptions. Nothing else in pycapio uses ffi.

Blocking functions return to the interpreter at least once a second and on every signal, so that
signal handlers run: Ctrl-C ends any wait with KeyboardInterrupt.

The public low-level names (``pycapio_open``, ``PyCapioPath`` ...) can be imported from here, too;
they live in the modules above and are looked up on first use.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from pycapio import _native

if TYPE_CHECKING:
    Handle = Any  # a cffi pointer
    StrOrBytes = str | bytes

CAPIO_DEFAULT_APP_NAME: Final = "writer"
CAPIO_DEFAULT_WORKFLOW_NAME: Final = "workflow"

ABI_VERSION: Final = 1
UNMANAGED: Final = -4097

# Purposes of resolve(), stat() and mode().
FOR_LOOKUP: Final = 0
FOR_EXISTENCE: Final = 1
FOR_CONTENT: Final = 2
FOR_CHANGE: Final = 3
FOR_CREATE: Final = 4
FOR_ENTRY: Final = 5
NOFOLLOW: Final = 256
_NOWAIT: Final = 512
_PURPOSE: Final = 255  # the purpose without those flags

SESSION_PERSIST: Final = 1
SESSION_RESUME: Final = 2
SESSION_SILENT: Final = 4
SESSION_TEARDOWN: Final = 8
SESSION_NO_CONFIG: Final = 16
SESSION_WORKER: Final = 32

INFO_DIR: Final = 1
INFO_REALDIR: Final = 2
INFO_STORE: Final = 3
INFO_TREE: Final = 4
INFO_SERVER_PID: Final = 5
INFO_HAS_CONFIG: Final = 8

_OPEN_NOWAIT: Final = 0x40000000
_CHANGES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT

READ_FULL: Final = 1

FILE_WRITER: Final = 1
FILE_COMMITTED: Final = 2
FILE_FAILED: Final = 4
FILE_BORROWED: Final = 8
FILE_STREAMED: Final = 32

CLOSE_COUNT: Final = 0
CLOSE_ABANDONED: Final = 1
CLOSE_FAILED: Final = 2
FD_CLOSE: Final = 0
FD_KEEP: Final = 1
FD_CLOSED: Final = 2

_EINTR: Final = -errno.EINTR
# What a wait may fail with.
_WAITING: Final = frozenset(
    (errno.EOWNERDEAD, errno.ETIMEDOUT, errno.EDEADLK, errno.ECANCELED, errno.ESTALE)
)
_EAGAIN: Final = -errno.EAGAIN
_PATH_BUFFER: Final = 8192
# So much of a directory is taken at once.
_NAMES_SIZE: Final = 1 << 16
_MOST_ENTRIES: Final = 1 << 12
# capio_stat_t after its struct_size: the fields of os.stat_result, all of them, in their order.
_STAT: Final = struct.Struct("@4Q6q3d5qQ")
_STAT_START: Final = 8
_STAT_NAMES: Final = (
    *("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"),
    *("", "", ""),  # the times as whole seconds have no name
    *("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"),
    *("st_blksize", "st_blocks", "st_rdev"),
)

# Of names of files.
ENCODING: Final = sys.getfilesystemencoding()
ENCODING_ERRORS: Final = sys.getfilesystemencodeerrors()
# Names joined by NULs decode to what they decode to one by one.
_DECODES_ALIKE: Final = ENCODING in ("utf-8", "ascii", "iso8859-1")


class PyCAPIOException(Exception):
    """A failure of CAPIO itself: the library, the server, a CAPIO-CL file.

    Failures of a file operation are OSError with errno and filename, as Python's own are.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.errno = code


def encoded(path: str | bytes) -> bytes:
    """os.fsencode, of what is a str or bytes already."""
    return path if isinstance(path, bytes) else path.encode(ENCODING, ENCODING_ERRORS)


class _Library:
    """libcapio: its functions, by their names, ffi and path."""

    ffi: Any
    path: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class _UnloadedLibrary(_Library):
    """Becomes the loaded one when one of its attributes is first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        # Only what is not there yet is looked for here.
        if name not in ("ffi", "path", *_FUNCTIONS):
            raise AttributeError(name)
        with self._lock:
            if "path" not in self.__dict__:
                self._load()
        return self.__dict__[name]

    def _load(self) -> None:
        try:
            from pycapio._capio_abi import ffi
        except ImportError as error:
            raise PyCAPIOException(
                "pycapio is not built: run scripts/build_capio.sh and `pip install -e .`, "
                f"or reinstall it ({error})"
            ) from error
        try:
            path = os.fspath(_native.library_path())
        except _native.LibraryNotFound as error:
            raise PyCAPIOException(str(error)) from None
        try:
            lib: Any = ffi.dlopen(path)
            version = lib.capio_abi_version()
            if version != ABI_VERSION:
                raise PyCAPIOException(
                    f"{path} has ABI version {version}, pycapio needs {ABI_VERSION}: "
                    "install matching releases, or unset CAPIO_LIB"
                )
            functions = {name: getattr(lib, name) for name in _FUNCTIONS}
        except OSError as error:
            raise PyCAPIOException(f"cannot load {path}: {error}") from None
        except AttributeError as error:
            raise PyCAPIOException(
                f"{path} is not a libcapio that pycapio can use: {error}"
            ) from None
        self.ffi = ffi
        self.__dict__.update(functions)
        self.path = path
        # Without that method every look at an attribute is quicker.
        self.__class__ = _Library  # type: ignore[assignment]


_FUNCTIONS: Final = (
    "capio_cancel_waits",
    "capio_cl_check",
    "capio_cl_free",
    "capio_cl_options_init",
    "capio_close",
    "capio_closedir",
    "capio_duplicate",
    "capio_end_by_signal",
    "capio_expect_bytes",
    "capio_expose",
    "capio_is_input",
    "capio_last_error",
    "capio_link",
    "capio_lseek",
    "capio_mkdir",
    "capio_mode",
    "capio_notice_change",
    "capio_open",
    "capio_opendir",
    "capio_opened_init",
    "capio_publish",
    "capio_quiesce",
    "capio_read",
    "capio_readdir_columns",
    "capio_rename",
    "capio_resolve",
    "capio_rmdir",
    "capio_session_add_rules",
    "capio_session_close",
    "capio_session_exec",
    "capio_session_fail_abandoned",
    "capio_session_goodbye",
    "capio_session_goodbye_child",
    "capio_session_info",
    "capio_session_inherited",
    "capio_session_open",
    "capio_session_options_init",
    "capio_session_set_flags",
    "capio_stat",
    "capio_stat_init",
    "capio_symlink",
    "capio_truncate",
    "capio_unlink",
    "capio_user_path",
    "capio_wait_commit",
    "capio_wait_needs",
    "capio_will_write",
    "capio_write",
    "capio_wrote",
)

_library: _Library = _UnloadedLibrary()

# Called with the apps (names) that a wait needs when all their processes are this one; raises if
# the caller is inside one of them. Set by pycapio.session.
on_self_wait: Callable[[list[str], Any], None] | None = None


def _sentence(code: int) -> str:
    text: str = _library.ffi.string(_library.capio_last_error()).decode("utf-8", "replace")
    return text or os.strerror(code)


def os_error(rc: int, path: Any = None, path2: Any = None) -> OSError:
    """The OSError (of the right subclass) for a negative return value."""
    code = -rc
    if path is None:
        return OSError(code, _sentence(code))
    if path2 is None:
        return OSError(code, _sentence(code), path)
    return OSError(code, _sentence(code), path, None, path2)


def _file_error(rc: int, name: Any) -> OSError:
    """The error of a call on an open file: it names the file, as no error of a descriptor does,
    where it is about the wait for another process's bytes."""
    return os_error(rc, name if -rc in _WAITING else None)


def interrupt_was_uncaught() -> bool:
    """Whether what the main thread has ended by, or the prompt has shown last, is Ctrl-C."""
    last = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return isinstance(last, KeyboardInterrupt)


def _main_thread_unwinds() -> bool:
    """Whether this thread keeps a main thread waiting that KeyboardInterrupt or SystemExit is
    leaving: the end of a ``with`` block that joins its threads (an executor's), or of Python."""
    main = threading.main_thread()
    if threading.get_ident() == main.ident:
        return False
    if not main.is_alive():  # Python joins the threads that are left
        return interrupt_was_uncaught()
    exceptions = getattr(sys, "_current_exceptions", None)  # CPython's
    handled = None if exceptions is None else exceptions().get(main.ident or 0)
    error = handled[1] if isinstance(handled, tuple) else handled  # a tuple before Python 3.12
    return isinstance(error, (KeyboardInterrupt, SystemExit))


def _waited(call: Callable[..., int], *args: Any, path: Any = None) -> int:
    """Repeats a call that returns -EINTR; in between the interpreter runs signal handlers."""
    rc = call(*args)
    return _again(call, args, path) if rc == _EINTR else rc


def _again(call: Callable[..., int], args: tuple[Any, ...], path: Any) -> int:
    """Repeats a call that has returned -EINTR until it returns something else."""
    rc = _EINTR
    while rc == _EINTR:
        if _main_thread_unwinds():
            raise OSError(errno.ECANCELED, "the process is being interrupted", path)
        if on_self_wait is not None:
            needs = _library.ffi.string(_library.capio_wait_needs())
            if needs:
                on_self_wait(os.fsdecode(needs).split("\n")[:-1], path)
        rc = call(*args)
    return rc


def library_path() -> str:
    """The file of the libcapio in use."""
    return _library.path


def open_session(
    *,
    capio_dir: str,
    app_name: str,
    workflow_name: str,
    server_path: str,
    config_path: str,
    resolve_prefix: str = "",
    handover: str = "",
    await_server_ms: int,
    flags: int,
) -> Handle:
    """Attaches to a workflow; handover: see session_exec. Raises PyCAPIOException, or
    FileNotFoundError and NotADirectoryError for capio_dir itself."""
    ffi = _library.ffi
    options = ffi.new("capio_session_options *")
    _library.capio_session_options_init(options)
    keep = {
        name: ffi.new("char[]", _without_nul(name, value))
        for name, value in (
            ("capio_dir", capio_dir),
            ("app_name", app_name),
            ("workflow_name", workflow_name),
            ("server_path", server_path),
            ("config_path", config_path),
            ("resolve_prefix", resolve_prefix),
            ("handover", handover),
        )
    }
    for name, value in keep.items():
        setattr(options, name, value)
    options.await_server_ms = await_server_ms
    options.flags = flags
    out = ffi.new("capio_session **")
    rc = _library.capio_session_open(options, out)
    if rc < 0:
        raise PyCAPIOException(_sentence(-rc), -rc)
    return out[0]


def _without_nul(name: str, value: str) -> bytes:
    text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError(f"{name}: embedded null byte")
    return text


def close_session(session: Handle, wait_ms: int) -> None:
    _library.capio_session_close(session, wait_ms)


def goodbye(session: Handle, bad: bool) -> None:
    _library.capio_session_goodbye(session, 1 if bad else 0)


def session_exec(session: Handle, attaches: bool) -> str:
    """Announces that this process becomes another program. Returns the handover with which that
    may (attaches: will) open its session; "" if the process is no client."""
    buffer = _library.ffi.new("char[]", 256)
    rc = _library.capio_session_exec(session, attaches, buffer, 256)
    if rc < 0:
        raise PyCAPIOException(_sentence(-rc), -rc)
    text: str = _library.ffi.unpack(buffer, rc).decode()
    return text


def inherited(session: Handle) -> list[tuple[int, Handle]]:
    """The descriptors that were open for writing before exec, and still are, with their handles."""
    out = _library.ffi.new("capio_file **")
    found = []
    while (fd := _library.capio_session_inherited(session, out)) >= 0:
        found.append((fd, out[0]))
    return found


def take_back_goodbye(session: Handle) -> None:
    _library.capio_session_goodbye(session, 2)


def goodbye_child(session: Handle, pid: int) -> None:
    _library.capio_session_goodbye_child(session, pid)


def fail_abandoned(session: Handle) -> None:
    _library.capio_session_fail_abandoned(session)


def set_flags(session: Handle, on: int, off: int) -> None:
    _library.capio_session_set_flags(session, on, off)


def add_rules(session: Handle, rules: str) -> None:
    """Adds rules, a JSON list, to the running workflow. Raises PyCAPIOException; its errno is
    EINVAL for rules that are wrong, EBUSY for those that contradict others."""
    text = rules.encode()
    rc = _library.capio_session_add_rules(session, text, len(text))
    if rc < 0:
        raise PyCAPIOException(_sentence(-rc), -rc)


def check_file(path: str, *, capio_dir: str, resolve_prefix: str) -> str:
    """What the engine makes of a CAPIO-CL file: a JSON object, described at capio_cl_check in
    capio.h. Raises PyCAPIOException with the errno of reading the file."""
    ffi = _library.ffi
    options = ffi.new("capio_cl_options *")
    _library.capio_cl_options_init(options)
    keep = [ffi.new("char[]", os.fsencode(value)) for value in (path, capio_dir, resolve_prefix)]
    options.path, options.capio_dir, options.resolve_prefix = keep
    out = ffi.new("char **")
    rc = _library.capio_cl_check(options, out)
    if rc < 0:
        raise PyCAPIOException(_sentence(-rc), -rc)
    try:
        text: str = ffi.string(out[0]).decode()
    finally:
        _library.capio_cl_free(out[0])
    return text


def cancel_waits(on: bool) -> None:
    _library.capio_cancel_waits(1 if on else 0)


def end_by_signal_after_python() -> None:
    """This process is going to send itself the signal that ends it, when Python has finalised: all
    sessions end just before."""
    try:
        from ctypes import c_void_p, pythonapi
    except ImportError:  # a Python without either: the server learns of the death
        return
    handler = _library.ffi.cast("uintptr_t", _library.capio_end_by_signal)
    # An object of our own: the attribute is everybody's, with what it takes and gives.
    pythonapi["Py_AtExit"](c_void_p(int(handler)))


def session_info(session: Handle, what: int) -> str:
    buffer = _library.ffi.new("char[]", _PATH_BUFFER)
    rc = _library.capio_session_info(session, what, buffer, _PATH_BUFFER)
    if rc < 0:
        raise PyCAPIOException(_sentence(-rc), -rc)
    return os.fsdecode(_library.ffi.unpack(buffer, rc))


# ---- questions about a path ----
#
# They wait as their purpose says. First they are asked without waiting, which is all that most of
# them need. Only where a wait would begin, `exempt`, if given, is called with the path as shown: if
# it says so, the path is looked up as it stands.

# Called with the path as the user gave it.
Exempt = Callable[[Any], bool]


def resolve(
    session: Handle, path: bytes, purpose: int, shown: Any, exempt: Exempt | None = None
) -> bytes | None:
    """The backing path of a CAPIO path, or None if the path is not CAPIO's. May wait."""
    call = _library.capio_resolve
    buffer = _path_buffers.take()
    rc = call(session, path, len(path), purpose | _NOWAIT, buffer, _PATH_BUFFER)
    if rc == _EAGAIN:
        rc = _patiently(
            call, session, path, purpose, buffer, _PATH_BUFFER, shown=shown, exempt=exempt
        )
    if rc >= 0:
        unpacked: bytes = _library.ffi.unpack(buffer, rc)
        _path_buffers.give_back(buffer)
        return unpacked
    _path_buffers.give_back(buffer)
    if rc == UNMANAGED:
        return None
    raise os_error(rc, shown)


def stat(
    session: Handle, path: bytes, purpose: int, shown: Any, exempt: Exempt | None = None
) -> os.stat_result | None:
    """os.stat of a CAPIO path, or None if the path is not CAPIO's. May wait."""
    if not _STAT_FITS:
        where = resolve(session, path, purpose, shown, exempt)
        return None if where is None else _os_stat(where, follow_symlinks=not purpose & NOFOLLOW)
    call = _library.capio_stat
    buffer = _stat_buffers.take()
    rc = call(session, path, len(path), purpose | _NOWAIT, buffer[0])
    if rc == _EAGAIN:
        rc = _patiently(call, session, path, purpose, buffer[0], shown=shown, exempt=exempt)
    if rc == 0:
        fields = _STAT.unpack_from(buffer[1], _STAT_START)
        _stat_buffers.give_back(buffer)
        return os.stat_result(fields)
    _stat_buffers.give_back(buffer)
    if rc == UNMANAGED:
        return None
    raise os_error(rc, shown)


def mode(
    session: Handle, path: bytes, purpose: int, shown: Any, exempt: Exempt | None = None
) -> int | None:
    """st_mode of a CAPIO path, 0 if it cannot be had; None if the path is not CAPIO's. May wait."""
    call = _library.capio_mode
    rc: int = call(session, path, len(path), purpose | _NOWAIT)
    if rc == _EAGAIN:
        rc = _patiently(call, session, path, purpose, shown=shown, exempt=exempt)
    if rc >= 0:
        return rc
    return None if rc == UNMANAGED else 0


def _patiently(
    call: Callable[..., int],
    session: Handle,
    path: bytes,
    purpose: int,
    *rest: Any,
    shown: Any,
    exempt: Exempt | None,
) -> int:
    if exempt is not None and exempt(shown):
        purpose = FOR_LOOKUP | purpose & ~_PURPOSE
    return _waited(call, session, path, len(path), purpose, *rest, path=shown)


def is_whole(session: Handle, path: bytes) -> bool:
    """Whether there is a file of CAPIO's that is complete, or this app's own. Opens nothing: a
    process would lose its locks on the file by closing it."""
    return bool(_library.capio_mode(session, path, len(path), FOR_CONTENT | _NOWAIT) >= 0)


class _Buffers:
    """Memory for what a call hands out. Kept from one call to the next: making it takes as long as
    the call. Each is one call's alone, also when a signal handler or a finalizer makes another one
    in between."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.free: list[Any] = []
        self.give_back = self.free.append

    def take(self) -> Any:
        try:
            return self.free.pop()
        except IndexError:
            return self.make()


_os_stat = os.stat
_os_open = os.open


def _stat_fits() -> bool:
    """Whether this Python's os.stat_result has exactly the fields of _STAT."""
    count = len(_STAT_NAMES)
    if getattr(os.stat_result, "n_fields", 0) != count:
        return False
    positions: Any = os.stat_result(range(count))
    return all(getattr(positions, name) == at for at, name in enumerate(_STAT_NAMES) if name)


_STAT_FITS: Final = _stat_fits()


def _new_stat_buffer() -> tuple[Any, Any]:
    ffi = _library.ffi
    buffer = ffi.new("capio_stat_t *")
    _library.capio_stat_init(buffer)
    return buffer, ffi.buffer(buffer)


def _new_opened() -> Any:
    opened = _library.ffi.new("capio_opened_t *")
    _library.capio_opened_init(opened)
    return opened


def _new_columns(entries: int = _MOST_ENTRIES) -> tuple[Any, Any, Any]:
    ffi = _library.ffi
    return (
        ffi.new("char[]", _NAMES_SIZE),
        ffi.new("uint8_t[]", entries),
        ffi.new("uint64_t[]", entries),
    )


_path_buffers: Final = _Buffers(lambda: _library.ffi.new("char[]", _PATH_BUFFER))
_stat_buffers: Final = _Buffers(_new_stat_buffer)
_columns: Final = _Buffers(_new_columns)
_opened: Final = _Buffers(_new_opened)
_free_opened: Final = _opened.free


def user_path(session: Handle, path: bytes) -> bytes | None:
    """The path in CAPIO_DIR of what the kernel calls by an absolute name; None if it is neither in
    the store nor in CAPIO_DIR."""
    buffer = _path_buffers.take()
    rc = _library.capio_user_path(session, path, len(path), buffer, _PATH_BUFFER)
    unpacked: bytes | None = None if rc < 0 else _library.ffi.unpack(buffer, rc)
    _path_buffers.give_back(buffer)
    return unpacked


def is_input(session: Handle, path: bytes) -> bool:
    """Whether another app is declared to write the path, so that a call about it may wait."""
    return bool(_library.capio_is_input(session, path, len(path)) == 1)


def open_file(
    session: Handle,
    path: bytes,
    flags: int,
    mode: int,
    shown: Any,
    exempt: Exempt | None = None,
) -> tuple[int, Handle | None, int, int] | None:
    """A descriptor; its handle, if it needs watching, and the FILE_* bits of that; the size
    in bytes of a file that needs none, -1 if that is not known. None if the path is not CAPIO's.

    exempt, which concerns opens for reading: as with questions about a path.
    """
    call = _library.capio_open
    try:
        out = _free_opened.pop()  # take(), for what many files are
    except IndexError:
        out = _opened.make()
    asked = flags if exempt is None or flags & _CHANGES else flags | _OPEN_NOWAIT
    rc = call(session, path, len(path), asked, mode, out)
    if rc == _EAGAIN and exempt is not None and asked != flags:
        if exempt(shown):
            _opened.give_back(out)
            where = resolve(session, path, FOR_LOOKUP, shown)
            return None if where is None else (_open_shown(where, flags, shown), None, 0, -1)
        rc = call(session, path, len(path), flags, mode, out)
    if rc == _EINTR:
        rc = _again(call, (session, path, len(path), flags, mode, out), shown)
    if rc >= 0:
        handle = out.file
        opened = (rc, handle, out.status, -1) if handle else (rc, None, 0, out.size)
        _free_opened.append(out)
        return opened
    _free_opened.append(out)
    if rc == UNMANAGED:
        return None
    raise os_error(rc, shown)


def _open_shown(path: bytes, flags: int, shown: Any) -> int:
    try:
        return _os_open(path, flags)
    except OSError as error:
        error.filename = shown
        raise


def mkdir(session: Handle, path: bytes, mode: int, shown: Any) -> bool:
    """False if the path is not CAPIO's."""
    rc = _library.capio_mkdir(session, path, len(path), mode)
    return _done(rc, shown)


def rmdir(session: Handle, path: bytes, shown: Any) -> bool:
    return _done(_waited(_library.capio_rmdir, session, path, len(path), path=shown), shown)


def unlink(session: Handle, path: bytes, shown: Any) -> bool:
    return _done(_waited(_library.capio_unlink, session, path, len(path), path=shown), shown)


def notice_change(session: Handle, path: bytes, shown: Any) -> bool:
    """Another program has changed the file's bytes. False if the path is not CAPIO's."""
    return _done(_library.capio_notice_change(session, path, len(path)), shown)


def rename(session: Handle, source: bytes, target: bytes, shown: Any, shown2: Any) -> bool:
    rc = _waited(
        _library.capio_rename, session, source, len(source), target, len(target), path=shown
    )
    return _done(rc, shown, shown2)


def link(
    session: Handle, source: bytes, target: bytes, follow: bool, shown: Any, shown2: Any
) -> bool:
    """False if neither path is CAPIO's."""
    flags = 0 if follow else NOFOLLOW
    rc = _waited(
        _library.capio_link, session, source, len(source), target, len(target), flags, path=shown
    )
    return _done(rc, shown, shown2)


def symlink(session: Handle, content: bytes, path: bytes, shown: Any, shown2: Any) -> bool:
    """False if the path is not CAPIO's."""
    rc = _library.capio_symlink(session, content, len(content), path, len(path))
    return _done(rc, shown, shown2)


def _done(rc: int, shown: Any, shown2: Any = None) -> bool:
    if rc in (0, UNMANAGED):
        return rc == 0
    raise os_error(rc, shown, shown2)


# Names, DT_* and inode numbers of some entries of a directory.
Entries = tuple[list[Any], bytes, Sequence[int]]


def list_directory(
    session: Handle, path: str | bytes, shown: Any, names_only: bool = False
) -> Iterator[Entries] | None:
    """The entries of a directory, some at a time; names are of the path's type. None if the path is
    not CAPIO's. May wait.

    names_only: types and inode numbers are left empty.
    """
    as_bytes = isinstance(path, bytes)
    path = encoded(path)
    ffi = _library.ffi
    out = ffi.new("capio_dir **")
    rc = _waited(_library.capio_opendir, session, path, len(path), out, path=shown)
    if rc == UNMANAGED:
        return None
    if rc < 0:
        raise os_error(rc, shown)
    return _entries(ffi.gc(out[0], _library.capio_closedir), as_bytes, shown, names_only)


def _entries(directory: Handle, as_bytes: bool, shown: Any, names_only: bool) -> Iterator[Entries]:
    ffi = _library.ffi
    unpack = ffi.unpack
    call = _library.capio_readdir_columns
    kinds, numbers = b"", ()
    while True:
        columns = _columns.take()
        names, types, inodes = columns
        most = len(types)
        if names_only:
            types = inodes = ffi.NULL
        size = _waited(call, directory, names, len(names), types, inodes, most, path=shown)
        if size > 0:
            found = _split(unpack(names, size), as_bytes)
            if not names_only:
                kinds, numbers = ffi.buffer(types, len(found))[:], unpack(inodes, len(found))
        _columns.give_back(columns)
        if size < 0:
            raise os_error(size, shown)
        if size == 0:
            return
        yield found, kinds, numbers


def _split(names: bytes, as_bytes: bool) -> list[Any]:
    """Names that end with a NUL each."""
    if as_bytes:
        return names[:-1].split(b"\0")
    if _DECODES_ALIKE:
        return names[:-1].decode(ENCODING, ENCODING_ERRORS).split("\0")
    return [name.decode(ENCODING, ENCODING_ERRORS) for name in names[:-1].split(b"\0")]


def file_read(handle: Handle, buffer: Any, full: bool, name: Any, offset: int = -1) -> int:
    """Reads into a writable buffer at an offset, or the file position. 0 only at the committed
    end."""
    ffi = _library.ffi
    target = ffi.from_buffer("char[]", buffer, True)  # by place: by name takes twice the time
    size = len(target)
    flags = READ_FULL if full else 0
    rc: int = _library.capio_read(handle, target, size, offset, flags)
    if rc == _EINTR:
        rc = _again(_library.capio_read, (handle, target, size, offset, flags), name)
    if rc < 0:
        raise _file_error(rc, name)
    return rc


def file_write(handle: Handle, data: Any, full: bool = False, offset: int = -1) -> int:
    """Writes at an offset, or the file position; where memory is short it waits until there is
    room.

    Returns less than the size of data if that wait is interrupted or fails half-way; full: only if
    it fails."""
    ffi = _library.ffi
    target = ffi.from_buffer(data)
    size = len(target)
    rc: int = _library.capio_write(handle, target, size, offset)
    if rc == size:
        return rc
    if rc == _EINTR:
        rc = _again(_library.capio_write, (handle, target, size, offset), None)
    if rc < 0:
        raise os_error(rc)
    done = rc
    while full and done < size:
        at = -1 if offset < 0 else offset + done
        rc = _waited(_library.capio_write, handle, target + done, size - done, at)
        if rc <= 0:
            break  # the next call says why
        done += rc
    return done


def expect_bytes(buffer: Any) -> Any:
    """Asks the kernel for large pages where a buffer has no memory yet: reading into them takes
    less than half of the time. Returns the buffer as cffi has it."""
    memory = _library.ffi.from_buffer(buffer)
    _library.capio_expect_bytes(memory, len(memory))
    return memory


def to_be_filled(data: bytes) -> memoryview:
    """A view through which to fill what was made for that, before anybody else has it."""
    return memoryview(_library.ffi.buffer(expect_bytes(data)))


def file_will_write(handle: Handle, offset: int) -> None:
    """Another call is about to write at offset; -1: at the file position. May wait for room."""
    rc = _waited(_library.capio_will_write, handle, offset)
    if rc < 0:
        raise os_error(rc)


def file_wrote(handle: Handle, offset: int, size: int) -> None:
    """It has. size: in bytes, or the negated errno of its failure, which is raised."""
    rc = _library.capio_wrote(handle, offset, size)
    if rc < 0:
        raise os_error(rc)


def file_duplicate(handle: Handle, fd: int) -> Handle:
    """The handle of another descriptor of the same open file."""
    out = _library.ffi.new("capio_file **")
    rc = _library.capio_duplicate(handle, fd, out)
    if rc < 0:
        raise os_error(rc)
    return out[0]


def file_seek(handle: Handle, offset: int, whence: int, name: Any) -> int:
    rc = _waited(_library.capio_lseek, handle, offset, whence, path=name)
    if rc < 0:
        raise _file_error(rc, name)
    return rc


def file_truncate(handle: Handle, size: int) -> None:
    rc = _library.capio_truncate(handle, size)
    if rc < 0:
        raise os_error(rc)


def file_expose(handle: Handle, name: Any) -> int:
    rc = _waited(_library.capio_expose, handle, path=name)
    if rc < 0:
        raise _file_error(rc, name)
    return rc


def file_wait_commit(handle: Handle, name: Any) -> None:
    rc = _waited(_library.capio_wait_commit, handle, path=name)
    if rc < 0:
        raise _file_error(rc, name)


def file_publish(handle: Handle) -> None:
    """Tells readers of what was written through the descriptor itself; waits for room in memory."""
    rc = _waited(_library.capio_publish, handle)
    if rc < 0:
        raise os_error(rc)


def file_quiesce(handle: Handle) -> None:
    """Before the descriptor is closed by other means than file_close with FD_CLOSE: no call of
    another thread comes to its number any more. Waits for those under way, a second at most."""
    _library.capio_quiesce(handle)


def file_close(handle: Handle, how: int, fd_fate: int) -> None:
    rc = _library.capio_close(handle, how, fd_fate)
    if rc < 0:
        raise os_error(rc)


# Public names of the modules above, for those who import them from here.
_ELSEWHERE: Final = {
    "CapioCLRule": "pycapio.rules",
    "CapioContext": "pycapio.context",
    "DirEntry": "pycapio.scandir",
    "FILE_MODES": "pycapio.files",
    "PyCapioBinaryIOWrapper": "pycapio.files",
    "PyCapioPath": "pycapio.path",
    "PyCapioScandirWrapper": "pycapio.scandir",
    "PyCapioTextIOWrapper": "pycapio.files",
    "pycapio_get_capio_dir": "pycapio.session",
    "pycapio_init": "pycapio.session",
    "pycapio_mkdir": "pycapio.session",
    "pycapio_open": "pycapio.session",
    "pycapio_teardown": "pycapio.session",
}


def __getattr__(name: str) -> Any:
    module = _ELSEWHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value
