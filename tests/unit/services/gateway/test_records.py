"""/v1/records: which records pass and for whom, and every answer of decision 22."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.memory import MemoryTransport
from meterstream.transport import Failure
from meterstream_schemas import codec, wire
from meterstream_schemas.errors import SchemaUnavailable
from meterstream_schemas.events import EventKind, MeterEvent
from meterstream_schemas.placement import lane_of
from meterstream_schemas.registry import BundledSchemas
from meterstream_services.accounts.memory import MemoryDirectory
from meterstream_services.gateway.passing import Passing, Record
from meterstream_services.gateway.records import (
    PRODUCERS_MAX,
    UNKNOWN_SCHEMAS_MAX,
    Judge,
    TooManyProducers,
)
from meterstream_services.http import records as route
from meterstream_services.http.app import create_app
from meterstream_services.http.guarding import asking_principal
from meterstream_services.http.packed import UnpackedTooLarge
from meterstream_services.http.rates import RATES_NAME, Rates
from meterstream_services.http.settings import Settings
from meterstream_services.keys.principal import ANYBODY, Principal, Rate, Scope
from tests.unit.services.gateway.doors import run, until

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
OWN = "0" * 32
MINE = "a" * 32
OTHERS = "b" * 32
ACME = Principal("1", frozenset({Scope.INGEST}), frozenset({"acme"}))


def event(**fields: Any) -> MeterEvent:  # noqa: ANN401 - of an event
    """One of acme's."""
    tenant = fields.get("tenant", "acme")
    return MeterEvent(
        kind=EventKind.USAGE,
        tenant=tenant,
        type="api.request",
        time=1,
        quantity=1,
        scale=0,
        session=None,
        subject=None,
        attributes={},
        producer=MINE,
        lane=lane_of(tenant),
        sequence=1,
        key=None,
    )._replace(**fields)


def mark(**fields: Any) -> MeterEvent:  # noqa: ANN401 - of an event
    """What a lane of acme's has spent."""
    told = {"tenant": "", "type": "", "quantity": 0, "lane": lane_of("acme"), **fields}
    return event(kind=EventKind.MARK, **told)


def encoded(told: MeterEvent) -> bytes:
    """As the SDK frames it."""
    return codec.encode(told, SCHEMA)


def judge() -> Judge:
    """One that has seen an event of another tenant's incarnation."""
    fresh = Judge(BundledSchemas(), own=lambda: OWN)
    [passed] = fresh.judged([(0, encoded(event(tenant="other", producer=OTHERS)))], 4, ANYBODY)
    assert isinstance(passed, Record)
    return fresh


@pytest.mark.parametrize(
    "good",
    [
        event(),
        event(kind=EventKind.VOID, key="k"),
        event(kind=EventKind.SESSION_START, session="s", quantity=0),
        mark(),
        mark(attributes={"closing": "true"}),
    ],
)
def test_records_of_ones_own_pass_as_they_are(good: MeterEvent) -> None:
    """Under the tenant as key, into the partition that the sender names."""
    value = encoded(good)

    assert judge().judged([(3, value)], 4, ACME) == [Record(3, good.tenant.encode(), value)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (encoded(event(tenant="other")), "this key is not for"),
        (encoded(event(tenant="other", kind=EventKind.VOID, key="k")), "this key is not for"),
        (encoded(event(lane=lane_of("acme") ^ 1)), "not the tenant's"),
        (encoded(event(lane=256)), "outside"),
        (encoded(event(lane=-1)), "outside"),
        (encoded(event(sequence=0)), "outside"),
        (encoded(event(producer="")), "32 hexadecimal"),
        (encoded(event(producer="A" * 32)), "32 hexadecimal"),
        (encoded(event(producer=OWN)), "gateway's own"),
        (encoded(mark(producer=OWN)), "gateway's own"),
        (encoded(mark(producer="")), "32 hexadecimal"),
        (encoded(mark(lane=lane_of("acme") ^ 1)), "no tenant of this key"),
        (encoded(mark(tenant="acme")), "a mark has none"),
        (b"", "too short"),
        (b"\x01" + encoded(event())[1:], "Confluent"),
        (wire.header(77) + encoded(event())[5:], "not allowed"),
        (encoded(event())[:-1], "not a record"),
        (encoded(event()) + b"\0", "not a record"),
        (encoded(event(attributes={"a": "x" * 20_000})), "more than any event"),
    ],
)
def test_what_is_not_ones_own_is_refused_for_good(bad: bytes, why: str) -> None:
    """With its reason, and its neighbours pass."""
    first, refused, last = judge().judged(
        [(0, encoded(event())), (0, bad), (1, encoded(event(sequence=2)))], 4, ACME
    )

    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(refused, Failure)
    assert refused.permanent
    assert why in refused.reason


