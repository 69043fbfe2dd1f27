"""What is to be replaced, and proxies that present themselves as their originals."""

from __future__ import annotations

import functools
import sys
import weakref

from pycapio.patching.objects import label

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])

# Where the functions of C modules are found by name.
_PUBLIC_MODULES = {"posix": "os", "nt": "os", "_io": "io"}


# Proxies that are Python functions, and the module and name under which each can be imported.
homes: weakref.WeakKeyDictionary[Any, tuple[str, str]] = weakref.WeakKeyDictionary()


class Replacement:
    """One function to replace: the attribute `name` of `owner`, a module or a class.

    The original is whatever `owner` holds at the first activation. With `required=False` an owner
    that lacks the name is passed over (`os.listxattr` does not exist everywhere).
    """

    __slots__ = ("name", "owner", "proxy", "required")

    def __init__(
        self, owner: Any, name: str, proxy: Callable[..., Any], required: bool = True
    ) -> None:
        self.owner = owner
        self.name = name
        self.proxy = proxy
        self.required = required

    def __repr__(self) -> str:
        return f"Replacement({label(self.owner)}.{self.name})"


def proxy_for(
    original: Callable[..., Any], *, module: str | None = None, qualname: str | None = None
) -> Callable[[_F], _F]:
    """Decorate a proxy so that it presents itself as `original`.

    Names, documentation and `inspect.signature` become those of the original. `__module__` is the
    public module of the original (`os`, where CPython says `posix`), so that pickle finds the
    proxy there while it is in place, and whoever loads the pickle gets what `os` holds then.

    The proxy of a function written in C is wrapped, because such a function does not become a
    method when a class holds it (`open = io.open` in a class body), and a Python function would.
    It is pickled as that name also after it was taken out. The proxy of a Python function, which
    is one itself, goes by its own name then, under which its module has to hold it.
    """

    def decorate(function: _F) -> _F:
        home = (function.__module__, function.__qualname__)
        proxy: Any = function if hasattr(type(original), "__get__") else Unbound(function)
        # __wrapped__ is what inspect.signature follows, text signatures included.
        functools.update_wrapper(proxy, original)
        named = module or getattr(original, "__module__", None)
        proxy.__module__ = _PUBLIC_MODULES.get(named, named) if named else proxy.__module__
        if qualname is not None:
            proxy.__qualname__ = qualname
        if proxy is function and "<locals>" not in home[1]:
            homes[proxy] = home
        for name in ("__annotations__", "__self__", "__text_signature__"):
            if isinstance(proxy, Unbound):
                proxy.__dict__[name] = getattr(original, name, {})
        return proxy  # type: ignore[no-any-return]

    return decorate


class Unbound(functools.partial):  # type: ignore[type-arg]
    """A function that class attributes do not bind; partial's call is the quickest there is."""

    __slots__ = ()
    __qualname__: str
    __wrapped__: Any

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # for isinstance, and so inspect and pydoc
        return type(self.__wrapped__)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        try:
            return signature(self.__wrapped__)
        except ValueError as error:
            raise AttributeError(str(error)) from None

    if sys.version_info >= (3, 13):  # where partial warns that it will bind, and then does

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            return self

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __copy__(self) -> Unbound:
        return self  # as of any function

    def __deepcopy__(self, memo: Any) -> Unbound:
        return self

    def __reduce__(self) -> Any:
        owner = sys.modules.get(self.__module__)
        if getattr(owner, self.__qualname__, None) is self:
            return self.__qualname__
        # Captured, and no longer in place: what is there when it is loaded.
        from pkgutil import resolve_name

        return resolve_name, (f"{self.__module__}:{self.__qualname__}",)
