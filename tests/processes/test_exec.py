"""os.exec*: a process that becomes another program is what it was until that ends."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from workflows import READ_ALL, SAYS_SO, Workflow

# Waits for a line, then does what it was asked to.
SECOND = """
import os, sys
print("second", flush=True)
sys.stdin.readline()
exec(sys.argv[1])
"""
PROGRAMS = {
    "python": "os.execv(sys.executable, [sys.executable, 'second.py', code])",
    "python by a shell": "os.execlp('sh', 'sh', '-c', 'exec \"$0\" second.py \"$1\"', "
    "sys.executable, code)",
    "python twice": "os.execv(sys.executable, [sys.executable, '-c', 'import os, sys;"
    "os.execve(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)', 'second.py', code])",
    "sh": "os.execvp('sh', ['sh', '-c', 'echo second; read x'])",
    "script of the store": "open('run.sh', 'w').write('#!/bin/sh\\necho second\\nread x\\n');"
    "os.chmod('run.sh', 0o755); os.execl('./run.sh', 'run.sh')",
    "python that is no client": "os.execv(sys.executable, [sys.executable, '-I', '-c', "
    "'print(\"second\", flush=True); input()'])",
}


def becoming(program: str, code: str = "", before: str = "") -> str:
    return f"""
import os, sys
code = {code!r}
open("second.py", "w").write({SECOND!r})
with open("f", "w") as f:
    f.write("by the first")
{before}
{PROGRAMS[program]}
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_goes_on_until_the_program_ends(capio: Workflow, program: str) -> None:
    capio.pair(["f"], committed="on_termination")
    producer = capio.step("producer", becoming(program))
    producer.expect("second")
    capio.completes_on_send(producer, {"f": "by the first"}, ".*app 'producer' is running as pid")
    producer.finish()


def test_one_process_of_several(capio: Workflow) -> None:
    """It is counted once."""
    capio.pair(["f"], committed="on_termination")
    env = {"CAPIO_APP_PROCS": "2"}
    first = capio.step("producer", becoming("python"), env=env)
    first.expect("second")
    first.send()
    first.finish()
    consumer = capio.step("consumer", READ_ALL, "f", env=SAYS_SO)
    consumer.expect_error("1 of its 2 processes")
    capio.run("producer", "open('g', 'w').close()\n", env=env)
    consumer.expect("by the first")
    consumer.finish()


