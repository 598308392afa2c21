"""JSON from strangers, exactly: a number keeps the digits that were sent, or the body is refused.

Rules:

* Integers are `int`, all other numbers `Decimal` with their very digits and exponent; nothing is a
  float. An exponent is not expanded here; `meterstream_schemas.quantity` judges the size.
* Of members of the same name the last one counts.
* Refused: what is not UTF-8, a byte order mark, NaN and Infinity, lone surrogates (no text that
  can be kept), more than `DEPTH_MAX` levels or `VALUES_MAX` values, integers of more digits than
  Python reads (4,300).

A fast parser reads first. Its floats have lost their digits, so a body in which one is seen is
read a second time, slower, by one that keeps them; integers beyond 64 bits look like floats too.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final, NoReturn

import orjson

DEPTH_MAX: Final = 20
"""Arrays and objects within each other."""
VALUES_MAX: Final = 100_000
"""Of a body, so that reading it takes milliseconds; a thousand whole events have 41,000."""

_CONTAINERS: Final = frozenset({dict, list})
_REASON_MAX: Final = 200
_BEYOND_FLOAT: Final = "infinity"
"""What the fast parser says of a number that no float holds: the exact one may read it."""


class BadJson(ValueError):
    """A body that is not JSON as it is read here. ``reason`` says why, for the sender's eyes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - whatever the sender wrote
    """The value of a JSON text: dict, list, str, int, `Decimal`, bool or None. Raises `BadJson`."""
    if not body:
        raise BadJson("is empty; send JSON")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        if _BEYOND_FLOAT not in str(problem):
            raise BadJson(f"is no JSON: {str(problem)[:_REASON_MAX]}") from None
        if body.count(b",") > VALUES_MAX:
            raise _too_many() from None
        return _exactly(body)
    if type(value) in _CONTAINERS:
        return _exactly(body) if _has_floats(value) else value
    return _exactly(body) if type(value) is float else value


def _exactly(body: bytes) -> Any:  # noqa: ANN401 - whatever the sender wrote
    try:
        value = json.loads(body.decode(), parse_float=Decimal, parse_constant=_refuse)
        _has_floats(value)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except BadJson:
        raise
    except RecursionError:
        raise _too_deep() from None
    except UnicodeEncodeError:
        raise BadJson("is no JSON: it holds a lone surrogate; repair the text") from None
    except (ValueError, ArithmeticError) as problem:
        raise BadJson(f"is no JSON that is read here: {str(problem)[:_REASON_MAX]}") from None
    return value


def _has_floats(value: Any) -> bool:  # noqa: ANN401 - whatever the sender wrote
    """Whether a float is in it, found level by level; raises `BadJson` for too many levels."""
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    found, values = False, 0
    for _ in range(DEPTH_MAX):
        if not level:
            return found
        members: list[Any] = []
        for each in level:
            members += each.values() if type(each) is dict else each
        values += len(members)
        if values > VALUES_MAX:
            raise _too_many()
        kinds = set(map(type, members))
        found = found or float in kinds
        if kinds.isdisjoint(_CONTAINERS):
            return found
        level = [member for member in members if type(member) in _CONTAINERS]
    raise _too_deep()


def _too_deep() -> BadJson:
    return BadJson(f"is nested deeper than {DEPTH_MAX} levels; send it flatter")


def _too_many() -> BadJson:
    return BadJson(f"holds more than {VALUES_MAX} values; send less at once")


def _refuse(constant: str) -> NoReturn:
    raise BadJson(f"is no JSON: {constant} is not a number")
