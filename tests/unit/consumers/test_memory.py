"""When freed memory is given back."""

from __future__ import annotations

from meterstream_consumers.memory import RECORDS_BETWEEN, Trimmer


def test_memory_is_given_back_after_much_work() -> None:
    """Every million records, however they were cut into batches, and not more often."""
    calls: list[int] = []
    trimmer = Trimmer(lambda: calls.append(1))
    for _ in range(25):
        trimmer.worked(RECORDS_BETWEEN // 10)
    assert len(calls) == 2


def test_a_pause_after_work_is_used_once() -> None:
    """Idle polls give nothing back again; a trickle of records is no work."""
    calls: list[int] = []
    trimmer = Trimmer(lambda: calls.append(1))
    trimmer.worked(RECORDS_BETWEEN // 2)
    for _ in range(5):
        trimmer.paused()
        trimmer.worked(1)
    assert len(calls) == 1


def test_the_real_one_can_be_called() -> None:
    """Whatever the C library is, giving back does no harm."""
    trimmer = Trimmer()
    trimmer.worked(RECORDS_BETWEEN)
    trimmer.worked(RECORDS_BETWEEN)
