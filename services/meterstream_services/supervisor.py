"""Runs the parts of one machine's meterstream: starts, watches, starts again, stops.

A part is a process with its own log. The life of one::

                 start
    waiting ───────────────▶ running ──── dies ───▶ waiting    (after a delay, said aloud)
       ▲                        │                      │ died too often,
       │                        │ stop                 │ or must be mended first
       └── new                  ▼                      ▼
                             stopped                 failed     (everything stops, exit status 1)

A part whose end asks for it is *held* instead of failed: it stays away, and the others go on.
`Supervisor.paused` stops some for a while, and starts them again.

Signals: SIGTERM, SIGINT or SIGHUP stop the parts in the order opposite to their start, each with
time to finish; a second one kills whatever still runs. Parts are sessions of their own, so that
Ctrl-C in a terminal reaches the supervisor alone and it keeps the order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from meterstream_services.ends import End, Then, end_of
from meterstream_services.lifeline import Lifeline
from meterstream_services.restarts import Deaths, RestartPolicy

POLL_SECONDS: Final = 0.1
STOP_SECONDS: Final = 30.0
"""What a part may take for its clean end."""
LOG_BYTES_MAX: Final = 16_000_000
"""A log found larger than this at a start is put aside as ``NAME.1``, in place of the last one."""
_TAIL_LINES: Final = 5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Runner(Protocol):
    """How a part's process is handled. `ChildProcess` is one; the embedded broker another."""

    @property
    def pid(self) -> int | None:
        """The process id while the process runs."""
        ...

    @property
    def log(self) -> Path:
        """Where the process logs."""
        ...

    def start(self) -> None:
        """Start the process. May block until it is usable."""
        ...

    def ended(self) -> End | None:
        """None while the process runs, then how it ended."""
        ...

    def stop(self, timeout_seconds: float) -> None:
        """Ask for a clean end and block until the process is gone, killing it in the end."""
        ...

    def kill(self) -> None:
        """End the process at once and block until it is gone. Does nothing when it is."""
        ...


