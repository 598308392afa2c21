"""Where the SDK finds its broker: arguments, then environment, then ``connection.toml``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from meterstream import processes
from meterstream.errors import TransportUnavailable
from meterstream_schemas.events import EVENTS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BOOTSTRAP_SERVERS: Final = "METERSTREAM_BOOTSTRAP_SERVERS"
DATA: Final = "METERSTREAM_DATA"
TOPIC: Final = "METERSTREAM_TOPIC"
REGISTRY_URL: Final = "METERSTREAM_REGISTRY_URL"


def find_bootstrap_servers(
    given: str | None, data: str | Path | None, environment: Mapping[str, str] = os.environ
) -> str:
    """The broker's address. Reads ``connection.toml``, so not for a caller's thread.

    Raises `TransportUnavailable` that says what to set when nothing names a broker.
    """
    servers = given or environment.get(BOOTSTRAP_SERVERS)
    if servers:
        return _without_secrets(servers)
    directory = data or environment.get(DATA)
    if not directory:
        raise TransportUnavailable(
            f"no broker is named; pass bootstrap_servers, or set {BOOTSTRAP_SERVERS} or {DATA}"
        )
    # Imported here: most hosts name their broker and need neither paths nor a parser of TOML.
    with processes.no_fork():
        from pathlib import Path  # noqa: PLC0415

        from meterstream_schemas.connection import read_connection  # noqa: PLC0415

    try:
        connection = read_connection(Path(directory))
    except ValueError as problem:
        raise TransportUnavailable(str(problem)) from problem
    if connection is None or not connection.bootstrap_servers:
        raise TransportUnavailable(names_none("broker", Path(directory)))
    return _without_secrets(connection.bootstrap_servers)


def names_none(what: str, directory: Path) -> str:
    """Why a data directory names no broker or no API, by its whole path: two mistakes look alike.

    A relative path is another one in a service that starts elsewhere; and `up` may be stopped.
    """
    from meterstream_schemas.connection import FILE_NAME  # noqa: PLC0415 - as above

    whole = directory.absolute()
    if not os.path.isdir(whole):  # noqa: PTH112 - of a path that may not be looked at, too
        return (
            f"the directory {whole} does not exist, so it names no {what}; "
            "give the whole path of the one that `meterstream up` runs on"
        )
    return f"{whole / FILE_NAME} names no {what}; is `meterstream up` running there?"


def _without_secrets(servers: str) -> str:
    """The address itself, since messages name it. Kafka's has no place for a user."""
    if "@" in servers:
        raise TransportUnavailable(
            "bootstrap_servers: an address holds '@'; give host:port alone, and user and password "
            "as sasl.username and sasl.password in kafka_settings"
        )
    return servers


def find_topic(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The topic that events go to."""
    return given or environment.get(TOPIC) or EVENTS_TOPIC


def find_registry_url(given: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The schema registry, or None for the bundled schema ids."""
    return given or environment.get(REGISTRY_URL) or None
