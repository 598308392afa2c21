"""Unimeter's documented calls over memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream.compat import unimeter, unimeter_queries, wiring
from meterstream.compat.unimeter import (
    AggType,
    AlertThreshold,
    AsyncClient,
    BackpressureError,
    DimensionFilter,
    Event,
    MetricSchema,
    OperationType,
    PeriodType,
    ServerError,
    current_month,
)
from meterstream.compat.unimeter_catalogue import (
    KIND,
    dimensions_of,
    fits,
    from_definition,
    to_definition,
)
from meterstream.compat.usage_api import UsageUnavailable
from meterstream.memory import MemoryTransport
from tests.compat.documents import execute, snippets
from tests.compat.guides import python_of
from tests.compat.unimeter_figures import answer_from
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from tests.compat.conftest import Memory


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """What a coroutine returns."""
    return asyncio.run(coroutine)


def test_the_document_runs_as_it_stands(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """All snippets, one after the other in one program, print what the document says."""
    answer_from(memory)
    namespace: dict[str, Any] = {"asyncio": asyncio, "user_id": 7, "events": []}

    async def program() -> None:
        for snippet in snippets("unimeter"):
            await execute(snippet, namespace)

    run(program())

    assert capsys.readouterr().out.splitlines() == [
        "api_calls: COUNT",
        "compute_seconds: SUM",
        "stored 1 events",
        "API calls this month: 3",
        "AWS compute: 45.0 seconds",
        "current count: 3",
    ]
    assert namespace["result"].value.sum == 0, "no event is of both provider and region"
    [seat] = [event for event in memory.arrived() if event.tenant == "100"]
    assert seat.attributes == {"metric": "active_seats", "value": "7", "operation": "add"}


def test_an_event_is_what_the_decision_says(memory: Memory) -> None:
    """Account, metric, value and properties have their places; names of ours are moved aside."""
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    event = Event(42, "m", 5, timestamp=at, properties={"region": "eu", "value": "x"})

    result = run(AsyncClient(["gone:7001"]).ingest([event]))

    [found] = memory.arrived()
    assert (found.tenant, found.type, found.quantity, found.scale) == ("42", "unimeter.event", 5, 0)
    assert found.time == int(at.timestamp()) * 1_000_000
    assert found.attributes == {
        "metric": "m", "region": "eu", "property.value": "x", "dimensions": "region=eu&value=x",
    }  # fmt: skip
    assert (result.n_stored, result.n_duplicates) == (1, 0)


def test_only_declared_filters_become_dimensions(memory: Memory) -> None:
    """A property that the metric does not declare is kept, and makes no group."""

    async def program() -> None:
        client = AsyncClient()
        await client.metrics.create(
            MetricSchema("m", AggType.SUM, filters=[DimensionFilter("region", ["eu"])])
        )
        await client.ingest([Event(1, "m", properties={"region": "a&b=c", "request": "r-1"})])

    run(program())

    [found] = memory.arrived()
    assert found.attributes["dimensions"] == "region=a%26b%3Dc"
    assert found.attributes["request"] == "r-1"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (AggType.COUNT, {"count": 3}),
        (AggType.SUM, {"sum": 12, "count": 3}),
        (AggType.MAX, {"max": 7, "count": 3}),
        (AggType.LATEST, {"last_value": 3, "count": 3}),
    ],
)
def test_the_aggregations(memory: Memory, kind: AggType, expected: Mapping[str, int]) -> None:
    """Each aggregation of a metric answers in its field, filters on several dimensions included."""
    answer_from(memory)
    dimensions = [DimensionFilter("provider", []), DimensionFilter("region", [])]

    async def program() -> Any:  # noqa: ANN401 - a figure
        client = AsyncClient()
        await client.metrics.create(MetricSchema("m", kind, filters=dimensions))
        wanted = {"provider": "aws", "region": "eu"}
        others = [{"provider": "aws"}, {"provider": "gcp", "region": "eu"}, {}]
        await client.ingest(
            [
                *[Event(1, "m", value, properties=wanted) for value in (2, 7, 3)],
                *[Event(1, "m", 100, properties=other) for other in others],
                Event(2, "m", 100, properties=wanted),
            ]
        )
        return (await client.query(1, "m", current_month(), filters=wanted)).value

    value = run(program())

    fields = ("sum", "count", "max", "last_value")
    assert {name: getattr(value, name) for name in fields if getattr(value, name)} == expected


def test_unique_values_are_added_and_removed(memory: Memory) -> None:
    """A metric of unique values counts each once, whatever the operation is called."""
    answer_from(memory)

    async def program() -> int:
        client = AsyncClient()
        await client.metrics.create(MetricSchema("seats", AggType.COUNT_UNIQUE))
        start = datetime.now(UTC) - timedelta(seconds=60)
        told = [("a", OperationType.NONE), ("b", OperationType.ADD), ("b", OperationType.ADD),
                ("a", OperationType.REMOVE), ("c", OperationType.ADD)]  # fmt: skip
        for second, (value, operation) in enumerate(told):
            at = start + timedelta(seconds=second)
            await client.ingest([Event(1, "seats", value, at, operation)])
        return (await client.query(1, "seats", current_month())).value.count

    assert run(program()) == 2


def test_thresholds_are_flags_of_a_figure(memory: Memory) -> None:
    """Bit i of alert_flags says that the metric's threshold i is reached."""
    answer_from(memory)
    values = (10, 13, 11)

    async def program() -> int:
        client = AsyncClient()
        thresholds = [AlertThreshold(f"t{value}", value) for value in values]
        await client.metrics.create(MetricSchema("m", AggType.SUM, thresholds=thresholds))
        await client.ingest([Event(1, "m", 11)])
        return (await client.query_realtime(1, "m")).alert_flags

    assert run(program()) == 0b101


