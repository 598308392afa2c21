"""What a spool makes of intact records in wrong places, and of damage that it meets twice."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import pytest

from meterstream.spool import Spool
from meterstream.spool_records import HEADER_BYTES, RECORD_BYTES, encode, marker_of

if TYPE_CHECKING:
    from pathlib import Path

PRODUCER: Final = "00112233445566778899aabbccddeeff"
_FIRST: Final = f"{1:020d}.segment"
_MIB: Final = 2**20


def _record(index: int, payload: bytes) -> bytes:
    (record,) = encode(marker_of(PRODUCER), index, [payload])
    return record


def _adopted(directory: Path) -> Spool:
    spool = Spool.adopt(directory)
    assert spool is not None
    return spool


def _left_with(tmp_path: Path, records: list[bytes]) -> Path:
    """The directory of a dead process with these bytes as records."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b""])
    spool.abandon()
    path = tmp_path / PRODUCER / _FIRST
    path.write_bytes(path.read_bytes()[:HEADER_BYTES] + b"".join(records))
    return tmp_path / PRODUCER


def test_a_record_counts_once(tmp_path: Path) -> None:
    """A copy of a record behind its place is damage, and takes none of its neighbours along."""
    one, two, three = (_record(index, b"number %d" % index) for index in (1, 2, 3))

    spool = _adopted(_left_with(tmp_path, [one, two, one, three]))

    assert spool.read(0, 9) == [(1, b"number 1"), (2, b"number 2"), (3, b"number 3")]
    assert spool.corrupt_bytes == len(one)
    spool.close()


@pytest.mark.parametrize("index", [3, 100, 2**63, 2**64 - 1])
def test_an_index_that_cannot_be_there(tmp_path: Path, index: int) -> None:
    """A record too far ahead of the one before it is damage, whatever its checksum says."""
    far = _record(index, b"far ahead")

    for junk in (b"", b"?", bytes(RECORD_BYTES - 1)):
        spool = _adopted(_left_with(tmp_path, [_record(1, b"first"), junk, far]))

        assert spool.read(0, 9) == [(1, b"first")]
        assert (spool.last, spool.corrupt_bytes) == (1, len(junk + far))
        spool.acknowledge([1])
        spool.close()


def test_skipped_bytes_make_room_for_indexes(tmp_path: Path) -> None:
    """After lost records the next one counts, if so many fit into what was lost."""
    hole = bytes(3 * RECORD_BYTES)

    spool = _adopted(_left_with(tmp_path, [_record(1, b"first"), hole, _record(5, b"fifth")]))

    assert spool.read(0, 9) == [(1, b"first"), (5, b"fifth")]
    assert (spool.append([b"sixth"]), spool.corrupt_bytes) == (6, len(hole))
    spool.close()


def test_records_that_changed_places(tmp_path: Path) -> None:
    """Under a living process, intact bytes of one record are not read as another."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"aaa", b"bbb", b"ccc"])
    path = tmp_path / PRODUCER / _FIRST
    written = path.read_bytes()
    swapped = [_record(2, b"bbb"), _record(1, b"aaa"), _record(3, b"ccc")]
    path.write_bytes(written[:HEADER_BYTES] + b"".join(swapped))

    assert spool.read(0, 9) == [(3, b"ccc")]

    assert (spool.pending, spool.corrupt_bytes) == (1, 2 * len(swapped[0]))
    spool.close()


def test_a_cut_before_another_segment_is_damage(tmp_path: Path) -> None:
    """Only the last segment can end in a write that broke off; elsewhere something is missing."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    spool.append([b"one", b"two", bytes(100)])
    spool.append([b"four"])
    spool.abandon()
    path = tmp_path / PRODUCER / _FIRST
    os.truncate(path, path.stat().st_size - 10)

    adopted = _adopted(tmp_path / PRODUCER)

    assert adopted.pending == 4
    assert adopted.read(0, 9) == [(1, b"one"), (2, b"two"), (4, b"four")]
    assert (adopted.pending, adopted.corrupt_bytes) == (3, RECORD_BYTES + 90)
    adopted.close()


