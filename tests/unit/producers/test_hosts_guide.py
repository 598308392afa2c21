"""The guide to hosts is true: its examples run, and each case it names is a program of tests."""

from __future__ import annotations

import functools
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import meterstream
from meterstream import Meter
from meterstream.caches import TwoGenerations
from meterstream.intake import FRAGMENTS_CACHED, SERIES_CACHED
from meterstream.memory import MemoryTransport
from tests.integration import (
    test_sdk_processes,
    test_sdk_processes_forks,
    test_sdk_processes_web,
)
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE: Final = (Path(__file__).parents[3] / "docs/hosts.md").read_text("utf-8")
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SINGLE: Final = {
    "daemon_threads", "busy_daemon_threads", "made_at_teardown", "broker_away",
    "fork_while_others_record", "processes", "pool", "executor", "pool_terminated",
}  # fmt: skip
"""Cases that have a test to themselves."""


@pytest.fixture
def term() -> Iterator[None]:
    """Give SIGTERM back what it had."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, monkeypatch: pytest.MonkeyPatch, term: None) -> None:
    """As it stands there, with a transport of the test's; what it records arrives."""
    transport = MemoryTransport()
    made: list[Meter] = []

    def make(service: str) -> Meter:
        made.append(Meter(service, strict=True, transport=transport))
        return made[-1]

    monkeypatch.setattr(meterstream, "Meter", functools.partial(make))
    exec(compile(EXAMPLES[number], "docs/hosts.md", "exec"), {"__name__": "example"})

    for meter in made:
        assert meter.close(30)
        assert arrived(transport)
    assert made or "signal.signal" in EXAMPLES[number]


def test_every_case_of_the_tables_is_tested_and_every_test_is_in_them() -> None:
    """By name, in both directions."""
    tested = {
        *test_sdk_processes.IN_ORDER,
        *test_sdk_processes.FLUSHED,
        *test_sdk_processes.SUDDEN,
        *test_sdk_processes.ON_DISK,
        *test_sdk_processes_forks.FORKS,
        *SINGLE,
    }
    rows = [line.split("|")[2] for line in GUIDE.splitlines() if line.startswith("|")]
    named = {name for cell in rows for name in re.findall(r"`([a-z_]+)`", cell)}

    assert named == tested
    servers = {*test_sdk_processes_web.SERVERS, *test_sdk_processes_web.GREEN}
    assert all(f"`{name}`" in GUIDE for name in servers)


def test_the_bounds_that_are_named_hold() -> None:
    """Two generations of each cache."""
    assert "16,384 tenant and type pairs and 8,192 sets" in GUIDE
    assert (2 * SERIES_CACHED, 2 * FRAGMENTS_CACHED) == (16_384, 8_192)
    assert TwoGenerations.__doc__ is not None
    assert "``2 * size``" in TwoGenerations.__doc__
