"""One step of a random workflow: interprets a list of actions, under pycapio and as plain Python.

As a script: ``driver.py STEP.json TOKENS RESULT.json``. The batch run of the same workflow calls
``run`` in the test's own process, on a plain directory.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pathlib
import shutil
import sys
from typing import Any

Json = Any

_FLAGS = {
    "rb": os.O_RDONLY,
    "wb": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "xb": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "r+b": os.O_RDWR,
    "w+b": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
}


def content(seed: int, size: int) -> bytes:
    """Lines of text, the same for the same arguments; a shorter one begins a longer one."""
    lines = []
    length = number = 0
    while length < size:
        # Now and then a line longer than any buffer.
        width = (seed * 7919 + number * 104729) % 61 if (number + seed) % 97 else 9000
        line = f"{seed}.{number} {'abcdefghij' * (width // 10 + 1)}"[: width + 4] + "\n"
        lines.append(line)
        length += len(line)
        number += 1
    return "".join(lines).encode()[:size]


def shown(data: bytes | str) -> list[Any]:
    """What is compared of bytes or text: length and digest, and the head for whoever looks."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    return [len(raw), hashlib.sha256(raw).hexdigest()[:12], raw[:12].decode("latin-1")]


class Descriptor:
    """os.open and its kin with the methods of a file object."""

    def __init__(self, path: str, mode: str) -> None:
        self.fd = os.open(path, _FLAGS[mode], 0o644)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def pwrite(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            n = os.pwrite(self.fd, view, offset)
            view, offset = view[n:], offset + n

    def read(self, n: int = -1) -> bytes:
        if n >= 0:
            return os.read(self.fd, n)
        chunks = []
        while chunk := os.read(self.fd, 5000):
            chunks.append(chunk)
        return b"".join(chunks)

    def readinto(self, buffer: bytearray) -> int:
        return os.readv(self.fd, [buffer])

    def seek(self, offset: int, whence: int = 0) -> int:
        return os.lseek(self.fd, offset, whence)

    def tell(self) -> int:
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)


