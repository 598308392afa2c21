"""From one generation of the topic to the next, with producers that record all the while."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meterstream import Meter
from meterstream_aggregator.store.opening import open_reader
from meterstream_infra.topics import check_topic
from meterstream_services.cli.main import main
from meterstream_services.moving import hindrances
from tests.integration import counting
from tests.integration.worker_process import running_worker
from tests.waiting import eventually

if TYPE_CHECKING:
    from meterstream_consumers.settings import WorkerSettings
    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

TENANTS = [f"tenant-{n}" for n in range(40)]
ROUNDS = 5


def test_a_move_loses_and_doubles_nothing(
    broker: Broker, topic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded before, during and after, to both topics at once: both stores have it all, once."""
    servers, following = broker.bootstrap_servers, f"{topic}.2"
    old = counting.worker_settings(broker, topic, tmp_path)
    new = replace(old, topic=following, group=following, store=tmp_path / "second.sqlite3")
    assert isinstance(old.store, Path)
    sent: Counter[str] = Counter()
    first = Meter("checkout", bootstrap_servers=servers, topic=topic)
    staying = Meter("search", bootstrap_servers=servers, topic=topic)
    with running_worker(old):
        _record(first, sent)
        _record(staying, sent)

        arguments = ["--bootstrap", servers, "--topic", topic]
        status = main(["topics", "move", *arguments, "--to", following, "--partitions", "8"])
        assert status == 0
        assert f"METERSTREAM_TOPIC={following}" in capsys.readouterr().out
        assert check_topic(servers, following).partitions == 8
        # The rolling restart: one has changed over while the other still sends to the old topic.
        first.close()
        second = Meter("checkout", bootstrap_servers=servers, topic=following)
        with running_worker(new):
            _record(second, sent)
            _record(staying, sent)
            assert staying.flush(timeout=60)
            eventually(lambda: _counted(old) == 3 * _round(), timeout_seconds=counting.LONG)
            left = hindrances(servers, topic, old.store)
            assert {hindrance.what for hindrance in left} == {"has not closed"}
            assert main(["topics", "drained", *arguments, "--store", str(old.store)]) == 1

            staying.close()
            last = Meter("search", bootstrap_servers=servers, topic=following)
            _record(second, sent)
            _record(last, sent)
            second.close()
            last.close()
            eventually(lambda: _counted(new) == 3 * _round(), timeout_seconds=counting.LONG)
        eventually(lambda: not _left(old), timeout_seconds=counting.LONG)

    assert main(["topics", "drained", *arguments, "--store", str(old.store)]) == 0
    assert f"topic {topic} is drained" in capsys.readouterr().out
    assert hindrances(servers, following, old.store)[0].what == "the store is not this topic's"
    assert _usage(old) + _usage(new) == sent
    for settings in (old, new):
        reader = open_reader(settings.store)
        try:
            assert all(not row.missing and not row.duplicates for row in reader.producers())
            assert reader.dead_letters() == []
        finally:
            reader.close()


def _record(meter: Meter, sent: Counter[str]) -> None:
    for n in range(ROUNDS):
        for tenant in TENANTS:
            meter.record("api.request", tenant=tenant, quantity=n + 1)
            sent[tenant] += n + 1


def _round() -> int:
    return ROUNDS * len(TENANTS)


def _counted(settings: WorkerSettings) -> int:
    """Events alone: marks are folded and not counted."""
    return sum(_events(settings).values())


def _left(settings: WorkerSettings) -> list[object]:
    assert isinstance(settings.store, Path)
    return list(hindrances(settings.bootstrap_servers, settings.topic, settings.store))


def _events(settings: WorkerSettings) -> Counter[str]:
    return _rows(settings, "api.calls", "events")


def _usage(settings: WorkerSettings) -> Counter[str]:
    return _rows(settings, "api.total", "quantity")


def _rows(settings: WorkerSettings, name: str, field: str) -> Counter[str]:
    found: Counter[str] = Counter()
    if not counting.positions(settings.store):
        return found
    reader = open_reader(settings.store)
    try:
        meter = reader.catalogue().meter(name)
        for row in reader.usage(meter, tenants=None, start=0, end=2**60):
            assert row.scale == 0
            found[row.tenant] += getattr(row, field)
    finally:
        reader.close()
    return found
