"""Steps of several processes that come and go at different times."""

from __future__ import annotations

import pytest

from workflows import SAYS_SO, Workflow, wait_for_end

APPEND = """
    import sys
    with open("f", "a") as f:
        f.write(sys.argv[1])
    print("wrote", flush=True)
    input()
"""
READ = """
    try:
        print(open("f").read(), flush=True)
    except OSError as error:
        print(type(error).__name__, error, flush=True)
"""


def ranks(variable: str, size: int) -> list[dict[str, str]]:
    """The environments of a step's processes as its launcher would make them."""
    rank = {
        "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
        "PMI_SIZE": "PMI_RANK",
        "SLURM_NTASKS": "SLURM_PROCID",
    }
    environments = [{variable: str(size)} for _ in range(size)]
    for number, environment in enumerate(environments):
        if variable in rank:
            environment[rank[variable]] = str(number)
        if variable == "SLURM_NTASKS":
            environment |= {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0"}
    return environments


def one_after_the_other(capio: Workflow, environments: list[dict[str, str]], text: str) -> None:
    for number, environment in enumerate(environments):
        step = capio.step("producer", APPEND, text[number], env=environment)
        step.expect("wrote")
        step.send()
        step.finish()


@pytest.mark.parametrize(
    "variable", ["CAPIO_APP_PROCS", "SLURM_NTASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"]
)
def test_termination_waits_for_processes_still_to_come(capio: Workflow, variable: str) -> None:
    """At no time are two of them alive; the file is complete when the third has ended."""
    capio.pair(["f"], committed="on_termination", mode="update")
    environments = ranks(variable, 3)
    run = {key: environments[0][key] for key in ("SLURM_JOB_ID",) if key in environments[0]}
    consumer = capio.step("consumer", READ, env=SAYS_SO | run)
    consumer.expect_error("has not started")
    one_after_the_other(capio, environments[:2], "ab")
    said = consumer.expect_error("is not complete")
    while "2 of its 3 processes" not in said:
        said = consumer.expect_error("is not complete")
    assert variable in said
    one_after_the_other(capio, environments[2:], "c")
    consumer.expect("abc")
    consumer.finish()


def test_path_waits_for_processes_still_to_come(capio: Workflow) -> None:
    """The second one makes the file; the end of the first is not the end of the step."""
    capio.pair(["f"], committed="on_close")
    first, second = ranks("CAPIO_APP_PROCS", 2)
    consumer = capio.step("consumer", READ, env=SAYS_SO)
    consumer.expect_error("waiting")
    capio.run("producer", "pass\n", env=first)
    consumer.expect_error("1 of its 2 processes")
    capio.run("producer", "open('f', 'w').write('made by the second')\n", env=second)
    consumer.expect("made by the second")
    consumer.finish()


def test_all_ended_without_making_it(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close")
    consumer = capio.step("consumer", READ)
    for environment in ranks("CAPIO_APP_PROCS", 2):
        capio.run("producer", "pass\n", env=environment)
    assert consumer.line().startswith("FileNotFoundError")
    consumer.finish()


def test_started_late_while_others_run(capio: Workflow) -> None:
    """Some end early, some start late, some overlap."""
    capio.pair(["f"], committed="on_termination")
    environments = ranks("PMI_SIZE", 4)
    consumer = capio.step("consumer", READ)
    early = capio.step("producer", APPEND, "1", env=environments[0])
    early.expect("wrote")
    long = capio.step("producer", APPEND, "2", env=environments[1])
    long.expect("wrote")
    early.send()
    early.finish()
    late = capio.step("producer", APPEND, "3", env=environments[2])
    late.expect("wrote")
    long.send()
    long.finish()
    late.send()
    late.finish()
    last = capio.step("producer", APPEND, "4", env=environments[3])
    last.expect("wrote")
    assert consumer.stdout == ""
    last.send()
    last.finish()
    consumer.expect("1234")
    consumer.finish()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_that_fails_fails_the_step(capio: Workflow, number: int) -> None:
    capio.pair(["f"], committed="on_termination")
    capio.leaves_server = True  # the failure ends the run, the ranks after it begin another
    consumer = capio.step("consumer", READ)
    for index, environment in enumerate(ranks("SLURM_NTASKS", 3)):
        text = "import os\nopen('f', 'a').write('x')\n"
        if index == number:
            text += "raise SystemExit(3)\n"
        step = capio.step("producer", text, env=environment | {"CAPIO_RUN_ID": "one"})
        step.finish(3 if index == number else 0)
    line = consumer.line()
    assert "Errno 130" in line and "'producer'" in line
    consumer.finish()


def test_failed_rank_run_again(capio: Workflow) -> None:
    """The same rank, come again, stands for itself: its first end no longer counts."""
    capio.pair(["f"], committed="on_termination")
    environments = ranks("PMI_SIZE", 2)
    capio.run("producer", "raise SystemExit(3)\n", env=environments[0], status=3)
    one_after_the_other(capio, environments, "ab")
    capio.run("consumer", READ).expect("ab")


def test_pool_workers_are_not_processes_of_the_step(capio: Workflow) -> None:
    capio.pair(["f", "g"], committed="on_termination")
    consumer = capio.step("consumer", READ, env=SAYS_SO)
    text = """
        import os, sys
        for _ in range(3):
            if (pid := os.fork()) == 0:
                with open("g", "a") as g:
                    g.write("x")
                os._exit(0)
            os.waitpid(pid, 0)
        with open("f", "a") as f:
            f.write(sys.argv[1])
    """
    first, second = ranks("CAPIO_APP_PROCS", 2)
    capio.run("producer", text, "1", env=first)
    consumer.expect_error("1 of its 2 processes")
    capio.run("producer", text, "2", env=second)
    consumer.expect("12")
    consumer.finish()


def test_step_run_again(capio: Workflow) -> None:
    """Once all have come and ended, the next one starts the step anew."""
    capio.pair(["f"], committed="on_termination")
    capio.hold()
    environments = ranks("PMI_SIZE", 2)
    one_after_the_other(capio, environments, "ab")
    capio.run("consumer", READ).expect("ab")
    capio.run("producer", "open('f', 'w').write('new')\n", env=environments[0])
    consumer = capio.step("consumer", READ, env=SAYS_SO)
    consumer.expect_error("1 of its 2 processes")
    capio.run("producer", "open('f', 'a').write('er')\n", env=environments[1])
    consumer.expect("newer")
    consumer.finish()


def test_those_who_never_come(capio: Workflow) -> None:
    """After CAPIO_LINGER what the others wrote is kept, whole, with a warning."""
    capio.pair(["f"], committed="on_termination")
    step = capio.run(
        "producer",
        "open('f', 'w').write('of the only one')\n",
        env={"CAPIO_APP_PROCS": "2", "CAPIO_LINGER": "0.5"},
    )
    assert wait_for_end(capio.server())
    assert (capio.dir / "f").read_text() == "of the only one"
    assert step.stdout == ""


def test_without_capio_cl_the_server_waits_for_them(capio: Workflow) -> None:
    for environment in ranks("CAPIO_APP_PROCS", 2):
        capio.run("app", "open('f', 'a').write('x')\n", env=environment)
    assert capio.wait_for_server_end()
    assert (capio.dir / "f").read_text() == "xx"


def test_batch_script_is_one_process(capio: Workflow) -> None:
    """SLURM_NTASKS is there in a batch script, too; srun says that this is one of so many."""
    capio.pair(["f"], committed="on_termination")
    job = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    consumer = capio.step("consumer", READ, env=job)
    capio.run("producer", "open('f', 'w').write('all')\n", env=job)
    consumer.expect("all")
    consumer.finish()


@pytest.mark.parametrize("value", ["0", "many", "-1", "1.5", "99999999999999999999"])
def test_bad_number(capio: Workflow, value: str) -> None:
    step = capio.run("app", "print('never')\n", status=2, env={"CAPIO_APP_PROCS": value})
    assert step.stdout == ""
    assert f"CAPIO_APP_PROCS='{value}' is no number of processes" in step.stderr
