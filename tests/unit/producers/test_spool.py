"""The spool on a real disk: its bytes, its bounds, its progress, and what damage leaves."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

import pytest

from meterstream.spool import Spool, SpoolFull, left_behind, size_of
from meterstream.spool_records import HEADER_BYTES, RECORD_BYTES, marker_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PRODUCER: Final = "00112233445566778899aabbccddeeff"
OTHER: Final = "ffeeddccbbaa99887766554433221100"
_FIRST: Final = f"{1:020d}.segment"
_MIB: Final = 2**20


def _segments(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.segment"))


def test_bytes_of_a_segment(tmp_path: Path) -> None:
    """A segment is a header and records as the module describes them, byte for byte."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=4096, fsync=True)

    spool.append([b"one", b""])

    written = (tmp_path / PRODUCER / _FIRST).read_bytes().hex(" ")
    assert written == (
        "4d 53 53 50 4f 4f 4c 01 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff "  # who
        "01 00 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00 10 00 00 00 00 00 00 "  # bounds
        "01 00 00 00 00 00 00 00 00 00 00 00 c7 95 ff cd "  # synced; checksum
        "11 58 3f bd 03 00 00 00 01 00 00 00 00 00 00 00 6f 6e 65 f8 13 33 fb "
        "11 58 3f bd 00 00 00 00 02 00 00 00 00 00 00 00 1a 0f 15 6c"
    )
    spool.close()


def test_bytes_of_the_progress(tmp_path: Path) -> None:
    """Two slots are written in turns, each with its own checksum."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b", b"c"])

    for index in (1, 2):
        spool.acknowledge([index])
        spool.save_progress()

    assert (tmp_path / PRODUCER / "progress").read_bytes().hex(" ") == (
        "01 00 00 00 00 00 00 00 ec db fe 97 00 00 00 00 "
        "02 00 00 00 00 00 00 00 85 5c ba 4c 00 00 00 00"
    )
    assert spool.bytes == size_of(tmp_path)
    spool.close()


def test_for_the_owner_only(tmp_path: Path) -> None:
    """Usage data is nobody else's business, whatever the umask is."""
    before = os.umask(0)
    try:
        spool = Spool.create(tmp_path / "new", PRODUCER, bytes_max=_MIB)
        spool.append([b"a"])
        spool.acknowledge([1])
        spool.append([b"b"])
        spool.save_progress()
    finally:
        os.umask(before)

    directory = tmp_path / "new" / PRODUCER
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {_FIRST: 0o600, "progress": 0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    spool.close()


def test_two_spools_of_one_producer_cannot_be(tmp_path: Path) -> None:
    """An incarnation's spool is made once."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)

    with pytest.raises(FileExistsError):
        Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)

    spool.close()


def test_a_producer_is_hexadecimal(tmp_path: Path) -> None:
    """No name that leads elsewhere becomes a directory."""
    for name in ("../" + PRODUCER, PRODUCER.upper(), PRODUCER + "\n", ""):
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            Spool.create(tmp_path, name, bytes_max=_MIB)
        assert Spool.adopt(tmp_path / f"x{name}") is None


def test_an_empty_group_is_nothing(tmp_path: Path) -> None:
    """No file is made before there is something to write."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)

    assert spool.append([]) == 1
    assert (spool.last, spool.files, spool.bytes) == (0, 0, 0)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_bounded_in_bytes(tmp_path: Path) -> None:
    """It takes groups to the last byte of its bound, and again when the oldest are done."""
    record = RECORD_BYTES + 10
    bytes_max = 32 + 4 * HEADER_BYTES + 13 * record
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=bytes_max, segment_bytes=_MIB)
    while spool.last < 13:
        spool.append([bytes(10)])

    with pytest.raises(SpoolFull, match=f"of {bytes_max}"):
        spool.append([b""])
    assert (spool.last, spool.pending) == (13, 13)
    assert spool.bytes == size_of(tmp_path) == bytes_max - 32

    spool.acknowledge(range(1, 6))
    assert spool.append([bytes(10)] * 2) == 14
    assert [index for index, _ in spool.read(0, 100)] == list(range(6, 16))
    spool.close()


