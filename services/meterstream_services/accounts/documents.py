"""Accounts and histories as JSON, and back: for the API, the feed, other services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from meterstream_aggregator.civil import InvalidQuestion, format_time, parse_time
from meterstream_services.accounts.history import BEGINNING, History
from meterstream_services.accounts.model import (
    Account,
    AccountStatus,
    Content,
    SetAccount,
    flaws_of,
)
from meterstream_services.zones import find_zone


class BadDocument(Exception):
    """JSON that is no account or history; the message says what is wrong."""


def account_json(account: Account) -> dict[str, Any]:
    """An account as it goes out."""
    document: dict[str, Any] = {
        "id": account.id,
        "name": account.name,
        "zone": account.zone,
        "billing_anchor": account.billing_anchor,
        "labels": dict(account.labels),
        "status": account.status.value,
    }
    if account.merged_into is not None:
        document["merged_into"] = account.merged_into
        document["merged_from"] = since_json(account.merged_from)
    return document


def spells_json(history: History) -> list[dict[str, Any]]:
    """A history as it goes out: spells, each with its end."""
    ends: list[int | None] = [*(start for start, _ in history[1:]), None]
    return [
        {"account": account, "from": since_json(start), "to": since_json(end)}
        for (start, account), end in zip(history, ends, strict=False)
    ]


def content_json(content: Content) -> object:
    """What a record tells of, as it goes out."""
    if isinstance(content, Account):
        return account_json(content)
    return spells_json(content) if isinstance(content, tuple) else content


def since_json(time: int | None) -> str | None:
    """A boundary of a spell; the beginning of all time, and no end, are null."""
    return None if time is None or time <= BEGINNING else format_time(time, find_zone("UTC"))


def parse_account(document: object) -> Account:
    """The account that JSON tells of. Unknown fields are left alone. Raises `BadDocument`."""
    given = _object(document, "an account")
    try:
        labels = tuple(sorted(_object(given.get("labels") or {}, "labels").items()))
        account = Account(
            id=given["id"],
            name=given.get("name") or "",
            zone=given.get("zone") or "UTC",
            billing_anchor=given.get("billing_anchor") or 1,
            labels=labels,
            status=AccountStatus(given.get("status") or "active"),
            merged_into=given.get("merged_into"),
            merged_from=_time(given.get("merged_from")) if given.get("merged_into") else None,
        )
        texts = [account.id, account.name, account.zone, *(t for pair in labels for t in pair)]
        if not all(isinstance(text, str) for text in texts) or type(account.billing_anchor) is bool:
            raise BadDocument("an account whose fields are no texts")
        said = SetAccount(
            account.id, account.name, account.zone, account.billing_anchor, account.labels
        )
        flaws = list(flaws_of(said))
    except (KeyError, TypeError, ValueError) as problem:
        raise BadDocument(f"is no account: {problem}") from None
    if flaws:
        raise BadDocument(f"an account whose {flaws[0][0]} {flaws[0][1][:64]!r} {flaws[0][2]}")
    return account


def parse_spells(document: object) -> History:
    """The history that a list of spells tells of. Raises `BadDocument`."""
    if not isinstance(document, list):
        raise BadDocument("a history is a list of {account, from}")
    found: list[tuple[int, str | None]] = []
    spell: object
    for spell in document:
        given = _object(spell, "a spell")
        account = given.get("account")
        if account is not None and not isinstance(account, str):
            raise BadDocument("the account of a spell is a text or null")
        found.append((_time(given.get("from")), account))
    if [start for start, _ in found] != sorted({start for start, _ in found}):
        raise BadDocument("the spells of a history are not in order")
    return tuple(found)


def texts(document: object) -> Sequence[str]:
    """A list of texts. Raises `BadDocument`."""
    if not isinstance(document, list) or not all(isinstance(each, str) for each in document):
        raise BadDocument("a list of texts is none")
    return document


def _object(document: object, what: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise BadDocument(f"{what} is an object")
    return document


def _time(text: object) -> int:
    if text is None:
        return BEGINNING
    try:
        return parse_time(str(text), UTC)
    except InvalidQuestion as problem:
        raise BadDocument(f"{str(text)[:64]!r} {problem.problem}") from None
