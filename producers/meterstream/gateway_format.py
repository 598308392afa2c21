"""What goes over HTTP between the SDK and a gateway: requests as bytes, answers as reports.

Functions on values only; `meterstream.gateway` does the talking. The contract, and why it is like
this, is decision 22. Nothing that an answer says is believed further than it fits what was asked.
"""

from __future__ import annotations

import json
import struct
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterstream.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meterstream.transport import Parcel, Report

PATH: Final = "/v1/records"
CONTENT_TYPE: Final = "application/vnd.meterstream.records"
RECORDS_HEADER: Final = "Meterstream-Records"
FRAME_BYTES: Final = 8
"""In front of each record."""
REQUEST_BYTES_MAX: Final = 1_000_000
REQUEST_RECORDS_MAX: Final = 5_000
"""What one request has at most, whatever the gateway would take."""
_PARTITIONS_MAX: Final = 1_000_000
_OFFSET_MAX: Final = 2**63 - 1
_REASON_CHARACTERS_MAX: Final = 200
_ANSWER_BYTES: Final = 16_384
_ANSWER_BYTES_PER_RECORD: Final = 512
_FRAME: Final = struct.Struct(">II")


class UnfitAnswer(ValueError):
    """An answer that is not what the contract says. What it was about is in doubt."""


class Terms(NamedTuple):
    """What a gateway takes: partitions of its topic, and the bounds of one request."""

    partitions: int
    bytes_max: int
    records_max: int


class Answer(NamedTuple):
    """A whole answer: status, the Retry-After header, the body."""

    status: int
    retry_after: str | None
    body: bytes


def request_body(parcels: Iterable[Parcel]) -> bytes:
    """Records, each behind its length and its partition as four big-endian bytes each."""
    pack = _FRAME.pack
    return b"".join(
        [
            part
            for _, partition, _, record in parcels
            for part in (pack(len(record), partition), record)
        ]
    )


def answer_bytes_max(records: int) -> int:
    """How long an answer may be that is about so many records."""
    return _ANSWER_BYTES + records * _ANSWER_BYTES_PER_RECORD


def parse_terms(answer: bytes) -> Terms:
    """The terms in the answer to a GET. Raises `UnfitAnswer`."""
    found = _json_object(answer)
    terms = Terms(*(_natural(found, name) for name in Terms._fields))
    if terms.partitions > _PARTITIONS_MAX:
        raise UnfitAnswer(f"partitions is {terms.partitions}, more than any topic has")
    return Terms(
        terms.partitions,
        min(terms.bytes_max, REQUEST_BYTES_MAX),
        min(terms.records_max, REQUEST_RECORDS_MAX),
    )


def parse_results(answer: bytes, parcels: Sequence[Parcel]) -> list[Report]:
    """A report for each parcel, in order. Raises `UnfitAnswer` when the answer as a whole lies."""
    results = _json_object(answer).get("results")
    if not isinstance(results, list):
        raise UnfitAnswer("results is not a list")
    if len(results) != len(parcels):
        raise UnfitAnswer(f"{len(results)} results for {len(parcels)} records")
    reports = [_report(parcel, result) for parcel, result in zip(parcels, results, strict=True)]
    places = [
        (parcel[1], report[1])
        for parcel, report in zip(parcels, reports, strict=True)
        if report[1] is not None
    ]
    if len(set(places)) != len(places):
        raise UnfitAnswer("two records are said to lie in one place")
    return reports


def error_told(answer: bytes) -> str | None:
    """What the gateway itself gives as reason for refusing a request; None when it does not.

    A page of some proxy on the way is not the gateway's word.
    """
    try:
        error = _json_object(answer).get("error")
    except UnfitAnswer:
        return None
    return shown(error) if isinstance(error, str) else None


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """The wait that a ``Retry-After`` header asks for, as seconds or as a date.

    ``now`` is seconds since 1970. None without a header, or with one that cannot be read.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def shown(text: str) -> str:
    """A stranger's words, fit for a line of a log."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[:1000])
    return " ".join(line.split())[:_REASON_CHARACTERS_MAX]


def _report(parcel: Parcel, result: object) -> Report:
    ticket, partition = parcel[0], parcel[1]
    match result:
        case [int(where), int(offset)] if type(where) is int and type(offset) is int:
            if where != partition:
                why = f"a record of partition {partition} is said to lie in {where}"
            elif not 0 <= offset <= _OFFSET_MAX:
                why = f"{offset} is no offset"
            else:
                return ticket, offset, None
            return ticket, None, Failure(f"the gateway's answer is wrong: {why}", permanent=False)
        case {"error": str(error), "permanent": bool(permanent)}:
            return ticket, None, Failure(shown(error) or "no reason given", permanent)
        case _:
            unclear = Failure("the gateway's answer about a record is unclear", permanent=False)
            return ticket, None, unclear


def _json_object(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError) as problem:
        raise UnfitAnswer("it is not JSON") from problem
    if not isinstance(found, dict):
        raise UnfitAnswer("it is not a JSON object")
    return found


def _natural(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if type(value) is not int or value < 1:
        raise UnfitAnswer(f"{name} is not a whole number above zero")
    return value
