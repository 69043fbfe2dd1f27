"""Child processes that are Python: clients of the step that started them, however they began.

A child proves that it is intercepted by what only CAPIO can give it: a file that its parent has
written and that is in the store only, at a time when nothing has been written back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workflows import READ_ALL, SAYS_SO, Workflow

METHODS = ["fork", "spawn", "forkserver"]


# What every worker does: read what is in the store only, say where its own file lies.
WORK = """
import os, sys

def work(i):
    import pycapio
    with open("given") as f:
        given = f.read()
    with open(f"part{i}", "w") as f:
        f.write(f"{given} {i}")
    in_store = os.fspath(pycapio.resolve(f"part{i}")).startswith(os.environ["CAPIO_STORE"])
    return given == "to the workers" and in_store and os.listdir(".").count(f"part{i}") == 1
"""


def indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip(), "    ").strip()


USES = {
    "Process": """
        queue = context.SimpleQueue()
        workers = [context.Process(target=put, args=(queue, i)) for i in range(3)]
        for worker in workers:
            worker.start()
        results = [queue.get() for _ in workers]
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
    """,
    "Pool": """
        with context.Pool(2) as pool:
            results = pool.map(work, range(3))
    """,
    "ProcessPoolExecutor": """
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            results = list(pool.map(work, range(3)))
    """,
}


def launched(use: str, method: str) -> str:
    return f"""
import multiprocessing
{WORK}

def put(queue, i):
    queue.put(work(i))

def main(context):
    {indented(USES[use])}
    print(results, flush=True)

if __name__ == "__main__":
    with open("given", "w") as f:
        f.write("to the workers")
    main(multiprocessing.get_context("{method}"))
"""


def decorated(use: str, method: str, imported_before: bool) -> str:
    """Only main() is decorated: the workers run functions that know nothing of CAPIO."""
    early = "import multiprocessing, multiprocessing.process" if imported_before else ""
    return f"""
{early}
{WORK}

def put(queue, i):
    queue.put(work(i))

def main():
    import multiprocessing
    with open("given", "w") as f:
        f.write("to the workers")
    context = multiprocessing.get_context("{method}")
    {indented(USES[use])}
    print(results, flush=True)

