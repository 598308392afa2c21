"""A host that records some events and ends in the way its argument names."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.integration.sdk_programs.host import BEFORE, HEIR, ending, make_meter, record, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from meterstream import Meter

HOSTS_OWN: Final = "the host's own"


def normal(meter: Meter) -> None:
    """The main module ends."""


def sys_exit(meter: Meter) -> None:
    """With a status of the host's."""
    sys.exit(3)


def sys_exit_in_a_thread(meter: Meter) -> None:
    """Ends that thread alone."""

    def work() -> None:
        record(meter, [BEFORE])
        sys.exit(4)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def unhandled_exception(meter: Meter) -> None:
    """In the main thread."""
    raise RuntimeError(HOSTS_OWN)


def unhandled_exception_in_a_thread(meter: Meter) -> None:
    """The main thread ends well."""

    def work() -> None:
        record(meter, [BEFORE])
        raise RuntimeError(HOSTS_OWN)

    threading.Thread(target=work).start()


def keyboard_interrupt(meter: Meter) -> None:
    """As by Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


def sigterm_with_a_handler(meter: Meter) -> None:
    """Of the host's, which ends the process in order."""

    def handle(_signal: int, _frame: object) -> None:
        record(meter, [BEFORE])
        sys.exit(5)

    signal.signal(signal.SIGTERM, handle)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def sigterm_after_a_flush(meter: Meter) -> None:
    """Without a handler nothing runs any more; what was flushed is safe."""
    say("flushed", meter.flush(30))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def sigterm_at_once(meter: Meter) -> None:
    """Without a handler and without a flush: what has no outcome may be lost."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def sigkill_at_once(meter: Meter) -> None:
    """As the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def os_exit_after_a_flush(meter: Meter) -> None:
    """Skips everything; what was flushed is safe."""
    say("flushed", meter.flush(30))
    os._exit(7)


def os_exit_at_once(meter: Meter) -> None:
    """Skips everything."""
    os._exit(7)


def sigterm_after_disk(meter: Meter) -> None:
    """Without a handler, as soon as all is on disk."""
    say("flushed", meter.flush(30, to="disk"))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def sigkill_after_disk(meter: Meter) -> None:
    """As soon as all is on disk."""
    say("flushed", meter.flush(30, to="disk"))
    os.kill(os.getpid(), signal.SIGKILL)


def os_exit_after_disk(meter: Meter) -> None:
    """As soon as all is on disk."""
    say("flushed", meter.flush(30, to="disk"))
    os._exit(7)


def exec_after_a_flush(meter: Meter) -> None:
    """The process becomes another program; what was flushed is safe."""
    say("flushed", meter.flush(30))
    os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(8)"])


def atexit_after_the_meter(meter: Meter) -> None:
    """A handler registered after the meter was made runs before the meter is closed."""
    atexit.register(lambda: record(meter, [BEFORE]))


def atexit_before_the_meter(meter: Meter) -> None:
    """A handler registered before the meter was made runs when it is closed (see `main`)."""


def del_at_teardown(meter: Meter) -> None:
    """Objects that record while the interpreter takes itself apart."""

    class Dying:
        def __init__(self) -> None:
            self.meter = meter
            self.me = self

        def __del__(self) -> None:
            say("late", self.meter.record("a", tenant="t"))

    for name in ("builtins", "sys", __name__):
        sys.modules[name].dying = Dying()  # type: ignore[attr-defined]  # to live to the very end


def del_while_nobody_refers_to_the_meter(meter: Meter) -> None:
    """See `main`: the host drops its meter right after recording."""


def non_daemon_threads(meter: Meter) -> None:
    """Threads that record after the main thread has ended."""

    def work(start: int) -> None:
        threading.main_thread().join()
        record(meter, range(start, start + 50))

    for start in (BEFORE, BEFORE + 50):
        threading.Thread(target=work, args=(start,)).start()


