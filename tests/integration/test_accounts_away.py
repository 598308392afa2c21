"""A worker as a process whose accounts are away from its start: it counts, and says why once."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.integration import counting
from tests.integration.counting import Sender, check_counted_once, wait_until_folded
from tests.unit.services.accounts_service import Service
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.timeout(420)]

THRESHOLDS = """
thresholds:
  - {name: spent, meter: api.calls, scope: account, every: 1d, at: [2]}
"""
AWAY = "accounts are away; their thresholds wait"
BACK = "accounts answer again"


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_a_worker_begins_and_goes_on(
    broker: Broker, topic: str, tmp_path: Path, fault: str
) -> None:
    """All is counted meanwhile; the log has one line of the outage with its reason, and its end."""
    settings = counting.worker_settings(broker, topic, tmp_path)
    settings.catalogue.write_text(counting.CATALOGUE + THRESHOLDS, "utf-8")
    sender = Sender(broker.bootstrap_servers, topic)
    with closing(Service(fault)) as service:
        options = ("--accounts", service.url, "--log-format", "json")
        with counting.worker_command(settings, *options) as command:
            for _ in range(3):
                sender.send(40)
                wait_until_folded(settings, sender)
            check_counted_once(settings, sender)
            log = command.said
            (line,) = [line for line in log.splitlines() if AWAY in line]
            assert "no answer" in line if fault == "hangs" else "refused" in line
            assert BACK not in log

            service.heal()
            eventually(lambda: BACK in command.said, timeout_seconds=counting.LONG)
            assert command.process.poll() is None
