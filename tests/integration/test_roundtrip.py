"""`meterstream check --round-trip` against a real `up`: the figure rises, and falls again."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from meterstream import Meter
from meterstream.memory import MemoryTransport
from tests.integration.up_process import Machine, finish, running_up
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

CATALOGUE = Path(__file__).parents[2] / "docs" / "examples" / "demo.yaml"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One running `up`."""
    with running_up(tmp_path_factory.mktemp("trip") / "data", CATALOGUE) as running:
        yield running


def figures(machine: Machine, meter: str) -> dict[str, str]:
    """Figures of a meter by tenant, around now."""
    now = datetime.now(UTC)
    span = [
        "--from", (now - timedelta(days=1)).strftime("%Y-%m-%d"),
        "--to", (now + timedelta(days=2)).strftime("%Y-%m-%d"),
    ]  # fmt: skip
    rows: list[dict[str, Any]] = machine.json("usage", "--meter", meter, *span)["rows"]
    return {row["tenant"]: row["value"] for row in rows}


def test_an_event_reaches_its_figure_and_leaves_it(machine: Machine) -> None:
    """Twice in a row, and the figure is nothing afterwards."""
    began = time.monotonic()
    for _ in range(2):
        trip = machine.json("check", "--round-trip")["round_trip"]

        assert trip["result"] == "ok", trip
        assert [stage["result"] for stage in trip["stages"]] == ["ok"] * 5
        assert (trip["meter"], trip["tenant"]) == ("api.requests", "meterstream-check")
        assert trip["offset"] >= 0
    assert float(trip["seconds"]) < time.monotonic() - began

    assert figures(machine, "api.requests").get("meterstream-check", "0") == "0"


def test_a_chosen_event_is_kept(machine: Machine) -> None:
    """Of the meter and tenant that were asked for; the table says that it stays."""
    said = machine.answer(
        "check", "--round-trip", "--meter", "llm.cost", "--tenant", "acme", "--keep"
    )

    assert "an event of this configuration reached its figure and stays: kept, as asked" in said
    assert figures(machine, "llm.cost")["acme"] == "1"


def test_another_topic_fails_with_what_to_do(machine: Machine) -> None:
    """Before anything is recorded."""
    process = machine.start("check", "--round-trip", "--topic", "elsewhere", "--format", "json")
    out, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    (stage,) = json.loads(out)["round_trip"]["stages"]
    assert stage["result"] == "FAILED"
    assert "the SDK sends to 'elsewhere'; set METERSTREAM_TOPIC or --topic" in stage["detail"]


def test_what_a_dead_process_left_is_sent(machine: Machine, tmp_path: Path) -> None:
    """Found on the disk, delivered to the real broker once, and counted once."""
    transport = MemoryTransport()
    transport.available = False
    with Meter(transport=transport, durability="spool", spool=tmp_path, close_seconds=0) as meter:
        for _ in range(7):
            meter.record("api.request", tenant="globex")
        assert meter.flush(10, to="disk")

    (before,) = machine.json("spool", "list", str(tmp_path))["spools"]
    said = machine.start("spool", "send", str(tmp_path))
    out = finish(said)

    assert before["state"] == "left behind"
    assert out == "meterstream.events: the log has 7 events of 1 spool\n"
    assert machine.json("spool", "list", str(tmp_path))["spools"] == []
    eventually(lambda: figures(machine, "api.requests").get("globex") == "7")
