"""Who asks: from a request's credential to its `Principal`, before anything is routed.

A credential is looked for in this order, and the first one there is counts:

1. the path, ``/k/<key>/...``, for clients that can be given nothing but an address. The prefix is
   taken off here, so that nothing behind ever sees it;
2. ``Authorization: Bearer <key>``, or ``Basic`` with the key as password, or as name without one;
3. ``X-API-Key``.

Somebody who shows wrong credentials is answered 401 so often, then 429. That is by address and for
wrong ones only: a key that is right opens the door whoever else knocks from there. Logs have the
ids of keys, never the keys. There is no CORS: no page in a browser may read answers from here.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meterstream_services.http.access import Access, access_of
from meterstream_services.http.guarding import SCOPE_NAME
from meterstream_services.http.rates import RATES_NAME, Buckets, Rates, too_fast
from meterstream_services.http.shapes import error_shape
from meterstream_services.http.sizes import Sizes
from meterstream_services.keys.checking import Keys, Refusal
from meterstream_services.keys.principal import NOBODY, Principal
from meterstream_services.keys.text import id_of

FAILURES_PER_SECOND: Final = 10.0
"""Wrong credentials of one address that are answered one by one, over time; and twice as many at
once."""
AWAY_RETRY_SECONDS: Final = 2
QUESTIONS_MAX: Final = 20
"""Questions of a key under way at once: half of the threads that answer them. Keys for all tenants
are the operator's own, and are not held to it."""
_ASKING: Final = "meterstream.asking"
_KEY_PATH: Final = "/k/"

_log: Final = logging.getLogger("meterstream.keys")

_WORDS: Final = {
    Refusal.MISSING: "this needs an API key; send it as Authorization: Bearer <key>",
    Refusal.UNKNOWN: "this API key is not known here; check that all of it was copied",
    Refusal.EXPIRED: "this API key has expired; ask for a new one",
    Refusal.REVOKED: "this API key was revoked; ask for a new one",
    Refusal.NONE_MADE: "no API key was made here yet; `meterstream keys create` makes one",
    Refusal.AWAY: "API keys cannot be checked right now; send this again",
}


