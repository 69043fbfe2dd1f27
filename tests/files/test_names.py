"""os.* on names: results, errors and trees as the kernel and Python give them."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from typing import Any

import pytest

from twins import Operation, Twin

OPERATIONS: list[Operation] = []


def compared(operation: Operation) -> Operation:
    OPERATIONS.append(operation)
    return operation


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_same(twin: Twin, operation: Operation) -> None:
    twin.same(operation)


def populate(root: str) -> None:
    os.mkdir(root + "/dir")
    os.mkdir(root + "/empty")
    os.mkdir(root + "/dir/sub")
    for name in ("file", "other", "dir/inner", "dir/sub/deep"):
        with open(f"{root}/{name}", "w") as file:
            file.write(f"content of {name}")
    os.chmod(root + "/file", 0o640)


NAMES = [
    "file", "file/", "file/x", "dir", "dir/", "dir/inner", "empty", "empty/", "absent", "absent/",
    "absent/x", "dir/./inner", "dir/../file", "./file", "dir//sub", "dir/sub/deep", "", ".", "n" * 256,
    "\udce9", "\u00fc x", "dir/sub/..", "empty/.", "file/..", "a\0b",
]  # fmt: skip

ONE_PATH: dict[str, Any] = {
    "stat": lambda p: os.stat(p),
    "stat-nofollow": lambda p: os.stat(p, follow_symlinks=False),
    "lstat": lambda p: os.lstat(p),
    "mkdir": lambda p: os.mkdir(p),
    "mkdir-mode": lambda p: os.mkdir(p, 0o700),
    "makedirs": lambda p: os.makedirs(p),
    "makedirs-exist-ok": lambda p: os.makedirs(p, exist_ok=True),
    "makedirs-deep": lambda p: os.makedirs(
        p + type(p)() + ("/x/y" if isinstance(p, str) else b"/x/y")
    ),
    "rmdir": lambda p: os.rmdir(p),
    "remove": lambda p: os.remove(p),
    "unlink": lambda p: os.unlink(p),
    "listdir": lambda p: sorted(os.listdir(p)),
    "scandir": lambda p: sorted((e.name, e.path) for e in os.scandir(p)),
    "access-exists": lambda p: os.access(p, os.F_OK),
    "access-write": lambda p: os.access(p, os.W_OK),
    "access-execute": lambda p: os.access(p, os.X_OK),
    "chmod": lambda p: os.chmod(p, 0o600),
    "utime": lambda p: os.utime(p, (1, 2)),
    "utime-ns": lambda p: os.utime(p, ns=(10**18, 10**18)),
    "readlink": lambda p: os.readlink(p),
    "statvfs": lambda p: os.statvfs(p).f_namemax,
    "exists": lambda p: os.path.exists(p),
    "lexists": lambda p: os.path.lexists(p),
    "isfile": lambda p: os.path.isfile(p),
    "isdir": lambda p: os.path.isdir(p),
    "islink": lambda p: os.path.islink(p),
    "ismount": lambda p: os.path.ismount(p),
    "getsize": lambda p: os.path.isdir(p) or os.path.getsize(p),
    "getmtime": lambda p: os.path.getmtime(p) > 10**9,
    "open": lambda p: os.close(os.open(p, os.O_RDONLY)),
    "open-write": lambda p: os.close(os.open(p, os.O_WRONLY)),
    "open-create": lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)),
    "open-exclusive": lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_RDWR)),
    "open-truncate": lambda p: os.close(os.open(p, os.O_TRUNC | os.O_WRONLY)),
    "open-directory": lambda p: os.close(os.open(p, os.O_DIRECTORY)),
    "open-nofollow": lambda p: os.close(os.open(p, os.O_NOFOLLOW)),
    "open-path": lambda p: os.close(os.open(p, os.O_PATH)),
    "pathlib-exists": lambda p: pathlib.Path(os.fsdecode(p)).exists(),
    "pathlib-is-file": lambda p: pathlib.Path(os.fsdecode(p)).is_file(),
    "pathlib-is-dir": lambda p: pathlib.Path(os.fsdecode(p)).is_dir(),
    "pathlib-is-symlink": lambda p: pathlib.Path(os.fsdecode(p)).is_symlink(),
    "pathlib-stat": lambda p: pathlib.Path(os.fsdecode(p)).stat(),
    "pathlib-unlink": lambda p: pathlib.Path(os.fsdecode(p)).unlink(),
    "pathlib-unlink-missing": lambda p: pathlib.Path(os.fsdecode(p)).unlink(missing_ok=True),
    "pathlib-mkdir": lambda p: pathlib.Path(os.fsdecode(p)).mkdir(),
    "pathlib-mkdir-parents": lambda p: pathlib.Path(os.fsdecode(p)).mkdir(
        parents=True, exist_ok=True
    ),
    "pathlib-rmdir": lambda p: pathlib.Path(os.fsdecode(p)).rmdir(),
    "pathlib-touch": lambda p: pathlib.Path(os.fsdecode(p)).touch(),
    "pathlib-touch-new": lambda p: pathlib.Path(os.fsdecode(p)).touch(0o600, exist_ok=False),
    "pathlib-read": lambda p: pathlib.Path(os.fsdecode(p)).read_text(),
    "pathlib-write": lambda p: pathlib.Path(os.fsdecode(p)).write_bytes(b"w"),
    "pathlib-iterdir": lambda p: sorted(pathlib.Path(os.fsdecode(p)).iterdir()),
    "pathlib-owner": lambda p: pathlib.Path(os.fsdecode(p)).owner(),
}


@pytest.mark.parametrize("call", ONE_PATH)
def test_one_path(twin: Twin, call: str) -> None:
    """Every call on every kind of name, as str, bytes and PathLike."""
    kinds = [str, os.fsencode, pathlib.Path]
    wrong = []
    for kind in kinds:
        if call.startswith(("pathlib", "makedirs-deep")) and kind is not str:
            continue
        for name in NAMES:

            def operation(root: str, name: str = name, kind: Any = kind) -> Any:
                populate(root)
                return ONE_PATH[call](kind(f"{root}/{name}"))

            try:
                twin.same(operation)
            except AssertionError as error:
                wrong.append(f"{call}({kind.__name__} {name[:20]!r}): {str(error)[:400]}")
    assert not wrong, "\n".join([f"{len(wrong)}:", *wrong[:20]])


@pytest.mark.parametrize("call", ["rename", "replace"])
def test_two_paths(twin: Twin, call: str) -> None:
    names = [
        "file", "file/", "other", "dir", "dir/", "dir/inner", "empty", "absent", "absent/x",
        "file/x", "dir/sub", "dir/sub/new", "new", "new/", "",  "a\0b",
    ]  # fmt: skip
    wrong = []
    for source in names:
        for target in names:

            def operation(root: str, source: str = source, target: str = target) -> Any:
                populate(root)
                return getattr(os, call)(f"{root}/{source}", f"{root}/{target}")

            try:
                twin.same(operation)
            except AssertionError as error:
                wrong.append(f"{call}({source!r}, {target!r}): {str(error)[:600]}")
    assert not wrong, "\n".join([f"{len(wrong)}:", *wrong[:20]])


@compared
def rename_types(root: str) -> Any:
    populate(root)
    os.rename(os.fsencode(root + "/file"), pathlib.Path(root, "p"))
    found = []
    for source, target in (
        (root + "/p", os.fsencode(root + "/q")),
        (root + "/q", 3),
        (None, root + "/x"),
        (3.5, root + "/x"),
        (root + "/absent", os.fsencode(root + "/y")),
        (pathlib.Path(root, "absent"), pathlib.Path(root, "y")),
    ):
        try:
            found.append(os.rename(source, target))  # type: ignore[arg-type, type-var]
        except (OSError, TypeError) as error:
            found.append(error)
    return found, sorted(os.listdir(root))


@compared
def renames(root: str) -> Any:
    populate(root)
    found: list[Any] = []
    for source, target in (
        ("file", "new/deep/file"), ("dir/sub", "new/deep/sub"), ("dir/inner", "other"),
        ("absent", "x/y"), ("new/deep/file", "file"), ("new/deep/sub", "new/deep/sub/below"),
    ):  # fmt: skip
        try:
            found.append(os.renames(f"{root}/{source}", f"{root}/{target}"))
        except OSError as error:
            found.append(error)
    return found


@compared
def bad_arguments(root: str) -> Any:
    found = []
    for name, *arguments in (
        ("stat", None), ("stat", 3.5), ("stat", []), ("lstat", 3), ("mkdir", root + "/m", "x"),
        ("mkdir", None), ("mkdir", 3), ("mkdir", root + "/m", 1.5), ("rmdir", None), ("remove", 3),
        ("unlink", {}), ("listdir", 3.5), ("scandir", {}), ("access", root), ("access", root, "x"),
        ("chmod", root, None), ("utime", root, 3), ("utime", root, (1,)), ("open", root), ("open", root, "r"),
        ("open", None, 0), ("rename", root), ("makedirs", None), ("makedirs", 3), ("close", "x"), ("close", -1),
        ("close", 10**6), ("stat", -1), ("stat", 10**6), ("listdir", 10**6), ("chmod", 10**6, 0),
        ("open", root + "/f", os.O_CREAT, "mode"),
    ):  # fmt: skip
        try:
            found.append((name, getattr(os, name)(*arguments)))
        except Exception as error:  # noqa: BLE001 - it is what is compared
            # Messages about too few arguments are worded differently for Python functions.
            same = error if "argument" not in str(error) else type(error)
            found.append((name, same))
    return found


@compared
def current_directory_defaults(root: str) -> Any:
    # With CAPIO_DIR not the current directory, the defaults are the original's.
    with os.scandir("/") as entries:
        kind = type(next(entries)).__name__
    return type(os.listdir()), kind, os.listdir(None) == os.listdir(".")


@compared
def directory_descriptors(root: str) -> Any:
    populate(root)
    found = []
    fd = os.open(root + "/file", os.O_RDWR)
    try:
        found += [os.stat(fd), os.fstat(fd), os.utime(fd), os.chmod(fd, 0o600), os.truncate(fd, 2)]
        found += [os.path.exists(fd), os.path.isfile(fd), os.read(fd, 10), os.write(fd, b"zz")]
    finally:
        os.close(fd)
    for call in (os.fstat, os.close):
        try:
            call(fd)
        except OSError as error:
            found.append(error)
    with open(root + "/file") as file:
        return found, file.read()


@compared
def permissions(root: str) -> Any:
    found = []
    for mode in (0o000, 0o400, 0o600, 0o644, 0o755, 0o4755, 0o7777):
        path = f"{root}/m{mode:o}"
        with open(path, "w"):
            pass
        os.chmod(path, mode)
        found.append(os.stat(path))
        os.chmod(path, 0o600)
        os.mkdir(path + "d", mode)
        os.chmod(path + "d", mode)
        found.append(os.stat(path + "d"))
        os.chmod(path + "d", 0o700)
    return found


@compared
def times(root: str) -> Any:
    path = root + "/f"
    with open(path, "w") as file:
        file.write("x")
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_123_456_789))
    status = os.stat(path)
    found = [status.st_atime_ns, status.st_mtime_ns, os.path.getmtime(path), os.path.getatime(path)]
    os.utime(path, (10, 20))
    found += [os.stat(path).st_mtime, os.stat(path).st_atime]
    before = os.stat(path).st_mtime_ns
    os.utime(path)
    found.append(os.stat(path).st_mtime_ns > before)
    with open(path, "a") as file:
        file.write("y")
    found.append(os.stat(path).st_mtime_ns >= os.stat(path).st_atime_ns > before)
    return found


@compared
def stat_details(root: str) -> Any:
    path = root + "/f"
    with open(path, "wb") as file:
        file.write(b"x" * 10000)
    a, b = os.stat(path), os.lstat(path)
    with open(path) as file:
        c = os.fstat(file.fileno())
    return (
        a == b, (a.st_ino, a.st_dev) == (c.st_ino, c.st_dev), a.st_blocks, a.st_blksize, stat.filemode(a.st_mode),
        os.path.samefile(path, path), os.path.samestat(a, c), os.path.sameopenfile and True, type(a) is os.stat_result,
    )  # fmt: skip


@compared
def symbolic_links_made_outside(root: str) -> Any:
    # Links are another issue's; that islink and friends see a plain file as one is this one's.
    populate(root)
    return [os.path.islink(root + "/" + name) for name in ("file", "dir", "absent")]


@compared
def descriptor_flags(root: str) -> Any:
    path = root + "/f"
    found = []
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666)
    found += [
        os.write(fd, b"one"),
        os.lseek(fd, 0, 0),
        os.write(fd, b"two"),
        os.get_inheritable(fd),
    ]
    os.close(fd)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    found += [os.read(fd, 100)]
    try:
        os.write(fd, b"x")
    except OSError as error:
        found.append(error.errno == errno.EBADF)
    os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.close(fd)
    found.append(os.stat(path).st_size)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "a") as file:
        file.write("through fdopen")
    with open(path) as file:
        found.append(file.read())
    return found


def test_keyword_arguments(twin: Twin) -> None:
    def operation(root: str) -> Any:
        path = root + "/f"
        with open(file=path, mode="w"):
            pass
        os.mkdir(path=root + "/d", mode=0o755)
        os.rename(src=path, dst=path + "2")
        os.replace(src=path + "2", dst=path)
        with os.scandir(path=root) as entries:
            seen = sorted(entry.name for entry in entries)
        found = [
            seen,
            sorted(os.listdir(path=root)),
            os.access(path=path, mode=os.R_OK),
            os.stat(path=path),
        ]
        os.chmod(path=path, mode=0o600)
        os.utime(path=path, times=(1, 2))
        os.close(fd=os.open(path=path, flags=os.O_RDONLY, mode=0))
        found += [os.path.exists(path=path), os.path.isfile(path=path), os.path.isdir(s=root)]
        os.remove(path=path)
        os.rmdir(path=root + "/d")
        os.makedirs(name=root + "/a/b", exist_ok=True)
        return found

    twin.same(operation)


def test_dir_fd_relative_to_a_directory_outside(twin: Twin, tmp_path: pathlib.Path) -> None:
    """Descriptors of directories stay the kernel's business."""
    with twin.context:
        fd = os.open(tmp_path, os.O_RDONLY)
        try:
            os.mkdir("made", dir_fd=fd)
            os.close(os.open("made/f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            assert os.stat("made/f", dir_fd=fd).st_size == 0
            os.rename("made/f", "made/g", src_dir_fd=fd, dst_dir_fd=fd)
            assert os.access("made/g", os.F_OK, dir_fd=fd)
            os.unlink("made/g", dir_fd=fd)
            os.rmdir("made", dir_fd=fd)
        finally:
            os.close(fd)
    assert list(tmp_path.iterdir()) == []