def test_bounded_in_files(tmp_path: Path) -> None:
    """Adoption after adoption leaves no more files than the bound allows."""
    spool: Spool | None = Spool.create(tmp_path, PRODUCER, bytes_max=10_000, segment_bytes=2_500)
    for index in range(1, 10_000 // 2_500 + 2):
        assert spool is not None
        assert spool.append([b"one more"]) == index
        spool.abandon()
        spool = Spool.adopt(tmp_path / PRODUCER)

    assert spool is not None
    with pytest.raises(SpoolFull):
        spool.append([b"one more"])
    assert spool.pending == len(_segments(tmp_path / PRODUCER)) == 5
    spool.close()


def test_a_group_is_never_divided(tmp_path: Path) -> None:
    """A group larger than a segment stands in one, and one larger than the bound in none."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=10_000, segment_bytes=100)

    spool.append([bytes(1000)] * 5)
    with pytest.raises(SpoolFull):
        spool.append([bytes(1000)] * 5)

    assert _segments(tmp_path / PRODUCER) == [_FIRST]
    spool.close()


def test_room_comes_back_when_everything_is_done(tmp_path: Path) -> None:
    """A segment that is acknowledged to its last entry makes room, though it was not full."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=1_500)
    for round_ in range(1, 10):
        spool.append([bytes(200)])
        with pytest.raises(SpoolFull):
            spool.append([bytes(1_200)])
        spool.acknowledge([spool.last])

        assert spool.append([bytes(1_200)]) == 2 * round_
        assert spool.bytes == size_of(tmp_path) <= 1_500
        spool.acknowledge([spool.last])
    spool.close()


def test_segments_go_when_nobody_waits_for_them(tmp_path: Path) -> None:
    """Whichever segment is acknowledged first goes first; the one being written stays."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    for _ in range(4):
        spool.append([bytes(100)])

    spool.acknowledge([2, 2, 4, 99, 0, -1])

    assert [int(name[:20]) for name in _segments(tmp_path / PRODUCER)] == [1, 3, 4]
    assert spool.pending == 2
    spool.acknowledge([3, 1])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Batches by index cover everything once, over the borders of segments."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=500)
    payloads = [b"payload %d" % number for number in range(1, 101)]
    for start in range(0, 100, 7):
        spool.append(payloads[start : start + 7])

    read: list[tuple[int, bytes]] = []
    while batch := spool.read(read[-1][0] if read else 0, 9):
        read += batch

    assert read == list(enumerate(payloads, 1))
    spool.close()


def test_what_is_acknowledged_by_progress_is_not_sent_again(tmp_path: Path) -> None:
    """An adopter begins where the progress ends."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB, segment_bytes=100)
    spool.append([b"a", b"b", b"c", b"d"])
    spool.acknowledge([1, 2, 4])
    spool.save_progress()
    spool.abandon()

    adopted = Spool.adopt(tmp_path / PRODUCER)

    assert adopted is not None
    assert adopted.read(0, 10) == [(3, b"c"), (4, b"d")]
    adopted.acknowledge([3, 4])
    adopted.close()
    assert list(tmp_path.iterdir()) == []


def test_indexes_go_on_behind_the_progress(tmp_path: Path) -> None:
    """Entries whose bytes are gone do not lend their indexes to others that count as done."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b", b"c"])
    spool.acknowledge([1, 2, 3])
    spool.save_progress()
    spool.abandon()
    os.truncate(tmp_path / PRODUCER / _FIRST, HEADER_BYTES + RECORD_BYTES + 1)

    adopted = Spool.adopt(tmp_path / PRODUCER)

    assert adopted is not None
    assert (adopted.last, adopted.pending) == (3, 0)
    adopted.close()


@pytest.mark.parametrize("slot", [0, 1])
def test_a_torn_progress_leaves_the_one_before(tmp_path: Path, slot: int) -> None:
    """Of two slots, one is always whole."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b", b"c"])
    for index in (1, 2):
        spool.acknowledge([index])
        spool.save_progress()
    spool.abandon()
    progress = tmp_path / PRODUCER / "progress"
    damaged = bytearray(progress.read_bytes())
    damaged[16 * slot + 3] ^= 1
    progress.write_bytes(damaged)

    adopted = Spool.adopt(tmp_path / PRODUCER)

    assert adopted is not None
    assert [index for index, _ in adopted.read(0, 9)] == ([3] if slot == 0 else [2, 3])
    adopted.close()


