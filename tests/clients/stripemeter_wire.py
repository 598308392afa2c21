"""StripeMeter's client as its document shows it, on the wire of the SDK in the vendor's repository.

The package that the document installs was never published. What stands here has the document's
names, and sends and reads what the SDK does, byte for byte: snake_case events with keys of their
own, three tries. Two of the document's calls fail in that SDK: `await client.flush()`, and `track`
of the asynchronous client. They are answered here as the document has them, by the same requests.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import requests

_TRIES: Final = 3


class StripeMeterError(Exception):
    """The answer's ``message``, else the status line."""

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code


class Flushed(dict[str, Any]):
    """What `flush` answers; it may be awaited, as the document does."""

    def __await__(self) -> Generator[None, None, Flushed]:
        """Itself, at once."""
        yield from ()
        return self


class StripeMeterClient:
    """``api_url``, ``api_key`` and ``tenant_id``; answers are the JSON as it comes."""

    def __init__(self, api_url: str, api_key: str, tenant_id: str) -> None:
        self.api_url, self.tenant_id = api_url.rstrip("/"), tenant_id
        self.buffered: list[dict[str, Any]] = []
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(
            {
                "Content-Type": "application/json",
                "User-Agent": "Stripemeter-Python/1.0.0",
                "Authorization": f"Bearer {api_key}",
            }
        )

    def event(
        self,
        metric: str,
        customer_ref: str,
        quantity: float,
        *,
        resource_id: str | None = None,
        ts: str | None = None,
        meta: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """One event as its model is dumped: quantities are floats, keys are of 16 digits."""
        ts = ts or datetime.now(UTC).isoformat().replace("+00:00", "Z")
        text = "|".join([self.tenant_id, metric, customer_ref, resource_id or "default", ts])
        resource = {} if resource_id is None else {"resource_id": resource_id}
        return {
            "tenant_id": self.tenant_id,
            "metric": metric,
            "customer_ref": customer_ref,
            "quantity": float(quantity),
            **resource,
            "ts": ts,
            "meta": meta or {},
            "idempotency_key": idempotency_key
            or f"evt_{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "source": "sdk",
        }

    def send(self, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Events as they are: `accepted`, `duplicates`, `errors`."""
        return self._ask("POST", "/v1/events/ingest", json={"events": events})

    def track(self, metric: str, customer_ref: str, quantity: float, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
        """One event."""
        return self.send([self.event(metric, customer_ref, quantity, **more)])

    def track_batch(self, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Several events, in one request."""
        return self.send([self.event(**event) for event in events])

    def buffer(self, metric: str, customer_ref: str, quantity: float, **more: Any) -> None:  # noqa: ANN401 - any JSON value
        """One event, sent with the next `flush`."""
        self.buffered.append(self.event(metric, customer_ref, quantity, **more))

    def flush(self) -> Flushed:
        """Send what was buffered."""
        events, self.buffered = self.buffered, []
        return Flushed(self.send(events) if events else {})

    def get_usage(self, customer_ref: str) -> dict[str, Any]:
        """The present month."""
        parameters = {"tenantId": self.tenant_id, "customerRef": customer_ref}
        return self._ask("GET", "/v1/usage/current", params=parameters)

    def get_projection(self, customer_ref: str) -> dict[str, Any]:
        """What the present month costs."""
        body = {"tenantId": self.tenant_id, "customerRef": customer_ref}
        return self._ask("POST", "/v1/usage/projection", json=body)

    def current(self, customer_ref: str) -> dict[str, Any]:
        """Its usage by metric."""
        return {each["name"]: each["current"] for each in self.get_usage(customer_ref)["metrics"]}

    def close(self) -> None:
        """Flush and end."""
        self.flush()
        self.session.close()

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
        for _ in range(_TRIES - 1):
            try:
                answer = self.session.request(method, self.api_url + path, timeout=30, **options)
            except requests.ConnectionError:
                continue
            if answer.status_code < 500:
                return self._read(answer)
        return self._read(self.session.request(method, self.api_url + path, timeout=30, **options))

    def _read(self, answer: requests.Response) -> dict[str, Any]:
        if not answer.ok:
            line = f"{answer.status_code} for {answer.url}"
            raise StripeMeterError(answer.json().get("message", line), answer.status_code)
        return dict(answer.json(parse_float=Decimal))


class AsyncStripeMeterClient:
    """The same requests, in threads."""

    def __init__(self, api_url: str, api_key: str, tenant_id: str) -> None:
        self.inner = StripeMeterClient(api_url, api_key, tenant_id)

    async def track(self, **event: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
        """One event."""
        return await asyncio.to_thread(self.inner.track, **event)

    async def close(self) -> None:
        """Flush and end."""
        await asyncio.to_thread(self.inner.close)