class PartState(StrEnum):
    """Where in its life a part is; see the picture at the top of this module."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    HELD = "held"
    FAILED = "failed"


class StopRequested(BaseException):
    """A signal arrived while something blocked that must not outlast it."""


class Part:
    """A named process and what is known of its life."""

    def __init__(self, name: str, runner: Runner, policy: RestartPolicy) -> None:
        self.name = name
        self.runner = runner
        self.state = PartState.WAITING
        self.deaths = Deaths(policy)
        self.start_at = 0.0


class Supervisor:
    """Starts parts in order and keeps them running. Belongs to the main thread.

    ``say`` gets one sentence per event; ``changed`` the process ids whenever one changes. ``clock``
    is a steady clock in seconds.
    """

    def __init__(
        self,
        *,
        say: Callable[[str], None],
        changed: Callable[[Mapping[str, int]], None] = lambda _: None,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._say = say
        self._changed = changed
        self._policy = policy or RestartPolicy()
        self._clock = clock
        self._sleep = sleep
        self._parts: list[Part] = []
        self._requests = 0
        self._patience: int | None = None

    @property
    def stop_requested(self) -> bool:
        """Whether a signal asked for the end."""
        return self._requests > 0

    @property
    def has_parts(self) -> bool:
        """Whether anything was started."""
        return bool(self._parts)

    def is_held(self, name: str) -> bool:
        """Whether a part stays away until somebody has mended something."""
        return any(part.name == name and part.state is PartState.HELD for part in self._parts)

    @contextlib.contextmanager
    def signals(self) -> Generator[None]:
        """Take the signals that ask for the end, until the block is left."""
        before = {
            number: signal.signal(number, self._on_signal)
            for number in _SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN  # nohup
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, name: str, runner: Runner) -> None:
        """Start a part and keep it running from now on.

        Raises what ``runner.start`` raises: a part that cannot be started the first time is not
        tried again. Raises `StopRequested` when a signal comes meanwhile.
        """
        part = Part(name, runner, self._policy)
        self._parts.append(part)
        self._start(part)
        self._say(f"{name} runs (process {runner.pid})")

    def check(self) -> bool:
        """Look at every part once: count the dead, start those whose time has come.

        False once a part died too often, which has been said then. Raises `StopRequested`.
        """
        for part in self._parts:
            if part.state is PartState.RUNNING and (end := part.runner.ended()) is not None:
                self._on_death(part, end)
            if part.state is PartState.FAILED:
                return False
            if part.state is PartState.WAITING and self._clock() >= part.start_at:
                self._start_again(part)
        return True

    def watch(self, *, until: Callable[[], bool] = lambda: False) -> bool:
        """`check` until a signal comes or ``until`` says so. False once a part died too often."""
        while not self.stop_requested and not until():
            try:
                if not self.check():
                    return False
            except StopRequested:
                break
            self._sleep(POLL_SECONDS)
        return True

    @contextlib.contextmanager
    def paused(self, names: Collection[str]) -> Generator[None]:
        """Stop some parts, cleanly, and start them again when the block is left.

        Those that are held or wait stay so. Raises `StopRequested` when a signal comes meanwhile.
        """
        parts = [p for p in self._parts if p.name in names and p.state is PartState.RUNNING]
        for part in parts:
            self._interruptible(partial(part.runner.stop, STOP_SECONDS), 0)
            part.state = PartState.STOPPED
        yield
        for part in parts:
            self._start_again(part)

    def stop(self) -> None:
        """Stop all parts, the last started first. A second signal kills what still runs."""
        patience = max(1, self._requests)
        for part in reversed(self._parts):
            if part.state is PartState.RUNNING and self._requests <= patience:
                try:
                    self._interruptible(partial(part.runner.stop, STOP_SECONDS), patience)
                except StopRequested:
                    self._say("stopping at once")
            part.runner.kill()
            part.state = PartState.STOPPED
        self._report()

    def _start(self, part: Part) -> None:
        if self.stop_requested:
            raise StopRequested
        self._interruptible(part.runner.start, 0)
        part.state = PartState.RUNNING
        self._report()

    def _start_again(self, part: Part) -> None:
        try:
            self._start(part)
        except Exception as problem:  # noqa: BLE001 - any failure to start counts as a death
            self._on_death(part, End(f"could not be started: {problem}"))
            return
        self._say(f"{part.name} runs again (process {part.runner.pid})")

    def _on_death(self, part: Part, end: End) -> None:
        how, then = end
        if then is not Then.AGAIN:
            part.state = PartState.HELD if then is Then.HELD else PartState.FAILED
            self._report()
            self._say(f"{part.name} cannot run{tail_of(part.runner.log, lines_max=1)}")
            return
        delay = part.deaths.add(self._clock())
        if delay is None:
            part.state = PartState.FAILED
            self._say(
                f"{part.name} {how}, for the {part.deaths.recent}th time within "
                f"{self._policy.window_seconds:g} s: giving up. Its log is {part.runner.log}"
                f"{tail_of(part.runner.log)}"
            )
            return
        part.state = PartState.WAITING
        part.start_at = self._clock() + delay
        self._report()
        self._say(f"{part.name} {how}; starting it again (its log: {part.runner.log})")

    def _report(self) -> None:
        running = {part.name: part.runner.pid for part in self._parts}
        self._changed({name: pid for name, pid in running.items() if pid is not None})

    def _interruptible(self, action: Callable[[], None], patience: int) -> None:
        """Run what may block; a signal beyond ``patience`` of them ends it by `StopRequested`."""
        self._patience = patience
        try:
            action()
        finally:
            self._patience = None

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._requests += 1
        if self._patience is not None and self._requests > self._patience:
            self._patience = None
            raise StopRequested(signal.Signals(number).name)


class ChildProcess:
    """A `Runner` over a command line, drawn up anew at each start."""

    def __init__(
        self, command: Callable[[], Sequence[str]], *, log: Path, lifeline: Lifeline,
        inherited: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """``inherited`` are descriptors that the child keeps open besides its lifeline."""
        self._command = command
        self._log = log
        self._lifeline = lifeline
        self._inherited = tuple(inherited)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the process runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """Where output and errors of the process go."""
        return self._log

    def start(self) -> None:
        """Start the process. Does not wait for anything."""
        _put_aside(self._log)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._lifeline.environment,
                pass_fds=(self._lifeline.descriptor, *self._inherited),
                start_new_session=True,
            )

    def ended(self) -> End | None:
        """None while the process runs, then how it ended."""
        status = self._process.poll() if self._process else None
        return None if status is None else end_of(status)

    def stop(self, timeout_seconds: float) -> None:
        """SIGTERM, and SIGKILL when the time is over."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def tail_of(log: Path, *, lines_max: int = _TAIL_LINES) -> str:
    """The last lines of a log, ready to follow a sentence; nothing where there are none."""
    try:
        with log.open("rb") as content:
            content.seek(max(0, log.stat().st_size - 4096))
            lines = content.read().decode("utf-8", "replace").splitlines()[-lines_max:]
    except OSError:
        return ""
    return ":\n" + "\n".join(f"    {line}" for line in lines) if lines else " (empty)"


def _put_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_name(f"{log.name}.1"))
