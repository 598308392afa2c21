"""How our own processes reach Kafka: an address, and ``METERSTREAM_KAFKA_*`` for the rest.

``METERSTREAM_KAFKA_SASL_PASSWORD`` is librdkafka's ``sasl.password``, and so on: the variables that
the SDK reads. With ``_FILE`` at the end a variable names a file that holds the value.

What is passed on is who we are and how the connection is made. Everything else is refused by its
name: exactly once rests on settings such as ``isolation.level``, and a setting that is quietly not
taken would be believed in. Every client of workers, commands and services begins here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meterstream_schemas.errors import SettingRefused

PREFIX: Final = "METERSTREAM_KAFKA_"
_FILE: Final = "_FILE"

_PASSED_ON: Final = (
    "security.protocol", "sasl.", "ssl.", "client.rack", "client.dns.lookup",
    "broker.address.family", "broker.address.ttl", "socket.", "connections.max.idle.ms",
    "reconnect.backoff.",
)  # fmt: skip
"""Names, or with a dot at the end their beginnings."""
_OF_THE_SDK: Final = frozenset(
    {
        "linger.ms", "compression.type", "compression.codec", "compression.level",
        "batch.num.messages", "retry.backoff.ms", "retry.backoff.max.ms", "log.connection.close",
    }
)  # fmt: skip
"""How the SDK sends, should its variables be in the environment too: nothing to us."""
_PROMISES: Final = {
    "acks": "an event counts as sent once every in-sync replica has it",
    "request.required.acks": "an event counts as sent once every in-sync replica has it",
    "enable.idempotence": "the log must not hold what is sent again twice",
    "enable.auto.commit": "positions are the store's, moved with the figures in one transaction",
    "enable.auto.offset.store": "positions are the store's",
    "auto.offset.reset": "a gap in the log must stop a worker, not be jumped over",
    "isolation.level": "what was taken back must not be counted",
    "check.crcs": "a damaged record must not be counted",
    "group.id": "name it with --group",
    "group.instance.id": "name it with --instance",
    "group.protocol": "name it with METERSTREAM_GROUP_PROTOCOL",
    "partition.assignment.strategy": "partitions are handed over one by one",
    "bootstrap.servers": "name it with METERSTREAM_BOOTSTRAP_SERVERS",
    "enable.ssl.certificate.verification": "without it anybody may pretend to be the broker",
    "ssl.endpoint.identification.algorithm": "without it anybody may pretend to be the broker",
}


def client_settings(
    bootstrap_servers: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What every client of ours begins with. Reads files that variables name.

    Raises `SettingRefused` for a variable that is not passed on, or a file that cannot be read.
    """
    return {"bootstrap.servers": bootstrap_servers} | connection_settings(environment)


def connection_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The connection settings of the environment, by librdkafka's names; raises likewise."""
    found: dict[str, str] = {}
    for variable in sorted(environment):
        if variable.startswith(PREFIX):
            name, value = _read(variable, environment[variable])
            if name in _OF_THE_SDK:
                continue
            if name in found:
                raise SettingRefused(variable, f"{name!r} is given twice; remove one of them")
            found[name] = value
    return found


def _read(variable: str, value: str) -> tuple[str, str]:
    stem = variable.removeprefix(PREFIX)
    name = stem.removesuffix(_FILE).lower().replace("_", ".")
    _check(variable, name, value)
    if not stem.endswith(_FILE):
        return name, value
    try:
        return name, Path(value).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingRefused(variable, f"its file cannot be read: {problem}") from problem


def _check(variable: str, name: str, value: str) -> None:
    why = _PROMISES.get(name)
    if name == "ssl.endpoint.identification.algorithm" and value == "https":
        return
    if why is not None:
        raise SettingRefused(variable, f"{name!r} cannot be set: {why}; remove it")
    if name not in _OF_THE_SDK and not any(
        name == allowed or (allowed.endswith(".") and name.startswith(allowed))
        for allowed in _PASSED_ON
    ):
        raise SettingRefused(
            variable,
            f"{name!r} is not passed on to Kafka's client: only security.protocol, sasl.*, ssl.* "
            "and how a connection is made are; remove it",
        )
