"""Whole trees: pathlib, shutil, tempfile, glob, os.walk and directory entries."""

from __future__ import annotations

import fnmatch
import glob
import os
import pathlib
import shutil
import tempfile
from typing import Any

import pytest

from twins import Operation, Twin, observed, tree
from workflows import Workflow

OPERATIONS: list[Operation] = []


def compared(operation: Operation) -> Operation:
    OPERATIONS.append(operation)
    return operation


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_same(twin: Twin, operation: Operation) -> None:
    twin.same(operation)


def populate(root: str) -> pathlib.Path:
    base = pathlib.Path(root, "base")
    for name in (
        "a/one.txt",
        "a/b/two.txt",
        "a/b/c/three.dat",
        "four.txt",
        "a/.hidden",
        "z/five.txt",
    ):
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}\n" * 3)
    (base / "empty").mkdir()
    return base


def attempt(call: Any) -> Any:
    try:
        return call()
    except (OSError, ValueError) as error:
        return error


@compared
def pathlib_reading(root: str) -> Any:
    base = populate(root)
    path = base / "four.txt"
    found: list[Any] = [
        path.exists(), path.is_file(), path.is_dir(), path.is_symlink(), path.is_fifo(), path.is_socket(),
        path.is_block_device(), path.is_char_device(), path.is_mount(), base.is_dir(), path.read_text(),
        path.read_bytes(), path.stat(), path.lstat(), path.owner(), path.group(), path.samefile(str(path)),
        sorted(base.iterdir()), sorted(base.glob("*.txt")), sorted(base.glob("**/*.txt")),
        sorted(base.rglob("*")), sorted(base.rglob("t*.*")), sorted(base.glob("*/*")), sorted(base.glob("nothing*")),
        sorted(base.glob("**/")), sorted(base.glob("a/b/../b/*.txt")), (base / "absent").exists(),
        sorted(path.name for path in base.rglob("*.TXT")), base.joinpath("a", "b", "two.txt").read_text(),
    ]  # fmt: skip
    for call in (
        (base / "absent").read_text, (base / "absent").stat, base.read_text, (base / "four.txt" / "x").stat,
        lambda: list((base / "absent").iterdir()), lambda: list((base / "four.txt").iterdir()),
        lambda: (base / "absent").open(), lambda: (base / "x\0y").exists(), lambda: (base / "x\0y").read_text(),
        (base / "four.txt").rmdir, (base / "a").rmdir, (base / "a").unlink, (base / "absent").unlink,
        (base / "four.txt").mkdir, (base / "n" / "m").mkdir, (base / "a").touch, (base / "n" / "m").touch,
        lambda: (base / "four.txt").samefile(base / "absent"),
    ):  # fmt: skip
        found.append(attempt(call))
    return found


@compared
def pathlib_writing(root: str) -> Any:
    base = populate(root)
    path = base / "new.txt"
    found: list[Any] = [
        path.write_text("written"),
        path.write_bytes(b"bytes"),
        path.touch(),
        path.exists(),
    ]
    with path.open("a") as file:
        file.write("more")
    found += [path.read_text(), path.rename(base / "renamed.txt"), path.exists()]
    found += [(base / "renamed.txt").replace(base / "four.txt"), (base / "four.txt").read_text()]
    (base / "m" / "n").mkdir(0o750, parents=True)
    (base / "m" / "n").mkdir(exist_ok=True)
    (base / "touched").touch(0o600)
    (base / "touched").chmod(0o644)
    (base / "four.txt").unlink()
    (base / "four.txt").unlink(missing_ok=True)
    (base / "empty").rmdir()
    found += [attempt(lambda: (base / "touched").touch(exist_ok=False)), attempt(base.rmdir)]
    found += [(base / "touched").stat(), (base / "m").stat(), sorted(base.iterdir())]
    return found


@compared
def moving(root: str) -> Any:
    base = populate(root)
    found = [
        shutil.move(str(base / "four.txt"), str(base / "moved.txt")),
        shutil.move(base / "moved.txt", base / "empty"),
        shutil.move(str(base / "a"), str(base / "z")),
        shutil.move(str(base / "z"), str(base / "zz")),
        attempt(lambda: shutil.move(str(base / "absent"), str(base / "x"))),
        attempt(lambda: shutil.move(str(base / "zz"), str(base / "zz" / "a"))),
    ]
    return found


@compared
def copying(root: str) -> Any:
    base = populate(root)
    source = str(base / "four.txt")
    os.chmod(source, 0o640)
    os.utime(source, ns=(10**18, 10**18 + 7))
    found = [
        shutil.copyfile(source, str(base / "c1")),
        shutil.copy(source, base / "c2"),
        shutil.copy2(source, base / "empty"),
        shutil.copy(source, str(base / "empty")),
        attempt(lambda: shutil.copy(str(base / "absent"), str(base / "x"))),
        attempt(lambda: shutil.copyfile(source, source)),
        attempt(lambda: shutil.copyfile(source, str(base / "a"))),
        attempt(lambda: shutil.copy(source, str(base / "no" / "where"))),
        os.stat(base / "c2"),
        os.stat(base / "empty" / "four.txt").st_mode,
    ]
    shutil.copymode(source, base / "c1")
    shutil.copystat(source, base / "c1")
    found += [os.stat(base / "c1").st_mtime_ns, os.stat(base / "c1")]
    with open(source) as one, open(base / "c3", "w") as other:
        shutil.copyfileobj(one, other)
    return found


