"""What Unimeter's ops are answered with, on the ports of one tenant, or of none.

==================  ===============================================================================
status              when
==================  ===============================================================================
OK                  all that can be counted is kept
DUPLICATE           all of it was kept before
UNKNOWN_METRIC      kept, and a metric of it is not registered
BACKPRESSURE        not kept, or not known: the log, the store or the book is away. Come again
ERR                 never: the bytes are wrong, or there is no such thing
==================  ===============================================================================

No other status is ever sent: the published client's reader ends at one that it does not know.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple, ParamSpec, TypeAlias, TypeVar

from meterstream.compat.unimeter_catalogue import EVENT_TYPE, METRIC, OPERATION, VALUE
from meterstream_aggregator.errors import StoreError
from meterstream_services.clients.book import BookFull, BookUnavailable
from meterstream_services.clients.eventlog import Listed
from meterstream_services.clients.partly_kept import PartlyKept
from meterstream_services.clients.unimeter import wire, wire_metrics, wire_questions
from meterstream_services.clients.unimeter.alerts import Alerts
from meterstream_services.clients.unimeter.figures import Questions
from meterstream_services.clients.unimeter.folded import Folded
from meterstream_services.clients.unimeter.meaning import ACCOUNT_EVENT_TYPE, Known, Meaning
from meterstream_services.clients.unimeter.metrics import Metrics, form_of
from meterstream_services.clients.unimeter.wire import BadFrame, Op, Result, Status
from meterstream_services.gateway.port import Door, Fate, Offer, Patience, Ruling
from meterstream_services.http.parts import Parts

ALERTS_MAX: Final = 1_000
"""Alerts in one answer; the rest with the offset behind the last."""
EVENTS_MAX: Final = 2_000
"""Events in one answer."""
_AGAIN: Final = (StoreError, BookUnavailable, TimeoutError)

_log: Final = logging.getLogger("meterstream.unimeter")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Answer(NamedTuple):
    """The status and payload of a response."""

    status: Status
    payload: bytes = b""


_Handler: TypeAlias = Callable[[bytes], Awaitable[Answer]]
_REFUSED: Final = Answer(Status.ERR)
_LATER: Final = Answer(Status.BACKPRESSURE)
_KEPT_BEFORE: Final = Fate(Ruling.SPOOLED)


class Answers:
    """Ops to answers. Of one event loop; what blocks runs in ``threads``."""

    def __init__(
        self,
        parts: Parts,
        tenant: str | None,
        *,
        defined: Metrics,
        questions: Questions,
        alerts: Alerts,
        threads: Executor,
        counted: bool = False,
    ) -> None:
        """``counted``: lists as the vendor's server writes them."""
        self.alerts: Final = alerts
        self.metrics: Final = parts.metrics.unimeter
        self._parts: Final = parts
        self._tenant: Final = tenant
        self._defined: Final = defined
        self._questions: Final = questions
        self._threads: Final = threads
        self._counted: Final = counted
        self._meaning: Final = Meaning(tenant)
        self._folded: Final = Folded(self._look)
        self._partly: Final = PartlyKept()
        self._ops: Final[dict[int, _Handler]] = {
            Op.METRIC_PUT: self._metric_put,
            Op.METRIC_DELETE: self._metric_delete,
            Op.METRIC_LIST: self._metric_list,
            Op.USAGE_QUERY: self._usage,
            Op.USAGE_REALTIME: self._realtime,
            Op.USAGE_QUERY_BREAKDOWN: self._breakdown,
            Op.EVENTS_LIST: self._events,
            Op.ALERTS_LIST: self._alerts,
            Op.CLUSTER_REBALANCE: self._rebalance,
        }

    async def ingest(self, payload: bytes) -> Answer:
        """What became of a frame of events. Never raises for what it says."""
        answer = await self._guarded(self._ingest, payload)
        self._count("INGEST", answer)
        return answer

    async def question(self, op: int, payload: bytes) -> Answer:
        """The answer to any other op; ERR to one that nobody knows."""
        handler = self._ops.get(op)
        answer = _REFUSED if handler is None else await self._guarded(handler, payload)
        self._count("unknown" if handler is None else Op(op).name, answer)
        return answer

    async def in_thread(
        self, call: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs
    ) -> _R:
        """Run what blocks."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*arguments, **named))

    async def close(self) -> None:
        """Stop what runs by itself."""
        await self._folded.close()

    def _count(self, op: str, answer: Answer) -> None:
        self.metrics.answers.labels(op, answer.status.name).inc()

    async def _guarded(self, handler: _Handler, payload: bytes) -> Answer:
        try:
            return await handler(payload)
        except (BadFrame, BookFull) as problem:
            _log.debug("refused: %s", problem)
            return _REFUSED
        except _AGAIN as problem:
            _log.warning("answered with backpressure: %s", problem)
            return _LATER
        except Exception:  # noqa: BLE001 - the connection's edge: said in the log, answered ERR
            _log.exception("a request failed")
            return _REFUSED

    async def _ingest(self, payload: bytes) -> Answer:
        door = self._parts.door
        if door is None:
            return _REFUSED
        rows, properties = wire.event_rows(payload)
        told = self._meaning.offers(rows, properties, await self._known())
        if told.refused:
            self.metrics.refused.inc(told.refused)
        if not told.offers:
            status = Status.ERR if told.refused else Status.OK
            return Answer(status, wire.encode_result(Result(0, 0, 0)))
        if told.is_keyed:
            fates = await door.take(told.offers, Patience.LOG)
        else:
            fates = await self._keyless(door, payload, told.offers)
        if all(fate[0] is Ruling.ACCEPTED for fate in fates):
            stored, duplicates = len(fates), 0
            last = max([fate[2] or 0 for fate in fates])
            self._folded.last.update(zip([offer[1] for offer in told.offers], fates, strict=True))
        else:
            stored, duplicates, last = self._counted_out(told.offers, fates)
            if any(fate[0] is Ruling.UNAVAILABLE for fate in fates):
                return _LATER
        self._folded.forget_some()
        return Answer(
            _status(stored, duplicates, is_known=told.is_known),
            wire.encode_result(Result(stored, duplicates, last)),
        )

    def _counted_out(self, offers: Sequence[Offer], fates: Sequence[Fate]) -> tuple[int, int, int]:
        """How many were stored, how many were before, and the highest offset."""
        stored = duplicates = last = 0
        for offer, fate in zip(offers, fates, strict=True):
            ruling = fate.ruling
            if ruling is Ruling.ACCEPTED:
                stored += 1
                self._folded.last[offer.tenant] = fate
                last = max(last, fate.offset or 0)
            elif ruling is Ruling.SPOOLED:
                stored += 1
            elif ruling is Ruling.REFUSED:
                self.metrics.refused.inc()
            elif ruling is not Ruling.UNAVAILABLE:
                duplicates += 1
        return stored, duplicates, last

    async def _keyless(self, door: Door, payload: bytes, offers: Sequence[Offer]) -> list[Fate]:
        """The fates of a frame that nothing is known by when it comes again but its bytes.

        What was kept of it before, when it was told to come again, is not offered once more.
        """
        partly = self._partly
        before = partly.take(_digest(payload)) if len(partly) else frozenset[int]()
        left = [place for place in range(len(offers)) if place not in before]
        fates = [_KEPT_BEFORE] * len(offers)
        try:
            told = await door.take([offers[place] for place in left], Patience.LOG_OR_SPOOL)
        except BaseException:
            partly.note(_digest(payload), before)
            raise
        for place, fate in zip(left, told, strict=True):
            fates[place] = fate
        away = {place for place, fate in enumerate(fates) if fate.ruling is Ruling.UNAVAILABLE}
        if away:
            partly.note(_digest(payload), [n for n in range(len(fates)) if n not in away])
        return fates

    async def _metric_put(self, payload: bytes) -> Answer:
        await self.in_thread(self._defined.put, wire_metrics.decode_metric(payload))
        return Answer(Status.OK)

    async def _metric_delete(self, payload: bytes) -> Answer:
        await self.in_thread(self._defined.delete, wire_metrics.decode_code(payload))
        return Answer(Status.OK)

    async def _metric_list(self, _: bytes) -> Answer:
        forms = [form_of(schema) for schema in (await self._known()).values()]
        return Answer(Status.OK, wire_metrics.encode_metrics(forms, counted=self._counted))

    async def _usage(self, payload: bytes) -> Answer:
        asked = wire_questions.decode_usage(payload)
        schema = (await self._known()).get(asked.code)
        await self._fold(asked.account)
        figure = await self.in_thread(self._questions.figure, asked, schema)
        return Answer(Status.OK, wire_questions.encode_figure(figure))

    async def _realtime(self, payload: bytes) -> Answer:
        account, code = wire_questions.decode_realtime(payload)
        schema = (await self._known()).get(code)
        await self._fold(account)
        figure = await self.in_thread(self._questions.present, account, code, schema)
        return Answer(Status.OK, wire_questions.encode_figure(figure))

    async def _breakdown(self, payload: bytes) -> Answer:
        asked = wire_questions.decode_breakdown(payload)
        known = await self._known()
        await self._fold(asked.account)
        cells = await self.in_thread(self._questions.breakdown, asked, known)
        return Answer(Status.OK, wire_questions.encode_cells(cells))

    async def _events(self, payload: bytes) -> Answer:
        log = self._parts.log
        account, since, until = wire_questions.decode_span(payload)
        if log is None or since < 0 or until <= since:
            return _REFUSED
        await self._fold(account)
        who = str(account)
        found = await self.in_thread(
            log.events,
            [who if self._tenant is None else self._tenant],
            [EVENT_TYPE if self._tenant is None else ACCOUNT_EVENT_TYPE],
            since // 1000,
            -(-until // 1000),
            limit=EVENTS_MAX,
            subject=None if self._tenant is None else who,
        )
        return Answer(
            Status.OK, wire_questions.encode_logged([_logged(one, account) for one in found])
        )

    async def _alerts(self, payload: bytes) -> Answer:
        account, since = wire_questions.decode_since(payload)
        await self._fold(account)
        await self.in_thread(self.alerts.look)
        rows = self.alerts.log.since(since, account=account, limit=ALERTS_MAX)
        return Answer(Status.OK, wire_questions.encode_alerts(rows, counted=self._counted))

    async def _rebalance(self, _: bytes) -> Answer:
        """There is one node, and nothing to move."""
        return Answer(Status.OK)

    async def _known(self) -> Known:
        present = self._defined.present
        return await self.in_thread(self._defined.read) if present is None else present

    async def _fold(self, account: int) -> None:
        await self._folded.wait(str(account) if self._tenant is None else self._tenant)

    async def _look(self) -> Mapping[int, int]:
        return await self.in_thread(self._positions)

    def _positions(self) -> Mapping[int, int]:
        with self._parts.store() as store:
            return {row.partition: row.next_offset for row in store.positions()}


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def _status(stored: int, duplicates: int, *, is_known: bool) -> Status:
    if not stored:
        return Status.DUPLICATE if duplicates else Status.ERR
    return Status.OK if is_known else Status.UNKNOWN_METRIC


def _logged(one: Listed, account: int) -> wire_questions.LoggedRow:
    event, attributes = one.event, one.event.attributes
    is_unique = VALUE in attributes and OPERATION in attributes
    value = attributes[VALUE] if is_unique else str(event.quantity)
    operation = 0 if not is_unique else 2 if attributes[OPERATION] == "remove" else 1
    return wire_questions.LoggedRow(
        one.offset,
        event.time * 1000,
        account,
        attributes.get(METRIC, ""),
        int(value) if value.isdecimal() else 0,
        operation,
    )
