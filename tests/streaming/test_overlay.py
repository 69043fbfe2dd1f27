"""Real files below and beside the store, and what comes back to CAPIO_DIR: S1, S2, S9, S10."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from workflows import Workflow

# ---- S1, S2 ----


def test_real_input_files_are_read_as_they_are(capio: Workflow) -> None:
    (capio.dir / "sub").mkdir()
    (capio.dir / "sub" / "in.bin").write_bytes(bytes(range(256)))
    step = capio.run(
        "app",
        """
        import mmap, os, pathlib
        print(len(open("sub/in.bin", "rb").read()), os.stat("sub/in.bin").st_size)
        print(os.path.isfile("sub/in.bin"), os.path.isdir("sub"), os.listdir("sub"))
        print(pathlib.Path("sub/in.bin").read_bytes()[255])
        with open("sub/in.bin", "rb") as f:
            print(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[7])
        print([(e.name, e.is_file(), e.stat().st_size) for e in os.scandir("sub")])
        """,
    )
    assert step.stdout.splitlines() == [
        "256 256",
        "True True ['in.bin']",
        "255",
        "7",
        "[('in.bin', True, 256)]",
    ]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("w", "NEW"),
        ("a", "real textNEW"),
        ("r+", "NEWl text"),
        ("a+", "real textNEW"),
        ("w+", "NEW"),
    ],
)
def test_writing_to_a_real_file(capio: Workflow, mode: str, expected: str) -> None:
    """The copy goes back when it is committed; until then the real file stays what it was."""
    real = capio.dir / "f"
    real.write_text("real text")
    real.chmod(0o640)
    step = capio.step(
        "app",
        "import sys\nwith open('f', sys.argv[1]) as f: f.write('NEW')\n"
        "print(open('f').read(), flush=True)\ninput()\n",
        mode,
    )
    step.expect(expected)
    if mode.startswith("w"):
        assert real.read_text() == "real text"
    step.send()
    step.finish()
    assert real.read_text() == expected
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_exclusive_creation_over_a_real_file(capio: Workflow) -> None:
    (capio.dir / "f").write_text("real")
    step = capio.run(
        "app", "try: open('f', 'x')\nexcept FileExistsError as error: print(error.filename)\n"
    )
    assert step.stdout == "f\n"
    assert (capio.dir / "f").read_text() == "real"


def test_a_real_file_that_may_not_be_written(capio: Workflow) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everything")
    (capio.dir / "f").write_text("real")
    (capio.dir / "f").chmod(0o444)
    step = capio.run("app", "try: open('f', 'w')\nexcept PermissionError as e: print(e.filename)\n")
    assert step.stdout == "f\n"


def test_removing_and_renaming_real_files(capio: Workflow) -> None:
    for name in ("a", "b", "c"):
        (capio.dir / name).write_text(f"real {name}")
    step = capio.run(
        "app",
        """
        import os
        os.remove("a")
        os.rename("b", "d")
        open("c", "a").write(" more")
        os.replace("c", "e")
        print(sorted(os.listdir()))
        print(open("d").read(), open("e").read())
        for name in ("a", "b", "c"):
            try:
                open(name)
            except FileNotFoundError as error:
                print(error.filename)
        """,
    )
    assert step.stdout.splitlines() == ["['d', 'e']", "real b real c more", "a", "b", "c"]
    left = {path.name: path.read_text() for path in capio.dir.iterdir() if path.is_file()}
    assert left == {"d": "real b", "e": "real c more"}


def test_outside_paths_are_untouched(capio: Workflow) -> None:
    outside = capio.tmp_path / "data2"
    outside.mkdir()
    step = capio.run(
        "app",
        """
        import os, sys
        outside = sys.argv[1]
        for path in (outside + "/f", "../data2/g", os.path.join(os.getcwd(), "../data2/h")):
            with open(path, "w") as f:
                f.write("x")
                f.flush()
                print(os.path.realpath(f"/proc/self/fd/{f.fileno()}") == os.path.realpath(path))
        print(sorted(os.listdir(outside)))
        """,
        str(outside),
        options=["--no-persist"],
    )
    assert step.stdout.splitlines() == ["True"] * 3 + ["['f', 'g', 'h']"]
    assert sorted(path.name for path in outside.iterdir()) == ["f", "g", "h"]


def test_excluded_paths_are_untouched(capio: Workflow) -> None:
    capio.config(
        [{"name": "app", "input_stream": [], "output_stream": ["*"]}], exclude=["*.tmp", "own/*"]
    )
    (capio.dir / "own").mkdir()
    step = capio.step(
        "app",
        "open('a.tmp', 'w').write('1')\nopen('own/b', 'w').write('2')\n"
        "open('c', 'w').write('3')\nprint('made', flush=True)\ninput()\n",
    )
    step.expect("made")
    assert (capio.dir / "a.tmp").read_text() == "1"
    assert (capio.dir / "own/b").read_text() == "2"
    assert not (capio.dir / "c").exists()
    step.send()
    step.finish()


def test_the_service_directory_is_hidden(capio: Workflow) -> None:
    (capio.dir / ".capio").mkdir()
    step = capio.run("app", "import os\nopen('f', 'w').close()\nprint(os.listdir())\n")
    assert step.stdout == "['f']\n"


def test_symbolic_links(capio: Workflow) -> None:
    """CAPIO_DIR named through a link is the same directory."""
    link = capio.tmp_path / "link"
    link.symlink_to(capio.dir)
    script = capio.script(
        "open('f', 'w').write('x')\nprint(open(__import__('sys').argv[1]).read())"
    )
    options = [word.replace(str(capio.dir), str(link)) for word in capio.options("app")]
    step = capio.start(
        [sys.executable, "-m", "pycapio", *options, str(script), str(link / "f")]
    ).finish()
    assert step.stdout == "x\n"
    assert (capio.dir / "f").read_text() == "x"


# ---- S9: write-back ----


def test_everything_is_kept_without_a_config(capio: Workflow) -> None:
    """In CAPIO_DIR when the launcher's process has ended."""
    capio.run(
        "app",
        """
        import os
        os.makedirs("deep/er")
        for i in range(20):
            open(f"deep/er/f{i}", "w").write(str(i) * 1000)
        os.mkdir("empty")
        os.chmod("deep/er/f1", 0o600)
        os.utime("deep/er/f2", (1000, 2000))
        open("big", "wb").write(b"x" * 20_000_000)
        """,
    )
    for i in range(20):
        assert (capio.dir / f"deep/er/f{i}").read_text() == str(i) * 1000
    assert stat.S_IMODE((capio.dir / "deep/er/f1").stat().st_mode) == 0o600
    assert (capio.dir / "deep/er/f2").stat().st_mtime == 2000
    assert (capio.dir / "big").stat().st_size == 20_000_000
    left = {path.name for path in capio.dir.iterdir()} - {".capio"}
    assert left == {"deep", "empty", "big"}


