"""The pytest plugin: fixtures of `meterstream.testing` for a host's own tests.

pytest loads it in every run of every project that has meterstream installed, so it imports nothing
else before a fixture is asked for. ``-p no:meterstream`` leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterstream.testing import RecordingMeter


@pytest.fixture
def recording_meter() -> Iterator[RecordingMeter]:
    """A strict meter that keeps what is recorded, for one test."""
    # Imported here: most tests of most projects do not meter.
    from meterstream.testing import RecordingMeter  # noqa: PLC0415 - see above

    with RecordingMeter() as meter:
        yield meter


@pytest.fixture
def meterstream_default(recording_meter: RecordingMeter) -> Iterator[RecordingMeter]:
    """The same meter, in place of the default one: `meterstream.record` goes to it."""
    from meterstream.testing import as_default_meter  # noqa: PLC0415 - as above

    with as_default_meter(recording_meter):
        yield recording_meter
