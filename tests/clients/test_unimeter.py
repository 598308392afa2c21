"""The published unimeter-python 0.2.0 against a real `up`: document, figures, tenants, alerts."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from unimeter import (
    AggType,
    AggValue,
    AlertThreshold,
    AsyncClient,
    DeliveryMode,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
    Period,
    PeriodType,
    current_billing_period,
    current_month,
    last_month,
    this_week_utc,
    today_utc,
)

from meterstream.compat.unimeter_catalogue import KIND, to_definition
from meterstream_schemas.connection import read_connection
from meterstream_services.clients.book_sql import open_book
from meterstream_services.keys.principal import ALL
from meterstream_services.listening import free_port
from tests.clients.snippets import configured, published_snippets, shell_of
from tests.compat.documents import execute
from tests.integration.up_process import running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator
    from pathlib import Path

    from tests.clients.conftest import Gateway
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

WATCHED = MetricSchema(
    "watched", AggType.SUM, period_type=PeriodType.DAY,
    thresholds=[AlertThreshold("soft", 10), AlertThreshold("hard", 20)],
)  # fmt: skip
"""Defined before anything was counted, so that workers watch it from the first event on."""
CATALOGUE = """\
metering_since: {since}
accept_from: 2020-01-01T00:00:00Z
meters:
  - {{name: own.calls, type: own.call, aggregate: count}}
"""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What a coroutine returns; a minute is enough."""

    async def bounded() -> object:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(bounded())


@asynccontextmanager
async def client_of(address: str) -> AsyncGenerator[AsyncClient]:
    """The published client, connected."""
    async with AsyncClient([address]) as client:
        yield client


@pytest.fixture
def account() -> int:
    """An account that no other test uses."""
    return secrets.randbits(63) | 1 << 40


