"""The catalogue file: what it says, and a sentence with file, line, field and remedy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.catalogue import (
    DAY,
    HOUR,
    LENGTH_MAX,
    MINUTE,
    Aggregate,
    Condition,
    Meter,
    TimeoutBills,
    dump_catalogue,
    undump_catalogue,
)
from meterstream_aggregator.catalogue import Test as Asks  # pytest would collect a Test
from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.errors import CatalogueError, UnknownMeter

if TYPE_CHECKING:
    from pathlib import Path

SINCE = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
WHOLE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - name: llm.tokens
    type: llm.completion
    aggregate: sum
    value: attributes.tokens
    unit: token
    group_by: [model, region]
    where: {env: [prod, canary, prod], zone: eu, plan: {not_in: trial}, user: {exists: true}}
    window: 5m
    grace: 36h
    limits: {series_per_tenant: 500}
  - name: agent.run
    aggregate: session
    timeout: 90s
    timeout_bills: timeout
"""
MISTAKES = [
    ("", "c.yaml: ", "holds no mapping", "begin with the keys"),
    ("- a", "c.yaml: ", "holds no mapping", "begin with the keys"),
    ("meters: [", "c.yaml:1: ", "not YAML", "mend the indentation"),
    ("a: 1\n b: 2", "c.yaml:2: ", "not YAML", "mend the indentation"),
    ("a: !!python/none x", "c.yaml:1: ", "not YAML", "mend"),
    ("a: 1\n---\nb: 2", "c.yaml:2: ", "not YAML", "mend"),
    ("\x00", "c.yaml: ", "not YAML", "mend"),
    ("meters: []", "c.yaml:1: meters: ", "is empty", "name at least one"),
    ("metering_since: 2026-01-01T00:00:00Z", "c.yaml:1: meters: ", "missing", "add it"),
    ("meters: {a: b}", "c.yaml:1: meters: ", "not a list", "write one"),
    ("meters:\n- 5", "c.yaml:2: meters.0 5: ", "not a mapping", "write its fields"),
    ("\nsince: 1\nmeters: []", "c.yaml:3: meters: ", "is empty", "c.yaml:2: since 1: "),
]  # fmt: skip
OF_SINCE = [
    ("2026-13-45", "c.yaml:1: ", "a date is none", "write an instant"),
    (
        "2026-01-01T00:00:00",
        "c.yaml:1: metering_since: ",
        "not an instant with a zone",
        "write one",
    ),
    ("2026-01-01", "c.yaml:1: metering_since: ", "not an instant with a zone", "write one"),
    ("soon", "c.yaml:1: metering_since 'soon': ", "not an instant with a zone", "write one"),
    ("1969-12-31T23:59:59Z", "c.yaml:1: metering_since: ", "before 1970", "later instant"),
]
OF_METER = [
    ("name: 5", "name 5: ", "is not text", "put it in quotes"),
    ("name: 9a", "name '9a': ", "is not a name", "begin with a letter"),
    ("name: a b", "name 'a b': ", "is not a name", "begin with a letter"),
    (f"name: {'n' * 129}", "name 'nnn", "is not a name", "at most 128"),
    ("name: a", "name: ", "two meters are called 'a'", "write from:"),
    ("type: ''", "type '': ", "is not a name", "begin with a letter"),
    ("aggregate: summ", "aggregate 'summ': ", "is not known", "'sum'"),
    ("value: tokens", "value: ", "'tokens' is not readable", "attributes.NAME"),
    ("value: attributes.", "value: ", "names no attribute", "attributes.NAME"),
    ("group_by: model", "group_by 'model': ", "is not a list", "[a, b]"),
    ("group_by: [a, a]", "group_by: ", "an attribute twice", "name each once"),
    ("group_by: [1]", "group_by.0 1: ", "is not text", "quotes"),
    ("group_by: [a, b, c, d, e, f, g, h, i]", "group_by: ", "at most 8", ""),
    ("where: [a]", "where: ", "is not a mapping", "write one"),
    ("where: {status: [500]}", "where.status.0 500: ", "is not text", "quotes"),
    ("where: {status: yes}", "where.status True: ", "is not a list", "[a, b]"),
    ("where: {status: []}", "where.status: ", "allows no value", "name one"),
    ("where: {status: {}}", "where.status: ", "asks nothing", "{exists: true}"),
    ("where: {status: {in: []}}", "where.status.in: ", "is empty", "at least one"),
    ("where: {status: {not_in: [5]}}", "where.status.not_in.0 5: ", "is not text", "quotes"),
    ("where: {status: {is: x}}", "where.status.is 'x': ", "not a field", "mend"),
    ("where: {status: {exists: 1}}", "where.status.exists 1: ", "not true or false", "write one"),
    ("where: {status: [{exists: true}, x]}", "where.status.1 'x': ", "not a mapping", "write"),
    ("value: subject", "value: ", "is no amount", "attributes.NAME"),
    ("{aggregate: count, value: quantity}", "value: ", "counts events", "remove it"),
    ("{aggregate: unique, value: quantity}", "value: ", "what it counts", "write subject"),
    ("operation: attributes.op", "operation: ", "only unique", "remove it"),
    ("{aggregate: unique, value: subject, operation: op}", "operation: ", "names no", "NAME"),
    ("{aggregate: unique, value: subject, operation: attributes.}", "operation: ", "names no", ""),
    ("samples: changes", "samples: ", "only time_weighted", "remove it"),
    ("{aggregate: time_weighted, samples: x}", "samples 'x': ", "is not known", "'levels'"),
    ("aggregate: time_weighted_changes", "aggregate: ", "two fields", "samples: changes"),
    ("longest: 3d", "longest: ", "only sessions", "remove it"),
    ("{aggregate: session, longest: 401d}", "longest: ", "longer than 400d", "such as 31d"),
    ("{aggregate: session, longest: 0s}", "longest: ", "shorter than 1s", "such as 31d"),
    ("from: 2026-01-01T00:30:00Z", "from: ", "whole hour", "write one"),
    ("from: 1969-12-31T23:00:00Z", "from: ", "since 1970", "write one"),
    ("from: 2026-01-01", "from: ", "not an instant with a zone", "write one"),
    ("window: 7m", "window: ", "divide one hour", "15m"),
    ("window: 90s", "window: ", "whole minutes", "15m"),
    ("window: 2h", "window: ", "divide one hour", "1h"),
    ("window: 0m", "window: ", "divide one hour", "1m"),
    ("window: 15", "window 15: ", "is not a duration", "such as 15m"),
    ("grace: -1h", "grace '-1h': ", "is not a duration", "such as 15m"),
    ("grace: 1.5h", "grace '1.5h': ", "is not a duration", "such as 15m"),
    ("timeout: 30m", "timeout: ", "only session meters", "remove it"),
    ("timeout: {m: 30}", "timeout: ", "is not a duration", "such as 15m"),
    ("{aggregate: session, timeout: 0s}", "timeout: ", "no time", "such as 30m"),
    ("{aggregate: session, timeout_bills: timeout}", "timeout_bills: ", "no timeout", "add one"),
    ("{aggregate: session, value: attributes.x}", "value: ", "measures seconds", "remove it"),
    ("timeout_bills: never", "timeout_bills 'never': ", "is not known", "'last_sign'"),
    ("limits: {series_per_tenant: 0}", "limits.series_per_tenant 0: ", "greater than", "1"),
    ("limits: {series: 5}", "limits.series 5: ", "not a field", "mend its spelling"),
    ("windw: 1m", "windw '1m': ", "not a field", "mend its spelling"),
]