class Interpreter:
    """root: what paths are relative to. tokens: a directory of FIFOs, "" in batch."""

    def __init__(self, root: str, tokens: str = "") -> None:
        self.root = root
        self.tokens = tokens
        self.views: list[Any] = []

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def wait(self, token: str) -> None:
        if self.tokens:
            fd = os.open(f"{self.tokens}/{token}", os.O_RDWR)
            os.read(fd, 1)
            os.close(fd)

    def signal(self, token: str) -> None:
        if self.tokens:
            fd = os.open(f"{self.tokens}/{token}", os.O_RDWR)
            os.write(fd, b"x")
            os.close(fd)

    def run(self, actions: list[Json]) -> list[Any]:
        for action in actions:
            getattr(self, "do_" + action["do"])(**{k: v for k, v in action.items() if k != "do"})
        return self.views

    def do_wait(self, token: str) -> None:
        self.wait(token)

    def do_signal(self, token: str) -> None:
        self.signal(token)

    def do_mkdir(self, path: str, parents: bool) -> None:
        (os.makedirs if parents else os.mkdir)(self.path(path))

    def do_rename(self, path: str, to: str, api: str) -> None:
        if api == "path":
            pathlib.Path(self.path(path)).rename(self.path(to))
        elif api == "replace":
            os.replace(self.path(path), self.path(to))
        elif api == "move":
            shutil.move(self.path(path), self.path(to))
        else:
            os.rename(self.path(path), self.path(to))

    def do_unlink(self, path: str) -> None:
        os.unlink(self.path(path))

    def do_copy(self, path: str, to: str) -> None:
        """A step that passes on what it reads."""
        shutil.copyfile(self.path(path), self.path(to))

    def do_filter(self, path: str, to: str) -> None:
        """Line by line, as it comes."""
        with open(self.path(path)) as source, open(self.path(to), "w") as target:
            for line in source:
                target.write(line.swapcase())

    def do_file(
        self, path: str, seed: int, size: int, mode: str, api: str, buffering: int, ops: list[Json]
    ) -> None:
        """Opens a file and does things to it, noting what they give."""
        try:
            file = self._opened(self.path(path), mode, api, buffering)
        except FileNotFoundError as error:
            if not mode.startswith("r"):
                raise
            self.views.append([path, "FileNotFoundError", error.errno])
            return
        data = content(seed, size)
        try:
            for name, *args in ops:
                seen = self._operation(file, data, "b" in mode, name, args)
                if seen is not None:
                    self.views.append([path, name, *args, seen])
        finally:
            file.close()

    def _opened(self, path: str, mode: str, api: str, buffering: int) -> Any:
        if api == "os":
            return Descriptor(path, mode)
        if api == "path":
            return pathlib.Path(path).open(mode, buffering)
        return open(path, mode, buffering)

    def _operation(self, file: Any, data: bytes, binary: bool, name: str, args: list[int]) -> Any:
        if name == "write":
            part = data[args[0] : args[1]]
            file.write(part if binary else part.decode())
        elif name == "pwrite":
            file.pwrite(data[args[0] : args[1]], args[0])
        elif name == "fdwrite":  # past the file object, as C code does
            file.flush()
            Descriptor.write(Bare(file.fileno()), data[args[0] : args[1]])  # type: ignore[arg-type]
        elif name == "childwrite":
            self._in_child(file, data[args[0] : args[1]], binary)
        elif name == "seek":
            file.seek(*args)
        elif name == "truncate":
            file.truncate(*args)
        elif name == "flush":
            file.flush()
        elif name == "wait":
            self.wait(str(args[0]))
        elif name == "signal":
            self.signal(str(args[0]))
        elif name == "read":
            return shown(file.read(*args))
        elif name == "readline":
            return shown(file.readline(*args))
        elif name == "readlines":
            return [shown(line) for line in file.readlines(*args)][:5]
        elif name == "readinto":
            buffer = bytearray(args[0])
            return shown(buffer[: file.readinto(buffer)])
        elif name == "chunks":
            chunks = []
            while chunk := file.read(args[0]):
                chunks.append(chunk)
            joined = b"".join(chunks) if binary else "".join(chunks).encode()
            return [[len(c) for c in chunks][:50], shown(joined)]
        elif name == "lines":
            lines = list(file)
            return [len(lines), shown(b"".join(lines) if binary else "".join(lines))]
        elif name == "tell":
            return file.tell()
        elif name == "end":
            return file.seek(0, os.SEEK_END)
        elif name == "mapped":
            if os.fstat(file.fileno()).st_size == 0:
                return "empty"
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return shown(view[:])
        else:
            raise ValueError(name)
        return None

    def _in_child(self, file: Any, data: bytes, binary: bool) -> None:
        if not self.tokens:
            file.write(data if binary else data.decode())
            file.flush()
            return
        file.flush()
        pid = os.fork()
        if pid == 0:
            file.write(data if binary else data.decode())
            file.flush()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if status != 0:
            raise ChildProcessError(status)

    def do_question(self, path: str, about: str) -> None:
        name = self.path(path)
        answer: Any
        try:
            if about == "listdir":
                answer = sorted(os.listdir(name))
            elif about == "scandir":
                with os.scandir(name) as entries:
                    answer = sorted([e.name, e.is_file(), e.is_dir()] for e in entries)
            elif about == "iterdir":
                answer = sorted(entry.name for entry in pathlib.Path(name).iterdir())
            elif about == "size":
                answer = os.path.getsize(name)
            elif about == "stat":
                answer = [os.stat(name).st_size, os.stat(name).st_mode]
            else:
                answer = getattr(os.path, about)(name)
        except FileNotFoundError as error:
            answer = ["FileNotFoundError", error.errno]
        self.views.append([path, about, answer])


class Bare:
    def __init__(self, fd: int) -> None:
        self.fd = fd


def run(actions: list[Json], root: str, tokens: str = "") -> list[Any]:
    return Interpreter(root, tokens).run(actions)


def main(step: str, tokens: str, result: str) -> None:
    with open(step) as file:
        plan = json.load(file)
    views = run(plan["actions"], plan["root"], tokens)
    with open(result, "w") as file:
        json.dump(views, file)


def main_decorated(step: str, tokens: str, result: str) -> None:
    """The same through CapioContext, in a plain Python process."""
    from pycapio import CapioContext

    with open(step) as file:
        options = json.load(file)["context"]
    CapioContext(**options)(main)(step, tokens, result)


if __name__ == "__main__":
    if sys.argv[1] == "--context":
        main_decorated(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
