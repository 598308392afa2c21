"""Taking the numbers of a whole batch: compared run by run, one run being one producer's lane.

Most runs simply continue what was seen; some repeat some of it on the way. The others are walked
number by number, and with them the marks between their numbers: since when a lane has a hole is
told by the order of both. Producers that may have been silent for too long are left to the judge,
who sees them record by record.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from meterstream_aggregator.batch import Batch, BoolArray, Int64Array, ordered
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.dedup import PRODUCER_HORIZON, Numbers, ProducerKey, TooManyHoles
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_aggregator.state import State
from meterstream_schemas.events import LANES

_NUMBER_SURE: Final = 2**31
"""Below this, numbers and runs fit side by side into 63 bits."""


class Taken(NamedTuple):
    """What became of the numbers of a batch, by row."""

    fresh: BoolArray
    """The number was new."""
    left: BoolArray
    """The number was not looked at: let the judge accept the record as it comes."""
    refused: dict[int, Refusal]
    """Numbers for which their lane has no room."""


def take_numbers(
    batch: Batch, numbered: BoolArray, marks: BoolArray, state: State, changes: Changes
) -> Taken:
    """Note the numbers of all numbered rows. ``marks`` are the rows that are marks."""
    taken = Taken(np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_), {})
    rows = np.flatnonzero(numbered)
    if not len(rows):
        return taken
    owners, owner = owners_of(batch, rows)
    states = [state.numbers_of(key) for key in owners]
    silent = _silent(batch, states)
    if silent:
        left = np.isin(owner, silent)
        taken.left[rows[left]] = True
        rows = rows[~left]
        if not len(rows):
            return taken
        owners, owner = owners_of(batch, rows)
        states = [state.numbers[key] for key in owners]
    last_append = _highest(batch.append_time[rows], owner, len(owners))
    for key, numbers, at in zip(owners, states, last_append, strict=True):
        numbers.last_append = max(numbers.last_append, at)
        changes.numbers[key] = numbers
    _take(_Runs(batch, rows, owner), marks, owners, states, taken)
    return taken


def owners_of(batch: Batch, rows: Int64Array) -> tuple[list[ProducerKey], Int64Array]:
    """The (partition, producer) pairs of these rows, and which one each row has."""
    keys, owner = batch.sender_keys(), batch.senders()[1][rows]
    used = np.bincount(owner, minlength=len(keys)) > 0
    if not used.all():
        owner = (np.cumsum(used) - 1)[owner]
        keys = [keys[at] for at in np.flatnonzero(used).tolist()]
    return keys, owner


def _silent(batch: Batch, states: list[Numbers]) -> list[int]:
    """Which producers may be `dedup.expired` at some record of the batch; seldom any."""
    earliest, latest = int(batch.append_time.min()), int(batch.append_time.max())
    return [
        at
        for at, numbers in enumerate(states)
        if latest - (numbers.last_append or earliest) > PRODUCER_HORIZON
    ]


class _Runs:
    """Numbered rows sorted by lane, in log order within each: run n is ``begins[n]:ends[n]``."""

    def __init__(self, batch: Batch, rows: Int64Array, owner: Int64Array) -> None:
        self.batch = batch
        lanes = owner * LANES + batch.lane[rows]
        order, self.begins = ordered(lanes)
        self.rows = rows[order]
        self.number = batch.sequence[self.rows]
        self.ends = np.r_[self.begins[1:], len(rows)]
        self.lane = lanes[order[self.begins]]
        """Of each run the owner's place times `LANES`, plus the lane."""

    def seen_before(self, run: int, row: int) -> int | None:
        """The number of the run that came last before a row of the batch."""
        begin, end = self.begins[run], self.ends[run]
        at = begin + int(np.searchsorted(self.rows[begin:end], row))
        return int(self.number[at - 1]) if at > begin else None


