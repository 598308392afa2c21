"""The steps that a batch makes for watched meters: which events moved which figure, in log order.

Pure, and columns throughout: a watched usage meter costs some array operations per batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from meterstream_aggregator.batch import KIND_CODES, USAGE_CODE, Batch, BoolArray, Int64Array
from meterstream_aggregator.catalogue import Aggregate, Condition, Meter, Test, Threshold
from meterstream_aggregator.changes import ChargeMove
from meterstream_aggregator.thresholds import Movement, Periods
from meterstream_aggregator.values import column_amounts
from meterstream_aggregator.windows import split
from meterstream_schemas.events import EventKind

_VOID_CODE: Final = KIND_CODES[EventKind.VOID]
_SESSION_SCALE: Final = 6
_WIDE: Final = 2**62
_LEAST: Final = -(2**63)
"""The one 64-bit integer that cannot be negated in 64 bits."""


@dataclass(slots=True)
class Steps:
    """Steps of many tenants under one meter, as parallel columns in log order.

    ``tenant`` are codes into ``tenants``; ``window`` is where a step's window starts; ``place`` has
    one row (partition, offset, log time) per step.
    """

    tenants: Sequence[str]
    tenant: Int64Array
    window: Int64Array
    amount: npt.NDArray[Any]
    scale: int
    place: Int64Array

    def __len__(self) -> int:
        return len(self.tenant)

    def some(self, rows: Int64Array) -> Steps:
        """Only these."""
        return Steps(
            self.tenants,
            self.tenant[rows],
            self.window[rows],
            self.amount[rows],
            self.scale,
            self.place[rows],
        )


class _Amounts(NamedTuple):
    quantity: npt.NDArray[Any]
    scale: Int64Array


def usage_steps(batch: Batch, times: Int64Array, meters: Iterable[Meter]) -> Steps | None:
    """The steps under the definitions of one usage meter, or None where there are none.

    ``times`` say of each row whether it was counted (1), taken back (-1) or neither.
    """
    moved = (times != 0) & ((batch.kind == USAGE_CODE) | (batch.kind == _VOID_CODE))
    rows_of: list[Int64Array] = []
    amounts_of: list[_Amounts] = []
    windows_of: list[Int64Array] = []
    for meter in meters:
        rows = _read_by(batch, moved, meter)
        if len(rows):
            amounts = _amounts(batch, rows, meter)
            rows_of.append(rows)
            amounts_of.append(_Amounts(_signed(amounts.quantity, times[rows]), amounts.scale))
            windows_of.append(batch.time[rows] - batch.time[rows] % meter.window)
    if not rows_of:
        return None
    rows = np.concatenate(rows_of)
    quantity, scale = _one_scale(
        np.concatenate([amounts.quantity for amounts in amounts_of]),
        np.concatenate([amounts.scale for amounts in amounts_of]),
    )
    place = np.stack((batch.partition[rows], batch.offset[rows], batch.append_time[rows]), axis=1)
    order = np.lexsort((place[:, 1], place[:, 0], place[:, 2]))
    return Steps(
        batch.tenant.values,
        batch.tenant.codes[rows],
        np.concatenate(windows_of),
        quantity,
        scale,
        place,
    ).some(order)


def session_steps(moves: Iterable[ChargeMove]) -> Steps | None:
    """The steps of one session meter: its charges that moved, window by window.

    What time alone does (a timeout) comes before the records of the same log time; steps of one
    place are one step, for they happen at once.
    """
    joined: dict[tuple[int, int, int, str, int], int] = {}
    for move in moves:
        for window, microseconds in _shares(move):
            key = (move.cause, move.partition, move.offset, move.tenant, window)
            joined[key] = joined.get(key, 0) + microseconds
    keys = sorted(key for key, amount in joined.items() if amount)
    if not keys:
        return None
    codes: dict[str, int] = {}
    tenant = np.array([codes.setdefault(key[3], len(codes)) for key in keys], dtype=np.int64)
    return Steps(
        list(codes),
        tenant,
        np.array([key[4] for key in keys], dtype=np.int64),
        np.array([joined[key] for key in keys], dtype=np.int64),
        _SESSION_SCALE,
        np.array([(key[1], key[2], key[0]) for key in keys], dtype=np.int64),
    )


def tenants_watched(threshold: Threshold, steps: Steps) -> Int64Array:
    """Of each step the code of who it is about, -1 where the threshold does not ask for them."""
    if not threshold.of:
        return steps.tenant
    wanted = np.array([name in threshold.of for name in steps.tenants], dtype=np.bool_)
    return np.where(wanted[steps.tenant], steps.tenant, -1)


def movements(
    threshold: Threshold,
    steps: Steps,
    who: Int64Array,
    names: Sequence[str],
    *,
    periods: Periods,
    greatest: bool,
    topic: str,
) -> Iterator[Movement]:
    """The steps by figure: by who (codes into ``names``, -1 for nobody) and period."""
    windows, window = np.unique(steps.window, return_inverse=True)
    spans = [periods.of(start) for start in windows.tolist()]
    distinct_spans = sorted(set(spans))
    span = np.array([distinct_spans.index(each) for each in spans], dtype=np.int64)[window]
    figure = who * len(distinct_spans) + span
    order = np.argsort(figure, kind="stable")
    order = order[figure[order] >= 0]
    if not len(order):
        return
    figure, amount, place = figure[order], steps.amount[order], steps.place[order]
    begins = np.flatnonzero(np.r_[True, figure[1:] != figure[:-1]]).tolist()
    several = len(distinct_spans)
    for low, high in pairwise([*begins, len(order)]):
        code, at = divmod(int(figure[low]), several)
        amounts, places = amount[low:high], place[low:high]
        if steps.scale == _SESSION_SCALE:
            amounts, places = _at_once(amounts, places, greatest=greatest)
        yield Movement(
            threshold,
            names[code],
            *distinct_spans[at],
            greatest=greatest,
            scale=steps.scale,
            amounts=amounts,
            places=places,
            topic=topic,
        )


def _at_once(
    amounts: npt.NDArray[Any], places: Int64Array, *, greatest: bool
) -> tuple[npt.NDArray[Any], Int64Array]:
    """Steps of one place as one step."""
    first = np.r_[True, (places[1:] != places[:-1]).any(axis=1)]
    if first.all():
        return amounts, places
    join = np.maximum if greatest else np.add
    return join.reduceat(amounts, np.flatnonzero(first)), places[first]


def _shares(move: ChargeMove) -> Iterator[tuple[int, int]]:
    """What windows gain and lose."""
    for charged, sign in ((move.before, -1), (move.after, 1)):
        if charged is not None and charged.until is not None:
            for window, inside in split(charged.start, charged.until, move.window):
                yield window, sign * inside


def _read_by(batch: Batch, moved: BoolArray, meter: Meter) -> Int64Array:
    """The rows that a definition reads."""
    is_type = np.array([name == meter.type for name in batch.type.values], dtype=np.bool_)
    if not is_type.any():
        return np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero(moved & is_type[batch.type.codes])
    if meter.since > 0 or meter.until is not None:
        time = batch.time[rows]
        inside = time >= meter.since
        if meter.until is not None:
            inside &= time < meter.until
        rows = rows[inside]
    for condition in meter.where:
        rows = rows[_holds(batch, condition)[rows]]
    if meter.value_attribute is not None and meter.aggregate is not Aggregate.COUNT:
        rows = rows[column_amounts(batch, meter.value_attribute).present[rows]]
    return rows


def _holds(batch: Batch, condition: Condition) -> BoolArray:
    column = batch.attribute(condition.name)
    match condition.test:
        case Test.IN:
            return column.matching(frozenset(condition.values))
        case Test.NOT_IN:
            return ~column.matching(frozenset(condition.values))
        case Test.EXISTS:
            return column.codes >= 0
        case Test.ABSENT:
            return column.codes < 0


def _amounts(batch: Batch, rows: Int64Array, meter: Meter) -> _Amounts:
    if meter.aggregate is Aggregate.COUNT:
        return _Amounts(np.ones(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64))
    if meter.value_attribute is not None:
        amounts = column_amounts(batch, meter.value_attribute)
        return _Amounts(amounts.quantity[rows], amounts.scale[rows])
    return _Amounts(batch.quantity[rows], batch.scale[rows])


def _signed(quantity: npt.NDArray[Any], times: Int64Array) -> npt.NDArray[Any]:
    if not (times < 0).any():
        return quantity
    if int(quantity.min()) == _LEAST:
        quantity = quantity.astype(object)
    return quantity * times


def _one_scale(quantity: npt.NDArray[Any], scale: Int64Array) -> tuple[npt.NDArray[Any], int]:
    """All amounts at the finest scale among them; Python integers where 64 bits are too few."""
    finest, coarsest = int(scale.max()), int(scale.min())
    if coarsest == finest:
        return quantity, finest
    factors = np.array([10**places for places in range(finest + 1)], dtype=object)
    largest = max(abs(int(quantity.max())), abs(int(quantity.min())))
    if largest * 10 ** (finest - coarsest) < _WIDE:
        return quantity * factors.astype(np.int64)[finest - scale], finest
    return quantity.astype(object) * factors[finest - scale], finest
