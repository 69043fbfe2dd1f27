"""Every call of os that takes a path, on every kind of name: through symbolic links, given as str,
bytes or PathLike, relative to a directory descriptor and to the current directory; with what the
names mean in the store, in the real directory, and with links from one to the other."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pathlib
import shutil
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from pycapio.proxies import translated
from twins import Twin, differences, elsewhere, observed, tree


def files(root: str) -> None:
    os.makedirs(root + "/in/dir/sub")
    os.mkdir(root + "/in/empty")
    for name in ("file", "other", "dir/inner", "dir/sub/deep"):
        with open(f"{root}/in/{name}", "w") as file:
            file.write(f"content of {name}")
    os.chmod(root + "/in/file", 0o640)
    os.makedirs(elsewhere(root) + "/there")
    with open(elsewhere(root) + "/thing", "w") as file:
        file.write("outside")


def links(root: str) -> None:
    os.makedirs(root + "/in", exist_ok=True)
    for name, target in {
        "to-file": "file",
        "to-link": "to-file",
        "to-dir": "dir",
        "to-inner": "dir/sub/../inner",
        "absolute": root + "/in/file",
        "absolute-dir": root + "/in/dir",
        "self": ".",
        "up": "../in/dir",
        "dangling": "nothing",
        "dangling-below": "dir/nothing",
        "loop": "pool",
        "pool": "loop",
        "out": elsewhere(root),
        "out-thing": elsewhere(root) + "/thing",
        "through-file": "file/x",
    }.items():
        os.symlink(target, f"{root}/in/{name}")


LONG = "n" * 256
NAMES = [
    "file", "file/", "dir", "dir/", "dir/inner", "absent", "absent/x", "to-file", "to-file/", "to-file/x",
    "to-link", "to-dir", "to-dir/", "to-dir/inner", "to-dir/absent", "to-dir/../file", "to-dir/sub/..",
    "to-dir/sub/../inner", "to-inner", "absolute", "absolute-dir/inner", "absolute-dir", "self", "self/self/to-file",
    "up/inner", "up/../file", "dangling", "dangling/", "dangling/x", "dangling/..", "dangling-below", "loop", "loop/",
    "loop/x", "out", "out/thing", "out/new", "out/..", "out/there", "out-thing", "through-file", "dir/../to-dir/sub",
    "file/.", "file/..", "file/x/", "absent/x/", "to-file/x/", "file/x/..", "file/x/../dir", "to-file/x/../dir", "absent/x/../file", "absent/..", "to-file/.", LONG, LONG + "/x", "dir/" + LONG, "dir/" + "sub/../" * 600 + "inner",
]  # fmt: skip
FEW = ["file", "dir", "absent", "to-file", "to-dir", "to-dir/inner", "dangling", "loop", "out/new", "empty"]  # fmt: skip


class Call(NamedTuple):
    # Looks its function up when it is called: what a tuple holds is not patched.
    function: Callable[..., Any]  # of a path, and of dir_fd
    dir_fd: bool = True


def closing(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    os.close(fd)
    return stat.S_IFMT(status.st_mode), status.st_size if stat.S_ISREG(status.st_mode) else 0


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except OSError as error:
        return error


def entries(path: Any) -> Any:
    with os.scandir(path) as iterator:
        found = sorted(iterator, key=lambda entry: entry.name)
    return [
        (
            entry.name,
            entry.path,
            entry.is_symlink(),
            *(
                outcome(question)
                for question in (
                    entry.is_dir,
                    entry.is_file,
                    partial(entry.is_dir, follow_symlinks=False),
                    entry.stat,
                    partial(entry.stat, follow_symlinks=False),
                )
            ),
        )
        for entry in found
    ]


def entered(path: Any) -> str:
    os.chdir(path)
    return os.getcwd()


def through(call: Callable[[int], Any], flags: int = os.O_RDONLY) -> Callable[..., Any]:
    """A call on a descriptor of a path."""

    def of_path(path: Any, **dir_fd: Any) -> Any:
        fd = os.open(path, flags, **dir_fd)
        try:
            return call(fd)
        except OSError as error:
            if isinstance(error.filename, int):  # another one each time
                error.filename = None
            raise
        finally:
            os.close(fd)

    return of_path


def entered_by_descriptor(fd: int) -> str:
    before = os.getcwd()
    os.fchdir(fd)
    try:
        return os.getcwd()
    finally:
        os.chdir(before)


CALLS = {
    "stat": Call(lambda p, **fd: os.stat(p, **fd)),
    "lstat": Call(lambda p, **fd: os.lstat(p, **fd)),
    "stat-nofollow": Call(lambda p, **fd: os.stat(p, follow_symlinks=False, **fd)),
    "access": Call(lambda p, **fd: os.access(p, os.R_OK, **fd)),
    "access-nofollow": Call(lambda p, **fd: os.access(p, os.F_OK, follow_symlinks=False, **fd)),
    "access-effective": Call(lambda p, **fd: os.access(p, os.F_OK, effective_ids=True, **fd)),
    "chmod": Call(lambda p, **fd: os.chmod(p, 0o600, **fd)),
    "chown": Call(lambda p, **fd: os.chown(p, -1, -1, **fd)),
    "chown-nofollow": Call(lambda p, **fd: os.chown(p, -1, -1, follow_symlinks=False, **fd)),
    "lchown": Call(lambda p: os.lchown(p, -1, -1), False),
    "utime": Call(lambda p, **fd: os.utime(p, (1, 2), **fd)),
    "utime-nofollow": Call(lambda p, **fd: os.utime(p, (1, 2), follow_symlinks=False, **fd)),
    "truncate": Call(lambda p: os.truncate(p, 3), False),
    "truncate-longer": Call(lambda p: os.truncate(p, 100), False),
    "truncate-negative": Call(lambda p: os.truncate(p, -1), False),
    "readlink": Call(lambda p, **fd: os.readlink(p, **fd)),
    "statvfs": Call(lambda p: os.statvfs(p).f_namemax, False),
    "pathconf": Call(lambda p: os.pathconf(p, "PC_NAME_MAX"), False),
    "mkdir": Call(lambda p, **fd: os.mkdir(p, **fd)),
    "mkfifo": Call(lambda p, **fd: os.mkfifo(p, **fd)),
    "mknod": Call(lambda p, **fd: os.mknod(p, stat.S_IFREG | 0o644, **fd)),
    "rmdir": Call(lambda p, **fd: os.rmdir(p, **fd)),
    "unlink": Call(lambda p, **fd: os.unlink(p, **fd)),
    "remove": Call(lambda p, **fd: os.remove(p, **fd)),
    "makedirs": Call(lambda p: os.makedirs(p), False),
    "makedirs-exist-ok": Call(lambda p: os.makedirs(p, exist_ok=True), False),
    "removedirs": Call(lambda p: os.removedirs(p), False),
    "listdir": Call(lambda p: sorted(os.listdir(p)), False),
    "scandir": Call(lambda p: entries(p), False),
    "chdir": Call(entered, False),
    "open": Call(lambda p, **fd: closing(os.open(p, os.O_RDONLY, **fd))),
    "open-write": Call(lambda p, **fd: closing(os.open(p, os.O_WRONLY, **fd))),
    "open-create": Call(lambda p, **fd: closing(os.open(p, os.O_CREAT | os.O_WRONLY, **fd))),
    "open-exclusive": Call(lambda p, **fd: closing(os.open(p, os.O_CREAT | os.O_EXCL | os.O_RDWR, **fd))),
    "open-truncate": Call(lambda p, **fd: closing(os.open(p, os.O_TRUNC | os.O_WRONLY, **fd))),
    "open-directory": Call(lambda p, **fd: closing(os.open(p, os.O_DIRECTORY, **fd))),
    "open-nofollow": Call(lambda p, **fd: closing(os.open(p, os.O_NOFOLLOW, **fd))),
    "open-nofollow-write": Call(lambda p, **fd: closing(os.open(p, os.O_NOFOLLOW | os.O_RDWR, **fd))),
    "open-path": Call(lambda p, **fd: closing(os.open(p, os.O_PATH, **fd))),
    "open-path-nofollow": Call(lambda p, **fd: closing(os.open(p, os.O_PATH | os.O_NOFOLLOW, **fd))),
    "builtin-open": Call(lambda p: open(p).read(), False),
    "builtin-write": Call(lambda p: open(p, "w").close(), False),
    "builtin-append": Call(lambda p: open(p, "a").close(), False),
    "builtin-new": Call(lambda p: open(p, "x").close(), False),
    "exists": Call(lambda p: os.path.exists(p), False),
    "lexists": Call(lambda p: os.path.lexists(p), False),
    "isfile": Call(lambda p: os.path.isfile(p), False),
    "isdir": Call(lambda p: os.path.isdir(p), False),
    "islink": Call(lambda p: os.path.islink(p), False),
    "getsize": Call(lambda p: os.path.isdir(p) or os.path.getsize(p), False),
    "realpath": Call(lambda p: os.path.realpath(p), False),
    "listxattr": Call(lambda p: os.listxattr(p), False),
    "getxattr": Call(lambda p: os.getxattr(p, "user.none"), False),
    "removexattr": Call(lambda p: os.removexattr(p, "user.none"), False),
    "symlink": Call(lambda p, **fd: os.symlink("some/where", p, **fd)),
    "symlink-empty": Call(lambda p, **fd: os.symlink("", p, **fd)),
    "pathlib-resolve": Call(lambda p: pathlib.Path(os.fsdecode(p)).resolve(), False),
    "pathlib-resolve-strict": Call(lambda p: pathlib.Path(os.fsdecode(p)).resolve(strict=True), False),
    "pathlib-readlink": Call(lambda p: pathlib.Path(os.fsdecode(p)).readlink(), False),
    "pathlib-touch": Call(lambda p: pathlib.Path(os.fsdecode(p)).touch(), False),
    "pathlib-rglob": Call(lambda p: sorted(pathlib.Path(os.fsdecode(p)).rglob("*")), False),
    "getxattr-nofollow": Call(lambda p: os.getxattr(p, "user.none", follow_symlinks=False), False),
    "setxattr": Call(lambda p: os.setxattr(p, "user.x", b"1") or os.getxattr(p, "user.x"), False),
    "setxattr-nofollow": Call(lambda p: os.setxattr(p, "user.x", b"1", follow_symlinks=False), False),
    "setxattr-again": Call(lambda p: os.setxattr(p, "user.none", b"1", os.XATTR_REPLACE), False),
    "listxattr-nofollow": Call(lambda p: os.listxattr(p, follow_symlinks=False), False),
    "stat-descriptor": Call(through(lambda fd: os.stat(fd))),
    "chmod-descriptor": Call(through(lambda fd: os.chmod(fd, 0o600))),
    "fchmod": Call(through(lambda fd: os.fchmod(fd, 0o600))),
    "chown-descriptor": Call(through(lambda fd: os.chown(fd, -1, -1))),
    "fchown": Call(through(lambda fd: os.fchown(fd, -1, -1))),
    "utime-descriptor": Call(through(lambda fd: os.utime(fd, (1, 2)))),
    "truncate-descriptor": Call(through(lambda fd: os.truncate(fd, 3), os.O_WRONLY)),
    "setxattr-descriptor": Call(through(lambda fd: os.setxattr(fd, "user.x", b"1"))),
    "listxattr-descriptor": Call(through(lambda fd: os.listxattr(fd))),
    "statvfs-descriptor": Call(through(lambda fd: os.statvfs(fd).f_namemax)),
    "pathconf-descriptor": Call(through(lambda fd: os.pathconf(fd, "PC_NAME_MAX"))),
    "listdir-descriptor": Call(through(lambda fd: sorted(os.listdir(fd)))),
    "scandir-descriptor": Call(through(lambda fd: entries(fd))),
    "fchdir": Call(through(entered_by_descriptor)),
    "exists-descriptor": Call(through(lambda fd: [os.path.exists(fd), os.path.isfile(fd), os.path.isdir(fd)])),
    "walk": Call(lambda p: sorted((t, sorted(d), sorted(f)) for t, d, f in os.walk(p)), False),
    "fwalk": Call(lambda p: sorted((t, sorted(d), sorted(f)) for t, d, f, _ in os.fwalk(p)), False),
    "fwalk-dir-fd": Call(lambda p, **fd: sorted((t, sorted(d), sorted(f)) for t, d, f, _ in os.fwalk(p, **fd))),
}  # fmt: skip


# Files and links in the store; files in the store, links in the real directory.
TWO_PLACES = [(False, False), (False, True)]


def compare(
    twin: Twin, names: list[str], operation: Callable[[str, str], Any], places: Any = None
) -> None:
    """The operation on one name after the other, in a tree that all of them see."""

    def all_of_them(root: str) -> Any:
        return {name: observed(partial(operation_on, name), root) for name in names}

    def operation_on(name: str, root: str) -> Any:
        return operation(root + "/in", name)

    twin.same_mixed(all_of_them, [files, links], places)


@pytest.mark.parametrize("call", CALLS)
def test_names(twin: Twin, call: str) -> None:
    compare(twin, NAMES, lambda root, name: CALLS[call].function(f"{root}/{name}"))


@pytest.mark.parametrize("kind", [os.fsencode, pathlib.Path])
def test_kinds_of_paths(twin: Twin, kind: Callable[[str], Any]) -> None:
    for row in CALLS.values():
        compare(twin, FEW, lambda root, name: row.function(kind(f"{root}/{name}")), TWO_PLACES)  # noqa: B023


@pytest.mark.parametrize("call", [name for name, row in CALLS.items() if row.dir_fd])
@pytest.mark.parametrize("base", [".", "dir"])
def test_directory_descriptors(twin: Twin, call: str, base: str) -> None:
    def operation(root: str, name: str) -> Any:
        fd = os.open(f"{root}/{base}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return CALLS[call].function(name if base == "." else f"../{name}", dir_fd=fd)
        finally:
            os.close(fd)

    compare(twin, NAMES if base == "." else FEW, operation, TWO_PLACES)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("base", [".", "dir"])
def test_current_directory(twin: Twin, call: str, base: str) -> None:
    def operation(root: str, name: str) -> Any:
        os.chdir(f"{root}/{base}")
        try:
            return CALLS[call].function(name if base == "." else f"../{name}")
        finally:
            os.chdir("/")

    compare(twin, NAMES if base == "." else FEW, operation, TWO_PLACES)


TWO_NAMES = [
    "file", "dir", "dir/", "to-dir/inner", "empty", "absent", "to-file", "to-dir/", "dangling",
    "out/thing", "out/new",
]  # fmt: skip


@pytest.mark.parametrize("source", TWO_NAMES)
@pytest.mark.parametrize("call", ["rename", "link", "link-followed"])
def test_two_names(twin: Twin, call: str, source: str) -> None:
    def operation(root: str, target: str) -> Any:
        if call == "rename":
            return os.rename(f"{root}/in/{source}", f"{root}/in/{target}")
        if call == "link":
            return os.link(f"{root}/in/{source}", f"{root}/in/{target}", follow_symlinks=False)
        fd = os.open(root + "/in", os.O_RDONLY)
        try:
            return os.link(source, target, src_dir_fd=fd, dst_dir_fd=fd)
        finally:
            os.close(fd)

    wrong = []
    for target in TWO_NAMES:
        if "out/" in source + target and source in ("dir", "dir/", "empty", "file", "to-dir/inner"):
            # Directories do not cross the border of CAPIO_DIR, nor do hard links of the store.
            if call != "rename" or source in ("dir", "dir/", "empty"):
                continue
        try:
            twin.same_mixed(lambda root: operation(root, target), [files, links])  # noqa: B023
        except AssertionError as error:
            wrong.append(f"{target!r}: {str(error)[:600]}")
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)}:", *wrong[:20]]), pytrace=False)


@pytest.mark.parametrize("given", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("call", ["rename", "replace", "link", "link-nofollow"])
def test_two_descriptors(twin: Twin, call: str, given: tuple[bool, bool]) -> None:
    """src_dir_fd and dst_dir_fd, each alone and both."""

    def operation(first: str, second: str, root: str) -> Any:
        fd = os.open(root + "/in/dir", os.O_RDONLY)
        options: dict[str, Any] = {}
        names = []
        for name, described, option in zip(
            (first, second), given, ("src_dir_fd", "dst_dir_fd"), strict=True
        ):
            names.append(f"../{name}" if described else f"{root}/in/{name}")
            if described:
                options[option] = fd
        if call == "link-nofollow":
            options["follow_symlinks"] = False
        try:
            return getattr(os, call.partition("-")[0])(*names, **options)
        finally:
            os.close(fd)

    names = ["file", "dir/sub", "dir/inner", "empty", "absent", "to-file", "to-dir/inner", "loop/x"]
    wrong = []
    for first, second in itertools.product(names, names):
        try:
            twin.same_mixed(partial(operation, first, second), [files, links], TWO_PLACES)
        except AssertionError as error:
            wrong.append(f"{first!r}, {second!r}: {str(error)[:600]}")
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)}:", *wrong[:20]]), pytrace=False)


ODD_NAMES = [
    "file", "file/", "file/.", "file/..", "file/x", "file/x/../dir", "dir", "dir/", "dir/.", "dir/..", "dir/sub", "dir/sub/..",
    "dir/sub/x/", "dir/inner", "empty", "empty/", "absent", "absent/", "absent/.", "absent/..", "absent/x", LONG,
    LONG + "/x", LONG + "/.", "dir/" + LONG, "to-file", "to-file/", "to-file/.", "to-file/x", "to-dir", "to-dir/",
    "to-dir/.", "to-dir/..", "to-dir/sub", "dangling", "dangling/", "dangling/.", "loop", "loop/", "loop/.", "loop/x",
    "self", "self/", "", "dir/" + "sub/../" * 600 + "inner",
]  # fmt: skip


@pytest.mark.parametrize("real", [(False, False), (True, True), (True, False), (False, True)])
@pytest.mark.parametrize("call", ["rename", "link"])
def test_two_odd_names(twin: Twin, call: str, real: tuple[bool, bool]) -> None:
    """Of several things that are wrong the same one is told. Relative to the current directory."""
    plain = inside = ""

    def in_directory(first: str, second: str, root: str) -> Any:
        os.chdir(root + "/in")
        try:
            return getattr(os, call)(first, second)
        finally:
            os.chdir("/")

    wrong = []
    for first, second in itertools.product(ODD_NAMES, ODD_NAMES):
        if not plain:
            plain, _, inside = twin.roots()
            with twin.context:
                os.rmdir(inside)
            if any(real):
                os.mkdir(inside)
            for part, on_disk in zip((files, links), real, strict=True):
                part(plain)
                with contextlib.nullcontext() if on_disk else twin.context:
                    part(inside)
        operation = partial(in_directory, first, second)
        expected = observed(operation, plain)
        with twin.context:
            found = observed(operation, inside)
        said = list(differences(expected, found))
        if "returned" in (expected[0], found[0]):  # the next ones get new trees
            with twin.context:
                said += differences(tree(plain), tree(inside))
                shutil.rmtree(inside)
            plain = ""
        if said and found[0] == "raised" and found[1]["errno"] == errno.EXDEV:
            continue  # a directory on disk and in the store: docs/limits.md
        wrong += [f"{call}({first[:20]!r}, {second[:20]!r}): {text[:200]}" for text in said]
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)}:", *wrong[:20]]), pytrace=False)


@pytest.mark.parametrize("by_descriptor", [False, True])
def test_a_file_that_goes_as_soon_as_it_is_changed(
    twin: Twin, monkeypatch: pytest.MonkeyPatch, by_descriptor: bool
) -> None:
    """The call was done: it fails for nothing that comes after it, and waits for nothing."""
    _, _, inside = twin.roots()
    path = os.path.join(inside, "f")
    looked_for: list[object] = []
    find = translated.managed

    def gone(*args: object) -> object:
        looked_for.append(args[0])
        os.remove(path)
        return find(*args)

    with twin.context, open(path, "w") as file:
        monkeypatch.setattr(translated, "managed", gone)
        os.chmod(file.fileno() if by_descriptor else path, 0o600)
        assert looked_for == [path]
        assert not os.path.exists(path)
