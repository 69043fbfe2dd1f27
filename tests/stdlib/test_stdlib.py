"""The standard library over CAPIO files: the same results, and streaming between processes."""

from __future__ import annotations

import asyncio
import bz2
import concurrent.futures
import configparser
import csv
import dbm.dumb
import fileinput
import glob
import gzip
import io
import json
import linecache
import lzma
import mailbox
import mmap
import os
import pickle
import shelve
import shutil
import sys
import tarfile
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
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


def attempt(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it is what is compared
        return error


def a_tree(root: str) -> Path:
    base = Path(root)
    for name in ("a/b/c", "a/d", "e"):
        (base / name).mkdir(parents=True)
    for name in ("top.txt", "a/one.txt", "a/b/two.txt", "a/b/c/three.dat", "a/d/.hidden"):
        (base / name).write_text(f"content of {name}\n")
    return base


@compared
def paths(root: str) -> Any:
    base = a_tree(root)
    file = base / "a" / "one.txt"
    said: list[Any] = [
        sorted(base.rglob("*.txt")), sorted(base.glob("a/*")), sorted(base.glob("**/c/*")),
        sorted(base.iterdir()), file.read_text(), file.read_bytes(), file.stat().st_size,
        file.exists(), file.is_file(), file.is_dir(), file.is_symlink(), file.is_mount(),
        file.samefile(base / "a" / "b" / ".." / "one.txt"), file.resolve() == file,
        (base / "absent").exists(), attempt((base / "absent").read_text),
        attempt((base / "absent").unlink), (base / "absent").unlink(missing_ok=True),
        attempt((base / "a").mkdir), (base / "a").mkdir(exist_ok=True), attempt((base / "a").rmdir),
        attempt(lambda: (base / "new" / "deep").mkdir()), file.owner(),
    ]  # fmt: skip
    (base / "touched").touch()
    said.append(attempt(lambda: (base / "touched").touch(exist_ok=False)))
    said.append(file.rename(base / "renamed.txt"))
    said.append((base / "top.txt").replace(base / "renamed.txt").read_text())
    with (base / "lines").open("w", newline="\r\n") as out:
        out.write("x\ny\n")
    said.append((base / "lines").read_bytes())
    (base / "lines").chmod(0o640)
    said.append(oct((base / "lines").stat().st_mode))
    if sys.version_info >= (3, 12):
        said.append([(p, sorted(d), sorted(f)) for p, d, f in sorted(base.walk())])
    return said


@compared
def globs(root: str) -> Any:
    a_tree(root)
    return [
        sorted(glob.glob(f"{root}/**", recursive=True)),
        sorted(glob.glob(f"{root}/a/*.txt")), sorted(glob.glob(f"{root}/*/b")),
        sorted(glob.glob("**/*.txt", root_dir=root, recursive=True)),
        sorted(glob.iglob(os.fsencode(f"{root}/a/*"))), glob.glob(f"{root}/absent/*"),
    ]  # fmt: skip


@compared
def shell_utilities(root: str) -> Any:
    base = a_tree(root)
    said: list[Any] = [
        shutil.copy(base / "top.txt", base / "copy.txt"),
        shutil.copy2(base / "top.txt", base / "a"),
        attempt(lambda: shutil.copyfile(base / "top.txt", base / "top.txt")),
        attempt(lambda: shutil.copyfile(base / "absent", base / "x")),
        shutil.copytree(base / "a", base / "copied", ignore=shutil.ignore_patterns("*.dat")),
        attempt(lambda: shutil.copytree(base / "a", base / "copied")),
        shutil.copytree(base / "e", base / "copied", dirs_exist_ok=True),
        shutil.move(str(base / "copy.txt"), base / "e"),
        shutil.move(str(base / "a"), base / "moved"),
        shutil.disk_usage(root).total > 0,
    ]  # fmt: skip
    shutil.rmtree(base / "copied" / "b")
    said.append(attempt(lambda: shutil.rmtree(base / "absent")))
    shutil.rmtree(base / "absent", ignore_errors=True)
    with open(base / "one", "wb") as first, open(base / "top.txt", "rb") as second:
        shutil.copyfileobj(second, first)
    return said


@compared
def archives(root: str) -> Any:
    base = a_tree(root)
    said: list[Any] = []
    with tarfile.open(base / "t.tar.gz", "w:gz") as tar:
        tar.add(base / "a", arcname="a")
    with tarfile.open(base / "t.tar.gz") as tar:
        said.append(sorted(tar.getnames()))
        tar.extractall(
            base / "from tar", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )
    with zipfile.ZipFile(base / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(base / "a" / "one.txt", "one.txt")
        with archive.open("two.txt", "w") as member:
            member.write(b"two")
    with zipfile.ZipFile(base / "z.zip", "a") as archive:
        archive.writestr("three.txt", "three")
    said.append(zipfile.is_zipfile(base / "z.zip"))
    with zipfile.ZipFile(base / "z.zip") as archive:
        said += [archive.namelist(), archive.testzip(), archive.read("two.txt")]
        archive.extractall(base / "from zip")
    said.append((zipfile.Path(base / "z.zip") / "three.txt").read_text())
    said.append(tarfile.is_tarfile(base / "z.zip"))
    for name in ("t.tar.gz", "z.zip"):  # the times inside differ
        os.remove(base / name)
    return said


@compared
def compressed(root: str) -> Any:
    said: list[Any] = []
    for module, name in ((gzip, "x.gz"), (bz2, "x.bz2"), (lzma, "x.xz")):
        path = os.path.join(root, name)
        with module.open(path, "wt", encoding="utf-8") as out:
            out.writelines(f"line {i} \u00e4\n" for i in range(500))
        with module.open(path, "ab") as more:
            more.write(b"appended")
        with module.open(path, "rt", encoding="utf-8") as text:
            said.append(text.readlines()[-2:])
        with module.open(path) as binary:
            binary.seek(100)
            said.append(binary.read(20))
        with open(path, "rb") as raw, module.open(raw) as around:
            said.append(len(around.read()))
        os.remove(path)  # gzip writes the time
    return said


@compared
def tables_and_objects(root: str) -> Any:
    where = lambda name: os.path.join(root, name)  # noqa: E731
    said: list[Any] = []
    with open(where("t.csv"), "w", newline="") as out:
        writer = csv.DictWriter(out, ["a", "b"])
        writer.writeheader()
        writer.writerows([{"a": 1, "b": "x,y"}, {"a": 2, "b": 'q"q\nz'}])
    with open(where("t.csv"), newline="") as table:
        said.append(list(csv.DictReader(table)))
    with open(where("j.json"), "w") as out:
        json.dump({"k": [1, 2.5, None, "\u20ac"]}, out, indent=1)
    with open(where("j.json"), "rb") as binary:
        said.append(json.load(binary))
    with open(where("p"), "wb") as pickled:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            pickle.dump({"protocol": protocol, "data": b"x" * 100_000}, pickled, protocol)
    with open(where("p"), "rb") as pickled:
        said.append([len(pickle.load(pickled)["data"]) for _ in range(pickle.HIGHEST_PROTOCOL + 1)])
        said.append(attempt(lambda: pickle.load(pickled)))
    config = configparser.ConfigParser()
    config["section"] = {"key": "value"}
    with open(where("c.ini"), "w") as out:
        config.write(out)
    said += [config.read([where("c.ini"), where("absent")]), config["section"]["key"]]
    return said


@compared
def data_bases(root: str) -> Any:
    said: list[Any] = []
    with dbm.dumb.open(os.path.join(root, "base"), "c") as base:
        base[b"key"] = b"value"
        base["other"] = "text"
    with dbm.dumb.open(os.path.join(root, "base"), "r") as base:
        said += [sorted(base.keys()), base[b"other"]]
    with shelve.Shelf(dbm.dumb.open(os.path.join(root, "shelf"), "n"), writeback=True) as shelf:
        shelf["list"] = [1]
        shelf["list"].append(2)
    with shelve.Shelf(dbm.dumb.open(os.path.join(root, "shelf"))) as shelf:
        said.append(shelf["list"])
    return said


@compared
def line_by_line(root: str) -> Any:
    for name in ("1", "2"):
        with open(os.path.join(root, name), "w") as out:
            out.write(f"first of {name}\nsecond of {name}\n")
    names = [os.path.join(root, "1"), os.path.join(root, "2")]
    with fileinput.input(names) as lines:
        said: list[Any] = [
            (line, lines.filelineno(), lines.isfirstline(), os.path.basename(lines.filename()))
            for line in lines
        ]
    with fileinput.input(names, inplace=True, backup=".bak") as lines:
        for line in lines:
            print(line.upper(), end="")
    said.append(linecache.getline(names[0], 2))
    with open(names[0], "a") as out:
        out.write("third\n")
    linecache.checkcache(names[0])
    return [*said, linecache.getline(names[0], 3)]


@compared
def mailboxes(root: str) -> Any:
    box = mailbox.mbox(os.path.join(root, "mbox"))
    for text in ("From: me\n\nfirst\n", "From: you\n\nsecond\n"):
        message = mailbox.mboxMessage(text)
        message.set_from("sender", time.gmtime(0))  # else it is the time of writing
        box.add(message)
    box.flush()
    del box[0]
    box.close()
    directory = mailbox.Maildir(os.path.join(root, "maildir"))
    key = directory.add("From: me\n\nin a directory\n")
    said: list[Any] = [len(directory), directory[key].get_payload()]
    directory.discard(key)
    return [
        *said,
        *(message.get_payload() for message in mailbox.mbox(os.path.join(root, "mbox"))),
    ]


@compared
def memory_maps(root: str) -> Any:
    path = os.path.join(root, "map")
    with open(path, "w+b") as file:
        file.truncate(10_000)
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[100:105] = b"bytes"
            mapped.flush()
            said: list[Any] = [mapped.find(b"bytes"), len(mapped)]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return [*said, mapped[99:106]]


@compared
def sounds(root: str) -> Any:
    path = os.path.join(root, "sound.wav")
    with wave.open(path, "wb") as out:
        out.setparams((2, 2, 8000, 0, "NONE", "not compressed"))
        out.writeframes(bytes(range(200)))
    with wave.open(path) as sound:
        return [tuple(sound.getparams()), sound.readframes(1000)]


@compared
def temporary(root: str) -> Any:
    said: list[Any] = []
    with tempfile.TemporaryDirectory(dir=root) as directory:
        Path(directory, "in").write_text("x")
        said.append(os.listdir(directory))
    with tempfile.NamedTemporaryFile("w+", dir=root, suffix=".t", delete=False) as named:
        named.write("kept")
    said.append(Path(named.name).read_text())
    os.remove(named.name)
    with tempfile.SpooledTemporaryFile(max_size=5, dir=root) as spooled:
        spooled.write(b"more than five")
        spooled.seek(0)
        said.append(spooled.read())
    return [*said, os.listdir(root)]


@compared
def threads_and_tasks(root: str) -> Any:
    def work(number: int) -> str:
        path = Path(root, f"{number}.txt")
        path.write_text(str(number) * 10)
        return path.read_text()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        said: list[Any] = list(pool.map(work, range(8)))

    async def several() -> list[str]:
        return await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8, 12)))

    return [*said, asyncio.run(several())]


