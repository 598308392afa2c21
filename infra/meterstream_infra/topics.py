"""Topics on any broker: made with the settings that proof rests on, refused without them.

What a topic must be set to, and why, is judged in `topic_settings`. Nothing here mends a topic that
exists: its settings are its owner's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from meterstream_infra.errors import BrokerTooOld, BrokerUnreachable, InfraError, TopicUnfit
from meterstream_infra.topic_settings import (
    DAY_MILLISECONDS,
    Judged,
    Verdict,
    judge,
    settings_to_make,
)
from meterstream_schemas.events import DEADLETTERS_TOPIC, EVENTS_TOPIC, NOTICES_TOPIC
from meterstream_schemas.kafka_settings import client_settings

RETENTION_DAYS: Final = 14
_REPLICAS_WANTED: Final = 3
_NO_ID: Final = frozenset({"", "None", "AAAAAAAAAAAAAAAAAAAAAA"})
"""What stands for the id of a topic that has none."""
# The client names its own errors, as opposed to the broker's, with a leading underscore.
_NOT_ANSWERED: Final = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)  # noqa: SLF001
_POLL_SECONDS: Final = 0.05

_T = TypeVar("_T")

# The client writes its connection troubles to stderr by itself; the errors raised here tell them.
_SILENT: Final = logging.getLogger("meterstream_infra.librdkafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False


class TopicPlan(NamedTuple):
    """How a topic is made. None: three copies where there are as many brokers, two of them in sync.

    More exactly, ``in_sync`` is one less than ``replicas`` by default, and at least one.
    """

    partitions: int = 8
    replicas: int | None = None
    in_sync: int | None = None
    retention_days: int = RETENTION_DAYS


class TopicIdentity(NamedTuple):
    """Which topic this is. ``topic_id`` differs when a topic was deleted and made again."""

    topic: str
    topic_id: str
    partitions: int


class TopicReport(NamedTuple):
    """A topic and how it is set up."""

    identity: TopicIdentity
    settings: list[Judged]


def ensure_topics(
    bootstrap: str,
    *,
    partitions: int = 8,
    events_topic: str = EVENTS_TOPIC,
    timeout_seconds: float = 30,
    plan: TopicPlan | None = None,
) -> TopicIdentity:
    """Make the events, dead-letter and notice topics where missing, and check them all.

    Topics that exist are never changed: their partitions and retention are their owner's. Blocks
    until the brokers know the topics. Returns the identity of the events topic. Raises as
    `check_topic` does. ``plan`` says more than ``partitions``, and takes its place.
    """
    admin, deadline = connect(bootstrap, timeout_seconds)
    plan = plan or TopicPlan(partitions)
    wanted = {events_topic: plan.partitions, DEADLETTERS_TOPIC: 1, NOTICES_TOPIC: 1}
    brokers = len(admin.list_topics(timeout=_left(deadline)).brokers)
    replicas = plan.replicas or min(_REPLICAS_WANTED, brokers)
    settings = settings_to_make(
        replicas=replicas,
        in_sync=plan.in_sync or max(replicas - 1, 1),
        retention_milliseconds=plan.retention_days * DAY_MILLISECONDS,
    )
    futures = admin.create_topics(
        [
            NewTopic(name, num_partitions=count, replication_factor=replicas, config=settings)
            for name, count in wanted.items()
        ],
        request_timeout=_left(deadline),
    )
    for future in futures.values():
        try:
            _result(bootstrap, future, deadline)
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise InfraError(
                    f"the broker at {bootstrap!r} refuses to make topics: {_reason(problem)}"
                ) from problem
    identities = [_check(admin, bootstrap, name, deadline=deadline, wait=True) for name in wanted]
    return identities[0]


def check_topic(bootstrap: str, topic: str, *, timeout_seconds: float = 10) -> TopicIdentity:
    """The topic's identity, once its settings are proved fit. Changes nothing; blocks.

    Raises `TopicUnfit` for a topic that is missing or set up wrongly, `BrokerUnreachable` when no
    broker answers within ``timeout_seconds``, and `BrokerTooOld`.
    """
    admin, deadline = connect(bootstrap, timeout_seconds)
    return _check(admin, bootstrap, topic, deadline=deadline, wait=False)


def examine_topic(bootstrap: str, topic: str, *, timeout_seconds: float = 10) -> TopicReport:
    """The topic with every setting that matters, fit or not. Raises as `check_topic` otherwise."""
    admin, deadline = connect(bootstrap, timeout_seconds)
    return _examine(admin, bootstrap, topic, deadline=deadline, wait=False)


def wait_for_broker(
    bootstrap: str,
    *,
    timeout_seconds: float,
    cluster: str | None = None,
    still_hoping: Callable[[], bool] = lambda: True,
) -> None:
    """Block until a broker answers at ``bootstrap`` and counts itself among its cluster's.

    With ``cluster``, only a broker of the cluster of that id will do. Gives up early once
    ``still_hoping`` says no. Raises `BrokerUnreachable`.
    """
    deadline = time.monotonic() + timeout_seconds
    problem = "it did not answer in time"
    admin = _client(bootstrap)
    while still_hoping() and time.monotonic() < deadline:
        try:
            answer = admin.list_topics(timeout=min(1.0, _left(deadline)))
        except KafkaException as failure:
            problem = _reason(failure)
        else:
            if answer.brokers and cluster in (None, answer.cluster_id):
                return
            if answer.brokers:
                problem = f"the broker there is of another cluster, {answer.cluster_id}"
        time.sleep(_POLL_SECONDS)
    raise BrokerUnreachable(bootstrap, problem=problem)


def connect(bootstrap: str, timeout_seconds: float) -> tuple[AdminClient, float]:
    """A client that a broker has answered, and the moment when the patience with it ends.

    Raises `BrokerUnreachable`.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        admin = _client(bootstrap)
        admin.list_topics(timeout=_left(deadline))
    except KafkaException as problem:
        raise BrokerUnreachable(bootstrap, problem=_reason(problem)) from problem
    return admin, deadline


