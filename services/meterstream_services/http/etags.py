"""Entity tags: answering 304, and changing only what was read (RFC 9110 section 13).

A tag here is opaque text without quotes. A tenant's tag has two parts, ``HISTORY.VIEW``: the first
changes with the mapping, the second with what one answer shows of it; writes compare the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fastapi import Request
from starlette.responses import Response

from meterstream_services.http.problems import Problem


def digest(body: bytes) -> str:
    """A tag for a body."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def tagged(request: Request, response: Response, tag: str) -> Response:
    """The response with its ETag; 304 without a body where the caller has it already."""
    headers = {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
    wanted = _tags(request, "if-none-match")
    if request.method == "GET" and wanted is not None and ("*" in wanted or tag in wanted):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def expected_tag(request: Request, current: str) -> tuple[bool, str | None]:
    """What a write expects: whether it expects anything, and the tag (None: any that is there).

    ``current`` is the tag of what is stored now, "0" for nothing; it is checked again when the
    change is made. Raises a 412 `Problem` when it is none of those in ``If-Match``.
    """
    if (unwanted := _tags(request, "if-none-match")) is not None:
        if list(unwanted) != ["*"]:
            raise Problem(400, "invalid-precondition", "If-None-Match: write * to make anew only")
        return True, "0"
    wanted = _tags(request, "if-match")
    if wanted is None:
        return False, None
    if "*" in wanted:
        return True, None
    if current not in {tag.partition(".")[0] for tag in wanted}:
        raise Problem(
            412,
            "precondition-failed",
            "If-Match: it was changed since you read it, or is gone; read it again",
        )
    return True, current


def _tags(request: Request, header: str) -> Sequence[str] | None:
    """The tags of a header; None without it. Weak tags compare as strong ones: ours are."""
    text = request.headers.get(header)
    if text is None:
        return None
    return [part.strip().removeprefix("W/").strip('"') for part in text.split(",")][:100]
