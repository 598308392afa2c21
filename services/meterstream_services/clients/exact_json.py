"""JSON with exact numbers: a `Decimal` is written with all its digits, and never as a float."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from starlette.responses import Response


def exact_text(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """A JSON text. Only values that `parse_json` gives are known, and other mappings and lists."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Mapping):
        members: Mapping[Any, Any] = value
        inner = (
            f"{json.dumps(str(name), ensure_ascii=False)}: {exact_text(each)}"
            for name, each in members.items()
        )
        return "{" + ", ".join(inner) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        items: Sequence[Any] = value
        return "[" + ", ".join(map(exact_text, items)) + "]"
    return json.dumps(value, ensure_ascii=False)


def plain(amount: Decimal) -> str:
    """Digits without exponent and without zeros at the end; with one where they would be many."""
    _, digits, exponent = amount.as_tuple()
    if not isinstance(exponent, int) or abs(exponent) + len(digits) > 200:
        return str(amount)
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_response(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - see `exact_text`
    """An answer with this content."""
    return Response(exact_text(content).encode(), status, media_type="application/json")
