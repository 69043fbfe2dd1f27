"""Storage: files kept on disk, how they are published, and what goes with the store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflows import Workflow

HIDDEN = ".capio"


def hidden_tree(capio: Workflow) -> Path:
    return capio.dir / HIDDEN / capio.name / "tree"


def memory_tree(capio: Workflow) -> Path:
    (tree,) = capio.store.glob("capio-*/*/tree")
    return tree


def declare(capio: Workflow, *fs: str, outputs: Sequence[str], **rest: Any) -> None:
    """A producer and a consumer of the outputs, and what is kept on disk."""
    names = list(outputs)
    capio.config(
        [
            {
                "name": "producer",
                "input_stream": [],
                "output_stream": names,
                "streaming": [{"name": names, "committed": "on_close", "mode": "no_update"}],
            },
            {"name": "consumer", "input_stream": names, "output_stream": []},
        ],
        storage={"fs": list(fs)},
        **rest,
    )


def test_fs_files_stream_from_the_hidden_tree(capio: Workflow) -> None:
    declare(capio, "disk", "deep/*", outputs=["disk", "memory", "deep/er/f"])
    producer = capio.step(
        "producer",
        """
        import os
        os.makedirs("deep/er")
        with open("deep/er/f", "w") as f:
            f.write("deep")
        with open("memory", "w") as f:
            f.write("in memory")
        with open("disk", "w", buffering=1) as f:
            f.write("one\\n")
            print("half", flush=True)
            input()
            f.write("two\\n")
        print("made", flush=True)
        input()
        """,
    )
    consumer = capio.step(
        "consumer",
        """
        with open("disk") as f:
            for line in f:
                print("got", line.strip(), flush=True)
        import os
        print(open("deep/er/f").read(), open("memory").read())
        print(sorted(os.listdir()), os.listdir("deep"), os.listdir("deep/er"))
        print(os.path.getsize("disk"), os.path.isfile("disk"))
        """,
    )
    producer.expect("half")
    consumer.expect("got one")
    assert (hidden_tree(capio) / "disk").read_text() == "one\n"
    assert (hidden_tree(capio) / "deep/er/f").read_text() == "deep"
    assert sorted(os.listdir(memory_tree(capio))) == ["deep", "memory"]
    producer.send()
    consumer.expect("got two", "deep in memory", "['deep', 'disk', 'memory'] ['er'] ['f']")
    consumer.expect("8 True")
    producer.expect("made")
    consumer.finish()
    producer.send()
    producer.finish()
    assert capio.wait_for_server_end()
    assert os.listdir(capio.dir) == []  # not permanent: gone with the store


def test_permanent_fs_files_are_published_by_rename(capio: Workflow) -> None:
    declare(capio, "*", outputs=["keep/a"], permanent=["keep/*"])
    capio.hold()
    producer = capio.step(
        "producer",
        """
        import os
        os.mkdir("keep")
        f = open("keep/a", "w")
        print(os.fstat(f.fileno()).st_ino, flush=True)
        f.write("bytes")
        f.close()
        print("closed", flush=True)
        input()
        with open("keep/a", "a") as f:
            f.write(" and more")
        print(open("keep/a").read())
        os.rename("keep/a", "keep/b")
        print(sorted(os.listdir("keep")), open("keep/b").read())
        with open("keep/b", "w") as f:
            f.write("anew")
        with open("never", "w") as f:
            f.write("dropped")
        """,
    )
    inode = producer.line()
    producer.expect("closed")
    # It waits until it is published: what it opens then is the real file.
    consumer = capio.run(
        "consumer",
        """
        import os
        with open("keep/a") as f:
            print(f.read(), os.fstat(f.fileno()).st_ino)
        print(os.listdir("keep"), os.stat("keep/a").st_size)
        """,
    )
    assert consumer.stdout.split() == ["bytes", inode, "['a']", "5"]
    producer.send()
    producer.finish()
    assert producer.stdout.splitlines()[2:] == ["bytes and more", "['b'] bytes and more"]
    capio.close()
    assert [(path.name, path.read_text()) for path in (capio.dir / "keep").iterdir()] == [
        ("b", "anew")
    ]
    assert os.listdir(capio.dir) == ["keep"]


def test_names_in_three_layers(capio: Workflow) -> None:
    """What os and shutil do to a tree whose files lie in memory, on disk and in CAPIO_DIR."""
    declare(capio, "*.disk", outputs=["result"])
    capio.env["CAPIO_LINGER"] = "0.5"  # of the consumer, which never comes
    (capio.dir / "real").mkdir()
    (capio.dir / "real" / "r.txt").write_text("real")
    (capio.dir / "old.disk").write_text("old")
    capio.run(
        "producer",
        """
        import os, shutil

        def put(name, text, mode="w"):
            with open(name, mode) as f:
                f.write(text)

        os.mkdir("out")
        for name in ("b.disk", "a.txt", "c.disk", "0.txt"):
            put("out/" + name, name)
        assert os.listdir("out") == ["b.disk", "a.txt", "c.disk", "0.txt"], os.listdir("out")
        # A directory in both layers of the store is renamed as one.
        os.rename("out", "moved")
        assert os.listdir("moved") == ["b.disk", "a.txt", "c.disk", "0.txt"], os.listdir("moved")
        assert not os.path.exists("out")
        assert [open("moved/" + n).read() for n in os.listdir("moved")] == os.listdir("moved")
        # Over each other's layers.
        os.replace("moved/a.txt", "moved/b.disk")
        assert open("moved/b.disk").read() == "a.txt"
        os.replace("moved/c.disk", "moved/0.txt")
        assert open("moved/0.txt").read() == "c.disk"
        assert sorted(os.listdir("moved")) == ["0.txt", "b.disk"]
        # Onto a real file, and a real file onto the store's.
        os.replace("moved/b.disk", "real/r.txt")
        assert open("real/r.txt").read() == "a.txt" and os.listdir("real") == ["r.txt"]
        os.replace("old.disk", "moved/0.txt")
        assert open("moved/0.txt").read() == "old"
        # Changing: in place, appended, anew, truncated.
        put("x.disk", "one")
        put("x.disk", " two", "a")
        assert open("x.disk").read() == "one two"
        with open("x.disk", "r+") as f:
            f.write("ONE")
        assert open("x.disk").read() == "ONE two"
        put("x.disk", "new")
        assert open("x.disk").read() == "new" and os.path.getsize("x.disk") == 3
        os.remove("x.disk")
        assert not os.path.exists("x.disk")
        try:
            open("x.disk", "r")
        except FileNotFoundError as error:
            assert error.filename == "x.disk"
        else:
            raise AssertionError
        open("x.disk", "x").close()
        try:
            open("x.disk", "x")
        except FileExistsError:
            pass
        else:
            raise AssertionError
        # Directories.
        os.makedirs("p/q")
        put("p/q/f.disk", "f")
        for wrong in (lambda: os.rmdir("p/q"), lambda: os.mkdir("p/q")):
            try:
                wrong()
            except OSError:
                pass
            else:
                raise AssertionError
        os.remove("p/q/f.disk")
        os.rmdir("p/q")
        assert os.listdir("p") == []
        put("p/f.disk", "f")
        shutil.copytree("p", "copy")
        for top in ("p", "copy"):
            for directory, _, files in os.walk(top, topdown=False):
                for name in files:
                    os.remove(os.path.join(directory, name))
                os.rmdir(directory)
            assert not os.path.exists(top)
        with os.scandir("moved") as entries:
            found = [(e.name, e.is_file(), e.stat().st_size) for e in entries]
        assert found == [("0.txt", True, 3)]
        """,
    )
    capio.close()
    # What is not permanent is gone; what it hid is not.
    assert sorted(p.name for p in capio.dir.rglob("*")) == ["r.txt", "real"]
    assert (capio.dir / "real/r.txt").read_text() == "real"


def test_leftover_of_a_lost_store_is_set_aside(capio: Workflow) -> None:
    """The machine went down: memory is gone, the hidden tree is not. Nobody knows what of it is
    complete, so it is not seen, but kept."""
    declare(capio, "f", outputs=["f"])
    tree = hidden_tree(capio)
    tree.mkdir(parents=True)
    (tree / "f").write_text("half of it")
    step = capio.run(
        "producer",
        "import os\nprint(os.path.exists('f'))\nopen('f', 'w').write('new')\n",
    )
    assert step.stdout == "False\n"
    assert "an earlier run" in step.stderr
    capio.leaves_server = True
    capio.close()
    (kept,) = (capio.dir / ".capio/salvage").iterdir()
    assert (kept / "f").read_text() == "half of it"
