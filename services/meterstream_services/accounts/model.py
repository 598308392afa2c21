"""Accounts and the changes that can be made to the directory: plain values, checked at the door."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meterstream_aggregator.civil import InvalidQuestion
from meterstream_schemas.checks import check_text
from meterstream_schemas.errors import InvalidEvent
from meterstream_schemas.events import TENANT_BYTES_MAX
from meterstream_services.accounts.history import History
from meterstream_services.zones import find_zone

ACCOUNT_BYTES_MAX: Final = 128
NAME_BYTES_MAX: Final = 256
SYSTEM_BYTES_MAX: Final = 64
EXTERNAL_ID_BYTES_MAX: Final = 256
LABELS_MAX: Final = 32
LABEL_NAME_BYTES_MAX: Final = 64
LABEL_VALUE_BYTES_MAX: Final = 256

_TIME_MAX: Final = 1 << 60


class AccountStatus(StrEnum):
    """Whether an account is in use. It decides nothing about counting."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    MERGED = "merged"
    """Another account took its place; only a merge says so."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. ``zone`` and ``billing_anchor`` (day of the month) say how its months run.

    ``merged_into`` took its place from ``merged_from`` on, in microseconds UTC.
    """

    id: str
    name: str = ""
    zone: str = "UTC"
    billing_anchor: int = 1
    labels: tuple[tuple[str, str], ...] = ()
    status: AccountStatus = AccountStatus.ACTIVE
    merged_into: str | None = None
    merged_from: int | None = None


@dataclass(frozen=True, slots=True)
class SetAccount:
    """Make an account, or change the fields that are not None."""

    id: str
    name: str | None = None
    zone: str | None = None
    billing_anchor: int | None = None
    labels: tuple[tuple[str, str], ...] | None = None
    status: AccountStatus | None = None


@dataclass(frozen=True, slots=True)
class RemoveAccount:
    """Forget an account that no tenant ever belonged to."""

    id: str


@dataclass(frozen=True, slots=True)
class Assign:
    """A tenant belongs to ``account`` (None: to none) from ``start`` until its next known change.

    ``start`` None means from the beginning of time, which is accepted only while nothing else is
    known of the tenant: a mapping in force is never overwritten without saying from when.
    """

    tenant: str
    account: str | None
    start: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """As `Assign` from ``start``, but only if the tenant belongs to ``source`` then.

    ``source`` None: wherever it belongs.
    """

    tenant: str
    account: str
    start: int
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """``into`` takes the place of ``account`` from ``start`` on, for all tenants that it has then.

    What was before stays, and the account stays to be found; nothing more is mapped to it.
    """

    account: str
    into: str
    start: int


@dataclass(frozen=True, slots=True)
class Unmerge:
    """Undo a merge: the account is active, and has the tenants again that moved at its instant."""

    account: str


@dataclass(frozen=True, slots=True)
class SetExternalId:
    """``external_id`` in ``system`` (a customer's id in a billing system) means ``account``.

    None forgets it. An id of a system means one account; an account may have any number of them.
    """

    system: str
    external_id: str
    account: str | None


Change = SetAccount | RemoveAccount | Assign | Move | Merge | Unmerge | SetExternalId


class Kind(StrEnum):
    """What a record of a change is about."""

    ACCOUNT = "account"
    TENANT = "tenant"
    EXTERNAL_ID = "external_id"


Content = Account | History | str | None
"""What a record tells of: an account, a tenant's history, the account of an external id."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One thing that was changed: whole, as it was and as it is. None and () stand for nothing.

    ``id`` is the account's, the tenant, or ``system/external_id``. ``sequence`` numbers the changes
    of a directory in the order in which they were made; 0 and time 0 where nothing was kept.
    """

    kind: Kind
    id: str
    was: Content
    now: Content
    sequence: int = 0
    time: int = 0


def tag_of(content: Account | History | None) -> str:
    """Sixteen hexadecimal digits that differ when the content does; "0" for nothing."""
    if not content:
        return "0"
    if isinstance(content, Account):
        told: object = [
            content.id,
            content.name,
            content.zone,
            content.billing_anchor,
            content.labels,
            content.status,
        ]
        if content.merged_into is not None:
            told = [told, content.merged_into, content.merged_from]
    else:
        told = content
    text = json.dumps(told, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def flaws_of(change: Change) -> Iterator[tuple[str, str, str]]:
    """(field, value, reason) of everything wrong with a change taken by itself."""
    match change:
        case SetAccount():
            yield from _text_flaws("account", change.id, ACCOUNT_BYTES_MAX)
            if "/" in change.id or change.id in {".", ".."}:
                yield (
                    "account",
                    change.id,
                    "cannot stand in a URL; leave out / and do not use dots alone",
                )
            if change.name:
                yield from _text_flaws("name", change.name, NAME_BYTES_MAX)
            yield from _zone_flaws(change.zone)
            if change.billing_anchor is not None and not 1 <= change.billing_anchor <= 31:
                yield (
                    "billing_anchor",
                    str(change.billing_anchor),
                    "is no day of a month; write 1 to 31",
                )
            yield from _label_flaws(dict(change.labels or ()))
        case RemoveAccount(account) | Unmerge(account):
            yield from _text_flaws("account", account, ACCOUNT_BYTES_MAX)
        case Assign() | Move():
            yield from _text_flaws("tenant", change.tenant, TENANT_BYTES_MAX)
            if change.account is not None:
                yield from _text_flaws("account", change.account, ACCOUNT_BYTES_MAX)
            yield from _time_flaws(change.start)
        case Merge():
            yield from _text_flaws("account", change.account, ACCOUNT_BYTES_MAX)
            yield from _text_flaws("into", change.into, ACCOUNT_BYTES_MAX)
            yield from _time_flaws(change.start)
        case SetExternalId():
            yield from _text_flaws("system", change.system, SYSTEM_BYTES_MAX)
            if "/" in change.system:
                yield "system", change.system, "has a /; leave it out"
            yield from _text_flaws("external_id", change.external_id, EXTERNAL_ID_BYTES_MAX)
            if change.account is not None:
                yield from _text_flaws("account", change.account, ACCOUNT_BYTES_MAX)


def _time_flaws(start: int | None) -> Iterator[tuple[str, str, str]]:
    if start is not None and not -_TIME_MAX < start < _TIME_MAX:
        yield "from", str(start), "is no time of the next few millennia; write an instant"


def _text_flaws(field: str, value: str, bytes_max: int) -> Iterator[tuple[str, str, str]]:
    try:
        check_text(value, field=field, bytes_max=bytes_max)
    except InvalidEvent as problem:
        yield field, value, problem.problem


def _zone_flaws(zone: str | None) -> Iterator[tuple[str, str, str]]:
    if zone is None:
        return
    try:
        find_zone(zone)
    except InvalidQuestion as problem:
        yield "zone", zone, problem.problem


def _label_flaws(labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if len(labels) > LABELS_MAX:
        yield "labels", str(len(labels)), f"are too many; at most {LABELS_MAX} are kept"
    for name, value in labels.items():
        yield from _text_flaws("labels", name, LABEL_NAME_BYTES_MAX)
        if value:
            yield from _text_flaws(f"labels.{name[:64]}", value, LABEL_VALUE_BYTES_MAX)
