"""`import meterstream` is cheap and does nothing: every process of a host pays for it at start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

RUNS: Final = 5
RATIO_MAX: Final = 2.2
"""60 ms on the machine this was written on, where the modules below take 29 ms."""
ORDINARY: Final = "import logging, typing, dataclasses, decimal, datetime, pathlib, threading"
"""What almost every host imports anyway."""

HEAVY: Final = frozenset(
    """
    anthropic argparse ast asyncio celery concurrent.futures confluent_kafka crc32c csv ctypes
    dataclasses email fastapi fastavro flask gevent grpc hashlib http httpx importlib.metadata
    importlib.resources inspect json langchain_core litellm logging multiprocessing openai
    opentelemetry pathlib pickle platform prometheus_client pydantic pytest random requests shutil
    signal socket sqlite3 ssl starlette subprocess tempfile tomllib typing_extensions unittest
    urllib urllib.parse urllib.request uuid yaml zoneinfo
    """.split()  # noqa: SIM905 - a list would be a page
)


def run(program: str) -> str:
    """The output of a Python program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def test_importing_brings_nothing_heavy() -> None:
    """Neither a client nor a module of the standard library that can wait until it is needed."""
    found = run(
        "import sys; before = set(sys.modules); import meterstream;"
        "print(*sorted(set(sys.modules) - before))"
    )

    brought = set(found.split())
    assert "meterstream.meter" in brought
    assert brought & HEAVY == set()
    assert not [
        name for name in brought if name.startswith(("meterstream.compat", "meterstream.integr"))
    ]


def test_making_a_meter_brings_no_client() -> None:
    """What takes long is loaded by the background thread, but for what hooks forks."""
    found = run(
        "import sys; before = set(sys.modules); import meterstream;"
        "meterstream.Meter('host'); print(*sorted(set(sys.modules) - before))"
    )

    assert set(found.split()) & HEAVY <= {"logging", "concurrent.futures"}


def test_importing_and_making_a_meter_does_nothing() -> None:
    """No file but modules is opened, no thread or process started, no hook or handler left."""
    found = run(
        """
import atexit, os, signal, sys, threading
did, watching = [], True

def watch(event, arguments):
    if not watching:
        return
    if event == "open":
        if not str(arguments[0]).endswith((".py", ".pyc", ".so")):
            did.append(f"open {arguments[0]}")
    elif event.partition(".")[0] in {
        "socket", "subprocess", "os", "ctypes", "_thread", "signal", "shutil", "tempfile", "urllib"
    } and event not in {"os.listdir", "os.scandir"}:
        did.append(event)

hooks = atexit._ncallbacks()
handlers = [signal.getsignal(number) for number in signal.valid_signals()]
sys.addaudithook(watch)
import meterstream
if atexit._ncallbacks() != hooks:
    did.append("atexit")
meterstream.Meter("host")
watching = False
if handlers != [signal.getsignal(number) for number in signal.valid_signals()]:
    did.append("signal")
if threading.active_count() != 1 or len(sys._current_frames()) != 1:
    did.append("thread")
import json
print(json.dumps(did))
"""
    )

    assert json.loads(found) == []


def test_threading_is_first_imported_by_the_thread_that_imports_the_sdk() -> None:
    """Python takes the thread that imports it first for the main thread, and ours is not that."""
    found = run(
        "import sys, meterstream; print('threading' in sys.modules);"
        "from meterstream.memory import MemoryTransport;"
        "meter = meterstream.Meter(transport=MemoryTransport());"
        "meter.record('a', tenant=''); meter.record('a', tenant='t'); meter.flush(30);"
        "import threading; print(threading.current_thread() is threading.main_thread())"
    )

    assert found.split() == ["True", "True"]


def test_importing_takes_little_more_than_what_hosts_import_anyway() -> None:
    """Compared by processor time with a few ordinary modules, the best of some runs of each."""
    watch = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"

    ours, ordinary = (
        min(float(run(watch.format(imports))) for _ in range(RUNS))
        for imports in ("import meterstream", ORDINARY)
    )

    assert ours < RATIO_MAX * ordinary, f"{1000 * ours:.0f} ms to {1000 * ordinary:.0f} ms"
