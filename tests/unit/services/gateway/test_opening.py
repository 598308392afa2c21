"""What is said of settings before the door opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterstream_schemas.events import EVENT_BYTES_MAX
from meterstream_services.gateway.opening import GROUP_BYTES_MAX, too_small
from meterstream_services.http.settings import Gateway


def test_the_usual_spool_takes_every_batch() -> None:
    """Nothing is said of it, nor of the smallest that a thousand of the largest events fit into."""
    usual = Gateway("kafka:9092", Path("spool")).spool_bytes_max

    assert too_small(usual) is None
    assert too_small(GROUP_BYTES_MAX) is None
    assert GROUP_BYTES_MAX > 1_000 * EVENT_BYTES_MAX


@pytest.mark.parametrize("size", [65_536, GROUP_BYTES_MAX - 1])
def test_a_spool_that_is_smaller_than_a_batch(size: int) -> None:
    """Both sizes are named, and what would do."""
    said = too_small(size)

    assert said is not None
    assert f"a spool of {size} bytes" in said
    assert f"--spool-bytes-max {GROUP_BYTES_MAX}" in said