def test_damage_is_counted_once(tmp_path: Path) -> None:
    """A segment that is opened again tells of its damage no second time."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    for number in range(3):
        spool.append([b"%d" % number, bytes(100)])
    spool.abandon()
    path = tmp_path / PRODUCER / _FIRST
    damaged = bytearray(path.read_bytes())
    damaged[HEADER_BYTES + RECORD_BYTES] ^= 1
    path.write_bytes(damaged)
    adopted = _adopted(tmp_path / PRODUCER)

    for _ in range(3):
        assert [index for index, _ in adopted.read(0, 9)] == [2, 3, 4, 5, 6]

        assert adopted.corrupt_bytes == RECORD_BYTES + 1
    adopted.close()


def test_damage_under_a_living_process(tmp_path: Path) -> None:
    """What became unreadable is counted and not waited for, so the spool still empties."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"first", b"second", b"third"])
    path = tmp_path / PRODUCER / _FIRST
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"second")] ^= 1
    path.write_bytes(damaged)

    assert spool.read(0, 9) == [(1, b"first"), (3, b"third")]

    assert (spool.pending, spool.corrupt_bytes) == (2, RECORD_BYTES + len(b"second"))
    spool.acknowledge([1, 3])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_damage_in_a_closed_segment(tmp_path: Path) -> None:
    """What was lost since a segment was written is found when it is opened again."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    for number in range(3):
        spool.append([b"%d" % number, bytes(100)])
    spool.acknowledge([2])
    path = tmp_path / PRODUCER / _FIRST
    os.truncate(path, HEADER_BYTES)

    assert [index for index, _ in spool.read(0, 9)] == [3, 4, 5, 6]

    assert spool.pending == 4
    spool.acknowledge([3, 4, 5, 6])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_group_stays_dead_for_adopters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What replaced a failed group is not deleted before the segment that has its remains."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100, fsync=True)
    spool.append([b"a"])

    def failing(*_arguments: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    monkeypatch.setattr(os, "ftruncate", failing)
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"failed"])
    monkeypatch.undo()
    spool.append([bytes(100)])
    spool.append([b"c"])
    spool.abandon()

    first = _adopted(tmp_path / PRODUCER)
    first.acknowledge([2])
    first.abandon()
    second = _adopted(tmp_path / PRODUCER)

    found = second.read(0, 9)
    assert b"failed" not in [payload for _, payload in found]
    assert {1, 3} <= {index for index, _ in found}
    second.close()


def test_after_a_failed_sync_another_segment_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose fdatasync failed is not trusted again, though its truncation succeeded."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, fsync=True)
    spool.append([b"a"])

    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(OSError, match="Input/output"):
        spool.append([b"failed"])
    monkeypatch.undo()
    spool.append([b"b"])

    assert spool.read(0, 9) == [(1, b"a"), (2, b"b")]
    names = sorted(path.name for path in (tmp_path / PRODUCER).iterdir())
    assert names == [_FIRST, f"{2:020d}.segment"]
    spool.close()


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_planted_progress(tmp_path: Path, kind: str) -> None:
    """No progress is written to, or read from, what is no file of the spool; and nothing waits."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"not ours")
    spool = Spool.create(tmp_path / "root", PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b"])
    progress = tmp_path / "root" / PRODUCER / "progress"
    if kind == "link":
        progress.symlink_to(secret)
    else:
        os.mkfifo(progress)

    spool.acknowledge([1])
    spool.save_progress()
    spool.abandon()
    adopted = _adopted(progress.parent)

    assert adopted.read(0, 9) == [(1, b"a"), (2, b"b")]
    assert secret.read_bytes() == b"not ours"
    adopted.close()