if __name__ == "__main__":
    from pycapio import CapioContext
    CapioContext(
        capio_dir=DIR, workflow_name=WF, app_name="producer",
        capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60,
    )(main)()
    from multiprocessing import process
    print(process.BaseProcess.start.__code__.co_filename == process.__file__)
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("use", USES)
def test_workers_of_a_launched_script(capio: Workflow, use: str, method: str) -> None:
    capio.pair(["part*"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "part0", "part1", "part2")
    capio.run("producer", launched(use, method)).expect("[True, True, True]")
    consumer.expect(*(f"to the workers {i}" for i in range(3)))
    consumer.finish()


# How we find out about multiprocessing does not depend on what is used of it.
@pytest.mark.parametrize(
    ("use", "imported_before"),
    [*((use, False) for use in USES), ("Process", True)],
    ids=lambda value: {False: "late", True: "early"}.get(value, value),
)
@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_decorated_function(
    capio: Workflow, use: str, method: str, imported_before: bool
) -> None:
    capio.pair(["part*"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "part0", "part1", "part2")
    step = capio.python(decorated(use, method, imported_before))
    step.expect("[True, True, True]", "True")  # and what was hooked is given back
    step.finish()
    consumer.expect(*(f"to the workers {i}" for i in range(3)))
    consumer.finish()


def test_two_contexts_reach_the_workers(capio: Workflow) -> None:
    """A worker of a nested call is a client of both apps, the innermost one first."""
    capio.pair(["part"], committed="on_termination", producer="inner", consumer="reader")
    reader = capio.step("reader", READ_ALL, "part")
    capio.python(
        """
        import multiprocessing

        def work():
            with open("part", "w") as f:
                f.write("by the inner app")

        if __name__ == "__main__":
            from pycapio import CapioContext
            def context(app):
                return CapioContext(
                    capio_dir=DIR, workflow_name=WF, app_name=app,
                    capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60,
                )
            with context("outer"), context("inner"):
                worker = multiprocessing.get_context("spawn").Process(target=work)
                worker.start()
                worker.join()
                print(worker.exitcode)
        """
    ).finish()
    reader.expect("by the inner app")
    reader.finish()


# ---- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_terminated_by_its_parent(capio: Workflow, how: str, method: str) -> None:
    """No death of the step: what the worker had closed is good, what it had open fails."""
    capio.pair(["closed", "open", "later"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "closed", "open", "later")
    number = {"terminate": 15, "kill": 9}[how]
    capio.run(
        "producer",
        f"""
        import multiprocessing

        def work(connection):
            with open("closed", "w") as f:
                f.write("closed before")
            f = open("open", "w")
            f.write("half")
            f.flush()
            connection.send("ready")
            connection.recv()

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            ours, theirs = context.Pipe()
            child = context.Process(target=work, args=(theirs,))
            child.start()
            ours.recv()
            child.{how}()
            child.join()
            print(child.exitcode)
            with open("later", "w") as f:
                f.write("the step went on")
        """,
    ).expect(str(-number))
    consumer.expect("closed before")
    assert consumer.line().startswith("open 130 app 'producer'")
    consumer.expect("the step went on")
    consumer.finish()


@pytest.mark.parametrize("method", METHODS)
def test_worker_that_crashes_in_a_pool(capio: Workflow, method: str) -> None:
    """The executor is broken, the step handles it: only what the worker had open has failed."""
    capio.pair(["closed", "open", "later"], committed="on_close")
    consumer = capio.step("consumer", READ_ALL, "closed", "open", "later")
    capio.run(
        "producer",
        f"""
        import multiprocessing, os, signal
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        def work():
            with open("closed", "w") as f:
                f.write("closed before")
            f = open("open", "w")
            f.write("half")
            f.flush()
            os.kill(os.getpid(), signal.SIGSEGV)

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    pool.submit(work).result()
                except BrokenProcessPool:
                    print("broken")
            with open("later", "w") as f:
                f.write("the step went on")
        """,
    ).expect("broken")
    consumer.expect("closed before")
    assert consumer.line().startswith("open 130 app 'producer'")
    consumer.expect("the step went on")
    consumer.finish()


@pytest.mark.parametrize("status", [0, 3])
def test_os_exit_of_the_step_itself(capio: Workflow, status: int) -> None:
    """os._exit runs no exit handlers; its status says whether it is a good end."""
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        f"""
        import os
        with open("f", "w") as f:
            f.write("whole")
        os._exit({status})
        """,
        status=status,
    )
    if status == 0:
        consumer.expect("whole")
    else:
        assert "ended with an error" in consumer.line()
    consumer.finish()


def test_atexit_order(capio: Workflow) -> None:
    """Exit functions run in their usual order, with files that work; what they write arrives."""
    capio.pair(["log"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "log")
    capio.run(
        "producer",
        """
        import atexit, multiprocessing.util

        log = open("log", "w")
        multiprocessing.util.Finalize(None, lambda: log.write("finalizer "), exitpriority=10)
        atexit.register(lambda: log.write("first registered "))
        atexit.register(lambda: log.write("last registered "))
        """,
    )
    consumer.expect("last registered first registered finalizer ")
    consumer.finish()


def test_on_close_counts_over_processes(capio: Workflow) -> None:
    """on_close:3 is met by the third close, whichever process makes it."""
    capio.pair(["log"], committed="on_close:3")
    capio.hold()
    producer = capio.step(
        "producer",
        """
        import multiprocessing, os, subprocess, sys

        def add(text):
            with open("log", "a") as f:
                f.write(text)

        if __name__ == "__main__":
            add("script ")
            worker = multiprocessing.get_context("spawn").Process(target=add, args=("worker ",))
            worker.start()
            worker.join()
            print("two", flush=True)
            input()
            subprocess.run([sys.executable, "-c", "open('log', 'a').write('child')"], check=True)
        """,
    )
    producer.expect("two")
    consumer = capio.step("consumer", READ_ALL, "log", env=SAYS_SO)
    consumer.expect_error("waiting .*/log to be complete")
    producer.send()
    consumer.expect("script worker child")
    consumer.finish()
    producer.finish()


# ---- child Pythons of a launcher run -------------------------------------------------------------


def test_child_python(capio: Workflow) -> None:
    capio.pair(["back"], committed="on_close")
    consumer = capio.step("consumer", READ_ALL, "back")
    capio.run(
        "producer",
        """
        import os, subprocess, sys
        with open("given", "w") as f:
            f.write("for the child")
        code = "import os; open('back', 'w').write(open('given').read() + ' and back')"
        subprocess.run([sys.executable, "-c", code], check=True)
        print(open("back").read())
        print("CAPIO_CHILDREN" in os.environ, os.environ.get("PYTHONPATH"))
        """,
    ).expect("for the child and back", "False None")
    consumer.expect("for the child and back")
    consumer.finish()


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, 'child.py'], check=True)",
        "subprocess.run([sys.executable, 'child.py'], check=True, env={'CAPIO_STORE': store})",
        "subprocess.run([sys.executable, 'child.py'], check=True, env=dict(os.environ, X='1'))",
        "subprocess.run(f'{sys.executable} child.py', shell=True, check=True)",
        "os.system(f'{sys.executable} child.py')",
        "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, 'child.py'], os.environ), 0)",
        "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, 'child.py'])",
        "os.popen(f'{sys.executable} child.py').close()",
        "os.execv(sys.executable, [sys.executable, 'child.py'])",
        "os.execve(sys.executable, [sys.executable, 'child.py'], {'CAPIO_STORE': store})",
        "os.environ.update(PYTHONPATH='x'); "
        "subprocess.run([sys.executable, 'child.py'], check=True)",
    ],
)
def test_ways_to_start_a_python(capio: Workflow, start: str) -> None:
    (capio.dir / "child.py").write_text(
        "with open('given') as f, open('back', 'w') as g: g.write(f.read() + ' and back')\n"
    )
    capio.run(
        "step",
        f"""
        import os, subprocess, sys
        store = os.environ["CAPIO_STORE"]
        with open("given", "w") as f:
            f.write("given")
        assert not os.path.lexists(os.path.join("/proc/self/cwd", "given"))
        {start}
        """,
    )
    capio.run("later", READ_ALL, "back").expect("given and back")


