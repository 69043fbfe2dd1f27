"""What a child program that is not Python sees of CAPIO's files.

Such a program opens its files in CAPIO_DIR itself. For as long as it runs, CAPIO_DIR holds symbolic
links to the files of the store that its command line names, and to those of its working directory.
What it writes there is a real file, which counts as produced once nobody has it open any more.

The links of a workflow are noted in the journal ``CAPIO_DIR/.capio/<workflow>/links`` before they
are made. Who has children with links holds a shared lock on it; who gets it alone afterwards takes
all links away. The server does so at its end, and once more when the next run begins.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pycapio import _pycapio, children
from pycapio import session as _session
from pycapio._pycapio import FOR_CONTENT, FOR_LOOKUP
from pycapio.session import Session

_access = os.access
_close = os.close
_link_target = os.readlink
_listdir = os.listdir
_lstat = os.lstat
_makedirs = os.makedirs
_mkdir = os.mkdir
_open = os.open
_rename = os.rename
_rmdir = os.rmdir
_scandir = os.scandir
_stat = os.stat
_symlink = os.symlink
_unlink = os.unlink
_write = os.write

# Files of the working directory that are shown without being named.
_MOST_UNNAMED: Final = 256
_SHELLS: Final = frozenset((b"sh", b"ash", b"bash", b"dash", b"ksh", b"mksh", b"zsh"))
_PYTHON: Final = re.compile(rb"(python|pypy)[\d.]*$")
# Options of Python, in one word, before one that takes an argument or keeps us out.
_HARMLESS: Final = re.compile(rb"-[^cmEISVWXh?]*")
_SAFE: Final = re.compile(rb"[\w@%+=:,./-]*")
# What is wrong with a word that is no path, or is not there.
_NO_PATH: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
)


class Plan:
    """What one child program needs, from before its start to its end."""

    def __init__(self, programs: list[Any], argv: list[Any], cwd: Any) -> None:
        self.programs = programs
        self.argv = argv
        self.cwd = cwd
        self.directories: dict[Session, _Directory] = {}
        self.shown: list[_Shown] = []
        self.places: set[bytes] = set()  # the directories that the program was told of
        self.intercepted = False  # it is a Python that becomes a client itself
        self._kept = False

    def drop(self) -> None:
        """The program has ended, or was not started."""
        shown, self.shown = self.shown, []
        if shown:
            moved = _moved(shown, self.places)
            for entry in shown:
                entry.directory.settle(entry, moved.get(entry.backing))
        directories, self.directories = self.directories, {}
        for directory in directories.values():
            if self._kept:
                directory.keep(False)
            directory.leave()

    def belongs_to(self, pid: int) -> None:
        """The program is the child pid; it is over when somebody has waited for it."""
        if self.directories:
            with _lock:
                _plans[pid] = self

    def keep(self) -> None:
        """This very process becomes the program: its lock stays until that ends."""
        self._kept = True
        for directory in self.directories.values():
            directory.keep(True)


_plans: dict[int, Plan] = {}
_lock = threading.RLock()


def ended(pid: int) -> None:
    """A child of this process has ended."""
    if not _plans:
        return
    with _lock:
        plan_ = _plans.pop(pid, None)
    if plan_ is not None:
        plan_.drop()


def plan(programs: Iterable[Any], argv: Iterable[Any], cwd: Any, *, search: bool = False) -> Plan:
    """Makes CAPIO's files visible to a program that is about to be started.

    programs: the paths that are tried one after the other, until one can be run; search: they come
    from PATH. argv: the program's arguments; cwd: its working directory, None for ours. Waits for
    files that other apps are to produce, until they are complete. Raises OSError if one of them
    failed.
    """
    made = Plan(list(programs), list(argv), cwd)
    sessions = [session for session in _session.current() if session.handle is not None]
    if not sessions or not made.argv:
        return made
    try:
        names = [os.fsencode(program) for program in made.programs]
        words = [os.fsencode(word) for word in made.argv]
    except TypeError:  # the original says what is wrong
        return made
    try:
        made.cwd = _working_directory(cwd)
        program = _show_programs(made, names, search)
        made.intercepted = _is_intercepted(program or words[0], words)
        if not made.intercepted:
            _show(made, words)
    except BaseException:
        made.drop()
        raise
    return made


def _base(made: Plan) -> bytes:
    """What the program's relative paths are taken from; b"" for our own working directory."""
    return b"" if made.cwd is None else os.fsencode(made.cwd)