def test_alerts_come_from_the_thresholds_of_the_catalogue(memory: Memory) -> None:
    """What workers told of the metric's thresholds is listed; others' thresholds are not."""
    metric = MetricSchema(
        "m", AggType.SUM, period_type=PeriodType.DAY, thresholds=[AlertThreshold("soft", 10)]
    )
    reached = {"at": "10", "told": True, "reached": "2026-11-01T12:00:00+00:00", "offset": 7}
    row = {"threshold": "unimeter.metric.m:soft", "tenant": "42", "values": [reached]}
    memory.usage.answers["/v1/thresholds"] = lambda asked: {
        "thresholds": [row, {**row, "threshold": "other"}]
    }

    async def program() -> Sequence[unimeter.AlertRecord]:
        client = AsyncClient()
        await client.metrics.create(metric)
        assert await client.list_alerts(42, since_offset=8) == []
        return await client.list_alerts(42)

    [alert] = run(program())
    assert (alert.account_id, alert.metric_code, alert.threshold_code) == (42, "m", "soft")
    assert (alert.log_offset, alert.value_at_cross) == (7, 10)
    assert memory.usage.asked[-1] == ("/v1/thresholds", {"who": ["42"]})


def test_metrics_are_kept_as_they_were_defined(memory: Memory) -> None:
    """Created, replaced, listed in order, deleted; deleting what is not there is no error."""
    full = MetricSchema(
        "full", AggType.MAX, True, "field", PeriodType.CALENDAR, 28,
        [DimensionFilter("k", ["v"])], [AlertThreshold("t", 2**64 - 1, recurring=True)],
    )  # fmt: skip

    async def program() -> Any:  # noqa: ANN401 - metrics
        client = AsyncClient()
        await client.metrics.create(full)
        await client.metrics.create(MetricSchema("b", AggType.SUM))
        await client.metrics.update(MetricSchema("b", AggType.COUNT))
        await client.metrics.create(MetricSchema("c", AggType.SUM))
        await client.metrics.delete("c")
        await client.metrics.delete("never")
        return await AsyncClient().metrics.list()

    assert run(program()) == [full, MetricSchema("b", AggType.COUNT)]
    assert from_definition("full", to_definition(full)) == full


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (Event(1, "m", 1.5), "value: 1.5 is no whole number"),  # type: ignore[arg-type]  # wrong on purpose
        (Event(1, "m", "7"), "value: '7' is no whole number"),
        (Event(1, "m", 2**63), "is no whole number of 64 bits"),
        (Event(1, "m", timestamp=datetime(2026, 1, 1)), "has no zone"),  # noqa: DTZ001 - on purpose
        (Event("", "m"), "tenant"),
        (Event(1, ""), "metric_code: is empty"),
    ],
)
def test_a_wrong_event_stops_its_batch(memory: Memory, event: Event, sentence: str) -> None:
    """A `ServerError` says what is wrong."""
    with pytest.raises(ServerError, match=sentence.replace("(", r"\(")):
        run(AsyncClient().ingest([event]))

    assert memory.arrived() == []


