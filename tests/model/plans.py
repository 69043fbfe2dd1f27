"""Random workflows: what each step does, in an order in which batch execution is right.

A file has one producer; its consumers are later steps. What is written under no_update is never
overwritten (consumers may have had it), and a file is done when its rule says so, not before: such
are the workflows for which streaming promises what batch gives. Timing is part of a workflow:
tokens make a step go on only when another one has got somewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Json = Any

# Nothing, hardly anything, and sizes around what buffers and pages hold.
SIZES = (
    0,
    1,
    37,
    100,
    1000,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    20000,
    65536,
    131071,
    131073,
    300000,
)
# What reads of descriptors wait for, and gaps that descriptors leave: see docs/limits.md.
DESCRIPTORS = False
CHUNKS = (1, 7, 100, 4096, 8192, 8193, 50000, 131072, 200000)


@dataclass
class File:
    name: str
    producer: int
    consumers: list[int]
    fire: str
    kind: str
    commit: str
    seed: int
    size: int
    directory: Directory | None = None
    permanent: bool = False
    # Under on_file: what has to be complete first.
    deps: list[str] = field(default_factory=list)
    # A consumer that the producer waits for in mid-file, after so many bytes.
    partner: int | None = None
    agreed: int = 0
    token: str = ""


@dataclass
class Directory:
    name: str
    producer: int
    consumers: list[int]
    fire: str
    n_files: bool
    permanent: bool
    files: list[File] = field(default_factory=list)
    # Under on_file: of the listing.
    deps: list[str] = field(default_factory=list)


class Plan:
    """What each step does and how it is started, the CAPIO-CL file, tokens, files that are there
    before, those that have to be there after, and those that may."""

    def __init__(
        self,
        steps: list[list[Json]],
        how: list[str],
        config: Json,
        tokens: list[str],
        inputs: dict[str, str],
        kept: list[str],
        spared: list[str],
    ) -> None:
        self.steps = steps
        self.how = how
        self.config = config
        self.tokens = tokens
        self.inputs = inputs
        self.kept = kept
        self.spared = spared

    def __repr__(self) -> str:
        lines = ["Plan:"]
        for number, (how, step) in enumerate(zip(self.how, self.steps, strict=True)):
            lines += [f"# s{number}, {how}:", *(json.dumps(act) for act in step)]
        lines += [json.dumps(part) for part in self.config["graph"]]
        return "\n".join([*lines, json.dumps(self.kept)])


def beside(name: str, prefix: str) -> str:
    """Another name in the same directory."""
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{prefix}{tail}"


def _name(step: int) -> str:
    return f"s{step}"


class Maker:
    """Draws a plan."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.count = draw(st.integers(2, 4))
        self.tokens: list[str] = []
        self.files: list[File] = []
        self.directories: list[Directory] = []

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def rarely(self) -> bool:
        return bool(self.draw(st.integers(0, 3)) == 3)

    def token(self) -> str:
        self.tokens.append(f"t{len(self.tokens)}")
        return self.tokens[-1]

    def later(self, producer: int) -> list[int]:
        steps = range(producer + 1, self.count)
        return sorted(self.draw(st.lists(st.sampled_from(steps), min_size=1, unique=True)))

    def plan(self) -> Plan:
        for number in range(self.draw(st.integers(0, 2))):
            producer = self.draw(st.integers(0, self.count - 2))
            name = f"d{number}" + ("/e" if self.rarely() else "")
            self.directories.append(
                Directory(
                    name,
                    producer,
                    self.later(producer),
                    self.one_of("update", "no_update"),
                    self.draw(st.booleans()),
                    self.rarely(),
                )
            )
        for number in range(self.draw(st.integers(1, 5))):
            self.files.append(self.file(number))
        self.depend()
        for consumer in range(1, self.count):
            self.agree(consumer)
        steps = [self.step(number) for number in range(self.count)]
        self.meet(steps)
        return Plan(
            steps,
            [self.one_of("launcher", "context") for _ in steps],
            self.config(),
            self.tokens,
            {"given.txt": "what was there before\n"},
            ["given.txt", *(file.name for file in self.files if file.permanent)],
            # What is renamed from outside stays where it is, unless its new directory is not there.
            [file.name for file in self.files if file.kind == "outside"],
        )

    def file(self, number: int) -> File:
        directory = self.one_of(None, *self.directories)
        if directory is None:
            producer = self.draw(st.integers(0, self.count - 2))
            consumers, fire = self.later(producer), self.one_of("update", "no_update")
        else:
            producer, consumers, fire = directory.producer, directory.consumers, directory.fire
        kinds = ["plain", "again", "gaps", "renamed", "outside", "children"]
        if fire == "update":
            kinds.append("changed")
        kind = self.draw(st.sampled_from(kinds))
        commit = self.one_of("on_close", "on_termination")
        if kind == "again" and commit == "on_close":
            commit = "on_close:3"
        if kind == "changed" and commit == "on_close":
            commit = "on_close:2"
        if directory is not None and commit.startswith("on_close:"):
            commit = "on_termination"
        file = File(
            f"f{number}", producer, consumers, fire, kind, commit, number + 1, self.one_of(*SIZES)
        )
        if directory is not None:
            file.name = f"{directory.name}/f{number}"
            file.directory = directory
            file.permanent = directory.permanent
            # One rule for all that is in it.
            if directory.files:
                file.commit = directory.files[0].commit
                if file.commit == "on_close" and kind in ("again", "changed"):
                    file.kind = "plain"
            directory.files.append(file)
        else:
            file.permanent = self.rarely()
        return file

    def depend(self) -> None:
        """Some files are complete when others are, which steps make that come before all their
        consumers; and files that are opened once, since all may be there by then."""
        groups = [[file] for file in self.files if file.directory is None]
        groups += [directory.files for directory in self.directories if directory.files]
        for group in groups:
            if any(file.kind in ("again", "changed") for file in group) or not self.rarely():
                continue
            here, number = group[0].directory, min(file.seed for file in group)
            before = min(group[0].consumers)
            names = [
                file.name
                for file in self.files
                # Those with smaller numbers only, so that there is no circle.
                if file.seed < number
                and file.producer < before
                and (file.directory is None or file.directory is not here)
            ]
            for directory in self.directories:
                if directory is not here and directory.producer < before and directory.files:
                    if all(file.seed < number for file in directory.files):
                        names += [directory.name, directory.name + "/*"]
            if names:
                deps = sorted(self.draw(st.sets(st.sampled_from(names), min_size=1, max_size=3)))
                for file in group:
                    file.commit, file.deps = "on_file", deps
        for directory in self.directories:
            # All entries are there by then.
            ends = [
                file.name
                for file in self.files
                if file.directory is not directory
                and file.producer == directory.producer
                and file.commit == "on_termination"
            ]
            if ends and not directory.n_files and self.draw(st.booleans()):
                directory.deps = [self.draw(st.sampled_from(ends))]

    def agree(self, consumer: int) -> None:
        """The producer goes on only when this consumer has read the beginning: that is its first
        act, so nothing can keep it from it."""
        fit = [
            file
            for file in self.files
            if consumer in file.consumers
            and file.partner is None
            and file.fire == "no_update"
            and file.kind in ("plain", "again", "children")
            and file.size > 1
        ]
        if fit and not self.rarely():
            file = self.draw(st.sampled_from(fit))
            file.partner = consumer
            file.agreed = self.draw(st.integers(1, file.size - 1))

    def config(self) -> Json:
        graph = []
        for step in range(self.count):
            outputs, inputs, rules = [], [], []
            for file in self.files:
                if file.directory is not None:
                    continue
                if file.producer == step:
                    outputs.append(file.name)
                    rules.append(self.rule("name", file.name, file.fire, file.commit, file.deps))
                if step in file.consumers:
                    inputs.append(file.name)
            for directory in self.directories:
                names = [directory.name, directory.name + "/*"]
                if directory.producer == step:
                    outputs += names
                    if directory.files:
                        one = directory.files[0]
                        rules.append(
                            self.rule("name", names[1], directory.fire, one.commit, one.deps)
                        )
                    commit = "on_file" if directory.deps else "on_termination"
                    rule = self.rule("dirname", names[0], directory.fire, commit, directory.deps)
                    if directory.n_files and directory.files:
                        rule |= {"committed": "on_n_files", "n_files": len(directory.files)}
                    rules.append(rule)
                if step in directory.consumers:
                    inputs += names
            graph.append(
                {
                    "name": _name(step),
                    "input_stream": inputs,
                    "output_stream": outputs,
                    "streaming": rules,
                }
            )
        kept = [file.name for file in self.files if file.permanent]
        return {"graph": graph, "permanent": kept, "exclude": ["*.tmp"]}

    def rule(self, key: str, name: str, fire: str, commit: str, deps: list[str]) -> Json:
        rule: Json = {key: [name], "mode": fire, "committed": commit}
        return {**rule, "file_deps": deps} if deps else rule

    # ---- what a step does ----

    def step(self, number: int) -> list[Json]:
        first: list[Json] = []
        acts: list[list[Json]] = []
        made: list[Json] = []
        for directory in self.directories:
            if directory.producer == number:
                made.append(
                    {"do": "mkdir", "path": directory.name, "parents": "/" in directory.name}
                )
            if number in directory.consumers:
                about = self.one_of("listdir", "scandir", "iterdir", "isdir", "exists")
                acts.append([{"do": "question", "path": directory.name, "about": about}])
        for file in self.files:
            if file.producer == number:
                acts.append(self.production(file))
            if file.partner == number:
                first = [self.reading(file.name, file.size, file.token, file.agreed)]
            elif number in file.consumers:
                acts.append([self.view(file)])
                if self.rarely():
                    acts.append([self.view(file)])
        if self.rarely():
            acts.append([{"do": "question", "path": "absent.txt", "about": "exists"}])
            acts.append([self.reading("absent.txt", 10)])
        acts = self.draw(st.permutations(acts))
        return first + made + [act for acts in acts for act in acts]

    def meet(self, steps: list[list[Json]]) -> None:
        """Now and then a step goes on when an earlier one has got so far."""
        for number in range(1, self.count):
            if not self.rarely():
                continue
            token = self.token()
            earlier = steps[self.draw(st.integers(0, number - 1))]
            place = self.draw(st.integers(0, len(earlier)))
            earlier.insert(place, {"do": "signal", "token": token})
            after = 1 if any(file.partner == number for file in self.files) else 0
            place = self.draw(st.integers(after, len(steps[number])))
            steps[number].insert(place, {"do": "wait", "token": token})

    # ---- producing ----

    def cuts(self, size: int) -> list[int]:
        inner = self.draw(st.lists(st.integers(0, size), max_size=4))
        return sorted({0, size, *inner})

    def opening(self, file: File, path: str, mode: str, apis: tuple[str, ...]) -> Json:
        api = self.one_of(*apis)
        buffering = -1
        if api != "os" and self.rarely():
            buffering = self.one_of(0, 100, 70000) if "b" in mode else self.one_of(1, 100)
        return {
            "do": "file", "path": path, "seed": file.seed, "size": file.size, "mode": mode,
            "api": api, "buffering": buffering, "ops": [],
        }  # fmt: skip

    def sequence(self, file: File, start: int, end: int, writes: tuple[str, ...]) -> list[Json]:
        ops: list[Json] = []
        places = [p for p in self.cuts(file.size) if start < p < end]
        agreed = file.partner is not None and start < file.agreed <= end
        if agreed and file.agreed < end:
            places = sorted({*places, file.agreed})
        for one, other in zip([start, *places], [*places, end], strict=True):
            ops.append([self.one_of(*writes), one, other])
            if self.rarely():
                ops.append(["flush"])
            if agreed and other == file.agreed:
                token = self.token()
                file.token = token
                ops += [["flush"], ["wait", token]]
        return ops

    def may_hold_others(self, directory: Directory | None) -> bool:
        """Names that are there for a while only: they count for n_files, and who lists a directory
        as it grows sees them."""
        return directory is None or (not directory.n_files and directory.fire == "update")

    def production(self, file: File) -> list[Json]:
        path, acts = file.name, []
        everywhere = ("open", "path", "os")
        if file.kind == "renamed":
            place = file.name if self.may_hold_others(file.directory) else "r"
            path = beside(place, ".") + "-new"
        elif file.kind == "outside":
            place = file.name if self.may_hold_others(file.directory) else "o"
            path = f"{place}{file.seed}.tmp"
        if file.kind in ("plain", "renamed", "outside"):
            act = self.opening(file, path, self.one_of("wb", "w", "xb"), everywhere)
            if act["mode"] == "w" and act["api"] == "os":
                act["mode"] = "wb"
            writes = ("write", "write", "fdwrite") if "b" in act["mode"] else ("write",)
            act["ops"] = self.sequence(file, 0, file.size, writes)
            acts.append(act)
        elif file.kind == "children":
            act = self.opening(file, path, "wb", everywhere)
            act["ops"] = self.sequence(file, 0, file.size, ("write", "childwrite"))
            acts.append(act)
        elif file.kind == "again":
            one, other = sorted(
                self.draw(st.lists(st.integers(0, file.size), min_size=2, max_size=2))
            )
            for start, end, mode in ((0, one, "wb"), (one, other, "ab"), (other, file.size, "ab")):
                act = self.opening(file, path, mode, everywhere)
                # ] start, end ]: whoever holds the agreed byte waits.
                act["ops"] = self.sequence(file, start, end, ("write",)) if end > start else []
                acts.append(act)
        elif file.kind == "gaps":
            acts.append(self.gaps(file, path))
        else:
            acts += self.changed(file, path)
        if path != file.name:
            api = self.one_of("rename", "replace", "path", "move")
            acts.append({"do": "rename", "path": path, "to": file.name, "api": api})
        elif self.rarely():
            # A scratch file, and a look at what one has made.
            scratch = beside(file.name, ",") + "~"
            if self.may_hold_others(file.directory):
                act = self.opening(file, scratch, "wb", everywhere)
                act["ops"] = [["write", 0, file.size]]
                acts = [act, *acts, {"do": "unlink", "path": scratch}]
            acts.append(self.reading(file.name, file.size))
            acts.append({"do": "question", "path": file.name, "about": "size"})
        return acts

    def gaps(self, file: File, path: str) -> Json:
        apis = ("open", "os") if DESCRIPTORS or file.fire == "update" else ("open",)
        act = self.opening(file, path, self.one_of("wb", "w+b"), apis)
        places = self.cuts(file.size)
        parts = list(zip(places, places[1:], strict=False))
        parts = list(self.draw(st.permutations(parts)))
        if parts and self.rarely():
            parts.pop()  # stays a gap, of zeros, or makes the file shorter
        for one, other in parts:
            if act["api"] == "os" and self.draw(st.booleans()):
                act["ops"].append(["pwrite", one, other])
            else:
                act["ops"] += [["seek", one], ["write", one, other]]
            if self.rarely():
                act["ops"].append(["flush"])
        if self.rarely():
            act["ops"].append(["truncate", file.size + self.one_of(0, 1, 5000)])
        return act

    def changed(self, file: File, path: str) -> list[Json]:
        act = self.opening(file, path, "w+b", ("open", "os"))
        act["ops"] = [["write", 0, file.size], ["seek", 0], ["read", 10]]
        act["ops"] += [["seek", file.size // 3], ["write", 0, file.size // 2]]
        if self.draw(st.booleans()):
            act["ops"].append(["truncate", file.size // 2])
        other = self.opening(file, path, self.one_of("r+b", "wb"), ("open", "os"))
        other["ops"] = [["seek", self.one_of(0, 5, file.size)], ["write", 0, file.size // 4]]
        return [act, other]

    # ---- consuming ----

    def view(self, file: File) -> Json:
        if self.rarely():
            about = self.one_of("exists", "isfile", "size", "stat", "lexists", "isdir")
            return {"do": "question", "path": file.name, "about": about}
        return self.reading(file.name, file.size)

    def reading(self, path: str, size: int, token: str = "", agreed: int = 0) -> Json:
        mode = self.one_of("rb", "rb", "r")
        api = self.one_of("open", "path") if mode == "rb" else "open"
        if DESCRIPTORS and mode == "rb":
            api = self.one_of(api, "os")
        buffering = -1
        if api != "os" and self.rarely():
            buffering = self.one_of(0, 10, 5000, 400000) if mode == "rb" else self.one_of(10, 5000)
        act = {
            "do": "file", "path": path, "seed": 0, "size": 0, "mode": mode, "api": api,
            "buffering": buffering, "ops": [],
        }  # fmt: skip
        ops: list[Json] = act["ops"]
        if token:
            ops += [["read", agreed], ["signal", token]]
        chunk = self.one_of(*CHUNKS)
        if size > 2000 * chunk:
            chunk = 1000
        rest = ["read", "chunks"]
        if api != "os":
            rest += ["lines", "readlines", "readline"]
        if mode == "rb":
            rest += ["readinto", "end", "seek"]
            if buffering != 0:
                rest.append("mapped")
        for what in self.draw(st.lists(st.sampled_from(rest), min_size=1, max_size=4)):
            if what == "read":
                ops.append(self.one_of(["read"], ["read", chunk], ["read", size]))
            elif what in ("chunks", "readinto"):
                ops.append([what, chunk])
            elif what == "readline":
                ops.append(self.one_of(["readline"], ["readline", 5]))
            elif what == "seek":
                ops.append(["seek", self.draw(st.integers(0, size + 10))])
            else:
                ops.append([what])
        return act


@st.composite
def plans(draw: Any) -> Plan:
    return Maker(draw).plan()
