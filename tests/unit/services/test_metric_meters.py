"""Meters for metrics that clients define while `up` runs: dated, kept, and never a broken file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from meterstream.compat.unimeter_catalogue import KIND, to_definition
from meterstream.compat.unimeter_values import (
    AggType,
    AlertThreshold,
    MetricSchema,
    PeriodType,
)
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.store.opening import open_store
from meterstream_services import metric_meters
from meterstream_services.catalogues import ready
from meterstream_services.metric_meters import MetricMeters, dated
from tests.simulation.driver import Folder
from tests.unit.services.unimeter.world import NOW, records_of

if TYPE_CHECKING:
    from pathlib import Path

from meterstream_services.gateway.port import Offer

SINCE = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = datetime(2026, 11, 21, 15, tzinfo=UTC)


def metric(code: str, kind: AggType = AggType.COUNT, **more: Any) -> MetricSchema:  # noqa: ANN401 - the schema's own
    """A metric of days with one threshold."""
    settings: dict[str, Any] = {
        "period_type": PeriodType.DAY,
        "thresholds": [AlertThreshold("soft", 10)],
    }
    settings |= more
    return MetricSchema(code, kind, **settings)


class World:
    """A data directory in which metrics are defined; ``said`` is what `up` says aloud."""

    def __init__(self, data: Path) -> None:
        self.data, self.said = data, list[str]()
        self.store = data / "store.sqlite3"
        self.base = data / "base.yaml"
        self.base.write_bytes(ready()["unimeter"].read_bytes())
        self.meters = self.again()

    def again(self) -> MetricMeters:
        """As a further `up` finds it."""
        return MetricMeters(self.data, self.base, self.store, say=self.said.append)

    def define(self, *metrics: MetricSchema) -> None:
        """What the clients define, written as `serve` does."""
        told = {each.code: to_definition(each) for each in metrics}
        (self.data / "unimeter.json").write_text(json.dumps({KIND: told}))

    def joined(self) -> dict[str, list[int]]:
        """Since when each metric's definitions count, in the catalogue as it is now."""
        self.meters.join()
        found: dict[str, list[int]] = {}
        for each in load_catalogue(self.meters.catalogue).meters:
            if each.name.startswith("unimeter.metric."):
                found.setdefault(each.name.removeprefix("unimeter.metric."), []).append(each.since)
        return found

    def count(self) -> None:
        """Let a worker count an event by the present catalogue."""
        store = open_store(self.store)
        folder = Folder(store, load_catalogue(self.meters.catalogue))
        folder.claim([0])
        offer = Offer("unimeter.event", "42", time=NOW, attributes={"metric": "calls"})
        folder.fold(records_of([offer]))
        store.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Nothing is defined, and nothing counted."""
    return World(tmp_path)


def test_without_metrics_the_catalogue_is_the_given_one(world: World) -> None:
    """No file, or no metric with a threshold that workers can watch: nothing is written."""
    assert world.joined() == {}
    world.define(metric("fixed", period_type=PeriodType.FIXED), metric("none", thresholds=[]))

    assert world.joined() == {}
    assert world.meters.catalogue == world.base


def test_before_anything_was_counted_a_meter_has_no_date(world: World) -> None:
    """A fresh store takes any catalogue."""
    world.define(metric("calls"))

    assert world.joined() == {"calls": [0]}
    assert [each.name for each in load_catalogue(world.meters.catalogue).thresholds] == [
        "unimeter.metric.calls:soft"
    ]


def test_on_a_store_that_counted_new_meters_begin_later(world: World) -> None:
    """What is there stays as it is; what is new has the first hour that nobody counted."""
    world.define(metric("calls"))
    world.joined()
    world.count()
    world.define(metric("calls"), metric("more"))

    found = world.joined()

    assert found["calls"] == [0]
    assert found["more"][0] > NOW
    world.count()
    assert world.joined() == found, "the store takes it, and it is the same at the next start"


def test_a_metric_that_changes_or_goes_keeps_what_was_counted(world: World) -> None:
    """Its former definition stays; a further one begins later, and gives way while it has not."""
    world.define(metric("calls"))
    world.joined()
    world.count()
    world.define(metric("calls", AggType.SUM))
    [first, second] = world.joined()["calls"]
    assert (first, second > NOW) == (0, True)

    world.define(metric("calls"))
    assert world.joined()["calls"] == [0]

    world.define()
    assert world.joined()["calls"] == [0]
    assert load_catalogue(world.meters.catalogue).thresholds == ()
    world.meters = world.again()
    assert world.joined()["calls"] == [0]
    assert world.said == []


def test_a_catalogue_that_does_not_load_is_left_aside(world: World) -> None:
    """It is said aloud, and the one of before stays; so it is with a file that is no JSON."""
    world.define(metric("calls"))
    world.joined()
    world.count()
    before = world.meters.catalogue.read_text("utf-8")
    world.define(metric("calls", AggType.MAX))

    world.joined()

    assert "not watched as they are now" in world.said[0]
    assert world.meters.catalogue.read_text("utf-8") == before
    (world.data / "unimeter.json").write_text("{")
    world.joined()
    assert "cannot be read" in world.said[1]


def test_a_change_is_seen_once_it_has_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a change of what workers watch asks for a restart, and only once."""
    monkeypatch.setattr(metric_meters, "SETTLED_SECONDS", 0.0)
    world.meters.join()
    assert not world.meters.changed()
    world.define(metric("fixed", period_type=PeriodType.FIXED))
    assert not world.meters.changed()
    world.define(metric("calls"))
    assert world.meters.changed()
    world.meters.join()
    assert not world.meters.changed()


def test_what_has_not_begun_gives_way() -> None:
    """A definition that was to begin at the same hour or later is replaced, not kept beside."""
    one = {"name": "m", "aggregate": "count"}
    other = {"name": "m", "aggregate": "sum"}
    begun = dated([], [one], None)

    planned = dated(begun, [other], LATER)

    assert planned == [one, other | {"from": LATER}]
    assert dated(planned, [other | {"type": "t"}], LATER)[1:] == [
        other | {"type": "t", "from": LATER}
    ]
    assert dated(planned, [one], SINCE) == [one]
