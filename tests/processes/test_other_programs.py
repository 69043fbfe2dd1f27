"""Child programs that are no clients: what they find in CAPIO_DIR while they run, and not after."""

from __future__ import annotations

import os

import pytest

from workflows import Workflow

PREPARE = """
    import os, subprocess, sys
    os.makedirs("made/empty")
    with open("made/given", "w") as file:
        file.write("text")
"""


def run(capio: Workflow, text: str) -> None:
    capio.run("producer", PREPARE + text)
    links = [path for path in capio.dir.rglob("*") if path.is_symlink()]
    assert not [path for path in links if os.readlink(path).startswith(str(capio.store))]


@pytest.mark.parametrize(
    "options",
    [
        ["-I"],
        ["-E"],
        ["-S"],
        ["-bI"],
        ["-X", "faulthandler", "-I"],
        ["-Wignore", "-W", "ignore", "-sE"],
    ],
    ids=" ".join,
)
def test_a_python_that_ignores_the_environment(capio: Workflow, options: list[str]) -> None:
    run(
        capio,
        f"""
    program = "import sys; print(open(sys.argv[1]).read()); open(sys.argv[2], 'w').write('new')"
    command = [sys.executable, *{options!r}, "-c", program, "made/given", "made/empty/written"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert (done.stdout, done.stderr) == ("text\\n", ""), done
    assert open("made/empty/written").read() == "new"
    """,
    )


@pytest.mark.parametrize(
    "options", [["-X", "importtime=I"], ["-W", "ignore::ImportWarning", "-s"], ["-sc", "-I"]]
)
def test_options_that_only_look_so(capio: Workflow, options: list[str]) -> None:
    """A client: what it writes is nowhere but in the store."""
    if "-sc" not in options:
        options = [*options, "-c", "", "-I"]
    program = (
        "import os, sys; open('made/by_child', 'w').write('text'); os.rename('made/by_child', 'x')"
    )
    options[options.index("-I") - (1 if "" in options else 0)] = program
    run(
        capio,
        f"""
    done = subprocess.run([sys.executable, *{options!r}], text=True, capture_output=True)
    assert done.returncode == 0, done
    assert open("x").read() == "text"
    """,
    )


def test_a_directory_that_is_empty(capio: Workflow) -> None:
    run(
        capio,
        """
    assert subprocess.run(["ls", "-d", "made/empty"]).returncode == 0
    assert subprocess.run(["ls", os.path.abspath("made/empty")]).returncode == 0
    assert subprocess.run(["cp", "/etc/hostname", "made/empty/"]).returncode == 0
    assert os.listdir("made/empty") == ["hostname"]
    """,
    )


def test_absolute_paths_within_a_word(capio: Workflow) -> None:
    run(
        capio,
        """
    path = os.path.abspath("made/given")
    program = f"import tempfile; print(open({path!r}).read(), open('{path}').name == {path!r})"
    done = subprocess.run([sys.executable, "-I", "-c", program], text=True, capture_output=True)
    assert done.stdout == "text True\\n", done
    done = subprocess.run(["awk", f'BEGIN {{ getline < "{path}"; print }}'], capture_output=True)
    assert done.stdout == b"text\\n", done
    """,
    )


def test_links_of_the_store_that_lead_out(capio: Workflow) -> None:
    run(
        capio,
        """
    os.symlink("/bin/echo", "made/program")
    os.symlink("/etc/hostname", "made/out")
    assert subprocess.run(["made/program", "said"], capture_output=True).stdout == b"said\\n"
    hostname = open("/etc/hostname").read()
    for command in (["cat", "made/out"], ["cat", "out"]):
        cwd = None if command[1] == "made/out" else "made"
        done = subprocess.run(command, cwd=cwd, text=True, capture_output=True)
        assert done.stdout == hostname, done
    environment = {**os.environ, "PATH": os.path.abspath("made") + ":" + os.environ["PATH"]}
    done = subprocess.run(["program", "said"], env=environment, capture_output=True)
    assert done.stdout == b"said\\n", done
    """,
    )