def test_the_document_gives_its_figures(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its snippets in one program, of the published package; only the address is ours."""
    namespace: dict[str, Any] = {"asyncio": asyncio, "user_id": 7, "events": [Event(42, "other")]}

    async def program() -> None:
        found = published_snippets("unimeter")
        assert len(found) == 16
        for snippet in configured(found, {"localhost:7001": gateway.unimeter}):
            await execute(snippet, namespace)
        # The document closes its client at the top of the page, and calls it on.
        await namespace["client"].close()

    run(program())
    lines = capsys.readouterr().out.splitlines()
    # It asks for aws and for a region that its metric does not declare: as at the vendor, nothing.
    assert namespace["result"].value == AggValue()
    assert {"api_calls: COUNT", "compute_seconds: SUM"} <= set(lines)
    assert [line for line in lines if not re.match(r"\w{8}-", line)][-4:] == [
        "stored 1 events",
        "API calls this month: 3",
        "AWS compute: 45.0 seconds",
        "current count: 3",
    ]
    gateway.wait_for("unimeter.sum", {("payment",): 9_990_000}, tenant="42", by=["metric"],
                     where="metric=payment")  # fmt: skip
    gateway.wait_for("unimeter.unique", {("active_seats",): 1}, tenant="100", by=["metric"])
    assert shell_of("unimeter") == [f"pip install {distribution('unimeter-python').name}"]


def test_every_aggregation_is_exact(gateway: Gateway, account: int) -> None:
    """Sum, count, greatest, latest and unique over events of two months, with filters and cells."""
    code = f"m{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC).replace(microsecond=0)
    before = last_month().start + timedelta(days=3)
    wanted: dict[AggType, AggValue] = {
        AggType.COUNT: AggValue(count=4),
        AggType.SUM: AggValue(sum=26),
        AggType.MAX: AggValue(max=9),
        AggType.LATEST: AggValue(
            last_value=7, last_timestamp=int((now - timedelta(seconds=1)).timestamp()) * 10**9
        ),
        AggType.COUNT_UNIQUE: AggValue(count=2),
    }

    async def program() -> None:
        async with client_of(gateway.unimeter) as client:
            for kind, expected in wanted.items():
                metric = f"{code}.{kind.name}"
                filters = [DimensionFilter("region", ["eu", "us"]), DimensionFilter("tier", [])]
                await client.metrics.create(MetricSchema(metric, kind, filters=filters))
                unique = kind is AggType.COUNT_UNIQUE
                add = OperationType.ADD if unique else OperationType.NONE
                told = [(5, 4, "eu", add), (9, 3, "us", add), (5, 2, "eu", add), (7, 1, "us", add)]
                if unique:
                    told[1] = (5, 3, "us", OperationType.REMOVE)
                events = [
                    Event(account, metric, value, now - timedelta(seconds=ago), operation,
                          properties={"region": region, "tier": "a"})
                    for value, ago, region, operation in told
                ]  # fmt: skip
                events.append(Event(account, metric, 100, before, add))
                assert (await client.ingest(events)).n_stored == 5
                month = Period(now - timedelta(minutes=20), now + timedelta(minutes=20))
                assert (await client.query(account, metric, month)).value == expected
                early = Period(last_month().start, before + timedelta(hours=1))
                assert (await client.query(account, metric, early)).value != AggValue()
                cells = await client.query_breakdown(
                    account, metric, month, group_by=["region", "tier"]
                )
                eu = cells[frozenset({("region", "eu"), ("tier", "a")})]
                both = {"region": "eu", "tier": "a"}
                one = await client.query(account, metric, month, filters=both)
                assert (eu.sum, eu.count, eu.max) == (one.value.sum, one.value.count, one.value.max)
                assert one.value != expected

    run(program())


def test_what_comes_again_counts_once(gateway: Gateway, account: int) -> None:
    """Events with a time are known again, through the log and the workers; others count anew."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    timed = [Event(account, "again", 2, at), Event(account, "again", 2, at)]

    async def program() -> list[int]:
        async with client_of(gateway.unimeter) as client:
            await client.metrics.create(MetricSchema("again", AggType.SUM))
            first = await client.ingest(timed, delivery=DeliveryMode.SYNC)
            second = await client.ingest(timed)
            await client.ingest([Event(account, "again", 10)])
            await client.ingest([Event(account, "again", 10)])
            answer = await client.query(account, "again", this_week_utc())
            assert first.n_stored == second.n_stored + second.n_duplicates == 2
            return [answer.value.sum, second.n_duplicates]

    assert run(program()) == [24, 2]


def test_the_http_array_means_the_same(gateway: Gateway, account: int) -> None:
    """What the vendor's server takes over HTTP is counted here, with the same answer."""
    event = {"account_id": account, "metric_code": "api_calls", "value": 3, "delivery_mode": "sync"}

    answer = httpx.post(f"{gateway.url}/v1/events", json=[event, event])

    assert (answer.status_code, answer.json()) == (200, {"ok": True, "count": 2})
    gateway.wait_for("unimeter.sum", 6, tenant=str(account))
    bad = httpx.post(f"{gateway.url}/v1/events", json=[event | {"value": 1.5}])
    assert (bad.status_code, bad.json()["ok"]) == (400, False)


class Own:
    """An `up` with three Unimeter ports of its own."""

    def __init__(self, data: Path, output: Path, ports: dict[str | None, str]) -> None:
        self.data, self.output, self.ports = data, output, ports

    def is_watched(self, metric: str) -> bool:
        """Whether the workers have started again, and count with the metric's own meter."""
        connection = read_connection(self.data)
        assert connection is not None
        meters = httpx.get(f"{connection.url}/v1/meters").json()["meters"]
        names = {meter["name"] for meter in meters}
        return f"unimeter.metric.{metric}" in names


def define_before(data: Path) -> None:
    """A data directory in which an earlier run left `WATCHED`."""
    data.mkdir()
    told = to_definition(cast("Any", WATCHED))
    book = open_book(data / "clients.sqlite3")
    book.change(ALL, KIND, WATCHED.code, lambda _: told)
    book.close()
    (data / "unimeter.json").write_text(json.dumps({KIND: {WATCHED.code: told}}), "utf-8")


@pytest.fixture(scope="module")
def own(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Ports without a tenant, of acme, and of globex; one metric, and nothing counted yet."""
    directory = tmp_path_factory.mktemp("unimeter")
    define_before(directory / "data")
    catalogue = directory / "own.yaml"
    yesterday = datetime.now(UTC) - timedelta(days=1)
    catalogue.write_text(CATALOGUE.format(since=f"{yesterday:%Y-%m-%d}T00:00:00Z"))
    ports = {name: f"127.0.0.1:{free_port('127.0.0.1')}" for name in (None, "acme", "globex")}
    options = ["--clients", "unimeter", "--bootstrap", broker.bootstrap_servers]
    options += ["--topic", f"test.{uuid.uuid4().hex}.events", "--partitions", "2"]
    for name, address in ports.items():
        options += ["--unimeter", address if name is None else f"{name}={address}"]
    with running_up(directory / "data", catalogue, *options) as machine:
        yield Own(machine.data, machine.output, ports)


def test_a_threshold_is_watched_by_the_workers_and_pushed(own: Own) -> None:
    """The very event that reached it is told of, live and in the list, with one offset."""

    async def program() -> None:
        async with client_of(own.ports[None]) as client:
            # Another test of this `up` may have made another before: the order is random.
            codes = {each.code for each in await client.metrics.list()}
            assert WATCHED.code in codes <= {WATCHED.code, "late"}
            alerts = await client.alerts.subscribe(account_ids=[42], metric_codes=["watched"])
            for _ in range(5):
                await client.ingest([Event(42, "watched", 4), Event(43, "watched", 1)])
            found = [await anext(alerts) for _ in range(2)]
            assert [(each.threshold_code, each.account_id) for each in found] == [
                ("soft", 42), ("hard", 42),
            ]  # fmt: skip
            assert [each.value_at_cross for each in found] == [12, 20], "the very event, no later"
            assert (await client.query(42, "watched", today_utc())).value == AggValue(
                sum=20, alert_flags=3
            )
            listed = await client.list_alerts(42)
            assert [each.log_offset for each in listed] == [each.log_offset for each in found]
            assert await client.list_alerts(43) == []

    run(program())


def test_a_metric_of_now_joins_the_workers_and_is_watched_at_once(own: Own) -> None:
    """Workers start again with its meter, which begins later; until then its figures are judged."""
    late = MetricSchema(
        "late", AggType.COUNT, period_type=PeriodType.CALENDAR, billing_cycle_day=15,
        thresholds=[AlertThreshold("soft", 3)],
    )  # fmt: skip

    async def program() -> None:
        async with client_of(own.ports[None]) as client:
            await client.metrics.create(late)
            alerts = await client.alerts.subscribe(account_ids=[44])
            await client.ingest([Event(44, "late") for _ in range(3)])
            alert = await anext(alerts)
            assert (alert.metric_code, alert.threshold_code, alert.value_at_cross) == (
                "late", "soft", 3,
            )  # fmt: skip
            watching = partial(own.is_watched, "late")
            await asyncio.to_thread(eventually, watching, timeout_seconds=40)
            assert "worker runs again" in own.output.read_text("utf-8")
            await client.ingest([Event(44, "late")])
            answer = await client.query(44, "late", current_billing_period(15))
            assert answer.value == AggValue(count=4, alert_flags=1)
            assert len(await client.list_alerts(44)) == 1

    run(program())


def test_two_tenants_are_apart(own: Own) -> None:
    """The same accounts and metrics on two ports: figures, metrics and alerts are apart."""
    metric = MetricSchema("calls", AggType.COUNT, thresholds=[AlertThreshold("soft", 3)])

    async def program() -> None:
        async with client_of(own.ports["acme"]) as acme, client_of(own.ports["globex"]) as globex:
            await acme.metrics.create(metric)
            await acme.ingest([Event(42, "calls") for _ in range(3)] + [Event(43, "calls")])
            await globex.ingest([Event(42, "calls")])
            for client, account, expected in ((acme, 42, 3), (acme, 43, 1), (globex, 42, 1)):
                for period in (current_month(), current_billing_period(15)):
                    answer = await client.query(account, "calls", period)
                    assert answer.value.count == expected
            assert (await globex.query(43, "calls", current_month())).value == AggValue()
            assert await globex.metrics.list() == []
            [alert] = await acme.list_alerts(42)
            assert (alert.account_id, alert.metric_code) == (42, "calls")
            assert await globex.list_alerts(42) == []
            async with client_of(own.ports[None]) as nobody:
                assert (await nobody.query(42, "calls", current_month())).value.count == 0
                assert "calls" not in [each.code for each in await nobody.metrics.list()]

    run(program())


def test_metrics_are_there_after_a_restart_of_the_client(own: Own) -> None:
    """What was defined on a port is the port's, not the connection's; deleting is for all."""

    async def program() -> None:
        async with client_of(own.ports["globex"]) as one:
            await one.metrics.create(MetricSchema("kept", AggType.MAX))
        async with client_of(own.ports["globex"]) as other:
            assert [(each.code, each.agg_type) for each in await other.metrics.list()] == [
                ("kept", AggType.MAX)
            ]
            await other.metrics.delete("kept")
            assert await other.metrics.list() == []

    run(program())
