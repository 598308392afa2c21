"""A server of the OpenAI interface: what it answers, and clients that speak to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
from openai import AsyncOpenAI, OpenAI

from tests.unit.producers.integrations.llm import sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 12, "audio_tokens": 0},
}
COUNTED = {
    "provider": "openai",
    "operation": "chat",
    "requested_model": "gpt-4o",
    "model": "gpt-4o-2024-08-06",
    "input_tokens": "100",
    "output_tokens": "20",
    "cached_tokens": "64",
    "reasoning_tokens": "12",
    "status": "ok",
    "streamed": "false",
}
"""The attributes of a plain chat."""
MESSAGES: Any = [{"role": "user", "content": "hello"}]
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": '{"answer": 42}', "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_1",
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_760_000_000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "metadata": {},
    "model": "gpt-4o-2024-08-06",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "42", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 120,
    },
}
RATE_LIMITED = {"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded"}}


def chunk(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """A chunk of a streamed chat."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [],
        **changes,
    }


def chat_chunks(*, with_usage: bool) -> list[dict[str, Any]]:
    """A streamed chat of two words, and the usage when it was asked for."""
    usage = {"usage": None} if with_usage else {}
    words = [
        chunk(
            choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
            **usage,
        )
        for delta, reason in (
            ({"role": "assistant", "content": "forty"}, None),
            ({"content": "-two"}, None),
            ({}, "stop"),
        )
    ]
    return [*words, chunk(usage=USAGE)] if with_usage else words


class _Bytes(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in one piece, for either kind of client."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


def _unread(response: httpx.Response) -> httpx.Response:
    """The response as it comes from a network: not read yet."""
    try:
        content = response.content
    except httpx.ResponseNotRead:
        return response
    return httpx.Response(response.status_code, headers=response.headers, stream=_Bytes(content))


class Server:
    """Answers as the provider does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], httpx.Response]] = {
            "/v1/chat/completions": self.chat,
            "/v1/responses": self.response,
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        form = "json" in request.headers.get("content-type", "")
        body = json.loads(request.content) if form else {}
        self.asked.append(body)
        return _unread(self.answers[request.url.path](body))

    def answer(self, path: str, answer: object, *, status: int = 200) -> None:
        """From now on answer so: bytes are events of a stream, all else is JSON."""
        self.answers[path] = lambda _: (
            httpx.Response(status, headers={"content-type": "text/event-stream"}, content=answer)
            if isinstance(answer, bytes)
            else httpx.Response(status, json=answer)
        )

    def chat(self, body: dict[str, Any]) -> httpx.Response:
        """A chat; in a stream the usage is told when asked for."""
        if not body.get("stream"):
            return httpx.Response(200, json=COMPLETION)
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return httpx.Response(
            200,
            headers={"content-type": "text/event-stream"},
            content=sse(chat_chunks(with_usage=with_usage), done=True),
        )

    def response(self, body: dict[str, Any]) -> httpx.Response:
        """A response; a stream tells its usage with the last event."""
        if not body.get("stream"):
            return httpx.Response(200, json=RESPONSE)
        begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
        events = [
            {"type": "response.created", "response": begun, "sequence_number": 0},
            {
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {**RESPONSE["output"][0], "status": "in_progress", "content": []},
                "sequence_number": 1,
            },
            {
                "type": "response.content_part.added",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "part": {"type": "output_text", "text": "", "annotations": []},
                "sequence_number": 2,
            },
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": "42",
                "logprobs": [],
                "sequence_number": 3,
            },
            {"type": "response.completed", "response": RESPONSE, "sequence_number": 4},
        ]
        return httpx.Response(
            200,
            headers={"content-type": "text/event-stream"},
            content=sse(events, named=True),
        )

    def client(self) -> OpenAI:
        """A client that speaks to this server."""
        return OpenAI(
            api_key="none",
            base_url="http://127.0.0.1/v1",
            max_retries=0,
            http_client=httpx.Client(transport=httpx.MockTransport(self)),
        )

    def async_client(self) -> AsyncOpenAI:
        """The same for coroutines."""
        return AsyncOpenAI(
            api_key="none",
            base_url="http://127.0.0.1/v1",
            max_retries=0,
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(self)),
        )
