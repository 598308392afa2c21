"""What may be asked, over which definitions, and how settled an answer is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meterstream_aggregator import catalogue, questions
from meterstream_aggregator.answering import figures
from meterstream_aggregator.catalogue import HOUR, MINUTE, Aggregate, Condition, Meter
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.questions import Status, ask, folded_until, status_of, window_at
from meterstream_aggregator.store.told import PositionRow
from meterstream_schemas.quantity import Amount, to_decimal
from tests.unit.aggregator.asked import METER, SINCE, WINDOW, Counted, Use

BOUNDS = [0, HOUR, 3 * HOUR, 4 * HOUR]
RED = Condition("colour", catalogue.Test.IN, ("red",))


def _use(tenant: str, time: int, quantity: int, scale: int = 0) -> Use:
    return Use(tenant, ("", ""), time, time, quantity, scale, "", 0)


def _totals(
    meter: Meter, bounds: list[int], events: list[Use], *, total: bool = False
) -> list[object]:
    question = ask([meter], bounds, metering_since=SINCE, total=total)
    reader = Counted([meter], events, SINCE).reader()
    found = figures(reader, question, progress=0, now=0)
    return [(figure.start, figure.tenant, figure.events, figure.total) for figure in found]


def test_amounts_of_different_scale_join_exactly() -> None:
    """0.1 and 10 quintillionths are added and compared without losing a digit."""
    events = [_use("a", 0, 1, 1), _use("a", WINDOW, 10, 18)]
    reader = Counted([METER], events, SINCE).reader()
    least = replace(METER, aggregate=Aggregate.MIN)

    (both,) = figures(reader, ask([METER], [0, HOUR]), progress=0, now=0)
    (one,) = figures(reader, ask([least], [0, HOUR]), progress=0, now=0)

    assert both.total is not None
    assert one.total is not None
    assert str(to_decimal(*both.total)) == "0.100000000000000010"
    assert one.total.decimal() == to_decimal(10, 18)


def test_sums_outgrow_sixty_four_bits() -> None:
    """Adding many large amounts neither wraps nor rounds."""
    events = [_use("a", n * WINDOW, 2**63 - 1) for n in range(4)]

    assert _totals(METER, [0, HOUR], events) == [(0, "a", 4, Amount(4 * (2**63 - 1), 0))]


def test_periods_without_usage_are_left_out_per_tenant() -> None:
    """A tenant has a figure only in periods in which it used something; totals show them all."""
    events = [_use("a", HOUR, 5), _use("b", HOUR, 6)]

    assert _totals(METER, BOUNDS, events) == [
        (HOUR, "a", 1, Amount(5, 0)),
        (HOUR, "b", 1, Amount(6, 0)),
    ]
    assert _totals(METER, BOUNDS, events, total=True) == [
        (0, None, 0, Amount(0, 0)),
        (HOUR, None, 2, Amount(11, 0)),
        (3 * HOUR, None, 0, Amount(0, 0)),
    ]


@pytest.mark.parametrize("aggregate", list(Aggregate))
def test_values_of_nothing(aggregate: Aggregate) -> None:
    """There is no mean, extreme, last value or level of nothing; everything else is 0."""
    none = {
        Aggregate.AVERAGE,
        Aggregate.MIN,
        Aggregate.MAX,
        Aggregate.LATEST,
        Aggregate.TIME_WEIGHTED,
    }
    question = ask([replace(METER, aggregate=aggregate)], [0, HOUR], total=True)

    (figure,) = figures(Counted([], [], 0).reader(), question, progress=0, now=HOUR)

    expected = None if aggregate in none else Amount(0, 0)
    assert (figure.total, figure.closing, figure.adjustment) == (expected,) * 3


@pytest.mark.parametrize("asked", [{"by": ["colour"]}, {"where": [RED]}, {"unless": [[RED]]}])
def test_unknown_dimensions_are_refused(asked: dict[str, object]) -> None:
    """Asking by an attribute that the meter does not keep names those it does."""
    with pytest.raises(InvalidQuestion, match="'colour'; they are by: model, region"):
        ask([METER], BOUNDS, **asked)  # type: ignore[arg-type]  # fields by name


def test_answers_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of too many figures is refused with what to ask instead."""
    monkeypatch.setattr(questions, "FIGURES_MAX", 2)

    with pytest.raises(InvalidQuestion, match="more than 2 figures; ask for fewer"):
        _totals(METER, [0, HOUR], [_use(tenant, 0, 1) for tenant in "abc"])