def test_an_adopter_overwrites_the_older_slot(tmp_path: Path) -> None:
    """The progress that an adopter found stays until its own is written whole."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a", b"b"])
    spool.acknowledge([1])
    spool.save_progress()
    found = (tmp_path / PRODUCER / "progress").read_bytes()
    spool.abandon()

    adopted = Spool.adopt(tmp_path / PRODUCER)

    assert adopted is not None
    adopted.acknowledge([2])
    adopted.save_progress()
    assert (tmp_path / PRODUCER / "progress").read_bytes()[:16] == found
    adopted.close()


def test_every_cut_of_the_last_group(tmp_path: Path) -> None:
    """Wherever a crash cuts the last write, what stood before is there, and a tail is no damage."""
    payloads = [b"number %d" % number for number in range(1, 4)]
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"before"])
    spool.append(payloads)
    spool.abandon()
    whole = (tmp_path / PRODUCER / _FIRST).read_bytes()
    begin = HEADER_BYTES + RECORD_BYTES + len(b"before")

    for size in range(begin, len(whole)):
        (tmp_path / PRODUCER / _FIRST).write_bytes(whole[:size])
        adopted = Spool.adopt(tmp_path / PRODUCER)
        assert adopted is not None
        left = (size - begin) // (RECORD_BYTES + len(payloads[0]))
        assert adopted.read(0, 9) == list(enumerate([b"before", *payloads[:left]], 1))
        assert adopted.corrupt_bytes == 0
        adopted.abandon()


def test_every_byte_of_a_record(tmp_path: Path) -> None:
    """Whichever byte of a record changes, this record is skipped and counted, and no other."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"first", b"second", b"third"])
    spool.abandon()
    whole = (tmp_path / PRODUCER / _FIRST).read_bytes()
    begin = HEADER_BYTES + RECORD_BYTES + len(b"first")
    size = RECORD_BYTES + len(b"second")

    for offset in range(begin, begin + size):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x40
        (tmp_path / PRODUCER / _FIRST).write_bytes(damaged)
        adopted = Spool.adopt(tmp_path / PRODUCER)
        assert adopted is not None
        assert adopted.read(0, 9) == [(1, b"first"), (3, b"third")]
        assert adopted.corrupt_bytes == size
        adopted.abandon()


def test_a_search_costs_linear_time(tmp_path: Path) -> None:
    """Contents made to look like records everywhere are searched with a bounded effort."""
    marker = marker_of(PRODUCER)
    looks_right = marker + (400_000).to_bytes(4, "little") + (2).to_bytes(8, "little")
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=4 * _MIB)
    spool.append([b"first", looks_right * 40_000, b"third"])
    spool.abandon()
    path = tmp_path / PRODUCER / _FIRST
    damaged = bytearray(path.read_bytes())
    damaged[HEADER_BYTES + 2 * RECORD_BYTES] ^= 1
    path.write_bytes(damaged)

    adopted = Spool.adopt(tmp_path / PRODUCER)

    assert adopted is not None
    assert adopted.read(0, 9) == [(1, b"first")]
    assert adopted.corrupt_bytes == len(damaged) - HEADER_BYTES - RECORD_BYTES - len(b"first")
    adopted.close()


