"""Writes docs/metrics.md: every metric of every process, from the declarations themselves.

::

    python -m meterstream_services.metrics_page > docs/metrics.md

`metrics` is the same as data, which the tests of alerts and dashboards compare names with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from meterstream.metrics import FAMILIES
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.webhook_metrics import WebhookMetrics
from meterstream_services.http.metrics import HttpMetrics

_UNITS: Final = ("seconds", "bytes", "events", "messages", "partitions", "numbers")
_SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}

_HEAD: Final = """\
# Metrics

Every metric of every process, made by `make metrics` from what the processes declare; a test holds
it so. Counters begin at 0 in each process. A histogram has the series `_bucket`, `_sum` and
`_count`. No metric is labelled by tenant, subject or any id of theirs: what tenants use is asked
through the API. Each process serves `process_*` beside these: memory
(`process_resident_memory_bytes`), CPU, open files, start, as prometheus_client names them.

Alerts on them: `infra/prometheus/alerts.yml`, explained in [on-call.md](on-call.md). Boards:
`infra/grafana/dashboards`.
"""


class Described(NamedTuple):
    """A metric as it is declared; ``series`` are the names that a query can ask for."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def series(self) -> tuple[str, ...]:
        """What Prometheus stores: a histogram has several."""
        if self.kind == "histogram":
            return tuple(self.name + suffix for suffix in _SUFFIXES["histogram"])
        return (self.name,)

    @property
    def unit(self) -> str:
        """What a value counts, as far as the name says it."""
        words = self.name.removesuffix("_max").split("_")
        return next((unit for unit in _UNITS if unit in words), "")


class Process(NamedTuple):
    """A kind of process, and where its metrics are asked for."""

    name: str
    where: str
    metrics: tuple[Described, ...]


def processes() -> Sequence[Process]:
    """All kinds of processes, with what each declares."""
    worker = WorkerMetrics()
    worker.watch(ready=lambda: True, disk=Path())
    return (
        Process(
            "The worker",
            "`meterstream worker --metrics HOST:PORT`, path `/metrics`; `/livez` and `/readyz` "
            "beside it.",
            tuple(_declared(worker.registry)),
        ),
        Process(
            "The services",
            "`meterstream serve`, path `/metrics` of its own address; `/health/live` and "
            "`/health/ready` beside it.",
            tuple(_declared(HttpMetrics().registry)),
        ),
        Process(
            "The sender of notices",
            "`meterstream notices --metrics HOST:PORT`, path `/metrics`.",
            tuple(_declared(WebhookMetrics().registry)),
        ),
        Process(
            "Your services",
            "Where your service serves its own metrics: `meterstream.metrics.MeterCollector` "
            "([testing.md](testing.md) shows how, and how to add labels of your own).",
            tuple(Described(each.name, each.kind, each.labels, each.help) for each in FAMILIES),
        ),
    )


def metrics() -> dict[str, Described]:
    """Every series that a query can ask for, and the metric that it is of."""
    found: dict[str, Described] = {}
    for process in processes():
        for metric in process.metrics:
            for series in metric.series:
                labels = {*metric.labels, *(found[series].labels if series in found else ())}
                found[series] = metric._replace(labels=tuple(sorted(labels)))
    return found


def page() -> str:
    """The page, as it should stand in docs/metrics.md."""
    parts = [_HEAD]
    for process in processes():
        rows = "\n".join(_row(metric) for metric in process.metrics)
        parts.append(
            f"\n## {process.name}\n\n{process.where}\n\n"
            f"| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n{rows}\n"
        )
    return "".join(parts)


def _row(metric: Described) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    text = metric.help.replace("|", "\\|")
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {text} |"


def _declared(registry: CollectorRegistry) -> Iterator[Described]:
    # A registry tells samples, and a metric with labels has none before its first value: the
    # declarations themselves are only to be had from the collectors.
    collectors = dict.fromkeys(registry._collector_to_names)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    for collector in collectors:
        if not isinstance(collector, MetricWrapperBase):
            continue  # process_*: named in the head of the page
        [metric] = collector.describe()
        suffix = "_total" if metric.type == "counter" else ""
        labels = tuple(collector._labelnames)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
        yield Described(metric.name + suffix, metric.type, labels, metric.documentation)


if __name__ == "__main__":
    sys.stdout.write(page())
