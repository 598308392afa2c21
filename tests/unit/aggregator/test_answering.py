"""Figures and adjustments of every aggregate are what a slow and obvious computation says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator import catalogue
from meterstream_aggregator.answering import Scope, adjustments, figures
from meterstream_aggregator.catalogue import HOUR, MINUTE, Aggregate, Condition, Meter
from meterstream_aggregator.questions import Figure, Question, ask
from meterstream_schemas.quantity import Amount
from tests.unit.aggregator.asked import METER, SINCE, WINDOW, Counted, Use, closes, uses

BOUNDS = [0, HOUR, 90 * MINUTE, 5 * HOUR, 8 * HOUR]
NOW = 24 * HOUR
ALL = [aggregate for aggregate in Aggregate if aggregate is not Aggregate.SESSION]
EVER = 10**15


def _order(use: Use) -> tuple[int, int]:
    return use.time, use.number


def _value(aggregate: Aggregate, members: list[Use]) -> Fraction | None:
    """The figure of events that all lie in the period, and are all there is."""
    values = [Fraction(use.quantity, 10**use.scale) for use in members]
    in_order = sorted(members, key=_order)
    last = {use.text: use for use in in_order}
    ways = {
        Aggregate.COUNT: lambda: Fraction(len(members)),
        Aggregate.UNIQUE: lambda: Fraction(sum(use.quantity >= 0 for use in last.values())),
        Aggregate.SUM: lambda: sum(values, Fraction(0)),
        Aggregate.AVERAGE: lambda: Fraction(round(sum(values) / len(values) * 10**18), 10**18),
        Aggregate.MIN: lambda: min(values),
        Aggregate.MAX: lambda: max(values),
        Aggregate.LATEST: lambda: Fraction(in_order[-1].quantity, 10 ** in_order[-1].scale),
    }
    of_nothing = aggregate in {Aggregate.COUNT, Aggregate.UNIQUE, Aggregate.SUM}
    return ways[aggregate]() if members or of_nothing else None


def _integral(meter: Meter, members: list[Use], start: int, end: int, upto: int) -> Fraction | None:
    """Level times seconds, window by window; each sees what was appended before it closed.

    Or before ``upto``, whichever is later.
    """
    total, known = Fraction(0), False
    levels = meter.aggregate is Aggregate.TIME_WEIGHTED
    series: dict[object, list[Use]] = defaultdict(list)
    for use in members:
        series[use.tenant, use.group].append(use)
    for window in range(start, end, WINDOW):
        limit = max(closes(meter, window), upto)
        for of_series in series.values():
            seen = [u for u in of_series if u.append < limit and u.time < window + WINDOW]
            seen.sort(key=_order)
            known = known or bool(seen)
            edges = [*(max(use.time, window) for use in seen), window + WINDOW]
            level = Fraction(0)
            for use, (low, high) in zip(seen, pairwise(edges), strict=True):
                amount = Fraction(use.quantity, 10**use.scale)
                level = amount if levels else level + amount
                total += level * Fraction(high - low, 10**6)
    return total if known else None


def _expected(meter: Meter, members: list[Use], start: int, end: int, upto: int) -> Fraction | None:
    if meter.aggregate in (Aggregate.TIME_WEIGHTED, Aggregate.TIME_WEIGHTED_CHANGES):
        return _integral(meter, members, start, end, upto)
    inside = [use for use in members if start <= use.time < end]
    came = [use for use in inside if use.append < max(closes(meter, use.time), upto)]
    return _value(meter.aggregate, came)


def _fraction(amount: Amount | None) -> Fraction | None:
    return None if amount is None else Fraction(amount.quantity) / Fraction(10) ** amount.scale


def _plain(figure: Figure) -> list[object]:
    """A figure whose amounts compare by value."""
    return [_fraction(cell) if isinstance(cell, Amount) else cell for cell in figure]


def _members(question: Question, figure: Figure, events: list[Use]) -> list[Use]:
    found: list[Use] = []
    for use in events:
        attributes = dict(zip(METER.group_by, use.group, strict=True))
        if (
            (figure.tenant is None or use.tenant == figure.tenant)
            and tuple(attributes[name] for name in question.by) == figure.group
            and all(condition.holds(attributes) for condition in question.where)
        ):
            found.append(use)
    return found


@given(
    uses(),
    st.sampled_from(ALL),
    st.sampled_from([(), ("model",), ("region", "model")]),
    st.sampled_from(
        [
            (),
            (Condition("model", catalogue.Test.IN, ("", "x")),),
            (
                Condition("model", catalogue.Test.NOT_IN, ("y",)),
                Condition("region", catalogue.Test.IN, ("x", "y")),
            ),
        ]
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_figures_equal_a_plain_computation(  # noqa: PLR0917 - drawn in this order
    events: list[Use],
    aggregate: Aggregate,
    by: tuple[str, ...],
    where: tuple[Condition, ...],
    total: bool,
    shuffle: object,
) -> None:
    """Closing figure, total and events are what fractions say, in any order of the rows."""
    meter = replace(METER, aggregate=aggregate)
    question = ask([meter], BOUNDS, by=by, where=where, total=total, metering_since=SINCE)
    shuffle.shuffle(events)  # type: ignore[attr-defined]  # a Random

    found = figures(Counted([meter], events, SINCE).reader(), question, progress=0, now=NOW)

    assert found == sorted(found, key=lambda f: (f.start, f.tenant or "", f.group))
    for figure in found:
        members = _members(question, figure, events)
        inside = [use for use in members if figure.start <= use.time < figure.end]
        whole = _expected(meter, members, figure.start, figure.end, EVER)
        closed = _expected(meter, members, figure.start, figure.end, 0)
        assert figure.events == len(inside)
        if figure.total is None:
            assert whole is None
            continue
        assert _fraction(figure.total) == (whole or 0)
        assert _fraction(figure.closing) == (closed or 0)
        assert _fraction(figure.closing) + _fraction(figure.adjustment) == whole or not whole  # type: ignore[operator]  # none of them is None
        if inside:
            assert figure.first == min(use.time - use.time % WINDOW for use in inside)
            assert figure.last == max(use.time - use.time % WINDOW for use in inside)
    _nobody_is_missing(question, events, found)


def _nobody_is_missing(question: Question, events: list[Use], found: list[Figure]) -> None:
    """Every event that was asked for lies in some figure."""
    asked = [
        use
        for use in events
        if BOUNDS[0] <= use.time < BOUNDS[-1]
        and all(
            condition.holds(dict(zip(METER.group_by, use.group, strict=True)))
            for condition in question.where
        )
    ]
    assert sum(figure.events for figure in found) == len(asked)


@given(uses(), st.sampled_from(ALL), st.sampled_from([(), ("model",)]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_closing_and_adjustments_make_the_total(
    events: list[Use], aggregate: Aggregate, by: tuple[str, ...], total: bool
) -> None:
    """An arrival's adjustment is what the figure changed by once all that came by then is known."""
    meter = replace(METER, aggregate=aggregate)
    question = ask([meter], BOUNDS, by=by, total=total, metering_since=SINCE)
    reader = Counted([meter], events, SINCE).reader()

    found = figures(reader, question, progress=0, now=NOW)
    ledger = adjustments(reader, question, now=NOW)

    assert len({(a.start, a.tenant, a.group, a.arrived_from) for a in ledger}) == len(ledger)
    for figure in found:
        mine = [a for a in ledger if (a.start, a.tenant, a.group) == (figure.start, *figure[2:4])]
        so_far = _fraction(figure.closing) or Fraction(0)
        members = _members(question, figure, events)
        for one in mine:
            so_far += _fraction(one.amount) or 0
            assert one.arrived_until is not None
            seen = _expected(meter, members, figure.start, figure.end, one.arrived_until)
            assert so_far == (seen or 0)
        assert so_far == (_fraction(figure.total) or 0)
        late = [
            use
            for use in members
            if figure.start <= use.time < figure.end and use.append >= closes(meter, use.time)
        ]
        assert sum(one.events for one in mine) == len(late)


