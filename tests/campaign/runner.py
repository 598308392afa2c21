"""A campaign: faults in seeded random order over a working stack, then the judgement."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.campaign.faults import FAULTS, Fault
from tests.campaign.stack import LETTERS, METERS, TOPIC, Stack
from tests.campaign.verifier.__main__ import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BREATH_CYCLES: Final = 20
_CAUGHT_UP_SECONDS: Final = 600.0
_TIMEOUTS_SECONDS: Final = 2.0
_JUDGE_SECONDS: Final = 1_800.0


class Campaign(NamedTuple):
    """What is asked for. ``pairs``: from this cycle on two faults happen at once."""

    place: Path
    store: str
    cycles: int
    seed: int
    rate: int
    pairs: int
    only: tuple[str, ...] = ()
    seconds: float = float("inf")
    """No cycle begins after this time."""


class Result(NamedTuple):
    """What came of it."""

    line: str
    """The judge's own, or empty."""
    said: str
    faults: Counter[str]
    killed: Counter[str]
    gave_up: Counter[str]
    seconds: float


def run(campaign: Campaign, say: Callable[[str], None]) -> Result:
    """The whole campaign. Raises `AssertionError` when somebody gives up or does not go on."""
    chance = random.Random(campaign.seed)
    began = time.monotonic()
    faults: Counter[str] = Counter()
    with Stack(campaign.place, campaign.store, chance, campaign.rate) as stack:
        stack.wait_until_caught_up(_CAUGHT_UP_SECONDS, at_least=1)
        for cycle in range(1, campaign.cycles + 1):
            if time.monotonic() - began > campaign.seconds:
                say(f"the time is over after {cycle - 1} cycles")
                break
            drawn = _draw(campaign, chance, 2 if cycle > campaign.pairs else 1)
            faults.update(fault.name for fault in drawn)
            at = time.monotonic()
            _suffer(stack, drawn)
            say(
                f"cycle {cycle}/{campaign.cycles} {time.monotonic() - at:.1f} s:"
                f" {' and '.join(fault.name for fault in drawn)}"
            )
            stack.supervise()
            if cycle % _BREATH_CYCLES == 0:
                seconds = stack.wait_until_caught_up(_CAUGHT_UP_SECONDS)
                say(f"caught up after {seconds:.1f} s; killed so far: {dict(stack.killed)}")
        say("everything is mended; producers end, and what dead ones left is sent")
        _bring_to_rest(stack)
        status, said = judge(stack)
        say(said)
        if status == 0:
            status, proof = _rebuild(stack)
            said += proof
            say(proof)
        line = next((line for line in said.splitlines() if line.startswith(TOKEN)), "")
        seconds = time.monotonic() - began
        return Result(
            line if status == 0 else "", said, faults, stack.killed, stack.gave_up, seconds
        )


def judge(stack: Stack) -> tuple[int, str]:
    """Copy the topics and let the verifier judge, each as a process of its own."""
    files = stack.place / "files"
    verifier = [sys.executable, "-m", "tests.campaign.verifier"]
    status, said = _called(
        [
            *verifier, "read", "--bootstrap", stack.broker.bootstrap_servers, "--topic", TOPIC,
            "--letters", LETTERS, "--files", str(files),
        ]
    )  # fmt: skip
    if status:
        return status, said
    return _called([*verifier, *judging(stack.place, stack.store)])


def judging(place: Path, store: str) -> list[str]:
    """The arguments that judge the files of a campaign."""
    return [
        "judge", "--files", str(place / "files"), "--journals", str(place / "journals"),
        "--meters", str(METERS), "--store", store,
        "--schema", "schemas/meterstream_schemas/avro/meter_event.v1.avsc",
    ]  # fmt: skip


def _draw(campaign: Campaign, chance: random.Random, number: int) -> list[Fault]:
    possible = [
        fault
        for fault in FAULTS
        if fault.store in {None, campaign.store}
        and (not campaign.only or fault.name in campaign.only)
    ]
    drawn: list[Fault] = []
    while len(drawn) < min(number, len(possible)):
        fault = chance.choices(possible, [each.weight for each in possible])[0]
        # Two faults of one part would mend each other: the second begins what the first has ended.
        if all(fault.name.split()[0] != each.name.split()[0] for each in drawn):
            drawn.append(fault)
        elif len({each.name.split()[0] for each in possible}) < number:
            break
    return drawn


def _suffer(stack: Stack, drawn: list[Fault]) -> None:
    with ExitStack() as broken:
        for fault in drawn:
            broken.enter_context(fault.broken(stack))
            time.sleep(stack.chance.uniform(*fault.seconds))
    time.sleep(stack.chance.uniform(0.0, 0.6))


def _bring_to_rest(stack: Stack) -> None:
    """Everything was sent and folded, and nothing writes any more."""
    stack.stop_producers()
    stack.wait_until_caught_up(_CAUGHT_UP_SECONDS)
    time.sleep(_TIMEOUTS_SECONDS)
    stack.stop_workers()
    stack.start_worker(0, tick_seconds=0)
    stack.wait_until_caught_up(_CAUGHT_UP_SECONDS)
    stack.wait_until_told(_CAUGHT_UP_SECONDS)
    stack.stop_workers()


def _rebuild(stack: Stack) -> tuple[int, str]:
    """The project's own proof: the log folded once more, compared row by row."""
    command = [str(stack.command), "verify", "--no-progress", "--store", stack.store]
    return _called([*command, "--bootstrap", stack.broker.bootstrap_servers])


def _called(command: list[str]) -> tuple[int, str]:
    ended = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_JUDGE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout
