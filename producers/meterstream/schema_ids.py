"""The schema id that records are framed with: the bundled one, or a registry's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterstream import processes
from meterstream_schemas.bundled import LATEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable


def schema_ids(registry_url: str | None, topic: str) -> Callable[[], int]:
    """A function that returns the id, asking the registry when there is one.

    It may block on HTTP and raises `SchemaUnavailable`: it is for the background thread.
    """
    if registry_url is None:
        return lambda: LATEST_ID
    return lambda: _registered(registry_url, topic)


def _registered(registry_url: str, topic: str) -> int:
    # Imported here: few hosts have a registry, and its client is large.
    with processes.no_fork():
        from meterstream_schemas.registry import RegistrySchemas  # noqa: PLC0415

        schemas = RegistrySchemas(registry_url, f"{topic}-value")
        schemas.load_client()
    return schemas.id_for_writing()