def test_no_children(capio: Workflow) -> None:
    """The option turns it off: the child sees the directory as it is on disk."""
    capio.run(
        "step",
        """
        import os, subprocess, sys
        with open("given", "w") as f:
            f.write("x")
        code = "import sys; print('_pycapio_gates' in sys.modules, 'pycapio' in sys.modules)"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
        """,
        options=["--no-children"],
    ).expect("False False")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_no_children_of_multiprocessing(capio: Workflow, method: str) -> None:
    capio.run(
        "step",
        f"""
        import multiprocessing, sys

        def work():
            print("_pycapio_gates" in sys.modules, "pycapio" in sys.modules, flush=True)

        if __name__ == "__main__":
            worker = multiprocessing.get_context({method!r}).Process(target=work)
            worker.start()
            worker.join()
            print(worker.exitcode)
        """,
        options=["--no-children"],
    ).expect("False False", "0")


def test_gates_stay_shut_outside(capio: Workflow) -> None:
    """A child that never touches CAPIO_DIR does not load the library, nor become a client."""
    capio.run(
        "step",
        """
        import subprocess, sys
        code = (
            "import sys, os, pathlib, tempfile, shutil, glob, inspect, pickle;"
            "f = tempfile.NamedTemporaryFile(); pathlib.Path(f.name).write_text('x');"
            "assert open(f.name).read() == 'x' and os.path.exists(f.name);"
            "assert os.stat in os.supports_dir_fd and os.stat in os.supports_fd;"
            "assert str(inspect.signature(os.stat)) == "
            "'(path, *, dir_fd=None, follow_symlinks=True)', inspect.signature(os.stat);"
            "assert pickle.loads(pickle.dumps(os.stat)) is os.stat;"
            "assert repr(os.stat) == '<built-in function stat>';"
            "print('_pycapio_gates' in sys.modules, 'pycapio' in sys.modules)"
        )
        child = subprocess.run([sys.executable, "-c", code], cwd="/", stdout=-1, text=True)
        print(child.stdout.strip(), child.returncode)
        """,
    ).expect("True False 0")


def test_first_touch_from_many_threads(capio: Workflow) -> None:
    """Whoever comes while the gates are being opened waits, and is intercepted."""
    capio.pair(["f*"], committed="on_close", producer="other", consumer="step")
    other = capio.step(
        "other",
        "print('up', flush=True); input()\nfor i in range(8): open(f'f{i}', 'w').write(str(i))\n",
    )
    other.expect("up")
    step = capio.step(
        "step",
        """
        import subprocess, sys, textwrap
        code = textwrap.dedent('''
            from concurrent.futures import ThreadPoolExecutor
            from threading import Barrier
            together = Barrier(8)
            def read(i):
                together.wait()
                return open(f"f{i}").read()
            with ThreadPoolExecutor(8) as pool:
                print(list(pool.map(read, range(8))), flush=True)
        ''')
        subprocess.run([sys.executable, "-c", code], check=True)
        """,
        env=SAYS_SO,
    )
    step.expect_error("waiting .*/f")
    other.send()
    step.expect(str([str(i) for i in range(8)]))
    step.finish()
    other.finish()


