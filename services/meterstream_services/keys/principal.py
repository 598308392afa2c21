"""Who asks: what an API key allows, as the routes see it. Plain values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

ALL: Final = "*"


class Scope(StrEnum):
    """What a key is for."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"
    """Accounts, keys, everybody's progress; also everything that the others allow."""


class Forbidden(Exception):
    """The principal may not do this. ``reason`` is for its eyes; becomes 403."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rate(NamedTuple):
    """How much a key may send; None: what is usual, and of bytes no limit but everybody's."""

    requests_per_second: int | None = None
    events_per_second: int | None = None
    bytes_per_second: int | None = None
    body_bytes_max: int | None = None
    """Of one request's body, as it is sent."""

    @property
    def limits_bytes(self) -> bool:
        """Whether the key's bytes are counted."""
        return self.bytes_per_second is not None or self.body_bytes_max is not None


USUAL: Final = Rate()
"""See `meterstream_services.http.rates` for what that is."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and for whom it may. ``tenants`` None means all.

    ``key`` is the key's id, None where no keys were made and everybody may do everything.
    ``digest`` is the first 16 hexadecimal digits of the SHA-256 of the credential that was
    presented, empty without one: CLIMeter's tenant where the key names none (decision 23).
    A frozenset of no tenants means none, not all.
    """

    key: str | None
    scopes: frozenset[Scope]
    tenants: frozenset[str] | None
    digest: str = ""
    rate: Rate = USUAL

    def may(self, scope: Scope) -> bool:
        """Whether the principal has this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_use(self, tenant: str) -> bool:
        """Whether the principal may speak for, or ask about, this tenant."""
        return self.tenants is None or tenant in self.tenants

    @property
    def sole_tenant(self) -> str | None:
        """The one tenant that the key is bound to; None where it is none or several."""
        if self.tenants is None or len(self.tenants) != 1:
            return None
        return next(iter(self.tenants))

    @property
    def owner(self) -> str:
        """In whose name documents of clients are kept: equal for keys of the same tenants."""
        if self.tenants is None:
            return ALL
        if self.sole_tenant is not None:
            return f"tenant:{self.sole_tenant}"
        text = "\0".join(sorted(self.tenants))
        return f"tenants:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


ANYBODY: Final = Principal(None, frozenset(Scope), None)
"""Everybody, where no keys were made."""
NOBODY: Final = Principal(None, frozenset(), frozenset())
"""Who showed no credential where keys were made, on the few paths that let such requests in."""
