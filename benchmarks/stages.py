"""Where the worker's time goes: microseconds an event of each stage, with what is inside taken out.

Stages are timed from outside, by wrapping what the loop calls; each reading of the clocks costs a
fraction of a microsecond per batch. CPU is that of the loop's own thread; what the threads of the
Kafka client use stands beside it. A stage whose function a checkout does not have is told under the
stage around it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.measuring import Cost

_OUTSIDE: Final = "between batches"
_METHODS: Final = {"collect": "consume", "committed": "offsets to Kafka"}
_FUNCTIONS: Final = (
    ("meterstream_consumers.source", "receive", "values"),
    ("meterstream_consumers.folding", "rows_to_fold", "places"),
    ("meterstream_consumers.folding", "load_state", "load"),
    ("meterstream_consumers.folding", "fold_columns", "fold"),
    ("meterstream_consumers.folding", "add_outbox", "outbox"),
)
_WRITES: Final = ("commit",)


class Stages:
    """A stack of stages; time belongs to the one on top. For one thread."""

    def __init__(self) -> None:
        self._stack = [_OUTSIDE]
        self._wall: dict[str, float] = {}
        self._cpu: dict[str, float] = {}
        self._since = (time.perf_counter(), time.thread_time())

    def watch(self, source: Any, folding: Any) -> None:  # noqa: ANN401 - inside is looked at by name
        """Time these two and what they call from now on."""
        for method, stage in _METHODS.items():
            setattr(source, method, self.timed(stage, getattr(source, method)))
        folding.fold = self.timed("around the fold", folding.fold)
        decoder = getattr(folding, "_decoder", None)
        if decoder is not None:
            folding._decoder = _Timed(decoder, self, lambda _: "decode")  # noqa: SLF001 - likewise
        folding._store = _Timed(  # noqa: SLF001 - likewise
            folding._store,  # noqa: SLF001 - likewise
            self,
            lambda method: "commit" if method in _WRITES else "load: store",
        )
        for module_name, name, stage in _FUNCTIONS:
            module = importlib.import_module(module_name)
            if hasattr(module, name):
                setattr(module, name, self.timed(stage, getattr(module, name)))

    def begin(self) -> None:
        """Forget what was timed so far."""
        self._wall.clear()
        self._cpu.clear()
        self._since = (time.perf_counter(), time.thread_time())

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time told under ``stage``."""

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            self._note()
            self._stack.append(stage)
            try:
                return function(*arguments, **named)
            finally:
                self._note()
                self._stack.pop()

        return call

    def read(self, cost: Cost) -> dict[str, dict[str, float]]:
        """Microseconds an event by stage, dearest first: of wall clock and of CPU."""
        self._note()
        others = cost.cpu_seconds - sum(self._cpu.values())
        told = {
            stage: {
                "wall": round(1e6 * wall / cost.events, 4),
                "cpu": round(1e6 * self._cpu[stage] / cost.events, 4),
            }
            for stage, wall in sorted(self._wall.items(), key=lambda pair: -pair[1])
        }
        told["other threads"] = {"wall": 0.0, "cpu": round(1e6 * others / cost.events, 4)}
        return told

    def _note(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        top = self._stack[-1]
        self._wall[top] = self._wall.get(top, 0.0) + now[0] - self._since[0]
        self._cpu[top] = self._cpu.get(top, 0.0) + now[1] - self._since[1]
        self._since = now


class _Timed:
    """Stands before an object and times its methods."""

    def __init__(self, behind: Any, stages: Stages, stage: Callable[[str], str]) -> None:  # noqa: ANN401 - any
        self._behind, self._stages, self._stage = behind, stages, stage

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is there
        found = getattr(self._behind, name)
        return self._stages.timed(self._stage(name), found) if callable(found) else found
