"""Twins of the calls that start, replace, end and wait for processes.

``subprocess`` and ``multiprocessing`` start everything through ``_posixsubprocess.fork_exec``,
``os.posix_spawn`` and ``os.fork``; ``Process.terminate`` is ``os.kill``, and whoever waits for a
child calls ``os.waitpid`` or a relative. So nothing of those modules has to be loaded to be
patched.
"""

from __future__ import annotations

import _posixsubprocess
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pycapio import children, descriptors, links
from pycapio import session as _session
from pycapio.descriptors import table
from pycapio.patching import proxy_for
from pycapio.proxies.descriptors import close_proxy, open_proxy

_fork_exec = _posixsubprocess.fork_exec
_posix_spawn = os.posix_spawn
_posix_spawnp = os.posix_spawnp
_system = os.system
_execv = os.execv
_execve = os.execve
_access = os.access
_kill = os.kill
_wait = os.wait
_wait3 = os.wait3
_wait4 = os.wait4
_waitid = os.waitid
_waitpid = os.waitpid


@proxy_for(_fork_exec, module="_posixsubprocess")
def fork_exec_proxy(*args: Any) -> int:
    if len(args) < 6 or not isinstance(args[0], (list, tuple)):
        return _fork_exec(*args)
    argv, executables, close_fds, pass_fds, cwd, environment, *rest = args
    rest = [_before_program(value) if callable(value) else value for value in rest]
    plan = links.plan(executables, argv, cwd, search=len(executables) > 1)
    try:
        # rest begins with the pipes: (read, write) for stdin, stdout and stderr.
        _expose((*pass_fds, *rest[0:6:5], *rest[3:4]), inheritable=not close_fds)
        pid: int = _fork_exec(
            type(argv)(plan.argv),
            tuple(plan.programs),
            close_fds,
            pass_fds,
            plan.cwd,
            children.environment_list(environment),
            *rest,
        )
    except BaseException:
        plan.drop()
        raise
    plan.belongs_to(pid)
    return pid


def _before_program(preexec: Callable[[], object]) -> Callable[[], None]:
    """What runs in the child between fork and exec, and may have become a client there. The program
    is none: descriptors are closed in between, with the slot's."""

    def run() -> None:
        preexec()
        _expose((), inheritable=True)
        _session.goodbye_all(bad=False)

    return run


def _expose(given: Iterable[Any], *, inheritable: bool) -> None:
    """Says which descriptors a program gets."""
    if not table:
        return
    for fd in given:
        descriptors.expose(fd)
    if inheritable:
        descriptors.expose_inheritable()


def _spawn(
    original: Callable[..., int],
    path: Any,
    places: list[Any],
    argv: Any,
    env: Any,
    options: dict[str, Any],
) -> int:
    """places: where the program may be."""
    if not isinstance(argv, (list, tuple)):
        return original(path, argv, env, **options)
    plan = links.plan(places, argv, None, search=len(places) > 1)
    opened: list[int] = []
    try:
        if options.get("file_actions"):
            options["file_actions"] = _file_actions(options["file_actions"], opened)
        _expose((), inheritable=True)
        if plan.programs != places:  # one of them is somewhere else
            path = next(new for new, old in zip(plan.programs, places, strict=True) if new != old)
        pid = original(path, type(argv)(plan.argv), children.environment_mapping(env), **options)
    except BaseException:
        plan.drop()
        raise
    finally:
        for fd in opened:
            close_proxy(fd)
    plan.belongs_to(pid)
    return pid


def _file_actions(actions: Any, opened: list[int]) -> Any:
    """Files of CAPIO_DIR are opened here, and handed to the child, which could not."""
    translated = []
    for action in actions:
        if isinstance(action, tuple) and len(action) == 5 and action[0] == os.POSIX_SPAWN_OPEN:
            _, target, path, flags, mode = action
            session = _session.session_for(os.fspath(path))
            if session is not None:
                fd = open_proxy(path, flags | os.O_CLOEXEC, mode)
                opened.append(fd)
                descriptors.expose(fd)
                if fd == target:  # dup2 would leave it to be closed by exec
                    os.set_inheritable(fd, True)
                else:
                    translated.append((os.POSIX_SPAWN_DUP2, fd, target))
                continue
        if isinstance(action, tuple) and action[:1] == (os.POSIX_SPAWN_DUP2,):
            _expose(action[1:2], inheritable=False)
        translated.append(action)
    return translated


