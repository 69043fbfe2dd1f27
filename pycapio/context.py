"""CapioContext: attach, patch, call, restore."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from functools import wraps
from types import CodeType, TracebackType
from typing import Any, Final, TypeVar, cast

from pycapio import children as _children
from pycapio._pycapio import CAPIO_DEFAULT_APP_NAME, CAPIO_DEFAULT_WORKFLOW_NAME
from pycapio.proxies.table import patcher
from pycapio.rules import ATTRIBUTE, CapioCLRule, checked
from pycapio.session import (
    Session,
    SessionOptions,
    entered,
    set_entered,
    start_using,
    stop_using,
)

F = TypeVar("F", bound=Callable[..., Any])

_CO_COROUTINE: Final = 0x80
_CO_GENERATOR: Final = 0x20
_CO_ASYNC_GENERATOR: Final = 0x200

_known: dict[tuple[str, str, str], Session] = {}
_known_lock = threading.Lock()


def session_of(options: SessionOptions, handover: str = "") -> Session:
    """This process's session for (workflow, app, CAPIO_DIR), attached on first use."""
    key = (options.workflow_name, options.app_name, os.path.abspath(os.fspath(options.capio_dir)))
    with _known_lock:
        session = _known.get(key)
        if session is None:
            session = _known[key] = Session(options, handover)
        return session


def launch(options: SessionOptions, *, children: bool = False, handover: str = "") -> Session:
    """Attaches and patches for the rest of the process: what the launcher does.

    children: the Pythons that this process starts are intercepted, too. handover: see Session.
    Raises PyCAPIOException; its errno is EINVAL for a CAPIO-CL file with errors.
    """
    session = session_of(options, handover)
    start_using(session)
    set_entered((session,))
    gates = _children.gated(patcher.replacements) if children else ()
    patcher.pin()
    if children:
        _children.export(session, gates)
    return session


class _Use:
    """A session in use: from the first to the last step of a call."""

    # Classes, since contextlib's generators take three times as long.
    __slots__ = ("_rules", "_session")

    def __init__(self, session: Session, rules: list[CapioCLRule]) -> None:
        self._session = session
        self._rules = rules

    def __enter__(self) -> None:
        start_using(self._session)
        if self._rules:
            try:
                self._session.add_rules(rule.text for rule in self._rules)
            except BaseException:
                self._session.fail_abandoned()
                stop_using(self._session)
                raise

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if error is not None and not isinstance(error, GeneratorExit):
                self._session.fail_abandoned()
        finally:
            stop_using(self._session)


