"""pycapio-cl, over a corpus of CAPIO-CL files: what it prints, and its exit status.

Beside every file of valid/ and invalid/ is what `check` says: its errors and warnings first (on
stderr), then its table. PYCAPIO_TEST_REWRITE=1 writes them anew, to be read before they are kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycapio import cl
from workflows import Workflow

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.json"))
INVALID = sorted((HERE / "invalid").glob("*.json"))
MINIMAL = '{"name": "w", "IO_Graph": []}'


def name_of(path: Path) -> str:
    return path.stem


def check(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    monkeypatch.chdir(file.parent)
    status = cl.main(["check", file.name, "--capio-dir", "/data/run"])
    said = capsys.readouterr()
    return status, said.err, said.out


def compare(file: Path, said: str) -> None:
    expected = file.with_suffix(".txt")
    if os.environ.get("PYCAPIO_TEST_REWRITE"):
        expected.write_text(said)
    assert said == expected.read_text()


@pytest.mark.parametrize("file", VALID, ids=name_of)
def test_valid_files(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, err, out = check(file, capsys, monkeypatch)
    compare(file, err + out)
    assert status == 0
    assert all(line.startswith("pycapio-cl: warning: ") for line in err.splitlines())
    assert out.startswith("workflow ")


@pytest.mark.parametrize("file", INVALID, ids=name_of)
def test_invalid_files(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, err, out = check(file, capsys, monkeypatch)
    compare(file, err)
    assert (status, out) == (1, "")
    *lines, last = err.splitlines()
    errors = [line for line in lines if line.startswith(f"pycapio-cl: error: {file.name}: line ")]
    assert last == f"pycapio-cl: {file.name} has {len(errors)} error" + "s" * (len(errors) > 1)


def test_the_corpus_is_whole() -> None:
    """No expectation without its file."""
    for kind in ("valid", "invalid"):
        files = {path.stem for path in (HERE / kind).iterdir() if path.suffix != ".toml"}
        assert files == {path.stem for path in (HERE / kind).glob("*.json")}


@pytest.mark.parametrize("kind", ["dot", "mermaid"])
def test_graph(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE / "graphs")
    assert cl.main(["graph", "workflow.json", "--format", kind]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    expected = HERE / "graphs" / f"workflow.{kind}"
    if os.environ.get("PYCAPIO_TEST_REWRITE"):
        expected.write_text(said.out)
    assert said.out == expected.read_text()


def test_graph_of_a_file_with_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE / "invalid")
    assert cl.main(["graph", "mistyped.json"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and 'did you mean "committed"?' in said.err


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the command is missing: check or graph (see pycapio-cl --help)"),
        (["chekc", "f"], "there is no command chekc; did you mean check?"),
        (["x"], "there is no command x; it may be check or graph"),
        (["check"], "the following arguments are required: FILE (see pycapio-cl check --help)"),
        (["check", ""], "the name of the file is empty"),
        (
            ["check", "no/such"],
            "cannot read the CAPIO-CL file 'no/such': No such file or directory",
        ),
        (["graph", "/"], "cannot read the CAPIO-CL file '/': Is a directory"),
        (["check", "f", "--capio-dir", ""], "--capio-dir is empty"),
        (["check", "f", "g"], "unrecognized arguments: g (see pycapio-cl --help)"),
        (["check", "f", "--format", "dot"], "unrecognized arguments: --format dot"),
        (["--capio", "d", "check", "f"], "unrecognized arguments: --capio"),
        (["graph", "f", "--format", "svg"], "argument --format: invalid choice: 'svg'"),
    ],
)
def test_wrong_command_lines(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cl.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"pycapio-cl: {said}") or "--capio" in words
    assert captured.err.count("\n") == 1


def test_where_names_are_taken_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--capio-dir, by both of its names; $CAPIO_DIR; --resolve-prefix."""
    real = tmp_path / "real"
    real.mkdir()
    link = tmp_path / "link"
    link.symlink_to(real)
    file = tmp_path / "f.json"
    step = {"name": "a", "output_stream": [f"{link}/1", f"{real}/2", "3"]}
    file.write_text(json.dumps({"name": "w", "IO_Graph": [step]}))

    def paths(*options: str) -> list[str]:
        assert cl.main(["check", str(file), *options]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return [line.split()[0] for line in said.out.splitlines()[2:]]

    assert paths("--capio-dir", str(link)) == ["1", "2", "3"]
    assert paths("--capio-dir", str(link), "--resolve-prefix", "sub") == ["1", "2", "sub/3"]
    monkeypatch.setenv("CAPIO_DIR", str(link))
    assert paths(f"--resolve-prefix={real}/deep") == ["1", "2", "deep/3"]


def test_as_a_command(tmp_path: Path) -> None:
    """As a process: nothing but the text on stdout, the exit status, a reader that goes away."""
    file = tmp_path / "f.json"
    file.write_text(MINIMAL)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pycapio.cl", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    shown = run("check", "f.json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == "workflow w, CAPIO-CL 1; steps: none\nit names no file\n"
    file.write_text("[")
    assert run("graph", "f.json").returncode == 1
    assert run("graph").returncode == 2
    assert "check" in run("--help").stdout

    file.write_text(MINIMAL)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pycapio.cl", "check", "f.json"]
    closed = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (0, "")


def test_names_that_are_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = os.fsencode(tmp_path) + b"/caf\xe9.json"
    Path(os.fsdecode(file)).write_text(MINIMAL)
    assert cl.main(["check", os.fsdecode(file)]) == 0
    assert capsys.readouterr().out.startswith("workflow w")


def test_resolve_prefix_of_the_launcher(capio: Workflow) -> None:
    """Names in the file start there; the workflow's processes agree."""
    capio.pair(["f"], committed="on_close")
    (capio.dir / "results").mkdir()
    options = ["--resolve-prefix", "results"]
    consumer = capio.step(
        "consumer",
        "print(open('results/f').read())\ntry: open('f')\nexcept OSError: print('no other')\n",
        options=options,
        env={"CAPIO_WAIT_WARN": "0.05"},
    )
    consumer.expect_error("waiting .*/results/f to exist")
    capio.run("producer", "open('results/f', 'w').write('x')\n", options=options)
    consumer.expect("x", "no other")
    consumer.finish()
