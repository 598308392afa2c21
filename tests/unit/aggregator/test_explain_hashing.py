"""Canonical JSON: the quick way writes what the plain one does."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meterstream_aggregator.explain import canonical

TEXTS = st.text(st.characters()) | st.text(st.characters(max_codepoint=127))
CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(CONTENT)
@example("\x7f")
@example('\x00\x1f"\\/<\u2028')
@example("\ud800")
@example(2**64)
@example({"z": 1, "a": {"é": "ü", "\U0001f600": 1, "\uffff": 2}})
def test_canonical_json_is_that_of_the_standard_library(content: object) -> None:
    """Sorted keys, no spaces, ASCII: the bytes that everybody can make again."""
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    assert canonical(content) == plain.encode()


@pytest.mark.parametrize("content", [{"a": {1, 2}}, [object()]])
def test_what_is_no_json_is_refused(content: object) -> None:
    """As the standard library refuses it."""
    with pytest.raises(TypeError):
        canonical(content)
