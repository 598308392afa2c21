"""What was told unavailable for want of room is not in the log either."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from meterstream.memory import MemoryTransport
from meterstream_services.gateway.port import Patience, Ruling
from tests.unit.producers.reading import arrived
from tests.unit.services.gateway.doors import LONG, opened, run, until, usage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("patience", [Patience.LOG_OR_SPOOL, Patience.SPOOL])
def test_what_a_halted_log_and_a_full_spool_did_not_take_does_not_come_later(
    tmp_path: Path, patience: Patience
) -> None:
    """The log takes and says nothing: who has no key may send again what got no success."""

    async def check() -> None:
        transport = MemoryTransport()
        async with opened(
            transport, tmp_path, patience_seconds=0.2, spool_bytes_max=65_536
        ) as place:
            await place.door.take([usage(0, subject="before")])
            transport.available = False
            told: dict[str, Ruling] = {}

            async def sender(number: int) -> None:
                for turn in range(1_000):
                    name = f"{number} {turn} {'x' * 100}"
                    (fate,) = await place.door.take([usage(1, subject=name)], patience)
                    told[name] = fate.ruling
                    if fate.ruling is Ruling.UNAVAILABLE:
                        return
                    await asyncio.sleep(0.3)

            await asyncio.wait_for(asyncio.gather(*map(sender, range(16))), LONG)
            transport.available = True
            kept = {name for name, ruling in told.items() if ruling is not Ruling.UNAVAILABLE}
            await until(lambda: kept <= {event.subject for event in arrived(transport)})
            await until(lambda: place.meter.status().buffered == 0)

            assert len(kept) > 16
            assert {event.subject for event in arrived(transport)} == kept | {"before"}

    run(check())
