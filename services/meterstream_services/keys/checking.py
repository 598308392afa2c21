"""Which principal a credential is: asked for every request, answered from memory.

The process holds all keys (`KEYS_MAX` bounds them) and looks for changes at most once a second, so
that no credential, known or made up, ever costs a question to the database. What somebody changes
elsewhere holds here within two seconds::

    age of what is known      a request
    below FRESH_SECONDS       is judged by it
    below STALE_SECONDS       is judged by it, and a look for changes begins beside
    beyond                    waits for that look, until it is WAIT_SECONDS old
    ... which fails           the database is away: keys that are known go on, nobody waits,
                              unknown ones are answered "not now" in place of "no"
    beyond KEPT_SECONDS       "not now" to everybody

`KEPT_SECONDS` is five minutes: longer than a failover or a restart of the database, and the longest
that a key which is revoked meanwhile could go on. Expiry needs no database, and is exact.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from enum import StrEnum
from typing import Final, NamedTuple

from meterstream_services.keys.model import Key, KeyState
from meterstream_services.keys.port import Keyring, KeysError
from meterstream_services.keys.principal import ANYBODY, Principal, Scope
from meterstream_services.keys.signing import Signer
from meterstream_services.keys.text import hash_of, id_of

FRESH_SECONDS: Final = 1.0
STALE_SECONDS: Final = 1.5
WAIT_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 1.0
"""How long a failed look is not repeated."""
KEPT_SECONDS: Final = 300.0
CREDENTIAL_CHARACTERS_MAX: Final = 512
"""Longer ones are nobody's, and are not looked at."""

_NEVER: Final = float("-inf")
_NO_HASH: Final = bytes(32)
_REMEMBERED: Final = 30 * 86_400 * 1_000_000
"""How long a key that ended is told apart from one that never was."""
_log: Final = logging.getLogger("meterstream.keys")


