"""Runs a script, directory, zip file or module as ``python`` itself would.

The target gets a fresh ``__main__`` that stays in ``sys.modules`` until the interpreter exits, so
that pickling, ``multiprocessing`` spawn, late threads and atexit functions find it. What the
interpreter does with an exception that leaves the main script (traceback, exit status, death by
SIGINT) is left to the interpreter: the exception goes on to the top, and only the launcher's own
frames are kept out of sight.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import marshal
import os
import sys
import zipimport
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Final

# What precedes the code in a .pyc file.
_PYC_HEADER: Final = 16


class TargetError(Exception):
    """There is nothing to run under the given name; the text is a sentence for the user."""


class Target(ABC):
    """Something to run; subclasses say what ``sys.argv[0]`` and ``sys.path[0]`` it is used to."""

    argv0: str
    path0: str
    # A directory or zip file is always first on sys.path, a script's directory not under -P and -I.
    path0_is_target = False

    @abstractmethod
    def execute(self, main: ModuleType) -> None:
        """Runs the target in ``main``, which is ``sys.modules["__main__"]`` by now."""


class ScriptTarget(Target):
    """``python FILE``"""

    def __init__(self, path: str) -> None:
        # Read before anything is started: one that cannot be read is a mistake of the command line.
        with io.open_code(_absolute(path)) as file:
            self._data = file.read()
        self._path = path
        self.argv0 = path
        self.path0 = os.path.dirname(os.path.realpath(path))

    def execute(self, main: ModuleType) -> None:
        filename = _absolute(self._path)
        compiled = self._data.startswith(importlib.util.MAGIC_NUMBER)
        kind = (
            importlib.machinery.SourcelessFileLoader
            if compiled
            else importlib.machinery.SourceFileLoader
        )
        main.__loader__ = kind("__main__", filename)
        main.__file__ = filename
        vars(main)["__cached__"] = None
        if compiled:
            code = marshal.loads(self._data[_PYC_HEADER:])
        else:
            code = compile(self._data, filename, "exec", dont_inherit=True)
        del self._data
        exec(code, vars(main))


class ArchiveTarget(Target):
    """``python DIRECTORY`` and ``python ZIPFILE``, with a ``__main__`` inside."""

    path0_is_target = True

    def __init__(self, path: str) -> None:
        self.argv0 = path
        self.path0 = _absolute(path)

    def execute(self, main: ModuleType) -> None:
        _run_module_as_main("__main__", alter_argv=False)


class ModuleTarget(Target):
    """``python -m MODULE``"""

    def __init__(self, name: str) -> None:
        self._name = name
        self.argv0 = "-m"  # runpy replaces it once the module's file is known
        self.path0 = os.getcwd()

    def execute(self, main: ModuleType) -> None:
        _run_module_as_main(self._name, alter_argv=True)


class ScriptImporter:
    """Has the interpreter run a script as itself that it cannot open: put on its import path in the
    place of a zip file, it is asked for the code of ``__main__``.

    filename: the entry of ``sys.path`` that the interpreter has made for the zip file.
    """

    def __init__(self, name: str, filename: str) -> None:
        """Raises OSError if there is no such script."""
        self._target = ScriptTarget(name)
        self._filename = filename

    def find_spec(self, name: str, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != "__main__":
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self._filename)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The module is there already."""

    def get_code(self, name: str) -> CodeType:
        return compile("__spec__.loader.run()", "<pycapio>", "exec")

    def run(self) -> None:
        """Runs the script, in the module that is ``__main__`` already."""
        sys.path_importer_cache.pop(self._filename, None)
        main = sys.modules["__main__"]
        main.__spec__ = main.__package__ = main.__doc__ = None
        del sys.path[0]
        if not getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, self._target.path0)
        run(self._target, main)


def find_target(name: str) -> Target:
    """Finds what to run: a path first, a module if there is no such path.

    Imports nothing of the user's, since interception is not in place yet.

    Raises:
        TargetError: nothing there can be run.
    """
    if not name:
        raise TargetError("the name of the script to run is empty.")
    if os.path.isdir(name):
        if os.path.isfile(os.path.join(name, "__main__.py")):
            return ArchiveTarget(name)
        if os.path.isfile(os.path.join(name, "main.py")):
            return _script(os.path.join(name, "main.py"))
        try:
            return find_module(name)
        except TargetError:
            raise TargetError(
                f"cannot run the directory {name!r}: it holds neither __main__.py nor main.py."
            ) from None
    try:
        archive = zipimport.zipimporter(name)
    except zipimport.ZipImportError:
        pass
    else:
        if archive.find_spec("__main__") is None:
            raise TargetError(f"cannot run the zip file {name!r}: it holds no __main__.py.")
        return ArchiveTarget(name)
    if os.path.lexists(name):
        return _script(name)
    return find_module(name, tried_path=True)


