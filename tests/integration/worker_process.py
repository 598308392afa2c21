"""A worker as a process of its own, for tests that kill it or feed it poison."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meterstream_consumers import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess
    from sqlite3 import Connection

    from meterstream_aggregator.changes import Changes
    from meterstream_aggregator.store.sqlite import SqliteStore
    from meterstream_consumers.settings import WorkerSettings


@contextmanager
def running_worker(settings: WorkerSettings) -> Iterator[BaseProcess]:
    """A worker that runs inside the block; at its end it is drained, and killed if it does not."""
    with _running(worker.run, settings) as process:
        yield process


@contextmanager
def stops_inside_a_commit(settings: WorkerSettings, mark: Path) -> Iterator[BaseProcess]:
    """As `running_worker`; it stops itself (SIGSTOP) in its first transaction of a batch.

    After the writes and before COMMIT. ``mark`` is there from then on.
    """
    with _running(_run_and_stop, settings, mark) as process:
        yield process


@contextmanager
def impatient_worker(settings: WorkerSettings) -> Iterator[BaseProcess]:
    """As `running_worker`; to it a locked store is away after a second, not after a minute."""
    with _running(_run_impatient, settings) as process:
        yield process


def _run_and_stop(settings: WorkerSettings, mark: Path) -> int:
    kind = _stop_in_sqlite if isinstance(settings.store, Path) else _stop_in_postgres
    kind(mark)
    return worker.run(settings)


def _stop(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP)


def _stop_in_sqlite(mark: Path) -> None:
    from meterstream_aggregator.store import sqlite_writing  # noqa: PLC0415 - of this process only

    last = sqlite_writing.write_letters

    def write(db: Connection, changes: Changes) -> None:
        last(db, changes)
        _stop(mark)

    sqlite_writing.write_letters = write


def _stop_in_postgres(mark: Path) -> None:
    from meterstream_aggregator.store.postgres.store import PostgresStore  # noqa: PLC0415 - as above

    written = PostgresStore._write

    def write(store: PostgresStore, *given: Any) -> None:  # noqa: ANN401 - whatever it takes
        written(store, *given)
        _stop(mark)

    setattr(PostgresStore, "_write", write)  # noqa: B010 - of this process only


def _run_impatient(settings: WorkerSettings) -> int:
    from meterstream_aggregator.store.sqlite import SqliteStore  # noqa: PLC0415 - of this process only

    opened = SqliteStore.__init__

    def open_impatiently(store: SqliteStore, path: Path) -> None:
        opened(store, path)
        store._db.execute("PRAGMA busy_timeout = 1000")

    setattr(SqliteStore, "__init__", open_impatiently)  # noqa: B010 - of this process only
    return worker.run(settings)


@contextmanager
def _running(target: Callable[..., int], *arguments: object) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