def daemon_threads(meter: Meter) -> None:
    """Threads that record until they are stopped dead."""

    def work(start: int) -> None:
        quantity = start
        while True:
            if meter.record("a", tenant=f"t{start}", quantity=quantity):
                say("taken", quantity)
            quantity += 1
            time.sleep(0.001)

    for start in (1_000_000, 2_000_000, 3_000_000):
        threading.Thread(target=work, args=(start,), daemon=True).start()
    time.sleep(0.1)


def busy_daemon_threads(meter: Meter) -> None:
    """Threads that record and never pause."""

    def work(start: int) -> None:
        quantity = start
        while True:
            meter.record("a", tenant=f"t{start}", quantity=quantity)
            quantity += 1

    for start in (1_000_000, 2_000_000):
        threading.Thread(target=work, args=(start,), daemon=True).start()
    time.sleep(0.1)


def thread_pool(meter: Meter) -> None:
    """A pool that nobody shuts down, with work left."""
    pool = ThreadPoolExecutor(4)
    for start in range(BEFORE, BEFORE + 100, 10):
        pool.submit(record, meter, range(start, start + 10))


def asyncio_cancelled(meter: Meter) -> None:
    """An interrupted event loop, whose tasks record when they are cancelled."""

    async def task(start: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            record(meter, range(start, start + 10))

    async def run() -> None:
        tasks = [asyncio.ensure_future(task(start)) for start in (BEFORE, BEFORE + 10)]
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.gather(*tasks)

    asyncio.run(run())


def broker_away(meter: Meter) -> None:
    """See `main`: nothing listens where the meter looks."""


def made_at_teardown(meter: Meter) -> None:
    """The first meter of a module is made when the interpreter takes itself apart."""

    class Dying:
        def __init__(self) -> None:
            self.make = make_meter
            self.say = say

        def __del__(self) -> None:
            try:
                late = self.make()
            except ImportError:  # Nothing can be imported any more.
                self.say("made", "refused")
            else:
                self.say("made", late.record("a", tenant="t"), late.close(0))

    sys.modules["__main__"].dying = Dying()  # type: ignore[attr-defined]  # to live to the very end


ENDINGS: Final[dict[str, Callable[[Meter], None]]] = {
    function.__name__: function
    for function in (
        normal, sys_exit, sys_exit_in_a_thread, unhandled_exception,
        unhandled_exception_in_a_thread, keyboard_interrupt, sigterm_with_a_handler,
        sigterm_after_a_flush, sigterm_at_once, sigkill_at_once, os_exit_after_a_flush,
        os_exit_at_once, exec_after_a_flush, atexit_after_the_meter, atexit_before_the_meter,
        del_at_teardown, del_while_nobody_refers_to_the_meter, non_daemon_threads, daemon_threads,
        busy_daemon_threads, sigterm_after_disk, sigkill_after_disk, os_exit_after_disk,
        thread_pool, asyncio_cancelled, broker_away, made_at_teardown,
    )
}  # fmt: skip


def heir() -> None:
    """A later process on the same spool: ends when nothing is left there but its own."""
    spool = Path(os.environ["HOST_SPOOL"])
    meter = make_meter()
    meter.record("a", tenant="heir", quantity=HEIR)
    deadline = time.monotonic() + 30
    while {path.name for path in spool.iterdir()} - {meter.producer}:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def main(name: str) -> None:
    """Record, and end as told."""
    # Whoever runs the tests in the background of a shell ignores this signal, and so would we.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if name == "atexit_before_the_meter":
        atexit.register(lambda: say("late", made[0].record("a", tenant="t")))
    settings = {"bootstrap_servers": "127.0.0.1:1", "close_seconds": 3} if "away" in name else {}
    meter = make_meter(**settings)
    made = [meter]
    say("producer", meter.producer)
    record(meter, range(BEFORE))
    ending()
    if name == "del_while_nobody_refers_to_the_meter":
        made.clear()
        del meter
        gc.collect()
        return
    ENDINGS[name](meter)


if __name__ == "__main__":
    if sys.argv[1] == "heir":
        heir()
    else:
        main(sys.argv[1])
