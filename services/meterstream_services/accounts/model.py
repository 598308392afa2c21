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
LABELS_MAX: Final = 32
LABEL_NAME_BYTES_MAX: Final = 64
LABEL_VALUE_BYTES_MAX: Final = 256


class AccountStatus(StrEnum):
    """Whether an account is in use. It decides nothing about counting."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays. ``zone`` and ``billing_anchor`` (day of the month) say how its months run."""

    id: str
    name: str = ""
    zone: str = "UTC"
    billing_anchor: int = 1
    labels: tuple[tuple[str, str], ...] = ()
    status: AccountStatus = AccountStatus.ACTIVE


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


Change = SetAccount | RemoveAccount | Assign


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
        case RemoveAccount():
            yield from _text_flaws("account", change.id, ACCOUNT_BYTES_MAX)
        case Assign():
            yield from _text_flaws("tenant", change.tenant, TENANT_BYTES_MAX)
            if change.account is not None:
                yield from _text_flaws("account", change.account, ACCOUNT_BYTES_MAX)


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
