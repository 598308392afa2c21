"""How many bytes a key may send: in one body, and by the second.

Only where the key was made with such a limit. What a request says of its length is judged before
anything is read; a body of unknown length is judged while it arrives, and paid for as it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meterstream_services.http.limits import OWN_BODIES
from meterstream_services.http.problems import Problem
from meterstream_services.http.rates import Rates, too_fast
from meterstream_services.http.shapes import error_shape

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope

    from meterstream_services.http.parts import Parts
    from meterstream_services.keys.principal import Principal

_BYTES: Final = "this key sends more bytes than its rate allows"


class Sizes:
    """The bytes of one request, judged by its key's limits."""

    def __init__(self, principal: Principal, rates: Rates, scope: Scope) -> None:
        self._principal: Final = principal
        self._rates: Final = rates
        self._scope: Final = scope
        self._path: Final[str] = scope["path"]
        self._told: Final = _length(scope)

    def refusal(self) -> Response | None:
        """The answer to a request that is too large, or too much, before its body is read."""
        most = self._principal.rate.body_bytes_max
        if most is not None and self._told is not None and self._told > most:
            return error_shape(self._path)(self._refused(), _too_large(most))
        wait_seconds = self._rates.of_bytes(self._principal, self._told or 0)
        return None if wait_seconds is None else too_fast(self._path, wait_seconds, _BYTES)

    def counted(self, receive: Receive) -> Receive:
        """What reads the body, and raises `Problem` where it grows too large."""
        if self._told is not None:
            return receive  # The server reads no more than was said.
        taken, most = 0, self._principal.rate.body_bytes_max

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self._rates.of_bytes(self._principal, size, in_debt=True)
            if most is not None and taken > most:
                raise Problem(self._refused(), "body-too-large", _too_large(most))
            return message

        return counting

    def _refused(self) -> int:
        """413; 503, and counted, where a client reads nothing and throws away what is 413."""
        if self._path not in OWN_BODIES:
            return 413
        parts: Parts = self._scope["app"].state.parts
        parts.metrics.climeter_refused.inc()  # One at least: nobody reads how many.
        return 503


def _length(scope: Scope) -> int | None:
    """What a request says that its body has; None where it is sent without saying."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
        if name == b"transfer-encoding":
            length = None
    return length


def _too_large(most: int) -> str:
    return f"a body of this key may have {most} bytes; send less at once"
