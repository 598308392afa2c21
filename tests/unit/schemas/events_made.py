"""Arbitrary events for properties: every field over all it may hold, edges preferred."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from meterstream_schemas.events import (
    LANES,
    QUANTITY_MAX,
    QUANTITY_MIN,
    SCALE_MAX,
    TIME_MAX_MICROSECONDS,
    EventKind,
    MeterEvent,
)

_UNICODE: Final = st.characters(codec="utf-8")
TEXTS: Final = st.text(_UNICODE, max_size=80)
OPTIONAL_TEXTS: Final = st.none() | TEXTS
TIMES: Final = st.integers(0, TIME_MAX_MICROSECONDS - 1) | st.sampled_from(
    (0, 1, 2**13, 2**27 - 1, 2**27, 2**27 + 1, 2**41, TIME_MAX_MICROSECONDS - 1)
)
QUANTITIES: Final = st.integers(QUANTITY_MIN, QUANTITY_MAX) | st.sampled_from(
    (QUANTITY_MIN, -1, 0, 1, 63, 64, 8191, 8192, 2**20, QUANTITY_MAX)
)
SEQUENCES: Final = st.integers(1, 2**62) | st.sampled_from((1, 8191, 8192, 2**27 - 1, 2**27))

EVENTS: Final = st.builds(
    MeterEvent,
    kind=st.sampled_from(EventKind),
    tenant=TEXTS,
    type=TEXTS,
    time=TIMES,
    quantity=QUANTITIES,
    scale=st.integers(0, SCALE_MAX),
    session=OPTIONAL_TEXTS,
    subject=OPTIONAL_TEXTS,
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=8),
    producer=TEXTS,
    lane=st.integers(0, LANES - 1),
    sequence=SEQUENCES,
    key=OPTIONAL_TEXTS,
)
