"""Bulk import: a CSV or JSON file to changes of the directory. Pure; one bad row spoils the import.

A row names an account, a tenant, or both, in these columns (CSV) or keys (JSON, a list of objects):

=================  ==============================================================================
``account``        the account's id; made if it is not there. Empty beside a tenant: mapped to none
``name`` ``zone``  of the account, as ``billing_anchor``, ``status``; empty or absent leaves what
                   is stored
``label.NAME``     a label (JSON: ``labels``, an object); the labels given replace all that were
``tenant``         belongs to the account
``from``           from this instant on, ISO 8601 with offset (a date: midnight UTC); empty: from
                   the beginning, where nothing else is known of the tenant
=================  ==============================================================================

Rows count from 1, a CSV's header not among them. Importing a file twice changes nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, NamedTuple

from meterstream_aggregator.civil import InvalidQuestion, parse_time
from meterstream_services.accounts.model import AccountStatus, Assign, Change, SetAccount

ROWS_MAX: Final = 1_000_000
BAD_ROWS_MAX: Final = 1000
"""Bad rows that are listed; reading stops there."""

_FIELDS: Final = ("account", "name", "zone", "billing_anchor", "status", "tenant", "from")
_LABEL: Final = "label."


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


def read_csv(content: bytes) -> Import:
    """The changes in a CSV file (UTF-8, with a header). Raises `InvalidImport`."""
    reader = csv.reader(io.StringIO(_text(content), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        return _import(_csv_rows(reader, header))
    except csv.Error as problem:
        raise _whole_file(f"line {reader.line_num}", f"is not CSV: {problem}") from None


def read_json(content: bytes) -> Import:
    """The changes in a JSON list of objects. Raises `InvalidImport`."""
    try:
        rows: Any = json.loads(_text(content))
    except (ValueError, RecursionError) as problem:
        raise _whole_file("the body", f"is not JSON: {problem}") from None
    if not isinstance(rows, list):
        raise _whole_file(type(rows).__name__, "is not a list of rows; send [{...}, ...]")
    return _import(enumerate(rows, 1))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise _whole_file(f"byte {problem.start}", "is not UTF-8; save the file as UTF-8") from None


def _whole_file(value: str, reason: str) -> InvalidImport:
    return InvalidImport([BadRow(0, "file", value, reason)])


def _check_header(header: Sequence[str]) -> None:
    if not header:
        raise _whole_file("the file", f"has no header; begin with {', '.join(_FIELDS)}")
    for name in header:
        if name not in _FIELDS and (not name.startswith(_LABEL) or name == _LABEL):
            raise _whole_file(
                name, f"is no column here; there are {', '.join(_FIELDS)}, label.NAME"
            )
        if header.count(name) > 1:
            raise _whole_file(name, "is there twice in the header; name each column once")


def _csv_rows(reader: Iterator[list[str]], header: list[str]) -> Iterator[tuple[int, Any]]:
    row = 0
    for cells in reader:
        if not cells:
            continue
        row += 1
        if len(cells) != len(header):
            yield row, _Flawed("", str(len(cells)), f"cells, the header has {len(header)}")
            continue
        given = dict(zip(header, cells, strict=True))
        labels = {
            name.removeprefix(_LABEL): value
            for name, value in given.items()
            if name.startswith(_LABEL) and value
        }
        fields: dict[str, object] = {name: given[name] for name in _FIELDS if name in given}
        yield row, fields | ({"labels": labels} if labels else {})


class _Flawed(NamedTuple):
    column: str
    value: str
    reason: str


def _import(rows: Iterator[tuple[int, Any]] | enumerate[Any]) -> Import:
    reading = _Reading()
    count = 0
    for row, given in rows:
        count = row
        if count > ROWS_MAX:
            raise _whole_file(f"more than {ROWS_MAX} rows", "are too many; split the file")
        flaws = [given] if isinstance(given, _Flawed) else reading.take(row, given)
        reading.bad_rows.extend(BadRow(row, *flaw) for flaw in flaws)
        if len(reading.bad_rows) >= BAD_ROWS_MAX:
            break
    if reading.bad_rows:
        raise InvalidImport(reading.bad_rows)
    return Import(count, reading.changes, reading.row_of_change)


class _Reading:
    """Turns rows to changes, and sees to it that rows do not contradict each other."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.row_of_change: list[int] = []
        self.bad_rows: list[BadRow] = []
        self._said: dict[tuple[str, str], tuple[int, object]] = {}
        self._accounts: dict[str, SetAccount] = {}

    def take(self, row: int, given: object) -> list[_Flawed]:
        """Add a row's changes; what is wrong with it otherwise."""
        if not isinstance(given, Mapping):
            return [_Flawed("", type(given).__name__, "is not an object; write {...}")]
        unknown = [name for name in given if name not in (*_FIELDS, "labels")]
        if unknown:
            return [_Flawed(str(unknown[0])[:64], "", "is no column here")]
        fields = dict[str, str]()
        for name in _FIELDS:
            value = given.get(name)
            if name == "billing_anchor" and isinstance(value, int) and type(value) is not bool:
                value = str(value)
            if value is not None and not isinstance(value, str):
                return [_Flawed(name, str(value)[:64], "is not text; write it in quotes")]
            fields[name] = (value or "").strip()
        labels = given.get("labels")
        if labels is not None and not _is_labels(labels):
            return [
                _Flawed("labels", str(labels)[:64], 'are not an object of texts: {"plan": "pro"}')
            ]
        if not fields["account"] and not fields["tenant"]:
            return [_Flawed("account", "", "is empty; name an account, a tenant or both")]
        return [*self._take_account(row, fields, labels), *self._take_tenant(row, fields)]

    def _take_account(
        self, row: int, fields: Mapping[str, str], labels: Mapping[str, str] | None
    ) -> Iterator[_Flawed]:
        account = fields["account"]
        anchor, status = fields["billing_anchor"], fields["status"]
        if not account:
            filled = [n for n in ("name", "zone", "billing_anchor", "status") if fields[n]]
            if filled:
                yield _Flawed(filled[0], fields[filled[0]], "describes no account; name it")
            return
        if anchor and not (anchor.isascii() and anchor.isdigit() and len(anchor) <= 2):
            yield _Flawed("billing_anchor", anchor, "is no day of a month; write 1 to 31")
            return
        if status and status not in set(AccountStatus):
            known = ", ".join(AccountStatus)
            yield _Flawed("status", status, f"is no status; there are {known}")
            return
        change = SetAccount(
            account,
            name=fields["name"] or None,
            zone=fields["zone"] or None,
            billing_anchor=int(anchor) if anchor else None,
            labels=tuple(sorted(labels.items())) if labels else None,
            status=AccountStatus(status) if status else None,
        )
        for name in ("name", "zone", "billing_anchor", "labels", "status"):
            value = getattr(change, name)
            if value is None:
                continue
            first, said = self._said.setdefault((account, name), (row, value))
            if said != value:
                yield _Flawed(name, str(value)[:64], f"contradicts row {first} about this account")
                return
        if self._accounts.get(account) != change:  # most rows repeat it beside another tenant
            self._accounts[account] = change
            self._add(row, change)

    def _take_tenant(self, row: int, fields: Mapping[str, str]) -> Iterator[_Flawed]:
        tenant, text = fields["tenant"], fields["from"]
        if not tenant:
            if text:
                yield _Flawed("from", text, "says when, but not which tenant")
            return
        try:
            start = parse_time(text, UTC, field="from") if text else None
        except InvalidQuestion as problem:
            yield _Flawed("from", text, problem.problem)
            return
        account = fields["account"] or None
        first, said = self._said.setdefault((f"\x1f{tenant}", str(start)), (row, account))
        if said != account:
            yield _Flawed("account", account or "", f"contradicts row {first} about this tenant")
            return
        self._add(row, Assign(tenant, account, start))

    def _add(self, row: int, change: Change) -> None:
        self.changes.append(change)
        self.row_of_change.append(row)


def _is_labels(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) for name, text in value.items()
    )