def test_empty_directories_are_kept(capio: Workflow) -> None:
    capio.run("app", "import os\nos.makedirs('a/b')\n")
    assert (capio.dir / "a/b").is_dir()


def test_nothing_is_kept_with_no_persist(capio: Workflow) -> None:
    capio.run(
        "app", "open('f', 'w').write('x')\nprint(open('f').read())\n", options=["--no-persist"]
    ).expect("x")
    assert not (capio.dir / "f").exists()


def test_permanent_files(capio: Workflow) -> None:
    capio.config(
        [
            {
                "name": "app",
                "input_stream": [],
                "output_stream": ["*"],
                "streaming": [{"name": ["now", "now2"], "committed": "on_close"}],
            }
        ],
        permanent=["kept*", "now"],
    )
    capio.run(
        "app",
        "for name in ('kept', 'kept.too', 'now', 'now2', 'dropped'):\n"
        "  open(name, 'w').write(name)\n",
    )
    left = {path.name: path.read_text() for path in capio.dir.iterdir() if path.is_file()}
    assert left == {"kept": "kept", "kept.too": "kept.too", "now": "now"}


def test_permanent_under_on_close_is_there_before_the_step_ends(capio: Workflow) -> None:
    """Write-back runs beside the step: seen through inotify, without looking again and again."""
    import ctypes
    import struct

    capio.pair(["f"], committed="on_close", permanent=["f"])
    capio.leaves_server = True
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    moved_to = 0x80
    assert libc.inotify_add_watch(watch, os.fsencode(capio.dir), moved_to) > 0
    step = capio.step("producer", "open('f', 'w').write('x')\nprint('up', flush=True)\ninput()\n")
    step.expect("up")
    try:
        event = os.read(watch, 4096)
    finally:
        os.close(watch)
    (length,) = struct.unpack_from("I", event, 12)
    assert event[16 : 16 + length].rstrip(b"\0") == b"f"
    assert (capio.dir / "f").read_text() == "x"
    step.send()
    step.finish()


