"""Where the store is: CAPIO_STORE in all its forms."""

from __future__ import annotations

import os
import signal
import sys

from workflows import Workflow, wait_for_end


def test_relative_store_after_chdir(capio: Workflow) -> None:
    """The server is started anew from another directory, and finds the store where it was."""
    (capio.dir / "places").mkdir()
    step = capio.step(
        "app",
        """
        import os, sys
        print("up", flush=True)
        input()
        os.chdir("/")
        with open(sys.argv[1] + "/f", "w") as f:
            f.write("made after the chdir")
        """,
        str(capio.dir),
        env={"CAPIO_STORE": "places/store"},
    )
    step.expect("up")
    assert (capio.dir / "places" / "store" / f"capio-{os.getuid()}" / capio.name).is_dir()
    server = capio.server()
    os.kill(server, signal.SIGKILL)
    assert wait_for_end(server)
    step.send()
    step.finish()
    assert capio.wait_for_server_end()
    assert (capio.dir / "f").read_text() == "made after the chdir"
    assert not list((capio.dir / "places" / "store").iterdir())


def test_children_elsewhere_share_a_relative_store(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    child = [sys.executable, "-m", "pycapio", *capio.options("consumer")]
    child.append(str(capio.script("import sys\nprint(open(sys.argv[1]).read(), flush=True)\n")))
    child.append(str(capio.dir / "f"))
    step = capio.step(
        "producer",
        """
        import subprocess, sys
        with open("f", "w") as f:
            f.write("seen from /")
        subprocess.run(sys.argv[1:], cwd="/", check=True)
        """,
        *child,
        env={"CAPIO_STORE": "../relative-store"},
    )
    step.expect("seen from /")
    step.finish()
    assert capio.wait_for_server_end()


def test_store_directory_is_made(capio: Workflow) -> None:
    place = capio.tmp_path / "not" / "there" / "yet"
    step = capio.step("app", "print('up', flush=True)\ninput()\n", env={"CAPIO_STORE": str(place)})
    step.expect("up")
    for directory in (place, place.parent, place.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700
    step.send()
    step.finish()
    assert capio.wait_for_server_end()
    assert not list(place.iterdir())


def test_store_directory_that_cannot_be_made(capio: Workflow) -> None:
    (capio.tmp_path / "file").write_text("")
    place = capio.tmp_path / "file" / "store"
    step = capio.run("app", "print('never')\n", status=1, env={"CAPIO_STORE": str(place)})
    assert step.stdout == ""
    assert f"cannot make the store directory {place}" in step.stderr
    assert "set CAPIO_STORE" in step.stderr
    assert "Traceback" not in step.stderr


def test_full_path_is_left_alone(capio: Workflow) -> None:
    """Attaching changes no variable that need not be changed."""
    text = """
        import os
        from pycapio import CapioContext
        before = dict(os.environ)
        with CapioContext(capio_dir=DIR, workflow_name=WF, await_server_timeout_seconds=60):
            print(dict(os.environ) == before)
    """
    assert capio.python(text).finish().stdout == "True\n"
