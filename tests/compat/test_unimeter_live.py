"""The verbatim snippets of Unimeter and meter-lib over a real broker, worker and API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat import meter_lib, unimeter, wiring
from meterstream.compat.unimeter import (
    AggType,
    AlertRecord,
    AlertThreshold,
    AsyncClient,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
    PeriodType,
    ServerError,
    current_month,
    scale,
    unscale,
)
from meterstream.compat.unimeter_catalogue import KIND, meter_name, to_definition
from tests.compat.documents import execute, run, snippets
from tests.integration.up_process import COMMAND, running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Broker
    from tests.integration.up_process import Machine

pytestmark = pytest.mark.integration

WATCHED = MetricSchema(
    "watched", AggType.SUM, period_type=PeriodType.DAY, thresholds=[AlertThreshold("soft", 10)]
)


@pytest.fixture(scope="module")
def machine(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A running `up` with what `meterstream catalogue` printed; the environment points to it."""
    directory = tmp_path_factory.mktemp("ready")
    data, topic = directory / "data", f"test.{uuid.uuid4().hex}.events"
    (data / "compat").mkdir(parents=True)
    definitions = data / "compat" / "definitions.json"
    definitions.write_text(json.dumps({KIND: {WATCHED.code: to_definition(WATCHED)}}))
    today = datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z")
    catalogue = directory / "meters.yaml"
    printed = subprocess.run(
        [*COMMAND, "catalogue", "unimeter", "meter_lib", "--metering-since", today,
         "--definitions", str(definitions)],
        check=True, capture_output=True,
    )  # fmt: skip
    catalogue.write_bytes(printed.stdout)
    options = ("--bootstrap", broker.bootstrap_servers, "--topic", topic)
    with (
        running_up(data, catalogue, *options) as running,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name in [name for name in os.environ if name.startswith("METERSTREAM_")]:
            environment.delenv(name)
        environment.setenv("METERSTREAM_DATA", str(data))
        environment.setenv("METERSTREAM_TOPIC", topic)
        wiring.reset()
        yield running
        wiring.reset()


def test_unimeters_document_gives_its_figures(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """All snippets in one program, none changed; each question knows what was ingested before."""
    namespace: dict[str, Any] = {"asyncio": asyncio, "user_id": 7, "events": [Event(42, "other")]}

    async def program() -> tuple[float, int, int]:
        for snippet in snippets("unimeter"):
            await execute(snippet, namespace)
        client = namespace["client"]
        payment = await client.query(42, "payment", current_month())
        seats = await client.query(100, "active_seats", current_month())
        other = await client.query(42, "other", current_month())
        return unscale(payment.value.sum), seats.value.count, other.value.count

    assert asyncio.run(program()) == (9.99, 1, 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(("watched", "all."))] == [
        "api_calls: COUNT",
        "compute_seconds: SUM",
        "stored 1 events",
        "API calls this month: 3",
        "AWS compute: 45.0 seconds",
        "current count: 3",
    ]


def test_every_aggregation_answers_with_filters(machine: Machine) -> None:
    """The API merges the groups that fit two filters exactly, for all five aggregations."""
    dimensions = [DimensionFilter(key, []) for key in ("provider", "region", "tier")]
    wanted = {"provider": "aws", "region": "us-east"}
    start = datetime.now(UTC)

    async def program() -> dict[str, Any]:
        client = AsyncClient(["localhost:7001"])
        found: dict[str, Any] = {}
        for kind in AggType:
            code = f"all.{kind.name}"
            await client.metrics.create(MetricSchema(code, kind, filters=dimensions))
            operation = OperationType.ADD if kind is AggType.COUNT_UNIQUE else OperationType.NONE
            told = [(5, "a"), (9, "b"), (5, "a"), (7, "b")]
            events = [
                Event(1, code, value, start + timedelta(milliseconds=place), operation,
                      properties={**wanted, "tier": tier})
                for place, (value, tier) in enumerate(told)
            ]  # fmt: skip
            events.append(Event(1, code, 100, operation_type=operation))
            await client.ingest(events)
            answer = await client.query(1, code, current_month(), filters=wanted)
            found[kind.name] = answer.value
        return found

    found = asyncio.run(program())
    assert (found["COUNT"].count, found["SUM"].sum, found["MAX"].max) == (4, 26, 9)
    assert found["LATEST"].last_value == 7
    assert found["COUNT_UNIQUE"].count == 3


def test_the_place_of_an_event_is_its_own(machine: Machine) -> None:
    """Workers count an event where its outcome says it is, so that questions can wait for it."""

    async def program() -> list[bool]:
        client = AsyncClient()
        waited: list[bool] = []
        for account in range(200, 210):
            await client.ingest([Event(account, "places")])
            waited.append(await client._fresh.wait())
        return waited

    assert asyncio.run(program()) == [True] * 10


def test_a_threshold_is_told_of(machine: Machine) -> None:
    """A metric with a meter of its own: what workers watch is an alert, with its place."""

    async def ingest() -> None:
        await AsyncClient().ingest([Event(42, "watched", 4) for _ in range(3)])

    asyncio.run(ingest())

    def alerts() -> list[AlertRecord]:
        return asyncio.run(AsyncClient().list_alerts(42))

    eventually(lambda: bool(alerts()), timeout_seconds=60)
    assert [(a.metric_code, a.threshold_code, a.value_at_cross) for a in alerts()] == [
        ("watched", "soft", 10)
    ]
    today = unimeter.today_utc()
    period = [("from", today.start.isoformat()), ("to", today.end.isoformat())]
    own = wiring.usage().get("/v1/usage", [("meter", meter_name("watched")), *period])
    assert [row["value"] for row in own["rows"]] == ["12"]


def test_what_was_ingested_again_counts_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that failed for its caller, though it arrived, may come again: each event once."""
    events = [Event(7, "again", scale(0.5)) for _ in range(3)]

    async def program() -> tuple[int, int]:
        client = AsyncClient()
        with monkeypatch.context() as hurried:
            hurried.setattr(unimeter, "INGEST_SECONDS", 0.0)
            with pytest.raises(ServerError, match="not in the log"):
                await client.ingest(events)
        await client.ingest(events)
        first = (await client.query(7, "again", current_month())).value.sum
        await client.ingest(events)
        return first, (await client.query(7, "again", current_month())).value.sum

    assert asyncio.run(program()) == (scale(1.5), scale(3))


def test_meter_libs_document_gives_its_figures(machine: Machine) -> None:
    """All snippets: two amounts, and one session of 5,557.8 hours from two calls without an id."""
    map_to_account(machine, "tenant_123")
    namespace: dict[str, Any] = {}
    for snippet in snippets("meter_lib"):
        run(snippet, namespace)
        assert namespace["result"]["offsets"][0]["error_code"] is None

    def figure(meter: str, start: str, end: str) -> list[str]:
        question = [("meter", meter), ("from", start), ("to", end), ("tenant", "tenant_123")]
        return [row["value"] for row in wiring.usage().get("/v1/usage", question)["rows"]]

    chat = ("chat.on.time_hours", "2025-10-01", "2026-06-01")
    eventually(lambda: figure(*chat) == ["20008000"], timeout_seconds=60)
    [session] = wiring.usage().get("/v1/sessions", [("tenant", "tenant_123")])["sessions"]
    assert (session["state"], session["subject"]) == ("closed", "us-east-ing1")
    assert round(int(session["seconds"]) / 3600, 1) == 5557.8
    month = [bound.isoformat() for bound in (current_month().start, current_month().end)]
    assert figure("document.basic.page", *month) == ["24"]
    assert figure("rule.executed.small", *month) == ["1"]


def test_a_tenant_belongs_to_a_customer_once_accounts_are_kept(machine: Machine) -> None:
    """The directory decides: a tenant of an account is metered, another one is skipped."""
    call = ("dev-1", "page.processed.basic", "https://stream.example")
    map_to_account(machine, "known")

    assert meter_lib.fetch_customer_id("known") == "account-7"
    assert meter_lib.post_meter_usage("known", *call, total_usage=2) is not None
    assert meter_lib.post_meter_usage("unknown", *call, total_usage=2) is None


def map_to_account(machine: Machine, tenant: str) -> None:
    """Let a tenant belong to an account; what was looked up before is forgotten."""
    machine.answer("accounts", "set", "account-7", "--tenant", tenant)
    meter_lib.look_up_with()
