"""What the random sequences on a directory tree consist of: calls of os, pathlib, open, shutil and
tempfile, each a method that returns what can be compared between two trees.
"""

from __future__ import annotations

import glob
import io
import itertools
import os
import pathlib
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from twins import observed

Path = Any  # str, bytes or PathLike

# What is too long for a report, and stands for it in a path.
LONG = {"<255>": "n" * 255, "<256>": "n" * 256, "<deep>": "n/" * 2100}

_OLD = 10**18  # nanoseconds: times before 2001 were set by an action and are compared


class Skipped(Exception):
    """An action that would take away the root itself, or that has no open file to act on."""


def _spelt_out(text: str) -> str:
    for token, meaning in LONG.items():
        text = text.replace(token, meaning)
    return text


class _PathLike:
    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<{self.path}>"


def described(status: os.stat_result) -> list[Any]:
    """The parts of a stat result that two trees have in common."""
    directory = stat.S_ISDIR(status.st_mode)
    return [
        stat.filemode(status.st_mode),
        None if directory else status.st_nlink,
        None if directory else status.st_size,
        status.st_mtime_ns if not directory and status.st_mtime_ns < _OLD else None,
        status.st_uid,
        status.st_gid,
    ]


def _attributes(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if name.startswith("user.")
    }


def tree_of(root: str) -> dict[str, Any]:
    """Everything below a directory: names, kinds, modes, links, times that were set, contents."""
    found: dict[str, Any] = {}
    inodes: dict[tuple[int, int], str] = {}
    for base, directories, files in os.walk(root):
        if base == root and ".capio" in directories:
            directories.remove(".capio")
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(base, name)
            status = os.lstat(path)
            content: Any = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path).replace(root, "<root>")
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            shown = os.path.relpath(path, root)
            same = inodes.setdefault((status.st_dev, status.st_ino), shown)
            attributes = {} if stat.S_ISLNK(status.st_mode) else _attributes(path)
            found[shown] = [*described(status), content, same, attributes]
    return found


def populate(root: str, entries: list[tuple[str, str, Any]]) -> None:
    """Makes the tree that was there before: (kind, path, argument) each."""
    for kind, path, argument in entries:
        where = os.path.join(root, path)
        if os.path.lexists(where):
            continue
        try:
            os.makedirs(os.path.dirname(where), exist_ok=True)
        except OSError:  # below a file
            continue
        if kind == "directory":
            os.mkdir(where)
            os.chmod(where, argument)
        elif kind == "link":
            os.symlink(argument.replace("<root>", root), where)
        else:
            content, mode = argument
            with open(where, "wb") as file:
                file.write(content)
            os.chmod(where, mode)


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, bytes):
        return value.replace(os.fsencode(old), os.fsencode(new))
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(part, old, new) for part in value)
    if isinstance(value, dict):
        return {key: _replaced(part, old, new) for key, part in value.items()}
    return value


