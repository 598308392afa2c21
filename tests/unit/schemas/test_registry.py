"""Writer schemas from the bundled set and from one subject of a registry."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from meterstream_schemas import registry as module
from meterstream_schemas.bundled import LATEST_ID, bundled_text
from meterstream_schemas.errors import SchemaUnavailable, UnknownSchema
from meterstream_schemas.registry import UNKNOWN_SECONDS, BundledSchemas, RegistrySchemas
from tests.unit.schemas.registry_stub import Registry, running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT = "meterstream.events-value"
OURS = bundled_text(LATEST_ID)
RECURSIVE = '{"type":"record","name":"A","fields":[{"name":"a","type":["null","A"]}]}'


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A running registry that holds our schema as id 7 under our subject."""
    with running_registry() as running:
        running.subjects[SUBJECT] = {7: OURS}
        yield running


def test_bundled_ids_are_known_and_no_others() -> None:
    """Without a registry there are the released schemas."""
    schemas = BundledSchemas()

    assert schemas.schema_text(LATEST_ID) == OURS
    with pytest.raises(UnknownSchema, match="schema id 99 is neither bundled nor registered"):
        schemas.schema_text(99)


def test_an_id_of_the_subject_is_fetched_once(registry: Registry) -> None:
    """The text comes from the registry the first time, from memory after."""
    schemas = RegistrySchemas(registry.url, SUBJECT)

    assert schemas.schema_text(7) == OURS
    asked = len(registry.asked)
    assert schemas.schema_text(7) == OURS
    assert len(registry.asked) == asked


def test_an_id_of_another_subject_is_unknown(registry: Registry) -> None:
    """That the registry holds a schema does not make it ours."""
    registry.subjects["somebody-value"] = {8: OURS}

    with pytest.raises(UnknownSchema):
        RegistrySchemas(registry.url, SUBJECT).schema_text(8)
    assert all("versions" in path for path in registry.asked)


@pytest.mark.parametrize("text", [RECURSIVE, '{"type":"array","items":"null"}', "nonsense"])
def test_a_harmful_schema_is_unknown_also_under_our_subject(registry: Registry, text: str) -> None:
    """Whoever may write to the registry may still not bring a worker down."""
    registry.subjects[SUBJECT][9] = text

    with pytest.raises(UnknownSchema):
        RegistrySchemas(registry.url, SUBJECT).schema_text(9)


def test_a_schema_of_another_language_is_unknown(registry: Registry) -> None:
    """Protobuf and JSON Schema are not read as Avro."""
    registry.subjects[SUBJECT][9] = '"string"'
    registry.types[9] = "JSON"

    with pytest.raises(UnknownSchema):
        RegistrySchemas(registry.url, SUBJECT).schema_text(9)


def test_an_unknown_id_is_not_asked_for_again_at_once(registry: Registry) -> None:
    """A flood of an unknown id is one question per interval; then it may have been registered."""
    now = [0.0]
    schemas = RegistrySchemas(registry.url, SUBJECT, clock=lambda: now[0])

    for _ in range(3):
        with pytest.raises(UnknownSchema):
            schemas.schema_text(8)
    assert len(registry.asked) == 1

    registry.subjects[SUBJECT][8] = OURS
    now[0] = UNKNOWN_SECONDS + 1
    assert schemas.schema_text(8) == OURS


def test_what_is_remembered_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many unknown ids come, the oldest are forgotten, and asked for when they return."""
    monkeypatch.setattr(module, "KNOWN_MAX", 10)
    schemas = RegistrySchemas(registry.url, SUBJECT)

    for schema_id in [*range(100, 112), 111, 100]:
        with pytest.raises(UnknownSchema):
            schemas.schema_text(schema_id)

    assert sum("ids/111/" in path for path in registry.asked) == 1
    assert sum("ids/100/" in path for path in registry.asked) == 2


def test_a_failing_registry_is_waited_for_and_remembered_as_nothing(registry: Registry) -> None:
    """An outage is SchemaUnavailable; afterwards the id is readable."""
    schemas = RegistrySchemas(registry.url, SUBJECT)
    registry.failing_with = 503

    with pytest.raises(SchemaUnavailable, match="down"):
        schemas.schema_text(7)

    registry.failing_with = None
    assert schemas.schema_text(7) == OURS


def test_an_absent_registry_is_named_without_its_password() -> None:
    """The message shows where it looked, and no secret."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        schemas = RegistrySchemas(f"http://user:hush@127.0.0.1:{port}", SUBJECT)

        with pytest.raises(SchemaUnavailable, match=f"http://127.0.0.1:{port}") as problem:
            schemas.schema_text(7)

    assert "hush" not in str(problem.value)


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8081"])
def test_an_url_that_is_none_is_named(url: str) -> None:
    """A mistaken setting is a sentence with the setting in it."""
    with pytest.raises(SchemaUnavailable, match="correct the URL"):
        RegistrySchemas(url, SUBJECT).schema_text(7)


def test_a_writer_finds_its_schema_or_registers_it(registry: Registry) -> None:
    """The id is the one the subject has; a new subject gets the schema."""
    assert RegistrySchemas(registry.url, SUBJECT).id_for_writing() == 7

    fresh = RegistrySchemas(registry.url, "other-value")
    assert fresh.id_for_writing() == 100
    assert fresh.schema_text(100) == OURS


def test_a_writer_without_the_right_to_register_says_so(registry: Registry) -> None:
    """A refusal of the registry is told in its own words."""
    registry.read_only = True

    assert RegistrySchemas(registry.url, SUBJECT).id_for_writing() == 7
    with pytest.raises(SchemaUnavailable, match="Forbidden"):
        RegistrySchemas(registry.url, "other-value").id_for_writing()
