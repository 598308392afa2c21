"""Every wrong argument of every call: the exact words in strict, a count and no harm otherwise."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import MagicMock

import pytest

from meterstream import InvalidEvent, InvalidQuantity
from tests.unit.producers.hostile import Endless, Impostor, Mutating, Raising, hostile_text
from tests.unit.producers.reading import arrived
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream import Meter
    from meterstream.memory import MemoryTransport
    from tests.unit.producers.conftest import MakeMeter

GOOD: Final[dict[str, Any]] = {
    "type": "api.request",
    "tenant": "acme",
    "session": "s-1",
    "subject": "u-1",
    "key": "k-1",
    "time": 1_767_225_600_000_000,
    "attributes": {"route": "/pay"},
}
CALLS: Final[dict[str, Callable[[Meter, dict[str, Any]], bool]]] = {
    "record": lambda meter, told: meter.record(**told),
    "void": lambda meter, told: meter.void(**told),
    "session_start": lambda meter, told: meter.session_start(**told),
    "session_heartbeat": lambda meter, told: meter.session_heartbeat(**told),
    "session_end": lambda meter, told: meter.session_end(**told),
}
SURROGATES: Final = "\udcff" * 50
BYTES_MAX: Final = {"type": 128, "tenant": 128, "session": 256, "subject": 256, "key": 256}


def texts(field: str) -> list[tuple[object, str]]:
    """Wrong texts, and what is said of each."""
    most = BYTES_MAX[field]
    return [
        ("", "is empty; pass at least one character"),
        (7, "int is not text; pass a str"),
        (b"acme", "bytes is not text; pass a str"),
        (1.5, "float is not text; pass a str"),
        (True, "bool is not text; pass a str"),
        (["acme"], "list is not text; pass a str"),
        ({"a": "b"}, "dict is not text; pass a str"),
        (object(), "object is not text; pass a str"),
        (MagicMock(spec=str), "MagicMock is not text; pass a str"),
        (Impostor(), "Impostor is not text; pass a str"),
        ("x" * (most + 1), f"is {most + 1} characters; at most {most} bytes are kept"),
        ("é" * (most // 2 + 1), f"is {most + 2} bytes; at most {most} are kept"),
        ("x" * 10_000_000, f"is 10000000 characters; at most {most} bytes are kept"),
        ("a\x00b", "'a\\x00b' holds a control character; remove it"),
        ("a\nb", "'a\\nb' holds a control character; remove it"),
        ("\x7f", "'\\x7f' holds a control character; remove it"),
        ("a\ud800", "'a\\ud800' holds a lone surrogate; repair the text"),
        (SURROGATES, f"{SURROGATES[:40]!r} holds a lone surrogate; repair the text"),
    ]


class Zone(tzinfo):
    """A zone that answers with what it was made with, or raises it."""

    def __init__(self, answer: Any) -> None:  # noqa: ANN401 - whatever is wrong
        self.answer = answer

    def utcoffset(self, _time: datetime | None) -> timedelta | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]  # a lie is the point

    dst = tzname = utcoffset  # type: ignore[assignment]  # never asked


FIT: Final = (
    "does not fit: at most 18 decimal places and, without the point, "
    "-9223372036854775808 to 9223372036854775807"
)
NO_TIME: Final = "is not a time; pass an aware datetime or int microseconds UTC"
NO_ZONE: Final = "has no zone; pass an aware datetime, say datetime.now(UTC)"
OUTSIDE: Final = "lies outside the years 1970 to 9999; pass microseconds UTC"
NO_AMOUNT: Final = "is not an amount; pass an int, a Decimal or decimal text"
NO_DECIMAL: Final = "is not a decimal number such as '12.5'"

QUANTITIES: Final[list[tuple[object, str]]] = [
    (1.5, "1.5 is a float; pass Decimal('1.5') or the text '1.5'"),
    (-0.0, "-0.0 is a float; pass Decimal('-0.0') or the text '-0.0'"),
    (1e308, "1e+308 is a float; pass Decimal('1e+308') or the text '1e+308'"),
    (float("nan"), "nan is not a finite number; pass what was used"),
    (float("inf"), "inf is not a finite number; pass what was used"),
    (float("-inf"), "-inf is not a finite number; pass what was used"),
    (True, "True is a bool; pass 1 or 0"),
    (2j, f"complex {NO_AMOUNT}"),
    (None, f"NoneType {NO_AMOUNT}"),
    (b"1", f"bytes {NO_AMOUNT}"),
    ([1], f"list {NO_AMOUNT}"),
    (Fraction(1, 3), f"Fraction {NO_AMOUNT}"),
    (timedelta(1), f"timedelta {NO_AMOUNT}"),
    (Raising(), f"Raising {NO_AMOUNT}"),
    (2**63, f"an integer of 64 bits {FIT}"),
    (-(2**63) - 1, f"an integer of 64 bits {FIT}"),
    (10**100_000, f"an integer of 332193 bits {FIT}"),
    (Decimal("NaN"), "NaN is not a finite number"),
    (Decimal("sNaN"), "sNaN is not a finite number"),
    (Decimal("-Infinity"), "-Infinity is not a finite number"),
    (Decimal("NaN" + "1" * 90), f"NaN{'1' * 37} is not a finite number"),
    (Decimal("1e999999"), f"1E+999999 {FIT}"),
    (Decimal("1e-999999"), f"1E-999999 {FIT}"),
    (Decimal("1e-19"), f"1E-19 {FIT}"),
    (Decimal("0." + "1" * 1_000_000), f"0.{'1' * 38} {FIT}"),
    (Decimal(10) ** 19, f"{10**19} {FIT}"),
    ("1e999999", f"'1e999999' {NO_DECIMAL}"),
    ("9" * 65, f"'{'9' * 40}' {NO_DECIMAL}"),
    ("9" * 10_000_000, f"'{'9' * 40}' {NO_DECIMAL}"),
    ("9223372036854775808", f"9223372036854775808 {FIT}"),
    ("", f"'' {NO_DECIMAL}"),
    ("NaN", f"'NaN' {NO_DECIMAL}"),
    ("inf", f"'inf' {NO_DECIMAL}"),
    ("1,5", f"'1,5' {NO_DECIMAL}"),
    ("1_000", f"'1_000' {NO_DECIMAL}"),
    (" 1", f"' 1' {NO_DECIMAL}"),
    ("1\n", f"'1\\n' {NO_DECIMAL}"),
    ("0x10", f"'0x10' {NO_DECIMAL}"),
    ("١٢", f"'١٢' {NO_DECIMAL}"),
    ("\ud800", f"'\\ud800' {NO_DECIMAL}"),
    (hostile_text("many"), f"'many' {NO_DECIMAL}"),
]
TIMES: Final[list[tuple[object, str]]] = [
    (datetime(2026, 1, 1), f"2026-01-01T00:00:00 {NO_ZONE}"),  # noqa: DTZ001 - wrong
    (datetime(2026, 1, 1, tzinfo=Zone(None)), f"2026-01-01T00:00:00 {NO_ZONE}"),
    (date(2026, 1, 1), f"date {NO_TIME}"),
    (1.7e15, f"float {NO_TIME}"),
    ("2026-01-01T00:00:00Z", f"str {NO_TIME}"),
    (True, f"bool {NO_TIME}"),
    (-1, f"-1 µs {OUTSIDE}"),
    (253_402_300_800_000_000, f"253402300800000000 µs {OUTSIDE}"),
    (datetime(1969, 12, 31, tzinfo=UTC), f"-86400000000 µs {OUTSIDE}"),
    (datetime(1, 1, 1, tzinfo=UTC), f"-62135596800000000 µs {OUTSIDE}"),
]
NAME_MAX: Final = "; at most 64 bytes are kept"
ATTRIBUTES: Final[list[tuple[object, str, str]]] = [
    ([("a", "b")], "attributes", "list is not a mapping; pass a dict"),
    ("a=b", "attributes", "str is not a mapping; pass a dict"),
    (5, "attributes", "int is not a mapping; pass a dict"),
    ({1: "a"}, "attributes", "int is not text; pass a str"),
    ({"": "a"}, "attributes", "is empty; pass at least one character"),
    ({"a\x00": "a"}, "attributes", "'a\\x00' holds a control character; remove it"),
    ({"\ud800": "a"}, "attributes", "'\\ud800' holds a lone surrogate; repair the text"),
    ({"n" * 65: "a"}, "attributes", f"is 65 characters{NAME_MAX}"),
    ({"n" * 10_000_000: "a"}, "attributes", f"is 10000000 characters{NAME_MAX}"),
    ({"a": 1}, "attributes.a", "int is not text; pass a str"),
    ({"a": 1.5}, "attributes.a", "float is not text; pass a str"),
    ({"a": None}, "attributes.a", "NoneType is not text; pass a str"),
    ({"a": b"b"}, "attributes.a", "bytes is not text; pass a str"),
    ({"a": {"b": "c"}}, "attributes.a", "dict is not text; pass a str"),
    ({"a": "\udfff"}, "attributes.a", "'\\udfff' holds a lone surrogate; repair the text"),
    ({"a": "v" * 1025}, "attributes.a", "is 1025 characters; at most 1024 bytes are kept"),
    ({"a": "é" * 513}, "attributes.a", "is 1026 bytes; at most 1024 are kept"),
    (
        {"a": "v" * 10_000_000},
        "attributes.a",
        "is 10000000 characters; at most 1024 bytes are kept",
    ),
    ({str(n): "" for n in range(33)}, "attributes", "33 of them; at most 32 are kept"),
    ({str(n): "" for n in range(100_000)}, "attributes", "100000 of them; at most 32 are kept"),
    (Endless(), "attributes", "33 of them; at most 32 are kept"),
    (
        {str(n): "v" * 1000 for n in range(16)},
        "attributes",
        "are 16072 bytes together; at most 15000 are kept",
    ),
]
WRONG: Final = [
    *((field, field, value, words) for field in BYTES_MAX for value, words in texts(field)),
    *(("quantity", "quantity", value, words) for value, words in QUANTITIES),
    *(("time", "time", value, words) for value, words in TIMES),
    *(("attributes", field, value, words) for value, field, words in ATTRIBUTES),
]


@pytest.mark.parametrize(
    ("argument", "field", "value", "words"),
    WRONG,
    ids=[f"{number} {field} {words[:30]!a}" for number, (_, field, _, words) in enumerate(WRONG)],
)
def test_a_wrong_argument_is_told_exactly_and_spends_no_number(
    make_meter: MakeMeter, argument: str, field: str, value: object, words: str
) -> None:
    """In strict the field, what is wrong and what to do; by default False and a count."""
    strict, lenient = make_meter(strict=True), make_meter()
    for name, call in CALLS.items():
        if argument == "quantity" and name not in {"record", "void"}:
            continue
        wrong = GOOD | {argument: value}
        with pytest.raises(InvalidEvent) as refusal:
            call(strict, wrong)
        assert str(refusal.value) == f"{field}: {words}", name
        assert refusal.value.field == field
        assert isinstance(refusal.value, InvalidQuantity) == (field == "quantity")
        assert call(lenient, wrong) is False

    calls = 2 if argument == "quantity" else len(CALLS)
    for meter in (strict, lenient):
        status = meter.status()
        assert (status.recorded, status.dropped) == (0, {"invalid": calls})
        kind = "InvalidQuantity" if field == "quantity" else "InvalidEvent"
        shown = value if argument == "type" and type(value) is str else type(value).__name__
        of = shown[:100] if argument == "type" else GOOD["type"]
        expected = f"an event was refused: {of}: {kind}: {field}: {words}"
        assert str(status.last_error) == expected[: len(str(status.last_error))]
        assert meter._intake.numbering.spent() == 0


@pytest.mark.parametrize("call", ["record", "void", "session_start", "session_end"])
def test_a_missing_tenant_says_both_ways_to_name_one(make_meter: MakeMeter, call: str) -> None:
    """In the call, or for a block of code."""
    meter = make_meter(strict=True)

    with pytest.raises(InvalidEvent, match=r"tenant: .*pass tenant.*meter\.context"):
        CALLS[call](meter, GOOD | {"tenant": None})


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=Zone(RuntimeError("no such zone"))),
        datetime(2026, 1, 1, tzinfo=Zone(5)),
        datetime(2026, 1, 1, tzinfo=Zone(timedelta(days=2))),
        datetime(9999, 12, 31, 23, 59, tzinfo=Zone(timedelta(hours=-23))),
        datetime(1, 1, 1, tzinfo=Zone(timedelta(hours=23))),
    ],
    ids=["raises", "answers nonsense", "answers too much", "after the end", "before the start"],
)
def test_a_zone_that_fails_refuses_the_event_alone(make_meter: MakeMeter, value: datetime) -> None:
    """Whatever a zone raises or answers: no number is spent, and nothing reaches the host."""
    strict, lenient = make_meter(strict=True), make_meter()

    assert lenient.record("a", tenant="t", time=value) is False
    with pytest.raises((ValueError, TypeError, RuntimeError, OverflowError)):
        strict.record("a", tenant="t", time=value)
    assert lenient.status().dropped == strict.status().dropped == {"invalid": 1}


HOSTILE: Final[dict[str, Callable[[], object]]] = {
    "raising": Raising,
    "empty": lambda: hostile_text(""),
    "control": lambda: hostile_text("a\x1b"),
    "mutating": Mutating,
    "inside": lambda: {"a": Raising()},
}


@pytest.mark.parametrize("argument", [*BYTES_MAX, "quantity", "time", "attributes"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_objects_refuse_the_event_alone(
    make_meter: MakeMeter, argument: str, kind: str
) -> None:
    """Methods that raise, whichever the SDK or Python itself calls: a count, and on it goes."""
    strict, lenient = make_meter(strict=True), make_meter()
    wrong = GOOD | {argument: HOSTILE[kind]()}

    for name, call in CALLS.items():
        looked_at = argument != "quantity" or name in {"record", "void"}
        if looked_at:
            assert call(lenient, wrong) is False
            with pytest.raises((InvalidEvent, RuntimeError)):
                call(strict, wrong)
        assert call(lenient, GOOD)

    refused = 2 if argument == "quantity" else len(CALLS)
    assert lenient.status().dropped == strict.status().dropped == {"invalid": refused}
    assert lenient.status().recorded == lenient._intake.numbering.spent() == len(CALLS)


class Interrupted(str):
    """A text whose hash is what Ctrl-C happens to interrupt."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise KeyboardInterrupt


def test_an_interrupt_is_the_hosts(make_meter: MakeMeter, transport: MemoryTransport) -> None:
    """What is no Exception passes through: swallowing it would keep the host from ending."""
    meter = make_meter()

    for call in CALLS.values():
        with pytest.raises(KeyboardInterrupt):
            call(meter, GOOD | {"tenant": Interrupted("t")})
    assert meter.record("a", tenant="t")
    assert meter.flush(30)
    assert [event.sequence for event in arrived(transport)] == [1]
    assert meter.status().dropped == {}


def test_a_storm_of_refusals_is_one_line(
    make_meter: MakeMeter, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred thousand refused events are counted one by one, and told once an interval."""
    meter = make_meter()

    for _ in range(100_000):
        meter.record("a", tenant="t", quantity=1.5)  # type: ignore[arg-type]  # wrong
    eventually(lambda: len(caplog.records) > 0)
    meter.close(10)

    assert meter.status().dropped == {"invalid": 100_000}
    (line,) = caplog.records
    assert "refused: a: InvalidQuantity: quantity: 1.5 is a float; pass" in line.getMessage()
