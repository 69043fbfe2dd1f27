"""Looking into modules, classes and instances without running any code of theirs."""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType, ModuleType

# The typing module would cost every start several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MISSING: Any = object()
WRAPPERS = (staticmethod, classmethod)
class_dict: Callable[[Any], Any] = vars(type)["__dict__"].__get__
class_mro: Callable[[Any], tuple[Any, ...]] = vars(type)["__mro__"].__get__
module_dict: Callable[[Any], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__


def instance_dict(part: Any) -> Any:
    """The attributes of an instance, without running any code of its class."""
    for base in class_mro(type(part)):
        descriptor = class_dict(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) in (GetSetDescriptorType, MemberDescriptorType):
                attributes = descriptor.__get__(part)
                return attributes if type(attributes) is dict else None
            return None
    return None


def own_attribute(owner: Any, name: str) -> Any:
    if issubclass(type(owner), type):
        return class_dict(owner).get(name, MISSING)
    attributes = instance_dict(owner)
    if attributes is None:
        return getattr(owner, name, MISSING)
    return attributes.get(name, MISSING)


def read_attribute(owner: Any, name: str) -> Any:
    raw = own_attribute(owner, name)
    if raw is MISSING and issubclass(type(owner), type):
        for base in class_mro(owner):
            raw = class_dict(base).get(name, MISSING)
            if raw is not MISSING:
                return raw
    return getattr(owner, name, MISSING) if raw is MISSING else raw


def is_of(owner: Any, names: tuple[str, ...]) -> bool:
    """Whether a class belongs to one of the modules, whose names end in a dot."""
    module = class_dict(owner).get("__module__")
    return type(module) is str and (module + ".").startswith(names)


def module_name(name: str, namespace: dict[str, Any]) -> str:
    """The name under which a module was written, also while `python -m` runs it."""
    named = getattr(namespace.get("__spec__"), "name", None) if name == "__main__" else None
    return named if type(named) is str else name


def is_being_imported(module: Any) -> bool:
    if not issubclass(type(module), ModuleType):
        return False
    return getattr(module_dict(module).get("__spec__"), "_initializing", False) is True


def label(owner: Any) -> str:
    return str(getattr(owner, "__qualname__", None) or getattr(owner, "__name__", None) or owner)
