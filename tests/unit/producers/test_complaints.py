"""Trouble is kept and logged, once per interval and kind."""

from __future__ import annotations

import logging
import time

import pytest

from meterstream.complaints import Complaints, describe


def test_a_storm_becomes_one_line_per_interval_and_kind(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand troubles of two kinds are two lines, and the next interval tells the latest."""
    complaints = Complaints(interval_seconds=60)

    for attempt in range(1000):
        complaints.warn("connect", f"no broker, attempt {attempt}")
        complaints.error("refused", f"lost {attempt}")
        complaints.log_due(100.0)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "no broker, attempt 0"),
        (logging.ERROR, "lost 0"),
    ]

    complaints.log_due(159.0)
    assert len(caplog.records) == 2
    complaints.log_due(160.0)
    assert [record.getMessage() for record in caplog.records[2:]] == [
        "no broker, attempt 999",
        "lost 999",
    ]


def test_noting_does_no_logging(caplog: pytest.LogCaptureFixture) -> None:
    """A caller's thread never writes to a log, but the message is known at once."""
    complaints = Complaints()
    complaints.warn("connect", "no broker")

    message, age = complaints.last(time.monotonic() + 5)
    assert message == "no broker"
    assert age == pytest.approx(5, abs=1)
    assert not caplog.records


def test_no_trouble_is_none() -> None:
    """A quiet meter has nothing to tell."""
    assert Complaints().last(0.0) == (None, None)


def test_any_exception_can_be_described() -> None:
    """Also one that fails when it is shown, and one of a megabyte."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert describe(ValueError("bad")) == "ValueError: bad"
    assert describe(Mute()) == "an exception that cannot be shown"
    assert len(describe(ValueError("x" * 1_000_000))) <= 500