def _working_directory(cwd: Any) -> Any:
    """The store's directory where CAPIO_DIR has none of that name."""
    if cwd is None:
        return None
    name = os.fspath(cwd)
    session = _session.session_for(name)
    if session is None:
        return cwd
    try:
        backing = session.resolve(name, FOR_LOOKUP)
    except OSError:
        return cwd
    return cwd if backing is None or _is_directory(name) else backing


def _show_programs(made: Plan, names: list[bytes], search: bool) -> bytes | None:
    """Makes the program visible if it is CAPIO's. Returns the path of the one that will be run."""
    for index, name in enumerate(names):
        path = os.path.join(_base(made), name)
        if _session.session_for(path) is not None:
            # A place of PATH that has no such file is not waited for.
            if search and not _is_found(path):
                continue
            instead = _show_path(made, name)
            if instead is not None:
                made.programs[index] = path = instead
            if _PYTHON.match(os.path.basename(name)):
                _show_environment(made, os.path.dirname(name))
        if _access(path, os.X_OK):
            return path
        if made.directories:
            interpreter = _without_exec(made, path)
            if interpreter is not None:
                made.programs[index] = interpreter
                return interpreter
    return None


def _show_environment(made: Plan, directory: bytes) -> None:
    """A Python looks beside and above itself for its virtual environment."""
    for place in (directory, os.path.dirname(directory)):
        path = os.path.join(_base(made), place, b"pyvenv.cfg")
        if _session.session_for(path) is not None and _is_found(path):
            _show_path(made, place or b".")


def _is_found(path: bytes) -> bool:
    """Whether there is something now, in CAPIO_DIR or in the store."""
    try:
        return _is_there(_session.backing_path(path))
    except OSError:
        return False


def _without_exec(made: Plan, script: bytes) -> bytes | None:
    """Where the store's file system runs no programs (noexec), a script can still be read: has its
    interpreter started, as the kernel would. Returns that; None if this is not the case."""
    try:
        status = _stat(script)
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
            return None
        if not os.statvfs(script).f_flag & os.ST_NOEXEC:
            return None
    except OSError:
        return None
    words = _first_line(script).split(None, 1)
    if not words:
        return None
    made.argv[:1] = [*words[:1], *(word.rstrip() for word in words[1:]), script]
    return words[0]


def _is_intercepted(program: bytes, argv: list[bytes]) -> bool:
    """Whether the program is a Python that becomes a client itself."""
    if not children.exporting():
        return False
    if not _PYTHON.match(os.path.basename(program)):
        return bool(_PYTHON.match(_interpreter(program)))
    return not _ignores_environment(argv[1:])


def _ignores_environment(options: list[bytes]) -> bool:
    """Whether a Python gets -I, -E or -S, with which it does not find our sitecustomize, or only
    tells about itself."""
    words = iter(options)
    for word in words:
        if word[:1] != b"-" or word == b"-":
            break
        if word == b"--check-hash-based-pycs":
            next(words, b"")
        if word == b"--version" or word.startswith(b"--help"):
            return True
        if word[:2] == b"--":
            continue
        rest = _HARMLESS.sub(b"", word, count=1)
        if rest[:1] in (b"I", b"E", b"S", b"V", b"h", b"?"):
            return True
        if rest[:1] in (b"c", b"m"):
            break
        if rest in (b"W", b"X"):  # what follows is its argument
            next(words, b"")
    return False


