"""The released schemas that come with this package, and the ids they have without a registry.

Released files never change; a new version is a new file with the next id.
"""

from __future__ import annotations

from typing import Final

BUNDLED_FILES: Final = {1: "meter_event.v1.avsc"}
"""Bundled schema ids and the released schema each stands for."""
LATEST_ID: Final = 1


def bundled_text(schema_id: int) -> str:
    """The JSON text of a bundled schema. Raises `KeyError` for an id that is not bundled."""
    # Imported here: it takes longer than all of the SDK, which never reads a schema.
    from importlib import resources  # noqa: PLC0415

    return (
        resources.files("meterstream_schemas")
        .joinpath("avro", BUNDLED_FILES[schema_id])
        .read_text("utf-8")
    )
