"""The registry of the bundled schemas, asked by Confluent's own client and by hand."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from meterstream_schemas.bundled import bundled_text
from meterstream_schemas.registry import RegistrySchemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.services.ingest.conftest import Gate

SUBJECT = "meterstream.events-value"
SCHEMA = json.loads(bundled_text(1))


@contextmanager
def listening(gate: Gate) -> Iterator[str]:
    """The routes on a socket: the registry's address."""
    server = uvicorn.Server(uvicorn.Config(gate.app, log_config=None, lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/registry"
        finally:
            server.should_exit = True
            thread.join()


def test_confluents_client_reads_it(gate: Gate) -> None:
    """Ids, subjects, versions and lookups, as tools that decode a topic ask for them."""
    with listening(gate) as url, SchemaRegistryClient({"url": url}) as client:
        by_id = client.get_schema(1, subject_name=SUBJECT)
        latest = client.get_latest_version(SUBJECT)
        looked_up = client.lookup_schema(SUBJECT, Schema(bundled_text(1), "AVRO"))
        subjects, versions = client.get_subjects(), client.get_versions(SUBJECT)
        with pytest.raises(SchemaRegistryError) as unknown:
            client.get_schema(7)
        with pytest.raises(SchemaRegistryError) as registered:
            client.register_schema(SUBJECT, Schema('"string"', "AVRO"))
        with pytest.raises(SchemaRegistryError) as deleted:
            client.delete_subject(SUBJECT)

    assert by_id.schema_str is not None
    assert json.loads(by_id.schema_str) == SCHEMA
    assert (latest.schema_id, latest.version, latest.subject) == (1, 1, SUBJECT)
    assert looked_up.schema_id == 1
    assert (subjects, versions) == ([SUBJECT], [1])
    assert (unknown.value.http_status_code, unknown.value.error_code) == (404, 40403)
    assert (registered.value.http_status_code, registered.value.error_code) == (422, 42205)
    assert (deleted.value.http_status_code, deleted.value.error_code) == (405, 405)


def test_our_own_reader_of_registries_reads_it(gate: Gate) -> None:
    """A worker that is pointed at it finds the schema of the bundled id."""
    with listening(gate) as url:
        reader = RegistrySchemas(url, SUBJECT)
        with reader._open():  # Closes its connections behind it.
            text, found = reader.schema_text(1), reader.id_for_writing()

    assert (json.loads(text), found) == (SCHEMA, 1)


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("subjects", 200, [SUBJECT]),
        ("schemas/types", 200, ["AVRO"]),
        ("schemas/ids/1/schema", 200, SCHEMA),
        ("schemas/ids/1/versions", 200, [{"subject": SUBJECT, "version": 1}]),
        ("schemas/ids/1/subjects", 200, [SUBJECT]),
        ("subjects/other-value/versions", 200, [1]),
        ("subjects/other-value/versions/latest/schema", 200, SCHEMA),
        ("config", 200, {"compatibilityLevel": "FULL_TRANSITIVE"}),
        (f"config/{SUBJECT}", 200, {"compatibilityLevel": "FULL_TRANSITIVE"}),
        ("mode", 200, {"mode": "READONLY"}),
        (f"mode/{SUBJECT}", 200, {"mode": "READONLY"}),
        ("schemas/ids/0", 404, 40403),
        ("schemas/ids/x", 404, 40403),
        ("schemas/ids/99999999999999999999", 404, 40403),
        ("schemas/ids/x/schema", 404, 40403),
        ("schemas/ids/x/versions", 404, 40403),
        ("schemas/ids/x/subjects", 404, 40403),
        ("subjects/events-key/versions", 404, 40401),
        ("subjects/events-key/versions/1", 404, 40401),
        ("subjects/events-key/versions/1/schema", 404, 40401),
        ("subjects/-value/versions", 404, 40401),
        ("config/events-key", 404, 40401),
        ("mode/events-key", 404, 40401),
        (f"subjects/{SUBJECT}/versions/2", 404, 40402),
        (f"subjects/{SUBJECT}/versions/2/schema", 404, 40402),
        (f"subjects/{SUBJECT}/versions/two", 422, 42202),
        ("anything/else", 404, 404),
        ("subjects/a%2F..%2Fb-value/versions", 404, 404),
    ],
)
def test_by_hand(gate: Gate, path: str, status: int, told: object) -> None:
    """Every answer is the registry's JSON; errors have its code and a message."""
    answer = gate.send("GET", f"/registry/{path}")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    found = answer.json()
    assert (found["error_code"] if status != 200 else found) == told


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 42201),
        (b"[]", 42201),
        (b'{"schema": 5}', 42201),
        (b'{"schema": "{"}', 42201),
        (b'{"schema": "\\"string\\""}', 40403),
    ],
)
def test_lookups_that_find_nothing(gate: Gate, body: bytes, code: int) -> None:
    """Whatever is looked up, the answer is the registry's error."""
    answer = gate.send("POST", f"/registry/subjects/{SUBJECT}", content=body)

    assert answer.json()["error_code"] == code


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_nothing_can_be_changed(gate: Gate, method: str) -> None:
    """Every other method is 405 in the registry's shape."""
    for path in ("config", f"subjects/{SUBJECT}/versions/1", "anything"):
        answer = gate.send(method, f"/registry/{path}", content=b"{}")

        assert (answer.status_code, answer.json()["error_code"]) == (405, 405)