@pytest.mark.parametrize(
    "change", ["os.chmod('f', 0o640)", "os.fchmod(fd, 0o640)", "os.utime('f', (1000, 2000))"]
)
def test_attributes_changed_while_the_file_is_written_back(capio: Workflow, change: str) -> None:
    """All of it between the look at the path and the kernel's change."""
    rule = {"name": ["f"], "committed": "on_close"}
    capio.config(
        [{"name": "producer", "output_stream": ["f"], "streaming": [rule]}], permanent=["f"]
    )
    capio.hold()
    step = capio.step(
        "producer",
        f"""
        import os, sys
        file = open("f", "w")
        file.write("x")
        fd = os.open("f", os.O_RDONLY)
        def hook(event, args):
            if event in ("os.chmod", "os.utime") and not file.closed:
                file.close()
                print("closed", flush=True)
                input()
        sys.addaudithook(hook)
        {change}
        """,
    )
    step.expect("closed")
    capio.run("other", "")  # its end is answered when all is written
    assert (capio.dir / "f").read_text() == "x"
    step.send()
    step.finish()
    found = (capio.dir / "f").stat()
    if "utime" in change:
        assert found.st_mtime == 2000
    else:
        assert stat.S_IMODE(found.st_mode) == 0o640


def test_copies_being_made_are_not_listed(capio: Workflow) -> None:
    """A server that was killed while it wrote back leaves one behind."""
    for name in (".capio-63692405-37612.tmp", ".capio-17", ".capio-mine", ".capionet"):
        (capio.dir / name).write_text("x")
    step = capio.run("app", "import os\nopen('f', 'w').close()\nprint(sorted(os.listdir()))\n")
    assert step.stdout == "['.capio-mine', '.capionet', 'f']\n"


def test_the_real_file_is_replaced_as_a_whole(capio: Workflow) -> None:
    (capio.dir / "f").write_text("of an earlier run")
    with open(capio.dir / "f") as old:
        capio.run("app", "open('f', 'w').write('new')\n")
        assert old.read() == "of an earlier run"
    assert (capio.dir / "f").read_text() == "new"


def test_a_failed_file_is_not_put_in_place(capio: Workflow) -> None:
    (capio.dir / "f").write_text("of an earlier run")
    step = capio.run(
        "app", "with open('f', 'w') as f:\n  f.write('half')\n  raise ValueError\n", status=1
    )
    assert (capio.dir / "f").read_text() == "of an earlier run"
    assert (capio.dir / ".capio/salvage" / capio.name / "f").read_text() == "half"
    assert "salvage" in step.stderr
    assert step.stderr.count("pycapio:") >= 1


def test_salvage_of_a_killed_step(capio: Workflow) -> None:
    step = capio.step(
        "app",
        "f = open('f', 'w')\nf.write('half')\nf.flush()\nprint('up', flush=True)\ninput()\n",
    )
    step.expect("up")
    step.kill()
    assert capio.wait_for_server_end()
    assert not (capio.dir / "f").exists()
    assert (capio.dir / ".capio/salvage" / capio.name / "f").read_text() == "half"


def test_unread_files_are_kept_with_a_message(capio: Workflow) -> None:
    """S10: the server is stopped before the consumer has run."""
    capio.pair(["f"], committed="on_close")
    capio.run("producer", "open('f', 'w').write('unread')\n")
    assert not (capio.dir / "f").exists()
    capio.stop_server()
    assert (capio.dir / "f").read_text() == "unread"