# What a producer writes and a consumer, started first, reads; every step flows through one rule.
FLOWS = {
    "csv": (
        "csv.writer(open_('f.csv', 'w', newline='')).writerows([[1, 'a'], [2, 'b']])",
        "list(csv.reader(open_('f.csv', newline='')))",
        [["1", "a"], ["2", "b"]],
    ),
    "json": ("json.dump([1, {}], open_('f.json', 'w'))", "json.load(open_('f.json'))", [1, {}]),
    "pickle": (
        "pickle.dump(list(range(9)), open_('f.pickle', 'wb'))",
        "pickle.load(open_('f.pickle', 'rb'))",
        list(range(9)),
    ),
    "gzip": (
        "closing(gzip.open('f.gz', 'wb'), lambda f: f.write(b'z' * 9999))",
        "len(gzip.open('f.gz').read())",
        9999,
    ),
    "bz2": (
        "closing(bz2.open('f.bz2', 'wt'), lambda f: f.write('text'))",
        "bz2.open('f.bz2', 'rt').read()",
        "text",
    ),
    "lzma": (
        "closing(lzma.open('f.xz', 'wb'), lambda f: f.write(b'x'))",
        "lzma.open('f.xz').read()",
        b"x",
    ),
    "zipfile": (
        "closing(zipfile.ZipFile('f.zip', 'w'), lambda f: f.writestr('in', 'inside'))",
        "zipfile.ZipFile('f.zip').read('in')",
        b"inside",
    ),
    "tarfile": (
        "closing(tarfile.open('f.tar', 'w'), lambda f: f.addfile(tarfile.TarInfo('member')))",
        "tarfile.open('f.tar', 'r|').getnames()",
        ["member"],
    ),
    "wave": (
        "closing(wave.open('f.wav', 'wb'), lambda f: (f.setnchannels(1), f.setsampwidth(1),"
        " f.setframerate(8000), f.writeframes(b'12345')))",
        "wave.open('f.wav').getnframes()",
        5,
    ),
    "configparser": (
        "closing(open('f.ini', 'w'), lambda f: f.write('[s]\\nk = v\\n'))",
        "(lambda c: (c.read('f.ini'), c['s']['k']))(configparser.ConfigParser())",
        (["f.ini"], "v"),
    ),
    "pathlib": ("Path('f.txt').write_text('by path')", "Path('f.txt').read_text()", "by path"),
    "shutil": ("shutil.copy(__file__, 'f.py')", "os.path.getsize('f.py') > 100", True),
    "fileinput": (
        "closing(open('f.lines', 'w'), lambda f: f.write('1\\n2\\n'))",
        "list(fileinput.input('f.lines'))",
        ["1\n", "2\n"],
    ),
    "mmap": (
        "closing(open('f.map', 'wb'), lambda f: f.write(b'mapped'))",
        "bytes(mmap.mmap(open_('f.map', 'rb').fileno(), 0, access=mmap.ACCESS_READ))",
        b"mapped",
    ),
    "tempfile": (
        "(lambda made: (os.write(made[0], b'moved'), os.close(made[0]), os.replace(made[1], 'f.tmp')))"
        "(tempfile.mkstemp(dir='.'))",
        "open('f.tmp').read()",
        "moved",
    ),
    "glob": (
        "Path('f.found').write_text('found')",
        "(open('f.found').read(), glob.glob('f.f*d'))",
        ("found", ["f.found"]),
    ),
    "threads": (
        "asyncio.run(asyncio.to_thread(Path('f.thread').write_text, 'from a thread'))",
        "concurrent.futures.ThreadPoolExecutor().submit(Path('f.thread').read_text).result()",
        "from a thread",
    ),
}
PREAMBLE = """
import asyncio, bz2, concurrent.futures, configparser, csv, fileinput, glob, gzip, json, lzma, mmap
import os, pickle, shutil, sys, tarfile, tempfile, wave, zipfile
from pathlib import Path

opened = []
def open_(*args, **kwargs):
    opened.append(open(*args, **kwargs))
    return opened[-1]

def closing(file, use):
    with file:
        use(file)
"""


