"""The beginning of an exact JSON text, at the cost of that beginning.

Metadata are kept to so many bytes, and strangers send megabytes of them, a thousand levels deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any, Final, cast

from meterstream_services.clients.exact_json import exact_text

_MARKS: Final[dict[type, tuple[str, str]]] = {dict: ("{", "}"), list: ("[", "]")}
_END: Final = ("", None)


def beginning(value: Any, most: int) -> str:  # noqa: ANN401 - whatever JSON can hold
    """The first ``most`` characters of `exact_text`, or some more, or all; however deep it is."""
    pieces: list[str] = []
    within: list[tuple[Iterator[tuple[str, Any]], str]] = []
    before, each = "", value
    while True:
        marks = _MARKS.get(type(each))
        if marks is None:
            text = before + _scalar(each, most)
        else:
            text = before + marks[0]
            within.append((_members(each, most), marks[1]))
        pieces.append(text)
        most -= len(text)
        while within and most > 0:
            before, each = found = next(within[-1][0], _END)
            if found is not _END:
                break
            pieces.append(within.pop()[1])
            most -= 1
        else:
            return "".join(pieces)


def _members(container: object, most: int) -> Iterator[tuple[str, Any]]:
    """What a container holds, and what is written before each."""
    between = ""
    if isinstance(container, dict):
        for name, each in cast("dict[str, Any]", container).items():
            yield f"{between}{_scalar(name, most)}: ", each
            between = ", "
    else:
        for each in cast("list[Any]", container):
            yield between, each
            between = ", "


def _scalar(value: object, most: int) -> str:
    # What is beyond needs no writing; the quote in its place is beyond too.
    return encode_basestring(value[:most]) if isinstance(value, str) else exact_text(value)
