"""Kill the gateway, its broker and its worker under load, and count what came through.

``python -m tests.campaign.door_campaign --cycles 20``. Clients of all kinds send while things die.
At the end what they were told is compared with the topic, which is counted here anew (once each
producer's number, once each key), and with the figures of the store. A campaign with findings, or
one that broke off, leaves its directory: see `tests.campaign.door_evidence`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.campaign.door_clients import AgentMeter
from tests.campaign.door_evidence import Evidence
from tests.campaign.door_faults import FAULTS, drawn
from tests.campaign.door_judge import Judge, Verdict
from tests.campaign.door_stack import LONG, Bounds, Stack
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

_SDK_EVENTS: Final = 50
"""Recorded before each fault."""


class Result(NamedTuple):
    """What came of a campaign; no finding, no fault. ``happened``: what was done, and seen so."""

    findings: list[str]
    happened: Counter[str]
    verdicts: list[Verdict]

    @property
    def lines(self) -> list[str]:
        """All of it, to be read."""
        return [
            *(verdict.line for verdict in self.verdicts),
            f"happened: {dict(self.happened)}",
            *map("FINDING: {}".format, self.findings),
        ]


def run(
    place: Path,
    faults: Sequence[str],
    seed: int,
    say: Callable[[str], None],
    bounds: Bounds | None = None,
) -> Result:
    """These faults in this order, and the judgement. ``place`` is an empty directory."""
    evidence = Evidence(place, say)
    stack = Stack(place, seed, bounds or Bounds())
    try:
        with stack:
            try:
                _do(stack, faults, random.Random(seed), evidence)
                result = _judgement(stack, evidence)
            except BaseException:
                evidence.clients(stack.clients, [])
                raise
    except BaseException as problem:
        evidence.broke_off(problem)
        raise
    evidence.told(result.lines)
    return result


def _do(stack: Stack, faults: Sequence[str], chance: random.Random, evidence: Evidence) -> None:
    """The faults; afterwards clients have come to an end, and spools are sent."""
    for fault in faults:
        stack.record(_SDK_EVENTS)
        time.sleep(0.3 + 0.7 * chance.random())
        evidence.fault(fault)
        FAULTS[fault](stack, chance)
    evidence.fault("no more faults")
    for client in stack.clients:
        client.end(LONG)


def _judgement(stack: Stack, evidence: Evidence) -> Result:
    findings = [f"{c.tenant}: {said}" for c in stack.clients for said in c.problems]
    if not stack.sdk.flush(LONG):
        findings.append(f"the SDK could not deliver: {stack.sdk.status()}")
    try:
        # Of other spools than its own it has none left, and in its own is nothing that waits.
        eventually(
            lambda: stack.left_in_spools() <= 1 and not stack.serve.spooled(), timeout_seconds=LONG
        )
    except AssertionError:
        findings.append(f"{stack.left_in_spools()} spools, {stack.serve.spooled()} events wait")
    stack.happened["events adopted by the last gateway"] = stack.serve.adopted()
    findings += [
        f"agent: {client.booked()} booked, {len(client.sent)} sent"
        for client in stack.clients
        if isinstance(client, AgentMeter) and client.booked() != len(client.sent)
    ]
    stack.sdk.close(LONG)
    stack.serve.stop()
    if left := stack.left_in_spools():
        findings.append(f"{left} spools are left behind")
    if not stack.worker.is_alive:  # It was started while there was no broker.
        stack.worker.start()
    judge = Judge(stack)
    evidence.clients(stack.clients, judge.placed)
    findings += judge.findings()
    return Result(findings, stack.happened, judge.verdicts)


def main() -> int:
    """One campaign; exit status 0 without findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.door_campaign")
    parser.add_argument("--cycles", type=int, help="faults; default: each once")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", action="append", default=[], choices=sorted(FAULTS))
    parser.add_argument("--in-order", action="store_true", help="of --only, or of the list")
    parser.add_argument("--spool-bytes", type=int, default=1 << 30, help="what the spool may have")
    parser.add_argument("--patience", type=float, help="seconds of the gateway's, for the log")
    parser.add_argument("--place", type=Path, help="directory to keep; default: a temporary one")
    options = parser.parse_args()
    names = options.only or list(FAULTS)
    cycles = options.cycles or len(names)
    dealt = drawn(names, cycles, random.Random(options.seed))
    faults = (names * cycles)[:cycles] if options.in_order else dealt
    place = options.place or Path(tempfile.mkdtemp(prefix="door-campaign-"))
    place.mkdir(exist_ok=True)
    _say(f"--seed {options.seed} --cycles {cycles}, in {place}")
    bounds = Bounds(options.spool_bytes, options.patience)
    findings = run(place, faults, options.seed, _say, bounds).findings
    if findings:
        _say(f"{len(findings)} findings; what is left is in {place}")
        return 1
    if options.place is None:
        shutil.rmtree(place)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


if __name__ == "__main__":
    sys.exit(main())
