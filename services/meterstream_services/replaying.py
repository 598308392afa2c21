"""Dead letters with their records: opened, mended, and made ready to be sent again.

A replay goes through the chosen dead letters in the order of their places, some thousands at a
time, so that neither their number nor the age of the log matters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final, NamedTuple

import numpy as np

from meterstream_aggregator.store.address import StoreAddress
from meterstream_aggregator.store.opening import open_reader
from meterstream_aggregator.store.told import DeadLetterRow, DeadLettersWanted
from meterstream_consumers.decode import Decoder
from meterstream_consumers.errors import LogUnusable
from meterstream_consumers.letterbox import Original, Parcel, Place, originals
from meterstream_consumers.mending import Fixes, Mended, Outcome, mend
from meterstream_consumers.records import RawBatch
from meterstream_schemas import codec
from meterstream_schemas.events import MeterEvent
from meterstream_schemas.registry import BundledSchemas, RegistrySchemas

LETTERS_OF_A_PAGE: Final = 2_000
REPLAY_OF: Final = "meterstream-replay-of"
"""Header of a replayed record: the place of its dead letter."""
_SCHEMA: Final = codec.parse_text(codec.bundled_text(codec.LATEST_ID))
_GONE: Final = "neither the log nor the dead-letter topic has its whole record any more"


class Opened(NamedTuple):
    """A dead letter, its record, and the event in it; without an event ``why`` says why not."""

    letter: DeadLetterRow
    original: Original | None
    event: MeterEvent | None
    why: str = ""


class Ready(NamedTuple):
    """A mended dead letter, and what is to be sent; None for one that is left out."""

    mended: Mended
    parcel: Parcel | None


class Mailroom:
    """The dead letters of one store. One thread; blocks. Raises what readers of store and log do.

    ``topic`` is the events' topic that the store belongs to.
    """

    def __init__(
        self,
        store: StoreAddress,
        bootstrap_servers: str,
        deadletters_topic: str,
        registry_url: str | None,
    ) -> None:
        self._store = store
        self._bootstrap_servers = bootstrap_servers
        self._deadletters_topic = deadletters_topic
        with closing(open_reader(store)) as reader, reader.snapshot():
            binding = reader.topic()
            if binding is None:
                raise LogUnusable(f"{store}: no worker has bound this store to a topic yet")
            self._catalogue = reader.catalogue()
        self.topic: Final = binding.topic
        self._partitions = binding.partitions
        subject = f"{binding.topic}-value"
        self._registry = RegistrySchemas(registry_url, subject) if registry_url else None
        self._decoder = Decoder(self._registry or BundledSchemas())

    def find(self, place: Place) -> Opened | None:
        """The dead letter of a place, opened; None where none lies."""
        partition, offset = place
        wanted = DeadLettersWanted(partition=partition)
        letters = self._letters(wanted, (partition, offset - 1), 1)
        if not letters or letters[0].offset != offset:
            return None
        return self._opened(letters)[0]

    def ready(
        self, wanted: DeadLettersWanted, fixes: Fixes, *, limit: int | None
    ) -> Iterator[list[Ready]]:
        """The chosen dead letters as they would be sent, page by page."""
        schema_id = self._registry.id_for_writing() if self._registry else codec.LATEST_ID
        after, left = (-1, -1), limit
        while left is None or left > 0:
            at_most = LETTERS_OF_A_PAGE if left is None else min(left, LETTERS_OF_A_PAGE)
            letters = self._letters(wanted, after, at_most)
            if not letters:
                return
            yield [self._made_ready(opened, fixes, schema_id) for opened in self._opened(letters)]
            after = letters[-1].partition, letters[-1].offset
            left = None if left is None else left - len(letters)

    def _letters(self, wanted: DeadLettersWanted, after: Place, limit: int) -> list[DeadLetterRow]:
        with closing(open_reader(self._store)) as reader, reader.snapshot():
            return reader.dead_letters(wanted, after=after, limit=limit)

    def _opened(self, letters: Sequence[DeadLetterRow]) -> list[Opened]:
        """Each with its record; all records are decoded together, as a worker does it."""
        places = [(letter.partition, letter.offset) for letter in letters]
        found = originals(self._bootstrap_servers, self.topic, self._deadletters_topic, places)
        raw, at = RawBatch(), list[Place]()
        for place in places:
            if (original := found.get(place)) is not None:
                at.append(place)
                raw.values.append(original.value)
                raw.partitions.append(place[0])
                raw.offsets.append(place[1])
                raw.append_times.append(0)
        decoded = self._decoder.decode(raw)
        refused = {at[row]: why.detail for row, why in decoded.refused}
        events = decoded.batch.events(np.arange(len(decoded.batch)))
        known = dict(zip((place for place in at if place not in refused), events, strict=True))
        return [
            Opened(letter, found.get(place), known.get(place), refused.get(place, _GONE))
            for letter, place in zip(letters, places, strict=True)
        ]

    def _made_ready(self, opened: Opened, fixes: Fixes, schema_id: int) -> Ready:
        letter, original, event, why = opened
        if event is None or original is None:
            return Ready(Mended(letter, Outcome.IMPOSSIBLE, why), None)
        now = time.time_ns() // 1000
        mended = mend(letter, event, fixes, self._catalogue, partitions=self._partitions, now=now)
        if mended.outcome is not Outcome.SEND or mended.event is None:
            return Ready(mended, None)
        value, key = original.value, original.key
        if not mended.is_unchanged:
            value = codec.encode(mended.event, _SCHEMA, schema_id)
            key = mended.event.tenant.encode()
        place = letter.partition, letter.offset
        replay_of = (REPLAY_OF, f"{letter.partition}-{letter.offset}".encode())
        own = tuple(header for header in original.headers if header[0] != REPLAY_OF)
        return Ready(mended, Parcel(place, mended.partition, key, value, (*own, replay_of)))