class Actor:
    """Performs actions on one tree. The root is current; paths are relative to it, or below it."""

    def __init__(self, root: str, *, plain: bool) -> None:
        self.root = root
        os.chdir(root)
        # The same temporary names in both trees.
        tempfile._name_sequence = (f"t{n:07}" for n in itertools.count())  # type: ignore[attr-defined]
        self._files: dict[int, Any] = {}
        self._descriptors: dict[int, int] = {}
        # Of a plain tree: the files that were there before, and what those who read one saw first.
        self._inputs: set[tuple[int, int]] = set()
        self._as_input: dict[tuple[int, str], bytes] = {}
        for base, _, names in os.walk(root) if plain else ():
            for name in names:
                status = os.lstat(os.path.join(base, name))
                self._inputs.add((status.st_dev, status.st_ino))

    def do(self, action: str, arguments: dict[str, Any]) -> tuple[Any, bool]:
        """What came of an action, and whether it can be compared with another tree's.

        A file that was there before stays what it was for those who have it open when it is
        changed (docs/semantics.md, S1); a plain one changes under their eyes.
        """
        values = {name: self._meant(name, value) for name, value in arguments.items()}
        outcome = observed(lambda _: getattr(self, action)(**values), self.root)
        # Where a link out of the tree has led to.
        outcome = _replaced(outcome, os.path.dirname(self.root), "<above>")
        kind = "descriptor" if "descriptor" in action or action in ("pread", "pwrite") else "file"
        key = (arguments.get("slot", -1), kind)
        if key in self._as_input:
            return outcome, "status" not in action and not self._has_changed(key)
        return outcome, True

    # ---- paths and open files ----

    def _meant(self, argument: str, value: Any) -> Any:
        if argument in ("path", "other"):
            return self._path(*value)
        return _spelt_out(value) if argument in ("name", "new", "text") else value

    def _path(self, text: str, kind: str) -> Path:
        text = _spelt_out(text)
        if kind.startswith("absolute"):
            text = f"{self.root}/{text}"
        if kind.endswith("bytes"):
            return os.fsencode(text)
        if kind.endswith("pathlib"):
            return pathlib.Path(text)
        if kind.endswith("pathlike"):
            return _PathLike(text)
        return text

    def _doomed(self, path: Path) -> Path:
        """A path that the action may take away; not the root."""
        if os.path.abspath(os.fsdecode(path)) == self.root:
            raise Skipped
        return path

    def _refuse_input(self, path: Path) -> None:
        """Hard links of a file that was there before part when one is written (docs/limits.md)."""
        status = _attempt(lambda: os.stat(path))
        if isinstance(status, os.stat_result) and (status.st_dev, status.st_ino) in self._inputs:
            raise Skipped

    def _opened(self, slot: int, kind: str, writable: bool) -> None:
        self._as_input.pop((slot, kind), None)
        if self._inputs and not writable:
            fd = self._fd_of(slot, kind)
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) in self._inputs:
                self._as_input[slot, kind] = _content(fd)

    def _fd_of(self, slot: int, kind: str) -> int:
        if kind == "descriptor":
            return self._descriptors[slot]
        fd: int = self._files[slot].fileno()
        return fd

    def _has_changed(self, key: tuple[int, str]) -> bool:
        slot, kind = key
        if slot not in (self._files if kind == "file" else self._descriptors):
            return False  # closed by the action
        return _content(self._fd_of(slot, kind)) != self._as_input[key]

    def _file(self, slot: int) -> Any:
        if slot not in self._files:
            raise Skipped
        return self._files[slot]

    def _descriptor(self, slot: int) -> int:
        if slot not in self._descriptors:
            raise Skipped
        return self._descriptors[slot]

    def close_all(self) -> list[Any]:
        said: list[Any] = []
        for slot in sorted(self._files):
            said.append(_attempt(self._files[slot].close))
        for slot in sorted(self._descriptors):
            said.append(_attempt(lambda slot=slot: os.close(self._descriptors[slot])))
        self._files.clear()
        self._descriptors.clear()
        return said

    def tree(self) -> Any:
        return tree_of(self.root)

    # ---- file objects ----

    def open(self, slot: int, path: Path, mode: str, buffering: int) -> Any:
        if slot in self._files:
            self._files.pop(slot).close()
        options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        file = open(path, mode, buffering if "b" in mode else -1, **options)
        self._files[slot] = file
        self._opened(slot, "file", file.writable())
        kind = io.FileIO if isinstance(file, io.FileIO) else type(file)
        return [file.name, file.mode, file.readable(), file.writable(), file.tell(), kind.__name__]

    def read(self, slot: int, size: int) -> Any:
        return self._file(slot).read(size)

    def read_lines(self, slot: int) -> Any:
        return list(self._file(slot))

    def read_line(self, slot: int) -> Any:
        return self._file(slot).readline()

    def write(self, slot: int, data: str) -> Any:
        file = self._file(slot)
        return file.write(data if isinstance(file, io.TextIOBase) else data.encode())

    def seek(self, slot: int, offset: int, whence: int) -> Any:
        return self._file(slot).seek(offset, whence)

    def tell(self, slot: int) -> Any:
        return self._file(slot).tell()

    def truncate_file(self, slot: int, size: int | None) -> Any:
        return self._file(slot).truncate(size)

    def flush(self, slot: int) -> Any:
        return self._file(slot).flush()

    def status_of_file(self, slot: int) -> Any:
        return described(os.fstat(self._file(slot).fileno()))

    def close(self, slot: int) -> Any:
        file = self._file(slot)
        del self._files[slot]
        file.close()
        return file.closed

    # ---- descriptors ----

    def open_descriptor(self, slot: int, path: Path, flags: int, mode: int) -> Any:
        if slot in self._descriptors:
            os.close(self._descriptors.pop(slot))
        fd = os.open(path, flags, mode)
        self._descriptors[slot] = fd
        if flags & os.O_PATH or stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(self._descriptors.pop(slot))
            return "not a file"
        self._opened(slot, "descriptor", bool(flags & (os.O_WRONLY | os.O_RDWR)))
        return os.get_inheritable(fd)

    def read_descriptor(self, slot: int, size: int) -> Any:
        return os.read(self._descriptor(slot), size)

    def write_descriptor(self, slot: int, data: str) -> Any:
        return os.write(self._descriptor(slot), data.encode())

    def pread(self, slot: int, size: int, offset: int) -> Any:
        return os.pread(self._descriptor(slot), size, offset)

    def pwrite(self, slot: int, data: str, offset: int) -> Any:
        return os.pwrite(self._descriptor(slot), data.encode(), offset)

    def seek_descriptor(self, slot: int, offset: int, whence: int) -> Any:
        return os.lseek(self._descriptor(slot), offset, whence)

    def truncate_descriptor(self, slot: int, size: int) -> Any:
        return os.ftruncate(self._descriptor(slot), size)

    def status_of_descriptor(self, slot: int) -> Any:
        return described(os.fstat(self._descriptor(slot)))

    def close_descriptor(self, slot: int) -> Any:
        return os.close(self._pop_descriptor(slot))

    def descriptor_to_file(self, slot: int) -> Any:
        """os.fdopen: reads what is left, and closes."""
        with open(self._pop_descriptor(slot), "rb") as file:
            return file.read()

    def _pop_descriptor(self, slot: int) -> int:
        fd = self._descriptor(slot)
        del self._descriptors[slot]
        return fd

    # ---- names ----

    def mkdir(self, path: Path, mode: int) -> Any:
        return os.mkdir(path, mode)

    def makedirs(self, path: Path, exist_ok: bool) -> Any:
        return os.makedirs(path, exist_ok=exist_ok)

    def rmdir(self, path: Path) -> Any:
        return os.rmdir(self._doomed(path))

    def removedirs(self, path: Path) -> Any:
        if os.path.isabs(os.fspath(path)) or ".." in os.fsdecode(path):
            raise Skipped
        return os.removedirs(self._doomed(path))

    def unlink(self, path: Path) -> Any:
        return os.unlink(self._doomed(path))

    def rename(self, path: Path, other: Path) -> Any:
        return os.rename(self._doomed(path), self._doomed(other))

    def replace(self, path: Path, other: Path) -> Any:
        return os.replace(self._doomed(path), self._doomed(other))

    def chmod(self, path: Path, mode: int) -> Any:
        return os.chmod(path, mode)

    def utime(self, path: Path, times: tuple[int, int]) -> Any:
        return os.utime(path, ns=times)

    def readlink(self, path: Path) -> Any:
        return os.readlink(path)

    def link(self, path: Path, other: Path, follow: bool) -> Any:
        self._refuse_input(path)
        return os.link(path, other, follow_symlinks=follow)

    def symlink(self, text: str, path: Path) -> Any:
        return os.symlink(text.replace("<root>", self.root), path)

    def truncate(self, path: Path, size: int) -> Any:
        return os.truncate(path, size)

    def set_attribute(self, path: Path, value: str, follow: bool) -> Any:
        return os.setxattr(path, "user.pycapio", value.encode(), follow_symlinks=follow)

    def get_attribute(self, path: Path) -> Any:
        return os.getxattr(path, "user.pycapio")

    # ---- directories as descriptors, and entered ----

    def at_directory(self, path: Path, call: str, name: str, new: str) -> Any:
        """A call with dir_fd; name and new are below the directory."""
        _refuse_above(call, name, new)
        if call == "link":
            self._refuse_input(os.path.join(os.fsdecode(path), name))
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return _AT[call](fd, name, new)
        finally:
            os.close(fd)

    def inside(self, path: Path, call: str, name: str, new: str) -> Any:
        """The same, with the directory entered."""
        _refuse_above(call, name, new)
        if call == "link":
            self._refuse_input(os.path.join(os.fsdecode(path), name))
        os.chdir(path)
        try:
            where = os.getcwd()
            return [where, os.getcwdb() == os.fsencode(where), _AT[call](None, name, new)]
        finally:
            os.chdir(self.root)

    def walk_by_descriptor(self, path: Path) -> Any:
        said = []
        for base, directories, names, fd in os.fwalk(path):
            said.append([base, sorted(directories), sorted(names), sorted(os.listdir(fd))])
        return sorted(said)

    # ---- questions ----

    def stat(self, path: Path, follow: bool) -> Any:
        return described(os.stat(path, follow_symlinks=follow))

    def access(self, path: Path, mode: int) -> Any:
        return os.access(path, mode)

    def kinds(self, path: Path) -> Any:
        return [
            getattr(os.path, name)(path)
            for name in ("exists", "lexists", "isfile", "isdir", "islink", "ismount")
        ]

    def size(self, path: Path) -> Any:
        return None if os.path.isdir(path) else os.path.getsize(path)

    def real_path(self, path: Path) -> Any:
        return os.path.realpath(path)

    def same_file(self, path: Path, other: Path) -> Any:
        return os.path.samefile(path, other)

    def listdir(self, path: Path) -> Any:
        return sorted(os.listdir(path))

    def scandir(self, path: Path) -> Any:
        with os.scandir(path) as entries:
            return sorted(
                [
                    entry.name,
                    entry.path,
                    entry.is_dir(),
                    entry.is_file(follow_symlinks=False),
                    entry.is_symlink(),
                    described(entry.stat(follow_symlinks=False)),
                    entry.inode() == entry.stat(follow_symlinks=False).st_ino,
                ]
                for entry in entries
            )

    def walk(self, path: Path, topdown: bool) -> Any:
        return sorted(
            [base, sorted(directories), sorted(names)]
            for base, directories, names in os.walk(os.fspath(path), topdown)
        )

    def glob(self, pattern: str) -> Any:
        if "**" in pattern:
            _refuse_links(".")
        return sorted(glob.glob(pattern, recursive=True))

    # ---- pathlib ----

    def pathlib_write(self, path: Path, data: str) -> Any:
        return _pathlib(path).write_text(data)

    def pathlib_read(self, path: Path) -> Any:
        return _pathlib(path).read_bytes()

    def pathlib_touch(self, path: Path, exist_ok: bool) -> Any:
        return _pathlib(path).touch(exist_ok=exist_ok)

    def pathlib_mkdir(self, path: Path, parents: bool, exist_ok: bool) -> Any:
        return _pathlib(path).mkdir(parents=parents, exist_ok=exist_ok)

    def pathlib_unlink(self, path: Path, missing_ok: bool) -> Any:
        return _pathlib(self._doomed(path)).unlink(missing_ok=missing_ok)

    def pathlib_rename(self, path: Path, other: Path) -> Any:
        return _pathlib(self._doomed(path)).rename(_pathlib(self._doomed(other)))

    def pathlib_list(self, path: Path) -> Any:
        return sorted(_pathlib(path).iterdir())

    def pathlib_glob(self, path: Path, pattern: str) -> Any:
        return sorted(_pathlib(path).rglob(pattern))

    def pathlib_kinds(self, path: Path) -> Any:
        where = _pathlib(path)
        return [where.exists(), where.is_file(), where.is_dir(), where.is_symlink()]

    def pathlib_resolve(self, path: Path, strict: bool) -> Any:
        return _pathlib(path).resolve(strict)

    # ---- shutil and tempfile ----

    def copy_file(self, path: Path, other: Path, how: str) -> Any:
        return getattr(shutil, how)(path, other)

    def copy_tree(self, path: Path, other: Path, symlinks: bool, exist_ok: bool) -> Any:
        _refuse_inside(path, other)
        if not symlinks:
            _refuse_links(path)
        return shutil.copytree(path, other, symlinks=symlinks, dirs_exist_ok=exist_ok)

    def move(self, path: Path, other: Path) -> Any:
        if isinstance(os.fspath(path), bytes) != isinstance(os.fspath(other), bytes):
            raise Skipped
        if isinstance(os.fspath(path), bytes) and os.path.isdir(path):
            raise Skipped  # shutil copies none that way where a rename is refused
        return shutil.move(self._doomed(path), self._doomed(other))

    def remove_tree(self, path: Path, ignore: bool) -> Any:
        return shutil.rmtree(self._doomed(path), ignore_errors=ignore)

    def write_by_temporary(self, path: Path, data: str) -> Any:
        """The idiom: write beside the file, and replace it."""
        where = os.path.dirname(os.fsdecode(self._doomed(path))) or "."
        fd, name = tempfile.mkstemp(dir=where)
        try:
            with open(fd, "w") as file:
                file.write(data)
            os.replace(name, os.fsdecode(path))
        except OSError:
            os.unlink(name)
            raise

    def temporary_directory(self, path: Path, data: str) -> Any:
        with tempfile.TemporaryDirectory(dir=os.fsdecode(path)) as directory:
            inner = pathlib.Path(directory, "sub")
            inner.mkdir()
            (inner / "file").write_text(data)
            return sorted(name[len(directory) :] for name, _, _ in os.walk(directory))

    def temporary_file(self, path: Path, data: str) -> Any:
        with tempfile.NamedTemporaryFile("w+", dir=os.fsdecode(path)) as file:
            file.write(data)
            file.seek(0)
            return [file.read(), os.path.exists(file.name)]

    def unnamed_file(self, path: Path, data: str) -> Any:
        with tempfile.TemporaryFile("w+", dir=os.fsdecode(path)) as file:
            file.write(data)
            file.seek(0)
            return file.read()


