"""Placement agrees with Kafka's own clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterstream_schemas.events import LANES
from meterstream_schemas.placement import lane_of, murmur2, partition_of

JAVA_CLIENT = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""Signed values that the test of Kafka's Java client pins."""


@pytest.mark.parametrize(("key", "signed"), JAVA_CLIENT.items())
def test_murmur2_is_the_java_clients(key: str, signed: int) -> None:
    """The hash equals the Java client's, bit for bit."""
    assert murmur2(key.encode()) == signed % 2**32


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(0, 8))
def test_a_power_of_two_of_partitions_is_kafkas_own_placement(tenant: str, power: int) -> None:
    """By way of the lane a tenant lands where the default murmur2 partitioner puts its key."""
    partitions = 2**power

    ours = partition_of(lane_of(tenant), partitions)

    assert ours == (murmur2(tenant.encode()) & 0x7FFFFFFF) % partitions


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(1, 300))
def test_lanes_and_partitions_stay_in_range(tenant: str, partitions: int) -> None:
    """Every tenant has a lane, and every lane a partition, for any number of partitions."""
    lane = lane_of(tenant)

    assert 0 <= lane < LANES
    assert 0 <= partition_of(lane, partitions) < partitions
