"""Alarm and gate, as one thread waits for another."""

from __future__ import annotations

import threading

from meterstream.waking import Alarm, Gate


def test_an_alarm_that_rang_before_ends_the_next_sleep_only() -> None:
    """Rings do not add up, and are not lost."""
    alarm = Alarm()
    alarm.ring()
    alarm.ring()

    alarm.sleep(60)  # Returns at once, or the test times out.
    alarm.ring()
    alarm.sleep(60)


def test_a_gate_lets_everybody_pass_once_open() -> None:
    """Closed it keeps a waiter for its time; open it keeps nobody, early or late."""
    gate = Gate()
    assert not gate.wait(0.01)
    passed: list[bool] = []
    waiting = [threading.Thread(target=lambda: passed.append(gate.wait(60))) for _ in range(3)]
    for thread in waiting:
        thread.start()

    gate.open()
    gate.open()

    for thread in waiting:
        thread.join()
    assert passed == [True, True, True]
    assert gate.wait(0)
