"""Rows of an import to changes: each by itself, and none against another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, NamedTuple

from meterstream_aggregator.civil import InvalidQuestion, parse_time
from meterstream_services.accounts.errors import InvalidChanges
from meterstream_services.accounts.model import (
    AccountStatus,
    Assign,
    Change,
    Merge,
    SetAccount,
    SetExternalId,
)

ROWS_MAX: Final = 1_000_000
BAD_ROWS_MAX: Final = 1000
"""Bad rows that are listed; reading stops there."""
FIELDS: Final = (
    "account",
    "name",
    "zone",
    "billing_anchor",
    "status",
    "tenant",
    "from",
    "merged_into",
)


class BadRow(NamedTuple):
    """What is wrong in one row (from 1; 0 for the file as a whole)."""

    row: int
    column: str
    value: str
    reason: str


class InvalidImport(Exception):
    """A file of which nothing was imported. ``bad_rows`` has at least one entry."""

    def __init__(self, bad_rows: Sequence[BadRow]) -> None:
        first = bad_rows[0]
        place = f"row {first.row}, {first.column}: " if first.row else ""
        more = f" (and {len(bad_rows) - 1} more)" if len(bad_rows) > 1 else ""
        super().__init__(f"{place}{first.value[:64]!r} {first.reason}{more}")
        self.bad_rows = tuple(bad_rows)


class Import(NamedTuple):
    """The changes of a file, and for each the row that it comes from."""

    rows: int
    changes: list[Change]
    row_of_change: list[int]

    def invalid(self, problem: InvalidChanges) -> InvalidImport:
        """What is wrong with changes, by the rows that they come from."""
        return InvalidImport(
            [
                BadRow(self.row_of_change[flaw.place], flaw.field, flaw.value, flaw.reason)
                for flaw in problem.flaws
            ]
        )


def whole_file(value: str, reason: str) -> InvalidImport:
    """A file that is wrong as a whole."""
    return InvalidImport([BadRow(0, "file", value, reason)])


class Flawed(NamedTuple):
    """What is wrong in a row."""

    column: str
    value: str
    reason: str


def read_rows(rows: Iterable[tuple[int, Any]]) -> Import:
    """The changes in numbered rows: objects, or what is wrong with them. Raises `InvalidImport`."""
    reading = _Reading()
    count = 0
    for row, given in rows:
        count = row
        if count > ROWS_MAX:
            raise whole_file(f"more than {ROWS_MAX} rows", "are too many; split the file")
        flaws = [given] if isinstance(given, Flawed) else reading.take(row, given)
        reading.bad_rows.extend(BadRow(row, *flaw) for flaw in flaws)
        if len(reading.bad_rows) >= BAD_ROWS_MAX:
            break
    if reading.bad_rows:
        raise InvalidImport(reading.bad_rows)
    return reading.all_of(count)


class _Reading:
    """Turns rows to changes, and sees to it that rows do not contradict each other."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.row_of_change: list[int] = []
        self.bad_rows: list[BadRow] = []
        self._said: dict[tuple[str, str], tuple[int, object]] = {}
        self._accounts: dict[str, SetAccount] = {}
        self._merges: list[tuple[int, Merge]] = []

    def all_of(self, rows: int) -> Import:
        """Everything that was taken; the merges last."""
        for row, merge in self._merges:
            self._add(row, merge)
        self._merges = []
        return Import(rows, self.changes, self.row_of_change)

    def take(self, row: int, given: object) -> list[Flawed]:
        """Add a row's changes; what is wrong with it otherwise."""
        if not isinstance(given, Mapping):
            return [Flawed("", type(given).__name__, "is not an object; write {...}")]
        unknown = [name for name in given if name not in (*FIELDS, "labels", "external_ids")]
        if unknown:
            return [Flawed(str(unknown[0])[:64], "", "is no column here")]
        fields = dict[str, str]()
        for name in FIELDS:
            value = given.get(name)
            if name == "billing_anchor" and isinstance(value, int) and type(value) is not bool:
                value = str(value)
            if value is not None and not isinstance(value, str):
                return [Flawed(name, str(value)[:64], "is not text; write it in quotes")]
            fields[name] = (value or "").strip()
        labels = given.get("labels")
        if labels is not None and not _is_labels(labels):
            return [
                Flawed("labels", str(labels)[:64], 'are not an object of texts: {"plan": "pro"}')
            ]
        if not fields["account"] and not fields["tenant"]:
            return [Flawed("account", "", "is empty; name an account, a tenant or both")]
        return [
            *self._take_account(row, fields, labels),
            *self._take_external(row, fields["account"], given.get("external_ids")),
            *(self._take_merge if fields["merged_into"] else self._take_tenant)(row, fields),
        ]

    def _take_external(self, row: int, account: str, given: object) -> Iterator[Flawed]:
        if given is None:
            return
        if not isinstance(given, Mapping):
            yield Flawed("external_ids", str(given)[:64], 'is no object: {"stripe": "cus_1"}')
            return
        if given and not account:
            yield Flawed("external_ids", str(given)[:64], "are of no account; name it")
            return
        for system, found in given.items():
            ids: list[object] = found if isinstance(found, list) else [found]
            for each in ids:
                if not isinstance(system, str) or not isinstance(each, str):
                    yield Flawed("external_ids", str(each)[:64], "is not text; write it in quotes")
                    return
                key = (f"\x1e{system}", each)
                first, said = self._said.setdefault(key, (row, account))
                if said != account:
                    yield Flawed("external_ids", each, f"contradicts row {first} about this id")
                    return
                if first == row:
                    self._add(row, SetExternalId(system, each, account))

    def _take_merge(self, row: int, fields: Mapping[str, str]) -> Iterator[Flawed]:
        account, into, text = fields["account"], fields["merged_into"], fields["from"]
        if not account or fields["tenant"] or not text:
            yield Flawed("merged_into", into, "needs account and from in its row, and no tenant")
            return
        try:
            self._merges.append((row, Merge(account, into, parse_time(text, UTC, field="from"))))
        except InvalidQuestion as problem:
            yield Flawed("from", text, problem.problem)

    def _take_account(
        self, row: int, fields: Mapping[str, str], labels: Mapping[str, str] | None
    ) -> Iterator[Flawed]:
        account = fields["account"]
        anchor, status = fields["billing_anchor"], fields["status"]
        if not account:
            filled = [n for n in ("name", "zone", "billing_anchor", "status") if fields[n]]
            if filled:
                yield Flawed(filled[0], fields[filled[0]], "describes no account; name it")
            return
        if anchor and not (anchor.isascii() and anchor.isdigit() and len(anchor) <= 2):
            yield Flawed("billing_anchor", anchor, "is no day of a month; write 1 to 31")
            return
        if status and status not in set(AccountStatus):
            known = ", ".join(AccountStatus)
            yield Flawed("status", status, f"is no status; there are {known}")
            return
        change = SetAccount(
            account,
            name=fields["name"] or None,
            zone=fields["zone"] or None,
            billing_anchor=int(anchor) if anchor else None,
            labels=tuple(sorted(labels.items())) if labels else None,
            status=AccountStatus(status) if status else None,
        )
        if change.status is AccountStatus.MERGED:
            yield Flawed("status", status, "is said by merged_into and from; leave it empty")
            return
        for name in ("name", "zone", "billing_anchor", "labels", "status"):
            value: Any = getattr(change, name)
            if value is None:
                continue
            first, said = self._said.setdefault((account, name), (row, value))
            if said != value:
                yield Flawed(name, str(value)[:64], f"contradicts row {first} about this account")
                return
        if self._accounts.get(account) != change:  # most rows repeat it beside another tenant
            self._accounts[account] = change
            self._add(row, change)

    def _take_tenant(self, row: int, fields: Mapping[str, str]) -> Iterator[Flawed]:
        tenant, text = fields["tenant"], fields["from"]
        if not tenant:
            if text:
                yield Flawed("from", text, "says when, but not which tenant")
            return
        try:
            start = parse_time(text, UTC, field="from") if text else None
        except InvalidQuestion as problem:
            yield Flawed("from", text, problem.problem)
            return
        account = fields["account"] or None
        first, said = self._said.setdefault((f"\x1f{tenant}", str(start)), (row, account))
        if said != account:
            yield Flawed("account", account or "", f"contradicts row {first} about this tenant")
            return
        self._add(row, Assign(tenant, account, start))

    def _add(self, row: int, change: Change) -> None:
        self.changes.append(change)
        self.row_of_change.append(row)


def _is_labels(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    )