def _pathlib(path: Path) -> pathlib.Path:
    return pathlib.Path(os.fsdecode(path))


def _refuse_inside(path: Path, other: Path) -> None:
    """A copy of a directory into itself never ends."""
    real = os.path.realpath(os.fsdecode(path))
    if (os.path.realpath(os.fsdecode(other)) + "/").startswith(real + "/"):
        raise Skipped


def _refuse_above(call: str, *names: str) -> None:
    if call.startswith(("rmdir", "unlink", "rename", "remove")):
        if any(".." in name or name in (".", "./") for name in names):
            raise Skipped


def _refuse_links(path: Path) -> None:
    """A copy that follows them may go round in circles."""
    for base, directories, names in os.walk(os.fsdecode(path)):
        for name in directories + names:
            if os.path.islink(os.path.join(base, name)):
                raise Skipped


def _read_at(fd: int | None, name: str, _new: str) -> bytes | None:
    opened = os.open(name, os.O_RDONLY, dir_fd=fd)
    if stat.S_ISDIR(os.fstat(opened).st_mode):
        os.close(opened)
        return None
    with open(opened, "rb") as file:
        return file.read()


def _write_at(fd: int | None, name: str, new: str) -> int:
    opened = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
    try:
        return os.write(opened, new.encode())
    finally:
        os.close(opened)


