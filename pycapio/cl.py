"""pycapio-cl: shows and checks CAPIO-CL files.

Usage::

    pycapio-cl check FILE [--capio-dir DIR] [--resolve-prefix DIR]
    pycapio-cl graph FILE [--format dot|mermaid] [--capio-dir DIR] [--resolve-prefix DIR]

``python -m pycapio.cl`` is the same. What the file says is told by the engine itself, so that the
two cannot differ. Exit status: 0, 1 if the file has errors, 2 if the command line is wrong or a
file cannot be read.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NoReturn

from pycapio import _pycapio
from pycapio._pycapio import PyCAPIOException
from pycapio._version import __version__

_EXIT_OK: Final = 0
_EXIT_ERRORS: Final = 1
_EXIT_USAGE: Final = 2

_FORMATS: Final = ("dot", "mermaid")


class _UsageError(Exception):
    """The command line cannot be followed; the text is a sentence for the user."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit status. argv: by default that of the process."""
    try:
        arguments = _arguments(sys.argv[1:] if argv is None else list(argv))
        report = _read(arguments)
    except _UsageError as error:
        _say(str(error))
        return _EXIT_USAGE
    for warning in report["warnings"]:
        _say(f"warning: {warning}")
    for found in report["errors"]:
        _say(f"error: {found['text']}")
    count = len(report["errors"])
    if count:
        _say(f"{report['file']} has {count} error{'s' if count > 1 else ''}")
        return _EXIT_ERRORS
    try:
        sys.stdout.write(_shown_as(arguments)(report))
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads it has seen enough; and the interpreter must not try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _EXIT_OK


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="pycapio-cl",
        description="Shows and checks CAPIO-CL files, which say how the files of a workflow are "
        "shared. Exit status: 0, 1 if the file has errors, 2 for a wrong command line or a file "
        "that cannot be read.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pycapio-cl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    check = commands.add_parser(
        "check",
        help="report every error of a file, and print what it says of each path",
        description="Reports every error and warning of a CAPIO-CL file on stderr. If there is no "
        "error, prints what holds for each path and pattern of the file: who writes and reads it, "
        "when it is complete (COMMIT), from when it may be read (FIRE).",
        allow_abbrev=False,
    )
    graph = commands.add_parser(
        "graph",
        help="print the steps and the files between them as a graph",
        description="Prints the steps of a workflow and the files between them as text for "
        "Graphviz (dot -Tsvg) or Mermaid.",
        allow_abbrev=False,
    )
    graph.add_argument(
        "--format",
        choices=_FORMATS,
        default="dot",
        help='"dot" for Graphviz (default), or "mermaid"',
    )
    for command in (check, graph):
        command.add_argument("file", metavar="FILE", help="the CAPIO-CL file")
        command.add_argument(
            "--capio-dir",
            metavar="DIR",
            default=os.environ.get("CAPIO_DIR") or ".",
            help="what the file is for: the directory that absolute names have to be in; it need "
            'not exist (default: $CAPIO_DIR, or ".")',
        )
        command.add_argument(
            "--resolve-prefix",
            metavar="DIR",
            default="",
            help="what relative names are taken from (default: the CAPIO_DIR)",
        )
    known = list(commands.choices)
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        close = difflib.get_close_matches(argv[0], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it may be {' or '.join(known)}"
        raise _UsageError(f"there is no command {argv[0]}; {hint}")
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        raise _UsageError("the command is missing: check or graph (see pycapio-cl --help)")
    if not arguments.capio_dir:
        raise _UsageError("--capio-dir is empty")
    return arguments


def _shown_as(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], str]:
    if arguments.command == "check":
        return table
    return mermaid if arguments.format == "mermaid" else dot


