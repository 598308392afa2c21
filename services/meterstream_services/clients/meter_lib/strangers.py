"""Bodies of those who show no key: little is kept of them, and nothing is parsed that is nobody's.

Whoever reaches the port may post to meter-lib's topic, since its client shows no credential but a
signed customer id within its record. So that id is looked for in the bytes, before anything is
made of them.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException

from meterstream_services.clients.meter_lib.customers import unsigned
from meterstream_services.http.parts import Parts
from meterstream_services.keys.principal import Principal, Scope

STRANGERS_BYTES_MAX: Final = 131_072
"""Of a body without a key; the client sends one record at a time, and no event has 16 KiB."""
_LOOKED_AT: Final = 32
"""Texts that may be customer ids, in one body."""
_CUSTOMER: Final = re.compile(rb"mc1_[A-Za-z0-9_-]{24,508}")


async def body_of(request: Request, parts: Parts, principal: Principal) -> bytes:
    """The body of a request with a key, or with a customer id that was signed here.

    Raises 401 and 413.
    """
    if principal.may(Scope.INGEST):
        return await request.body()
    read: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > STRANGERS_BYTES_MAX:
            raise HTTPException(
                413, f"without an API key a body has at most {STRANGERS_BYTES_MAX} bytes; send less"
            )
        read.append(piece)
    body = b"".join(read)
    found = islice(_CUSTOMER.finditer(body), _LOOKED_AT)
    if parts.keys is None or not any(parts.keys.signed(each[0].decode()) for each in found):
        raise unsigned()
    return body
