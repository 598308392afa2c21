"""What the settings name: a meter with a spool, and a way on for records of the SDK."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream import Meter
from meterstream.kafka import KafkaTransport
from meterstream_schemas.events import EVENT_BYTES_MAX
from meterstream_schemas.registry import BundledSchemas, RegistrySchemas
from meterstream_services.gateway.door import LogDoor
from meterstream_services.gateway.passing import Passing
from meterstream_services.gateway.records import Judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream.status import Outcome
    from meterstream_services.gateway.metrics import DoorMetrics
    from meterstream_services.http.settings import Gateway

LINGER_MILLISECONDS: Final = 1
"""How long the client waits for more before it sends: a single answer should be quick."""
GROUP_BYTES_MAX: Final = 1_000 * (EVENT_BYTES_MAX + 1_024)
"""What events that are written to the spool in one piece may need: the most, of the largest."""
_SERVICE: Final = "meterstream-gateway"
_log: Final = logging.getLogger("meterstream.gateway")


class Opened(NamedTuple):
    """Both ways into the log, and who judges records."""

    door: LogDoor
    passing: Passing
    judge: Judge

    def start(self) -> None:
        """Connect, in the event loop that will ask."""
        self.door.start()
        self.passing.start()

    async def close(self) -> None:
        """Take nothing more, and wait for what is under way."""
        await self.door.close()
        await self.passing.close()


def open_gateway(settings: Gateway, metrics: DoorMetrics) -> Opened:
    """Both, not started yet. Opens and makes nothing before."""
    flaw = too_small(settings.spool_bytes_max)
    if flaw is not None:
        _log.warning("%s", flaw)
    door = open_door(settings, metrics)
    transport = KafkaTransport(
        bootstrap_servers=lambda: settings.bootstrap_servers,
        topic=settings.topic,
        client_id=f"{_SERVICE}-records",
        settings={"linger.ms": LINGER_MILLISECONDS},
    )
    schemas = (
        BundledSchemas()
        if settings.registry_url is None
        else RegistrySchemas(settings.registry_url, f"{settings.topic}-value")
    )
    return Opened(door, Passing(transport, metrics), Judge(schemas, own=lambda: door.producer))


def too_small(spool_bytes_max: int) -> str | None:
    """What cannot work with a spool of this size; None where everything fits that may come."""
    if spool_bytes_max >= GROUP_BYTES_MAX:
        return None
    return (
        f"a spool of {spool_bytes_max} bytes is smaller than one batch may be: while the log is "
        "away, one that can never fit is answered 503 like a full spool, and holds up what comes "
        f"behind it until the log is back; --spool-bytes-max {GROUP_BYTES_MAX} is always enough"
    )


def open_door(settings: Gateway, metrics: DoorMetrics) -> LogDoor:
    """A door that connects when it is started."""

    def make_meter(on_outcome: Callable[[Outcome], object]) -> Meter:
        return Meter(
            _SERVICE,
            bootstrap_servers=settings.bootstrap_servers,
            topic=settings.topic,
            registry_url=settings.registry_url,
            durability="fsync",
            spool=settings.spool,
            spool_bytes_max=settings.spool_bytes_max,
            kafka_settings={"linger.ms": LINGER_MILLISECONDS},
            on_outcome=on_outcome,
        )

    return LogDoor(make_meter, patience_seconds=settings.patience_seconds, metrics=metrics)
