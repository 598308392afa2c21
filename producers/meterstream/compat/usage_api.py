"""Questions to the usage API, as the compatibility modules ask them.

::

    MeterError
    └── UsageError
        ├── UsageUnavailable   nothing answers there, or not in time
        └── UsageRefused       the answer is a problem: its status and detail
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from meterstream.errors import MeterError
from meterstream.extras import needs
from meterstream_schemas.connection import read_connection

with needs("compat", __name__):
    import httpx

URL: Final = "METERSTREAM_URL"
DATA: Final = "METERSTREAM_DATA"
DEFAULT_URL: Final = "http://127.0.0.1:8080"
TIMEOUT_SECONDS: Final = 10.0

Json = Any
"""A parsed JSON document: its reader says what it expects of it."""
Parameters = Sequence[tuple[str, str]]


class UsageError(MeterError):
    """Base of what can go wrong when asking."""


class UsageUnavailable(UsageError):
    """Nothing that speaks HTTP answers at the address, or not in time."""


class UsageRefused(UsageError):
    """The API answered with an error. ``status`` is the HTTP status, ``detail`` its sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} (status {status})")
        self.status = status
        self.detail = detail


class UsageApi(Protocol):
    """The port: what answers questions. Blocking; safe from any thread."""

    def get(self, path: str, params: Parameters = ()) -> Json:
        """The JSON of an answer. Raises `UsageUnavailable` or `UsageRefused`."""
        ...


class HttpUsage:
    """A `UsageApi` over HTTP.

    The address is the argument, else METERSTREAM_URL, else that of the ``meterstream up`` which
    METERSTREAM_DATA names, else the port that ``meterstream serve`` listens on; the environment is
    read with every question. ``transport`` replaces the network, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url: Final = url
        self._timeout_seconds: Final = timeout_seconds
        self._transport: Final = transport
        self._client: tuple[int, httpx.Client] | None = None

    def get(self, path: str, params: Parameters = ()) -> Json:
        """See `UsageApi`."""
        url = self._url or find_url()
        try:
            response = self._connected().get(url.rstrip("/") + path, params=list(params))
        except httpx.TimeoutException as problem:
            raise UsageUnavailable(f"{url} did not answer {path} in time; try again") from problem
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise UsageUnavailable(
                f"nothing answers at {url} ({problem}); start `meterstream serve`, "
                "or set METERSTREAM_URL"
            ) from problem
        try:
            answer = response.json()
        except ValueError as problem:
            raise UsageRefused(
                response.status_code, f"{url} answered no JSON; is this a meterstream API?"
            ) from problem
        if response.is_error:
            raise UsageRefused(response.status_code, _detail(answer, response.reason_phrase))
        return answer

    def _connected(self) -> httpx.Client:
        """The client of this process: the child of a fork must not share its parent's sockets."""
        process = os.getpid()
        client = self._client
        if client is None or client[0] != process:
            # No lock: two threads at first may each make one, and the one not kept is collected.
            made = httpx.Client(
                timeout=self._timeout_seconds, transport=self._transport, trust_env=False
            )
            weakref.finalize(self, _close, process, made)
            client = self._client = (process, made)
        return client[1]


async def get_async(api: UsageApi, path: str, params: Parameters = ()) -> Json:
    """Ask without blocking the event loop. Raises as `UsageApi.get`."""
    return await asyncio.to_thread(api.get, path, params)


def find_url() -> str:
    """The usage API's address, from the environment."""
    named = os.environ.get(URL)
    if named:
        return named
    directory = os.environ.get(DATA)
    if directory:
        try:
            connection = read_connection(Path(directory))
        except ValueError as problem:
            raise UsageUnavailable(str(problem)) from problem
        if connection is not None and connection.url:
            return connection.url
    return DEFAULT_URL


def _close(process: int, client: httpx.Client) -> None:
    if process == os.getpid():
        client.close()


def _detail(answer: Json, reason: str) -> str:
    if isinstance(answer, dict):
        for name in ("detail", "title"):
            if isinstance(answer.get(name), str):
                return str(answer[name])
    return reason
