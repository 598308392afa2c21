"""The worker's parts as the worker wires them, also those of an older checkout that lacks some."""

from __future__ import annotations

import gc
import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from meterstream_aggregator.state import Readings
from meterstream_consumers.decode import Decoder
from meterstream_consumers.folding import Folding
from meterstream_schemas.registry import BundledSchemas

if TYPE_CHECKING:
    from meterstream_aggregator.catalogue import Catalogue
    from meterstream_aggregator.store.port import Store


def new_folding(
    store: Store,
    catalogue: Catalogue,
    *,
    topic: str,
    deadletters_topic: str,
    commit_timer: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Folding:
    """Folding with the worker's guard against floods, where there is one."""
    more: dict[str, Any] = {}
    if importlib.util.find_spec("meterstream_consumers.flood"):
        flood = importlib.import_module("meterstream_consumers.flood")
        more["flood"] = flood.FloodGuard(flood.FloodLimits(10_000, 0.5))
    return Folding(
        store,
        Readings(catalogue),
        Decoder(BundledSchemas()),
        owner="benchmark",
        topic=topic,
        deadletters_topic=deadletters_topic,
        commit_timer=commit_timer,
        **more,
    )


def trimmer() -> Callable[[int], None]:
    """To be told of records worked through: gives freed memory back, where the worker does."""
    if not importlib.util.find_spec("meterstream_consumers.memory"):
        return lambda _: None
    worked: Callable[[int], None] = (
        importlib.import_module("meterstream_consumers.memory").Trimmer().worked
    )
    return worked


def tune_garbage() -> None:
    """As the worker does before its first batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