def _take(
    runs: _Runs, marks: BoolArray, owners: list[ProducerKey], states: list[Numbers], taken: Taken
) -> None:
    upto = np.stack([numbers.upto for numbers in states])
    expected = np.empty_like(runs.number)
    expected[1:] = runs.number[:-1] + 1
    expected[runs.begins] = upto.reshape(-1)[runs.lane] + 1
    continues = np.logical_and.reduceat(runs.number == expected, runs.begins)
    for at, numbers in enumerate(states):
        if numbers.since:
            holed = at * LANES + np.fromiter(numbers.since, dtype=np.int64)
            continues &= ~np.isin(runs.lane, holed)
    marks_of = _marks_of(runs, marks, owners)
    for run, rows in marks_of.items():
        for row in rows:
            seen = runs.seen_before(run, row)
            known = int(upto.reshape(-1)[runs.lane[run]]) if seen is None else seen
            continues[run] &= int(runs.batch.sequence[row]) <= known
    upto.reshape(-1)[runs.lane[continues]] = runs.number[runs.ends[continues] - 1]
    taken.fresh[runs.rows[np.repeat(continues, runs.ends - runs.begins)]] = True
    asked = ~continues
    asked[list(marks_of)] = False
    for at, numbers in enumerate(states):
        if numbers.since:
            asked &= runs.lane // LANES != at
    walked = ~continues
    walked[_take_repeats(runs, np.flatnonzero(asked), upto.reshape(-1), taken)] = False
    for at, numbers in enumerate(states):
        numbers.upto[:] = upto[at]
    for run in np.flatnonzero(walked).tolist():
        rows = runs.rows[runs.begins[run] : runs.ends[run]].tolist()
        _walk(runs.batch, rows, marks_of.get(run, []), states[runs.lane[run] // LANES], taken)


def _take_repeats(runs: _Runs, asked: Int64Array, upto: Int64Array, taken: Taken) -> Int64Array:
    """Take the runs among ``asked`` in which every number is the next one or a repeat; which.

    They are of lanes without a hole, so that what was seen is all up to the highest so far.
    """
    if not len(asked):
        return asked
    lengths = (runs.ends - runs.begins)[asked]
    ends = np.cumsum(lengths)
    at = np.arange(ends[-1]) + np.repeat(runs.begins[asked] - ends + lengths, lengths)
    run = np.repeat(np.arange(len(asked)), lengths)
    number, seen = runs.number[at], upto[runs.lane[asked]]
    if max(int(number.max()), int(seen.max())) >= _NUMBER_SURE or len(asked) >= _NUMBER_SURE:
        return asked[:0]
    # Within each run the highest so far: runs are far apart in one rising sequence.
    highest = np.maximum.accumulate(run * _NUMBER_SURE + np.maximum(number, seen[run]))
    highest -= run * _NUMBER_SURE
    before = np.r_[0, highest[:-1]]
    before[ends - lengths] = seen
    whole = ~np.logical_or.reduceat(number > before + 1, ends - lengths)
    fresh = (number == before + 1) & whole[run]
    taken.fresh[runs.rows[at[fresh]]] = True
    upto[runs.lane[asked[whole]]] = highest[ends - 1][whole]
    return asked[whole]


def _marks_of(runs: _Runs, marks: BoolArray, owners: list[ProducerKey]) -> dict[int, list[int]]:
    """The marks that speak of a run's lane, by run, in log order."""
    found: dict[int, list[int]] = {}
    rows = np.flatnonzero(marks)
    if not len(rows):
        return found
    batch = runs.batch
    place = {key: at for at, key in enumerate(owners)}
    run_of = {lane: run for run, lane in enumerate(runs.lane.tolist())}
    for row in rows.tolist():
        name = batch.producer.values[batch.producer.codes[row]]
        at = place.get(ProducerKey(int(batch.partition[row]), name))
        run = None if at is None else run_of.get(at * LANES + int(batch.lane[row]))
        if run is not None:
            found.setdefault(run, []).append(row)
    return found


def _walk(batch: Batch, rows: list[int], marks: list[int], numbers: Numbers, taken: Taken) -> None:
    """Take the numbers of one lane one by one, its marks among them."""
    speaking = set(marks)
    for row in sorted([*rows, *marks]):
        lane, number = int(batch.lane[row]), int(batch.sequence[row])
        at = int(batch.append_time[row])
        if row in speaking:
            numbers.claim(lane, number, at, closing=False)
            continue
        try:
            taken.fresh[row] = numbers.take(lane, number, at)
        except TooManyHoles as problem:
            taken.refused[row] = Refusal(Reason.INVALID_IDENTITY, str(problem))


def _highest(values: Int64Array, group: Int64Array, groups: int) -> list[int]:
    """The highest value of each group."""
    highest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(highest, group, values)
    return [int(value) for value in highest]
