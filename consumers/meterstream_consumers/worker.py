"""The worker process: a member of the consumer group that folds the log into the store.

One session, a membership of the group, follows the other. A fence ends one, with everything in
memory dropped: somebody newer owns what this worker thought was its own. The next session claims
its partitions anew and reads on from the stored positions. A store that is away ends none: see
`session`. A signal ends the process after the batch in hand.
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import FrameType

from meterstream_aggregator.catalogue import Catalogue
from meterstream_aggregator.catalogue_file import load_catalogue
from meterstream_aggregator.errors import Fenced, StoreUnavailable
from meterstream_aggregator.store.port import TopicBinding
from meterstream_consumers.confirming import Confirmation
from meterstream_consumers.errors import (
    DeadLetterFlood,
    GroupShared,
    GroupSilent,
    InstanceHeld,
    LogGap,
)
from meterstream_consumers.health import Health
from meterstream_consumers.logs import configure
from meterstream_consumers.memory import freeze
from meterstream_consumers.metrics import WorkerMetrics
from meterstream_consumers.metrics_server import MetricsServer
from meterstream_consumers.session import BACKOFF_SECONDS, Phase, Session
from meterstream_consumers.settings import WorkerSettings
from meterstream_consumers.watching import Directory
from meterstream_consumers.work import Work
from meterstream_infra.groups import other_topics
from meterstream_infra.topics import check_topic


def run(settings: WorkerSettings, directory: Directory | None = None) -> int:
    """Work until SIGTERM or SIGINT; the exit status. Blocks; for the main thread of a process.

    ``directory`` knows the tenants' accounts, for thresholds on them.
    Raises `CatalogueError`, `StoreMismatch`, `LogUnusable`, `DeadLetterFlood`, `SettingRefused`,
    and `InfraError` for a broker or topic that figures cannot rest on: a person must mend those.
    """
    catalogue = load_catalogue(settings.catalogue)
    topic = check_topic(settings.bootstrap_servers, settings.topic)
    others = other_topics(settings.bootstrap_servers, settings.group, settings.topic)
    if others:
        raise GroupShared(settings.group, settings.topic, others)
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
        self._health = Health(f"has not joined consumer group {settings.group!r}")
        self._stopping = False
        self._worked = False

    def stop(self, _signal_number: int = 0, _frame: FrameType | None = None) -> None:
        """Finish the batch in hand, then leave."""
        self._stopping = True

    def run(self) -> int:
        """Sessions, one after the other, until told to stop.

        Raises what a person must mend, at the end also `LogGap` where a partition stood still.
        """
        health, metrics, settings = self._health, self._metrics, self._settings
        server = MetricsServer.start(
            settings.metrics, metrics.registry, health.why_not, stuck=health.stuck
        )
        build = {"version": metadata.version("meterstream"), "catalogue": self._catalogue.version}
        metrics.build.labels(**build).set(1)
        disk = settings.store.parent if isinstance(settings.store, Path) else None
        metrics.watch(ready=lambda: health.why_not() is None, disk=disk)
        gaps: list[LogGap] = []
        failures = 0
        try:
            confirmation = Confirmation(settings.bootstrap_servers, self._binding)
            while not self._stopping:
                self._worked = False
                gaps = self._session(confirmation)
                if not self._stopping:
                    failures = 0 if self._worked else failures
                    self._wait(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                    failures += 1
        finally:
            server.close()
        self._log.info("stopped")
        if gaps:
            raise gaps[0]
        return 0

    def _session(self, confirmation: Confirmation) -> list[LogGap]:
        """One membership of the group. The gaps that it stood before when it was told to stop."""
        try:
            session = self._begin_session(confirmation)
            try:
                self._loop(session)
                return session.gaps
            finally:
                session.close()
        except Fenced as problem:
            self._metrics.fenced.inc()
            self._log.warning("fenced", problem=str(problem))
            self._health.tell(f"was fenced and joins again: {problem}")
        except DeadLetterFlood as problem:
            self._metrics.floods.inc()
            self._log.error("flood of dead letters", problem=str(problem))
            raise
        except (StoreUnavailable, GroupSilent, InstanceHeld) as problem:
            self._metrics.store_retries.inc()
            self._log.warning("waiting", problem=str(problem))
            self._health.tell(f"{self._health.since('cannot join its group', True)}: {problem}")
        return []

    def _begin_session(self, confirmation: Confirmation) -> Session:
        return Session(
            self._settings,
            self._begin_work(confirmation),
            self._binding.partitions,
            confirmation=confirmation,
            health=self._health,
            metrics=self._metrics,
            log=self._log,
        )

    def _begin_work(self, confirmation: Confirmation) -> Callable[[], Work]:
        return lambda: Work(
            self._settings,
            self._binding,
            self._catalogue,
            confirmation=confirmation,
            metrics=self._metrics,
            log=self._log,
            directory=self._directory,
        )

    def _loop(self, session: Session) -> None:
        freeze()
        gc.set_threshold(200_000, 20, 100)
        while not self._stopping:
            session.step()
            self._health.turn()
            self._worked = self._worked or session.phase is Phase.WORKING
        session.drain()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < until:
            self._health.turn()
            time.sleep(0.05)
