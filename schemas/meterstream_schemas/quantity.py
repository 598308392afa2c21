"""Exact amounts: what a caller passes, as an integer and a number of decimal places.

An amount is ``quantity * 10**-scale`` with ``quantity`` a signed 64-bit integer and ``scale``
0 to 18. Floats are refused: a float has already lost the digits somebody meant.
"""

from __future__ import annotations

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Final, NamedTuple, cast

from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import QUANTITY_MAX, QUANTITY_MIN, SCALE_MAX

_PLAIN_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_TEXT_MAX: Final = 64
_SHOWN: Final = 40
"""Characters of a wrong value that a message repeats."""
_WIDE: Final = Context(prec=_TEXT_MAX, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
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
    kind = type(value)  # And not what it claims to be, nor what its own methods answer.
    if kind is int:
        return _bounded(cast("int", value), 0, cast("int", value), field)
    if issubclass(kind, Decimal):
        return _from_decimal(Decimal(cast("Decimal", value)), field)
    if issubclass(kind, str):
        return _from_text(str.__str__(cast("str", value)), field)
    if kind is bool:
        raise InvalidQuantity(field, f"{value} is a bool; pass 1 or 0")
    if issubclass(kind, float):
        raise _float_refused(float.__float__(cast("float", value)), field)
    if issubclass(kind, int):
        exact = int.__int__(cast("int", value))
        return _bounded(exact, 0, exact, field)
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
        raise InvalidQuantity(field, f"{text[:_SHOWN]!r} is not a decimal number such as '12.5'")
    return _from_decimal(Decimal(text), field)


def _from_decimal(given: Decimal, field: str) -> Amount:
    if not given.is_finite():
        raise InvalidQuantity(field, f"{str(given)[:_SHOWN]} is not a finite number")
    # Rounded to many more digits than fit: a million of them need not be looked at.
    value = _WIDE.plus(given)
    if value != given:
        raise _too_wide(value, field)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if abs(exponent) > _TEXT_MAX:
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


def _bounded(quantity: int, scale: int, given: Decimal | int, field: str) -> Amount:
    if scale > SCALE_MAX or not QUANTITY_MIN <= quantity <= QUANTITY_MAX:
        raise _too_wide(given, field)
    return Amount(quantity, scale)


def _float_refused(value: float, field: str) -> InvalidQuantity:
    if value - value != 0:
        return InvalidQuantity(field, f"{value!r} is not a finite number; pass what was used")
    return InvalidQuantity(
        field, f"{value!r} is a float; pass Decimal('{value!r}') or the text '{value!r}'"
    )


def _too_wide(given: Decimal | int, field: str) -> InvalidQuantity:
    shown = (
        str(given)[:_SHOWN]
        if not isinstance(given, int)
        else f"an integer of {given.bit_length()} bits"
    )
    return InvalidQuantity(
        field,
        f"{shown} does not fit: at most {SCALE_MAX} decimal places and, without the point, "
        f"{QUANTITY_MIN} to {QUANTITY_MAX}",
    )
