"""JSON with exact numbers: a `Decimal` is written with all its digits, and never as a float."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final

from starlette.responses import Response

_SHORT: Final = 100
"""Characters of a number that has neither many digits nor a large exponent, if it shows none."""


def exact_text(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """A JSON text. Only values that `parse_json` gives are known, and other mappings and lists."""
    if isinstance(value, Decimal):
        return plain(value)
    if type(value) in {dict, list}:
        try:  # At a tenth of the cost, where no number in it has to be written here.
            return json.dumps(value, ensure_ascii=False)
        except TypeError:
            pass
    return _slowly(value)


def _slowly(value: Any) -> str:  # noqa: ANN401 - as above
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is int:
        return repr(value)
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Mapping):
        members: Mapping[Any, Any] = value
        inner = (
            f"{encode_basestring(str(name))}: {_slowly(each)}" for name, each in members.items()
        )
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        items: Sequence[Any] = value
        return "[" + ", ".join(map(_slowly, items)) + "]"
    return json.dumps(value, ensure_ascii=False)


def plain(amount: Decimal) -> str:
    """Digits without exponent and without zeros at the end; with one where they would be many."""
    text = str(amount)
    if len(text) <= _SHORT and "E" not in text:  # Most are: a fifth of what the rest costs.
        return text.rstrip("0").rstrip(".") if "." in text else text
    _, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int) or abs(exponent) + len(digits) > 200:
        return text
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_response(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - see `exact_text`
    """An answer with this content."""
    return Response(exact_text(content).encode(), status, media_type="application/json")
