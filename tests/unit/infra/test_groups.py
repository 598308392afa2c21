"""What a group is asked about, by a broker that does not answer at once."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from meterstream_infra import groups
from meterstream_infra.errors import BrokerUnreachable, InfraError


class _Admin:
    """Knows of one group topic; that it exists is all that is asked of it."""

    def list_topics(self, *, timeout: float) -> SimpleNamespace:
        """A cluster that had groups before."""
        assert timeout > 0
        return SimpleNamespace(topics=("__consumer_offsets",))


def _asked(monkeypatch: pytest.MonkeyPatch, answers: list[int | set[str]]) -> None:
    monkeypatch.setattr(groups, "connect", lambda *_: (_Admin(), time.monotonic() + 1.0))

    def positions(*_: object) -> set[str]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer

    monkeypatch.setattr(groups, "_of_positions", positions)
    monkeypatch.setattr(groups, "_of_members", lambda *_: set[str]())


def test_a_broker_that_still_reads_its_groups_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that starts together with its broker waits for it."""
    not_yet: list[int | set[str]] = [
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    ]
    _asked(monkeypatch, [*not_yet, {"mine", "theirs"}])

    assert groups.other_topics("127.0.0.1:1", "g", "mine") == ("theirs",)


def test_a_broker_that_never_comes_to_it_counts_as_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends: whoever started the worker is told that waiting may help."""
    _asked(monkeypatch, [KafkaError.COORDINATOR_NOT_AVAILABLE])

    with pytest.raises(BrokerUnreachable):
        groups.other_topics("127.0.0.1:1", "g", "mine")


def test_another_refusal_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no waiting mends is not asked again."""
    _asked(monkeypatch, [KafkaError.GROUP_AUTHORIZATION_FAILED, {"theirs"}])

    with pytest.raises(InfraError, match="does not describe consumer group 'g'"):
        groups.other_topics("127.0.0.1:1", "g", "mine")
