"""Totals that several workers add to at once: nothing is lost, each value is told of once."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from meterstream_aggregator.catalogue import HOUR
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import Changes
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.thresholds import Movement
from tests.contract.stores import BINDING, WINDOW, step
from tests.databases import rows

if TYPE_CHECKING:
    from meterstream_aggregator.store.address import PostgresAddress

WORKERS, COMMITS = 3, 8
TEXT = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - {{name: credit, aggregate: sum}}
thresholds:
  - {{name: a, meter: credit, scope: {scope}, every: 1d, at: [10]}}
  - {{name: b, meter: credit, scope: {scope}, every: 1d, at: [20, 24]}}
"""


@pytest.mark.parametrize("scope", ["account", "tenant"])
def test_workers_add_to_one_total(postgres_address: PostgresAddress, scope: str) -> None:
    """Three workers at once over the same two totals, which each of them meets first."""
    catalogue = parse_catalogue(TEXT.format(scope=scope))
    begin = threading.Barrier(WORKERS)
    problems: list[BaseException] = []

    def work(partition: int) -> None:
        try:
            with closing(open_store(postgres_address)) as store:
                store.bind(BINDING, catalogue)
                claim = store.claim(partition, "w")
                begin.wait(60)
                for n in range(COMMITS):
                    place = [[partition, n, WINDOW + n]]
                    moved = [
                        Movement(
                            threshold=threshold,
                            who="acme",
                            start=WINDOW,
                            end=WINDOW + 24 * HOUR,
                            greatest=False,
                            scale=0,
                            amounts=np.array([1]),
                            places=np.array(place, dtype=np.int64),
                        )
                        # One the other way round: whoever locks in the order given, meets them.
                        for threshold in catalogue.thresholds[:: 1 if partition % 2 else -1]
                    ]
                    store.commit([step(claim, n + 1)], Changes(movements=moved))
                    claim = claim._replace(next_offset=n + 1)
        except BaseException as problem:  # noqa: BLE001 - told by the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(partition,)) for partition in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not problems
    totals = rows(postgres_address, "SELECT value FROM threshold_total WHERE who = 'acme'")
    assert totals == [(str(WORKERS * COMMITS),)] * 2
    with closing(open_store(postgres_address)) as store:
        told = [row.message.value or b"" for row in store.outbox(range(WORKERS), 100)]
    reached = sorted(json.loads(value)["data"]["at"] for value in told)
    assert reached == ["10", "20", "24"]
    assert rows(postgres_address, "SELECT count(*) FROM threshold_total WHERE value = ''") == [(0,)]
