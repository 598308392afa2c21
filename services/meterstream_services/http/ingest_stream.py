"""Events line by line (NDJSON), up to 64 MiB, in memory that does not grow with them.

Lines are taken by the door in groups while the body arrives. The answer begins when the body has
ended, since many clients read nothing before they have sent everything: one line for each event,
in order. Answers wait in a file without a name once they are larger than a mebibyte.

What ends a stream early (a body that is cut, or too large, a key that is revoked or expires) cannot
unsay what the log has. Then the last line is a problem document, and says from where on to send
again.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import IO, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.gateway.port import Door, Fate, Offer, Ruling
from meterstream_services.http.ingest_answers import fate_line, problem_line, unavailable
from meterstream_services.http.ingest_taking import Sender, take, wait_for_rate
from meterstream_services.http.json_bodies import BadJson, parse_json
from meterstream_services.http.limits import STREAM_BYTES_MAX
from meterstream_services.http.packed import BadPacking, UnpackedTooLarge, Unpacking
from meterstream_services.http.problems import RETRY_SECONDS, Problem
from meterstream_services.keys.checking import Keys, Refusal

MEDIA_TYPE: Final = "application/x-ndjson"
LINE_BYTES_MAX: Final = 65_536
LINES_MAX: Final = 1_000_000
"""Blank ones too."""
LINES_AT_ONCE: Final = 500

_ANSWER_BYTES_IN_MEMORY: Final = 1 << 20
_ANSWER_PIECE_BYTES: Final = 65_536
_TOO_LONG: Final = Fate(
    Ruling.REFUSED, field="event", reason=f"the line is longer than {LINE_BYTES_MAX} bytes"
)


async def record_lines(
    request: Request, door: Door, sender: Sender, keys: Keys | None = None
) -> Response:
    """Take the events of a request's lines. Raises `Problem` where nothing was taken.

    ``keys``: what the sender's key is judged by again, before each group of lines.
    """
    unpacking = Unpacking(request.headers.get("content-encoding"), STREAM_BYTES_MAX)
    stream = _Stream(request, door, sender, keys)
    lines = _Lines()
    try:
        try:
            async for data in request.stream():
                for piece in unpacking.feed(data):
                    for line in lines.split(piece):
                        await stream.add(line)
                    # A few packed bytes may be many lines: others have their turn in between.
                    await asyncio.sleep(0)
            unpacking.finish()
            for line in lines.rest():
                await stream.add(line)
            await stream.settle()
        except (BadPacking, UnpackedTooLarge, Problem) as problem:
            ended_by = await _settled(stream, problem)
            if not stream.answered:
                raise ended_by from None
            stream.answers.write(problem_line(_ended_by(ended_by, stream.answered)))
    except ClientDisconnect:
        # What is complete was meant, whoever hears of it; a line that is cut is none.
        await stream.settle()
        stream.answers.close()
        raise
    except BaseException:
        stream.answers.close()
        raise
    if stream.answered and stream.unavailable == stream.answered:
        stream.answers.close()
        raise unavailable(door)
    stream.answers.seek(0)
    return StreamingResponse(_pieces(stream.answers), media_type=MEDIA_TYPE)


class _Stream:
    """Lines to the door in groups, and the answers of those that were settled."""

    def __init__(
        self, request: Request, door: Door, sender: Sender, keys: Keys | None = None
    ) -> None:
        self.answers: Final[IO[bytes]] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed when sent
            _ANSWER_BYTES_IN_MEMORY
        )
        self.answered = 0
        self.unavailable = 0
        self._request: Final = request
        self._door: Final = door
        self._sender: Final = sender
        self._keys: Final = keys
        self._group: list[Offer | Fate] = []
        self._seen = 0
        self._lines = 0
        self._is_in_vain = False

    async def add(self, line: bytes | None) -> None:
        """One more line; None: it was too long to be kept."""
        self._lines += 1
        if self._lines > LINES_MAX:
            raise Problem(
                413, "too-many-events", f"more than {LINES_MAX} lines; send the rest by themselves"
            )
        if self._lines % LINES_AT_ONCE == 0:
            # A piece may be many thousand lines that are blank or refused, and wait for nothing.
            await asyncio.sleep(0)
        if line is not None and not line.strip():
            return
        self._group.append(_TOO_LONG if line is None else self._judged(line))
        self._seen += 1
        if len(self._group) >= LINES_AT_ONCE:
            await self.settle()

    async def settle(self) -> None:
        """Give the lines to the door that it has not seen yet."""
        if not self._group:
            return
        await self._check_key()
        group, self._group = self._group, []
        await wait_for_rate(self._request, sum(type(item) is Offer for item in group))
        fates, offers = await take(self._door, group, self._sender.patience(group))
        missed = sum(fate.ruling is Ruling.UNAVAILABLE for fate in fates)
        self.unavailable += missed
        self.answered += len(fates)
        if missed == len(fates):
            # The next groups would wait just as long, and in vain: they are told at once.
            self._is_in_vain = True
        lines = (fate_line(fate, offer) for fate, offer in zip(fates, offers, strict=True))
        self.answers.write(b"".join(lines))

    async def _check_key(self) -> None:
        """Raises `Problem` where the sender's key has ended since the stream began."""
        refusal = None if self._keys is None else await self._keys.refusal(self._sender.principal)
        if refusal is Refusal.AWAY:
            retry = {"retry-after": str(RETRY_SECONDS)}
            raise Problem(503, "keys-away", "API keys cannot be checked right now", headers=retry)
        if refusal is not None:
            raise Problem(401, "unauthorized", f"the API key of this stream ended: {refusal}")

    def _judged(self, line: bytes) -> Offer | Fate:
        if self._is_in_vain:
            return Fate(Ruling.UNAVAILABLE)
        try:
            return self._sender.offer(parse_json(line), self._seen)
        except InvalidEvent as problem:
            return Fate(Ruling.REFUSED, field=problem.field, reason=problem.problem)
        except BadJson as problem:
            return Fate(Ruling.REFUSED, field="event", reason=problem.reason)


class _Lines:
    """Bytes into lines of bounded length."""

    def __init__(self) -> None:
        self._begun = b""
        self._is_too_long = False

    def split(self, piece: bytes) -> Iterator[bytes | None]:
        """The lines that end in this piece; None for one that was too long."""
        first, *more = piece.split(b"\n")
        self._extend(first)
        for part in more:
            yield from self.rest()
            self._extend(part)

    def rest(self) -> Iterator[bytes | None]:
        """What came since the last line ended, as a line."""
        yield None if self._is_too_long else self._begun
        self._begun = b""
        self._is_too_long = False

    def _extend(self, part: bytes) -> None:
        if self._is_too_long or len(self._begun) + len(part) > LINE_BYTES_MAX:
            self._begun = b""
            self._is_too_long = True
        else:
            self._begun += part


async def _settled(stream: _Stream, problem: Exception) -> Exception:
    """What ends a stream, after the last complete lines were offered, which may fail as well."""
    try:
        await stream.settle()
    except Problem as other:
        return other
    return problem


def _ended_by(problem: Exception, answered: int) -> Problem:
    detail = problem.detail if isinstance(problem, Problem) else str(problem)
    name = problem.name if isinstance(problem, Problem) else "body-cut-short"
    status = problem.status_code if isinstance(problem, Problem) else 400
    return Problem(
        status,
        name,
        f"{detail}; the {answered} lines before this were taken as told",
        after=answered,
    )


async def _pieces(answers: IO[bytes]) -> AsyncIterator[bytes]:
    with answers:
        while piece := answers.read(_ANSWER_PIECE_BYTES):
            yield piece
