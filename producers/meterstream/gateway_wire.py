"""One request and its whole answer over httpx, bounded in time and bytes.

Underneath httpx's client, which would log each request, follow its own rules for cookies and unpack
answers of any size. Imported when a connection is first made.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from meterstream.gateway_format import Answer, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECT_SECONDS_MAX: Final = 5.0
_COMPRESSED_FROM_BYTES: Final = 1_024
_GZIP: Final = 31
_abandoned: Final[list[object]] = []
"""What a fork took from a parent: closing it would take locks that the parent's thread held."""


class NoAnswer(Exception):
    """There is no whole answer. ``sent``: what was asked may have happened or not."""

    def __init__(self, why: str, *, sent: bool = True) -> None:
        super().__init__(why)
        self.sent: Final = sent


class Wire:
    """Connections to one address, kept open between requests. For one thread."""

    def __init__(self, url: str, key: str, client: httpx.Client | None) -> None:
        self._url: Final = url
        self._headers: Final = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "meterstream",
        }
        self._key: Final = key
        self._client: Final = client
        self._transport: Final = None if client else httpx.HTTPTransport(proxy=_proxy(url))

    def exchange(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        answer_bytes_max: int,
        timeout_seconds: float,
    ) -> Answer:
        """Ask and read the answer to its end. Raises `NoAnswer`."""
        deadline = time.monotonic() + timeout_seconds
        told = {**self._headers, **headers}
        if len(body) >= _COMPRESSED_FROM_BYTES:
            packing = zlib.compressobj(1, wbits=_GZIP)
            body = packing.compress(body) + packing.flush()
            told["Content-Encoding"] = "gzip"
        times = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS_MAX))
        request = httpx.Request(
            method, self._url, headers=told, content=body, extensions={"timeout": times.as_dict()}
        )
        try:
            response = self._send(request)
            try:
                answer = _read(response, answer_bytes_max, deadline)
            finally:
                response.close()
        except NoAnswer:
            raise
        except Exception as problem:  # noqa: BLE001 - a host's own client may raise anything
            sent = not isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout)
            why = f"no answer: {type(problem).__name__} {problem}".replace(self._key, "[key]")
            raise NoAnswer(shown(why), sent=sent) from None
        # Should it repeat the key: what is told of an answer goes to logs.
        return answer._replace(body=answer.body.replace(self._key.encode(), b"[key]"))

    def close(self) -> None:
        """Let go of the connections; a host's own client stays open."""
        if self._transport is not None:
            self._transport.close()

    def abandon(self) -> None:
        """Touch nothing of it ever again."""
        _abandoned.append(self)

    def _send(self, request: httpx.Request) -> httpx.Response:
        if self._client is not None:
            return self._client.send(request, stream=True, auth=None, follow_redirects=False)
        assert self._transport is not None
        return self._transport.handle_request(request)


def _read(response: httpx.Response, bytes_max: int, deadline: float) -> Answer:
    if "content-encoding" in response.headers:
        raise NoAnswer("no answer that can be read: it is packed, though that was not asked for")
    body = bytearray()
    for chunk in response.iter_bytes():  # Not packed, so as it came.
        body += chunk
        if len(body) > bytes_max:
            raise NoAnswer(f"no answer that can be read: it has more than {bytes_max} bytes")
        if time.monotonic() > deadline:
            raise NoAnswer("no answer in time: it comes too slowly")
    return Answer(response.status_code, response.headers.get("retry-after"), bytes(body))


def _proxy(url: str) -> str | None:
    """The environment's proxy. None for plain HTTP, whose proxy would see the key."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.netloc):
        return None
    return getproxies().get("https") or getproxies().get("all")
