"""The cache stays small and keeps what is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meterstream.caches import TwoGenerations


@given(st.lists(st.integers(0, 30)), st.integers(1, 8))
def test_it_never_holds_more_than_two_generations(keys: list[int], size: int) -> None:
    """Whatever is asked for: at most twice its size, and only true values."""
    cache = TwoGenerations[int, str](size)

    for key in keys:
        value = cache.young.get(key) or cache.older(key)
        assert value in {None, str(key)}
        if value is None:
            cache.put(key, str(key))
        assert len(cache.young) <= size
        assert len(cache._old) <= size


def test_what_is_used_outlives_what_is_not() -> None:
    """A key that is asked for in every generation stays for good."""
    cache = TwoGenerations[str, int](4)
    cache.put("hot", 1)

    for cold in range(100):
        cache.put(f"cold {cold}", cold)
        assert cache.young.get("hot") or cache.older("hot")

    assert cache.older("cold 0") is None
