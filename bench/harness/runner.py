"""Takes the samples: all measures in turn, round after round, so that what disturbs the machine for
a while disturbs every side alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.peer import Peer, PeerUnavailable
from harness.results import Row
from harness.site import Site
from harness.sizes import SIZES, Sizes
from harness.steps import Step, StepError
from measures.catalogue import in_process, together
from measures.inprocess import STEPS, InProcess
from measures.together import Place, Together

_WORKER = Path(__file__).resolve().parent.parent / "worker.py"


class Runner:
    """Measures, and keeps the samples in rows.

    only: names (or their beginnings) of the measures to take; all if empty. tell: progress.
    """

    def __init__(
        self,
        sizes: str,
        peer: Peer | None,
        only: Sequence[str],
        tell: Callable[[str], None],
    ) -> None:
        self._sizes_name = sizes
        self._sizes: Sizes = SIZES[sizes]
        self._tell = tell
        self.peer_note = ""
        self._peer = self._installed(peer)

        def wanted(name: str) -> bool:
            return not only or any(name.startswith(start) for start in only)

        self._in_process = [m for m in in_process(self._sizes) if wanted(m.name)]
        self._together = [m for m in together(self._sizes) if wanted(m.name)]
        self.rows = {m.name: Row(m) for m in (*self._in_process, *self._together)}

    def _installed(self, peer: Peer | None) -> Peer | None:
        if peer is None:
            self.peer_note = "not asked for"
            return None
        try:
            peer.install()
        except PeerUnavailable as error:
            self.peer_note = str(error)
            return None
        return peer

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            for measure in self._in_process:
                self._tell(f"round {number + 1} of {rounds}: {measure.title}")
                self._take_in_process(measure)
            for group in self._together:
                self._tell(f"round {number + 1} of {rounds}: {group.title}")
                self._take_together(group, check=number == 0)

    # ---- one process ----

    def _take_in_process(self, measure: InProcess) -> None:
        row = self.rows[measure.name]
        with Site() as site:
            config = os.fspath(site.write_config(STEPS))
            plain, managed = os.fspath(site.plain), os.fspath(site.managed)
            worker = [os.fspath(_WORKER)]
            make = [*worker, "prepare", measure.name, self._sizes_name]
            self._to_the_end([sys.executable, *make, plain], site)
            self._to_the_end([*site.launcher("maker"), *make, managed], site)
            sample = [*worker, "sample", measure.name, self._sizes_name, str(self._sizes.samples)]
            step = Step([sys.executable, *sample, plain, managed, site.workflow, config], site.env)
            self._collect(row, step)
            step.finish()
        if "peer" in measure.sides and self._peer is not None and not row.peer_note:
            self._take_in_process_of_peer(measure, self._peer)

    def _to_the_end(self, command: Sequence[str], site: Site) -> None:
        step = Step(command, site.env)
        try:
            while True:
                step.line()
        except StepError:
            if step.process.returncode != 0:
                raise

    def _collect(self, row: Row, step: Step) -> None:
        try:
            while "end" not in (sample := step.result()):
                if "error" in sample:
                    raise StepError(sample["error"])
                for side, seconds in sample.items():
                    row.add(side, seconds)
        except BaseException:
            step.kill()
            raise

    def _take_in_process_of_peer(self, measure: InProcess, peer: Peer) -> None:
        row = self.rows[measure.name]
        with Site() as site:
            # A few samples: it is slow, and only a factor is asked for.
            samples = "2"
            step = Step(
                [
                    *(os.fspath(peer.python), os.fspath(_WORKER), "peer", measure.name),
                    *(self._sizes_name, samples, os.fspath(site.managed), site.workflow, ""),
                ],
                peer.env(site.env),
                limit=self._sizes.peer_seconds,
                cwd=os.fspath(site.base),
            )
            try:
                self._collect(row, step)
            except StepError as error:
                row.peer_note = _first_line(error)
            finally:
                step.kill()

    # ---- several processes ----

    def _take_together(self, measure: Together, *, check: bool) -> None:
        row = self.rows[measure.name]
        with Site() as site:
            for number in range(self._sizes.pairs + check):
                for side in measure.sides:
                    if side == "peer" and (self._peer is None or row.peer_note or number > 1):
                        continue
                    site.new_workflow()
                    place = Place(site, self._peer, measure.config())
                    if side == "peer":
                        place.limit = self._sizes.peer_seconds
                    try:
                        seconds = measure.sample_on(side, place, check=check and number == 0)
                    except StepError as error:
                        if side != "peer":
                            raise
                        row.peer_note = _first_line(error)
                        continue
                    if not (check and number == 0) or self._sizes.pairs == 0:
                        row.add(side, seconds)


def _first_line(error: StepError) -> str:
    first, _, rest = str(error).partition("\n")
    if first.startswith("no answer"):
        return "hung"
    return rest.splitlines()[-1].strip() if rest else first.partition(" of: ")[0]
