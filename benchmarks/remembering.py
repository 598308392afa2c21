"""A worker's memory with a million live series behind it.

1. A worker folds a million events, each of another series.
2. A new one folds a million more over that store: of all those tenants, by Zipf's law.
3. Another new one folds a million that touch every series once, which is the worst there is.

Memory is the resident memory of the second and the third, with all that Python and the libraries
take: what it was on the way, its peak, and at the end.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks import traffic
from benchmarks.ladder import PARTITIONS, work
from benchmarks.running import at_fifths, load, say, scratch
from benchmarks.servers import kafka
from meterstream_infra.topics import ensure_topics

EVENTS: Final = 1_000_000
_PHASES: Final = {
    "history": "series",
    "a million more, by Zipf's law": "returning",
    "a million more, every series once": "series",
}
_TOPIC: Final = "bench.memory"


def measure_memory() -> dict[str, Any]:
    """Resident megabytes by phase."""
    told: dict[str, Any] = {}
    with scratch() as directory, kafka(directory) as broker:
        bootstrap = broker.bootstrap_servers
        ensure_topics(bootstrap, partitions=PARTITIONS, events_topic=_TOPIC)
        catalogue = traffic.catalogue_text(traffic.since(EVENTS))
        for seed, (phase, shape) in enumerate(_PHASES.items(), start=1):
            say(f"memory: {phase}, load {load()}")
            records = traffic.produce(
                bootstrap,
                _TOPIC,
                events=EVENTS,
                partitions=PARTITIONS,
                seed=seed,
                shape=traffic.SHAPES[shape],
            )
            place = ["--bootstrap", bootstrap, "--topic", _TOPIC, "--records", str(records)]
            found = work("store", place, directory / "worker", catalogue)
            found["megabytes"] = at_fifths(found.pop("resident_megabytes"))
            told[phase] = found
    return {
        "peak_megabytes": {
            phase: found["megabytes"]["peak"] for phase, found in told.items() if phase != "history"
        },
        "series": told["history"]["store"]["rows"].get("series"),
        "load_after": load(),
        **told,
    }