@proxy_for(_posix_spawn, module="os")
def posix_spawn_proxy(path: Any, argv: Any, env: Any, /, **options: Any) -> int:
    return _spawn(_posix_spawn, path, [path], argv, env, options)


@proxy_for(_posix_spawnp, module="os")
def posix_spawnp_proxy(path: Any, argv: Any, env: Any, /, **options: Any) -> int:
    return _spawn(_posix_spawnp, path, _on_path(path), argv, env, options)


def _on_path(program: Any) -> list[Any]:
    """Where PATH has a program."""
    try:
        name = os.fsencode(program)
    except TypeError:  # the original says what is wrong
        return [program]
    if b"/" in name:
        return [program]
    return [os.path.join(os.fsencode(place), name) for place in os.get_exec_path()]


@proxy_for(_system, module="os")
def system_proxy(command: Any) -> int:
    try:
        text = os.fsencode(command)
    except TypeError:
        return _system(command)
    plan = links.plan([b"/bin/sh"], [b"/bin/sh", b"-c", text], None)
    try:
        _expose((), inheritable=True)
        children.environment_list(None)
        return _system(plan.argv[2])
    finally:
        plan.drop()


def _become(path: Any, argv: Any, call: Callable[[Any, Any, str], None]) -> None:
    """exec: of this process CAPIO keeps what it was, until the program that comes next has ended.

    call: the original, which gets the program, its arguments, and what CAPIO hands to it.
    """
    if not isinstance(argv, (list, tuple)):
        return call(path, argv, "")
    programs = [] if isinstance(path, int) else [path]
    # execvp tries every place of PATH.
    plan = links.plan(programs, argv, None, search=path not in argv[:1])
    try:
        # Not if there is no such program.
        if plan.programs and not _access(plan.programs[0], os.X_OK):
            return call(path, argv, "")
        plan.keep()
        _expose((), inheritable=True)
        try:
            program = (plan.programs or [path])[0]
            heir = children.heir(program) if plan.intercepted and plan.programs else None
            call(program, type(argv)(plan.argv), _session.become_another(heir))
        finally:  # it has failed
            _session.take_back_goodbyes()
    finally:
        plan.drop()


# The other functions of the family call these two.
@proxy_for(_execv, module="os")
def execv_proxy(path: Any, argv: Any, /) -> None:
    def call(path: Any, argv: Any, handover: str) -> None:
        children.environment_list(None)
        children.put_handover(handover)
        try:
            _execv(path, argv)
        finally:
            children.put_handover("")

    _become(path, argv, call)


@proxy_for(_execve, module="os")
def execve_proxy(path: Any, argv: Any, env: Any) -> None:
    def call(path: Any, argv: Any, handover: str) -> None:
        _execve(path, argv, children.environment_mapping(env, handover))

    _become(path, argv, call)


@proxy_for(_kill, module="os")
def kill_proxy(pid: int, signal_number: int, /) -> None:
    if signal_number in (signal.SIGTERM, signal.SIGKILL) and _is_worker(pid):
        # What Process.terminate and a Pool's end do: no death of the step.
        for session in _session.current():
            session.goodbye_child(pid)
    _kill(pid, signal_number)


def _is_worker(pid: Any) -> bool:
    """Whether it is a child process that multiprocessing has started."""
    process: Any = sys.modules.get("multiprocessing.process")
    if process is None:
        return False
    for child in list(getattr(process, "_children", ())):
        if getattr(getattr(child, "_popen", None), "pid", None) == pid:
            return True
    return False


def _ended(pid: int, status: int) -> None:
    if pid > 0 and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
        links.ended(pid)


@proxy_for(_wait, module="os")
def wait_proxy() -> tuple[int, int]:
    result = _wait()
    _ended(*result)
    return result


@proxy_for(_waitpid, module="os")
def waitpid_proxy(pid: int, options: int, /) -> tuple[int, int]:
    result = _waitpid(pid, options)
    _ended(*result)
    return result


@proxy_for(_wait3, module="os")
def wait3_proxy(options: int) -> Any:
    result = _wait3(options)
    _ended(*result[:2])
    return result


@proxy_for(_wait4, module="os")
def wait4_proxy(pid: int, options: int) -> Any:
    result = _wait4(pid, options)
    _ended(*result[:2])
    return result


@proxy_for(_waitid, module="os")
def waitid_proxy(idtype: int, id: int, options: int, /) -> Any:
    result = _waitid(idtype, id, options)
    if result is not None and result.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
        links.ended(result.si_pid)
    return result
