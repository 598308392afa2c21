"""The small sums on what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import latency, others, streams, two
from benchmarks.ladder import FIGURE
from benchmarks.ratios import Mark, from_mark, median, percentile, rates, ratios

_WALL = "events_per_second"


def test_rates_are_of_what_lies_between_two_marks() -> None:
    """Events, wall clock and CPU before the first mark count for nothing."""
    found = rates(Mark(1_000, 10.0, 100.0), Mark(5_000, 12.0, 101.0))

    assert found["events"] == 4_000
    assert found[_WALL] == 2_000
    assert found[FIGURE] == 4_000


def test_warm_up_ends_at_the_first_mark_behind_it() -> None:
    """A mark lies seldom on the very number; without one behind it the last one is taken."""
    marks = [Mark(1, 0.0, 0.0), Mark(100, 1.0, 1.0), Mark(200, 2.0, 2.0)]

    assert from_mark(marks, 100).records == 100
    assert from_mark(marks, 101).records == 200
    assert from_mark(marks, 999).records == 200


def test_a_ratio_is_that_of_one_round() -> None:
    """When the machine is at half speed in one round, the ratio is the same in all of them."""
    runs: dict[str, list[dict[str, float]]] = {
        "bare": [{FIGURE: 100}, {FIGURE: 50}, {FIGURE: 80}],
        "worker": [{FIGURE: 25}, {FIGURE: 12.5}, {FIGURE: 40}],
    }

    assert ratios(runs, FIGURE, "bare") == {"bare": 1.0, "worker": 0.25}
    assert ratios(runs, FIGURE, "store") == {}


def test_a_percentile_is_one_of_the_values() -> None:
    """By nearest rank: half of the values are at or below the 50th."""
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile(values, 100) == 100
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_a_median_is_rounded() -> None:
    """To three places, as ratios are told."""
    assert median([1.0, 2.00049, 9.0]) == 2.0


def test_a_marker_is_there_with_the_first_figure_that_it_is_part_of() -> None:
    """One figure may bring many markers, and those that never came have no latency."""
    appended = [100.0, 160.0, 220.0, 280.0]

    found = latency.latencies(appended, [(130.0, 1), (250.0, 3)])

    assert found == [30.0, 90.0, 30.0]


def test_kafka_streams_counts_with_its_best_way_by_each_figure() -> None:
    """The way that is best per core need not be the one that is best by wall clock."""
    found: dict[str, dict[str, Any]] = {
        "bare": {FIGURE: 1_000, _WALL: 1_000},
        "worker": {FIGURE: 600, _WALL: 500},
        "dsl": {"warm": {FIGURE: 200, _WALL: 50}, "whole": {FIGURE: 900, _WALL: 900}},
        "processor": {"warm": {FIGURE: 100, _WALL: 250}, "whole": {FIGURE: 900, _WALL: 900}},
    }

    told = streams.summary([found])["ratios"]

    assert told["worker_to_kafka_streams_per_core"] == 3.0
    assert told["worker_to_kafka_streams_wall"] == 2.0
    assert told["worker_to_bare_per_core"] == 0.6


def test_an_engine_counts_with_its_best_way() -> None:
    """Whatever way of an engine is faster is what the worker is held against."""
    found = {
        "bare": {FIGURE: 1_000, _WALL: 1_000},
        "worker": {FIGURE: 600, _WALL: 400},
        "state": {FIGURE: 30, _WALL: 10},
        "window": {FIGURE: 10, _WALL: 20},
    }

    told = others.summary("quix", [found])["ratios"]

    assert told["worker_to_quix_per_core"] == 20.0
    assert told["worker_to_quix_wall"] == 20.0


def test_servers_take_from_two_workers_and_nothing_from_one() -> None:
    """One worker leaves them a core; two share both with them."""
    one = _run(wall=10.0, workers=[9.0], broker=1.0)
    both = _run(wall=6.0, workers=[5.0, 4.5], broker=1.0, database=1.0)

    assert two.less_servers(one) == 10.0
    assert two.less_servers(both) == 5.0
    assert two.summary([(one, both)])["ratios"] == {
        "wall": pytest.approx(1.667),
        "wall_less_servers": 2.0,
        "busier_worker_cpu": 1.8,
    }


def _run(
    *, wall: float, workers: list[float], broker: float, database: float = 0.0
) -> dict[str, object]:
    return {
        "wall_seconds": wall,
        "worker_cpu_seconds": workers,
        "broker_cpu_seconds": broker,
        "database_cpu_seconds": database,
    }
