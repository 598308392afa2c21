"""The spool against a plain model: whatever happens to the disk, nothing wrong is ever read."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from meterstream.spool import Spool, SpoolFull, left_behind, size_of
from meterstream.spool_progress import PROGRESS_BYTES
from meterstream.spool_records import HEADER_BYTES, RECORD_BYTES, encode, marker_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

_BYTES_MAX: Final = 3_000
_ALL: Final = 10**6
_CUT: Final = st.integers(0, 400)
_GROUPS: Final = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


class _Killed(BaseException):
    """The process ended here."""


class _SpoolMachine(RuleBasedStateMachine):
    """A spool, and what it may hold: every entry by index, and where its bytes stand."""

    def __init__(self) -> None:
        super().__init__()
        self.root: Final = Path(tempfile.mkdtemp(prefix="spool"))
        self.spool: Spool
        self.incarnations = 0

    @initialize(segment_bytes=st.sampled_from([100, 300, 750]), fsync=st.booleans())
    def begin(self, segment_bytes: int, fsync: bool) -> None:
        """Start a fresh incarnation, with nothing known of any entry."""
        self.incarnations += 1
        self.producer = f"{self.incarnations:032x}"
        self.directory = self.root / self.producer
        self.segment_bytes = segment_bytes
        self.fsync = fsync
        self.spool = Spool.create(
            self.root,
            self.producer,
            bytes_max=_BYTES_MAX,
            segment_bytes=segment_bytes,
            fsync=fsync,
        )
        self.waiting: dict[int, bytes] = {}
        self.ever: dict[int, set[bytes]] = {}
        self.uncertain: dict[int, set[bytes]] = {}
        self.places: dict[int, tuple[str, int, int]] = {}
        self.hit: set[int] = set()
        self.header_hit = self.progress_hit = self.truncation_failed = False
        self.saved = 0

    @rule(payloads=_GROUPS)
    def append(self, payloads: list[bytes]) -> None:
        """A group is in the spool from its own index on, or beyond the bounds."""
        last, held, files = self.spool.last, self.spool.bytes, self.spool.files

        try:
            first = self.spool.append(payloads)
        except SpoolFull:
            more = sum(map(len, payloads)) + RECORD_BYTES * len(payloads)
            full = held + more + HEADER_BYTES + PROGRESS_BYTES > _BYTES_MAX
            assert full or files > _BYTES_MAX // self.segment_bytes or self.header_hit
            assert self.spool.last == last
            return

        assert first == last + 1
        assert not self.waiting.keys() & range(first, first + len(payloads))
        self._know(first, payloads)

    @rule(payloads=_GROUPS, written=_CUT, undo=st.booleans(), sync=st.booleans())
    def fail(self, payloads: list[bytes], written: int, undo: bool, sync: bool) -> None:
        """A group whose write breaks off is not in the spool."""
        last = self.spool.last
        problem = OSError(errno.EIO, "injected")

        with _broken_truncation(broken=not undo), _broken_disk(written, problem, sync=sync):
            try:
                self.spool.append(payloads)
            except (OSError, SpoolFull):
                pass
            else:
                self._know(last + 1, payloads)  # All of it was written, or there was no sync.
                return

        assert self.spool.last == last
        if not undo or sync:
            self.truncation_failed = True
            for index, payload in enumerate(payloads, last + 1):
                self.uncertain.setdefault(index, set()).add(payload)

    @rule(payloads=_GROUPS, written=_CUT)
    def kill_in_append(self, payloads: list[bytes], written: int) -> None:
        """A process killed while it writes leaves the beginning of its group, or nothing of it."""
        with _broken_disk(written, _Killed(), sync=False):
            try:
                self.spool.append(payloads)
            except _Killed:
                for index, payload in enumerate(payloads, self.spool.last + 1):
                    self.uncertain.setdefault(index, set()).add(payload)
            except SpoolFull:
                pass
            else:
                self._know(self.spool.last + 1 - len(payloads), payloads)
        self.adopt(truncation=True)

    @rule(cut=_CUT, zeros=st.booleans())
    def lose_the_end(self, cut: int, zeros: bool) -> None:
        """A loss of power takes any number of the last bytes, or leaves zeros for them."""
        if names := self._segment_names():
            path = self.directory / names[-1]
            size = path.stat().st_size
            self._touch(names[-1], max(size - cut, 0), size)
            os.truncate(path, max(size - cut, 0))
            if zeros:
                os.truncate(path, size)
        self.adopt(truncation=True)

    @rule(where=st.integers(0, 10**6), flip=st.integers(1, 255), live=st.booleans())
    def corrupt(self, where: int, flip: int, live: bool) -> None:
        """Any byte of any file changes, under a living process or between two."""
        paths = sorted(self.directory.iterdir())
        sizes = list(accumulate(path.stat().st_size for path in paths))
        if not sizes or not sizes[-1]:
            return
        where %= sizes[-1]
        path = next(path for path, end in zip(paths, sizes, strict=True) if where < end)
        data = bytearray(path.read_bytes())
        offset = where - (sizes[paths.index(path)] - len(data))
        data[offset] ^= flip
        path.write_bytes(data)
        self._touch(path.name, offset, offset + 1)
        if not live:
            self.adopt(truncation=True)

    @rule(after=st.integers(0, 60), count_max=st.integers(0, 20))
    def read(self, after: int, count_max: int) -> None:
        """What is read stands in order behind the index asked for, and is no more than wanted."""
        found = self.spool.read(after, count_max)

        intact = [index for index in sorted(self.waiting) if index > after]
        surely = [index for index in intact if index not in self.hit]
        assert len(found) <= count_max
        assert [index for index, _ in found] == sorted({index for index, _ in found})
        assert all(index > after and self.waiting[index] == payload for index, payload in found)
        if len(found) < count_max:
            assert set(surely) <= {index for index, _ in found}

    @rule(indexes=st.lists(st.integers(-1, 80), max_size=30))
    def acknowledge(self, indexes: list[int]) -> None:
        """Acknowledged entries do not come back while the process lives, in whatever order."""
        self.spool.acknowledge(indexes)

        self._forget(indexes)

    @rule(entries=st.integers(1, 30))
    def acknowledge_oldest(self, entries: int) -> None:
        """What usually happens: the oldest entries go first."""
        oldest = sorted(self.waiting)[:entries]

        self.spool.acknowledge(oldest)

        self._forget(oldest)

    @rule()
    def save_progress(self) -> None:
        """From now on an adopter does not see what stands before the first that waits."""
        self.spool.save_progress()

        if not self.hit and not self.progress_hit:
            self.saved = max(self.saved, min(self.waiting, default=self.spool.last + 1) - 1)

    @rule(repeats=st.integers(1, 5))
    @precondition(lambda self: self.waiting)
    def append_copies(self, repeats: int) -> None:
        """Payloads that look like records of this very spool are payloads."""
        index = max(self.waiting)
        payload = self.waiting[index][:64]  # Copies of copies would grow without end.
        self.append(encode(marker_of(self.producer), index, [payload]) * repeats)

    @rule(truncation=st.booleans())
    def adopt(self, *, truncation: bool) -> None:
        """Another process finds everything intact that waits, and nothing that never was."""
        self.spool.abandon()
        assert left_behind(self.root) == [self.directory][: len(self._segment_names())]
        sizes = [path.stat().st_size for path in self.directory.glob("*.segment")]
        self.header_hit |= max(sizes, default=0) < HEADER_BYTES  # Nothing tells the bounds.
        with _broken_truncation(broken=not truncation):
            adopted = Spool.adopt(self.directory)
        if adopted is None:
            assert not self.waiting
            self.begin(self.segment_bytes, self.fsync)
            return
        self.truncation_failed |= not truncation
        self.spool = adopted
        found = dict(self.spool.read(0, _ALL))
        for index, payload in found.items():
            assert payload in self.ever.get(index, set()) | self.uncertain.get(index, set())
            self.ever.setdefault(index, set()).add(payload)
        assert self.waiting.keys() - self.hit <= found.keys()
        assert self.progress_hit or not [index for index in found if index <= self.saved]
        self.waiting = found
        self._locate(found)

    @rule()
    def close(self) -> None:
        """A clean end leaves what waits to the next process, and nothing when nothing waits."""
        self.spool.close()
        self.spool.close()

        if self.spool.pending:
            self.adopt(truncation=True)
        else:
            assert not self.directory.exists()
            assert size_of(self.root) == 0
            self.begin(self.segment_bytes, self.fsync)

    @invariant()
    def everything_is_there(self) -> None:
        """Every entry that waits and was not hit is read with its bytes, and no other."""
        found = dict(self.spool.read(0, _ALL))

        assert self.waiting.keys() - self.hit <= found.keys()
        assert found == {index: self.waiting[index] for index in found}
        assert self.spool.pending == len(found)
        self.waiting = found

    @invariant()
    def bounds_hold(self) -> None:
        """Bytes and files are counted rightly and stay within the bounds."""
        assert self.spool.bytes <= _BYTES_MAX
        assert self.spool.files <= _BYTES_MAX // self.segment_bytes + 2
        if not self.truncation_failed:
            assert self.spool.bytes == size_of(self.root)

    def teardown(self) -> None:
        """Leave nothing on the disk."""
        if hasattr(self, "spool"):
            self.spool.abandon()
        shutil.rmtree(self.root)

    def _know(self, first: int, payloads: Sequence[bytes]) -> None:
        self.uncertain.clear()
        self.waiting |= dict(enumerate(payloads, first))
        for index in range(first, first + len(payloads)):
            self.ever.setdefault(index, set()).add(self.waiting[index])
            self.hit.discard(index)
        self._locate(range(first, first + len(payloads)))

    def _locate(self, indexes: Iterable[int]) -> None:
        """Find out where the bytes of entries stand, by the format as it is written down."""
        contents = {name: (self.directory / name).read_bytes() for name in self._segment_names()}
        for index in indexes:
            (record,) = encode(marker_of(self.producer), index, [self.waiting[index]])
            name = max(name for name in contents if int(name[:20]) <= index)
            start = contents[name].index(record)
            self.places[index] = (name, start, start + len(record))

    def _forget(self, indexes: list[int]) -> None:
        for index in indexes:
            self.waiting.pop(index, None)

    def _touch(self, name: str, begin: int, end: int) -> None:
        """Remember which entries may be gone because these bytes are not what they were."""
        self.header_hit |= name != "progress" and begin < HEADER_BYTES
        self.progress_hit |= name == "progress"
        for index, (file, start, stop) in self.places.items():
            if file == name and begin < stop and end > start:
                self.hit.add(index)

    def _segment_names(self) -> list[str]:
        if not self.directory.exists():
            return []
        return sorted(path.name for path in self.directory.glob("*.segment"))


@contextmanager
def _broken_disk(written: int, problem: BaseException, *, sync: bool) -> Generator[None]:
    """Write so many bytes and then fail, or write everything and fail to sync it."""
    real: Callable[[int, bytes, int], int] = os.pwrite
    left = written

    def pwrite(descriptor: int, data: bytes, position: int) -> int:
        nonlocal left
        if left < len(data):
            real(descriptor, data[:left], position)
            raise problem
        left -= len(data)
        return real(descriptor, data, position)

    def fdatasync(descriptor: int) -> None:
        os.fstat(descriptor)
        raise problem

    if sync:
        with patch.object(os, "fdatasync", fdatasync):
            yield
    else:
        with patch.object(os, "pwrite", pwrite):
            yield


@contextmanager
def _broken_truncation(*, broken: bool) -> Generator[None]:
    def ftruncate(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, f"no truncation of {descriptor} to {size}")

    if broken:
        with patch.object(os, "ftruncate", ftruncate):
            yield
    else:
        yield


TestSpool = _SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=100, stateful_step_count=40)
