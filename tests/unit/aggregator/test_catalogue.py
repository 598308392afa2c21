"""The catalogue file: what it says, and a sentence with file, line, field and remedy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from meterstream_aggregator.catalogue import (
    DAY,
    HOUR,
    MINUTE,
    Aggregate,
    Meter,
    TimeoutBills,
    dump_catalogue,
    undump_catalogue,
)
from meterstream_aggregator.catalogue_file import load_catalogue, parse_catalogue
from meterstream_aggregator.errors import CatalogueError, UnknownMeter
from tests.unit.aggregator.making import CATALOGUE, SINCE

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """
metering_since: 2026-01-01T00:00:00Z
meters:
  - name: llm.tokens
    type: llm.completion
    aggregate: sum
    value: attributes.tokens
    unit: token
    group_by: [model, region]
    where: {env: [prod, canary, prod], zone: eu}
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
    ("name: a", "name: ", "two meters are called 'a'", "rename one"),
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
    ("where: {status: []}", "where: ", "'status' allows no value", "name one"),
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
        where=(("env", ("canary", "prod")), ("zone", ("eu",))),
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
    given = line.strip("{}").split(", ") if line.startswith("{") else [line]
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
    for catalogue in (CATALOGUE, parse_catalogue(WHOLE)):
        back = undump_catalogue(dump_catalogue(catalogue))
        assert back == catalogue
        assert back.version == catalogue.version


@pytest.mark.parametrize(
    "change",
    [
        {"type": "x"}, {"aggregate": Aggregate.MAX}, {"value": "attributes.x"},
        {"group_by": ("model",)}, {"where": ()}, {"window": MINUTE}, {"grace": 0},
        {"timeout": HOUR}, {"timeout_bills": TimeoutBills.TIMEOUT},
    ],
)  # fmt: skip
def test_what_decides_a_figure_is_a_new_version(change: dict[str, Any]) -> None:
    """Every field that decides a figure is part of the version; the others are not."""
    meter = parse_catalogue(WHOLE).meters[0]

    assert replace(meter, **change).version != meter.version
    assert replace(meter, unit="x", series_per_tenant=1).version == meter.version
    assert len(meter.version) == 16


def test_an_unknown_meter_is_told_the_known() -> None:
    """Asking for a meter that is not there names those that are."""
    with pytest.raises(UnknownMeter, match=r"'x'; the catalogue has: agent\.run, llm\.tokens"):
        parse_catalogue(WHOLE).meter("x")
