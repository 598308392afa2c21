"""Bulk import: files to changes, and every bad row by its number."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator.civil import parse_time
from meterstream_services.accounts import import_rows
from meterstream_services.accounts.imports import InvalidImport, read_csv, read_json
from meterstream_services.accounts.model import AccountStatus, Assign, SetAccount
from meterstream_services.zones import find_zone

CSV = b"""\xef\xbb\xbfaccount,name,zone,billing_anchor,status,label.plan,tenant,from
a1,"Acme, Inc.",Europe/Berlin,31,active,pro,acme,
a1,,,,,,acme-eu,2026-03-01
b2,,,,suspended,,,

,,,,,,acme-eu,2026-04-01T00:00:00+02:00
"""
MARCH = parse_time("2026-03-01", find_zone("UTC"))
APRIL = parse_time("2026-03-31T22:00:00Z", find_zone("UTC"))


def test_a_csv_file() -> None:
    """Accounts, labels, tenants and instants are read, each change with its row."""
    found = read_csv(CSV)

    assert found.rows == 4
    assert list(zip(found.row_of_change, found.changes, strict=True)) == [
        (
            1,
            SetAccount(
                "a1", "Acme, Inc.", "Europe/Berlin", 31, (("plan", "pro"),), AccountStatus.ACTIVE
            ),
        ),
        (1, Assign("acme", "a1", None)),
        (2, SetAccount("a1")),
        (2, Assign("acme-eu", "a1", MARCH)),
        (3, SetAccount("b2", status=AccountStatus.SUSPENDED)),
        (4, Assign("acme-eu", None, APRIL)),
    ]


def test_json_says_the_same() -> None:
    """A JSON list with the same keys gives the same changes."""
    rows = [
        {"account": "a1", "name": "Acme", "billing_anchor": 31, "labels": {"plan": "pro"}},
        {"account": "a1", "tenant": "acme", "from": "2026-03-01"},
        {"account": None, "tenant": "acme", "from": "2026-04-01T00:00:00+02:00"},
    ]

    found = read_json(json.dumps(rows).encode())

    assert found.changes == [
        SetAccount("a1", name="Acme", billing_anchor=31, labels=(("plan", "pro"),)),
        SetAccount("a1"),
        Assign("acme", "a1", MARCH),
        Assign("acme", None, APRIL),
    ]


def test_every_bad_row_is_told() -> None:
    """Bad rows come with number, column, value and reason, all of them at once."""
    content = (
        b"account,billing_anchor,status,tenant,from,name\n"
        b"a,1,,,,\n"
        b"a,x,,,,\n"
        b"a,,gone,,,\n"
        b"a,,,t,yesterday,\n"
        b",,,,,\n"
        b"a,,,,2026-01-01,\n"
        b"too,few\n"
        b",,,u,,Name\n"
        b"a,2,,,,\n"
        b"b,,,t,,\n"
        b"c,,,t,,\n"
    )

    with pytest.raises(InvalidImport) as caught:
        read_csv(content)

    assert [(bad.row, bad.column, bad.value) for bad in caught.value.bad_rows] == [
        (2, "billing_anchor", "x"),
        (3, "status", "gone"),
        (4, "from", "yesterday"),
        (5, "account", ""),
        (6, "from", "2026-01-01"),
        (7, "", "2"),
        (8, "name", "Name"),
        (9, "billing_anchor", "2"),
        (11, "account", "c"),
    ]
    assert "contradicts row 1" in caught.value.bad_rows[7].reason
    assert "contradicts row 10" in caught.value.bad_rows[8].reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no header"),
        (b"acount,tenant\na,t\n", "'acount' is no column here"),
        (b"account,account\na,b\n", "is there twice"),
        (b"account,label.\na,b\n", "is no column here"),
        (b"account,name\na,\xff\n", "is not UTF-8"),
        (b'account,name\na,"open\n', "is not CSV"),
        (b'account,name\na,"x"y\n', "is not CSV"),
    ],
)
def test_unreadable_csv(content: bytes, reason: str) -> None:
    """A file that cannot be read at all is refused with one sentence."""
    with pytest.raises(InvalidImport, match=reason):
        read_csv(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"{}", "is not a list of rows"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "is not JSON"),
        (b"[1]", "is not an object"),
        (b'[{"acount": "a"}]', "is no column here"),
        (b'[{"account": 7}]', "is not text"),
        (b'[{"account": "a", "billing_anchor": true}]', "is not text"),
        (b'[{"account": "a", "labels": {"plan": 1}}]', "are not an object of texts"),
        (b'[{"account": "a", "labels": []}]', "are not an object of texts"),
    ],
)
def test_unreadable_json(content: bytes, reason: str) -> None:
    """JSON of another shape is refused with one sentence."""
    with pytest.raises(InvalidImport, match=reason):
        read_json(content)


def test_there_is_a_limit_to_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rows are refused before they are kept."""
    monkeypatch.setattr(import_rows, "ROWS_MAX", 2)

    with pytest.raises(InvalidImport, match="split the file"):
        read_csv(b"account\na\nb\nc\n")


def test_there_is_a_limit_to_bad_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops when nobody would read on."""
    monkeypatch.setattr(import_rows, "BAD_ROWS_MAX", 3)

    with pytest.raises(InvalidImport) as caught:
        read_csv(b"account,status\n" + b"a,gone\n" * 10)

    assert len(caught.value.bad_rows) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """Whatever a file holds, the outcome is changes or a refusal, never another error."""
    for read in (read_csv, read_json):
        with contextlib.suppress(InvalidImport):
            assert read(content).rows >= 0
