"""From judged items to the door and back: what batches and streams share."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from fastapi import Request

from meterstream_schemas.errors import InvalidEvent
from meterstream_services.gateway.port import Door, Fate, Offer, Patience, Ruling
from meterstream_services.http.ingest_cloud import cloud_offer
from meterstream_services.http.ingest_columns import plain_offers
from meterstream_services.http.ingest_native import native_offer
from meterstream_services.http.problems import Problem
from meterstream_services.http.rates import charge
from meterstream_services.keys.principal import Principal

IDEMPOTENCY_KEY_MAX: Final = 240
"""Characters of the header; an index still fits behind it into a key."""
SLOWED_SECONDS_MAX: Final = 5.0
"""How long a stream waits for its key's rate at once."""
_WAITS_MAX: Final = 10
"""Others of the same key may be quicker; then it waits again."""


class Sender(NamedTuple):
    """Who sends events, and what its request says about all of them.

    ``key`` is the header ``Idempotency-Key``; ``asks_receipt``: the answer shall not wait for the
    log.
    """

    principal: Principal
    key: str | None = None
    asks_receipt: bool = False

    def offer(self, item: object, index: int | None) -> Offer:
        """The offer that an item means: a CloudEvent where it says so, else native JSON.

        ``index`` is its place among several. Raises `InvalidEvent`.
        """
        if type(item) is dict and "specversion" in item:
            return cloud_offer(item, self.principal)
        key = self.key
        if key is not None and index is not None:
            key = f"{key}:{index}"
        offer = native_offer(item, self.principal, key)
        if self.asks_receipt and offer.key is None:
            # A receipt is a key: the event can be sent again under it, and is counted once.
            return offer._replace(key=str(uuid.uuid4()))
        return offer

    def offers(self, items: Sequence[object]) -> list[Offer | Fate]:
        """What each of several items means, or why it means nothing."""
        if self.key is None and not self.asks_receipt:
            plain = plain_offers(items, self.principal)
            if plain is not None:
                return [*plain]
        judged: list[Offer | Fate] = []
        offer = self.offer
        for index, item in enumerate(items):
            try:
                judged.append(offer(item, index))
            except InvalidEvent as problem:
                judged.append(Fate(Ruling.REFUSED, field=problem.field, reason=problem.problem))
        return judged

    def patience(self, items: Sequence[Offer | Fate]) -> Patience:
        """How long these may wait: without keys, sending them again would count them twice."""
        if self.asks_receipt:
            return Patience.SPOOL
        for item in items:
            if type(item) is Offer and item.key is None:
                return Patience.LOG_OR_SPOOL
        return Patience.LOG


def check_rate(request: Request, events: int) -> None:
    """Charge a request's key with its events. Raises `Problem` where they are too many."""
    wait_seconds = charge(request, events)
    if wait_seconds is not None:
        seconds = max(1, math.ceil(wait_seconds))
        raise Problem(
            429,
            "rate-exceeded",
            f"this key sends more events than its rate allows; go on in {seconds} s",
            headers={"retry-after": str(seconds)},
        )


async def wait_for_rate(request: Request, events: int) -> None:
    """Charge a stream's key with its next events, as soon as its rate allows; so it is slowed.

    Raises `Problem` where that takes longer than `SLOWED_SECONDS_MAX`.
    """
    if not events:
        return
    for _ in range(_WAITS_MAX):
        wait_seconds = charge(request, events)
        if wait_seconds is None:
            return
        if wait_seconds > SLOWED_SECONDS_MAX:
            break
        await asyncio.sleep(wait_seconds)
    check_rate(request, events)


async def take(
    door: Door, items: Sequence[Offer | Fate], patience: Patience
) -> tuple[list[Fate], list[Offer | None]]:
    """Give the offers among the items to the door: what became of each item, and its offer."""
    offers = [item for item in items if type(item) is Offer]
    if offers and len(offers) == len(items):
        return await door.take(offers, patience), [*offers]
    taken = iter(await door.take(offers, patience) if offers else ())
    fates: list[Fate] = []
    told: list[Offer | None] = []
    for item in items:
        if type(item) is Offer:
            fates.append(next(taken))
            told.append(item)
        else:
            assert type(item) is Fate
            fates.append(item)
            told.append(None)
    return fates, told