def _mistake(text: str) -> str:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(text, source="c.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_whole_file() -> None:
    """Every field is read, durations in microseconds, filters sorted, defaults filled in."""
    catalogue = parse_catalogue(WHOLE)

    assert catalogue.metering_since == SINCE
    assert catalogue.meters[0] == Meter(
        name="llm.tokens",
        type="llm.completion",
        aggregate=Aggregate.SUM,
        value="attributes.tokens",
        unit="token",
        group_by=("model", "region"),
        where=(
            Condition("env", Asks.IN, ("canary", "prod")),
            Condition("plan", Asks.NOT_IN, ("trial",)),
            Condition("user", Asks.EXISTS),
            Condition("zone", Asks.IN, ("eu",)),
        ),
        window=5 * MINUTE,
        grace=36 * HOUR,
        timeout=None,
        timeout_bills=TimeoutBills.LAST_SIGN,
        series_per_tenant=500,
    )
    run = catalogue.meter("agent.run")
    assert (run.type, run.value, run.unit, run.window, run.grace) == (
        "agent.run", "quantity", "second", 15 * MINUTE, DAY,
    )  # fmt: skip
    assert (run.timeout, run.timeout_bills, run.where) == (90_000_000, TimeoutBills.TIMEOUT, ())
    assert run.value_attribute is None
    assert catalogue.meters[0].value_attribute == "tokens"


@pytest.mark.parametrize(("text", "place", "problem", "remedy"), MISTAKES)
def test_a_mistake_of_the_file(text: str, place: str, problem: str, remedy: str) -> None:
    """A file that is no catalogue is told where and what to write."""
    message = _mistake(text)

    assert message.startswith(place)
    assert problem in message
    assert remedy in message


@pytest.mark.parametrize(("instant", "place", "problem", "remedy"), OF_SINCE)
def test_a_mistake_of_metering_since(instant: str, place: str, problem: str, remedy: str) -> None:
    """Metering begins at an instant with a zone, in this era."""
    message = _mistake(f"metering_since: {instant}\nmeters: [{{name: a, aggregate: sum}}]")

    assert message.startswith(place)
    assert problem in message
    assert remedy in message


@pytest.mark.parametrize(("line", "field", "problem", "remedy"), OF_METER)
def test_a_mistake_of_a_meter(line: str, field: str, problem: str, remedy: str) -> None:
    """The sentence has the line of the very field, its path, what was given and what to write."""
    fields = {"name": "name: b", "aggregate": "aggregate: sum"}
    given = line[1:-1].split(", ") if line.startswith("{") else [line]
    fields |= {part.partition(":")[0]: part for part in given}
    text = "meters:\n- {name: a, aggregate: count}\n- " + "\n  ".join(fields.values())
    wrong = re.split("[:. ]", field, maxsplit=1)[0]
    number = 3 + list(fields).index(wrong)

    message = _mistake(text)

    assert message.startswith(f"c.yaml:{number}: meters.1.{field}")
    assert problem in message
    assert remedy in message


def test_a_key_that_stands_twice() -> None:
    """YAML would keep the last of two windows in silence; here it is a mistake with a line."""
    message = _mistake("meters:\n- name: a\n  aggregate: sum\n  window: 1m\n  window: 5m")

    assert message == "c.yaml:5: window: stands twice in one mapping; remove one"


def test_every_way_to_write_a_condition() -> None:
    """A text, texts, one mapping, several mappings: all are sorted conditions, each once."""
    text = """
meters:
- name: a
  aggregate: sum
  where:
    a: x
    b: [y, x, y]
    c: {in: x, not_in: [q, p], exists: true}
    d: [{exists: false}, {in: [x]}, {in: x}]
"""

    [meter] = parse_catalogue(text).meters

    assert meter.where == (
        Condition("a", Asks.IN, ("x",)),
        Condition("b", Asks.IN, ("x", "y")),
        Condition("c", Asks.EXISTS),
        Condition("c", Asks.IN, ("x",)),
        Condition("c", Asks.NOT_IN, ("p", "q")),
        Condition("d", Asks.ABSENT),
        Condition("d", Asks.IN, ("x",)),
    )


def test_aggregates_with_their_own_fields() -> None:
    """Unique knows what it counts and what removes; samples tell which gauge it is."""
    meters = parse_catalogue(
        "meters:\n"
        "- {name: a, aggregate: unique, value: subject}\n"
        "- {name: b, aggregate: unique, value: attributes.user, operation: attributes.op}\n"
        "- {name: c, aggregate: time_weighted}\n"
        "- {name: d, aggregate: time_weighted, samples: levels}\n"
        "- {name: e, aggregate: time_weighted, samples: changes}\n"
    ).meters

    assert [(m.value, m.operation) for m in meters[:2]] == [
        ("subject", None), ("attributes.user", "op"),
    ]  # fmt: skip
    assert [m.aggregate.value for m in meters[2:]] == [
        "time_weighted", "time_weighted", "time_weighted_changes",
    ]  # fmt: skip


def test_how_long_a_session_may_last() -> None:
    """As many days as its windows allow, and no more than 400; a meter may say less or more."""
    meters = parse_catalogue(
        "meters:\n"
        "- {name: a, aggregate: session, window: 1m}\n"
        "- {name: b, aggregate: session}\n"
        "- {name: c, aggregate: session, window: 1m, longest: 400d}\n"
    ).meters

    assert [meter.longest for meter in meters] == [50_000 * MINUTE, LENGTH_MAX, LENGTH_MAX]


def test_dated_definitions() -> None:
    """Each definition applies until the next one of its name; the first may have no date."""
    catalogue = parse_catalogue(
        "meters:\n"
        "- {name: a, aggregate: sum}\n"
        "- {name: b, aggregate: sum, from: 2026-02-01T00:00:00Z}\n"
        "- {name: a, aggregate: sum, grace: 1h, from: 2026-01-01T02:00:00+01:00}\n"
        "- {name: a, aggregate: sum, grace: 2h, from: 2026-01-02T00:00:00Z}\n"
    )

    spans = [(m.grace, m.since, m.until) for m in catalogue.definitions("a")]
    assert spans == [
        (DAY, 0, SINCE + HOUR), (HOUR, SINCE + HOUR, SINCE + DAY), (2 * HOUR, SINCE + DAY, None),
    ]  # fmt: skip
    assert catalogue.meter("b").since == SINCE + 31 * DAY
    for time in (0, SINCE, SINCE + HOUR, SINCE + DAY):
        assert sum(meter.reads(time) for meter in catalogue.definitions("a")) == 1


def test_definitions_stand_in_order() -> None:
    """A date that is not after the one above is a mistake."""
    message = _mistake(
        "meters:\n"
        "- {name: a, aggregate: sum, from: 2026-01-02T00:00:00Z}\n"
        "- {name: a, aggregate: max, from: 2026-01-02T00:00:00Z}\n"
    )

    assert message.startswith("c.yaml:3: meters.1.from: is not after 2026-01-02T00:00:00+00:00")
    assert "order them" in message


def test_from_when_events_are_accepted() -> None:
    """From metering_since on, or earlier where the file says so, never later."""
    text = "metering_since: 2026-01-01T00:00:00Z\nmeters: [{name: a, aggregate: sum}]\n"

    assert parse_catalogue(text).accept_from == SINCE
    earlier = parse_catalogue(text + "accept_from: 2025-12-31T00:00:00Z\n")
    assert (earlier.accept_from, earlier.metering_since) == (SINCE - DAY, SINCE)
    message = _mistake(text + "accept_from: 2026-01-01T00:00:01Z\n")
    assert message.startswith("c.yaml:3: accept_from: is after metering_since")
    message = _mistake(text + "accept_from: 1969-01-01T00:00:01Z\n")
    assert message.startswith("c.yaml:3: accept_from: lies before 1970")


def test_all_mistakes_at_once() -> None:
    """One run tells of every field that is wrong."""
    message = _mistake("meters:\n- name: a\n  aggregate: summ\n  window: 15\n  grce: 1h")

    assert re.findall(r"c\.yaml:(\d)", message) == ["3", "4", "5"]


def test_a_date_beyond_the_first_is_found() -> None:
    """A date that is none is told with its own line."""
    message = _mistake("metering_since: 2026-01-01T00:00:00Z\nmeters:\n- name: 2026-02-30")

    assert message.startswith("c.yaml:3: a date is none")


def test_anchors_and_merges_are_yaml(tmp_path: Path) -> None:
    """What YAML offers to say less twice is understood, overriding included."""
    text = (
        "meters:\n- &base {name: a, aggregate: sum, window: 1m}\n"
        "- {<<: *base, name: b}\n- {<<: *base, name: c, window: 5m}\n"
    )

    catalogue = parse_catalogue(text)

    assert [(m.name, m.window) for m in catalogue.meters] == [
        ("a", MINUTE), ("b", MINUTE), ("c", 5 * MINUTE),
    ]  # fmt: skip


def test_a_file_is_named_in_its_mistakes(tmp_path: Path) -> None:
    """Loading names the path: absent, not text, or wrong inside."""
    path = tmp_path / "meters.yaml"
    with pytest.raises(CatalogueError, match=r"meters\.yaml: there is no such catalogue file"):
        load_catalogue(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogueError, match=r"meters\.yaml: cannot be read as UTF-8"):
        load_catalogue(path)
    with pytest.raises(CatalogueError, match="cannot be read"):
        load_catalogue(tmp_path)
    path.write_text("meters: []", "utf-8")
    with pytest.raises(CatalogueError, match=r"meters\.yaml:1: meters"):
        load_catalogue(path)
    path.write_text(WHOLE, "utf-8")
    assert load_catalogue(path) == parse_catalogue(WHOLE)


def test_a_catalogue_comes_back_from_its_text() -> None:
    """What a store keeps is the catalogue, with the same version."""
    meters = "meters: [{name: a, aggregate: sum, from: 2026-01-01T00:00:00Z}]\n"
    thresholds = "thresholds: [{name: t, meter: a, of: [x], at: [1000]}]\n"
    for catalogue in (parse_catalogue(WHOLE), parse_catalogue(meters + thresholds)):
        back = undump_catalogue(dump_catalogue(catalogue))
        assert back == catalogue
        assert back.version == catalogue.version


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"}, {"aggregate": Aggregate.MAX}, {"value": "attributes.x"},
        {"group_by": ("model",)}, {"where": ()}, {"window": MINUTE}, {"grace": 0},
        {"timeout": HOUR}, {"timeout_bills": TimeoutBills.TIMEOUT}, {"series_per_tenant": 1},
        {"longest": HOUR}, {"operation": "x"}, {"since": HOUR},
    ],
)  # fmt: skip
def test_what_decides_a_figure_is_a_new_version(change: dict[str, Any]) -> None:
    """Every field that decides a figure is part of the version; the others are not."""
    meter = parse_catalogue(WHOLE).meters[0]

    assert replace(meter, **change).version != meter.version
    assert replace(meter, unit="x", until=DAY).version == meter.version
    assert len(meter.version) == 16


def test_an_unknown_meter_is_told_the_known() -> None:
    """Asking for a meter that is not there names those that are."""
    with pytest.raises(UnknownMeter, match=r"'x'; the catalogue has: agent\.run, llm\.tokens"):
        parse_catalogue(WHOLE).meter("x")
