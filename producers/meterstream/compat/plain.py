"""Whatever a caller has in its metadata, as attributes that can be recorded.

Foreign clients document metadata as a dict of anything; attributes are text within limits. Nothing
here raises, and nothing makes an event be refused: what is too long is cut at a character, what is
too much is left out, what cannot be written is named by its type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Final

from meterstream_schemas.events import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTE_VALUE_BYTES_MAX,
    ID_BYTES_MAX,
)

METADATA_MAX: Final = 24
"""Of 32 attributes, the others are the client's own."""
_TOTAL_BYTES_MAX: Final = 12_000
"""Of an event's 16 KiB; further metadata are left out."""


def attributes_of(
    metadata: object, *, prefix: str = "", key: str | None = None
) -> tuple[dict[str, str], str | None]:
    """The attributes of metadata, and the text that it holds under ``key``, if any.

    Anything but a mapping with text for names is nothing.
    """
    found: dict[str, str] = {}
    told_key: str | None = None
    if metadata is None:
        return found, None
    try:
        if not isinstance(metadata, Mapping):
            return found, None
        room = _TOTAL_BYTES_MAX
        for name, value in islice(metadata.items(), METADATA_MAX):
            text = text_of(value)
            if name == key and 0 < _length(text) <= ID_BYTES_MAX and text.isprintable():
                told_key = text
            attribute = _name_of(prefix, name)
            room -= _length(attribute) + _length(text) + 4
            if room < 0:
                break
            found[attribute] = text
    except Exception:  # noqa: BLE001, S110 - a mapping of the caller's may raise anything at all
        pass
    return found, told_key


def text_of(value: object) -> str:
    """Text as it is, numbers and truth values as in JSON, containers as JSON, the rest by ``str``.

    Never raises.
    """
    try:
        if type(value) is str:
            text = value
        elif type(value) is int:
            text = repr(value)
        elif isinstance(value, str):
            text = str.__str__(value)
        elif value is None or isinstance(value, bool | int | float | dict | list | tuple):
            text = json.dumps(value, default=str, ensure_ascii=False)
        else:
            text = str(value)
    except Exception:  # noqa: BLE001 - it is the caller's object, and may do anything
        text = f"<{type(value).__name__}>"
    return _cut(text, ATTRIBUTE_VALUE_BYTES_MAX)


def shown(value: object) -> str:
    """A value as a message names it: at most 40 characters. Never raises."""
    try:
        return repr(value[:40] if isinstance(value, str) else value)[:40]
    except Exception:  # noqa: BLE001 - it is the caller's object, and may do anything
        return f"<{type(value).__name__}>"


def _name_of(prefix: str, name: object) -> str:
    text = text_of(name)
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return _cut(prefix + text, ATTRIBUTE_NAME_BYTES_MAX)


def _cut(text: str, bytes_max: int) -> str:
    if len(text) <= bytes_max and text.isascii():
        return text
    return text[:bytes_max].encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
