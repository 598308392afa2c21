"""Keys in memory, for tests; passes the same suite as the kept ones."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace

from meterstream_services.keys.model import KEYS_MAX, Key, KeyState, checked, rotated
from meterstream_services.keys.port import DeadKey, Told, TooManyKeys, UnknownKey

SECRET_BYTES = 32


class MemoryKeyring:
    """See `meterstream_services.keys.port.Keyring`."""

    def __init__(self, *, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[int, Key]] = {}
        self._generation = 0
        self._secret = b""

    def told(self, after: int = 0) -> Told:
        """See `Keyring`."""
        with self._lock:
            changed = [key for generation, key in self._keys.values() if generation > after]
            return Told(self._generation, changed, self._secret)

    def add(self, key: Key) -> None:
        """See `Keyring`."""
        with self._lock:
            self._put(checked(key))

    def rotate(self, key_id: str, successor: Key, *, overlap: int) -> Key:
        """See `Keyring`."""
        with self._lock:
            found = self._known(key_id)
            if found.state(successor.created) is not KeyState.LIVE or found.replaced_by:
                raise dead(found, successor.created)
            old, new = rotated(found, successor, overlap=overlap)
            self._put(checked(new))
            self._change(old)
            return new

    def revoke(self, key_id: str, at: int) -> Key:
        """See `Keyring`."""
        with self._lock:
            found = self._known(key_id)
            if found.revoked is None:
                found = replace(found, revoked=at)
                self._change(found)
            return found

    def close(self) -> None:
        """See `Keyring`."""

    def _known(self, key_id: str) -> Key:
        if key_id not in self._keys:
            raise UnknownKey(key_id)
        return self._keys[key_id][1]

    def _put(self, key: Key) -> None:
        live = [k for _, k in self._keys.values() if k.state(key.created) is KeyState.LIVE]
        if len(live) >= self._keys_max:
            raise too_many(self._keys_max)
        self._secret = self._secret or secrets.token_bytes(SECRET_BYTES)
        self._change(key)

    def _change(self, key: Key) -> None:
        self._generation += 1
        self._keys[key.id] = (self._generation, key)


def dead(key: Key, now: int) -> DeadKey:
    """Why a key cannot be rotated."""
    if key.replaced_by:
        return DeadKey(f"{key.id} was replaced by {key.replaced_by}; rotate that one")
    return DeadKey(f"{key.id} is {key.state(now)}; make a new key")


def too_many(most: int) -> TooManyKeys:
    """Why a key cannot be made."""
    return TooManyKeys(f"{most} keys live, as many as there may be; revoke those not needed")
