"""What a store holds: its tables, read with plain SQL from a file or a database."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit, urlunsplit

import psycopg

from tests.campaign.verifier.usage import Item, RowKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HALF: Final = 2**62
_BYTES_A_LANE: Final = 9


class Position(NamedTuple):
    """How far a partition is folded, and what it held."""

    next_offset: int
    appended: int
    counted: int
    duplicates: int
    refused: int


class StoredProducer(NamedTuple):
    """What a partition says of a producer."""

    numbers: dict[int, list[tuple[int, int]]]
    """By lane, the runs of numbers that were seen."""
    claimed: dict[int, int]
    closed: bool
    counted: int
    duplicates: int
    refused: int
    last_append: int


@dataclass
class Stored:
    """Everything of a store that a log determines."""

    usage: dict[RowKey, tuple[int, Fraction]]
    items: dict[tuple[RowKey, str], Item]
    sessions: dict[tuple[int, str, str, str], tuple[Any, ...]]
    subjects: dict[tuple[int, str, str, str], tuple[Any, ...]]
    letters: dict[tuple[int, int], tuple[str, int]]
    keys: dict[tuple[int, str, str], tuple[int, int, int]]
    positions: dict[int, Position]
    producers: dict[tuple[int, str], StoredProducer]
    refused_numbers: set[tuple[int, str, int, int]]
    waiting: int
    """Messages that have not left."""
    epochs: int
    """How often partitions were claimed, in all."""


def read_store(address: str, aggregates: Mapping[str, str]) -> Stored:
    """The store at a path or at ``postgresql://…?schema=…``; ``aggregates`` by meter."""
    if "://" not in address:
        connection = sqlite3.connect(f"file:{address}?mode=ro", uri=True)
        try:
            return _read(lambda text: connection.execute(text).fetchall(), aggregates, sqlite=True)
        finally:
            connection.close()
    parts = urlsplit(address)
    asked = parse_qs(parts.query)
    schema = asked.pop("schema", ["meterstream"])[0]
    query = "&".join(f"{name}={value}" for name, values in asked.items() for value in values)
    with psycopg.connect(urlunsplit(parts._replace(query=query))) as database:
        database.execute(f'SET search_path TO "{schema}"'.encode())
        return _read(
            lambda text: database.execute(text.encode()).fetchall(), aggregates, sqlite=False
        )


def _read(
    select: Callable[[str], list[tuple[Any, ...]]], aggregates: Mapping[str, str], *, sqlite: bool
) -> Stored:
    def table(name: str, columns: str) -> list[tuple[Any, ...]]:
        return select(f"SELECT {columns} FROM {name}")

    series = {
        row[0]: (row[1], row[2], tuple(json.loads(row[3])), row[4])
        for row in table("series", "id, meter, tenant, groups, partition")
    }
    positions = table(
        "position", "partition, next_offset, appended, counted, duplicates, refused, epoch"
    )
    letters = table("dead_letter", 'partition, "offset", reason, append_time')
    keys = table("caller_key", "partition, tenant, key, state, append_time, time")
    refused = table("refused_number", "partition, producer, lane, sequence")
    sessions = table(
        "session",
        'partition, tenant, type, session, start, "end", last_sign, last_append, subject,'
        " attributes, claims",
    )
    return Stored(
        usage=_usage(select, series, aggregates, sqlite=sqlite),
        items=_items(select, series),
        sessions={
            row[:4]: (
                *row[4:8],
                _text(row[8]),
                json.loads(row[9] or "{}"),
                json.loads(row[10] or "null"),
            )
            for row in sessions
        },
        subjects={
            (*row[:3], _text(row[3])): (*json.loads(row[4])[:3], row[5])
            for row in table("subject", "partition, tenant, type, subject, facts, last_append")
        },
        letters={row[:2]: (row[2], row[3]) for row in letters},
        keys={row[:3]: row[3:] for row in keys},
        positions={row[0]: Position(*row[1:6]) for row in positions},
        producers=_producers(select),
        refused_numbers={(row[0], row[1], row[2], row[3]) for row in refused},
        waiting=select("SELECT count(*) FROM outbox")[0][0],
        epochs=sum(row[6] for row in positions),
    )


def _usage(
    select: Callable[[str], list[tuple[Any, ...]]],
    series: dict[int, tuple[Any, ...]],
    aggregates: Mapping[str, str],
    *,
    sqlite: bool,
) -> dict[RowKey, tuple[int, Fraction]]:
    amount = "quantity_high, quantity_low" if sqlite else "quantity, 0"
    parts: dict[RowKey, list[tuple[int, Fraction]]] = defaultdict(list)
    for id_, start, arrival, scale, events, high, low in select(
        f"SELECT series, start, arrival, scale, events, {amount} FROM usage"
    ):
        quantity = high * _HALF + low if sqlite else int(high)
        key = _row_key(series[id_], start, arrival)
        parts[key].append((events, Fraction(quantity, 10**scale)))
    rows: dict[RowKey, tuple[int, Fraction]] = {}
    for key, found in parts.items():
        events = sum(number for number, _ in found)
        values = [value for _, value in found]
        match aggregates.get(key.meter):
            case "min":
                rows[key] = (events, min(values))
            case "max":
                rows[key] = (events, max(values))
            case "count":
                rows[key] = (events, Fraction(events))
            case _:
                rows[key] = (events, sum(values, Fraction(0)))
    return {key: row for key, row in rows.items() if any(row)}


def _text(value: str | bytes | memoryview | None) -> Any:  # noqa: ANN401 - a text, or nothing
    """Text that PostgreSQL keeps as bytes, since it may hold a NUL."""
    return value if isinstance(value, str) or value is None else bytes(value).decode()


def _row_key(series: tuple[Any, ...], start: int, arrival: int) -> RowKey:
    meter, tenant, group, partition = series
    return RowKey(meter, tenant, group, partition, start, arrival)


def _items(
    select: Callable[[str], list[tuple[Any, ...]]], series: dict[int, tuple[Any, ...]]
) -> dict[tuple[RowKey, str], Item]:
    rows = select(
        'SELECT series, start, arrival, item, time, sequence, producer, "offset", quantity, scale'
        " FROM item"
    )
    return {
        (_row_key(series[row[0]], row[1], row[2]), _text(row[3])): Item(
            row[4], row[5], row[6], row[7], Fraction(int(row[8]), 10 ** row[9])
        )
        for row in rows
    }


def _producers(
    select: Callable[[str], list[tuple[Any, ...]]],
) -> dict[tuple[int, str], StoredProducer]:
    rows = select(
        "SELECT partition, producer, upto, irregular, closed, counted, duplicates, refused,"
        " last_append FROM producer"
    )
    found: dict[tuple[int, str], StoredProducer] = {}
    for partition, name, upto, irregular, closed, *counters in rows:
        packed = bytes(upto)
        used = len(packed) // _BYTES_A_LANE
        runs: dict[int, list[tuple[int, int]]] = {}
        for place in range(used):
            high = int.from_bytes(packed[used + 8 * place : used + 8 * place + 8], "little")
            runs[packed[place]] = [(1, high)]
        more: Any = json.loads(irregular) if irregular else {"beyond": {}, "claimed": {}}
        for lane, spans in more["beyond"].items():
            runs.setdefault(int(lane), []).extend((low, high) for low, high in spans)
        claimed = {int(lane): number for lane, number in more["claimed"].items()}
        found[partition, name] = StoredProducer(runs, claimed, bool(closed), *counters)
    return found
