"""Runs of a workflow one after the other: what the next one takes over, and what is rescued."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from workflows import Step, Workflow, wait_for_end

LONG = {"CAPIO_LINGER": "3600"}
SAYS_SO = {"CAPIO_WAIT_WARN": "0.2"}
WRITE = "open('f', 'w').write('made')\nprint('made', flush=True)\ninput()\n"
READ = """
    try:
        print(open("f").read(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def kill_server(capio: Workflow) -> None:
    server = capio.server()
    os.kill(server, signal.SIGKILL)
    assert wait_for_end(server)


def step_with_its_server_killed(capio: Workflow, env: Mapping[str, str]) -> None:
    """A job step whose end takes its server along: the file is complete, and nobody has read it."""
    capio.run("producer", "open('f', 'w').write('made')\n", env=LONG | dict(env))
    kill_server(capio)
    assert not (capio.dir / "f").exists()


def cut_off(capio: Workflow, env: Mapping[str, str]) -> None:
    """Server and clients die together, as a job that is cancelled does."""
    step = capio.step("producer", WRITE, env=LONG | dict(env))
    step.expect("made")
    kill_server(capio)
    step.kill()


def salvaged(capio: Workflow) -> Path:
    return capio.dir / ".capio" / "salvage" / capio.name / "f"


@pytest.mark.parametrize(
    "run",
    [{"CAPIO_RUN_ID": "a"}, {"SLURM_JOB_ID": "1"}, {"PBS_JOBID": "2.host"}, {}],
    ids=["run-id", "slurm", "pbs", "none"],
)
def test_next_step_sees_the_files_of_the_last(capio: Workflow, run: dict[str, str]) -> None:
    """Two job steps, each with its own launcher; the end of the first kills its server. Without any
    run id that holds for as long as the server would have waited."""
    capio.pair(["f"], committed="on_close")
    step_with_its_server_killed(capio, run)
    step = capio.run("consumer", READ, env=LONG | run)
    step.expect("made")
    assert "earlier run" not in step.stderr
    assert capio.wait_for_server_end()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"CAPIO_RUN_ID": "a"}, {"CAPIO_RUN_ID": "b"}),
        ({"SLURM_JOB_ID": "1"}, {"SLURM_JOB_ID": "2"}),
        ({"SLURM_JOB_ID": "1"}, {"SLURM_JOB_ID": "1", "SLURM_RESTART_COUNT": "1"}),
    ],
)
def test_another_run_is_salvaged(
    capio: Workflow, first: dict[str, str], second: dict[str, str]
) -> None:
    """Nothing of it counts as made in this run; what nobody had read is kept."""
    capio.pair(["f"], committed="on_close")
    step_with_its_server_killed(capio, first)
    consumer = capio.step("consumer", READ, env={"CAPIO_WAIT_WARN": "0.05"} | second)
    consumer.expect_error("waiting .* to exist")
    capio.run("producer", "open('f', 'w').write('new')\n", env=second)
    consumer.expect("new")
    consumer.finish()
    assert capio.wait_for_server_end()
    assert salvaged(capio).read_text() == "made"
    assert not (capio.dir / "f").exists()


def test_salvage_is_said(capio: Workflow) -> None:
    """Kept: permanent and not yet written, or unread. Dropped: the rest."""
    capio.config(
        [
            {
                "name": "producer",
                "output_stream": ["f", "kept", "read"],
                "streaming": [{"name": ["f", "kept", "read"], "committed": "on_close"}],
            },
            {"name": "consumer", "input_stream": ["f"], "output_stream": []},
            {"name": "reader", "input_stream": ["read"], "output_stream": []},
        ],
        permanent=["kept"],
    )
    env = {"CAPIO_RUN_ID": "first"} | LONG
    capio.run("producer", "for n in ('f', 'kept', 'read'): open(n, 'w').write(n)\n", env=env)
    capio.run("reader", "open('read').read()\n", env=env)
    assert (capio.dir / "kept").read_text() == "kept"
    kill_server(capio)
    capio.config_file = None
    step = capio.run("app", "print('next')\n", env={"CAPIO_RUN_ID": "second"})
    assert "earlier run of workflow" in step.stderr
    assert "CAPIO_RUN_ID=first" in step.stderr
    assert "1 of its files" in step.stderr
    assert f"{salvaged(capio).parent}: f\n" in step.stderr
    assert [path.name for path in salvaged(capio).parent.iterdir()] == ["f"]


