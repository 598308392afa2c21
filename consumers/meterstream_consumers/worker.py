"""The worker process: a member of the consumer group that folds the log into the store.

A session is one membership of the group. Whatever ends it (a fence, a store that is away) ends with
everything in memory dropped; the next session claims its partitions anew and reads on from the
stored positions. A signal ends the process after the batch in hand.

A failed commit leaves numbers changed in memory, which is why a session never outlives one.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Final

import structlog

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.state import Readings
from meterstream_aggregator.store.opening import open_store
from meterstream_aggregator.store.port import Store, TopicBinding
from meterstream_consumers.decode import Decoder
from meterstream_consumers.errors import DeadLetterFlood
from meterstream_consumers.flood import FloodGuard, FloodLimits
from meterstream_consumers.folding import Folded, Folding
from meterstream_consumers.logs import configure
from meterstream_consumers.memory import Trimmer
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.metrics_server import MetricsServer
from meterstream_consumers.relay import Relay
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.source import Source
from meterstream_consumers.ticks import RegisteredId, SchemaId, Ticks
from meterstream_consumers.watching import Directory, Watching
from meterstream_infra.topics import check_topic
from meterstream_schemas.bundled import LATEST_ID
from meterstream_schemas.errors import SchemaUnavailable
from meterstream_schemas.registry import BundledSchemas, RegistrySchemas, WriterSchemas

_LAG_SECONDS: Final = 1.0
_BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_FLUSH_SECONDS: Final = 5.0


def run(settings: WorkerSettings, directory: Directory | None = None) -> int:
    """Work until SIGTERM or SIGINT; the exit status. Blocks; for the main thread of a process.

    ``directory`` knows the tenants' accounts, for thresholds on them.
    Raises `CatalogueError`, `StoreMismatch`, `LogUnusable`, `DeadLetterFlood`, and `InfraError` for
    a broker or topic that figures cannot rest on: a person must mend those.
    """
    catalogue = load_catalogue(settings.catalogue)
    topic = check_topic(settings.bootstrap_servers, settings.topic)
    worker = Worker(settings, TopicBinding(*topic), catalogue, directory)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    return worker.run()


class Worker:
    """One worker. ``stop`` may be called from a signal handler or another thread."""

    def __init__(
        self,
        settings: WorkerSettings,
        binding: TopicBinding,
        catalogue: Catalogue,
        directory: Directory | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._binding = binding
        self._catalogue = catalogue
        self._log = configure(settings.log_json, process="worker").bind(
            worker=settings.instance or "worker"
        )
        self._metrics = WorkerMetrics()
        self._stopping = False
        self.ready = False

    def stop(self, _signal_number: int = 0, _frame: FrameType | None = None) -> None:
        """Finish the batch in hand, then leave."""
        self._stopping = True

    def run(self) -> int:
        """Sessions, one after the other, until told to stop."""
        server = MetricsServer.start(self._settings.metrics, self._metrics.registry, self._why_not)
        build = {"version": metadata.version("meterstream"), "catalogue": self._catalogue.version}
        self._metrics.build.labels(**build).set(1)
        store = self._settings.store
        disk = store.parent if isinstance(store, Path) else None
        self._metrics.watch(ready=lambda: self._why_not() is None, disk=disk)
        failures = 0
        try:
            while not self._stopping:
                try:
                    self._session()
                except Fenced as problem:
                    self._metrics.fenced.inc()
                    self._log.warning("fenced", problem=str(problem))
                except DeadLetterFlood as problem:
                    self._metrics.floods.inc()
                    self._log.error("flood of dead letters", problem=str(problem))
                    raise
                except (StoreUnavailable, SchemaUnavailable) as problem:
                    self._metrics.store_retries.inc()
                    self._log.warning("waiting", problem=str(problem))
                if self.ready:
                    failures = 0
                self.ready = False
                if not self._stopping:
                    self._wait(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                    failures += 1
        finally:
            server.close()
        self._log.info("stopped")
        return 0

    def _session(self) -> None:
        store = open_store(self._settings.store)
        try:
            store.bind(self._binding, self._catalogue)
            session = _Session(
                self._settings,
                store,
                self._catalogue,
                self._metrics,
                self._log,
                directory=self._directory,
            )
            try:
                self._loop(session)
            finally:
                session.close()
        finally:
            store.close()

    def _loop(self, session: _Session) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 20, 100)
        while not self._stopping:
            session.step()
            self.ready = session.joined
        session.drain()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _why_not(self) -> str | None:
        """Why this worker is not ready, or None."""
        return None if self.ready else "has not joined its group, or its store is away"


class _Session:
    """One membership of the group: source, folding and relay together."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: Store,
        catalogue: Catalogue,
        metrics: WorkerMetrics,
        log: structlog.stdlib.BoundLogger,
        *,
        directory: Directory | None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._flood = FloodGuard(
            FloodLimits(settings.deadletter_run_max, settings.deadletter_ratio_max)
        )
        self._store = store
        self._watching = Watching(
            catalogue, store, directory=directory, topic=settings.notices_topic
        )
        self._folding = Folding(
            store,
            Readings(catalogue),
            Decoder(_writer_schemas(settings)),
            owner=settings.instance or settings.group,
            topic=settings.topic,
            deadletters_topic=settings.deadletters_topic,
            producers_cached_max=settings.producers_cached_max,
            commit_timer=metrics.commit_seconds.time,
            flood=self._flood,
            watch=self._watching if catalogue.thresholds else None,
        )
        self._relay = Relay(
            settings.bootstrap_servers,
            store,
            sent=lambda topic: metrics.outbox_sent.labels(topic=topic).inc(),
            warn=self._warn,
        )
        self._ticks = Ticks(
            settings.tick_seconds,
            partial(self._relay.post, settings.topic),
            schema_id=_id_for_writing(settings, self._warn),
            taken=metrics.ticks.inc,
            warn=self._warn,
        )
        self.joined = False
        self._lag_told = 0.0
        self._trimmer = Trimmer()
        self._problem: BaseException | None = None
        self._source = Source(settings, self, self._warn)

    def step(self) -> None:
        """Collect, fold, commit, tell; or relay what waits when the log is quiet."""
        raw = self._source.collect()
        if self._problem is not None:
            raise self._problem
        if len(raw):
            began = time.monotonic()
            folded = self._folding.fold(raw)
            if folded.records:
                self._note(folded, time.monotonic() - began)
                self._source.committed(folded.positions)
            records = folded.records
            del raw, folded
            self._trimmer.worked(records)
        else:
            self._trimmer.paused()
        self._relay.step(list(self._folding.owned))
        self._ticks.step(self._folding.owned, self._source.at_end)
        if time.monotonic() - self._lag_told >= _LAG_SECONDS:
            self._tell_lag()
            if (found := self._watching.retry(list(self._folding.owned))) is not None:
                self._store.commit([], found)

    def drain(self) -> None:
        """Before leaving: what waits in the outbox gets a last chance."""
        self._relay.flush(list(self._folding.owned), _FLUSH_SECONDS)

    def close(self) -> None:
        """Leave the group."""
        self._source.close()

    def take(self, partition: int, lowest: Callable[[], int]) -> int:
        """A partition comes. A store that is away ends the session, from `step`."""
        self._metrics.rebalances.labels(kind="assigned").inc()
        self.joined = True
        try:
            position = self._folding.take(partition, lowest)
        except (StoreUnavailable, Fenced) as problem:
            self._problem = problem
            return lowest()
        self._log.info("took partition", partition=partition, offset=position)
        self._metrics.assigned.set(len(self._folding.owned))
        return position

    def let_go(self, partitions: list[int], *, lost: bool) -> None:
        """Partitions go; the batch in hand leaves them out."""
        self._metrics.rebalances.labels(kind="lost" if lost else "revoked").inc()
        self._folding.let_go(partitions)
        self._metrics.assigned.set(len(self._folding.owned))
        self._log.info("let go of partitions", partitions=partitions, lost=lost)

    def _note(self, folded: Folded, seconds: float) -> None:
        metrics = self._metrics
        metrics.note(folded, seconds, time.time())
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

    def _tell_lag(self) -> None:
        self._lag_told = time.monotonic()
        for partition, refused in self._flood.refused_lately().items():
            self._metrics.refused_lately.labels(partition=str(partition)).set(refused)
        lags: dict[int, tuple[int, float]] = {}
        for partition, progress in self._folding.owned.items():
            high = self._source.high_watermark(partition)
            if high is None:
                continue
            # Behind the last record there may be markers that are never folded.
            at_end = self._source.at_end(partition)
            lag = 0 if at_end else max(high - progress.position, 0)
            age = time.time() - progress.appended / 1_000_000 if lag and progress.appended else 0.0
            lags[partition] = lag, max(age, 0.0)
        self._metrics.tell_lag(self._settings.topic, lags)
        self._metrics.outbox_waiting.set(self._relay.waiting)

    def _warn(self, text: str) -> None:
        self._log.warning("kafka", problem=text)


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