@compared
def copying_and_removing_trees(root: str) -> Any:
    base = populate(root)
    found = [
        shutil.copytree(base / "a", base / "copy", ignore=shutil.ignore_patterns(".h*")),
        attempt(lambda: shutil.copytree(base / "a", base / "copy")),
        shutil.copytree(str(base / "a"), str(base / "copy"), dirs_exist_ok=True),
    ]
    shutil.rmtree(base / "a" / "b")
    shutil.rmtree(str(base / "absent"), ignore_errors=True)
    seen: list[Any] = []
    shutil.rmtree(base / "z")
    found += [seen, sorted(os.listdir(base)), attempt(lambda: shutil.rmtree(base / "four.txt"))]
    return found


@compared
def making_archives(root: str) -> Any:
    base = populate(root)
    made = shutil.make_archive(str(base / "packed"), "zip", str(base), "a")
    shutil.unpack_archive(made, base / "unpacked")
    os.remove(made)
    return made


@compared
def walking(root: str) -> Any:
    base = str(populate(root))

    def walked(**options: Any) -> Any:
        return sorted(
            (top, sorted(dirs), sorted(files)) for top, dirs, files in os.walk(base, **options)
        )

    pruned = []
    for top, dirs, files in os.walk(base):
        dirs[:] = [name for name in dirs if name != "b"]
        pruned.append((top, sorted(files)))
    errors: list[Any] = []
    list(os.walk(base + "/absent", onerror=errors.append))
    list(os.walk(base + "/four.txt", onerror=errors.append))
    return (
        walked(), walked(topdown=False), sorted(pruned), errors, sorted(map(str, os.walk(os.fsencode(base)))) and 1,
        list(os.walk(base + "/absent")),
    )  # fmt: skip


@compared
def globbing(root: str) -> Any:
    base = str(populate(root))
    patterns = (
        "*",
        "*.txt",
        "**",
        "**/*.txt",
        "?our.txt",
        "[a-f]*",
        "a/*",
        "a/b/**",
        ".*",
        "a/.h*",
        "absent/*",
        "a/",
    )
    found = [sorted(glob.glob(f"{base}/{pattern}", recursive=True)) for pattern in patterns]
    found += [sorted(glob.iglob("**/*.txt", root_dir=base, recursive=True))]
    found += [sorted(glob.glob(os.fsencode(base) + b"/*.txt"))]
    found += [sorted(fnmatch.filter(os.listdir(base), "*.txt"))]
    return found


@compared
def temporary_files(root: str) -> Any:
    found: list[Any] = []
    with tempfile.NamedTemporaryFile("w+", dir=root, suffix=".tmp") as file:
        file.write("temporary")
        file.flush()
        found += [os.path.exists(file.name), os.stat(file.name).st_size, os.stat(file.name).st_mode]
        file.seek(0)
        found.append(file.read())
    found.append(os.listdir(root))
    with tempfile.TemporaryDirectory(dir=root) as directory:
        with open(directory + "/in", "w") as file2:
            file2.write("x")
        found.append(os.listdir(directory))
    found.append(os.listdir(root))
    fd, name = tempfile.mkstemp(dir=root, text=True)
    with os.fdopen(fd, "w") as file3:
        file3.write("made by mkstemp")
    with open(name) as file4:
        found.append(file4.read())
    os.replace(name, root + "/final")
    made = tempfile.mkdtemp(dir=root)
    found += [os.path.isdir(made), os.stat(made)]
    os.rmdir(made)
    with tempfile.SpooledTemporaryFile(max_size=4, dir=root) as spooled:
        spooled.write(b"more than four")
        spooled.seek(0)
        found.append(spooled.read())
    before = tempfile.tempdir
    tempfile.tempdir = root
    try:
        with tempfile.NamedTemporaryFile(delete=False) as kept:
            kept.write(b"kept")
        found.append(os.path.dirname(kept.name))
        os.remove(kept.name)
    finally:
        tempfile.tempdir = before
    return found


@compared
def writing_beside_and_replacing(root: str) -> Any:
    # The idiom of atomic writes.
    path = os.path.join(root, "result.json")
    for version in range(3):
        with tempfile.NamedTemporaryFile("w", dir=root, delete=False) as file:
            file.write(f"version {version}")
        os.replace(file.name, path)
    with open(path) as result:
        return result.read(), os.listdir(root)


