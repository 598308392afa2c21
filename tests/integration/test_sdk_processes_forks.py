"""Whoever forks, and whenever: each process sends its own events once, under its own id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.integration.sdk_programs.host import BEFORE
from tests.integration.sdk_programs.running import (
    assert_undisturbed,
    assert_whole,
    kept,
    read_log,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = pytest.mark.integration

CHILD: Final = range(1000, 1100)
GRANDCHILD: Final = range(2000, 2100)
FORKS: Final = {
    "before_the_first_event": (CHILD,),
    "fork_of_fork": (CHILD, GRANDCHILD),
    "fork_in_a_thread": (CHILD,),
    "fork_while_flushing": (CHILD,),
    "preexec": (),
    "daemonized": (CHILD,),
}
"""The programs of `sdk_programs.forks`, and what their children record."""
METHODS: Final = ("fork", "spawn", "forkserver")


@pytest.fixture
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The directory that hosts keep events in; None for those that keep them in memory."""
    return tmp_path / "spool" if request.param == "spool" else None


@pytest.mark.parametrize(
    ("case", "spool"),
    kept(FORKS, spooled=("fork_of_fork", "fork_in_a_thread", "fork_while_flushing")),
    indirect=["spool"],
)
def test_a_fork_shares_nothing(broker: Broker, topic: str, spool: Path | None, case: str) -> None:
    """All events of parent and children are in the log once, each by the process it is of."""
    ended = run("forks", case, broker, topic, spool=spool)

    assert_undisturbed(ended, status=0)
    assert set(ended.said.get("ended", ["0"])) == {"0"}
    assert set(ended.said.get("flushed", ["True"])) == {"True"}
    log = read_log(broker, topic)
    children = FORKS[case]
    if case == "daemonized":  # Its parents leave by os._exit, after a flush.
        assert log.quantities() == [*range(BEFORE), *CHILD]
    else:
        assert_whole(log, [*range(BEFORE), *(quantity for child in children for quantity in child)])
    assert ended.promised() == set(log.numbers())
    for quantities in (range(BEFORE), *children):
        assert len({event.producer for event in log.usage if event.quantity in quantities}) == 1
    assert len(log.producers()) == 1 + len(children)
    assert spool is None or list(spool.iterdir()) == []


def test_forks_at_any_moment_of_other_threads_calls(broker: Broker, topic: str) -> None:
    """Eight children, forked while three threads record: nothing is lost, hung or told twice."""
    ended = run("forks", "fork_while_others_record", broker, topic)

    assert_undisturbed(ended, status=0)
    assert ended.said["ended"] == ["0"] * 8
    recorded = [
        quantity for line in ended.said["loaded"] for quantity in range(*map(int, line.split()))
    ]
    children = [
        quantity for start in range(1000, 9000, 1000) for quantity in range(start, start + 100)
    ]
    log = read_log(broker, topic)
    assert_whole(log, recorded + children)
    assert len(log.producers()) == 9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", ["processes", "pool", "executor"])
def test_children_of_the_standard_library_deliver_at_their_end(
    broker: Broker, topic: str, way: str, method: str
) -> None:
    """Processes, a pool that is closed and joined, an executor: all events are there once."""
    ended = run("forks", f"{way} {method}", broker, topic)

    assert_undisturbed(ended, status=0)
    assert set(ended.said.get("ended", ["0"])) == {"0"}
    assert ended.said.get("worked", ["True"]) == ["True"]
    further = range(1000, 3000 if way == "processes" else 4000, 1000)
    log = read_log(broker, topic)
    assert_whole(log, [*range(BEFORE), *(start + n for start in further for n in range(100))])
    assert ended.promised() == set(log.numbers())


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_a_pool_kills_lose_nothing_that_they_flushed(
    broker: Broker, topic: str, method: str
) -> None:
    """A pool as a ``with`` block ends its workers by force, without a chance to deliver."""
    ended = run("forks", f"pool_terminated {method}", broker, topic)

    assert_undisturbed(ended, status=0)
    assert ended.said["worked"] == ["True"]
    log = read_log(broker, topic)
    workers = [start + n for start in (1000, 2000, 3000) for n in range(100)]
    assert log.quantities() == [*range(BEFORE), *workers]
    assert set(log.numbers().values()) == {1}
    assert ended.promised() == set(log.numbers())
