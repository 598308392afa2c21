"""The reference of metrics is what the processes declare, and names follow one rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from meterstream_services.metrics_page import Described, metrics, page, processes

ROOT: Final = Path(__file__).parents[2]
_TENANTS: Final = {"tenant", "subject", "account", "session", "key", "id", "sequence", "lane"}


def all_metrics() -> list[Described]:
    """Every metric of every process; one of several processes as often as it has them."""
    return [metric for process in processes() for metric in process.metrics]


def test_the_page_is_what_the_processes_declare() -> None:
    """`make metrics` would change nothing."""
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == page(), "run `make metrics`"


def test_names_say_what_they_are() -> None:
    """One prefix; counters end with _total, nothing else does; every meaning is a sentence."""
    for metric in all_metrics():
        assert re.fullmatch(r"meterstream_[a-z][a-z_]*[a-z]", metric.name), metric.name
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name


def test_no_label_tells_a_tenant() -> None:
    """Whoever may read metrics learns nothing of who uses what."""
    for metric in all_metrics():
        assert not _TENANTS & set(metric.labels), metric.name


def test_a_histogram_has_three_series() -> None:
    """Queries ask for the series, not for the metric."""
    found = metrics()

    assert "meterstream_batch_duration_seconds" not in found
    for suffix in ("_bucket", "_sum", "_count"):
        assert found[f"meterstream_batch_duration_seconds{suffix}"].kind == "histogram"
    assert set(found["meterstream_build_info"].labels) == {"version", "catalogue"}
