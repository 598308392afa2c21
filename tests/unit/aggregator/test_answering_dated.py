"""Meters that changed: levels go on, closing figures stay, and all still adds up."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator.answering import adjustments, figures
from meterstream_aggregator.catalogue import HOUR, MINUTE, Aggregate, Meter
from meterstream_aggregator.questions import Figure, ask
from meterstream_schemas.quantity import Amount
from tests.unit.aggregator.asked import METER, SINCE, Counted, Use, uses

BOUNDS = [0, HOUR, 3 * HOUR, 5 * HOUR, 8 * HOUR]
NOW = 24 * HOUR
GAUGES = [Aggregate.TIME_WEIGHTED, Aggregate.TIME_WEIGHTED_CHANGES]
ALL = [aggregate for aggregate in Aggregate if aggregate is not Aggregate.SESSION]
graces = st.sampled_from([0, HOUR, 4 * HOUR])


def _dated(aggregate: Aggregate, first: int, second: int) -> list[Meter]:
    """Two definitions that differ in window and grace; the change is within a period."""
    return [
        replace(METER, aggregate=aggregate, grace=first, until=4 * HOUR),
        replace(METER, aggregate=aggregate, grace=second, since=4 * HOUR, window=30 * MINUTE),
    ]


def _fraction(amount: Amount | None) -> Fraction:
    return Fraction(0) if amount is None else Fraction(amount.quantity) / 10**amount.scale


def _plain(figure: Figure) -> list[object]:
    return [_fraction(cell) if isinstance(cell, Amount) else cell for cell in figure]


@given(uses(), st.sampled_from(ALL), graces, graces)
@settings(max_examples=60, deadline=None)
def test_a_longer_question_says_the_same(
    events: list[Use], aggregate: Aggregate, first: int, second: int
) -> None:
    """A period's figure does not depend on what else was asked, over a change neither."""
    definitions = _dated(aggregate, first, second)
    reader = Counted(definitions, events, SINCE).reader()

    def ask_for(bounds: list[int]) -> list[Figure]:
        question = ask(definitions, bounds, by=("model",), metering_since=SINCE)
        return figures(reader, question, progress=0, now=NOW)

    whole = ask_for(BOUNDS)
    for low, high in pairwise(BOUNDS):
        same = [figure for figure in whole if figure.start == low]
        assert list(map(_plain, ask_for([low, high]))) == list(map(_plain, same))


@given(uses(), st.sampled_from(ALL), graces, graces, st.integers(0, 20 * HOUR))
@settings(max_examples=100, deadline=None)
def test_a_closing_figure_never_changes(
    events: list[Use], aggregate: Aggregate, first: int, second: int, cut: int
) -> None:
    """Once the log is past the close, what comes later leaves the closing figure alone."""
    definitions = _dated(aggregate, first, second)
    question = ask(definitions, BOUNDS, by=("model",), metering_since=SINCE)

    def closing_of(some: list[Use]) -> dict[object, Fraction]:
        found = figures(Counted(definitions, some, SINCE).reader(), question, progress=0, now=NOW)
        return {
            figure[:4]: _fraction(figure.closing)
            for figure in found
            if figure.final_at <= cut and _fraction(figure.closing)
        }

    assert closing_of([use for use in events if use.append < cut]) == closing_of(events)


@given(uses(), st.sampled_from(ALL), graces, graces)
@settings(max_examples=60, deadline=None)
def test_closing_and_adjustments_make_the_total(
    events: list[Use], aggregate: Aggregate, first: int, second: int
) -> None:
    """The ledger adds up over a change too."""
    definitions = _dated(aggregate, first, second)
    question = ask(definitions, BOUNDS, by=("model",), metering_since=SINCE)
    reader = Counted(definitions, events, SINCE).reader()

    ledger = adjustments(reader, question, now=NOW)

    for figure in figures(reader, question, progress=0, now=NOW):
        mine = [one for one in ledger if (one[0], one[2], one[3]) == (figure[0], *figure[2:4])]
        so_far = _fraction(figure.closing) + sum(_fraction(one.amount) for one in mine)
        assert so_far == _fraction(figure.total)


def _total(definitions: list[Meter], start: int, end: int) -> Figure:
    events = [Use("a", ("", ""), HOUR, HOUR, 5, 0, "", 0)]
    question = ask(definitions, [start, end], total=True, metering_since=SINCE)
    reader = Counted(definitions, events, SINCE).reader()
    (figure,) = figures(reader, question, progress=0, now=NOW)
    return figure


@pytest.mark.parametrize("aggregate", GAUGES)
@pytest.mark.parametrize("span", [(3 * HOUR, 6 * HOUR), (5 * HOUR, 8 * HOUR)])
def test_a_level_goes_on_over_a_change(aggregate: Aggregate, span: tuple[int, int]) -> None:
    """A gauge that nothing was told of since keeps its level under its next definition."""
    figure = _total(_dated(aggregate, HOUR, HOUR), *span)

    assert _fraction(figure.total) == 5 * 3 * 3600
    assert figure.closing == figure.total


def test_what_closes_before_the_earlier_definition_does_sees_no_level_of_it() -> None:
    """What an earlier definition leaves counts as come when its own last window closed."""
    figure = _total(_dated(Aggregate.TIME_WEIGHTED, 4 * HOUR, 0), 4 * HOUR, 9 * HOUR)

    assert _fraction(figure.total) == 5 * 5 * 3600
    # Its last window closed at 8:00; the first of the later ones to close then begins at 7:30.
    assert _fraction(figure.closing) == 5 * 5400


def test_levels_end_where_series_are_told_apart_otherwise() -> None:
    """Series of other groups are other series: those of changes join all the same."""
    first, second = _dated(Aggregate.TIME_WEIGHTED, HOUR, HOUR)
    levels = [first, replace(second, group_by=("model", "region", "zone"))]
    changes = [replace(meter, aggregate=Aggregate.TIME_WEIGHTED_CHANGES) for meter in levels]

    assert _fraction(_total(levels, 3 * HOUR, 5 * HOUR).total) == 5 * 3600
    assert _fraction(_total(changes, 3 * HOUR, 5 * HOUR).total) == 5 * 7200
