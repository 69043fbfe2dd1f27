"""Steps of several processes: forks, pools, exits without clean-up."""

from __future__ import annotations

import pytest

from workflows import READ_ALL, SAYS_SO, Workflow


@pytest.mark.parametrize("committed", ["on_close", "on_termination"])
@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "pass"])
def test_fork_child_writes(capio: Workflow, committed: str, ending: str) -> None:
    capio.pair(["parent", "child"], committed=committed)
    consumer = capio.step("consumer", READ_ALL, "parent", "child")
    capio.run(
        "producer",
        f"""
        import os, sys
        pid = os.fork()
        name = "parent" if pid else "child"
        with open(name, "w") as f:
            f.write("by the " + name)
        if pid:
            os.waitpid(pid, 0)
        else:
            {ending}
        """,
    )
    consumer.expect("by the parent", "by the child")
    consumer.finish()


def test_on_termination_waits_for_a_fork_child(capio: Workflow) -> None:
    """The step's first process has ended; one that it forked still belongs to it."""
    capio.pair(["f"], committed="on_termination")
    producer = capio.step(
        "producer",
        """
        import os, sys
        with open("f", "w") as f:
            f.write("1")
        if os.fork() == 0:
            with open("f", "a") as f:
                f.write("2")
            print("child", flush=True)
            input()
            with open("f", "a") as f:
                f.write("3")
        """,
    )
    producer.expect("child")
    consumer = capio.step("consumer", READ_ALL, "f", env=SAYS_SO)
    consumer.expect_error("waiting .*/f to be complete")
    producer.process.wait(60)
    producer.send()
    consumer.expect("123")
    consumer.finish()
    producer.finish()


def test_file_inherited_by_fork(capio: Workflow) -> None:
    """Both write through one open file; it is complete when both have closed it."""
    capio.pair(["f"], committed="on_close")
    producer = capio.step(
        "producer",
        """
        import os
        f = open("f", "wb", buffering=0)
        f.write(b"before ")
        pid = os.fork()
        if pid == 0:
            input()
            f.write(b"child")
            f.close()
            os._exit(0)
        f.write(b"parent ")
        f.close()
        print("closed", flush=True)
        os.waitpid(pid, 0)
        """,
    )
    producer.expect("closed")
    capio.completes_on_send(producer, {"f": "before parent child"})
    producer.finish()


def test_child_that_only_inherits_does_not_count(capio: Workflow) -> None:
    """A child that never touches the file, and closes it by ending, is not a second close."""
    capio.pair(["f"], committed="on_close:2")
    capio.hold()
    producer = capio.step(
        "producer",
        """
        import os
        f = open("f", "w")
        pid = os.fork()
        if pid == 0:
            f.close()
            os._exit(0)
        os.waitpid(pid, 0)
        f.write("first ")
        f.close()
        print("once", flush=True)
        input()
        with open("f", "a") as f:
            f.write("second")
        """,
    )
    producer.expect("once")
    capio.completes_on_send(producer, {"f": "first second"})
    producer.finish()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("committed", ["on_close", "on_termination"])
