"""What a worker does with its partitions while the store is there: fold, relay, tick, tell.

Made anew whenever the store comes back, so that nothing outlives a failed commit: a fold changes
numbers in memory, and what was folded in vain must not be remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.state import Readings
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.port import Advance, TopicBinding
from meterstream_consumers.confirming import Confirmation
from meterstream_consumers.decode import Decoder
from meterstream_consumers.flood import FloodGuard, FloodLimits
from meterstream_consumers.folding import Folded, Folding, Progress
from meterstream_consumers.gaps import loss
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.records import RawBatch
from meterstream_consumers.relay import Relay
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.store_names import name_of
from meterstream_consumers.ticks import RegisteredId, SchemaId, Ticks
from meterstream_consumers.watching import Directory, Watching
from meterstream_schemas.bundled import LATEST_ID
from meterstream_schemas.registry import BundledSchemas, RegistrySchemas, WriterSchemas

_FLUSH_SECONDS: Final = 5.0


class Work:
    """Folding, relay and ticks over one open store. One thread.

    Making it opens and binds the store; raises what that raises. Any `StoreUnavailable`, `Fenced`
    or `LogUnsure` from here on ends it: `close` it then.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        binding: TopicBinding,
        catalogue: Catalogue,
        *,
        confirmation: Confirmation,
        metrics: WorkerMetrics,
        log: structlog.stdlib.BoundLogger,
        directory: Directory | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._confirmation = confirmation
        self._flood = FloodGuard(
            FloodLimits(settings.deadletter_run_max, settings.deadletter_ratio_max)
        )
        self._store = open_store(settings.store)
        try:
            self._store.bind(binding, catalogue)
            self.store_name = name_of(self._store.identity(), settings.store)
            self._watching = Watching(
                catalogue,
                self._store,
                directory=directory,
                topic=settings.notices_topic,
                said=self._accounts_said,
            )
            self._folding = self._new_folding(catalogue)
            self._relay = Relay(
                settings.bootstrap_servers,
                self._store,
                sent=lambda topic: metrics.outbox_sent.labels(topic=topic).inc(),
                warn=self._warn,
            )
        except BaseException:
            self._store.close()
            raise
        self._ticks = Ticks(
            settings.tick_seconds,
            partial(self._relay.post, settings.topic),
            schema_id=_id_for_writing(settings, self._warn),
            taken=metrics.ticks.inc,
            warn=self._warn,
        )

    @property
    def owned(self) -> Mapping[int, Progress]:
        """The partitions that are claimed, and how far each is."""
        return self._folding.owned

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        """Claim a partition: whoever owned it before is fenced. The offset to read from."""
        return self._folding.take(partition, lowest)

    def let_go(self, partitions: list[int]) -> None:
        """Own these no more. Writes nothing: what is not committed is left to the next owner."""
        self._folding.let_go(partitions)

    def fold(self, raw: RawBatch) -> Folded:
        """Fold and commit what of the batch is ours, once the topic is known to be the same."""
        began = time.monotonic()
        self._confirmation.ask()
        folded = self._folding.fold(raw)
        if folded.records:
            self._note(folded, time.monotonic() - began)
        return folded

    def give_up(self, partition: int, *, first: int, end: int) -> None:
        """Move over an accepted gap [first, end), and write down that it was lost."""
        progress = self._folding.owned[partition]
        over = Advance(
            partition=partition,
            epoch=progress.epoch,
            previous=progress.stored,
            first=first,
            next_offset=end,
            appended=progress.appended,
            counted=0,
            duplicates=0,
            refused=1,
        )
        self._confirmation.ask()
        self._confirmation.check()
        changes = loss(partition, first=first, end=end, appended=progress.appended)
        self._store.commit([over], changes)
        progress.stored = progress.position = end

    def step(self, at_end: Callable[[int], bool]) -> None:
        """Send what waits to leave, and write ticks where nothing happens."""
        self._relay.step(list(self.owned))
        self._ticks.step(self.owned, at_end)

    def tell(self, watermark: Callable[[int], int | None], at_end: Callable[[int], bool]) -> None:
        """Bring the metrics up to date, and try what waits for an account. Once a second will do.

        ``watermark`` gives the end of a partition as far as it is known, ``at_end`` whether all of
        it is read: behind the last record there may be markers that are never folded.
        """
        for partition, refused in self._flood.refused_lately().items():
            self._metrics.refused_lately.labels(partition=str(partition)).set(refused)
        lags: dict[int, tuple[int, float]] = {}
        for partition, progress in self.owned.items():
            high = watermark(partition)
            if high is None:
                continue
            lag = 0 if at_end(partition) else max(high - progress.position, 0)
            age = time.time() - progress.appended / 1_000_000 if lag and progress.appended else 0.0
            lags[partition] = lag, max(age, 0.0)
        self._metrics.tell_lag(self._settings.topic, lags)
        self._metrics.outbox_waiting.set(self._relay.waiting)
        if (found := self._watching.retry(list(self.owned))) is not None:
            self._store.commit([], found)

    def drain(self) -> None:
        """Before leaving: what waits in the outbox gets a last chance."""
        self._relay.flush(list(self.owned), _FLUSH_SECONDS)

    def close(self) -> None:
        """Let go of the broker and the store."""
        self._relay.close()
        self._store.close()

    def _new_folding(self, catalogue: Catalogue) -> Folding:
        settings = self._settings
        return Folding(
            self._store,
            Readings(catalogue),
            Decoder(_writer_schemas(settings)),
            owner=settings.instance or settings.group,
            topic=settings.topic,
            deadletters_topic=settings.deadletters_topic,
            producers_cached_max=settings.producers_cached_max,
            commit_timer=self._commit,
            flood=self._flood,
            watch=self._watching if catalogue.thresholds else None,
        )

    @contextmanager
    def _commit(self) -> Generator[None]:
        """Around the store's commit: the answer asked for at the batch's receipt must be there."""
        self._confirmation.check()
        with self._metrics.commit_seconds.time():
            yield

    def _note(self, folded: Folded, seconds: float) -> None:
        self._metrics.note(folded, seconds, time.time())
        letters = folded.changes.dead_letters if folded.changes else []
        if letters:
            first = letters[0]
            self._log.warning(
                "dead letters",
                count=len(letters),
                first_reason=first.refusal.reason.value,
                first_partition=first.partition,
                first_offset=first.offset,
                first_detail=first.refusal.detail,
            )

    def _warn(self, text: str) -> None:
        self._log.warning("kafka", problem=text)

    def _accounts_said(self, problem: str | None) -> None:
        if problem is None:
            self._log.info("accounts answer again")
        else:
            self._log.warning("accounts are away; their thresholds wait", problem=problem)


def _writer_schemas(settings: WorkerSettings) -> WriterSchemas:
    if settings.registry_url is None:
        return BundledSchemas()
    return RegistrySchemas(settings.registry_url, f"{settings.topic}-value")


def _id_for_writing(settings: WorkerSettings, warn: Callable[[str], None]) -> SchemaId:
    """The id that a worker's own records carry, as far as it is known."""
    if settings.registry_url is None:
        return lambda: LATEST_ID
    registry = RegistrySchemas(settings.registry_url, f"{settings.topic}-value")
    return RegisteredId(registry.id_for_writing, warn)
