"""Many events of one kind at once: checked by columns, numbered, and appended in one step.

For whoever has events in batches and is the only one to put them into an intake, as the gateway;
`meterstream.intake.Intake.take` is for all others. A column of plain values is checked by a few
calls for all of it, so an event costs a fraction of what `take` costs. What takes more than such a
look is not decided here: then nothing is numbered, and the caller takes each event by itself.
"""

from __future__ import annotations

from itertools import repeat
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from meterstream.encoding import NO_ATTRIBUTES
from meterstream.intake import FRAGMENT_CACHED_BYTES_MAX, SLOT_BYTES
from meterstream_schemas.events import (
    ID_BYTES_MAX,
    QUANTITY_MAX,
    QUANTITY_MIN,
    TIME_MAX_MICROSECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meterstream.encoding import Entry, Series
    from meterstream.intake import Intake

_INTS: Final = {int}
_TEXTS: Final = {str}
_NONE: Final = {type(None)}


class Columns(NamedTuple):
    """Events of one kind, all columns of one length. Nothing in them was checked."""

    types: Sequence[object]
    tenants: Sequence[object]
    quantities: Sequence[object]
    times: Sequence[object]
    """Microseconds UTC."""
    sessions: Sequence[object]
    subjects: Sequence[object]
    attributes: Sequence[object]
    keys: Sequence[object]


def take_columns(intake: Intake, kind: int, columns: Columns) -> list[Entry] | None:
    """Their entries, which stand in the buffer now, in order; does not wake its thread.

    None, and nothing is numbered: where an event is wrong, or of values that are not plain, or
    where there is no room for all. Raises nothing for what an argument is.
    """
    types, tenants, quantities, times, sessions, subjects, attributes, keys = columns
    if (
        len(types) > intake.room
        or not _are_ints(quantities, QUANTITY_MIN, QUANTITY_MAX)
        or not _are_ints(times, 0, TIME_MAX_MICROSECONDS - 1)
        or not (_are_none(sessions) or _are_plain(sessions))
        or not (_are_none(subjects) or _are_plain(subjects))
        or not (_are_none(keys) or _are_plain(keys))
    ):
        return None
    try:
        fragments = _fragments(intake, attributes)
        series = _series(intake, kind, types, tenants)
    except Exception:  # noqa: BLE001 - one is wrong: `take` says how, or a stranger's method raised
        return None
    if max(map(len, fragments)) > SLOT_BYTES:
        return None
    numbers = [one.take() for one in series]
    told = zip(
        times, quantities, repeat(0), sessions, subjects, fragments, numbers, keys, strict=False
    )
    entries = cast("list[Entry]", list(map(add, [one.common for one in series], told)))
    intake.buffer.extend(entries)
    return entries


def _are_ints(column: Sequence[object], least: int, most: int) -> bool:
    if set(map(type, column)) != _INTS:
        return False
    numbers = cast("Sequence[int]", column)
    return least <= min(numbers) and max(numbers) <= most


def _are_none(column: Sequence[object]) -> bool:
    return set(map(type, column)) == _NONE


def _are_plain(column: Sequence[object]) -> bool:
    """Whether all are printable ASCII, of a length that an id may have."""
    if set(map(type, column)) != _TEXTS:
        return False
    texts = cast("Sequence[str]", column)
    joined = "".join(texts)
    return (
        joined.isascii()
        and joined.isprintable()
        and all(texts)
        and max(map(len, texts)) <= ID_BYTES_MAX
    )


def _series(
    intake: Intake, kind: int, types: Sequence[object], tenants: Sequence[object]
) -> list[Series]:
    """The series of each. Raises `InvalidEvent`, and what an argument's own methods raise."""
    young = intake.series.young
    try:
        return list(map(young.__getitem__, zip(repeat(kind), types, tenants, strict=False)))
    except KeyError:
        return [
            intake.series.young.get((kind, *named)) or intake.find_series(kind, *named)
            for named in zip(types, tenants, strict=True)
        ]


def _fragments(intake: Intake, attributes: Sequence[object]) -> list[bytes]:
    """The encoded attributes of each. Raises `InvalidEvent`, and what their own methods raise."""
    if _are_none(attributes):
        return [NO_ATTRIBUTES] * len(attributes)
    if len(set(map(id, attributes))) > len(attributes) // 2:
        named, young = cast("Sequence[Mapping[str, str]]", attributes), intake.ordered.young
        try:
            return [young[tuple(one.items())] for one in named]
        except (KeyError, AttributeError):
            return [_fragment(intake, one) for one in attributes]
    distinct = dict(zip(map(id, attributes), attributes, strict=True))
    found = {identity: _fragment(intake, one) for identity, one in distinct.items()}
    return [found[id(one)] for one in attributes]


def _fragment(intake: Intake, attributes: object) -> bytes:
    """Encoded in the order of their names, so that equal ones are equal bytes."""
    if attributes is None:
        return NO_ATTRIBUTES
    named = cast("Mapping[str, object]", attributes)
    key = tuple(named.items())
    ordered = intake.ordered
    fragment = ordered.young.get(key) or ordered.older(key)
    if fragment is None:
        fragment = intake.find_fragment(dict(sorted(named.items())))
        if len(fragment) <= FRAGMENT_CACHED_BYTES_MAX:
            ordered.put(key, fragment)
    return fragment
