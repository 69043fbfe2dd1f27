"""Symbolic and hard links, directory descriptors and the current directory, between processes: S1."""

from __future__ import annotations

import os

from workflows import Workflow


def test_the_current_directory_may_exist_only_in_the_store(capio: Workflow) -> None:
    capio.config([{"name": "app", "input_stream": [], "output_stream": []}], exclude=["*.tmp"])
    (capio.tmp_path / "beside.txt").write_text("beside")
    step = capio.run(
        "app",
        """
        import os, pathlib, subprocess, sys, threading
        sys.stdout.reconfigure(line_buffering=True)
        os.makedirs("run/deep")
        os.chdir("run/deep")
        print(os.getcwd(), os.getcwdb().decode(), pathlib.Path.cwd(), os.path.abspath("x"))
        open("x", "w").write("in the store")
        print(os.listdir("."), os.path.exists("../deep/x"), open("../../../beside.txt").read())
        open("left.tmp", "w").write("excluded")
        seen = []
        thread = threading.Thread(target=lambda: seen.append((os.getcwd(), open("x").read())))
        thread.start(); thread.join()
        print(seen)
        if os.fork() == 0:
            print(os.getcwd(), open("x").read(), flush=True)
            os._exit(0)
        os.wait()
        subprocess.run([sys.executable, "-c", "import os; print(os.getcwd(), open('x').read())"])
        os.chdir("..")
        print(os.getcwd(), sorted(os.listdir()))
        print(os.path.exists("deep/../../../beside.txt"), os.path.lexists("deep/" + "../" * 40))
        os.chdir("../..")
        print(os.getcwd())
        """,
    )
    deep = f"{capio.dir}/run/deep"
    assert step.stdout.splitlines() == [
        f"{deep} {deep} {deep} {deep}/x",
        "['x'] True beside",
        f"[('{deep}', 'in the store')]",
        f"{deep} in the store",
        f"{deep} in the store",
        f"{capio.dir}/run ['deep']",
        "True True",
        str(capio.tmp_path),
    ]
    assert (capio.dir / "run" / "deep" / "left.tmp").read_text() == "excluded"


def test_a_call_that_ends_leaves_the_store_directory(capio: Workflow) -> None:
    step = capio.python(
        """
        import os
        from pycapio import CapioContext
        @CapioContext(capio_dir=DIR, workflow_name=WF, app_name="app", await_server_timeout_seconds=60)
        def work():
            os.mkdir("out", 0o750)
            os.chdir("out")
            open("a", "w").write("text")
        work()
        print(os.getcwd(), os.readlink("/proc/self/cwd"), oct(os.stat(".").st_mode))
        open("b", "w").write("afterwards")
        """
    ).finish()
    assert step.stdout == f"{capio.dir}/out {capio.dir}/out 0o40750\n"
    assert (capio.dir / "out" / "a").read_text() == "text"
    assert (capio.dir / "out" / "b").read_text() == "afterwards"


def test_descriptors_follow_their_directory(capio: Workflow) -> None:
    step = capio.run(
        "app",
        """
        import os, sys
        sys.stdout.reconfigure(line_buffering=True)
        os.mkdir("one")
        fd = os.open("one", os.O_RDONLY)
        open(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd), "w").write("text")
        os.rename("one", "two")
        copy = os.dup(fd)
        os.close(fd)
        print(os.listdir(copy), os.stat("f", dir_fd=copy).st_size, os.path.exists("two/f"))
        os.rename("f", "g", src_dir_fd=copy, dst_dir_fd=copy)
        if os.fork() == 0:
            os.mkdir("sub", dir_fd=copy)
            os.fchdir(copy)
            print(os.getcwd(), sorted(os.listdir()), flush=True)
            os._exit(0)
        os.wait()
        os.unlink("g", dir_fd=copy)
        os.rmdir("sub", dir_fd=copy)
        os.rmdir("two")
        print(os.listdir(copy))
        for call in (lambda: os.stat("f", dir_fd=copy), lambda: os.mkdir("d", dir_fd=copy)):
            try:
                call()
            except FileNotFoundError as error:
                print(error)
        """,
    )
    assert step.stdout.splitlines() == [
        "['f'] 4 True",
        f"{capio.dir}/two ['g', 'sub']",
        "[]",
        "[Errno 2] No such file or directory: 'f'",
        "[Errno 2] No such file or directory: 'd'",
    ]


