"""A worker as a process of its own, for tests that kill it or feed it poison."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meterstream_consumers import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

    from meterstream_consumers.settings import WorkerSettings


@contextmanager
def running_worker(settings: WorkerSettings) -> Iterator[BaseProcess]:
    """A worker that runs inside the block; at its end it is drained, and killed if it does not."""
    process = multiprocessing.get_context("spawn").Process(target=worker.run, args=(settings,))
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
