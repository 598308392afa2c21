"""A relay that is closed leaves nothing running, whatever it still had to send."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from meterstream_aggregator.store.port import Store
from meterstream_consumers.relay import Relay

_NOBODY = "127.0.0.1:1"


def test_a_closed_relay_runs_no_more() -> None:
    """Its client's threads end, though a message was under way; nobody is warned of that."""
    warned: list[str] = []
    before = _threads()
    relay = Relay(_NOBODY, cast("Store", None), sent=lambda _: None, warn=warned.append)
    relay.post("topic", 0, b"value", lambda _: None)
    assert _threads() > before

    relay.close()

    assert _threads() == before
    assert warned == []


def _threads() -> int:
    """Threads of this process, those of C libraries too."""
    return len(list(Path("/proc/self/task").iterdir()))