def test_store_of_an_earlier_run_without_run_ids(capio: Workflow) -> None:
    """Its server would no longer have waited: the run is another one."""
    capio.pair(["f"], committed="on_close")
    cut_off(capio, {})
    consumer = capio.step(
        "consumer", READ, env={"CAPIO_WAIT_WARN": "0.05", "CAPIO_LINGER": "0.000001"}
    )
    consumer.expect_error("waiting .* to exist")
    assert "earlier run" not in consumer.stderr
    capio.run("producer", "open('f', 'w').write('new')\n")
    consumer.expect("new")
    consumer.finish()
    assert salvaged(capio).read_text() == "made"


def test_changed_capio_cl_file_begins_another_run(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    cut_off(capio, {"CAPIO_RUN_ID": "a"})
    capio.pair(["g"], committed="on_close")
    step = capio.run("consumer", READ, env={"CAPIO_RUN_ID": "a"})
    step.expect("FileNotFoundError")
    assert salvaged(capio).read_text() == "made"
    capio.leaves_server = True


def test_capio_dir_of_the_earlier_run_is_no_more(capio: Workflow) -> None:
    other = capio.tmp_path / "other"
    other.mkdir()
    first, capio.dir = capio.dir, other
    step = capio.step("app", WRITE, env=LONG)
    step.expect("made")
    kill_server(capio)
    step.kill()
    capio.dir = first
    shutil.rmtree(other)
    capio.run("app", "open('f', 'w').write('x')\n")
    assert capio.wait_for_server_end()
    assert (capio.dir / "f").read_text() == "x"


def make_anew(directory: Path) -> None:
    """As a user begins again."""
    shutil.rmtree(directory)
    directory.mkdir()


def test_capio_dir_is_made_anew_while_the_server_waits(capio: Workflow) -> None:
    """The server is the old directory's, and could write nothing into the new one."""
    capio.pair(["f"], committed="on_close", permanent=["out"])
    capio.run("producer", "open('f', 'w').write('old')\n", env=LONG)
    make_anew(capio.dir)
    consumer = capio.step(
        "consumer", "open('out', 'w').write(open('f').read())\n", env=LONG | SAYS_SO
    )
    told = consumer.expect_error("waiting .*/f to exist")
    assert "app 'producer' has not started" in told
    producer = capio.run("producer", "open('f', 'w').write('new')\n", env=LONG)
    consumer.finish()
    assert capio.wait_for_server_end()
    assert (capio.dir / "out").read_text() == "new"
    assert salvaged(capio).read_text() == "old"
    assert "an earlier run" in producer.stderr + consumer.stderr  # whoever ends first is told


def test_capio_dir_is_made_anew_while_a_step_runs(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    step = capio.step("producer", WRITE)
    step.expect("made")
    make_anew(capio.dir)
    refused = capio.run("consumer", READ, status=1, env={"CAPIO_WAIT_TIMEOUT": "20"})
    assert refused.stdout == ""
    assert (
        f"workflow '{capio.name}' is running on a CAPIO_DIR {capio.dir} that has been removed, or "
        "renamed, since; let its steps end first" in refused.stderr
    )
    step.send()
    assert "its bytes stay in" in step.finish().stderr
    assert capio.wait_for_server_end()
    capio.run("producer", "open('f', 'w').write('new')\n", env=LONG)
    capio.run("consumer", READ).expect("new")
    assert salvaged(capio).read_text() == "made"


DISK = """
    import os
    os.mkdir("sub")
    for name in "sub/kept", "unread", "read", "scratch":
        open(name, "w").write(name)
    print("made", flush=True)
    input()
"""


def on_disk(capio: Workflow) -> None:
    """Files of a run that was cut off lie on disk, in the hidden tree."""
    names = ["sub/kept", "unread", "read", "scratch"]
    capio.config(
        [
            {"name": "producer", "input_stream": [], "output_stream": names},
            {"name": "reader", "input_stream": ["read"], "output_stream": []},
            {"name": "never", "input_stream": ["unread"], "output_stream": []},
        ],
        permanent=["sub/*"],
        storage={"fs": names},
    )
    env = {"CAPIO_RUN_ID": "first"} | LONG
    step = capio.step("producer", DISK, env=env)
    step.expect("made")
    capio.run("reader", "import os\nos.path.exists('read')\n", env=env)
    kill_server(capio)
    step.kill()


def test_files_on_disk_are_salvaged_by_the_rules(capio: Workflow) -> None:
    """What is permanent and not in CAPIO_DIR yet, and what nobody has read; no more than that."""
    on_disk(capio)
    capio.config_file = None
    step = capio.run("app", "import os\nprint(os.listdir())\n", env={"CAPIO_RUN_ID": "second"})
    assert step.stdout == "[]\n"
    assert "2 of its files" in step.stderr
    kept = salvaged(capio).parent
    assert (kept / "sub/kept").read_text() == "sub/kept"
    assert (kept / "unread").read_text() == "unread"
    assert capio.wait_for_server_end()
    found = [str(path.relative_to(capio.dir)) for path in capio.dir.rglob("*") if path.is_file()]
    assert sorted(found) == [
        f".capio/salvage/{capio.name}/{name}" for name in ("sub/kept", "unread")
    ]


def test_server_killed_while_it_salvages_from_disk(capio: Workflow) -> None:
    """The store is set aside, and its tree, or not yet."""
    for apart in True, False:
        on_disk(capio)
        base = capio.store / f"capio-{os.getuid()}"
        control = re.search(r"control ([0-9]+)", beacon(capio).read_text())
        assert control is not None
        (base / capio.name).rename(base / ".old-1")
        hidden = capio.dir / ".capio" / capio.name
        if apart:
            (hidden / "tree").rename(hidden / f"old-{control[1]}")
        capio.config_file = None
        capio.run("app", "print('up')\n", env={"CAPIO_RUN_ID": "second"})
        assert capio.wait_for_server_end()
        kept = {path.name for path in (capio.dir / ".capio/salvage").rglob("*") if path.is_file()}
        # Where it cannot be said whose they are, all are kept.
        assert kept == ({"kept", "unread"} if apart else {"kept", "unread", "read", "scratch"})
        assert not hidden.exists()
        shutil.rmtree(capio.dir / ".capio")


def test_tree_put_apart_of_a_store_that_is_no_more(capio: Workflow) -> None:
    """The machine was started anew in the middle of a salvage."""
    tree = capio.dir / ".capio" / capio.name / "old-17"
    tree.mkdir(parents=True)
    (tree / "f").write_text("x")
    step = capio.run("app", "print('up')\n")
    (kept,) = (capio.dir / ".capio/salvage").iterdir()
    assert f"are kept in {kept}" in step.stderr
    assert (kept / "f").read_text() == "x"
    assert capio.wait_for_server_end()
    assert not tree.parent.exists()


def test_server_killed_while_it_salvages(capio: Workflow) -> None:
    """The next one finds what was set aside."""
    capio.pair(["f"], committed="on_close")
    cut_off(capio, {"CAPIO_RUN_ID": "a"})
    base = capio.store / f"capio-{os.getuid()}"
    (base / capio.name).rename(base / ".old-1")
    step = capio.run("consumer", READ.replace('"f"', '"g"'), env={"CAPIO_RUN_ID": "b"})
    step.expect("FileNotFoundError")
    assert salvaged(capio).read_text() == "made"
    assert "earlier run" in step.stderr
    capio.leaves_server = True


def test_live_clients_are_this_run(capio: Workflow) -> None:
    """Whoever still streams is joined, whatever its run is called."""
    capio.pair(["f"], committed="on_close")
    step = capio.step("producer", WRITE, env={"CAPIO_RUN_ID": "a"})
    step.expect("made")
    kill_server(capio)
    capio.run("consumer", READ, env={"CAPIO_RUN_ID": "b"}).expect("made")
    step.send()
    step.finish()


# ---- resume ----

RESUMED = """
    import os
    print(os.path.getsize("f"), open("f").read(), flush=True)
"""


def test_resume_is_a_sessions_own(capio: Workflow) -> None:
    """A step that resumes takes what an earlier run left; one that does not waits for its own."""
    capio.pair(["f"], committed="on_close")
    (capio.dir / "f").write_text("old")
    capio.run("consumer", RESUMED, options=["--resume"]).expect("3 old")
    consumer = capio.step("consumer", RESUMED, env={"CAPIO_WAIT_WARN": "0.05"})
    consumer.expect_error("waiting .* to exist")
    capio.run("producer", "open('f', 'w').write('newer')\n", options=["--resume"])
    consumer.expect("5 newer")
    consumer.finish()


def test_without_resume_the_message_says_what_is_there(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    (capio.dir / "f").write_text("old")
    capio.run("producer", "pass\n")
    step = capio.run("consumer", "try: open('f')\nexcept OSError as error: print(error)\n")
    assert "without making it" in step.stdout
    assert "--resume" in step.stdout


# ---- two stores ----


def beacon(capio: Workflow) -> Path:
    return capio.dir / ".capio" / capio.name / "where"


def test_second_store_is_an_error_that_names_both(capio: Workflow) -> None:
    """As in two containers, each with a /dev/shm of its own."""
    holder = capio.step("a", "print('up', flush=True)\ninput()\n")
    holder.expect("up")
    lines = dict(line.split(" ", 1) for line in beacon(capio).read_text().splitlines())
    assert lines["host"] == socket.gethostname()
    assert lines["pid"] == str(capio.server())
    other = capio.tmp_path / "other store"
    other.mkdir()
    step = capio.run("b", "print('never')\n", status=1, env={"CAPIO_STORE": str(other)})
    assert step.stdout == ""
    assert str(capio.store) in step.stderr
    assert str(other) in step.stderr
    assert socket.gethostname() in step.stderr
    assert not list(other.iterdir())
    holder.send()
    holder.finish()
    assert capio.wait_for_server_end()
    assert not (capio.dir / ".capio").exists()
    # Now it may.
    capio.run("b", "open('f', 'w').write('x')\n", env={"CAPIO_STORE": str(other)})
    assert capio.wait_for_server_end()
    assert (capio.dir / "f").read_text() == "x"
    assert not (capio.dir / ".capio").exists()


def test_beacon_of_a_killed_server(capio: Workflow) -> None:
    """It is no obstacle, neither to the same store nor to another."""
    cut_off(capio, {})
    assert beacon(capio).exists()
    other = capio.tmp_path / "other"
    capio.run("b", "print('up')\n", env={"CAPIO_STORE": str(other)}).expect("up")
    assert capio.wait_for_server_end()
    capio.run("producer", "print('up')\n", env={"CAPIO_RUN_ID": "x"}).expect("up")
    assert capio.wait_for_server_end()
    assert not list(capio.store.iterdir())


@pytest.mark.parametrize("age", [5, 3600])
def test_beacon_of_another_node(capio: Workflow, age: int) -> None:
    """No lock is seen; its last sign of life decides."""
    path = beacon(capio)
    path.parent.mkdir(parents=True)
    path.write_text("host other-node\nboot another\nplace another 1:2\nstore /dev/shm/s\npid 17\n")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    step: Step = capio.run("b", "print('up')\n", status=None)
    assert step.process.returncode == (1 if age == 5 else 0)
    assert ("other-node" in step.stderr) == (age == 5)
    assert step.stdout == ("" if age == 5 else "up\n")


def test_no_beacon_where_none_can_be(capio: Workflow) -> None:
    """Something else has the name: the workflow runs without one."""
    (capio.dir / ".capio").write_text("mine")
    capio.run("b", "open('f', 'w').write('x')\n")
    assert capio.wait_for_server_end()
    assert (capio.dir / "f").read_text() == "x"
    assert (capio.dir / ".capio").read_text() == "mine"


# ---- the end ----


def test_something_else_has_taken_the_name(capio: Workflow) -> None:
    """A file that is written back at the end is gone, and a link has its name: nothing to write,
    and nothing to try for ever."""
    capio.run(
        "app",
        """
        import os, pycapio
        with open("f", "w") as f:
            f.write("x")
        there = pycapio.resolve("f")
        os.remove("f")
        os.symlink("target", there)
        """,
    )
    assert capio.wait_for_server_end()
    assert os.readlink(capio.dir / "f") == "target"
