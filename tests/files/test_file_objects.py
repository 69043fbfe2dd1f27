"""What file objects do, layer by layer, as Python's own do."""

from __future__ import annotations

import array
import copy
import gc
import io
import mmap
import os
import pickle
import sys
import weakref
from collections.abc import Callable
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


def attempts(*calls: Callable[[], Any]) -> list[Any]:
    """The result or the exception of each call."""
    found: list[Any] = []
    for call in calls:
        try:
            found.append(call())
        except Exception as error:  # noqa: BLE001 - it is what is compared
            found.append(error)
    return found


def every_call(file: Any, data: Any) -> list[Any]:
    """Whatever can be called on a file object."""
    names = [
        ("read",), ("read", 3), ("read", 0), ("read", None), ("read", -1), ("read", -2),
        ("read", "x"), ("read", 1.5), ("read1",), ("read1", 2), ("read1", -1), ("peek",), ("peek", 2),
        ("readline",), ("readline", 2), ("readline", 0), ("readline", -1), ("readline", None),
        ("readlines",), ("readlines", 3), ("readall",), ("readinto", bytearray(4)),
        ("readinto", bytearray()), ("readinto", b"const"), ("readinto", "text"),
        ("readinto", array.array("i", [0, 0])), ("readinto", memoryview(bytearray(9))[::2]),
        ("readinto1", bytearray(3)), ("seek", 1), ("tell",), ("seek", 0, 1), ("seek", 1, 1),
        ("seek", 0, 2), ("seek", -3, 2), ("seek", -1), ("seek", 0, 9), ("seek", "x"), ("seek",),
        ("seek", 2.0), ("seek", 1 << 70), ("tell", 1), ("write", data), ("write", b""), ("write", ""),
        ("write", 3), ("write", None), ("write",), ("write", memoryview(b"mv")),
        ("write", array.array("h", [1, 2])), ("writelines", [data, data]), ("writelines", []),
        ("writelines", [1]), ("writelines", None), ("truncate",), ("truncate", 2), ("truncate", 30),
        ("truncate", -1), ("truncate", "x"), ("truncate", 1.5), ("truncate", None), ("flush",),
        ("isatty",), ("readable",), ("writable",), ("seekable",), ("__iter__",), ("__next__",),
        ("__enter__",), ("reconfigure",), ("close", 1), ("nonsense",),
    ]  # fmt: skip
    found: list[Any] = []
    for name, *arguments in names:
        outcome: tuple[Any, ...]
        try:
            result = getattr(file, name)(*arguments)
            outcome = ("self" if result is file else result,)
        except Exception as error:  # noqa: BLE001 - it is what is compared
            outcome = (type(error), getattr(error, "errno", None), _text(error))
        kept = [bytes(a) if isinstance(a, (bytearray, memoryview)) else a for a in arguments]
        found.append((name, kept, *outcome))
        try:
            found.append(file.tell())
        except (OSError, ValueError) as error:
            found.append(str(error))
    return found


def _text(error: BaseException) -> str:
    # CPython names the C type in messages about arguments; the raw object's methods are Python.
    return "" if isinstance(error, (TypeError, AttributeError)) else str(error)


CONTENT = b"alpha\nbeta\r\n\ngamma\rdelta \xc3\xa9 end"


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize(
    ("mode", "buffering"),
    [
        (mode, buffering)
        for mode in ("rb", "wb", "ab", "xb", "r+b", "w+b", "a+b", "r", "w", "a", "r+", "w+", "a+")
        for buffering in (-1, 0, 1, 7)
        if "b" in mode or buffering
    ],
)
def test_every_method(twin: Twin, mode: str, buffering: int, closed: bool) -> None:
    def operation(root: str) -> Any:
        path = os.path.join(root, "f")
        if "x" not in mode:
            with open(path, "wb") as file:
                file.write(CONTENT)
        with open(path, mode, buffering) as file:
            if closed:
                file.close()
            return every_call(file, b"DATA\n" if "b" in mode else "DATA\n")

    twin.same(operation)


