"""What ``meters.yaml`` may say, field by field: pydantic at the door, plain values behind it.

A message that begins with a path and a colon (``timeout: …``) is about that field of its entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    model_validator,
)

from meterstream_aggregator.catalogue import (
    DAY,
    HOUR,
    LENGTH_MAX,
    MINUTE,
    SESSION_WINDOWS_MAX,
    Aggregate,
    Catalogue,
    Condition,
    Meter,
    Test,
    TimeoutBills,
)
from meterstream_aggregator.catalogue_texts import duration, name
from meterstream_aggregator.threshold_forms import ThresholdEntry

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_Duration = Annotated[int, BeforeValidator(duration)]
_Name = Annotated[str, AfterValidator(name)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Samples(StrEnum):
    LEVELS = "levels"
    CHANGES = "changes"


class _Limits(_Strict):
    series_per_tenant: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000


def _text_as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Texts = Annotated[list[str], BeforeValidator(_text_as_list)]


class _Test(_Strict):
    """What one mapping under an attribute asks: at least one of these."""

    one_of: Annotated[_Texts | None, Field(alias="in", min_length=1)] = None
    not_in: Annotated[_Texts | None, Field(min_length=1)] = None
    exists: Annotated[bool | None, Field(strict=True)] = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.one_of is None and self.not_in is None and self.exists is None:
            raise ValueError("asks nothing; write {in: [a]}, {not_in: [a]} or {exists: true}")
        return self


_TEXTS: Final = TypeAdapter(list[str])
_TEST: Final = TypeAdapter(_Test)
_TESTS: Final = TypeAdapter(list[_Test])


def _tests(value: object) -> list[_Test]:
    """A text or texts that are allowed, one mapping of tests, or a list of such mappings."""
    if isinstance(value, Mapping):
        return [_TEST.validate_python(value)]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return _TESTS.validate_python(value)
    allowed = _TEXTS.validate_python(_text_as_list(value))
    if not allowed:
        raise ValueError("allows no value; name one, or remove it")
    return [_TEST.validate_python({"in": allowed})]


_Where = Annotated[list[_Test], PlainValidator(_tests)]


class _MeterEntry(_Strict):
    name: _Name
    type: _Name | None = None
    aggregate: Aggregate
    value: str | None = None
    operation: str | None = None
    samples: _Samples | None = None
    unit: str = ""
    group_by: list[str] = Field(default_factory=list, max_length=8)
    where: dict[str, _Where] = Field(default_factory=dict)
    window: _Duration = 15 * MINUTE
    grace: _Duration = DAY
    timeout: _Duration | None = None
    timeout_bills: TimeoutBills = TimeoutBills.LAST_SIGN
    longest: _Duration | None = None
    since: Annotated[AwareDatetime | None, Field(alias="from")] = None
    limits: _Limits = Field(default_factory=_Limits)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not MINUTE <= self.window <= HOUR or HOUR % self.window or self.window % MINUTE:
            raise ValueError(
                "window: must divide one hour into whole minutes; write 1m, 5m, 15m or 1h"
            )
        if len(set(self.group_by)) != len(self.group_by):
            raise ValueError("group_by: names an attribute twice; name each once")
        if self.since is not None and (microseconds(self.since) % HOUR or self.since < _EPOCH):
            raise ValueError(
                "from: is not on a whole hour since 1970; write one such as 2026-03-01T00:00:00Z"
            )
        self._check_value()
        self._check_aggregate()
        self._check_session()
        return self

    def _check_value(self) -> None:
        value = self.value
        if value is None:
            return
        if self.aggregate is Aggregate.COUNT:
            raise ValueError("value: a count counts events, not amounts; remove it")
        if self.aggregate is Aggregate.SESSION:
            raise ValueError("value: a session meter measures seconds; remove it")
        if value == "subject" and self.aggregate is not Aggregate.UNIQUE:
            raise ValueError(
                "value: 'subject' is no amount, only unique counts it; "
                "write quantity or attributes.NAME"
            )
        if value in {"quantity", "subject"}:
            return
        if not value.startswith("attributes."):
            raise ValueError(f"value: {value!r} is not readable; write quantity or attributes.NAME")
        if not value.removeprefix("attributes.").strip():
            raise ValueError("value: names no attribute; write quantity or attributes.NAME")

    def _check_aggregate(self) -> None:
        if self.aggregate is Aggregate.TIME_WEIGHTED_CHANGES:
            raise ValueError(
                "aggregate: is written in two fields; write aggregate: time_weighted "
                "and samples: changes"
            )
        if self.samples is not None and self.aggregate is not Aggregate.TIME_WEIGHTED:
            raise ValueError(
                "samples: only time_weighted meters have samples; remove it "
                "or use aggregate: time_weighted"
            )
        if self.aggregate is Aggregate.UNIQUE and self.value in {None, "quantity"}:
            raise ValueError(
                "value: a unique meter must know what it counts; write subject or attributes.NAME"
            )
        if self.operation is None:
            return
        if self.aggregate is not Aggregate.UNIQUE:
            raise ValueError(
                "operation: only unique meters add and remove; remove it or use aggregate: unique"
            )
        if not self.operation.removeprefix("attributes.").strip() or not self.operation.startswith(
            "attributes."
        ):
            raise ValueError("operation: names no attribute; write attributes.NAME")

    def _check_session(self) -> None:
        if self.timeout is not None and self.aggregate is not Aggregate.SESSION:
            raise ValueError(
                "timeout: only session meters time out; remove it or use aggregate: session"
            )
        if self.timeout == 0:
            raise ValueError("timeout: nothing lives for no time; write a duration such as 30m")
        if self.timeout is None and self.timeout_bills is not TimeoutBills.LAST_SIGN:
            raise ValueError("timeout_bills: there is no timeout that it could bill; add one")
        if self.longest is not None and self.aggregate is not Aggregate.SESSION:
            raise ValueError(
                "longest: only sessions have a length; remove it or use aggregate: session"
            )
        if self.longest is not None and not 0 < self.longest <= LENGTH_MAX:
            raise ValueError(
                f"longest: no session is shorter than 1s or longer than {LENGTH_MAX // DAY}d; "
                "write a duration between, such as 31d"
            )

    def meter(self, until: int | None) -> Meter:
        """The definition, which applies until that time."""
        aggregate, longest = self.aggregate, LENGTH_MAX
        if self.samples is _Samples.CHANGES:
            aggregate = Aggregate.TIME_WEIGHTED_CHANGES
        if aggregate is Aggregate.SESSION:
            longest = self.longest or min(LENGTH_MAX, SESSION_WINDOWS_MAX * self.window)
        return Meter(
            name=self.name,
            type=self.type or self.name,
            aggregate=aggregate,
            value=self.value or "quantity",
            unit=self.unit or ("second" if aggregate is Aggregate.SESSION else ""),
            group_by=tuple(self.group_by),
            where=conditions(self.where),
            window=self.window,
            grace=self.grace,
            timeout=self.timeout,
            timeout_bills=self.timeout_bills,
            series_per_tenant=self.limits.series_per_tenant,
            longest=longest,
            operation=self.operation.removeprefix("attributes.") if self.operation else None,
            since=0 if self.since is None else microseconds(self.since),
            until=until,
        )


def conditions(where: Mapping[str, Sequence[_Test]]) -> tuple[Condition, ...]:
    """The conditions of all attributes, sorted: the order of writing does not matter."""
    found = set[Condition]()
    for attribute, tests in where.items():
        for test in tests:
            if test.one_of is not None:
                found.add(Condition(attribute, Test.IN, tuple(sorted(set(test.one_of)))))
            if test.not_in is not None:
                found.add(Condition(attribute, Test.NOT_IN, tuple(sorted(set(test.not_in)))))
            if test.exists is not None:
                found.add(Condition(attribute, Test.EXISTS if test.exists else Test.ABSENT))
    return tuple(sorted(found))


class CatalogueForm(_Strict):
    """A whole file."""

    metering_since: AwareDatetime = _EPOCH
    accept_from: AwareDatetime | None = None
    meters: list[_MeterEntry] = Field(min_length=1)
    thresholds: list[ThresholdEntry] = Field(default_factory=list[ThresholdEntry])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.metering_since < _EPOCH:
            raise ValueError("metering_since: lies before 1970; write a later instant")
        if self.accept_from is not None and self.accept_from < _EPOCH:
            raise ValueError("accept_from: lies before 1970; write a later instant")
        if self.accept_from is not None and self.accept_from > self.metering_since:
            raise ValueError(
                "accept_from: is after metering_since, so that metered time would be refused; "
                "write metering_since or earlier, or remove it"
            )
        self._check_dates()
        meters = self._meters()
        names = list[str]()
        for index, threshold in enumerate(self.thresholds):
            if threshold.name in names:
                raise ValueError(
                    f"thresholds.{index}.name: two thresholds are called {threshold.name!r}; "
                    "rename one"
                )
            names.append(threshold.name)
            if problem := threshold.problem([m for m in meters if m.name == threshold.meter]):
                raise ValueError(f"thresholds.{index}.{problem}")
        return self

    def _check_dates(self) -> None:
        earlier = dict[str, _MeterEntry]()
        for index, entry in enumerate(self.meters):
            before = earlier.get(entry.name)
            if before is not None and entry.since is None:
                raise ValueError(
                    f"meters.{index}.name: two meters are called {entry.name!r} and the later says "
                    "no date; rename one, or write from: and the hour from which it applies"
                )
            if (
                before is not None
                and entry.since is not None
                and before.since is not None
                and entry.since <= before.since
            ):
                raise ValueError(
                    f"meters.{index}.from: is not after {before.since.isoformat()}, from which the "
                    f"definition of {entry.name!r} above applies; order them by date"
                )
            earlier[entry.name] = entry

    def _meters(self) -> tuple[Meter, ...]:
        until = dict[str, int]()
        found = list[Meter]()
        for entry in reversed(self.meters):
            found.append(entry.meter(until.get(entry.name)))
            if entry.since is not None:
                until[entry.name] = microseconds(entry.since)
        return tuple(reversed(found))

    def value(self) -> Catalogue:
        """The catalogue that the file describes."""
        since = microseconds(self.metering_since)
        return Catalogue(
            metering_since=since,
            meters=self._meters(),
            accept_from=since if self.accept_from is None else microseconds(self.accept_from),
            thresholds=tuple(entry.value() for entry in self.thresholds),
        )


def microseconds(instant: datetime) -> int:
    """An instant as microseconds UTC."""
    return (instant - _EPOCH) // _MICROSECOND