def test_pool(capio: Workflow, method: str, committed: str) -> None:
    capio.pair(["part*"], committed=committed)
    names = [f"part{i}" for i in range(6)]
    consumer = capio.step("consumer", READ_ALL, *names)
    capio.run(
        "producer",
        f"""
        import multiprocessing

        def work(i):
            with open(f"part{{i}}", "w") as f:
                f.write(f"part {{i}} is whole")
            return open(f"part{{i}}").read()

        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(3) as pool:
                print(pool.map(work, range(6)) == [f"part {{i}} is whole" for i in range(6)])
        """,
    ).expect("True")
    consumer.expect(*(f"part {i} is whole" for i in range(6)))
    consumer.finish()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pool_executor(capio: Workflow, method: str) -> None:
    capio.pair(["part*"])
    consumer = capio.step("consumer", READ_ALL, "part0", "part1", "part2")
    capio.run(
        "producer",
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def work(i):
            with open(f"part{{i}}", "w") as f:
                f.write(f"part {{i}}")

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                list(pool.map(work, range(3)))
        """,
    )
    consumer.expect("part 0", "part 1", "part 2")
    consumer.finish()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_process(capio: Workflow, method: str) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        f"""
        import multiprocessing

        def work():
            f = open("f", "w")
            f.write("never closed, still whole")
            globals()["kept"] = f

        if __name__ == "__main__":
            child = multiprocessing.get_context("{method}").Process(target=work)
            child.start()
            child.join()
            print(child.exitcode)
        """,
    ).expect("0")
    consumer.expect("never closed, still whole")
    consumer.finish()


def test_worker_that_fails_its_task(capio: Workflow) -> None:
    """An exception that the pool hands to the parent, which handles it, is not the step's end; the
    file it left is not complete before the worker ended, and never a short one under on_close."""
    capio.pair(["bad", "good"], committed="on_close")
    consumer = capio.step("consumer", READ_ALL, "good")
    capio.run(
        "producer",
        """
        import multiprocessing

        def work(name):
            with open(name, "w") as f:
                f.write(name)
                if name == "bad":
                    raise ValueError(name)

        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                try:
                    pool.apply(work, ("bad",))
                except ValueError:
                    print("handled")
                pool.apply(work, ("good",))
        """,
    ).expect("handled")
    consumer.expect("good")
    consumer.finish()


def test_worker_killed_in_mid_write(capio: Workflow) -> None:
    capio.pair(["f", "g"], committed="on_close", mode="no_update")
    consumer = capio.step("consumer", READ_ALL, "f", "g")
    capio.run(
        "producer",
        """
        import multiprocessing, os, signal

        def work():
            f = open("f", "w")
            f.write("half")
            f.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            print(child.exitcode)
            with open("g", "w") as f:
                f.write("the parent goes on")
        """,
    ).expect("-9")
    assert "app 'producer'" in consumer.line()
    consumer.expect("the parent goes on")
    consumer.finish()


def test_terminated_worker_leaves_its_closed_files_good(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        """
        import multiprocessing

        def work(connection):
            with open("f", "w") as f:
                f.write("closed before")
            connection.send("ready")
            connection.recv()

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            ours, theirs = context.Pipe()
            child = context.Process(target=work, args=(theirs,))
            child.start()
            ours.recv()
            child.terminate()
            child.join()
            print(child.exitcode)
        """,
    ).expect("-15")
    consumer.expect("closed before")
    consumer.finish()


def test_subprocess_writes_to_a_capio_file(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        """
        import subprocess
        with open("f", "w") as f:
            subprocess.run(["echo", "by echo"], stdout=f, check=True)
            subprocess.run(["echo", "twice"], stdout=f, check=True)
        """,
    )
    consumer.expect("by echo", "twice")
    consumer.finish()


def test_subprocess_reads_a_capio_file(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    consumer = capio.step(
        "consumer",
        "import subprocess\nwith open('f') as f: subprocess.run(['cat'], stdin=f, check=True)\n",
    )
    capio.run("producer", "open('f', 'w').write('all of it\\n' * 3)\n")
    consumer.expect(*["all of it"] * 3)
    consumer.finish()


def test_exec_that_fails_is_no_end(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        """
        import os, signal
        with open("f", "w") as f:
            f.write("closed")
        try:
            os.execvp("no-such-program", ["no-such-program"])
        except FileNotFoundError:
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        status=-9,
    )
    assert "died before the file was complete" in consumer.line()
    consumer.finish()


@pytest.mark.parametrize("why", ["ENOEXEC", "E2BIG"])
def test_exec_that_the_kernel_refuses_is_no_end(capio: Workflow, why: str) -> None:
    """The program is there and may be run; its end was announced, and does not come."""
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    program = capio.tmp_path / "program"
    program.write_text("no program\n")
    program.chmod(0o755)
    capio.run(
        "producer",
        """
        import errno, os, signal, sys
        with open("f", "w") as f:
            f.write("closed")
        program, why = sys.argv[1:]
        environment = {"X": "x" * (1 << 26)} if why == "E2BIG" else {}
        try:
            os.execve(program, [program], environment)
        except OSError as error:
            assert errno.errorcode[error.errno] == why, error
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        str(program),
        why,
        status=-9,
    )
    assert "died before the file was complete" in consumer.line()
    consumer.finish()


def test_exec_of_another_program(capio: Workflow) -> None:
    capio.pair(["f"], committed="on_termination")
    consumer = capio.step("consumer", READ_ALL, "f")
    capio.run(
        "producer",
        "import os, sys\nwith open('f', 'w') as f: f.write('closed before exec')\n"
        "os.execv(sys.executable, [sys.executable, '-c', 'pass'])\n",
    )
    consumer.expect("closed before exec")
    consumer.finish()


def test_threads_write_at_once(capio: Workflow) -> None:
    capio.pair(["f*"], committed="on_close")
    capio.run(
        "producer",
        """
        from concurrent.futures import ThreadPoolExecutor
        def work(i):
            for n in range(20):
                with open(f"f{i}-{n}", "w") as f:
                    f.write(f"{i} {n}")
                if open(f"f{i}-{n}").read() != f"{i} {n}":
                    return "wrong"
            return "right"
        with ThreadPoolExecutor(8) as pool:
            print(set(pool.map(work, range(8))))
        """,
    ).expect("{'right'}")
    step = capio.run(
        "consumer",
        "print(sum(open(f'f{i}-{n}').read() == f'{i} {n}' for i in range(8) for n in range(20)))\n",
    )
    assert step.stdout == "160\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pool_of_decorated_functions(capio: Workflow, method: str) -> None:
    """Without the launcher; the workers attach by themselves."""
    capio.pair(["part*"], committed="on_close")
    names = [f"part{i}" for i in range(4)]
    consumer = capio.step("consumer", READ_ALL, *names)
    capio.python(
        f"""
        import multiprocessing
        from pycapio import CapioContext

        context = CapioContext(
            capio_dir=DIR, workflow_name=WF, app_name="producer",
            capio_cl_configuration_file=CONFIG, await_server_timeout_seconds=60,
        )

        @context
        def work(i):
            with open(f"part{{i}}", "w") as f:
                f.write(f"part {{i}} is whole")

        @context
        def main():
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                pool.map(work, range(4))

        if __name__ == "__main__":
            main()
        """
    ).finish()
    consumer.expect(*(f"part {i} is whole" for i in range(4)))
    consumer.finish()
