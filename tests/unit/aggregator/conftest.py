"""Batches of tests are small: the ways of large batches are taken for them all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator import packing, plain_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def small_batches_as_large_ones() -> Iterator[None]:
    """Sessions by columns and series by numbers, however few they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_sessions, "ROWS_MIN", 0)
        patch.setattr(packing, "NUMBERED_MIN", 0)
        yield
