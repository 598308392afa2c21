"""What the settings name: a meter with a spool, and a way on for records of the SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from meterstream import Meter
from meterstream.kafka import KafkaTransport
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
_SERVICE: Final = "meterstream-gateway"


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
