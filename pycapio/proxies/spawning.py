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
    plan = links.plan(argv, cwd, environment)
    try:
        # rest begins with the pipes: (read, write) for stdin, stdout and stderr.
        _expose((*pass_fds, *rest[0:6:5], *rest[3:4]), inheritable=not close_fds)
        pid: int = _fork_exec(
            type(argv)(plan.argv),
            executables,
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


def _expose(given: Iterable[Any], *, inheritable: bool) -> None:
    """Says which descriptors a program gets."""
    if not table:
        return
    for fd in given:
        descriptors.expose(fd)
    if inheritable:
        descriptors.expose_inheritable()


def _spawn(
    original: Callable[..., int], path: Any, argv: Any, env: Any, options: dict[str, Any]
) -> int:
    if not isinstance(argv, (list, tuple)):
        return original(path, argv, env, **options)
    plan = links.plan(argv, None, env)
    opened: list[int] = []
    try:
        if options.get("file_actions"):
            options["file_actions"] = _file_actions(options["file_actions"], opened)
        _expose((), inheritable=True)
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
    return _spawn(_posix_spawn, path, argv, env, options)


@proxy_for(_posix_spawnp, module="os")
def posix_spawnp_proxy(path: Any, argv: Any, env: Any, /, **options: Any) -> int:
    return _spawn(_posix_spawnp, path, argv, env, options)


@proxy_for(_system, module="os")
def system_proxy(command: Any) -> int:
    try:
        text = os.fsencode(command)
    except TypeError:
        return _system(command)
    plan = links.plan([b"/bin/sh", b"-c", text], None, None)
    try:
        _expose((), inheritable=True)
        return _system(plan.argv[2])
    finally:
        plan.drop()


def _before_exec(path: Any, argv: Any, env: Any) -> Any:
    # Not if there is no such program; execvp asks for many.
    if not isinstance(argv, (list, tuple)) or not (isinstance(path, int) or _access(path, os.X_OK)):
        return argv
    plan = links.plan(argv, None, env)
    plan.keep()
    # The program that comes next knows nothing of this session: the step ends here, and well.
    _session.goodbye_all(bad=False)
    return type(argv)(plan.argv)


# The other functions of the family call these two.
@proxy_for(_execv, module="os")
def execv_proxy(path: Any, argv: Any, /) -> None:
    argv = _before_exec(path, argv, None)
    environment = children.environment_list(None)
    try:
        if environment is None:
            _execv(path, argv)
        else:
            _execve(path, argv, dict(entry.split(b"=", 1) for entry in environment))
    finally:
        _session.take_back_goodbyes()


@proxy_for(_execve, module="os")
def execve_proxy(path: Any, argv: Any, env: Any) -> None:
    argv = _before_exec(path, argv, env)
    try:
        _execve(path, argv, children.environment_mapping(env))
    finally:
        _session.take_back_goodbyes()


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
