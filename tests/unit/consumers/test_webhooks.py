"""Webhooks: signed as Standard Webhooks says, repeated until taken, never sent elsewhere."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

import httpx
import pytest
import structlog

from meterstream_consumers.errors import ConsumersError
from meterstream_consumers.notices import Notice
from meterstream_consumers.webhook_metrics import WebhookMetrics
from meterstream_consumers.webhooks import (
    Webhook,
    WebhookSettings,
    check_url,
    notice_id,
    relay,
    secret_key,
    signature,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"y" * 32).decode()
NOTICE = Notice(0, 7, json.dumps({"id": "notice_1", "data": {"value": "5"}}).encode())
NOW = 1_767_225_600


class Receiver:
    """Answers as it was told to, and keeps what came."""

    def __init__(self, *answers: int | Exception | httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(answer)


class World:
    """A webhook to a receiver; waits are kept in place of being waited."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        secrets: tuple[str, ...] = (SECRET,),
        attempts_max: int = 5,
        stops_after: int = 1000,
    ) -> None:
        settings = WebhookSettings(
            bootstrap_servers="",
            url="http://receiver.test/hook",
            secrets=secrets,
            attempts_max=attempts_max,
            backoff_seconds_max=60.0,
        )
        self.waits: list[float] = []
        self._stops_after = stops_after
        self.metrics = WebhookMetrics()
        self.webhook = Webhook(
            settings,
            httpx.Client(transport=httpx.MockTransport(receiver)),
            self.metrics,
            structlog.get_logger(),
            wait=self._wait,
            clock=lambda: NOW + 0.9,
            chance=lambda: 0.5,
        )

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return len(self.waits) < self._stops_after

    def told(self) -> dict[str, float]:
        """Deliveries by result, where there were any."""
        return {
            sample.labels["result"]: sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "meterstream_webhook_deliveries_total" and sample.value
        }


def test_the_published_signature() -> None:
    """The example of the standard's own documentation."""
    body = b'{"test": 2432232314}'

    told = signature([secret_key(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_a_receiver_gets() -> None:
    """The very bytes of the notice, its own id, the time, and one signature per secret."""
    receiver = Receiver()
    world = World(receiver, secrets=(SECRET, OTHER))

    assert world.webhook.deliver(NOTICE)

    [request] = receiver.requests
    assert request.method == "POST"
    assert request.content == NOTICE.value
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "notice_1"
    assert request.headers["webhook-timestamp"] == str(NOW)
    content = b"notice_1." + str(NOW).encode() + b"." + NOTICE.value
    expected = [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in (base64.b64decode(SECRET[6:]), b"y" * 32)
    ]
    assert request.headers["webhook-signature"].split(" ") == expected
    assert world.told() == {"delivered": 1}


def test_what_fails_is_sent_again() -> None:
    """Errors, no answer, a redirect: each time the same id, after growing waits."""
    elsewhere = httpx.Response(302, headers={"location": "http://elsewhere.test/"})
    receiver = Receiver(500, httpx.ConnectTimeout("late"), elsewhere, 200)
    world = World(receiver)

    assert world.webhook.deliver(NOTICE)

    assert [request.url.host for request in receiver.requests] == ["receiver.test"] * 4
    assert {request.headers["webhook-id"] for request in receiver.requests} == {"notice_1"}
    assert world.waits == [0.75, 1.5, 3.0]
    assert world.told() == {"delivered": 1, "retried": 3}


def test_a_receiver_may_ask_for_patience() -> None:
    """Retry-After is heeded, up to the longest wait."""
    ask = [httpx.Response(429, headers={"retry-after": text}) for text in ("20", "9999", "soon")]
    world = World(Receiver(*ask))

    assert world.webhook.deliver(NOTICE)

    assert world.waits == [20.0, 60.0, 3.0]


@pytest.mark.parametrize(("answers", "sent"), [([500] * 9, 5), ([410, 200], 1)])
def test_it_is_given_up_some_time(answers: list[int], sent: int) -> None:
    """After so many attempts, or at once where the receiver is gone: counted, and done with."""
    receiver = Receiver(*answers)
    world = World(receiver)

    assert world.webhook.deliver(NOTICE)

    assert len(receiver.requests) == sent
    assert world.told()["given_up"] == 1


def test_it_can_be_stopped_while_it_waits() -> None:
    """What was not taken by then is not done with."""
    world = World(Receiver(500, 500, 500), stops_after=2)

    assert not world.webhook.deliver(NOTICE)


class Topic:
    """Notices in order; what is not done with is given out again by the next one."""

    def __init__(self, notices: list[Notice]) -> None:
        self.notices = notices
        self.at = 0

    def next(self, seconds: float) -> Notice | None:
        """The next message."""
        return self.notices[self.at] if self.at < len(self.notices) else None

    def done(self, notice: Notice) -> None:
        """Never again."""
        assert notice == self.notices[self.at]
        self.at += 1


def test_notices_go_one_after_the_other() -> None:
    """The second waits for the first; a position moves only when its notice is done with."""
    notices = [NOTICE._replace(offset=n, value=b'{"id": "n%d"}' % n) for n in range(3)]
    topic, receiver = Topic(notices), Receiver(500, 200, 200, 500)
    world = World(receiver, stops_after=2)

    relay(topic, world.webhook, _until(lambda: len(world.waits) == 2))

    assert [request.headers["webhook-id"] for request in receiver.requests] == [
        "n0", "n0", "n1", "n2",
    ]  # fmt: skip
    assert topic.at == 2


def _until(fact: Callable[[], bool]) -> Callable[[], bool]:
    return fact


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/", "file:///etc/passwd", "receiver.test", "http://", "http://u:p@a/",
        "https://a/#x", "",
    ],
)  # fmt: skip
def test_no_address_for_a_webhook(url: str) -> None:
    """Only http and https, and nothing in it that would be sent along."""
    with pytest.raises(ConsumersError, match="webhook"):
        check_url(url)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_no_secret(secret: str) -> None:
    """What is no secret is refused, and not repeated."""
    with pytest.raises(ConsumersError, match="whsec_ followed by") as caught:
        secret_key(secret)

    assert "MfKQ" not in str(caught.value)


def test_a_webhook_without_a_secret() -> None:
    """An unsigned notice would teach receivers to believe anybody."""
    with pytest.raises(ConsumersError, match="METERSTREAM_WEBHOOK_SECRET"):
        World(Receiver(), secrets=())
    assert SECRET not in repr(
        WebhookSettings(bootstrap_servers="", url="http://a/", secrets=(SECRET,))
    )


@pytest.mark.parametrize("value", [b"", b"no json", b"[]", b'{"id": 5}', '{"id": "é"}'.encode()])
def test_a_notice_without_an_id(value: bytes) -> None:
    """Whatever somebody wrote into the topic, its place is an id."""
    assert notice_id(Notice(2, 9, value)) == "notice_2_9"
