"""A host that forks, or has others fork, in the way its argument names."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Final

from tests.integration.sdk_programs.host import BEFORE, make_meter, record, say

if TYPE_CHECKING:
    from collections.abc import Callable

METER = make_meter()


def child(start: int, *, grandchild: int | None = None) -> int:
    """Fork; the child records a hundred events and ends in order. Returns its id."""
    process = os.fork()
    if process:
        return process
    record(METER, range(start, start + 100))
    if grandchild is not None:
        say("ended", os.waitpid(child(grandchild), 0)[1])
    sys.exit(0)


def wait(*processes: int) -> None:
    """Tell how children ended."""
    for process in processes:
        say("ended", os.waitpid(process, 0)[1])


def before_the_first_event() -> None:
    """The parent records only later."""
    process = child(1000)
    record(METER, range(BEFORE))
    wait(process)


def fork_of_fork() -> None:
    """Three generations."""
    record(METER, range(BEFORE))
    wait(child(1000, grandchild=2000))


def fork_in_a_thread() -> None:
    """The forking thread is the only one of the child."""
    record(METER, range(BEFORE))

    def work() -> None:
        process = os.fork()
        if process == 0:
            record(METER, range(1000, 1100))
            os._exit(0 if METER.close(30) else 1)
        wait(process)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def fork_while_others_record() -> None:
    """Forks at any moment of other threads' calls."""
    stop = threading.Event()

    def load(start: int) -> None:
        quantity = start
        while not stop.is_set():
            record(METER, [quantity])
            quantity += 1
            stop.wait(0.0005)
        say("loaded", start, quantity)

    threads = [threading.Thread(target=load, args=(n * 1_000_000,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    processes = [child(1000 * number) for number in range(1, 9)]
    stop.set()
    for thread in threads:
        thread.join()
    wait(*processes)


def fork_while_flushing() -> None:
    """Another thread waits for outcomes."""
    record(METER, range(BEFORE))
    thread = threading.Thread(target=lambda: say("flushed", METER.flush(30)))
    thread.start()
    process = child(1000)
    thread.join()
    wait(process)


def preexec() -> None:
    """A child that runs a little Python and becomes another program."""
    record(METER, range(BEFORE))
    program = [sys.executable, "-c", "raise SystemExit(0)"]
    done = subprocess.run(program, preexec_fn=lambda: None, check=False)
    say("ended", done.returncode)


def daemonized() -> None:
    """A service that forks twice into the background; its parents leave by os._exit."""
    record(METER, range(BEFORE))
    say("flushed", METER.flush(30))
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(reading)
        record(METER, range(1000, 1100))
        os.write(writing, b"y" if METER.close(30) else b"n")
        os._exit(0)
    os.close(writing)
    wait(process)
    say("ended", 0 if os.read(reading, 1) == b"y" else 1)


def work(start: int) -> int:
    """What a worker of a pool does."""
    record(METER, range(start, start + 100))
    return start


def work_and_flush(start: int) -> int:
    """What a worker of a pool does that may be ended by force."""
    record(METER, range(start, start + 100))
    return start if METER.flush(30) else -1


def processes(method: str) -> None:
    """Two children of multiprocessing."""
    record(METER, range(BEFORE))
    context = multiprocessing.get_context(method)
    children = [context.Process(target=work, args=(start,)) for start in (1000, 2000)]  # type: ignore[attr-defined]  # every context has it
    for process in children:
        process.start()
    for process in children:
        process.join()
        say("ended", process.exitcode)


def pool(method: str) -> None:
    """A pool that is closed and joined."""
    record(METER, range(BEFORE))
    workers = multiprocessing.get_context(method).Pool(2)
    say("worked", workers.map(work, [1000, 2000, 3000]) == [1000, 2000, 3000])
    workers.close()
    workers.join()


def pool_terminated(method: str) -> None:
    """A pool in a ``with`` block, which kills its workers at the end."""
    record(METER, range(BEFORE))
    with multiprocessing.get_context(method).Pool(2) as workers:
        say("worked", workers.map(work_and_flush, [1000, 2000, 3000]) == [1000, 2000, 3000])


def executor(method: str) -> None:
    """The pool of concurrent.futures."""
    record(METER, range(BEFORE))
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as workers:
        say("worked", list(workers.map(work, [1000, 2000, 3000])) == [1000, 2000, 3000])


WAYS: Final[dict[str, Callable[[], None]]] = {
    function.__name__: function
    for function in (
        before_the_first_event, fork_of_fork, fork_in_a_thread, fork_while_others_record,
        fork_while_flushing, preexec, daemonized,
    )
} | {
    f"{function.__name__} {method}": lambda function=function, method=method: function(method)
    for function in (processes, pool, pool_terminated, executor)
    for method in ("fork", "spawn", "forkserver")
}  # fmt: skip


if __name__ == "__main__":
    WAYS[" ".join(sys.argv[1:])]()
    say("parent", os.getpid())
