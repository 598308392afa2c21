"""Requests that offer another protocol (``Upgrade``), which is declined: none is spoken here.

Of such a request the parser gives no body: what follows its head it takes for the other protocol.
So one that has a body is read again without its offer. Java's own client offers HTTP/2 with all
that it sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httptools

from meterstream_services.http.front_heads import Header


def parser_for(protocol: object) -> Any:  # noqa: ANN401 - httptools has no types
    """A parser such as uvicorn's protocol begins with."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def without_offer(parser: Any, target: bytes, headers: Sequence[Header]) -> bytes | None:  # noqa: ANN401 - as above
    """The head of a request that offers another protocol and has a body, but for that offer.

    None for every other request. Names of headers are lower case.
    """
    if not parser.should_upgrade() or parser.get_method() == b"CONNECT":
        return None
    has_body = any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in headers
    )
    if not has_body:
        return None
    lines = [b"%s %s HTTP/%s" % (parser.get_method(), target, parser.get_http_version().encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