def test_what_has_been_read_is_not_kept(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.run("producer", "open('f', 'w').write('read')\n")
    capio.run("consumer", "print(open('f').read())\n").expect("read")
    assert capio.wait_for_server_end()
    assert not (capio.dir / "f").exists()


def test_capio_dir_may_be_used_by_two_workflows_in_turn(capio: Workflow) -> None:
    capio.run("app", "open('f', 'w').write('first')\n")
    capio.run("app", "print(open('f').read())\nopen('f', 'a').write('+second')\n").expect("first")
    assert (capio.dir / "f").read_text() == "first+second"


def test_store_on_tmpfs(capio: Workflow, tmpfs: Path) -> None:
    capio.env["CAPIO_STORE"] = str(tmpfs)
    step = capio.step(
        "app",
        "import os\nfor name in 'cab': open(name, 'w').write(name)\n"
        "print(os.listdir(), flush=True)\ninput()\n",
    )
    step.expect("['c', 'a', 'b']")  # creation order, though tmpfs lists the newest first
    assert (tmpfs / f"capio-{os.getuid()}" / capio.name / "tree" / "a").read_text() == "a"
    step.send()
    step.finish()
    assert capio.wait_for_server_end()
    assert not list(tmpfs.iterdir())
    assert (capio.dir / "b").read_text() == "b"


def test_excluded_files_in_directories_of_the_store(capio: Workflow) -> None:
    """A program may write them into a directory it has made."""
    capio.config(
        [{"name": "producer", "input_stream": [], "output_stream": ["d/*"]}],
        permanent=["d/*"],
        exclude=["*.tmp", "*.dir"],
    )
    capio.run(
        "producer",
        """
        import os
        os.makedirs("d/e", mode=0o750)
        with open("d/e/a.tmp", "w") as f:
            f.write("a")
        os.rename("d/e/a.tmp", "d/a")
        with open("d/b", "w") as f:
            f.write("b")
        os.mkdir("d/e/f.dir")
        os.rename("d/b", "d/e/b.tmp")
        assert sorted(os.listdir("d/e")) == ["b.tmp", "f.dir"]
        """,
    )
    assert (capio.dir / "d/a").read_text() == "a"
    assert (capio.dir / "d/e/b.tmp").read_text() == "b"
    assert (capio.dir / "d/e/f.dir").is_dir()
    assert (capio.dir / "d/e").stat().st_mode & 0o777 == 0o750


def test_attributes_changed_after_write_back_reach_the_directory(capio: Workflow) -> None:
    """By path and by descriptor, when the bytes are there already."""
    names = ["path", "descriptor", "own", "times", "times2", "attribute", "attribute2"]
    capio.pair(names, committed="on_close", permanent=names)
    consumer = capio.step(
        "consumer",
        """
        import os
        print("up", flush=True)
        input()

        def by_descriptor(name, call, flags=os.O_RDONLY):
            fd = os.open(name, flags)
            call(fd)
            os.close(fd)

        os.chmod("path", 0o640)
        by_descriptor("descriptor", lambda fd: os.fchmod(fd, 0o604))
        by_descriptor("own", lambda fd: os.chmod(fd, 0o600))
        os.utime("times", (5, 6))
        by_descriptor("times2", lambda fd: os.utime(fd, (7, 8)), os.O_RDWR)
        os.setxattr("attribute", "user.k", b"one")
        by_descriptor("attribute2", lambda fd: os.setxattr(fd, "user.k", b"two"))
        """,
    )
    consumer.expect("up")
    capio.run("producer", f"for name in {names}: open(name, 'w').close()\n")
    assert all((capio.dir / name).stat().st_mode & 0o777 == 0o644 for name in names)
    consumer.send()
    consumer.finish()
    assert capio.wait_for_server_end()
    modes = [(capio.dir / name).stat().st_mode & 0o777 for name in names]
    assert modes == [0o640, 0o604, 0o600, 0o644, 0o644, 0o644, 0o644]
    assert [(capio.dir / name).stat().st_mtime for name in ("times", "times2")] == [6, 8]
    assert os.getxattr(capio.dir / "attribute", "user.k") == b"one"
    assert os.getxattr(capio.dir / "attribute2", "user.k") == b"two"


def test_copies_that_are_being_made_do_not_keep_a_directory(capio: Workflow) -> None:
    (capio.dir / "d").mkdir()
    (capio.dir / "d" / ".capio-12-34.tmp").write_text("of a file that is removed")
    (capio.dir / "full").mkdir()
    (capio.dir / "full" / ".capio-12-34.tmp").write_text("of another one")
    (capio.dir / "full" / "file").write_text("stays")
    (capio.dir / "real").mkdir()
    (capio.dir / "real" / "old").touch()
    for name in ("over_real", "over_made"):
        (capio.dir / name).mkdir()
        (capio.dir / name / ".capio-12-34.tmp").touch()
    capio.run(
        "producer",
        """
        import errno, os
        assert os.listdir("d") == []
        os.rmdir("d")
        assert not os.path.exists("d")
        try:
            os.rmdir("full")
        except OSError as error:
            assert error.errno == errno.ENOTEMPTY
        else:
            raise SystemExit("removed what is not empty")
        for name in ("real", "made"):
            if name == "made":
                os.mkdir(name)
                open("made/new", "w").close()
            try:
                os.rename(name, "full")
            except OSError as error:
                assert error.errno == errno.ENOTEMPTY
            else:
                raise SystemExit("replaced what is not empty")
            os.rename(name, "over_" + name)
            assert not os.path.exists(name)
            assert len(os.listdir("over_" + name)) == 1
        """,
    )
    assert sorted(os.listdir(capio.dir)) == ["full", "over_made", "over_real"]
    assert sorted(os.listdir(capio.dir / "full")) == [".capio-12-34.tmp", "file"]
    assert os.listdir(capio.dir / "over_real") == ["old"]


def test_locks_of_a_process_stay(capio: Workflow) -> None:
    """fcntl(2) locks go with the first close of the file in their process, whoever's it is."""
    (capio.dir / "input").write_text("text")
    capio.run(
        "producer",
        """
        import fcntl, glob, os, pathlib, shutil, subprocess

        def is_locked(name):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                with open(name, "r+b") as file:
                    try:
                        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except OSError:
                        os.write(write, b"y")
                os._exit(0)
            os.waitpid(pid, 0)
            os.close(write)
            with open(read, "rb") as answer:
                return answer.read() == b"y"

        for name in ("new", "input"):
            with open(name, "w+b" if name == "new" else "r+b") as file:
                file.write(b"abc")
                file.flush()
                fcntl.lockf(file, fcntl.LOCK_EX)
                for call in (
                    lambda: os.stat(name), lambda: os.lstat(name), lambda: os.path.exists(name),
                    lambda: os.path.getsize(name), lambda: os.listdir(), lambda: glob.glob("*"),
                    lambda: [entry.stat() for entry in os.scandir()],
                    lambda: pathlib.Path(name).resolve(), lambda: os.access(name, os.R_OK),
                    lambda: os.chmod(name, 0o640), lambda: os.utime(name),
                    lambda: os.listxattr(name), lambda: os.fstat(file.fileno()),
                    lambda: (os.rename(name, name + "2"), os.rename(name + "2", name)),
                    lambda: (os.link(name, name + "3"), os.unlink(name + "3")),
                    lambda: subprocess.run(["true"]),
                    lambda: subprocess.run(["cat", name], stdout=subprocess.DEVNULL),
                    lambda: open("other", "w").close(), lambda: os.ftruncate(file.fileno(), 2),
                ):
                    call()
                    assert is_locked(name), call.__code__.co_firstlineno
        """,
    )


def test_capio_dir_itself_is_not_removed(capio: Workflow) -> None:
    (capio.dir / "real").touch()
    step = capio.run(
        "producer",
        f"""
        import errno, os, shutil
        open("made", "w").close()
        try:
            shutil.rmtree({str(capio.dir)!r})
        except OSError as error:
            print(errno.errorcode[error.errno], error.filename, error.strerror)
        print(os.listdir("."))
        """,
    )
    assert step.stdout == (
        f"EBUSY {capio.dir} CAPIO_DIR itself cannot be removed while its workflow runs; for a step "
        "that makes it anew, name the directory above it as CAPIO_DIR\n[]\n"
    )