def test_what_the_second_writes(capio: Workflow) -> None:
    """Files of both are the app's; it reads its own without waiting."""
    capio.pair(["f", "g"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f", "g")
    code = "open('g', 'w').write(open('f').read() + ' and the second')"
    producer = capio.step("producer", becoming("python", code))
    producer.expect("second")
    producer.send()
    producer.finish()
    consumer.expect("by the first", "by the first and the second")
    consumer.finish()


ENDS = {
    "pass": (0, ""),
    "sys.exit(3)": (3, "ended with an error"),
    "1 / 0": (1, "ended with an error"),
    "os._exit(4)": (4, "ended with an error"),
    "os.kill(os.getpid(), 9)": (-9, "died before the file was complete"),
    "os.kill(os.getpid(), 15)": (-15, "died before the file was complete"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("program", ["python", "python by a shell"])
def test_how_the_second_ends(capio: Workflow, program: str, end: str) -> None:
    status, sentence = ENDS[end]
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    producer = capio.step("producer", becoming(program, end))
    producer.expect("second")
    producer.send()
    producer.finish(status)
    line = consumer.line()
    if status:
        assert line.startswith("f 130") and sentence in line and f"pid {producer.pid}" in line
    else:
        assert line == "by the first"
    consumer.finish()


def test_a_program_ends_well(capio: Workflow) -> None:
    """Of one that is not Python nobody hears how it ended."""
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    producer = capio.step("producer", becoming("sh"))
    producer.expect("second")
    producer.process.kill()
    producer.finish(-signal.SIGKILL)
    consumer.expect("by the first")
    consumer.finish()


# ---- open files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["python", "sh"])
def test_closed_by_exec(capio: Workflow, program: str) -> None:
    """Descriptors that are not inheritable: exec closes them, which counts."""
    capio.pair(["g", "h"], committed="on_close")
    producer = capio.step(
        "producer",
        becoming(
            program,
            before="g = open('g', 'w'); g.write('left open')\n"
            "h = os.open('h', os.O_RDWR | os.O_CREAT); os.write(h, b'a descriptor')",
        ),
    )
    producer.expect("second")
    capio.run("consumer", READ_ALL, "g", "h").expect("left open", "a descriptor")
    producer.send()
    producer.finish()


@pytest.mark.parametrize("program", ["python", "sh"])
def test_closes_are_counted(capio: Workflow, program: str) -> None:
    """exec is a close each of two open files, and no more."""
    capio.pair(["g"], committed="on_close:3")
    producer = capio.step(
        "producer",
        becoming(program, before="g = [open('g', 'a') for _ in range(2)]; g[0].write('1');") + "\n",
    )
    producer.expect("second")
    consumer = capio.step("consumer", READ_ALL, "g", env=SAYS_SO)
    consumer.expect_error("2 of 3 closes have come")
    capio.run("producer", "open('g', 'a').write('2')\n")
    consumer.expect("12")
    consumer.finish()
    producer.send()
    producer.finish()


WRITERS = {
    "python": "os.execv(sys.executable, [sys.executable, '-c', "
    '\'import sys; print("from the program", flush=True); sys.stdin.readline(); print("end")\'])',
    "sh": "os.execlp('sh', 'sh', '-c', 'echo from the program; read x; echo end')",
}


@pytest.mark.parametrize("program", WRITERS)
def test_left_open_by_exec(capio: Workflow, program: str) -> None:
    """What is inherited can be written, is read as it grows, and is complete when it is closed."""
    capio.pair(["log"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer", "for line in open('log'): print(line, end='', flush=True)\nprint('over')\n"
    )
    producer = capio.step(
        "producer",
        f"""
        import os, sys
        with open("log", "w") as log:
            print("from the step", file=log, flush=True)
            os.dup2(log.fileno(), 1)
        {WRITERS[program]}
        """,
    )
    consumer.expect("from the step", "from the program")
    producer.send()
    consumer.expect("end", "over")
    consumer.finish()
    producer.finish()


@pytest.mark.parametrize("how", ["inheritable", "pass"])
def test_descriptor_by_number(capio: Workflow, how: str) -> None:
    """The next Python closes a descriptor that it has been left: that completes the file."""
    capio.pair(["g"], committed="on_close")
    producer = capio.step(
        "producer",
        f"""
        import os, sys
        g = os.open("g", os.O_WRONLY | os.O_CREAT)
        os.write(g, b"first ")
        if {how == "inheritable"}:
            os.set_inheritable(g, True)
        else:
            g = os.dup2(g, 50)
        code = (
            f"import os, sys; os.write({{g}}, b'second'); os.close({{g}});"
            "print('closed', flush=True); sys.stdin.readline()"
        )
        os.execv(sys.executable, [sys.executable, "-c", code])
        """,
    )
    producer.expect("closed")
    capio.run("consumer", READ_ALL, "g").expect("first second")
    producer.send()
    producer.finish()


def test_killed_with_an_inherited_file(capio: Workflow) -> None:
    """What the next Python has open for writing fails with it."""
    capio.pair(["log", "g"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        f"""
        import os, sys
        g = open("g", "w")
        log = open("log", "w")
        os.dup2(log.fileno(), 1)
        log.close()
        {WRITERS["python"]}
        """,
    )
    consumer = capio.step(
        "consumer", "f = open('log')\nprint(f.readline(), flush=True)\nf.read()\n"
    )
    consumer.expect("from the program")
    capio.run("consumer", READ_ALL, "g").expect("")  # closed by exec
    producer.process.kill()
    producer.finish(-9)
    consumer.expect_error("EOWNERDEAD|Errno 130")
    consumer.finish(1)


# ---- an exec that fails --------------------------------------------------------------------------

FAILING = {
    "ENOENT": "os.execv('./no-such-program', ['x'])",
    "ENOENT of execvp": "os.execvp('no-such-program', ['x'])",
    "EACCES": "os.chmod('program', 0o644); os.execv('./program', ['x'])",
    "ENOEXEC": "os.execv('./program', ['x'])",
    "E2BIG": "os.execve('./program', ['x'], {'X': 'x' * (1 << 26)})",
    "TypeError": "os.execv('./program', 5)",
    "ValueError": "os.execv('./program', [])",
}


@pytest.mark.parametrize("why", FAILING)
def test_exec_that_fails(capio: Workflow, why: str) -> None:
    """Everything is as it was: files are open, and the step has not ended."""
    capio.pair(["g", "f"], committed="on_close")
    producer = capio.step(
        "producer",
        f"""
        import errno, os, sys
        with open("program", "w") as f:
            f.write("no program")
        os.chmod("program", 0o755)
        g = open("g", "w")
        g.write("before ")
        h = os.open("h", os.O_RDWR | os.O_CREAT)
        os.set_inheritable(h, True)
        try:
            {FAILING[why]}
        except (OSError, TypeError, ValueError) as error:
            print(errno.errorcode[error.errno] if isinstance(error, OSError) else
                  type(error).__name__, flush=True)
        sys.stdin.readline()
        assert not [name for name in os.environ if "HANDOVER" in name]
        assert os.write(h, b"x") == 1
        g.write("after")
        g.close()
        with open("f", "w") as f:
            f.write("on it goes")
        sys.stdin.readline()
        """,
    )
    producer.expect(why.split()[0])
    capio.completes_on_send(producer, {"g": "before after", "f": "on it goes"})
    producer.send()
    producer.finish()


# ---- children ------------------------------------------------------------------------------------


@pytest.mark.parametrize("touched", [True, False])
@pytest.mark.parametrize("program", ["python", "sh"])
def test_fork_and_exec(capio: Workflow, program: str, touched: bool) -> None:
    """The child is a process of the app to the program's end, if it was a client before."""
    capio.pair(["f", "g"], committed="on_termination")
    before = "open('g', 'w').write('by the child');" if touched else ""
    producer = capio.step(
        "producer",
        becoming(program, "pass" if touched else "open('g', 'w').write('by the child')").replace(
            f"\n{PROGRAMS[program]}",
            f"\npid = os.fork()\nif not pid:\n    {before}{PROGRAMS[program]}",
        )
        + "print(os.waitpid(pid, 0)[1], flush=True)\n",
    )
    producer.expect("second")
    written = ["g"] if touched or program == "python" else []
    contents = {"f": "by the first", **dict.fromkeys(written, "by the child")}
    capio.completes_on_send(producer, contents)
    producer.expect("0")
    producer.finish()


def test_child_that_outlives_the_step(capio: Workflow) -> None:
    """A child by fork that was a client, now another program, keeps the app from ending."""
    capio.pair(["f", "g"], committed="on_termination")
    producer = capio.step(
        "producer",
        """
        import os, sys
        with open("f", "w") as f:
            f.write("by the step")
        if os.fork() == 0:
            with open("g", "w") as g:
                g.write("by the child")
            os.execlp("sh", "sh", "-c", "echo second; read x")
        """,
    )
    producer.expect("second")
    producer.process.wait(60)
    capio.completes_on_send(producer, {"f": "by the step", "g": "by the child"})
    producer.finish()


@pytest.mark.parametrize("close_fds", [True, False])
def test_preexec_fn(capio: Workflow, close_fds: bool) -> None:
    """What it writes before the program begins is good; what it leaves open, the program writes."""
    capio.pair(["f", "g"], committed="on_close")
    consumer = capio.step("consumer", READ_ALL, "f", "g")
    capio.run(
        "producer",
        f"""
        import os, subprocess
        def before():
            with open("f", "w") as f:
                f.write("before the program")
            os.dup2(os.open("g", os.O_WRONLY | os.O_CREAT), 1)
        subprocess.run(["echo", "the program"], preexec_fn=before, close_fds={close_fds})
        """,
    )
    consumer.expect("before the program", "the program")
    consumer.finish()


# ---- other ways to run ---------------------------------------------------------------------------


def test_the_next_step(capio: Workflow) -> None:
    """A step that becomes another step has ended."""
    capio.pair(["f"], committed="on_termination", producer="first", consumer="next")
    script = capio.script("print(open('f').read())\n")
    command = [sys.executable, "-m", "pycapio", *capio.options("next"), str(script)]
    capio.run(
        "first",
        f"""
        import os
        with open("f", "w") as f:
            f.write("by the first")
        os.execv({sys.executable!r}, {command!r})
        """,
    ).expect("by the first")


def test_the_same_step(capio: Workflow) -> None:
    """A step that starts itself anew, by the launcher, has not ended in between."""
    capio.pair(["f"], committed="on_termination")
    script = capio.script("import sys\nprint('second', flush=True)\nsys.stdin.readline()\n")
    command = [sys.executable, "-m", "pycapio", *capio.options("producer"), str(script)]
    producer = capio.step(
        "producer",
        f"""
        import os
        with open("f", "w") as f:
            f.write("by the first")
        os.execv({sys.executable!r}, {command!r})
        """,
    )
    producer.expect("second")
    capio.completes_on_send(producer, {"f": "by the first"})
    producer.finish()


def test_without_interception_of_children(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    producer = capio.step(
        "producer",
        """
        import os, sys
        with open("f", "w") as f:
            f.write("by the first")
        code = "import sys; print('_pycapio_gates' in sys.modules, flush=True); input()"
        os.execv(sys.executable, [sys.executable, "-c", code])
        """,
        options=["--no-children"],
    )
    producer.expect("False")
    capio.completes_on_send(producer, {"f": "by the first"})
    producer.finish()


def test_from_a_decorated_function(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    producer = capio.python(
        """
        import os, sys
        from pycapio import CapioContext

        @CapioContext(capio_dir=DIR, workflow_name=WF, app_name="producer",
                      capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60)
        def main():
            with open("f", "w") as f:
                f.write("by the first")
            os.execv(sys.executable, [sys.executable, "-c", "print('second', flush=True); input()"])

        main()
        """
    )
    producer.expect("second")
    capio.completes_on_send(producer, {"f": "by the first"})
    producer.finish()


def test_environment_shows_nothing(capio: Workflow) -> None:
    capio.run(
        "step",
        """
        import os, sys
        open("f", "w").close()
        code = (
            "import os, subprocess, sys;"
            "print([name for name in os.environ if 'HANDOVER' in name], flush=True);"
            "subprocess.run(['sh', '-c', 'env | grep -c HANDOVER'])"
        )
        os.execv(sys.executable, [sys.executable, "-c", code])
        """,
    ).expect("[]", "0")


@pytest.mark.parametrize("program", ["python", "sh"])
def test_server_killed_meanwhile(capio: Workflow, program: str) -> None:
    """The next one finds the process, which is another program by then."""
    capio.pair(["f"], committed="on_termination")
    producer = capio.step("producer", becoming(program))
    producer.expect("second")
    os.kill(capio.server(), signal.SIGKILL)
    capio.completes_on_send(producer, {"f": "by the first"})
    producer.finish()
