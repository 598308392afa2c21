"""What a batch needs to know before it is folded: asked of the store in few questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from meterstream_aggregator.batch import KIND_CODES, MARK_CODE, USAGE_CODE, Batch, distinct
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.state import State
from meterstream_aggregator.store.port import StateReader
from meterstream_schemas.events import LANES

_NO_NUMBERS: Final = np.zeros(LANES, dtype=np.int64)


def load_state(
    batch: Batch,
    reader: StateReader,
    before: Mapping[int, int],
    after: Mapping[int, int],
    numbers: dict[ProducerKey, Numbers],
) -> State:
    """The state to fold ``batch`` over.

    ``before`` and ``after``: see `State`; the latter decides which sessions time out, and may name
    partitions that ``batch`` has no events of.

    ``numbers`` are those known from earlier batches; what the store knows beyond them is added.
    """
    _load_numbers(batch, reader, numbers)
    state = State(before=before, after=after, numbers=numbers)
    _load_refused(batch, reader, state)
    _load_keys(batch, reader, state)
    _load_sessions(batch, reader, state)
    return state


def _load_numbers(batch: Batch, reader: StateReader, numbers: dict[ProducerKey, Numbers]) -> None:
    width = len(batch.producer.values)
    pairs = np.unique(batch.partition * width + batch.producer.codes).tolist() if width else []
    names = batch.producer.values
    keys = (ProducerKey(pair // width, names[pair % width]) for pair in pairs)
    unknown = [key for key in keys if key.producer and key not in numbers]
    if unknown:
        numbers.update(reader.numbers(unknown))


def _load_refused(batch: Batch, reader: StateReader, state: State) -> None:
    """Ask about the numbers that may have been seen before: few, unless much is delivered again."""
    if not len(batch):
        return
    names = batch.producer.values
    pairs, owner = distinct(batch.partition * len(names) + batch.producer.codes)
    keys = [ProducerKey(pair // len(names), names[pair % len(names)]) for pair in pairs.tolist()]
    known = [state.numbers.get(key) for key in keys]
    upto = np.stack([_NO_NUMBERS if numbers is None else numbers.upto for numbers in known])
    lane = np.clip(batch.lane, 0, LANES - 1)
    seen = batch.sequence <= upto[owner, lane]
    for at, numbers in enumerate(known):
        if numbers is not None and numbers.beyond:
            seen |= (owner == at) & np.isin(lane, np.fromiter(numbers.beyond, dtype=np.int64))
    wanted = {
        RefusedNumber(key.partition, key.producer, int(batch.lane[row]), int(batch.sequence[row]))
        for row in np.flatnonzero(seen & (batch.sequence > 0)).tolist()
        if (key := keys[owner[row]]).producer
    }
    if wanted:
        state.refused = reader.refused_numbers(wanted)


def _load_keys(batch: Batch, reader: StateReader, state: State) -> None:
    rows = np.flatnonzero(batch.has_key())
    if not len(rows):
        return
    keys = batch.columns.column("key").take(rows).to_pylist()
    tenants = batch.tenant.values
    wanted: dict[int, set[tuple[str, str]]] = {}
    for partition, tenant, key in zip(
        batch.partition[rows].tolist(), batch.tenant.codes[rows].tolist(), keys, strict=True
    ):
        wanted.setdefault(partition, set()).add((tenants[tenant], key))
    for partition, pairs in wanted.items():
        for (tenant, key), known in reader.caller_keys(partition, pairs).items():
            state.keys[(partition, tenant, key)] = known


def _load_sessions(batch: Batch, reader: StateReader, state: State) -> None:
    rows = np.flatnonzero(
        (batch.kind != USAGE_CODE) & (batch.kind != MARK_CODE) & (batch.kind != KIND_CODES["VOID"])
    )
    wanted: set[SessionKey] = set()
    if len(rows):
        sessions = batch.columns.column("session").take(rows).to_pylist()
        tenants, types = batch.tenant.values, batch.type.values
        for partition, tenant, of_type, session in zip(
            batch.partition[rows].tolist(),
            batch.tenant.codes[rows].tolist(),
            batch.type.codes[rows].tolist(),
            sessions,
            strict=True,
        ):
            if session is not None:
                wanted.add(SessionKey(partition, tenants[tenant], types[of_type], session))
    state.sessions = reader.known_sessions(wanted) if wanted else {}
    due: list[SessionKey] = []
    for partition, appended in state.after.items():
        if appended != state.before[partition]:
            found = reader.due_sessions(partition, appended)
            state.sessions.update(found)
            due.extend(found)
    state.due = due
