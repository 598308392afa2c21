"""Packed bodies, unpacked in bounded pieces: gzip (RFC 1952) and zstd (RFC 8878).

A small body may unpack to gigabytes, so nothing is unpacked at once: pieces are made one after
the other, and the first one beyond the limit ends it. Several gzip members, and several zstd
frames, one after the other are one body, unless they are so many, of next to nothing, that to begin
them is all the work. What is cut short, or is not of the encoding that the header names, is
refused; so is a second encoding on top of the first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import zstandard

ENCODINGS: Final = ("gzip", "zstd")
ACCEPTED: Final = ", ".join(ENCODINGS)
"""For the header ``Accept-Encoding`` of a refusal."""

_PIECE_BYTES: Final = 65_536
_GZIP_STEP_BYTES: Final = 4_096
"""Fed at once: what follows a member is copied, and after each of many small ones again."""
_PARTS_FREE: Final = 1_000
_PART_BYTES_MIN: Final = 64
"""What each member or frame beyond the free ones has to unpack to, on average."""
_ZSTD_STEP_BYTES: Final = 128
"""Fed at once: four bytes of zstd may mean 128 KiB, so that a step makes at most 4 MiB."""
_ZSTD_WINDOW_BYTES_MAX: Final = 8 << 20
"""What RFC 8878 recommends that every decoder has."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class BadPacking(ValueError):
    """The body is not what ``Content-Encoding`` says. ``reason`` is for the sender's eyes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownEncoding(ValueError):
    """An encoding that is not read here; see `ACCEPTED`. ``encoding`` is the header's text."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"{encoding[:40]!r} is not read here; use {' or '.join(ENCODINGS)}")
        self.encoding = encoding


class UnpackedTooLarge(ValueError):
    """Unpacked, the body is larger than ``most`` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(f"unpacked, the body is larger than {most} bytes; send less at once")
        self.most = most


class _Stream(Protocol):
    """One member or frame after the other, in pieces of bounded size."""

    def pieces(self, data: bytes) -> Iterator[bytes]: ...

    def is_whole(self) -> bool: ...


class Unpacking:
    """A body that is unpacked while it arrives. Raises as the module says.

    ``encoding`` is the header ``Content-Encoding``, None or empty without one; ``most`` the bytes
    it may have unpacked.
    """

    def __init__(self, encoding: str | None, most: int) -> None:
        self._stream: Final = _stream(encoding)
        self._most: Final = most
        self._made = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that these further bytes of the body make."""
        for piece in self._stream.pieces(data):
            self._made += len(piece)
            if self._made > self._most:
                raise UnpackedTooLarge(self._most)
            for at in range(0, len(piece), _PIECE_BYTES):
                yield piece[at : at + _PIECE_BYTES]

    def finish(self) -> None:
        """Say that no more bytes come. Raises `BadPacking` where some are missing."""
        if not self._stream.is_whole():
            raise BadPacking("the packed body is cut short; send all of it")


def unpack(body: bytes, encoding: str | None, most: int) -> bytes:
    """A whole body, unpacked. Raises `BadPacking`, `UnknownEncoding`, `UnpackedTooLarge`."""
    if not encoding and len(body) <= most:
        return body
    unpacking = Unpacking(encoding, most)
    unpacked = b"".join(unpacking.feed(body))
    unpacking.finish()
    return unpacked


def _stream(encoding: str | None) -> _Stream:
    match (encoding or "identity").strip().lower():
        case "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gzip()
        case "zstd":
            return _Zstd()
        case _:
            raise UnknownEncoding(encoding or "")


class _Plain:
    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data

    def is_whole(self) -> bool:
        return True


class _Parts:
    """Counts members or frames, and what they unpack to."""

    def __init__(self) -> None:
        self._parts = 0
        self._made = 0

    def made(self, piece: bytes) -> bytes:
        self._made += len(piece)
        return piece

    def ended(self) -> None:
        self._parts += 1
        if self._parts > _PARTS_FREE + self._made // _PART_BYTES_MIN:
            raise BadPacking("the body is packed in too many tiny pieces; pack it as one")


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._parts = _Parts()
        self._started = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        try:
            for at in range(0, len(data), _GZIP_STEP_BYTES):
                step = data[at : at + _GZIP_STEP_BYTES]
                while step:
                    self._started = True
                    yield self._parts.made(self._member.decompress(step, _PIECE_BYTES))
                    step = self._member.unconsumed_tail
                    if self._member.eof:
                        step = self._member.unused_data
                        self._parts.ended()
                        self._member = zlib.decompressobj(_GZIP)
                        self._started = False
        except zlib.error as problem:
            raise BadPacking(f"the body is no gzip ({problem}); mend its packing") from None

    def is_whole(self) -> bool:
        return not self._started


class _Zstd:
    def __init__(self) -> None:
        self._unpacker: Final = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
        self._frame = self._unpacker.decompressobj()
        self._parts = _Parts()
        self._started = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        try:
            for at in range(0, len(view), _ZSTD_STEP_BYTES):
                step = bytes(view[at : at + _ZSTD_STEP_BYTES])
                while step:
                    self._started = True
                    yield self._parts.made(self._frame.decompress(step))
                    step = b""
                    if self._frame.eof:
                        step = self._frame.unused_data
                        self._parts.ended()
                        self._frame = self._unpacker.decompressobj()
                        self._started = False
        except zstandard.ZstdError as problem:
            raise BadPacking(f"the body is no zstd ({problem}); mend its packing") from None

    def is_whole(self) -> bool:
        return not self._started