class _Step:
    """The calling context is inside: from resume to yield. No token is kept, since a generator may
    be resumed in another context than the one it was suspended in."""

    __slots__ = ("_before", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        patcher.acquire()
        self._before = entered()
        set_entered((*self._before, self._session))

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        set_entered(self._before)
        patcher.release()


class CapioContext:
    """Runs a function, or a ``with`` block, with its file accesses intercepted.

    Decorates functions, methods, coroutine functions, generators and async generators; may be
    nested, recursive and used from several threads. On first use within a process it attaches to
    the workflow, starting its server if there is none; the functions it replaces are given back
    when the outermost call returns.

    Args:
        capio_dir: The directory managed by CAPIO; must exist. Everything outside is left alone.
        app_name: Name of this step in the workflow.
        workflow_name: Steps with the same name share their files. Any characters.
        silent: No summary is printed when this step ends the run; warnings and errors are.
        server_exec_path: Path or name of the server. By default the one that comes with the
            library.
        capio_cl_configuration_file: Path of a CAPIO-CL file; "" for none.
        await_server_timeout_seconds: How long to wait for the server to become ready.
        teardown_server: The server ends when the last client has gone.
        rules: CapioCLRule objects, added to the workflow (which may be running) when this process
            first enters the context. They hold for all its processes.

    Raises (when called or entered): PyCAPIOException.
    """

    def __init__(
        self,
        *,
        capio_dir: str = ".",
        app_name: str = CAPIO_DEFAULT_APP_NAME,
        workflow_name: str = CAPIO_DEFAULT_WORKFLOW_NAME,
        silent: bool = True,
        server_exec_path: str = "capio_server",
        capio_cl_configuration_file: str = "",
        await_server_timeout_seconds: float = 2,
        teardown_server: bool = True,
        rules: Iterable[CapioCLRule] = (),
    ) -> None:
        self._options = SessionOptions(
            capio_dir=capio_dir,
            app_name=app_name,
            workflow_name=workflow_name,
            silent=silent,
            server_exec_path=server_exec_path,
            capio_cl_configuration_file=capio_cl_configuration_file,
            await_server_timeout_seconds=await_server_timeout_seconds,
            teardown_server=teardown_server,
        )
        self._rules = checked(rules)
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """This process's session, attached on first use. CAPIO_DIR is taken from the directory
        that is current then."""
        if self._session is None:
            self._session = session_of(self._options)
        return self._session

    def __call__(self, function: F) -> F:
        if isinstance(function, (staticmethod, classmethod)):
            return cast(F, type(function)(self(function.__func__)))
        if not callable(function):
            raise TypeError(f"CapioContext decorates callables, not {type(function).__name__}")
        # One list, whichever decorator comes first.
        rules: list[CapioCLRule] = getattr(function, ATTRIBUTE, [])
        wrapper = self._wrapper(function, rules)
        setattr(wrapper, ATTRIBUTE, rules)
        return cast(F, wrapper)

    def _wrapper(
        self, function: Callable[..., Any], rules: list[CapioCLRule]
    ) -> Callable[..., Any]:
        code = getattr(function, "__code__", None)
        flags = code.co_flags if isinstance(code, CodeType) else 0
        if flags & _CO_ASYNC_GENERATOR:
            return self._async_generator(function, rules)
        if flags & _CO_COROUTINE:
            return self._coroutine(function, rules)
        if flags & _CO_GENERATOR:
            return self._generator(function, rules)

        own_rules = self._rules

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            # _Use and _Step in one: an active call takes half the time.
            session = self._session or self.session
            start_using(session)
            try:
                if own_rules or rules:
                    session.add_rules(rule.text for rule in (*own_rules, *rules))
                patcher.acquire()
                try:
                    before = entered()
                    set_entered((*before, session))
                    try:
                        return function(*args, **kwargs)
                    finally:
                        set_entered(before)
                finally:
                    patcher.release()
            except GeneratorExit:
                raise
            except BaseException:
                session.fail_abandoned()
                raise
            finally:
                stop_using(session)

        return call

    def __enter__(self) -> CapioContext:
        session = self.session
        start_using(session)
        try:
            session.add_rules(rule.text for rule in self._rules)
            patcher.acquire()
        except BaseException:
            stop_using(session)
            raise
        set_entered((*entered(), session))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session = self.session
        stack = list(entered())
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is session:
                del stack[index]
                break
        set_entered(tuple(stack))
        patcher.release()
        if error is not None and not isinstance(error, GeneratorExit):
            session.fail_abandoned()
        stop_using(session)

    def _using(self, rules: list[CapioCLRule]) -> _Use:
        return _Use(self.session, [*self._rules, *rules])

    def _stepping(self) -> _Step:
        return _Step(self.session)

    def _drive(self, steps: Any) -> Generator[Any, Any, Any]:
        """Runs a generator or coroutine, intercepting only between resume and yield."""
        resume: Callable[..., Any] = steps.send
        value: Any = None
        while True:
            with self._stepping():
                try:
                    out = resume(value)
                except StopIteration as stop:
                    return stop.value
            try:
                value = yield out
                resume = steps.send
            except GeneratorExit:
                with self._stepping():
                    steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is the generator's to handle
                resume, value = steps.throw, error

    def _generator(
        self, function: Callable[..., Any], rules: list[CapioCLRule]
    ) -> Callable[..., Any]:
        @wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self._using(rules):
                return (yield from self._drive(function(*args, **kwargs)))

        return generator

    def _coroutine(
        self, function: Callable[..., Any], rules: list[CapioCLRule]
    ) -> Callable[..., Any]:
        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with self._using(rules):
                return await _Stepwise(self._drive(function(*args, **kwargs)))

        return coroutine

    def _async_generator(
        self, function: Callable[..., Any], rules: list[CapioCLRule]
    ) -> Callable[..., Any]:
        def step(awaitable: Awaitable[Any]) -> _Stepwise:
            return _Stepwise(self._drive(awaitable.__await__()))

        @wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = function(*args, **kwargs)
            with self._using(rules):
                pending = steps.asend(None)
                while True:
                    try:
                        out = await step(pending)
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield out
                        pending = steps.asend(sent)
                    except GeneratorExit:
                        await step(steps.aclose())
                        raise
                    except BaseException as error:  # noqa: BLE001 - it is the generator's
                        pending = steps.athrow(error)

        return async_generator


class _Stepwise:
    """Something to await that is driven by a generator of ours."""

    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps
