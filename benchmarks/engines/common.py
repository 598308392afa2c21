"""What the comparisons in other environments share. Imports nothing of ours but `benchmarks`.

Everything they run on is installed beside them: fastavro, psutil and the engine itself.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any, Final, cast

import fastavro

WINDOW_MILLISECONDS: Final = 60_000
_HEADER_BYTES: Final = 5


def arguments_of(description: str | None, ways: tuple[str, ...]) -> argparse.Namespace:
    """What every engine is told."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="for its state")
    parser.add_argument("--schema", type=Path, required=True, help="of the events, Avro")
    parser.add_argument("way", choices=ways)
    return parser.parse_args()


class Events:
    """Decodes framed records with fastavro, each into a dictionary with plain times."""

    def __init__(self, schema: Path) -> None:
        parsed: dict[str, Any] = json.loads(schema.read_text("utf-8"))
        for field in parsed["fields"]:
            if field["name"] == "time":
                # Decoding a logical type would cost as much again.
                field["type"] = "long"
        self._schema = fastavro.parse_schema(parsed)

    def decode(self, framed: bytes) -> dict[str, Any]:
        """One record's event."""
        body = io.BytesIO(framed)
        body.seek(_HEADER_BYTES)
        event: dict[str, Any] = cast(
            "dict[str, Any]", fastavro.schemaless_reader(body, self._schema, None)
        )
        return event


def group_of(event: dict[str, Any]) -> str:
    """What is added up by, without the tenant."""
    return f"{event['type']}\x00{event['attributes'].get('region', '')}"


class Progress:
    """Reads the clocks at the first record and at the last; says so on standard output."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._seen = 0
        self._marks: list[tuple[int, float, float]] = []

    def add(self, records: int = 1) -> bool:
        """So many more are done; True from the last one on."""
        before, self._seen = self._seen, self._seen + records
        done = self._seen >= self._records
        if not before or (done and before < self._records):
            self._marks.append((self._seen, time.perf_counter(), time.process_time()))
        return done

    def report(self) -> None:
        """One line of JSON: [records, wall seconds, CPU seconds] of both readings."""
        sys.stdout.write(json.dumps({"marks": self._marks}) + "\n")
        sys.stdout.flush()