def _client(bootstrap: str) -> AdminClient:
    return AdminClient(dict(client_settings(bootstrap)), logger=_SILENT)


def _check(
    admin: AdminClient, bootstrap: str, topic: str, *, deadline: float, wait: bool
) -> TopicIdentity:
    report = _examine(admin, bootstrap, topic, deadline=deadline, wait=wait)
    for found in report.settings:
        if found.verdict is Verdict.UNFIT:
            raise _unfit(bootstrap, topic, found)
    return report.identity


def _examine(
    admin: AdminClient, bootstrap: str, topic: str, *, deadline: float, wait: bool
) -> TopicReport:
    while True:
        described = admin.describe_topics(
            TopicCollection([topic]), request_timeout=_left(deadline)
        )[topic]
        try:
            description = _result(bootstrap, described, deadline)
            break
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise InfraError(
                    f"the broker at {bootstrap!r} does not describe topic {topic!r}: "
                    f"{_reason(problem)}"
                ) from problem
            # A topic made a moment ago is known to the controller before the broker tells it.
            if not wait or time.monotonic() > deadline:
                raise _missing(topic) from problem
        time.sleep(_POLL_SECONDS)
    if str(description.topic_id) in _NO_ID:
        raise BrokerTooOld(bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    configs = admin.describe_configs([resource], request_timeout=_left(deadline))[resource]
    settings = {name: entry.value for name, entry in _result(bootstrap, configs, deadline).items()}
    copies = min(len(partition.replicas) for partition in description.partitions)
    identity = TopicIdentity(topic, str(description.topic_id), len(description.partitions))
    return TopicReport(identity, judge(settings, copies))


def _missing(topic: str) -> TopicUnfit:
    return TopicUnfit(
        topic,
        setting="the topic",
        found="missing",
        wanted="there",
        remedy="check its name (METERSTREAM_TOPIC or --topic), or make it with "
        "'meterstream topics create'",
    )


def _unfit(bootstrap: str, topic: str, found: Judged) -> TopicUnfit:
    note = (
        " (events already in the topic keep the time they were given: better make a new topic)"
        if found.setting == "message.timestamp.type"
        else ""
    )
    value = found.wanted.removeprefix("at least ")
    return TopicUnfit(
        topic,
        setting=found.setting,
        found=found.found,
        wanted=found.wanted,
        remedy=f"{found.why}; run 'kafka-configs.sh --bootstrap-server {bootstrap} --alter "
        f"--entity-type topics --entity-name {topic} --add-config {found.setting}={value}'{note}",
    )


def _result(bootstrap: str, future: Future[_T], deadline: float) -> _T:
    try:
        return future.result(_left(deadline))
    except TimeoutError as problem:
        raise BrokerUnreachable(bootstrap, problem="it did not answer in time") from problem
    except KafkaException as problem:
        if problem.args[0].code() in _NOT_ANSWERED:
            raise BrokerUnreachable(bootstrap, problem=_reason(problem)) from problem
        raise


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())


def _reason(problem: KafkaException) -> str:
    error = problem.args[0]
    return error.str() if isinstance(error, KafkaError) else str(error)
