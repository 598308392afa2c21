"""Judging an answer: by equality of exact decimals, within a case's tolerance where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from meterstream_services.conformance.cases import Case, ExpectedRow
from meterstream_services.conformance.errors import Skipped

_ROUNDING: Final = {"round": ROUND_HALF_UP, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}


class AnswerRow(NamedTuple):
    """One row of an answer. ``group`` has no names whose value was absent."""

    start: int
    end: int
    group: tuple[tuple[str, str], ...]
    value: Decimal | None
    events: int


class Difference(NamedTuple):
    """What was expected, and what came instead."""

    expected: str
    got: str


def differences(case: Case, answer: Sequence[AnswerRow]) -> list[Difference]:
    """Where an answer is not what the case wants. An expected row without a period is the whole's.

    Rows that the case does not name must hold nothing: peers leave empty ones out.
    """
    found: list[Difference] = []
    unnamed = list(answer)
    for wanted in case.wanted:
        row = next((row for row in answer if _is_meant(case, wanted, row)), None)
        if row is not None and row in unnamed:
            unnamed.remove(row)
        problem = _difference(case, wanted, row)
        if problem is not None:
            found.append(problem)
    found.extend(
        Difference("no further row", _told(row)) for row in unnamed if row.events or row.value
    )
    return found


def _is_meant(case: Case, wanted: ExpectedRow, row: AnswerRow) -> bool:
    start = case.query.start if wanted.start is None else wanted.start
    end = case.query.end if wanted.end is None else wanted.end
    group = tuple(sorted((name, value) for name, value in wanted.group.items() if value))
    return (row.start, row.end, row.group) == (start, end, group)


def _difference(case: Case, wanted: ExpectedRow, row: AnswerRow | None) -> Difference | None:
    if row is None:
        if wanted.says_value and not wanted.value:
            return None
        return Difference(_wish(wanted), "no such row")
    if wanted.says_value and not _equal(case, wanted, row.value):
        return Difference(_wish(wanted), _told(row))
    if wanted.events_count is not None and wanted.events_count != row.events:
        return Difference(_wish(wanted), _told(row))
    return None


def _equal(case: Case, wanted: ExpectedRow, value: Decimal | None) -> bool:
    if value is None or wanted.value is None:
        return value is None and wanted.value is None
    if wanted.rounding_function is not None:
        value = rounded(value, wanted.rounding_function, wanted.precision or 0)
    allowed = Fraction(case.tolerance) if case.tolerance is not None else Fraction(0)
    return abs(Fraction(value) - Fraction(wanted.value)) <= allowed


def rounded(value: Decimal, function: str, places: int) -> Decimal:
    """``value`` to so many places (before the point when negative): half up, up or down."""
    if function not in _ROUNDING:
        raise Skipped(f"meterstream has no rounding called {function!r}")
    return value.quantize(Decimal(1).scaleb(-places), rounding=_ROUNDING[function])


def _wish(wanted: ExpectedRow) -> str:
    return wanted.model_dump_json(by_alias=True, exclude_unset=True)


def _told(row: AnswerRow) -> str:
    group = ", ".join(f"{name}={value}" for name, value in row.group)
    value = "no value" if row.value is None else f"{row.value:f}"
    return f"{value} of {row.events} events" + (f" ({group})" if group else "")
