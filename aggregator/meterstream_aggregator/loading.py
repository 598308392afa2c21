"""What a batch needs to know before it is folded: asked of the store in few questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from meterstream_aggregator.batch import KINDS, Batch, Int64Array, distinct
from meterstream_aggregator.catalogue import Aggregate
from meterstream_aggregator.dedup import Numbers, ProducerKey, RefusedNumber
from meterstream_aggregator.packing import Packed, one_of_each
from meterstream_aggregator.refusals import SESSION_KINDS
from meterstream_aggregator.sessions import SessionKey
from meterstream_aggregator.state import Memory, Readings, SeriesOwner, State
from meterstream_aggregator.store.port import StateReader
from meterstream_aggregator.subjects import SubjectKey
from meterstream_schemas.events import LANES

_NO_NUMBERS: Final = np.zeros(LANES, dtype=np.int64)
_ROWS_MANY: Final = 256
_TELLS_OF_SESSIONS: Final = np.array([kind in SESSION_KINDS for kind in KINDS])


def load_state(  # noqa: PLR0917 - each is another kind of knowledge, and all are needed
    batch: Batch,
    reader: StateReader,
    before: Mapping[int, int],
    after: Mapping[int, int],
    memory: Memory,
    readings: Readings,
) -> State:
    """The state to fold ``batch`` over.

    ``before`` and ``after``: see `State`; the latter decides which sessions time out, and may name
    partitions that ``batch`` has no events of. What ``memory`` has from earlier batches is not
    asked again; what the store knows beyond it is added.
    """
    memory.trim()
    _load_numbers(batch, reader, memory.numbers)
    state = State(
        before=before,
        after=after,
        numbers=memory.numbers,
        series=memory.series,
        names=memory.names,
    )
    _load_refused(batch, reader, state)
    _load_keys(batch, reader, state)
    _load_sessions(batch, reader, state)
    _load_due(reader, state)
    _load_series(batch, reader, state, readings)
    return state


def _load_numbers(batch: Batch, reader: StateReader, numbers: dict[ProducerKey, Numbers]) -> None:
    unknown = [key for key in batch.sender_keys() if key.producer and key not in numbers]
    if unknown:
        numbers.update(reader.numbers(unknown))


def _load_refused(batch: Batch, reader: StateReader, state: State) -> None:
    """Ask about the numbers that may have been seen before: few, unless much is delivered again."""
    if not len(batch):
        return
    keys, owner = batch.sender_keys(), batch.senders()[1]
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
    """The sessions, and subjects without session ids, that the boundaries of a batch are about."""
    rows = np.flatnonzero(_TELLS_OF_SESSIONS[batch.kind])
    if not len(rows):
        return
    ids = batch.sessions()
    named = ids.codes[rows] >= 0
    sessions = _session_keys(batch, rows[named])
    subjects = _subject_keys(batch, rows[~named])
    if sessions:
        state.sessions = reader.known_sessions(sessions)
    if subjects:
        state.subjects = reader.known_subjects(subjects)


def _session_keys(batch: Batch, rows: Int64Array) -> list[SessionKey]:
    """The sessions of these rows, each once."""
    if len(rows) >= _ROWS_MANY:
        partition = batch.partition[rows]
        packed = Packed(partition, int(partition.max()) + 1)
        for column in (batch.tenant, batch.type, batch.sessions()):
            packed.add(column.codes[rows], len(column.values))
        rows = rows[one_of_each(distinct(packed.codes)[1])]
    texts = [
        [column.values[code] for code in column.codes[rows].tolist()]
        for column in (batch.tenant, batch.type, batch.sessions())
    ]
    told = zip(batch.partition[rows].tolist(), *texts, strict=True)
    return list(dict.fromkeys(map(SessionKey._make, told)))


def _subject_keys(batch: Batch, rows: Int64Array) -> set[SubjectKey]:
    """Those of whom boundaries without a session id tell."""
    if not len(rows):
        return set()
    tenants, types = batch.tenant.values, batch.type.values
    return {
        SubjectKey(partition, tenants[tenant], types[of_type], subject or "")
        for partition, tenant, of_type, subject in zip(
            batch.partition[rows].tolist(),
            batch.tenant.codes[rows].tolist(),
            batch.type.codes[rows].tolist(),
            batch.columns.column("subject").take(pa.array(rows)).to_pylist(),
            strict=True,
        )
    }


def _load_due(reader: StateReader, state: State) -> None:
    """What the log's time alone changes."""
    due: list[SessionKey | SubjectKey] = []
    for partition, appended in state.after.items():
        if appended != state.before[partition]:
            sessions = reader.due_sessions(partition, appended)
            subjects = reader.due_subjects(partition, appended)
            state.sessions.update(sessions)
            state.subjects.update(subjects)
            due += [*sessions, *subjects]
    state.due = due


def _load_series(batch: Batch, reader: StateReader, state: State, readings: Readings) -> None:
    """The series of definitions whose limits the batch may reach, for the tenants that it names."""
    series = state.series
    types = {*batch.type.values, *(key.type for key in state.due)}
    meters = [meter for name in types for meter in readings.grouped.get(name, ())]
    for meter in meters:
        if meter.version not in series.roomy and meter.version not in series.crowded:
            limit = meter.series_per_tenant
            series.begin(meter, reader.groups_in_use(meter.name, meter.version, limit))
    for name in {name for meter in meters for name in meter.group_by}:
        series.saw(name, batch.attribute(name).values)
    told = len(state.sessions) + sum(len(subject.starts) for subject in state.subjects.values())
    crowded = {
        meter.version
        for meter in meters
        if series.look(meter, others=told if meter.aggregate is Aggregate.SESSION else 0)
    }
    if not crowded:
        return
    wanted: dict[SeriesOwner, None] = {}
    for name, partition, tenant in _tenants(batch, state):
        for meter in readings.grouped.get(name, ()):
            if meter.version in crowded:
                wanted[SeriesOwner(partition, tenant, meter.version)] = None
    unknown = series.unknown(wanted)
    if unknown:
        series.learn(reader.known_series(unknown))


def _tenants(batch: Batch, state: State) -> Iterator[tuple[str, int, str]]:
    """(type, partition, tenant) of everything that a batch tells of or that is due."""
    for key in state.due:
        yield key.type, key.partition, key.tenant
    if len(batch):
        tenants, types = batch.tenant.values, batch.type.values
        packed = (batch.partition * len(types) + batch.type.codes) * len(tenants)
        for spot in distinct(packed + batch.tenant.codes)[0].tolist():
            rest, tenant = divmod(spot, len(tenants))
            partition, of_type = divmod(rest, len(types))
            yield types[of_type], partition, tenants[tenant]
