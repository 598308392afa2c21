"""The rules of evolution, and our released schemas under them."""

from __future__ import annotations

import hashlib
import io
import json
from importlib import resources
from itertools import product

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.bundled import BUNDLED_FILES, LATEST_ID, bundled_text
from meterstream_schemas.evolution import Problem, mismatches, problems

RELEASED = {
    "meter_event.v1.avsc": "4e71a2e787fa42793ea293a41dc6697103f9d24ad9fc77f53e501257c9f4e209",
}
"""SHA-256 of every released schema. A line is added with a version and never changed."""

NULLABLE = {"name": "note", "type": ["null", "string"], "default": None}
LONG = {"name": "n", "type": "long"}


def record(*fields: object, name: str = "m.Event", **more: object) -> str:
    """The JSON of a record."""
    return json.dumps({"type": "record", "name": name, "fields": fields, **more})


def enum(*symbols: str, **more: object) -> str:
    """The JSON of an enum."""
    return json.dumps({"type": "enum", "name": "Kind", "symbols": symbols, **more})


def test_released_schemas_are_what_they_were() -> None:
    """Every file has the hash it was released with, and none is missing or unlisted."""
    directory = resources.files("meterstream_schemas").joinpath("avro")
    found = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()
    }

    assert found == RELEASED
    assert sorted(BUNDLED_FILES.values()) == sorted(RELEASED)
    assert max(BUNDLED_FILES) == LATEST_ID


def test_every_released_version_reads_every_other() -> None:
    """Full transitive compatibility over all there ever was."""
    assert mismatches({str(version): bundled_text(version) for version in BUNDLED_FILES}) == []


def test_the_next_version_may_add_a_nullable_field_and_a_kind() -> None:
    """What the schema was prepared for is compatible both ways."""
    current = bundled_text(LATEST_ID)
    schema = json.loads(current)
    schema["fields"].append(NULLABLE)
    schema["fields"][0]["type"]["symbols"].append("SNAPSHOT")

    assert mismatches({"current": current, "next": json.dumps(schema)}) == []


def test_our_schema_has_only_types_that_decode_natively() -> None:
    """Fixed, bytes, decimal and uuid would bring the native decoder down."""
    text = bundled_text(LATEST_ID)

    assert not [word for word in ("fixed", "bytes", "decimal", "uuid") if f'"{word}"' in text]


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        (record(LONG), record(LONG)),
        (record(LONG, NULLABLE), record(LONG)),
        (record(LONG), record(LONG, NULLABLE)),
        (record({"name": "n", "type": "double"}), record({"name": "n", "type": "int"})),
        (record({"name": "n", "type": ["null", "long"]}), record(LONG)),
        (record({"name": "m", "aliases": ["n"], "type": "long"}), record(LONG)),
        (record(LONG, name="m.New", aliases=["Event"]), record(LONG)),
        (enum("A", default="A"), enum("A", "B")),
        (enum("A", "B"), enum("A")),
        ('"bytes"', '"string"'),
        ('{"type": "array", "items": "long"}', '{"type": "array", "items": "int"}'),
        ('{"type": "fixed", "name": "F", "size": 4}', '{"type": "fixed", "name": "F", "size": 4}'),
        ('["null", "long"]', '["int", "null"]'),
    ],
)
def test_compatible_pairs(reader: str, writer: str) -> None:
    """Additions with defaults, promotions, aliases and enum defaults are compatible."""
    assert problems(reader=reader, writer=writer) == []


@pytest.mark.parametrize(
    ("reader", "writer", "problem"),
    [
        (
            record(LONG, {"name": "x", "type": "string"}),
            record(LONG),
            Problem("m.Event.x", "the writer lacks it and it has no default"),
        ),
        (
            record({"name": "n", "type": "int"}),
            record(LONG),
            Problem("m.Event.n", "long cannot be read as int"),
        ),
        (
            record({"name": "n", "type": "string"}),
            record(LONG),
            Problem("m.Event.n", "long cannot be read as string"),
        ),
        (
            record(LONG),
            record({"name": "n", "type": ["null", "long"]}),
            Problem("m.Event.n|null", "null cannot be read as long"),
        ),
        (
            record({"name": "n", "type": ["null", "string"]}),
            record(LONG),
            Problem("m.Event.n", "no branch of the reader reads long"),
        ),
        (
            record(LONG, name="m.New"),
            record(LONG),
            Problem("", "m.Event cannot be read as m.New"),
        ),
        (
            enum("A"),
            enum("A", "B", "C"),
            Problem("", "the reader knows no B, C and has no default symbol"),
        ),
        (
            enum("A", default="Z"),
            enum("A", "B"),
            Problem("", "the reader knows no B and has no default symbol"),
        ),
        (
            '{"type": "fixed", "name": "F", "size": 4}',
            '{"type": "fixed", "name": "F", "size": 5}',
            Problem("", "the sizes of the fixed differ"),
        ),
        (
            '{"type": "map", "values": "int"}',
            '{"type": "map", "values": "string"}',
            Problem("[]", "string cannot be read as int"),
        ),
        (
            record({"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}}),
            record({"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}),
            Problem("m.Event.t", "logical type timestamp-micros would be read as timestamp-millis"),
        ),
    ],
)
def test_incompatible_pairs(reader: str, writer: str, problem: Problem) -> None:
    """Each way to break a reader is found, with the place and the reason."""
    assert problems(reader=reader, writer=writer) == [problem]


def test_a_mismatch_says_which_version_cannot_read_which() -> None:
    """A field without default can be dropped by a writer and not by a reader."""
    found = mismatches({"1": record(LONG), "2": record(LONG, {"name": "x", "type": "string"})})

    assert [(mismatch.reader, mismatch.writer) for mismatch in found] == [("2", "1")]


def test_recursive_schemas_are_compared_to_an_end() -> None:
    """A list that contains itself is compatible with itself."""
    text = record(LONG, {"name": "next", "type": ["null", "Event"], "default": None})

    assert problems(reader=text, writer=text) == []


def test_types_named_in_skipped_fields_are_known() -> None:
    """A reference to a type that only a skipped field defines is followed."""
    inner = {"type": "record", "name": "Inner", "fields": [LONG]}
    writer = record({"name": "old", "type": inner}, {"name": "kept", "type": "Inner"})
    reader = record({"name": "kept", "type": inner})

    assert problems(reader=reader, writer=writer) == []


PRIMITIVES = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(st.characters(codec="utf-8")),
}


@pytest.mark.parametrize(("reader", "writer"), list(product(PRIMITIVES, repeat=2)))
@given(data=st.data())
def test_an_avro_library_agrees_about_primitives(
    data: st.DataObject, reader: str, writer: str
) -> None:
    """Where we see no problem, an independent reader reads; where we see one, it refuses."""
    written = record({"name": "n", "type": writer})
    read = record({"name": "n", "type": reader})
    value = data.draw(PRIMITIVES[writer])
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, json.loads(written), {"n": value})
    buffer.seek(0)

    if problems(reader=read, writer=written):
        with pytest.raises(SchemaResolutionError):
            fastavro.schemaless_reader(buffer, json.loads(written), json.loads(read))
    else:
        decoded = fastavro.schemaless_reader(buffer, json.loads(written), json.loads(read))
        assert isinstance(decoded, dict)
