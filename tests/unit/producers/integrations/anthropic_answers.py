"""A server of the Anthropic interface: what it answers, and clients that speak to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic

from tests.unit.producers.integrations.llm import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MESSAGES: Any = [{"role": "user", "content": "hello"}]
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-stand-in-1",
    "content": [{"type": "text", "text": "forty-two"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "service_tier": "standard",
    },
}
COUNTED = {
    "provider": "anthropic",
    "operation": "chat",
    "requested_model": "claude-stand-in",
    "model": "claude-stand-in-1",
    "input_tokens": "100",
    "cached_tokens": "60",
    "cache_write_tokens": "30",
    "output_tokens": "20",
    "status": "ok",
    "streamed": "false",
}
"""The attributes of a plain message."""
_BEGUN = {
    **MESSAGE,
    "content": [],
    "stop_reason": None,
    "usage": {**MESSAGE["usage"], "output_tokens": 1},
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": _BEGUN},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "forty-two"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 20},
    },
    {"type": "message_stop"},
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}


class _Bytes(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes in one piece, for either kind of client."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class Server:
    """Answers as the provider does: with what it holds, or the same as events."""

    def __init__(self) -> None:
        self.status = 200
        self.message: object = MESSAGE
        self.events = EVENTS
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.asked.append(body)
        if body.get("stream") and self.status == 200:
            kind, content = "text/event-stream", sse(self.events, named=True)
        else:
            kind, content = "application/json", json.dumps(self.message).encode()
        return httpx2.Response(self.status, headers={"content-type": kind}, stream=_Bytes(content))

    def client(self, **settings: Any) -> Anthropic:  # noqa: ANN401 - the client's own
        """A client that speaks to this server."""
        return Anthropic(
            api_key="none",
            base_url="http://127.0.0.1",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self)),
            **settings,
        )

    def async_client(self) -> AsyncAnthropic:
        """The same for coroutines."""
        return AsyncAnthropic(
            api_key="none",
            base_url="http://127.0.0.1",
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(self)),
        )