def test_a_real_link_leads_into_the_store(capio: Workflow) -> None:
    """Also when other things of the directory were looked at before."""
    (capio.dir / "latest").symlink_to("run1")
    (capio.dir / "kept").mkdir()
    (capio.dir / "kept" / "old").write_text("real")
    (capio.dir / "again").symlink_to("kept")
    step = capio.run(
        "app",
        """
        import os
        print(os.path.exists("latest/x"), open("kept/old").read())
        os.mkdir("run1")
        open("latest/x", "w").write("new")
        print(os.listdir("run1"), open("latest/x").read(), os.path.realpath("latest/x"))
        with open("again/old", "a") as file:
            file.write(" and more")
        print(open("kept/old").read(), os.path.islink("again"))
        """,
    )
    assert step.stdout.splitlines() == [
        "False real",
        f"['x'] new {capio.dir}/run1/x",
        "real and more True",
    ]
    assert (capio.dir / "kept" / "old").read_text() == "real and more"
    assert (capio.dir / "latest" / "x").read_text() == "new"
    assert (capio.dir / "again").is_symlink()


def test_a_consumer_waits_for_what_a_link_leads_to(capio: Workflow) -> None:
    capio.pair(["final.txt", "data.txt"], committed="on_close", mode="no_update")
    consumer = capio.step("consumer", "print(open('final.txt').read())")
    producer = capio.step(
        "producer",
        """
        import os
        input()
        os.symlink("data.txt", "final.txt")
        print("linked", flush=True)
        input()
        with open("data.txt", "w") as file:
            file.write("the data")
        """,
    )
    producer.send()
    producer.expect("linked")
    producer.send()
    producer.finish()
    assert consumer.finish().stdout == "the data\n"


def test_links_are_written_back(capio: Workflow) -> None:
    capio.run(
        "app",
        """
        import os
        os.makedirs("a/b")
        open("a/one", "w").write("1")
        os.link("a/one", "a/b/two")
        os.link("a/b/two", "three")
        os.unlink("a/one")
        os.symlink("b/two", "a/link")
        os.symlink("nothing", "dangling")
        # A name that is made before its content, as lock files and mail folders do.
        open("x.part", "w").write("whole")
        os.link("x.part", "x")
        os.unlink("x.part")
        """,
    )
    assert sorted(os.listdir(capio.dir / "a")) == ["b", "link"]
    assert (capio.dir / "a" / "b" / "two").read_text() == (capio.dir / "three").read_text() == "1"
    assert os.path.samefile(capio.dir / "a" / "b" / "two", capio.dir / "three")
    assert os.readlink(capio.dir / "a" / "link") == "b/two"
    assert os.readlink(capio.dir / "dangling") == "nothing"
    assert (capio.dir / "x").read_text() == "whole"
    assert not (capio.dir / "x.part").exists()


def test_names_of_one_file_share_its_content(capio: Workflow) -> None:
    step = capio.run(
        "app",
        """
        import os
        open("a", "w").write("first")
        os.link("a", "b")
        open("b", "w").write("second, longer")
        print(open("a").read(), os.stat("a").st_nlink)
        os.truncate("a", 6)
        print(open("b").read())
        os.rename("a", "c")
        os.unlink("b")
        print(open("c").read(), os.stat("c").st_nlink)
        """,
    )
    assert step.stdout.splitlines() == ["second, longer 2", "second", "second 1"]
