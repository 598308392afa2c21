"""Heavy batches of CLIMeter are read event by event: the same is found, and nothing waits long."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_services.clients.climeter import reading
from meterstream_services.clients.climeter.reading import EVENTS_MAX, Batch, read_batch
from meterstream_services.http.json_bodies import VALUES_MAX, BadJson

NOW = 1_795_223_619_000_000
CALL = '{"command": "c", "metadata": %s}'
HEAVY = ", ".join(["0"] * (VALUES_MAX + 1))
"""So many values that the batch is read event by event."""

_scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=6)
_json = st.recursive(
    _scalars | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
_spaces = st.sampled_from(["", " ", "\n\t ", "\r\n"])


def _written(value: Any, space: str) -> str:  # noqa: ANN401 - whatever JSON can hold
    """A JSON text with its numbers' very digits, and space wherever it may be."""
    if isinstance(value, dict):
        members = (f"{space}{json.dumps(n)}{space}:{_written(v, space)}" for n, v in value.items())
        return f"{space}{{{','.join(members)}{space}}}{space}"
    if isinstance(value, list):
        return f"{space}[{','.join(_written(each, space) for each in value)}{space}]{space}"
    text = str(value) if isinstance(value, Decimal) else json.dumps(value)
    return f"{space}{text}{space}"


def _heavily(body: bytes) -> Batch:
    """The batch read as a heavy one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "VALUES_MAX", -1)
        return read_batch(body, "a", NOW)


@given(st.lists(st.dictionaries(st.sampled_from(["command", "metadata", "x"]), _json)), _spaces)
def test_both_ways_read_the_same(events: list[dict[str, Any]], space: str) -> None:
    """Offers, mistakes and how many there are, whatever stands before and behind."""
    told = {"before": events, "events": [*events, {"command": "c", "metadata": {"a": [1.50]}}]}
    body = _written(told | {"behind": None}, space).encode()

    usual, heavy = read_batch(body, "a", NOW), _heavily(body)

    assert heavy.events == usual.events == len(events) + 1
    assert (heavy.offers, heavy.errors) == (usual.offers, usual.errors)


def test_events_are_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heavy body is never read as a whole: its first event is there before its end is seen."""
    seen: list[object] = []

    def parse_json(body: bytes) -> None:
        pytest.fail(f"{len(body)} bytes were read as a whole")

    def read_event(event: object, _tenant: str, *, now: int) -> None:
        seen.append(event)

    monkeypatch.setattr(reading, "parse_json", parse_json)
    monkeypatch.setattr(reading, "read_event", read_event)

    with pytest.raises(BadJson):
        read_batch(f'{{"events": [{{"n": 1}}, [{HEAVY}], {{"n": 2}}, '.encode(), "a", NOW)

    assert [event for event in seen if isinstance(event, dict)] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("levels", [25, 450, 900])
def test_levels_beyond_the_usual_are_read(levels: int) -> None:
    """Each event counts; of its metadata the beginning is kept."""
    deep = CALL % ('{"a": ' + "[" * levels + "1.5" + "]" * levels + "}")

    batch = read_batch(f'{{"events": [{", ".join([deep] * 20)}]}}'.encode(), "a", NOW)

    assert (len(batch.offers), batch.errors) == (20, {})
    attributes = batch.offers[19].attributes or {}
    assert attributes["metadata.a"] == "[" * levels + "1.5" + "]" * min(levels, 1021 - levels)


def test_numbers_keep_their_digits() -> None:
    """So long ids that differ in the last digit are two, also where they are no integers."""
    ids = [f"{'9' * 5_000}{end}{more}" for end in (1, 2) for more in ("", ".5")]
    events = ", ".join(
        CALL % f'{{"request_id": {each}}}' for each in [*ids, "1e999999999999999999"]
    )
    body = f'{{"events": [{events}], "x": [{HEAVY}]}}'.encode()

    batch = read_batch(body, "a", NOW)

    assert len({offer.key for offer in batch.offers.values()}) == 5


def test_odd_texts_are_repaired() -> None:
    """Lone surrogates, written out and as bytes, in names and values; whole pairs stay."""
    metadata = b'{"a\\ud800": "\\uD83D\\uDE00 \\udc00", "b": "\xed\xa0\x80", "c": 1.50, "d": NaN}'

    batch = _heavily(b'{"events": [{"command": "c", "metadata": ' + metadata + b"}]}")

    told = batch.offers[0].attributes or {}
    assert {name: told[f"metadata.{name}"] for name in ("a?", "b", "c", "d")} == {
        "a?": "😀 ?",
        "b": "?",
        "c": "1.50",
        "d": "NaN",
    }


def test_the_last_list_counts_and_too_many_are_only_counted() -> None:
    """As it is with members of one name everywhere."""
    call = CALL % "null"
    many = ", ".join([call] * (EVENTS_MAX + 1))

    assert _heavily(f'{{"events": [{many}], "events": [7]}}'.encode()).errors.keys() == {0}
    assert _heavily(f'{{"events": [7, {call}], "events": []}}'.encode()).errors == {}
    assert _heavily(f'{{"events": [{many}]}}'.encode()).events == EVENTS_MAX + 1


@pytest.mark.parametrize(
    "body",
    [
        *("", "7", "[]", "{}", "{", '{"events"', '{"events":', '{"events": [', '{"events": [7'),
        *('{"events": [7]', '{"events": [7,]}', '{"events": [,7]}', '{"events": [7 7]}'),
        *('{"events": [7]} 7', '{"events": [7],}', '{"events": [7] "x": 1}', "{7: [7]}"),
        *('{"events": {}}', '{"events": [7], "events": null}', '{"events": "' + "[" * 2_000 + '"}'),
        *('{"events" [7]}', '{"events": [7}', '{"events": [' + "[" * 5_000, '{"x": [7], "y" 1}'),
    ],
)
def test_what_is_no_batch_is_refused(body: str) -> None:
    """Both ways, with a sentence."""
    with pytest.raises(BadJson) as told:
        read_batch(body.encode(), "a", NOW)
    assert told.value.reason.startswith("is ")
    with pytest.raises(BadJson) as told:
        _heavily(body.encode())
    assert told.value.reason.startswith("is ")
