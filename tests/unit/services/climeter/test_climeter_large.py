"""Large batches of CLIMeter: taken up to a bound of their own, and kept by the client beyond it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.clients.climeter.bodies import (
    BATCH_BYTES_MAX,
    VALUES_MAX,
    NoRoom,
    Room,
    has_too_many_values,
)
from meterstream_services.http.limits import BODY_BYTES_MAX
from tests.unit.services.clients.world import ClientWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATH = "/v1/events/batch"
CALL: dict[str, Any] = {"command": "c", "status": "success", "tool_slug": "t"}
REFUSED = "meterstream_climeter_events_refused_total"


@pytest.fixture
def world(tmp_path: Path) -> ClientWorld:
    """The application with the catalogue of CLIMeter, asked with some key."""
    return ClientWorld("climeter", tmp_path)


def _batch(events: int, size: int, **more: Any) -> bytes:  # noqa: ANN401 - JSON may be anything
    """A body of so many events, each with so many bytes of metadata."""
    metadata = {"document": "ü" * (size // 2), **more}
    told = {"events": [CALL | {"metadata": metadata}] * events}
    return json.dumps(told, ensure_ascii=False).encode()


def _refused(world: ClientWorld) -> float:
    lines = world.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{REFUSED} ")).split()[1])


def test_a_whole_batch_of_large_events_is_taken(world: ClientWorld) -> None:
    """Fifty documents of 300 kB: counted each, their metadata cut."""
    body = _batch(50, 300_000, page=7)
    assert BODY_BYTES_MAX < len(body) <= BATCH_BYTES_MAX

    answer = world.send("POST", PATH, content=body)

    assert (answer.status_code, answer.json()["accepted"]) == (200, 50)
    attributes = world.door.taken[-1].attributes or {}
    assert attributes["metadata.document"] == "ü" * 512
    assert attributes["metadata.page"] == "7"
    assert _refused(world) == 0


def test_a_large_batch_with_what_only_python_calls_json(world: ClientWorld) -> None:
    """NaN and lone surrogates are read in a large batch too."""
    odd = {"metadata": {"x": float("nan"), "y": "\ud800", "z": "z" * BODY_BYTES_MAX}}

    answer = world.send("POST", PATH, content=json.dumps({"events": [CALL | odd, CALL]}).encode())

    assert (answer.status_code, answer.json()["accepted"]) == (200, 2)


def test_beyond_the_bound_it_is_503_and_counted(world: ClientWorld) -> None:
    """Not 413, which the client would delete it for. One at least; nobody read how many."""
    answer = world.send("POST", PATH, content=b"x" * (BATCH_BYTES_MAX + 1))

    assert (answer.status_code, answer.json()["error"]) == (503, "service_unavailable")
    assert answer.headers["retry-after"]
    assert _refused(world) == 1
    assert (
        'meterstream_http_limited_total{limit="body_bytes_max"} 1.0' in world.get("/metrics").text
    )


def test_a_body_that_does_not_tell_its_length_is_cut_off(world: ClientWorld) -> None:
    """It is 503 as soon as it is too much; the rest of it is not read."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 20
            yield b" " * (1 << 20)

    assert world.send("POST", PATH, content=endless()).status_code == 503
    assert sent <= BATCH_BYTES_MAX + (2 << 20)
    assert _refused(world) == 1


def test_too_many_events_are_503_and_all_of_them_counted(world: ClientWorld) -> None:
    """The package sends fifty; somebody told it to send more."""
    answer = world.post(PATH, {"events": [CALL] * 1_001})

    assert (answer.status_code, _refused(world)) == (503, 1_001)
    assert not world.door.taken


def test_too_many_values_are_503_before_they_are_read(world: ClientWorld) -> None:
    """Of three bytes of JSON each they would be sixty in memory; of one MiB they always were."""
    body = _batch(2, BODY_BYTES_MAX, many=[[]] * (VALUES_MAX // 2))

    assert world.send("POST", PATH, content=body).status_code == 503
    assert not world.door.taken
    small = world.send("POST", PATH, content=_batch(1, 10, many=[[]] * (VALUES_MAX + 1)))
    assert (small.status_code, small.json()["accepted"]) == (200, 1)


@pytest.mark.parametrize(
    ("text", "is_too_many"),
    [
        (b'["' + b"," * (VALUES_MAX + 1) + b'"]', False),
        (b'["\\"' + b"," * (VALUES_MAX + 1) + b'"]', False),
        (b'["\\\\"' + b",0" * (VALUES_MAX + 1) + b"]", True),
        (b"[" + b"[]," * VALUES_MAX + b"0]", True),
        (b'["",' * (VALUES_MAX + 1), True),
        (b'"' * 5 * VALUES_MAX, True),
        (b"[" + b"0," * (VALUES_MAX // 2) + b"0]", False),
    ],
)
def test_values_are_counted_outside_of_texts(text: bytes, *, is_too_many: bool) -> None:
    """Whatever a text holds, commas and escaped quotes included."""
    assert has_too_many_values(text) is is_too_many


def test_large_batches_have_one_room(world: ClientWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room it is 503 for a moment, and nothing was refused for good."""
    monkeypatch.setattr(world.app.state, "climeter_room", Room(most=100_000), raising=False)

    large = world.send("POST", PATH, content=_batch(3, 400_000))
    usual = world.send("POST", PATH, content=_batch(3, 200_000))

    assert (large.status_code, large.headers["retry-after"]) == (503, "1")
    assert (usual.status_code, usual.json()["accepted"]) == (200, 3)
    assert _refused(world) == 0
    assert world.send("POST", PATH, content=_batch(3, 360_000)).status_code == 200


def test_room_is_given_back() -> None:
    """After a body that did not fit, and after one that did."""
    room = Room(most=10)
    for sizes in ([5, 6], [10], [11], [10]):
        with room.held() as take:
            try:
                for size in sizes:
                    take(size)
            except NoRoom:
                assert sum(sizes) > 10
    with room.held() as take, room.held() as other:
        take(6)
        with pytest.raises(NoRoom):
            other(5)
        other(4)


def test_other_paths_keep_the_usual_bound(world: ClientWorld) -> None:
    """The bound is of this path alone."""
    body = b"x" * (BODY_BYTES_MAX + 1)

    assert world.send("POST", "/v1/consumer/call", content=body).status_code == 413
