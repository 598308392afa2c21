"""How far a spool is acknowledged, in two slots; see `meterstream.spool` for the why."""

from __future__ import annotations

import os
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING, Final

from crc32c import crc32c

from meterstream.spool_directory import PROGRESS

if TYPE_CHECKING:
    from meterstream.spool_directory import Directory

_SLOT: Final = Struct("<QI4x")
PROGRESS_BYTES: Final = 2 * _SLOT.size


class Progress:
    """The file that says how far everything is acknowledged. A hint: no failure of it matters."""

    def __init__(self, directory: Directory, producer: str) -> None:
        self._directory: Final = directory
        self._salt: Final = b"progress" + bytes.fromhex(producer)
        self._saved = 0
        self._slot = 0
        self.size = 0

    def load(self) -> int:
        """The highest index that an intact slot holds; 0 when there is none."""
        with suppress(OSError):
            descriptor = self._directory.open(PROGRESS, os.O_RDONLY)
            if descriptor is not None:
                try:
                    self._parse(os.pread(descriptor, PROGRESS_BYTES, 0))
                finally:
                    os.close(descriptor)
        return self._saved

    def _parse(self, data: bytes) -> None:
        self.size = len(data)
        for slot in range(len(data) // _SLOT.size):
            index, check = _SLOT.unpack_from(data, slot * _SLOT.size)
            if check == self._check(index) and index > self._saved:
                self._saved = index
                self._slot = 1 - slot

    def save(self, index: int) -> None:
        """Write it down, if it is news, over the older of the two slots."""
        if index <= self._saved:
            return
        with suppress(OSError):
            descriptor = self._directory.open(PROGRESS, os.O_WRONLY | os.O_CREAT)
            if descriptor is None:
                return
            try:
                slot = _SLOT.pack(index, self._check(index))
                os.pwrite(descriptor, slot, self._slot * _SLOT.size)
                self.size = max(self.size, (self._slot + 1) * _SLOT.size)
                self._saved = index
                self._slot = 1 - self._slot
            finally:
                os.close(descriptor)

    def _check(self, index: int) -> int:
        return crc32c(self._salt + index.to_bytes(8, "little"))