def find_module(name: str, *, tried_path: bool = False) -> Target:
    """Finds a module to run as ``python -m`` does, without importing its parent packages.

    Raises:
        TargetError: there is no such module, or it is a package that cannot be run.
    """
    target = ModuleTarget(name)
    saved_path = list(sys.path)
    set_path0(target)
    try:
        spec = _find_spec(name) if all(part.isidentifier() for part in name.split(".")) else None
        if spec is None:
            if tried_path:
                raise TargetError(
                    f"cannot find {name!r}: there is no such file or directory, and no module of "
                    "that name."
                )
            raise TargetError(f"cannot find a module named {name!r}.")
        if spec.submodule_search_locations is not None and _find_spec(name + ".__main__") is None:
            raise TargetError(f"cannot run the package {name!r}: it holds no __main__.py.")
    finally:
        sys.path[:] = saved_path
    return target


def set_path0(target: Target) -> None:
    """Puts the target's entry where the interpreter put the launcher's: first on ``sys.path``."""
    if not (getattr(sys.flags, "safe_path", False) or sys.flags.isolated):
        sys.path[:1] = [target.path0]
    elif target.path0_is_target:
        sys.path.insert(0, target.path0)


def install(target: Target, args: Sequence[str]) -> ModuleType:
    """Sets the ``__main__``, ``sys.argv`` and ``sys.path`` that the target expects."""
    main = ModuleType("__main__")
    # Which of these a main module has depends on the version of Python; the present one shows it.
    present = vars(sys.modules["__main__"])
    main.__loader__ = importlib.machinery.BuiltinImporter
    if "__annotations__" in present:
        main.__annotations__ = {}
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv[:] = [target.argv0, *args]
    set_path0(target)
    return main


def run(target: Target, main: ModuleType) -> None:
    """Runs the target; an exception goes on, to be shown without the frames outside the target."""
    try:
        target.execute(main)
    except BaseException as error:
        if not isinstance(error, SystemExit) or sys.flags.inspect:  # python -i shows that one, too
            hide_frames(error, _skip_own_frames(error.__traceback__))
        raise


def hide_frames(error: BaseException, traceback: TracebackType | None) -> None:
    """Makes the interpreter report ``error``, if it gets to the top, with this traceback.

    Each frame it still passes on its way adds itself to the traceback, so the cut is made at the
    last moment, by a hook that stands in for the user's and puts it back.
    """
    user_hook: Callable[..., object] | None = getattr(sys, "excepthook", None)

    def report(kind: type[BaseException], value: BaseException, tb: TracebackType | None) -> None:
        if value is error:
            tb = value.__traceback__ = sys.last_traceback = traceback
        if user_hook is None:  # deleted by the target, which the interpreter mentions
            del sys.excepthook
            print("sys.excepthook is missing", file=sys.stderr)
            sys.__excepthook__(kind, value, tb)
            return
        sys.excepthook = user_hook
        try:
            user_hook(kind, value, tb)
        except BaseException as hook_error:
            hook_error.__traceback__ = _skip_own_frames(hook_error.__traceback__)
            raise

    sys.excepthook = report


def _run_module_as_main(name: str, alter_argv: bool) -> None:
    import runpy  # only for modules, directories and zip files

    # What the interpreter itself calls for -m, so messages, tracebacks and attributes are the same.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _skip_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    own_file = _skip_own_frames.__code__.co_filename
    while traceback is not None and traceback.tb_frame.f_code.co_filename == own_file:
        traceback = traceback.tb_next
    return traceback


def _absolute(path: str) -> str:
    # As the interpreter does it for __file__: joined, not normalised.
    return path if os.path.isabs(path) else os.getcwd().rstrip("/") + "/" + path


def _script(path: str) -> ScriptTarget:
    try:
        return ScriptTarget(path)
    except OSError as error:
        raise TargetError(f"cannot read the script {path!r}: {error.strerror}.") from None


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    parent, _, _ = name.rpartition(".")
    try:
        if not parent:
            return importlib.util.find_spec(name)
        parent_spec = _find_spec(parent)
        if parent_spec is None or parent_spec.submodule_search_locations is None:
            return None
        # The package may extend its __path__ when imported (pkgutil.extend_path), hence the rest.
        places = [*parent_spec.submodule_search_locations]
        places += [os.path.join(entry, *parent.split(".")) for entry in sys.path]
        for finder in sys.meta_path:
            spec = finder.find_spec(name, places)
            if spec is not None:
                return spec
    except (ImportError, ValueError, AttributeError):
        pass
    return None
