"""Series by number: every series one number and every number one key, however codes grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_aggregator import naming
from meterstream_aggregator.catalogue_file import parse_catalogue
from meterstream_aggregator.changes import SeriesKey
from meterstream_aggregator.naming import SeriesNames

CATALOGUE = parse_catalogue("""
meters:
  - {name: one, aggregate: count, group_by: [a, b]}
  - {name: two, aggregate: count, group_by: [b]}
  - {name: none, aggregate: count}
""")
TEXTS = st.sampled_from(("", "x", "y", "z")) | st.integers(0, 60).map(str)


@st.composite
def series(draw: st.DrawFn) -> SeriesKey:
    """A series of any of the definitions."""
    meter = draw(st.sampled_from(CATALOGUE.meters))
    group = tuple(draw(TEXTS) for _ in meter.group_by)
    return SeriesKey(draw(st.integers(0, 9)), draw(TEXTS), meter.name, group, meter.version)


def told(names: SeriesNames, wanted: set[SeriesKey]) -> dict[SeriesKey, int] | None:
    """The numbers of series of one definition, asked as a batch asks; None where there are none."""
    keys = sorted(wanted)
    meter = next(meter for meter in CATALOGUE.meters if meter.version == keys[0].version)
    columns = [coded([key.tenant for key in keys])]
    columns += [coded([key.group[n] for key in keys]) for n in range(len(meter.group_by))]
    partition = np.array([key.partition for key in keys], dtype=np.int64)
    numbered = names.numbered(meter, partition, columns[0], columns[1:])
    if numbered is None:
        return None
    assert numbered.keys is names.keys
    return dict(zip(keys, numbered.numbers.tolist(), strict=True))


def coded(texts: list[str]) -> tuple[np.ndarray, list[str]]:
    """A column of texts as a batch has it."""
    values = sorted(set(texts), reverse=True)
    return np.array([values.index(text) for text in texts], dtype=np.int64), values


@given(st.lists(st.sets(series(), min_size=1, max_size=40), max_size=8))
def test_a_number_is_a_series_for_good(batches: list[set[SeriesKey]]) -> None:
    """It names the very key it was asked for, and asked again it is the same."""
    names = SeriesNames()
    known: dict[SeriesKey, int] = {}

    for batch in batches:
        for meter in {key.version for key in batch}:
            found = told(names, {key for key in batch if key.version == meter})

            assert found is not None
            for key, number in found.items():
                assert names.keys[number] == key
                assert known.setdefault(key, number) == number
    assert len(names.keys) == len(known)


def test_known_series_are_found_again_when_codes_have_grown() -> None:
    """More texts than the codes had room for change no number."""
    names = SeriesNames()
    version = CATALOGUE.meter("one").version

    def some(low: int, high: int) -> set[SeriesKey]:
        return {
            SeriesKey(n % 3, f"t{n}", "one", (f"a{n}", f"b{n % 5}"), version)
            for n in range(low, high)
        }

    before = told(names, some(0, 20))
    told(names, some(20, 3000))

    assert told(names, some(0, 20)) == before
    assert len(names.keys) == 3000


@pytest.mark.parametrize("partition", [2**16, 1])
def test_what_does_not_fit_has_no_number(partition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition beyond what has room, or codes beyond the bits: whoever asked makes keys."""
    if partition == 1:
        monkeypatch.setattr(naming, "_PACKED_MAX", 2**16)
    key = SeriesKey(partition, "t", "none", (), CATALOGUE.meter("none").version)

    assert told(SeriesNames(), {key}) is None