@pytest.mark.parametrize(
    ("producer", "name"), [(OTHER, f"{2:020d}.segment"), (PRODUCER, f"{2:020d}.segment")]
)
def test_a_segment_of_another_place_is_set_aside(tmp_path: Path, producer: str, name: str) -> None:
    """A file copied to a wrong directory or name is neither read nor deleted, nor a limit."""
    for each in (PRODUCER, OTHER):
        spool = Spool.create(tmp_path, each, bytes_max=_MIB)
        spool.append([b"first", b"second", b"third"])
        spool.abandon()
    directory = tmp_path / PRODUCER
    copied = (tmp_path / producer / _FIRST).read_bytes()
    (directory / name).write_bytes(copied)

    adopted = Spool.adopt(directory)

    assert adopted is not None
    assert adopted.read(0, 9) == [(1, b"first"), (2, b"second"), (3, b"third")]
    adopted.acknowledge([1, 2, 3])
    adopted.close()
    assert left_behind(tmp_path) == [tmp_path / OTHER]
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        f"{name}.foreign": copied
    }


def test_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """A spool of a version that is not known is refused, not cleaned away."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    spool.append([b"a"])
    spool.abandon()
    path = tmp_path / PRODUCER / _FIRST
    later = bytearray(path.read_bytes())
    later[7] = 2
    later[60:64] = _checksum(bytes(later[:60]))
    path.write_bytes(later)

    with pytest.raises(OSError, match="version 2") as refusal:
        Spool.adopt(tmp_path / PRODUCER)

    assert refusal.value.errno == errno.ENOTSUP
    assert path.read_bytes() == later
    assert left_behind(tmp_path) == [tmp_path / PRODUCER]


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    """Names planted below the root lead nowhere and hold nobody up."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"not ours")
    root = tmp_path / "root"
    directory = root / PRODUCER
    directory.mkdir(parents=True)
    (root / OTHER).symlink_to(directory)
    (root / "lost+found").mkdir()
    (directory / "progress").symlink_to(secret)
    (directory / _FIRST).symlink_to(secret)
    os.mkfifo(directory / f"{2:020d}.segment")
    (directory / f"{3:020d}.segment").mkdir()
    (directory / f"{2**64:020d}.segment").write_bytes(b"no index gets there")

    adopted = Spool.adopt(directory)

    assert adopted is not None
    assert (adopted.pending, adopted.last, adopted.read(0, 9)) == (0, 0, [])
    adopted.save_progress()
    adopted.close()
    assert Spool.adopt(root / OTHER) is None
    assert left_behind(root) == []
    assert secret.read_bytes() == b"not ours"


def test_a_removed_directory_is_an_error(tmp_path: Path) -> None:
    """Someone who removes the directory of a living process gets no events into nowhere."""
    spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
    (tmp_path / PRODUCER).rmdir()

    with pytest.raises(OSError, match="no segment can be made"):
        spool.append([b"a"])

    assert (spool.last, spool.pending) == (0, 0)
    spool.close()


def test_after_the_end_nothing_is_taken(tmp_path: Path) -> None:
    """A closed or abandoned spool raises instead of writing to somebody's descriptor."""
    ends: list[Callable[[Spool], None]] = [Spool.close, Spool.abandon]
    for end in ends:
        spool = Spool.create(tmp_path, PRODUCER, bytes_max=_MIB)
        end(spool)
        with pytest.raises(OSError, match="Bad file descriptor"):
            spool.append([b"a"])
        assert left_behind(tmp_path) == []


def _checksum(data: bytes) -> bytes:
    """CRC32C as its definition has it, bit by bit."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return (remainder ^ 0xFFFFFFFF).to_bytes(4, "little")
