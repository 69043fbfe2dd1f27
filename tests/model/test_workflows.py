"""Random workflows, in batch and under pycapio: every step sees the same, and the same is left.

CAPIO_TEST_EXAMPLES=N tries that many of them (25 by default); CAPIO_TEST_SHRINK=1 looks for the
smallest workflow that fails.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, note, settings

import driver
from plans import Plan, plans
from workflows import Workflow

EXAMPLES = int(os.environ.get("CAPIO_TEST_EXAMPLES") or 25)

# A plan that hangs takes the time limit for every try.
SHRINK = bool(os.environ.get("CAPIO_TEST_SHRINK"))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new directory for every example."""
    base = tmp_path_factory.mktemp("model")
    return (base / str(number) for number in itertools.count())


def content_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".capio" not in path.parts
    }


def in_batch(plan: Plan, root: Path) -> list[Any]:
    """Every step's view, one after the other in a plain directory."""
    root.mkdir()
    for name, text in plan.inputs.items():
        (root / name).write_text(text)
    views = [driver.run(step, str(root)) for step in plan.steps]
    result: list[Any] = json.loads(json.dumps(views))
    return result


def concurrently(plan: Plan, workflow: Workflow) -> list[Any]:
    """Every step's view, as processes of one workflow."""
    for name, text in plan.inputs.items():
        (workflow.dir / name).write_text(text)
    rest = {key: plan.config[key] for key in ("permanent", "exclude")}
    workflow.config(plan.config["graph"], **rest)
    tokens = workflow.tmp_path / "tokens"
    tokens.mkdir()
    held = []
    for token in plan.tokens:
        os.mkfifo(tokens / token)
        # Keeps what was signalled before anybody waits.
        held.append(os.open(tokens / token, os.O_RDWR))
    try:
        steps = []
        for number, (actions, how) in enumerate(zip(plan.steps, plan.how, strict=True)):
            app, file = f"s{number}", workflow.tmp_path / f"s{number}.json"
            context = {
                "capio_dir": str(workflow.dir),
                "app_name": app,
                "workflow_name": workflow.name,
                "capio_cl_configuration_file": str(workflow.config_file),
                "await_server_timeout_seconds": 60,
            }
            file.write_text(json.dumps({"actions": actions, "root": "", "context": context}))
            command: list[Any] = [sys.executable]
            if how == "launcher":
                command += ["-m", "pycapio", *workflow.options(app)]
            command.append(driver.__file__)
            if how == "context":
                command.append("--context")
            command += [file, tokens, workflow.tmp_path / f"s{number}.views"]
            steps.append(workflow.start(command, env={"CAPIO_WAIT_WARN": "5"}))
        for step in steps:
            step.finish()
    finally:
        for fd in held:
            os.close(fd)
    return [
        json.loads((workflow.tmp_path / f"s{number}.views").read_text())
        for number in range(len(plan.steps))
    ]


# Each of them has a limit of its own for every step.
@pytest.mark.timeout(120 + 60 * EXAMPLES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # The same ones each time, unless a number of them is asked for: then it is a search.
    derandomize="CAPIO_TEST_EXAMPLES" not in os.environ,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase != Phase.shrink or SHRINK],
)
@given(plan=plans())
def test_same_as_batch(places: Iterator[Path], monkeypatch: Any, plan: Plan) -> None:
    base = next(places)
    base.mkdir()
    for name in list(os.environ):
        if name.startswith("CAPIO_") and not name.startswith("CAPIO_TEST_") and name != "CAPIO_LIB":
            monkeypatch.delenv(name)
    store = Path(os.environ.get("CAPIO_TEST_STORE") or base, f"store-{base.name}")
    store.mkdir(parents=True)
    expected = in_batch(plan, base / "batch")
    event(f"steps {len(plan.steps)}")
    (base / "capio").mkdir()
    workflow = Workflow(base / "capio", store)
    try:
        try:
            found = concurrently(plan, workflow)
        finally:
            workflow.close()
    except pytest.fail.Exception as error:
        raise AssertionError(f"{plan}\n{error}") from error.__context__
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        for wanted, seen in itertools.zip_longest(one, other):
            if wanted != seen:
                note(f"step s{number}: expected {wanted}, saw {seen}")
    assert found == expected
    batch = content_of(base / "batch")
    left = content_of(workflow.dir)
    assert set(plan.kept) <= set(left) <= {*plan.kept, *plan.spared}
    assert left == {name: batch[name] for name in left}
