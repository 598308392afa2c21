"""Compatibility modules in the child of a fork: nothing of the parent's, and nothing stuck."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from meterstream.compat.forks import ForkLock
from meterstream.compat.ledger import LocalLedger

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os, sys, threading, time
from meterstream.compat import wiring
from meterstream.compat.climeter import meter
from meterstream.compat.stripemeter import StripeMeterClient
from meterstream.memory import MemoryTransport

transport = MemoryTransport()
wiring.use(meter=wiring.make_meter(transport=transport))
meter.configure("k")
client = StripeMeterClient(tenant_id="t1", timeout=5)
transport.available = False
for number in range(5):
    client.buffer("m", "c", 1)
    meter.record("parents")
child = os.fork()
transport.available = True
if child == 0:
    client.buffer("m", "c", 2)
    meter.record("childs")
    answers = client.flush().accepted, client.track("m", "c", 3).accepted
    meter.flush()
    records = sum(len(records) for records in transport.log)
    os._exit(0 if (answers, records) == ((1, 1), 3) else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, client.flush().accepted, meter.status()["queue_size"])
"""


def test_parent_and_child_each_send_their_own() -> None:
    """What was buffered before a fork leaves once, from the parent; the child's from the child."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip

    assert done.stdout.split() == ["0", "5", "0"], done.stderr


def child_can(work: object) -> int:
    """The exit code of a child that does ``work``: 0 when that ends well."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]  # a function
        except BaseException:  # noqa: BLE001 - the parent's tests must not run on in here
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_held_lock_is_free_in_the_child() -> None:
    """A fork while somebody holds the lock leaves the child a free one."""
    lock = ForkLock()

    def take() -> None:
        with lock, lock:
            pass

    with lock:
        assert child_can(take) == 0
        take()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_parent_and_child_share_one_ledger_file(tmp_path: Path) -> None:
    """Movements from both processes are all there."""
    ledger = LocalLedger(tmp_path / "ledger.json")

    def move() -> None:
        for _ in range(20):
            ledger.move("acme", Decimal(1))

    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                move()
            finally:
                os._exit(0)
        children.append(child)
    move()
    for child in children:
        os.waitpid(child, 0)

    assert ledger.balance("acme") == 60
