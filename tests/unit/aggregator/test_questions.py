"""Windows merge into the figures that were asked for, exactly and in any order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterstream_aggregator import questions
from meterstream_aggregator.catalogue import HOUR, MINUTE, Aggregate, Meter, TimeoutBills
from meterstream_aggregator.civil import InvalidQuestion
from meterstream_aggregator.questions import Figure, Status, answer, ask, folded_until, status_of
from meterstream_aggregator.store.port import PositionRow, UsageRow
from meterstream_schemas.quantity import Amount, to_decimal

WINDOW = 15 * MINUTE
METER = Meter(
    name="llm.tokens",
    type="llm.completion",
    aggregate=Aggregate.SUM,
    value="attributes.tokens",
    unit="token",
    group_by=("model", "region"),
    where=(),
    window=WINDOW,
    grace=24 * HOUR,
    timeout=None,
    timeout_bills=TimeoutBills.LAST_SIGN,
    series_per_tenant=100,
)
BOUNDS = [0, HOUR, 3 * HOUR, 4 * HOUR]

rows = st.builds(
    UsageRow,
    tenant=st.sampled_from(["a", "b", "c"]),
    group=st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from(["", "eu"])),
    start=st.integers(-2, 18).map(lambda n: n * WINDOW),
    events=st.integers(1, 5),
    quantity=st.integers(-(10**6), 10**6),
    scale=st.integers(0, 18),
    late=st.booleans(),
)


def _row(tenant: str, start: int, quantity: int, **changed: object) -> UsageRow:
    return UsageRow(tenant, ("", ""), start, 1, quantity, 0, False)._replace(**changed)  # type: ignore[arg-type]  # fields by name


def _answer(question: questions.Question, given_rows: list[UsageRow]) -> list[Figure]:
    return answer(question, given_rows, metering_since=0, progress=0, now=0)


def _fraction(amount: Amount | None) -> Fraction:
    assert amount is not None
    return Fraction(amount.quantity, 10**amount.scale)


@given(
    st.lists(rows, max_size=40),
    st.sampled_from(list(Aggregate)),
    st.sampled_from([(), ("model",), ("region", "model")]),
    st.sampled_from([{}, {"model": ["x", ""]}, {"model": ["y"], "region": ["eu"]}]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_figures_equal_a_plain_computation(  # noqa: PLR0917 - drawn in this order
    given_rows: list[UsageRow],
    aggregate: Aggregate,
    by: tuple[str, ...],
    where: dict[str, list[str]],
    total: bool,
    shuffle: object,
) -> None:
    """Every figure is what fractions, kept in lists and joined at the end, say it is."""
    meter = replace(METER, aggregate=aggregate)
    expected: dict[tuple[int, str | None, tuple[str, ...]], list[UsageRow]] = defaultdict(list)
    for row in given_rows:
        attributes = dict(zip(meter.group_by, row.group, strict=True))
        inside = [i for i in range(3) if BOUNDS[i] <= row.start < BOUNDS[i + 1]]
        if inside and all(attributes[name] in allowed for name, allowed in where.items()):
            tenant = None if total else row.tenant
            expected[BOUNDS[inside[0]], tenant, tuple(attributes[n] for n in by)].append(row)

    shuffle.shuffle(given_rows)  # type: ignore[attr-defined]  # a Random
    figures = _answer(ask(meter, BOUNDS, by=by, where=where, total=total), given_rows)

    assert figures == sorted(figures, key=lambda f: (f.start, f.tenant or "", f.group))
    used = [figure for figure in figures if figure.first is not None]
    assert {(f.start, f.tenant, f.group) for f in used} == set(expected)
    for figure in used:
        members = expected[figure.start, figure.tenant, figure.group]
        assert figure.events == sum(row.events for row in members)
        assert _fraction(figure.total) == _plain(aggregate, members)
        assert figure.first == min(row.start for row in members)
        assert figure.last == max(row.start for row in members)
        closed = [row for row in members if not row.late]
        assert _fraction(figure.closing) == (_plain(aggregate, closed) if closed else 0)
        assert _fraction(figure.closing) + _fraction(figure.adjustment) == _fraction(figure.total)


def _plain(aggregate: Aggregate, members: list[UsageRow]) -> Fraction:
    values = [Fraction(row.quantity, 10**row.scale) for row in members]
    match aggregate:
        case Aggregate.COUNT:
            return Fraction(sum(row.events for row in members))
        case Aggregate.MIN:
            return min(values)
        case Aggregate.MAX:
            return max(values)
        case _:
            return sum(values, Fraction(0))


def test_rows_of_different_scale_join_exactly() -> None:
    """0.1 and 10 quintillionths are added and compared without losing a digit."""
    parts = [_row("a", 0, 1, scale=1), _row("a", WINDOW, 10, scale=18)]

    (figure,) = _answer(ask(METER, [0, HOUR]), parts)
    (least,) = _answer(ask(replace(METER, aggregate=Aggregate.MIN), [0, HOUR]), parts)

    assert figure.total is not None
    assert least.total is not None
    assert str(to_decimal(*figure.total)) == "0.100000000000000010"
    assert least.total.decimal() == to_decimal(10, 18)


def test_sums_outgrow_sixty_four_bits() -> None:
    """Adding many large amounts neither wraps nor rounds."""
    parts = [_row("a", n * WINDOW, 2**63 - 1) for n in range(4)]

    (figure,) = _answer(ask(METER, [0, HOUR]), parts)

    assert figure.total == Amount(4 * (2**63 - 1), 0)


def test_periods_without_usage_are_left_out_per_tenant() -> None:
    """A tenant has a figure only in periods in which it used something."""
    figures = _answer(ask(METER, BOUNDS), [_row("a", HOUR, 5)])

    assert [(figure.start, figure.tenant) for figure in figures] == [(HOUR, "a")]


def test_totals_show_every_period() -> None:
    """Joined over tenants, a period without usage says so: nothing used is a figure too."""
    figures = _answer(ask(METER, BOUNDS, total=True), [_row("a", HOUR, 5), _row("b", HOUR, 6)])

    assert [(f.tenant, f.total, f.events) for f in figures] == [
        (None, Amount(0, 0), 0),
        (None, Amount(11, 0), 2),
        (None, Amount(0, 0), 0),
    ]


@pytest.mark.parametrize("aggregate", [Aggregate.MIN, Aggregate.MAX])
def test_nothing_has_no_extreme(aggregate: Aggregate) -> None:
    """The smallest and the greatest of nothing are not zero: there is no figure."""
    (figure,) = _answer(ask(replace(METER, aggregate=aggregate), [0, HOUR], total=True), [])

    assert (figure.total, figure.closing, figure.adjustment) == (None, None, None)


@pytest.mark.parametrize("asked", [{"by": ["colour"]}, {"where": {"colour": ["red"]}}])
def test_unknown_dimensions_are_refused(asked: dict[str, object]) -> None:
    """Asking by an attribute that the meter does not keep names those it does."""
    with pytest.raises(InvalidQuestion, match="'colour'; they are by: model, region") as caught:
        ask(METER, BOUNDS, **asked)  # type: ignore[arg-type]  # fields by name

    assert caught.value.field == next(iter(asked))


def test_answers_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of too many figures is refused with what to ask instead."""
    monkeypatch.setattr(questions, "FIGURES_MAX", 2)

    with pytest.raises(InvalidQuestion, match="more than 2 figures; ask for fewer"):
        _answer(ask(METER, [0, HOUR]), [_row(tenant, 0, 1) for tenant in "abc"])


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
    """Open until the period ends, final when all is folded past end and grace, closing between."""
    assert status_of(HOUR, meter=METER, metering_since=0, progress=progress, now=now) is expected


def test_status_of_history_waits_for_metering_to_begin() -> None:
    """Windows before metering began close a grace after it began, not after their own end."""
    since = 1000 * HOUR

    before = status_of(
        HOUR, meter=METER, metering_since=since, progress=since + 24 * HOUR - 1, now=since
    )
    after = status_of(
        HOUR, meter=METER, metering_since=since, progress=since + 24 * HOUR, now=since
    )

    assert (before, after) == (Status.CLOSING, Status.FINAL)


def test_progress_is_the_slowest_partition() -> None:
    """Everything is folded only as far as the slowest partition is; one unknown holds all."""

    def position(partition: int, appended: int) -> PositionRow:
        return PositionRow(partition, 0, appended, 1, "", 0, 0, 0)

    assert folded_until([position(0, 7), position(1, 5)], 2) == 5
    assert folded_until([position(0, 7)], 2) == 0
    assert folded_until([], 0) == 0