def _read(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.file:
        raise _UsageError("the name of the file is empty")
    try:
        text = _pycapio.check_file(
            arguments.file,
            capio_dir=arguments.capio_dir,
            resolve_prefix=arguments.resolve_prefix,
        )
    except PyCAPIOException as error:
        raise _UsageError(str(error) or errno.errorcode.get(error.errno, "unknown")) from None
    report: dict[str, Any] = json.loads(text)
    return report


def _say(sentence: str) -> None:
    prefix = "" if sentence.startswith("pycapio:") else "pycapio-cl: "
    print(prefix + sentence, file=sys.stderr)


# ---- check -------------------------------------------------------------------------------------

_COLUMNS: Final = ("PATH", "KIND", "PRODUCERS", "CONSUMERS", "COMMIT", "FIRE", "FLAGS")


def table(report: dict[str, Any]) -> str:
    """The file's entries, one a line, in aligned columns."""
    rows = [_row(entry) for entry in report["entries"]]
    steps = ", ".join(_shown(app) for app in report["apps"]) or "none"
    head = f"workflow {_shown(report['name'])}, CAPIO-CL {report['version']:g}; steps: {steps}\n"
    if not rows:
        return head + "it names no file\n"
    widths = [max(_width(row[i]) for row in [_COLUMNS, *rows]) for i in range(len(_COLUMNS))]
    lines = [head]
    for row in [_COLUMNS, *rows]:
        cells = (
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    commit = entry["committed"]
    if entry["file_deps"]:
        commit += f" ({', '.join(_shown(name) for name in entry['file_deps'])})"
    elif entry["n_files"] and not commit.startswith("on_n_files"):
        commit += f", {entry['n_files']} entries"
    flags = [name for name in ("permanent", "excluded") if entry[name]]
    if entry["storage"] != "memory":
        flags.append(entry["storage"])
    if entry["home"]:
        flags.append(f"home={_shown(entry['home'])}")
    kind = "directory" if entry["directory"] else "file"
    return (
        _shown(entry["path"]) if entry["path"] else ".",
        kind + (" pattern" if entry["pattern"] else ""),
        _names(entry["producers"]),
        _names(entry["consumers"]),
        "-" if entry["excluded"] else commit,
        "-" if entry["excluded"] else entry["fire"],
        ", ".join(flags) or "-",
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(_shown(name) for name in names) or "-"


def _shown(text: str) -> str:
    """The text, quoted if it would not be told apart from what is around it."""
    return (
        text if text.isprintable() and text.strip() and not set(text) & set(' ,"') else repr(text)
    )


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


# ---- graph -------------------------------------------------------------------------------------


def _nodes(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The paths that some step reads or writes."""
    return [
        e for e in report["entries"] if (e["producers"] or e["consumers"]) and not e["excluded"]
    ]


def _label(entry: dict[str, Any]) -> str:
    name: str = entry["path"] or "."
    return name + ("/" if entry["directory"] and not name.endswith("/") else "")


def _rule(entry: dict[str, Any]) -> str:
    return f"{entry['committed']}, {entry['fire']}"


def _edges(
    report: dict[str, Any], step: Callable[[int], str], path: Callable[[int], str]
) -> Iterable[tuple[str, str, bool]]:
    """(from, to, whether the reader may start before the file is complete)."""
    index = {name: number for number, name in enumerate(report["apps"])}
    for number, entry in enumerate(_nodes(report)):
        for app in entry["producers"]:
            yield step(index[app]), path(number), False
        for app in entry["consumers"]:
            yield path(number), step(index[app]), entry["fire"] == "no_update"


def dot(report: dict[str, Any]) -> str:
    """The graph for Graphviz. Who may read while the file grows has a dashed arrow."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    lines = [f"digraph {quoted(report['name'])} {{", "  rankdir=LR;"]
    for number, app in enumerate(report["apps"]):
        lines.append(f"  step{number} [shape=box, style=bold, label={quoted(app)}];")
    for number, entry in enumerate(_nodes(report)):
        shape = "folder" if entry["directory"] else "note"
        outline = ", peripheries=2" if entry["permanent"] and shape != "folder" else ""
        text = f"{_label(entry)}\n{_rule(entry)}" + ("\npermanent" if entry["permanent"] else "")
        lines.append(f"  path{number} [shape={shape}{outline}, label={quoted(text)}];")
    for source, target, early in _edges(report, "step{}".format, "path{}".format):
        lines.append(f"  {source} -> {target}{' [style=dashed]' if early else ''};")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(report: dict[str, Any]) -> str:
    """The graph for Mermaid. Who may read while the file grows has a dotted arrow."""

    def quoted(text: str) -> str:
        # Mermaid's own escapes: numeric entities with # for &.
        plain = "".join(c if c.isalnum() or c in " ._-/,:+=()" else f"#{ord(c)};" for c in text)
        return f'"{plain}"'

    lines = ["flowchart LR"]
    for number, app in enumerate(report["apps"]):
        lines.append(f"  step{number}[{quoted(app)}]")
    for number, entry in enumerate(_nodes(report)):
        text = quoted(_label(entry))[:-1] + f"<br/>{quoted(_rule(entry))[1:-1]}"
        text += "<br/>permanent" if entry["permanent"] else ""
        opening, closing = ("[/", "/]") if entry["directory"] else ("(", ")")
        lines.append(f'  path{number}{opening}{text}"{closing}')
    for source, target, early in _edges(report, "step{}".format, "path{}".format):
        lines.append(f"  {source} {'-.->' if early else '-->'} {target}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