@pytest.mark.parametrize("foreign", [event(), mark(attributes={"closing": "true"})])
def test_another_tenants_incarnation_is_kept_from_harm(foreign: MeterEvent) -> None:
    """Nothing of it passes; but a key that lost a tenant loses no events for that: it is doubt."""
    bytes_of = encoded(foreign._replace(producer=OTHERS))

    [told] = judge().judged([(0, bytes_of)], 4, ACME)

    assert isinstance(told, Failure)
    assert not told.permanent
    assert "first seen here with a tenant" in told.reason


def test_a_partition_that_is_not_there_yet_is_doubt() -> None:
    """Another gateway may know of a topic that has grown: it must not cost the event."""
    [told] = judge().judged([(4, encoded(event()))], 4, ACME)

    assert isinstance(told, Failure)
    assert not told.permanent


def test_a_registry_is_asked_for_few_unknown_schemas() -> None:
    """A flood of made up ids costs a few questions; the good records of the request pass."""
    asked: list[int] = []

    class Counting:
        def schema_text(self, schema_id: int) -> str:
            asked.append(schema_id)
            return BundledSchemas().schema_text(schema_id)

    strict = Judge(Counting(), own=lambda: OWN)
    good = (0, encoded(event()))
    made_up = [(0, wire.header(1_000 + n % 500) + encoded(event())[5:]) for n in range(2_000)]

    judged = strict.judged([good, *made_up, good], 4, ACME)

    assert [type(told) for told in judged] == [Record, *[Failure] * 2_000, Record]
    assert len(asked) == 1 + UNKNOWN_SCHEMAS_MAX


def test_one_request_makes_few_incarnations() -> None:
    """More than the bound: nothing of the request passes."""
    many = [(0, encoded(event(producer=f"{n:032x}"))) for n in range(1, PRODUCERS_MAX + 2)]

    assert len(judge().judged(many[:-1], 4, ACME)) == PRODUCERS_MAX
    with pytest.raises(TooManyProducers):
        judge().judged(many, 4, ACME)


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(body: bytes) -> None:
    """Frames give the body again; what is no frame is `Unframed`; nothing else is raised."""
    try:
        frames = route.cut(body)
    except (route.Unframed, UnpackedTooLarge):
        return
    assert framed(frames) == body


def framed(frames: list[tuple[int, bytes]]) -> bytes:
    """The body of a request."""
    return b"".join(struct.pack(">II", len(value), to) + value for to, value in frames)


class Asked:
    """The routes over a transport in memory, asked as the SDK asks."""

    def __init__(self, directory: Path, transport: MemoryTransport, principal: Principal) -> None:
        app = create_app(
            Settings(directory / "store.sqlite3", directory / "accounts.sqlite3"),
            directory=MemoryDirectory(),
        )
        app.dependency_overrides[asking_principal] = lambda: principal
        self.passing = Passing(transport, patience_seconds=5)
        app.state.parts = replace(app.state.parts, passing=self.passing, judge=judge())
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
        )

    async def post(self, body: bytes, records: object = None, **headers: str) -> httpx.Response:
        """A request with the headers of the SDK, unless others are given."""
        given = {"content-type": route.MEDIA_TYPE, "meterstream-records": str(records)}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post("/v1/records", content=body, headers=given)


