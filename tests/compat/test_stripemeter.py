"""StripeMeter's document, verbatim, and what the published package fails at: events."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import stripemeter, wiring
from meterstream.compat.stripemeter import (
    AsyncStripeMeterClient,
    IngestResponse,
    StripeMeterClient,
    StripeMeterError,
)
from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from tests.compat import documents
from tests.compat.standins import usage_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.compat.conftest import Memory

MOMENT = datetime(2026, 11, 20, 10, tzinfo=UTC)


@pytest.fixture
def client() -> StripeMeterClient:
    """A client with the document's arguments."""
    return StripeMeterClient(api_url="https://x", api_key="a.b", tenant_id="t1")


def sent(memory: Memory) -> list[tuple[str, str | None, Decimal, Mapping[str, str]]]:
    """Customer, resource, quantity and attributes of every event, in the order of recording."""
    events = sorted(memory.arrived(), key=lambda event: (event.lane, event.sequence))
    return [
        (
            event.tenant,
            event.subject,
            Decimal(event.quantity).scaleb(-event.scale),
            event.attributes,
        )
        for event in events
    ]


def test_the_document_runs_verbatim(memory: Memory) -> None:
    """Every snippet, its awaited flush included, with the documented results."""
    memory.usage.answers["/v1/periods"] = lambda _: usage_answer(
        {"group": {"metric": "api_calls"}, "value": "160"}
    )
    names: dict[str, Any] = {}

    for snippet in documents.snippets("stripemeter"):
        documents.run(snippet, names)
    asyncio.run(names["main"]())

    assert names["response"] == IngestResponse(accepted=1, duplicates=0, errors=())
    assert [(metric.name, metric.current) for metric in names["usage"].metrics] == [
        ("api_calls", 160)
    ]
    assert [
        (item.metric, item.quantity, item.unit_price, item.total)
        for item in names["projection"].line_items
    ] == [("api_calls", 160, 0, 0)]
    calls = {"account": "your_tenant_id", "metric": "api_calls"}
    assert sent(memory) == [
        ("cus_ABC123", None, 100,
         {**calls, "meta.endpoint": "/v1/search", "meta.region": "us-east-1"}),
        ("cus_ABC123", None, 50, calls),
        ("cus_ABC123", None, Decimal("2.5"), {**calls, "metric": "storage_gb"}),
        ("cus_ABC123", None, 10, calls),
        ("cus_ABC123", None, 100, calls),
        ("cus_ABC123", None, 100, calls),
    ]  # fmt: skip
    assert {event.type for event in memory.arrived()} == {"stripemeter.usage"}


def test_flush_works_with_and_without_await(memory: Memory, client: StripeMeterClient) -> None:
    """Both give the same answer: what was buffered since the last flush."""
    client.buffer("m", "c", 1)
    client.buffer("m", "c", 2)
    assert client.flush() == IngestResponse(2, 0)

    async def main() -> IngestResponse:
        client.buffer("m", "c", 3)
        return await client.flush()

    assert asyncio.run(main()) == IngestResponse(1, 0)
    assert client.flush() == IngestResponse(0, 0)


def test_the_package_has_its_own_spellings() -> None:
    """Names of the package and of its document are the same things."""
    assert stripemeter.StripemeterClient is StripeMeterClient
    assert stripemeter.AsyncStripemeterClient is AsyncStripeMeterClient
    assert stripemeter.StripemeterError is StripeMeterError


def test_async_calls_are_all_there(memory: Memory) -> None:
    """Every call of the synchronous client, awaited, many at once, in an async block."""
    memory.usage.answers["/v1/periods"] = lambda _: usage_answer()

    async def main() -> list[IngestResponse]:
        async with AsyncStripeMeterClient("https://x", "t1") as client:
            await client.buffer("m", "c", 1)
            assert await client.flush() == IngestResponse(1, 0)
            await client.buffer("m", "c", 1)
            assert (await client.get_usage("c")).metrics == ()
            assert (await client.get_projection("c")).total == 0
            batch = await client.track_batch([{"metric": "m", "customer_ref": "c", "quantity": 1}])
            return [
                batch,
                *await asyncio.gather(*(client.track("m", "c", number) for number in range(1, 9))),
            ]

    assert asyncio.run(main()) == [IngestResponse(1, 0)] * 9
    assert len(memory.arrived()) == 11


def test_events_at_one_moment_are_kept_apart(memory: Memory, client: StripeMeterClient) -> None:
    """With a time, an event is what it says: other quantities or meta are other events."""
    client.track("m", "c", 1, ts=MOMENT)
    client.track("m", "c", 2, ts=MOMENT)
    client.track("m", "c", 2, ts=MOMENT, meta={"a": 1})
    client.track("m", "c", 2, ts=MOMENT, resource_id="r")
    again = StripeMeterClient(tenant_id="t1").track("m", "c", 2, ts="2026-11-20T12:00:00+02:00")

    events = memory.arrived()
    assert len({event.key for event in events}) == 4
    assert len(events) == 5, "another client knows nothing of the first; the key is the same"
    assert again.accepted == 1
    assert all(event.key is not None and event.key.startswith("evt_") for event in events)
    assert {event.time for event in events} == {1_795_168_800_000_000}


