"""What the user is told at the end of a run: the summary, outputs that nobody made, and, on the
way, inputs that nobody declared."""

from __future__ import annotations

import os
import re
import signal
import textwrap
from pathlib import Path

import pytest

from workflows import Step, Workflow

LOUD = ["--no-silent"]


def told(step: Step) -> list[str]:
    """The lines of stderr, without what differs from run to run."""
    text = re.sub(r"after [0-9.]+ s", "after N s", step.stderr)
    return [re.sub(r"\(pid [0-9]+\)", "(pid N)", line) for line in text.splitlines()]


# ---- the summary ----


def pipeline(capio: Workflow) -> None:
    capio.config(
        [
            {
                "name": "a",
                "input_stream": [],
                "output_stream": ["part*"],
                "streaming": [{"name": ["part*"], "committed": "on_close"}],
            },
            {"name": "b", "input_stream": ["part*"], "output_stream": ["out"]},
        ],
        permanent=["out"],
    )


def test_summary(capio: Workflow) -> None:
    pipeline(capio)
    first = capio.run("a", "for i in range(3): open(f'part{i}', 'w').write('x' * 1000)\n")
    last = capio.run(
        "b", "open('part1').read()\nopen('out', 'w').write('y' * 27_800)\n", options=LOUD
    )
    assert first.stderr == ""
    assert told(last) == [
        f"pycapio: workflow '{capio.name}' has ended after N s: 4 files, 30.8 kB; a and b ended",
        f"pycapio:   written to {capio.dir}: 1 file, 27.8 kB",
        "pycapio:   dropped, being neither permanent nor unread: 3 files, 3.0 kB",
    ]


def test_silent_is_the_default(capio: Workflow) -> None:
    pipeline(capio)
    capio.run("a", "for i in range(3): open(f'part{i}', 'w').write('x')\n", options=LOUD)
    last = capio.run("b", "open('part1').read()\nopen('out', 'w').write('y')\n")
    assert last.stderr == ""


def test_summary_of_failures(capio: Workflow) -> None:
    pipeline(capio)
    capio.run("a", "open('part1', 'w').close()\n")
    last = capio.run(
        "b", "open('out', 'w').write('half')\nraise SystemExit(3)\n", status=3, options=LOUD
    )
    kept = f"{capio.dir}/.capio/salvage/{capio.name}"
    assert told(last)[-3:] == [
        f"pycapio: workflow '{capio.name}' has ended after N s: 2 files, 4 bytes; "
        "a ended, b failed (pid N)",
        f"pycapio:   written to {capio.dir}: 1 file, 0 bytes",
        f"pycapio:   incomplete, kept in {kept}: 1 file, 4 bytes",
    ]
    assert Path(kept, "out").read_text() == "half"


def test_many_files_with_one_fate(capio: Workflow) -> None:
    """Told of one by one are only the first; the log has them all."""
    capio.config([{"name": "a", "input_stream": [], "output_stream": ["out*"]}], permanent=["out*"])
    step = capio.run(
        "a",
        "for i in range(12): open(f'out{i}', 'w').write('half')\nraise SystemExit(3)\n",
        status=3,
    )
    kept = f"{capio.dir}/.capio/salvage/{capio.name}"
    lines = [line for line in told(step) if "incomplete" in line]
    names = {line.split()[1] for line in lines[:5]}
    assert len(names) == 5 and names < {f"out{i}" for i in range(12)}
    assert lines[5:] == [f"pycapio: warning: 7 further files incomplete are kept in {kept}"]
    assert len(os.listdir(kept)) == 12


def test_summary_with_files_on_disk(capio: Workflow) -> None:
    """What was published by a rename counts, too."""
    capio.config(
        [{"name": "a", "input_stream": [], "output_stream": ["big", "tmp"]}],
        permanent=["big"],
        storage={"fs": ["big"]},
    )
    last = capio.run(
        "a", "for n in 'big', 'tmp': open(n, 'w').write('x' * 2_000_000)\n", options=LOUD
    )
    assert told(last) == [
        f"pycapio: workflow '{capio.name}' has ended after N s: 2 files, 4.0 MB; a ended",
        f"pycapio:   written to {capio.dir}: 1 file, 2.0 MB",
        "pycapio:   dropped, being neither permanent nor unread: 1 file, 2.0 MB",
    ]


