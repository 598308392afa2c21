"""What is wrong with a request's head, of those things that the parser lets pass.

The parser (llhttp) refuses two lengths, a length beside ``Transfer-Encoding``, codings that do not
end in ``chunked``, spaces before colons and folded lines. What is left are heads that another
server in front of this one might read differently, and targets in other forms than a path.
"""

from __future__ import annotations

from collections.abc import Sequence

Header = tuple[bytes, bytes]


def flaw_of_head(version: str, headers: Sequence[Header]) -> str | None:
    """What is wrong, as a sentence; None for a head that can be answered. Names are lower case."""
    names = [name for name, _ in headers]
    if version == "1.1":
        return None if names.count(b"host") == 1 else "exactly one Host header is needed"
    if version != "1.0":
        return f"HTTP/{version} is not spoken here; use HTTP/1.1"
    if b"transfer-encoding" in names:
        return "HTTP/1.0 has no Transfer-Encoding; send Content-Length"
    return "more than one Host header" if names.count(b"host") > 1 else None


def origin_form(target: bytes) -> tuple[bytes, bytes] | None:
    """The host, and the path with its query, of a target that names both; None for another."""
    scheme, _, rest = target.partition(b"://")
    end = min((rest.find(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
    host, path = rest[:end], rest[end:]
    if scheme.lower() not in {b"http", b"https"} or not host or b"@" in host:
        return None
    return host, path if path.startswith(b"/") else b"/" + path


def name_host(headers: list[Header], host: bytes) -> None:
    """Make the target's host the only one that counts, as RFC 9112 (3.2.2) has it."""
    for place, (name, _) in enumerate(headers):
        if name == b"host":
            headers[place] = name, host
