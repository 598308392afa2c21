"""Exact costs from what callers pass: ints, floats as they are written, decimals and decimal texts.

A float means the digits that ``repr`` shows: 0.3 is three tenths. All arithmetic is exact; only a
cost that no event can carry (18 decimal places, 63 bits without the point) is rounded, half to
even, to the most places that fit.
"""

from __future__ import annotations

import operator
from contextlib import AbstractContextManager
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, localcontext
from functools import lru_cache
from typing import Final, SupportsIndex

from meterstream.compat.agentmeter.errors import AgentMeterValidationError
from meterstream_schemas.errors import InvalidQuantity
from meterstream_schemas.events import SCALE_MAX
from meterstream_schemas.quantity import parse_amount

Number = int | float | Decimal | str
"""What a caller may pass as an amount."""

_DIGITS_MAX: Final = 64
_SAFE_DIGITS: Final = 18
"""So many digits fit 63 bits whatever they are."""
_EXACT: Final = Context(prec=400, traps=[Inexact, InvalidOperation])
_ROUNDING: Final = Context(prec=400, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])


def exact(value: Number, *, field: str) -> Decimal:
    """The amount a caller means, digit for digit; never negative.

    Raises `AgentMeterValidationError` that names ``field``.
    """
    try:
        return _remembered(value, field)  # A service has few prices.
    except TypeError:
        return _exact(value, field)  # It cannot be remembered, nor perhaps be billed.


def whole(value: SupportsIndex | Number, *, field: str) -> int:
    """A count: an int, or another number without a fraction; never negative.

    Raises `AgentMeterValidationError` that names ``field``.
    """
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, SupportsIndex):
        value = operator.index(value) if not isinstance(value, bool) else value
    amount = exact(value, field=field)
    count = int(amount)
    if count != amount:
        raise AgentMeterValidationError(f"{field}: {value!r} is not a whole number")
    return count


def product(count: int, price: Decimal) -> Decimal:
    """``count * price``, exactly."""
    return _EXACT.multiply(Decimal(count), price)


def total(*amounts: Decimal) -> Decimal:
    """The sum, exactly."""
    found = Decimal(0)
    for amount in amounts:
        found = _EXACT.add(found, amount)
    return found


def carried(amount: Decimal, *, field: str) -> Decimal:
    """The amount as an event can carry it: itself, or rounded to the most places that fit.

    Raises `AgentMeterValidationError` where even its whole part is too large.
    """
    _, digits, exponent = amount.as_tuple()
    if isinstance(exponent, int) and -SCALE_MAX <= exponent <= 0 and len(digits) <= _SAFE_DIGITS:
        return amount
    for places in (None, *range(SCALE_MAX, -1, -1)):
        fitting = amount
        if places is not None:
            fitting = amount.quantize(Decimal(1).scaleb(-places), context=_ROUNDING)
        try:
            return parse_amount(fitting).decimal()
        except InvalidQuantity:
            continue
    raise AgentMeterValidationError(f"{field}: {amount:.3e} is more than one event can carry")


def exactly() -> AbstractContextManager[Context]:
    """A block in which arithmetic is exact, whatever the host's decimal context: for ledgers."""
    return localcontext(_ROUNDING)


def text(amount: Decimal) -> str:
    """Plain decimal text without exponent and trailing zeros; any number of digits."""
    plain = f"{amount:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _exact(value: Number, field: str) -> Decimal:
    amount = _decimal(value, field)
    sign, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int):
        raise AgentMeterValidationError(f"{field}: {value!r} is not a finite number")
    if sign and amount:
        raise AgentMeterValidationError(f"{field}: {value!r} is negative; pass 0 or more")
    if len(digits) > _DIGITS_MAX or abs(exponent) > _DIGITS_MAX:
        raise AgentMeterValidationError(f"{field}: {value!r:.80} has too many digits")
    return amount.copy_abs()


_remembered: Final = lru_cache(maxsize=1024, typed=True)(_exact)


def _decimal(value: object, field: str) -> Decimal:
    if isinstance(value, bool):
        raise AgentMeterValidationError(f"{field}: {value} is a bool; pass 1 or 0")
    if isinstance(value, Decimal | int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(float.__repr__(value))
    if isinstance(value, str):
        try:
            return Decimal(value)
        except InvalidOperation:
            pass
    raise AgentMeterValidationError(
        f"{field}: {value!r:.80} is not an amount; pass an int, float, Decimal or decimal text"
    )
