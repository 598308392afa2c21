"""The judge of campaigns against the gateway, judged, and what such a campaign keeps."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.campaign.door_clients import Native, NativeKeyless, NativeTimeless, Sent, Unimeter
from tests.campaign.door_evidence import Evidence
from tests.campaign.door_faults import FAULTS, drawn
from tests.campaign.door_judge import judged
from tests.integration.hostile_records import encode
from tests.integration.reading_topic import Placed
from tests.unit.aggregator.making import event
from tests.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from meterstream_schemas.events import MeterEvent

URL: Final = "http://127.0.0.1:9"


def there(*names: str, has_keys: bool = True) -> list[MeterEvent]:
    """These events, as the topic has them."""
    return [
        event(key=name if has_keys else None, attributes={"name": name}, time=number)
        for number, name in enumerate(names)
    ]


def _all_kept(events: list[Sent]) -> list[bool]:
    return [True] * len(events)


def test_the_judge_notices_what_is_missing() -> None:
    """In the topic, or in the store."""
    client = Native(URL, 1)
    client.sent.extend(Sent(name, 0, tries=1, is_kept=True) for name in ("0", "1"))

    assert judged(client, there("0", "1"), 2, 0).findings == []
    assert judged(client, there("0", "1", "1"), 2, 0).findings == [], "the key makes it one"
    missing = judged(client, there("0"), 1, 0)
    assert (len(missing.findings), missing.lost) == (2, 1)
    assert len(judged(client, there("0", "1"), 1, 0).findings) == 1
    doubled = judged(client, there("0", "1"), 3, 0)
    assert (len(doubled.findings), doubled.doubled_with_ids) == (1, 1)
    assert len(judged(client, there("0", "1"), 2, 1).findings) == 1


def test_the_judge_lets_keyless_events_double_only_after_a_lost_answer() -> None:
    """An answered sending is one event if it was kept, and none if it was turned away."""
    client = NativeKeyless(URL, 1)
    client.sent.append(Sent("0", 0, tries=2, unanswered=1, is_kept=True))
    assert judged(client, there("0", "0", has_keys=False), 2, 0).findings == []
    assert len(judged(client, there("0", "0", "0", has_keys=False), 3, 0).findings) == 1

    client.sent[:] = [Sent("0", 0, tries=2, turned_away=1, is_kept=True)]
    assert len(judged(client, there("0", "0", has_keys=False), 2, 0).findings) == 1


def test_the_judge_knows_dead_letters_of_keys_without_times() -> None:
    """The gateway gave them times, and another one after it was started anew."""
    client = NativeTimeless(URL, 1)
    client.sent.append(Sent("0", 0, tries=2, unanswered=1, is_kept=True))

    assert judged(client, there("0", "0"), 1, 1).findings == []


def test_clients_hang_up_at_their_end() -> None:
    """A socket that is left open is an error to pytest: it made a clean campaign red once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        client = Unimeter(URL, 1, port=address[1])
        client.connection = socket.create_connection(address, 30)
        served, _ = server.accept()
        with served:
            served.settimeout(30)

            client.close()

            assert served.recv(1) == b""


def test_every_fault_is_drawn_once_before_any_is_drawn_twice() -> None:
    """So none is left out of a campaign of as many cycles."""
    names = list(FAULTS)

    faults = drawn(names, 2 * len(names) + 1, random.Random(7))

    assert sorted(faults[: len(names)]) == sorted(names)
    assert sorted(Counter(faults).values()) == [2] * (len(names) - 1) + [3]


def test_what_a_campaign_saw_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests as they were answered, events beside their records, and why it broke off."""
    client = Native(URL, 1)
    monkeypatch.setattr(client, "attempt", _all_kept)
    client.start(tmp_path / "native.jsonl")
    eventually(lambda: len(client.sent) > 0)
    client.end(30)
    [first] = there("0")
    record = Placed(3, 17, b"", encode(first._replace(tenant="native")))
    said: list[str] = []
    evidence = Evidence(tmp_path, said.append)

    evidence.fault("gateway killed")
    evidence.clients([client], [record])
    evidence.broke_off(AssertionError("it hangs"))

    requests = (tmp_path / "native.jsonl").read_text("utf-8").splitlines()
    assert sum(len(json.loads(line)["names"]) for line in requests) == len(client.sent)
    kept = tmp_path / "findings"
    rows = [json.loads(line) for line in (kept / "native.jsonl").read_text("utf-8").splitlines()]
    assert [row["name"] for row in rows] == [sent.name for sent in client.sent]
    assert [len(row["there"]) for row in rows] == [1] + [0] * (len(rows) - 1)
    assert "gateway killed" in (kept / "faults.txt").read_text("utf-8")
    assert "it hangs" in (kept / "findings.txt").read_text("utf-8")
    assert said[0] == "gateway killed"
