"""One request and its whole answer over httpx, bounded in time and bytes.

Underneath httpx's client, which would log each request, follow its own rules for cookies and unpack
answers of any size. Imported when a connection is first made.
"""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from meterstream.extras import needs
from meterstream.gateway_format import Answer, shown

with needs("gateway", __name__):
    import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONNECT_SECONDS_MAX: Final = 5.0
_COMPRESSED_FROM_BYTES: Final = 1_024
_GZIP: Final = 31
_PIECE_BYTES: Final = 65_536
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
        self._deadline: Final = _Deadline()
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
        self._deadline.at = time.monotonic() + timeout_seconds
        told = {**self._headers, **headers}
        if len(body) >= _COMPRESSED_FROM_BYTES:
            packing = zlib.compressobj(1, wbits=_GZIP)
            body = packing.compress(body) + packing.flush()
            told["Content-Encoding"] = "gzip"
        times = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS_MAX))
        request = httpx.Request(
            method,
            self._url,
            headers=told,
            content=body,
            extensions={"timeout": times.as_dict(), "trace": self._deadline.watch},
        )
        try:
            response = self._send(request)
            try:
                answer = _read(response, answer_bytes_max)
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


class _Deadline:
    """Holds a request as a whole to its time.

    httpx's timeouts begin anew with each byte, so one that comes now and then would hold the sender
    for hours. Its hook for tracing tells of each connection that is made.
    """

    def __init__(self) -> None:
        self.at = 0.0

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a new connection, whose reads and writes are ours from then on."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info["return_value"]
            stream.read = self._reading(stream.read)
            stream.write = self._writing(stream.write)

    def _reading(self, read: Callable[..., bytes]) -> Callable[..., bytes]:
        def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
            return read(max_bytes, self._left(timeout))

        return bounded

    def _writing(self, write: Callable[..., None]) -> Callable[..., None]:
        def bounded(data: bytes, timeout: float | None = None) -> None:
            for start in range(0, len(data), _PIECE_BYTES):
                write(data[start : start + _PIECE_BYTES], self._left(timeout))

        return bounded

    def _left(self, timeout: float | None) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for a request is over")
        return left if timeout is None else min(left, timeout)


def _read(response: httpx.Response, bytes_max: int) -> Answer:
    if "content-encoding" in response.headers:
        raise NoAnswer("no answer that can be read: it is packed, though that was not asked for")
    body = bytearray()
    for chunk in response.iter_bytes():  # Not packed, so as it came.
        body += chunk
        if len(body) > bytes_max:
            raise NoAnswer(f"no answer that can be read: it has more than {bytes_max} bytes")
    return Answer(response.status_code, response.headers.get("retry-after"), bytes(body))


def _proxy(url: str) -> str | None:
    """The environment's proxy. None for plain HTTP, whose proxy would see the key."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.netloc):
        return None
    return getproxies().get("https") or getproxies().get("all")
