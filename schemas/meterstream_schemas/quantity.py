"""Exact amounts: what a caller passes, as an integer and a number of decimal places.

An amount is ``quantity * 10**-scale`` with ``quantity`` a signed 64-bit integer and ``scale``
0 to 18. Floats are refused: a float has already lost the digits somebody meant.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NamedTuple

from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN, SCALE_MAX

_PLAIN_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_TEXT_MAX: Final = 64
_POWERS: Final[tuple[int, ...]] = tuple(10**places for places in range(64))


class Amount(NamedTuple):
    """``quantity * 10**-scale``."""

    quantity: int
    scale: int

    def decimal(self) -> Decimal:
        """The same amount as a `Decimal`, digit for digit."""
        return to_decimal(self.quantity, self.scale)


def parse_amount(value: object, *, field: str = "quantity") -> Amount:
    """Turn an ``int``, ``Decimal`` or decimal text into an exact `Amount`.

    Trailing zeros are dropped (``"1.50"`` is 15 x 10^-1), so that equal amounts are equal values.

    Raises `InvalidQuantity` for float, bool, NaN, infinity, text that is not a plain decimal
    number, more than 18 decimal places and anything outside signed 64 bits.
    """
    if type(value) is int:
        return _bounded(value, 0, value, field)
    if isinstance(value, Decimal):
        return _from_decimal(value, value, field)
    if isinstance(value, str):
        return _from_text(value, field)
    if isinstance(value, bool):
        raise InvalidQuantity(field, f"{value} is a bool; pass 1 or 0")
    if isinstance(value, float):
        raise InvalidQuantity(
            field, f"{value!r} is a float; pass Decimal('{value!r}') or the text '{value!r}'"
        )
    if isinstance(value, int):
        return _bounded(int(value), 0, value, field)
    raise InvalidQuantity(
        field, f"{type(value).__name__} is not an amount; pass an int, a Decimal or decimal text"
    )


def to_decimal(quantity: int, scale: int) -> Decimal:
    """``quantity * 10**-scale`` exactly, whatever the size of ``quantity``."""
    sign = 1 if quantity < 0 else 0
    return Decimal((sign, tuple(map(int, str(abs(quantity)))), -scale))


def format_amount(quantity: int, scale: int) -> str:
    """Plain decimal text without exponent and without trailing zeros: ``-1.5``, ``20``, ``0``."""
    if scale == 0:
        return str(quantity)
    whole, fraction = divmod(abs(quantity), _POWERS[scale])
    sign = "-" if quantity < 0 else ""
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{str(fraction).rjust(scale, '0').rstrip('0')}"


def rescale(quantity: int, scale: int, to_scale: int) -> int:
    """The unscaled integer of the same amount at ``to_scale`` >= ``scale``."""
    return quantity * _POWERS[to_scale - scale]


def _from_text(text: str, field: str) -> Amount:
    if len(text) > _TEXT_MAX or not text.isascii() or not _PLAIN_DECIMAL.fullmatch(text):
        raise InvalidQuantity(field, f"{text[:40]!r} is not a decimal number such as '12.5'")
    return _from_decimal(Decimal(text), text, field)


def _from_decimal(value: Decimal, given: object, field: str) -> Amount:
    if not value.is_finite():
        raise InvalidQuantity(field, f"{value} is not a finite number")
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if len(digits) > _TEXT_MAX or abs(exponent) > _TEXT_MAX:
        raise _too_wide(given, field)
    quantity = int("".join(map(str, digits)) or "0")
    if sign:
        quantity = -quantity
    if exponent >= 0:
        return _bounded(quantity * 10**exponent, 0, given, field)
    scale = -exponent
    while scale and quantity % 10 == 0:
        quantity //= 10
        scale -= 1
    return _bounded(quantity, scale, given, field)


def _bounded(quantity: int, scale: int, given: object, field: str) -> Amount:
    if scale > SCALE_MAX or not QUANTITY_MIN <= quantity <= QUANTITY_MAX:
        raise _too_wide(given, field)
    return Amount(quantity, scale)


def _too_wide(given: object, field: str) -> InvalidQuantity:
    shown = (
        str(given)[:40]
        if not isinstance(given, int)
        else f"an integer of {given.bit_length()} bits"
    )
    return InvalidQuantity(
        field,
        f"{shown} does not fit: at most {SCALE_MAX} decimal places and, without the point, "
        f"{QUANTITY_MIN} to {QUANTITY_MAX}",
    )
