"""A Celery worker that forks: what its processes record leaves them, also at their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from meterstream_schemas.events import EventKind
from tests.gateway_standin import KEY, Standin
from tests.unit.producers.reading import decoded
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from meterstream_schemas.events import MeterEvent

pytestmark = pytest.mark.integration

TASKS = 20
PROGRAM = """
import os
from celery import Celery
from meterstream import Meter
from meterstream.gateway import GatewayTransport
from meterstream.integrations.celery import connect

app = Celery("shop")
app.config_from_object({settings!r})
meter = Meter(transport=GatewayTransport({url!r}, api_key={key!r}))
meter.record("parent.event", tenant="acme")
connect(app, meter)

@app.task(name="works")
def works(number):
    meter.record("inside", quantity=number)
"""


def settings_of(directory: Path) -> dict[str, Any]:
    """A broker of files."""
    folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
    for name in {*folders.values()}:
        (directory / name).mkdir()
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            **{option: str(directory / name) for option, name in folders.items()},
            "polling_interval": 0.05,
        },
        "task_ignore_result": True,
    }


def events_of(standin: Standin) -> list[MeterEvent]:
    """All that arrived."""
    return [decoded(record.value) for records in standin.memory.partitions for record in records]


def test_processes_that_come_and_go_lose_nothing(tmp_path: Path) -> None:
    """Each is an incarnation with numbers of its own, and closes before it ends."""
    settings = settings_of(tmp_path)
    with Standin() as standin:
        program = PROGRAM.format(settings=settings, url=standin.url, key=KEY)
        (tmp_path / "shop.py").write_text(program)
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "shop",
            "worker",
            "-P",
            "prefork",
            "-c",
            "2",
        ]
        quick = ["--without-gossip", "--without-mingle", "--max-tasks-per-child", "3"]
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [*command, *quick],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            app = Celery("shop", set_as_current=False)
            app.config_from_object(settings)
            for number in range(TASKS):
                app.send_task("works", (number,), headers={"meterstream_tenant": f"t{number % 5}"})
            eventually(
                lambda: sum(event.type == "celery.task" for event in events_of(standin)) == TASKS,
                timeout_seconds=60,
            )
        finally:
            worker.send_signal(signal.SIGTERM)
            code = worker.wait(60)
        assert code == 0, (tmp_path / "worker.log").read_text()
    assert not standin.violations

    events = events_of(standin)
    usage = [event for event in events if event.kind is EventKind.USAGE]
    inside = [event for event in usage if event.type == "inside"]
    assert sorted(event.quantity for event in inside) == list(range(TASKS))
    assert all(event.tenant == f"t{event.quantity % 5}" for event in inside)
    numbers: dict[tuple[str, int], set[int]] = {}
    for event in usage:
        numbers.setdefault((event.producer, event.lane), set()).add(event.sequence)
    closed = {
        (event.producer, event.lane): event.sequence
        for event in events
        if event.kind is EventKind.MARK and event.attributes
    }
    assert {lane: max(found) for lane, found in numbers.items()} == closed
    assert all(found == set(range(1, max(found) + 1)) for found in numbers.values())
    assert len({producer for producer, _ in numbers}) > 1 + TASKS // 2 // 3
