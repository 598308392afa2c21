"""The HTTP API seen from this side: what the command line, the importer and the demo ask.

::

    ClientError (Exception)
    ├── ApiUnreachable   start `meterstream serve`, or name another --url
    └── ApiRefused       the answer is a problem: its status, title and detail
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

if TYPE_CHECKING:
    from types import TracebackType

Parameters = Sequence[tuple[str, str]]
Json = Any
"""A parsed JSON document: its reader says what it expects of it."""

API_KEY: Final = "METERSTREAM_API_KEY"
ALLOW_PLAIN_HTTP: Final = "METERSTREAM_ALLOW_PLAIN_HTTP"
TIMEOUT_SECONDS: Final = 30.0
_AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class ClientError(Exception):
    """Base of what can go wrong when asking the API; the message is one sentence."""


class ApiUnreachable(ClientError):
    """Nothing that speaks HTTP answers at the address, or not in time."""


class ApiRefused(ClientError):
    """The API answered with an error.

    ``status`` is the HTTP status, ``detail`` its sentence, ``errors`` the single faults if the
    problem lists any.
    """

    def __init__(
        self, status: int, detail: str, *, errors: Sequence[Mapping[str, Json]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)


class Api:
    """Asks one meterstream API. Blocking; a context manager; not for several threads at once.

    ``transport`` replaces the network, for tests. ``api_key`` goes with each request; unless given
    it is that of the environment (METERSTREAM_API_KEY), if any. Redirects are not followed, so it
    reaches nobody but the address. Certificates are trusted by the authorities of SSL_CERT_FILE and
    SSL_CERT_DIR where the environment has these.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        transport: httpx.BaseTransport | None = None,
        api_key: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        key = os.environ.get(API_KEY, "").strip() if api_key is None else api_key
        if not key.isascii() or not key.isprintable():
            raise ApiRefused(401, f"{API_KEY} holds no API key; copy it anew")
        if key and transport is None and not _keeps_secrets(self.url):
            raise ApiRefused(
                401,
                f"{self.url} would carry the API key in the clear; use https, or set "
                f"{ALLOW_PLAIN_HTTP}=1 where the way is safe",
            )
        try:
            self._client = httpx.Client(
                base_url=self.url,
                timeout=timeout_seconds,
                transport=transport,
                trust_env=False,
                verify=_authorities(),
                headers={"Authorization": f"Bearer {key}"} if key else None,
            )
        except httpx.InvalidURL as problem:
            raise ApiUnreachable(f"{url!r} is not a URL; write http://HOST:PORT") from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def get(self, path: str, parameters: Parameters = ()) -> Json:
        """The JSON of an answer. Raises `ApiUnreachable` or `ApiRefused`."""
        return self.send("GET", path, parameters=parameters).json()

    def get_bytes(self, path: str, parameters: Parameters = ()) -> bytes:
        """The answer's body as it came. Raises `ApiUnreachable` or `ApiRefused`."""
        return self.send("GET", path, parameters=parameters).content

    def send(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters = (),
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Any request. Raises `ApiUnreachable` or `ApiRefused`."""
        try:
            response = self._client.request(
                method, path, params=list(parameters), json=json, content=content, headers=headers
            )
        except httpx.UnsupportedProtocol as problem:
            raise ApiUnreachable(f"{self.url!r} is not a URL; write http://HOST:PORT") from problem
        except httpx.TimeoutException as problem:
            raise ApiUnreachable(
                f"{self.url} did not answer {path} in time; try again"
            ) from problem
        except httpx.HTTPError as problem:
            if "CERTIFICATE_VERIFY_FAILED" in str(problem):
                raise ApiUnreachable(
                    f"{self.url} is not trusted ({problem}); name the file with its authority in "
                    "SSL_CERT_FILE"
                ) from problem
            raise ApiUnreachable(
                f"nothing answers at {self.url} ({problem}); start `meterstream up` or "
                "`meterstream serve`, or name the address with --url"
            ) from problem
        if response.is_error:
            raise _refused(response, self.url)
        return response


def path_of(*parts: str) -> str:
    """A path from parts that may hold any character."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _keeps_secrets(url: str) -> bool:
    """Whether a key may be sent there: encrypted, to this machine, or because somebody said so."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return True  # No address at all: nothing is sent there.
    if parts.scheme != "http" or host == "localhost":
        return True
    with suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return True
    return os.environ.get(ALLOW_PLAIN_HTTP, "").strip() in {"1", "true"}


def _authorities() -> ssl.SSLContext | bool:
    """Who vouches for certificates: those of the environment, else the public ones."""
    if not any(os.environ.get(name) for name in _AUTHORITIES):
        return True
    return ssl.create_default_context()


def _refused(response: httpx.Response, url: str) -> ApiRefused:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        detail = problem.get("detail") or problem.get("title")
        if isinstance(detail, str) and detail:
            if response.status_code == 401:
                detail = f"{detail} (here: {API_KEY}, or meterstream --api-key)"
            errors = problem.get("errors", ())
            return ApiRefused(
                response.status_code, detail, errors=errors if isinstance(errors, list) else ()
            )
    return ApiRefused(
        response.status_code,
        f"{url} answered {response.status_code} {response.reason_phrase} to "
        f"{response.request.method} {response.request.url.path}; is this a meterstream API?",
    )
