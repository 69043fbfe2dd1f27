"""Generates pycapio/_capio_abi.py, the cffi module of the C API, from capio.h.

capio.h is the only description of the C API: what stands there between CDEF-BEGIN and CDEF-END is
turned into cffi's dialect. Used by setup.py; run ``python -m pycapio._build_ffi`` after changing
the header in a source tree. The generated module is plain Python and fits every interpreter.
"""

from __future__ import annotations

import ast
import operator
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

MODULE = "pycapio._capio_abi"
PACKAGE_DIR = Path(__file__).resolve().parent
HEADER = PACKAGE_DIR.parent / "vendor" / "capio" / "include" / "capio" / "capio.h"

_BEGIN = "CDEF-BEGIN"
_END = "CDEF-END"
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"\s*#\s*define\s+([A-Za-z_]\w*)\s+(\S.*?)\s*")
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")

_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[int], int]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class HeaderError(ValueError):
    """capio.h holds something that cannot be expressed in a cdef."""


def constant_value(expression: str, known: Mapping[str, int]) -> int:
    """The value of an integer constant expression of C, with the constants defined before it."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and node.id in known:
            return known[node.id]
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)](value(node.left), value(node.right))
        raise HeaderError(f"'{expression}' is not an integer constant")

    try:
        tree = ast.parse(_SUFFIX.sub(r"\1", expression), mode="eval")
    except SyntaxError:
        raise HeaderError(f"'{expression}' is not an integer constant") from None
    return value(tree.body)


def cdef_from_header(text: str) -> str:
    """What cffi's cdef() is to be given for the text of capio.h."""
    if text.count(_BEGIN) != 1 or text.count(_END) < 1:
        raise HeaderError(f"no part between {_BEGIN} and {_END}")
    # From the line after the one that says BEGIN to the line before the one that says END: the last
    # one, as the comment at BEGIN speaks of END too.
    part = text[: text.rindex(_END)].split(_BEGIN, 1)[1]
    part = part[part.index("\n") : part.rindex("\n") + 1]

    constants: dict[str, int] = {}
    lines: list[str] = []
    code = _COMMENT.sub(" ", part).replace("\\\n", " ")
    for line in re.sub(r"\bCAPIO_EXPORT\b", "", code).splitlines():
        if not line.strip():
            continue
        if not line.lstrip().startswith("#"):
            lines.append(line.rstrip())
            continue
        match = _DEFINE.fullmatch(line)
        if match is None:
            raise HeaderError(f"'{line.strip()}' is not the definition of an integer constant")
        name, expression = match.groups()
        constants[name] = constant_value(expression, constants)
        lines.append(f"#define {name} {constants[name]}")
    return "\n".join(lines) + "\n"


def read_cdef(header: Path = HEADER) -> str:
    """The cdef of a capio.h."""
    try:
        text = header.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HeaderError(
            f"{header} does not exist; {MODULE} is generated in a source tree of pycapio only"
        ) from None
    try:
        return cdef_from_header(text)
    except HeaderError as error:
        raise HeaderError(f"{header}: {error}") from None


def generate(directory: Path = PACKAGE_DIR, header: Path = HEADER) -> Path:
    """Writes _capio_abi.py into directory and returns its path."""
    import cffi  # needed to generate, not to use, the module

    ffi = cffi.FFI()
    ffi.cdef(read_cdef(header))
    ffi.set_source(MODULE, None)
    target = directory / (MODULE.rpartition(".")[2] + ".py")
    with tempfile.TemporaryDirectory(dir=directory, prefix=".abi-") as scratch:
        # Renamed into place, so that no process imports half a module.
        made = Path(scratch) / target.name
        ffi.emit_python_code(str(made))
        os.replace(made, target)
    return target


def main() -> int:
    try:
        print(generate())
    except (HeaderError, OSError) as error:
        print(f"pycapio: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
