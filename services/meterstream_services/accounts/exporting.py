"""A directory as rows of an import: all accounts, then who belonged to them, then the merges.

Read page by page, so memory stays bounded. What is changed meanwhile may be in it or not; whoever
needs it to the last change follows the feed from a cursor that was taken before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from meterstream_aggregator.civil import format_time
from meterstream_services.accounts.history import History
from meterstream_services.accounts.model import Account, AccountStatus
from meterstream_services.accounts.port import Directory
from meterstream_services.zones import find_zone

_PAGE: Final = 1000


def export_rows(directory: Directory) -> Iterator[dict[str, Any]]:
    """Rows as `meterstream_services.accounts.imports` takes them, from JSON."""
    for account in _all(directory):
        yield _account_row(account, directory.external_ids(account.id))
    for account in _all(directory):
        yield from _tenant_rows(directory, account.id)
    for account in _all(directory):
        if account.merged_into is not None and account.merged_from is not None:
            yield {
                "account": account.id,
                "merged_into": account.merged_into,
                "from": _instant(account.merged_from),
            }


def _all(directory: Directory) -> Iterator[Account]:
    after: str | None = None
    while page := directory.accounts(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _account_row(account: Account, external: list[tuple[str, str]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "account": account.id,
        "name": account.name,
        "zone": account.zone,
        "billing_anchor": account.billing_anchor,
    }
    if account.status is not AccountStatus.MERGED:
        row["status"] = account.status.value
    if account.labels:
        row["labels"] = dict(account.labels)
    if external:
        ids: dict[str, list[str]] = {}
        for system, external_id in external:
            ids.setdefault(system, []).append(external_id)
        row["external_ids"] = ids
    return row


def _tenant_rows(directory: Directory, account: str) -> Iterator[dict[str, Any]]:
    tenants = directory.tenants_of(account)
    for at in range(0, len(tenants), _PAGE):
        some = tenants[at : at + _PAGE]
        histories = directory.histories(some)
        for tenant in some:
            history = histories.get(tenant, ())
            for index, (start, named) in enumerate(history):
                if _teller(history, index) == account:
                    yield {"account": named, "tenant": tenant, "from": _instant(start)}


def _teller(history: History, index: int) -> str | None:
    """With which account's rows an entry goes: its own, else of the nearest one before or after."""
    around = [*history[index::-1], *history[index + 1 :]]
    return next((account for _, account in around if account is not None), None)


def _instant(time: int) -> str:
    return format_time(time, find_zone("UTC"))