@pytest.mark.parametrize(
    ("now", "progress", "expected"),
    [
        (HOUR - 1, 100 * HOUR, Status.OPEN),
        (HOUR, 0, Status.CLOSING),
        (100 * HOUR, 25 * HOUR - 1, Status.CLOSING),
        (HOUR, 25 * HOUR, Status.FINAL),
        (100 * HOUR, 25 * HOUR, Status.FINAL),
    ],
)
def test_status(now: int, progress: int, expected: Status) -> None:
    """Open until the period ends, final when all is folded past its close, closing between."""
    assert status_of(HOUR, final_at=25 * HOUR, progress=progress, now=now) is expected


def test_history_closes_a_grace_after_metering_began() -> None:
    """Windows before metering began close a grace after it began, not after their own end."""
    (stretch,) = ask([METER], BOUNDS).stretches

    assert stretch.final_at(0) == [2 * HOUR, 4 * HOUR, 5 * HOUR]
    assert stretch.final_at(100 * HOUR) == [101 * HOUR] * 3
    assert stretch.final_at(100 * HOUR - MINUTE) == [101 * HOUR] * 3


def test_progress_is_the_slowest_partition() -> None:
    """Everything is folded only as far as the slowest partition is; one unknown holds all."""

    def position(partition: int, appended: int) -> PositionRow:
        return PositionRow(partition, 0, appended, 1, "", 0, 0, 0)

    assert folded_until([position(0, 7), position(1, 5)], 2) == 5
    assert folded_until([position(0, 7)], 2) == 0
    assert folded_until([], 0) == 0


FIRST = replace(METER, until=2 * HOUR, grace=10 * HOUR, group_by=("model",))
SECOND = replace(METER, since=2 * HOUR, window=30 * MINUTE)
OTHER = replace(METER, since=2 * HOUR, aggregate=Aggregate.COUNT, unit="call")


def test_a_period_over_a_change_of_what_is_counted_is_refused() -> None:
    """The instant of the change is named as the nearest boundary."""
    with pytest.raises(InvalidQuestion) as caught:
        ask([FIRST, OTHER], BOUNDS)

    assert caught.value.field == "every"
    assert "from sum of token to count of call" in caught.value.problem
    assert "the change, 1970-01-01T02:00:00+00:00" in caught.value.problem


def test_periods_on_either_side_of_a_change_are_answered() -> None:
    """Each in its own way and unit."""
    definitions = [replace(FIRST, group_by=METER.group_by), OTHER]
    events = [_use("a", HOUR, 5), _use("a", 3 * HOUR, 7)]
    reader = Counted(definitions, events, SINCE).reader()

    found = figures(reader, ask(definitions, [0, 2 * HOUR, 4 * HOUR]), progress=0, now=0)

    assert [(figure.total, figure.unit) for figure in found] == [
        (Amount(5, 0), "token"),
        (Amount(1, 0), "call"),
    ]


def test_names_must_exist_wherever_they_are_asked() -> None:
    """A group that only one definition has can be asked for in its time alone."""
    with pytest.raises(InvalidQuestion, match="'region' until 1970-01-01T02:00:00"):
        ask([FIRST, SECOND], BOUNDS, by=["region"])

    assert ask([FIRST, SECOND], [2 * HOUR, 4 * HOUR], by=["region"]).by == ("region",)


def test_windows_and_closes_are_those_of_the_definition_that_holds() -> None:
    """A period is final when the windows of all of its definitions are closed."""
    (stretch,) = ask([FIRST, SECOND], BOUNDS).stretches

    assert [window_at([FIRST, SECOND], time) for time in (0, 2 * HOUR - 1, 2 * HOUR)] == [
        WINDOW,
        WINDOW,
        30 * MINUTE,
    ]
    assert stretch.final_at(0) == [11 * HOUR, 12 * HOUR, 5 * HOUR]