@compared
def closing_twice_and_using_after(root: str) -> Any:
    found = []
    for mode, buffering in (("w", -1), ("wb", -1), ("wb", 0), ("w+b", -1)):
        file = open(os.path.join(root, "f"), mode, buffering)
        file.write("x" if "b" not in mode else b"x")
        layers = [
            file,
            getattr(file, "buffer", file),
            getattr(getattr(file, "buffer", file), "raw", file),
        ]
        file.close()
        file.close()
        found += [layer.closed for layer in layers]
        for layer in layers:
            found += attempts(
                lambda layer=layer: layer.write(b"x"), layer.flush, layer.fileno, layer.isatty,
                layer.tell, lambda layer=layer: layer.seek(0), layer.truncate, layer.readable,
                layer.writable, layer.seekable, layer.__enter__, lambda layer=layer: layer.name,
                lambda layer=layer: layer.mode, lambda layer=layer: next(layer),
                lambda layer=layer: repr(layer),
            )  # fmt: skip
    return found


@compared
def context_manager(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w") as file:
        file.write("kept")
        inside = file.closed
    try:
        with open(path, "a") as failing:
            failing.write(", too")
            raise KeyError("left")
    except KeyError as error:
        left = error
    with open(path) as again:
        return inside, file.closed, failing.closed, left, again.read()


@compared
def detach(root: str) -> Any:
    path = os.path.join(root, "f")
    file = open(path, "w")
    file.write("text ")
    buffer = file.detach()
    found = attempts(
        lambda: file.write("x"), lambda: file.closed, lambda: repr(file), lambda: file.detach()
    )
    buffer.write(b"bytes ")
    raw = buffer.detach()
    found += attempts(lambda: buffer.write(b"x"), lambda: buffer.closed, lambda: repr(buffer))
    found += [raw.write(b"raw"), raw.tell(), isinstance(raw, io.FileIO), raw.name, raw.mode]
    raw.close()
    with open(path) as again:
        found.append(again.read())
    return found


@compared
def rewrapping(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w+b") as raw_file:
        text = io.TextIOWrapper(raw_file, encoding="utf-16", newline="\r\n")
        text.write("one\ntwo\n")
        text.seek(0)
        content = text.readlines()
        text.reconfigure(newline="\n", line_buffering=True)
        text.write("three\n")
        text.flush()
        raw_file.seek(0)
        return content, raw_file.read(), text.encoding, text.line_buffering


@compared
def text_cookies(root: str) -> Any:
    path = os.path.join(root, "f")
    found = []
    for encoding in ("utf-8", "utf-16", "utf-8-sig", "latin-1", "shift_jis"):
        with open(path, "w+", encoding=encoding) as file:
            for _ in range(50):
                file.write("z\u00a7\n" if encoding != "shift_jis" else "z\u3042\n")
            file.seek(0)
            cookies = []
            while True:
                cookies.append(file.tell())
                if not file.readline():
                    break
            found.append(cookies)
            for cookie in reversed(cookies[::7]):
                file.seek(cookie)
                found.append(file.readline())
            file.seek(cookies[3])
            file.write("XY")
            file.seek(0)
            found.append(file.read(20))
            found += attempts(
                lambda: file.seek(3, 1), lambda: file.seek(-1, 2), lambda: file.seek(0, 2)
            )
            found.append(file.tell())
    with open(path) as file:
        next(file)
        found += attempts(file.tell)
    return found


@compared
def iteration(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "wb") as file:
        file.write(b"".join(b"line %d\n" % i for i in range(30000)))
    with open(path) as text, open(path, "rb") as binary, open(path, "rb", 0) as raw:
        lines = list(text)
        return (
            len(lines), lines[-1], len(list(binary)), sum(map(len, raw)), list(text), next(raw, None),
            text.read(), binary.read(),
        )  # fmt: skip


@compared
def read_write_mixes(root: str) -> Any:
    path = os.path.join(root, "f")
    found: list[Any] = []
    for mode, buffering in (
        ("w+b", -1),
        ("r+b", -1),
        ("a+b", -1),
        ("r+b", 0),
        ("a+b", 0),
        ("r+b", 16),
    ):
        with open(path, mode, buffering) as file:
            found += attempts(
                lambda: file.write(b"0123456789" * 5), file.tell, lambda: file.seek(7),
                lambda: file.read(3), lambda: file.write(b"--"), file.tell, lambda: file.read(4),
                lambda: file.seek(-2, 1), lambda: file.write(b"++++"), lambda: file.readline(),
                lambda: file.seek(0), lambda: file.read(), lambda: file.seek(100), lambda: file.write(b"gap"),
                lambda: file.truncate(60), file.tell, lambda: file.read(), lambda: file.seek(0),
                lambda: file.read(), lambda: file.truncate(0), lambda: file.write(b"end"),
                lambda: os.stat(path).st_size, file.flush, lambda: os.stat(path).st_size,
            )  # fmt: skip
        with open(path, "rb") as file:
            found.append(file.read())
    return found


@compared
def append_from_two_handles(root: str) -> Any:
    path = os.path.join(root, "log")
    with open(path, "a", buffering=1) as one, open(path, "a", buffering=1) as two:
        for i in range(5):
            one.write(f"one {i}\n")
            two.write(f"two {i}\n")
        tells = one.tell(), two.tell()
    with open(path) as file:
        return tells, file.read()


@compared
def reading_while_writing(root: str) -> Any:
    path = os.path.join(root, "f")
    found = []
    with open(path, "w") as writer, open(path) as reader:
        for i in range(3):
            writer.write(f"part {i}\n")
            found.append(reader.read())
            writer.flush()
            found.append(reader.read())
    return found


@compared
def exclusive_creation(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "x") as file:
        file.write("first")
    return attempts(lambda: open(path, "x"), lambda: open(path, "xb", 0), lambda: open(root, "x"))


@compared
def unclosed_file_warning(root: str) -> Any:
    for mode, buffering in (("w", -1), ("wb", -1), ("wb", 0), ("r+b", -1), ("r", -1), ("rb", 0)):
        path = os.path.join(root, "f")
        file: Any = open(path, mode, buffering)
        if "r" not in mode:
            file.write("left" if mode == "w" else b"left")
        del file
        gc.collect()
    with open(path) as again:
        return again.read()


@compared
def garbage_collected_cycle_is_flushed(root: str) -> Any:
    path = os.path.join(root, "f")

    class Holder:
        pass

    holder = Holder()
    holder.self = holder  # type: ignore[attr-defined]
    holder.file = open(path, "w")  # type: ignore[attr-defined]
    holder.file.write("in a cycle")  # type: ignore[attr-defined]
    dead = weakref.ref(holder.file)  # type: ignore[attr-defined]
    del holder
    gc.collect()
    with open(path) as again:
        return dead() is None, again.read()


@compared
def replaced_variable_is_flushed(root: str) -> Any:
    path = os.path.join(root, "f")
    open(path, "w").write("no name")
    with open(path) as again:
        return again.read()


@compared
def pickle_copy_and_attributes(root: str) -> Any:
    found = []
    for mode, buffering in (("w", -1), ("wb", -1), ("wb", 0), ("rb", 0)):
        with open(os.path.join(root, "f"), mode, buffering) as file:
            for layer in (file, getattr(file, "buffer", file), getattr(file, "raw", file)):
                try:
                    pickle.dumps(layer)
                except TypeError as error:
                    found.append(
                        str(error).replace("CapioRaw", "FileIO").replace("pycapio.files", "_io")
                    )
                found += [type(error) for error in attempts(lambda layer=layer: copy.copy(layer))]
                found += [
                    hasattr(layer, name) for name in ("raw", "buffer", "mode", "name", "closefd")
                ]
            found.append(isinstance(weakref.ref(file)(), io.IOBase))
            file.mine = "attributes may be set"
            found.append(file.mine)
            found += [hash(file) == hash(file), file == file, bool(file)]
    return found


@compared
def name_and_mode(root: str) -> Any:
    found = []
    for mode in ("r+", "wb", "ab+", "w+", "rb", "a"):
        with open(os.path.join(root, "f"), "w" if "r" in mode else "a"):
            pass
        for buffering in (-1, 0) if "b" in mode else (-1,):
            with open(os.path.join(root, "f"), mode, buffering) as file:
                found += [file.name, file.mode, repr(file)]
                buffer = getattr(file, "buffer", file)
                found += [buffer.name, buffer.mode, getattr(buffer, "raw", buffer).mode]
                found += attempts(lambda file=file: setattr(file, "mode", "z"))
    return found


@compared
def raw_methods(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w+b", buffering=0) as raw:
        found = attempts(
            lambda: raw.write(b"0123456789"), lambda: raw.seek(2), lambda: raw.read(3), lambda: raw.readall(),
            lambda: raw.readall(), lambda: raw.read(), lambda: raw.seek(0), raw.readline,
            lambda: raw.writelines([b"a", b"b"]), lambda: raw.seek(0), lambda: raw.readlines(),
            lambda: raw.readinto(memoryview(bytearray(3))), lambda: raw.truncate(4), raw.tell,
            lambda: raw.seek(1 << 40), lambda: raw.read(5), lambda: raw.seek(0), lambda: raw.read(1 << 20),
            lambda: raw.closefd, lambda: raw.isatty(), lambda: os.fstat(raw.fileno()).st_size,
            lambda: raw._blksize,
        )  # fmt: skip
    return found


@compared
def descriptor_uses(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w+b") as file:
        file.write(b"x" * 100)
        file.flush()
        fd = file.fileno()
        found = [
            os.fstat(fd).st_size,
            os.pread(fd, 3, 5),
            os.write(fd, b"by descriptor"),
            os.lseek(fd, 0, 0),
        ]
        found += [os.read(fd, 4), os.ftruncate(fd, 50), os.get_inheritable(fd), os.isatty(fd)]
        os.fsync(fd)
        with mmap.mmap(fd, 0) as mapped:
            mapped[0:3] = b"map"
            found.append(mapped[:5])
        found.append(file.seek(0, 2))
    with open(path, "rb") as file:
        found.append(file.read())
    return found


@compared
def numpy_save_like(root: str) -> Any:
    # numpy.save: the header through the file object, the data by a C FILE* on a duplicate.
    path = os.path.join(root, "a.npy")
    with open(path, "wb") as file:
        file.write(b"header")
        file.flush()
        duplicate = os.fdopen(os.dup(file.fileno()), "wb")
        before = file.tell()
        duplicate.seek(before)
        duplicate.write(bytes(100_000))
        duplicate.close()
        file.seek(before + 100_000)
        file.write(b"tail")
        after = file.tell()
    return before, after, os.stat(path).st_size


@compared
def large_and_odd_writes(root: str) -> Any:
    path = os.path.join(root, "f")
    found = []
    with open(path, "w+b") as file:
        for size in (1, 4095, 4096, 4097, 8191, 8192, 8193, 131071, 131072, 131073, 1 << 20):
            found.append(file.write(bytes([size % 251]) * size))
            found.append(file.tell())
        file.seek(0)
        chunks = []
        for size in (1, 5000, 8192, 100_000, 131072, 7, 200_000, 1 << 21):
            chunk = file.read(size)
            chunks.append((len(chunk), sum(chunk)))
        file.seek(10)
        buffer = bytearray(300_000)
        found += [
            chunks,
            file.readinto(buffer),
            sum(buffer),
            len(file.read1(10)),
            len(file.peek(1)) > 0,
        ]
    return found


@compared
def stdout_redirection(root: str) -> Any:
    import contextlib
    import subprocess

    path = os.path.join(root, "out")
    with open(path, "w") as file:
        with contextlib.redirect_stdout(file):
            print("printed")
        file.flush()
        subprocess.run([sys.executable, "-c", "print('from a child')"], stdout=file, check=True)
        file.seek(0, 2)
        print("after", file=file)
    with open(path) as file:
        return file.read()


@compared
def write_errors(root: str) -> Any:
    path = os.path.join(root, "f")
    found = []
    with open(path, "w", encoding="ascii") as file:
        found += attempts(lambda: file.write("\u20ac"), lambda: file.write("ok"))
    os.chmod(path, 0o444)
    found.append(os.stat(path).st_mode)
    found += attempts(lambda: open(path, "rb").close())
    return found


@compared
def truncated_open_file_keeps_old_inode_readers(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w") as file:
        file.write("old")
    with open(path) as reader:
        os.remove(path)
        with open(path, "w") as file:
            file.write("new")
        old = reader.read()
    with open(path) as reader:
        return old, reader.read()


@compared
def unlinked_and_renamed_while_open(root: str) -> Any:
    path = os.path.join(root, "f")
    with open(path, "w+") as file:
        file.write("one")
        file.flush()
        os.rename(path, path + ".new")
        file.write("two")
        file.seek(0)
        first = file.read()
        os.unlink(path + ".new")
        file.write("three")
        file.seek(0)
        return first, file.read(), os.listdir(root)


@compared
def many_handles(root: str) -> Any:
    files = [open(os.path.join(root, f"f{i}"), "w") for i in range(200)]
    for i, file in enumerate(files):
        file.write(str(i))
    for file in files:
        file.close()
    return sorted(os.listdir(root))


@compared
def threads_share_a_file(root: str) -> Any:
    import threading

    path = os.path.join(root, "f")
    with open(path, "ab") as file:
        threads = [
            threading.Thread(
                target=lambda i=i: [file.write(b"%d" % i * 10 + b"\n") for _ in range(200)]
            )
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open(path) as again:
        lines = sorted(again.readlines())
    os.remove(path)  # in which order they came is the scheduler's business
    return lines


def test_files_of_other_libraries(twin: Twin) -> None:
    """csv, json, gzip, zipfile, sqlite-less formats, shelve-like pickles, tarfile, configparser."""
    import configparser
    import csv
    import gzip
    import json
    import tarfile
    import zipfile

    def operation(root: str) -> Any:
        where = lambda name: os.path.join(root, name)  # noqa: E731
        with open(where("c.csv"), "w", newline="") as file:
            csv.writer(file).writerows([[1, "a,b"], [2, 'q"q']])
        with open(where("j.json"), "w") as file:
            json.dump({"k": [1, 2.5, None]}, file)
        with gzip.GzipFile(where("z.gz"), "wb", mtime=0) as packed:
            packed.write(b"packed" * 100)
        with zipfile.ZipFile(where("z.zip"), "w") as archive:
            archive.writestr(zipfile.ZipInfo("in.txt"), "inside")
        with open(where("t.tar"), "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("empty"))
        with open(where("p.pickle"), "wb") as file:
            pickle.dump(list(range(100)), file)
        config = configparser.ConfigParser()
        config["s"] = {"a": "1"}
        with open(where("c.ini"), "w") as file:
            config.write(file)
        with open(where("c.csv"), newline="") as file:
            rows = list(csv.reader(file))
        with open(where("j.json")) as file:
            loaded = json.load(file)
        with gzip.open(where("z.gz")) as packed:
            unpacked = len(packed.read())
        with zipfile.ZipFile(where("z.zip")) as archive:
            member = archive.read("in.txt")
        with tarfile.open(where("t.tar")) as tar:
            names = tar.getnames()
        with open(where("p.pickle"), "rb") as file:
            pickled = pickle.load(file)
        return (
            rows,
            loaded,
            unpacked,
            member,
            names,
            pickled,
            config.read([where("c.ini"), where("no")]),
        )

    twin.same(operation)
