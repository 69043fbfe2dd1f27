"""Unix sockets below CAPIO_DIR: their names are the kernel's, also in directories of the store."""

from __future__ import annotations

import pytest

from workflows import Workflow


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_managers(capio: Workflow, method: str) -> None:
    """multiprocessing puts its sockets below TMPDIR, here a directory of the store."""
    step = capio.run(
        "producer",
        f"""
        import multiprocessing, os, tempfile

        if __name__ == "__main__":
            os.mkdir("s")
            os.environ["TMPDIR"] = os.path.abspath("s")
            tempfile.tempdir = None
            context = multiprocessing.get_context({method!r})
            with context.Manager() as manager:
                found = manager.list([1])
                worker = context.Process(target=found.append, args=(2,))
                worker.start()
                worker.join()
                print(list(found), worker.exitcode)
        """,
    )
    step.expect("[1, 2] 0")


BIND = """
    import errno, os, socket, stat

    os.makedirs("made/deep", 0o750)
    open("made/taken", "w").close()

    def bound(address):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
            print(server.getsockname() == address, stat.S_ISSOCK(os.stat(address).st_mode))
        os.unlink(address)
        print(os.path.exists(address))

    bound("made/deep/relative")
    bound(os.path.abspath("made/deep/absolute"))
    bound("direct")
    for address in ("made/taken", "missing/name"):
        with socket.socket(socket.AF_UNIX) as server:
            try:
                server.bind(address)
            except OSError as error:
                print(errno.errorcode[error.errno])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(bytes(1) + os.urandom(8))  # no file
    with socket.socket() as server:
        server.bind(("localhost", 0))
    os.chdir("made/deep")
    bound("here")
"""
OUTPUT = ["True True", "False"] * 3 + ["EADDRINUSE", "ENOENT"] + ["True True", "False"]


def test_names(capio: Workflow) -> None:
    step = capio.run("producer", BIND)
    step.expect(*OUTPUT)


def test_names_in_a_context(capio: Workflow) -> None:
    """socket is imported before the functions are replaced."""
    step = capio.python(
        "import socket\nfrom pycapio import CapioContext\n"
        "@CapioContext(capio_dir=DIR, app_name='producer', workflow_name=WF)\n"
        f"def step():{BIND}\nstep()\nassert 'bind' not in vars(socket.socket)\n"
    )
    step.expect(*OUTPUT)
    step.finish()
