"""Options of `meterstream worker` that concern its group and its place in the log."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Protocol(StrEnum):
    """Kafka's protocols for consumer groups."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        envvar="METERSTREAM_GROUP",
        help="Kafka consumer group that the workers of one topic share; by default one named "
        "after the topic.",
    ),
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(
        "--group-protocol",
        envvar="METERSTREAM_GROUP_PROTOCOL",
        help="Kafka's group protocol; consumer is that of Kafka 4.0 and later.",
    ),
]
InstanceOption = Annotated[
    str | None,
    typer.Option(
        "--instance",
        envvar="METERSTREAM_INSTANCE",
        help="Name of this worker that stays over restarts; its partitions come back at once.",
    ),
]
ReplacedOption = Annotated[
    bool,
    typer.Option(
        "--store-replaced",
        envvar="METERSTREAM_STORE_REPLACED",
        help="Count on although the group counted further into another store, which this one "
        "replaces. For one start.",
    ),
]
AcceptGapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-gap",
        envvar="METERSTREAM_ACCEPT_GAP",
        help="PARTITION:FROM-TO, records that retention took and that are given up. Repeatable; "
        "in the variable, spaces stand between them.",
    ),
]
