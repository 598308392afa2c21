"""Names that a stranger sent: a store is asked about them before anybody judges the event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from meterstream_aggregator.changes import Changes
from meterstream_aggregator.dedup import ProducerKey, RefusedNumber
from meterstream_aggregator.state import SeriesOwner
from tests.contract.stores import SESSIONS, SUBJECTS, commit, session_key, subject_key

if TYPE_CHECKING:
    from meterstream_aggregator.store.port import Store


@pytest.mark.parametrize("odd", ["\x00", "a\x00b", "\x1f", "'", "é\U0001f600"])
def test_a_name_of_any_kind_is_asked_for(store: Store, odd: str) -> None:
    """No store has it, which is the answer; what is asked for beside it is found."""
    known, subject = session_key("s"), subject_key("u")
    changes = Changes(
        sessions={known: (SESSIONS[0], None)}, subjects={subject: (SUBJECTS[0], None)}
    )
    commit(store, store.claim(0, "a"), changes)
    owner = SeriesOwner(0, odd, "v")

    assert store.numbers([ProducerKey(0, odd), ProducerKey(0, "p")]) == {}
    assert store.refused_numbers([RefusedNumber(0, odd, 1, 1)]) == set()
    assert store.caller_keys(0, [(odd, "k"), ("t", odd)]) == {}
    sessions = [session_key(odd), known, session_key("s", tenant=odd), session_key("s", type=odd)]
    assert store.known_sessions(sessions) == {known: SESSIONS[0]}
    subjects = [subject_key("u", tenant=odd), subject, subject_key("u", type=odd)]
    assert store.known_subjects(subjects) == {subject: SUBJECTS[0]}
    assert store.known_series([owner]) == {owner: set()}
