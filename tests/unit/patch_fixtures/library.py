"""Stands for a module of the standard library: what is patched lives here."""


def probe(*args: object) -> tuple[str, tuple[object, ...]]:
    """A function written in Python."""
    return ("original", args)


def query(path: str, *, follow: bool = True) -> tuple[str, str, bool]:
    return ("original", path, follow)


class Base:
    def method(self, value: int = 1) -> tuple[str, int]:
        return ("original", value)

    def same(self, other: object) -> bool:
        return super().__eq__(other) is True


class Derived(Base):
    pass
