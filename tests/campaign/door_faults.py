"""What is done to gateway, broker and worker while clients send, by name."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from tests.campaign.door_stack import LONG, Stack
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable


def _killed(stack: Stack, chance: random.Random) -> None:
    stack.kill_gateway()
    time.sleep(chance.random())
    stack.serve.start()


def _killed_twice(stack: Stack, chance: random.Random) -> None:
    _killed(stack, chance)
    _killed(stack, chance)


def _killed_while_halted(stack: Stack, chance: random.Random) -> None:
    """With events in its spool that the log does not have: the next gateway adopts them."""
    with stack.halted():
        eventually(lambda: stack.serve.spooled() > 0, timeout_seconds=LONG)
        time.sleep(3 * chance.random())
        _killed(stack, chance)
        stack.happened["gateway killed while the broker is halted"] += 1
        time.sleep(2 * chance.random())


def _killed_twice_while_halted(stack: Stack, chance: random.Random) -> None:
    """Two spools to adopt, and keys that are in both."""
    with stack.halted():
        for _ in range(2):
            eventually(lambda: stack.serve.spooled() > 0, timeout_seconds=LONG)
            time.sleep(2 * chance.random())
            _killed(stack, chance)
            stack.happened["gateway killed while the broker is halted"] += 1


def _ended(stack: Stack, _: random.Random) -> None:
    stack.serve.stop()
    stack.serve.start()
    stack.happened["gateway ended"] += 1


def _ended_while_halted(stack: Stack, chance: random.Random) -> None:
    with stack.halted():
        time.sleep(3 * chance.random())
        _ended(stack, chance)


def _halted(stack: Stack, chance: random.Random) -> None:
    with stack.halted():
        time.sleep(1 + 7 * chance.random())


def _broker_killed(stack: Stack, chance: random.Random) -> None:
    stack.kill_broker()
    time.sleep(chance.random())
    stack.broker.start(LONG)


def _both_killed(stack: Stack, chance: random.Random) -> None:
    """The next gateway begins while there is no broker."""
    stack.kill_broker()
    time.sleep(2 * chance.random())
    _killed(stack, chance)
    stack.broker.start(LONG)


def _worker_killed(stack: Stack, _: random.Random) -> None:
    stack.kill_worker()
    stack.worker.start()


FAULTS: Final[dict[str, Callable[[Stack, random.Random], None]]] = {
    "gateway killed": _killed,
    "gateway killed twice": _killed_twice,
    "gateway killed while the broker is halted": _killed_while_halted,
    "gateway killed twice while the broker is halted": _killed_twice_while_halted,
    "gateway ended": _ended,
    "gateway ended while the broker is halted": _ended_while_halted,
    "broker halted": _halted,
    "broker killed": _broker_killed,
    "broker and gateway killed": _both_killed,
    "worker killed": _worker_killed,
}


def drawn(names: list[str], cycles: int, chance: random.Random) -> list[str]:
    """So many faults at random: each as often as any other, or once more."""
    faults: list[str] = []
    while len(faults) < cycles:
        faults += chance.sample(names, len(names))
    return faults[:cycles]