def test_events_without_a_time_are_all_their_own(memory: Memory, client: StripeMeterClient) -> None:
    """However fast equal calls follow each other, each counts."""
    for _ in range(100):
        client.buffer("m", "c", 1)
    client.close()

    assert len({event.key for event in memory.arrived()}) == 100


def test_a_repeat_is_a_duplicate(memory: Memory, client: StripeMeterClient) -> None:
    """A key with the same content is told and not sent again, with or without its time."""
    assert client.track("m", "c", 1, idempotency_key="k").accepted == 1

    assert client.track("m", "c", 1, idempotency_key="k") == IngestResponse(0, 1)
    assert client.track("m", "c", 1, ts=MOMENT) == IngestResponse(1, 0)
    assert client.track("m", "c", 1, ts=MOMENT) == IngestResponse(0, 1)
    event = {"metric": "m", "customer_ref": "c", "quantity": 5, "idempotency_key": "twice"}
    assert client.track_batch([event, event]) == IngestResponse(1, 1)
    assert client.track("m", "another", 1, idempotency_key="k").accepted == 1
    assert len(memory.arrived()) == 4


def test_other_content_under_a_key_is_refused(memory: Memory, client: StripeMeterClient) -> None:
    """A key stands for one event: another quantity or time is told as a conflict."""
    client.track("m", "c", 1, idempotency_key="k", ts=MOMENT)

    others: list[tuple[int, datetime]] = [(2, MOMENT), (1, MOMENT + timedelta(seconds=1))]
    for quantity, ts in others:
        with pytest.raises(StripeMeterError, match="'k' was used for other content") as refused:
            client.track("m", "c", quantity, idempotency_key="k", ts=ts)
        assert refused.value.status_code == 409
    assert len(memory.arrived()) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quantity": 0}, "quantity: 0 is not positive and finite"),
        ({"quantity": -1}, "quantity: -1 is not positive and finite"),
        ({"quantity": float("inf")}, "quantity: inf is not positive"),
        ({"quantity": float("nan")}, "quantity: nan is not positive"),
        ({"quantity": Decimal("sNaN")}, "is not positive"),
        ({"quantity": "many"}, "'many' is not a number"),
        ({"quantity": None}, "NoneType is not a number"),
        ({"quantity": True}, "bool is not a number"),
        ({"quantity": 10**30}, "is beyond what can be counted"),
        ({"quantity": 10**5000, "ts": MOMENT}, "is beyond what can be counted"),
        ({"quantity": Decimal("1e999999999"), "ts": MOMENT}, "is beyond what can be counted"),
        ({"quantity": Decimal("1e-999999999"), "ts": MOMENT}, "is beyond what can be counted"),
        ({"quantity": Decimal(2**62) + Decimal("0.1")}, "quantity"),
        ({"metric": ""}, "metric: '' is not text"),
        ({"metric": 7}, "metric: 7 is not text"),
        ({"customer_ref": None}, "customer_ref: None is not text"),
        ({"customer_ref": "c" * 300}, "tenant"),
        ({"resource_id": 7}, "resource_id: 7"),
        ({"meta": [1]}, "meta: list is not a mapping"),
        ({"ts": "yesterday"}, "'yesterday' is not an ISO 8601 time"),
        ({"ts": 5}, "ts: int is not a time"),
        ({"idempotency_key": ""}, "idempotency_key: ''"),
        ({"colour": "red"}, "colour is not a field"),
    ],
)
def test_wrong_arguments_are_told(
    memory: Memory, client: StripeMeterClient, changed: dict[str, Any], message: str
) -> None:
    """Every wrong field is an error with status 400, in a batch one of its entries."""
    right = {"metric": "m", "customer_ref": "c", "quantity": 1}
    wrong = {**right, **changed}

    answer = client.track_batch([right, wrong])

    assert (answer.accepted, answer.duplicates) == (1, 0)
    [problem] = answer.errors
    assert problem.index == 1
    assert message in problem.error
    if "colour" not in changed:
        with pytest.raises(StripeMeterError) as refused:
            client.track(**wrong)
        assert message in refused.value.message
        assert refused.value.status_code == 400
        with pytest.raises(StripeMeterError):
            client.buffer(**wrong)
    assert len(memory.arrived()) == 1


def test_quantities_are_exact(memory: Memory, client: StripeMeterClient) -> None:
    """A float stands for the decimal that it is written as; Decimals and texts for themselves."""
    for quantity in (0.1, Decimal("0.2"), "0.3", 1e-7, 5):
        client.track("m", "c", quantity)

    assert [entry[2] for entry in sent(memory)] == [
        Decimal("0.1"), Decimal("0.2"), Decimal("0.3"), Decimal("0.0000001"), Decimal(5),
    ]  # fmt: skip


