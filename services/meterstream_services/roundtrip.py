"""One event from `Meter.record` to a figure and back, with the configuration in force.

1. The catalogue that the API answers with says which event to send (`meterstream_services.probe`).
2. The SDK records it, under a key of its own.
3. Its outcome tells where the log has it.
4. The API's figure of its window has to rise by its amount.
5. A VOID takes it back, and the figure has to fall again.

A stage that fails says what is wrong and what to do. What was recorded is followed by its VOID
then, too: whenever the one is counted after all, so is the other.
"""

from __future__ import annotations

import queue
import secrets
import time as clock
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from meterstream_services.probe import NoProbe, Probe, choose_probe

if TYPE_CHECKING:
    from meterstream import Meter, Outcome

TENANT: Final = "meterstream-check"
TIMEOUT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.1
_CLOSE_SECONDS: Final = 2.0
_ROWS: Final = (("limit", "100"),)

MakeMeter = Callable[[Callable[["Outcome"], object]], "Meter"]
"""Makes the meter to try, which tells outcomes to this function."""


class Asks(Protocol):
    """What is asked of `meterstream_services.client.Api`."""

    def get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> Any:  # noqa: ANN401 - whatever JSON it is
        """See `meterstream_services.client.Api.get`."""
        ...


class Wish(NamedTuple):
    """What the person at the terminal asked for. ``topic`` is where the SDK sends events."""

    topic: str
    tenant: str = TENANT
    meter: str | None = None
    event_type: str | None = None
    keep: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS


class Stage(NamedTuple):
    """One step of the way. ``is_good`` is None for what was left out on purpose."""

    stage: str
    seconds: float
    is_good: bool | None
    detail: str


class Trip(NamedTuple):
    """How far the event came. ``partition`` and ``offset`` are None until the log has it."""

    stages: tuple[Stage, ...]
    probe: Probe | None
    tenant: str
    key: str
    partition: int | None
    offset: int | None

    @property
    def is_good(self) -> bool:
        """Whether no stage failed."""
        return all(stage.is_good is not False for stage in self.stages)


class _Failed(Exception):
    """A stage failed; the message says why and what to do."""


def round_trip(
    api: Asks, make_meter: MakeMeter, wish: Wish, told: Callable[[Exception], str] = str
) -> Trip:
    """Send one event and follow it. Takes up to the timeout at each stage.

    Errors of the API and the SDK become failed stages; ``told`` makes sentences of them.
    """
    return _Way(api, wish, told).go(make_meter)


