"""From capio.h to a cdef."""

from __future__ import annotations

from pathlib import Path

import cffi
import pytest

from pycapio._build_ffi import HeaderError, cdef_from_header, constant_value, read_cdef

# One worker: two builds in one source tree would get in each other's way.
pytestmark = pytest.mark.xdist_group("wheel")


def header(body: str) -> str:
    return f"#ifndef H\n/* CDEF-BEGIN: up to CDEF-END. */\n{body}\n/* CDEF-END */\n#endif\n"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1", 1),
        ("16u", 16),
        ("0x10UL", 16),
        ("(-4097)", -4097),
        ("1u << 4", 16),
        ("(A | 2u)", 3),
        ("~0", None),
        ("A + ", None),
        ("B", None),
        ("1.5", None),
        ('"text"', None),
        ("__import__('os')", None),
    ],
)
def test_constants(expression: str, value: int | None) -> None:
    if value is None:
        with pytest.raises(HeaderError, match="not an integer constant"):
            constant_value(expression, {"A": 1})
    else:
        assert constant_value(expression, {"A": 1}) == value


def test_comments_export_macro_and_layout_do_not_matter() -> None:
    cdef = cdef_from_header(
        header(
            "#define ONE 1u /* of several\n lines */\n#  define BOTH (ONE | \\\n 2u)\n"
            "CAPIO_EXPORT int f(int a, // the first\n                   int b);\n"
            "typedef struct s { size_t n; char name[]; } s;"
        )
    )
    ffi = cffi.FFI()
    ffi.cdef(cdef)
    assert "#define BOTH 3" in cdef
    assert ffi.typeof("s").fields[1][1].type.kind == "array"
    assert "CAPIO_EXPORT" not in cdef and "several" not in cdef


@pytest.mark.parametrize(
    "line", ["#define F(x) (x)", "#ifdef X", "#include <a.h>", "#define EMPTY"]
)
def test_what_cffi_cannot_take_is_an_error(line: str) -> None:
    with pytest.raises(HeaderError):
        cdef_from_header(header(line))


def test_markers_are_required() -> None:
    with pytest.raises(HeaderError, match="CDEF-BEGIN"):
        cdef_from_header("int f(void);")


def test_absent_header_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeaderError, match=r"absent\.h does not exist"):
        read_cdef(tmp_path / "absent.h")