@pytest.mark.parametrize("mode", ["update", "no_update"])
def test_flows_between_processes(capio: Any, mode: str) -> None:
    """The consumer waits for each file, and has it before its producer ends."""
    capio.pair(["f.*"], committed="on_close", mode=mode)
    # The script is text that the helper takes the indentation of.
    consumer = capio.step("consumer", PREAMBLE + "\n".join(
        f"print({name!r}, repr({read}), flush=True)" for name, (_, read, _) in FLOWS.items()
    ) + "\n")  # fmt: skip
    producer = capio.step("producer", PREAMBLE + "\n".join(
        f"{write}\nfor file in opened: file.close()" for write, _, _ in FLOWS.values()
    ) + "\nprint('written', flush=True)\nsys.stdin.readline()\n")  # fmt: skip
    producer.expect("written")
    for name, (_, _, expected) in FLOWS.items():
        consumer.expect(f"{name} {expected!r}")
    consumer.finish()
    producer.send()
    producer.finish()


# Files that are closed and opened again while they are made: final when their step has ended.
SEVERAL_CLOSES = {
    "dbm.dumb": (
        "with dbm.dumb.open('f', 'c') as base: base[b'key'] = b'value'\n"
        "with dbm.dumb.open('f', 'w') as base: base['other'] = 'text'",
        "with dbm.dumb.open('f', 'r') as base: print(sorted(base.keys()), base[b'other'])",
        "[b'key', b'other'] b'text'",
    ),
    "shelve": (
        "with shelve.Shelf(dbm.dumb.open('f', 'n')) as shelf: shelf['list'] = [1, 2]",
        "with shelve.Shelf(dbm.dumb.open('f', 'r')) as shelf: print(shelf['list'])",
        "[1, 2]",
    ),
    "shelve.open": (
        "with shelve.open('f') as shelf: shelf['list'] = [1, 2]\n"
        "with shelve.open('f') as shelf: shelf['more'] = len(shelf['list'])",
        "with shelve.open('f', 'r') as shelf: print(sorted(shelf.items()))",
        "[('list', [1, 2]), ('more', 2)]",
    ),
    "mailbox": (
        "box = mailbox.mbox('f.mbox')\nbox.add('From: me\\n\\nfirst\\n')\nbox.flush()\n"
        "box.add('From: you\\n\\nsecond\\n')\nbox.close()",
        "print([message['From'] for message in mailbox.mbox('f.mbox', create=False)])",
        "['me', 'you']",
    ),
    "processes": (
        "def work(number):\n"
        "    with open('f.log', 'a') as log: log.write(f'{number}\\n')\n"
        "context = multiprocessing.get_context('fork')\n"
        "with concurrent.futures.ProcessPoolExecutor(2, context) as pool:\n"
        "    list(pool.map(work, range(5)))",
        "print(sorted(open('f.log').read().split()))",
        "['0', '1', '2', '3', '4']",
    ),
}