class Admission:
    """Who may come in. Remembers how much each key and address sent, and what keys ask just now.

    ``metrics_open``: metrics need no key, as where only this machine reaches the service.
    """

    def __init__(
        self, keys: Keys, *, metrics_open: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = keys
        self._metrics_open = metrics_open
        self._rates = Rates(clock)
        self._failures = Buckets(clock)
        self._asking = Counter[str]()

    @contextmanager
    def asking(self, scope: Scope) -> Generator[None]:
        """While a question that was admitted is answered, where its key has a bound of them."""
        asking: str | None = scope.get(_ASKING)
        if asking is None:
            yield
            return
        self._asking[asking] += 1
        try:
            yield
        finally:
            self._asking[asking] -= 1
            if not self._asking[asking]:
                del self._asking[asking]

    async def admit(self, scope: Scope, receive: Receive) -> Receive | Response:
        """The body of a request that may come in; or what is answered in place of its route."""
        answer = await self._answer(scope)
        if answer is not None:
            return answer
        who = scope[SCOPE_NAME]
        if not isinstance(who, Principal) or not who.rate.limits_bytes:
            return receive
        sizes = Sizes(who, self._rates, scope)
        return sizes.refusal() or sizes.counted(receive)

    async def _answer(self, scope: Scope) -> Response | None:
        """Note in the scope who asks; an answer for those who may not."""
        credential = _credential(scope)
        path: str = scope["path"]
        access = access_of(scope["method"], path)
        if access is Access.OPEN or (access is Access.MONITOR and self._metrics_open):
            scope[SCOPE_NAME] = NOBODY
            return None
        await self._keys.ready()
        found = self._keys.judge(credential)
        if found is Refusal.MISSING and access is Access.SIGNED:
            found = NOBODY
        elif isinstance(found, Refusal):
            return self._refused(found, credential, path, scope)
        elif not access.allows(found):
            return error_shape(path)(403, f"this key may not do this; it takes {access.needs()}")
        wait_seconds = self._rates.of_request(found, _address(scope))
        if wait_seconds is not None:
            return too_fast(path, wait_seconds)
        if access is Access.READ and found.key is not None and found.tenants is not None:
            if self._asking[found.key] >= QUESTIONS_MAX:
                return too_fast(path, 1, f"more than {QUESTIONS_MAX} questions of this key at once")
            scope[_ASKING] = found.key
        scope[SCOPE_NAME] = found
        scope[RATES_NAME] = self._rates
        return None

    def _refused(
        self, refusal: Refusal, credential: str | None, path: str, scope: Scope
    ) -> Response:
        if refusal is Refusal.AWAY:
            response = error_shape(path)(503, _WORDS[refusal])
            response.headers["Retry-After"] = str(AWAY_RETRY_SECONDS)
            return response
        if credential:
            address = _address(scope)
            wait_seconds = self._failures.take(address, 1, FAILURES_PER_SECOND)
            if wait_seconds is not None:
                return too_fast(path, wait_seconds, "wrong API keys are shown too often")
            shown = id_of(credential) or "without a key's form"
            printable = shown if shown.isalnum() and shown.isascii() else "of no key's form"
            _log.info("refused a credential from %s: %s, %s", address, printable, refusal)
        response = error_shape(path)(401, _WORDS[refusal])
        response.headers["WWW-Authenticate"] = 'Bearer realm="meterstream"'
        return response


class AuthMiddleware:
    """Puts the principal into the scope, or answers 401, 403, 429 or 503 itself.

    ``admission`` where others have it too; else it is made from the rest, see `Admission`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        admission: Admission | None = None,
        keys: Keys | None = None,
        metrics_open: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        if admission is None:
            assert keys is not None, "pass an admission, or keys for one"
            admission = Admission(keys, metrics_open=metrics_open, clock=clock)
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one event of the application's life."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        admitted = await self._admission.admit(scope, receive)
        if isinstance(admitted, Response):
            await admitted(scope, receive, send)
            return
        with self._admission.asking(scope):
            await self._app(scope, admitted, send)


def _credential(scope: Scope) -> str | None:
    """What the caller shows. A key in the path is taken out of it."""
    path: str = scope["path"]
    if path.startswith(_KEY_PATH):
        return _from_path(scope)
    found: str | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            shown = _from_authorization(value)
            if shown:
                return shown
        elif name == b"x-api-key" and not found:
            found = value.decode("latin-1").strip()
    return found or None


def _from_path(scope: Scope) -> str | None:
    key, slash, rest = scope["path"][len(_KEY_PATH) :].partition("/")
    scope["path"] = f"/{rest}" if slash else "/"
    raw: bytes = scope.get("raw_path") or b""
    raw_parts = raw.split(b"/", 3)
    scope["raw_path"] = b"/" + raw_parts[3] if len(raw_parts) > 3 else b"/"
    return key or None


def _from_authorization(value: bytes) -> str | None:
    scheme, _, shown = value.decode("latin-1").strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return shown.strip()
        case "basic":
            try:
                text = base64.b64decode(shown.strip(), validate=True).decode()
            except (binascii.Error, ValueError):
                return "?"  # Something was shown, and it is nobody's.
            name, _, password = text.partition(":")
            return password or name
        case _:
            return None


def _address(scope: Scope) -> str:
    """The caller's address; of IPv6 the part that one customer of a network has."""
    client = scope.get("client")
    host = client[0] if client else ""
    if ":" in host:
        try:
            network = ipaddress.ip_network((host.partition("%")[0], 64), strict=False)
        except ValueError:
            return host[:64]
        return str(network)
    return host[:64]
