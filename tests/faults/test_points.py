"""Workers die at chosen points of a batch, and clocks are off: the store is as the log has it."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Final

import pytest

from tests.faults.worlds import PATIENCE_SECONDS, World
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
