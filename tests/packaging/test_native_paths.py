"""Which library and which server are used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pycapio._native as native

# One worker: two builds in one source tree would get in each other's way.
pytestmark = pytest.mark.xdist_group("wheel")


ELF = b"\x7fELF and the rest"


def place(path: Path, content: bytes = ELF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path.resolve()


def test_bundled_library_without_capio_lib(monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = Path(native.__file__).with_name("libcapio.so")
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("CAPIO_LIB", raising=False)
        else:
            monkeypatch.setenv("CAPIO_LIB", value)
        assert native.library_path() == bundled.resolve()
        assert native.server_path() == bundled.resolve().with_name("capio_server")


def test_missing_bundled_library_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CAPIO_LIB", raising=False)
    monkeypatch.setattr(native, "_HERE", tmp_path)
    with pytest.raises(native.LibraryNotFound, match=r"build_capio\.sh") as info:
        native.library_path()
    assert str(tmp_path / "libcapio.so") in str(info.value)


@pytest.mark.parametrize("libdir", [".", "lib", "lib64", "lib/x86_64-linux-gnu"])
def test_capio_lib_is_a_file_or_a_prefix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, libdir: str
) -> None:
    library = place(tmp_path / libdir / "libcapio.so")
    server = place(tmp_path / ("." if libdir == "." else "bin") / "capio_server")
    for value in (tmp_path, library):
        monkeypatch.setenv("CAPIO_LIB", str(value))
        assert native.library_path() == library
        assert native.server_path().resolve() == server


def test_absent_capio_lib_is_fatal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAPIO_LIB", str(tmp_path / "absent"))
    with pytest.raises(native.LibraryNotFound, match="absent', which does not exist"):
        native.library_path()
    with pytest.raises(native.LibraryNotFound):
        native.server_path()


def test_prefix_without_library_lists_where_it_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPIO_LIB", str(tmp_path))
    with pytest.raises(native.LibraryNotFound) as info:
        native.library_path()
    for place_looked_for in ("libcapio.so", "lib*/libcapio.so", "lib*/*/libcapio.so"):
        assert str(tmp_path / place_looked_for) in str(info.value)


def test_server_on_path_is_the_last_resort_and_never_a_script(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script of that name is our own command: starting it would start it again."""
    library = place(tmp_path / "a" / "lib" / "libcapio.so")
    place(tmp_path / "scripts" / "capio_server", b"#!/bin/sh\n")
    monkeypatch.setenv("CAPIO_LIB", str(library))
    monkeypatch.setenv("PATH", str(tmp_path / "scripts"))
    with pytest.raises(native.LibraryNotFound) as info:
        native.server_path()
    assert str(tmp_path / "a" / "bin" / "capio_server") in str(info.value)
    server = place(tmp_path / "programs" / "capio_server")
    monkeypatch.setenv("PATH", f"{tmp_path / 'scripts'}:{tmp_path / 'programs'}")
    assert shutil.which("capio_server") == str(tmp_path / "scripts" / "capio_server")
    assert native.server_path() == server
