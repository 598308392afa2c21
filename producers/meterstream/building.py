"""From what a meter was told, by arguments and environment, to its policy.

Arguments win over ``METERSTREAM_*`` variables. Nothing is opened, created or connected here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, get_args

from meterstream.durability import Durability, SpoolPolicy, check_number
from meterstream.errors import SettingsError
from meterstream.intake import Overflow
from meterstream.kafka import KafkaTransport
from meterstream.settings import BOOTSTRAP_SERVERS, DATA, find_bootstrap_servers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from meterstream.transport import Transport

DURABILITY: Final = "METERSTREAM_DURABILITY"
SPOOL: Final = "METERSTREAM_SPOOL"
GATEWAY_URL: Final = "METERSTREAM_GATEWAY_URL"
API_KEY: Final = "METERSTREAM_API_KEY"
KAFKA: Final = "METERSTREAM_KAFKA_"
_SPOOL_BYTES_LEAST: Final = 65_536


def load_what_hooks_forks() -> None:
    """Import what registers hooks around forks, in the host's thread.

    If the background thread did, a fork that has begun would run the hooks behind it without those
    before it: of `logging` that is the release of a lock that nobody holds.
    """
    _load("logging", "concurrent.futures.thread")  # To log trouble; for the client's admin part.


def check_settings(
    *,
    overflow: str,
    bootstrap_servers: object,
    block_seconds: object,
    close_seconds: object,
    **positive: object,
) -> None:
    """Raise `SettingsError` for what cannot be used."""
    if overflow not in get_args(Overflow):
        raise SettingsError(f"overflow: {overflow!r} is none of {get_args(Overflow)}")
    if bootstrap_servers is not None and not isinstance(bootstrap_servers, str):
        raise SettingsError(
            f"bootstrap_servers: {type(bootstrap_servers).__name__} is not text; "
            "pass 'host:port,host:port'"
        )
    for name, value in positive.items():
        if check_number(name, value) <= 0:
            raise SettingsError(f"{name}: {value!r} is not positive")
    for name, value in (("block_seconds", block_seconds), ("close_seconds", close_seconds)):
        if check_number(name, value) < 0:
            raise SettingsError(f"{name}: {value!r} is negative")


def choose_spool(
    durability: str | None,
    spool: str | Path | None,
    bytes_max: int,
    *,
    topic: str,
    data: str | Path | None,
) -> SpoolPolicy | None:
    """Where events are kept, or None for memory. Raises `SettingsError`."""
    chosen = durability or os.environ.get(DURABILITY) or "memory"
    if chosen not in get_args(Durability):
        raise SettingsError(f"durability: {chosen!r} is none of {get_args(Durability)}")
    if chosen == "memory":
        if spool is not None:
            raise SettingsError("spool: is not used with durability 'memory'; choose 'spool'")
        return None
    from pathlib import Path  # noqa: PLC0415 - loaded only where files are kept

    # By the host's thread: a fork while another imports would leave the child half a module.
    _load("meterstream.disk", "meterstream.spool")
    directory = spool or os.environ.get(SPOOL)
    if not directory:
        base = data or os.environ.get(DATA)
        if not base:
            raise SettingsError(
                f"spool: durability {chosen!r} needs a directory that outlives the process; "
                f"pass spool=, or set {SPOOL} or {DATA}"
            )
        directory = Path(base) / "spool"
    if check_number("spool_bytes_max", bytes_max) < _SPOOL_BYTES_LEAST:
        raise SettingsError(f"spool_bytes_max: {bytes_max} is less than {_SPOOL_BYTES_LEAST}")
    return SpoolPolicy(Path(directory), bytes_max, fsync=chosen == "fsync", topic=topic)


def choose_transport(
    *,
    service: str,
    bootstrap_servers: str | None,
    topic: str,
    data: str | Path | None,
    gateway_url: str | None,
    api_key: str | None,
    kafka_settings: Mapping[str, str | int | bool] | None,
) -> Transport:
    """Kafka, or the gateway when one is named and no broker is. Raises `SettingsError`."""
    if gateway_url and bootstrap_servers:
        raise SettingsError("gateway_url and bootstrap_servers: pass one of them")
    if not gateway_url and not (bootstrap_servers or os.environ.get(BOOTSTRAP_SERVERS)):
        gateway_url = os.environ.get(GATEWAY_URL)
    if gateway_url:
        # Imported here: needs the extra ``gateway``, and is rarely used.
        from meterstream.extras import is_installed, remedy  # noqa: PLC0415 - see above
        from meterstream.gateway import GatewayTransport  # noqa: PLC0415 - see above

        if not is_installed("httpx"):
            raise SettingsError(f"gateway_url: {remedy('gateway')}")
        return GatewayTransport(gateway_url, api_key=api_key or os.environ.get(API_KEY, ""))
    return KafkaTransport(
        bootstrap_servers=lambda: find_bootstrap_servers(bootstrap_servers, data),
        topic=topic,
        client_id=service or "meterstream",
        settings={**_kafka_settings_of_the_environment(), **(kafka_settings or {})},
    )


def _kafka_settings_of_the_environment() -> dict[str, str | int | bool]:
    """``METERSTREAM_KAFKA_SASL_PASSWORD`` is librdkafka's ``sasl.password``, and so on."""
    return {
        name.removeprefix(KAFKA).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(KAFKA)
    }


def _load(*modules: str) -> None:
    for module in modules:
        with suppress(ImportError):  # The interpreter is taking itself apart.
            import_module(module)
