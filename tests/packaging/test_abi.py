"""The built library, capio.h, the compiler and the cffi module agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from build_helpers import ROOT, run
from pycapio import _pycapio
from pycapio._build_ffi import HEADER, PACKAGE_DIR, generate, read_cdef
from pycapio._capio_abi import ffi
from pycapio._native import library_path

# One worker: two builds in one source tree would get in each other's way.
pytestmark = pytest.mark.xdist_group("wheel")


STRUCTS = (
    "capio_session_options",
    "capio_cl_options",
    "capio_stat_t",
    "capio_dirent",
    "capio_opened_t",
)


def declared() -> set[str]:
    """The functions of capio.h, found in another way than the cdef is."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return set(re.findall(r"^CAPIO_EXPORT\b[^;(]*?(\w+)\(", text, re.MULTILINE))


def test_library_exports_exactly_what_the_header_declares(tmp_path: Path) -> None:
    listing = run("nm", "-D", "--defined-only", library_path(), cwd=tmp_path)
    symbols = [line.split()[-2:] for line in listing.splitlines()]
    exported = {name.partition("@")[0] for kind, name in symbols if kind != "A"}
    assert exported == declared()
    assert {name.partition("@@")[2] for kind, name in symbols if kind != "A"} == {"CAPIO_1"}


def test_soname_is_the_abi_version(tmp_path: Path) -> None:
    dynamic = run("readelf", "-dW", library_path(), cwd=tmp_path)
    abi = re.search(r"#define CAPIO_ABI_VERSION (\d+)", HEADER.read_text())
    assert abi is not None
    assert f"[libcapio.so.{abi[1]}]" in dynamic


def test_cdef_declares_every_function_and_the_library_has_them() -> None:
    lib = ffi.dlopen(str(library_path()))
    # Touching a function looks it up in the library.
    functions = {name for name in dir(lib) if not isinstance(getattr(lib, name), int)}
    assert functions == declared()


def test_generated_module_is_up_to_date(tmp_path: Path) -> None:
    assert generate(tmp_path).read_text() == (PACKAGE_DIR / "_capio_abi.py").read_text()


def test_sizes_offsets_and_constants_are_the_compilers(tmp_path: Path) -> None:
    expected: dict[str, int] = {}
    lines = []

    def measure(label: str, expression: str, value: int) -> None:
        expected[label] = value
        lines.append(f'  printf("{label} %lld\\n", (long long)({expression}));')

    for struct in STRUCTS:
        measure(f"sizeof.{struct}", f"sizeof({struct})", ffi.sizeof(struct))
        for name, field in ffi.typeof(struct).fields:
            measure(f"{struct}.{name}", f"offsetof({struct}, {name})", field.offset)
    lib = ffi.dlopen(str(library_path()))
    constants = re.findall(r"^#define (\w+)", read_cdef(), re.MULTILINE)
    for name in constants:
        measure(name, name, getattr(lib, name))
    assert len(constants) > 20

    source = tmp_path / "measure.c"
    source.write_text(
        "#include <capio/capio.h>\n#include <stdio.h>\nint main(void) {\n"
        + "\n".join(lines)
        + "\n  return 0;\n}\n"
    )
    program = tmp_path / "measure"
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler is not None
    run(compiler, f"-I{HEADER.parents[1]}", source, "-o", program, cwd=tmp_path)
    measured = dict(line.split() for line in run(program, cwd=tmp_path).splitlines())
    assert {label: int(value) for label, value in measured.items()} == expected


def test_every_struct_is_measured() -> None:
    named = set(re.findall(r"^\s*}\s*(\w+);", read_cdef(), re.MULTILINE))
    assert named == set(STRUCTS)


def test_one_release_number() -> None:
    from pycapio._version import __version__

    lib = ffi.dlopen(str(library_path()))
    version = (ROOT / "vendor" / "capio" / "VERSION").read_text().strip()
    assert ffi.string(lib.capio_version()).decode() == version == __version__
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("module", ["pycapio._native", "pycapio._build_ffi"])
def test_module_needs_no_built_package(module: str, tmp_path: Path) -> None:
    """setup.py runs both before anything is built."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py")
    if not source.exists():
        source = source.with_suffix("") / "__init__.py"
    alone = tmp_path / "module.py"
    alone.write_text(source.read_text())
    code = f"import runpy; runpy.run_path({str(alone)!r})"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_the_binding_looks_up_what_it_calls() -> None:
    source = (PACKAGE_DIR / "_pycapio.py").read_text()
    assert set(re.findall(r"_library\.(capio_\w+)", source)) == set(_pycapio._FUNCTIONS)


def test_the_binding_unpacks_stat_as_it_is_laid_out() -> None:
    kinds = {"uint64_t": "Q", "int64_t": "q", "double": "d"}
    _, *fields = ffi.typeof("capio_stat_t").fields
    assert fields[0][1].offset == _pycapio._STAT_START
    expanded = re.sub(
        r"(\d+)(\w)", lambda match: int(match[1]) * match[2], _pycapio._STAT.format.lstrip("@")
    )
    assert expanded == "".join(kinds[field.type.cname] for _, field in fields)
    assert _pycapio._STAT_START + _pycapio._STAT.size == ffi.sizeof("capio_stat_t")
    times = {"atime": "", "mtime": "", "ctime": ""}
    for (name, _), expected in zip(fields, _pycapio._STAT_NAMES, strict=True):
        assert times.get(name, f"st_{name.removesuffix('_s')}") == expected
