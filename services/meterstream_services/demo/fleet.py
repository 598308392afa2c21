"""One simulated service of the demo, as a process: ``python -m meterstream_services.demo.fleet``.

It draws up the plan, sends its own part of it through the SDK as a service would, and prints one
line of JSON: who it was and what the SDK says became of it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from meterstream import Meter
from meterstream_services import lifeline
from meterstream_services.demo.plan import Kind, Planned, draw_plan

CHUNKS: Final = 40
"""A service sends its events in so many bursts, with pauses between."""
FLUSH_SECONDS: Final = 60.0


def main(arguments: list[str]) -> int:
    """Send one service's part: NAME SEED UNTIL SCALE SECONDS BOOTSTRAP TOPIC. The exit status."""
    lifeline.hold_on()
    name, seed, until, scale, seconds, bootstrap_servers, topic = arguments
    events = draw_plan(int(seed), until=int(until), scale=int(scale)).services[name]
    meter = Meter(name, bootstrap_servers=bootstrap_servers, topic=topic, overflow="block")
    size = max(1, len(events) // CHUNKS)
    for start in range(0, len(events), size):
        for event in events[start : start + size]:
            send(meter, event)
        time.sleep(float(seconds) / CHUNKS)
    flushed = meter.flush(FLUSH_SECONDS)
    meter.close()
    status = meter.status()
    told = {
        "service": name,
        "producer": status.producer,
        "recorded": status.recorded,
        "dropped": sum(status.dropped.values()),
        "failed": status.failed,
        "resent": status.resent,
        "flushed": flushed,
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0 if flushed else 1


def send(meter: Meter, event: Planned) -> None:
    """One planned call."""
    match event.kind:
        case Kind.USAGE:
            meter.record(
                event.type,
                tenant=event.tenant,
                quantity=event.quantity,
                time=event.time,
                attributes=event.attributes,
                key=event.key,
            )
        case Kind.START:
            meter.session_start(
                event.type,
                tenant=event.tenant,
                session=event.session,
                time=event.time,
                key=event.key,
            )
        case Kind.END:
            meter.session_end(
                event.type,
                tenant=event.tenant,
                session=event.session,
                time=event.time,
                key=event.key,
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
