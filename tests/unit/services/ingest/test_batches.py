"""Batches: an answer for each item, in order, whatever its neighbours are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from meterstream_services.gateway.port import Patience

if TYPE_CHECKING:
    from tests.unit.services.ingest.conftest import Gate


def event(**members: object) -> dict[str, Any]:
    """An event that is good but for these members."""
    return {"type": "t", "tenant": "acme"} | members


ITEMS: list[Any] = [
    event(key="a"),
    event(key="a"),
    event(key="a", quantity=2),
    event(quantity="x"),
    7,
    {"specversion": "1.0", "type": "t", "source": "s", "id": "1", "tenant": "acme"},
    event(tenant="other"),
]


@pytest.mark.parametrize("wrapped", [True, False])
def test_each_item_has_its_own_answer(gate: Gate, *, wrapped: bool) -> None:
    """Good, repeated, conflicting, wrong and foreign items stand beside each other."""
    gate.bind("acme")

    answer = gate.post({"events": ITEMS} if wrapped else ITEMS)

    assert answer.status_code == 200
    told = answer.json()
    assert [row["status"] for row in told["results"]] == [
        "accepted", "duplicate", "conflict", "refused", "refused", "accepted", "refused",
    ]  # fmt: skip
    assert [row.get("field") for row in told["results"]] == [
        None, None, "key", "quantity", "event", None, "tenant",
    ]  # fmt: skip
    assert (told["accepted"], told["duplicates"], told["refused"]) == (2, 1, 4)
    assert [offer.tenant for offer in gate.door.taken] == ["acme", "acme"]


def test_the_header_numbers_the_items_that_have_no_key(gate: Gate) -> None:
    """`<header>:<place>` is the key, so that the whole batch can be sent again."""
    items = [event(), event(key="own"), event()]

    first, second = (
        gate.post(items, headers={"idempotency-key": "h"}).json()["results"] for _ in range(2)
    )

    assert [offer.key for offer in gate.door.taken] == ["h:0", "own", "h:2"]
    assert [row["status"] for row in first] == ["accepted"] * 3
    assert [row["status"] for row in second] == ["duplicate"] * 3
    assert gate.door.patience == [Patience.LOG] * 2


def test_one_item_without_a_key_lets_all_wait_in_the_spool(gate: Gate) -> None:
    """A batch that could not be sent again as it is waits for log or spool."""
    gate.post([event(key="a"), event()])

    assert gate.door.patience == [Patience.LOG_OR_SPOOL]


def test_a_batch_of_which_nothing_is_taken_is_503(gate: Gate) -> None:
    """All unavailable: the whole batch is to be sent again, after Retry-After."""
    gate.door.away = True

    answer = gate.post([event(key="a"), event(key="b")])

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_batch_of_which_a_part_is_taken_says_which(gate: Gate) -> None:
    """Unavailable beside refused: 200 with Retry-After, and each item's own word."""
    gate.door.away = True

    answer = gate.post([event(key="a"), event(quantity=[])])

    assert (answer.status_code, answer.headers["retry-after"]) == (200, "1")
    assert answer.json()["unavailable"] == 1
    assert [row["status"] for row in answer.json()["results"]] == ["unavailable", "refused"]


def test_receipts_of_a_batch(gate: Gate) -> None:
    """With Prefer: respond-async a batch is 202 and has a receipt for each item."""
    answer = gate.post([event(key="a"), event()], headers={"prefer": "respond-async"})

    assert answer.status_code == 202
    receipts = [row["receipt"] for row in answer.json()["results"]]
    assert receipts == [offer.key for offer in gate.door.taken]


def test_a_thousand_are_taken_and_one_more_is_not(gate: Gate) -> None:
    """The number of items is bounded before any of them is looked at."""
    assert gate.post([event()] * 1000).json()["accepted"] == 1000

    answer = gate.post([event()] * 1001)

    assert (answer.status_code, len(gate.door.taken)) == (413, 1000)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": [], "tenant": "a"}, "tenant"),
        ({"events": {}}, "events"),
        (5, "event"),
        ("x", "event"),
        (True, "event"),
    ],
)
def test_what_is_no_batch(gate: Gate, body: object, field: str) -> None:
    """Members beside `events`, and bodies that are neither object nor array, are refused."""
    answer = gate.post(body)

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_an_empty_batch_is_answered(gate: Gate) -> None:
    """Nothing sent, nothing told."""
    assert gate.post([]).json() == {"results": [], "accepted": 0, "duplicates": 0, "refused": 0}


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"type": NaN}', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b"[1e999999]", "application/json", 200),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", "application/cloudevents-batch+json", 422),
        (b"[]", "application/cloudevents+json", 422),
        (b"{}", "application/cloudevents+json", 422),
        (b'{"type": "t", "tenant": "a"}', "Application/JSON; charset=utf-8", 201),
        (b" " * (1 << 20) + b"1", "application/json", 413),
    ],
)
def test_bodies_that_are_not_events(gate: Gate, content: bytes, kind: str, status: int) -> None:
    """What cannot be read, or is of another type, is a problem; a type in any case is read."""
    answer = gate.send("POST", "/v1/events", content=content, headers={"content-type": kind})

    assert answer.status_code == status, answer.text
