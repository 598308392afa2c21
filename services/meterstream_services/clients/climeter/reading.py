"""The events of a batch, read without holding up other requests.

The client's JSON is Python's, with NaN and lone surrogates in it where metadata have them, of any
depth; and a batch that is refused is thrown away. So what can be read is read::

    a usual body    at once, as every body is; where that fails
    everything else event by event

One reading of a megabyte of brackets would hold the interpreter for a second, whichever thread it
is in; between two events, and at every number, others have their turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from json.decoder import JSONDecoder
from typing import Any, Final, cast

from meterstream_services.clients.climeter.bodies import has_too_many_values
from meterstream_services.clients.climeter.events import InvalidItem, read_event
from meterstream_services.gateway.port import Offer
from meterstream_services.http.json_bodies import VALUES_MAX, BadJson, parse_json
from meterstream_services.http.limits import BODY_BYTES_MAX

EVENTS_MAX: Final = 1_000

_LIST: Final = "events"
_NO_BATCH: Final = 'is no batch; send {"events": [...]}'
_REASON_MAX: Final = 200
_INTEGER_MAX: Final = 18
"""Characters of an `int`: the time that longer ones take grows with the square of their length."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SURROGATES: Final = ("\\ud", "\\uD")


class Batch:
    """What a batch says: offers and mistakes by their place, and how many events it has."""

    def __init__(self, tenant: str, now: int) -> None:
        self._tenant, self._now = tenant, now
        self.events = -1
        self.offers: dict[int, Offer] = {}
        self.errors: dict[int, str] = {}

    def begin(self) -> None:
        """Its list begins; of several lists the last one counts."""
        self.events = 0
        self.offers.clear()
        self.errors.clear()

    def add(self, event: object) -> None:
        """The next event; beyond `EVENTS_MAX` they are only counted."""
        index = self.events
        self.events += 1
        if index >= EVENTS_MAX:
            return
        try:
            offer = read_event(event, self._tenant, now=self._now)
        except InvalidItem as problem:
            self.errors[index] = str(problem)
        else:
            if offer is not None:
                self.offers[index] = offer


def read_batch(body: bytes, tenant: str, now: int) -> Batch:
    """The events of a body. Raises `BadJson`. Takes long for large ones: for a thread."""
    batch = Batch(tenant, now)
    if len(body) <= BODY_BYTES_MAX and not has_too_many_values(body, VALUES_MAX):
        try:
            value = parse_json(body)
        except BadJson as problem:
            try:
                _one_by_one(body, batch)
            except BadJson:
                raise problem from None
        else:
            _at_once(value, batch)
    else:
        _one_by_one(body, batch)
    if batch.events < 0:
        raise BadJson(_NO_BATCH)
    return batch


def _at_once(value: object, batch: Batch) -> None:
    found = cast("dict[str, Any]", value).get(_LIST) if isinstance(value, dict) else None
    if isinstance(found, list):
        batch.begin()
        for event in found:
            batch.add(event)


def _one_by_one(body: bytes, batch: Batch) -> None:
    """Raises `BadJson`."""
    try:
        _walk(_Text(body), batch)
    except BadJson:
        raise
    except RecursionError:
        raise BadJson("is nested deeper than can be read; send it flatter") from None
    except (ValueError, ArithmeticError) as problem:
        raise BadJson(f"is no JSON: {str(problem)[:_REASON_MAX]}") from None


def _walk(text: _Text, batch: Batch) -> None:
    if text.next() != "{":
        raise BadJson(_NO_BATCH)
    for name in text.names():
        if name == _LIST and text.next() == "[":
            batch.begin()
            for event in text.items():
                batch.add(event)
        else:
            text.value()
            if name == _LIST:
                raise BadJson(_NO_BATCH)
    if text.next():
        raise BadJson("is no JSON: there is more behind its end")


class _Text:
    """A JSON text, and a place in it. Everything raises `ValueError` where the text is no JSON."""

    def __init__(self, body: bytes) -> None:
        encoding = json.detect_encoding(body)
        self._at = 0
        try:
            self._text, self._is_odd = body.decode(encoding), False
        except UnicodeDecodeError:
            self._text, self._is_odd = body.decode(encoding, "surrogatepass"), True

    def next(self) -> str:
        """The letter that comes next, not passed; empty at the end."""
        found = _SPACE.match(self._text, self._at)
        self._at = self._at if found is None else found.end()
        return self._text[self._at : self._at + 1]

    def names(self) -> Iterator[str]:
        """The names of an object; who asks for the next one has read the value."""
        for _ in self._within("{", "}"):
            if self.next() != '"':
                raise ValueError("a name is missing")
            name = self.value()
            if self.next() != ":":
                raise ValueError("a value is missing")
            self._at += 1
            yield name

    def items(self) -> Iterator[Any]:
        """The values of a list."""
        for _ in self._within("[", "]"):
            yield self.value()

    def value(self) -> Any:  # noqa: ANN401 - whatever the sender wrote
        """The next value, which is passed; also without its lone surrogates."""
        self.next()
        begin = self._at
        value, self._at = _DECODER.raw_decode(self._text, begin)
        is_odd = self._is_odd or any(
            self._text.find(mark, begin, self._at) >= 0 for mark in _SURROGATES
        )
        return _repaired(value) if is_odd else value

    def _within(self, opening: str, closing: str) -> Iterator[None]:
        """Once for each member of the container that begins here."""
        mark = opening
        while self.next() == mark:
            self._at += 1
            if mark == opening and self.next() == closing:
                break
            yield
            mark = ","
        if self.next() != closing:
            raise ValueError("a comma or an end is missing")
        self._at += 1


def _repaired(value: object) -> Any:  # noqa: ANN401 - whatever the sender wrote
    text = json.dumps(value, default=str, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-8", "replace"))
    return value  # Its surrogates are pairs.


# Functions of Python and no types: between two of their calls other threads have their turn.
def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except ArithmeticError:
        return text


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _INTEGER_MAX else Decimal(text)


_DECODER: Final = JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=str)