def test_times_of_any_zone_are_understood(memory: Memory, client: StripeMeterClient) -> None:
    """Aware times are converted; one without a zone is UTC, as the published client's are."""
    east = MOMENT.astimezone(timezone(timedelta(hours=9)))
    times: list[datetime | str] = [MOMENT, east, MOMENT.replace(tzinfo=None), "2026-11-20T10:00"]
    for number, ts in enumerate(times):
        client.track("m", "c", number + 1, ts=ts)

    assert {event.time for event in memory.arrived()} == {int(MOMENT.timestamp()) * 1_000_000}


def test_an_unconfirmed_event_is_safe_to_repeat(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time-out says so and names the key; the same key again counts once."""
    memory.transport.available = False
    client = StripeMeterClient(tenant_id="t1", timeout=0.05)

    with pytest.raises(StripeMeterError, match="still on its way") as late:
        client.track("m", "c", 1)
    assert late.value.status_code == 503
    assert late.value.data is not None
    [key] = late.value.data["idempotency_keys"]
    with pytest.raises(StripeMeterError, match="not confirmed"):
        client.track_batch([{"metric": "m", "customer_ref": "c", "quantity": 1}])
    client.buffer("m", "c", 1)
    with pytest.raises(StripeMeterError, match="not confirmed"):
        client.flush()
    memory.transport.available = True
    monkeypatch.setattr(client, "_timeout", 10)
    assert client.track("m", "c", 1, idempotency_key=key).accepted == 1

    events = [event for event in memory.arrived() if event.key == key]
    assert len(events) == 2
    assert len({event.time for event in events}) == 1, "a repeat, not a conflict"


def test_the_brokers_refusal_is_told(memory: Memory, client: StripeMeterClient) -> None:
    """What the broker refuses for good is an error, and its key may be used again."""
    memory.transport.misfortune = lambda _: Failure("too large", permanent=True)
    with pytest.raises(StripeMeterError, match="refused") as refused:
        client.track("m", "c", 1, idempotency_key="k")
    assert refused.value.status_code == 422

    memory.transport.misfortune = None
    assert client.track("m", "c", 2, idempotency_key="k").accepted == 1


def test_a_buffer_is_bounded_and_loses_nothing(memory: Memory) -> None:
    """Beyond the batch size events are still sent; they are only not watched one by one."""
    memory.transport.available = False
    client = StripeMeterClient(tenant_id="t1", batch_size=10)
    for _ in range(50):
        client.buffer("m", "c", 1)
    memory.transport.available = True

    assert client.flush() == IngestResponse(50, 0)
    assert len(memory.arrived()) == 50


def test_threads_lose_no_event(memory: Memory) -> None:
    """Many threads buffer and flush at once; every event is counted exactly once."""
    client = StripeMeterClient(tenant_id="t1", batch_size=16)
    accepted: list[int] = []

    def work() -> None:
        for _ in range(100):
            client.buffer("m", "c", 1)
        accepted.append(client.flush().accepted)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(accepted) == 800
    assert len({event.key for event in memory.arrived()}) == 800


def test_leaving_a_block_flushes(memory: Memory) -> None:
    """A ``with`` block ends with everything in the log; the client stays usable."""
    with StripeMeterClient("https://x", "t1", "a.b") as client:
        client.buffer("m", "c", 1)
    assert len(memory.arrived()) == 1

    assert client.track("m", "c", 1).accepted == 1


def test_a_batch_has_its_bound(client: StripeMeterClient) -> None:
    """More than the documented thousand are refused as a whole."""
    with pytest.raises(StripeMeterError, match="1001 events in one batch; at most 1000"):
        client.track_batch([{}] * 1001)


def test_keys_are_never_kept(client: StripeMeterClient) -> None:
    """Neither the client nor its repr holds the API key."""
    assert "a.b" not in repr(vars(client))
    assert repr(client) == "<StripeMeterClient of 't1'>"


def test_a_full_buffer_is_told_as_such(memory: Memory) -> None:
    """No room is a 503, from a meter that drops as from one that raises; a closed one likewise."""
    client = StripeMeterClient(tenant_id="t1")
    for settings in ({"buffer_events_max": 1}, {"buffer_events_max": 1, "overflow": "raise"}):
        transport = MemoryTransport()
        transport.available = False
        meter = wiring.make_meter(transport=transport, **settings)
        wiring.use(meter=meter)
        client.buffer("m", "c", 1)
        with pytest.raises(StripeMeterError, match="buffer is full") as full:
            client.buffer("m", "c", 1)
        assert full.value.status_code == 503
        meter.close(timeout=0)
        with pytest.raises(StripeMeterError, match="closed") as closed:
            client.buffer("m", "c", 1)
        assert closed.value.status_code == 503


def test_strict_meters_say_what_is_wrong(memory: Memory) -> None:
    """What a strict meter raises is the client's own error too."""
    with wiring.make_meter(transport=MemoryTransport(), strict=True) as meter:
        wiring.use(meter=meter)
        with pytest.raises(StripeMeterError, match="tenant") as refused:
            StripeMeterClient().track("m", "c" * 300, 1)
        assert refused.value.status_code == 400
