"""A key as it is kept: everything about it but its text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from meterstream_schemas.events import TENANT_BYTES_MAX
from meterstream_services.keys.principal import USUAL, Principal, Rate, Scope

TENANTS_MAX: Final = 1000
"""Most tenants that one key is bound to."""
LABEL_CHARACTERS_MAX: Final = 200
RATE_MAX: Final = 1_000_000_000
KEYS_MAX: Final = 100_000
"""Most keys that live at one time: every process keeps all of them in memory."""


class InvalidKey(ValueError):
    """A key cannot be made so; the message says what to pass instead."""


class KeyState(StrEnum):
    """Whether a key opens anything now."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Times are microseconds UTC; ``hash`` is SHA-256 of its text; ``tenants`` None: all.

    ``replaced_by`` is the id of the key that a rotation made; this one ends at ``expires``.
    """

    id: str
    hash: bytes
    scopes: frozenset[Scope]
    tenants: frozenset[str] | None
    created: int
    label: str = ""
    expires: int | None = None
    revoked: int | None = None
    replaced_by: str | None = None
    rate: Rate = USUAL

    def state(self, now: int) -> KeyState:
        """Whether it opens anything. Revoked wins over expired."""
        if self.revoked is not None:
            return KeyState.REVOKED
        if self.expires is not None and self.expires <= now:
            return KeyState.EXPIRED
        return KeyState.LIVE

    def principal(self) -> Principal:
        """What it allows."""
        return Principal(self.id, self.scopes, self.tenants, self.hash.hex()[:16], self.rate)


def checked(key: Key) -> Key:
    """The key itself. Raises `InvalidKey` for one that must not be."""
    if not key.scopes:
        raise InvalidKey("a key needs a scope: ingest, read or admin")
    if key.tenants is not None:
        _check_tenants(key.tenants, key.scopes)
    if len(key.label) > LABEL_CHARACTERS_MAX or not key.label.isprintable():
        raise InvalidKey(
            f"the label must be printable and have at most {LABEL_CHARACTERS_MAX} characters"
        )
    if key.expires is not None and key.expires <= key.created:
        raise InvalidKey("the key would expire before it is made; name a later time")
    for most in key.rate:
        if most is not None and not 1 <= most <= RATE_MAX:
            raise InvalidKey(f"a rate or size is from 1 to {RATE_MAX}, not {most}")
    return key


def _check_tenants(tenants: Iterable[str], scopes: frozenset[Scope]) -> None:
    known = list(tenants)
    if not 1 <= len(known) <= TENANTS_MAX:
        raise InvalidKey(
            f"a key is for 1 to {TENANTS_MAX} tenants, or for all of them, not for {len(known)}"
        )
    if Scope.ADMIN in scopes:
        raise InvalidKey(
            "an admin key reads and changes what is everybody's; make it for all (--all-tenants)"
        )
    for tenant in known:
        size = len(tenant.encode("utf-8", "surrogatepass"))
        if not 1 <= size <= TENANT_BYTES_MAX or "\0" in tenant or not _is_text(tenant):
            raise InvalidKey(
                f"{tenant[:40]!r} is no tenant: it must have 1 to {TENANT_BYTES_MAX} bytes of UTF-8"
            )


def _is_text(tenant: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in tenant)


def rotated(key: Key, successor: Key, *, overlap: int) -> tuple[Key, Key]:
    """A key and the one that takes its place.

    The old one ends ``overlap`` microseconds after the new one is made, or earlier where it would
    have anyway. The new one allows the same, and lives as long as the old one was made for.
    """
    ends = successor.created + max(overlap, 0)
    lasts = None if key.expires is None else key.expires - key.created
    old = replace(
        key,
        expires=ends if key.expires is None else min(ends, key.expires),
        replaced_by=successor.id,
    )
    new = replace(
        successor,
        scopes=key.scopes,
        tenants=key.tenants,
        label=key.label,
        rate=key.rate,
        expires=None if lasts is None else successor.created + lasts,
    )
    return old, new