@given(uses(), st.sampled_from(ALL), st.integers(0, 20 * HOUR))
@settings(max_examples=80, deadline=None)
def test_a_closing_figure_never_changes(events: list[Use], aggregate: Aggregate, cut: int) -> None:
    """Once the log is past the close, what comes later leaves the closing figure alone."""
    meter = replace(METER, aggregate=aggregate)
    question = ask([meter], BOUNDS, by=("model",), metering_since=SINCE)
    early = [use for use in events if use.append < cut]

    def closing_of(some: list[Use]) -> dict[object, object]:
        reader = Counted([meter], some, SINCE).reader()
        return {
            figure[:4]: _fraction(figure.closing)
            for figure in figures(reader, question, progress=0, now=NOW)
            if figure.final_at <= cut and _fraction(figure.closing)
        }

    assert closing_of(early) == closing_of(events)


@given(uses(), st.sampled_from(ALL))
@settings(max_examples=50, deadline=None)
def test_a_longer_question_says_the_same(events: list[Use], aggregate: Aggregate) -> None:
    """A period's figure does not depend on what else was asked: what was before is carried in."""
    meter = replace(METER, aggregate=aggregate)
    reader = Counted([meter], events, SINCE).reader()

    whole = figures(
        reader, ask([meter], BOUNDS, by=("region",), metering_since=SINCE), progress=0, now=NOW
    )
    for low, high in pairwise(BOUNDS):
        alone = figures(
            reader,
            ask([meter], [low, high], by=("region",), metering_since=SINCE),
            progress=0,
            now=NOW,
        )
        same = [figure for figure in whole if figure.start == low]
        assert list(map(_plain, alone)) == list(map(_plain, same))


