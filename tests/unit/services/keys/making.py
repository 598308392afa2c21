"""Keys for tests: made in memory, with their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterstream_services.keys.checking import Keys
from meterstream_services.keys.memory import MemoryKeyring
from meterstream_services.keys.model import Key
from meterstream_services.keys.port import KeysUnavailable, Told
from meterstream_services.keys.principal import Scope
from meterstream_services.keys.text import hash_of, new_key

if TYPE_CHECKING:
    from collections.abc import Iterable

SECOND = 1_000_000


class Clock:
    """A clock that is set by hand: ``seconds`` for both kinds."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds

    def micros(self) -> int:
        """The same as wall clock."""
        return int(self.seconds * SECOND)


class Ring(MemoryKeyring):
    """A keyring that can be away, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.asked = 0

    def told(self, after: int = 0) -> Told:
        """See `Keyring`."""
        self.asked += 1
        if self.is_away:
            raise KeysUnavailable("the database is away")
        return super().told(after)


class Keyed:
    """A keyring, the keys checked by it, and a clock."""

    def __init__(self, *, anybody: bool = True) -> None:
        self.ring = Ring()
        self.clock = Clock()
        self.keys = Keys(self.ring, anybody=anybody, now=self.clock.micros, clock=self.clock)

    def make(self, *scopes: str, tenants: Iterable[str] | None = None, **facts: Any) -> str:  # noqa: ANN401 - a key's own
        """Make a key; its text."""
        made = new_key()
        self.ring.add(
            Key(
                id=made.id,
                hash=hash_of(made.text),
                scopes=frozenset(map(Scope, scopes)),
                tenants=None if tenants is None else frozenset(tenants),
                created=self.clock.micros(),
                **facts,
            )
        )
        return made.text
