"""The guide of the SDK: every Python block of it runs, in order, and does what it says."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import meterstream
from meterstream import default
from meterstream.memory import MemoryTransport
from tests.unit.producers.reading import arrived

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[3] / "docs/sdk.md"


def test_every_block_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Over a memory transport; what they record is in the log."""
    transports: list[MemoryTransport] = []

    def remembered(**_: object) -> MemoryTransport:
        transports.append(MemoryTransport())
        return transports[-1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(meterstream.meter, "choose_transport", remembered)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}

    try:
        for block in blocks:
            exec(compile(block, str(GUIDE), "exec"), names)
        assert asyncio.run(names["search_page"]("acme", "a b c")) == ["a", "b", "c"]
        assert list(names["items"]("a b")) == ["a", "b"]
        assert names["meter"].close(5)
        assert names["durable"].close(5)
    finally:
        names["strict"].close(0)
        meterstream.close(0)
        default._held.clear()

    events = arrived(transports[0])
    by_type = Counter(event.type for event in events)
    assert by_type["api.request"] == 5
    assert {event.quantity for event in events if event.type == "llm.tokens"} == {12}
    assert {event.quantity for event in events if event.type == "search.results"} == {3}
    assert {event.quantity for event in events if event.type == "search.item"} == {2}
    hits = [event for event in events if event.type == "cache.hit"]
    assert sum(event.quantity for event in hits) == 1 + 1_000 + 3
    assert sum(int(event.attributes["events"]) for event in hits) == 1 + 1_000 + 1
    assert [event.key for event in arrived(transports[1])] == ["order-4712"]
    assert Counter(event.type for event in arrived(transports[-1])) == {
        "report.page": 1,
        "report": 1,
    }
    assert "Hel" in capsys.readouterr().out


def test_the_tests_it_refers_to_exist() -> None:
    """Names of tests in the guide are those of tests."""
    tests = "\n".join(
        path.read_text("utf-8") for path in GUIDE.parents[1].glob("tests/unit/**/*.py")
    )
    named = re.findall(r"`(test_\w+)`", GUIDE.read_text("utf-8"))

    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []
