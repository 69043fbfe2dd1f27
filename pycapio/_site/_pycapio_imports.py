"""What the interpreter looks for by itself in a child Python: its script, and modules.

The interpreter and its import system open files without ``open``, so no gate sees them. They do ask
``sys.path_hooks`` whether the script is a directory or zip file, and ``sys.meta_path`` for modules.
Whoever stands there opens the gates when the store has what is looked for, and leaves everything
else to Python.
"""

import _imp
import os
import sys

import _pycapio_gates as gates  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_join = os.path.join
# "": a package.
_SUFFIXES = ("", ".py", ".pyc", *_imp.extension_suffixes())


def _stored(path: str) -> bool:
    """Whether the store has a path of CAPIO_DIR, as far as that can be seen without attaching."""
    relative = gates.relative(path)
    return relative is not None and any(
        gates.is_there(_join(tree, relative)) for tree in gates.trees()
    )


# ---- the script ---------------------------------------------------------------------------------


def watch_script() -> None:
    """If the interpreter is about to run a script of CAPIO_DIR that it cannot open, or that the
    store has another version of: has it run by us."""
    name = sys.argv[0] if sys.argv else ""
    if name in ("", "-", "-c", "-m"):
        return
    path = gates.user_path(name)
    if path is not None and (_stored(path) or not gates.is_there(name)):
        sys.path_hooks.append(_ScriptHook(path))  # last: where one may go while they are asked


class _ScriptHook:
    """Asked once, before anything is run."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, path: str) -> "Any":
        if gates.user_path(path) != self._path:
            raise ImportError
        sys.path_hooks.remove(self)
        gates.open_gates()
        try:
            from pycapio import children
        except ImportError:  # it has been said
            raise ImportError from None
        return children.main_importer(sys.argv[0], path)


# ---- modules ------------------------------------------------------------------------------------


class ImportGate:
    """Belongs on ``sys.meta_path`` before Python's path finder. Finds nothing itself: opens the
    gates if the store may have the module, and then pycapio's finder is asked next."""

    @staticmethod
    def find_spec(fullname: str, path: "Sequence[str] | None" = None, target: "Any" = None) -> None:
        if not gates.are_ready():
            return
        if path is None:
            path = sys.path
            if path and isinstance(path[0], str) and path[0].startswith("/"):
                # python -m in a directory of the store: what it takes for its name is ours.
                path[0] = gates.user_path(path[0]) or path[0]
        for entry in path:
            if isinstance(entry, str) and _may_hold(entry, fullname.rpartition(".")[2]):
                gates.open_gates()
                return


def _may_hold(entry: str, name: str) -> bool:
    place = gates.user_path(entry or ".")
    if place is None or not _stored(place):
        return False
    base = _join(place, name)
    return any(_stored(base + suffix) for suffix in _SUFFIXES)


def watch_modules() -> None:
    """Imports of modules that the store has open the gates."""
    names = [getattr(finder, "__name__", "") for finder in sys.meta_path]
    where = names.index("PathFinder") if "PathFinder" in names else len(names)
    sys.meta_path.insert(where, ImportGate)
