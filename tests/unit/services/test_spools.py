"""`meterstream spool`: what is said about spools on disk, and sending those left behind."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest

import meterstream
from meterstream import Meter
from meterstream.memory import MemoryTransport
from meterstream_services.cli.main import main
from meterstream_services.spools import IN_USE, LEFT_BEHIND, Stuck, look, send
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(os.environ):
        if name.startswith("METERSTREAM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root of spools."""
    path = tmp_path / "spool"
    path.mkdir()
    return path


def spooling(root: Path, *, topic: str | None = None, available: bool = False) -> Meter:
    """A meter with its spool there, whose broker is away."""
    transport = MemoryTransport()
    transport.available = available
    return Meter(transport=transport, durability="spool", spool=root, topic=topic)


def leave(root: Path, count: int, *, topic: str | None = None) -> str:
    """What a process leaves that ends without its broker; its producer."""
    meter = spooling(root, topic=topic)
    for number in range(count):
        meter.record("call", tenant=f"tenant {number}")
    assert meter.flush(10, to="disk")
    meter.close(0)
    return meter.producer


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and directory below, with when it was written and what is in it."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(root.rglob("*"))
    }


def test_what_is_left_behind_and_what_is_in_use_are_told_apart(root: Path) -> None:
    """With entries, bytes and topic; marks of the SDK's own may be among the entries."""
    left = leave(root, 30, topic="other")
    with spooling(root) as living:
        for _ in range(5):
            living.record("call", tenant="acme")
        assert living.flush(10, to="disk")

        found = {each.producer: each for each in look(root)}
        living.close(0)

    assert set(found) == {left, living.producer}
    assert found[left].state == LEFT_BEHIND
    assert 30 <= found[left].entries <= 30 + 30
    assert (found[left].topic, found[left].files, found[left].problem) == ("other", 1, None)
    assert found[left].bytes > 30 * 20
    assert found[living.producer].state == IN_USE
    assert found[living.producer].entries >= 5


def test_looking_changes_nothing(root: Path) -> None:
    """No damage is cut off, no empty directory removed, nothing set aside, nothing written."""
    damaged = root / leave(root, 20)
    (segment,) = damaged.glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[200] ^= 0xFF
    segment.write_bytes(bytes(data[:-5]))
    (root / ("ab" * 16)).mkdir()
    (root / "notes").mkdir()
    before = content(root)

    found = {each.producer: each for each in look(root)}

    assert content(root) == before
    assert found[damaged.name].problem == "damaged records"
    assert found["ab" * 16].entries == found["ab" * 16].files == 0
    assert len(found) == 2


def test_what_arrived_is_not_counted(root: Path) -> None:
    """As far as it was written down."""
    meter = spooling(root, available=True)
    for number in range(50):
        meter.record("call", tenant=f"tenant {number}")
    assert meter.flush(10)
    (found,) = look(root)
    meter.close(10)

    assert found.entries <= 50
    assert look(root) == []


def test_everything_left_behind_is_sent(root: Path) -> None:
    """Under its old numbers, and nothing is left on the disk."""
    producers = {leave(root, 40), leave(root, 60)}
    transport = MemoryTransport()
    told: list[tuple[int, int]] = []
    meter = Meter(transport=transport, durability="spool", spool=root)

    delivered = send(meter, look(root), patience_seconds=20, told=lambda *state: told.append(state))
    meter.close(5)

    assert delivered == 100
    assert {event.producer for event in arrived(transport)} == producers
    assert len(arrived(transport)) == 100
    assert told[-1] == (100, 0)
    assert list(root.iterdir()) == []


def test_a_broker_that_is_away_ends_the_patience(root: Path) -> None:
    """With the SDK's own words; all of it is still there."""
    leave(root, 3)
    left = look(root)

    with (
        spooling(root) as meter,
        pytest.raises(Stuck, match=r"0 events delivered, 1 spool to go: .*unavailable"),
    ):
        send(meter, left, patience_seconds=0.5, told=lambda *_: None)

    assert [each.entries for each in look(root)] == [each.entries for each in left]


@pytest.fixture
def transports(monkeypatch: pytest.MonkeyPatch) -> list[MemoryTransport]:
    """In place of Kafka: one for every meter that the command makes."""
    made: list[MemoryTransport] = []

    def remembered(**_: object) -> MemoryTransport:
        made.append(MemoryTransport())
        return made[-1]

    monkeypatch.setattr(meterstream.meter, "choose_transport", remembered)
    return made


def test_the_command_sends_every_topic_s_own(
    root: Path, transports: list[MemoryTransport], capsys: pytest.CaptureFixture[str]
) -> None:
    """One meter for each topic; the configured one first."""
    leave(root, 4, topic="other")
    leave(root, 6)

    assert main(["spool", "send", str(root)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "meterstream.events: the log has 6 events of 1 spool",
        "other: the log has 4 events of 1 spool",
    ]
    assert [len(arrived(transport)) for transport in transports[-2:]] == [6, 4]
    assert main(["spool", "send", str(root)]) == 0
    assert "nothing is left behind" in capsys.readouterr().out


def test_the_command_lists(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table for people and as JSON for programs; named by option, environment or --data."""
    producer = leave(root, 2)

    assert main(["spool", "list", str(root)]) == 0
    assert producer in capsys.readouterr().out
    assert main(["spool", "list", "--data", str(root.parent), "--format", "json"]) == 0
    (spool,) = json.loads(capsys.readouterr().out)["spools"]
    assert (spool["producer"], spool["state"]) == (producer, "left behind")
    assert spool["topic"] == "meterstream.events"
    assert spool["age_seconds"] >= 0


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No spool named, and what is no directory."""
    assert main(["spool", "list"]) == 2
    assert "no spool is named" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["spool", "list", str(tmp_path / "file")]) == 1
    assert "file: Not a directory" in capsys.readouterr().err


def test_where_no_event_ever_waited_nothing_waits(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty directory and one that is not there yet, told by its whole path: no mistake."""
    absent = tmp_path / "absent"

    for path, words in ((root, f"in {root}\n"), (absent, f"in {absent}, which is not there (yet)")):
        for command, said in (("list", "nothing waits"), ("send", "nothing is left behind")):
            assert main(["spool", command, str(path)]) == 0
            assert f"{said} {words}" in capsys.readouterr().out
        assert main(["spool", "list", str(path), "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["spools"] == []
    assert not absent.exists()


def test_links_and_files_are_no_spools(root: Path) -> None:
    """Whatever their names."""
    (root / ("cd" * 16)).symlink_to(root)
    (root / ("ef" * 16)).write_bytes(b"")

    assert look(root) == []


def test_one_that_may_not_be_opened_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else's; sending the others is not the whole of it then."""
    theirs = leave(root, 2)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("meterstream_services.spools.Directory.take", refuse)

    assert [(each.producer, each.state) for each in look(root)] == [(theirs, "unreadable")]
    assert main(["spool", "send", str(root)]) == 1
    assert "cannot be opened: Permission denied" in capsys.readouterr().err
