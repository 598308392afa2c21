"""The judge of campaigns against the gateway, judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.campaign.door_campaign import judged
from tests.campaign.door_clients import Native, NativeKeyless, NativeTimeless, Sent
from tests.unit.aggregator.making import event

if TYPE_CHECKING:
    from meterstream_schemas.events import MeterEvent

URL: Final = "http://127.0.0.1:9"


def there(*names: str, has_keys: bool = True) -> list[MeterEvent]:
    """These events, as the topic has them."""
    return [
        event(key=name if has_keys else None, attributes={"name": name}, time=number)
        for number, name in enumerate(names)
    ]


def test_the_judge_notices_what_is_missing() -> None:
    """In the topic, or in the store."""
    client = Native(URL, 1)
    client.sent.extend(Sent(name, 0, tries=1, is_kept=True) for name in ("0", "1"))

    assert judged(client, there("0", "1"), 2, 0)[0] == []
    assert judged(client, there("0", "1", "1"), 2, 0)[0] == [], "the key makes it one"
    assert len(judged(client, there("0"), 1, 0)[0]) == 2
    assert len(judged(client, there("0", "1"), 1, 0)[0]) == 1
    assert len(judged(client, there("0", "1"), 3, 0)[0]) == 1
    assert len(judged(client, there("0", "1"), 2, 1)[0]) == 1


def test_the_judge_lets_keyless_events_double_only_after_a_lost_answer() -> None:
    """An answered sending is one event if it was kept, and none if it was turned away."""
    client = NativeKeyless(URL, 1)
    client.sent.append(Sent("0", 0, tries=2, unanswered=1, is_kept=True))
    assert judged(client, there("0", "0", has_keys=False), 2, 0)[0] == []
    assert len(judged(client, there("0", "0", "0", has_keys=False), 3, 0)[0]) == 1

    client.sent[:] = [Sent("0", 0, tries=2, turned_away=1, is_kept=True)]
    assert len(judged(client, there("0", "0", has_keys=False), 2, 0)[0]) == 1


def test_the_judge_knows_dead_letters_of_keys_without_times() -> None:
    """The gateway gave them times, and another one after it was started anew."""
    client = NativeTimeless(URL, 1)
    client.sent.append(Sent("0", 0, tries=2, unanswered=1, is_kept=True))

    assert judged(client, there("0", "0"), 1, 1)[0] == []
