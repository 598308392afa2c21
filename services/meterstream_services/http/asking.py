"""From query strings to questions: what the reading routes share."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from datetime import tzinfo
from typing import Annotated, Any, Final

import orjson
from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from meterstream_aggregator.civil import InvalidQuestion, format_time

ROWS_DEFAULT: Final = 1000
ROWS_MAX: Final = 10_000

_REPEATABLE: Final = frozenset({"tenant", "by", "where", "group"})


class Query(BaseModel):
    """A query string of which every part is known: a misspelt filter must not widen an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _short(text: str) -> str:
    if len(text) > 1024:
        raise ValueError("is longer than 1024 characters")
    return text


Text = Annotated[str, AfterValidator(_short)]
Zone = Annotated[
    Text,
    Field(description="IANA zone of the answer's times.", examples=["Europe/Berlin"]),
]
Limit = Annotated[int, Field(ge=1, le=ROWS_MAX, description="At most so many rows.")]
After = Annotated[Text, Field(description="Go on after here: `next` of the answer before.")]


def said_once(request: Request) -> None:
    """Refuse a parameter that is given twice and can only mean one thing. A dependency."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if count > 1 and name not in _REPEATABLE:
            raise InvalidQuestion(name[:64], "is given more than once; give it once")


def json_response(content: Mapping[str, Any]) -> Response:
    """JSON, in the order in which ``content`` has its keys."""
    return Response(orjson.dumps(content), media_type="application/json")


def shown_time(time: int | None, zone: tzinfo) -> str | None:
    """A time for an answer; None stays None."""
    return None if time is None else format_time(time, zone)


def cursor(text: str) -> str:
    """A place in a list as one word that needs no escaping anywhere."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def place(word: str) -> str:
    """What `cursor` was made from. Raises `InvalidQuestion` for anything else."""
    try:
        raw = word.encode("ascii") + b"=" * (-len(word) % 4)
        return base64.b64decode(raw, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidQuestion("after", f"{word[:40]!r} is no `next` of an earlier answer") from None