# Calls on a name below a directory, with a second one for those that need it.
_AT: dict[str, Callable[[int | None, str, str], Any]] = {
    "stat": lambda fd, name, _: described(os.stat(name, dir_fd=fd)),
    "lstat": lambda fd, name, _: described(os.stat(name, dir_fd=fd, follow_symlinks=False)),
    "access": lambda fd, name, _: os.access(name, os.R_OK, dir_fd=fd),
    "read": _read_at,
    "write": _write_at,
    "mkdir": lambda fd, name, _: os.mkdir(name, dir_fd=fd),
    "rmdir": lambda fd, name, _: os.rmdir(name, dir_fd=fd),
    "unlink": lambda fd, name, _: os.unlink(name, dir_fd=fd),
    "rename": lambda fd, name, new: os.rename(name, new, src_dir_fd=fd, dst_dir_fd=fd),
    "rename out": lambda fd, name, new: os.rename(name, new, src_dir_fd=fd),
    "link": lambda fd, name, new: os.link(name, new, src_dir_fd=fd, dst_dir_fd=fd),
    "symlink": lambda fd, name, new: os.symlink(new, name, dir_fd=fd),
    "readlink": lambda fd, name, _: os.readlink(name, dir_fd=fd),
    "chmod": lambda fd, name, _: os.chmod(name, 0o600, dir_fd=fd),
    "utime": lambda fd, name, _: os.utime(name, (5, 6), dir_fd=fd),
    "list": lambda fd, name, _: sorted(os.listdir(name if fd is None else fd)),
    "absolute": lambda fd, name, _: os.path.abspath(name),
    "real": lambda fd, name, _: os.path.realpath(name),
    "remove tree": lambda fd, name, _: _remove_at(fd, name),
}
AT_CALLS = tuple(_AT)


def _remove_at(fd: int | None, name: str) -> None:
    if fd is None or sys.version_info < (3, 11):
        raise Skipped
    shutil.rmtree(name, dir_fd=fd)


def _content(fd: int) -> bytes:
    return b"".join(_pieces(fd))


def _pieces(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, 1 << 16, at):
        yield piece
        at += len(piece)


def _attempt(call: Any) -> Any:
    try:
        return call()
    except (OSError, ValueError) as error:
        return error
