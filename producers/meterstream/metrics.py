"""The SDK's own figures for Prometheus: `Meter.status` at every scrape.

::

    MeterCollector(meter, labels={"service": "search"}).register()

Needs the extra ``metrics``. Nothing is counted twice or ahead of time: a scrape reads what the
meter counts anyway. Counters begin anew in the child of a fork, as in any new process. `FAMILIES`
declares every metric; labels are bounded: reasons, and those that the host gives. Only
``meterstream_sdk_info`` has the producer, which is another one in every process.

prometheus_client's multi-process mode (``PROMETHEUS_MULTIPROC_DIR``) collects no custom collectors:
let every process serve its own metrics; docs/testing.md shows how.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, Self

from meterstream.extras import needs
from meterstream.intake import BUFFER_FULL, CLOSED, INVALID

with needs("metrics", __name__):
    from prometheus_client import REGISTRY
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.registry import CollectorRegistry

    from meterstream.status import Status

_REASONS: Final = (INVALID, BUFFER_FULL, CLOSED)


class Family(NamedTuple):
    """One metric: its name as scraped, type, help, own labels and samples."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Status], Iterator[tuple[tuple[str, ...], float]]]


class HasStatus(Protocol):
    """A `meterstream.Meter`, or the package ``meterstream`` itself for the default meter."""

    def status(self) -> Status:
        """See `meterstream.meter.Meter.status`."""
        ...


def _only(name: str) -> Callable[[Status], Iterator[tuple[tuple[str, ...], float]]]:
    def read(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
        yield (), float(getattr(status, name))

    return read


def _dropped(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every reason, from the first scrape on, so that rates see the first drop."""
    for reason in dict.fromkeys((*_REASONS, *status.dropped)):
        yield (reason,), float(status.dropped.get(reason, 0))


def _info(status: Status) -> Iterator[tuple[tuple[str, ...], float]]:
    yield (status.producer, _version()), 1.0


@cache
def _version() -> str:
    try:
        return metadata.version("meterstream")
    except metadata.PackageNotFoundError:
        return ""


def _counter(name: str, help_text: str) -> Family:
    return Family(f"meterstream_sdk_{name}_total", "counter", help_text, (), _only(name))


def _gauge(name: str, help_text: str) -> Family:
    return Family(f"meterstream_sdk_{name}", "gauge", help_text, (), _only(name))


FAMILIES: Final = (
    _counter("recorded", "Events numbered and taken."),
    _counter("acknowledged", "Events known to be in the log."),
    _counter("failed", "Events that the broker refuses for good: lost, and missing numbers."),
    Family(
        "meterstream_sdk_dropped_total",
        "counter",
        "Events not taken, by reason: invalid, buffer_full or closed.",
        ("reason",),
        _dropped,
    ),
    _counter("resent", "Sendings repeated under the same number."),
    _counter("ack_without_offset", "Reports of success without a place in the log: sent again."),
    _counter("rebuilt", "Times the client was built anew after a fatal error."),
    _counter("adopted", "Events that dead processes left on disk and that are in the log now."),
    _gauge("buffered", "Events without an outcome yet."),
    _gauge("spooled", "Those of the buffered that lie on disk."),
    _gauge("spool_bytes", "Bytes of this process's spool."),
    _gauge("spool_bytes_max", "Bytes that the spool may have, all processes together; 0: none."),
    _gauge("open_sessions", "Sessions for which heartbeats are sent."),
    _gauge("oldest_unacknowledged_seconds", "Age of the oldest event without an outcome, else 0."),
    Family(
        "meterstream_sdk_info",
        "gauge",
        "Always 1; the labels tell the process's producer id and the version.",
        ("producer", "version"),
        _info,
    ),
)


class MeterCollector:
    """Collects one meter, or several told apart by their ``labels``. Safe from any thread.

    Holds on to its meters until `unregister`. A meter that is closed keeps its last figures.
    """

    def __init__(self, meter: HasStatus, *, labels: Mapping[str, str] | None = None) -> None:
        self._meters: Final[list[tuple[HasStatus, Mapping[str, str]]]] = [(meter, labels or {})]
        self._names: Final = tuple(labels or {})
        self._registry: CollectorRegistry | None = None
        taken = sorted({"reason", "producer", "version"} & set(self._names))
        if taken:
            raise ValueError(f"labels: {taken[0]!r} is a label of the metrics; choose another name")

    def add(self, meter: HasStatus, *, labels: Mapping[str, str]) -> Self:
        """Collect another meter of this process, with other values of the same labels."""
        if set(labels) != set(self._names):
            raise ValueError(f"labels: {sorted(labels)} are not {sorted(self._names)}")
        if any(dict(labels) == dict(theirs) for _, theirs in self._meters):
            raise ValueError(f"labels: another meter has {dict(labels)}; choose other values")
        self._meters.append((meter, labels))
        return self

    def register(self, registry: CollectorRegistry = REGISTRY) -> Self:
        """Be scraped with this registry, by default the process's own.

        ValueError when another collector is there already; `add` further meters to that one.
        """
        registry.register(self)
        self._registry = registry
        return self

    def unregister(self) -> None:
        """Be scraped no more. May be called twice."""
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.unregister(self)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Names only: the registry uses them to find out that two collectors clash."""
        return map(self._empty, FAMILIES)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All figures now. Asks each meter once; takes some tenths of a millisecond."""
        found = [(meter.status(), labels) for meter, labels in self._meters]
        for family in FAMILIES:
            metric = self._empty(family)
            for status, labels in found:
                common = [labels[name] for name in self._names]
                for values, value in family.read(status):
                    metric.add_metric([*common, *values], value)
            yield metric

    def _empty(self, family: Family) -> CounterMetricFamily | GaugeMetricFamily:
        names = [*self._names, *family.labels]
        if family.kind == "counter":
            return CounterMetricFamily(family.name, family.help, labels=names)
        return GaugeMetricFamily(family.name, family.help, labels=names)
