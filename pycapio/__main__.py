"""Command-line launcher: runs a program with its file accesses intercepted, without changing it.

Usage::

    pycapio --capio-dir ./dir --app-name app --workflow-name my_workflow my_step.py [script args...]

``python -m pycapio`` is the same.
"""

from __future__ import annotations

import argparse
import errno
import math
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from pycapio import (
    CAPIO_DEFAULT_APP_NAME,
    CAPIO_DEFAULT_WORKFLOW_NAME,
    PyCAPIOException,
    __version__,
    _runner,
    children,
    context,
)
from pycapio.session import Session, SessionOptions, end_others

_EXIT_FAILURE = 1
_EXIT_USAGE = 2


class _UsageError(Exception):
    """The command line cannot be followed; the text is a sentence for the user."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def main() -> int:
    """Runs the program named on the command line with its file accesses intercepted.

    Returns 0 when the program ends normally. Its SystemExit, or whatever else it raises, goes on to
    the interpreter, which treats it as it would without the launcher; 2 means that the command line
    is wrong, 1 that the session could not be started.
    """
    try:
        return _launch(sys.argv[1:])
    except _UsageError as error:
        _say(str(error))
        return _EXIT_USAGE


def _launch(argv: Sequence[str]) -> int:
    arguments, as_module, words = _parse(argv)
    try:
        target = _runner.find_module(words[0]) if as_module else _runner.find_target(words[0])
    except _runner.TargetError as error:
        raise _UsageError(str(error)) from None

    try:
        main_module = _runner.install(target, words[1:])
        try:
            children.disarm()
            session = context.launch(_session_options(arguments), children=arguments.children)
            end_others(session)  # if the step before has become this one by exec
        except PyCAPIOException as error:
            if error.errno == errno.EINVAL:
                raise _UsageError(str(error)) from None
            _say(str(error))
            return _EXIT_FAILURE
    except KeyboardInterrupt as error:
        _runner.hide_frames(error, None)  # the target has not begun, so none of its frames is there
        raise
    _run(session, target, main_module)
    return 0


def _run(session: Session, target: _runner.Target, main_module: ModuleType) -> None:
    try:
        _runner.run(target, main_module)
    except SystemExit as error:
        session.cancel_waits()
        session.end(not _is_success(error.code))
        raise
    except KeyboardInterrupt:
        session.cancel_waits()
        session.end(True)
        raise
    except BaseException:
        session.end(True)
        raise
    session.end(False)


def _is_success(code: object) -> bool:
    return code is None or (isinstance(code, int) and code == 0)


def _parser() -> _Parser:
    parser = _Parser(
        prog="pycapio",
        usage="pycapio [options] script [args...]\n       pycapio [options] -m module [args...]",
        description="Runs a Python program with its files in CAPIO_DIR streamed to and from the "
        "other steps of its workflow.",
        epilog="script is a file, a directory or zip file with __main__.py, a directory with "
        "main.py, or the name of a module if there is no such path. Everything after it is passed "
        "on to it.",
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add(
        "--capio-dir",
        metavar="DIR",
        default=os.environ.get("CAPIO_DIR") or ".",
        help='the directory whose files are streamed (default: $CAPIO_DIR, or ".")',
    )
    add(
        "--workflow-name",
        metavar="NAME",
        default=os.environ.get("CAPIO_WORKFLOW_NAME") or CAPIO_DEFAULT_WORKFLOW_NAME,
        help="the workflow this program is a step of "
        f'(default: $CAPIO_WORKFLOW_NAME, or "{CAPIO_DEFAULT_WORKFLOW_NAME}")',
    )
    add(
        "--app-name",
        metavar="NAME",
        default=os.environ.get("CAPIO_APP_NAME") or CAPIO_DEFAULT_APP_NAME,
        help="the name of this step in the workflow "
        f'(default: $CAPIO_APP_NAME, or "{CAPIO_DEFAULT_APP_NAME}")',
    )
    add(
        "--capio-cl",
        metavar="FILE",
        default="",
        help="CAPIO-CL file that says how the files of the workflow are shared",
    )
    add(
        "--resolve-prefix",
        metavar="DIR",
        default="",
        help="the directory that relative paths in the CAPIO-CL file start from (default: "
        "CAPIO_DIR)",
    )
    add("--no-config", action="store_true", help="run without a CAPIO-CL file (default)")
    add(
        "--persist",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep what is written in CAPIO_DIR when the workflow ends (default; with a CAPIO-CL "
        "file, that file says what is kept)",
    )
    add(
        "--resume",
        action="store_true",
        help="take files that an earlier run left in CAPIO_DIR as already produced",
    )
    add(
        "--silent",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="print no summary when this step ends the run (default)",
    )
    add(
        "--children",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="intercept the Python programs that the script starts, too, as processes of the same "
        "step (default)",
    )
    add(
        "--keep-server",
        action="store_true",
        help="leave the server running when the last step ends",
    )
    add(
        "--server-exec-path",
        metavar="PATH",
        default="capio_server",
        help="path or name of the server's executable (default: capio_server)",
    )
    add(
        "--await-server-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=2.0,
        help="how long to wait for the server to be ready (default: 2)",
    )
    add(
        "-m",
        dest="module",
        metavar="MODULE",
        help="run a module, even if there is a path of its name",
    )
    add("--version", action="store_true", help="print the version and exit")
    add("-h", "--help", action="help", help="print this text and exit")
    return parser


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, bool, list[str]]:
    """Returns the options, whether -m was given, and the target with its arguments.

    argparse never sees what follows the target: it may look like options of ours.
    """
    parser = _parser()
    takes_value = {
        name: action.nargs is None
        for action in parser._actions  # the only place that knows
        for name in action.option_strings
    }
    ours: list[str] = []
    words = list(argv)
    as_module = False
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("-m") and not as_module:
            as_module = True
            if word != "-m":
                words.insert(0, word[2:])
            if not words:
                raise _UsageError("-m needs the name of a module.")
            break
        name, equals, _ = word.partition("=")
        if name not in takes_value:
            raise _UsageError(f"there is no option {name}{_suggestion(name, takes_value)}")
        if equals and not takes_value[name]:
            raise _UsageError(f"{name} takes no value.")
        if takes_value[name] and not equals:
            if not words:
                raise _UsageError(f"{name} needs a value.")
            word += "=" + words.pop(0)
        ours.append(word)
    arguments = parser.parse_args(ours)
    if arguments.version:
        print(f"pycapio {__version__}")
        raise SystemExit(0)
    if arguments.capio_cl and arguments.no_config:
        raise _UsageError("--capio-cl and --no-config contradict each other; give one of them.")
    if not words:
        raise _UsageError("the script to run is missing (see pycapio --help).")
    _check(arguments)
    return arguments, as_module, words


def _check(arguments: argparse.Namespace) -> None:
    for option in ("workflow_name", "app_name", "server_exec_path"):
        if not getattr(arguments, option):
            raise _UsageError(f"--{option.replace('_', '-')} is empty.")
    directory: str = arguments.capio_dir
    if not os.path.isdir(directory):
        problem = "is not a directory" if os.path.lexists(directory) else "does not exist"
        raise _UsageError(
            f"CAPIO_DIR {directory!r} {problem}; create it or name another one with --capio-dir."
        )
    config: str = arguments.capio_cl
    if config:
        try:
            with open(config, "rb"):
                pass
        except OSError as error:
            raise _UsageError(
                f"cannot read the CAPIO-CL file {config!r}: {error.strerror}."
            ) from None


def _session_options(arguments: argparse.Namespace) -> SessionOptions:
    return SessionOptions(
        capio_dir=arguments.capio_dir,
        app_name=arguments.app_name,
        workflow_name=arguments.workflow_name,
        silent=arguments.silent,
        server_exec_path=arguments.server_exec_path,
        capio_cl_configuration_file=arguments.capio_cl,
        await_server_timeout_seconds=arguments.await_server_timeout,
        teardown_server=not arguments.keep_server,
        persist=arguments.persist,
        resume=arguments.resume,
        resolve_prefix=arguments.resolve_prefix,
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise _UsageError(
            f"--await-server-timeout needs a number of seconds above 0, not {text!r}."
        )
    return seconds


def _suggestion(name: str, known: dict[str, bool]) -> str:
    import difflib  # only on the way to an error

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else " (see pycapio --help)."


def _say(sentence: str) -> None:
    prefix = "" if sentence.startswith("pycapio:") else "pycapio: "
    print(prefix + sentence, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
