"""Packed bodies: read in pieces, bounded, and refused where they are not what they claim."""

from __future__ import annotations

import contextlib
import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.http.packed import (
    BadPacking,
    UnknownEncoding,
    UnpackedTooLarge,
    Unpacking,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.services.ingest.conftest import Gate

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "ZSTD": zstandard.compress,
    "identity": bytes,
}
EVENT = json.dumps({"type": "t", "tenant": "a"}).encode()


@given(st.sampled_from(sorted(PACKERS)), st.lists(st.binary(max_size=300), min_size=1), st.data())
def test_members_in_any_pieces(encoding: str, parts: list[bytes], data: st.DataObject) -> None:
    """Several members or frames, cut anywhere, come back as the bytes that were packed."""
    packed = b"".join(map(PACKERS[encoding], parts))
    cut = data.draw(st.integers(0, len(packed)))
    unpacking = Unpacking(encoding, 100_000)

    found = b"".join([*unpacking.feed(packed[:cut]), *unpacking.feed(packed[cut:])])
    unpacking.finish()

    assert found == b"".join(parts)


@given(st.sampled_from(["gzip", "zstd"]), st.binary(max_size=100))
def test_bytes_that_are_not_packed(encoding: str, body: bytes) -> None:
    """Anything that is not of the encoding is `BadPacking`, and nothing else."""
    with contextlib.suppress(BadPacking):
        assert unpack(body, encoding, 100_000) == b""


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_body_that_is_cut(encoding: str) -> None:
    """Every beginning of a packed body but the whole of it is refused."""
    packed = PACKERS[encoding](EVENT)

    for end in range(1, len(packed)):
        with pytest.raises(BadPacking):
            unpack(packed[:end], encoding, 1000)
    assert unpack(packed, encoding, 1000) == EVENT


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_bomb_is_stopped_at_the_limit(encoding: str) -> None:
    """A gigabyte of zeros is given up after the limit, in little memory."""
    mebibyte = PACKERS[encoding](bytes(1 << 20))
    packed = mebibyte * 1024
    tracemalloc.start()
    try:
        with pytest.raises(UnpackedTooLarge):
            unpack(packed, encoding, 1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 << 20


def test_one_frame_of_runs_is_stopped_too() -> None:
    """A zstd frame that means 128 KiB by every four bytes is given up in little memory."""
    packed = zstandard.compress(bytes(128 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(UnpackedTooLarge):
            unpack(packed, "zstd", 1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 32 << 20


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip,zstd", "*", "a" * 999])
def test_encodings_that_are_not_read(encoding: str, gate: Gate) -> None:
    """They are 415 with the encodings that are."""
    with pytest.raises(UnknownEncoding):
        unpack(EVENT, encoding, 1000)

    for kind in ("application/json", "application/x-ndjson"):
        answer = gate.post(
            content=EVENT, headers={"content-type": kind, "content-encoding": encoding}
        )
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "gzip, zstd"


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_events_may_be_packed(encoding: str, gate: Gate) -> None:
    """A packed event is taken; a cut one is 400, a bomb 413, and nothing of them is kept."""
    packer = PACKERS[encoding]
    headers = {"content-type": "application/json", "content-encoding": encoding}
    bodies = [packer(EVENT), packer(EVENT)[:-3], EVENT, packer(b" " * (1 << 20) + EVENT)]

    statuses = [gate.post(content=body, headers=headers).status_code for body in bodies]

    assert statuses == [201, 400, 400, 413]
    assert len(gate.door.taken) == 1


@pytest.mark.parametrize("encoding", ["gzip", "ZSTD"])
def test_a_body_of_empty_parts(encoding: str) -> None:
    """Members that hold next to nothing are refused once there are too many of them."""
    empty, full = PACKERS[encoding](b""), PACKERS[encoding](b"x" * 100)

    assert unpack(full * 3_000, encoding, 1 << 20) == b"x" * 300_000
    with pytest.raises(BadPacking, match="too many tiny pieces"):
        unpack(empty * 10_000, encoding, 1 << 20)