@given(uses(), st.sampled_from(ALL), st.integers(0, 30).map(lambda n: n * WINDOW // 3))
@settings(max_examples=50, deadline=None)
def test_spans_of_a_tenant_add_up(events: list[Use], aggregate: Aggregate, cut: int) -> None:
    """A tenant that moves gives each account the windows that began while it belonged there."""
    if aggregate in (Aggregate.AVERAGE, Aggregate.MIN, Aggregate.MAX, Aggregate.LATEST):
        return
    if aggregate is Aggregate.UNIQUE:
        return
    meter = replace(METER, aggregate=aggregate)
    question = ask([meter], BOUNDS, total=True, metering_since=SINCE)
    reader = Counted([meter], events, SINCE).reader()

    def of(low: int, high: int) -> list[Fraction]:
        scope = Scope(spans={"a": [(low, high)]})
        found = figures(reader, question, scope=scope, progress=0, now=NOW)
        return [_fraction(figure.total) or Fraction(0) for figure in found]

    both = [one + other for one, other in zip(of(0, cut), of(cut, EVER), strict=True)]
    assert both == of(0, EVER)


def _use(time: int, quantity: int, **changes: object) -> Use:
    return Use("a", ("", ""), time, time, quantity, 0, "k", 0)._replace(**changes)  # type: ignore[arg-type]  # fields by name


def _one(meter: Meter, events: list[Use], start: int, end: int, *, now: int = NOW) -> Figure:
    reader = Counted([meter], events, SINCE).reader()
    question = ask([meter], [start, end], total=True, metering_since=SINCE)
    (figure,) = figures(reader, question, progress=0, now=now)
    return figure


def test_a_level_is_carried_over_empty_windows_and_its_mean_counts_known_time() -> None:
    """A gauge holds its last level; the mean is over the time since its first sample."""
    meter = replace(METER, aggregate=Aggregate.TIME_WEIGHTED)
    events = [_use(HOUR, 4), _use(2 * HOUR, 10)]

    first = _one(meter, events, 0, 4 * HOUR)
    empty = _one(meter, events, 6 * HOUR, 7 * HOUR)
    before = _one(meter, events, 0, HOUR)

    assert first.total == Amount((4 + 20) * 3600 * 10**6, 6)
    assert first.average == Amount(8 * 10**18, 18)
    assert (empty.events, empty.total) == (0, Amount(10 * 3600 * 10**6, 6))
    assert (before.total, before.average) == (None, None)


def test_changes_are_meant_over_the_whole_period() -> None:
    """A gauge of changes stands at 0 before its first one."""
    meter = replace(METER, aggregate=Aggregate.TIME_WEIGHTED_CHANGES)
    events = [_use(HOUR, 4), _use(2 * HOUR, -1)]

    figure = _one(meter, events, 0, 4 * HOUR)
    nothing = _one(meter, [], 0, 4 * HOUR)

    assert figure.total == Amount((4 + 3 * 2) * 3600 * 10**6, 6)
    assert figure.average == Amount(25 * 10**17, 18)
    assert nothing.total == Amount(0, 0)


@pytest.mark.parametrize("aggregate", [Aggregate.TIME_WEIGHTED, Aggregate.TIME_WEIGHTED_CHANGES])
def test_nothing_is_said_of_the_future(aggregate: Aggregate) -> None:
    """A running period's integral and mean reach until now, and no further."""
    meter = replace(METER, aggregate=aggregate)

    running = _one(meter, [_use(0, 4)], 0, 8 * HOUR, now=2 * HOUR + 1)
    coming = _one(meter, [_use(0, 4)], 8 * HOUR, 9 * HOUR, now=2 * HOUR)

    assert running.total == Amount(4 * (2 * 3600 * 10**6 + 1), 6)
    assert running.average == Amount(4 * 10**18, 18)
    assert coming.average is None
    assert not _fraction(coming.total)


def test_a_gauge_that_came_to_nothing_is_not_listed_for_ever() -> None:
    """A series that was set to 0 has no figures in later periods; the total still says 0."""
    meter = replace(METER, aggregate=Aggregate.TIME_WEIGHTED)
    events = [_use(HOUR, 4), _use(2 * HOUR, 0)]
    reader = Counted([meter], events, SINCE).reader()

    later = figures(reader, ask([meter], [5 * HOUR, 6 * HOUR]), progress=0, now=NOW)

    assert later == []
    assert _one(meter, events, 5 * HOUR, 6 * HOUR).total == Amount(0, 6)


def test_an_average_is_rounded_half_to_even_at_the_end() -> None:
    """Two thirds have eighteen places; closing figure and adjustment still make the total."""
    meter = replace(METER, aggregate=Aggregate.AVERAGE)
    events = [_use(0, 1), _use(0, 1, number=1), _use(0, 0, number=2, append=12 * HOUR)]

    figure = _one(meter, events, 0, HOUR)
    half = _one(meter, [_use(0, 1, scale=18), _use(0, 0, number=1)], 0, HOUR)

    assert figure.total == Amount(666666666666666667, 18)
    assert figure.closing == Amount(10**18, 18)
    assert figure.adjustment == Amount(666666666666666667 - 10**18, 18)
    assert half.total == Amount(0, 18)


def test_a_late_sample_counts_in_time_for_windows_that_close_later() -> None:
    """A sample that missed its own window's close is in the closing figure of the next ones."""
    meter = replace(METER, aggregate=Aggregate.TIME_WEIGHTED, grace=0)
    late = _use(3 * HOUR, 4, append=4 * HOUR)

    figure = _one(meter, [late], 3 * HOUR, 5 * HOUR)

    assert figure.total == Amount(4 * 2 * 3600 * 10**6, 6)
    assert figure.closing == Amount(4 * 3600 * 10**6, 6)


def test_a_removed_text_counts_no_more_over_any_merge() -> None:
    """The last word about a text decides, also between tenants that are joined."""
    meter = replace(METER, aggregate=Aggregate.UNIQUE)
    events = [_use(0, 1), _use(HOUR, -1, tenant="b"), _use(HOUR, 1, text="l")]

    assert _one(meter, events, 0, HOUR).total == Amount(1, 0)
    assert _one(meter, events, 0, 2 * HOUR).total == Amount(1, 0)
