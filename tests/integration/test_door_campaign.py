"""The short form of the campaign against the gateway: four faults, and what clients were told."""

from __future__ import annotations

import shutil
from typing import Final

import pytest

from tests.campaign.__main__ import new_place
from tests.campaign.door_campaign import run
from tests.campaign.door_stack import Bounds

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

FAULTS: Final = (
    "gateway killed",
    "broker halted",
    "worker killed",
    # At the end: the last gateway has a dead one's spool to send.
    "gateway killed while the broker is halted",
)
SEED: Final = 7
PATIENCE_SECONDS: Final = 2.0
"""Of the gateway, for the log: shorter than the broker is away."""
SESSION_SECONDS: Final = 60
"""Of the worker, for its group: longer than the broker is away. This test is about gateways."""


def test_what_clients_were_told_is_so() -> None:
    """Nothing acknowledged is lost, and nothing with an id counts twice, whatever dies meanwhile.

    What a red run leaves is described in `tests.campaign.door_evidence`. It stays until somebody
    removes it: pytest's own directories are gone a few runs later.
    """
    place = new_place()
    bounds = Bounds(patience_seconds=PATIENCE_SECONDS, session_seconds=SESSION_SECONDS)

    result = run(place, FAULTS, SEED, _say, bounds)

    told = "\n".join([*result.lines, f"what is left is in {place}"])
    assert sum(verdict.lost for verdict in result.verdicts) == 0, told
    assert sum(verdict.doubled_with_ids for verdict in result.verdicts) == 0, told
    assert result.findings == [], told
    assert all(verdict.acknowledged > 0 for verdict in result.verdicts), told
    happened = result.happened
    assert happened["gateway killed"] == 2, told
    assert happened["broker halted"] == 2, told
    assert happened["worker killed"] == 1, told
    assert happened["gateway killed while the broker is halted"] == 1, told
    assert happened["events adopted by the last gateway"] > 0, told
    shutil.rmtree(place)


def _say(line: str) -> None:
    print(line)  # noqa: T201 - a failure must tell how far it came
