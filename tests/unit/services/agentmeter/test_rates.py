"""Events of AgentMeter count against the rate of their key."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from meterstream_services.keys.principal import Rate

if TYPE_CHECKING:
    from tests.unit.services.agentmeter.world import World


def test_a_key_that_is_too_fast_hears_503(world: World) -> None:
    """AgentMeter 0.2 tries again on that, and not on 429. Nothing of what was refused is kept."""
    text = world.key("p")
    _, [made], _ = world.ring.told()
    world.ring._put(replace(made, rate=Rate(events_per_second=1)))
    body = {"user_id": "u", "unit_price": 1}

    answers = [world.send("POST", "/api/meter/event", json=body, key=text) for _ in range(6)]

    statuses = [answer.status_code for answer in answers]
    assert statuses[0] == 201
    assert statuses[-1] == 503
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert isinstance(answers[-1].json()["detail"], str)
    assert len(world.door.taken) == statuses.count(201)
