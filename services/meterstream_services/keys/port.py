"""Where keys are kept, as those who make and check them see it.

::

    KeysError (Exception)
    ├── KeysUnavailable   the database cannot be read or written now; it may be in a moment
    ├── UnknownKey        there is no key of that id
    ├── DeadKey           it was revoked, has expired, or was replaced already
    └── TooManyKeys       as many live as there may be
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from meterstream_services.keys.model import Key


class KeysError(Exception):
    """Base of what can go wrong with keys; the message is one sentence."""


class KeysUnavailable(KeysError):
    """The keys cannot be read or written now."""


class UnknownKey(KeysError):
    """There is no key of that id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"there is no key {key_id[:40]!r}; `meterstream keys list` shows those there are"
        )


class DeadKey(KeysError):
    """A key that ended already cannot be rotated."""


class TooManyKeys(KeysError):
    """No further key can be made before others end."""


class Told(NamedTuple):
    """What is kept, as of one instant.

    ``generation`` counts changes: 0 where no key was ever made. ``changed`` are the keys that
    changed since the generation asked for. ``secret`` signs customer ids; empty before the first
    key.
    """

    generation: int
    changed: Sequence[Key]
    secret: bytes


class Keyring(Protocol):
    """Safe from several threads and processes; blocks. Everything raises `KeysUnavailable`.

    Implementations: `meterstream_services.keys.kept`, `.memory`.
    """

    def told(self, after: int = 0) -> Told:
        """All keys, revoked and expired ones too, or those that changed after a generation."""
        ...

    def add(self, key: Key) -> None:
        """Keep a new key. Raises `InvalidKey` or `TooManyKeys`."""
        ...

    def rotate(self, key_id: str, successor: Key, *, overlap: int) -> Key:
        """Put ``successor`` in a key's place, as `meterstream_services.keys.model.rotated` says.

        The new key, with what the old one allowed. Raises `UnknownKey`, `DeadKey`, `TooManyKeys`.
        """
        ...

    def revoke(self, key_id: str, at: int) -> Key:
        """End a key. A key that was revoked before stays as it was. Raises `UnknownKey`."""
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...
