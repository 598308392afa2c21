"""The commands of docs/http-api.md do what the page shows."""

from __future__ import annotations

from pathlib import Path

from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.store.memory import MemoryStore
from tests.docs.http_page import read, shown
from tests.simulation.driver import BINDING, Folder
from tests.unit.services.ingest.conftest import made_gate
from tests.unit.services.unimeter.world import NOW, records_of

DEMO = Path(__file__).parents[4] / "docs/examples/demo.yaml"


def test_the_page_is_played() -> None:
    """Every command is sent in its order, counted, and answered as the block behind it says."""
    store = MemoryStore()
    folder = Folder(store, load_catalogue(DEMO))
    folder.claim(range(BINDING.partitions))
    gate = made_gate(store, now=NOW)
    played = answered = counted = 0

    for each in shown():
        answer = gate.send(each.method, each.path, **each.options)
        assert answer.status_code < 300, answer.text
        if each.answer is not None:
            assert read(answer.text) == each.answer
            answered += 1
        played += 1
        fresh = records_of(gate.door.taken)[counted:]
        counted += len(fresh)
        if fresh:
            folder.fold(fresh)

    assert (played, answered, counted) == (9, 8, 7)
