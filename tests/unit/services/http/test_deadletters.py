"""`GET /v1/deadletters` asks the store for just what was named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.store.told import ALL_DEAD_LETTERS, DeadLettersWanted

if TYPE_CHECKING:
    from meterstream_aggregator.store.told import DeadLetterRow
    from tests.unit.services.http.conftest import World


def test_every_filter_reaches_the_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are instants in the asked zone; nothing named means all."""
    asked: list[tuple[DeadLettersWanted, int]] = []

    def dead_letters(wanted: DeadLettersWanted, *, limit: int) -> list[DeadLetterRow]:
        asked.append((wanted, limit))
        return []

    monkeypatch.setattr(world.store, "dead_letters", dead_letters)
    named = {
        "producer": "p",
        "reason": "too_large",
        "tenant": "t",
        "type": "y",
        "partition": "3",
        "since": "2026-03-01",
        "until": "2026-03-01T00:00:01Z",
        "zone": "Europe/Berlin",
        "limit": "7",
    }

    assert world.get("/v1/deadletters", params=named).json() == {"deadletters": []}
    assert world.get("/v1/deadletters").status_code == 200

    midnight = 1_772_319_600_000_000
    one = DeadLettersWanted("p", "too_large", "t", "y", 3, midnight, midnight + 3_601_000_000)
    assert asked == [(one, 7), (ALL_DEAD_LETTERS, 1000)]


@pytest.mark.parametrize(
    ("question", "said"),
    [("since=soon", "since: 'soon' is not an ISO 8601 time"), ("partition=-1", "partition")],
)
def test_a_filter_that_is_none(world: World, question: str, said: str) -> None:
    """It is refused by name: a misspelt filter must not widen an answer."""
    refused = world.get(f"/v1/deadletters?{question}")

    assert refused.status_code == 422
    assert said in refused.text
