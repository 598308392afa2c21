"""Leaving a group that does not answer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from meterstream_consumers import source as module
from meterstream_consumers.source import Source
from tests.unit.consumers.test_session import SETTINGS
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class _Stuck:
    """A client whose leaving does not end before it is let go."""

    def __init__(self, *_: object) -> None:
        self.told: dict[str, Callable[..., None]] = {}
        self.leaving = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def subscribe(self, _topics: list[str], **told: Callable[..., None]) -> None:
        """Keep whom to tell."""
        self.told = told

    def incremental_unassign(self, _partitions: object) -> None:
        """As asked."""

    def close(self) -> None:
        """Leave, some time; what was ours is taken away then."""
        self.leaving.set()
        self.may_end.wait(60)
        self.told["on_revoke"](self, [])
        self.ended.set()


class _Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def take(self, *_: object) -> int | None:
        """A partition came."""
        self.told.append("take")
        return None

    def let_go(self, *_: object, **__: object) -> None:
        """Partitions went."""
        self.told.append("let go")


def test_what_is_abandoned_leaves_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it, and its owner, who has gone on, hears nothing of its end."""
    monkeypatch.setattr(module, "Consumer", _Stuck)
    owner = _Owner()
    source = Source(SETTINGS, owner, lambda _: None)
    client: Any = source._consumer

    source.abandon()

    eventually(client.leaving.is_set)
    assert not client.ended.is_set()
    client.may_end.set()
    eventually(client.ended.is_set)
    assert owner.told == []