def _first_line(script: bytes) -> bytes:
    """What a script has after #! in its first line; b"" if it is none."""
    try:
        fd = _open(script, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        head = os.read(fd, 256)
    except OSError:
        return b""
    finally:
        _close(fd)
    return head[2:].split(b"\n", 1)[0] if head[:2] == b"#!" else b""


def _interpreter(program: bytes) -> bytes:
    """The base name of the interpreter that a script names; b"" if it is none."""
    parts = _first_line(program).split()
    if parts and os.path.basename(parts[0]) == b"env":
        parts = [part for part in parts[1:] if part[:1] != b"-" and b"=" not in part]
    return os.path.basename(parts[0]) if parts else b""


def _show(made: Plan, argv: list[bytes]) -> None:
    script = _shell_script(argv)
    for index, word in enumerate(argv):
        if index == script:
            made.argv[index] = _show_script(made, word)
            continue
        if index == 0:  # whatever it is: the program has been shown
            continue
        for prefix, part in _paths_in(word):
            where = _show_path(made, part)
            if where is not None:
                made.argv[index] = prefix + where
                break
        for part in _absolute_in(word):
            _show_path(made, part)
    _show_working_directory(made)


def _shell_script(argv: list[bytes]) -> int:
    """The index of the script in a command such as sh -c SCRIPT; -1 if it is none."""
    if os.path.basename(argv[0]) not in _SHELLS:
        return -1
    for index, word in enumerate(argv[1:-1], 1):
        if word[:1] != b"-":
            return -1
        if word[:2] != b"--" and word.endswith(b"c"):
            return index + 1
    return -1


def _paths_in(word: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What of a word may be a path, and what precedes it: file, --to=file, of=file, -ofile."""
    if word[:1] != b"-":
        yield b"", word
    elif word[:2] != b"--" and len(word) > 2:
        yield word[:2], word[2:]
    name, equals, value = word.partition(b"=")
    if equals and value:
        yield name + b"=", value


def _absolute_in(word: bytes) -> list[bytes]:
    """Paths in CAPIO_DIR within a word that is more than a path: a program (-c CODE), a URL."""
    roots = {session_root(session) for session in _session.current()}
    return [
        path
        for root in roots
        if word.find(root) > 0
        for path in re.findall(re.escape(root) + rb"/[^\s'\"\\,;:)]+", word)
    ]


def _show_script(made: Plan, script: bytes) -> bytes:
    import shlex  # which few steps need

    lexer = shlex.shlex(os.fsdecode(script), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:  # the shell says what is wrong
        words = os.fsdecode(script).split()
    for word in dict.fromkeys(words):
        for _, part in _paths_in(os.fsencode(word)):
            for name in _expanded(made, part):
                where = _show_path(made, name)
                if where is not None and _SAFE.fullmatch(where) and name == part:
                    # The name is taken by an older real file: the shell gets the other one.
                    around = rb"(?<![\w.%%/-])%b(?![\w.%%/-])" % re.escape(part)
                    script = re.sub(around, where.replace(b"\\", rb"\\"), script)
    return script


def _expanded(made: Plan, pattern: bytes) -> list[bytes]:
    """The files of the store that a shell's pattern would match, had it seen them."""
    if not any(letter in pattern for letter in (b"*", b"?", b"[")):
        return [pattern]
    import glob

    base = _base(made)
    found = []
    for session in _session.current():
        absolute = os.path.abspath(os.path.join(base, pattern))
        relative = _relative(session, absolute)
        if relative is None:
            continue
        tree = _directory_of(session).tree
        found += [
            os.path.join(session_root(session), os.path.relpath(match, tree))
            for match in glob.glob(os.path.join(glob.escape(tree), relative))
        ]
    return found


def session_root(session: Session) -> bytes:
    """CAPIO_DIR as bytes."""
    return os.fsencode(session.capio_dir)


def _relative(session: Session, absolute: bytes) -> bytes | None:
    """A normalised absolute path relative to CAPIO_DIR; None if it is outside."""
    for root in (session.capio_dir, session.real_dir):
        encoded = os.fsencode(root)
        if absolute == encoded:
            return b""
        if absolute.startswith(encoded.rstrip(b"/") + b"/"):
            relative = absolute[len(encoded.rstrip(b"/")) + 1 :]
            return None if relative.split(b"/", 1)[0] == b".capio" else relative
    return None


def _show_path(made: Plan, word: bytes) -> bytes | None:
    """Makes one path visible. Returns the path to use instead if its name is taken, else None."""
    if not word or len(word) > 4096 or b"\n" in word:
        return None
    base = _base(made)
    path = os.path.join(base, word)
    session = _session.session_for(path)
    if session is None:
        return None
    try:
        relative = _relative(session, os.path.abspath(path))
        if relative is None:
            return None
        directory = _directory_of(session)
        made.places.update((os.path.dirname(path), path))
        if relative and directory.declared_elsewhere(relative, word):
            _pycapio.resolve(session.handle, path, FOR_CONTENT, word)
        return directory.show(made, relative)
    except OSError as error:
        if error.errno in _NO_PATH:
            return None
        raise


def _show_working_directory(made: Plan) -> None:
    try:
        cwd = _base(made) or os.getcwdb()
    except OSError:
        return
    session = _session.session_for(cwd)
    relative = None if session is None else _relative(session, os.path.abspath(cwd))
    if session is None or relative is None:
        return
    made.places.add(cwd)
    _directory_of(session).show_entries(made, relative, _MOST_UNNAMED)


# ---- one CAPIO_DIR ------------------------------------------------------------------------------


class _Shown:
    """A file that a program may change behind CAPIO's back."""

    def __init__(self, directory: _Directory, relative: bytes, backing: bytes) -> None:
        self.directory = directory
        self.relative = relative
        self.backing = backing
        self.before = _signature(backing)


class _Directory:
    """The links of this process in one CAPIO_DIR."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tree = os.fsencode(session.tree_dir)
        self.disk_tree = os.fsencode(session.disk_tree_dir)
        self.real = os.fsencode(session.real_dir)
        self.private = os.fsencode(session.private_dir)
        self.journal = os.path.join(self.private, b"links")
        self._fd = -1
        self._users = 0
        self._noted: set[bytes] = set()

    # -- making them visible --

    def declared_elsewhere(self, relative: bytes, word: bytes) -> bool:
        """Whether other apps are to produce the path, by a rule that means it.

        Not every word of a command is a path: one that only a pattern for everything matches
        counts if it looks like one.
        """
        handle = self.session.handle
        path = os.path.join(session_root(self.session), relative)
        if not _pycapio.is_input(handle, path):
            return False
        if b"/" in word or b"." in word:
            return True
        return not _pycapio.is_input(handle, path + b"\x01")

    def show(self, made: Plan, relative: bytes) -> bytes | None:
        backing = _pycapio.resolve(
            self.session.handle, os.path.join(self.real, relative), FOR_LOOKUP, None
        )
        if backing is None:
            return None
        if any(map(_is_directory, self._places(relative))):
            self._make_directory(made, relative)  # an empty one has no entries
            self.show_entries(made, relative, sys.maxsize)
            return None
        if self._in_store(backing) or self._link(relative) is not None:
            return self._show_file(made, relative)
        return None

    def _link(self, relative: bytes) -> bytes | None:
        """The store's own symbolic link of that name, if it is one."""
        return next((p for p in self._places(relative) if stat.S_ISLNK(_mode(p))), None)

    def _places(self, relative: bytes) -> tuple[bytes, bytes]:
        """Where the store may have a path: in memory and on disk."""
        return os.path.join(self.tree, relative), os.path.join(self.disk_tree, relative)

    def show_entries(self, made: Plan, relative: bytes, most: int) -> int:
        """Makes what a directory of the store holds visible; leaves out what is still to grow."""
        names: dict[bytes, None] = {}
        for place in self._places(relative):
            try:
                names.update(dict.fromkeys(_listdir(place)))
            except OSError:
                continue
        for name in names:
            if most <= 0:
                break
            path = os.path.join(relative, name)
            mode = next(filter(None, map(_mode, self._places(path))), 0)
            try:
                if stat.S_ISDIR(mode):
                    self._make_directory(made, path)
                    most = self.show_entries(made, path, most - 1)
                elif self._is_shown(path, mode):
                    self._show_file(made, path)
                    most -= 1
            except OSError:
                continue
        return most

    def _is_shown(self, relative: bytes, mode: int) -> bool:
        """Of an entry of a directory: whether it is a file, or a link to one, and complete."""
        if stat.S_ISREG(mode):
            return _pycapio.is_whole(self.session.handle, os.path.join(self.real, relative))
        link = self._link(relative)
        return link is not None and not _is_directory(link)

    def _show_file(self, made: Plan, relative: bytes) -> bytes | None:
        name = os.path.join(self.real, relative)
        # Noted first: from then on the server leaves the file where it is.
        self._use(made)
        self._note(b"p", relative)
        backing = _pycapio.resolve(self.session.handle, name, FOR_LOOKUP, None)
        if backing is None:
            return None
        if not self._in_store(backing):  # real, or where a link of the store leads to
            backing = self._link(relative)
            if backing is None:
                return None
        if any(entry.backing == backing for entry in made.shown):
            return None if self._is_ours(name) else backing  # named twice
        made.shown.append(_Shown(self, relative, backing))
        try:
            mode = _lstat(name).st_mode
        except FileNotFoundError:
            pass
        except OSError:
            return backing
        else:
            if stat.S_ISLNK(mode) and self._is_ours(name):
                return None
            return backing  # taken by a real file, which is an older one
        self._make_directory(made, os.path.dirname(relative))
        self._note(b"f", relative)
        try:
            _symlink(backing, name)
        except FileExistsError:
            return None if self._is_ours(name) else backing
        except OSError:
            return backing
        return None

    def _make_directory(self, made: Plan, relative: bytes) -> None:
        name = os.path.join(self.real, relative)
        if not relative or _is_directory(name):
            return
        self._make_directory(made, os.path.dirname(relative))
        self._use(made)
        self._note(b"d", relative)
        try:
            _mkdir(name, stat.S_IMODE(_stat(os.path.join(self.tree, relative)).st_mode) | 0o700)
        except FileExistsError:
            pass

    def _in_store(self, backing: bytes) -> bool:
        return backing.startswith((self.tree + b"/", self.private + b"/"))

    def _is_ours(self, name: bytes) -> bool:
        try:
            return self._in_store(_link_target(name))
        except OSError:
            return False

    # -- the journal --

    def _use(self, made: Plan) -> None:
        if self.session in made.directories:
            return
        with _lock:
            if self._users == 0:
                _makedirs(self.private, 0o700, exist_ok=True)
                self._fd = _open(
                    self.journal, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
                )
                fcntl.flock(self._fd, fcntl.LOCK_SH)
            self._users += 1
        made.directories[self.session] = self

    def _note(self, kind: bytes, relative: bytes) -> None:
        with _lock:
            entry = kind + relative
            if entry in self._noted:
                return
            _write(self._fd, entry + b"\0")
            self._noted.add(entry)

    def keep(self, through_exec: bool) -> None:
        if self._fd >= 0:  # a child by fork has none
            os.set_inheritable(self._fd, through_exec)

    def leave(self) -> None:
        """One child less. After the last one, of whichever process, the links go."""
        with _lock:
            self._users -= 1
            if self._users > 0 or self._fd < 0:
                return
            fd, self._fd = self._fd, -1
            self._noted.clear()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # somebody else's child still runs, and somebody else will clean up
        else:
            self._sweep(fd)
        finally:
            _close(fd)

    def _sweep(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        entries = os.pread(fd, size, 0).split(b"\0")[:-1]
        for entry in entries:
            name = os.path.join(self.real, entry[1:])
            if entry[:1] == b"f" and self._is_ours(name):
                _quietly(_unlink, name)
        for entry in reversed(entries):
            if entry[:1] == b"d":
                _quietly(_rmdir, os.path.join(self.real, entry[1:]))
        os.ftruncate(fd, 0)

    def forget(self) -> None:
        """In a child by fork: the lock is the parent's."""
        if self._fd >= 0:
            _close(self._fd)
        self._fd, self._users = -1, 0
        self._noted.clear()

    # -- what the program did with them --

    def settle(self, shown: _Shown, moved: bytes | None) -> None:
        """Tells CAPIO what has become of a file. moved: where its link is now."""
        if self.session.handle is None:
            return
        try:
            name = os.path.join(self.real, shown.relative)
            if moved is not None:
                _unlink(moved)
                _pycapio.rename(self.session.handle, name, moved, name, moved)
                return
            now = _signature(shown.backing)
            if now is not None and now != shown.before:
                _pycapio.notice_change(self.session.handle, name, name)
            self._adopt(name, shown)
        except OSError as error:
            if error.errno not in _NO_PATH:
                sys.stderr.write(
                    f"pycapio: what a child program did to {os.fsdecode(shown.relative)} is not "
                    f"seen: {error.strerror}\n"
                )

    def _adopt(self, name: bytes, shown: _Shown) -> None:
        """A real file has taken the link's place (sed -i, mv): it is the file now."""
        try:
            status = _lstat(name)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(status.st_mode):
            return
        kept = _signature(shown.backing)
        if kept is None or kept[1:] == (status.st_size, status.st_mtime_ns):
            return  # the server has written it back
        if status.st_mtime_ns <= kept[2]:
            return  # an older real file
        aside = os.path.join(self.private, b"x%d" % status.st_ino)
        _rename(name, aside)
        _pycapio.rename(self.session.handle, aside, name, aside, name)


def _moved(shown: list[_Shown], places: set[bytes]) -> dict[bytes, bytes]:
    """Links that the program has given another name (mv), by what they lead to."""
    missing = {
        entry.backing: os.path.join(entry.directory.real, entry.relative)
        for entry in shown
        if not _is_there(os.path.join(entry.directory.real, entry.relative))
    }
    found: dict[bytes, bytes] = {}
    if not missing:
        return found
    for place in places | {os.path.dirname(name) for name in missing.values()}:
        try:
            with _scandir(place) as entries:
                links = [entry.path for entry in entries if entry.is_symlink()]
        except OSError:
            continue
        for link in links:
            target = _link_target(link)
            if target in missing:
                found[target] = link
    return found


def _signature(path: bytes) -> tuple[int, int, int] | None:
    try:
        status = _stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_there(path: bytes) -> bool:
    try:
        _lstat(path)
    except OSError:
        return False
    return True


def _mode(path: bytes) -> int:
    """0 if nothing is there."""
    try:
        return _lstat(path).st_mode
    except OSError:
        return 0


def _quietly(call: Any, name: bytes) -> None:
    try:
        call(name)
    except OSError:
        pass


def _is_directory(path: Any) -> bool:
    try:
        return stat.S_ISDIR(_stat(path).st_mode)
    except (OSError, ValueError):
        return False


_directories: dict[Session, _Directory] = {}


def _directory_of(session: Session) -> _Directory:
    with _lock:
        found = _directories.get(session)
        if found is None:
            found = _directories[session] = _Directory(session)
        return found


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _plans.clear()
    for directory in _directories.values():
        directory.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