def test_a_full_buffer_is_backpressure_and_trying_again_counts_once(memory: Memory) -> None:
    """The document's own way: back off, ingest the same events again. Keys and times stay."""
    transport = MemoryTransport()
    transport.available = False
    meter = wiring.make_meter(transport=transport, buffer_events_max=2)
    wiring.use(meter=meter)
    events = [Event(1, "m", value) for value in (1, 2, 3)]

    async def program() -> int:
        client = AsyncClient()
        unimeter_ingest = client.ingest(events)
        with pytest.raises(BackpressureError):
            await asyncio.gather(unimeter_ingest, _later(transport))
        meter.flush(10)
        result = await client.ingest(events[:2])
        await client.ingest(events[2:])
        return result.n_stored

    try:
        assert run(program()) == 2
        assert meter.flush(10)
        told = {(event.key, event.time, event.quantity) for event in arrived(transport)}
        assert len(told) == 3
        assert len(arrived(transport)) == 5, "two came twice, under their keys"
    finally:
        meter.close(0)


async def _later(transport: MemoryTransport) -> None:
    await asyncio.sleep(0)
    transport.available = True


def test_what_is_not_in_the_log_in_time_is_told(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a broker a call ends with a `ServerError` that says how to go on."""
    monkeypatch.setattr(unimeter, "INGEST_SECONDS", 0.05)
    memory.transport.available = False

    with pytest.raises(ServerError, match="1 of 1 events are not in the log"):
        run(AsyncClient().ingest([Event(1, "m")]))


def test_a_question_waits_for_what_was_ingested(memory: Memory) -> None:
    """The figure is asked for once workers have counted what this client sent."""
    answer_from(memory)
    behind = [{"partitions": [{"partition": n, "next_offset": None} for n in range(4)]}]
    status = memory.usage.answers["/v1/status"]
    memory.usage.answers["/v1/status"] = lambda asked: behind.pop() if behind else status(asked)

    async def program() -> int:
        client = AsyncClient()
        await client.ingest([Event(1, "m")])
        await client.query(1, "m", current_month())
        return (await client.query(1, "m", current_month())).value.count

    assert run(program()) == 1
    paths = [path for path, _ in memory.usage.asked]
    assert paths.count("/v1/status") == 2
    assert paths.index("/v1/usage") > 1


def test_workers_that_never_come_are_not_waited_for_long(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the stated time the answer is what it is."""
    monkeypatch.setattr(unimeter_queries, "FOLD_SECONDS", 0.0)
    answer_from(memory)
    memory.usage.answers["/v1/status"] = lambda asked: {"partitions": []}

    async def program() -> int:
        client = AsyncClient()
        await client.ingest([Event(1, "m")])
        return (await client.query(1, "m", current_month())).value.count

    assert run(program()) == 1


def test_a_missing_catalogue_is_told_with_its_remedy(memory: Memory) -> None:
    """404 becomes a `ServerError` that names the command."""
    with pytest.raises(ServerError, match="meterstream catalogue unimeter"):
        run(AsyncClient().query(1, "m", current_month()))


def test_an_api_that_is_away_is_a_connection_error(memory: Memory) -> None:
    """Nothing answers: the client's own error, under its base."""

    def away(asked: Mapping[str, Sequence[str]]) -> Any:  # noqa: ANN401 - never answers
        raise UsageUnavailable("nothing answers")

    memory.usage.answers["/v1/usage"] = away

    with pytest.raises(unimeter.ConnectionError) as raised:
        run(AsyncClient().query(1, "m", current_month()))
    assert isinstance(raised.value, unimeter.UnimeterError)


def test_the_guide_runs(memory: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of "Coming from Unimeter" prints the figure that it ingested."""
    answer_from(memory)
    namespace: dict[str, Any] = {}
    for code in python_of("unimeter"):
        exec(code, namespace)

    run(namespace["main"]())

    assert capsys.readouterr().out == "45.0\n"


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (MetricSchema("", AggType.SUM), "code: is empty"),
        (MetricSchema("m", AggType.SUM, billing_cycle_day=31), "pass 1 to 28"),
        (MetricSchema("m", 9), "metric 'm': 9 is not a valid AggType"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_a_wrong_metric_is_refused(memory: Memory, schema: MetricSchema, sentence: str) -> None:
    """A `ServerError` says what is wrong, and nothing is defined."""
    with pytest.raises(ServerError, match=sentence):
        run(AsyncClient().metrics.create(schema))

    assert memory.definitions.all(KIND) == {}


texts = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.dictionaries(texts, texts, max_size=4), st.dictionaries(texts, texts, max_size=2))
def test_dimensions_fit_what_they_have(have: dict[str, str], wanted: dict[str, str]) -> None:
    """Whatever keys and values hold, a filter fits where the event has all of it."""
    text = dimensions_of(None, have)

    assert text.isascii()
    assert fits(text, {name: have[name] for name in list(have)[:2]})
    assert fits(text, wanted) == (wanted.items() <= have.items())
