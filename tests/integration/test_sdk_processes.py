"""However a host ends: it ends as it meant to, in time, and what was promised is in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from meterstream.meter import CLOSE_SECONDS
from tests.integration.sdk_programs.host import BEFORE, HEIR
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

GENEROUS: Final = 3
"""Times the deadline of closing: the machine may be busy, the interpreter takes its time too."""


class Ending(NamedTuple):
    """What a program of `sdk_programs.exits` should come to."""

    status: int = 0
    further: int = 0
    """Events beside those that every program records first."""
    own: str = ""
    """The last words of the host's own traceback."""


IN_ORDER: Final = {
    "normal": Ending(),
    "sys_exit": Ending(3),
    "sys_exit_in_a_thread": Ending(0, 1),
    "unhandled_exception": Ending(1, 0, "RuntimeError: the host's own"),
    "unhandled_exception_in_a_thread": Ending(0, 1, "RuntimeError: the host's own"),
    "keyboard_interrupt": Ending(1, 0, "KeyboardInterrupt"),
    "sigterm_with_a_handler": Ending(5, 1),
    "atexit_after_the_meter": Ending(0, 1),
    "atexit_before_the_meter": Ending(),
    "del_at_teardown": Ending(),
    "del_while_nobody_refers_to_the_meter": Ending(),
    "non_daemon_threads": Ending(0, 100),
    "thread_pool": Ending(0, 100),
    "asyncio_cancelled": Ending(1, 20, "KeyboardInterrupt"),
}
FLUSHED: Final = {"sigterm_after_a_flush": -15, "os_exit_after_a_flush": 7, "exec_after_a_flush": 8}
SUDDEN: Final = {"sigterm_at_once": -15, "sigkill_at_once": -9, "os_exit_at_once": 7}
ON_DISK: Final = {"sigterm_after_disk": -15, "sigkill_after_disk": -9, "os_exit_after_disk": 7}


@pytest.fixture
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """The directory that hosts keep events in; None for those that keep them in memory."""
    return tmp_path / "spool" if request.param == "spool" else None


def left_in(spool: Path | None) -> list[Path]:
    """What hosts left behind on disk."""
    return [] if spool is None or not spool.exists() else list(spool.iterdir())


@pytest.mark.parametrize(
    ("case", "spool"),
    kept(
        IN_ORDER,
        spooled=("normal", "sigterm_with_a_handler", "atexit_after_the_meter", "thread_pool"),
    ),
    indirect=["spool"],
)
def test_an_end_in_order_delivers_everything(
    broker: Broker, topic: str, spool: Path | None, case: str
) -> None:
    """All that `record` took is in the log once, with closing marks, in less than the deadline."""
    ending = IN_ORDER[case]

    ended = run("exits", case, broker, topic, spool=spool)

    assert_undisturbed(ended, status=ending.status, own=ending.own)
    log = read_log(broker, topic)
    assert_whole(log, range(BEFORE + ending.further))
    assert ended.promised() == set(log.numbers())
    assert ended.said.get("late", ["False"]) == ["False"], "after the close nothing is taken"
    assert ended.seconds < GENEROUS * CLOSE_SECONDS
    assert left_in(spool) == []


@pytest.mark.parametrize(
    ("case", "spool"), kept(FLUSHED, spooled=("os_exit_after_a_flush",)), indirect=["spool"]
)
def test_an_end_by_force_after_a_flush_loses_nothing(
    broker: Broker, topic: str, spool: Path | None, case: str
) -> None:
    """What was flushed is in the log, whatever comes then; only the closing marks are missing."""
    ended = run("exits", case, broker, topic, spool=spool)

    assert_undisturbed(ended, status=FLUSHED[case])
    assert ended.said["flushed"] == ["True"]
    log = read_log(broker, topic)
    assert log.quantities() == list(range(BEFORE))
    assert ended.promised() == set(log.numbers())
    assert log.closing == {}


