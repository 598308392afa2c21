"""When a part that died is started again."""

from __future__ import annotations

from meterstream_services.restarts import Deaths, RestartPolicy

POLICY = RestartPolicy(deaths_max=3, window_seconds=60, delays_seconds=(0.1, 1.0))


def test_each_death_waits_longer() -> None:
    """The delays follow one another and the last one stays."""
    deaths = Deaths(POLICY)

    assert [deaths.add(now) for now in (0.0, 1.0, 2.0)] == [0.1, 1.0, 1.0]


def test_too_many_deaths_in_the_window_are_the_end() -> None:
    """One more death than allowed within the window is answered with None."""
    deaths = Deaths(POLICY)
    for now in (0.0, 1.0, 2.0):
        deaths.add(now)

    assert deaths.add(59.9) is None
    assert deaths.recent == 4


def test_deaths_outside_the_window_are_forgotten() -> None:
    """A part that dies now and then is started for ever, after the shortest delay."""
    deaths = Deaths(POLICY)

    assert [deaths.add(60.0 * n) for n in range(50)] == [0.1] * 50
