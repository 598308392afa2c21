"""Notices as webhooks: one signed POST per message of the notices topic, in order, at least once.

Signed as Standard Webhooks 1.0 says (github.com/standard-webhooks/standard-webhooks): the headers
``webhook-id``, ``webhook-timestamp`` (Unix seconds) and ``webhook-signature``, which holds for each
secret ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``. Several secrets mean a
rotation: the receiver accepts whichever it knows. The id is the notice's own, the same on every
repeat, so that receivers can ignore what they have.

A message is done with when the receiver answers 2xx, or when it has failed so often that it is
given up: logged, counted, and still in the topic. Only then is its position committed. Redirects
are not followed: a signed body goes to the address that was named and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx
import structlog

from meterstream_consumers.errors import ConsumersError
from meterstream_consumers.logs import configure
from meterstream_consumers.metrics_server import MetricsServer
from meterstream_consumers.notices import Notice, NoticeSource
from meterstream_consumers.webhook_metrics import WebhookMetrics
from meterstream_schemas.events import NOTICES_TOPIC

_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = (16, 128)
_GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Where notices go. ``secrets`` are as Standard Webhooks writes them: ``whsec_`` and base64."""

    bootstrap_servers: str
    url: str
    secrets: tuple[str, ...] = field(repr=False)
    topic: str = NOTICES_TOPIC
    group: str = "meterstream-notices"
    timeout_seconds: float = 15.0
    attempts_max: int = 16
    """Deliveries of one message that may fail before it is given up, after some two hours."""
    backoff_seconds: float = 1.0
    """Before the second attempt; each further one waits twice as long, half of it by chance."""
    backoff_seconds_max: float = 1800.0
    metrics: str | None = None
    log_json: bool = False


class Notices(Protocol):
    """Where messages come from, one by one."""

    def next(self, seconds: float) -> Notice | None:
        """The next message, or None when none came in time."""
        ...

    def done(self, notice: Notice) -> None:
        """Never give this one out again."""
        ...


class Webhook:
    """Sends notices to one address. ``wait`` sleeps, ``clock`` tells Unix seconds."""

    def __init__(
        self,
        settings: WebhookSettings,
        client: httpx.Client,
        metrics: WebhookMetrics,
        log: structlog.stdlib.BoundLogger,
        *,
        wait: Callable[[float], bool],
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        check_url(settings.url)
        self._keys = secret_keys(settings.secrets)
        self._settings = settings
        self._client = client
        self._metrics = metrics
        self._log = log
        self._wait = wait
        self._clock = clock
        self._chance = chance

    def deliver(self, notice: Notice) -> bool:
        """Send until it is taken or given up; False when told to stop before either."""
        settings, name = self._settings, notice_id(notice)
        problem: str | None = None
        for attempt in range(1, settings.attempts_max + 1):
            problem, asked = self._attempt(name, notice.value)
            if problem is None:
                self._metrics.deliveries.labels(result="delivered").inc()
                return True
            if asked is not None and asked < 0:
                break
            if attempt == settings.attempts_max:
                break
            self._metrics.deliveries.labels(result="retried").inc()
            self._log.warning("webhook not taken", id=name, attempt=attempt, problem=problem)
            if not self._wait(max(self._backoff(attempt), asked or 0.0)):
                return False
        self._metrics.deliveries.labels(result="given_up").inc()
        self._log.error(
            "webhook given up; the notice stays in its topic",
            id=name,
            partition=notice.partition,
            offset=notice.offset,
            problem=problem,
        )
        return True

    def _backoff(self, attempt: int) -> float:
        """Doubled each time, half of it by chance, so that many senders do not come at once."""
        settings = self._settings
        full = min(settings.backoff_seconds * 2.0 ** (attempt - 1), settings.backoff_seconds_max)
        return full * (1.0 + self._chance()) / 2.0

    def _attempt(self, name: str, body: bytes) -> tuple[str | None, float | None]:
        """What went wrong, None for nothing; and the wait asked for, -1 for good."""
        stamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": "meterstream-webhooks/1",
            "webhook-id": name,
            "webhook-timestamp": str(stamp),
            "webhook-signature": signature(self._keys, name, stamp, body),
        }
        try:
            answer = self._client.post(
                self._settings.url,
                content=body,
                headers=headers,
                timeout=self._settings.timeout_seconds,
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            return f"{type(problem).__name__}: {problem}", None
        if answer.is_success:
            return None, None
        after = answer.headers.get("retry-after", "")
        asked = min(float(after), self._settings.backoff_seconds_max) if after.isdigit() else None
        return f"answered {answer.status_code}", -1.0 if answer.status_code == _GONE else asked


def run(settings: WebhookSettings) -> int:
    """Send notices until SIGTERM or SIGINT; the exit status. Blocks; main thread only.

    Raises `ConsumersError` for an address or secret that is none.
    """
    stopping = False

    def stop(_signal_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    def wait(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not stopping and time.monotonic() < until:
            source.keep_alive()
            time.sleep(min(0.1, max(until - time.monotonic(), 0.0)))
        return not stopping

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log = configure(settings.log_json, process="notices")
    metrics = WebhookMetrics()
    with httpx.Client(trust_env=False) as client:
        webhook = Webhook(settings, client, metrics, log, wait=wait)
        server = MetricsServer.start(settings.metrics, metrics.registry, lambda: None)
        source = NoticeSource(
            settings.bootstrap_servers,
            settings.topic,
            settings.group,
            warn=lambda text: log.warning("kafka", problem=text),
        )
        try:
            relay(source, webhook, lambda: stopping)
        finally:
            source.close()
            server.close()
    return 0


def relay(source: Notices, webhook: Webhook, stopping: Callable[[], bool]) -> None:
    """Deliver one message after the other until told to stop."""
    while not stopping():
        notice = source.next(0.5)
        if notice is not None and webhook.deliver(notice):
            source.done(notice)


def check_url(url: str) -> None:
    """Raise `ConsumersError` for what is no address that a webhook may go to."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConsumersError(
            f"{url[:200]!r} is no address for a webhook; write https://HOST/PATH (or http://)"
        )
    if parts.username is not None or parts.fragment:
        raise ConsumersError(
            "a webhook's address has no user, password or fragment; "
            "the signature tells the receiver who sends"
        )


def secret_keys(secrets: Sequence[str]) -> list[bytes]:
    """The keys of all secrets. Raises `ConsumersError` for one that is none, and for no secret."""
    if not secrets:
        raise ConsumersError(
            "a webhook needs a secret; set METERSTREAM_WEBHOOK_SECRET to whsec_ and base64"
        )
    return [secret_key(secret) for secret in secrets]


def secret_key(secret: str) -> bytes:
    """The key in ``whsec_…``. Raises `ConsumersError`, which does not repeat the secret."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    low, high = _SECRET_BYTES
    if not secret.startswith(_PREFIX) or not low <= len(key) <= high:
        raise ConsumersError(
            f"a webhook secret is not whsec_ followed by the base64 of {low} to {high} bytes; make "
            'one with: python -c "import base64, secrets; '
            "print('whsec_' + base64.b64encode(secrets.token_bytes(32)).decode())\""
        )
    return key


def signature(keys: Sequence[bytes], name: str, stamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: one signature per key, the first key's first."""
    content = b".".join((name.encode(), str(stamp).encode(), body))
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys
    )


def notice_id(notice: Notice) -> str:
    """The id that stays the same however often a notice is sent, also through Kafka."""
    try:
        told = json.loads(notice.value)
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(name := told.get("id"), str) and name.isascii():
        return name
    return f"notice_{notice.partition}_{notice.offset}"