def test_every_answer_of_the_contract(tmp_path: Path) -> None:
    """200 in order, packed or not; 400, 413 and 503 in words that the SDK reads; 415."""
    good = encoded(event())
    body = framed([(1, good), (1, encoded(event(tenant="other"))), (1, encoded(event(sequence=2)))])

    async def check() -> None:
        transport = MemoryTransport()
        asked = Asked(tmp_path, transport, ACME)
        told = await asked.client.get("/v1/records")
        assert (told.status_code, told.headers["retry-after"]) == (503, "2")
        assert (await asked.post(body, 3)).status_code == 503

        asked.passing.start()
        await until(lambda: asked.passing.partitions is not None)
        told = await asked.client.get("/v1/records")
        assert told.json() == {"partitions": 4, "bytes_max": 1_000_000, "records_max": 5_000}
        told = await asked.post(body, 3)
        first, refused, last = told.json()["results"]
        assert ([first, last], refused["permanent"]) == ([[1, 0], [1, 1]], True)
        assert "content-encoding" not in told.headers
        told = await asked.post(gzip.compress(body), 3, content_encoding="gzip")
        assert told.json()["results"][2] == [1, 3]
        for status, answer in (
            (400, await asked.post(body, 4)),
            (400, await asked.post(body[:-1], 3)),
            (400, await asked.post(body, 3, content_encoding="gzip")),
            (413, await asked.post(gzip.compress(bytes(8_000_000)), 3, content_encoding="gzip")),
            (413, await asked.post(framed([(0, b"")] * 5_001), 5_001)),
            (415, await asked.post(body, 3, content_type="application/json")),
        ):
            assert answer.status_code == status, answer.text
            assert answer.json()["error"]
        assert len(transport.log[1]) == 4
        await asked.passing.close()
        await asked.client.aclose()

    run(check())


def test_a_key_that_is_not_for_ingest_gets_nothing(tmp_path: Path) -> None:
    """403 to both questions."""
    reader = Principal("1", frozenset({Scope.READ}), None)

    async def check() -> None:
        asked = Asked(tmp_path, MemoryTransport(), reader)
        assert (await asked.client.get("/v1/records")).status_code == 403
        assert (await asked.post(framed([(0, encoded(event()))]), 1)).status_code == 403
        await asked.client.aclose()

    run(check())


def test_a_key_that_is_too_fast_hears_429(tmp_path: Path) -> None:
    """The SDK's records count against the rate of their key, and the answer says when to go on."""
    slow, rates = replace(ACME, rate=Rate(events_per_second=1)), Rates()

    async def check() -> None:
        transport = MemoryTransport()
        asked = Asked(tmp_path, transport, slow)
        app = asked.client._transport.app  # type: ignore[attr-defined]  # of httpx' ASGITransport

        async def limited(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
            await app({**scope, RATES_NAME: rates}, receive, send)

        asked.client._transport.app = limited  # type: ignore[attr-defined]  # likewise
        asked.passing.start()
        await until(lambda: asked.passing.partitions is not None)
        body = framed([(1, encoded(event(sequence=1 + n))) for n in range(5)])
        assert (await asked.post(body, 5)).status_code == 200
        told = await asked.post(body, 5)
        assert (told.status_code, told.headers["retry-after"]) == (429, "3")
        assert told.json()["error"]
        assert len(transport.log[1]) == 5
        await asked.passing.close()
        await asked.client.aclose()

    run(check())


def test_a_registry_that_is_away_is_no_refusal(tmp_path: Path) -> None:
    """What cannot be read yet waits: 503, and nothing is said of the records."""

    class Away:
        def schema_text(self, schema_id: int) -> str:
            raise SchemaUnavailable(f"no answer about {schema_id}")

    async def check() -> None:
        transport = MemoryTransport()
        asked = Asked(tmp_path, transport, ACME)
        app = asked.client._transport.app  # type: ignore[attr-defined]  # of httpx' ASGITransport
        app.state.parts = replace(app.state.parts, judge=Judge(Away(), own=lambda: None))
        asked.passing.start()
        await until(lambda: asked.passing.partitions is not None)
        told = await asked.post(framed([(0, encoded(event()))]), 1)
        assert (told.status_code, told.headers["retry-after"]) == (503, "2")
        await asked.passing.close()
        await asked.client.aclose()

    run(check())