INTERRUPTED = """
with open("whole", "wb") as f: f.write(bytes(50_000_000))
with open("half", "w") as f:
    f.write("begun")
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("launched", [True, False])
def test_interrupted_step_waits_for_its_own(capio: Workflow, launched: bool) -> None:
    """Python ends by SIGINT then, without exit handlers; all the same nothing comes after that."""
    graph = {"name": "a", "input_stream": [], "output_stream": ["whole", "half"]}
    config = capio.config(
        [{**graph, "streaming": [{"name": ["whole"], "committed": "on_close"}]}],
        permanent=["whole", "half"],
    )
    if launched:
        step = capio.step("a", INTERRUPTED)
    else:
        step = capio.python(
            "from pycapio import CapioContext\n"
            "with CapioContext(capio_dir=DIR, workflow_name=WF, app_name='a',\n"
            f"                  capio_cl_configuration_file={str(config)!r},\n"
            "                  await_server_timeout_seconds=60):\n"
            + textwrap.indent(INTERRUPTED, "    ")
        )
    step.finish(-signal.SIGINT)
    assert (capio.dir / "whole").stat().st_size == 50_000_000
    kept = f"{capio.dir}/.capio/salvage/{capio.name}/half"
    assert Path(kept).read_text() == "begun"
    assert told(step)[-1] == (
        "pycapio: half is incomplete (its producer failed): what was written of it is kept as "
        + kept
    )


def test_summary_from_a_context(capio: Workflow) -> None:
    step = capio.python(
        """
        from pycapio import CapioContext
        @CapioContext(capio_dir=DIR, workflow_name=WF, app_name="a", silent=False,
                      await_server_timeout_seconds=60)
        def work():
            with open("f", "w") as f:
                f.write("x")
        work()
        """
    ).finish()
    assert told(step) == [
        f"pycapio: workflow '{capio.name}' has ended after N s: 1 file, 1 byte; a ended",
        f"pycapio:   written to {capio.dir}: 1 file, 1 byte",
    ]


def test_what_cannot_be_written_stays(capio: Workflow) -> None:
    """Not dropped with the store: it is there, as the message says, until it can be written."""
    capio.leaves_server = True
    # Something that CAPIO does not see takes the name.
    last = capio.run(
        "a",
        "import ctypes\nopen('f', 'w').write('precious')\n"
        "for name in b'f', b'f/sub': ctypes.CDLL(None).mkdir(name, 0o777)\n",
        options=LOUD,
        env={"CAPIO_RUN_ID": "one"},
    )
    lines = told(last)
    where = re.fullmatch(
        rf"pycapio: cannot write {capio.dir}/f: Is a directory; its bytes stay in (.*): put that "
        "right and run a step of the workflow again, or copy them from there",
        lines[0],
    )
    assert where is not None
    assert Path(where[1]).read_text() == "precious"
    assert (
        f"pycapio:   could not be written, still in {Path(where[1]).parent.parent}: 1 file, "
        in (lines[-1])
    )
    assert capio.wait_for_server_end()
    os.rmdir(f"{capio.dir}/f/sub")
    os.rmdir(f"{capio.dir}/f")
    capio.run("a", "open('g', 'w')\n", env={"CAPIO_RUN_ID": "one"})
    assert Path(capio.dir, "f").read_text() == "precious"


# ---- outputs that nobody made ----


def test_outputs_not_made(capio: Workflow) -> None:
    capio.config(
        [
            {"name": "a", "input_stream": [], "output_stream": ["made", "not made", "d", "x/*"]},
            {"name": "b", "input_stream": [], "output_stream": ["of b", "gone", "moved", "*.tmp"]},
        ],
    )
    capio.run("a", "import os\nopen('made', 'w').close()\nos.mkdir('d')\n")
    last = capio.run(
        "b",
        """
        import os
        open("gone", "w").close()
        os.remove("gone")
        open("moved", "w").close()
        os.rename("moved", "elsewhere")
        raise SystemExit(1)
        """,
        status=1,
    )
    assert [line for line in told(last) if "nobody has made" in line] == [
        "pycapio: warning: declared as outputs, but nobody has made \"not made\" (app 'a'); "
        "\"x/*\" (app 'a'); \"of b\" (app 'b', which failed); \"*.tmp\" (app 'b', which failed)"
    ]


def test_outputs_of_other_programs_count_as_made(capio: Workflow) -> None:
    capio.config([{"name": "a", "input_stream": [], "output_stream": ["f", "plots/*.png"]}])
    last = capio.run(
        "a",
        "import os\nos.mkdir('plots')\nos.system('echo x >plots/1.png')\nos.system('echo y >f')\n",
    )
    assert last.stderr == ""


def test_nothing_is_missing_without_rules(capio: Workflow) -> None:
    assert capio.run("a", "print('no file at all')\n").stderr == ""


# ---- inputs that nobody declared ----

WRITES = "import os\nos.makedirs('d', exist_ok=True)\nfor n in {}: open(n, 'w').write('x')\n"


def test_inputs_that_no_rule_names(capio: Workflow) -> None:
    config = capio.pair(["f"], committed="on_close")
    capio.run("producer", WRITES.format(["f", "d/g"]))
    consumer = capio.run(
        "consumer", "for n in ['f', 'd/g', 'd/g']: print(open(n).read(), end='')\n"
    )
    assert consumer.stdout == "xxx\n"
    assert told(consumer) == [
        f"pycapio: warning: app 'consumer' reads {capio.dir}/d/g, which app 'producer' wrote and "
        "no rule names: had it not been there yet, 'consumer' would not have waited for it. Add "
        "\"d/g\" to the output_stream of 'producer' and to the input_stream of 'consumer' in "
        f"{config}"
    ]


def test_inputs_of_somebody_else(capio: Workflow) -> None:
    config = capio.config(
        [
            {"name": "producer", "input_stream": [], "output_stream": ["f"]},
            {"name": "consumer", "input_stream": [], "output_stream": []},
        ]
    )
    capio.run("producer", WRITES.format(["f"]))
    consumer = capio.run("consumer", "print(open('f').read())\n")
    assert told(consumer) == [
        f"pycapio: warning: app 'consumer' reads {capio.dir}/f, an output of app 'producer', "
        "without being declared to: it may be dropped before 'consumer' has come. Add \"f\" to "
        f"the input_stream of 'consumer' in {config}"
    ]


def test_mistyped_step(capio: Workflow) -> None:
    """There is no stream to which its files could be added."""
    capio.pair(["f"], committed="on_close")
    producer = capio.run("produce", WRITES.format(["f"]))
    assert told(producer) == [
        f"pycapio: warning: app 'produce' writes {capio.dir}/f, which the CAPIO-CL file does not "
        "name among its outputs: there is no step 'produce' in it (did you mean \"producer\"?)"
    ]
    consumer = capio.run("consumers", "open('f').read()\n")
    assert told(consumer) == [
        f"pycapio: warning: app 'consumers' reads {capio.dir}/f, an output of app 'produce', "
        "without being declared to: it may be dropped before 'consumers' has come. Look at the "
        "CAPIO-CL file: there is no step 'consumers' in it (did you mean \"consumer\"?)"
    ]
    capio.run("producer", "", options=["--resume"])
    capio.run("consumer", "")


@pytest.mark.parametrize("rules", [True, False])
def test_no_warning_about_what_is_in_order(capio: Workflow, rules: bool) -> None:
    """Ordinary input, one's own files, files that are not there; anything, without rules."""
    Path(capio.dir, "real").write_text("x")
    if rules:
        capio.pair(["f"], committed="on_close")
        capio.hold()
    else:
        capio.run("producer", "open('g', 'w').close()\n", options=["--keep-server"])
    capio.run("producer", WRITES.format(["f"]))
    consumer = capio.run(
        "consumer",
        f"""
        import os
        open("own", "w").close()
        for name in ["f", "real", "own"{"" if rules else ', "g"'}]:
            open(name).close()
        try: open("absent")
        except FileNotFoundError: pass
        """,
    )
    assert consumer.stderr == ""


def test_not_told_without_end(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    capio.run("producer", "for n in range(40): open(f'f{n or str()}', 'w').close()\n")
    consumer = capio.run("consumer", "for n in range(40): open(f'f{n or str()}').close()\n")
    assert len(told(consumer)) == 20
    assert told(consumer)[-1].endswith("(more such files are not told of)")
