"""Numbers of things in sentences."""

from __future__ import annotations

import pytest

from meterstream_services.wording import counted


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 events"), (1, "1 event"), (2, "2 events"), (12345, "12,345 events")],
)
def test_one_thing_is_one_thing(number: int, words: str) -> None:
    """One has no plural; large numbers have groups."""
    assert counted(number, "event") == words