class _Way:
    def __init__(self, api: Asks, wish: Wish, told: Callable[[Exception], str]) -> None:
        self._api: Final = api
        self._wish: Final = wish
        self._told: Final = told
        self._outcomes: Final[queue.SimpleQueue[Outcome]] = queue.SimpleQueue()
        self._stages: Final[list[Stage]] = []
        self._key: Final = f"{TENANT}-{secrets.token_hex(8)}"
        self._time = 0
        self._probe: Probe | None = None
        self._before = Decimal(0)
        self._landed: Outcome | None = None
        self._is_refused = False

    def go(self, make_meter: MakeMeter) -> Trip:
        if self._stage("chosen", self._choose):
            try:
                meter = make_meter(self._outcomes.put)
            except Exception as problem:  # noqa: BLE001 - told as a failed stage
                self._stages.append(Stage("recorded", 0.0, False, self._told(problem)))
            else:
                try:
                    self._send(meter)
                finally:
                    meter.close(_CLOSE_SECONDS)
        landed = self._landed
        return Trip(
            stages=tuple(self._stages),
            probe=self._probe,
            tenant=self._wish.tenant,
            key=self._key,
            partition=landed.partition if landed else None,
            offset=landed.offset if landed else None,
        )

    def _send(self, meter: Meter) -> None:
        if not self._stage("recorded", lambda: self._record(meter)):
            return
        is_counted = self._stage("in the log", lambda: self._land(meter)) and self._stage(
            "counted", self._count
        )
        probe = self._chosen()
        if self._wish.keep:
            self._stages.append(Stage("taken back", 0.0, None, "kept, as asked"))
        elif self._is_refused:
            self._stages.append(Stage("taken back", 0.0, None, "nothing to take back"))
        elif probe.stuck:
            detail = f"stays counted: {', '.join(probe.stuck)} cannot give an event back"
            self._stages.append(Stage("taken back", 0.0, None, detail))
        elif is_counted:
            self._stage("taken back", lambda: self._take_back(meter))
        else:
            self._follow_up(meter)

    def _stage(self, name: str, step: Callable[[], str]) -> bool:
        began = clock.perf_counter()
        try:
            detail, is_good = step(), True
        except (_Failed, NoProbe) as problem:
            detail, is_good = str(problem), False
        except Exception as problem:  # noqa: BLE001 - told as a failed stage
            detail, is_good = self._told(problem), False
        self._stages.append(Stage(name, clock.perf_counter() - began, is_good, detail))
        return is_good

    def _choose(self) -> str:
        wish = self._wish
        document = self._api.get("/v1/meters")
        try:
            definitions = document["meters"]
        except (KeyError, TypeError):
            raise _Failed(
                "what answers there is no meterstream API; name its address with --url"
            ) from None
        topic = (self._api.get("/v1/status").get("topic") or {}).get("topic")
        if topic not in {None, wish.topic}:
            raise _Failed(
                f"the API's figures are of topic {topic!r}, and the SDK sends to {wish.topic!r}; "
                "set METERSTREAM_TOPIC or --topic, or name the right API with --url"
            )
        now = datetime.now(UTC)
        self._time = int(now.timestamp()) * 1_000_000 + now.microsecond
        probe = self._probe = choose_probe(
            definitions,
            now=now.isoformat(timespec="seconds"),
            meter=wish.meter,
            event_type=wish.event_type,
        )
        self._before = self._figure()
        also = f", and {', '.join(probe.others)} count it too" if probe.others else ""
        return f"meter {probe.meter} counts type {probe.type}{also}"

    def _record(self, meter: Meter) -> str:
        probe, wish = self._chosen(), self._wish
        if not meter.record(
            probe.type,
            tenant=wish.tenant,
            time=self._time,
            attributes=probe.attributes,
            key=self._key,
        ):
            raise _Failed(f"the SDK did not take it: {meter.status().last_error}")
        return f"tenant {wish.tenant}, key {self._key}"

    def _land(self, meter: Meter) -> str:
        landed = self._outcome()
        if landed is None:
            status = meter.status()
            why = status.last_error or "no reason is known"
            raise _Failed(
                f"no outcome within {self._wish.timeout_seconds:g} s: {why}; "
                f"{status.spooled} of {status.buffered} waiting events are on disk; is the broker "
                "up, and is its address right (METERSTREAM_BOOTSTRAP_SERVERS, METERSTREAM_DATA)?"
            )
        self._landed = landed
        if landed.offset is None:
            self._is_refused = True
            raise _Failed(
                f"refused for good, and lost: {landed.error}; see the topic's limits and rights"
            )
        return f"partition {landed.partition}, offset {landed.offset} of {self._wish.topic}"

    def _count(self) -> str:
        probe, before = self._chosen(), self._before
        figure = self._wait_for(lambda value: value >= before + probe.amount)
        return f"{probe.meter} of {self._wish.tenant} rose from {before} to {figure}"

    def _take_back(self, meter: Meter) -> str:
        high = self._figure()
        self._void(meter)
        landed = self._outcome()
        if landed is None or landed.offset is None:
            why = meter.status().last_error if landed is None else landed.error
            raise _Failed(f"the VOID did not reach the log: {why}; the usage of this check stays")
        self._landed, event = landed, self._landed
        try:
            figure = self._wait_for(lambda value: value <= high - self._chosen().amount)
        finally:
            self._landed = event
        return f"{self._chosen().meter} of {self._wish.tenant} fell from {high} to {figure}"

    def _follow_up(self, meter: Meter) -> None:
        """Send the VOID after an event that is not counted, and wait for neither."""
        self._void(meter)
        if self._landed is not None:
            detail = "its VOID follows it: whenever the event is counted, it is taken back, too"
        elif meter.status().spooled:
            detail = "it waits on disk, and its VOID follows it: a later process sends both"
        else:
            detail = "it ends with this command, or its VOID follows it: nothing stays counted"
        self._stages.append(Stage("taken back", 0.0, None, detail))

    def _void(self, meter: Meter) -> None:
        probe = self._chosen()
        meter.void(
            probe.type,
            tenant=self._wish.tenant,
            key=self._key,
            time=self._time,
            attributes=probe.attributes,
        )

    def _outcome(self) -> Outcome | None:
        deadline = clock.monotonic() + self._wish.timeout_seconds
        while (left := deadline - clock.monotonic()) > 0:
            try:
                outcome = self._outcomes.get(timeout=left)
            except queue.Empty:
                return None
            if outcome.key == self._key:  # Others are of what dead processes left on disk.
                return outcome
        return None

    def _wait_for(self, is_there: Callable[[Decimal], bool]) -> Decimal:
        deadline = clock.monotonic() + self._wish.timeout_seconds
        while True:
            position = self._position()
            figure = self._figure()
            if is_there(figure):
                return figure
            if position is not None or clock.monotonic() > deadline:
                self._explain(position, figure)
            clock.sleep(_PAUSE_SECONDS)

    def _position(self) -> dict[str, Any] | None:
        """The partition's row of the status once it is folded past the event, else None."""
        row = self._row()
        landed = self._at()
        is_past = row is not None and (row["next_offset"] or 0) > (landed.offset or 0)
        return row if is_past else None

    def _row(self) -> dict[str, Any] | None:
        rows = self._api.get("/v1/status")["partitions"]
        partition = self._at().partition
        return next((row for row in rows if row["partition"] == partition), None)

    def _explain(self, folded: dict[str, Any] | None, figure: Decimal) -> None:
        """Raise with the reason why the figure is not as it should be."""
        landed, wish = self._at(), self._wish
        asked = (("producer", landed.producer), *_ROWS)
        for letter in self._api.get("/v1/deadletters", asked)["deadletters"]:
            if (letter["partition"], letter["offset"]) == (landed.partition, landed.offset):
                self._is_refused = True
                raise _Failed(
                    f"a dead letter, {letter['reason']}: {letter['detail']}; docs/dead-letters.md "
                    "tells what to do about it"
                )
        if folded is not None:
            raise _Failed(
                f"partition {landed.partition} is counted past offset {landed.offset}, and "
                f"{self._chosen().meter} of {wish.tenant} is {figure}: is the API at --url the one "
                "of this broker, and does nobody else use this tenant?"
            )
        row = self._row()
        if row is None or row["next_offset"] is None:
            raise _Failed(
                f"no worker has counted anything of partition {landed.partition} yet; start "
                "`meterstream worker`, or see why it does not run"
            )
        raise _Failed(
            f"not counted within {wish.timeout_seconds:g} s: partition {landed.partition} is "
            f"counted up to offset {row['next_offset']}, {row['behind_seconds']} s behind, by "
            f"{row['owner']}; is that worker running? `meterstream status` shows its lag"
        )

    def _figure(self) -> Decimal:
        """The figure of the event's window."""
        probe = self._chosen()
        begin = self._time // 1_000_000 // probe.window_seconds * probe.window_seconds
        answer = self._api.get(
            "/v1/usage",
            (
                ("meter", probe.meter),
                ("from", _shown(begin)),
                ("to", _shown(begin + probe.window_seconds)),
                ("tenant", self._wish.tenant),
            ),
        )
        return sum((Decimal(row["value"] or 0) for row in answer["rows"]), start=Decimal(0))

    def _chosen(self) -> Probe:
        assert self._probe is not None
        return self._probe

    def _at(self) -> Outcome:
        assert self._landed is not None
        return self._landed


def _shown(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