@pytest.mark.parametrize(
    ("case", "spool"), kept(SUDDEN, spooled=("sigkill_at_once",)), indirect=["spool"]
)
def test_an_end_by_force_keeps_its_promises(
    broker: Broker, topic: str, spool: Path | None, case: str
) -> None:
    """Events of the last moments may be gone; none that had an outcome, and none is there twice."""
    ended = run("exits", case, broker, topic, spool=spool)

    assert_undisturbed(ended, status=SUDDEN[case])
    log = read_log(broker, topic)
    assert ended.promised() <= set(log.numbers())
    assert set(log.quantities()) <= set(range(BEFORE))
    assert all(count == 1 for count in log.numbers().values())


@pytest.mark.parametrize("case", ON_DISK)
def test_what_is_on_disk_survives_an_end_by_force(
    broker: Broker, topic: str, tmp_path: Path, case: str
) -> None:
    """The next process delivers it under the producer id and numbers of the dead one."""
    spool = tmp_path / "spool"

    ended = run("exits", case, broker, topic, spool=spool)
    assert_undisturbed(ended, status=ON_DISK[case])
    assert ended.said["flushed"] == ["True"]
    heir = run("exits", "heir", broker, topic, spool=spool)

    assert_undisturbed(heir, status=0)
    log = read_log(broker, topic)
    assert log.quantities() == [*range(BEFORE), HEIR]
    assert len(log.producers()) == 2
    assert {event.producer for event in log.usage if event.quantity != HEIR} == set(
        ended.said["producer"]
    )
    assert ended.promised() | heir.promised() <= set(log.numbers())
    assert left_in(spool) == []


def test_a_meter_made_at_the_very_end_does_no_harm(broker: Broker, topic: str) -> None:
    """When the interpreter takes itself apart it is too late: it is refused, or `close` says so."""
    ended = run("exits", "made_at_teardown", broker, topic)

    assert_undisturbed(ended, status=0)
    assert ended.said["made"] in (["True False"], ["refused"])
    assert_whole(read_log(broker, topic), range(BEFORE))


@pytest.mark.parametrize("spool", ["memory", "spool"], indirect=True)
def test_daemon_threads_record_until_the_end(
    broker: Broker, topic: str, spool: Path | None
) -> None:
    """Threads that are stopped dead: every event whose call had returned True is there."""
    ended = run("exits", "daemon_threads", broker, topic, spool=spool)

    assert_undisturbed(ended, status=0)
    log = read_log(broker, topic)
    assert ended.quantities("taken") <= set(log.quantities())
    assert ended.promised() == set(log.numbers())
    assert set(log.numbers().values()) == {1}
    assert ended.seconds < GENEROUS * CLOSE_SECONDS


def test_daemon_threads_that_compute_delay_the_end_by_the_deadline_at_most(
    broker: Broker, topic: str
) -> None:
    """A host whose threads leave the SDK little time ends all the same."""
    ended = run("exits", "busy_daemon_threads", broker, topic)

    assert ended.status == 0
    assert "Traceback" not in ended.stderr
    log = read_log(broker, topic)
    assert ended.promised() <= set(log.numbers())
    assert ended.seconds < GENEROUS * CLOSE_SECONDS


@pytest.mark.parametrize("spool", ["memory", "spool"], indirect=True)
def test_without_a_broker_the_end_takes_the_deadline(
    broker: Broker, topic: str, spool: Path | None
) -> None:
    """And says what is left, or that it waits on disk for the next process, which delivers it."""
    ended = run("exits", "broker_away", broker, topic, spool=spool)

    assert ended.status == 0
    assert "Traceback" not in ended.stderr
    assert f"events wait {'in the buffer' if spool is None else 'on disk'}" in ended.stderr
    assert ("closed while" in ended.stderr) is (spool is None)
    assert ended.seconds < GENEROUS * CLOSE_SECONDS
    assert read_log(broker, topic).usage == []
    if spool is not None:
        heir = run("exits", "heir", broker, topic, spool=spool)
        assert_undisturbed(heir, status=0)
        assert read_log(broker, topic).quantities() == [*range(BEFORE), HEIR]
        assert left_in(spool) == []