class Refusal(StrEnum):
    """Why a credential is nobody's."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"
    NONE_MADE = "none_made"
    """There are no keys, and the service can be reached from other machines."""
    AWAY = "away"
    """The keys cannot be read; ask again."""


class _Known(NamedTuple):
    key: Key
    principal: Principal


class Keys:
    """The keys of one process. For any thread, and for any event loop.

    ``anybody``: where no key was ever made, everybody may do everything; for services that only
    this machine reaches. Once this process knew a key it asks for keys for good, even if their
    file should vanish. ``now`` is the wall clock in microseconds UTC, ``clock`` one in seconds
    that never goes back.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        anybody: bool,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keyring: Final = keyring
        self._anybody: Final = anybody
        self._now: Final = now
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._reader: Final = ThreadPoolExecutor(1, thread_name_prefix="meterstream-keys")
        self._reading: Future[None] | None = None
        self._known: dict[str, _Known] = {}
        self._generation = 0
        self._secret = b""
        self._signer = Signer(b"")
        self._read_at = _NEVER
        self._failed_at = _NEVER
        self._looked_at = _NEVER
        self._demanded = False

    async def ready(self) -> None:
        """Return once what is known is new enough to judge by, or cannot be had now."""
        age = self._clock() - self._read_at
        if age < FRESH_SECONDS:
            return
        reading = self._look()
        if reading is None or age < STALE_SECONDS or self._is_away:
            return
        left = self._looked_at + WAIT_SECONDS - self._clock()
        if left > 0:
            await asyncio.wait([asyncio.wrap_future(reading)], timeout=left)

    def refresh(self) -> None:
        """What `ready` does, for those who may block."""
        if self._clock() - self._read_at >= FRESH_SECONDS:
            reading = self._look()
            if reading is not None:
                wait([reading], timeout=WAIT_SECONDS)

    def principal(self, credential: str | None) -> Principal | None:
        """Who presents this credential; None for nobody. Blocks for as long as a look takes."""
        self.refresh()
        found = self.judge(credential)
        return found if isinstance(found, Principal) else None

    def judge(self, credential: str | None) -> Principal | Refusal:
        """Who presents this credential, by what is known. Does not block; see `ready`."""
        age = self._clock() - self._read_at
        if age > KEPT_SECONDS:
            return Refusal.AWAY
        if self._generation == 0:
            opens = self._anybody and not self._demanded
            return _anybody(credential) if opens else Refusal.NONE_MADE
        if not credential:
            return Refusal.MISSING
        if len(credential) > CREDENTIAL_CHARACTERS_MAX:
            return Refusal.UNKNOWN
        known = self._known.get(id_of(credential) or "")
        # Something is compared in any case, so that time does not tell which ids there are.
        same = hmac.compare_digest(
            known.key.hash if known is not None else _NO_HASH, hash_of(credential)
        )
        if known is None or not same:
            return Refusal.AWAY if age >= STALE_SECONDS else Refusal.UNKNOWN
        return self._living(known)

    async def refusal(self, principal: Principal) -> Refusal | None:
        """Why somebody who was let in may go on no longer; None: may. Waits as `ready` does.

        For requests that last: they are judged when they begin, and keys end meanwhile.
        """
        await self.ready()
        if self._clock() - self._read_at > KEPT_SECONDS:
            return Refusal.AWAY
        if principal.key is None:
            return None if self._generation == 0 else Refusal.MISSING
        known = self._known.get(principal.key)
        living = Refusal.UNKNOWN if known is None else self._living(known)
        return None if isinstance(living, Principal) else living

    @property
    def none_made(self) -> bool:
        """Whether no key was ever made, as far as is known; everybody may do everything then."""
        return self._read_at != _NEVER and self._anybody and not self._demanded

    @property
    def _is_away(self) -> bool:
        return self._failed_at > self._read_at

    def sign(self, tenant: str, principal: Principal) -> str:
        """A customer id that speaks for a tenant as this key does; see `keys.signing`.

        Where no keys were made it is the tenant as it is.
        """
        return tenant if principal.key is None else self._signer.sign(tenant, principal.key)

    def signed(self, text: str) -> Principal | None:
        """Who may send events by a customer id of `sign`: for one tenant, as long as its key lives.

        None for every other text, also where no keys were made and ids are plain.
        """
        if self._generation == 0 or self._clock() - self._read_at > KEPT_SECONDS:
            return None
        found = self._signer.verify(text)
        known = None if found is None else self._known.get(found[1])
        if found is None or known is None:
            return None
        living = self._living(known)
        if not isinstance(living, Principal) or not living.may(Scope.INGEST):
            return None
        if not living.may_use(found[0]):
            return None
        scopes, tenants = frozenset({Scope.INGEST}), frozenset({found[0]})
        return Principal(living.key, scopes, tenants, living.digest, living.rate)

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._keyring.close()

    def _living(self, known: _Known) -> Principal | Refusal:
        match known.key.state(self._now()):
            case KeyState.LIVE:
                return known.principal
            case KeyState.EXPIRED:
                return Refusal.EXPIRED
            case KeyState.REVOKED:
                return Refusal.REVOKED

    def _look(self) -> Future[None] | None:
        """The look for changes that is under way, a new one, or None so soon after a failure."""
        with self._lock:
            if self._reading is not None and not self._reading.done():
                return self._reading
            now = self._clock()
            if now - self._failed_at < RETRY_SECONDS or now - self._read_at < FRESH_SECONDS:
                return None
            self._looked_at = now
            self._reading = self._reader.submit(self._read)
            return self._reading

    def _read(self) -> None:
        begun, kept = self._clock(), self._known
        try:
            told = self._keyring.told(self._generation)
            secret = self._secret
            if told.generation < self._generation or (secret and told.secret != secret):
                # Another database stands in its place.
                told, kept = self._keyring.told(), {}
        except KeysError as problem:
            _log.warning("keys cannot be read, those known go on for a while: %s", problem)
            self._failed_at = self._clock()
            return
        except Exception:  # noqa: BLE001 - it must neither open the door nor stop the looking
            _log.exception("keys cannot be read: a fault in meterstream itself, please report it")
            self._failed_at = self._clock()
            return
        long_ago = self._now() - _REMEMBERED
        for key in told.changed:
            ended = key.expires if key.revoked is None else key.revoked
            if ended is not None and ended < long_ago:
                kept.pop(key.id, None)
            else:
                kept[key.id] = _Known(key, key.principal())
        self._known, self._secret = kept, told.secret
        self._signer = Signer(told.secret)
        self._generation = told.generation
        self._demanded = self._demanded or told.generation > 0
        self._read_at = begun


def _anybody(credential: str | None) -> Principal:
    if not credential:
        return ANYBODY
    digest = hash_of(credential[:CREDENTIAL_CHARACTERS_MAX]).hex()[:16]
    return Principal(None, ANYBODY.scopes, None, digest)
