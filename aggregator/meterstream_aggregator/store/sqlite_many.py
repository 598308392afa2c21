"""Many rows a statement: what a row costs is mostly what a statement costs.

Measured (docs/decisions/0027-*): of the 1 µs that a narrow row takes through ``executemany``, two
thirds are Python's and SQLite's work to begin and end a statement. So `ROWS_TOGETHER` rows go in
one statement, and what is left over one by one.

Binding None or bytes asks Python's adapters first, half a microsecond each. So None goes in as a
value that cannot be one, which ``nullif`` turns back, and bytes as a bytearray.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

ROWS_TOGETHER: Final = 32


class Insert(NamedTuple):
    """A statement that inserts: ``verb VALUES row, row, … rest``. The row is in its brackets."""

    verb: str
    row: str
    rest: str = ""


def insert_rows(db: sqlite3.Connection, insert: Insert, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows in their order."""
    whole = len(rows) - len(rows) % ROWS_TOGETHER
    if whole:
        db.executemany(_statement(insert, ROWS_TOGETHER), _joined(rows[:whole]))
    if whole < len(rows):
        db.executemany(_statement(insert, 1), rows[whole:])


def insert_columns(
    db: sqlite3.Connection, insert: Insert, columns: Sequence[npt.NDArray[Any]]
) -> None:
    """Insert rows given as columns of equal length, all of them integers."""
    rows = np.stack(columns, axis=1)
    whole = len(rows) - len(rows) % ROWS_TOGETHER
    if whole:
        together = rows[:whole].reshape(-1, ROWS_TOGETHER * len(columns))
        db.executemany(_statement(insert, ROWS_TOGETHER), together.tolist())
    if whole < len(rows):
        db.executemany(_statement(insert, 1), rows[whole:].tolist())


def ask_rows(
    db: sqlite3.Connection, question: str, rows: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """Ask about many things at once: the answers to ``question``.

    It has ``{wanted}`` where the rows go, each a row of VALUES with its place in front; answers are
    to have that place first. Texts may hold anything, a NUL too.
    """
    for at in range(0, len(rows), ROWS_TOGETHER):
        some = rows[at : at + ROWS_TOGETHER]
        statement = _question(question, len(some), len(some[0]))
        for place, *facts in db.execute(statement, list(chain.from_iterable(some))):
            yield (at + place, *facts)


def _joined(rows: Sequence[tuple[Any, ...]]) -> Iterator[list[Any]]:
    for at in range(0, len(rows), ROWS_TOGETHER):
        yield list(chain.from_iterable(rows[at : at + ROWS_TOGETHER]))


@lru_cache(maxsize=64)
def _statement(insert: Insert, rows: int) -> str:
    return f"{insert.verb} VALUES {', '.join([insert.row] * rows)} {insert.rest}"


@lru_cache(maxsize=256)
def _question(question: str, rows: int, width: int) -> str:
    marks = ", ?" * width
    return question.format(wanted="VALUES " + ", ".join(f"({n}{marks})" for n in range(rows)))
