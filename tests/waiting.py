"""Waiting for a fact instead of for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def eventually(fact: Callable[[], bool], *, timeout_seconds: float = 30) -> None:
    """Return as soon as ``fact`` holds; fail when it has not within the time."""
    deadline = time.monotonic() + timeout_seconds
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout_seconds} s")
        time.sleep(0.02)
