"""When so much is refused that the worker must stop: run, ratio, and what a new start knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.changes import DeadLetter
from meterstream_aggregator.refusals import Reason, Refusal
from meterstream_consumers.errors import DeadLetterFlood
from meterstream_consumers.flood import FloodGuard, FloodLimits
from tests.unit.consumers.making import Record, raw_of

SMALL = FloodLimits(run_max=4, ratio_max=0.5, window=10)
Flags = list[bool]


def letter(offset: int, reason: Reason = Reason.UNKNOWN_TYPE, partition: int = 0) -> DeadLetter:
    """A refused record."""
    why = Refusal(reason, f"detail of {offset}")
    return DeadLetter(partition, offset, 1, why, "t", "x", "", 0, 0)


def first_flood(flags: Flags, limits: FloodLimits) -> int | None:
    """The first refused record beyond a limit, by looking back from each."""
    for at, refused in enumerate(flags):
        if not refused:
            continue
        run = 0
        while run <= at and flags[at - run]:
            run += 1
        lately = flags[max(at - limits.window + 1, 0) : at + 1]
        share = sum(lately) > limits.ratio_max * limits.window
        if (limits.run_max and run > limits.run_max) or (len(lately) == limits.window and share):
            return at
    return None


def pass_batch(guard: FloodGuard, begin: int, flags: Flags) -> None:
    """One batch of partition 0, checked and committed."""
    raw = raw_of(Record(0, begin + n, 1, b"") for n in range(len(flags)))
    guard.check(raw, [letter(begin + n) for n, refused in enumerate(flags) if refused])
    guard.committed()


def batches(flags: Flags, sizes: list[int]) -> list[tuple[int, Flags]]:
    """The same records cut into batches: where each begins, and its flags."""
    cut: list[tuple[int, Flags]] = []
    at = 0
    while at < len(flags):
        size = sizes[len(cut) % len(sizes)]
        cut.append((at, flags[at : at + size]))
        at += size
    return cut


@given(
    flags=st.lists(st.booleans(), max_size=80),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    limits=st.builds(
        FloodLimits,
        run_max=st.integers(0, 12),
        ratio_max=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
        window=st.sampled_from([1, 5, 10, 20]),
    ),
    restarts=st.booleans(),
)
def test_batches_and_restarts_do_not_matter(
    flags: Flags, sizes: list[int], limits: FloodLimits, *, restarts: bool
) -> None:
    """The batch with the first record beyond a limit is the one that is stopped, however cut."""
    flood_at = first_flood(flags, limits)
    guard = FloodGuard(limits)
    guard.take(0, 0, [])
    for begin, of_batch in batches(flags, sizes):
        if restarts:
            guard = FloodGuard(limits)
            known = [n for n in range(guard.begins_at(begin), begin) if flags[n]]
            guard.take(0, begin, known)
        if flood_at is not None and begin <= flood_at < begin + len(of_batch):
            with pytest.raises(DeadLetterFlood) as flood:
                pass_batch(guard, begin, of_batch)
            assert flood.value.offset == flood_at
            return
        pass_batch(guard, begin, of_batch)
    assert flood_at is None


def test_a_flood_is_told_with_all_that_helps() -> None:
    """Where, which reason prevails, an example, and how to have it all the same."""
    guard = FloodGuard(SMALL)
    guard.take(3, 70, [])
    letters = [letter(70 + n, partition=3) for n in range(6)]
    letters[1] = letter(71, Reason.INVALID_TIME, partition=3)
    raw = raw_of(Record(3, 70 + n, 1, b"") for n in range(6))

    with pytest.raises(DeadLetterFlood) as flood:
        guard.check(raw, letters)

    text = str(flood.value)
    assert (flood.value.partition, flood.value.offset) == (3, 74)
    assert flood.value.reason == "unknown_type"
    assert "partition 3: 5 records in a row were refused up to offset 74" in text
    assert "4 of the 5 of this batch" in text
    assert "3-70 (detail of 70)" in text
    assert "--deadletter-run-max 0 --deadletter-ratio-max 1" in text


def test_a_check_without_commit_leaves_no_trace() -> None:
    """A batch that was not committed after all does not count when it comes again."""
    guard = FloodGuard(SMALL)
    guard.take(0, 0, [])
    raw = raw_of(Record(0, n, 1, b"") for n in range(3))
    for _ in range(5):
        guard.check(raw, [letter(n) for n in range(3)])
    guard.committed()

    assert guard.refused_lately() == {0: 3}


def test_partitions_are_told_apart() -> None:
    """Runs of two partitions that come mixed do not add up, and gone ones are forgotten."""
    guard = FloodGuard(SMALL)
    guard.take(0, 0, [])
    guard.take(1, 0, [])
    raw = raw_of(Record(n % 2, n // 2, 1, b"") for n in range(8))
    guard.check(raw, [letter(n // 2, partition=n % 2) for n in range(8)])
    guard.committed()
    assert guard.refused_lately() == {0: 4, 1: 4}

    guard.let_go(1)
    guard.take(1, 4, [])
    assert guard.refused_lately() == {0: 4, 1: 0}


def test_a_healthy_stretch_ends_a_run_and_leaves_the_window() -> None:
    """After as many good records as the window holds, nothing of before counts."""
    guard = FloodGuard(SMALL)
    guard.take(0, 0, [])
    pass_batch(guard, 0, [True] * 4)
    pass_batch(guard, 4, [False] * 10)
    assert guard.refused_lately() == {0: 0}

    pass_batch(guard, 14, [True] * 4)
    assert guard.refused_lately() == {0: 4}