@pytest.mark.parametrize("name", SEVERAL_CLOSES)
def test_flows_of_files_closed_several_times(capio: Any, name: str) -> None:
    write, read, expected = SEVERAL_CLOSES[name]
    imports = "import concurrent.futures, dbm.dumb, mailbox, multiprocessing, shelve\n"
    capio.pair(["f*"], committed="on_termination")
    consumer = capio.step("consumer", f"{imports}print('up', flush=True)\n{read}\n")
    consumer.expect("up")
    capio.run("producer", f"{imports}{write}\n")
    consumer.expect(expected)
    consumer.finish()


# Item by item: what writes the number i, and an iterator over what has been read.
STREAMS = {
    "csv": ("csv.writer(out).writerow([i, i * i])", "csv.reader(open('f'))", "['{0}', '{1}']"),
    "json": (
        "out.write(json.dumps([i, i * i]) + '\\n')",
        "map(json.loads, open('f'))",
        "[{0}, {1}]",
    ),
    "fileinput": ("print(i, i * i, file=out)", "map(str.strip, fileinput.input('f'))", "{0} {1}"),
    "pickle": (
        "pickle.dump((i, i * i), out.buffer)",
        "iter(functools.partial(pickle.load, open('f', 'rb')), None)",
        "({0}, {1})",
    ),
    "unbuffered": (
        "out.buffer.write(bytes([i, i * i]))",
        "(tuple(pair) for pair in iter(lambda: source.read(2), b''))",
        "({0}, {1})",
    ),
    "a thread": (
        "print(i, i * i, file=out)",
        "(asyncio.run(asyncio.to_thread(source.readline)).decode().strip() for _ in range(5))",
        "{0} {1}",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_item_by_item_between_processes(capio: Any, name: str) -> None:
    """Each item arrives before the next one is written."""
    write, items, shown = STREAMS[name]
    capio.pair(["f"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer",
        f"""
        import asyncio, csv, fileinput, functools, itertools, json, pickle
        source = open("f", "rb", 0)
        for item in itertools.islice({items}, 5):
            print(item, flush=True)
        """,
    )
    producer = capio.step(
        "producer",
        f"""
        import csv, json, pickle, sys
        with open("f", "w", newline="") as out:
            for i in range(5):
                {write}
                out.flush()
                print("written", flush=True)
                sys.stdin.readline()
        """,
    )
    for i in range(5):
        producer.expect("written")
        consumer.expect(shown.format(i, i * i))
        producer.send()
    producer.finish()
    consumer.finish()


def test_references_captured_before_are_intercepted_and_given_back(
    capio: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, original_functions: None
) -> None:
    source = """
import io, os, os.path, posixpath, functools
from builtins import open as my_open
from os import listdir, mkdir, stat as s
from os.path import exists, isfile
from io import open as io_open

TABLE = {"open": open, "nested": [os.stat]}

class Holder:
    opener = staticmethod(open)
    builtin = io.open

    def __init__(self):
        self.mine = open

def with_default(path, opener=open, *, ask=os.path.exists):
    return ask(path) and opener(path).read()

def closure(function):
    return lambda path: function(path).read()

bound = closure(open)
partial = functools.partial(open, mode="rb")
holder = Holder()

def all_of(path):
    return [
        my_open(path).read(), io_open(path).read(), s(path).st_size, exists(path), isfile(path),
        TABLE["open"](path).read(), TABLE["nested"][0](path).st_size, Holder.opener(path).read(),
        holder.builtin(path).read(), holder.mine(path).read(), with_default(path), bound(path),
        partial(path).read(), listdir(os.path.dirname(path)),
    ]
"""
    (tmp_path / "capturing.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "capturing", raising=False)
    import capturing  # type: ignore[import-not-found]

    def held(module: ModuleType) -> list[int]:
        names = vars(module)
        return [
            *(id(names[name]) for name in ("my_open", "io_open", "s", "exists", "isfile", "listdir")),
            id(names["TABLE"]["open"]), id(names["TABLE"]["nested"][0]),
            id(vars(names["Holder"])["builtin"]), id(names["Holder"].opener),
            id(names["holder"].mine), id(names["with_default"].__defaults__[0]),
            id(names["with_default"].__kwdefaults__["ask"]),
            id(names["bound"].__closure__[0].cell_contents), id(names["partial"].func),
        ]  # fmt: skip

    before = held(capturing)
    path = str(capio.dir / "f")
    with capio.context("producer"):
        Path(path).write_text("only in the store")
        assert not set(before) & set(held(capturing))
        assert capturing.all_of(path) == [
            "only in the store", "only in the store", 17, True, True, "only in the store", 17,
            "only in the store", "only in the store", "only in the store", "only in the store",
            "only in the store", b"only in the store", ["f"],
        ]  # fmt: skip
    assert held(capturing) == before
    with pytest.raises(FileNotFoundError):
        capturing.my_open(path)
    assert io.open is open