def entry_facts(entry: Any) -> list[Any]:
    return [
        entry.name, entry.path, os.fspath(entry), repr(entry), entry.is_file(), entry.is_dir(), entry.is_symlink(),
        entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False), entry.stat(),
        entry.stat(follow_symlinks=False), entry.inode() == os.stat(entry.path).st_ino, type(entry.stat()),
        entry.stat() is entry.stat(), isinstance(entry, os.DirEntry), isinstance(entry, os.PathLike),
    ]  # fmt: skip


@compared
def directory_entries(root: str) -> Any:
    base = populate(root)
    found: list[Any] = []
    for path in (str(base), os.fsencode(base), base):
        with os.scandir(path) as entries:
            found.append(sorted(map(entry_facts, entries), key=lambda facts: os.fsencode(facts[0])))
    with os.scandir(base) as entries:
        gone = next(entry for entry in entries if entry.name == "four.txt")
    os.remove(gone.path)
    found += [gone.is_file(), gone.is_dir(), attempt(gone.stat)]
    found.append(pathlib.Path(gone))
    found += [hash(gone) == hash(gone), gone == gone]
    for call in (lambda: gone.name == 1, lambda: setattr(gone, "name", "x"), lambda: type(gone)()):
        try:
            found.append(call())
        except (AttributeError, TypeError) as error:
            found.append(type(error))
    return found


@compared
def scanning(root: str) -> Any:
    populate(root)
    found: list[Any] = []
    iterator = os.scandir(root)
    found += [iter(iterator) is iterator, hasattr(iterator, "close"), next(iterator).name]
    found.append([entry.name for entry in iterator])
    found.append(list(iterator))
    iterator.close()
    iterator.close()
    with os.scandir(root) as iterator:
        first = next(iterator).name
    found += [first, list(iterator)]
    for path in (root + "/absent", root + "/base/four.txt", root + "/a\0b", 3.5, ""):
        try:
            os.scandir(path)  # type: ignore[call-overload]
        except (OSError, ValueError, TypeError) as error:
            found.append(error)
    with os.scandir(root + "/base/") as entries:
        found.append(sorted(entry.path for entry in entries))
    return found


@compared
def removing_while_scanning(root: str) -> Any:
    for number in range(30):
        with open(f"{root}/{number}", "w"):
            pass
    with os.scandir(root) as entries:
        for entry in entries:
            os.remove(entry.path)
    return os.listdir(root)


@compared
def many_entries(root: str) -> Any:
    for number in range(3000):
        with open(f"{root}/file-{number:05}-{'x' * (number % 60)}", "w"):
            pass
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries)
    return names == sorted(os.listdir(root)), len(names)


def test_scandir_not_exhausted_warns_like_the_original(twin: Twin) -> None:
    def operation(root: str) -> Any:
        import gc

        populate(root)
        iterator = os.scandir(root + "/base")
        next(iterator)
        del iterator
        gc.collect()

    plain, outside, inside = twin.roots()
    expected = observed(operation, plain)
    with twin.context:
        found = observed(operation, inside)
    assert [kind for kind, _ in expected[2]] == [kind for kind, _ in found[2]] == [ResourceWarning]


def test_moving_across_the_border(twin: Twin) -> None:
    """shutil.move, os.rename of files and directories between CAPIO_DIR and elsewhere."""
    plain, outside, inside = twin.roots()
    with twin.context:
        populate(outside)
        wanted = tree(outside)
        shutil.move(outside + "/base", inside + "/moved")
        assert tree(inside + "/moved") == {
            os.path.relpath(name, "base"): facts for name, facts in wanted.items() if name != "base"
        }
        shutil.move(inside + "/moved", outside + "/base")
        assert tree(outside) == wanted
        os.rename(outside + "/base/four.txt", inside + "/in.txt")
        with open(inside + "/in.txt") as file:
            assert file.read() == "text of four.txt\n" * 3
        os.rename(inside + "/in.txt", outside + "/base/four.txt")
        assert tree(outside) == wanted
        assert os.listdir(inside) == []


def test_listing_is_in_creation_order(capio: Workflow, tmpfs: pathlib.Path) -> None:
    capio.run(
        "writer",
        """
        import os
        names = ["m", "a", "z", "b", "y"]
        for name in names:
            open(name, "w").close()
        assert os.listdir() == names
        assert [entry.name for entry in os.scandir()] == names
        """,
        env={"CAPIO_STORE": str(tmpfs)},
    )


def test_files_without_a_name_are_nobodys(capio: Workflow) -> None:
    step = capio.run(
        "writer",
        """
        import os, tempfile
        os.mkdir("d")
        for directory in ("d", "."):
            with tempfile.TemporaryFile(dir=directory) as file:
                file.write(b"x" * 100000)
                file.seek(0)
                assert file.read() == b"x" * 100000
        """,
    )
    assert step.stderr == ""
    assert os.listdir(capio.dir) == ["d"]
