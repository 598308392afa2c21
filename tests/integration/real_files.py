"""The three real files, and what follows from them by plain arithmetic, without any of our code.

Figures are computed with csv, Decimal and zoneinfo only, row by row, as one would on paper.
"""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
AZURE = DATA / "azure_llm_2023" / "AzureLLMInferenceTrace_code.csv"
HTTP = DATA / "elastic_examples" / "http_requests.csv"
SESSIONS = DATA / "elastic_examples" / "sessions.csv"
TENANTS = [f"team-{letter}" for letter in "abcdefghijkl"]
REPEATED_SHARE = 0.05

Row = dict[str, str]


class Figure(NamedTuple):
    """A value and how many events made it."""

    value: Decimal
    events: int


Figures = dict[tuple[str, str, datetime], Figure]
"""By tenant, group value ("" for none), and the period's start."""


def read(path: Path) -> list[Row]:
    """All rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def prepared_azure(path: Path, seed: int) -> list[Row]:
    """Write the Azure trace with tenants by a seeded draw, shuffled, some rows more than once.

    Returns each row once, as it was before: what must be counted.
    """
    draw = random.Random(seed)
    rows = [
        {"id": f"call-{number}", "tenant": draw.choice(TENANTS), **row}
        for number, row in enumerate(read(AZURE))
    ]
    lines = rows + draw.sample(rows, round(len(rows) * REPEATED_SHARE))
    draw.shuffle(lines)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(lines)
    return rows


def azure_time(row: Row) -> datetime:
    """The file's time (seven decimal places, the last one always 0), which is UTC."""
    text = row["TIMESTAMP"]
    assert text[-1] == "0"
    assert len(text) == len("2023-11-16 18:17:03.9799600")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)


def azure_sums(rows: list[Row], column: str, minutes: int) -> Figures:
    """Tokens per tenant and period of some minutes."""
    figures: Figures = defaultdict(lambda: Figure(Decimal(0), 0))
    for row in rows:
        at = azure_time(row)
        start = at - timedelta(
            minutes=at.minute % minutes, seconds=at.second, microseconds=at.microsecond
        )
        known = figures[row["tenant"], "", start]
        figures[row["tenant"], "", start] = Figure(
            known.value + Decimal(row[column]), known.events + 1
        )
    return figures


def http_days(rows: list[Row], zone: ZoneInfo) -> tuple[Figures, Figures]:
    """Requests, and bytes of those that have any, per tenant, status and day of a zone."""
    requests: Figures = defaultdict(lambda: Figure(Decimal(0), 0))
    amounts: Figures = defaultdict(lambda: Figure(Decimal(0), 0))
    for row in rows:
        day = midnight(datetime.fromisoformat(row["timestamp"]).astimezone(zone), zone)
        key = (row["tenant"], row["status"], day)
        requests[key] = Figure(requests[key].value + 1, requests[key].events + 1)
        if row["bytes"]:
            known = amounts[key]
            amounts[key] = Figure(known.value + Decimal(row["bytes"]), known.events + 1)
    return requests, amounts


def session_days(rows: list[Row], zone: ZoneInfo) -> Figures:
    """Seconds, and sessions started, per user and day of a zone."""
    figures: Figures = defaultdict(lambda: Figure(Decimal(0), 0))
    for row in rows:
        start, end = (datetime.fromisoformat(row[name]) for name in ("started_at", "ended_at"))
        day = midnight(start.astimezone(zone), zone)
        known = figures[row["user"], "", day]
        figures[row["user"], "", day] = Figure(known.value, known.events + 1)
        at = start
        while at < end:
            until = min(end, next_midnight(day, zone))
            known = figures[row["user"], "", day]
            seconds = Decimal((until - at) // timedelta(microseconds=1)) / 1_000_000
            figures[row["user"], "", day] = Figure(known.value + seconds, known.events)
            at, day = until, next_midnight(day, zone)
    return figures


def midnight(local: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of a local time's day, as an instant in UTC."""
    return datetime(local.year, local.month, local.day, tzinfo=zone).astimezone(UTC)


def next_midnight(day: datetime, zone: ZoneInfo) -> datetime:
    """The beginning of the day after the one that begins at ``day``."""
    local = day.astimezone(zone) + timedelta(hours=36)
    return midnight(local, zone)
