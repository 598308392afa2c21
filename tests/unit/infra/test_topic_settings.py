"""Which settings of a topic are refused, which are told of, and that what we make is neither."""

from __future__ import annotations

import pytest

from meterstream_infra.topic_settings import (
    DAY_MILLISECONDS,
    REPLICAS,
    Verdict,
    judge,
    settings_to_make,
)

GOOD = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "unclean.leader.election.enable": "false",
    "min.insync.replicas": "2",
    "retention.ms": str(14 * DAY_MILLISECONDS),
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
}


def _verdicts(settings: dict[str, str], replicas: int = 3) -> dict[str, Verdict]:
    return {found.setting: found.verdict for found in judge(settings, replicas)}


def test_a_good_topic_is_good_throughout() -> None:
    """Every setting is told, with a reason."""
    found = judge(GOOD, 3)

    assert {each.verdict for each in found} == {Verdict.OK}
    assert {each.setting for each in found} == {REPLICAS, *GOOD}
    assert all(each.why for each in found)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("cleanup.policy", "compact", "delete"),
        ("cleanup.policy", "compact,delete", "delete"),
        ("unclean.leader.election.enable", "true", "false"),
        ("min.insync.replicas", "1", "2"),
        ("min.insync.replicas", "4", "2"),
        ("retention.ms", str(DAY_MILLISECONDS - 1), str(14 * DAY_MILLISECONDS)),
        ("max.message.bytes", "10000", "at least 17408"),
    ],
)
def test_what_weakens_a_promise_is_unfit(setting: str, value: str, wanted: str) -> None:
    """It alone, and the value to use stands beside it."""
    unfit = [found for found in judge(GOOD | {setting: value}, 3) if found.verdict != Verdict.OK]

    assert [(found.setting, found.found, found.verdict) for found in unfit] == [
        (setting, value, Verdict.UNFIT)
    ]
    assert unfit[0].wanted == wanted


@pytest.mark.parametrize(
    ("setting", "value", "replicas"),
    [
        ("retention.ms", str(2 * DAY_MILLISECONDS), 3),
        ("retention.bytes", "1000000000", 3),
        ("min.insync.replicas", "1", 2),
    ],
)
def test_what_a_person_should_know_of_is_a_warning(setting: str, value: str, replicas: int) -> None:
    """A worker starts with it all the same."""
    verdicts = _verdicts(GOOD | {setting: value}, replicas)

    assert verdicts.pop(setting) is Verdict.WARNING
    assert set(verdicts.values()) == {Verdict.OK}


def test_one_machine_has_one_copy() -> None:
    """That is told, and no more: `up` runs on it."""
    verdicts = _verdicts(GOOD | {"min.insync.replicas": "1"}, 1)

    assert verdicts.pop(REPLICAS) is Verdict.WARNING
    assert set(verdicts.values()) == {Verdict.OK}


@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_what_we_make_is_never_unfit(replicas: int) -> None:
    """With the defaults that `topics create` has."""
    made = settings_to_make(
        replicas=replicas,
        in_sync=max(replicas - 1, 1),
        retention_milliseconds=14 * DAY_MILLISECONDS,
    )

    assert Verdict.UNFIT not in _verdicts(made, replicas).values()