def test_chain_of_sitecustomize(capio: Workflow, tmp_path: Path) -> None:
    """The sitecustomize that would have run without us runs, as the module of that name."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.mark = __file__\n")
    code = "import sys, sitecustomize; print(sys.mark == sitecustomize.__file__, len(sys.path))"
    env = {"PYTHONPATH": str(site)}
    plain = subprocess.run(
        [sys.executable, "-c", code], env={**capio.env, **env}, cwd="/", stdout=-1, text=True
    )
    capio.run(
        "step",
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {code!r}], cwd='/')\n",
        env=env,
    ).expect(plain.stdout.strip())


@pytest.mark.parametrize("failing", ["raise ValueError('x')", "import no_such_module"])
def test_next_sitecustomize_fails(capio: Workflow, tmp_path: Path, failing: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(failing + "\n")
    env = {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", "print('runs')"]
    plain = subprocess.run(
        command, env={**capio.env, **env}, cwd="/", capture_output=True, text=True
    )
    step = capio.run("step", f"import subprocess\nsubprocess.run({command!r}, cwd='/')\n", env=env)
    assert step.stdout == plain.stdout
    # The launcher's own start reports it once, the child once.
    assert step.stderr == 2 * plain.stderr


def test_helpers_of_multiprocessing_are_no_clients(capio: Workflow) -> None:
    """The resource tracker has no gates at all; a fork server never attaches itself."""
    capio.run(
        "step",
        """
        import multiprocessing, os, sys
        from multiprocessing import forkserver, resource_tracker

        def work():
            open("f", "w").close()

        if __name__ == "__main__":
            open("given", "w").close()
            context = multiprocessing.get_context("forkserver")
            child = context.Process(target=work)
            child.start()
            child.join()
            resource_tracker.ensure_running()
            server = forkserver._forkserver._forkserver_pid
            for pid in (server, resource_tracker._resource_tracker._pid):
                maps = open(f"/proc/{pid}/maps").read()
                print("python" in maps, "libcapio" in maps)
        """,
    ).expect("True False", "True False")


def test_nested_launcher_is_its_own_step(capio: Workflow) -> None:
    """A script that starts other steps by pycapio: they are what they say they are."""
    capio.pair(["f"], committed="on_close", producer="inner", consumer="outer")
    inner = [sys.executable, "-m", "pycapio", *capio.options("inner")]
    script = capio.script("open('f', 'w').write('by the inner step')\n")
    capio.run(
        "outer",
        f"""
        import subprocess
        child = subprocess.Popen({[*inner, str(script)]!r})
        print(open("f").read())
        assert child.wait() == 0
        """,
    ).expect("by the inner step")


def test_child_python_that_fails(capio: Workflow) -> None:
    """Its bad end is its own: the step that handles it has not failed."""
    capio.pair(["half", "whole"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "half", "whole")
    capio.run(
        "producer",
        """
        import subprocess, sys
        code = "f = open('half', 'w'); f.write('1'); f.flush(); import os; os.kill(os.getpid(), 9)"
        print(subprocess.run([sys.executable, "-c", code]).returncode)
        with open("whole", "w") as f:
            f.write("whole")
        """,
    ).expect("-9")
    assert consumer.line().startswith("half 130")
    consumer.expect("whole")
    consumer.finish()


@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="needs a Python without cffi")
def test_python_of_another_environment(capio: Workflow) -> None:
    """One that cannot import cffi says so, and runs on without us."""
    step = capio.run(
        "step",
        """
        import subprocess
        open("given", "w").close()
        code = "import os; print(os.path.exists('no-such-file'))"
        subprocess.run(["/usr/bin/python3", "-S", "-c", code], check=True)
        subprocess.run(["/usr/bin/python3", "-c", code], check=True)
        """,
    )
    step.expect("False", "False")
    if step.stderr:
        assert step.stderr.count("\n") == 1
        assert "pycapio: the files of" in step.stderr and "are not intercepted" in step.stderr
