"""Schemas that hurt a decoder are refused before one sees them."""

from __future__ import annotations

import json

import pytest

from meterstream_schemas.bundled import BUNDLED_FILES, bundled_text
from meterstream_schemas.vetting import (
    DEPTH_MAX,
    SCHEMA_CHARACTERS_MAX,
    HarmfulSchema,
    is_harmless,
    vet,
)


def record(name: str, **fields: object) -> dict[str, object]:
    """A record's JSON."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": field, "type": kind} for field, kind in fields.items()],
    }


def nested(levels: int) -> object:
    """Arrays in arrays."""
    kind: object = "long"
    for _ in range(levels):
        kind = {"type": "array", "items": kind}
    return kind


def unfolding(levels: int) -> object:
    """Records of which each names the one before twice."""
    first = record("R0", a="null", b="null")
    chain: list[object] = [{"name": "f0", "type": first}]
    for level in range(1, levels):
        inner = f"R{level - 1}"
        chain.append({"name": f"f{level}", "type": record(f"R{level}", a=inner, b=inner)})
    return {"type": "record", "name": "Top", "fields": chain}


@pytest.mark.parametrize("schema_id", BUNDLED_FILES)
def test_released_schemas_pass(schema_id: int) -> None:
    """What we release is harmless by our own measure."""
    vet(bundled_text(schema_id))


@pytest.mark.parametrize(
    "schema",
    [
        "long",
        ["null", "string"],
        record("A", x={"type": "array", "items": "string"}, y={"type": "map", "values": "null"}),
        record("A", x=record("B", z="int"), y="B"),
        record("A", x={"type": "long", "logicalType": "timestamp-micros"}),
        {"type": "fixed", "name": "F", "size": 16},
        nested(DEPTH_MAX),
        unfolding(8),
    ],
)
def test_ordinary_schemas_pass(schema: object) -> None:
    """Nesting, unions, maps and repeated names are no harm in themselves."""
    vet(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (record("A", next=["null", "A"]), "A contains itself"),
        (record("A", b=record("B", a={"type": "map", "values": "A"})), "A contains itself"),
        (record("x.A", b={**record("B", a="x.A"), "namespace": "y"}), "contains itself"),
        (record("A", a=record("A")), "A contains itself"),
        ({"type": "array", "items": "null"}, "take no bytes"),
        ({"type": "array", "items": {"type": "null"}}, "take no bytes"),
        ({"type": "array", "items": record("E")}, "take no bytes"),
        ({"type": "array", "items": record("E", a="null", b=record("G"))}, "take no bytes"),
        (
            {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
            "take no bytes",
        ),
        (record("A", e=record("E"), x={"type": "array", "items": "E"}), "take no bytes"),
        (nested(DEPTH_MAX + 1), "deeper than"),
        (unfolding(14), "unfolds to more than"),
        ({"type": "fixed", "name": "F", "size": -1}, "a fixed of size -1"),
        ({"type": "fixed", "name": "F", "size": "9"}, "a fixed of size '9'"),
        (record("A", x="Unheard"), "Unheard is not defined"),
        ({"type": "record", "name": "A"}, "has no list of fields"),
        ({"type": "record", "name": "A", "fields": ["x"]}, "a field that is none"),
        ({}, "None is no type"),
        (7, "7 is no type"),
        pytest.param("x" * SCHEMA_CHARACTERS_MAX, "characters; at most", id="long"),
    ],
)
def test_harmful_schemas_are_refused(schema: object, words: str) -> None:
    """Recursion, free items, unfolding, depth and nonsense are each named."""
    with pytest.raises(HarmfulSchema) as refusal:
        vet(json.dumps(schema))

    assert words in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", pytest.param("[" * 60_000, id="deep"), "nonsense"])
def test_what_is_not_json_is_harmful(text: str) -> None:
    """Text that no parser gets through is refused, deep nesting included."""
    assert not is_harmless(text)
