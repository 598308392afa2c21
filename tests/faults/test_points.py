"""Workers die, and stand still, at chosen points of a batch: the store is as the log has it."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.worlds import PATIENCE_SECONDS, World, stands_still
from tests.faults.wrapped_worker import POINTS
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

_PIECE: Final = 100
_PIECES: Final = 5 * len(POINTS) + 1


def test_a_worker_dies_at_every_point_of_a_batch(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Killed at each point, in its first batch and in a later one; nothing is lost or doubled."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    log = World(broker, topic, tmp_path, seed=seed, events=_PIECE * _PIECES)

    for point in POINTS:
        for times in (1, 3):
            with log.worker(point=point, times=times) as worker:
                while worker.poll() is None:
                    log.write(_PIECE)
                    eventually(
                        lambda: log.is_folded() or worker.poll() is not None,
                        timeout_seconds=PATIENCE_SECONDS,
                    )
                assert worker.wait() == -signal.SIGKILL, (point, times)
    log.write(log.left)
    with log.worker():
        eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)

    assert log.wrong() == [], f"seed {seed}"


@pytest.mark.parametrize("point", ["polled", "written", "committed"])
def test_a_worker_that_stood_still_is_fenced(
    broker: Broker, topic: str, tmp_path: Path, point: str
) -> None:
    """Another takes its partitions meanwhile; what it goes on with is not written a second time.

    In a transaction it holds the file's lock, so that the other can only wait for it.
    """
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    log = World(broker, topic, tmp_path, seed=seed, events=2_000)
    log.write(1_000)

    with log.worker(point=point, signal_=signal.SIGSTOP, instance=None) as old:
        eventually(lambda: stands_still(old), timeout_seconds=PATIENCE_SECONDS)
        with log.worker(instance=None) as new:
            if point != "written":
                eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)
            log.write(500)
            old.send_signal(signal.SIGCONT)
            log.write(log.left)
            eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)
            assert new.poll() is None
        assert old.poll() is None

    assert log.wrong() == [], f"seed {seed}"
    if point == "polled":
        assert b"fenced" in log.said.read_bytes() or b"lost" in log.said.read_bytes()


@pytest.mark.parametrize("hours", [-26, 1, 24 * 40])
def test_the_wall_clock_decides_no_figure(
    broker: Broker, topic: str, tmp_path: Path, hours: int
) -> None:
    """A worker whose clock is off, and jumps to and fro, comes to the same store."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - a failure must be repeatable
    log = World(broker, topic, tmp_path, seed=seed, events=2_000)

    with log.worker(clock_seconds=hours * 3_600.0):
        for _ in range(4):
            log.write(500)
            eventually(log.is_folded, timeout_seconds=PATIENCE_SECONDS)

    assert log.wrong() == [], f"seed {seed}"
